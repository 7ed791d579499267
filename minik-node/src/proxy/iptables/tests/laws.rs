//! Laws of rulesets and plans, over random clusters and over rules that somebody else has disturbed. The
//! kernel is stood in for by a small interpreter of `iptables-restore` text, strict where the kernel is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use proptest::prelude::*;

use super::node;
use crate::plan::service_table::ServiceTable;
use crate::proxy::iptables::compile::Compiler;
use crate::proxy::iptables::plan::Plan;
use crate::proxy::iptables::ruleset::{Ruleset, jump_target};
use crate::view::ClusterView;
use crate::view::testing;

/// Chains of all tables, built-in ones included, as the kernel has them.
type Chains = BTreeMap<(String, String), Vec<String>>;

const TARGETS: [&str; 7] = ["ACCEPT", "DROP", "REJECT", "RETURN", "MARK", "MASQUERADE", "DNAT"];

/// What the kernel holds for a ruleset.
fn chains(ruleset: &Ruleset) -> Chains {
    let mut chains = Chains::new();
    run(&mut chains, &ruleset.to_string());
    chains
}

/// Interprets restore text with `--noflush`. Panics where the kernel refuses, and on a jump to a chain that
/// is not there at that point.
fn run(chains: &mut Chains, text: &str) {
    let mut table = String::new();
    for line in text.lines() {
        let (verb, rest) = line.split_once(' ').unwrap_or((line, ""));
        let key = |chain: &str| (table.clone(), chain.to_owned());
        match verb {
            "COMMIT" => {}
            _ if line.starts_with('*') => table = line[1..].to_owned(),
            _ if line.starts_with(':') => drop(chains.insert(key(&verb[1..]), Vec::new())),
            "-A" => {
                let (chain, rule) = rest.split_once(' ').expect("a rule");
                chain_of(chains, key(chain)).push(rule.to_owned());
            }
            "-I" => {
                let mut words = rest.splitn(3, ' ');
                let (chain, number) = (words.next().expect("a chain"), words.next().expect("a number"));
                let number: usize = number.parse().expect("a number");
                chain_of(chains, key(chain)).insert(number - 1, words.next().expect("a rule").to_owned());
            }
            "-D" => {
                let (chain, rule) = rest.split_once(' ').expect("a rule");
                let rules = chain_of(chains, key(chain));
                let index = rules
                    .iter()
                    .position(|known| known == rule)
                    .expect("a rule to delete is there");
                rules.remove(index);
            }
            "-X" => {
                let removed = chains.remove(&key(rest)).expect("a chain to remove is there");
                assert!(removed.is_empty(), "{rest} is removed while it has rules");
            }
            _ => panic!("{line}"),
        }
        for ((table, chain), rules) in chains.iter() {
            for target in rules.iter().filter_map(|rule| jump_target(rule)) {
                let known = TARGETS.contains(&target) || chains.contains_key(&(table.clone(), target.to_owned()));
                assert!(known, "after `{line}`: {chain} jumps to {target}, which is not there");
            }
        }
    }
}

fn chain_of(chains: &mut Chains, key: (String, String)) -> &mut Vec<String> {
    if !key.1.starts_with("KUBE-") {
        return chains.entry(key).or_default();
    }
    chains.get_mut(&key).expect("a chain is declared before it is filled")
}

fn observe(chains: &Chains) -> Ruleset {
    let mut text = String::new();
    for table in ["filter", "nat", "mangle"] {
        let own = || chains.iter().filter(|((of, _), _)| of == table);
        writeln!(text, "*{table}").expect("text grows");
        own().for_each(|((_, chain), _)| writeln!(text, ":{chain} - [0:0]").expect("text grows"));
        for ((_, chain), rules) in own() {
            rules
                .iter()
                .for_each(|rule| writeln!(text, "-A {chain} {rule}").expect("text grows"));
        }
        writeln!(text, "COMMIT").expect("text grows");
    }
    Ruleset::parse(&text).expect("what is written parses")
}

/// A cluster of a few Services of every kind. A number stands for a kind, so that two clusters often have a
/// Service in common that differs in its endpoints alone.
fn cluster() -> impl Strategy<Value = ClusterView> {
    let service = (any::<[bool; 4]>(), proptest::collection::vec((0u8..6, 0u8..4), 0..5));
    proptest::collection::btree_map(0u8..6, service, 0..6).prop_map(|services| {
        let text = services
            .into_iter()
            .map(|(kind, (flags, endpoints))| manifest(kind, (kind, flags, endpoints)));
        testing::view(Some("n1"), &text.collect::<String>())
    })
}

fn manifest(number: u8, (kind, flags, endpoints): (u8, [bool; 4], Vec<(u8, u8)>)) -> String {
    let [internal, external, sticky, external_ips] = flags;
    let policy = |local| if local { "Local" } else { "Cluster" };
    let mut spec = format!(
        "internalTrafficPolicy: {}, externalTrafficPolicy: {}",
        policy(internal),
        policy(external)
    );
    let (port, status) = match kind {
        0 => ("{port: 80}".to_owned(), ""),
        1 => (format!("{{port: 80, nodePort: {}}}", 30_000 + u16::from(number)), ""),
        2 => ("{port: 53, protocol: UDP}".to_owned(), ""),
        3 => ("{port: 9, protocol: SCTP}".to_owned(), ""),
        _ => {
            spec.push_str(", type: LoadBalancer, healthCheckNodePort: 32000");
            if kind == 5 {
                spec.push_str(", loadBalancerSourceRanges: [192.0.2.0/24, 0.0.0.0/0]");
            }
            (
                format!("{{port: 80, nodePort: {}}}", 30_000 + u16::from(number)),
                "{ip: 198.51.100.1}",
            )
        }
    };
    if sticky {
        spec.push_str(", sessionAffinity: ClientIP");
    }
    if external_ips {
        spec.push_str(", externalIPs: [203.0.113.7]");
    }
    let protocol = ["TCP", "TCP", "UDP", "SCTP", "TCP", "TCP"][usize::from(kind)];
    let endpoints: String = endpoints
        .iter()
        .map(|(host, state)| {
            let conditions = [
                "{ready: true}",
                "{ready: false, serving: true, terminating: true}",
                "{ready: false, serving: false}",
            ];
            let conditions = conditions.get(usize::from(*state)).unwrap_or(&"{}");
            format!(
                "- {{addresses: [10.244.{number}.{host}], nodeName: n{}, conditions: {conditions}}}\n",
                host % 3
            )
        })
        .collect();
    format!(
        "---\nkind: Service\nmetadata: {{namespace: d, name: s{number}}}\nspec: {{clusterIP: 10.96.0.{number}, {spec}, ports: [{port}]}}\nstatus: {{loadBalancer: {{ingress: [{status}]}}}}\n\
         ---\nkind: EndpointSlice\nmetadata: {{namespace: d, name: s{number}-1, labels: {{kubernetes.io/service-name: s{number}}}}}\n\
         addressType: IPv4\nports: [{{name: '', port: 8080, protocol: {protocol}}}]\nendpoints:\n{endpoints}"
    )
}

fn facts() -> crate::plan::service_table::NodeFacts {
    node("n1", "192.0.2.1", "10.244.0.0/16")
}

fn rules(view: &ClusterView) -> Ruleset {
    Compiler::default().compile(&ServiceTable::full(view, facts()))
}

/// What other hands may do to a ruleset: each bit of `damage` hits some chain or hook.
fn disturb(chains: &mut Chains, damage: u64) {
    let keys: Vec<_> = chains.keys().cloned().collect();
    for (index, key) in keys
        .iter()
        .enumerate()
        .filter(|(index, _)| damage & (1 << (index % 64)) != 0)
    {
        let Some(rules) = chains.get_mut(key) else {
            continue;
        };
        match index % 3 {
            0 => rules.clear(),
            1 => rules.reverse(),
            _ => rules.push("-m comment --comment stray -j DROP".to_owned()),
        }
    }
    let foreign = ("filter".to_owned(), "INPUT".to_owned());
    chains
        .entry(foreign)
        .or_default()
        .insert(0, "-p tcp -j ACCEPT".to_owned());
    chains.insert(("nat".to_owned(), "KUBE-KUBELET-CANARY".to_owned()), Vec::new());
}

/// The chains that a plan answers for: all but the kubelet's canary, and in built-in chains our jumps alone.
fn ours(chains: &Chains) -> Ruleset {
    let mut chains = chains.clone();
    chains.remove(&("nat".to_owned(), "KUBE-KUBELET-CANARY".to_owned()));
    observe(&chains)
}

/// Cluster IPs with protocol and port that some rule balances or refuses.
fn answered(chains: &Chains) -> BTreeSet<String> {
    let services = ["filter", "nat"].map(|table| (table.to_owned(), "KUBE-SERVICES".to_owned()));
    let rules = services.iter().flat_map(|key| chains.get(key).into_iter().flatten());
    let way = |rule: &String| {
        let after = |flag: &str| rule.split_once(flag)?.1.split(' ').next();
        Some(format!("{} {} {}", after("-d ")?, after("-p ")?, after("--dport ")?))
    };
    rules.filter_map(way).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Tables are committed one by one; a Service that is answered before and after is answered between.
    #[test]
    fn no_service_goes_unanswered_between_two_commits(from in cluster(), to in cluster(), cut in 1usize..20) {
        let mut kernel = chains(&rules(&from));
        let desired = rules(&to);
        let always: BTreeSet<String> =
            answered(&kernel).intersection(&answered(&chains(&desired))).cloned().collect();
        let plan = Plan::new(&observe(&kernel), &desired).commits(cut);
        for commit in plan.split_inclusive("COMMIT\n") {
            run(&mut kernel, commit);
            let now = answered(&kernel);
            prop_assert!(always.is_subset(&now), "{:?} after\n{}", always.difference(&now), commit);
        }
    }

    /// From any cluster to any other, however the rules were disturbed: one plan leads there, jumps nowhere
    /// at any line, leaves foreign rules alone, and nothing remains to be done.
    #[test]
    fn a_plan_leads_where_it_should(from in cluster(), to in cluster(), damage in any::<u64>(), cut in 1usize..20) {
        let mut kernel = chains(&rules(&from));
        disturb(&mut kernel, damage);
        let desired = rules(&to);
        let plan = Plan::new(&observe(&kernel), &desired);
        run(&mut kernel, &plan.commits(cut));
        prop_assert_eq!(&ours(&kernel), &desired);
        prop_assert!(kernel[&("filter".to_owned(), "INPUT".to_owned())].contains(&"-p tcp -j ACCEPT".to_owned()));
        prop_assert!(kernel.contains_key(&("nat".to_owned(), "KUBE-KUBELET-CANARY".to_owned())));
        prop_assert!(Plan::new(&observe(&kernel), &desired).is_empty());
    }

    /// From nothing, however the plan is cut.
    #[test]
    fn an_empty_kernel_is_filled_in_any_number_of_commits(to in cluster(), cut in 1usize..20) {
        let mut kernel = Chains::new();
        let desired = rules(&to);
        run(&mut kernel, &Plan::new(&Ruleset::default(), &desired).commits(cut));
        prop_assert_eq!(observe(&kernel), desired);
    }

    /// Whoever is killed between two commits leaves what the next plan mends.
    #[test]
    fn a_change_applied_by_half_heals(from in cluster(), to in cluster(), cut in 1usize..9, done in 0usize..9) {
        let mut kernel = chains(&rules(&from));
        let desired = rules(&to);
        let plan = Plan::new(&observe(&kernel), &desired).commits(cut);
        plan.split_inclusive("COMMIT\n").take(done).for_each(|commit| run(&mut kernel, commit));
        let rest = Plan::new(&observe(&kernel), &desired).commits(cut);
        run(&mut kernel, &rest);
        prop_assert_eq!(observe(&kernel), desired);
    }

    /// Updating costs what changes and ends where computing anew ends, table and rules alike.
    #[test]
    fn incremental_equals_full(steps in proptest::collection::vec(cluster(), 1..5)) {
        let mut compiler = Compiler::default();
        let mut earlier = testing::view(Some("n1"), "");
        let mut table = ServiceTable::full(&earlier, facts());
        for view in steps {
            table.update(&view, &view.changes_since(&earlier), facts());
            prop_assert_eq!(&table, &ServiceTable::full(&view, facts()));
            prop_assert_eq!(compiler.compile(&table).to_string(), rules(&view).to_string());
            earlier = view;
        }
    }
}

/// One endpoint more rewrites its Service's chain and adds its own; the chains of all Services stay.
#[test]
fn a_plan_names_only_what_changed() {
    let with = |endpoints: Vec<(u8, u8)>| {
        let manifests = [
            manifest(1, (0, [false; 4], endpoints)),
            manifest(2, (1, [false; 4], vec![(1, 0)])),
        ]
        .concat();
        rules(&testing::view(Some("n1"), &manifests))
    };
    let plan = Plan::new(&with(vec![(1, 0), (2, 0)]), &with(vec![(1, 0), (3, 0)]));
    let prefixes = |chains: Vec<&str>| chains.iter().map(|chain| chain[..9].to_owned()).collect::<Vec<_>>();
    assert_eq!(prefixes(plan.written_chains().collect()), ["KUBE-SEP-", "KUBE-SVC-"]);
    assert_eq!(prefixes(plan.removed_chains().collect()), ["KUBE-SEP-"]);
}

#[test]
fn unequal_arcs_of_equal_rules_are_no_change() {
    let view = testing::view(Some("n1"), &manifest(1, (4, [true; 4], vec![(1, 0)])));
    let (once, again) = (rules(&view), rules(&view));
    let shared = |ruleset: &Ruleset| {
        Arc::as_ptr(
            ruleset
                .table(super::super::ruleset::Table::Nat)
                .chains
                .values()
                .next()
                .expect("chains"),
        )
    };
    assert_ne!(shared(&once), shared(&again));
    assert!(Plan::new(&once, &again).is_empty());
}

/// In a chain that many Services share, a Service that comes or goes is a line, not a chain.
#[test]
fn a_long_chain_is_changed_by_the_line() {
    let with = |hosts: &[u8]| {
        let text: String = hosts
            .iter()
            .map(|host| manifest(*host, (0, [false; 4], vec![(1, 0)])))
            .collect();
        rules(&testing::view(Some("n1"), &text))
    };
    let all: Vec<u8> = (10..90).collect();
    let others: Vec<u8> = all.iter().copied().filter(|host| *host != 33).collect();
    for (from, to, verb) in [(&all, &others, "-D"), (&others, &all, "-I")] {
        let (before, after) = (with(from), with(to));
        let plan = Plan::new(&before, &after);
        assert!(!plan.written_chains().any(|chain| chain == "KUBE-SERVICES"), "{plan}");
        let lines = plan.to_string();
        let touched = lines.lines().filter(|line| line.contains(" KUBE-SERVICES "));
        assert!(
            touched.clone().count() == 1 && touched.clone().all(|line| line.starts_with(verb)),
            "{lines}"
        );
        let mut kernel = chains(&before);
        run(&mut kernel, &lines);
        assert_eq!(observe(&kernel), after);
    }
}
