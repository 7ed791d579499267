//! Who owns which field of an object (`metadata.managedFields`), and server-side apply, which is decided by it
//! (KEP-555, after structured-merge-diff). Pure: objects and the time come in, objects and owners go out.
//!
//! ```text
//! element, set   paths and sets of them, and their FieldsV1 form
//! shape          what the schema says: whole, by field, by key, by list element
//! compare        what changed      extract   what is said      merge   what comes of it
//! managers       the table in managedFields
//! update, apply  the two ways to write        last_applied   kubectl's way from the one to the other
//! conflict       what an apply is refused with
//! ```
//!
//! Never decides what a kind allows or defaults; `http` does that with what comes out of here.

mod apply;
mod compare;
mod conflict;
mod element;
mod extract;
mod last_applied;
mod managers;
mod merge;
mod set;
mod shape;
mod update;
mod zero;

use jiff::Timestamp;

pub use apply::{Applied, ApplyError, apply};
pub use conflict::{Conflict, Conflicts};
pub use element::Element;
pub use managers::{Manager, Managers, Operation, Owned, same_but_times};
pub use set::{FieldSet, Node};
pub use update::update;

use super::schema::{self, Type};
use super::{KindInfo, Subresource};
use shape::Shape;

/// Why managedFields cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// The list is none.
    #[error("managedFields must be a list")]
    List,
    /// An operation that is neither Apply nor Update.
    #[error("invalid operation {0:?}")]
    Operation(String),
    /// A format of fields that is not FieldsV1.
    #[error("unsupported managedFields fieldsType {0:?}")]
    FieldsType(String),
    /// Fields that are no JSON object.
    #[error("fieldsV1 must be an object")]
    Fields,
    /// A key of the fields that is no path element.
    #[error("invalid path element {0:?}")]
    Element(String),
    /// A time that is none.
    #[error("invalid time")]
    Time {
        /// What the parser said.
        #[source]
        source: jiff::Error,
    },
}

/// One write, as far as ownership goes.
#[derive(Debug, Clone, Copy)]
pub struct Writer<'a> {
    /// The object's kind.
    pub info: &'a KindInfo,
    /// Name of the manager.
    pub name: &'a str,
    /// Path segment of the subresource that is written to; empty for the object itself.
    pub subresource: &'a str,
    /// Now, in whole seconds.
    pub now: Timestamp,
}

/// Fields that tell what an object is; nobody owns them.
const IDENTITY: &[&[&str]] = &[
    &["apiVersion"],
    &["kind"],
    &["metadata"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "clusterName"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];

impl Writer<'_> {
    fn manager(&self, operation: Operation) -> Manager {
        Manager {
            operation,
            name: self.name.to_owned(),
            api_version: match operation {
                Operation::Apply => String::new(),
                Operation::Update => self.info.api_version(),
            },
            subresource: self.subresource.to_owned(),
        }
    }

    /// What a write through this path resets, and so can own nothing of.
    fn ignored(&self) -> FieldSet {
        let has_status = self.info.subresources.contains(&Subresource::Status);
        match (self.subresource, self.info.kind) {
            ("status", "Deployment") => FieldSet::of(&[&["spec"], &["metadata", "labels"]]),
            ("status", "Pod") => FieldSet::of(&[
                &["spec"],
                &["metadata", "deletionTimestamp"],
                &["metadata", "ownerReferences"],
            ]),
            ("status", _) => FieldSet::of(&[&["spec"]]),
            ("scale", _) => FieldSet::default(),
            _ if has_status => FieldSet::of(&[&["status"]]),
            _ => FieldSet::default(),
        }
    }
}

/// The type of the kind's objects; kinds that the schema does not know are taken apart as they present themselves.
fn root_type(info: &KindInfo) -> Type {
    schema::standard().named(info.schema).map_or(Type::Any, Type::Struct)
}

fn identity() -> FieldSet {
    FieldSet::of(IDENTITY)
}
