//! Pod links on the real kernel: what `attach` lays, that it carries packets, and that `detach` takes it all back.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

mod lab;

use std::net::Ipv4Addr;

use lab::{on_a_machine, pings, run, source_seen, try_run};
use minik_node::kernel::netns::NetNs;
use minik_node::kernel::pod_network::PodNetworks;
use minik_node::plan::pod_network::PodNetwork;

const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 244, 1, 1);

fn pod(last: u8) -> PodNetwork {
    PodNetwork::new(
        "t",
        &format!("00000000-0000-4000-8000-0000000000{last:02}"),
        address(last),
        GATEWAY,
    )
}

fn address(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 244, 1, last)
}

/// A node without a fabric: forwarding is all its Pods need of it.
fn node() -> (NetNs, PodNetworks) {
    let node = NetNs::create("minik.t.node").expect("node");
    node.run(|| run("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0"))
        .expect("enter");
    let networks = PodNetworks::open_in(&node).expect("socket");
    (node, networks)
}

#[test]
fn packets_flow_between_pods_and_node_from_the_addresses_planned() {
    on_a_machine(|| async {
        let (node, networks) = node();
        networks.attach(&pod(2)).await.expect("attach");
        networks.attach(&pod(3)).await.expect("attach");
        let (two, three) = (NetNs::open(&pod(2).netns).unwrap(), NetNs::open(&pod(3).netns).unwrap());

        assert!(pings(&two, address(3)));
        assert!(pings(&two, GATEWAY));
        assert!(pings(&node, address(2)));
        assert_eq!(source_seen(&two, &three, address(3)), address(2));
        assert_eq!(source_seen(&two, &node, GATEWAY), address(2));
        assert_eq!(
            source_seen(&node, &three, address(3)),
            GATEWAY,
            "the node's own connections"
        );
        assert_eq!(source_seen(&two, &two, address(2)), address(2));
    });
}

#[test]
fn the_kernel_shows_what_the_recipe_says() {
    on_a_machine(|| async {
        let (node, networks) = node();
        networks.attach(&pod(2)).await.expect("attach");
        let two = NetNs::open(&pod(2).netns).unwrap();
        let link = pod(2).host_link;

        let inside = |command: &str| two.run(|| run(command)).unwrap();
        assert_eq!(
            inside("ip -4 -o addr show dev eth0").split_whitespace().nth(3),
            Some("10.244.1.2/32")
        );
        let routes = inside("ip route");
        assert!(routes.starts_with("default via 10.244.1.1 dev eth0"), "{routes}");
        assert!(
            routes.contains("10.244.1.1 dev eth0 proto static scope link"),
            "{routes}"
        );
        let neighbour = inside("ip neigh");
        assert!(
            neighbour.contains("10.244.1.1 dev eth0 lladdr 0a:58:0a:f4:01:01 PERMANENT"),
            "{neighbour}"
        );
        assert_eq!(inside("ip -6 addr"), "", "no IPv6, loopback included");
        assert!(inside("ip link show lo").contains("LOOPBACK,UP"));
        assert_eq!(
            inside("sysctl -n net.ipv4.ping_group_range")
                .split_whitespace()
                .collect::<Vec<_>>(),
            ["0", "2147483647"]
        );

        let outside = |command: &str| node.run(|| run(command)).unwrap();
        let routes = outside("ip route");
        assert!(
            routes.contains(&format!("10.244.1.2 dev {link} proto static scope link src 10.244.1.1")),
            "{routes}"
        );
        assert!(outside("ip neigh").contains("lladdr 0a:58:0a:f4:01:02 PERMANENT"));
        assert!(outside("ip netns list").contains(&pod(2).netns));
    });
}

#[test]
fn attach_again_keeps_what_is_right_and_mends_what_is_wrong() {
    on_a_machine(|| async {
        let (node, networks) = node();
        let pod = pod(2);
        networks.attach(&pod).await.expect("attach");
        let number = || {
            let shown = node.run(|| run(&format!("ip -o link show {}", pod.host_link))).unwrap();
            shown.split(':').next().unwrap().to_owned()
        };
        let first = number();
        networks.attach(&pod).await.expect("attach again");
        assert_eq!(number(), first, "a right link is kept");

        let two = NetNs::open(&pod.netns).unwrap();
        let damages: [(&NetNs, String); 8] = [
            (&two, "ip route del default".into()),
            (&two, "ip addr add 10.244.1.9/32 dev eth0".into()),
            (
                &two,
                "ip neigh replace 10.244.1.1 lladdr 02:00:00:00:00:99 dev eth0 nud permanent".into(),
            ),
            (&two, "ip link del eth0".into()),
            (&node, format!("ip addr flush dev {}", pod.host_link)),
            (&node, format!("ip link set {} down", pod.host_link)),
            (&node, format!("ip link set {} mtu 1400", pod.host_link)),
            (&node, format!("ip link set {} name stray", pod.host_link)),
        ];
        for (place, damage) in damages {
            place.run(|| run(&damage)).unwrap();
            assert!(
                !networks.is_attached(&pod).await.expect("observe"),
                "{damage}: unnoticed"
            );
            networks
                .attach(&pod)
                .await
                .unwrap_or_else(|error| panic!("{damage}: {error}"));
            assert!(
                networks.is_attached(&pod).await.expect("observe"),
                "{damage}: not mended"
            );
            assert!(pings(&two, GATEWAY), "{damage}");
        }
    });
}

#[test]
fn detach_leaves_nothing_and_frees_the_name_at_once() {
    on_a_machine(|| async {
        let (node, networks) = node();
        let before = node.run(snapshot).unwrap();
        for _ in 0..20 {
            networks.attach(&pod(2)).await.expect("attach");
            networks.detach(&pod(2)).await.expect("detach");
            networks.detach(&pod(2)).await.expect("detach what is not there");
        }
        assert_eq!(node.run(snapshot).unwrap(), before);
        assert_eq!(NetNs::list("minik.t.pod.").unwrap(), Vec::<String>::new());
        assert!(!networks.is_attached(&pod(2)).await.unwrap());
    });
}

#[test]
fn many_pods_come_and_go_at_once() {
    on_a_machine(|| async {
        let (node, networks) = node();
        let before = node.run(snapshot).unwrap();
        let pods: Vec<PodNetwork> = (2..52).map(pod).collect();
        futures::future::try_join_all(pods.iter().map(|pod| networks.attach(pod)))
            .await
            .expect("attach");
        let first = NetNs::open(&pods[0].netns).unwrap();
        assert!(pods.iter().all(|pod| pings(&first, pod.address)));
        futures::future::try_join_all(pods.iter().map(|pod| networks.detach(pod)))
            .await
            .expect("detach");
        drop(first);
        assert_eq!(node.run(snapshot).unwrap(), before);
    });
}

/// Somebody else took the namespace's name away: the kernel then removes the link when it gets to it.
#[test]
fn a_dying_namespace_does_not_hold_the_name() {
    on_a_machine(|| async {
        let (_node, networks) = node();
        for _ in 0..20 {
            networks.attach(&pod(2)).await.expect("attach");
            NetNs::delete(&pod(2).netns).expect("delete");
            networks.attach(&pod(2)).await.expect("attach while the old one dies");
            assert!(networks.is_attached(&pod(2)).await.unwrap());
        }
    });
}

/// A file that no namespace is mounted on is what a crash between the two leaves.
#[test]
fn a_half_made_namespace_is_finished() {
    on_a_machine(|| async {
        NetNs::create("minik.t.first").expect("prepares the folder");
        std::fs::write("/run/netns/minik.t.half", "").unwrap();
        assert!(NetNs::open("minik.t.half").is_err());
        let half = NetNs::create("minik.t.half").expect("create");
        assert!(half.run(|| run("ip link show lo")).unwrap().contains("UP"));
        assert_eq!(NetNs::list("minik.t.").unwrap(), ["minik.t.first", "minik.t.half"]);
    });
}

/// `/run/netns` is the shared mount that `ip netns` wants, and afterwards it is not there at all.
#[test]
fn the_folder_of_names_is_put_back() {
    on_a_machine(|| async {
        let mounts = || std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap();
        let before = mounts();
        NetNs::create("minik.t.one").expect("create");
        assert!(
            mounts()
                .lines()
                .any(|line| line.contains(" /run/netns ") && line.contains("shared:"))
        );
        run("ip netns add theirs");
        minik_node::kernel::netns_dir::restore().expect("restore");
        NetNs::delete("minik.t.one").expect("delete");
        minik_node::kernel::netns_dir::restore().expect("restore");
        assert_eq!(run("ip netns list").trim(), "theirs", "other names keep it");
        run("ip netns del theirs");
        minik_node::kernel::netns_dir::restore().expect("restore");
        assert_eq!(mounts(), before);
        assert!(!std::path::Path::new("/run/netns").exists());
        assert_eq!(std::fs::read_dir("/run").unwrap().count(), 0);
        assert!(!try_run("ip netns exec minik.t.one true").status.success());
    });
}

fn snapshot() -> String {
    ["ip -j link", "ip -j addr", "ip -j route show table all", "ip -j neigh"]
        .map(run)
        .join("\n")
}
