//! Label and field selectors: parse a query string, match an object. Pure; the error texts are those
//! of apimachinery's `labels` and `fields` packages.

mod field;
mod label;
mod lexer;

pub use field::{FieldRequirement, FieldSelector};
pub use label::LabelSelector;

/// Why a selector was refused, in the API server's words (a `BadRequest`).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(pub(crate) String);
