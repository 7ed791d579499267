//! Goes through a chain of one table, and through those that it leads to. Where chance decides, both ways are
//! gone.

use std::time::Duration;

use super::super::{Actual, Host, Miss, Place, Step};
use super::TraceError;
use super::branch::Branch;
use super::evaluate::{Judgement, Surroundings, judge};
use super::rule::{Policy, Rule, SourcePort, Table, Target};

/// Most ways that are followed: more than the endpoints of any Service.
pub(super) const MOST_BRANCHES: usize = 1 << 16;

/// How a chain ends for a packet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum End {
    Accept,
    Drop,
    Reject(String),
    /// A new destination, as far as given.
    Destination(Option<std::net::Ipv4Addr>, Option<u16>),
    /// The node itself.
    Redirect(Option<u16>),
    /// A new source; `None` for the node's address on the way out.
    Source(Option<std::net::Ipv4Addr>, SourcePort),
    Masquerade(SourcePort),
}

/// What a chain is walked with.
#[derive(Debug, Clone, Copy)]
pub(super) struct Walk<'a> {
    pub table: &'a Table,
    pub hook: &'static str,
    pub host: &'a Host,
    pub now: Duration,
}

/// A packet inside a chain: the chains that it is in, and the next rule in each.
#[derive(Debug, Clone)]
struct Position {
    branch: Branch,
    stack: Vec<(usize, usize)>,
}

/// What a matching rule does.
enum Next {
    Rule,
    End(End),
}

impl Walk<'_> {
    /// All ends that a packet may come to in built-in chain `chain`.
    pub fn run(&self, chain: usize, branch: Branch) -> Result<Vec<(Branch, End)>, TraceError> {
        let mut ends = Vec::new();
        let mut open = vec![Position {
            branch,
            stack: vec![(chain, 0)],
        }];
        while let Some(mut position) = open.pop() {
            let end = loop {
                let Some(&(current, index)) = position.stack.last() else {
                    break self.policy(chain, &mut position.branch);
                };
                let Some(rule) = self.table.chains[current].rules.get(index) else {
                    position.stack.pop();
                    continue;
                };
                if let Some((_, next)) = position.stack.last_mut() {
                    *next += 1;
                }
                if !self.matches(rule, (current, index), &mut position, &mut open)? {
                    continue;
                }
                if let Next::End(end) = self.act(rule, (current, index), &mut position)? {
                    break end;
                }
            };
            ends.push((position.branch, end));
            if ends.len() + open.len() > MOST_BRANCHES {
                return Err(TraceError::TooManyOutcomes);
            }
        }
        Ok(ends)
    }

    /// Whether the rule matches, noting it on the path. Where chance decides, the way without a match is
    /// left in `open`.
    fn matches(
        &self,
        rule: &Rule,
        at: (usize, usize),
        position: &mut Position,
        open: &mut Vec<Position>,
    ) -> Result<bool, TraceError> {
        for (index, part) in rule.parts.iter().enumerate() {
            let around = Surroundings {
                host: self.host,
                now: self.now,
                at: (&self.table.name, &self.table.chains[at.0].name, at.1, index),
            };
            let miss = |actual| Miss {
                expected: part.text.clone(),
                actual,
            };
            match judge(&part.test, &mut position.branch, around) {
                Ok(Judgement::Yes) => {}
                Ok(Judgement::No(actual)) => {
                    position.branch.path.push(self.step(rule, at, Some(miss(actual))));
                    return Ok(false);
                }
                Ok(Judgement::Chance(probability)) => {
                    let branch = &mut position.branch;
                    branch.path.part();
                    let mut unlucky = position.clone();
                    let branch = &mut unlucky.branch;
                    branch.probability = branch.probability.and(&probability.not());
                    branch.path.push(self.step(rule, at, Some(miss(Actual::Chance))));
                    open.push(unlucky);
                    position.branch.probability = position.branch.probability.and(&probability);
                }
                Err(what) => return Err(self.unsupported(rule, at, format!("{what} ({})", part.text))),
            }
        }
        position.branch.path.push(self.step(rule, at, None));
        Ok(true)
    }

    fn act(&self, rule: &Rule, at: (usize, usize), position: &mut Position) -> Result<Next, TraceError> {
        let end = match &rule.target {
            Target::Continue => return Ok(Next::Rule),
            Target::Mark { value, mask } => {
                let packet = &mut position.branch.packet;
                packet.mark = (packet.mark & !mask) ^ value;
                return Ok(Next::Rule);
            }
            Target::Return => {
                position.stack.pop();
                return Ok(Next::Rule);
            }
            Target::Jump(chain) | Target::Goto(chain) => {
                if matches!(rule.target, Target::Goto(_)) {
                    position.stack.pop();
                }
                if position.stack.iter().any(|(known, _)| known == chain) {
                    return Err(TraceError::Loop {
                        table: self.table.name.to_string(),
                        chain: self.table.chains[*chain].name.to_string(),
                    });
                }
                position.stack.push((*chain, 0));
                return Ok(Next::Rule);
            }
            Target::Accept => End::Accept,
            Target::Drop => End::Drop,
            Target::Reject(with) => End::Reject(with.clone()),
            Target::Dnat { address, port } => End::Destination(*address, *port),
            Target::Redirect { port } => End::Redirect(*port),
            Target::Snat { address, port } => End::Source(*address, *port),
            Target::Masquerade { port } => End::Masquerade(*port),
            Target::Unsupported(what) => return Err(self.unsupported(rule, at, what.clone())),
        };
        Ok(Next::End(end))
    }

    /// Built-in chains end with their policy.
    fn policy(&self, chain: usize, branch: &mut Branch) -> End {
        let known = &self.table.chains[chain];
        if known.policy != Some(Policy::Drop) {
            return End::Accept;
        }
        let place = self.place((chain, 0));
        branch.path.push(Step {
            place: Place { number: 0, ..place },
            rule: "policy DROP".into(),
            miss: None,
        });
        End::Drop
    }

    fn step(&self, rule: &Rule, at: (usize, usize), miss: Option<Miss>) -> Step {
        Step {
            place: self.place(at),
            rule: rule.text.clone(),
            miss,
        }
    }

    fn place(&self, (chain, index): (usize, usize)) -> Place {
        Place {
            hook: self.hook,
            table: self.table.name.clone(),
            chain: self.table.chains[chain].name.clone(),
            number: index + 1,
        }
    }

    fn unsupported(&self, rule: &Rule, at: (usize, usize), what: String) -> TraceError {
        let place = self.place(at);
        TraceError::Unsupported {
            table: place.table.to_string(),
            chain: place.chain.to_string(),
            number: place.number,
            what,
            rule: rule.text.to_string(),
        }
    }
}
