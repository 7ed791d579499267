//! A canonical iptables ruleset: exactly what `iptables-save` prints for the chains that carry our names.
//!
//! Rules are kept in the words and the order in which `iptables-save` prints them, so that a ruleset read
//! back from the kernel compares as text. Pure; what to write is decided in [`super::plan`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use imbl::OrdMap;

/// Prefix of every chain of a Kubernetes proxy. Chains of other names are never looked at.
const OUR_PREFIX: &str = "KUBE-";

/// The tables that a Service proxy uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Rejects and drops.
    Filter,
    /// Balances and masquerades.
    Nat,
    /// Holds a canary, since those who flush rules flush all tables.
    Mangle,
}

impl Table {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Filter, Self::Nat, Self::Mangle];

    fn from_name(name: &str) -> Option<Self> {
        match name {
            "filter" => Some(Self::Filter),
            "nat" => Some(Self::Nat),
            "mangle" => Some(Self::Mangle),
            _ => None,
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
            Self::Mangle => "mangle",
        })
    }
}

/// A rule without its leading `-A CHAIN`. Shared, so that a chain of all Services is a list of pointers.
pub type Rule = Arc<str>;

/// Rules of one chain, in order.
pub type Rules = Arc<Vec<Rule>>;

/// What one table holds of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableRules {
    /// Rules in built-in chains that jump to chains of ours.
    pub hooks: BTreeMap<String, Vec<String>>,
    /// Chains of ours. Persistent: comparing a ruleset with what was made of it costs what differs.
    pub chains: OrdMap<Arc<str>, Rules>,
    /// Rules in `chains`.
    rules: usize,
}

/// What all tables hold of ours. Prints as `iptables-save` does, without the chains that are not ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    filter: TableRules,
    nat: TableRules,
    mangle: TableRules,
}

/// Text that `iptables-save` would not print.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("iptables-save line {number} is not understood: {line}")]
pub struct ParseError {
    /// Line number, from 1.
    pub number: usize,
    /// The line.
    pub line: String,
}

impl Ruleset {
    /// One table.
    #[must_use]
    pub fn table(&self, table: Table) -> &TableRules {
        match table {
            Table::Filter => &self.filter,
            Table::Nat => &self.nat,
            Table::Mangle => &self.mangle,
        }
    }

    /// One table, to be filled.
    pub fn table_mut(&mut self, table: Table) -> &mut TableRules {
        match table {
            Table::Filter => &mut self.filter,
            Table::Nat => &mut self.nat,
            Table::Mangle => &mut self.mangle,
        }
    }

    /// Number of rules, hooks included.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        Table::ALL.iter().map(|table| self.table(*table).rule_count()).sum()
    }

    /// Reads the output of `iptables-save`, keeping what bears our names.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        let mut tables = BTreeMap::<Table, Reading>::new();
        let mut current = None;
        for (index, line) in text.lines().enumerate() {
            let wrong = || ParseError {
                number: index + 1,
                line: line.to_owned(),
            };
            match line.split_at_checked(1) {
                None | Some(("#", _)) => {}
                Some(("*", name)) => current = Table::from_name(name),
                Some((":", declaration)) => {
                    let (chain, _) = declaration.split_once(' ').ok_or_else(wrong)?;
                    if let Some(table) = current {
                        tables.entry(table).or_default().declare(chain);
                    }
                }
                Some(_) if line == "COMMIT" => current = None,
                Some(_) => {
                    let rule = line.strip_prefix("-A ").ok_or_else(wrong)?;
                    let (chain, rule) = rule.split_once(' ').ok_or_else(wrong)?;
                    if let Some(table) = current {
                        tables.entry(table).or_default().append(chain, rule);
                    }
                }
            }
        }
        let mut ruleset = Self::default();
        for (table, reading) in tables {
            *ruleset.table_mut(table) = reading.finish();
        }
        Ok(ruleset)
    }
}

impl TableRules {
    /// Number of rules, hooks included.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        self.rules + self.hooks.values().map(Vec::len).sum::<usize>()
    }

    /// Number of rules in chains of ours, kept and not counted.
    #[must_use]
    pub fn own_rules(&self) -> usize {
        self.rules
    }

    /// Puts a chain in the place of the one of its name.
    pub fn insert(&mut self, chain: Arc<str>, rules: Rules) {
        self.rules += rules.len();
        let old = self.chains.insert(chain, rules);
        self.rules -= old.map_or(0, |rules| rules.len());
    }

    /// Takes a chain out.
    pub fn remove(&mut self, chain: &str) {
        let old = self.chains.remove(chain);
        self.rules -= old.map_or(0, |rules| rules.len());
    }
}

/// A table while it is being read.
#[derive(Debug, Default)]
struct Reading {
    hooks: BTreeMap<String, Vec<String>>,
    chains: BTreeMap<String, Vec<Rule>>,
}

impl Reading {
    fn declare(&mut self, chain: &str) {
        if chain.starts_with(OUR_PREFIX) {
            self.chains.entry(chain.to_owned()).or_default();
        }
    }

    fn append(&mut self, chain: &str, rule: &str) {
        if chain.starts_with(OUR_PREFIX) {
            self.chains.entry(chain.to_owned()).or_default().push(rule.into());
        } else if jump_target(rule).is_some_and(|target| target.starts_with(OUR_PREFIX)) {
            self.hooks.entry(chain.to_owned()).or_default().push(rule.to_owned());
        }
    }

    fn finish(self) -> TableRules {
        let mut table = TableRules {
            hooks: self.hooks,
            ..TableRules::default()
        };
        for (chain, rules) in self.chains {
            table.insert(chain.into(), Arc::new(rules));
        }
        table
    }
}

/// The chain or target that a rule jumps to. Comments come before it, and quote what they contain.
#[must_use]
pub fn jump_target(rule: &str) -> Option<&str> {
    let (_, target) = rule.rsplit_once("-j ")?;
    target.split(' ').next()
}

impl fmt::Display for Ruleset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for table in Table::ALL {
            let rules = self.table(table);
            if *rules == TableRules::default() {
                continue;
            }
            writeln!(f, "*{table}")?;
            for chain in rules.chains.keys() {
                writeln!(f, ":{chain} - [0:0]")?;
            }
            for (chain, rules) in &rules.hooks {
                rules.iter().try_for_each(|rule| writeln!(f, "-A {chain} {rule}"))?;
            }
            for (chain, rules) in &rules.chains {
                rules.iter().try_for_each(|rule| writeln!(f, "-A {chain} {rule}"))?;
            }
            writeln!(f, "COMMIT")?;
        }
        Ok(())
    }
}
