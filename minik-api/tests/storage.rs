//! The durable store against the store in memory, across reopening, and what watchers see of it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

use std::collections::BTreeMap;
use std::sync::Arc;

use minik_api::storage::{
    Change, Document, EventKind, Expected, MemoryStorage, Op, SledStorage, Storage, StorageError, Write,
    guaranteed_update,
};
use proptest::prelude::*;
use serde_json::{Value, json};

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("builds")
}

fn document(n: u64) -> Document {
    Document::encode(&json!({"metadata": {"name": "x"}, "n": n})).expect("encodes")
}

fn contents(storage: &dyn Storage) -> (u64, Vec<(String, u64, Value)>) {
    let state = storage.cache().snapshot();
    let entries = state
        .range("", None)
        .map(|e| {
            (
                e.key.to_string(),
                e.revision,
                serde_json::from_slice(&e.value).expect("is JSON"),
            )
        })
        .collect();
    (state.revision(), entries)
}

#[derive(Debug, Clone)]
enum Step {
    Create(u8),
    Update { key: u8, stale: bool },
    Delete { key: u8, stale: bool },
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let key = 0..4_u8;
    let step = prop_oneof![
        4 => key.clone().prop_map(Step::Create),
        4 => (key.clone(), any::<bool>()).prop_map(|(key, stale)| Step::Update { key, stale }),
        3 => (key, any::<bool>()).prop_map(|(key, stale)| Step::Delete { key, stale }),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..40)
}

/// The write of `step`, as a client that knows `storage` (or knew it some time ago) would send it.
fn write(step: &Step, storage: &dyn Storage, n: u64) -> Option<Write> {
    let (key, stale, delete) = match *step {
        Step::Create(key) => {
            let key = format!("k/{key}").into();
            return Some(Write {
                key,
                expected: Expected::Absent,
                op: Op::Put(document(n)),
            });
        }
        Step::Update { key, stale } => (key, stale, false),
        Step::Delete { key, stale } => (key, stale, true),
        Step::Reopen => return None,
    };
    let key = format!("k/{key}");
    let seen = storage.cache().get(&key).map_or(7, |entry| entry.revision) - u64::from(stale);
    let op = if delete {
        Op::Delete(document(n))
    } else {
        Op::Put(document(n))
    };
    Some(Write {
        key: key.into(),
        expected: Expected::Revision(seen),
        op,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_durable_store_does_what_the_store_in_memory_does(steps in steps()) {
        let dir = tempfile::tempdir().expect("is made");
        let runtime = runtime();
        let memory = MemoryStorage::default();
        let mut durable = SledStorage::open(dir.path()).expect("opens");
        for (n, step) in steps.iter().enumerate() {
            match write(step, &memory, n as u64) {
                Some(write) => {
                    let expected = runtime.block_on(memory.commit(write.clone()));
                    let actual = runtime.block_on(durable.commit(write));
                    match (expected, actual) {
                        (Ok(expected), Ok(actual)) => prop_assert_eq!(expected, actual),
                        (Err(StorageError::Conflict(expected)), Err(StorageError::Conflict(actual))) => {
                            prop_assert_eq!(expected, actual);
                        }
                        (expected, actual) => prop_assert!(false, "{expected:?} against {actual:?}"),
                    }
                }
                None => {
                    drop(durable);
                    durable = SledStorage::open(dir.path()).expect("opens again");
                }
            }
            prop_assert_eq!(contents(&memory), contents(&durable));
        }
    }
}

#[test]
fn after_reopening_objects_are_there_revisions_go_on_and_old_watches_are_refused() {
    let dir = tempfile::tempdir().expect("is made");
    let runtime = runtime();
    let storage = SledStorage::open(dir.path()).expect("opens");
    // Larger than sled keeps inside its log, so it gets a file of its own.
    let large = Document::encode(&json!({"data": "x".repeat(1 << 20)})).expect("encodes");
    let put = |key: &str, op| Write {
        key: key.into(),
        expected: Expected::Absent,
        op,
    };
    runtime
        .block_on(storage.commit(put("a", Op::Put(large))))
        .expect("is written");
    let last = runtime
        .block_on(storage.commit(put("b", Op::Put(document(1)))))
        .expect("is written");
    let delete = Write {
        key: "b".into(),
        expected: Expected::Revision(last.revision),
        op: Op::Delete(document(1)),
    };
    let deleted = runtime.block_on(storage.commit(delete)).expect("is deleted");
    let before = contents(&storage);
    drop(storage);

    let storage = SledStorage::open(dir.path()).expect("opens again");
    assert_eq!(contents(&storage), before);
    assert_eq!(
        before.0, deleted.revision,
        "the highest revision belonged to an object that is gone"
    );
    let refused = storage
        .cache()
        .watch("", deleted.revision - 1)
        .err()
        .expect("is refused");
    assert_eq!(
        refused.to_string(),
        format!(
            "too old resource version: {} ({})",
            deleted.revision - 1,
            deleted.revision
        )
    );
    let next = runtime
        .block_on(storage.commit(put("c", Op::Put(document(2)))))
        .expect("is written");
    assert_eq!(next.revision, deleted.revision + 1);
}

/// Writers race on few keys while watchers start at random moments; each must see exactly the changes after
/// its start, and replaying them onto its start must give the final state.
#[test]
fn watchers_miss_nothing_and_repeat_nothing() {
    let dir = tempfile::tempdir().expect("is made");
    let storage: Arc<dyn Storage> = Arc::new(SledStorage::open(dir.path()).expect("opens"));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .expect("builds");
    runtime.block_on(async {
        let writers: Vec<_> = (0..8_u64)
            .map(|writer| {
                let storage = storage.clone();
                tokio::spawn(async move {
                    for n in 0..25 {
                        let key = format!("k/{}", (writer + n) % 5);
                        guaranteed_update::<_, StorageError>(&*storage, &key, |current| {
                            Ok(match current {
                                Some(_) if (n + writer) % 4 == 0 => (Change::Delete(document(n)), ()),
                                _ => (Change::Put(document(writer * 1000 + n)), ()),
                            })
                        })
                        .await
                        .expect("is written in the end");
                    }
                })
            })
            .collect();
        let watchers: Vec<_> = (0..20)
            .map(|_| {
                let storage = storage.clone();
                tokio::spawn(async move {
                    let (state, mut watch) = storage.cache().watch_from_now("k/");
                    let start = state.revision();
                    let mut view: BTreeMap<String, u64> = state
                        .range("k/", None)
                        .map(|e| (e.key.to_string(), e.revision))
                        .collect();
                    let mut seen = start;
                    // 200 changes are made in all, to revisions 2 up to 201.
                    while seen < 201 {
                        let event = watch.next().await.expect("is not cut off");
                        assert_eq!(event.entry.revision, seen + 1, "started at {start}");
                        seen += 1;
                        let key = event.entry.key.to_string();
                        let before = match event.kind {
                            EventKind::Deleted => view.remove(&key),
                            _ => view.insert(key, event.entry.revision),
                        };
                        assert_eq!(before, event.previous.as_ref().map(|p| p.revision));
                    }
                    view
                })
            })
            .collect();
        for writer in writers {
            writer.await.expect("ran");
        }
        let end: BTreeMap<String, u64> = contents(&*storage)
            .1
            .into_iter()
            .map(|(key, revision, _)| (key, revision))
            .collect();
        for watcher in watchers {
            assert_eq!(watcher.await.expect("ran"), end);
        }
    });
}

#[test]
fn a_watcher_that_does_not_read_is_cut_off_and_holds_nobody_up() {
    let runtime = runtime();
    let storage = MemoryStorage::default();
    let mut watch = storage.cache().watch("k/", 1).expect("starts");
    runtime.block_on(async {
        for n in 0..5000 {
            let key = format!("k/{n}").into();
            let write = Write {
                key,
                expected: Expected::Absent,
                op: Op::Put(document(n)),
            };
            storage.commit(write).await.expect("is written");
        }
        let mut seen = 1;
        let end = loop {
            match watch.next().await {
                Ok(event) => {
                    assert_eq!(event.entry.revision, seen + 1);
                    seen += 1;
                }
                Err(end) => break end,
            }
        };
        assert_eq!(end.to_string(), "the watch was closed by the store");
        assert!(seen < 5001);
        // Where it stopped is still in the window or honestly gone.
        let refused = storage.cache().watch("k/", 1).err().expect("is refused");
        assert_eq!(refused.requested, 1);
    });
}

#[test]
fn what_the_disk_refuses_is_neither_acknowledged_nor_shown() {
    let dir = tempfile::tempdir().expect("is made");
    let runtime = runtime();
    let storage = SledStorage::open(dir.path()).expect("opens");
    let put = |key: &str| Write {
        key: key.into(),
        expected: Expected::Absent,
        op: Op::Put(document(1)),
    };
    runtime.block_on(storage.commit(put("a"))).expect("is written");
    std::fs::remove_dir_all(dir.path().join("blobs")).expect("is removed");
    let before = contents(&storage);
    for key in ["b", "c"] {
        let refused = runtime.block_on(storage.commit(put(key)));
        assert!(matches!(refused, Err(StorageError::Failed(_))), "{refused:?}");
    }
    assert!(storage.failed().is_cancelled());
    assert_eq!(contents(&storage), before);
}
