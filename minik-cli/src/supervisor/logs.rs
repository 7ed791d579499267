//! Keeps the logs of a cluster's processes within a bound, without asking them anything: the kernel says which
//! log was written to, and the end of one that has grown too long is copied to `NAME.log.1`, and the log cut to nothing.
//!
//! Writers append, so they go on at the new end. What is written between copying and cutting is lost: a line
//! or two, at most once per mebibytes of log.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// Longest a log grows before it is cut, and longest copy beside it, but for what is written meanwhile. A writer that writes
/// faster than the disk takes copies gets further, and loses the beginning.
const MOST: u64 = 4 << 20;
/// A copy may go on by this part of its length while the log is written to.
const CATCHING_UP: u64 = 8;

/// Watches a directory of logs.
#[derive(Debug)]
pub struct Logs {
    directory: PathBuf,
    inotify: Inotify,
}

impl Logs {
    /// Starts watching `directory`.
    ///
    /// # Errors
    /// Those of `inotify_init` and `inotify_add_watch`.
    pub fn watch(directory: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        inotify.add_watch(directory, AddWatchFlags::IN_MODIFY)?;
        Ok(Self {
            directory: directory.to_owned(),
            inotify,
        })
    }

    /// Readable when a log was written to.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Cuts what has grown too long.
    ///
    /// # Errors
    /// Those of reading the events, copying and cutting.
    pub fn trim(&self) -> io::Result<()> {
        let events = match self.inotify.read_events() {
            Ok(events) => events,
            Err(nix::Error::EAGAIN) => return Ok(()),
            Err(errno) => return Err(errno.into()),
        };
        for name in events.into_iter().filter_map(|event| event.name) {
            let path = self.directory.join(name);
            if path.extension().is_some_and(|extension| extension == "log") {
                trim(&path, MOST)?;
            }
        }
        Ok(())
    }
}

fn trim(path: &Path, most: u64) -> io::Result<()> {
    let mut log = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let length = log.metadata()?.len();
    if length <= most {
        return Ok(());
    }
    log.seek(SeekFrom::Start(length - most))?;
    let mut copy = fs::File::create(path.with_extension("log.1"))?;
    // To the end, which may be the writer's last words, but not after one that never stops.
    io::copy(&mut Read::by_ref(&mut log).take(most + most / CATCHING_UP), &mut copy)?;
    log.set_len(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_long_log_moves_aside_and_its_writer_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("apiserver.log");
        let mut writer = fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
        writer.write_all(b"12345").unwrap();
        trim(&path, 5).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"12345");
        writer.write_all(b"6").unwrap();
        trim(&path, 5).unwrap();
        writer.write_all(b"7").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"7");
        assert_eq!(fs::read(directory.path().join("apiserver.log.1")).unwrap(), b"23456");
    }

    #[test]
    fn a_child_that_writes_without_end_is_kept_within_bounds_and_its_last_words_are_there() {
        const LINES: u64 = 1 << 20;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent-worker1.log");
        let logs = Logs::watch(directory.path()).unwrap();
        let mut writer = fs::OpenOptions::new().create(true).append(true).open(&path).unwrap();
        let chatty = std::thread::spawn(move || {
            for block in 0..LINES / 1024 {
                let lines: String = (block * 1024..(block + 1) * 1024)
                    .map(|line| format!("{line:>31}\n"))
                    .collect();
                writer.write_all(lines.as_bytes()).unwrap();
            }
            writer
        });
        while !chatty.is_finished() {
            logs.trim().unwrap();
        }
        let mut writer = chatty.join().unwrap();
        writer.write_all(format!("{LINES:>31}\n").as_bytes()).unwrap();
        logs.trim().unwrap();
        let (now, before) = (
            fs::read_to_string(&path).unwrap(),
            fs::read_to_string(path.with_extension("log.1")).unwrap(),
        );
        assert!(now.len() as u64 <= MOST && before.len() as u64 <= MOST + MOST / CATCHING_UP);
        let last: u64 = [&now, &before]
            .into_iter()
            .find_map(|text| text.lines().last())
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        assert_eq!(last, LINES);
    }
}
