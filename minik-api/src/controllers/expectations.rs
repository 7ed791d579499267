//! What a controller of Pods has asked for and the cache does not show yet. Pure bookkeeping.
//!
//! A controller that counts Pods in a cache that lags behind its own writes would create them
//! twice. So every creation and deletion is noted before the request is sent, and struck out when the
//! watch shows it (or the request fails); until all are, the number of its Pods is left alone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

/// How long to wait for the watch before counting again regardless, as Kubernetes does.
const PATIENCE: Duration = Duration::from_secs(300);

/// The open expectations of all objects of a kind that controls Pods, by uid.
#[derive(Default)]
pub struct Expectations(BTreeMap<String, Open>);

struct Open {
    creations: usize,
    deletions: BTreeSet<String>,
    since: Instant,
}

impl Expectations {
    /// Whether everything asked for has been seen, or has had its time and is given up.
    pub fn satisfied(&mut self, owner: &str, now: Instant) -> bool {
        let late = |open: &Open| now.duration_since(open.since) >= PATIENCE;
        if self.0.get(owner).is_some_and(late) {
            self.0.remove(owner);
        }
        !self.0.contains_key(owner)
    }

    /// `creations` Pods are about to be created and those with these uids deleted.
    pub fn expect(&mut self, owner: &str, creations: usize, deletions: BTreeSet<String>, now: Instant) {
        if creations == 0 && deletions.is_empty() {
            return;
        }
        let open = self.0.entry(owner.to_string()).or_insert_with(|| Open {
            creations: 0,
            deletions: BTreeSet::new(),
            since: now,
        });
        open.creations += creations;
        open.deletions.extend(deletions);
        open.since = now;
    }

    /// One creation was seen, or will not happen.
    pub fn created(&mut self, owner: &str) -> bool {
        self.strike(owner, |open| open.creations = open.creations.saturating_sub(1))
    }

    /// The deletion of this Pod was seen, or will not happen.
    pub fn deleted(&mut self, owner: &str, pod: &str) -> bool {
        self.strike(owner, |open| {
            open.deletions.remove(pod);
        })
    }

    /// The owner is gone.
    pub fn forget(&mut self, owner: &str) {
        self.0.remove(owner);
    }

    fn strike(&mut self, owner: &str, f: impl FnOnce(&mut Open)) -> bool {
        let Some(open) = self.0.get_mut(owner) else {
            return false;
        };
        f(open);
        let done = open.creations == 0 && open.deletions.is_empty();
        if done {
            self.0.remove(owner);
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_owner_is_satisfied_when_everything_was_seen_or_time_is_up() {
        let mut expectations = Expectations::default();
        let now = Instant::now();
        assert!(expectations.satisfied("a", now));
        expectations.expect("a", 2, BTreeSet::from(["x".to_string()]), now);
        expectations.created("a");
        expectations.deleted("a", "other");
        expectations.deleted("a", "x");
        assert!(!expectations.satisfied("a", now));
        assert!(expectations.created("a"));
        assert!(expectations.satisfied("a", now));
        expectations.expect("a", 1, BTreeSet::new(), now);
        assert!(!expectations.satisfied("a", now));
        assert!(expectations.satisfied("a", now + PATIENCE));
        assert!(!expectations.created("a"), "a stranger's Pod strikes nothing out");
    }
}
