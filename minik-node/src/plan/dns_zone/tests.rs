//! Questions to answers, line by line, after the Kubernetes DNS specification 1.1.0 and CoreDNS.

use hickory_proto::rr::{Name, RecordType};
use proptest::prelude::*;

use super::{Zone, lookup, origin};
use crate::view::testing;

const MANIFESTS: &str = include_str!("../../../testdata/names.yaml");

fn zone() -> Zone {
    let view = testing::view(None, MANIFESTS);
    Zone::full(&view, origin("cluster.local").expect("a domain"), 7)
}

/// A whole answer as text: the code, then a line a record, `+` for the additional section, `!` for the
/// authority section and `>` for where an alias leaves the zone.
fn ask(question: &str) -> String {
    let (name, kind) = question.split_once(' ').expect("NAME TYPE");
    let name = Name::from_ascii(name).expect("a name");
    let kind: RecordType = kind.parse().expect("a type");
    let Some(answer) = lookup(&zone(), &name, kind).expect("names fit") else {
        return "not ours".to_owned();
    };
    let mut lines = vec![answer.code.to_string()];
    lines.extend(answer.answers.iter().map(|record| record.to_string()));
    lines.extend(answer.additional.iter().map(|record| format!("+ {record}")));
    lines.extend(answer.authority.iter().map(|record| format!("! {record}")));
    lines.extend(answer.outside.iter().map(|name| format!("> {name}")));
    lines.join("\n")
}

const SOA: &str = "! cluster.local. 30 IN SOA ns.dns.cluster.local. hostmaster.cluster.local. 7 7200 1800 86400 30";

#[track_caller]
fn answers(question: &str, records: &[&str]) {
    let expected: Vec<&str> = ["No Error"].iter().chain(records).copied().collect();
    assert_eq!(ask(question), expected.join("\n"), "{question}");
}

/// The name exists, the type does not.
#[track_caller]
fn no_data(question: &str) {
    answers(question, &[SOA]);
}

#[track_caller]
fn no_name(question: &str) {
    assert_eq!(ask(question), format!("Non-Existent Domain\n{SOA}"), "{question}");
}

#[test]
fn a_cluster_ip() {
    answers(
        "web.lab.svc.cluster.local. A",
        &["web.lab.svc.cluster.local. 30 IN A 10.96.0.20"],
    );
    answers(
        "WeB.Lab.SVC.cluster.LOCAL. A",
        &["WeB.Lab.SVC.cluster.LOCAL. 30 IN A 10.96.0.20"],
    );
    no_data("web.lab.svc.cluster.local. AAAA");
    no_data("web.lab.svc.cluster.local. MX");
    no_data("web.lab.svc.cluster.local. CNAME");
    no_data("web.lab.svc.cluster.local. TXT");
    no_data("web.lab.svc.cluster.local. SOA");
}

#[test]
fn what_does_not_exist() {
    for name in [
        "nope.lab.svc",
        "web.nope.svc",
        "nope.svc",
        "nope",
        "a.b.c.d.svc",
        "x.web.lab.svc",
        "_no._tcp.web.lab.svc",
    ] {
        for kind in ["A", "AAAA", "SRV", "TXT", "MX"] {
            no_name(&format!("{name}.cluster.local. {kind}"));
        }
    }
}

#[test]
fn names_that_only_lead_to_others() {
    for name in [
        "svc.cluster.local.",
        "pod.cluster.local.",
        "lab.svc.cluster.local.",
        "lab.pod.cluster.local.",
    ] {
        no_data(&format!("{name} A"));
    }
    no_data("cluster.local. A");
}

#[test]
fn services_by_port() {
    answers(
        "_http._tcp.web.lab.svc.cluster.local. SRV",
        &[
            "_http._tcp.web.lab.svc.cluster.local. 30 IN SRV 0 100 80 web.lab.svc.cluster.local.",
            "+ web.lab.svc.cluster.local. 30 IN A 10.96.0.20",
        ],
    );
    answers(
        "web.lab.svc.cluster.local. SRV",
        &[
            "web.lab.svc.cluster.local. 30 IN SRV 0 50 80 web.lab.svc.cluster.local.",
            "web.lab.svc.cluster.local. 30 IN SRV 0 50 53 web.lab.svc.cluster.local.",
            "+ web.lab.svc.cluster.local. 30 IN A 10.96.0.20",
        ],
    );
    no_name("_http._udp.web.lab.svc.cluster.local. SRV");
}

#[test]
fn a_headless_service() {
    answers(
        "db.lab.svc.cluster.local. A",
        &[
            "db.lab.svc.cluster.local. 30 IN A 10.244.1.2",
            "db.lab.svc.cluster.local. 30 IN A 10.244.2.3",
        ],
    );
    answers(
        "db-0.db.lab.svc.cluster.local. A",
        &["db-0.db.lab.svc.cluster.local. 30 IN A 10.244.1.2"],
    );
    answers(
        "10-244-2-3.db.lab.svc.cluster.local. A",
        &["10-244-2-3.db.lab.svc.cluster.local. 30 IN A 10.244.2.3"],
    );
    no_name("10-244-1-2.db.lab.svc.cluster.local. A");
    no_name("10-244-2-4.db.lab.svc.cluster.local. A");
    answers(
        "_sql._tcp.db.lab.svc.cluster.local. SRV",
        &[
            "_sql._tcp.db.lab.svc.cluster.local. 30 IN SRV 0 50 5432 db-0.db.lab.svc.cluster.local.",
            "_sql._tcp.db.lab.svc.cluster.local. 30 IN SRV 0 50 5432 10-244-2-3.db.lab.svc.cluster.local.",
            "+ db-0.db.lab.svc.cluster.local. 30 IN A 10.244.1.2",
            "+ 10-244-2-3.db.lab.svc.cluster.local. 30 IN A 10.244.2.3",
        ],
    );
    no_data("db.lab.svc.cluster.local. AAAA");
    no_name("idle.lab.svc.cluster.local. A");
}

#[test]
fn aliases() {
    answers(
        "away.lab.svc.cluster.local. A",
        &[
            "away.lab.svc.cluster.local. 30 IN CNAME www.example.com.",
            "> www.example.com.",
        ],
    );
    answers(
        "away.lab.svc.cluster.local. CNAME",
        &["away.lab.svc.cluster.local. 30 IN CNAME www.example.com."],
    );
    answers(
        "near.lab.svc.cluster.local. A",
        &[
            "near.lab.svc.cluster.local. 30 IN CNAME web.lab.svc.cluster.local.",
            "web.lab.svc.cluster.local. 30 IN A 10.96.0.20",
        ],
    );
    no_data("near.lab.svc.cluster.local. AAAA");
    no_data("broken.lab.svc.cluster.local. A");
    no_data("loop-a.lab.svc.cluster.local. A");
    no_name("_http._tcp.away.lab.svc.cluster.local. SRV");
    no_data("away.lab.svc.cluster.local. SRV");
}

#[test]
fn pods() {
    answers(
        "10-244-9-9.lab.pod.cluster.local. A",
        &["10-244-9-9.lab.pod.cluster.local. 30 IN A 10.244.9.9"],
    );
    no_name("10-244-9-9.nope.pod.cluster.local. A");
    no_name("10-244-9.lab.pod.cluster.local. A");
    no_name("10-244-9-999.lab.pod.cluster.local. A");
    no_name("10.244-9-9.lab.pod.cluster.local. A");
}

#[test]
fn addresses_to_names() {
    answers(
        "20.0.96.10.in-addr.arpa. PTR",
        &["20.0.96.10.in-addr.arpa. 30 IN PTR web.lab.svc.cluster.local."],
    );
    answers(
        "3.2.244.10.in-addr.arpa. PTR",
        &["3.2.244.10.in-addr.arpa. 30 IN PTR 10-244-2-3.db.lab.svc.cluster.local."],
    );
    assert_eq!(
        ask("9.1.244.10.in-addr.arpa. PTR"),
        "not ours",
        "an endpoint of a cluster IP has no name"
    );
    assert_eq!(ask("1.2.0.192.in-addr.arpa. PTR"), "not ours");
}

#[test]
fn the_zone_itself() {
    answers(
        "dns-version.cluster.local. TXT",
        &["dns-version.cluster.local. 28800 IN TXT 1.1.0"],
    );
    answers("cluster.local. SOA", &[SOA.trim_start_matches("! ")]);
    answers(
        "cluster.local. NS",
        &[
            "cluster.local. 30 IN NS ns.dns.cluster.local.",
            "+ ns.dns.cluster.local. 30 IN A 10.96.0.10",
        ],
    );
    answers("ns.dns.cluster.local. A", &["ns.dns.cluster.local. 30 IN A 10.96.0.10"]);
    assert_eq!(ask("cluster.local. AXFR"), "Query Refused");
    assert_eq!(ask("example.com. A"), "not ours");
    assert_eq!(ask("local. A"), "not ours");
}

#[test]
fn an_upstream_must_not_be_a_cluster_ip() {
    assert!(zone().is_cluster_ip("10.96.0.10".parse().expect("an address")));
    assert!(!zone().is_cluster_ip("10.244.1.2".parse().expect("an address")));
}

/// A part of the manifests, chosen by bits.
fn part(bits: u32) -> String {
    let documents = MANIFESTS.split("---\n").enumerate();
    documents
        .filter(|(index, _)| bits & (1 << (index % 32)) != 0)
        .map(|(_, text)| format!("---\n{text}"))
        .collect()
}

proptest! {
    /// Any way from one cluster to another leads to the zone that is built anew.
    #[test]
    fn incremental_equals_full(steps in proptest::collection::vec(any::<u32>(), 1..8)) {
        let origin = origin("cluster.local").expect("a domain");
        let mut earlier = testing::view(None, "");
        let mut zone = Zone::full(&earlier, origin.clone(), 0);
        for (serial, bits) in (1u32..).zip(steps) {
            let view = testing::view(None, &part(bits));
            zone.update(&view, &view.changes_since(&earlier), serial);
            prop_assert_eq!(&zone, &Zone::full(&view, origin.clone(), serial));
            earlier = view;
        }
    }
}
