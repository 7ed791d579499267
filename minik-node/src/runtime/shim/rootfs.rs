//! A container's file system: overlay root, `/proc`, `/sys`, `/dev`, bind mounts, and the step into it.
//!
//! Runs in a child of the shim that has a mount namespace of its own, so that the kernel takes every mount
//! down with the container. Shapes follow the OCI runtime specification's Linux defaults.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, symlink};
use std::path::{Component, Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::runtime::spec::{Access, ContainerSpec, Mount, Privileges};

/// Paths that show the machine rather than the container.
const MASKED: [&str; 10] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/firmware",
];
/// Paths whose settings reach beyond the container.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
const SEALED: MsFlags = MsFlags::MS_BIND.union(MsFlags::MS_REMOUNT).union(MsFlags::MS_RDONLY);
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// What failed, for the event that people read.
#[derive(Debug, thiserror::Error)]
#[error("{step}: {source}")]
pub struct RootfsError {
    /// For example `mount /proc`.
    pub step: String,
    /// Cause.
    pub source: io::Error,
}

trait Step<T> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T, RootfsError>;
}

impl<T, E: Into<io::Error>> Step<T> for Result<T, E> {
    fn step(self, step: impl FnOnce() -> String) -> Result<T, RootfsError> {
        self.map_err(|source| RootfsError {
            step: step(),
            source: source.into(),
        })
    }
}

/// Lays the container's mounts and makes them the root of the calling process. `shm` is the Pod's shared memory.
pub fn enter(spec: &ContainerSpec, shm: &Path) -> Result<(), RootfsError> {
    let root = overlay(spec)?;
    special(&root, spec.privileges)?;
    devices(&root, shm, spec.privileges)?;
    for bind in &spec.mounts {
        bind_into(&root, bind, spec.privileges)?;
    }
    pivot(&root)?;
    restrict(spec.privileges)?;
    if spec.read_only { seal_root() } else { Ok(()) }
}

fn overlay(spec: &ContainerSpec) -> Result<PathBuf, RootfsError> {
    let root = spec.writable.join("root");
    fs::create_dir_all(&root).step(|| format!("create {}", root.display()))?;
    if layer(&spec.layers, &spec.writable, &root).is_err() {
        // The kernel refuses an upper layer that is itself on an overlay: keep the writable layer in memory.
        let memory = spec.writable.join("memory");
        fs::create_dir_all(&memory).step(|| format!("create {}", memory.display()))?;
        mount_at(
            "tmpfs",
            &memory,
            "tmpfs",
            MsFlags::MS_NODEV | MsFlags::MS_NOSUID,
            "mode=755",
        )?;
        layer(&spec.layers, &memory, &root)?;
    }
    Ok(root)
}

fn layer(lower: &[PathBuf], writable: &Path, root: &Path) -> Result<(), RootfsError> {
    let (upper, work) = (writable.join("upper"), writable.join("work"));
    for dir in [&upper, &work] {
        fs::create_dir_all(dir).step(|| format!("create {}", dir.display()))?;
    }
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lower.iter().map(|layer| escape(layer)).collect::<Vec<_>>().join(":"),
        escape(&upper),
        escape(&work)
    );
    // No device on this layer may be opened: there is no device cgroup to stop a container's mknod.
    mount_at("overlay", root, "overlay", MsFlags::MS_NODEV, &options)
}

fn escape(path: &Path) -> String {
    path.display()
        .to_string()
        .replace('\\', "\\\\")
        .replace(':', "\\:")
        .replace(',', "\\,")
}

fn mount_at(source: &str, target: &Path, fstype: &str, flags: MsFlags, options: &str) -> Result<(), RootfsError> {
    mount(Some(source), target, Some(fstype), flags, Some(options))
        .step(|| format!("mount {fstype} on {}", target.display()))
}

fn special(root: &Path, privileges: Privileges) -> Result<(), RootfsError> {
    let guarded = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let sys = if privileges.privileged {
        guarded
    } else {
        guarded | MsFlags::MS_RDONLY
    };
    for dir in ["proc", "sys", "dev"] {
        fs::create_dir_all(root.join(dir)).step(|| format!("create /{dir}"))?;
    }
    mount_at("proc", &root.join("proc"), "proc", guarded, "")?;
    mount_at("sysfs", &root.join("sys"), "sysfs", sys, "")
}

fn devices(root: &Path, shm: &Path, privileges: Privileges) -> Result<(), RootfsError> {
    let dev = root.join("dev");
    mount_at(
        "tmpfs",
        &dev,
        "tmpfs",
        MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_STRICTATIME,
        "mode=755,size=65536k",
    )?;
    for name in DEVICES.map(str::to_owned) {
        device(&dev, &name)?;
    }
    if privileges.privileged {
        for name in machine_devices().step(|| "list /dev".to_owned())? {
            device(&dev, &name)?;
        }
    }
    for name in ["pts", "shm", "mqueue"] {
        fs::create_dir(dev.join(name)).step(|| format!("create /dev/{name}"))?;
    }
    let guarded = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount_at(
        "devpts",
        &dev.join("pts"),
        "devpts",
        guarded,
        "newinstance,ptmxmode=0666,mode=0620,gid=5",
    )?;
    mount_at("mqueue", &dev.join("mqueue"), "mqueue", guarded | MsFlags::MS_NODEV, "")?;
    bind(shm, &dev.join("shm"))?;
    for (link, target) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        symlink(target, dev.join(link)).step(|| format!("link /dev/{link}"))?;
    }
    Ok(())
}

fn device(dev: &Path, name: &str) -> Result<(), RootfsError> {
    let target = dev.join(name);
    fs::File::create(&target).step(|| format!("create /dev/{name}"))?;
    bind(&Path::new("/dev").join(name), &target)
}

/// Names of the device files at the top of the machine's `/dev`, without those that every container has.
fn machine_devices() -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir("/dev")? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let common = DEVICES.contains(&name.as_str()) || name == "console" || name == "ptmx";
        if (kind.is_char_device() || kind.is_block_device()) && !common {
            names.push(name);
        }
    }
    Ok(names)
}

fn bind(source: &Path, target: &Path) -> Result<(), RootfsError> {
    mount(
        Some(source),
        target,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )
    .step(|| format!("bind {} to {}", source.display(), target.display()))
}

fn bind_into(root: &Path, wanted: &Mount, privileges: Privileges) -> Result<(), RootfsError> {
    let source = match &wanted.sub_path {
        None => wanted.source.clone(),
        Some(below) => {
            let path = resolve(&wanted.source, below).step(|| format!("resolve subPath {}", below.display()))?;
            if !path.exists() {
                make_open(&wanted.source, &path).step(|| format!("create subPath {}", below.display()))?;
            }
            path
        }
    };
    let target = resolve(root, &wanted.target).step(|| format!("resolve {}", wanted.target.display()))?;
    let made = if source.is_dir() {
        fs::create_dir_all(&target)
    } else {
        target.parent().map_or(Ok(()), fs::create_dir_all).and_then(|()| {
            if target.exists() {
                Ok(())
            } else {
                fs::File::create(&target).map(drop)
            }
        })
    };
    made.step(|| format!("create mount point {}", wanted.target.display()))?;
    bind(&source, &target)?;
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
    if !privileges.privileged {
        flags |= MsFlags::MS_NODEV;
    }
    if wanted.access != Access::ReadWrite {
        flags |= MsFlags::MS_RDONLY;
    }
    mount(None::<&str>, &target, None::<&str>, flags, None::<&str>)
        .step(|| format!("restrict {}", wanted.target.display()))?;
    if wanted.access == Access::ReadOnlyThroughout {
        seal_below(&target).step(|| format!("seal all below {}", wanted.target.display()))?;
    }
    Ok(())
}

/// Makes a directory below a volume, as open as the volume itself.
fn make_open(volume: &Path, dir: &Path) -> io::Result<()> {
    let permissions = fs::metadata(volume)?.permissions();
    let mut at = volume.to_owned();
    for part in dir.strip_prefix(volume).map_err(io::Error::other)?.components() {
        at.push(part);
        if !at.exists() {
            fs::create_dir(&at)?;
            fs::set_permissions(&at, permissions.clone())?;
        }
    }
    Ok(())
}

/// Takes writing from a mount and from all mounts below it (`mount_setattr(2)`).
fn seal_below(target: &Path) -> io::Result<()> {
    let path = std::ffi::CString::new(std::os::unix::ffi::OsStrExt::as_bytes(target.as_os_str()))?;
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_RDONLY,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: `path` ends with a NUL and `attributes` is the structure that this call reads, with its size; both
    // outlive it.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    nix::errno::Errno::result(result).map(drop).map_err(io::Error::from)
}

/// Where `path` of the container lies under `root`, with the image's links read as the container reads them:
/// none of them leads out.
fn resolve(root: &Path, path: &Path) -> io::Result<PathBuf> {
    const MOST_LINKS: usize = 40;
    let mut left: Vec<PathBuf> = parts(path);
    let mut at = PathBuf::new();
    let mut links = 0;
    while let Some(part) = left.pop() {
        if part == Path::new("..") {
            at.pop();
            continue;
        }
        let next = at.join(&part);
        match fs::read_link(root.join(&next)) {
            Ok(target) => {
                links += 1;
                if links > MOST_LINKS {
                    return Err(io::Error::from_raw_os_error(libc::ELOOP));
                }
                if target.is_absolute() {
                    at = PathBuf::new();
                }
                left.extend(parts(&target));
            }
            Err(_) => at = next,
        }
    }
    Ok(root.join(at))
}

/// The components of a path, last first, without roots and dots.
fn parts(path: &Path) -> Vec<PathBuf> {
    let wanted = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    let mut parts: Vec<PathBuf> = path
        .components()
        .filter(wanted)
        .map(|part| PathBuf::from(part.as_os_str()))
        .collect();
    parts.reverse();
    parts
}

fn pivot(root: &Path) -> Result<(), RootfsError> {
    nix::unistd::chdir(root).step(|| "enter root".to_owned())?;
    // Both names are the new root: the old one is stacked on it and taken off again (pivot_root(2)).
    nix::unistd::pivot_root(".", ".").step(|| "pivot_root".to_owned())?;
    umount2(".", MntFlags::MNT_DETACH).step(|| "detach old root".to_owned())?;
    nix::unistd::chdir("/").step(|| "chdir /".to_owned())
}

fn restrict(privileges: Privileges) -> Result<(), RootfsError> {
    if privileges.privileged || privileges.unmasked {
        return Ok(());
    }
    for path in MASKED.map(Path::new) {
        if path.is_dir() {
            mount_at("tmpfs", path, "tmpfs", MsFlags::MS_RDONLY, "size=0")?;
        } else if path.exists() {
            bind(Path::new("/dev/null"), path)?;
        }
    }
    let proc_flags = SEALED | MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    for path in READ_ONLY.map(Path::new).into_iter().filter(|path| path.exists()) {
        bind(path, path)?;
        mount(None::<&str>, path, None::<&str>, proc_flags, None::<&str>)
            .step(|| format!("seal {}", path.display()))?;
    }
    Ok(())
}

fn seal_root() -> Result<(), RootfsError> {
    let none = None::<&str>;
    mount(none, "/", none, SEALED | MsFlags::MS_NODEV, none).step(|| "seal /".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_of_the_image_stay_inside() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("usr/share")).unwrap();
        symlink("/usr/share", root.path().join("absolute")).unwrap();
        symlink("../../../../etc", root.path().join("usr/up")).unwrap();
        symlink("loop", root.path().join("loop")).unwrap();
        for (path, expected) in [
            ("/absolute/x", "usr/share/x"),
            ("/usr/up/passwd", "etc/passwd"),
            ("/new/dir", "new/dir"),
            ("/../../etc", "etc"),
        ] {
            assert_eq!(
                resolve(root.path(), Path::new(path)).unwrap(),
                root.path().join(expected),
                "{path}"
            );
        }
        assert!(resolve(root.path(), Path::new("/loop")).is_err());
    }
}
