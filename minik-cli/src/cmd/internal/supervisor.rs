//! `minik internal supervisor`

use std::fs::File;
use std::io::Write;
use std::os::fd::FromRawFd;
use std::process::ExitCode;

use super::Process;
use crate::errors::{Exit, chain};
use crate::supervisor::Supervisor;
use crate::supervisor::launch::{self, Detached};

/// Leaves the caller's session, binds the sockets, says so on the pipe to `minik up`, and runs.
pub fn run(process: &Process) -> anyhow::Result<ExitCode> {
    if launch::detach()? == Detached::Parent {
        return Ok(ExitCode::SUCCESS);
    }
    // SAFETY: `launch` passed the pipe under this number, and nothing else here owns it.
    let mut notify = unsafe { File::from_raw_fd(launch::NOTIFY_FD) };
    let spec = match process.spec() {
        Ok(spec) => spec,
        Err(error) => return refuse(notify, &format!("{error:#}")),
    };
    match Supervisor::prepare(&spec) {
        Ok(supervisor) => {
            // `minik up` may have been interrupted; the cluster it asked for comes up all the same.
            writeln!(notify, "listening {}", supervisor.loopback_port()).ok();
            drop(notify);
            supervisor.run()?;
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => refuse(notify, &chain(&error)),
    }
}

fn refuse(mut notify: File, reason: &str) -> anyhow::Result<ExitCode> {
    eprintln!("supervisor: {reason}");
    write!(notify, "error: {reason}")?;
    Err(Exit(1).into())
}
