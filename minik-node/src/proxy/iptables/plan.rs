//! What to write so that an observed ruleset becomes the desired one: pure, and a value that prints as the
//! input of one `iptables-restore --noflush`.
//!
//! Like kube-proxy's partial sync: a chain that is declared is flushed and filled again, a chain that is not
//! mentioned stays. Every prefix of the text leaves no jump to a missing chain: all chains are declared
//! first, hooks are set after the chains are filled, and stale chains go last, when nothing jumps to them.
//!
//! Each table is committed on its own, and between two commits packets flow. What refuses traffic (filter) is
//! therefore written before, and what no longer has to refuse it is taken away after, the translation (nat):
//! at every moment a Service is balanced or refused. Neither would send a connection to the default route,
//! where its first packet is lost and the next one follows a second later.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use super::ruleset::{Rules, Ruleset, Table, TableRules, jump_target};

/// Chains that exist for one Service only, and therefore go with it. Other `KUBE-` chains may be another
/// program's (kubelet's and kube-proxy's canaries) and are left alone.
const PER_SERVICE: [&str; 5] = ["KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-", "KUBE-SEP-"];

/// The difference between two rulesets. Displays as `iptables-restore` input; empty when there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Commits, in order.
    steps: Vec<(Table, TablePlan)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct TablePlan {
    /// Chains that are new or differ.
    write: BTreeMap<String, Rules>,
    /// Built-in chains whose jumps to ours are missing, doubled or in the wrong order.
    hooks: BTreeMap<String, HookFix>,
    /// Chains of Services and endpoints that are gone.
    remove: BTreeSet<String>,
}

/// Takes all our jumps out of a built-in chain and puts them on top, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HookFix {
    delete: Vec<String>,
    insert: Vec<String>,
}

impl Plan {
    /// Compares what is with what should be.
    #[must_use]
    pub fn new(observed: &Ruleset, desired: &Ruleset) -> Self {
        let (before, after) = (observed.table(Table::Filter), desired.table(Table::Filter));
        let both = joined(before, after);
        let steps = [
            (Table::Filter, TablePlan::new(before, &both)),
            (
                Table::Nat,
                TablePlan::new(observed.table(Table::Nat), desired.table(Table::Nat)),
            ),
            (Table::Filter, TablePlan::new(&both, after)),
        ];
        Self {
            steps: steps
                .into_iter()
                .filter(|(_, plan)| *plan != TablePlan::default())
                .collect(),
        }
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Names of the chains that will be filled anew.
    pub fn written_chains(&self) -> impl Iterator<Item = &str> {
        self.steps
            .iter()
            .flat_map(|(_, plan)| plan.write.keys().map(String::as_str))
    }

    /// Names of the chains that will be removed.
    pub fn removed_chains(&self) -> impl Iterator<Item = &str> {
        self.steps
            .iter()
            .flat_map(|(_, plan)| plan.remove.iter().map(String::as_str))
    }
}

/// What is desired, and behind it in every chain what is there and no longer desired.
fn joined(observed: &TableRules, desired: &TableRules) -> TableRules {
    let mut both = desired.clone();
    for (chain, rules) in &mut both.chains {
        let there = observed.chains.get(chain).into_iter().flat_map(|rules| rules.iter());
        let leaving: Vec<String> = there.filter(|rule| !rules.contains(rule)).cloned().collect();
        if !leaving.is_empty() {
            *rules = Arc::new(rules.iter().cloned().chain(leaving).collect());
        }
    }
    both
}

impl TablePlan {
    fn new(observed: &TableRules, desired: &TableRules) -> Self {
        let differs = |(chain, rules): &(&String, &Rules)| observed.chains.get(*chain) != Some(*rules);
        let write = desired
            .chains
            .iter()
            .filter(differs)
            .map(|(chain, rules)| (chain.clone(), rules.clone()));
        let per_service = |chain: &&String| PER_SERVICE.iter().any(|prefix| chain.starts_with(prefix));
        let stale = |chain: &&String| !desired.chains.contains_key(*chain) && per_service(chain);
        Self {
            write: write.collect(),
            remove: observed.chains.keys().filter(stale).cloned().collect(),
            hooks: hook_fixes(observed, desired),
        }
    }
}

/// Jumps count as ours when they lead to a chain that we desire; those of other programs stay where they are.
fn hook_fixes(observed: &TableRules, desired: &TableRules) -> BTreeMap<String, HookFix> {
    let builtins: BTreeSet<&String> = observed.hooks.keys().chain(desired.hooks.keys()).collect();
    let ours = |rule: &&String| jump_target(rule).is_some_and(|target| desired.chains.contains_key(target));
    let fix = |builtin: &String| {
        let delete: Vec<String> = observed
            .hooks
            .get(builtin)
            .into_iter()
            .flatten()
            .filter(ours)
            .cloned()
            .collect();
        let insert = desired.hooks.get(builtin).cloned().unwrap_or_default();
        (delete != insert).then_some(HookFix { delete, insert })
    };
    builtins
        .into_iter()
        .filter_map(|builtin| Some((builtin.clone(), fix(builtin)?)))
        .collect()
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (table, plan) in &self.steps {
            writeln!(f, "*{table}\n{plan}COMMIT")?;
        }
        Ok(())
    }
}

impl fmt::Display for TablePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chain in self.write.keys().chain(&self.remove) {
            writeln!(f, ":{chain} - [0:0]")?;
        }
        for (chain, rules) in &self.write {
            for rule in rules.iter() {
                writeln!(f, "-A {chain} {rule}")?;
            }
        }
        for (chain, fix) in &self.hooks {
            for rule in &fix.delete {
                writeln!(f, "-D {chain} {rule}")?;
            }
            for (index, rule) in fix.insert.iter().enumerate() {
                writeln!(f, "-I {chain} {} {rule}", index + 1)?;
            }
        }
        for chain in &self.remove {
            writeln!(f, "-X {chain}")?;
        }
        Ok(())
    }
}
