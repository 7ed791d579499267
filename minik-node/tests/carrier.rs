//! Waiting for a link to carry packets, on the real kernel.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

mod lab;

use std::time::Duration;

use lab::{on_a_machine, run};
use minik_node::kernel::link::LinkError;
use minik_node::kernel::netlink::Netlink;

#[test]
fn a_link_is_awaited_until_its_other_end_is_up_too() {
    on_a_machine(|| async {
        run("ip link add v0 type veth peer name v1");
        run("ip link set v0 up");
        let netlink = Netlink::open().expect("socket");
        let v0 = netlink.find_link("v0").await.unwrap().expect("v0").index;
        let waiting = netlink.wait_operational(v0);
        let raising = async {
            // Long enough for the waiter to have looked twice and be listening.
            tokio::time::sleep(Duration::from_millis(100)).await;
            run("ip link set v1 up");
        };
        let (waited, ()) = tokio::join!(waiting, raising);
        waited.expect("carrier");
    });
}

#[test]
fn a_link_without_carrier_is_not_awaited_for_ever() {
    on_a_machine(|| async {
        run("ip link add v0 type veth peer name v1");
        run("ip link set v0 up");
        let netlink = Netlink::open().expect("socket");
        let v0 = netlink.find_link("v0").await.unwrap().expect("v0").index;
        // A clock that runs ahead whenever everybody waits: it gives up at once.
        tokio::time::pause();
        assert!(matches!(netlink.wait_operational(v0).await, Err(LinkError::NoCarrier { index }) if index == v0));
    });
}
