//! The shim: one small process a Pod, parent of all its containers.
//!
//! Owns the Pod's namespaces, its containers' processes, their output and their exit codes. Decides nothing:
//! the agent says what to start and to stop over the Pod's socket. Outlives the agent, and what it holds outlives it: the
//! next shim of the sandbox finds all of it again. One thread, one `poll(2)`, no runtime.

mod connection;
mod container;
mod files;
mod log;
mod process;
mod program;
mod record;
mod rootfs;
mod sandbox;
mod server;
mod space;

use std::io::Write;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use self::container::Container;
use self::space::Space;
use super::spec::{SANDBOX_FILE, SandboxSpec};

/// What `minik internal shim` is told.
#[derive(Debug, Clone)]
pub struct ShimArgs {
    /// The Pod's run directory, which holds its `sandbox.json`.
    pub dir: PathBuf,
}

/// What failed before the shim could serve.
#[derive(Debug, thiserror::Error)]
enum ShimError {
    #[error("read {path}")]
    Spec {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("prepare sandbox")]
    Sandbox(#[source] sandbox::SandboxError),
    #[error("hold the sandbox")]
    Hold(#[source] std::io::Error),
    #[error("read what an earlier shim left")]
    Records(#[source] std::io::Error),
    #[error("end what an earlier shim left")]
    Abandon(#[source] std::io::Error),
    #[error("nobody holds the sandbox any more")]
    Lost,
    #[error("serve")]
    Serve(#[source] std::io::Error),
}

/// Runs a Pod's shim until it is asked to end. Standard input is the listening socket, bound by the agent, so
/// that requests may be sent before the shim has even started.
#[must_use]
pub fn main(args: &ShimArgs) -> ExitCode {
    match run(&args.dir) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = std::error::Error::source(&error);
            while let Some(error) = cause {
                text.push_str(&format!(": {error}"));
                cause = error.source();
            }
            complain(&text);
            ExitCode::FAILURE
        }
    }
}

/// Says what went wrong in the shim's log. On a full disk a line is lost, and nothing else: `eprintln!` would panic, and take
/// the Pod along.
fn complain(text: &str) {
    writeln!(std::io::stderr(), "minik shim: {text}").ok();
}

fn run(dir: &Path) -> Result<(), ShimError> {
    let spec = read_spec(&dir.join(SANDBOX_FILE))?;
    let records = record::all(dir).map_err(ShimError::Records)?;
    let wanted = spec.shares.processes;
    let space = match Space::find(wanted, dir).map_err(ShimError::Hold)? {
        Some(space) => {
            sandbox::join(space.holder.pidfd.as_fd()).map_err(ShimError::Sandbox)?;
            space
        }
        None if record::holder(dir).map_err(ShimError::Records)?.is_some() => {
            records
                .iter()
                .try_for_each(Container::abandon)
                .map_err(ShimError::Abandon)?;
            record::forget_holder(dir).map_err(ShimError::Abandon)?;
            return Err(ShimError::Lost);
        }
        None => {
            sandbox::enter(&spec, dir).map_err(ShimError::Sandbox)?;
            Space::new(wanted, dir).map_err(ShimError::Hold)?
        }
    };
    server::serve(dir, &spec, space, records).map_err(ShimError::Serve)
}

fn read_spec(path: &Path) -> Result<SandboxSpec, ShimError> {
    let error = |source| ShimError::Spec {
        path: path.to_owned(),
        source,
    };
    let bytes = std::fs::read(path).map_err(error)?;
    serde_json::from_slice(&bytes).map_err(|source| error(source.into()))
}
