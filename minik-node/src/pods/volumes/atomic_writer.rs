//! Files of a volume that change as one: a reader that resolves `..data` once sees one version, whole.
//!
//! The layout is the kubelet's (`pkg/volume/util.AtomicWriter`), which programs watch for:
//!
//! ```text
//! VOLUME/..2026_01_02_03_04_05.123456789/KEY    the files of one version
//! VOLUME/..data -> ..2026_01_02_03_04_05.123456789
//! VOLUME/KEY -> ..data/KEY
//! ```
//! A new version is written beside the present one, and one rename of a link makes it the present one. What an
//! interrupted writer left is removed by the next.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::ownership::{self, Owner};

/// The link to the present version.
pub const DATA: &str = "..data";
const NEW_DATA: &str = "..data_tmp";
const VOLUME_MODE: u32 = 0o777;
const DIRECTORY_MODE: u32 = 0o755;

/// One file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    /// What it holds.
    pub data: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Who owns it, when it is not root.
    pub user: Option<u32>,
}

/// Files by their path in the volume.
pub type Payload = BTreeMap<PathBuf, File>;

/// Makes the volume at `dir` hold exactly `payload`. Writes nothing when it does already; says whether it wrote.
///
/// # Errors
/// When the file system refuses; what was the present version then still is.
pub fn write(dir: &Path, payload: &Payload, owner: &Owner, now: Timestamp) -> io::Result<bool> {
    fs::create_dir_all(dir)?;
    ownership::give(dir, VOLUME_MODE, owner)?;
    let present = match fs::read_link(dir.join(DATA)) {
        Ok(link) => Some(link),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    if let Some(present) = &present
        && holds(&dir.join(present), payload, owner)?
    {
        show(dir, payload)?;
        return Ok(false);
    }
    let version = fill(dir, payload, owner, now)?;
    replace_link(dir, &version)?;
    show(dir, payload)?;
    sweep(dir, &version)?;
    Ok(true)
}

/// Whether a version is `payload`, no more and no less.
fn holds(version: &Path, payload: &Payload, owner: &Owner) -> io::Result<bool> {
    let mut there = BTreeSet::new();
    match files(version, Path::new(""), &mut there) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        other => other?,
    }
    if !there.iter().eq(payload.keys()) {
        return Ok(false);
    }
    for (path, file) in payload {
        let path = version.join(path);
        let mode = fs::metadata(&path)?.permissions().mode() & 0o7777;
        if mode != owner.file_mode(file.mode) || fs::read(&path)? != file.data {
            return Ok(false);
        }
    }
    Ok(true)
}

fn files(root: &Path, below: &Path, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            files(root, &path, found)?;
        } else {
            found.insert(path);
        }
    }
    Ok(())
}

/// Writes a version beside the present one; gives its name.
fn fill(dir: &Path, payload: &Payload, owner: &Owner, now: Timestamp) -> io::Result<PathBuf> {
    let stamp = now.strftime("..%Y_%m_%d_%H_%M_%S");
    let version = PathBuf::from(format!("{stamp}.{}", rand::random::<u32>()));
    let root = dir.join(&version);
    fs::create_dir(&root)?;
    ownership::give(&root, DIRECTORY_MODE, owner)?;
    for (path, file) in payload {
        let mut below = root.clone();
        for part in path.parent().iter().flat_map(|parent| parent.components()) {
            below.push(part);
            if !below.is_dir() {
                fs::create_dir(&below)?;
                ownership::give(&below, DIRECTORY_MODE, owner)?;
            }
        }
        let path = root.join(path);
        fs::write(&path, &file.data)?;
        ownership::give_file(&path, file.mode, file.user, owner)?;
    }
    Ok(version)
}

fn replace_link(dir: &Path, version: &Path) -> io::Result<()> {
    let new = dir.join(NEW_DATA);
    remove(&new)?;
    symlink(version, &new)?;
    fs::rename(new, dir.join(DATA))
}

/// Links what the payload has at its top, and takes links away that lead nowhere any more.
fn show(dir: &Path, payload: &Payload) -> io::Result<()> {
    let top = |path: &PathBuf| path.components().next().map(|part| PathBuf::from(part.as_os_str()));
    let wanted: BTreeSet<PathBuf> = payload.keys().filter_map(top).collect();
    for name in &wanted {
        let target = Path::new(DATA).join(name);
        match fs::read_link(dir.join(name)) {
            Ok(link) if link == target => {}
            _ => {
                remove(&dir.join(name))?;
                symlink(target, dir.join(name))?;
            }
        }
    }
    for entry in fs::read_dir(dir)? {
        let name = PathBuf::from(entry?.file_name());
        if !name.to_string_lossy().starts_with("..") && !wanted.contains(&name) {
            remove(&dir.join(name))?;
        }
    }
    Ok(())
}

/// Removes every version but `present`.
fn sweep(dir: &Path, present: &Path) -> io::Result<()> {
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let version = name.to_string_lossy().starts_with("..") && entry.file_type()?.is_dir();
        if version && Path::new(&name) != present {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
