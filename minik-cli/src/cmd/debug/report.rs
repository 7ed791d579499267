//! A trace, printed: for people with every rule on the way, and as JSON.

use std::fmt;

use minik_node::trace::{Origin, Outcome, Packet, Step};
use serde::Serialize;

/// What is printed; the JSON form is an interface.
#[derive(Debug, Serialize)]
pub struct Report {
    node: String,
    /// Link by which the packet comes in; none for a process on the node.
    #[serde(skip_serializing_if = "Option::is_none")]
    link: Option<String>,
    packet: String,
    outcomes: Vec<OutcomeReport>,
}

#[derive(Debug, Serialize)]
struct OutcomeReport {
    /// Between 0 and 1.
    probability: f64,
    verdict: String,
    /// The packet as it is at the end.
    packet: String,
    rules: Vec<RuleReport>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct RuleReport {
    hook: &'static str,
    table: String,
    chain: String,
    /// In its chain, from 1; 0 for the chain's policy.
    number: usize,
    rule: String,
    matched: bool,
    /// The first condition that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    expected: Option<String>,
    /// What the packet had instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    actual: Option<String>,
}

impl Report {
    pub fn new(node: &str, origin: &Origin, packet: &Packet, outcomes: &[Outcome]) -> Self {
        Self {
            node: node.to_owned(),
            link: match origin {
                Origin::Local => None,
                Origin::Link(link) => Some(link.clone()),
            },
            packet: packet.to_string(),
            outcomes: outcomes.iter().map(OutcomeReport::new).collect(),
        }
    }
}

impl OutcomeReport {
    fn new(outcome: &Outcome) -> Self {
        Self {
            probability: outcome.probability.as_f64(),
            verdict: outcome.verdict.to_string(),
            packet: outcome.packet.to_string(),
            rules: outcome.path.steps().into_iter().map(RuleReport::new).collect(),
        }
    }
}

impl RuleReport {
    fn new(step: &Step) -> Self {
        Self {
            hook: step.place.hook,
            table: step.place.table.to_string(),
            chain: step.place.chain.to_string(),
            number: step.place.number,
            rule: step.rule.to_string(),
            matched: step.miss.is_none(),
            expected: step.miss.as_ref().map(|miss| miss.expected.to_string()),
            actual: step.miss.as_ref().map(|miss| miss.actual.to_string()),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = match &self.link {
            Some(link) => format!("comes in by {link}"),
            None => "is sent by a process".to_owned(),
        };
        writeln!(f, "{} {by} on node {}", self.packet, self.node)?;
        for outcome in &self.outcomes {
            let share = outcome.probability * 100.0;
            writeln!(f, "\n{share:.2}% {}: {}", outcome.verdict, outcome.packet)?;
            let mut part = ("", "");
            for rule in &outcome.rules {
                let now = (rule.hook, rule.table.as_str());
                if part != now {
                    writeln!(f, "  {} {}", rule.hook, rule.table)?;
                    part = now;
                }
                writeln!(f, "    {rule}")?;
            }
        }
        Ok(())
    }
}

impl fmt::Display for RuleReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.matched { '+' } else { '-' };
        write!(f, "{sign} {} {} {}", self.chain, self.number, self.rule)?;
        match (&self.expected, &self.actual) {
            (Some(expected), Some(actual)) => write!(f, "\n        wants {expected}, has {actual}"),
            _ => Ok(()),
        }
    }
}
