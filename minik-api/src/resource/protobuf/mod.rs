//! Kubernetes protobuf (`application/vnd.kubernetes.protobuf`) to the JSON that everything else works with, and
//! back: one transcoder for every kind, driven by a table.
//!
//! ```text
//! body     = "k8s\0" Unknown{ typeMeta, raw, … }        envelope  takes it apart and puts it together
//! raw      = one message of the table                    decode, encode    wire   varints and lengths
//! table    = message → number, JSON name, type           made by `scripts/protobuf`
//! ```
//!
//! Knows no kind by its fields and validates nothing: what it makes goes through the JSON decoder like any other
//! body, so that defaults, checks and their words are the same. Errors are those of the decoders that gogo-protobuf
//! generates for Kubernetes' types. Input is bounded by the size of a body, and depth by [`wire::MOST_DEPTH`].

mod decode;
mod encode;
mod envelope;
mod table;
#[cfg(test)]
mod tests;
mod wire;

pub use encode::EncodeError;
pub use envelope::{Expected, from_json, to_json, watch_frame};
pub use table::{Field, MessageId, Scalar, Table, Type, standard};
pub use wire::WireError;
