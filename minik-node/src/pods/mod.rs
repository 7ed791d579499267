//! The Pod manager: brings what runs on this node to what the API says is bound here.
//!
//! Owns sandboxes, addresses, volumes and the status of this node's Pods. What to do is decided purely
//! ([`decide`]); one small worker a Pod does it. Reads Pods through one watch, writes their status and events.

mod backoff;
mod config;
mod container;
pub mod decide;
pub(crate) mod events;
mod expand;
mod files;
pub mod ipam;
mod lost;
mod manager;
mod sandbox;
mod service_env;
mod start;
mod status;
mod volumes;
mod worker;

pub use files::ClusterDns;
pub use manager::{Facts, Registry, spawn};
pub use worker::{NodeContext, PodError};
