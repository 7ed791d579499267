//! controllers (assembled at the end of this file)

mod cache;
mod context;
mod deployment;
mod error;
mod owner;
mod pod;
mod queue;
mod recorder;
mod replicaset;
mod write;
