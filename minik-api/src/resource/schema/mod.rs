//! The schema of every served kind, read from the checked-in definitions of Kubernetes 1.36
//! (`schema/kubernetes-1.36.json.gz`, made by `scripts/schema`): field types, defaults of struct
//! fields, the patch keys, and which fields Go leaves out when they are zero. Answers questions; changes nothing.
//!
//! Two readings of one file: the compact form here, without descriptions, stays in memory for
//! decoding and patching; [`Definitions`] is the whole text, read again when it is needed, since clients fetch OpenAPI
//! rarely and cache it by its hash.

mod compact;
mod openapi;

use std::io::Read;
use std::sync::LazyLock;

use flate2::read::GzDecoder;

pub use compact::{Definition, Field, ListPatch, Ownership, Presence, Schema, StructId, Type};
pub use openapi::{Components, Definitions};

static COMPRESSED: &[u8] = include_bytes!("../../../schema/kubernetes-1.36.json.gz");

static STANDARD: LazyLock<Schema> = LazyLock::new(|| {
    Schema::read(&document()).expect("the checked-in definitions are well-formed; a test reads them all")
});

/// The compact schema of 1.36, built on first use.
#[must_use]
pub fn standard() -> &'static Schema {
    &STANDARD
}

/// The whole text. A parser that is given bytes one by one takes many times as long.
fn document() -> Vec<u8> {
    let mut text = Vec::new();
    GzDecoder::new(COMPRESSED)
        .read_to_end(&mut text)
        .expect("the checked-in definitions are whole; a test reads them all");
    text
}
