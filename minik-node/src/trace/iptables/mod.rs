//! The tracer of iptables rules: the output of `iptables-save` in, [`Outcome`]s out.
//!
//! [`parse`] reads the text into [`rule`]s, [`evaluate`] holds a packet against one, [`walk`] goes through a
//! chain, and [`flow`] goes from hook to hook in netfilter's order:
//!
//! ```text
//!            ┌ PREROUTING ──────── routing ┬ INPUT ─────────────── a process
//! a link ────┤ raw mangle nat              │ mangle filter security nat
//!            │                             └ FORWARD ─────────────┐
//!            │                               mangle filter security├ POSTROUTING ─ a link
//! a process ── routing ─ OUTPUT ─ routing ─────────────────────────┘ mangle nat
//!                        raw mangle nat filter security               (own address: lo, PREROUTING again)
//! ```
//! The `nat` table sees the first packet of a connection only, and each kind of translation once.

mod branch;
mod evaluate;
mod flow;
mod option;
mod options;
mod parse;
mod rule;
mod targets;
mod walk;
mod words;

use std::sync::Arc;
use std::time::Duration;

use self::rule::Table;
use super::{Host, Origin, Outcome, Packet, State};

/// Text that is no output of `iptables-save`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {number} is not understood ({reason}): {line}")]
pub struct ParseError {
    /// Line number, from 1.
    pub number: usize,
    /// The line.
    pub line: String,
    /// What is wrong with it.
    pub reason: String,
}

/// Why a packet cannot be followed to its end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// The verdict depends on something that the tracer does not know.
    #[error("table {table}, chain {chain}, rule {number}: {what} is not supported: {rule}")]
    Unsupported {
        /// Table.
        table: String,
        /// Chain.
        chain: String,
        /// Number of the rule, from 1.
        number: usize,
        /// The match, option or target.
        what: String,
        /// The rule.
        rule: String,
    },
    /// Chains lead to each other in a circle, which no kernel accepts.
    #[error("table {table}: chain {chain} leads back to itself")]
    Loop {
        /// Table.
        table: String,
        /// A chain of the circle.
        chain: String,
    },
    /// More ways than can be listed.
    #[error("the packet may fare in more than {} ways", walk::MOST_BRANCHES)]
    TooManyOutcomes,
    /// A local sender's packet has no source address and no route to choose one.
    #[error("no address of the node leads to {0}")]
    NoSource(std::net::Ipv4Addr),
}

/// The rules of all tables.
#[derive(Debug, Clone)]
pub struct Rules {
    tables: Vec<Table>,
}

impl Rules {
    /// Reads the output of `iptables-save`, with or without counters.
    ///
    /// # Errors
    /// A line that `iptables-save` would not print. A match or target that the tracer does not know is no
    /// error here, but one for the packets whose verdict depends on it.
    pub fn parse(text: &str) -> Result<Self, ParseError> {
        parse::rules(text).map(|tables| Self { tables })
    }

    /// Follows a packet. The outcomes' probabilities add up to one.
    ///
    /// A local sender's source may be 0.0.0.0: it is then chosen by the route, as for an unbound socket.
    ///
    /// # Errors
    /// When the verdict depends on what the tracer does not know.
    pub fn trace(
        &self,
        host: &Host,
        state: &State,
        now: Duration,
        origin: &Origin,
        packet: Packet,
    ) -> Result<Vec<Outcome>, TraceError> {
        let (tables, now) = (&self.tables, now);
        flow::Flow { tables, host, now }.run(state, origin, packet)
    }

    /// Whether any rule keeps this list of `-m recent`.
    #[must_use]
    pub fn names_list(&self, list: &str) -> bool {
        self.all().any(|rule| rule.lists().any(|name| &**name == list))
    }

    /// Every rule with its table and chain, in order.
    pub fn places(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<str>, &Arc<str>)> {
        self.tables.iter().flat_map(|table| {
            table.chains.iter().flat_map(move |chain| {
                chain
                    .rules
                    .iter()
                    .map(move |rule| (&table.name, &chain.name, &rule.text))
            })
        })
    }

    fn all(&self) -> impl Iterator<Item = &rule::Rule> {
        let chains = self.tables.iter().flat_map(|table| &table.chains);
        chains.flat_map(|chain| &chain.rules)
    }
}
