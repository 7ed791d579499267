//! Slices just created that the cache does not show yet: while a Service has any, planning from the
//! cache would create them again, under another generated name.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::controllers::cache::Key;

/// How long to wait for the watch before planning regardless.
const PATIENCE: Duration = Duration::from_secs(30);

/// See the module's documentation.
#[derive(Default)]
pub struct Unseen(Mutex<BTreeMap<Key, Vec<(String, Instant)>>>);

impl Unseen {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Key, Vec<(String, Instant)>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the cache lacks a slice of this Service.
    pub fn any(&self, service: &Key) -> bool {
        let now = Instant::now();
        let waits =
            |slices: &Vec<(String, Instant)>| slices.iter().any(|(_, since)| now.duration_since(*since) < PATIENCE);
        self.lock().get(service).is_some_and(waits)
    }

    /// A slice was created.
    pub fn created(&self, service: &Key, name: String) {
        self.lock()
            .entry(service.clone())
            .or_default()
            .push((name, Instant::now()));
    }

    /// The cache shows the slice, or shows that it went.
    pub fn seen(&self, service: &Key, name: &str) {
        let mut all = self.lock();
        if let Some(slices) = all.get_mut(service) {
            slices.retain(|(slice, _)| slice != name);
            if slices.is_empty() {
                all.remove(service);
            }
        }
    }
}
