//! Probes of containers: when one is due ([`schedule`], pure) and what it finds ([`check`], on the network).
//!
//! Knows no Pod's life: [`crate::pods`] asks, and acts on the answers. Texts are the kubelet's, since people look
//! them up.

pub mod check;
pub mod go;
pub mod schedule;
