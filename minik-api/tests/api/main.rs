//! The API server from the outside: in process, over path sockets, over TLS.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

mod access;
mod allocation;
mod apply;
mod bindings;
mod collections;
mod common;
mod crowd;
mod discovery;
mod escalation;
#[path = "../support/examples.rs"]
mod examples;
mod kubectl;
mod kubectl_writes;
mod listeners;
mod networking;
#[path = "../support/objects.rs"]
mod objects;
mod options;
mod protobuf;
mod proxied;
mod refusals;
mod registry;
mod subresources;
mod verbs;
mod watches;
