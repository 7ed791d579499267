//! Paths of the node as volumes. Nodes share the machine's files, so a path means the same on all of them.
//!
//! Source: `pkg/volume/hostpath`, `pkg/volume/local`.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::Laid;

/// Why a path is no volume.
#[derive(Debug, thiserror::Error)]
pub enum HostPathError {
    /// It is not of the type.
    #[error("hostPath type check failed: {path} is not a {wanted}")]
    Type {
        /// Which.
        path: String,
        /// What `type` says.
        wanted: &'static str,
    },
    /// There is no such type.
    #[error("{0} is an invalid volume type")]
    Unknown(String),
    /// A `local` volume's path.
    #[error("path {0:?} does not exist")]
    Missing(String),
    /// Making it.
    #[error("create {path}")]
    Create {
        /// Which.
        path: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

/// Checks a path against the `type` of its volume, or makes it where the type says so.
pub fn lay(path: &str, kind: &str) -> Result<Laid, HostPathError> {
    let create = |source| HostPathError::Create {
        path: path.to_owned(),
        source,
    };
    let file = Path::new(path);
    if !file.exists() {
        match kind {
            // Without a type it is the runtime that makes what is missing.
            "" | "DirectoryOrCreate" => DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(file)
                .map_err(create)?,
            "FileOrCreate" => OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .mode(0o644)
                .open(file)
                .map(drop)
                .map_err(create)?,
            _ => {}
        }
    }
    let metadata = fs::metadata(file);
    let is = |test: fn(&fs::FileType) -> bool| metadata.as_ref().is_ok_and(|metadata| test(&metadata.file_type()));
    let (right, wanted) = match kind {
        "" => (true, ""),
        "Directory" | "DirectoryOrCreate" => (is(fs::FileType::is_dir), "directory"),
        "File" | "FileOrCreate" => (is(fs::FileType::is_file), "file"),
        "Socket" => (is(FileTypeExt::is_socket), "socket file"),
        "CharDevice" => (is(FileTypeExt::is_char_device), "character device"),
        "BlockDevice" => (is(FileTypeExt::is_block_device), "block device"),
        other => return Err(HostPathError::Unknown(other.to_owned())),
    };
    if right {
        Ok(laid(path))
    } else {
        Err(HostPathError::Type {
            path: path.to_owned(),
            wanted,
        })
    }
}

/// Checks the path of a `local` volume, which whoever made the volume made before.
pub fn local(path: &str) -> Result<Laid, HostPathError> {
    if Path::new(path).exists() {
        Ok(laid(path))
    } else {
        Err(HostPathError::Missing(path.to_owned()))
    }
}

fn laid(path: &str) -> Laid {
    Laid {
        source: PathBuf::from(path),
        read_only: false,
        in_memory: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_type_is_checked_and_two_are_made() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        fs::create_dir(at("dir")).unwrap();
        fs::write(at("file"), "kept").unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for (path, kind, refused) in [
            (at("dir"), "Directory", None),
            (at("dir"), "", None),
            (at("file"), "FileOrCreate", None),
            (at("socket"), "Socket", None),
            ("/dev/null".to_owned(), "CharDevice", None),
            (at("made/deep"), "DirectoryOrCreate", None),
            (at("made/file"), "FileOrCreate", None),
            (at("runtime"), "", None),
            (at("file"), "Directory", Some("directory")),
            (at("file"), "DirectoryOrCreate", Some("directory")),
            (at("dir"), "File", Some("file")),
            (at("none"), "File", Some("file")),
            (at("file"), "Socket", Some("socket file")),
            (at("file"), "CharDevice", Some("character device")),
            (at("file"), "BlockDevice", Some("block device")),
        ] {
            let expected = refused.map(|wanted| format!("hostPath type check failed: {path} is not a {wanted}"));
            let found = lay(&path, kind).err().map(|error| error.to_string());
            assert_eq!(found, expected, "{path} {kind}");
        }
        assert_eq!(fs::read_to_string(at("file")).unwrap(), "kept");
        assert!(Path::new(&at("made/deep")).is_dir() && Path::new(&at("made/file")).is_file());
        assert_eq!(
            lay("/", "Door").unwrap_err().to_string(),
            "Door is an invalid volume type"
        );
        let missing = at("none");
        assert_eq!(
            local(&missing).unwrap_err().to_string(),
            format!("path {missing:?} does not exist")
        );
    }
}
