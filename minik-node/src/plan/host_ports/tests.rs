//! The plugin's rules for the same ports, and laws of the difference.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

fn spec(ports: &Value) -> PodSpec {
    serde_json::from_value(json!({"containers": [{"name": "c", "ports": ports}]})).unwrap()
}

fn pods(all: &[(&str, [u8; 4], Value)]) -> HostPorts {
    all.iter()
        .map(|(uid, address, ports)| {
            let ports = PodPorts {
                address: (*address).into(),
                ports: of(&spec(ports)),
            };
            ((*uid).to_owned(), ports)
        })
        .collect()
}

/// What `iptables-save` prints on a node whose `portmap` has mapped these ports for a network `minik`; the hash is
/// the beginning of `printf minikUID | sha512sum`.
const SAVED: &str = r#"*nat
:PREROUTING ACCEPT [0:0]
:INPUT ACCEPT [0:0]
:OUTPUT ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
:CNI-DN-455d93b67e81f80c9c2fc - [0:0]
:CNI-HOSTPORT-DNAT - [0:0]
:CNI-HOSTPORT-MASQ - [0:0]
:CNI-HOSTPORT-SETMARK - [0:0]
:KUBE-SERVICES - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT
-A POSTROUTING -m comment --comment "CNI portfwd requiring masquerade" -j CNI-HOSTPORT-MASQ
-A CNI-DN-455d93b67e81f80c9c2fc -s 10.244.1.2/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-455d93b67e81f80c9c2fc -s 127.0.0.1/32 -p tcp -m tcp --dport 8080 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-455d93b67e81f80c9c2fc -p tcp -m tcp --dport 8080 -j DNAT --to-destination 10.244.1.2:80
-A CNI-DN-455d93b67e81f80c9c2fc -s 10.244.1.2/32 -d 172.30.0.11/32 -p udp -m udp --dport 5353 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-455d93b67e81f80c9c2fc -s 127.0.0.1/32 -d 172.30.0.11/32 -p udp -m udp --dport 5353 -j CNI-HOSTPORT-SETMARK
-A CNI-DN-455d93b67e81f80c9c2fc -d 172.30.0.11/32 -p udp -m udp --dport 5353 -j DNAT --to-destination 10.244.1.2:53
-A CNI-HOSTPORT-DNAT -p tcp -m comment --comment "dnat name: \"minik\" id: \"UID\"" -m multiport --dports 8080 -j CNI-DN-455d93b67e81f80c9c2fc
-A CNI-HOSTPORT-DNAT -p udp -m comment --comment "dnat name: \"minik\" id: \"UID\"" -m multiport --dports 5353 -j CNI-DN-455d93b67e81f80c9c2fc
-A CNI-HOSTPORT-MASQ -m mark --mark 0x2000/0x2000 -j MASQUERADE
-A CNI-HOSTPORT-SETMARK -m comment --comment "CNI portfwd masquerade mark" -j MARK --set-xmark 0x2000/0x2000
COMMIT
"#;

fn web() -> HostPorts {
    let ports = json!([
        {"containerPort": 80, "hostPort": 8080},
        {"containerPort": 53, "hostPort": 5353, "hostIP": "172.30.0.11", "protocol": "UDP"},
        {"containerPort": 90},
    ]);
    pods(&[("UID", [10, 244, 1, 2], ports)])
}

#[test]
fn the_rules_are_the_plugins() {
    assert_eq!(Rules::new(&web()), Rules::parse(SAVED));
}

#[test]
fn only_ports_of_the_node_count() {
    for (ports, expected) in [
        (json!([{"containerPort": 80}]), 0),
        (json!([{"containerPort": 80, "hostPort": 0}]), 0),
        (json!([{"containerPort": 80, "hostPort": 80, "hostIP": "fd00::1"}]), 0),
        (json!([{"containerPort": 80, "hostPort": 80, "hostIP": "0.0.0.0"}]), 1),
        (json!([{"containerPort": 80, "hostPort": 80, "protocol": "SCTP"}]), 1),
    ] {
        assert_eq!(of(&spec(&ports)).len(), expected, "{ports}");
    }
    let mut own = spec(&json!([{"containerPort": 80, "hostPort": 80}]));
    own.host_network = Some(true);
    assert_eq!(of(&own), [], "it listens there itself");
}

#[test]
fn fifteen_ports_fit_into_one_jump() {
    let ports: Vec<Value> = (1..=16)
        .map(|port| json!({"containerPort": port, "hostPort": port}))
        .collect();
    let rules = Rules::new(&pods(&[("u", [10, 0, 0, 2], json!(ports))]));
    let jumps: Vec<&str> = rules.chains[DNAT].iter().map(String::as_str).collect();
    assert_eq!(jumps.len(), 2);
    assert!(
        jumps[0].contains("--dports 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15 -j") && jumps[1].contains("--dports 16 -j")
    );
}

#[test]
fn flows_without_a_connection_go_when_their_port_leads_elsewhere() {
    let after = web();
    let ports = changed(&HostPorts::new(), &after);
    assert_eq!(ports, [(Protocol::Tcp, 8080), (Protocol::Udp, 5353)].into());
    let local = [Ipv4Addr::new(172, 30, 0, 11)].into();
    let flow = |to: &str, from: &str| Flow {
        protocol: Protocol::Udp,
        source: "192.0.2.1:999".parse().unwrap(),
        destination: to.parse().unwrap(),
        answers_from: from.parse().unwrap(),
        id: 1,
    };
    for (to, from, stale) in [
        ("172.30.0.11:5353", "172.30.0.11:5353", true),
        ("172.30.0.11:5353", "10.244.1.9:53", true),
        ("172.30.0.11:5353", "10.244.1.2:53", false),
        ("127.0.0.1:5353", "127.0.0.1:5353", true),
        ("10.244.1.7:5353", "10.244.1.7:5353", false),
        ("172.30.0.11:5354", "172.30.0.11:5354", false),
    ] {
        assert_eq!(is_stale(&flow(to, from), &ports, &after, &local), stale, "{to} {from}");
    }
    assert_eq!(changed(&after, &after), BTreeSet::new());
}

/// As `iptables-restore --noflush` would leave the kernel.
fn apply(rules: &Rules, plan: &Plan) -> Rules {
    let mut after = rules.clone();
    for line in plan.to_string().lines() {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let (chain, rule) = rest.split_once(' ').unwrap_or((rest, ""));
        match word {
            "-A" if ours(chain) => after
                .chains
                .get_mut(chain)
                .expect("declared before")
                .push(rule.to_owned()),
            "-A" => after.hooks.entry(chain.to_owned()).or_default().push(rule.to_owned()),
            "-D" => {
                let hooks = after.hooks.get_mut(chain).expect("a rule to delete is there");
                let at = hooks
                    .iter()
                    .position(|other| other == rule)
                    .expect("a rule to delete is there");
                hooks.remove(at);
            }
            "-X" => {
                let jumps = |rules: &Vec<String>| rules.iter().any(|rule| rule.ends_with(&format!("-j {rest}")));
                assert!(
                    !after.chains.values().any(jumps) && !after.hooks.values().any(jumps),
                    "{rest} is in use"
                );
                after.chains.remove(rest);
            }
            declared if declared.starts_with(':') => drop(after.chains.insert(declared[1..].to_owned(), Vec::new())),
            _ => {}
        }
    }
    after.hooks.retain(|_, rules| !rules.is_empty());
    after
}

fn any_pods() -> impl Strategy<Value = HostPorts> {
    let port = (0_usize..3, 1_u16..4, 1_u16..4).prop_map(|(protocol, host_port, container_port)| HostPort {
        protocol: [Protocol::Tcp, Protocol::Udp, Protocol::Sctp][protocol],
        host_ip: (container_port == 1).then(|| [172, 30, 0, 11].into()),
        host_port,
        container_port,
    });
    let pod = (2_u8..9, prop::collection::vec(port, 1..4)).prop_map(|(last, ports)| PodPorts {
        address: [10, 244, 1, last].into(),
        ports,
    });
    prop::collection::btree_map("[a-c]", pod, 0..3)
}

proptest! {
    #[test]
    fn a_plan_makes_what_is_desired_and_then_nothing(before in any_pods(), after in any_pods()) {
        let (observed, desired) = (Rules::new(&before), Rules::new(&after));
        let made = Plan::new(&observed, &desired).map_or(observed.clone(), |plan| apply(&observed, &plan));
        prop_assert_eq!(&made, &desired);
        prop_assert_eq!(Plan::new(&desired, &desired), None);
    }
}
