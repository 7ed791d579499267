//! The `minik` binary.

mod cluster;
mod provider;

fn main() {}
