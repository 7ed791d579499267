//! A container's output on its way from the FIFOs to the log file.
//!
//! Owns the shim's ends of the FIFOs and the log file. A full disk loses output, never the container.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::sys::stat::Mode;

use crate::runtime::cri_log::{Splitter, Stream};

/// Size at which a log file is renamed to `N.log.1` (the one before it goes): the kubelet's
/// `containerLogMaxSize`.
const MAX_FILE: u64 = 10 << 20;
/// Most bytes taken from one FIFO before the others get their turn.
const CHUNK: usize = 64 * 1024;

/// Both streams of one attempt.
#[derive(Debug)]
pub struct Output {
    streams: [(File, Splitter); 2],
    paths: [PathBuf; 2],
    log: LogFile,
    attached: BTreeMap<u64, [File; 2]>,
}

impl Output {
    /// Makes the FIFOs `DIR/ID.out` and `DIR/ID.err` and opens the log file.
    pub fn open(dir: &Path, id: &str, log: &Path) -> io::Result<Self> {
        let paths = [dir.join(format!("{id}.out")), dir.join(format!("{id}.err"))];
        let stdout = fifo(&paths[0])?;
        let stderr = fifo(&paths[1])?;
        Ok(Self {
            streams: [
                (stdout, Splitter::new(Stream::Stdout)),
                (stderr, Splitter::new(Stream::Stderr)),
            ],
            paths,
            log: LogFile::open(log)?,
            attached: BTreeMap::new(),
        })
    }

    /// The container's ends of the FIFOs, for stdout and stderr.
    pub fn container_ends(&self) -> io::Result<[File; 2]> {
        let open = |path: &Path| OpenOptions::new().read(true).write(true).open(path);
        Ok([open(&self.paths[0])?, open(&self.paths[1])?])
    }

    /// Descriptors to wait for.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.streams[0].0.as_fd(), self.streams[1].0.as_fd()]
    }

    /// Copies both streams to `ends` from now on, for the connection that asked.
    pub fn attach(&mut self, connection: u64, ends: [File; 2]) {
        self.attached.insert(connection, ends);
    }

    /// Ends the copy for a connection.
    pub fn detach(&mut self, connection: u64) {
        self.attached.remove(&connection);
    }

    /// Who gets a copy.
    pub fn attached(&self) -> Vec<u64> {
        self.attached.keys().copied().collect()
    }

    /// Moves what is there, one chunk a stream; says whether there was anything. Whoever gets a copy and does not
    /// take it is detached: the container waits for nobody.
    pub fn pump(&mut self) -> io::Result<bool> {
        let mut records = Vec::new();
        let mut buffer = [0; CHUNK];
        let mut any = false;
        for (index, (fifo, splitter)) in self.streams.iter_mut().enumerate() {
            match fifo.read(&mut buffer) {
                Ok(read) => {
                    any |= read > 0;
                    self.attached
                        .retain(|_, ends| matches!(ends[index].write(&buffer[..read]), Ok(written) if written == read));
                    splitter.push(&buffer[..read], Timestamp::now(), &mut records);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        self.log.append(&records)?;
        Ok(any)
    }

    /// Empties and removes the FIFOs of a container that has ended: nobody writes any more.
    pub fn finish(&mut self) -> io::Result<()> {
        while self.pump()? {}
        for path in &self.paths {
            std::fs::remove_file(path)?;
        }
        let mut records = Vec::new();
        for (_, splitter) in &mut self.streams {
            splitter.finish(Timestamp::now(), &mut records);
        }
        self.log.append(&records)
    }
}

/// A FIFO that this process holds open for both directions, so that neither side ever sees the other go.
pub fn fifo(path: &Path) -> io::Result<File> {
    match nix::unistd::mkfifo(path, Mode::from_bits_truncate(0o600)) {
        Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
        Err(error) => return Err(error.into()),
    }
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)
}

#[derive(Debug)]
struct LogFile {
    path: PathBuf,
    file: File,
    size: u64,
}

impl LogFile {
    fn open(path: &Path) -> io::Result<Self> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let size = file.metadata()?.len();
        Ok(Self {
            path: path.to_owned(),
            file,
            size,
        })
    }

    fn append(&mut self, records: &[u8]) -> io::Result<()> {
        if records.is_empty() {
            return Ok(());
        }
        if self.size > MAX_FILE {
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            std::fs::rename(&self.path, old)?;
            *self = Self::open(&self.path)?;
        }
        self.size += records.len() as u64;
        self.file.write_all(records)
    }
}
