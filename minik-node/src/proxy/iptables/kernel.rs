//! Runs `iptables-save` and `iptables-restore` in the namespace that the process is in, and says which line
//! failed when one did. Decides nothing.

use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::plan::Plan;
use super::ruleset::{ParseError, Ruleset};
use crate::kernel::xtables::{LegacySize, LegacyTables, NftWatch};

/// Longest run of a program; ten thousand Services take many seconds in the slower of the two variants.
const LIMIT: Duration = Duration::from_secs(120);

/// Chains in one commit of the nft variant, whose time grows with their square; the fastest of those tried with
/// 5,000 and 10,000 Services. The legacy variant writes its whole table at each commit, and gets one.
const NFT_COMMIT: usize = 600;

/// How often the legacy variant's tables are looked at for what other hands did to them.
pub const LEGACY_LOOK: Duration = Duration::from_secs(1);

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
    /// The kernel does not tell about changes.
    #[error("watch the rules")]
    Watch(#[source] io::Error),
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
#[derive(Debug)]
pub struct Kernel {
    /// `iptables`, `iptables-nft` or `iptables-legacy`.
    variant: &'static str,
    /// Lock of the legacy variant. One a node, or nodes on one machine wait for each other.
    lock_file: PathBuf,
    changes: Changes,
}

/// How changes by other hands are noticed.
#[derive(Debug)]
enum Changes {
    /// The kernel reports them.
    Nft(NftWatch),
    /// Tables are asked for their size, which is compared with what it was after the last write.
    Legacy {
        tables: LegacyTables,
        last: Option<[LegacySize; 3]>,
        /// They had changed when the last write began.
        missed: bool,
    },
}

impl Kernel {
    /// Finds the variant to use, as Kubernetes' iptables-wrapper does: the one that holds rules of a Kubernetes
    /// component already, else the administrator's choice, else whichever works. `lock_file` stands in for
    /// `/run/xtables.lock`.
    ///
    /// # Errors
    /// [`KernelError::NoVariant`] when none works.
    pub async fn probe(lock_file: PathBuf) -> Result<Self, KernelError> {
        for variant in ["iptables-nft", "iptables-legacy"] {
            if has_hint(variant, &lock_file).await {
                return Self::with_variant(variant, lock_file).await;
            }
        }
        for variant in ["iptables", "iptables-nft", "iptables-legacy"] {
            match Self::with_variant(variant, lock_file.clone()).await {
                Ok(kernel) => match kernel.save().await {
                    Ok(_) => return Ok(kernel),
                    Err(error) => tracing::debug!(variant, error = &error as &dyn std::error::Error, "not usable"),
                },
                Err(error) => tracing::debug!(variant, error = &error as &dyn std::error::Error, "not usable"),
            }
        }
        Err(KernelError::NoVariant)
    }

    /// Uses a variant: `iptables`, `iptables-nft` or `iptables-legacy`.
    ///
    /// # Errors
    /// When the program is missing, or the kernel's reports about the tables cannot be had.
    pub async fn with_variant(variant: &'static str, lock_file: PathBuf) -> Result<Self, KernelError> {
        let program = format!("{variant}-save");
        let output = run(&program, &["--version"], "", &lock_file, |_| {}).await?;
        let changes = if String::from_utf8_lossy(&output.stdout).contains("nf_tables") {
            NftWatch::open().map(Changes::Nft)
        } else {
            LegacyTables::open().map(|tables| Changes::Legacy {
                tables,
                last: None,
                missed: false,
            })
        };
        Ok(Self {
            variant,
            lock_file,
            changes: changes.map_err(KernelError::Watch)?,
        })
    }

    /// Waits until other hands have changed rules: at once with the nft variant, within [`LEGACY_LOOK`] with the
    /// legacy one, where a change that keeps a table's size is not seen. Loses nothing when it is cancelled.
    ///
    /// # Errors
    /// When the kernel no longer tells.
    pub async fn changed(&mut self) -> Result<(), KernelError> {
        match &mut self.changes {
            Changes::Nft(watch) => watch.changed().await.map_err(KernelError::Watch),
            Changes::Legacy { missed, .. } if *missed => {
                *missed = false;
                Ok(())
            }
            Changes::Legacy { tables, last, .. } => loop {
                tokio::time::sleep(LEGACY_LOOK).await;
                // Without a first write there are no tables, and nothing of ours to mend.
                let Some(before) = last else { continue };
                let now = sizes(tables).map_err(KernelError::Watch)?;
                if std::mem::replace(before, now) != now {
                    return Ok(());
                }
            },
        }
    }

    /// What the kernel holds of ours.
    ///
    /// # Errors
    /// When the program fails or prints something else than rules.
    pub async fn save(&self) -> Result<Ruleset, KernelError> {
        let program = format!("{}-save", self.variant);
        let output = run(&program, &[], "", &self.lock_file, |_| {}).await?;
        let text = String::from_utf8_lossy(&output.stdout);
        Ruleset::parse(&text).map_err(|source| KernelError::Parse { program, source })
    }

    /// Everything that the kernel holds, ours or not, as the program prints it.
    ///
    /// # Errors
    /// When the program fails.
    pub async fn print(&self) -> Result<String, KernelError> {
        let output = run(&format!("{}-save", self.variant), &[], "", &self.lock_file, |_| {}).await?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Carries a plan out in one run of the program: commit by commit, each all of it or nothing; chains that it does
    /// not name stay.
    ///
    /// # Errors
    /// When the program fails; commits before the one that failed stand.
    pub async fn apply(&mut self, plan: &Plan) -> Result<(), KernelError> {
        let text = match &self.changes {
            Changes::Nft(_) => plan.commits(NFT_COMMIT),
            Changes::Legacy { .. } => plan.to_string(),
        };
        self.restore(&text).await
    }

    /// Feeds `iptables-restore --noflush`; what it changes is no change by other hands.
    ///
    /// # Errors
    /// When the program fails; commits before the one that failed stand.
    pub async fn restore(&mut self, transaction: &str) -> Result<(), KernelError> {
        let program = format!("{}-restore", self.variant);
        let arguments = ["-w", "5", "--noflush"];
        match &mut self.changes {
            Changes::Nft(watch) => {
                let own = |pid| watch.ignore(pid);
                let work = run(&program, &arguments, transaction, &self.lock_file, own);
                watch.during(work).await?;
            }
            Changes::Legacy { tables, last, missed } => {
                if let Some(last) = last {
                    *missed |= sizes(tables).map_err(KernelError::Watch)? != *last;
                }
                run(&program, &arguments, transaction, &self.lock_file, |_| {}).await?;
                *last = Some(sizes(tables).map_err(KernelError::Watch)?);
            }
        }
        Ok(())
    }
}

fn sizes(tables: &LegacyTables) -> io::Result<[LegacySize; 3]> {
    Ok([tables.size("filter")?, tables.size("nat")?, tables.size("mangle")?])
}

/// Whether a variant holds a chain that the kubelet or a proxy makes. Looks into `mangle` alone, where both have one
/// and which is small.
async fn has_hint(variant: &str, lock_file: &Path) -> bool {
    // Asking for a legacy table makes it, and every packet would pass it from then on.
    let legacy = std::fs::read_to_string("/proc/thread-self/net/ip_tables_names").unwrap_or_default();
    if variant == "iptables-legacy" && !legacy.lines().any(|table| table == "mangle") {
        return false;
    }
    let looked = run(&format!("{variant}-save"), &["-t", "mangle"], "", lock_file, |_| {}).await;
    looked.is_ok_and(|output| {
        let text = String::from_utf8_lossy(&output.stdout);
        ["KUBE-IPTABLES-HINT", "KUBE-KUBELET-CANARY", "KUBE-PROXY-CANARY"]
            .iter()
            .any(|hint| text.contains(hint))
    })
}

/// Runs a program; `started` is told its process before it can do anything.
async fn run(
    program: &str,
    arguments: &[&str],
    input: &str,
    lock_file: &Path,
    started: impl FnOnce(u32),
) -> Result<Output, KernelError> {
    let failed = |source| KernelError::Run {
        program: program.to_owned(),
        source,
    };
    let output = tokio::time::timeout(LIMIT, talk(program, arguments, input, lock_file, started))
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

async fn talk(
    program: &str,
    arguments: &[&str],
    input: &str,
    lock_file: &Path,
    started: impl FnOnce(u32),
) -> io::Result<Output> {
    let mut child = Command::new(program)
        .args(arguments)
        .env("XTABLES_LOCKFILE", lock_file)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()?;
    if let Some(pid) = child.id() {
        started(pid);
    }
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
