//! Where objects live: a revisioned log of documents, its durable form, and the watch window over it.
//!
//! Storage knows keys, bytes and revisions; it never looks into an object and never decides whether a
//! change is allowed. Writes come from `http`'s verbs through [`guaranteed_update`], reads and watches go
//! out of the [`WatchCache`]. One writer orders all changes: `commit` → [`Mvcc`] (staged) → disk
//! ([`SledStorage`] only) → [`WatchCache::publish`] → acknowledgement, so whatever a reader sees is
//! already durable.

mod document;
mod memory;
pub mod mvcc;
mod sled;
mod watch_cache;

use std::sync::Arc;

use futures::future::BoxFuture;

pub use self::sled::{OpenError, SledStorage};
pub use document::Document;
pub use memory::MemoryStorage;
pub use mvcc::{Attributes, Entry, Event, EventKind, Expected, Mvcc, Op, Write, WriteError};
pub use watch_cache::{Compacted, Watch, WatchCache, WatchEnd};

/// How often [`guaranteed_update`] reads again after losing a race before it gives up.
const MAX_ATTEMPTS: usize = 64;

/// Why a commit did not happen.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StorageError {
    /// The key was not as the writer expected; nothing was written.
    #[error("the stored object changed")]
    Conflict(#[source] WriteError),
    /// The disk refused; nothing more is accepted until the store is opened anew, since what a failed
    /// flush left on disk is unknown.
    #[error("the durable log failed, restart to recover")]
    Failed(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The store is shutting down.
    #[error("the store is closed")]
    Closed,
}

/// An ordered, watchable store.
pub trait Storage: Send + Sync + 'static {
    /// The published state: what reads and watches are served from.
    fn cache(&self) -> &WatchCache;

    /// Applies one change if the key is as expected, and returns the entry as stored (for a deletion, its
    /// final state) once the change is as durable as this storage can make it.
    fn commit(&self, write: Write) -> BoxFuture<'_, Result<Arc<Entry>, StorageError>>;
}

/// What to do with the entry that [`guaranteed_update`] showed.
#[derive(Debug)]
pub enum Change {
    /// Create or replace it.
    Put(Document),
    /// Delete it; the document is its final state, as watchers will see it.
    Delete(Document),
    /// Leave it.
    Keep,
}

/// What [`guaranteed_update`] did.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The entry as it is now.
    Written(Arc<Entry>),
    /// The final state of the entry that is gone.
    Deleted(Arc<Entry>),
    /// Nothing was written.
    Kept,
}

/// Reads `key`, asks `decide` what to do, and commits that against the revision read; reads and asks
/// again when another writer was faster. `decide` may run several times: the value it returns beside the
/// last change is handed back.
pub async fn guaranteed_update<T, E: From<StorageError>>(
    storage: &dyn Storage,
    key: &str,
    mut decide: impl FnMut(Option<&Arc<Entry>>) -> Result<(Change, T), E>,
) -> Result<(Outcome, T), E> {
    let mut attempt = 1;
    loop {
        let current = storage.cache().get(key);
        let (change, value) = decide(current.as_ref())?;
        let (op, deletes) = match change {
            Change::Put(document) => (Op::Put(document), false),
            Change::Delete(document) => (Op::Delete(document), true),
            Change::Keep => return Ok((Outcome::Kept, value)),
        };
        let expected = current.map_or(Expected::Absent, |entry| Expected::Revision(entry.revision));
        match storage
            .commit(Write {
                key: key.into(),
                expected,
                op,
            })
            .await
        {
            Ok(entry) if deletes => return Ok((Outcome::Deleted(entry), value)),
            Ok(entry) => return Ok((Outcome::Written(entry), value)),
            Err(StorageError::Conflict(_)) if attempt < MAX_ATTEMPTS => attempt += 1,
            Err(error) => return Err(error.into()),
        }
    }
}
