//! What is programmed for one Service, rule by rule in the order in which a packet meets them, with the reason for
//! each, beside what the kernel really holds. Pure; people read it through `minik rules`.

use std::collections::BTreeMap;

use super::compile::Compiler;
use super::ruleset::{Rule, Ruleset, Table, jump_target};
use super::service::{Fragment, SHARED, Shared};
use super::{chain, plan};
use crate::model::ObjectName;
use crate::plan::service_table::{NodeFacts, PortEntry, ServiceEntry, ServiceTable};

/// A rule and its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explained {
    /// Table.
    pub table: Table,
    /// Chain.
    pub chain: String,
    /// The rule, without its `-A CHAIN`.
    pub rule: Rule,
    /// Why it is there; why it should not be, where it is foreign.
    pub reason: String,
    /// Whether the kernel has it.
    pub state: State,
}

/// How a rule that should be there and a rule that is there compare.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It should be there and is.
    Present,
    /// It should be there and is not.
    Missing,
    /// It is there and should not be.
    Foreign,
}

/// Everything about one Service of `table`, compared with `observed`. Empty when this node's proxy does not handle
/// the Service and nothing is left of it.
#[must_use]
pub fn explain(table: &ServiceTable, service: &ObjectName, observed: &Ruleset) -> Vec<Explained> {
    let mut rules = Collected::new(observed);
    let entry = table.services.get(service);
    let fixed = Compiler::default().compile(&ServiceTable {
        node: table.node.clone(),
        services: imbl::OrdMap::new(),
    });
    if entry.is_some() {
        rules.hooks(&fixed, &BEFORE_ROUTING);
    }
    for port in entry.iter().flat_map(|entry| &entry.ports) {
        rules.port(port, &table.node, &[Table::Nat]);
    }
    if entry.is_some() {
        rules.fixed(&fixed, "KUBE-MARK-MASQ");
        rules.hooks(&fixed, &AFTER_ROUTING);
        rules.fixed(&fixed, "KUBE-POSTROUTING");
    }
    for port in entry.iter().flat_map(|entry| &entry.ports) {
        rules.port(port, &table.node, &[Table::Filter]);
    }
    rules.left_behind(service);
    rules.found
}

const BEFORE_ROUTING: [(&str, &str); 2] = [
    ("PREROUTING", "what arrives is looked up among the Services"),
    ("OUTPUT", "what the node itself sends is looked up among the Services"),
];

const AFTER_ROUTING: [(&str, &str); 1] = [("POSTROUTING", "what leaves may have its source changed")];

/// Rules as they are gathered.
struct Collected<'a> {
    observed: &'a Ruleset,
    found: Vec<Explained>,
}

impl<'a> Collected<'a> {
    fn new(observed: &'a Ruleset) -> Self {
        Self {
            observed,
            found: Vec::new(),
        }
    }

    fn add(&mut self, table: Table, chain: &str, rule: &Rule, reason: String, state: State) {
        self.found.push(Explained {
            table,
            chain: chain.to_owned(),
            rule: rule.clone(),
            reason,
            state,
        });
    }

    fn has(&self, table: Table, chain: &str, rule: &Rule) -> State {
        let there = self.observed.table(table).chains.get(chain);
        if there.is_some_and(|rules| rules.contains(rule)) {
            State::Present
        } else {
            State::Missing
        }
    }

    /// Jumps out of built-in chains of `nat`.
    fn hooks(&mut self, fixed: &Ruleset, hooks: &[(&str, &str)]) {
        for (chain, what) in hooks {
            for rule in fixed.table(Table::Nat).hooks.get(*chain).into_iter().flatten() {
                let there = self.observed.table(Table::Nat).hooks.get(*chain);
                let present = there.is_some_and(|rules| rules.contains(rule));
                let state = if present { State::Present } else { State::Missing };
                let rule = Rule::from(rule.as_str());
                self.add(Table::Nat, chain, &rule, (*what).to_owned(), state);
            }
        }
    }

    /// A chain of `nat` that no Service changes.
    fn fixed(&mut self, fixed: &Ruleset, chain: &str) {
        let rules = fixed.table(Table::Nat).chains.get(chain);
        let reason = |rule: &Rule| {
            let what = match jump_target(rule) {
                Some("RETURN") => "what is not marked keeps its source",
                Some("MASQUERADE") => "marked: the source becomes this node's address on the way out",
                _ if chain == "KUBE-MARK-MASQ" => "remembers that the source is to be changed on the way out",
                _ => "takes the mark off, since an encapsulated packet passes here twice",
            };
            what.to_owned()
        };
        self.chain(Table::Nat, chain, rules.map_or(&[], |rules| rules.as_slice()), reason);
    }

    /// A whole chain: what should be in it, and what else is.
    fn chain(&mut self, table: Table, chain: &str, desired: &[Rule], reason: impl Fn(&Rule) -> String) {
        for rule in desired {
            let state = self.has(table, chain, rule);
            self.add(table, chain, rule, reason(rule), state);
        }
        let there = self.observed.table(table).chains.get(chain);
        for rule in there.into_iter().flat_map(|rules| rules.iter()) {
            if !desired.contains(rule) {
                self.add(table, chain, rule, "nothing of ours".to_owned(), State::Foreign);
            }
        }
    }

    /// A port's rules in some tables.
    fn port(&mut self, port: &PortEntry, node: &NodeFacts, tables: &[Table]) {
        let alone = ServiceEntry {
            ports: vec![port.clone()],
        };
        let fragment = Fragment::compile(&alone, node);
        for shared in SHARED {
            let (table, chain) = shared.chain();
            if !tables.contains(&table) {
                continue;
            }
            for rule in fragment.shared(shared) {
                let state = self.has(table, chain, rule);
                self.add(table, chain, rule, in_shared(shared, rule), state);
            }
        }
        if tables.contains(&Table::Nat) {
            let mut chains: Vec<_> = fragment.nat_chains.iter().collect();
            let order = endpoint_order(port);
            chains.sort_by_key(|(chain, _)| {
                let down = std::cmp::Reverse(plan::height(chain));
                (down, order.get(chain.as_ref()).copied())
            });
            for (chain, rules) in chains {
                self.chain(Table::Nat, chain, rules, |rule| in_own(port, node, chain, rule));
            }
        }
    }

    /// Rules that name the Service in their comment, are there, and were not asked for.
    fn left_behind(&mut self, service: &ObjectName) {
        for table in Table::ALL {
            for (chain, rules) in &self.observed.table(table).chains {
                for rule in rules.iter().filter(|rule| names(rule, service)) {
                    let known = self
                        .found
                        .iter()
                        .any(|known| known.table == table && *known.chain == **chain && known.rule == *rule);
                    if !known {
                        let reason = "names the Service, and is nothing of ours".to_owned();
                        self.add(table, chain, rule, reason, State::Foreign);
                    }
                }
            }
        }
    }
}

/// Whether a rule's comment begins with a Service's name, or that of a port of it.
fn names(rule: &str, service: &ObjectName) -> bool {
    let Some((_, comment)) = rule.split_once("--comment \"") else {
        return false;
    };
    let rest = comment.strip_prefix(&service.to_string());
    rest.is_some_and(|rest| rest.starts_with([':', ' ', '"']))
}

fn endpoint_order(port: &PortEntry) -> BTreeMap<String, usize> {
    let backends = port.pools.reachable().into_iter().enumerate();
    backends
        .map(|(index, backend)| (chain::endpoint(&port.name, &backend.target.to_string()), index))
        .collect()
}

/// Why a rule is in a chain that all Services share.
fn in_shared(shared: Shared, rule: &str) -> String {
    let to = if rule.contains(" cluster IP\"") {
        "to the cluster IP"
    } else if rule.contains(" external IP\"") {
        "to an external IP"
    } else {
        "to a load balancer's address"
    };
    match (shared, jump_target(rule)) {
        (Shared::NatServices, Some(target)) if target.starts_with("KUBE-FW-") => {
            format!("{to}: first its source is checked (loadBalancerSourceRanges)")
        }
        (Shared::NatServices, _) => to.to_owned(),
        (Shared::NatNodePorts, _) => "to the node port, on an address of this node".to_owned(),
        (Shared::FilterNodePorts, _) => "load balancers may ask how many endpoints this node has".to_owned(),
        (Shared::FilterFirewall, _) => "its source is in none of loadBalancerSourceRanges: dropped".to_owned(),
        (_, Some("REJECT")) => "no endpoint anywhere can serve: refused, so that clients need not wait".to_owned(),
        (_, _) => "policy Local, and no endpoint on this node: dropped, so that clients try another node".to_owned(),
    }
}

/// Why a rule is in a chain that belongs to one port.
fn in_own(port: &PortEntry, node: &NodeFacts, chain: &str, rule: &str) -> String {
    let masquerades = jump_target(rule) == Some("KUBE-MARK-MASQ");
    let target = jump_target(rule).unwrap_or_default();
    match (
        plan::height(chain)
            .and_then(|height| plan::PER_SERVICE.get(height))
            .copied(),
        masquerades,
    ) {
        (Some("KUBE-FW-"), _) if target.starts_with("KUBE-EXT-") => {
            "a source that may use the load balancer".to_owned()
        }
        (Some("KUBE-FW-"), _) => "any other source keeps its destination, and is dropped in table filter".to_owned(),
        (Some("KUBE-EXT-"), true) if rule.contains("--src-type LOCAL") => {
            "from the node itself: source changed, since an endpoint elsewhere cannot answer a local address".to_owned()
        }
        (Some("KUBE-EXT-"), true) => {
            "from outside, to an endpoint on any node: source changed, so that replies come back this way".to_owned()
        }
        (Some("KUBE-EXT-"), false) if rule.contains("--src-type LOCAL") => {
            "from the node itself: to every endpoint, as to the cluster IP".to_owned()
        }
        (Some("KUBE-EXT-"), false) if rule.starts_with("-s ") => {
            "from a Pod: to every endpoint, as to the cluster IP, source kept".to_owned()
        }
        (Some("KUBE-EXT-"), false) if target.starts_with("KUBE-SVL-") => {
            "externalTrafficPolicy Local: to endpoints on this node, source kept".to_owned()
        }
        (Some("KUBE-EXT-"), false) => "externalTrafficPolicy Cluster: to every endpoint".to_owned(),
        (Some("KUBE-SEP-"), true) => {
            "an endpoint that reaches itself: source changed, or it would answer itself directly".to_owned()
        }
        (Some("KUBE-SEP-"), false) if port.affinity_seconds.is_some() => {
            "remembers the client, and changes the destination to the endpoint".to_owned()
        }
        (Some("KUBE-SEP-"), false) => "changes the destination to the endpoint".to_owned(),
        (_, true) => format!(
            "not from a Pod ({}): source changed, so that replies come back this way",
            node.cluster_cidr.trunc()
        ),
        (_, false) if rule.contains("-m recent --rcheck") => format!(
            "a client that used this endpoint within {} s stays with it",
            port.affinity_seconds.unwrap_or_default()
        ),
        (_, false) => balanced(rule),
    }
}

/// The share of a rule that picks an endpoint.
fn balanced(rule: &str) -> String {
    match rule
        .split_once("--probability ")
        .and_then(|(_, rest)| rest.split(' ').next())
    {
        Some(probability) => {
            let share = probability.trim_end_matches('0');
            format!("to this endpoint, by chance {share} of what comes this far")
        }
        None => "to this endpoint, what comes this far".to_owned(),
    }
}
