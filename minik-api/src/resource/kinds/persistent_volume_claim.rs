//! PersistentVolumeClaim, and the claims that StatefulSets carry as templates.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    PersistentVolumeClaim, PersistentVolumeClaimSpec, PersistentVolumeClaimStatus, TypedLocalObjectReference,
    TypedObjectReference,
};
use serde_json::Value;

use super::volume_modes;
use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::{labels, names, resources};
use crate::resource::{Column, KindInfo, Strategy, Subresource, print, volume_class};

pub(super) const INFO: KindInfo = KindInfo {
    kind: "PersistentVolumeClaim",
    plural: "persistentvolumeclaims",
    singular: "persistentvolumeclaim",
    short_names: &["pvc"],
    schema: "io.k8s.api.core.v1.PersistentVolumeClaim",
    subresources: &[Subresource::Status],
    ..super::CORE
};

/// Keeps a claim while a Pod uses it; the StorageObjectInUseProtection admission adds it.
const PROTECTION: &str = "kubernetes.io/pvc-protection";
const STORAGE: &str = "storage";
const CLAIM: &str = "PersistentVolumeClaim";
const UNCHANGEABLE: &str =
    "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n";

const COLUMNS: &[Column] = &[
    print::NAME,
    print::text(
        "Status",
        0,
        "phase represents the current phase of PersistentVolumeClaim.",
    ),
    print::text(
        "Volume",
        0,
        "volumeName is the binding reference to the PersistentVolume backing this claim.",
    ),
    print::text(
        "Capacity",
        0,
        "capacity represents the actual resources of the underlying volume.",
    ),
    print::text(
        "Access Modes",
        0,
        "accessModes contains the actual access modes the volume backing the PVC has. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#access-modes-1",
    ),
    print::text("StorageClass", 0, "StorageClass of the pvc"),
    print::text("VolumeAttributesClass", 0, "VolumeAttributesClass of the pvc"),
    print::AGE,
    print::text(
        "VolumeMode",
        1,
        "volumeMode defines what type of volume is required by the claim. Value of Filesystem is implied when not included in claim spec.\n\nPossible enum values:\n - `\"Block\"` means the volume will not be formatted with a filesystem and will remain a raw block device.\n - `\"Filesystem\"` means the volume will be or is formatted with a filesystem.",
    ),
];

/// How PersistentVolumeClaims behave.
pub(super) struct PersistentVolumeClaims;

impl Strategy for PersistentVolumeClaims {
    type Object = PersistentVolumeClaim;

    fn default(&self, object: &mut PersistentVolumeClaim) {
        default_template(object);
    }

    fn prepare_for_create(&self, object: &mut PersistentVolumeClaim) {
        object.status = Some(pending());
        normalize_sources(object.spec.get_or_insert_default());
        volume_modes::protect(&mut object.metadata, PROTECTION);
    }

    fn prepare_for_update(&self, new: &mut PersistentVolumeClaim, old: &PersistentVolumeClaim) {
        new.status.clone_from(&old.status);
        normalize_sources(new.spec.get_or_insert_default());
    }

    fn prepare_for_status_update(&self, new: &mut PersistentVolumeClaim, old: &PersistentVolumeClaim) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(&self, object: &PersistentVolumeClaim) -> FieldErrors {
        let mut errors = meta::validate(&object.metadata, Scope::Namespaced, names::dns_subdomain);
        errors.extend(object.spec.iter().flat_map(|s| validate_spec("spec", s)));
        errors
    }

    fn validate_update(&self, new: &PersistentVolumeClaim, old: &PersistentVolumeClaim) -> FieldErrors {
        let mut errors = meta::contents(&new.metadata);
        errors.extend(new.spec.iter().flat_map(|s| validate_spec("spec", s)));
        errors.extend(immutable(new, old));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &PersistentVolumeClaim, now: Timestamp) -> Vec<Value> {
        let spec = object.spec.clone().unwrap_or_default();
        let status = object.status.clone().unwrap_or_default();
        let phase = match object.metadata.deletion_timestamp {
            Some(_) => "Terminating".to_owned(),
            None => status.phase.unwrap_or_default(),
        };
        let bound = spec.volume_name.as_deref().is_some_and(|v| !v.is_empty());
        let capacity = status.capacity.as_ref().and_then(|c| c.get(STORAGE));
        let capacity = capacity.map_or_else(|| "0".to_owned(), |q| q.0.clone());
        let modes = volume_modes::abbreviated(status.access_modes.as_deref().unwrap_or_default());
        vec![
            print::name(&object.metadata),
            Value::from(phase),
            Value::from(spec.volume_name.unwrap_or_default()),
            Value::from(if bound { capacity } else { String::new() }),
            Value::from(if bound { modes } else { String::new() }),
            Value::from(volume_class::of(&object.metadata, spec.storage_class_name.as_deref())),
            volume_modes::or_unset(spec.volume_attributes_class_name),
            print::age(&object.metadata, now),
            volume_modes::or_unset(spec.volume_mode),
        ]
    }
}

fn pending() -> PersistentVolumeClaimStatus {
    PersistentVolumeClaimStatus {
        phase: Some("Pending".to_owned()),
        ..PersistentVolumeClaimStatus::default()
    }
}

/// Fills in a claim, alone or as a template.
pub(super) fn default_template(claim: &mut PersistentVolumeClaim) {
    let status = claim.status.get_or_insert_with(pending);
    status.phase.get_or_insert_with(|| "Pending".to_owned());
    let spec = claim.spec.get_or_insert_default();
    spec.volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
    spec.resources.get_or_insert_default();
}

/// Writes the older of the two references to a source from the newer, and the newer from the older.
fn normalize_sources(spec: &mut PersistentVolumeClaimSpec) {
    match (&spec.data_source, &spec.data_source_ref) {
        (Some(source), None) => {
            spec.data_source_ref = Some(TypedObjectReference {
                api_group: source.api_group.clone(),
                kind: source.kind.clone(),
                name: source.name.clone(),
                namespace: None,
            });
        }
        (None, Some(source)) if source.namespace.as_deref().unwrap_or_default().is_empty() => {
            let group = source.api_group.as_deref().unwrap_or_default();
            let older = [("", CLAIM), ("snapshot.storage.k8s.io", "VolumeSnapshot")];
            if older.contains(&(group, source.kind.as_str())) {
                spec.data_source = Some(TypedLocalObjectReference {
                    api_group: source.api_group.clone(),
                    kind: source.kind.clone(),
                    name: source.name.clone(),
                });
            }
        }
        _ => {}
    }
}

/// Checks the claims of a StatefulSet.
pub(super) fn validate_templates(field: &str, claims: &[PersistentVolumeClaim]) -> FieldErrors {
    let of = |(index, claim): (usize, &PersistentVolumeClaim)| {
        let at = format!("{field}[{index}].spec");
        claim.spec.as_ref().map_or_else(Vec::new, |s| validate_spec(&at, s))
    };
    claims.iter().enumerate().flat_map(of).collect()
}

/// Checks the spec of a claim, alone or in a template.
pub(super) fn validate_spec(field: &str, spec: &PersistentVolumeClaimSpec) -> FieldErrors {
    let mut errors = Vec::new();
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    let at = format!("{field}.accessModes");
    if modes.is_empty() {
        errors.push(FieldError::required(at.as_str(), "at least 1 access mode is required"));
    }
    if let Some(selector) = &spec.selector {
        errors.extend(labels::selector(&format!("{field}.selector"), selector));
    }
    errors.extend(volume_modes::access(&at, modes));
    let at = format!("{field}.resources[{STORAGE}]");
    match requested(spec) {
        None => errors.push(FieldError::required(at, "")),
        Some(amount) => errors.extend(resources::positive(&at, amount)),
    }
    errors.extend(volume_modes::class(
        &format!("{field}.storageClassName"),
        spec.storage_class_name.as_deref(),
    ));
    errors.extend(volume_modes::mode(
        &format!("{field}.volumeMode"),
        spec.volume_mode.as_deref(),
    ));
    errors.extend(sources(field, spec));
    errors.extend(volume_modes::class(
        &format!("{field}.volumeAttributesClassName"),
        spec.volume_attributes_class_name.as_deref(),
    ));
    errors
}

fn requested(spec: &PersistentVolumeClaimSpec) -> Option<&k8s_openapi::apimachinery::pkg::api::resource::Quantity> {
    spec.resources.as_ref()?.requests.as_ref()?.get(STORAGE)
}

fn sources(field: &str, spec: &PersistentVolumeClaimSpec) -> FieldErrors {
    let mut errors = Vec::new();
    if let Some(s) = &spec.data_source {
        errors.extend(source(
            &format!("{field}.dataSource"),
            &s.name,
            &s.kind,
            s.api_group.as_deref(),
        ));
    }
    let Some(reference) = &spec.data_source_ref else {
        return errors;
    };
    let at = format!("{field}.dataSourceRef");
    let (name, kind, group) = (&reference.name, &reference.kind, reference.api_group.as_deref());
    errors.extend(source(&at, name, kind, group));
    let namespace = reference.namespace.as_deref().unwrap_or_default();
    if !namespace.is_empty() {
        errors.extend(FieldError::each(
            &format!("{at}.namespace"),
            namespace,
            names::dns_label(namespace),
        ));
    }
    let refused = |detail: &str| FieldError::invalid(field, format!("{field}.dataSource"), detail);
    match &spec.data_source {
        Some(_) if !namespace.is_empty() => {
            errors.push(refused(
                "may not be specified when dataSourceRef.namespace is specified",
            ));
        }
        Some(s) if (&s.name, &s.kind, s.api_group.as_deref()) != (name, kind, group) => {
            errors.push(refused("must match dataSourceRef"));
        }
        _ => {}
    }
    errors
}

fn source(field: &str, name: &str, kind: &str, group: Option<&str>) -> FieldErrors {
    let mut errors = Vec::new();
    for (child, text) in [("name", name), ("kind", kind)] {
        if text.is_empty() {
            errors.push(FieldError::required(format!("{field}.{child}"), ""));
        }
    }
    match group.unwrap_or_default() {
        "" if kind != CLAIM => {
            let detail = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.push(FieldError::invalid(field, kind, detail));
        }
        "" => {}
        group => errors.extend(FieldError::each(
            &format!("{field}.apiGroup"),
            group,
            names::dns_subdomain(group),
        )),
    }
    errors
}

fn immutable(new: &PersistentVolumeClaim, old: &PersistentVolumeClaim) -> FieldErrors {
    let (Some(now), Some(before)) = (&new.spec, &old.spec) else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    let phase = new.status.as_ref().and_then(|s| s.phase.as_deref());
    let upgraded = takes_class_of_annotation(new, old);
    if !upgraded {
        errors.extend(immutable_annotation(new, old));
    }
    let settled = !upgraded && volume_class::annotated(&old.metadata).is_some_and(|class| !class.is_empty());
    if with_changeable_fields_of(now, before, phase == Some("Bound"), settled) != *before {
        errors.push(FieldError::forbidden("spec", UNCHANGEABLE));
    }
    let size = |spec| requested(spec).and_then(resources::nanos).unwrap_or_default();
    let capacity = old.status.as_ref().and_then(|s| s.capacity.as_ref()?.get(STORAGE));
    let recorded = capacity.and_then(resources::nanos).unwrap_or_default();
    if size(now) < size(before) && size(now) <= recorded {
        let detail = "field can not be less than status.capacity";
        errors.push(FieldError::forbidden("spec.resources.requests.storage", detail));
    }
    if now.volume_mode != before.volume_mode {
        errors.push(FieldError::immutable("volumeMode", now.volume_mode.clone()));
    }
    let class = "spec.volumeAttributesClassName";
    match (
        &before.volume_attributes_class_name,
        now.volume_attributes_class_name.as_deref(),
    ) {
        (Some(_), None) => errors.push(FieldError::forbidden(
            class,
            "update from non-nil value to nil is forbidden",
        )),
        (Some(_), Some("")) if now.volume_attributes_class_name != before.volume_attributes_class_name => errors.push(
            FieldError::forbidden(class, "update from non-nil value to an empty string is forbidden"),
        ),
        _ => {}
    }
    errors
}

/// Checks that the class of the annotation stays.
fn immutable_annotation(new: &PersistentVolumeClaim, old: &PersistentVolumeClaim) -> Option<FieldError> {
    let class = |claim| volume_class::annotated(claim).unwrap_or_default();
    let (now, before) = (class(&new.metadata), class(&old.metadata));
    let field = format!("metadata.annotations.{}", volume_class::ANNOTATION);
    (now != before).then(|| FieldError::immutable(field, now))
}

/// Whether an update writes the class of the claim's annotation, from before there was a field, into the field.
fn takes_class_of_annotation(new: &PersistentVolumeClaim, old: &PersistentVolumeClaim) -> bool {
    let class = |claim: &PersistentVolumeClaim| claim.spec.as_ref().and_then(|spec| spec.storage_class_name.clone());
    let (now, before) = (
        volume_class::annotated(&new.metadata),
        volume_class::annotated(&old.metadata),
    );
    before.is_some() && class(old).is_none() && class(new).as_deref() == before && now.is_none_or(|_| now == before)
}

/// `new` with all that an update may change put back to `old`: a volume once, a class of attributes, a class once
/// unless an annotation has `settled` it, and, when the claim has its volume, how much is asked for.
fn with_changeable_fields_of(
    new: &PersistentVolumeClaimSpec,
    old: &PersistentVolumeClaimSpec,
    bound: bool,
    settled: bool,
) -> PersistentVolumeClaimSpec {
    let mut spec = new.clone();
    if old.volume_name.as_deref().unwrap_or_default().is_empty() {
        spec.volume_name.clone_from(&old.volume_name);
    }
    if old.storage_class_name.is_none() && !settled {
        spec.storage_class_name = None;
    }
    spec.volume_attributes_class_name
        .clone_from(&old.volume_attributes_class_name);
    if bound {
        let requests = spec.resources.as_mut().and_then(|r| r.requests.as_mut());
        if let (Some(requests), Some(before)) = (requests, requested(old)) {
            requests.insert(STORAGE.to_owned(), before.clone());
        }
    }
    spec
}
