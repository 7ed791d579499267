//! How kinds behave that keep a number of equal Pods: ReplicaSet and ReplicationController, which differ in the form of
//! the selector, and in what they make of a missing one. Pure; each kind's file says what is its own.

use std::marker::PhantomData;

use jiff::Timestamp;
use k8s_openapi::Metadata;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::workload;
use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::names;
use crate::resource::{Column, Strategy, print};

/// A kind that keeps a number of equal Pods.
pub(super) trait Replicated {
    /// Printer columns.
    const COLUMNS: &'static [Column];

    /// Fills the fields that 1.36 defaults.
    fn fill(&mut self);
    /// What is wrong with the spec.
    fn check(&self) -> FieldErrors;
    /// What of the spec may not change, and did.
    fn changed(&self, old: &Self) -> Option<FieldError>;
    /// Whether both wish for the same.
    fn has_spec_of(&self, other: &Self) -> bool;
    /// Wishes for what `other` does.
    fn take_spec_of(&mut self, other: &Self);
    /// Takes the status of `other`, or a new one.
    fn take_status_of(&mut self, other: Option<&Self>);
    /// How many Pods are wished for, from what, and how they are found.
    fn wish(&self) -> Wish<'_>;
    /// What the status counts.
    fn counts(&self) -> Option<ReplicaCounts>;
}

/// What is wished for, as it is printed.
pub(super) struct Wish<'a> {
    /// `replicas`.
    pub replicas: Option<i32>,
    /// `template`.
    pub template: Option<&'a PodTemplateSpec>,
    /// `selector`, as a client would write it.
    pub selector: String,
}

/// What a status counts.
#[derive(Default)]
pub(super) struct ReplicaCounts {
    /// `replicas`.
    pub all: i32,
    /// `fullyLabeledReplicas`.
    pub labelled: Option<i32>,
    /// `readyReplicas`.
    pub ready: Option<i32>,
    /// `availableReplicas`.
    pub available: Option<i32>,
    /// `observedGeneration`.
    pub observed: Option<i64>,
}

/// How ReplicaSets and ReplicationControllers behave.
pub(super) struct ReplicatedKind<R>(PhantomData<fn() -> R>);

impl<R> ReplicatedKind<R> {
    pub(super) const STRATEGY: Self = Self(PhantomData);
}

impl<R> Strategy for ReplicatedKind<R>
where
    R: Replicated + Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Clone + Send + Sync + 'static,
{
    type Object = R;

    fn default(&self, object: &mut R) {
        object.fill();
    }

    fn prepare_for_create(&self, object: &mut R) {
        object.take_status_of(None);
        object.metadata_mut().generation = Some(1);
    }

    fn prepare_for_update(&self, new: &mut R, old: &R) {
        new.take_status_of(Some(old));
        let changed = !new.has_spec_of(old);
        workload::step_generation(new.metadata_mut(), old.metadata(), changed);
    }

    fn prepare_for_status_update(&self, new: &mut R, old: &R) {
        new.take_spec_of(old);
        new.metadata_mut().generation = old.metadata().generation;
    }

    fn validate(&self, object: &R) -> FieldErrors {
        let mut errors = meta::validate(object.metadata(), Scope::Namespaced, names::dns_subdomain);
        errors.extend(object.check());
        errors
    }

    fn validate_update(&self, new: &R, old: &R) -> FieldErrors {
        let mut errors = meta::contents(new.metadata());
        errors.extend(new.check());
        errors.extend(new.changed(old));
        errors.extend(new.counts().iter().flat_map(check_counts));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        R::COLUMNS
    }

    fn row(&self, object: &R, now: Timestamp) -> Vec<Value> {
        let wish = object.wish();
        let counts = object.counts().unwrap_or_default();
        let (containers, images) = print::containers(wish.template);
        vec![
            print::name(object.metadata()),
            Value::from(wish.replicas.unwrap_or_default()),
            Value::from(counts.all),
            Value::from(counts.ready.unwrap_or_default()),
            print::age(object.metadata(), now),
            Value::from(containers),
            Value::from(images),
            Value::from(wish.selector),
        ]
    }

    fn selectable_field(&self, object: &R, label: &str) -> Option<String> {
        let replicas = || object.counts().unwrap_or_default().all.to_string();
        (label == "status.replicas").then(replicas)
    }

    fn selectable_fields(&self) -> &'static [&'static str] {
        &["status.replicas"]
    }
}

/// Parts may not be more than the whole.
fn check_counts(counts: &ReplicaCounts) -> FieldErrors {
    let part = |count: Option<i32>| count.unwrap_or_default();
    let (labelled, ready, available) = (part(counts.labelled), part(counts.ready), part(counts.available));
    let parts = [
        ("fullyLabeledReplicas", labelled),
        ("readyReplicas", ready),
        ("availableReplicas", available),
    ];
    let mut errors = workload::all_non_negative(
        "status",
        [
            ("replicas", Some(counts.all.into())),
            ("fullyLabeledReplicas", Some(labelled.into())),
            ("readyReplicas", Some(ready.into())),
            ("availableReplicas", Some(available.into())),
            ("observedGeneration", counts.observed),
        ],
    );
    let more = |field: &str, count: i32, whole: &str| {
        FieldError::invalid(
            format!("status.{field}"),
            count,
            format!("cannot be greater than {whole}"),
        )
    };
    let beyond = parts.into_iter().filter(|(_, count)| *count > counts.all);
    errors.extend(beyond.map(|(field, count)| more(field, count, "status.replicas")));
    if available > ready {
        errors.push(more("availableReplicas", available, "readyReplicas"));
    }
    errors
}
