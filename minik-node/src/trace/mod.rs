//! Follows one packet through the rules of a node, on paper: rules in as text, verdict out, with every rule
//! that matched and, for each that did not, the first condition that failed and what the packet had instead.
//!
//! [`iptables`] reads what `iptables-save` prints. What a mode answers is common to all of them and lives
//! here: a [`Packet`], the [`Host`] it meets, the [`State`] that rules keep between packets, and a list of
//! [`Outcome`]s. Chance is not sampled but enumerated, so the outcomes are a distribution whose
//! probabilities add up to one exactly.
//!
//! Pure. Never reads a kernel, never sends a packet, and never ignores a rule that it does not understand:
//! a packet that needs one for its verdict gets an error that names the rule.

mod host;
pub mod iptables;
mod outcome;
mod packet;
mod state;

#[cfg(test)]
mod tests;

pub use host::{AddressKind, Host, HostLink, HostRoute};
pub use outcome::{Actual, Miss, Outcome, Path, Place, Probability, Step, Verdict, group};
pub use packet::{Origin, Packet, Protocol, Tracking};
pub use state::{Recent, State};
