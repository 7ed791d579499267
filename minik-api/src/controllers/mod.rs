//! controllers (assembled at the end of this file)

mod cache;
mod context;
mod deployment;
mod endpoints;
mod error;
mod garbage;
mod inventory;
mod namespace;
mod owner;
mod pod;
mod queue;
mod recorder;
mod replicaset;
mod scheduler;
mod service_account;
mod write;
