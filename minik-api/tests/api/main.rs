//! The API server from the outside: in process, over path sockets, over TLS.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

mod apply;
mod collections;
mod common;
mod discovery;
mod kubectl;
mod listeners;
mod refusals;
mod verbs;
mod watches;
