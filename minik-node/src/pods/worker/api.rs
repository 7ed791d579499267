//! What a worker tells the API server: the Pod's status when it changed, and that the Pod is gone.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};

use super::super::shares::{SYSCTL_FORBIDDEN, forbidden};
use super::super::status::{Addresses, DEADLINE_EXCEEDED, is_known, patch, status};
use super::{PodError, Worker};

impl Worker {
    /// Removes the Pod's object.
    pub(super) async fn release(&self) -> Result<(), PodError> {
        let preconditions = Preconditions {
            uid: Some(self.uid().to_owned()),
            resource_version: None,
        };
        let params = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(preconditions),
            ..DeleteParams::default()
        };
        match self.api().delete(self.name(), &params).await {
            Ok(_) => Ok(()),
            // Gone already, or another Pod has the name.
            Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
            Err(error) => Err(PodError::Api("delete the Pod", Box::new(error))),
        }
    }

    /// Patches the status, if it is another than the one reported last.
    pub(super) async fn report(&mut self) -> Result<(), PodError> {
        let addresses = Addresses {
            host: self.node.config.node_ip,
            pod: self.running.as_ref().map(|running| running.spec.address),
        };
        let status = status(&self.pod, &self.knowledge, addresses, self.first_seen, Timestamp::now());
        if self.reported.as_ref() == Some(&status) {
            return Ok(());
        }
        let api = self.pod.status.as_ref().filter(|_| self.reported.is_none());
        if api.is_some_and(|api| matches!(is_known(api, &status), Ok(true))) {
            self.remember(status);
            return Ok(());
        }
        let before = [self.reported.as_ref(), self.pod.status.as_ref()];
        let patch = patch(self.uid(), before, &status).map_err(PodError::Status)?;
        match self
            .api()
            .patch_status(self.name(), &PatchParams::default(), &Patch::Strategic(patch))
            .await
        {
            Ok(_) => {}
            Err(kube::Error::Api(answer)) if answer.code == 404 || answer.code == 409 => {}
            Err(error) => return Err(PodError::Api("patch the Pod's status", Box::new(error))),
        }
        let late = DEADLINE_EXCEEDED.0;
        let is = |status: &PodStatus, reason: &str| status.reason.as_deref() == Some(reason);
        let newly = |reason| is(&status, reason) && !before.into_iter().flatten().any(|status| is(status, reason));
        if newly(late) {
            self.events.normal(&self.pod, None, late, DEADLINE_EXCEEDED.1);
        }
        if let (true, Some(why)) = (newly(SYSCTL_FORBIDDEN), self.pod.spec.as_ref().and_then(forbidden)) {
            self.events.warning(&self.pod, None, SYSCTL_FORBIDDEN, why);
        }
        self.failures = 0;
        self.remember(status);
        Ok(())
    }

    /// What the API now says; the kubelet's endpoint answers in its words.
    fn remember(&mut self, status: PodStatus) {
        let before = self.waiting();
        self.reported = Some(status);
        if self.waiting() != before {
            self.publish();
        }
    }

    /// Why containers wait, by name, as the API was told last.
    pub(super) fn waiting(&self) -> BTreeMap<String, String> {
        let status = self.reported.iter();
        let lists = status.flat_map(|status| [&status.init_container_statuses, &status.container_statuses]);
        let reason = |status: &ContainerStatus| {
            let waiting = status.state.as_ref()?.waiting.as_ref()?;
            Some((status.name.clone(), waiting.reason.clone()?))
        };
        lists.flatten().flatten().filter_map(reason).collect()
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(self.node.client.clone(), self.namespace())
    }
}
