//! A store that forgets: the log alone, for tests and for comparing the durable form against.

use std::sync::{Arc, Mutex, PoisonError};

use futures::future::{BoxFuture, FutureExt};

use super::{Entry, Mvcc, Storage, StorageError, WatchCache, Write};

/// A [`Storage`] in memory. Acknowledges at once.
pub struct MemoryStorage {
    writer: Mutex<()>,
    cache: WatchCache,
}

impl Default for MemoryStorage {
    fn default() -> Self {
        Self {
            writer: Mutex::new(()),
            cache: WatchCache::new(Mvcc::default()),
        }
    }
}

impl Storage for MemoryStorage {
    fn cache(&self) -> &WatchCache {
        &self.cache
    }

    fn commit(&self, write: Write) -> BoxFuture<'_, Result<Arc<Entry>, StorageError>> {
        async move {
            let _writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
            let mut state = self.cache.snapshot();
            let event = state.apply(&write).map_err(StorageError::Conflict)?;
            self.cache.publish(state, std::slice::from_ref(&event));
            Ok(event.entry.clone())
        }
        .boxed()
    }
}
