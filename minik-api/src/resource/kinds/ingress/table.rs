//! What `kubectl get ingress` shows.

use std::collections::BTreeSet;

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{Ingress, IngressRule};
use serde_json::Value;

use crate::resource::{Column, print};

/// Hosts that a cell names before it only counts them.
const MOST_HOSTS: usize = 3;

pub(super) const COLUMNS: &[Column] = &[
    print::NAME,
    print::text(
        "Class",
        0,
        "The name of the IngressClass resource that should be used for additional configuration",
    ),
    print::text(
        "Hosts",
        0,
        "Hosts that incoming requests are matched against before the ingress rule",
    ),
    print::text(
        "Address",
        0,
        "Address is a list containing ingress points for the load-balancer",
    ),
    print::text("Ports", 0, "Ports of TLS configurations that open"),
    print::AGE,
];

pub(super) fn row(ingress: &Ingress, now: Timestamp) -> Vec<Value> {
    let spec = ingress.spec.as_ref();
    let class = spec.and_then(|spec| spec.ingress_class_name.as_deref());
    let rules = spec.and_then(|spec| spec.rules.as_deref()).unwrap_or_default();
    let encrypted = spec
        .and_then(|spec| spec.tls.as_ref())
        .is_some_and(|tls| !tls.is_empty());
    vec![
        print::name(&ingress.metadata),
        Value::from(class.unwrap_or("<none>")),
        Value::from(hosts(rules)),
        Value::from(addresses(ingress)),
        Value::from(if encrypted { "80, 443" } else { "80" }),
        print::age(&ingress.metadata, now),
    ]
}

fn hosts(rules: &[IngressRule]) -> String {
    let mut rest = rules.iter();
    let named: Vec<&str> = rest
        .by_ref()
        .filter_map(|rule| rule.host.as_deref())
        .filter(|host| !host.is_empty())
        .take(MOST_HOSTS)
        .collect();
    // Kubernetes counts rules here, with a host or without.
    match (named.len(), rest.len()) {
        (0, _) => "*".to_owned(),
        (MOST_HOSTS, 1..) => format!("{} + {} more...", named.join(","), rules.len() - MOST_HOSTS),
        _ => named.join(","),
    }
}

/// The addresses that a controller has reported, each once.
fn addresses(ingress: &Ingress) -> String {
    let status = ingress.status.as_ref().and_then(|s| s.load_balancer.as_ref());
    let points = status.and_then(|s| s.ingress.as_deref()).unwrap_or_default();
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let known: BTreeSet<String> = points
        .iter()
        .filter_map(|point| given(&point.ip).or_else(|| given(&point.hostname)))
        .collect();
    known.into_iter().collect::<Vec<_>>().join(",")
}
