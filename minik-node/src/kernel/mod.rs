//! The only place that calls `setns`, netlink, sysctl or a program. It does what it is told and
//! reports what it sees; it decides nothing.

pub mod link;
pub mod netns;
pub mod pod_network;
pub mod probe;
pub mod route;
pub mod sysctl;
