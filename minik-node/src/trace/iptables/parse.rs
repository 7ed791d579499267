//! Reads `iptables-save`: tables, chains with their policies, and rules word by word.

use std::sync::Arc;

use super::option::Opt;
use super::rule::{Chain, Part, Policy, Rule, Table, Target};
use super::{ParseError, options, targets, words};

/// Everything that is printed, table by table.
pub(super) fn rules(text: &str) -> Result<Vec<Table>, ParseError> {
    let mut reading: Vec<(Table, Vec<Line<'_>>)> = Vec::new();
    let mut open = false;
    for (index, line) in text.lines().enumerate() {
        let line = Line {
            number: index + 1,
            text: line,
        };
        match line.text.as_bytes().first() {
            None | Some(b'#') => {}
            Some(b'*') => {
                open = true;
                let name = line.text[1..].trim().into();
                reading.push((
                    Table {
                        name,
                        chains: Vec::new(),
                    },
                    Vec::new(),
                ));
            }
            _ if line.text == "COMMIT" => open = false,
            _ => match reading.last_mut().filter(|_| open) {
                None => return Err(line.wrong("outside a table")),
                Some((table, _)) if line.text.starts_with(':') => table.chains.push(chain(line)?),
                Some((_, rules)) => rules.push(line),
            },
        }
    }
    reading.into_iter().map(|(table, lines)| fill(table, lines)).collect()
}

#[derive(Debug, Clone, Copy)]
struct Line<'a> {
    number: usize,
    text: &'a str,
}

impl Line<'_> {
    fn wrong(self, reason: impl Into<String>) -> ParseError {
        ParseError {
            number: self.number,
            line: self.text.to_owned(),
            reason: reason.into(),
        }
    }
}

/// `:INPUT ACCEPT [0:0]`
fn chain(line: Line<'_>) -> Result<Chain, ParseError> {
    let mut words = line.text[1..].split(' ');
    let name = words.next().filter(|name| !name.is_empty());
    let policy = match words.next() {
        Some("ACCEPT") => Some(Policy::Accept),
        Some("DROP") => Some(Policy::Drop),
        Some("-") => None,
        _ => return Err(line.wrong("no policy")),
    };
    Ok(Chain {
        name: name.ok_or_else(|| line.wrong("no name"))?.into(),
        policy,
        rules: Vec::new(),
    })
}

/// Rules come after all chains of their table are known, so that jumps find them.
fn fill(mut table: Table, lines: Vec<Line<'_>>) -> Result<Table, ParseError> {
    let names: std::collections::BTreeMap<Arc<str>, usize> = table
        .chains
        .iter()
        .enumerate()
        .map(|(index, chain)| (chain.name.clone(), index))
        .collect();
    for line in lines {
        let text = match line.text.strip_prefix('[') {
            Some(counted) => {
                counted
                    .split_once("] ")
                    .ok_or_else(|| line.wrong("no end of counters"))?
                    .1
            }
            None => line.text,
        };
        let rest = text.strip_prefix("-A ").ok_or_else(|| line.wrong("no rule"))?;
        let (chain, text) = rest.split_once(' ').unwrap_or((rest, ""));
        let chain = *names.get(chain).ok_or_else(|| line.wrong("no such chain"))?;
        let rule = rule(text, &|name| names.get(name).copied()).map_err(|reason| line.wrong(reason))?;
        table.chains[chain].rules.push(rule);
    }
    Ok(table)
}

/// One rule without its chain. Header options come first, then matches each with its own, then the target.
fn rule(text: &str, chain: &dyn Fn(&str) -> Option<usize>) -> Result<Rule, String> {
    let words = words::split(text).ok_or("a quote does not end")?;
    let mut parts: Vec<Part> = Vec::new();
    let mut target = Target::Continue;
    for section in sections(&words)? {
        match section.head {
            None => parts.extend(options::header(&section.options)?),
            Some(("-m", module)) => parts.extend(options::module(module, &section.options)?),
            Some(("-j", name)) => target = targets::target(name, &section.options, chain)?,
            Some((_, name)) => target = Target::Goto(chain(name).ok_or("no such chain")?),
        }
    }
    Ok(Rule {
        text: text.into(),
        parts,
        target,
    })
}

/// Options that belong together: the header's (`None`), a match's or a target's.
#[derive(Debug)]
struct Section<'a> {
    head: Option<(&'a str, &'a str)>,
    options: Vec<Opt<'a>>,
}

fn sections(words: &[String]) -> Result<Vec<Section<'_>>, String> {
    /// Their value is free text and may look like an option.
    const FREE_TEXT: [&str; 3] = ["--comment", "--log-prefix", "--name"];
    let mut sections = vec![Section {
        head: None,
        options: Vec::new(),
    }];
    let mut words = words.iter().map(String::as_str).peekable();
    while let Some(word) = words.next() {
        let not = word == "!";
        let name = if not {
            words.next().ok_or("nothing after !")?
        } else {
            word
        };
        if !name.starts_with('-') {
            return Err(format!("{name} stands alone"));
        }
        if ["-m", "-j", "-g"].contains(&name) {
            let value = words.next().ok_or_else(|| format!("nothing after {name}"))?;
            sections.push(Section {
                head: Some((name, value)),
                options: Vec::new(),
            });
            continue;
        }
        let mut values = Vec::new();
        if FREE_TEXT.contains(&name) {
            values.extend(words.next());
        }
        while let Some(value) = words.next_if(|word| !word.starts_with('-') && *word != "!") {
            values.push(value);
        }
        let section = sections.last_mut().ok_or("no section")?;
        section.options.push(Opt { not, name, values });
    }
    Ok(sections)
}
