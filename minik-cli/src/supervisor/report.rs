//! What the supervisor tells of its children, in `RUN/supervisor.json`, for `minik up` and `minik status`. Replaced as a
//! whole at every change, so a reader sees the old one or the new one and can wait for the next with inotify.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cluster::names;

/// Name of the file in the run directory.
pub const FILE: &str = "supervisor.json";

/// The supervisor and its children.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The supervisor at work.
    pub pid: i32,
    /// The one that waits to take its place.
    pub standby: Option<i32>,
    /// By name: `apiserver`, `agent-worker1` …
    pub children: BTreeMap<String, ChildReport>,
}

/// One child.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ChildReport {
    /// While it runs.
    pub pid: Option<i32>,
    /// How often it ended soon after it was started, in a row; 0 for one that never ended.
    pub failures: u32,
    /// How it ended last: `was killed by SIGKILL`.
    pub last_end: Option<String>,
}

/// `RUN/supervisor.json`
#[must_use]
pub fn path(cluster: &str) -> PathBuf {
    names::run_dir(cluster).join(FILE)
}

/// Replaces the report.
///
/// # Errors
/// Those of writing and renaming a file.
pub fn write(path: &Path, report: &Report) -> io::Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    serde_json::to_writer(&mut file, report)?;
    file.flush()?;
    file.persist(path).map(drop).map_err(|error| error.error)
}

/// Reads the report; `None` while there is none.
///
/// # Errors
/// That of reading, or what is there is no report.
pub fn read(path: &Path) -> io::Result<Option<Report>> {
    match std::fs::read(path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(FILE);
        assert_eq!(read(&path).unwrap(), None);
        let child = ChildReport {
            failures: 2,
            last_end: Some("exited with code 1".to_owned()),
            ..ChildReport::default()
        };
        let report = Report {
            pid: 7,
            standby: Some(8),
            children: [("apiserver".to_owned(), child)].into(),
        };
        write(&path, &report).unwrap();
        assert_eq!(read(&path).unwrap(), Some(report));
    }
}
