//! Our rules beside those that kube-proxy 1.36.2 wrote for the same objects (testdata/kube-proxy).
//!
//! Named differences, and no others: its canaries and `nfacct` counters are not ours; and it walks Services
//! in no order, so the chains that all Services share compare as sets.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{compile, node};
use crate::proxy::iptables::ruleset::{Ruleset, Table, TableRules};

const WAYS_IN: (&str, &str) = (
    include_str!("../../../../testdata/kube-proxy/ways-in.yaml"),
    include_str!("../../../../testdata/kube-proxy/ways-in.rules"),
);
pub(super) const POLICIES: (&str, &str) = (
    include_str!("../../../../testdata/kube-proxy/policies.yaml"),
    include_str!("../../../../testdata/kube-proxy/policies.rules"),
);

/// Without canaries and counters. A rule that has only a counter to add is dropped whole.
fn without_bookkeeping(mut rules: TableRules) -> TableRules {
    const INVALID: &str = " -m nfacct --nfacct-name  ct_state_invalid_dropped_pkts";
    const LOCALHOST: &str = "-m nfacct --nfacct-name  localhost_nps_accepted_pkts";
    rules.chains.remove("KUBE-PROXY-CANARY");
    for chain in rules.chains.values_mut() {
        let kept = chain
            .iter()
            .filter(|rule| !rule.contains(LOCALHOST))
            .map(|rule| rule.replace(INVALID, ""));
        *chain = Arc::new(kept.collect());
    }
    rules
}

/// With the shared chains in one order, but for the rule that must be last.
fn in_any_order(mut rules: TableRules) -> TableRules {
    const SHARED: [&str; 4] = [
        "KUBE-SERVICES",
        "KUBE-NODEPORTS",
        "KUBE-EXTERNAL-SERVICES",
        "KUBE-PROXY-FIREWALL",
    ];
    for (_, chain) in rules
        .chains
        .iter_mut()
        .filter(|(name, _)| SHARED.contains(&name.as_str()))
    {
        Arc::make_mut(chain).sort_by_key(|rule| (rule.contains("must be the last rule"), rule.clone()));
    }
    rules
}

fn lines(rules: &TableRules) -> BTreeMap<&str, Vec<String>> {
    let hooks = rules.hooks.iter().map(|(chain, rules)| (chain.as_str(), rules.clone()));
    let chains = rules
        .chains
        .iter()
        .map(|(chain, rules)| (chain.as_str(), rules.to_vec()));
    hooks.chain(chains).collect()
}

#[track_caller]
fn assert_same(ours: &Ruleset, theirs: &str) {
    let theirs = Ruleset::parse(theirs).expect("kube-proxy's rules parse");
    for table in [Table::Filter, Table::Nat] {
        let theirs = in_any_order(without_bookkeeping(theirs.table(table).clone()));
        let ours = in_any_order(ours.table(table).clone());
        let (ours, theirs) = (lines(&ours), lines(&theirs));
        for chain in ours.keys().chain(theirs.keys()) {
            assert_eq!(
                ours.get(chain),
                theirs.get(chain),
                "chain {chain} of {table}: ours, kube-proxy's"
            );
        }
    }
}

#[test]
fn every_way_into_a_service() {
    let (objects, theirs) = WAYS_IN;
    assert_same(&compile(objects, node("n1", "192.168.10.220", "10.10.0.0/16")), theirs);
}

#[test]
fn policies_and_fallbacks() {
    let (objects, theirs) = POLICIES;
    assert_same(&compile(objects, node("node1", "10.200.0.1", "10.128.0.0/9")), theirs);
}

#[test]
fn node_ports_stay_behind_the_services() {
    let ours = compile(WAYS_IN.0, node("n1", "192.168.10.220", "10.10.0.0/16"));
    let services = &ours.table(Table::Nat).chains["KUBE-SERVICES"];
    assert!(
        services
            .last()
            .is_some_and(|rule| rule.ends_with("--dst-type LOCAL -j KUBE-NODEPORTS"))
    );
}

#[test]
fn what_is_printed_parses_to_the_same() {
    let ours = compile(POLICIES.0, node("node1", "10.200.0.1", "10.128.0.0/9"));
    assert_eq!(Ruleset::parse(&ours.to_string()), Ok(ours));
}

/// How the number of rules grows is a decision, not an accident: one endpoint more costs a Service port of
/// `ClusterIP` three rules (balance, masquerade, translate), one port more two (lead in, masquerade).
#[test]
fn rule_growth_is_pinned() {
    let count = |services: usize, endpoints: usize| {
        let manifests: String = (0..services).map(|service| manifest(service, endpoints)).collect();
        compile(&manifests, node("n1", "10.0.0.1", "10.244.0.0/16")).rule_count()
    };
    let fixed = count(0, 0);
    assert_eq!(
        fixed,
        11 + 1 + 3 + 3 + 1 + 3 + 1,
        "hooks, firewall, forward; hooks, mark, postrouting, node ports"
    );
    assert_eq!(count(1, 0) - fixed, 1, "a Service without endpoints is one reject");
    assert_eq!(count(1, 1) - fixed, 2 + 3);
    assert_eq!(count(1, 10) - fixed, 2 + 3 * 10);
    assert_eq!(count(10, 10) - fixed, 10 * (2 + 3 * 10));
}

fn manifest(service: usize, endpoints: usize) -> String {
    let listed: String = (0..endpoints)
        .map(|i| format!("- {{addresses: [10.244.{service}.{i}]}}\n"))
        .collect();
    format!(
        "---\nkind: Service\nmetadata: {{namespace: d, name: s{service}}}\nspec: {{clusterIP: 10.96.0.{service}, ports: [{{port: 80}}]}}\n\
         ---\nkind: EndpointSlice\nmetadata: {{namespace: d, name: s{service}-1, labels: {{kubernetes.io/service-name: s{service}}}}}\n\
         addressType: IPv4\nports: [{{name: '', port: 80, protocol: TCP}}]\nendpoints:\n{listed}"
    )
}
