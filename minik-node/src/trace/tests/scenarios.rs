//! Scenario files, `tests/scenarios/*.yaml`: manifests and questions above the line, and below it all that
//! node `n1` makes of them: service table, rules, and the answers. `UPDATE_EXPECT=1` rewrites what is below.
//!
//! Questions are comments among the manifests. `# packet tcp veth-a 10.244.1.2 10.96.0.10:80` asks what becomes
//! of a packet that comes in by a link (or is sent by a process `here`), `# name web.d.svc.cluster.local. A`
//! what the cluster's name server answers.

use std::fmt::Write as _;
use std::net::SocketAddrV4;
use std::path::{Path, PathBuf};
use std::time::Duration;

use expect_test::expect_file;
use hickory_proto::rr::Name;

use super::super::iptables::Rules;
use super::super::{Origin, Packet, Protocol, State, group};
use super::paper::Paper;
use super::{facts, host};
use crate::plan::dns_zone::{Zone, lookup, origin};
use crate::plan::service_table::{Pool, ServiceTable};
use crate::proxy::iptables::compile::Compiler;
use crate::proxy::iptables::plan::Plan;
use crate::proxy::iptables::ruleset::Ruleset;
use crate::view::testing;

const LINE: &str = "# ------------------------------------------------------------ what node n1 makes of it\n";

/// Chains that are the same in every cluster, and said elsewhere.
const FIXED: [&str; 4] = [
    "KUBE-FIREWALL ",
    "KUBE-FORWARD ",
    "KUBE-MARK-MASQ ",
    "KUBE-POSTROUTING ",
];

#[test]
fn scenarios_come_out_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scenarios");
    let entries = std::fs::read_dir(&folder).expect("the folder of scenarios");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    assert!(files.len() >= 12, "scenarios are missing");
    for file in files {
        let text = std::fs::read_to_string(&file).expect("a scenario");
        let input = text.split(LINE).next().expect("something").trim_end();
        expect_file![&file].assert_eq(&format!("{input}\n{LINE}{}", outcome(input)));
    }
}

fn outcome(input: &str) -> String {
    let view = testing::view(Some("n1"), input);
    let table = ServiceTable::full(&view, facts());
    let desired = Compiler::default().compile(&table);
    let mut paper = Paper::new();
    paper.restore(&Plan::new(&Ruleset::default(), &desired).to_string());
    let mut text = "\n== services\n".to_owned();
    services(&mut text, &table);
    text.push_str("\n== rules\n");
    rules(&mut text, &desired);
    let rules = Rules::parse(&paper.save()).expect("rules");
    let zone = Zone::full(
        &testing::view(None, input),
        origin("cluster.local").expect("a domain"),
        1,
    );
    text.push_str("\n== answers\n");
    for question in input.lines().filter_map(|line| line.strip_prefix("# ")) {
        match question.split(' ').collect::<Vec<_>>().as_slice() {
            ["packet", protocol, by, from, to] => packet(&mut text, &rules, [protocol, by, from, to]),
            ["name", name, kind] => names(&mut text, &zone, name, kind),
            _ => {}
        }
    }
    text
}

fn services(text: &mut String, table: &ServiceTable) {
    for port in table.ports() {
        write!(text, "{} {}/{}", port.name, port.port, port.name.protocol).expect("text grows");
        if let Some(seconds) = port.affinity_seconds {
            write!(text, " affinity {seconds} s").expect("text grows");
        }
        writeln!(text).expect("text grows");
        for (name, pool) in [("cluster", &port.pools.cluster), ("local", &port.pools.local)] {
            writeln!(text, "  {name}: {}", endpoints(pool)).expect("text grows");
        }
        for way_in in &port.ways_in {
            writeln!(text, "  {:?}: {:?}", way_in.way, way_in.treatment).expect("text grows");
        }
    }
}

fn endpoints(pool: &Pool) -> String {
    let targets = pool.backends.iter().map(|backend| {
        let local = if backend.local { " (here)" } else { "" };
        format!(" {}{local}", backend.target)
    });
    format!("{:?}{}", pool.reason, targets.collect::<String>())
}

fn rules(text: &mut String, ruleset: &Ruleset) {
    for line in ruleset.to_string().lines() {
        let rule = line.strip_prefix("-A ").filter(|rule| rule.starts_with("KUBE-"));
        let fixed = |rule: &&str| FIXED.iter().any(|chain| rule.starts_with(chain));
        if line.starts_with('*') || rule.is_some_and(|rule| !fixed(&rule)) {
            writeln!(text, "{line}").expect("text grows");
        }
    }
}

fn packet(text: &mut String, rules: &Rules, [protocol, by, from, to]: [&str; 4]) {
    let protocol = match protocol {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        other => panic!("{other} is no protocol"),
    };
    let origin = if by == "here" {
        Origin::Local
    } else {
        Origin::Link(by.to_owned())
    };
    let to: SocketAddrV4 = to.parse().expect("ADDRESS:PORT");
    let from = (from.parse().expect("an address"), 40_000);
    let packet = Packet::new(protocol, from, (*to.ip(), to.port()));
    writeln!(text, "{packet} by {by}").expect("text grows");
    let ask = |state: &State| {
        let now = Duration::from_secs(1);
        rules
            .trace(&host(), state, now, &origin, packet.clone())
            .expect("every rule is known")
    };
    let outcomes = ask(&State::default());
    for (fate, share) in group(&outcomes, |outcome| format!("{}: {}", outcome.verdict, outcome.packet)) {
        writeln!(text, "  {share} {fate}").expect("text grows");
    }
    let first = outcomes.first().expect("some outcome");
    if first.state != State::default() {
        for (fate, share) in group(&ask(&first.state), |outcome| outcome.packet.to_string()) {
            writeln!(text, "  once more, after {}: {share} {fate}", first.packet).expect("text grows");
        }
    }
}

fn names(text: &mut String, zone: &Zone, name: &str, kind: &str) {
    let question = Name::from_ascii(name).expect("a name");
    let answer = lookup(zone, &question, kind.parse().expect("a type")).expect("names of a length");
    writeln!(text, "{name} {kind}").expect("text grows");
    let Some(answer) = answer else {
        return writeln!(text, "  not a name of the cluster").expect("text grows");
    };
    writeln!(text, "  {:?}", answer.code).expect("text grows");
    for record in answer.answers.iter().chain(&answer.additional) {
        writeln!(text, "  {record}").expect("text grows");
    }
}
