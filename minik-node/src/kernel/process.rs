//! Which processes live in which network namespace, as `/proc` tells it. Looks, never signals.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;

/// A namespace's identity: the inode of its file on nsfs, the number in `net:[4026531840]`.
pub type NetNsId = u64;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its number here.
    pub pid: u32,
    /// Its name as the kernel keeps it, at most 15 bytes.
    pub name: String,
}

/// All processes by the namespace of their first thread. One that ends meanwhile is left out.
///
/// # Errors
/// When `/proc` cannot be read at all.
pub fn by_netns() -> io::Result<BTreeMap<NetNsId, Vec<Process>>> {
    let mut processes = BTreeMap::<NetNsId, Vec<Process>>::new();
    for entry in fs::read_dir("/proc")? {
        let Some(pid) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // Zombies and kernel threads have no namespace to stat; neither holds one by its name.
        let Ok(netns) = fs::metadata(format!("/proc/{pid}/ns/net")) else {
            continue;
        };
        let name = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        let process = Process {
            pid,
            name: name.trim_end().to_owned(),
        };
        processes.entry(netns.ino()).or_default().push(process);
    }
    Ok(processes)
}
