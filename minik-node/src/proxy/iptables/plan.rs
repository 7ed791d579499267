//! What to write so that an observed ruleset becomes the desired one: pure, and a value that prints as the
//! input of one `iptables-restore --noflush`.
//!
//! Like kube-proxy's partial sync: a chain that is declared is flushed and filled again, a chain that is not
//! mentioned stays. In a long chain of which little differs, single rules are deleted and inserted instead. Every
//! prefix of the text leaves no jump to a missing chain: chains are declared before they are filled, hooks are set
//! after that, and stale chains go last, when nothing jumps to them.
//!
//! Each table is committed on its own, and between two commits packets flow. What refuses traffic (filter) is
//! therefore written before, and what no longer has to refuse it is taken away after, the translation (nat):
//! at every moment a Service is balanced or refused. Neither would send a connection to the default route,
//! where its first packet is lost and the next one follows a second later.
//!
//! One commit may be cut into several ([`Plan::commits`]), from the endpoints' chains upwards: `iptables-nft-restore`
//! searches a list of all chains of a commit for every rule of it, so its time grows with their square.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use imbl::ordmap::DiffItem;

use super::ruleset::{Rule, Rules, Ruleset, Table, TableRules, jump_target};

/// Chains that exist for one Service only, and therefore go with it, each before those that jump to it. Other
/// `KUBE-` chains may be another program's (kubelet's canary) and are left alone.
pub(super) const PER_SERVICE: [&str; 5] = ["KUBE-SEP-", "KUBE-SVC-", "KUBE-SVL-", "KUBE-EXT-", "KUBE-FW-"];

/// The difference between two rulesets. Displays as `iptables-restore` input; empty when there is none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Plan {
    /// Commits, in order.
    steps: Vec<(Table, TablePlan)>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct TablePlan {
    /// Chains that are new or differ, to be filled anew.
    write: BTreeMap<Arc<str>, Rules>,
    /// Chains of which little differs.
    edit: BTreeMap<Arc<str>, Edit>,
    /// Built-in chains whose jumps to ours are missing, doubled or in the wrong order.
    hooks: BTreeMap<String, HookFix>,
    /// Chains of Services and endpoints that are gone.
    remove: BTreeSet<Arc<str>>,
}

/// Takes all our jumps out of a built-in chain and puts them on top, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
struct HookFix {
    delete: Vec<String>,
    insert: Vec<String>,
}

/// Rules to take out of a chain, and then rules to put in, the first of them at the number `at`, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Edit {
    delete: Vec<Rule>,
    at: usize,
    insert: Vec<Rule>,
}

impl Plan {
    /// Compares what is with what should be. Costs what differs where `desired` was made from `observed`.
    #[must_use]
    pub fn new(observed: &Ruleset, desired: &Ruleset) -> Self {
        let (before, after) = (observed.table(Table::Filter), desired.table(Table::Filter));
        let both = joined(before, after);
        let whole = |table| TablePlan::new(observed.table(table), desired.table(table));
        let steps = [
            (Table::Mangle, whole(Table::Mangle)),
            (Table::Filter, TablePlan::new(before, &both)),
            (Table::Nat, whole(Table::Nat)),
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
            .flat_map(|(_, plan)| plan.write.keys().map(AsRef::as_ref))
    }

    /// Names of the chains that will be removed.
    pub fn removed_chains(&self) -> impl Iterator<Item = &str> {
        self.steps
            .iter()
            .flat_map(|(_, plan)| plan.remove.iter().map(AsRef::as_ref))
    }

    /// Number of rules that will be written into chains of ours in a table.
    #[must_use]
    pub fn rules_written(&self, table: Table) -> usize {
        let of_table = self.steps.iter().filter(|(of, _)| *of == table);
        of_table.map(|(_, plan)| plan.rules_written()).sum()
    }

    /// The same in commits of at most `chains` chains of Services each, as `iptables-restore` input.
    #[must_use]
    pub fn commits(&self, chains: usize) -> String {
        let cut = |(table, plan): &(Table, TablePlan)| {
            let parts = plan.cut(chains);
            parts.into_iter().map(|part| (*table, part)).collect::<Vec<_>>()
        };
        let steps = self.steps.iter().flat_map(cut).collect();
        Self { steps }.to_string()
    }
}

/// What is desired, and behind it in every chain what is there and no longer desired.
fn joined(observed: &TableRules, desired: &TableRules) -> TableRules {
    let mut both = desired.clone();
    for item in observed.chains.diff(&desired.chains) {
        let DiffItem::Update {
            old: (_, there),
            new: (chain, rules),
        } = item
        else {
            continue;
        };
        let wanted: BTreeSet<&Rule> = rules.iter().collect();
        let leaving: Vec<Rule> = there.iter().filter(|rule| !wanted.contains(rule)).cloned().collect();
        if !leaving.is_empty() {
            let all = rules.iter().cloned().chain(leaving).collect();
            both.insert(chain.clone(), Arc::new(all));
        }
    }
    both
}

impl TablePlan {
    fn new(observed: &TableRules, desired: &TableRules) -> Self {
        let mut plan = Self {
            hooks: hook_fixes(observed, desired),
            ..Self::default()
        };
        for item in observed.chains.diff(&desired.chains) {
            match item {
                DiffItem::Add(chain, rules) => drop(plan.write.insert(chain.clone(), rules.clone())),
                DiffItem::Update {
                    old: (_, old),
                    new: (chain, rules),
                } => match Edit::new(old, rules) {
                    Some(edit) => drop(plan.edit.insert(chain.clone(), edit)),
                    None => drop(plan.write.insert(chain.clone(), rules.clone())),
                },
                DiffItem::Remove(chain, _) if height(chain).is_some() => drop(plan.remove.insert(chain.clone())),
                DiffItem::Remove(..) => {}
            }
        }
        plan
    }

    fn rules_written(&self) -> usize {
        let whole = self.write.values().map(|rules| rules.len()).sum::<usize>();
        let edited = self.edit.values().map(|edit| edit.insert.len()).sum::<usize>();
        whole + edited
    }

    /// In parts that each leave every jump leading somewhere: what endpoints' chains jump to, chains of Services
    /// upwards, then everything that leads to them, then what is gone, downwards.
    fn cut(&self, chains: usize) -> Vec<Self> {
        let part = |write: &[(Arc<str>, Rules)]| Self {
            write: write.iter().cloned().collect(),
            ..Self::default()
        };
        let write = self.write.iter().map(|(chain, rules)| (chain.clone(), rules.clone()));
        let (mut own, shared): (Vec<_>, Vec<_>) = write.partition(|(chain, _)| height(chain).is_some());
        own.sort_by_key(|(chain, _)| height(chain));
        let mut gone: Vec<_> = self.remove.iter().cloned().collect();
        gone.sort_by_key(|chain| std::cmp::Reverse(height(chain)));
        if own.len() + gone.len() <= chains {
            return vec![self.clone()];
        }
        let (ground, leading): (Vec<_>, Vec<_>) = shared.into_iter().partition(|(_, rules)| leads_nowhere(rules));
        let top = Self {
            write: leading.into_iter().collect(),
            edit: self.edit.clone(),
            hooks: self.hooks.clone(),
            remove: BTreeSet::new(),
        };
        let removals = gone.chunks(chains).map(|gone| Self {
            remove: gone.iter().cloned().collect(),
            ..Self::default()
        });
        let parts = std::iter::once(part(&ground)).chain(own.chunks(chains).map(part));
        let parts = parts.chain([top]).chain(removals);
        parts.filter(|part| *part != Self::default()).collect()
    }
}

/// Whether no rule jumps to a chain of ours.
fn leads_nowhere(rules: &Rules) -> bool {
    let ours = |rule: &Rule| jump_target(rule).is_some_and(|target| target.starts_with("KUBE-"));
    !rules.iter().any(ours)
}

/// How far above the endpoints' chains a Service's chain is; `None` for chains that are not one Service's.
pub(super) fn height(chain: &str) -> Option<usize> {
    PER_SERVICE.iter().position(|prefix| chain.starts_with(prefix))
}

impl Edit {
    /// `None` where filling the chain anew is no more work, or where a rule to delete is there twice: it is named by
    /// its text, since a number may mean another rule by the time.
    fn new(old: &[Rule], new: &[Rule]) -> Option<Self> {
        const SHORT: usize = 32;
        let same = |(old, new): &(&Rule, &Rule)| Arc::ptr_eq(old, new) || old == new;
        let before = old.iter().zip(new).take_while(same).count();
        let left = old.len().min(new.len()) - before;
        let after = old
            .iter()
            .rev()
            .zip(new.iter().rev())
            .take(left)
            .take_while(same)
            .count();
        let (delete, insert) = (&old[before..old.len() - after], &new[before..new.len() - after]);
        let twice = |rule: &Rule| old.iter().filter(|other| *other == rule).count() > 1;
        let much = new.len() < SHORT || (delete.len() + insert.len()) * 4 > new.len();
        (!much && !delete.iter().any(twice)).then(|| Self {
            delete: delete.to_vec(),
            at: before + 1,
            insert: insert.to_vec(),
        })
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
        for (chain, edit) in &self.edit {
            for rule in &edit.delete {
                writeln!(f, "-D {chain} {rule}")?;
            }
            for (index, rule) in edit.insert.iter().enumerate() {
                writeln!(f, "-I {chain} {} {rule}", edit.at + index)?;
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
