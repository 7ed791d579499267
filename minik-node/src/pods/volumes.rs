//! A Pod's volumes as directories of the node, and where containers see them.
//!
//! `emptyDir` lives in the state directory (or in memory, mounted by the shim), ConfigMaps beside it, Secrets
//! in the run directory, which is in memory. Anything else is refused by name.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, KeyToPath, PodSpec, Volume};

use super::config::{ConfigError, Data, Sources};
use crate::runtime::spec::Mount;

/// What failed; the kubelet's event puts `MountVolume.SetUp failed for volume "V" : ` in front.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// A ConfigMap or Secret.
    #[error("{0}")]
    Config(#[from] ConfigError),
    /// A kind of volume that this version does not offer.
    #[error("this kind of volume is not supported by minik (there are: emptyDir, configMap, secret, hostPath)")]
    Kind,
    /// `items` names a key that is not there.
    #[error("references non-existent config key: {0}")]
    Key(String),
    /// A path that would lead out of the volume.
    #[error("path {0:?} leads out of the volume")]
    Path(String),
    /// A `hostPath` that is not what its type says.
    #[error("hostPath type check failed: {0} is not there or not of the type")]
    HostPath(String),
    /// Writing.
    #[error("write {path}: {source}")]
    Write {
        /// File or directory.
        path: PathBuf,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// `volumeMounts` names a volume that the Pod lacks.
    #[error("volume {0:?} is not declared")]
    Undeclared(String),
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
    fn source(&self, volume: &Volume) -> PathBuf {
        if let Some(host) = &volume.host_path {
            return PathBuf::from(&host.path);
        }
        let base = if volume.secret.is_some() || in_memory(volume) {
            &self.run
        } else {
            &self.state
        };
        base.join("volumes").join(&volume.name)
    }
}

fn in_memory(volume: &Volume) -> bool {
    volume
        .empty_dir
        .as_ref()
        .is_some_and(|dir| dir.medium.as_deref() == Some("Memory"))
}

/// Memory file systems that the shim mounts for the Pod.
pub fn tmpfs(spec: &PodSpec, directories: &Directories) -> Vec<PathBuf> {
    let volumes = spec.volumes.iter().flatten().filter(|volume| in_memory(volume));
    volumes.map(|volume| directories.source(volume)).collect()
}

/// Lays one volume; what is there already is brought up to date.
pub fn set_up(volume: &Volume, directories: &Directories, sources: &Sources) -> Result<(), VolumeError> {
    let dir = directories.source(volume);
    if volume.empty_dir.is_some() {
        make(&dir, |dir| fs::create_dir_all(dir))?;
        return make(&dir, |dir| fs::set_permissions(dir, fs::Permissions::from_mode(0o777)));
    }
    if let Some(source) = &volume.config_map {
        let data = sources.config_map(&source.name, source.optional)?;
        return write_all(
            &dir,
            data,
            source.items.as_deref(),
            source.default_mode,
            source.optional,
        );
    }
    if let Some(source) = &volume.secret {
        let data = sources.secret(source.secret_name.as_deref().unwrap_or_default(), source.optional)?;
        return write_all(
            &dir,
            data,
            source.items.as_deref(),
            source.default_mode,
            source.optional,
        );
    }
    if let Some(source) = &volume.host_path {
        return host_path(&dir, source.type_.as_deref().unwrap_or_default());
    }
    Err(VolumeError::Kind)
}

fn host_path(path: &Path, kind: &str) -> Result<(), VolumeError> {
    match kind {
        "DirectoryOrCreate" => return make(path, |path| fs::create_dir_all(path)),
        "FileOrCreate" if !path.exists() => return make(path, |path| fs::write(path, "")),
        _ => {}
    }
    let right = match kind {
        "Directory" => path.is_dir(),
        "File" | "FileOrCreate" => path.is_file(),
        _ => path.exists(),
    };
    if right {
        Ok(())
    } else {
        Err(VolumeError::HostPath(path.display().to_string()))
    }
}

fn write_all(
    dir: &Path,
    data: Option<&Data>,
    items: Option<&[KeyToPath]>,
    mode: Option<i32>,
    optional: Option<bool>,
) -> Result<(), VolumeError> {
    make(dir, |dir| fs::create_dir_all(dir))?;
    let Some(data) = data else { return Ok(()) };
    let mode = mode.unwrap_or(0o644);
    let Some(items) = items else {
        return data.iter().try_for_each(|(key, value)| write(dir, key, value, mode));
    };
    for item in items {
        match data.get(&item.key) {
            Some(value) => write(dir, &item.path, value, item.mode.unwrap_or(mode))?,
            None if optional == Some(true) => {}
            None => return Err(VolumeError::Key(item.key.clone())),
        }
    }
    Ok(())
}

fn write(dir: &Path, name: &str, value: &[u8], mode: i32) -> Result<(), VolumeError> {
    let path = inside(dir, name)?;
    if let Some(parent) = path.parent() {
        make(parent, |parent| fs::create_dir_all(parent))?;
    }
    make(&path, |path| fs::write(path, value))?;
    let mode = fs::Permissions::from_mode(u32::try_from(mode).unwrap_or(0o644));
    make(&path, |path| fs::set_permissions(path, mode))
}

fn inside(dir: &Path, name: &str) -> Result<PathBuf, VolumeError> {
    let tame = Path::new(name)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if tame {
        Ok(dir.join(name))
    } else {
        Err(VolumeError::Path(name.to_owned()))
    }
}

fn make(path: &Path, operation: impl FnOnce(&Path) -> io::Result<()>) -> Result<(), VolumeError> {
    operation(path).map_err(|source| VolumeError::Write {
        path: path.to_owned(),
        source,
    })
}

/// The bind mounts of one container.
pub fn mounts(spec: &PodSpec, container: &Container, directories: &Directories) -> Result<Vec<Mount>, VolumeError> {
    container
        .volume_mounts
        .iter()
        .flatten()
        .map(|wanted| {
            let volume = spec.volumes.iter().flatten().find(|volume| volume.name == wanted.name);
            let volume = volume.ok_or_else(|| VolumeError::Undeclared(wanted.name.clone()))?;
            let mut source = directories.source(volume);
            if let Some(sub_path) = wanted.sub_path.as_deref().filter(|path| !path.is_empty()) {
                source = inside(&source, sub_path)?;
                if !source.exists() && !in_memory(volume) {
                    make(&source, |source| fs::create_dir_all(source))?;
                }
            }
            let fixed = volume.config_map.is_some() || volume.secret.is_some();
            let read_only = fixed || wanted.read_only.unwrap_or(false);
            Ok(Mount {
                source,
                target: PathBuf::from(&wanted.mount_path),
                read_only,
            })
        })
        .collect()
}
