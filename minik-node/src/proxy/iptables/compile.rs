//! Service table in, canonical ruleset out. Pure: chains, rules, order and comments are kube-proxy's.
//!
//! Left out of what kube-proxy writes: its canary chains, which exist only to notice a flush (a resync
//! notices it here), and the `nfacct` counters, which kube-proxy leaves out too where the kernel has no such
//! object. Added: `KUBE-FIREWALL`, which on other nodes kubelet owns, since `route_localnet` needs it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::ruleset::{Rules, Ruleset, Table};
use super::service::Fragment;
use crate::model::ObjectName;
use crate::plan::service_table::{NodeFacts, ServiceEntry, ServiceTable};

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

/// Packets that conntrack cannot place would pass un-translated and reset the connection at the far end.
const FORWARD: [&str; 3] = [
    "-m conntrack --ctstate INVALID -j DROP",
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

/// Node ports come last, so that a Service's own address wins where a node has it too.
const NODEPORTS_LAST: &str = r#"-m comment --comment "kubernetes service nodeports; NOTE: this must be the last rule in this chain" -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS"#;

/// Compiles tables, remembering what each Service compiled to: a Service whose entry is the same object as
/// last time is not compiled again.
#[derive(Debug, Default)]
pub struct Compiler {
    node: Option<NodeFacts>,
    fragments: BTreeMap<ObjectName, (Arc<ServiceEntry>, Fragment)>,
}

impl Compiler {
    /// The whole ruleset of a table. The same table gives the same ruleset, whatever was compiled before.
    pub fn compile(&mut self, table: &ServiceTable) -> Ruleset {
        if self.node.as_ref() != Some(&table.node) {
            self.fragments.clear();
            self.node = Some(table.node.clone());
        }
        self.fragments.retain(|service, _| table.services.contains_key(service));
        for (service, entry) in &table.services {
            let known = self
                .fragments
                .get(service)
                .is_some_and(|(known, _)| Arc::ptr_eq(known, entry));
            if !known {
                let fragment = Fragment::compile(entry, &table.node);
                self.fragments.insert(service.clone(), (entry.clone(), fragment));
            }
        }
        self.assemble()
    }

    fn assemble(&self) -> Ruleset {
        let gather = |part: fn(&Fragment) -> &Vec<String>| -> Vec<String> {
            self.fragments
                .values()
                .flat_map(|(_, fragment)| part(fragment))
                .cloned()
                .collect()
        };
        let mut ruleset = Ruleset::default();
        let filter = ruleset.table_mut(Table::Filter);
        filter.hooks = hooks(&FILTER_HOOKS);
        filter.chains = BTreeMap::from([
            ("KUBE-FIREWALL".to_owned(), fixed(&FIREWALL)),
            ("KUBE-FORWARD".to_owned(), fixed(&FORWARD)),
            (
                "KUBE-SERVICES".to_owned(),
                Arc::new(gather(|fragment| &fragment.filter_services)),
            ),
            (
                "KUBE-EXTERNAL-SERVICES".to_owned(),
                Arc::new(gather(|fragment| &fragment.filter_external)),
            ),
            (
                "KUBE-NODEPORTS".to_owned(),
                Arc::new(gather(|fragment| &fragment.filter_node_ports)),
            ),
            (
                "KUBE-PROXY-FIREWALL".to_owned(),
                Arc::new(gather(|fragment| &fragment.filter_firewall)),
            ),
        ]);
        let mut services = gather(|fragment| &fragment.nat_services);
        services.push(NODEPORTS_LAST.to_owned());
        let nat = ruleset.table_mut(Table::Nat);
        nat.hooks = hooks(&NAT_HOOKS);
        nat.chains = BTreeMap::from([
            ("KUBE-MARK-MASQ".to_owned(), fixed(&MARK_MASQ)),
            ("KUBE-POSTROUTING".to_owned(), fixed(&POSTROUTING)),
            ("KUBE-SERVICES".to_owned(), Arc::new(services)),
            (
                "KUBE-NODEPORTS".to_owned(),
                Arc::new(gather(|fragment| &fragment.nat_node_ports)),
            ),
        ]);
        let own = self.fragments.values().flat_map(|(_, fragment)| &fragment.nat_chains);
        nat.chains
            .extend(own.map(|(chain, rules)| (chain.clone(), rules.clone())));
        ruleset
    }
}

fn fixed(rules: &[&str]) -> Rules {
    Arc::new(rules.iter().map(|rule| (*rule).to_owned()).collect())
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
