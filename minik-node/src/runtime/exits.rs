//! How a Pod's containers ended, on disk: `STATE/exits/NAME.json`, a [`ContainerState`] each, written before anybody hears of
//! an end. What a shim knew outlives it here.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::client::States;
use super::protocol::ContainerState;

fn directory(state_dir: &Path) -> PathBuf {
    state_dir.join("exits")
}

fn file(state_dir: &Path, container: &str) -> PathBuf {
    directory(state_dir).join(format!("{container}.json"))
}

/// Saves a container's end durably. `state_dir` is the Pod's.
///
/// # Errors
/// Those of writing a file.
pub fn save(state_dir: &Path, container: &str, state: &ContainerState) -> io::Result<()> {
    fs::create_dir_all(directory(state_dir))?;
    let path = file(state_dir, container);
    let temporary = path.with_extension("tmp");
    let mut written = File::create(&temporary)?;
    written.write_all(&serde_json::to_vec(state)?)?;
    written.sync_data()?;
    fs::rename(&temporary, path)
}

/// The last end of a container; `None` if it never ended.
///
/// # Errors
/// That of reading, or what is there is no state.
pub fn read(state_dir: &Path, container: &str) -> io::Result<Option<ContainerState>> {
    match fs::read(file(state_dir, container)) {
        Ok(text) => Ok(Some(serde_json::from_slice(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The last end of each of a Pod's containers.
///
/// # Errors
/// As [`read`]; the first.
pub fn read_all<'n>(state_dir: &Path, containers: impl Iterator<Item = &'n str>) -> io::Result<States> {
    containers
        .filter_map(|name| match read(state_dir, name) {
            Ok(state) => state.map(|state| Ok((name.to_owned(), state))),
            Err(error) => Some(Err(error)),
        })
        .collect()
}
