//! A canonical iptables ruleset: exactly what `iptables-save` prints for the chains that carry our names.
//!
//! Rules are kept in the words and the order in which `iptables-save` prints them, so that a ruleset read
//! back from the kernel compares as text. Pure; what to write is decided in [`super::plan`].

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// Prefix of every chain of a Kubernetes proxy. Chains of other names are never looked at.
const OUR_PREFIX: &str = "KUBE-";

/// The tables that a Service proxy uses, in the order in which they are written: a Service that gains
/// endpoints stops being rejected before it is balanced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Table {
    /// Rejects and drops.
    Filter,
    /// Balances and masquerades.
    Nat,
}

impl Table {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "filter" => Some(Self::Filter),
            "nat" => Some(Self::Nat),
            _ => None,
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
        })
    }
}

/// Rules of one chain, in order, each without its leading `-A CHAIN`.
pub type Rules = Arc<Vec<String>>;

/// What one table holds of ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TableRules {
    /// Rules in built-in chains that jump to chains of ours.
    pub hooks: BTreeMap<String, Vec<String>>,
    /// Chains of ours.
    pub chains: BTreeMap<String, Rules>,
}

/// What all tables hold of ours. Prints as `iptables-save` does, without the chains that are not ours.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ruleset {
    tables: BTreeMap<Table, TableRules>,
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
    /// One table; an empty one when there is nothing in it.
    #[must_use]
    pub fn table(&self, table: Table) -> &TableRules {
        static EMPTY: TableRules = TableRules {
            hooks: BTreeMap::new(),
            chains: BTreeMap::new(),
        };
        self.tables.get(&table).unwrap_or(&EMPTY)
    }

    /// One table, to be filled.
    pub fn table_mut(&mut self, table: Table) -> &mut TableRules {
        self.tables.entry(table).or_default()
    }

    /// Number of rules, hooks included.
    #[must_use]
    pub fn rule_count(&self) -> usize {
        let of_table = |table: &TableRules| {
            table.hooks.values().map(Vec::len).sum::<usize>()
                + table.chains.values().map(|rules| rules.len()).sum::<usize>()
        };
        self.tables.values().map(of_table).sum()
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
        let tables = tables.into_iter().map(|(table, reading)| (table, reading.finish()));
        Ok(Self {
            tables: tables.filter(|(_, rules)| *rules != TableRules::default()).collect(),
        })
    }
}

/// A table while it is being read.
#[derive(Debug, Default)]
struct Reading {
    hooks: BTreeMap<String, Vec<String>>,
    chains: BTreeMap<String, Vec<String>>,
}

impl Reading {
    fn declare(&mut self, chain: &str) {
        if chain.starts_with(OUR_PREFIX) {
            self.chains.entry(chain.to_owned()).or_default();
        }
    }

    fn append(&mut self, chain: &str, rule: &str) {
        if chain.starts_with(OUR_PREFIX) {
            self.chains.entry(chain.to_owned()).or_default().push(rule.to_owned());
        } else if jump_target(rule).is_some_and(|target| target.starts_with(OUR_PREFIX)) {
            self.hooks.entry(chain.to_owned()).or_default().push(rule.to_owned());
        }
    }

    fn finish(self) -> TableRules {
        let chains = self.chains.into_iter().map(|(chain, rules)| (chain, Arc::new(rules)));
        TableRules {
            hooks: self.hooks,
            chains: chains.collect(),
        }
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
        for (table, rules) in &self.tables {
            writeln!(f, "*{table}")?;
            for chain in rules.chains.keys() {
                writeln!(f, ":{chain} - [0:0]")?;
            }
            let hooks = rules.hooks.iter();
            let chains = rules.chains.iter().map(|(chain, rules)| (chain, rules.as_ref()));
            for (chain, rules) in hooks.chain(chains) {
                for rule in rules {
                    writeln!(f, "-A {chain} {rule}")?;
                }
            }
            writeln!(f, "COMMIT")?;
        }
        Ok(())
    }
}
