//! Decisions, all pure: what the node should look like, computed from a view. No IO, no clock, no tokio,
//! ordered maps only.

pub mod conntrack;
pub mod dns_zone;
pub mod fabric;
pub mod health_check;
pub mod host_ports;
pub mod link;
pub mod pod_network;
pub mod service_table;
