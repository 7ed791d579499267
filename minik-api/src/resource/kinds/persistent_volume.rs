//! PersistentVolume: what it holds, for whom, and where; its source is checked in `volume_sources`.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeSpec, PersistentVolumeStatus};
use serde_json::{Map, Value};

use super::volume_sources::{self, Owner};
use super::{pod_template, volume_modes};
use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::{names, resources};
use crate::resource::{Column, KindInfo, Strategy, Subresource, print, volume_class};

pub(super) const INFO: KindInfo = KindInfo {
    kind: "PersistentVolume",
    plural: "persistentvolumes",
    singular: "persistentvolume",
    short_names: &["pv"],
    namespaced: false,
    schema: "io.k8s.api.core.v1.PersistentVolume",
    subresources: &[Subresource::Status],
    ..super::CORE
};

/// Keeps a volume while it is bound; the StorageObjectInUseProtection admission adds it.
const PROTECTION: &str = "kubernetes.io/pv-protection";
const STORAGE: &str = "storage";
const ONE_SOURCE: &str = "may not specify more than 1 volume type";
const POLICIES: [&str; 3] = ["Delete", "Recycle", "Retain"];
/// Sources, in the order in which 1.36 looks for them.
const SOURCES: [&str; 22] = [
    "hostPath",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "flocker",
    "nfs",
    "rbd",
    "quobyte",
    "cephfs",
    "iscsi",
    "cinder",
    "fc",
    "flexVolume",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "scaleIO",
    "local",
    "storageos",
    "csi",
];

const COLUMNS: &[Column] = &[
    print::NAME,
    print::text(
        "Capacity",
        0,
        "capacity is the description of the persistent volume's resources and capacity. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#capacity",
    ),
    print::text(
        "Access Modes",
        0,
        "accessModes contains all ways the volume can be mounted. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#access-modes",
    ),
    print::text(
        "Reclaim Policy",
        0,
        "persistentVolumeReclaimPolicy defines what happens to a persistent volume when released from its claim. Valid options are Retain (default for manually created PersistentVolumes), Delete (default for dynamically provisioned PersistentVolumes), and Recycle (deprecated). Recycle must be supported by the volume plugin underlying this PersistentVolume. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#reclaiming",
    ),
    print::text(
        "Status",
        0,
        "phase indicates if a volume is available, bound to a claim, or released by a claim. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#phase",
    ),
    print::text(
        "Claim",
        0,
        "claimRef is part of a bi-directional binding between PersistentVolume and PersistentVolumeClaim. Expected to be non-nil when bound. claim.VolumeName is the authoritative bind between PV and PVC. More info: https://kubernetes.io/docs/concepts/storage/persistent-volumes#binding",
    ),
    print::text("StorageClass", 0, "StorageClass of the pv"),
    print::text("VolumeAttributesClass", 0, "VolumeAttributesClass of the pv"),
    print::text(
        "Reason",
        0,
        "reason is a brief CamelCase string that describes any failure and is meant for machine parsing and tidy display in the CLI.",
    ),
    print::AGE,
    print::text(
        "VolumeMode",
        1,
        "volumeMode defines if a volume is intended to be used with a formatted filesystem or to remain in raw block state. Value of Filesystem is implied when not included in spec.",
    ),
];

/// How PersistentVolumes behave.
pub(super) struct PersistentVolumes;

impl Strategy for PersistentVolumes {
    type Object = PersistentVolume;

    fn default(&self, object: &mut PersistentVolume) {
        let status = object.status.get_or_insert_default();
        status.phase.get_or_insert_with(|| "Pending".to_owned());
        let spec = object.spec.get_or_insert_default();
        spec.persistent_volume_reclaim_policy
            .get_or_insert_with(|| "Retain".to_owned());
        spec.volume_mode.get_or_insert_with(|| "Filesystem".to_owned());
        if let Some(path) = &mut spec.host_path {
            path.type_.get_or_insert_default();
        }
    }

    fn prepare_for_create(&self, object: &mut PersistentVolume) {
        object.status = Some(PersistentVolumeStatus {
            phase: Some("Pending".to_owned()),
            last_phase_transition_time: object.metadata.creation_timestamp.clone(),
            ..PersistentVolumeStatus::default()
        });
        volume_modes::protect(&mut object.metadata, PROTECTION);
    }

    fn prepare_for_update(&self, new: &mut PersistentVolume, old: &PersistentVolume) {
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(&self, new: &mut PersistentVolume, old: &PersistentVolume) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(&self, object: &PersistentVolume) -> FieldErrors {
        let mut errors = meta::validate(&object.metadata, Scope::Cluster, names::dns_subdomain);
        let name = object.metadata.name.as_deref().unwrap_or_default();
        errors.extend(object.spec.iter().flat_map(|given| spec(name, given)));
        errors
    }

    fn validate_update(&self, new: &PersistentVolume, old: &PersistentVolume) -> FieldErrors {
        let mut errors = meta::contents(&new.metadata);
        if let (Some(now), Some(before)) = (&new.spec, &old.spec) {
            errors.extend(spec(new.metadata.name.as_deref().unwrap_or_default(), now));
            errors.extend(immutable(now, before));
        }
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &PersistentVolume, now: Timestamp) -> Vec<Value> {
        let spec = object.spec.clone().unwrap_or_default();
        let status = object.status.clone().unwrap_or_default();
        let phase = match object.metadata.deletion_timestamp {
            Some(_) => "Terminating".to_owned(),
            None => status.phase.unwrap_or_default(),
        };
        let capacity = spec.capacity.as_ref().and_then(|c| c.get(STORAGE));
        let part = |text: Option<String>| text.unwrap_or_default();
        let claim = spec
            .claim_ref
            .map(|c| format!("{}/{}", part(c.namespace), part(c.name)));
        vec![
            print::name(&object.metadata),
            Value::from(capacity.map_or_else(|| "0".to_owned(), |q| q.0.clone())),
            Value::from(volume_modes::abbreviated(
                spec.access_modes.as_deref().unwrap_or_default(),
            )),
            Value::from(part(spec.persistent_volume_reclaim_policy)),
            Value::from(phase),
            Value::from(part(claim)),
            Value::from(volume_class::of(&object.metadata, spec.storage_class_name.as_deref())),
            volume_modes::or_unset(spec.volume_attributes_class_name),
            Value::from(part(status.reason)),
            print::age(&object.metadata, now),
            volume_modes::or_unset(spec.volume_mode),
        ]
    }
}

fn spec(name: &str, spec: &PersistentVolumeSpec) -> FieldErrors {
    let mut errors = Vec::new();
    let modes = spec.access_modes.as_deref().unwrap_or_default();
    if modes.is_empty() {
        errors.push(FieldError::required("spec.accessModes", ""));
    }
    errors.extend(volume_modes::access("spec.accessModes", modes));
    errors.extend(capacity(spec));
    let policy = spec.persistent_volume_reclaim_policy.as_deref().unwrap_or_default();
    if !policy.is_empty() && !POLICIES.contains(&policy) {
        let field = "spec.persistentVolumeReclaimPolicy";
        errors.push(FieldError::not_supported(field, policy, &POLICIES));
    }
    errors.extend(sources(name, spec));
    let root = spec
        .host_path
        .as_ref()
        .is_some_and(|p| p.path.trim_matches('/').is_empty());
    if root && policy == "Recycle" {
        let detail = "may not be 'recycle' for a hostPath mount of '/'";
        errors.push(FieldError::forbidden("spec.persistentVolumeReclaimPolicy", detail));
    }
    errors.extend(volume_modes::class(
        "spec.storageClassName",
        spec.storage_class_name.as_deref(),
    ));
    errors.extend(volume_modes::mode("spec.volumeMode", spec.volume_mode.as_deref()));
    if let Some(class) = spec.volume_attributes_class_name.as_deref() {
        let field = "spec.volumeAttributesClassName";
        if class.is_empty() {
            errors.push(FieldError::required(field, "an empty string is disallowed"));
        }
        errors.extend(volume_modes::class(field, Some(class)));
        if spec.csi.is_none() {
            let detail = "has to be specified when using volumeAttributesClassName";
            errors.push(FieldError::required("spec.csi", detail));
        }
    }
    errors
}

fn capacity(spec: &PersistentVolumeSpec) -> FieldErrors {
    const FIELD: &str = "spec.capacity";
    let given = spec.capacity.clone().unwrap_or_default();
    let mut errors = Vec::new();
    if given.is_empty() {
        errors.push(FieldError::required(FIELD, ""));
    }
    if !given.contains_key(STORAGE) || given.len() > 1 {
        let value = match &spec.capacity {
            Some(capacity) => serde_json::to_value(capacity).unwrap_or_default(),
            None => Value::Null,
        };
        errors.push(FieldError::not_supported(FIELD, value, &[STORAGE]));
    }
    for (name, amount) in &given {
        errors.extend(resources::positive(&format!("{FIELD}[{name}]"), amount));
    }
    errors
}

/// The sources in a spec, by field.
fn given_sources(spec: &PersistentVolumeSpec) -> Map<String, Value> {
    match serde_json::to_value(spec) {
        Ok(Value::Object(fields)) => fields
            .into_iter()
            .filter(|(field, _)| SOURCES.contains(&field.as_str()))
            .collect(),
        _ => Map::new(),
    }
}

fn sources(name: &str, spec: &PersistentVolumeSpec) -> FieldErrors {
    let located = spec.node_affinity.as_ref().map(|affinity| affinity.required.as_ref());
    let mut errors = Vec::new();
    match located {
        Some(None) => {
            let detail = "must specify required node constraints";
            errors.push(FieldError::required("spec.nodeAffinity.required", detail));
        }
        Some(Some(required)) => {
            let at = "spec.nodeAffinity.required.nodeSelectorTerms";
            errors.extend(pod_template::validate_node_terms(at, &required.node_selector_terms));
        }
        None => {}
    }
    let all = given_sources(spec);
    let given: Vec<&str> = SOURCES.into_iter().filter(|source| all.contains_key(*source)).collect();
    let Some((first, others)) = given.split_first() else {
        errors.push(FieldError::required("spec", "must specify a volume type"));
        return errors;
    };
    let owner = Owner::PersistentVolume(name);
    errors.extend(volume_sources::validate("spec", first, &all[*first], owner));
    if *first == "local" && located.is_none() {
        let detail = "Local volume requires node affinity";
        errors.push(FieldError::required("spec.nodeAffinity", detail));
    }
    for other in others {
        match *other {
            // The one that 1.36 does not count.
            "flexVolume" => errors.extend(volume_sources::validate("spec", other, &all[*other], owner)),
            "cephfs" => errors.push(FieldError::forbidden("spec.cephFS", ONE_SOURCE)),
            other => errors.push(FieldError::forbidden(format!("spec.{other}"), ONE_SOURCE)),
        }
    }
    errors
}

fn immutable(new: &PersistentVolumeSpec, old: &PersistentVolumeSpec) -> FieldErrors {
    let mut errors = Vec::new();
    let mut now = new.clone();
    if let (Some(csi), Some(before)) = (&mut now.csi, &old.csi)
        && before.controller_expand_secret_ref.is_none()
    {
        csi.controller_expand_secret_ref = None;
    }
    if given_sources(&now) != given_sources(old) {
        let detail = "spec.persistentvolumesource is immutable after creation\n";
        errors.push(FieldError::forbidden("spec.persistentvolumesource", detail));
    }
    if new.volume_mode != old.volume_mode {
        errors.push(FieldError::immutable("volumeMode", new.volume_mode.clone()));
    }
    if old.node_affinity.is_some() && new.node_affinity != old.node_affinity {
        let value = serde_json::to_value(&new.node_affinity).unwrap_or_default();
        errors.push(FieldError::immutable("nodeAffinity", value));
    }
    if old.volume_attributes_class_name.is_some() && new.volume_attributes_class_name.is_none() {
        let detail = "update from non-nil value to nil is forbidden";
        errors.push(FieldError::forbidden("spec.volumeAttributesClassName", detail));
    }
    errors
}
