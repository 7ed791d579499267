//! The published state and who watches it: a bounded window of changes, one bounded queue a watcher.
//!
//! A watcher gets every change after its start exactly once and in order, or it is cut off; it is never
//! given a stream with a hole. Publishing never waits for a watcher.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::{Receiver, Sender, channel, error::TryRecvError};

use super::{Entry, Event, Mvcc};

/// Changes kept for watches that start in the past.
const WINDOW_EVENTS: usize = 4096;
/// Bytes of new states kept for the same.
const WINDOW_BYTES: usize = 4 << 20;
/// Changes queued for one watcher before it counts as too slow.
const QUEUE: usize = 1024;

/// A watch or list asked for a revision that is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too old resource version: {requested} ({oldest})")]
pub struct Compacted {
    /// What was asked for.
    pub requested: u64,
    /// The oldest revision that can still be asked for.
    pub oldest: u64,
}

/// Why a watch gives nothing more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WatchEnd {
    /// Its queue ran over, or the store was closed; the client starts again from the last revision seen.
    #[error("the watch was closed by the store")]
    Closed,
}

struct Watcher {
    prefix: Box<str>,
    queue: Sender<Arc<Event>>,
}

struct Published {
    state: Mvcc,
    watchers: Vec<Watcher>,
}

/// What every reader reads.
pub struct WatchCache {
    published: Mutex<Published>,
}

impl WatchCache {
    /// A cache that shows `state`.
    #[must_use]
    pub fn new(state: Mvcc) -> Self {
        Self {
            published: Mutex::new(Published {
                state,
                watchers: Vec::new(),
            }),
        }
    }

    /// The state of this moment; it does not change any more.
    #[must_use]
    pub fn snapshot(&self) -> Mvcc {
        self.lock().state.clone()
    }

    /// The newest published revision.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.lock().state.revision()
    }

    /// The newest state of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Arc<Entry>> {
        self.lock().state.get(key).cloned()
    }

    /// Shows `state`, which came out of the state shown so far by `events`, and tells the watchers.
    /// Only the store's single writer calls this.
    pub fn publish(&self, mut state: Mvcc, events: &[Arc<Event>]) {
        state.compact(WINDOW_EVENTS, WINDOW_BYTES);
        let mut published = self.lock();
        published.state = state;
        published.watchers.retain(|watcher| {
            !watcher.queue.is_closed()
                && events
                    .iter()
                    .filter(|event| event.entry.key.starts_with(&*watcher.prefix))
                    .all(|event| watcher.queue.try_send(event.clone()).is_ok())
        });
    }

    /// Watches all changes under `prefix` after revision `since`.
    ///
    /// # Errors
    /// Changes after `since` are already forgotten.
    pub fn watch(&self, prefix: &str, since: u64) -> Result<Watch, Compacted> {
        let mut published = self.lock();
        let oldest = published.state.compacted();
        let backlog = published.state.since(since, prefix).ok_or(Compacted {
            requested: since,
            oldest,
        })?;
        Ok(published.subscribe(prefix, since, backlog))
    }

    /// The state of this moment and a watch that goes on from it with nothing lost between.
    #[must_use]
    pub fn watch_from_now(&self, prefix: &str) -> (Mvcc, Watch) {
        let mut published = self.lock();
        let state = published.state.clone();
        let watch = published.subscribe(prefix, state.revision(), Vec::new());
        (state, watch)
    }

    fn lock(&self) -> MutexGuard<'_, Published> {
        // Every critical section only swaps whole values, so a panic elsewhere leaves no half-made state.
        self.published.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Published {
    fn subscribe(&mut self, prefix: &str, since: u64, backlog: Vec<Arc<Event>>) -> Watch {
        let (queue, live) = channel(QUEUE);
        self.watchers.push(Watcher {
            prefix: prefix.into(),
            queue,
        });
        Watch {
            backlog: backlog.into(),
            live,
            seen: since,
        }
    }
}

/// One watcher's changes.
pub struct Watch {
    backlog: VecDeque<Arc<Event>>,
    live: Receiver<Arc<Event>>,
    seen: u64,
}

impl Watch {
    /// The next change.
    ///
    /// # Errors
    /// The watcher was too slow or the store is closed.
    pub async fn next(&mut self) -> Result<Arc<Event>, WatchEnd> {
        loop {
            let event = match self.backlog.pop_front() {
                Some(event) => event,
                None => self.live.recv().await.ok_or(WatchEnd::Closed)?,
            };
            if let Some(event) = self.unseen(event) {
                return Ok(event);
            }
        }
    }

    /// The next change if it is already there.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub fn try_next(&mut self) -> Result<Option<Arc<Event>>, WatchEnd> {
        loop {
            let event = match self.backlog.pop_front().map_or_else(|| self.live.try_recv(), Ok) {
                Ok(event) => event,
                Err(TryRecvError::Empty) => return Ok(None),
                Err(TryRecvError::Disconnected) => return Err(WatchEnd::Closed),
            };
            if let Some(event) = self.unseen(event) {
                return Ok(Some(event));
            }
        }
    }

    /// A watch may ask to start in the future; what happens until then is not for it.
    fn unseen(&mut self, event: Arc<Event>) -> Option<Arc<Event>> {
        if event.entry.revision <= self.seen {
            return None;
        }
        self.seen = event.entry.revision;
        Some(event)
    }
}
