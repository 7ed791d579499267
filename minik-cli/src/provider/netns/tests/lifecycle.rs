//! A cluster's network comes, is mended, and goes without a trace.

use super::*;
use crate::provider::conflicts::conflicts;

/// Everything a person could find changed.
fn snapshot() -> String {
    let commands = [
        "ip -j link",
        "ip -j addr",
        "ip -j route show table all",
        "ip -j rule",
        "ip -j neigh",
        "ip netns list",
        "ls -AR /run",
        "cat /proc/thread-self/mountinfo",
        "sysctl -a --pattern net.(ipv4|ipv6).conf",
    ];
    commands.map(run).join("\n")
}

#[test]
fn the_machine_is_afterwards_what_it_was() {
    for isolated in [false, true] {
        on_a_machine(|| async move {
            let before = snapshot();
            let spec = spec("lab", 3, isolated);
            up(&spec).await;
            let (_pod, _) = pod(&spec, 1, 2).await;
            assert_ne!(snapshot(), before);
            let removed = remove("lab").await.expect("remove");
            assert_eq!(removed.left, []);
            // The link, the fabric, three nodes, the Pod, and the outside world when it is a namespace.
            assert_eq!(
                removed.removed.len(),
                6 + usize::from(isolated),
                "{:?}",
                removed.removed
            );
            assert_eq!(snapshot(), before);
            assert_eq!(remove("lab").await.expect("remove again"), Removed::default());
            // At once, while the kernel is still busy taking the old ones down.
            for _ in 0..3 {
                up(&spec).await;
                assert!(pings(&outside_netns(&spec).unwrap(), spec.nodes[2].ip));
                assert_eq!(remove("lab").await.expect("remove").left, []);
            }
            assert_eq!(snapshot(), before);
        });
    }
}

/// Isolated, the machine sees names and nothing else.
#[test]
fn an_isolated_cluster_touches_no_link_or_route_of_the_machine() {
    on_a_machine(|| async {
        let network = || ["ip -j link", "ip -j addr", "ip -j route show table all", "ip -j neigh"].map(run);
        let before = network();
        let (one, other) = (spec("one", 2, true), spec("other", 2, true));
        up(&one).await;
        up(&other).await;
        assert_eq!(network(), before);
        for spec in [&one, &other] {
            assert_eq!(conflicts(spec).await.unwrap(), []);
            assert!(
                pings(&outside_netns(spec).unwrap(), spec.nodes[1].ip),
                "same addresses, two worlds"
            );
        }
        remove("one").await.unwrap();
        assert!(
            pings(&outside_netns(&other).unwrap(), other.nodes[1].ip),
            "the other is not touched"
        );
    });
}

#[test]
fn provision_again_keeps_what_is_right_and_mends_what_is_wrong() {
    on_a_machine(|| async {
        let spec = spec("lab", 2, false);
        up(&spec).await;
        join_pods(&spec).await;
        let link = outside_link("lab");
        let node = node_netns(&spec, "worker1").unwrap();
        let fabric = NetNs::open(&spec.fabric_netns()).unwrap();
        let everything = || {
            let show = || ["ip -j addr", "ip -j route", "ip -j neigh show nud permanent"].map(run);
            (show(), node.run(show).unwrap(), fabric.run(show).unwrap())
        };
        let works = || pings(&node, OUTSIDE) && pings(&outside_netns(&spec).unwrap(), spec.nodes[1].ip);
        assert!(works());
        let before = everything();
        up(&spec).await;
        assert_eq!(everything(), before, "nothing is made anew");
        assert!(
            before.1[1].contains("\"protocol\":\"109\""),
            "the agents' routes among it"
        );

        let here = NetNs::current().unwrap();
        for (place, damage) in [
            (&here, format!("ip link del {link}")),
            (&here, format!("ip addr flush dev {link}")),
            (&here, format!("ip link set {link} down")),
            (&node, "ip link del eth0".to_owned()),
            (&node, "ip link del dead1".to_owned()),
            (&node, "ip route del default".to_owned()),
            (&fabric, "ip link set worker1 nomaster".to_owned()),
            (&fabric, "ip link del br0".to_owned()),
        ] {
            place.run(|| run(&damage)).unwrap();
            up(&spec).await;
            assert!(works(), "{damage}");
            assert!(
                node.run(|| run("ip route"))
                    .unwrap()
                    .contains("default via 169.254.0.1 dev dead0"),
                "{damage}"
            );
            assert!(run("ip route").contains("10.96.0.0/12"), "{damage}");
        }
    });
}

#[test]
fn a_namespace_with_processes_in_it_is_left_and_told() {
    on_a_machine(|| async {
        let spec = spec("lab", 1, true);
        up(&spec).await;
        let node = node_netns(&spec, "control-plane").unwrap();
        let mut sleeper = node
            .run(|| std::process::Command::new("sleep").arg("60").spawn())
            .unwrap()
            .expect("sleep");
        let outcome = remove("lab").await.expect("remove");
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        let pid = sleeper.id();
        assert_eq!(
            outcome.left,
            [Leftover {
                what: "network namespace minik.lab.control-plane".to_owned(),
                why: format!("still in it: {pid} (sleep)"),
                command: format!("kill {pid}"),
            }]
        );
        assert_eq!(
            remove("lab").await.expect("remove").removed,
            ["network namespace minik.lab.control-plane"]
        );
    });
}

#[test]
fn ranges_of_the_machine_and_of_other_clusters_are_conflicts() {
    on_a_machine(|| async {
        run("ip link add docker0 type bridge");
        run("ip addr add 172.30.0.1/16 dev docker0");
        let wanted = spec("lab", 1, false);
        let [found] = &conflicts(&wanted).await.unwrap()[..] else {
            panic!("one conflict")
        };
        assert_eq!(found.taken_by, "172.30.0.0/16 on docker0");
        run("ip link del docker0");
        assert_eq!(conflicts(&wanted).await.unwrap(), []);

        up(&wanted).await;
        assert_eq!(conflicts(&wanted).await.unwrap(), [], "its own");
        let takers: Vec<String> = conflicts(&spec("other", 1, false))
            .await
            .unwrap()
            .into_iter()
            .map(|c| c.taken_by)
            .collect();
        assert_eq!(
            takers,
            ["172.30.0.0/24", "10.244.0.0/24", "10.96.0.0/12"].map(|net| format!("{net} on minik.lab"))
        );
    });
}
