//! Whether the disk under a node's Pods has room. Reads; frees nothing and evicts nobody.

use std::path::Path;

use nix::sys::statvfs::statvfs;

/// Less than this is pressure. The kubelet's tenth of the disk would be most of a laptop's last gigabytes, and a lab needs
/// little.
const LEAST: u64 = 64 << 20;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// Room for what a lab writes.
    Roomy,
    /// Writes are about to fail, or do.
    Full,
}

impl Disk {
    /// Looks at the file system that `dir` is on.
    ///
    /// # Errors
    /// That of `statvfs`.
    pub fn look(dir: &Path) -> nix::Result<Self> {
        let found = statvfs(dir)?;
        Ok(Self::of(found.blocks_available() * found.fragment_size()))
    }

    fn of(available: u64) -> Self {
        if available < LEAST { Self::Full } else { Self::Roomy }
    }

    /// The reason of the event that the kubelet writes.
    pub fn event(self) -> &'static str {
        match self {
            Self::Roomy => "NodeHasNoDiskPressure",
            Self::Full => "NodeHasDiskPressure",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_with_little_room_is_under_pressure() {
        assert_eq!((Disk::of(LEAST), Disk::of(LEAST - 1)), (Disk::Roomy, Disk::Full));
    }
}
