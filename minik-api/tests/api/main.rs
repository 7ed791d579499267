//! The API server from the outside: in process, over path sockets, over TLS.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

mod access;
mod allocation;
mod common;
mod crowd;
mod discovery;
mod kubectl;
mod listeners;
mod protobuf;
mod networking;
mod refusals;
mod subresources;
mod verbs;
mod watches;
