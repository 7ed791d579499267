//! A Pod's volumes as directories of the node.
//!
//! `emptyDir` lives in the state directory (or in memory, mounted by the shim in its own namespace), ConfigMaps
//! beside it, what is secret in the run directory, which is in memory. [`keeper`] lays a Pod's volumes before its
//! sandbox is made and keeps them up to date; [`mounts`] says what of them a container sees. Nothing is ever mounted
//! where the agent runs, so nothing can stay mounted.

mod atomic_writer;
mod claim;
mod host_path;
pub mod keeper;
pub mod mounts;
mod ownership;
mod payload;
mod references;
mod token;

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, EmptyDirVolumeSource, PersistentVolume, Pod, PodSpec, Volume};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use self::claim::ClaimError;
use self::ownership::Owner;
use self::payload::{Ingredients, PayloadError};
use super::quantity::Amount;
use crate::runtime::spec::Memory;

const EMPTY_DIR_MODE: u32 = 0o777;
const NO_PLUGIN: &str = "no volume plugin matched";

/// What failed for one volume. Its text and those of its sources, joined by `: `, are the kubelet's event.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// Laying it.
    // The kubelet puts a space before its colon.
    #[error("MountVolume.SetUp failed for volume {volume:?} ")]
    SetUp {
        /// Its name, or that of its PersistentVolume.
        volume: String,
        /// Cause.
        #[source]
        source: SetUpError,
    },
    /// Finding out what it is.
    #[error(
        "Unable to attach or mount volumes: unmounted volumes=[{volume}], unattached volumes=[], failed to process volumes=[{volume}]"
    )]
    Process {
        /// Its name.
        volume: String,
        /// Cause.
        #[source]
        source: Box<ProcessError>,
    },
}

/// Why a volume cannot be laid.
#[derive(Debug, thiserror::Error)]
pub enum SetUpError {
    /// Its files cannot be made.
    #[error(transparent)]
    Payload(#[from] PayloadError),
    /// A `hostPath`.
    #[error(transparent)]
    HostPath(#[from] host_path::HostPathError),
    /// A medium other than disk and memory.
    #[error("unknown storage medium {0:?}")]
    Medium(String),
    /// A driver that nobody has registered.
    #[error(
        "kubernetes.io/csi: mounter.SetUpAt failed to get CSI client: driver name {0} not found in the list of registered CSI drivers"
    )]
    Driver(String),
    /// The contents of an image.
    #[error("image volumes are not supported by minik: its images are not pulled")]
    Image,
    /// Writing.
    #[error("write {path}")]
    Write {
        /// Directory of the volume.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

/// Why nobody knows what a volume is.
#[derive(Debug, thiserror::Error)]
pub enum ProcessError {
    /// Its claim.
    #[error("error processing PVC {namespace}/{claim}")]
    Claim {
        /// Namespace of the claim.
        namespace: String,
        /// Its name.
        claim: String,
        /// Cause.
        #[source]
        source: ClaimError,
    },
    /// Its kind.
    #[error("failed to get Plugin from volumeSpec for volume {0:?} err={NO_PLUGIN}")]
    Plugin(String),
}

/// Directories of one Pod.
#[derive(Debug, Clone)]
pub struct Directories {
    /// The Pod's run directory, in memory.
    pub run: PathBuf,
    /// The Pod's state directory, on disk.
    pub state: PathBuf,
}

impl Directories {
    fn of(&self, volume: &Volume) -> PathBuf {
        let on_disk = volume.config_map.is_some() || volume.empty_dir.is_some() && !in_memory(volume);
        let base = if on_disk { &self.state } else { &self.run };
        base.join("volumes").join(&volume.name)
    }
}

/// A volume that is laid.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Laid {
    /// File or directory of the node.
    pub source: PathBuf,
    /// Whether no container may write to it.
    pub read_only: bool,
    /// Whether only the Pod's shim sees it.
    pub in_memory: bool,
}

/// A Pod and what its volumes are made of.
#[derive(Debug)]
struct Layout<'a> {
    pod: &'a Pod,
    directories: &'a Directories,
    ingredients: &'a Ingredients,
    /// By volume; those that a claim stands for.
    claimed: &'a BTreeMap<String, Result<Arc<PersistentVolume>, ClaimError>>,
    now: Timestamp,
}

impl Layout<'_> {
    /// Lays one volume; what is there already is brought up to date.
    fn lay(&self, volume: &Volume) -> Result<Laid, VolumeError> {
        if let Some(claim) = claim::name(self.pod, volume) {
            return self.lay_claimed(volume, &claim);
        }
        let set_up = |source| VolumeError::SetUp {
            volume: volume.name.clone(),
            source,
        };
        if let Some(made) = payload::payload(volume, self.pod, self.ingredients) {
            return self.write(volume, made).map_err(set_up);
        }
        if let Some(source) = &volume.empty_dir {
            return self.empty_dir(volume, source).map_err(set_up);
        }
        if let Some(source) = &volume.host_path {
            let laid = host_path::lay(&source.path, source.type_.as_deref().unwrap_or_default());
            return laid.map_err(|error| set_up(error.into()));
        }
        if let Some(source) = &volume.csi {
            return Err(set_up(SetUpError::Driver(source.driver.clone())));
        }
        if volume.image.is_some() {
            return Err(set_up(SetUpError::Image));
        }
        Err(VolumeError::Process {
            volume: volume.name.clone(),
            source: ProcessError::Plugin(volume.name.clone()).into(),
        })
    }

    fn write(&self, volume: &Volume, made: Result<atomic_writer::Payload, PayloadError>) -> Result<Laid, SetUpError> {
        let source = self.directories.of(volume);
        let owner = self.owner(true);
        atomic_writer::write(&source, &made?, &owner, self.now).map_err(|error| SetUpError::Write {
            path: source.clone(),
            source: error,
        })?;
        Ok(Laid {
            source,
            read_only: true,
            in_memory: false,
        })
    }

    fn empty_dir(&self, volume: &Volume, source: &EmptyDirVolumeSource) -> Result<Laid, SetUpError> {
        let path = self.directories.of(volume);
        match source.medium.as_deref() {
            None | Some("") => {
                let made =
                    fs::create_dir_all(&path).and_then(|()| ownership::give(&path, EMPTY_DIR_MODE, &self.owner(false)));
                made.map_err(|source| SetUpError::Write {
                    path: path.clone(),
                    source,
                })?;
            }
            Some("Memory") => {}
            Some(other) => return Err(SetUpError::Medium(other.to_owned())),
        }
        Ok(Laid {
            source: path,
            read_only: false,
            in_memory: in_memory(volume),
        })
    }

    fn lay_claimed(&self, volume: &Volume, claim: &str) -> Result<Laid, VolumeError> {
        let process = |source: ProcessError| VolumeError::Process {
            volume: volume.name.clone(),
            source: source.into(),
        };
        let found = self.claimed.get(&volume.name).cloned();
        let missing = || Err(ClaimError::NoClaim(claim.to_owned()));
        let persistent = found.unwrap_or_else(missing).map_err(|source| {
            process(ProcessError::Claim {
                namespace: self.pod.metadata.namespace.clone().unwrap_or_default(),
                claim: claim.to_owned(),
                source,
            })
        })?;
        let name = persistent.metadata.name.clone().unwrap_or_default();
        let set_up = |source| VolumeError::SetUp {
            volume: name.clone(),
            source,
        };
        let spec = persistent.spec.as_ref();
        let laid = if let Some(host) = spec.and_then(|spec| spec.host_path.as_ref()) {
            host_path::lay(&host.path, host.type_.as_deref().unwrap_or_default())
        } else if let Some(local) = spec.and_then(|spec| spec.local.as_ref()) {
            host_path::local(&local.path)
        } else if let Some(csi) = spec.and_then(|spec| spec.csi.as_ref()) {
            return Err(set_up(SetUpError::Driver(csi.driver.clone())));
        } else {
            return Err(process(ProcessError::Plugin(name)));
        };
        let mut laid = laid.map_err(|error| set_up(error.into()))?;
        let claim = volume.persistent_volume_claim.as_ref();
        laid.read_only = claim.and_then(|claim| claim.read_only).unwrap_or(false);
        Ok(laid)
    }

    fn owner(&self, read_only: bool) -> Owner {
        let context = self.pod.spec.as_ref().and_then(|spec| spec.security_context.as_ref());
        let group = context.and_then(|context| context.fs_group);
        Owner {
            group: group.and_then(|group| u32::try_from(group).ok()),
            read_only,
        }
    }
}

fn in_memory(volume: &Volume) -> bool {
    let medium = volume.empty_dir.as_ref().and_then(|dir| dir.medium.as_deref());
    medium == Some("Memory")
}

/// Memory file systems that the shim mounts for the Pod, none larger than what its containers may use together.
pub fn memory(spec: &PodSpec, directories: &Directories, allocatable: &BTreeMap<String, Quantity>) -> Vec<Memory> {
    let amount = |quantity: &Quantity| Amount::parse(&quantity.0).map(Amount::units);
    let limit = |container: &Container| amount(container.resources.as_ref()?.limits.as_ref()?.get("memory")?);
    let containers: i128 = spec.containers.iter().filter_map(limit).sum();
    let first = spec
        .init_containers
        .iter()
        .flatten()
        .filter_map(limit)
        .max()
        .unwrap_or(0);
    let pod = containers.max(first);
    let group = spec.security_context.as_ref().and_then(|context| context.fs_group);
    let volumes = spec.volumes.iter().flatten().filter(|volume| in_memory(volume));
    volumes
        .map(|volume| {
            let own = volume
                .empty_dir
                .as_ref()
                .and_then(|dir| amount(dir.size_limit.as_ref()?));
            let bounds = [allocatable.get("memory").and_then(amount), Some(pod), own];
            let size = bounds.into_iter().flatten().filter(|bound| *bound > 0).min();
            Memory {
                path: directories.of(volume),
                size: size.and_then(|size| u64::try_from(size).ok()),
                group: group.and_then(|group| u32::try_from(group).ok()),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests;
