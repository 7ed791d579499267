//! The minik node agent: everything that happens on one node.
//!
//! The agent is an ordinary Kubernetes client. It watches the API into one immutable snapshot
//! ([`view`]), computes from it, purely, what its node should look like ([`plan`]), and lets
//! reconcilers bring the kernel there ([`reconcile`], [`proxy`], [`runtime`]) through the one module
//! that touches it ([`kernel`]). [`trace`] follows packets through rules on paper, to judge them. It knows one namespace: the one it was started in.
//!
//! Never depends on `minik-api`: an agent can serve any Kubernetes API server.

pub mod agent;
pub mod clock;
mod config;
pub mod dns;
pub mod kernel;
pub mod kubelet;
pub mod model;
pub mod plan;
pub mod pods;
#[cfg(test)]
mod private_net;
pub mod probe;
pub mod proxy;
pub mod reconcile;
pub mod runtime;
pub mod trace;
pub mod view;
