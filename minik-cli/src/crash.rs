//! Notices a child of the supervisor's that ends again and again, so that nobody waits for what does not come. Waits for
//! the supervisor's next report; asks nothing twice.

use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::cluster::ClusterSpec;
use crate::supervisor::report::{self, FILE, Report};

/// So many ends in a row are no accident; with the back-off they take half a second.
const FAILURES: u32 = 6;
/// Lines of its log that are told.
const LAST_LINES: usize = 5;

/// A child that does not stay up.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{child} does not stay up: it ended {failures} times in a row, and last it {last_end}. Its log, {}, ends with\n{said}", log.display())]
pub struct Crash {
    child: String,
    failures: u32,
    last_end: String,
    log: PathBuf,
    said: String,
}

/// Waits until one of the chosen children ends again and again. Never returns where reports cannot be watched: the
/// caller's own patience ends the wait then.
pub async fn crash(spec: &ClusterSpec, chosen: impl Fn(&str) -> bool) -> Crash {
    match watch(spec, chosen).await {
        Ok(crash) => crash,
        Err(error) => {
            eprintln!("warning: watch the supervisor's reports: {error}");
            std::future::pending().await
        }
    }
}

/// Events of the run directory, for tokio to wait on.
struct Reports(Inotify);

impl AsRawFd for Reports {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

async fn watch(spec: &ClusterSpec, chosen: impl Fn(&str) -> bool) -> io::Result<Crash> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    inotify.add_watch(&spec.run_dir(), AddWatchFlags::IN_MOVED_TO)?;
    // SAFETY: the descriptor lives and stays the same for as long as the `Inotify` that owns it.
    let inotify = unsafe { AsyncFd::register_with_interest(Reports(inotify), Interest::READABLE) }?;
    let path = report::path(&spec.name);
    loop {
        if let Some(report) = report::read(&path)?
            && let Some(crash) = find(&report, &chosen, &spec.log_dir())
        {
            return Ok(crash);
        }
        loop {
            let mut ready = inotify.readable().await?;
            let events = match ready.get_inner().0.read_events() {
                Ok(events) => events,
                Err(nix::Error::EAGAIN) => {
                    ready.clear_ready();
                    continue;
                }
                Err(errno) => return Err(errno.into()),
            };
            if events.iter().any(|event| event.name.as_deref() == Some(FILE.as_ref())) {
                break;
            }
        }
    }
}

fn find(report: &Report, chosen: impl Fn(&str) -> bool, logs: &Path) -> Option<Crash> {
    let (name, child) = report
        .children
        .iter()
        .find(|(name, child)| chosen(name) && child.failures >= FAILURES)?;
    let log = logs.join(format!("{name}.log"));
    Some(Crash {
        child: name.clone(),
        failures: child.failures,
        last_end: child.last_end.clone().unwrap_or_default(),
        said: last_lines(&fs::read_to_string(&log).unwrap_or_else(|error| error.to_string())),
        log,
    })
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines.len().saturating_sub(LAST_LINES);
    lines[last..]
        .iter()
        .map(|line| format!("  {line}"))
        .collect::<Vec<_>>()
        .join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::report::ChildReport;

    fn report(failures: u32) -> Report {
        let child = ChildReport {
            failures,
            last_end: Some("exited with code 1".to_owned()),
            ..ChildReport::default()
        };
        Report {
            children: [("apiserver".to_owned(), child)].into(),
            ..Report::default()
        }
    }

    #[test]
    fn a_crash_is_told_with_the_last_lines() {
        let logs = tempfile::tempdir().unwrap();
        fs::write(logs.path().join("apiserver.log"), "1\n2\n\n3\n4\n5\n6\n").unwrap();
        assert_eq!(find(&report(FAILURES - 1), |_| true, logs.path()), None);
        assert_eq!(
            find(&report(FAILURES), |name| name == "agent-worker1", logs.path()),
            None
        );
        let text = find(&report(FAILURES), |_| true, logs.path()).unwrap().to_string();
        assert!(
            text.starts_with("apiserver does not stay up: it ended 6 times in a row, and last it exited with code 1."),
            "{text}"
        );
        assert!(text.ends_with("ends with\n  2\n  3\n  4\n  5\n  6"), "{text}");
    }
}
