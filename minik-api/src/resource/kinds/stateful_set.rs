//! StatefulSet.

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{
    RollingUpdateStatefulSetStrategy, StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
    StatefulSetStatus, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::Volume;
use serde_json::{Value, json};

use super::workload::{self, non_negative};
use super::{persistent_volume_claim, pod_template};
use crate::resource::field::{FieldError, FieldErrors, Shown};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::names;
use crate::resource::{Column, KindInfo, Strategy, Subresource, print};

pub(super) const INFO: KindInfo = KindInfo {
    group: "apps",
    kind: "StatefulSet",
    plural: "statefulsets",
    singular: "statefulset",
    short_names: &["sts"],
    categories: &["all"],
    schema: "io.k8s.api.apps.v1.StatefulSet",
    subresources: &[Subresource::Scale, Subresource::Status],
    ..super::CORE
};

const COLUMNS: &[Column] = &[
    print::NAME,
    print::text("Ready", 0, "Number of the pod with ready state"),
    print::AGE,
    workload::CONTAINERS,
    workload::IMAGES,
];

const UNCHANGEABLE: &str = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";

/// How StatefulSets behave.
pub(super) struct StatefulSets;

impl Strategy for StatefulSets {
    type Object = StatefulSet;

    fn default(&self, object: &mut StatefulSet) {
        let spec = object.spec.get_or_insert_default();
        spec.pod_management_policy
            .get_or_insert_with(|| "OrderedReady".to_owned());
        default_strategy(spec.update_strategy.get_or_insert_default());
        let keep = || "Retain".to_owned();
        let retention = spec.persistent_volume_claim_retention_policy.get_or_insert_default();
        retention.when_deleted.get_or_insert_with(keep);
        retention.when_scaled.get_or_insert_with(keep);
        spec.replicas.get_or_insert(1);
        spec.revision_history_limit.get_or_insert(10);
        pod_template::default_spec(spec.template.spec.get_or_insert_default());
        spec.volume_claim_templates
            .iter_mut()
            .flatten()
            .for_each(persistent_volume_claim::default_template);
    }

    fn prepare_for_create(&self, object: &mut StatefulSet) {
        object.status = Some(StatefulSetStatus {
            available_replicas: Some(0),
            ..StatefulSetStatus::default()
        });
        object.metadata.generation = Some(1);
    }

    fn prepare_for_update(&self, new: &mut StatefulSet, old: &StatefulSet) {
        new.status.clone_from(&old.status);
        workload::step_generation(&mut new.metadata, &old.metadata, new.spec != old.spec);
    }

    fn prepare_for_status_update(&self, new: &mut StatefulSet, old: &StatefulSet) {
        new.spec.clone_from(&old.spec);
        new.metadata.generation = old.metadata.generation;
    }

    fn validate(&self, object: &StatefulSet) -> FieldErrors {
        let mut errors = meta::validate(&object.metadata, Scope::Namespaced, names::dns_label);
        errors.extend(object.spec.iter().flat_map(spec));
        errors
    }

    fn validate_update(&self, new: &StatefulSet, old: &StatefulSet) -> FieldErrors {
        let mut errors = meta::contents(&new.metadata);
        errors.extend(new.spec.iter().flat_map(spec));
        if let (Some(new), Some(old)) = (&new.spec, &old.spec)
            && with_changeable_fields_of(new, old) != *old
        {
            errors.push(FieldError::forbidden("spec", UNCHANGEABLE));
        }
        if let Some(status) = &new.status {
            let before = old.status.as_ref().and_then(|s| s.collision_count);
            errors.extend(check_status(status, before));
        }
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &StatefulSet, now: Timestamp) -> Vec<Value> {
        let spec = object.spec.as_ref();
        let ready = object
            .status
            .as_ref()
            .and_then(|s| s.ready_replicas)
            .unwrap_or_default();
        let (containers, images) = print::containers(spec.map(|s| &s.template));
        vec![
            print::name(&object.metadata),
            Value::from(format!("{ready}/{}", spec.and_then(|s| s.replicas).unwrap_or_default())),
            print::age(&object.metadata, now),
            Value::from(containers),
            Value::from(images),
        ]
    }
}

fn default_strategy(strategy: &mut StatefulSetUpdateStrategy) {
    if strategy.type_.as_deref().unwrap_or_default().is_empty() {
        strategy.type_ = Some("RollingUpdate".to_owned());
        strategy.rolling_update.get_or_insert_default();
    }
    if strategy.type_.as_deref() == Some("RollingUpdate")
        && let Some(rolling) = &mut strategy.rolling_update
    {
        rolling.partition.get_or_insert(0);
    }
}

fn spec(spec: &StatefulSetSpec) -> FieldErrors {
    let mut errors = Vec::new();
    match spec.pod_management_policy.as_deref().unwrap_or_default() {
        "OrderedReady" | "Parallel" => {}
        "" => errors.push(FieldError::required("spec.podManagementPolicy", "")),
        other => {
            let detail = "must be 'OrderedReady' or 'Parallel'";
            errors.push(FieldError::invalid("spec.podManagementPolicy", other, detail));
        }
    }
    errors.extend(spec.update_strategy.iter().flat_map(strategy));
    errors.extend(spec.persistent_volume_claim_retention_policy.iter().flat_map(retention));
    errors.extend(non_negative("spec.replicas", spec.replicas));
    errors.extend(non_negative("spec.minReadySeconds", spec.min_ready_seconds));
    let start = spec.ordinals.as_ref().and_then(|o| o.start);
    errors.extend(non_negative("spec.ordinals.start", start));
    errors.extend(non_negative("spec.revisionHistoryLimit", spec.revision_history_limit));
    let service = spec.service_name.as_deref().unwrap_or_default();
    if !service.is_empty() {
        errors.extend(FieldError::each("spec.serviceName", service, names::dns_label(service)));
    }
    errors.extend(workload::check_selector("statefulset", &spec.selector));
    errors.extend(template(spec));
    let claims = spec.volume_claim_templates.as_deref().unwrap_or_default();
    errors.extend(persistent_volume_claim::validate_templates(
        "spec.volumeClaimTemplates",
        claims,
    ));
    errors
}

/// The template as the Pods will be made of it: each claim is a volume that mounts may name.
fn template(spec: &StatefulSetSpec) -> FieldErrors {
    let mut template = spec.template.clone();
    let claims = spec.volume_claim_templates.iter().flatten();
    let volumes = claims.map(|claim| Volume {
        name: claim.metadata.name.clone().unwrap_or_default(),
        empty_dir: Some(Default::default()),
        ..Volume::default()
    });
    let pod = template.spec.get_or_insert_default();
    pod.volumes.get_or_insert_default().extend(volumes);
    workload::check_template("StatefulSet", "", &spec.selector, &template)
}

fn strategy(strategy: &StatefulSetUpdateStrategy) -> FieldErrors {
    const FIELD: &str = "spec.updateStrategy";
    match (strategy.type_.as_deref().unwrap_or_default(), &strategy.rolling_update) {
        ("RollingUpdate", Some(rolling)) => rolling_update(&format!("{FIELD}.rollingUpdate"), rolling),
        ("OnDelete", Some(rolling)) => {
            let detail = "only allowed for updateStrategy 'RollingUpdate'";
            let field = format!("{FIELD}.rollingUpdate");
            vec![FieldError::invalid_shown(field, shown(rolling), detail)]
        }
        ("RollingUpdate" | "OnDelete", None) => Vec::new(),
        ("", _) => vec![FieldError::required(FIELD, "")],
        _ => {
            let detail = "must be 'RollingUpdate' or 'OnDelete'";
            let value = Shown::go([
                ("Type", json!(strategy.type_).into()),
                (
                    "RollingUpdate",
                    Shown::pointer(strategy.rolling_update.as_ref().map(shown)),
                ),
            ]);
            vec![FieldError::invalid_shown(FIELD, value, detail)]
        }
    }
}

fn shown(rolling: &RollingUpdateStatefulSetStrategy) -> Shown {
    Shown::go([
        ("Partition", json!(rolling.partition.unwrap_or_default()).into()),
        ("MaxUnavailable", json!(rolling.max_unavailable).into()),
    ])
}

fn rolling_update(field: &str, rolling: &RollingUpdateStatefulSetStrategy) -> FieldErrors {
    let mut errors = Vec::new();
    errors.extend(non_negative(&format!("{field}.partition"), rolling.partition));
    let Some(most) = &rolling.max_unavailable else {
        return errors;
    };
    let at = format!("{field}.maxUnavailable");
    errors.extend(workload::count_or_percent(&at, most));
    if workload::number(most).unwrap_or_default() == 0 {
        let value = serde_json::to_value(most).unwrap_or_default();
        errors.push(FieldError::invalid(at.as_str(), value, "cannot be 0"));
    }
    errors.extend(workload::more_than_all(&at, most));
    errors
}

fn retention(policy: &StatefulSetPersistentVolumeClaimRetentionPolicy) -> FieldErrors {
    let fields = [
        ("whenDeleted", &policy.when_deleted),
        ("whenScaled", &policy.when_scaled),
    ];
    let wrong = |(child, given): (&str, &Option<String>)| {
        let given = given.as_deref().unwrap_or_default();
        let field = format!("spec.persistentVolumeClaimRetentionPolicy.{child}");
        let known = matches!(given, "Retain" | "Delete");
        (!known).then(|| FieldError::not_supported(field, given, &["Retain", "Delete"]))
    };
    fields.into_iter().filter_map(wrong).collect()
}

/// `new` with all that an update may change put back to `old`.
fn with_changeable_fields_of(new: &StatefulSetSpec, old: &StatefulSetSpec) -> StatefulSetSpec {
    StatefulSetSpec {
        replicas: old.replicas,
        template: old.template.clone(),
        update_strategy: old.update_strategy.clone(),
        min_ready_seconds: old.min_ready_seconds,
        ordinals: old.ordinals.clone(),
        revision_history_limit: old.revision_history_limit,
        persistent_volume_claim_retention_policy: old.persistent_volume_claim_retention_policy.clone(),
        ..new.clone()
    }
}

fn check_status(status: &StatefulSetStatus, collisions_before: Option<i32>) -> FieldErrors {
    let all = status.replicas;
    let ready = status.ready_replicas.unwrap_or_default();
    let current = status.current_replicas.unwrap_or_default();
    let updated = status.updated_replicas.unwrap_or_default();
    let available = status.available_replicas.unwrap_or_default();
    let collisions = status.collision_count;
    let mut errors = workload::all_non_negative(
        "status",
        [
            ("replicas", Some(all.into())),
            ("readyReplicas", Some(ready.into())),
            ("currentReplicas", Some(current.into())),
            ("updatedReplicas", Some(updated.into())),
            ("availableReplicas", Some(available.into())),
            ("observedGeneration", status.observed_generation),
            ("collisionCount", collisions.map(Into::into)),
        ],
    );
    let parts = [
        ("readyReplicas", ready),
        ("currentReplicas", current),
        ("updatedReplicas", updated),
        ("availableReplicas", available),
    ];
    let more = |field: &str, count: i32, whole: &str| {
        FieldError::invalid(
            format!("status.{field}"),
            count,
            format!("cannot be greater than status.{whole}"),
        )
    };
    errors.extend(
        parts
            .into_iter()
            .filter(|(_, count)| *count > all)
            .map(|(field, count)| more(field, count, "replicas")),
    );
    if available > ready {
        errors.push(more("availableReplicas", available, "readyReplicas"));
    }
    if collisions_before > collisions {
        let now = collisions.unwrap_or_default();
        errors.push(FieldError::invalid(
            "status.collisionCount",
            now,
            "cannot be decremented",
        ));
    }
    errors
}
