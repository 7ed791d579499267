//! Tries out what the kernel can do, each time in namespaces of its own that end with the try, so that nothing
//! of it is ever seen outside. Versions are never looked at: a feature is there if it works.

use std::io::{self, Write};
use std::path::Path;
use std::process::{Command, Stdio};

use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// What failed, as the kernel or the program said it.
pub type Probed = Result<(), String>;

/// Network namespaces can be made.
///
/// # Errors
/// The kernel's answer.
pub fn network_namespace() -> Probed {
    apart(CloneFlags::CLONE_NEWNET, || Ok(()))
}

/// Pairs of virtual Ethernet links can be made.
///
/// # Errors
/// The kernel's answer.
pub fn veth() -> Probed {
    apart(CloneFlags::CLONE_NEWNET, || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(text)?;
        runtime.block_on(async {
            let (connection, handle, _) = rtnetlink::new_connection().map_err(text)?;
            tokio::spawn(connection);
            let pair = rtnetlink::LinkVeth::new("probe0", "probe1").build();
            handle.link().add(pair).execute().await.map_err(text)
        })
    })
}

/// Overlay file systems can be mounted. `scratch` is an empty directory; a file system of the try's own is
/// mounted over it meanwhile, seen by nobody else.
///
/// # Errors
/// The kernel's answer.
pub fn overlay(scratch: &Path) -> Probed {
    apart(CloneFlags::CLONE_NEWNS, || {
        let none: Option<&str> = None;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).map_err(text)?;
        mount(Some("tmpfs"), scratch, Some("tmpfs"), MsFlags::empty(), none).map_err(text)?;
        for name in ["lower", "upper", "work", "merged"] {
            std::fs::create_dir(scratch.join(name)).map_err(text)?;
        }
        let at = scratch.display();
        let options = format!("lowerdir={at}/lower,upperdir={at}/upper,workdir={at}/work");
        mount(
            Some("overlay"),
            &scratch.join("merged"),
            Some("overlay"),
            MsFlags::empty(),
            Some(&*options),
        )
        .map_err(text)
    })
}

/// `rules` are taken by `iptables-restore` and the kernel behind it. `lock` is where the legacy variant may keep
/// its lock instead of the machine's own.
///
/// # Errors
/// What `iptables-restore` said.
pub fn iptables(rules: &str, lock: &Path) -> Probed {
    apart(CloneFlags::CLONE_NEWNET, || {
        let mut child = Command::new("iptables-restore")
            .env("XTABLES_LOCKFILE", lock)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(text)?;
        if let Some(mut input) = child.stdin.take() {
            match input.write_all(rules.as_bytes()) {
                // It has given up already, and says why below.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                written => written.map_err(text)?,
            }
        }
        let output = child.wait_with_output().map_err(text)?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        Err(said.lines().next().unwrap_or("iptables-restore failed").to_owned())
    })
}

/// Runs `f` on a thread of its own in new namespaces, which end with it.
fn apart(namespaces: CloneFlags, f: impl FnOnce() -> Probed + Send) -> Probed {
    std::thread::scope(|scope| {
        let tried = scope.spawn(|| {
            // A mount namespace can be left only by a thread that shares no directory with others.
            unshare(namespaces | CloneFlags::CLONE_FS).map_err(text)?;
            f()
        });
        tried.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn text(error: impl std::fmt::Display) -> String {
    error.to_string()
}
