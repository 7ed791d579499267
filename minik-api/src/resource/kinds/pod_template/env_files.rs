//! Validation of `fileKeyRef`: a key of a file in one of the Pod's emptyDirs, which the container need not mount.
//!
//! Source: KEP-3721.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, FileKeySelector, PodSpec, Volume};

use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::{names, paths};

/// Checks what a reference says.
pub(super) fn reference(field: &str, reference: &FileKeySelector) -> FieldErrors {
    let mut errors = Vec::new();
    let at = format!("{field}.key");
    match reference.key.as_str() {
        "" => errors.push(FieldError::required(at, "")),
        key => errors.extend(FieldError::each(&at, key, names::env_name(key))),
    }
    let at = format!("{field}.volumeName");
    match reference.volume_name.as_str() {
        "" => errors.push(FieldError::required(at, "")),
        name => errors.extend(FieldError::each(&at, name, names::dns_label(name))),
    }
    let at = format!("{field}.path");
    match reference.path.as_str() {
        "" => errors.push(FieldError::required(at, "")),
        path => errors.extend(paths::no_way_up(&at, path)),
    }
    errors
}

/// Checks that the volumes of all references are there, and emptyDirs.
pub(super) fn volumes(field: &str, spec: &PodSpec) -> FieldErrors {
    let volumes = spec.volumes.iter().flatten();
    let volumes: BTreeMap<&str, &Volume> = volumes.map(|volume| (volume.name.as_str(), volume)).collect();
    let lists = [
        ("initContainers", spec.init_containers.as_deref().unwrap_or_default()),
        ("containers", &spec.containers),
    ];
    let of_list = |(list, containers): (&str, &[Container])| {
        let each = containers.iter().enumerate();
        let found =
            each.flat_map(|(index, container)| of_container(&format!("{field}.{list}[{index}]"), container, &volumes));
        found.collect::<FieldErrors>()
    };
    lists.into_iter().flat_map(of_list).collect()
}

fn of_container(field: &str, container: &Container, volumes: &BTreeMap<&str, &Volume>) -> FieldErrors {
    let mut errors = Vec::new();
    for (index, variable) in container.env.iter().flatten().enumerate() {
        let source = variable.value_from.as_ref();
        let Some(reference) = source.and_then(|source| source.file_key_ref.as_ref()) else {
            continue;
        };
        let at = format!("{field}.env[{index}].valueFrom.fileKeyRef.volumeName");
        let name = reference.volume_name.as_str();
        match volumes.get(name) {
            _ if name.is_empty() => {}
            None => errors.push(FieldError::not_found(at, name)),
            Some(volume) if volume.empty_dir.is_none() => {
                errors.push(FieldError::invalid(
                    at,
                    name,
                    "referenced volume must be of type emptyDir",
                ));
            }
            Some(_) => {}
        }
    }
    errors
}
