//! PersistentVolumes and the claims on them.

pub mod matching;
