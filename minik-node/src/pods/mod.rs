//! The Pod manager: brings what runs on this node to what the API says is bound here.
//!
//! Owns sandboxes, addresses, volumes and the status of this node's Pods. What to do is decided purely
//! ([`decide`]); one small worker a Pod does it. Reads Pods through one watch, writes their status and events.

mod backoff;
mod charge;
mod config;
mod container;
mod context;
pub mod decide;
mod downward;
mod env_file;
pub(crate) mod events;
mod expand;
mod files;
mod hooks;
mod hostname;
pub mod ipam;
mod lost;
mod manager;
pub mod metrics;
mod objects;
mod probes;
mod pull;
mod quantity;
mod records;
mod refusal;
mod registry;
mod running;
mod sandbox;
mod service_env;
mod shares;
mod start;
mod status;
mod termination;
mod volumes;
mod worker;

pub use context::{NodeContext, PodError};
pub(crate) use expand::expand;
pub use files::ClusterDns;
pub use manager::spawn;
pub use objects::Objects;
pub use registry::{Facts, Registry};
