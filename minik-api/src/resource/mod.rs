//! What every served kind is: its names, its schema, and the strategy that defaults, validates and
//! prints it. One file a kind; [`Registry`] is the table of them.
//!
//! Never touches storage, HTTP or the clock: a strategy is a pure function over objects, with `now`
//! and allocation results handed in. Called by `http` on every write and on every Table.

pub mod cron;
pub mod decode;
pub mod field;
pub(crate) mod kind_info;
mod kinds;
pub mod managed;
pub mod patch;
mod print;
pub mod protobuf;
pub(crate) mod registry;
pub mod schema;
pub mod selector;
mod strategy;
pub mod validation;
pub(crate) mod volume_class;

pub use kind_info::{KindInfo, Registered, Subresource, View};
pub use registry::Registry;
pub use strategy::{Column, DynStrategy, Strategy};
