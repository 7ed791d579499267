//! The table of 1.36's repair controller: relation between Service and IPAddress → what is done and told.

use serde_json::json;

use super::*;

fn service(name: &str, ip: &str) -> Service {
    serde_json::from_value(json!({"metadata": {"name": name, "namespace": "demo"}, "spec": {"clusterIPs": [ip]}}))
        .unwrap()
}

fn held(resource: &str, name: &str, labelled: bool) -> IPAddress {
    let labels = if labelled {
        json!({FAMILY: "IPv4", MANAGED_BY: MANAGER})
    } else {
        json!({})
    };
    serde_json::from_value(json!({
        "metadata": {"name": "10.96.0.7", "labels": labels, "creationTimestamp": "2026-11-21T02:00:00Z"},
        "spec": {"parentRef": {"resource": resource, "namespace": "demo", "name": name}},
    }))
    .unwrap()
}

fn told(repair: Repair) -> (&'static str, Option<(&'static str, String)>) {
    let pair = |note: Note| (note.reason, note.message);
    match repair {
        Repair::Nothing => ("nothing", None),
        Repair::Tell(note) => ("tell", Some(pair(note))),
        Repair::Create(note) => ("create", Some(pair(note))),
        Repair::Recreate(note) => ("recreate", note.map(pair)),
    }
}

#[test]
fn a_cluster_ip_without_its_own_ip_address_is_repaired() {
    let (web, other) = (service("web", "10.96.0.7"), service("other", "10.96.0.7"));
    let moved = service("other", "10.96.0.9");
    let wrong = "the ClusterIP [IPv4]: 10.96.0.7 for Service demo/web has a wrong reference; repairing";
    let cases = [
        (true, Some(held("services", "web", true)), None, ("nothing", None)),
        (
            false,
            None,
            None,
            (
                "tell",
                Some((
                    "ClusterIPOutOfRange",
                    "Cluster IP [IPv4]: 10.96.0.7 is not within any configured Service CIDR; please recreate service",
                )),
            ),
        ),
        (
            true,
            None,
            None,
            (
                "create",
                Some((
                    "ClusterIPNotAllocated",
                    "Cluster IP [IPv4]: 10.96.0.7 is not allocated; repairing",
                )),
            ),
        ),
        (
            true,
            Some(held("gateways", "web", true)),
            None,
            ("recreate", Some(("ClusterIPNotAllocated", wrong))),
        ),
        (
            true,
            Some(held("services", "other", true)),
            None,
            ("recreate", Some(("ClusterIPNotAllocated", wrong))),
        ),
        (
            true,
            Some(held("services", "other", true)),
            Some(&other),
            (
                "tell",
                Some((
                    "ClusterIPAlreadyAllocated",
                    "Cluster IP [IPv4]:10.96.0.7 was assigned to multiple services; please recreate service",
                )),
            ),
        ),
        (
            true,
            Some(held("services", "other", true)),
            Some(&moved),
            ("nothing", None),
        ),
        (true, Some(held("services", "web", false)), None, ("recreate", None)),
    ];
    for (in_range, held, referred, expected) in cases {
        let found = told(decide::cluster_ip(&web, "10.96.0.7", in_range, held.as_ref(), referred));
        let expected = (expected.0, expected.1.map(|(reason, text)| (reason, text.to_owned())));
        assert_eq!(found, expected);
    }
}

#[test]
fn an_ip_address_without_its_service_goes_after_a_minute() {
    let at = |text: &str| text.parse::<Timestamp>().unwrap();
    let soon = at("2026-11-21T02:00:30Z");
    let late = at("2026-11-21T02:01:01Z");
    let ours = held("services", "web", true);
    assert_eq!(
        decide::address(&ours, Some(&service("web", "10.96.0.7")), late),
        Leak::None
    );
    assert_eq!(decide::address(&ours, None, soon), Leak::Wait(Duration::from_secs(31)));
    assert_eq!(decide::address(&held("services", "web", false), None, late), Leak::None);
    for (held, parent, reason, text) in [
        (
            &ours,
            None,
            "IPAddressNotAllocated",
            "IPAddress: 10.96.0.7 for Service demo/web appears to have leaked: cleaning up",
        ),
        (
            &ours,
            Some(service("web", "10.96.0.8")),
            "IPAddressWrongReference",
            "IPAddress: 10.96.0.7 for Service demo/web has a wrong reference; cleaning up",
        ),
    ] {
        let Leak::Remove(note) = decide::address(held, parent.as_ref(), late) else {
            panic!("stays")
        };
        assert_eq!((note.reason, note.message.as_str()), (reason, text));
    }
}
