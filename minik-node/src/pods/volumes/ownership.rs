//! Whose a volume's files are: root's, and its group's when the Pod has an `fsGroup`.
//!
//! Source: `pkg/volume.SetVolumeOwnership`: the group may read (and write, where the volume may be written), and
//! enters directories that hand the group on.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

const SET_GROUP: u32 = 0o2000;

/// The group of a volume's files, and what it may do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Owner {
    /// `fsGroup` of the Pod.
    pub group: Option<u32>,
    /// Whether nobody writes to the volume.
    pub read_only: bool,
}

impl Owner {
    fn mask(self) -> u32 {
        if self.read_only { 0o440 } else { 0o660 }
    }

    /// Permission bits that a file with `mode` gets.
    #[must_use]
    pub fn file_mode(self, mode: u32) -> u32 {
        self.group.map_or(mode, |_| mode | self.mask())
    }

    /// Permission bits that a directory with `mode` gets.
    #[must_use]
    pub fn directory_mode(self, mode: u32) -> u32 {
        self.group.map_or(mode, |_| mode | self.mask() | SET_GROUP | 0o110)
    }
}

/// Hands a directory over.
pub fn give(dir: &Path, mode: u32, owner: &Owner) -> io::Result<()> {
    if let Some(group) = owner.group {
        chown(dir, None, Some(group))?;
    }
    fs::set_permissions(dir, Permissions::from_mode(owner.directory_mode(mode)))
}

/// Hands a file over, to `user` unless that is root.
pub fn give_file(path: &Path, mode: u32, user: Option<u32>, owner: &Owner) -> io::Result<()> {
    if user.is_some() || owner.group.is_some() {
        chown(path, user, owner.group)?;
    }
    fs::set_permissions(path, Permissions::from_mode(owner.file_mode(mode)))
}
