//! How long a DaemonSet lets a failed Pod be before it makes another on the same node: a second at first, twice
//! as long after each further failure, a quarter of an hour at the most. A node that refuses a Pod would
//! otherwise be asked again as fast as both can write.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(15 * 60);

/// When Pods failed last, by the set's uid and the node. Holds what is younger than twice the longest rest, and
/// what [`Rest::forget`] has not been told of.
#[derive(Default)]
pub struct Rest(Mutex<BTreeMap<(String, String), Failure>>);

struct Failure {
    at: Instant,
    rest: Duration,
}

/// Nodes on which a failed Pod is to be let be.
pub struct Resting {
    /// The nodes.
    pub nodes: BTreeSet<String>,
    /// When the first of them is ready for another try.
    pub until: Option<Duration>,
}

impl Rest {
    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<(String, String), Failure>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Of the nodes with a failed Pod, those where it is too early.
    pub fn resting<'a>(&self, set: &str, failed: impl Iterator<Item = &'a str>, now: Instant) -> Resting {
        let mut resting = Resting {
            nodes: BTreeSet::new(),
            until: None,
        };
        self.with(|all| {
            for node in failed {
                let Some(failure) = all.get(&(set.to_owned(), node.to_owned())) else {
                    continue;
                };
                let left = (failure.at + failure.rest).saturating_duration_since(now);
                if !left.is_zero() {
                    resting.nodes.insert(node.to_owned());
                    resting.until = Some(resting.until.map_or(left, |until| until.min(left)));
                }
            }
        });
        resting
    }

    /// The failed Pods of these nodes are being replaced; the next that fails there rests longer.
    pub fn begin<'a>(&self, set: &str, nodes: impl Iterator<Item = &'a str>, now: Instant) {
        self.with(|all| {
            all.retain(|_, failure| now.duration_since(failure.at) < LONGEST * 2);
            for node in nodes {
                let failure = all.entry((set.to_owned(), node.to_owned()));
                let rest = FIRST;
                failure
                    .and_modify(|failure| {
                        failure.rest = (failure.rest * 2).min(LONGEST);
                        failure.at = now;
                    })
                    .or_insert(Failure { at: now, rest });
            }
        });
    }

    /// The set is gone.
    pub fn forget(&self, set: &str) {
        self.with(|all| all.retain(|(owner, _), _| owner != set));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_rests_longer_after_each_failure() {
        let (rest, now) = (Rest::default(), Instant::now());
        let resting = |at| rest.resting("set", ["a"].into_iter(), at).until;
        assert_eq!(resting(now), None, "the first failure is answered at once");
        rest.begin("set", ["a"].into_iter(), now);
        assert_eq!(resting(now), Some(FIRST));
        let later = now + FIRST;
        assert_eq!(resting(later), None);
        rest.begin("set", ["a"].into_iter(), later);
        assert_eq!(resting(later), Some(FIRST * 2));
        rest.forget("set");
        assert_eq!(resting(later), None);
    }
}
