//! Our rules beside those that kube-proxy 1.36.2 wrote for the same objects (testdata/kube-proxy).
//!
//! Named differences, and no others: its `nfacct` counters are not ours; and it walks Services in no order, so the
//! chains that all Services share compare as sets.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{compile, node};
use crate::plan::service_table::NodePortAddresses;
use crate::proxy::iptables::ruleset::{Rules, Ruleset, Table, TableRules};

const WAYS_IN: (&str, &str) = (
    include_str!("../../../../testdata/kube-proxy/ways-in.yaml"),
    include_str!("../../../../testdata/kube-proxy/ways-in.rules"),
);
pub(super) const POLICIES: (&str, &str) = (
    include_str!("../../../../testdata/kube-proxy/policies.yaml"),
    include_str!("../../../../testdata/kube-proxy/policies.rules"),
);

/// Without counters. A rule that has only a counter to add is dropped whole.
fn without_counters(mut rules: TableRules) -> TableRules {
    const INVALID: &str = " -m nfacct --nfacct-name  ct_state_invalid_dropped_pkts";
    const LOCALHOST: &str = "-m nfacct --nfacct-name  localhost_nps_accepted_pkts";
    let without = |rules: &Rules| -> Rules {
        let kept = rules.iter().filter(|rule| !rule.contains(LOCALHOST));
        Arc::new(kept.map(|rule| rule.replace(INVALID, "").into()).collect())
    };
    rules.chains = rules
        .chains
        .iter()
        .map(|(chain, rules)| (chain.clone(), without(rules)))
        .collect();
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
    for name in SHARED {
        if let Some(chain) = rules.chains.get_mut(name) {
            Arc::make_mut(chain).sort_by_key(|rule| (rule.contains("must be the last rule"), rule.clone()));
        }
    }
    rules
}

fn lines(rules: &TableRules) -> BTreeMap<&str, Vec<&str>> {
    let hooks = rules.hooks.iter();
    let hooks = hooks.map(|(chain, rules)| (chain.as_str(), rules.iter().map(String::as_str).collect()));
    let chains = rules.chains.iter();
    let chains = chains.map(|(chain, rules)| (chain.as_ref(), rules.iter().map(AsRef::as_ref).collect()));
    hooks.chain(chains).collect()
}

#[track_caller]
fn assert_same(ours: &Ruleset, theirs: &str) {
    let theirs = Ruleset::parse(theirs).expect("kube-proxy's rules parse");
    for table in Table::ALL {
        let theirs = in_any_order(without_counters(theirs.table(table).clone()));
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

/// kube-proxy's own words for the two settings of a node that change fixed rules.
#[test]
fn settings_of_the_node_change_fixed_rules() {
    let mut facts = node("n1", "192.168.10.220", "10.10.0.0/16");
    facts.node_port_addresses = NodePortAddresses::Only(vec![facts.address]);
    facts.conntrack_tcp_liberal = true;
    let ours = compile(WAYS_IN.0, facts);
    let services = &ours.table(Table::Nat).chains["KUBE-SERVICES"];
    assert_eq!(
        services.last().map(AsRef::as_ref),
        Some(
            r#"-d 192.168.10.220/32 -m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -j KUBE-NODEPORTS"#
        )
    );
    let forward = &ours.table(Table::Filter).chains["KUBE-FORWARD"];
    assert!(!forward.iter().any(|rule| rule.contains("INVALID")), "{forward:?}");
}

/// Every rule of every Service of kube-proxy's own rulesets has its reason, nothing is missing and nothing foreign;
/// and what is taken out or put in is told.
#[test]
fn every_rule_is_explained_and_compared() {
    use crate::model::ObjectName;
    use crate::plan::service_table::ServiceTable;
    use crate::proxy::iptables::compile::Compiler;
    use crate::proxy::iptables::explain::{State, explain};
    use crate::view::testing;

    let facts = node("node1", "10.200.0.1", "10.128.0.0/9");
    let table = ServiceTable::full(&testing::view(Some("node1"), POLICIES.0), facts);
    let kernel = Ruleset::parse(POLICIES.1).expect("kube-proxy's rules parse");
    let mine = Compiler::default().compile(&table);
    let mut explained = 0;
    for service in table.services.keys() {
        let rules = explain(&table, service, &mine);
        assert!(rules.iter().all(|rule| rule.state == State::Present), "{rules:#?}");
        explained += rules
            .iter()
            .filter(|rule| rule.rule.contains(&format!("\"{service}")))
            .count();
        let theirs = explain(&table, service, &kernel);
        assert!(theirs.iter().all(|rule| rule.state != State::Missing), "{theirs:#?}");
        let foreign = theirs.iter().filter(|rule| rule.state == State::Foreign);
        assert!(foreign.clone().all(|rule| rule.rule.contains("nfacct")), "{foreign:#?}");
    }
    let named = mine
        .to_string()
        .lines()
        .filter(|line| line.contains("--comment \"de"))
        .count();
    assert_eq!(explained, named, "every rule that names a Service");

    let lb = ObjectName::new("demo", "lb");
    let none = explain(&table, &lb, &Ruleset::default());
    assert!(none.iter().all(|rule| rule.state == State::Missing) && none.len() > 20);
    let mut gone = table;
    gone.services.remove(&lb);
    let left = explain(&gone, &lb, &mine);
    assert!(left.iter().all(|rule| rule.state == State::Foreign) && left.len() > 10);
}
