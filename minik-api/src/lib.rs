//! The minik API server: a small, faithful Kubernetes API over a revisioned, durable log.
//!
//! A request's way through the crate, top to bottom:
//!
//! ```text
//! server    listeners (path sockets, TLS) → who is asking
//! http      routing, verbs, watch, patch, Table, discovery, OpenAPI, exec and log tunnels
//! resource  what each kind is: schema, defaults, validation, printer columns
//! authz     who may do what: roles and bindings, pure; identity is who asks
//! alloc     cluster IPs and node ports, pure bitmaps
//! storage   pure revisioned log, its durable form, and the watch window over it
//! ```
//!
//! [`controllers`] sit beside that stack, not inside it: they are ordinary Kubernetes clients that
//! happen to run in the same process over the in-process router. Nothing here knows about nodes'
//! kernels; the node agents are clients of this crate's HTTP interface and of nothing else.

pub mod account_tokens;
pub mod alloc;
pub mod authz;
pub mod config;
pub mod controllers;
pub mod error;
pub mod http;
pub mod identity;
pub mod pki;
pub mod resource;
pub mod server;
pub mod storage;
