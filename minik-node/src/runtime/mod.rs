//! Pods as processes: images, file systems, the shim, its client, logs and stand-ins.
//!
//! Owns everything between "run this container" and a process in its namespaces. Decides nothing about Pods
//! (that is [`crate::pods`]) and lays no network (that is [`crate::kernel`]). Only this module starts
//! container processes.

pub mod client;
pub mod cri_log;
pub mod exits;
pub mod image;
pub mod protocol;
pub mod shim;
pub mod spec;
pub mod standin;
