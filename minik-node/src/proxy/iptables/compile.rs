//! Service table in, canonical ruleset out. Pure: chains, rules, order and comments are kube-proxy's.
//!
//! Left out of what kube-proxy writes: the `nfacct` counters, which kube-proxy leaves out too where the kernel
//! has no such object. Added: `KUBE-FIREWALL`, which on other nodes kubelet owns, since `route_localnet` needs it.
//!
//! The cost of compiling follows the change: a Service whose entry is the same object as last time is not looked
//! at, and of the chains that all Services share, lists of pointers, only those that it has a rule in are made anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::ordmap::DiffItem;

use super::ruleset::{Rule, Rules, Ruleset, Table};
use super::service::{Fragment, SHARED, Shared};
use crate::model::ObjectName;
use crate::plan::service_table::{NodeFacts, NodePortAddresses, ServiceTable};

/// Jumps from built-in chains, in kube-proxy's order.
const FILTER_HOOKS: [(&str, &[&str]); 3] = [
    (
        "INPUT",
        &[
            "-j KUBE-FIREWALL",
            r#"-m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL"#,
            r#"-m comment --comment "kubernetes health check service ports" -j KUBE-NODEPORTS"#,
            r#"-m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES"#,
        ],
    ),
    (
        "FORWARD",
        &[
            r#"-m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL"#,
            r#"-m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD"#,
            r#"-m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES"#,
            r#"-m conntrack --ctstate NEW -m comment --comment "kubernetes externally-visible service portals" -j KUBE-EXTERNAL-SERVICES"#,
        ],
    ),
    (
        "OUTPUT",
        &[
            "-j KUBE-FIREWALL",
            r#"-m conntrack --ctstate NEW -m comment --comment "kubernetes load balancer firewall" -j KUBE-PROXY-FIREWALL"#,
            r#"-m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES"#,
        ],
    ),
];

const NAT_HOOKS: [(&str, &[&str]); 3] = [
    (
        "PREROUTING",
        &[r#"-m comment --comment "kubernetes service portals" -j KUBE-SERVICES"#],
    ),
    (
        "OUTPUT",
        &[r#"-m comment --comment "kubernetes service portals" -j KUBE-SERVICES"#],
    ),
    (
        "POSTROUTING",
        &[r#"-m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING"#],
    ),
];

/// `route_localnet` makes 127.0.0.1 reachable from the network (CVE-2020-8558); this takes that back.
const FIREWALL: [&str; 1] = [
    r#"! -s 127.0.0.0/8 -d 127.0.0.0/8 -m comment --comment "block incoming localnet connections" -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP"#,
];

/// Packets that conntrack cannot place would pass un-translated and reset the connection at the far end. Left out
/// where `nf_conntrack_tcp_be_liberal` lets conntrack place them.
const DROP_INVALID: &str = "-m conntrack --ctstate INVALID -j DROP";

const FORWARD: [&str; 2] = [
    r#"-m comment --comment "kubernetes forwarding rules" -m mark --mark 0x4000/0x4000 -j ACCEPT"#,
    r#"-m comment --comment "kubernetes forwarding conntrack rule" -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"#,
];

const MARK_MASQ: [&str; 1] = ["-j MARK --set-xmark 0x4000/0x4000"];

/// The mark is cleared before masquerading, since an encapsulated packet passes here a second time.
const POSTROUTING: [&str; 3] = [
    "-m mark ! --mark 0x4000/0x4000 -j RETURN",
    "-j MARK --set-xmark 0x4000/0x0",
    r#"-m comment --comment "kubernetes service traffic requiring SNAT" -j MASQUERADE --random-fully"#,
];

/// Empty, in every table: that it is gone says that somebody has flushed rules.
const CANARY: &str = "KUBE-PROXY-CANARY";

/// Compiles tables, remembering what each Service compiled to.
#[derive(Debug, Default)]
pub struct Compiler {
    seen: Option<ServiceTable>,
    fragments: BTreeMap<ObjectName, Fragment>,
    ruleset: Ruleset,
}

impl Compiler {
    /// The whole ruleset of a table. The same table gives the same ruleset, whatever was compiled before.
    pub fn compile(&mut self, table: &ServiceTable) -> Ruleset {
        if self.seen.as_ref().is_none_or(|seen| seen.node != table.node) {
            self.restart(&table.node);
        }
        let before = self.seen.replace(table.clone());
        let before = before.map(|seen| seen.services).unwrap_or_default();
        let mut touched = [false; SHARED.len()];
        for item in before.diff(&table.services) {
            let (name, fragment) = match item {
                DiffItem::Add(name, entry) | DiffItem::Update { new: (name, entry), .. } => {
                    (name, Some(Fragment::compile(entry, &table.node)))
                }
                DiffItem::Remove(name, _) => (name, None),
            };
            self.replace(name, fragment, &mut touched);
        }
        for (shared, touched) in SHARED.into_iter().zip(touched) {
            if touched {
                self.gather(shared, &table.node);
            }
        }
        self.ruleset.clone()
    }

    /// Everything that does not depend on Services.
    fn restart(&mut self, node: &NodeFacts) {
        *self = Self::default();
        let ruleset = &mut self.ruleset;
        for table in Table::ALL {
            ruleset.table_mut(table).insert(CANARY.into(), Rules::default());
        }
        let invalid = (!node.conntrack_tcp_liberal).then_some(DROP_INVALID);
        let forward: Vec<&str> = invalid.into_iter().chain(FORWARD).collect();
        let filter = ruleset.table_mut(Table::Filter);
        filter.hooks = hooks(&FILTER_HOOKS);
        filter.insert("KUBE-FIREWALL".into(), fixed(&FIREWALL));
        filter.insert("KUBE-FORWARD".into(), fixed(&forward));
        let nat = ruleset.table_mut(Table::Nat);
        nat.hooks = hooks(&NAT_HOOKS);
        nat.insert("KUBE-MARK-MASQ".into(), fixed(&MARK_MASQ));
        nat.insert("KUBE-POSTROUTING".into(), fixed(&POSTROUTING));
        for shared in SHARED {
            self.gather(shared, node);
        }
    }

    /// Puts a Service's new chains in the place of its old ones, and notes which shared chains that concerns.
    fn replace(&mut self, name: &ObjectName, new: Option<Fragment>, touched: &mut [bool; SHARED.len()]) {
        let old = self.fragments.remove(name).unwrap_or_default();
        let fragment = new.unwrap_or_default();
        for (touched, shared) in touched.iter_mut().zip(SHARED) {
            *touched |= old.shared(shared) != fragment.shared(shared);
        }
        let nat = self.ruleset.table_mut(Table::Nat);
        for chain in old
            .nat_chains
            .keys()
            .filter(|chain| !fragment.nat_chains.contains_key(*chain))
        {
            nat.remove(chain);
        }
        for (chain, rules) in &fragment.nat_chains {
            if nat.chains.get(chain) != Some(rules) {
                nat.insert(chain.clone(), rules.clone());
            }
        }
        if fragment != Fragment::default() {
            self.fragments.insert(name.clone(), fragment);
        }
    }

    /// Collects the rules of all Services for a chain that they share.
    fn gather(&mut self, shared: Shared, node: &NodeFacts) {
        let rules = self
            .fragments
            .values()
            .flat_map(|fragment| fragment.shared(shared))
            .cloned();
        let last = if shared == Shared::NatServices {
            to_node_ports(node)
        } else {
            Vec::new()
        };
        let rules = rules.chain(last).collect();
        let (table, chain) = shared.chain();
        self.ruleset.table_mut(table).insert(chain.into(), Arc::new(rules));
    }
}

/// Jumps to the node ports, for the addresses at which they are open. They come last, so that a Service's own
/// address wins where a node has it too.
fn to_node_ports(node: &NodeFacts) -> Vec<Rule> {
    const COMMENT: &str =
        r#"-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain""#;
    match &node.node_port_addresses {
        NodePortAddresses::All => vec![format!("{COMMENT} -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS").into()],
        NodePortAddresses::Only(addresses) => addresses
            .iter()
            .map(|address| format!("-d {address}/32 {COMMENT} -j KUBE-NODEPORTS").into())
            .collect(),
    }
}

fn fixed(rules: &[&str]) -> Rules {
    Arc::new(rules.iter().map(|rule| Rule::from(*rule)).collect())
}

fn hooks(hooks: &[(&str, &[&str])]) -> BTreeMap<String, Vec<String>> {
    hooks
        .iter()
        .map(|(chain, rules)| {
            (
                (*chain).to_owned(),
                rules.iter().map(|rule| (*rule).to_owned()).collect(),
            )
        })
        .collect()
}
