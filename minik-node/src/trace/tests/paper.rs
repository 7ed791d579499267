//! A kernel on paper: takes what `iptables-restore --noflush` takes, gives what `iptables-save` prints.
//! Refuses what the kernel refuses, by panicking.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Rules by table and chain.
#[derive(Debug, Clone, Default)]
pub(super) struct Paper {
    tables: BTreeMap<String, BTreeMap<String, Vec<String>>>,
}

impl Paper {
    /// What a fresh kernel has.
    pub fn new() -> Self {
        let table = |name: &str, chains: &[&str]| {
            let chains = chains.iter().map(|chain| ((*chain).to_owned(), Vec::new()));
            (name.to_owned(), chains.collect())
        };
        Self {
            tables: BTreeMap::from([
                table("mangle", &["PREROUTING", "INPUT", "FORWARD", "OUTPUT", "POSTROUTING"]),
                table("filter", &["INPUT", "FORWARD", "OUTPUT"]),
                table("nat", &["PREROUTING", "INPUT", "OUTPUT", "POSTROUTING"]),
            ]),
        }
    }

    /// Applies whole tables.
    pub fn restore(&mut self, text: &str) {
        let mut table = String::new();
        for line in text.lines().filter(|line| *line != "COMMIT") {
            if let Some(name) = line.strip_prefix('*') {
                name.clone_into(&mut table);
                continue;
            }
            let chains = self.tables.get_mut(&table).expect("a table");
            let (verb, rest) = line.split_once(' ').expect("a verb");
            let (chain, rule) = rest.split_once(' ').unwrap_or((rest, ""));
            if let Some(declared) = verb.strip_prefix(':') {
                chains.insert(declared.to_owned(), Vec::new());
                continue;
            }
            if verb == "-X" {
                assert_eq!(chains.remove(chain), Some(Vec::new()), "{chain} is empty");
                continue;
            }
            let rules = chains.get_mut(chain).expect("a chain is declared before it is filled");
            match verb {
                "-A" => rules.push(rule.to_owned()),
                "-I" => {
                    let (number, rule) = rule.split_once(' ').expect("a number");
                    let number: usize = number.parse().expect("a number");
                    rules.insert(number - 1, rule.to_owned());
                }
                "-D" => {
                    let index = rules.iter().position(|known| known == rule);
                    rules.remove(index.expect("a rule to delete is there"));
                }
                verb => panic!("{verb}"),
            }
        }
    }

    /// All of it.
    pub fn save(&self) -> String {
        let mut text = String::new();
        for (table, chains) in &self.tables {
            writeln!(text, "*{table}").expect("text grows");
            for chain in chains.keys() {
                let policy = if chain.starts_with("KUBE-") { "-" } else { "ACCEPT" };
                writeln!(text, ":{chain} {policy} [0:0]").expect("text grows");
            }
            for (chain, rules) in chains {
                for rule in rules {
                    writeln!(text, "-A {chain} {rule}").expect("text grows");
                }
            }
            text.push_str("COMMIT\n");
        }
        text
    }
}
