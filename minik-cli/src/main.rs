//! The `minik` binary: reads the command line, and hands over to one file a command in [`cmd`].
//!
//! Standard output carries data, standard error talk; a command that fails prints one line, `error: …`, and
//! exits with 1, as kubectl does. Processes of a running cluster are started with the hidden `minik internal …`;
//! they enter their namespace before anything starts a thread.

mod client;
mod cluster;
mod cmd;
mod crash;
mod errors;
mod health;
mod kubeconfig;
mod parameters;
mod power;
mod preflight;
mod processes;
mod progress;
mod provider;
mod readiness;
mod store;
mod supervisor;
mod teardown;

use std::process::ExitCode;

use clap::{Parser, error::ErrorKind};

fn main() -> ExitCode {
    let command = match cmd::Minik::try_parse() {
        Ok(parsed) => parsed.command,
        Err(usage) => return explain(&usage),
    };
    match command.run() {
        Ok(code) => code,
        Err(error) => {
            let (text, code) = errors::report(&error);
            if let Some(text) = text {
                eprintln!("{text}");
            }
            ExitCode::from(code)
        }
    }
}

/// Help and version are data; anything else is a usage error, which is 1 and not clap's 2.
fn explain(usage: &clap::Error) -> ExitCode {
    // Nothing can be said where printing fails.
    usage.print().ok();
    match usage.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    }
}
