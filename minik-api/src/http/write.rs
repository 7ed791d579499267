//! What a write wants, and what came of it: the words that create, update and apply share.

use bytes::Bytes;
use serde_json::Value;

/// What a client wants an object to be.
pub struct Wanted {
    /// The object, before defaults.
    pub object: Value,
    /// What the client should know.
    pub warnings: Vec<String>,
    /// Who owns which field, where that is decided already; otherwise the writer owns what it changes.
    pub managed_fields: Option<Value>,
}

impl Wanted {
    /// This object, with nothing to say about it.
    #[must_use]
    pub fn new(object: Value) -> Self {
        Self {
            object,
            warnings: Vec::new(),
            managed_fields: None,
        }
    }
}

/// A change that was made.
pub struct Done {
    /// The object as stored (or as it would be, in a dry run).
    pub document: Bytes,
    /// What the client should know.
    pub warnings: Vec<String>,
}
