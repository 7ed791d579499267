//! What one decision of the scheduler looks at. Pure data.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::board::Board;
use super::facts::Facts;
use super::volumes::Volumes;
use crate::controllers::cache::Key;

/// What the scheduler looks at.
pub struct View<'a> {
    /// The nodes, and the Pods on them.
    pub board: &'a Board,
    /// Claims and volumes.
    pub volumes: &'a Volumes,
    /// Nodes promised to Pods for which room is being made.
    pub nominations: &'a BTreeMap<Key, String>,
    /// The Pods that wait, among them those with a promise.
    pub waiting: &'a BTreeMap<Key, Arc<Facts>>,
    /// PodDisruptionBudgets.
    pub budgets: &'a [Arc<PodDisruptionBudget>],
}
