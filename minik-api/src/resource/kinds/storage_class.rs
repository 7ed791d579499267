//! storage.k8s.io/v1 StorageClass.
//!
//! Stored and shown; volumes of a class come from whoever its provisioner is.

use jiff::Timestamp;
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::Value;

use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::names;
use crate::resource::{Column, KindInfo, Strategy, print};

pub(super) const INFO: KindInfo = KindInfo {
    group: "storage.k8s.io",
    kind: "StorageClass",
    plural: "storageclasses",
    singular: "storageclass",
    short_names: &["sc"],
    namespaced: false,
    schema: "io.k8s.api.storage.v1.StorageClass",
    ..super::CORE
};

/// Marks the class of claims that name none.
const DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];
/// Most parameters of a class.
const MOST_PARAMETERS: usize = 512;
/// Largest sum of the sizes of all parameters, in bytes.
const MOST_BYTES: usize = 256 * 1024;

const RECLAIM_POLICIES: &[&str] = &["Delete", "Retain"];
const BINDING_MODES: &[&str] = &["Immediate", "WaitForFirstConsumer"];

const COLUMNS: &[Column] = &[
    print::NAME,
    print::text("Provisioner", 0, "provisioner indicates the type of the provisioner."),
    print::text(
        "ReclaimPolicy",
        0,
        "reclaimPolicy controls the reclaimPolicy for dynamically provisioned PersistentVolumes of this storage class. Defaults to Delete.",
    ),
    print::text(
        "VolumeBindingMode",
        0,
        "volumeBindingMode indicates how PersistentVolumeClaims should be provisioned and bound. When unset, VolumeBindingImmediate is used. This field is only honored by servers that enable the VolumeScheduling feature.",
    ),
    print::text(
        "AllowVolumeExpansion",
        0,
        "allowVolumeExpansion shows whether the storage class allow volume expand.",
    ),
    print::AGE,
];

/// How StorageClasses behave.
pub(super) struct StorageClasses;

impl Strategy for StorageClasses {
    type Object = StorageClass;

    fn default(&self, object: &mut StorageClass) {
        object.reclaim_policy.get_or_insert_with(|| "Delete".to_owned());
        object.volume_binding_mode.get_or_insert_with(|| "Immediate".to_owned());
    }

    fn validate(&self, object: &StorageClass) -> FieldErrors {
        let mut errors = meta::validate(&object.metadata, Scope::Cluster, names::dns_subdomain);
        errors.extend(contents(object));
        errors
    }

    fn validate_update(&self, new: &StorageClass, old: &StorageClass) -> FieldErrors {
        let mut errors = meta::contents(&new.metadata);
        if new.parameters != old.parameters {
            errors.push(FieldError::forbidden(
                "parameters",
                "updates to parameters are forbidden.",
            ));
        }
        if new.provisioner != old.provisioner {
            errors.push(FieldError::forbidden(
                "provisioner",
                "updates to provisioner are forbidden.",
            ));
        }
        if new.reclaim_policy != old.reclaim_policy {
            errors.push(FieldError::forbidden(
                "reclaimPolicy",
                "updates to reclaimPolicy are forbidden.",
            ));
        }
        if new.volume_binding_mode != old.volume_binding_mode {
            let mode = new.volume_binding_mode.clone().unwrap_or_default();
            errors.push(FieldError::immutable("volumeBindingMode", mode));
        }
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &StorageClass, now: Timestamp) -> Vec<Value> {
        let marked = |key: &&str| {
            let annotations = object.metadata.annotations.as_ref();
            annotations
                .and_then(|all| all.get(*key))
                .is_some_and(|value| value == "true")
        };
        let mut name = object.metadata.name.clone().unwrap_or_default();
        if DEFAULT.iter().any(marked) {
            name.push_str(" (default)");
        }
        vec![
            Value::from(name),
            Value::from(object.provisioner.as_str()),
            Value::from(object.reclaim_policy.clone().unwrap_or_default()),
            Value::from(object.volume_binding_mode.clone().unwrap_or_default()),
            Value::from(object.allow_volume_expansion.unwrap_or_default()),
            print::age(&object.metadata, now),
        ]
    }
}

fn contents(object: &StorageClass) -> FieldErrors {
    let mut errors = FieldErrors::new();
    let provisioner = object.provisioner.as_str();
    if provisioner.is_empty() {
        errors.push(FieldError::required("provisioner", ""));
    } else {
        let problems = names::qualified_name(&provisioner.to_lowercase());
        errors.extend(FieldError::each("provisioner", provisioner, problems));
    }
    let parameters = object.parameters.as_ref();
    if parameters.is_some_and(|all| all.len() > MOST_PARAMETERS) {
        errors.push(FieldError::too_long("parameters", MOST_PARAMETERS));
    } else {
        let given = || parameters.into_iter().flatten();
        if given().any(|(key, _)| key.is_empty()) {
            errors.push(FieldError::invalid("parameters", "", "field can not be empty."));
        }
        if given().map(|(key, value)| key.len() + value.len()).sum::<usize>() > MOST_BYTES {
            errors.push(FieldError::too_long("parameters", MOST_BYTES));
        }
    }
    for (field, given, known) in [
        ("reclaimPolicy", &object.reclaim_policy, RECLAIM_POLICIES),
        ("volumeBindingMode", &object.volume_binding_mode, BINDING_MODES),
    ] {
        if let Some(given) = given.as_deref().filter(|given| !known.contains(given)) {
            errors.push(FieldError::not_supported(field, given, known));
        }
    }
    errors
}
