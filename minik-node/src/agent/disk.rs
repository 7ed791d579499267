//! Whether the disk under a node's Pods has room: the condition `DiskPressure`. Reads; frees nothing and evicts nobody.

use std::path::Path;

use jiff::Timestamp;
use nix::sys::statvfs::statvfs;
use serde_json::{Value, json};

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

    /// The condition, as the kubelet words it.
    pub fn condition(self, now: Timestamp) -> Value {
        let (status, reason, message) = match self {
            Self::Roomy => ("False", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
            Self::Full => ("True", "KubeletHasDiskPressure", "kubelet has disk pressure"),
        };
        json!({
            "type": "DiskPressure", "status": status, "reason": reason, "message": message,
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_with_little_room_is_under_pressure() {
        assert_eq!((Disk::of(LEAST), Disk::of(LEAST - 1)), (Disk::Roomy, Disk::Full));
        let condition = Disk::Full.condition(Timestamp::UNIX_EPOCH);
        assert_eq!(
            (&condition["status"], &condition["reason"]),
            (&json!("True"), &json!("KubeletHasDiskPressure"))
        );
    }
}
