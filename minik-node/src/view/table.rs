//! One kind's objects as a watch tells them: pure bookkeeping of lists, updates and relists.

use std::collections::BTreeMap;
use std::sync::Arc;

use kube::runtime::watcher::Event;

/// What an event did to one key.
#[derive(Debug)]
pub(super) struct Replaced<V> {
    /// Before; `None` when it is new.
    pub old: Option<Arc<V>>,
    /// After; `None` when it is gone.
    pub new: Option<Arc<V>>,
}

/// All objects of one kind, and the list that a relist is collecting.
#[derive(Debug)]
pub(super) struct Table<K, V> {
    objects: BTreeMap<K, Arc<V>>,
    relist: Option<BTreeMap<K, Arc<V>>>,
    synced: bool,
}

impl<K, V> Default for Table<K, V> {
    fn default() -> Self {
        Self {
            objects: BTreeMap::new(),
            relist: None,
            synced: false,
        }
    }
}

impl<K: Ord + Clone, V: PartialEq> Table<K, V> {
    /// Whether a complete list has been seen.
    pub fn synced(&self) -> bool {
        self.synced
    }

    /// Takes in an event and returns what it changed. `None` as a value stands for an object that is there
    /// but is none of ours (any more).
    pub fn take(&mut self, event: Event<(K, Option<V>)>) -> Vec<Replaced<V>> {
        match event {
            Event::Init => {
                self.relist = Some(BTreeMap::new());
                Vec::new()
            }
            Event::InitApply((key, value)) => {
                if let Some(value) = value {
                    self.relist.get_or_insert_default().insert(key, Arc::new(value));
                }
                Vec::new()
            }
            Event::InitDone => self.finish_relist(),
            Event::Apply((key, value)) => self.replace(key, value.map(Arc::new)).into_iter().collect(),
            Event::Delete((key, _)) => self.replace(key, None).into_iter().collect(),
        }
    }

    fn finish_relist(&mut self) -> Vec<Replaced<V>> {
        self.synced = true;
        let listed = self.relist.take().unwrap_or_default();
        let gone: Vec<K> = self
            .objects
            .keys()
            .filter(|key| !listed.contains_key(key))
            .cloned()
            .collect();
        let gone = gone.into_iter().map(|key| (key, None));
        let listed = listed.into_iter().map(|(key, value)| (key, Some(value)));
        gone.chain(listed)
            .collect::<Vec<_>>()
            .into_iter()
            .filter_map(|(key, value)| self.replace(key, value))
            .collect()
    }

    /// Sets one key; nothing when the value is equal to the old one.
    fn replace(&mut self, key: K, new: Option<Arc<V>>) -> Option<Replaced<V>> {
        if self.objects.get(&key) == new.as_ref() {
            return None;
        }
        let old = match new.clone() {
            Some(value) => self.objects.insert(key, value),
            None => self.objects.remove(&key),
        };
        Some(Replaced { old, new })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn feed(
        table: &mut Table<&'static str, u8>,
        event: Event<(&'static str, Option<u8>)>,
    ) -> Vec<(Option<u8>, Option<u8>)> {
        table
            .take(event)
            .into_iter()
            .map(|r| (r.old.as_deref().copied(), r.new.as_deref().copied()))
            .collect()
    }

    #[test]
    fn a_relist_removes_what_it_does_not_list_and_is_quiet_about_the_rest() {
        let mut table = Table::default();
        assert!(!table.synced());
        for event in [
            Event::Init,
            Event::InitApply(("a", Some(1))),
            Event::InitApply(("b", Some(2))),
        ] {
            assert!(feed(&mut table, event).is_empty());
        }
        assert!(!table.synced(), "a list is complete only when it is done");
        assert_eq!(feed(&mut table, Event::InitDone), [(None, Some(1)), (None, Some(2))]);
        assert!(table.synced());

        for event in [
            Event::Init,
            Event::InitApply(("b", Some(2))),
            Event::InitApply(("c", Some(3))),
        ] {
            assert!(
                feed(&mut table, event).is_empty(),
                "a relist shows only when it is complete"
            );
        }
        assert_eq!(feed(&mut table, Event::InitDone), [(Some(1), None), (None, Some(3))]);
    }

    #[test]
    fn an_equal_update_changes_nothing_and_a_foreign_one_removes() {
        let mut table = Table::default();
        assert_eq!(feed(&mut table, Event::Apply(("a", Some(1)))), [(None, Some(1))]);
        assert!(feed(&mut table, Event::Apply(("a", Some(1)))).is_empty());
        assert_eq!(feed(&mut table, Event::Apply(("a", None))), [(Some(1), None)]);
        assert!(feed(&mut table, Event::Delete(("a", None))).is_empty());
    }
}
