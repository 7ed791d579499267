//! What a controller last wrote of each object, so that it does not decide on an older copy of it.
//!
//! Caches of different kinds follow the server at different speeds. A controller whose decision needs
//! what it wrote itself, as a Job's needs its own counts, waits until its cache shows that or later.
//! Versions of one kind compare as numbers (KEP-5504).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use kube::Resource;

/// The versions last written, by uid; holds what [`Latest::forget`] has not been told of.
#[derive(Default)]
pub struct Latest(Mutex<BTreeMap<String, u64>>);

impl Latest {
    fn with<T>(&self, f: impl FnOnce(&mut BTreeMap<String, u64>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether the copy is no older than what was written.
    pub fn is_shown(&self, copy: &impl Resource) -> bool {
        let written = self.with(|all| all.get(&uid(copy)).copied());
        written.is_none_or(|written| version(copy).is_none_or(|shown| shown >= written))
    }

    /// This is what the server answered to a write.
    pub fn wrote(&self, answer: &impl Resource) {
        if let Some(version) = version(answer) {
            self.with(|all| all.insert(uid(answer), version));
        }
    }

    /// The object is gone.
    pub fn forget(&self, object: &impl Resource) {
        self.with(|all| all.remove(&uid(object)));
    }
}

fn uid(object: &impl Resource) -> String {
    object.meta().uid.clone().unwrap_or_default()
}

fn version(object: &impl Resource) -> Option<u64> {
    object.meta().resource_version.as_ref()?.parse().ok()
}
