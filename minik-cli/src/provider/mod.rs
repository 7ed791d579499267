//! How nodes come to be. `netns` makes every node a network namespace of this machine.

pub mod conflicts;
pub mod netns;
mod underlay;
