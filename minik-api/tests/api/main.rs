//! The API server from the outside: in process, over path sockets, over TLS.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

mod access;
mod allocation;
mod apply;
mod collections;
mod common;
mod crowd;
mod discovery;
mod kubectl;
mod kubectl_writes;
mod listeners;
mod networking;
mod protobuf;
mod refusals;
mod subresources;
mod verbs;
mod watches;
