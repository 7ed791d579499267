//! What a shim leaves to the one after it, should it be killed: who holds the Pod's namespaces, and each container as it was
//! last. Files of the Pod's run directory, which ends with the sandbox.
//!
//! Written before what they tell of happens, so that nothing runs that a later shim would not find.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::process::ProcessId;
use super::space::Mark;
use crate::runtime::protocol::ContainerState;
use crate::runtime::spec::{ContainerSpec, HOLDER_FILE};

const CONTAINERS: &str = "containers";

/// A container of the sandbox.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Record {
    /// As last started.
    pub spec: ContainerSpec,
    /// What the agent was told last.
    pub state: ContainerState,
    /// The first process of its newest attempt.
    pub process: ProcessId,
    /// By what its other processes are known, where they may outlive that one.
    pub mark: Option<Mark>,
}

/// Notes who holds the namespaces.
pub fn save_holder(dir: &Path, holder: &ProcessId) -> io::Result<()> {
    write(&dir.join(HOLDER_FILE), holder)
}

/// Who holds the namespaces; `None` in a sandbox that is not made yet, or no more.
pub fn holder(dir: &Path) -> io::Result<Option<ProcessId>> {
    read(&dir.join(HOLDER_FILE))
}

/// The sandbox is over: there is nothing to come back to.
pub fn forget_holder(dir: &Path) -> io::Result<()> {
    fs::remove_file(dir.join(HOLDER_FILE))
}

/// Notes how a container is.
pub fn save(dir: &Path, record: &Record) -> io::Result<()> {
    let dir = dir.join(CONTAINERS);
    fs::create_dir_all(&dir)?;
    write(&dir.join(format!("{}.json", record.spec.name)), record)
}

/// Every container that was started in the sandbox.
pub fn all(dir: &Path) -> io::Result<Vec<Record>> {
    let entries = match fs::read_dir(dir.join(CONTAINERS)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut records = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|ending| ending == "json") {
            records.extend(read(&path)?);
        } else {
            // It was not written to its end.
            fs::remove_file(&path)?;
        }
    }
    Ok(records)
}

/// A reader finds the file as it was before or as it is now. The disk is not waited for: a reboot ends the sandbox.
fn write(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    // Environments hold secrets.
    let file = fs::OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(0o600)
        .open(&temporary);
    file?.write_all(&serde_json::to_vec(value)?)?;
    fs::rename(&temporary, path)
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
