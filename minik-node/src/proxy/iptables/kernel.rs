//! Runs `iptables-save` and `iptables-restore` in the namespace that the process is in, and says which line
//! failed when one did. Decides nothing.

use std::io;
use std::path::PathBuf;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::ruleset::{ParseError, Ruleset};

/// Longest run of a program; thousands of Services take seconds in the slower of the two variants.
const LIMIT: Duration = Duration::from_secs(60);

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// Neither variant of the programs reads this kernel's tables.
    #[error("no working iptables-save (Debian package iptables)")]
    NoVariant,
    /// The program could not be started or talked to.
    #[error("run {program}")]
    Run {
        /// Its name.
        program: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// It took too long and was killed.
    #[error("{program} took longer than {} s", LIMIT.as_secs())]
    Timeout {
        /// Its name.
        program: String,
    },
    /// It refused.
    #[error("{program} failed{}: {stderr}", at_line(line.as_deref()))]
    Exit {
        /// Its name.
        program: String,
        /// The input line that it complained about.
        line: Option<String>,
        /// What it said.
        stderr: String,
    },
    /// It printed something else than rules.
    #[error("read {program}")]
    Parse {
        /// Its name.
        program: String,
        /// Cause.
        #[source]
        source: ParseError,
    },
}

fn at_line(line: Option<&str>) -> String {
    line.map(|line| format!(" at `{line}`")).unwrap_or_default()
}

/// The pair of programs that this machine has: `iptables`, or the variant under its full name.
#[derive(Debug, Clone)]
pub struct Kernel {
    /// `iptables`, `iptables-nft` or `iptables-legacy`.
    variant: &'static str,
    /// Lock of the legacy variant. One a node, or nodes on one machine wait for each other.
    lock_file: PathBuf,
}

impl Kernel {
    /// Finds a variant that reads the kernel's tables: the administrator's choice first.
    pub async fn probe(lock_file: PathBuf) -> Result<Self, KernelError> {
        for variant in ["iptables", "iptables-nft", "iptables-legacy"] {
            let kernel = Self {
                variant,
                lock_file: lock_file.clone(),
            };
            match kernel.save().await {
                Ok(_) => return Ok(kernel),
                Err(error) => tracing::debug!(variant, error = &error as &dyn std::error::Error, "not usable"),
            }
        }
        Err(KernelError::NoVariant)
    }

    /// Uses a variant without probing, for tests that compare the two.
    #[cfg(test)]
    pub fn with_variant(variant: &'static str, lock_file: PathBuf) -> Self {
        Self { variant, lock_file }
    }

    /// What the kernel holds of ours.
    pub async fn save(&self) -> Result<Ruleset, KernelError> {
        let program = format!("{}-save", self.variant);
        let output = self.run(&program, &[], "").await?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ruleset::parse(&text).map_err(|source| KernelError::Parse { program, source })
    }

    /// Everything that the kernel holds, ours or not, as the program prints it.
    ///
    /// # Errors
    /// When the program fails.
    pub async fn print(&self) -> Result<String, KernelError> {
        let output = self.run(&format!("{}-save", self.variant), &[], "").await?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Applies a transaction, all of a table or nothing of it; chains that it does not name stay.
    pub async fn restore(&self, transaction: &str) -> Result<(), KernelError> {
        let program = format!("{}-restore", self.variant);
        self.run(&program, &["-w", "5", "--noflush"], transaction)
            .await
            .map(drop)
    }

    async fn run(&self, program: &str, arguments: &[&str], input: &str) -> Result<Output, KernelError> {
        let failed = |source| KernelError::Run {
            program: program.to_owned(),
            source,
        };
        let output = tokio::time::timeout(LIMIT, self.talk(program, arguments, input))
            .await
            .map_err(|_elapsed| KernelError::Timeout {
                program: program.to_owned(),
            })?
            .map_err(failed)?;
        if output.status.success() {
            return Ok(output);
        }
        let stderr = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let line = failed_line(&stderr).and_then(|number| input.lines().nth(number.checked_sub(1)?));
        Err(KernelError::Exit {
            program: program.to_owned(),
            line: line.map(str::to_owned),
            stderr,
        })
    }

    async fn talk(&self, program: &str, arguments: &[&str], input: &str) -> io::Result<Output> {
        let mut child = Command::new(program)
            .args(arguments)
            .env("XTABLES_LOCKFILE", &self.lock_file)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let stdin = child.stdin.take();
        let feed = async {
            match stdin {
                Some(mut stdin) => stdin.write_all(input.as_bytes()).await,
                None => Ok(()),
            }
        };
        let (fed, output) = tokio::join!(feed, child.wait_with_output());
        let output = output?;
        match fed {
            // A program that refuses early closes its input; what it says tells more than the broken pipe.
            Err(error) if output.status.success() => Err(error),
            _ => Ok(output),
        }
    }
}

/// `iptables-restore: line 7 failed` and `Error occurred at line: 7` both name the line.
fn failed_line(stderr: &str) -> Option<usize> {
    let mut words = stderr.split_whitespace();
    words.find(|word| matches!(*word, "line" | "line:"))?;
    words.next()?.trim_end_matches([':', ',']).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_wordings_name_the_line() {
        assert_eq!(failed_line("iptables-restore: line 7 failed"), Some(7));
        assert_eq!(
            failed_line("iptables-restore v1.8.9 (legacy): unknown\nError occurred at line: 12\nTry"),
            Some(12)
        );
        assert_eq!(
            failed_line("iptables-nft-restore v1.8.9 (nf_tables): \nline 4: CHAIN_ADD failed"),
            Some(4)
        );
        assert_eq!(failed_line("permission denied"), None);
    }
}
