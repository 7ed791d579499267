//! nftables of the calling thread's network namespace, through the program `nft`: loads scripts, lists objects.

use std::io::{self, Write};
use std::process::{Command, Output, Stdio};

use serde::Deserialize;
use serde_json::Value;

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum NftError {
    /// `exec`
    #[error("run nft")]
    Run(#[source] io::Error),
    /// The kernel, or the program before it, did not take a script.
    #[error("load rules with nft: {said}")]
    Load {
        /// The first line of what nft said.
        said: String,
    },
    /// A listing was refused.
    #[error("list {what} with nft: {said}")]
    List {
        /// `sets ip`
        what: String,
        /// The first line of what nft said.
        said: String,
    },
    /// A listing is not in the form of libnftables-json(5).
    #[error("read what nft lists")]
    Json(#[source] serde_json::Error),
}

impl NftError {
    /// Whether the program is not there at all.
    #[must_use]
    pub fn is_missing_program(&self) -> bool {
        matches!(self, Self::Run(error) if error.kind() == io::ErrorKind::NotFound)
    }
}

/// Loads a script, all of it or nothing.
///
/// # Errors
/// [`NftError::Run`], [`NftError::Load`].
pub fn load(script: &str) -> Result<(), NftError> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(NftError::Run)?;
    if let Some(mut input) = child.stdin.take() {
        match input.write_all(script.as_bytes()) {
            // It has given up already, and says why below.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            written => written.map_err(NftError::Run)?,
        }
    }
    let output = child.wait_with_output().map_err(NftError::Run)?;
    if output.status.success() {
        return Ok(());
    }
    Err(NftError::Load { said: said(&output) })
}

/// The objects that `nft -j list WHAT` shows, each under its kind as in libnftables-json(5):
/// `{"set": {"family": "ip", "table": …}}`. The kernel's rules stay as they are.
///
/// # Errors
/// [`NftError::Run`], [`NftError::List`], [`NftError::Json`].
pub fn list(what: &[&str]) -> Result<Vec<Value>, NftError> {
    #[derive(Deserialize)]
    struct Listing {
        nftables: Vec<Value>,
    }
    let output = Command::new("nft")
        .args(["-j", "list"])
        .args(what)
        .output()
        .map_err(NftError::Run)?;
    if !output.status.success() {
        return Err(NftError::List {
            what: what.join(" "),
            said: said(&output),
        });
    }
    let listing: Listing = serde_json::from_slice(&output.stdout).map_err(NftError::Json)?;
    Ok(listing.nftables)
}

fn said(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().next().unwrap_or("no reason given").to_owned()
}
