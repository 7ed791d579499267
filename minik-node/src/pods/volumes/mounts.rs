//! What of a Pod's volumes one of its containers sees, and where.
//!
//! Source: `makeMounts` of `pkg/kubelet/kubelet_pods.go`; so are the texts. Makes directories that a `subPath` names.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, VolumeMount};

use super::Laid;
use crate::pods::expand::expand;
use crate::runtime::spec::{Access, Mount};

/// Why a container cannot have its volumes.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The Pod has no such volume.
    #[error("cannot find volume {volume:?} to mount into container {container:?}")]
    Volume {
        /// The volume.
        volume: String,
        /// The container.
        container: String,
    },
    /// `subPathExpr` names variables that the container has not.
    #[error("missing value for {0}")]
    Variable(String),
    /// `subPath` begins at the root.
    #[error("error SubPath `{0}` must not be an absolute path")]
    Absolute(String),
    /// `subPath` climbs.
    #[error("unable to provision SubPath `{0}`: must not contain '..'")]
    Backsteps(String),
    /// The directory that `subPath` names is not there and cannot be made, or leads out of the volume. What of the
    /// node's files is the cause is not told.
    #[error("failed to {step} for volumeMount {volume:?} of container {container:?}")]
    SubPath {
        /// What was tried.
        step: &'static str,
        /// The volume.
        volume: String,
        /// The container.
        container: String,
    },
    /// The node's mounts are not passed on to Pods, nor theirs to the node.
    #[error("path {path:?} is mounted on \"/\" but it is not a {wanted} mount")]
    Propagation {
        /// Where the volume lies.
        path: String,
        /// What the propagation needs.
        wanted: &'static str,
    },
}

impl MountError {
    /// For `state.waiting.reason`: who refuses, the kubelet or the runtime.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Propagation { .. } => "CreateContainerError",
            _ => "CreateContainerConfigError",
        }
    }
}

/// The bind mounts of a container, outer ones first. `env` is what `subPathExpr` may name.
pub fn mounts(
    container: &Container,
    laid: &BTreeMap<String, Laid>,
    env: &BTreeMap<String, String>,
) -> Result<Vec<Mount>, MountError> {
    let wanted = container.volume_mounts.iter().flatten();
    let mut mounts = wanted
        .map(|wanted| mount(container, wanted, laid, env))
        .collect::<Result<Vec<_>, _>>()?;
    mounts.sort_by_key(|mount| mount.target.components().count());
    Ok(mounts)
}

fn mount(
    container: &Container,
    wanted: &VolumeMount,
    laid: &BTreeMap<String, Laid>,
    env: &BTreeMap<String, String>,
) -> Result<Mount, MountError> {
    let volume = laid.get(&wanted.name).ok_or_else(|| MountError::Volume {
        volume: wanted.name.clone(),
        container: container.name.clone(),
    })?;
    propagation(wanted, volume)?;
    let mut mount = Mount {
        source: volume.source.clone(),
        target: PathBuf::from(&wanted.mount_path),
        access: access(wanted, volume),
        sub_path: None,
    };
    let Some(sub_path) = sub_path(wanted, env)? else {
        return Ok(mount);
    };
    if volume.in_memory {
        mount.sub_path = Some(sub_path);
        return Ok(mount);
    }
    let failed = |step| MountError::SubPath {
        step,
        volume: wanted.name.clone(),
        container: container.name.clone(),
    };
    mount.source = volume.source.join(sub_path);
    make(&mount.source, &volume.source).map_err(|_told_to_nobody| failed("create subPath directory"))?;
    // The file itself, not the link to it: what a volume shows later under that name is not followed.
    mount.source = within(&mount.source, &volume.source).ok_or_else(|| failed("prepare subPath"))?;
    Ok(mount)
}

fn access(wanted: &VolumeMount, volume: &Laid) -> Access {
    let read_only = volume.read_only || wanted.read_only.unwrap_or(false);
    let recursive = matches!(wanted.recursive_read_only.as_deref(), Some("Enabled" | "IfPossible"));
    match (read_only, recursive) {
        (true, true) => Access::ReadOnlyThroughout,
        (true, false) => Access::ReadOnly,
        (false, _) => Access::ReadWrite,
    }
}

/// Pods live in mount namespaces that are cut off from the node's.
fn propagation(wanted: &VolumeMount, volume: &Laid) -> Result<(), MountError> {
    let needs = match wanted.mount_propagation.as_deref() {
        Some("HostToContainer") => "shared or slave",
        Some("Bidirectional") => "shared",
        _ => return Ok(()),
    };
    Err(MountError::Propagation {
        path: volume.source.display().to_string(),
        wanted: needs,
    })
}

fn sub_path(wanted: &VolumeMount, env: &BTreeMap<String, String>) -> Result<Option<PathBuf>, MountError> {
    let mut path = wanted.sub_path.clone().unwrap_or_default();
    if let Some(expression) = wanted.sub_path_expr.as_deref().filter(|text| !text.is_empty()) {
        let missing = std::cell::RefCell::new(BTreeSet::new());
        path = expand(expression, |name| {
            let value = env.get(name).filter(|value| !value.is_empty());
            if value.is_none() {
                missing.borrow_mut().insert(name.to_owned());
            }
            value.cloned()
        });
        let missing: Vec<String> = missing.into_inner().into_iter().collect();
        if !missing.is_empty() {
            return Err(MountError::Variable(missing.join(", ")));
        }
    }
    if path.is_empty() {
        return Ok(None);
    }
    let path = PathBuf::from(path);
    if path.is_absolute() {
        return Err(MountError::Absolute(path.display().to_string()));
    }
    if path.components().any(|part| part == Component::ParentDir) {
        return Err(MountError::Backsteps(path.display().to_string()));
    }
    Ok(Some(path))
}

/// Makes a directory that is missing, as open as its volume, without leaving the volume.
fn make(path: &Path, volume: &Path) -> io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    let there = path.ancestors().find(|ancestor| ancestor.exists());
    if there.is_none_or(|there| within(there, volume).is_none()) {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    let metadata = fs::metadata(volume)?;
    DirBuilder::new().recursive(true).create(path)?;
    let mut made = path;
    while made != volume && fs::metadata(made)?.mode() & 0o7777 != metadata.mode() & 0o7777 {
        fs::set_permissions(made, metadata.permissions())?;
        std::os::unix::fs::chown(made, None, Some(metadata.gid()))?;
        let Some(parent) = made.parent().filter(|parent| Some(*parent) != there) else {
            break;
        };
        made = parent;
    }
    Ok(())
}

/// `path` without links, when it lies in the volume.
fn within(path: &Path, volume: &Path) -> Option<PathBuf> {
    let (path, volume) = (path.canonicalize().ok()?, volume.canonicalize().ok()?);
    path.starts_with(volume).then_some(path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn seen(dir: &Path, mount: Value) -> Result<Mount, String> {
        let container = json!({"name": "c", "volumeMounts": [mount]});
        let container: Container = serde_json::from_value(container).unwrap();
        let volume = |name: &str, read_only, in_memory| {
            let laid = Laid {
                source: dir.join(name),
                read_only,
                in_memory,
            };
            (name.to_owned(), laid)
        };
        let laid = [
            volume("v", false, false),
            volume("fixed", true, false),
            volume("memory", false, true),
        ]
        .into();
        let env = [("POD", "web"), ("EMPTY", "")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into();
        mounts(&container, &laid, &env)
            .map(|mut all| all.remove(0))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn a_sub_path_stays_in_its_volume() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path().canonicalize().unwrap();
        for name in ["v/there", "fixed/..1", "outside"] {
            fs::create_dir_all(root.join(name)).unwrap();
        }
        fs::write(root.join("fixed/..1/key"), "1").unwrap();
        std::os::unix::fs::symlink("..1", root.join("fixed/..data")).unwrap();
        std::os::unix::fs::symlink("..data/key", root.join("fixed/key")).unwrap();
        std::os::unix::fs::symlink("../outside", root.join("v/out")).unwrap();
        for (mount, expected) in [
            (json!({"name": "v", "mountPath": "/m"}), Ok("v")),
            (
                json!({"name": "v", "mountPath": "/m", "subPath": "there"}),
                Ok("v/there"),
            ),
            (
                json!({"name": "v", "mountPath": "/m", "subPath": "new/deep"}),
                Ok("v/new/deep"),
            ),
            (
                json!({"name": "v", "mountPath": "/m", "subPathExpr": "logs/$(POD)"}),
                Ok("v/logs/web"),
            ),
            (
                json!({"name": "v", "mountPath": "/m", "subPathExpr": "$$(POD)"}),
                Ok("v/$(POD)"),
            ),
            (
                json!({"name": "fixed", "mountPath": "/m", "subPath": "key"}),
                Ok("fixed/..1/key"),
            ),
            (
                json!({"name": "v", "mountPath": "/m", "subPathExpr": "$(B)/$(A)/$(EMPTY)"}),
                Err("missing value for A, B, EMPTY"),
            ),
            (
                json!({"name": "v", "mountPath": "/m", "subPath": "/etc"}),
                Err("error SubPath `/etc` must not be an absolute path"),
            ),
            (
                json!({"name": "v", "mountPath": "/m", "subPath": "a/../.."}),
                Err("unable to provision SubPath `a/../..`: must not contain '..'"),
            ),
            (
                json!({"name": "v", "mountPath": "/m", "subPath": "out"}),
                Err("failed to prepare subPath for volumeMount \"v\" of container \"c\""),
            ),
            (
                json!({"name": "v", "mountPath": "/m", "subPath": "out/new"}),
                Err("failed to create subPath directory for volumeMount \"v\" of container \"c\""),
            ),
            (
                json!({"name": "none", "mountPath": "/m"}),
                Err("cannot find volume \"none\" to mount into container \"c\""),
            ),
        ] {
            let found = seen(&root, mount.clone()).map(|mount| mount.source);
            assert_eq!(
                found,
                expected.map(|path| root.join(path)).map_err(str::to_owned),
                "{mount}"
            );
        }
        assert!(!root.join("outside/new").exists());
        let memory = seen(&root, json!({"name": "memory", "mountPath": "/m", "subPath": "a/b"})).unwrap();
        assert_eq!(
            (memory.source, memory.sub_path),
            (root.join("memory"), Some(PathBuf::from("a/b")))
        );
    }

    #[test]
    fn reading_alone_is_what_volume_or_mount_says() {
        let dir = tempfile::tempdir().unwrap();
        for (mount, expected) in [
            (json!({"name": "v", "mountPath": "/m"}), Access::ReadWrite),
            (
                json!({"name": "v", "mountPath": "/m", "readOnly": true}),
                Access::ReadOnly,
            ),
            (json!({"name": "fixed", "mountPath": "/m"}), Access::ReadOnly),
            (
                json!({"name": "v", "mountPath": "/m", "readOnly": true, "recursiveReadOnly": "Enabled"}),
                Access::ReadOnlyThroughout,
            ),
            (
                json!({"name": "v", "mountPath": "/m", "readOnly": true, "recursiveReadOnly": "Disabled"}),
                Access::ReadOnly,
            ),
        ] {
            assert_eq!(seen(dir.path(), mount.clone()).unwrap().access, expected, "{mount}");
        }
        let shared = json!({"name": "v", "mountPath": "/m", "mountPropagation": "Bidirectional"});
        assert!(
            seen(dir.path(), shared)
                .unwrap_err()
                .ends_with("is mounted on \"/\" but it is not a shared mount")
        );
    }
}
