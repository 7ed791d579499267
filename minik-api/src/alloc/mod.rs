//! Cluster IPs and node ports.

use std::ops::RangeInclusive;

use ipnet::Ipv4Net;
use serde_json::Value;

use crate::resource::field::FieldErrors;

/// All allocators.
pub struct Allocators;

/// Numbers taken but not yet kept.
pub struct Reservation;

impl Reservation {
    /// Keeps them.
    pub fn commit(self) {}
}

impl Allocators {
    /// Empty allocators.
    #[must_use]
    pub fn new(_service_cidr: Ipv4Net, _node_ports: RangeInclusive<u16>) -> Self {
        Self
    }
    /// Takes what a stored Service has.
    pub fn adopt(&self, _service: &Value) -> Result<(), serde_json::Error> {
        Ok(())
    }
    /// For a creation.
    pub fn for_create(&self, _service: &mut Value) -> Result<Reservation, FieldErrors> {
        Ok(Reservation)
    }
    /// For an update.
    pub fn for_update(&self, _new: &mut Value, _old: &Value) -> Result<Reservation, FieldErrors> {
        Ok(Reservation)
    }
    /// On deletion.
    pub fn release(&self, _service: &Value) -> Result<(), serde_json::Error> {
        Ok(())
    }
}
