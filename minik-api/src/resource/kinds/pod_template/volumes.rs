//! Validation of volumes: names, exactly one source each, and the sources that only a Pod's volume has; those of a
//! PersistentVolume too are in `volume_sources`.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{
    DownwardAPIVolumeFile, EphemeralVolumeSource, KeyToPath, ProjectedVolumeSource, ServiceAccountTokenProjection,
    Volume, VolumeProjection,
};

use super::super::persistent_volume_claim;
use super::super::volume_sources::{self, Owner};
use super::references;
use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::{labels, meta, names, paths, resources};

/// Seconds that a token in a volume lives at least and at most.
const LIFETIMES: (i64, i64) = (600, 1 << 32);

/// Checks the volumes of a Pod spec; beside it the names of those that nothing is wrong with.
pub(super) fn validate<'v>(field: &str, volumes: &'v [Volume]) -> (FieldErrors, BTreeSet<&'v str>) {
    let mut errors = Vec::new();
    let mut sound = BTreeSet::new();
    for (index, volume) in volumes.iter().enumerate() {
        let at = format!("{field}[{index}]");
        let mut problems = source(&at, volume);
        let name = volume.name.as_str();
        let at = format!("{at}.name");
        match name {
            "" => problems.push(FieldError::required(at.as_str(), "")),
            name => problems.extend(FieldError::each(&at, name, names::dns_label(name))),
        }
        if sound.contains(name) {
            problems.push(FieldError::duplicate(at, name));
        }
        if problems.is_empty() {
            sound.insert(name);
        }
        errors.extend(problems);
    }
    (errors, sound)
}

/// Checks the first source; each further one is forbidden, and none at all is an error of its own. Some are called
/// otherwise than their field.
fn source(field: &str, volume: &Volume) -> FieldErrors {
    let mut given = sources(volume)
        .into_iter()
        .filter(|(_, given)| *given)
        .map(|(name, _)| name);
    let Some(first) = given.next() else {
        return vec![FieldError::required(field, "must specify a volume type")];
    };
    let mut errors = own(&format!("{field}.{first}"), first, volume);
    let all = serde_json::to_value(volume).unwrap_or_default();
    let owner = Owner::Pod(&volume.name);
    errors.extend(volume_sources::validate(field, first, &all[first], owner));
    let detail = "may not specify more than 1 volume type";
    errors.extend(given.map(|extra| {
        let called = match extra {
            "cephfs" => "cephFS",
            "downwardAPI" => "downwarAPI",
            extra => extra,
        };
        FieldError::forbidden(format!("{field}.{called}"), detail)
    }));
    errors
}

/// Every source in the order in which 1.36 looks for them, and whether it is given.
fn sources(volume: &Volume) -> [(&'static str, bool); 30] {
    [
        ("emptyDir", volume.empty_dir.is_some()),
        ("hostPath", volume.host_path.is_some()),
        ("gitRepo", volume.git_repo.is_some()),
        ("gcePersistentDisk", volume.gce_persistent_disk.is_some()),
        ("awsElasticBlockStore", volume.aws_elastic_block_store.is_some()),
        ("secret", volume.secret.is_some()),
        ("nfs", volume.nfs.is_some()),
        ("iscsi", volume.iscsi.is_some()),
        ("glusterfs", volume.glusterfs.is_some()),
        ("flocker", volume.flocker.is_some()),
        ("persistentVolumeClaim", volume.persistent_volume_claim.is_some()),
        ("rbd", volume.rbd.is_some()),
        ("cinder", volume.cinder.is_some()),
        ("cephfs", volume.cephfs.is_some()),
        ("quobyte", volume.quobyte.is_some()),
        ("downwardAPI", volume.downward_api.is_some()),
        ("fc", volume.fc.is_some()),
        ("flexVolume", volume.flex_volume.is_some()),
        ("configMap", volume.config_map.is_some()),
        ("azureFile", volume.azure_file.is_some()),
        ("vsphereVolume", volume.vsphere_volume.is_some()),
        ("photonPersistentDisk", volume.photon_persistent_disk.is_some()),
        ("portworxVolume", volume.portworx_volume.is_some()),
        ("azureDisk", volume.azure_disk.is_some()),
        ("storageos", volume.storageos.is_some()),
        ("projected", volume.projected.is_some()),
        ("scaleIO", volume.scale_io.is_some()),
        ("csi", volume.csi.is_some()),
        ("ephemeral", volume.ephemeral.is_some()),
        ("image", volume.image.is_some()),
    ]
}

/// Checks the source called `kind`, where it is one that only Pods have.
fn own(field: &str, kind: &str, volume: &Volume) -> FieldErrors {
    let mut errors = Vec::new();
    let missing = |child: &str, text: &str| {
        let empty = text.is_empty();
        empty.then(|| FieldError::required(format!("{field}.{child}"), ""))
    };
    let mode = |mode: Option<i32>| paths::mode(&format!("{field}.defaultMode"), mode);
    match kind {
        "emptyDir" => {
            let limit = volume.empty_dir.as_ref().and_then(|dir| dir.size_limit.as_ref());
            if limit.and_then(resources::nanos).is_some_and(|nanos| nanos < 0) {
                let detail = "SizeLimit field must be a valid resource quantity";
                errors.push(FieldError::forbidden(format!("{field}.sizeLimit"), detail));
            }
        }
        "persistentVolumeClaim" => {
            let claim = volume.persistent_volume_claim.as_ref();
            errors.extend(claim.and_then(|claim| missing("claimName", &claim.claim_name)));
        }
        "secret" => {
            if let Some(secret) = &volume.secret {
                errors.extend(missing("secretName", secret.secret_name.as_deref().unwrap_or_default()));
                errors.extend(mode(secret.default_mode));
                errors.extend(keys(field, secret.items.as_deref()));
            }
        }
        "configMap" => {
            if let Some(config) = &volume.config_map {
                errors.extend(missing("name", &config.name));
                errors.extend(mode(config.default_mode));
                errors.extend(keys(field, config.items.as_deref()));
            }
        }
        "downwardAPI" => {
            if let Some(downward) = &volume.downward_api {
                errors.extend(mode(downward.default_mode));
                let files = downward.items.iter().flatten();
                errors.extend(files.flat_map(|given| file(field, given)));
            }
        }
        "projected" => {
            if let Some(projected) = &volume.projected {
                errors.extend(mode(projected.default_mode));
                errors.extend(projections(field, projected));
            }
        }
        "ephemeral" => errors.extend(volume.ephemeral.iter().flat_map(|source| ephemeral(field, source))),
        _ => {}
    }
    errors
}

/// Checks the claim that is made for a Pod.
fn ephemeral(field: &str, source: &EphemeralVolumeSource) -> FieldErrors {
    let at = format!("{field}.volumeClaimTemplate");
    let Some(claim) = &source.volume_claim_template else {
        return vec![FieldError::required(at, "")];
    };
    let metadata = claim.metadata.as_ref();
    let annotations = metadata.and_then(|metadata| metadata.annotations.as_ref());
    let given_labels = metadata.and_then(|metadata| metadata.labels.as_ref());
    let mut errors = FieldErrors::new();
    if let Some(map) = annotations {
        errors.extend(meta::annotations(&format!("{at}.metadata.annotations"), map));
    }
    if let Some(map) = given_labels {
        errors.extend(labels::map(&format!("{at}.metadata.labels"), map));
    }
    errors.extend(persistent_volume_claim::validate_spec(
        &format!("{at}.spec"),
        &claim.spec,
    ));
    errors
}

fn keys(field: &str, items: Option<&[KeyToPath]>) -> FieldErrors {
    let items = items.unwrap_or_default().iter().enumerate();
    items
        .flat_map(|(index, item)| key(&format!("{field}.items[{index}]"), item))
        .collect()
}

fn key(field: &str, item: &KeyToPath) -> FieldErrors {
    let mut errors = Vec::new();
    if item.key.is_empty() {
        errors.push(FieldError::required(format!("{field}.key"), ""));
    }
    errors.extend(paths::of_file(&format!("{field}.path"), &item.path));
    errors.extend(paths::mode(&format!("{field}.mode"), item.mode));
    errors
}

/// Checks one file of the downward API. Kubernetes does not say which.
fn file(field: &str, file: &DownwardAPIVolumeFile) -> FieldErrors {
    let mut errors = paths::of_file(&format!("{field}.path"), &file.path);
    match (&file.field_ref, &file.resource_field_ref) {
        (Some(reference), resource) => {
            errors.extend(references::of_file(&format!("{field}.fieldRef"), reference));
            if resource.is_some() {
                let detail = "fieldRef and resourceFieldRef can not be specified simultaneously";
                errors.push(FieldError::invalid(field, "resource", detail));
            }
        }
        (None, Some(reference)) => {
            errors.extend(references::of_container(
                &format!("{field}.resourceFieldRef"),
                reference,
            ));
        }
        (None, None) => {
            let detail = "one of fieldRef and resourceFieldRef is required";
            errors.push(FieldError::required(field, detail));
        }
    }
    errors.extend(paths::mode(&format!("{field}.mode"), file.mode));
    errors
}

/// Checks the parts of a volume that is made of several, which may not write the same file.
fn projections(field: &str, volume: &ProjectedVolumeSource) -> FieldErrors {
    let mut errors = Vec::new();
    let mut taken = BTreeSet::new();
    for (index, source) in volume.sources.iter().flatten().enumerate() {
        let at = format!("{field}.sources[{index}]");
        errors.extend(projection(field, &at, source));
        for (path, shown) in written(source) {
            if !path.is_empty() && !taken.insert(path) {
                errors.push(FieldError::invalid(field, shown, "conflicting duplicate paths"));
            }
        }
        let given = [
            source.secret.is_some(),
            source.config_map.is_some(),
            source.downward_api.is_some(),
            source.service_account_token.is_some(),
            source.cluster_trust_bundle.is_some(),
            source.pod_certificate.is_some(),
        ];
        if given.into_iter().filter(|given| *given).count() > 1 {
            let detail = "may not specify more than 1 volume type";
            errors.push(FieldError::forbidden(at, detail));
        }
    }
    errors
}

fn projection(volume: &str, field: &str, source: &VolumeProjection) -> FieldErrors {
    let mut errors = Vec::new();
    let named = [
        ("secret", source.secret.as_ref().map(|s| (&s.name, &s.items))),
        ("configMap", source.config_map.as_ref().map(|s| (&s.name, &s.items))),
    ];
    for (child, part) in named {
        let Some((name, items)) = part else { continue };
        let at = format!("{field}.{child}");
        if name.is_empty() {
            errors.push(FieldError::required(format!("{at}.name"), ""));
        }
        errors.extend(keys(&at, items.as_deref()));
    }
    if let Some(downward) = &source.downward_api {
        let at = format!("{field}.downwardAPI");
        errors.extend(downward.items.iter().flatten().flat_map(|given| file(&at, given)));
    }
    if let Some(wanted) = &source.service_account_token {
        errors.extend(token(volume, &format!("{field}.serviceAccountToken"), wanted));
    }
    errors
}

/// The path of a token is said to be the volume's.
fn token(volume: &str, field: &str, token: &ServiceAccountTokenProjection) -> FieldErrors {
    let mut errors = Vec::new();
    let at = format!("{field}.expirationSeconds");
    let seconds = token.expiration_seconds.unwrap_or_default();
    if seconds < LIFETIMES.0 {
        let detail = "may not specify a duration less than 10 minutes";
        errors.push(FieldError::invalid(at.as_str(), seconds, detail));
    }
    if seconds > LIFETIMES.1 {
        let detail = "may not specify a duration larger than 2^32 seconds";
        errors.push(FieldError::invalid(at, seconds, detail));
    }
    errors.extend(paths::of_file(&format!("{volume}.path"), &token.path));
    errors
}

/// The files of a part, each with what is shown when another part writes it too: the name of its object, or its path.
fn written(source: &VolumeProjection) -> Vec<(&str, &str)> {
    let of_secret = source.secret.iter().map(|s| (&s.name, &s.items));
    let of_config = source.config_map.iter().map(|s| (&s.name, &s.items));
    let of_objects = of_secret.chain(of_config).flat_map(|(name, items)| {
        items
            .iter()
            .flatten()
            .map(move |item| (item.path.as_str(), name.as_str()))
    });
    let downward = source.downward_api.iter().flat_map(|s| s.items.iter().flatten());
    let files = downward.map(|file| (file.path.as_str(), file.path.as_str()));
    of_objects.chain(files).collect()
}
