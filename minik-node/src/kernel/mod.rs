//! The only place that calls `setns`, netlink, sysctl or a program. It does what it is told and
//! reports what it sees; it decides nothing.

pub mod carrier;
pub mod conntrack;
pub mod link;
pub mod monitor;
pub mod netlink;
pub mod netns;
pub mod netns_dir;
pub mod nft;
pub mod pod_network;
pub mod probe;
pub mod process;
mod request;
pub mod route;
mod route_message;
pub mod sysctl;
pub mod veth;
pub mod xtables;
