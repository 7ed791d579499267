//! How nodes come to be. `netns` makes every node a network namespace of this machine.

pub mod conflicts;
pub mod egress;
pub mod keeper;
pub mod netns;
pub mod survey;
pub mod underlay;
