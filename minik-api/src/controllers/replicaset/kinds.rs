//! The two kinds that keep a number of Pods: ReplicaSet, and the older ReplicationController, which the
//! decision sees as a ReplicaSet, as Kubernetes' own controller does.

use std::borrow::Cow;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetCondition, ReplicaSetSpec, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{
    ReplicationController, ReplicationControllerCondition, ReplicationControllerSpec, ReplicationControllerStatus,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use crate::controllers::cache::Cache;
use crate::controllers::context::Context;
use crate::controllers::controller_ref::Owner;

/// A kind that keeps a number of Pods.
pub trait Replicated: Owner {
    /// What its events come from.
    const COMPONENT: &'static str;

    /// The object as a ReplicaSet of the same name and uid.
    fn as_replica_set(&self) -> Cow<'_, ReplicaSet>;

    /// The object with another status.
    fn with_status(&self, status: ReplicaSetStatus) -> Self;
}

impl Owner for ReplicaSet {
    fn cache(context: &Context) -> &Arc<Cache<Self>> {
        &context.replica_sets
    }

    fn selector(&self) -> LabelSelector {
        self.spec.as_ref().map(|spec| spec.selector.clone()).unwrap_or_default()
    }
}

impl Replicated for ReplicaSet {
    const COMPONENT: &'static str = "replicaset-controller";

    fn as_replica_set(&self) -> Cow<'_, ReplicaSet> {
        Cow::Borrowed(self)
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        Self {
            status: Some(status),
            ..self.clone()
        }
    }
}

impl Owner for ReplicationController {
    fn cache(context: &Context) -> &Arc<Cache<Self>> {
        &context.replication_controllers
    }

    fn selector(&self) -> LabelSelector {
        LabelSelector {
            match_labels: self.spec.as_ref().and_then(|spec| spec.selector.clone()),
            match_expressions: None,
        }
    }
}

impl Replicated for ReplicationController {
    const COMPONENT: &'static str = "replication-controller";

    fn as_replica_set(&self) -> Cow<'_, ReplicaSet> {
        Cow::Owned(ReplicaSet {
            metadata: self.metadata.clone(),
            spec: self.spec.as_ref().map(|spec| replica_set_spec(spec, self.selector())),
            status: self.status.as_ref().map(replica_set_status),
        })
    }

    fn with_status(&self, status: ReplicaSetStatus) -> Self {
        let conditions = status
            .conditions
            .map(|all| all.into_iter().map(own_condition).collect());
        Self {
            status: Some(ReplicationControllerStatus {
                replicas: status.replicas,
                fully_labeled_replicas: status.fully_labeled_replicas,
                ready_replicas: status.ready_replicas,
                available_replicas: status.available_replicas,
                observed_generation: status.observed_generation,
                conditions,
            }),
            ..self.clone()
        }
    }
}

fn replica_set_spec(spec: &ReplicationControllerSpec, selector: LabelSelector) -> ReplicaSetSpec {
    ReplicaSetSpec {
        min_ready_seconds: spec.min_ready_seconds,
        replicas: spec.replicas,
        selector,
        template: spec.template.clone(),
    }
}

fn replica_set_status(status: &ReplicationControllerStatus) -> ReplicaSetStatus {
    let conditions = status.conditions.clone();
    ReplicaSetStatus {
        replicas: status.replicas,
        fully_labeled_replicas: status.fully_labeled_replicas,
        ready_replicas: status.ready_replicas,
        available_replicas: status.available_replicas,
        terminating_replicas: None,
        observed_generation: status.observed_generation,
        conditions: conditions.map(|all| all.into_iter().map(shared_condition).collect()),
    }
}

fn shared_condition(condition: ReplicationControllerCondition) -> ReplicaSetCondition {
    ReplicaSetCondition {
        type_: condition.type_,
        status: condition.status,
        reason: condition.reason,
        message: condition.message,
        last_transition_time: condition.last_transition_time,
    }
}

fn own_condition(condition: ReplicaSetCondition) -> ReplicationControllerCondition {
    ReplicationControllerCondition {
        type_: condition.type_,
        status: condition.status,
        reason: condition.reason,
        message: condition.message,
        last_transition_time: condition.last_transition_time,
    }
}
