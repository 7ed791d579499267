//! `minik internal network`

use std::process::ExitCode;

use super::Process;
use crate::provider::keeper;
use crate::supervisor::settle;

/// Keeps the network of the cluster until told to stop; leaves it as it is.
pub fn run(process: &Process) -> anyhow::Result<ExitCode> {
    settle()?;
    let spec = process.spec()?;
    super::log_to_stderr();
    crate::cmd::runtime()?.block_on(async {
        let stop = super::until_terminated()?;
        match stop.run_until_cancelled(keeper::keep(&spec)).await {
            None => Ok(ExitCode::SUCCESS),
            Some(Err(error)) => Err(error.into()),
            Some(Ok(never)) => match never {},
        }
    })
}
