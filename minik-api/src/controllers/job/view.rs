//! What one pass of the job controller looks at. Pure data.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;

/// What a pass looks at.
pub struct View<'a> {
    /// The Job.
    pub job: &'a Job,
    /// The Pods that it controls, in any state.
    pub pods: &'a [Arc<Pod>],
    /// Whether the cache shows every Pod that earlier passes created or deleted.
    pub settled: bool,
    /// The time of the pass.
    pub now: Timestamp,
}
