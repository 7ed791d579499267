//! The revisioned log, as etcd keeps one: every change gets the next revision of one global counter, the
//! newest state of every key is at hand, and the last changes are kept so that watches can start in the
//! past and lists can be read as they were. Pure: no IO, no clock, no locks. Clones share structure, so a
//! snapshot costs nothing.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use imbl::{OrdMap, Vector};

use super::Document;

/// What selectors look at, extracted once per stored state by whoever understands the object.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// `metadata.labels`.
    pub labels: BTreeMap<String, String>,
    /// Selectable fields by label, `metadata.name` and `metadata.namespace` included.
    pub fields: BTreeMap<&'static str, String>,
}

/// One state of one key.
#[derive(Debug)]
pub struct Entry {
    /// Where it is stored.
    pub key: Arc<str>,
    /// The revision that wrote it.
    pub revision: u64,
    /// The encoded document, resourceVersion included.
    pub value: Bytes,
    attributes: OnceLock<Attributes>,
}

impl Entry {
    /// An entry read back from disk or just written.
    #[must_use]
    pub fn new(key: Arc<str>, revision: u64, value: Bytes) -> Self {
        Self {
            key,
            revision,
            value,
            attributes: OnceLock::new(),
        }
    }

    /// The attributes, extracted by `extract` the first time anyone asks.
    pub fn attributes(&self, extract: impl FnOnce() -> Attributes) -> &Attributes {
        self.attributes.get_or_init(extract)
    }
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key && self.revision == other.revision && self.value == other.value
    }
}

/// What a change did to its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// The key was absent.
    Created,
    /// The key had an earlier state.
    Updated,
    /// The key is absent now.
    Deleted,
}

/// One change.
#[derive(Debug, PartialEq)]
pub struct Event {
    /// What it did.
    pub kind: EventKind,
    /// The new state; of a deletion the final one, stamped with the deletion's revision.
    pub entry: Arc<Entry>,
    /// The state before, none for a creation.
    pub previous: Option<Arc<Entry>>,
}

/// What a writer believes about the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Nothing is stored there.
    Absent,
    /// The state written at this revision is.
    Revision(u64),
}

/// What a writer wants.
#[derive(Debug, Clone)]
pub enum Op {
    /// Store this.
    Put(Document),
    /// Remove the key, leaving this as the final state that watchers see.
    Delete(Document),
}

/// One change to one key.
#[derive(Debug, Clone)]
pub struct Write {
    /// Which key.
    pub key: Arc<str>,
    /// What must be there for the change to happen.
    pub expected: Expected,
    /// The change.
    pub op: Op,
}

/// Why a change was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A key that should be absent is there.
    #[error("key {0} exists")]
    Exists(Arc<str>),
    /// A key that should be there is absent.
    #[error("key {0} is absent")]
    Absent(Arc<str>),
    /// The key was written since.
    #[error("key {key} is at revision {actual}, not {expected}")]
    Changed {
        /// Which key.
        key: Arc<str>,
        /// The revision the writer had read.
        expected: u64,
        /// The revision that is stored.
        actual: u64,
    },
}

/// The log. Revisions start at 1, which is the empty store.
#[derive(Debug, Clone)]
pub struct Mvcc {
    revision: u64,
    compacted: u64,
    live: OrdMap<Arc<str>, Arc<Entry>>,
    log: Vector<Arc<Event>>,
    log_bytes: usize,
}

impl Default for Mvcc {
    fn default() -> Self {
        Self::restore(1, Vec::new())
    }
}

impl Mvcc {
    /// A store that holds `entries` at `revision`, with no past: earlier revisions count as compacted.
    #[must_use]
    pub fn restore(revision: u64, entries: Vec<Entry>) -> Self {
        let live = entries
            .into_iter()
            .map(|entry| (entry.key.clone(), Arc::new(entry)))
            .collect();
        Self {
            revision,
            compacted: revision,
            live,
            log: Vector::new(),
            log_bytes: 0,
        }
    }

    /// The revision of the newest change.
    #[must_use]
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The oldest revision that can still be read or watched from.
    #[must_use]
    pub fn compacted(&self) -> u64 {
        self.compacted
    }

    /// The newest state of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Arc<Entry>> {
        self.live.get(key)
    }

    /// The newest states of all keys under `prefix`, in key order, from the first key after `after` on.
    pub fn range<'a>(&'a self, prefix: &'a str, after: Option<&'a str>) -> impl Iterator<Item = &'a Arc<Entry>> {
        let start = match after {
            Some(key) if key >= prefix => Bound::Excluded(key),
            _ => Bound::Included(prefix),
        };
        self.live
            .range::<_, str>((start, Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(_, entry)| entry)
    }

    /// The store as it was at `revision`, without a log of its own; none when that is compacted or not
    /// reached yet. Costs one step for each change undone.
    #[must_use]
    pub fn at(&self, revision: u64) -> Option<Self> {
        if revision < self.compacted || revision > self.revision {
            return None;
        }
        let mut live = self.live.clone();
        for event in self
            .log
            .iter()
            .rev()
            .take_while(|event| event.entry.revision > revision)
        {
            match &event.previous {
                Some(previous) => live.insert(previous.key.clone(), previous.clone()),
                None => live.remove(&event.entry.key),
            };
        }
        Some(Self {
            revision,
            compacted: revision,
            live,
            log: Vector::new(),
            log_bytes: 0,
        })
    }

    /// All changes after `revision` under `prefix`, oldest first; none when some of them are compacted.
    #[must_use]
    pub fn since(&self, revision: u64, prefix: &str) -> Option<Vec<Arc<Event>>> {
        if revision < self.compacted {
            return None;
        }
        let newer = self
            .log
            .iter()
            .rev()
            .take_while(|event| event.entry.revision > revision);
        let mut events: Vec<_> = newer
            .filter(|event| event.entry.key.starts_with(prefix))
            .cloned()
            .collect();
        events.reverse();
        Some(events)
    }

    /// Makes one change at the next revision.
    ///
    /// # Errors
    /// The key is not as expected; the store is unchanged.
    pub fn apply(&mut self, write: &Write) -> Result<Arc<Event>, WriteError> {
        let previous = self.live.get(&write.key).cloned();
        match (write.expected, &previous) {
            (Expected::Absent, Some(_)) => return Err(WriteError::Exists(write.key.clone())),
            (Expected::Revision(_), None) => return Err(WriteError::Absent(write.key.clone())),
            (Expected::Revision(expected), Some(entry)) if entry.revision != expected => {
                return Err(WriteError::Changed {
                    key: write.key.clone(),
                    expected,
                    actual: entry.revision,
                });
            }
            _ => {}
        }
        let (kind, document) = match (&write.op, &previous) {
            (Op::Delete(_), None) => return Err(WriteError::Absent(write.key.clone())),
            (Op::Delete(document), Some(_)) => (EventKind::Deleted, document),
            (Op::Put(document), Some(_)) => (EventKind::Updated, document),
            (Op::Put(document), None) => (EventKind::Created, document),
        };
        self.revision += 1;
        let entry = Arc::new(Entry::new(
            write.key.clone(),
            self.revision,
            document.stamp(self.revision),
        ));
        if kind == EventKind::Deleted {
            self.live.remove(&write.key);
        } else {
            self.live.insert(write.key.clone(), entry.clone());
        }
        let event = Arc::new(Event { kind, entry, previous });
        self.log_bytes += event.entry.value.len();
        self.log.push_back(event.clone());
        Ok(event)
    }

    /// Forgets the oldest changes until at most `max_events` changes of at most `max_bytes` are left.
    pub fn compact(&mut self, max_events: usize, max_bytes: usize) {
        while self.log.len() > max_events || self.log_bytes > max_bytes {
            let Some(oldest) = self.log.pop_front() else { return };
            self.log_bytes -= oldest.entry.value.len();
            self.compacted = oldest.entry.revision;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn put(key: &str, expected: Expected, n: u32) -> Write {
        let document = Document::encode(&json!({"n": n})).expect("encodes");
        Write {
            key: key.into(),
            expected,
            op: Op::Put(document),
        }
    }

    fn delete(key: &str, revision: u64) -> Write {
        let document = Document::encode(&json!({})).expect("encodes");
        Write {
            key: key.into(),
            expected: Expected::Revision(revision),
            op: Op::Delete(document),
        }
    }

    #[test]
    fn a_stale_writer_is_refused_and_changes_nothing() {
        let mut store = Mvcc::default();
        store.apply(&put("a", Expected::Absent, 1)).expect("creates");
        assert_eq!(store.revision(), 2);
        assert_eq!(
            store.apply(&put("a", Expected::Absent, 2)),
            Err(WriteError::Exists("a".into()))
        );
        store.apply(&put("a", Expected::Revision(2), 3)).expect("updates");
        let stale = store.apply(&delete("a", 2));
        assert_eq!(
            stale,
            Err(WriteError::Changed {
                key: "a".into(),
                expected: 2,
                actual: 3
            })
        );
        assert_eq!(store.apply(&delete("b", 2)), Err(WriteError::Absent("b".into())));
        assert_eq!(store.revision(), 3);
    }

    #[test]
    fn the_past_is_readable_until_it_is_compacted() {
        let mut store = Mvcc::default();
        store.apply(&put("p/a", Expected::Absent, 1)).expect("creates");
        store.apply(&put("p/b", Expected::Absent, 1)).expect("creates");
        store.apply(&delete("p/a", 2)).expect("deletes");
        store.apply(&put("q/a", Expected::Absent, 1)).expect("creates");
        let keys = |store: &Mvcc| store.range("p/", None).map(|e| e.key.to_string()).collect::<Vec<_>>();
        assert_eq!(keys(&store), ["p/b"]);
        assert_eq!(keys(&store.at(3).expect("is kept")), ["p/a", "p/b"]);
        assert_eq!(store.since(2, "p/").expect("is kept").len(), 2);
        assert!(store.at(6).is_none());
        store.compact(2, usize::MAX);
        assert_eq!(store.compacted(), 3);
        assert!(store.at(2).is_none());
        assert!(store.since(2, "p/").is_none());
        assert_eq!(store.since(3, "p/").expect("is kept").len(), 1);
    }

    #[test]
    fn a_range_resumes_after_a_key() {
        let mut store = Mvcc::default();
        for key in ["p/a", "p/b", "p/c", "r/a"] {
            store.apply(&put(key, Expected::Absent, 1)).expect("creates");
        }
        let rest: Vec<_> = store.range("p/", Some("p/a")).map(|e| e.key.to_string()).collect();
        assert_eq!(rest, ["p/b", "p/c"]);
    }
}
