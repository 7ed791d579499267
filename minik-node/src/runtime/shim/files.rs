//! Reading a file of one of the Pod's volumes: here, since only here its memory file systems are mounted.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
use nix::sys::stat::Mode;

/// Largest file that is read: spelled out in JSON, it fits a line.
const MAX_FILE: u64 = 128 << 10;

/// The text of the file at `path` in `volume`, for which the volume is the root of everything: neither a link nor `..`
/// leads out of it.
pub fn read(volume: &Path, path: &str) -> io::Result<String> {
    let root = open(
        volume,
        OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    let how = OpenHow::new()
        // Whatever a container has put there, opening it waits for nobody.
        .flags(OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    let file = File::from(openat2(&root, path, how)?);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    if metadata.len() > MAX_FILE {
        return Err(io::Error::other(format!("larger than {MAX_FILE} bytes")));
    }
    let mut text = String::new();
    file.take(MAX_FILE).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_outside_the_volume_is_read_and_nothing_waits() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        std::fs::create_dir_all(volume.join("folder")).unwrap();
        std::fs::write(dir.path().join("secret"), "outside").unwrap();
        std::fs::write(volume.join("secret"), "inside").unwrap();
        symlink("/../secret", volume.join("link")).unwrap();
        nix::unistd::mkfifo(&volume.join("fifo"), Mode::S_IRWXU).unwrap();
        for path in ["secret", "../secret", "link", "folder/../../secret"] {
            assert_eq!(read(&volume, path).unwrap(), "inside", "{path}");
        }
        for (path, why) in [
            ("none", "No such file"),
            ("folder", "not a regular"),
            ("fifo", "not a regular"),
        ] {
            let error = read(&volume, path).unwrap_err().to_string();
            assert!(error.contains(why), "{path}: {error}");
        }
    }
}
