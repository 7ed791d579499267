//! What rules remember from one packet to the next: the lists of `-m recent`, with which kube-proxy keeps a
//! client with its endpoint, and the counters of `-m statistic --mode nth`. Input and output of a trace,
//! cheap to copy. Time is a duration since any one moment. Pure.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use imbl::{OrdMap, Vector};

/// Addresses that a list holds by default (`ip_list_tot` of `xt_recent`); the one seen longest ago goes.
const MOST_ADDRESSES: usize = 100;

/// Sightings that the kernel keeps of each address unless a rule counts more.
pub(super) const MOST_SIGHTINGS: usize = 32;

/// One list: addresses by when they were seen last, the oldest first, each with its sightings.
pub type Recent = Vector<(Ipv4Addr, Vector<Duration>)>;

/// All that rules remember.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct State {
    /// By the name of the list.
    pub recent: OrdMap<Arc<str>, Recent>,
    /// By table, chain, index of the rule and of the condition in it. One that is not here is a new rule's.
    pub(super) nth: OrdMap<(Arc<str>, Arc<str>, usize, usize), u32>,
}

impl State {
    /// Notes that a list has seen an address.
    pub fn see(&mut self, list: &Arc<str>, address: Ipv4Addr, now: Duration) {
        let list = self.recent.entry(list.clone()).or_default();
        let known = list.iter().position(|(known, _)| *known == address);
        let mut sightings = known.map(|index| list.remove(index).1).unwrap_or_default();
        if known.is_none() && list.len() == MOST_ADDRESSES {
            list.pop_front();
        }
        if sightings.len() == MOST_SIGHTINGS {
            sightings.pop_front();
        }
        sightings.push_back(now);
        list.push_back((address, sightings));
    }

    /// Forgets an address.
    pub(super) fn forget(&mut self, list: &str, address: Ipv4Addr) {
        if let Some(list) = self.recent.get_mut(list) {
            list.retain(|(known, _)| *known != address);
        }
    }

    /// When a list has seen an address.
    pub(super) fn sightings(&self, list: &str, address: Ipv4Addr) -> Option<&Vector<Duration>> {
        let list = self.recent.get(list)?;
        list.iter()
            .find(|(known, _)| *known == address)
            .map(|(_, sightings)| sightings)
    }

    /// Drops a list's oldest address if it was seen last before `limit` and is not `kept`.
    pub(super) fn reap(&mut self, list: &str, limit: Duration, kept: Option<Ipv4Addr>) {
        let Some(list) = self.recent.get_mut(list) else {
            return;
        };
        let expired = list.front().is_some_and(|(address, sightings)| {
            Some(*address) != kept && sightings.last().is_some_and(|last| *last < limit)
        });
        if expired {
            list.pop_front();
        }
    }

    /// Forgets the lists that no rule names any more, as the kernel does.
    #[must_use]
    pub fn keeping(mut self, lists: impl Fn(&str) -> bool) -> Self {
        self.recent = self.recent.into_iter().filter(|(name, _)| lists(name)).collect();
        self
    }
}
