//! minik as a person uses it: the built binary, the real kubectl, real packets, looked at from outside.
//!
//! Every test boots a [`vm::Vm`] of its own, brings a cluster up in it and works there, so tests share nothing and run in
//! parallel, and what a failed one leaves behind dies with its machine. What is expected comes from Kubernetes (its
//! documents, its own components' output), never from an earlier run of minik.
//!
//! Needs root and the programs that `scripts/setup` installs; a test that lacks one fails and names it.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, helpers included")]

mod captured;
mod care;
mod clean;
mod console;
mod debug;
mod down;
mod egress;
mod endure;
mod heal;
mod helm;
mod kubectl;
mod lesson;
mod manifest;
mod manifests;
mod nodes;
mod pod_life;
mod pods;
mod proxy;
mod readme;
mod reboot;
mod recovery;
mod rollouts;
mod rules;
mod seen;
mod services;
mod soak;
mod storage;
mod streams;
mod vm;
mod workloads;
