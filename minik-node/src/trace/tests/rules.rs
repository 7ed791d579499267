//! The tracer by hand: every match and target, each hook, and what is refused by name.

use std::net::Ipv4Addr;
use std::time::Duration;

use super::super::iptables::{Rules, TraceError};
use super::super::{Actual, Origin, Outcome, Packet, Probability, Protocol, State, Tracking, Verdict, group};
use super::{GATEWAY, NODE, host};

const POD: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 2);
const OTHER: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 3);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 7);

/// A ruleset whose filter table is this, and whose chains are all there.
fn filter(rules: &str) -> Rules {
    parse(&format!(
        "*filter\n:INPUT ACCEPT [0:0]\n:FORWARD ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:A - [0:0]\n:B - [0:0]\n{rules}\nCOMMIT\n"
    ))
}

fn nat(rules: &str) -> Rules {
    parse(&format!(
        "*nat\n:PREROUTING ACCEPT [0:0]\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n:POSTROUTING ACCEPT [0:0]\n{rules}\nCOMMIT\n"
    ))
}

fn parse(text: &str) -> Rules {
    Rules::parse(text).expect("rules")
}

fn tcp(from: Ipv4Addr, to: Ipv4Addr, port: u16) -> Packet {
    Packet::new(Protocol::Tcp, (from, 40_000), (to, port))
}

fn by(link: &str) -> Origin {
    Origin::Link(link.to_owned())
}

fn trace(rules: &Rules, origin: &Origin, packet: Packet) -> Vec<Outcome> {
    rules
        .trace(&host(), &State::default(), Duration::ZERO, origin, packet)
        .expect("every rule is known")
}

/// From Pod to Pod through the node.
fn forwarded(rules: &Rules, packet: Packet) -> Vec<Outcome> {
    trace(rules, &by("veth-a"), packet)
}

fn only(outcomes: Vec<Outcome>) -> Outcome {
    let [outcome] = <[Outcome; 1]>::try_from(outcomes).expect("one outcome");
    outcome
}

/// Whether a rule with this condition matches a TCP packet from Pod to Pod, port 80.
fn matches(condition: &str) -> bool {
    let rules = filter(&format!("-A FORWARD {condition} -j DROP"));
    let packet = Packet {
        mark: 0x4001,
        ..tcp(POD, OTHER, 80)
    };
    only(forwarded(&rules, packet)).verdict == Verdict::Dropped
}

#[test]
fn conditions_hold_or_not() {
    for (condition, holds) in [
        ("-s 10.244.1.2/32", true),
        ("! -s 10.244.1.2/32", false),
        ("-s 10.0.0.0/8 -d 10.244.1.3/32", true),
        ("-s 10.0.1.2/255.0.255.255", true),
        ("-d 10.244.1.0/24 -p tcp -m tcp --dport 80", true),
        ("-p udp -m udp --dport 80", false),
        ("! -p udp", true),
        ("-p tcp -m tcp --dport 81:90", false),
        ("-p tcp -m tcp ! --dport 81:90", true),
        ("-p tcp -m tcp --sport 1024:65535 --dport :80", true),
        ("-p tcp -m tcp --tcp-flags FIN,SYN,RST,ACK SYN", true),
        ("-p tcp -m tcp ! --tcp-flags FIN,SYN,RST,ACK SYN", false),
        ("-p tcp -m multiport --dports 22,79:81", true),
        ("-p tcp -m multiport ! --dports 22,80", false),
        ("-p tcp -m multiport --sports 22,80", false),
        ("-p tcp -m multiport --ports 22,40000", true),
        ("-i veth-a -o veth-b", true),
        ("-i veth+ ! -o eth0", true),
        ("-i eth+", false),
        ("-m conntrack --ctstate NEW", true),
        ("-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT", true),
        ("-m state --state ESTABLISHED", false),
        (
            "-m conntrack --ctorigdst 10.244.1.3/32 --ctorigdstport 80 --ctproto 6 --ctdir ORIGINAL",
            true,
        ),
        ("-m conntrack --ctorigsrc 10.244.1.3/32", false),
        ("-m conntrack --ctreplsrc 10.244.1.3/32", true),
        ("-m mark --mark 0x4000/0x4000", true),
        ("-m mark --mark 0x4000", false),
        ("-m mark ! --mark 0x1/0x1", false),
        ("-m addrtype --src-type UNICAST --dst-type UNICAST", true),
        ("-m addrtype --dst-type LOCAL", false),
        ("-m comment --comment \"-j \\\"odd\\\"\"", true),
        ("-m nfacct --nfacct-name  ct_state_invalid_dropped_pkts", true),
        ("-m statistic --mode random --probability 1.00000000000", true),
        ("-m statistic --mode random --probability 0.00000000000", false),
        ("-m statistic --mode nth --every 3 --packet 0", true),
        ("-m statistic --mode nth --every 3 --packet 1", false),
    ] {
        assert_eq!(matches(condition), holds, "{condition}");
    }
}

#[test]
fn a_miss_names_the_first_condition_that_failed() {
    let rules = filter(r#"-A FORWARD -s 10.244.1.2/32 ! -d 10.244.1.3/32 -p tcp -m tcp --dport 81 -j DROP"#);
    let outcome = only(forwarded(&rules, tcp(POD, OTHER, 80)));
    let steps = outcome.path.steps();
    let miss = steps[0].miss.as_ref().expect("no match");
    assert_eq!(
        (&*miss.expected, &miss.actual),
        ("! -d 10.244.1.3/32", &Actual::Address(OTHER))
    );
    let outcome = only(forwarded(&rules, tcp(POD, OUTSIDE, 80)));
    let miss = outcome.path.steps()[0].miss.clone().expect("no match");
    assert_eq!(
        (&*miss.expected, miss.actual.to_string().as_str()),
        ("--dport 81", "80")
    );
}

#[test]
fn chains_return_jump_and_go() {
    let verdict = |rules: &str| only(forwarded(&filter(rules), tcp(POD, OTHER, 80))).verdict;
    assert_eq!(
        verdict("-A FORWARD -j A\n-A FORWARD -j DROP\n-A A -j RETURN\n-A A -j ACCEPT"),
        Verdict::Dropped
    );
    assert_ne!(
        verdict("-A FORWARD -j A\n-A FORWARD -j DROP\n-A A -j B\n-A B -j ACCEPT"),
        Verdict::Dropped
    );
    // Behind a goto lies what comes after the jump before it.
    assert_eq!(
        verdict("-A FORWARD -j A\n-A FORWARD -j DROP\n-A A -g B\n-A A -j ACCEPT\n-A B -j RETURN"),
        Verdict::Dropped
    );
    assert_ne!(
        verdict("-A FORWARD -g A\n-A FORWARD -j DROP\n-A A -j LOG --log-prefix \"-x \""),
        Verdict::Dropped
    );
    let reject = verdict("-A FORWARD -p tcp -j REJECT --reject-with tcp-reset");
    assert_eq!(
        reject,
        Verdict::Rejected {
            with: "tcp-reset".to_owned()
        }
    );
    let policy = parse("*filter\n:FORWARD DROP [7:420]\n[3:180] -A FORWARD -p udp -j ACCEPT\nCOMMIT\n");
    let outcome = only(forwarded(&policy, tcp(POD, OTHER, 80)));
    assert_eq!(&*outcome.path.steps().last().expect("the policy").rule, "policy DROP");
}

#[test]
fn marks_are_set_in_every_form() {
    for (form, mark) in [
        ("--set-xmark 0x4000/0x4000", 0x4003),
        ("--set-xmark 0x4000/0x0", 0x4003),
        ("--set-xmark 0x5/0xffffffff", 0x5),
        ("--set-mark 0x8/0xf", 0x8),
        ("--or-mark 0x8", 0xb),
        ("--and-mark 0x2", 0x2),
        ("--xor-mark 0x1", 0x2),
    ] {
        let rules = filter(&format!("-A FORWARD -j MARK {form}"));
        let packet = Packet {
            mark: 3,
            ..tcp(POD, OTHER, 80)
        };
        assert_eq!(only(forwarded(&rules, packet)).packet.mark, mark, "{form}");
    }
}

#[test]
fn translation_turns_the_first_packet_on_its_way() {
    let rules = nat(
        "-A PREROUTING -d 10.96.0.1/32 -p tcp -j DNAT --to-destination 10.244.1.3:8080\n\
         -A OUTPUT -d 10.96.0.1/32 -p tcp -j DNAT --to-destination 10.244.1.3:8080\n\
         -A POSTROUTING -o veth-b -j MASQUERADE --random-fully\n\
         -A POSTROUTING -o eth0 -j SNAT --to-source 172.30.0.99",
    );
    let vip = Ipv4Addr::new(10, 96, 0, 1);
    let outcome = only(forwarded(&rules, tcp(POD, vip, 80)));
    assert_eq!(outcome.verdict.to_string(), "forwarded by veth-b");
    assert_eq!(outcome.packet.to_string(), "tcp 10.244.1.1:* -> 10.244.1.3:8080");
    let local = only(trace(&rules, &Origin::Local, tcp(Ipv4Addr::UNSPECIFIED, vip, 80)));
    assert_eq!(local.packet.to_string(), "tcp 10.244.1.1:* -> 10.244.1.3:8080");
    let later = Packet {
        tracking: Tracking::Established,
        ..tcp(POD, vip, 80)
    };
    assert_eq!(
        only(forwarded(&rules, later)).packet.destination,
        vip,
        "only the first packet is turned"
    );
    let out = only(forwarded(&rules, tcp(POD, Ipv4Addr::new(10, 244, 2, 9), 80)));
    assert_eq!(out.verdict.to_string(), "forwarded by eth0 via 172.30.0.12");
    assert_eq!(out.packet.source, Ipv4Addr::new(172, 30, 0, 99));
    let here = nat("-A PREROUTING -p tcp -m tcp --dport 80 -j REDIRECT --to-ports 8080");
    let outcome = only(forwarded(&here, tcp(POD, OUTSIDE, 80)));
    assert_eq!(
        (outcome.verdict, outcome.packet.destination),
        (Verdict::Delivered, GATEWAY)
    );
}

#[test]
fn the_node_reaches_itself_by_loopback() {
    let rules = parse(
        "*filter\n:INPUT ACCEPT [0:0]\n:OUTPUT ACCEPT [0:0]\n-A INPUT -i lo -m conntrack --ctstate NEW -j DROP\nCOMMIT\n\
         *nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -j DNAT --to-destination 10.244.1.3:1\nCOMMIT\n",
    );
    let outcome = only(trace(&rules, &Origin::Local, tcp(Ipv4Addr::UNSPECIFIED, NODE, 80)));
    assert_eq!(outcome.verdict, Verdict::Dropped);
    assert_eq!(outcome.packet.to_string(), format!("tcp {NODE}:40000 -> {NODE}:80"));
    let hooks: Vec<&str> = outcome.path.steps().iter().map(|step| step.place.hook).collect();
    assert_eq!(hooks, ["INPUT"], "the nat table saw the packet in OUTPUT already");
}

#[test]
fn chance_is_enumerated_exactly() {
    let rules = filter(
        "-A FORWARD -m statistic --mode random --probability 0.33333333349 -j A\n\
         -A FORWARD -m statistic --mode random --probability 0.50000000000 -j DROP\n-A A -j REJECT",
    );
    let outcomes = forwarded(&rules, tcp(POD, OTHER, 80));
    let shares = group(&outcomes, |outcome| outcome.verdict.to_string());
    let third = Probability::new(715_827_883, 1 << 31);
    assert_eq!(shares["rejected with icmp-port-unreachable"], third);
    assert_eq!(shares["dropped"], third.not().and(&Probability::new(1, 2)));
    assert_eq!(shares["forwarded by veth-b"], shares["dropped"]);
}

#[test]
fn lists_remember_for_a_while() {
    let rules = filter(
        "-A FORWARD -m recent --rcheck --seconds 60 --reap --name L --mask 255.255.255.255 --rsource -j DROP\n\
         -A FORWARD -m recent --set --name L --mask 255.255.255.255 --rsource -j ACCEPT",
    );
    let at = |state: &State, seconds| {
        let now = Duration::from_secs(seconds);
        let outcomes = rules.trace(&host(), state, now, &by("veth-a"), tcp(POD, OTHER, 80));
        only(outcomes.expect("every rule is known"))
    };
    let first = at(&State::default(), 100);
    assert_ne!(first.verdict, Verdict::Dropped);
    let second = at(&first.state, 160);
    assert_eq!(second.verdict, Verdict::Dropped, "60 s are not over");
    assert_ne!(
        at(&second.state, 161).verdict,
        Verdict::Dropped,
        "--rcheck does not prolong"
    );
    let update = filter(
        "-A FORWARD -m recent --update --hitcount 2 --name L --rsource -j DROP\n-A FORWARD -m recent --set --name L --rsource",
    );
    let mut state = State::default();
    let verdicts = [0, 1, 2].map(|seconds| {
        let outcomes = update.trace(
            &host(),
            &state,
            Duration::from_secs(seconds),
            &by("veth-a"),
            tcp(POD, OTHER, 80),
        );
        let outcome = only(outcomes.expect("every rule is known"));
        state = outcome.state;
        outcome.verdict == Verdict::Dropped
    });
    assert_eq!(verdicts, [false, false, true]);
}

#[test]
fn every_nth_is_counted() {
    let rules = filter("-A FORWARD -m statistic --mode nth --every 3 --packet 1 -j DROP");
    let mut state = State::default();
    let dropped: Vec<bool> = (0..7)
        .map(|_| {
            let outcomes = rules.trace(&host(), &state, Duration::ZERO, &by("veth-a"), tcp(POD, OTHER, 80));
            let outcome = only(outcomes.expect("every rule is known"));
            state = outcome.state;
            outcome.verdict == Verdict::Dropped
        })
        .collect();
    assert_eq!(dropped, [false, true, false, false, true, false, false]);
}

#[test]
fn what_is_not_known_is_refused_by_name_when_it_decides() {
    let error = |rules: &str| {
        let outcomes = filter(rules).trace(
            &host(),
            &State::default(),
            Duration::ZERO,
            &by("veth-a"),
            tcp(POD, OTHER, 80),
        );
        outcomes.expect_err("not known").to_string()
    };
    assert_eq!(
        error("-A FORWARD -p tcp -m set --match-set blocked src -j DROP"),
        "table filter, chain FORWARD, rule 1: this match (-m set --match-set blocked src) is not supported: \
         -p tcp -m set --match-set blocked src -j DROP"
    );
    assert!(error("-A FORWARD -j TPROXY --on-port 80").contains("target TPROXY is not supported"));
    assert!(error("-A FORWARD -m conntrack --ctstatus ASSURED -j DROP").contains("--ctstatus ASSURED"));
    assert!(error("-A FORWARD -j A\n-A A -j B\n-A B -j A").contains("leads back to itself"));
    // A packet that a known condition keeps out needs no judgement on the unknown one.
    let rules = filter("-A FORWARD -p udp -m set --match-set blocked src -j DROP");
    assert_eq!(forwarded(&rules, tcp(POD, OTHER, 80)).len(), 1);
}

#[test]
fn text_that_no_kernel_prints_is_an_error() {
    for (text, reason) in [
        ("-A INPUT -j DROP", "outside a table"),
        ("*filter\n-A INPUT -j DROP", "no such chain"),
        ("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT DROP", "stands alone"),
        (
            "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m comment --comment \"open -j DROP",
            "a quote does not end",
        ),
        ("*filter\n:INPUT MAYBE [0:0]", "no policy"),
        (
            "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -s 10.0.0.0/33 -j DROP",
            "no such mask",
        ),
    ] {
        let error = Rules::parse(text).expect_err(text).to_string();
        assert!(error.contains(reason), "{error}");
    }
}

/// kube-proxy 1.36.2's own rules, captured: a cluster IP, a node port with policy Local, nothing behind it.
#[test]
fn captured_rules_of_kube_proxy_are_followed() {
    let rules = parse(include_str!("../../../testdata/kube-proxy/policies.rules"));
    let vip = Ipv4Addr::new(10, 96, 10, 1);
    let outcomes = trace(&rules, &by("eth0"), tcp(OUTSIDE, vip, 80));
    let shares = group(&outcomes, |outcome| outcome.packet.destination.to_string());
    let half = Probability::new(1, 2);
    assert_eq!(shares.values().collect::<Vec<_>>(), [&half, &half]);
    assert!(shares.keys().eq(["10.128.1.2", "10.128.1.3"]));
    assert!(
        outcomes.iter().all(|outcome| outcome.packet.source == NODE),
        "from off the cluster"
    );
    let refused = only(trace(
        &rules,
        &by("eth0"),
        tcp(OUTSIDE, Ipv4Addr::new(10, 96, 10, 7), 80),
    ));
    assert_eq!(refused.verdict.to_string(), "rejected with icmp-port-unreachable");
    let dropped = only(trace(&rules, &by("eth0"), tcp(OUTSIDE, NODE, 30_086)));
    assert_eq!(dropped.verdict, Verdict::Dropped);
    let local = only(trace(&rules, &by("eth0"), tcp(OUTSIDE, NODE, 30_082)));
    assert_eq!((local.packet.source, local.packet.destination_port), (OUTSIDE, 8080));
}

#[test]
fn errors_have_no_source_to_repeat() {
    let error = TraceError::TooManyOutcomes;
    assert!(std::error::Error::source(&error).is_none());
}
