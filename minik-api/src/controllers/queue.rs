//! Work queues: which keys want attention, and the loop that gives it to them.
//!
//! A key waits once however often it is added, is never worked on twice at a time, and comes back
//! with a growing delay after a failure. The queue is bounded by the number of distinct keys, which
//! is the number of objects. It knows nothing about what the keys mean.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Display;
use std::future::Future;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use tokio::sync::Notify;
use tokio::time::Instant;

use super::error::ReconcileError;

/// Delay before the first retry of a failed key; doubles with every further failure.
const FIRST_RETRY: Duration = Duration::from_millis(5);
/// The longest delay between retries.
const LONGEST_RETRY: Duration = Duration::from_secs(30);

/// Keys waiting for work. One consumer, any number of producers.
pub struct Queue<K> {
    state: Mutex<State<K>>,
    wake: Notify,
}

struct State<K> {
    ready: VecDeque<K>,
    /// Keys in `ready`, or added again while busy.
    wanted: BTreeSet<K>,
    busy: BTreeSet<K>,
    /// The earliest moment at which a key was asked to come back.
    later: BTreeMap<(Instant, u64), K>,
    slots: BTreeMap<K, (Instant, u64)>,
    sequence: u64,
    failures: BTreeMap<K, u32>,
}

impl<K> Default for Queue<K> {
    fn default() -> Self {
        Self {
            state: Mutex::new(State {
                ready: VecDeque::new(),
                wanted: BTreeSet::new(),
                busy: BTreeSet::new(),
                later: BTreeMap::new(),
                slots: BTreeMap::new(),
                sequence: 0,
                failures: BTreeMap::new(),
            }),
            wake: Notify::new(),
        }
    }
}

impl<K: Clone + Ord> State<K> {
    fn add(&mut self, key: K) {
        if self.wanted.insert(key.clone()) && !self.busy.contains(&key) {
            self.ready.push_back(key);
        }
    }

    fn add_at(&mut self, key: K, at: Instant) {
        if let Some(slot) = self.slots.get(&key) {
            if slot.0 <= at {
                return;
            }
            self.later.remove(slot);
        }
        self.sequence += 1;
        self.slots.insert(key.clone(), (at, self.sequence));
        self.later.insert((at, self.sequence), key);
    }

    /// Moves what is due to `ready`; says when the next one is.
    fn promote(&mut self, now: Instant) -> Option<Instant> {
        while let Some(entry) = self.later.first_entry() {
            if entry.key().0 > now {
                return Some(entry.key().0);
            }
            let key = entry.remove();
            self.slots.remove(&key);
            self.add(key);
        }
        None
    }
}

impl<K: Clone + Ord> Queue<K> {
    fn lock(&self) -> MutexGuard<'_, State<K>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for attention to `key` as soon as may be.
    pub fn add(&self, key: K) {
        self.lock().add(key);
        self.wake.notify_one();
    }

    /// Asks for attention to `key` after `delay`. Of several such wishes the earliest counts.
    pub fn add_after(&self, key: K, delay: Duration) {
        self.lock().add_at(key, Instant::now() + delay);
        self.wake.notify_one();
    }

    /// The next key; it counts as busy until [`Queue::finish`].
    pub async fn next(&self) -> K {
        loop {
            let due = {
                let mut state = self.lock();
                let due = state.promote(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.wanted.remove(&key);
                    state.busy.insert(key.clone());
                    return key;
                }
                due
            };
            match due {
                Some(due) => {
                    tokio::select! {
                        () = self.wake.notified() => {}
                        () = tokio::time::sleep_until(due) => {}
                    }
                }
                None => self.wake.notified().await,
            }
        }
    }

    /// Ends the work on `key`; after a failure it comes back with a growing delay.
    pub fn finish(&self, key: &K, succeeded: bool) {
        let mut state = self.lock();
        state.busy.remove(key);
        if state.wanted.contains(key) {
            state.ready.push_back(key.clone());
        }
        if succeeded {
            state.failures.remove(key);
        } else {
            let failures = state.failures.entry(key.clone()).or_default();
            let delay = FIRST_RETRY.saturating_mul(1 << (*failures).min(16)).min(LONGEST_RETRY);
            *failures += 1;
            state.add_at(key.clone(), Instant::now() + delay);
        }
        drop(state);
        self.wake.notify_one();
    }

    /// Makes every key that a dead consumer left busy ready again.
    fn recover(&self) {
        let mut state = self.lock();
        for key in std::mem::take(&mut state.busy) {
            state.wanted.insert(key.clone());
            state.ready.push_back(key);
        }
    }
}

/// Reconciles keys of `queue`, up to `workers` at a time, for as long as it is polled.
pub async fn drive<K, F, Fut>(queue: &Queue<K>, workers: usize, reconcile: F)
where
    K: Clone + Ord + Display,
    F: Fn(K) -> Fut,
    Fut: Future<Output = Result<(), ReconcileError>>,
{
    queue.recover();
    let mut running = FuturesUnordered::new();
    loop {
        tokio::select! {
            Some((key, result)) = running.next() => {
                let result: Result<(), ReconcileError> = result;
                queue.finish(&key, result.is_ok());
                match result {
                    Ok(()) => {}
                    // Somebody else wrote first: the new state arrives, or is there already.
                    Err(error) if error.is_conflict() => tracing::debug!(%key, error = %error.chain(), "raced"),
                    Err(error) => tracing::warn!(%key, error = %error.chain(), "reconciling failed; will retry"),
                }
            }
            key = queue.next(), if running.len() < workers => {
                let work = reconcile(key.clone());
                running.push(async move { (key, work.await) });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_waits_once_and_is_not_worked_on_twice() {
        let queue = Queue::default();
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        let early = tokio::time::timeout(Duration::from_secs(1), queue.next()).await;
        assert!(early.is_err(), "handed out while busy");
        queue.finish(&"a", true);
        assert_eq!(queue.next().await, "a");
        queue.finish(&"a", true);
        assert!(
            tokio::time::timeout(Duration::from_secs(1), queue.next())
                .await
                .is_err()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn failures_come_back_later_and_later_up_to_the_bound() {
        let queue = Queue::default();
        queue.add("a");
        let mut delays = Vec::new();
        for _ in 0..20 {
            let asked = Instant::now();
            assert_eq!(queue.next().await, "a");
            delays.push(asked.elapsed());
            queue.finish(&"a", false);
        }
        assert_eq!(delays[..4], [0, 5, 10, 20].map(Duration::from_millis));
        assert_eq!(*delays.last().unwrap(), LONGEST_RETRY);
        queue.next().await;
        queue.finish(&"a", true);
        queue.add("a");
        queue.next().await;
        queue.finish(&"a", false);
        let asked = Instant::now();
        queue.next().await;
        assert_eq!(asked.elapsed(), FIRST_RETRY, "a success forgets the failures");
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_wishes_the_earlier_counts() {
        let queue = Queue::default();
        queue.add_after("a", Duration::from_secs(9));
        queue.add_after("a", Duration::from_secs(2));
        queue.add_after("a", Duration::from_secs(5));
        let asked = Instant::now();
        queue.next().await;
        assert_eq!(asked.elapsed(), Duration::from_secs(2));
    }
}
