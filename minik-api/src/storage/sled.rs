//! The durable form of the log: the newest state of every key in sled, written in groups.
//!
//! One thread takes whatever writes are waiting, applies them to a staged copy of the log, makes the whole
//! group durable with one `fdatasync`, and only then publishes and acknowledges. Writes that arrive
//! meanwhile form the next group, so throughput follows the load and not the disk's latency.
//!
//! On disk: the object's key → 8 bytes of revision (big endian) and the document; [`REVISION_KEY`] → the
//! newest revision, so that revisions go on after the object that had the highest is deleted.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use bytes::Bytes;
use futures::future::{BoxFuture, FutureExt};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Entry, Event, EventKind, Mvcc, Storage, StorageError, WatchCache, Write};

/// Sorts before every object key, none of which starts with a zero byte.
const REVISION_KEY: &[u8] = b"\0revision";
/// Writes waiting for the writer thread before writers wait themselves.
const QUEUE: usize = 1024;
/// Writes in one group.
const MAX_GROUP: usize = 256;
/// sled's page cache. Every object is in memory already; this only has to hold what is being written.
const PAGE_CACHE_BYTES: u64 = 1 << 20;

type Acknowledge = oneshot::Sender<Result<Arc<Entry>, StorageError>>;

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// sled refused.
    #[error("opening the database in {path}")]
    Open {
        /// The directory.
        path: PathBuf,
        /// What sled said.
        #[source]
        source: ::sled::Error,
    },
    /// An entry is not as this server writes it.
    #[error("reading the database: the entry {key:?} is damaged")]
    Damaged {
        /// The key, as text.
        key: String,
    },
    /// Reading failed.
    #[error("reading the database")]
    Read(#[source] ::sled::Error),
    /// The database's files could not be synchronised.
    #[error("synchronising {path}")]
    Sync {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The writer thread could not be started.
    #[error("starting the writer thread")]
    Thread(#[source] io::Error),
}

/// Why a group could not be made durable.
#[derive(Debug, thiserror::Error)]
enum FlushError {
    #[error("applying a group of writes")]
    Apply(#[source] ::sled::Error),
    #[error("flushing a group of writes")]
    Flush(#[source] ::sled::Error),
    #[error("synchronising the database's files")]
    Sync(#[source] io::Error),
}

/// A [`Storage`] whose acknowledgements mean that `fdatasync` returned.
pub struct SledStorage {
    cache: Arc<WatchCache>,
    writes: Option<mpsc::Sender<(Write, Acknowledge)>>,
    writer: Option<JoinHandle<()>>,
    failed: CancellationToken,
    /// The file that sled locks.
    locked: PathBuf,
}

impl SledStorage {
    /// Opens or creates the store in `dir`.
    ///
    /// # Errors
    /// The directory cannot be used, another process has it open, or its contents are damaged.
    pub fn open(dir: &Path) -> Result<Self, OpenError> {
        let db = ::sled::Config::new()
            .path(dir)
            .cache_capacity(PAGE_CACHE_BYTES)
            .flush_every_ms(None)
            .open()
            .map_err(|source| OpenError::Open {
                path: dir.to_owned(),
                source,
            })?;
        let state = load(&db)?;
        let sync_failed = |source| OpenError::Sync {
            path: dir.to_owned(),
            source,
        };
        let files = Files::open(dir).map_err(sync_failed)?;
        let cache = Arc::new(WatchCache::new(state));
        let (writes, waiting) = mpsc::channel(QUEUE);
        let failed = CancellationToken::new();
        let writer = Writer {
            db,
            files,
            cache: cache.clone(),
            failed: failed.clone(),
        };
        let writer = std::thread::Builder::new()
            .name("storage".into())
            .spawn(move || writer.run(waiting))
            .map_err(OpenError::Thread)?;
        Ok(Self {
            cache,
            writes: Some(writes),
            writer: Some(writer),
            failed,
            locked: dir.join("db"),
        })
    }
}

impl SledStorage {
    /// Cancelled when the disk refused a write. What is served from then on stays as it was.
    #[must_use]
    pub fn failed(&self) -> CancellationToken {
        self.failed.clone()
    }
}

impl Storage for SledStorage {
    fn cache(&self) -> &WatchCache {
        &self.cache
    }

    fn commit(&self, write: Write) -> BoxFuture<'_, Result<Arc<Entry>, StorageError>> {
        async move {
            let (acknowledge, acknowledged) = oneshot::channel();
            let writes = self.writes.as_ref().ok_or(StorageError::Closed)?;
            writes
                .send((write, acknowledge))
                .await
                .map_err(|_gone| StorageError::Closed)?;
            acknowledged.await.map_err(|_gone| StorageError::Closed)?
        }
        .boxed()
    }
}

impl Drop for SledStorage {
    fn drop(&mut self) {
        self.writes = None;
        if let Some(writer) = self.writer.take()
            && writer.join().is_err()
        {
            tracing::error!("the storage writer panicked");
        }
        // Threads of sled's own may hold the lock for a moment longer, and whoever opens the store next would be refused.
        if let Err(error) = File::open(&self.locked).and_then(|file| file.lock()) {
            tracing::warn!(%error, "wait until the database is closed");
        }
    }
}

fn load(db: &::sled::Db) -> Result<Mvcc, OpenError> {
    let mut revision = 1;
    let mut entries = Vec::new();
    for pair in db.iter() {
        let (key, stored) = pair.map_err(OpenError::Read)?;
        let damaged = || OpenError::Damaged {
            key: String::from_utf8_lossy(&key).into_owned(),
        };
        let (stamp, value) = stored.split_first_chunk::<8>().ok_or_else(damaged)?;
        let stamp = u64::from_be_bytes(*stamp);
        if key.as_ref() == REVISION_KEY {
            revision = stamp;
            continue;
        }
        let key = std::str::from_utf8(&key).map_err(|_not_text| damaged())?;
        entries.push(Entry::new(key.into(), stamp, Bytes::copy_from_slice(value)));
    }
    Ok(Mvcc::restore(revision, entries))
}

struct Writer {
    db: ::sled::Db,
    files: Files,
    cache: Arc<WatchCache>,
    failed: CancellationToken,
}

impl Writer {
    fn run(mut self, mut waiting: mpsc::Receiver<(Write, Acknowledge)>) {
        while let Some(first) = waiting.blocking_recv() {
            let mut group = vec![first];
            while group.len() < MAX_GROUP
                && let Ok(next) = waiting.try_recv()
            {
                group.push(next);
            }
            if let Err(error) = self.write(group) {
                tracing::error!(error = &*error, "the durable log failed, no further write is accepted");
                self.failed.cancel();
                let failed = StorageError::Failed(error);
                while let Some((_, acknowledge)) = waiting.blocking_recv() {
                    let _ = acknowledge.send(Err(failed.clone()));
                }
                return;
            }
        }
    }

    /// Makes one group durable, publishes it, acknowledges it. Refusals are acknowledged last too: who
    /// lost against a write of this group must see that write when reading again.
    fn write(&mut self, group: Vec<(Write, Acknowledge)>) -> Result<(), Arc<dyn std::error::Error + Send + Sync>> {
        let mut staged = self.cache.snapshot();
        let mut events = Vec::new();
        let mut answers = Vec::new();
        for (write, acknowledge) in group {
            let result = staged.apply(&write).map_err(StorageError::Conflict);
            events.extend(result.iter().cloned());
            answers.push((acknowledge, result.map(|event| event.entry.clone())));
        }
        if !events.is_empty() {
            if let Err(error) = self.persist(&events, staged.revision()) {
                let error: Arc<dyn std::error::Error + Send + Sync> = Arc::new(error);
                for (acknowledge, _) in answers {
                    let _ = acknowledge.send(Err(StorageError::Failed(error.clone())));
                }
                return Err(error);
            }
            self.cache.publish(staged, &events);
        }
        for (acknowledge, answer) in answers {
            // A requester that went away does not need its answer.
            let _ = acknowledge.send(answer);
        }
        Ok(())
    }

    fn persist(&mut self, events: &[Arc<Event>], revision: u64) -> Result<(), FlushError> {
        let mut batch = ::sled::Batch::default();
        for event in events {
            let key = event.entry.key.as_bytes();
            if event.kind == EventKind::Deleted {
                batch.remove(key);
            } else {
                let mut stored = Vec::with_capacity(8 + event.entry.value.len());
                stored.extend_from_slice(&event.entry.revision.to_be_bytes());
                stored.extend_from_slice(&event.entry.value);
                batch.insert(key, stored);
            }
        }
        batch.insert(REVISION_KEY, &revision.to_be_bytes());
        self.db.apply_batch(batch).map_err(FlushError::Apply)?;
        self.db.flush().map_err(FlushError::Flush)?;
        self.files.sync().map_err(FlushError::Sync)
    }
}

/// sled's files. Its own `flush` ends in `sync_file_range`, which neither flushes the drive's cache nor
/// writes the metadata that finds the data, and it never synchronises the files of large values.
struct Files {
    data: File,
    large_values: PathBuf,
    synced: BTreeSet<OsString>,
}

impl Files {
    fn open(dir: &Path) -> io::Result<Self> {
        let data = File::open(dir.join("db"))?;
        data.sync_all()?;
        let mut files = Self {
            data,
            large_values: dir.join("blobs"),
            synced: BTreeSet::new(),
        };
        files.sync_large_values()?;
        File::open(dir)?.sync_all()?;
        Ok(files)
    }

    fn sync(&mut self) -> io::Result<()> {
        // Large values first: the log refers to them.
        self.sync_large_values()?;
        self.data.sync_data()
    }

    fn sync_large_values(&mut self) -> io::Result<()> {
        let mut present = BTreeSet::new();
        for file in std::fs::read_dir(&self.large_values)? {
            let file = file?;
            if !self.synced.contains(&file.file_name()) {
                match File::open(file.path()) {
                    Ok(opened) => opened.sync_all()?,
                    // sled removes the files of replaced values when it likes.
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                }
            }
            present.insert(file.file_name());
        }
        if !present.is_subset(&self.synced) {
            File::open(&self.large_values)?.sync_all()?;
        }
        self.synced = present;
        Ok(())
    }
}
