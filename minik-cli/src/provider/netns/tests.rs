//! Clusters' networks on the real kernel, each test on a machine of its own.

#[path = "../../../../minik-node/tests/lab/mod.rs"]
mod lab;
mod lifecycle;

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use lab::{on_a_machine, pings, run, source_seen, try_run};
use minik_node::kernel::pod_network::PodNetworks;
use minik_node::model::Node;
use minik_node::plan::fabric::routes;
use minik_node::plan::pod_network::PodNetwork;
use minik_node::reconcile::fabric::Fabric as FabricReconciler;
use minik_node::reconcile::{Outcome, Pass, Reconciler};

use super::*;
use crate::cluster::ProxyMode;

const OUTSIDE: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 1);
const VIP: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

fn spec(name: &str, nodes: u8, isolated: bool) -> ClusterSpec {
    let node = |index: u8| NodeSpec {
        name: if index == 0 {
            "control-plane".to_owned()
        } else {
            format!("worker{index}")
        },
        index,
        ip: Ipv4Addr::new(172, 30, 0, 10 + index),
        pod_cidr: format!("10.244.{index}.0/24").parse().unwrap(),
    };
    ClusterSpec {
        name: name.to_owned(),
        nodes: (0..nodes).map(node).collect(),
        node_network_cidr: "172.30.0.0/24".parse().unwrap(),
        pod_network_cidr: "10.244.0.0/16".parse().unwrap(),
        service_cidr: "10.96.0.0/12".parse().unwrap(),
        cluster_domain: "cluster.local".to_owned(),
        isolated,
        egress: false,
        proxy_mode: ProxyMode::Iptables,
        state_dir: "/var/lib/minik/lab".into(),
        api_port: None,
    }
}

fn known(node: &NodeSpec) -> Node {
    Node {
        name: node.name.clone(),
        internal_ip: Some(node.ip),
        pod_cidr: Some(node.pod_cidr),
        zone: None,
        eligible: true,
    }
}

async fn up(spec: &ClusterSpec) {
    provision(spec, &|_| {}).await.expect("provision");
}

/// What the agents do once they know each other.
async fn join_pods(spec: &ClusterSpec) {
    let nodes: Vec<Node> = spec.nodes.iter().map(known).collect();
    for node in &spec.nodes {
        let mut fabric = FabricReconciler::open_in(&node_netns(spec, &node.name).unwrap()).expect("socket");
        let desired = Arc::new(routes(&nodes, &node.name));
        assert_eq!(fabric.reconcile(desired, Pass::Full).await, Outcome::Synced);
    }
}

/// Starts a Pod's network; its address is the node's range with `last` at the end.
async fn pod(spec: &ClusterSpec, node: usize, last: u8) -> (NetNs, Ipv4Addr) {
    let node = &spec.nodes[node];
    let at = |last: u8| Ipv4Addr::from(u32::from(node.pod_cidr.network()) + u32::from(last));
    let network = PodNetwork::new(&spec.name, &format!("{}-{last}", node.name), at(last), at(1));
    let networks = PodNetworks::open_in(&node_netns(spec, &node.name).unwrap()).expect("socket");
    networks.attach(&network).await.expect("attach");
    (NetNs::open(&network.netns).unwrap(), at(last))
}

#[test]
fn packets_reach_whom_they_should_from_the_addresses_of_the_recipe() {
    on_a_machine(|| async {
        let spec = spec("lab", 3, false);
        up(&spec).await;
        join_pods(&spec).await;
        let outside = outside_netns(&spec).unwrap();
        let [_, one, two] = [0, 1, 2].map(|n: usize| node_netns(&spec, &spec.nodes[n].name).unwrap());
        let (a, a_ip) = pod(&spec, 1, 2).await;
        let (b, b_ip) = pod(&spec, 1, 3).await;
        let (c, c_ip) = pod(&spec, 2, 2).await;
        let gateway = Ipv4Addr::new(10, 244, 1, 1);
        let [node_one, node_two] = [spec.nodes[1].ip, spec.nodes[2].ip];

        for (from, to) in [
            (&a, b_ip),
            (&a, c_ip),
            (&c, a_ip),
            (&a, OUTSIDE),
            (&outside, c_ip),
            (&one, node_two),
        ] {
            assert!(pings(from, to), "{to}");
        }
        assert_eq!(source_seen(&a, &b, b_ip), a_ip, "Pod to Pod of the node");
        assert_eq!(source_seen(&a, &c, c_ip), a_ip, "Pod to Pod of another node");
        assert_eq!(source_seen(&a, &two, node_two), a_ip, "Pod to another node");
        assert_eq!(source_seen(&a, &outside, OUTSIDE), a_ip, "Pod to the outside world");
        assert_eq!(source_seen(&outside, &c, c_ip), OUTSIDE, "outside world to Pod");
        assert_eq!(source_seen(&one, &a, a_ip), gateway, "node to its Pod");
        assert_eq!(source_seen(&one, &c, c_ip), node_one, "node to another node's Pod");
    });
}

/// Without rules a cluster IP is silence to everybody, and nothing of it comes back to the outside world.
#[test]
fn cluster_ips_without_rules_are_silence() {
    on_a_machine(|| async {
        let spec = spec("lab", 2, false);
        up(&spec).await;
        join_pods(&spec).await;
        let (pod, _) = pod(&spec, 1, 2).await;
        let node = node_netns(&spec, "worker1").unwrap();
        let outside = outside_netns(&spec).unwrap();
        for from in [&pod, &node, &outside] {
            let target = SocketAddr::from((VIP, 80));
            let connected = from
                .run(|| TcpStream::connect_timeout(&target, Duration::from_millis(300)))
                .unwrap();
            assert_eq!(connected.unwrap_err().kind(), std::io::ErrorKind::TimedOut);
        }
        let ping = outside
            .run(|| try_run(&format!("ping -n -c 2 -i 0.2 -W 1 {VIP}")))
            .unwrap();
        assert_eq!(ping.status.code(), Some(1));
        let said = String::from_utf8(ping.stdout).unwrap();
        assert!(
            said.contains("2 packets transmitted, 0 received, 100% packet loss"),
            "{said}"
        );
        assert!(!said.contains("From "), "no router complains: {said}");
        let before = run("cat /proc/thread-self/net/dev");
        assert!(!pings(&pod, Ipv4Addr::new(203, 0, 113, 1)));
        let bytes = |text: &str| {
            text.lines()
                .find(|l| l.contains("minik-"))
                .map(|l| l.split_whitespace().nth(1).map(str::to_owned))
        };
        assert_eq!(
            bytes(&before),
            bytes(&run("cat /proc/thread-self/net/dev")),
            "nothing leaks"
        );
    });
}

/// What the dead end is for: rules get to see packets to cluster IPs wherever they start.
#[test]
fn rules_see_cluster_ips_wherever_packets_start() {
    on_a_machine(|| async {
        let spec = spec("lab", 2, false);
        up(&spec).await;
        join_pods(&spec).await;
        let (server, server_ip) = pod(&spec, 0, 2).await;
        let (client, _) = pod(&spec, 1, 2).await;
        for node in &spec.nodes {
            node_netns(&spec, &node.name)
                .unwrap()
                .run(|| {
                    for hook in ["PREROUTING", "OUTPUT"] {
                        run(&format!(
                            "iptables -t nat -A {hook} -d {VIP} -j DNAT --to-destination {server_ip}"
                        ));
                    }
                    // Where the address was changed, and only there, as kube-proxy's mark has it.
                    run("iptables -t nat -A POSTROUTING ! -s 10.244.0.0/16 -m conntrack --ctstate DNAT -j MASQUERADE");
                    for hook in ["FORWARD", "OUTPUT"] {
                        run(&format!("iptables -A {hook} -d 10.96.0.99 -j REJECT"));
                    }
                })
                .unwrap();
        }
        let node = node_netns(&spec, "worker1").unwrap();
        let outside = outside_netns(&spec).unwrap();
        assert_eq!(source_seen(&client, &server, VIP), Ipv4Addr::new(10, 244, 1, 2));
        assert_eq!(source_seen(&node, &server, VIP), Ipv4Addr::new(172, 30, 0, 11));
        source_seen(&outside, &server, VIP);
        for from in [&client, &node, &outside] {
            let target = SocketAddr::from(([10, 96, 0, 99], 80));
            let connected = from
                .run(|| TcpStream::connect_timeout(&target, Duration::from_secs(2)))
                .unwrap();
            assert_eq!(connected.unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
        }
    });
}

#[test]
fn the_kernel_shows_what_the_recipe_says() {
    on_a_machine(|| async {
        let spec = spec("lab", 2, false);
        let parts = Mutex::new(Vec::new());
        provision(&spec, &|part| parts.lock().unwrap().push(part.to_owned()))
            .await
            .unwrap();
        let mut parts = parts.into_inner().unwrap();
        parts.sort();
        assert_eq!(parts, ["control-plane", "fabric", "outside", "worker1"]);

        let link = outside_link("lab");
        assert!(link.len() <= 15);
        assert!(
            run("ip link show minik.lab").contains(&link),
            "found by the name people read"
        );
        assert!(run(&format!("ip -o addr show dev {link}")).contains("inet 172.30.0.1/24 brd 172.30.0.255"));
        assert_eq!(
            run(&format!("ip -6 addr show dev {link}")),
            "",
            "no IPv6 on a link of ours"
        );
        assert_ne!(run("ip -6 addr"), "", "and the machine's own is left on");
        let routes = run("ip route");
        assert!(
            routes.contains(&format!("10.244.1.0/24 via 172.30.0.11 dev {link}")),
            "{routes}"
        );
        assert!(
            routes.contains("nexthop via 172.30.0.10") && routes.contains("nexthop via 172.30.0.11"),
            "{routes}"
        );

        let node = node_netns(&spec, "worker1").unwrap();
        let on_node = |command: &str| node.run(|| run(command)).unwrap();
        let routes = on_node("ip route");
        assert!(
            routes.contains("default via 169.254.0.1 dev dead0 proto static src 172.30.0.11 onlink"),
            "{routes}"
        );
        assert!(on_node("ip neigh").contains("169.254.0.1 dev dead0 lladdr 02:00:00:00:00:01 PERMANENT"));
        assert_eq!(on_node("ip -6 addr"), "");
        for (key, value) in [
            ("ip_forward", "1"),
            ("conf.all.route_localnet", "1"),
            ("conf.all.rp_filter", "0"),
            ("conf.default.rp_filter", "0"),
            ("conf.eth0.rp_filter", "0"),
            ("conf.dead0.rp_filter", "0"),
            ("conf.all.send_redirects", "0"),
            ("conf.default.send_redirects", "0"),
            ("conf.eth0.send_redirects", "0"),
            ("conf.lo.send_redirects", "0"),
        ] {
            assert_eq!(on_node(&format!("sysctl -n net.ipv4.{key}")).trim(), value, "{key}");
        }
        the_fabric_forwards(&spec);
    });
}

fn the_fabric_forwards(spec: &ClusterSpec) {
    let fabric = NetNs::open(&spec.fabric_netns()).unwrap();
    let ports = fabric.run(|| run("ip -o link show master br0")).unwrap();
    assert_eq!(
        ports.matches("state forwarding").count() + ports.lines().count(),
        3,
        "{ports}"
    );
    if std::path::Path::new("/proc/sys/net/bridge").exists() {
        assert_eq!(
            fabric
                .run(|| run("sysctl -n net.bridge.bridge-nf-call-iptables"))
                .unwrap()
                .trim(),
            "0"
        );
    }
}
