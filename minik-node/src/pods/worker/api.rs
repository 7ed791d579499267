//! What a worker tells the API server: the Pod's status when it changed, and that the Pod is gone.

use std::time::Instant;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, PodStatus};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};

use super::super::context::PodError;
use super::super::metrics::Operation;
use super::super::refusal::refusal;
use super::super::status::{Addresses, DEADLINE_EXCEEDED, is_known, patch, status};
use super::Worker;

impl Worker {
    /// Removes the Pod's object.
    pub(super) async fn release(&self) -> Result<(), PodError> {
        let preconditions = Preconditions {
            uid: Some(self.charge.uid().to_owned()),
            resource_version: None,
        };
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        match self.api().delete(self.charge.name(), &params).await {
            Ok(_) => Ok(()),
            // Gone already, or another Pod has the name.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(error) => Err(PodError::Api("delete the Pod", Box::new(error))),
        }
    }

    /// Patches the status, if it is another than the one reported last.
    pub(super) async fn report(&mut self) -> Result<(), PodError> {
        let addresses = Addresses {
            host: self.charge.node.config.node_ip,
            pod: self.charge.running.as_ref().map(|running| running.spec.address),
        };
        let status = status(
            &self.charge.pod,
            &self.charge.knowledge,
            addresses,
            self.first_seen,
            Timestamp::now(),
        );
        if self.charge.reported.as_ref() == Some(&status) {
            return Ok(());
        }
        self.charge.wait_for(&status);
        let api = self
            .charge
            .pod
            .status
            .as_ref()
            .filter(|_| self.charge.reported.is_none());
        if api.is_some_and(|api| matches!(is_known(api, &status), Ok(true))) {
            self.charge.reported = Some(status);
            return Ok(());
        }
        let before = [self.charge.reported.as_ref(), self.charge.pod.status.as_ref()];
        let patch = patch(self.charge.uid(), before, &status).map_err(PodError::Status)?;
        let began = Instant::now();
        let patched = self
            .api()
            .patch_status(self.charge.name(), &PatchParams::default(), &Patch::Strategic(patch))
            .await;
        let metrics = self.charge.registry.metrics();
        metrics.took(Operation::PatchStatus, began.elapsed());
        match patched {
            Ok(_) => {}
            Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => {}
            Err(error) => return Err(PodError::Api("patch the Pod's status", Box::new(error))),
        }
        let late = DEADLINE_EXCEEDED.0;
        let is = |status: &PodStatus, reason: &str| status.reason.as_deref() == Some(reason);
        let newly = |reason| is(&status, reason) && !before.into_iter().flatten().any(|status| is(status, reason));
        if newly(late) {
            self.charge
                .events
                .normal(&self.charge.pod, None, late, DEADLINE_EXCEEDED.1);
        }
        if let Some(refusal) = self.charge.pod.spec.as_ref().and_then(refusal)
            && newly(refusal.reason)
        {
            self.charge
                .events
                .warning(&self.charge.pod, None, refusal.reason, refusal.message);
        }
        self.failures = 0;
        self.charge.reported = Some(status);
        Ok(())
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.charge.node.client.clone(), self.charge.namespace())
    }
}
