//! The fabric reconciler on the real kernel: brings its routes about, and leaves everybody else's alone.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

mod lab;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::Ipv4Net;
use lab::{on_a_machine, run};
use minik_node::plan::fabric::{PROTOCOL, Routes};
use minik_node::plan::link::Route;
use minik_node::reconcile::fabric::Fabric;
use minik_node::reconcile::{Outcome, Pass, Reconciler, Timing, spawn};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// `10.244.N.0/24 via 172.30.0.M` for every pair.
fn routes(pairs: &[(u8, u8)]) -> Arc<Routes> {
    let route = |(range, node): &(u8, u8)| {
        let destination = Ipv4Net::new_assert([10, 244, *range, 0].into(), 24);
        let route = Route::via(destination, [Ipv4Addr::new(172, 30, 0, *node)]);
        (
            destination,
            Route {
                protocol: PROTOCOL,
                ..route
            },
        )
    };
    Arc::new(pairs.iter().map(route).collect())
}

/// A node's link to the fabric, as far as routing is concerned.
fn underlay() {
    run("ip link add eth0 type bridge");
    run("ip addr add 172.30.0.11/24 dev eth0");
    run("ip link set eth0 up");
}

fn table() -> Vec<String> {
    let shown = run("ip route show");
    let lines = shown.lines().filter(|line| !line.contains("proto kernel"));
    let mut lines: Vec<String> = lines
        .map(|line| line.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
        .collect();
    lines.sort();
    lines
}

#[test]
fn routes_follow_the_nodes_and_no_other_is_touched() {
    on_a_machine(|| async {
        underlay();
        run("ip route add 10.250.0.0/24 via 172.30.0.99");
        run("ip route add 10.244.9.0/24 via 172.30.0.99");
        let mut fabric = Fabric::open().expect("socket");
        for pass in [Pass::Full, Pass::Full] {
            assert_eq!(
                fabric.reconcile(routes(&[(0, 10), (2, 12)]), pass).await,
                Outcome::Synced
            );
        }
        let theirs = ["10.244.9.0/24 via 172.30.0.99", "10.250.0.0/24 via 172.30.0.99"];
        assert_eq!(
            table(),
            [
                &["10.244.0.0/24 via 172.30.0.10", "10.244.2.0/24 via 172.30.0.12"],
                &theirs[..]
            ]
            .concat()
        );

        let moved = fabric.reconcile(routes(&[(2, 22), (3, 13)]), Pass::Changed).await;
        assert_eq!(moved, Outcome::Synced);
        assert_eq!(
            table(),
            [
                &["10.244.2.0/24 via 172.30.0.22", "10.244.3.0/24 via 172.30.0.13"],
                &theirs[..]
            ]
            .concat()
        );

        // A range that somebody else routes: told, not taken; the others get theirs all the same.
        let Outcome::Failed(error) = fabric.reconcile(routes(&[(9, 19), (10, 20)]), Pass::Changed).await else {
            panic!("took a foreign route");
        };
        assert_eq!(error, "add route to 10.244.9.0/24: File exists (os error 17)");
        assert_eq!(table(), [&["10.244.10.0/24 via 172.30.0.20"], &theirs[..]].concat());
    });
}

#[test]
fn a_resync_mends_what_somebody_removed() {
    on_a_machine(|| async {
        underlay();
        let (_desired, receiver) = watch::channel(Some(routes(&[(0, 10)])));
        let timing = Timing {
            resync: Duration::from_millis(50),
            retry_min: Duration::from_millis(10),
            retry_max: Duration::from_millis(10),
        };
        let shutdown = CancellationToken::new();
        let mut status = spawn(Fabric::open().expect("socket"), receiver, timing, shutdown.clone());
        status.wait_for(|status| status.passes >= 1).await.expect("running");
        run("ip route del 10.244.0.0/24");
        let passes = status.borrow().passes;
        let mended = status.wait_for(|status| status.passes >= passes + 2);
        tokio::time::timeout(Duration::from_secs(10), mended)
            .await
            .expect("a resync")
            .expect("running");
        assert_eq!(table(), ["10.244.0.0/24 via 172.30.0.10"]);
        shutdown.cancel();
    });
}
