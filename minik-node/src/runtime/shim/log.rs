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
use nix::fcntl::{OFlag, SpliceFFlags, tee};
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
    sources: [Source; 2],
    peephole: Peephole,
    log: LogFile,
    attached: BTreeMap<u64, [File; 2]>,
}

impl Output {
    /// Makes the FIFOs `DIR/ID.out` and `DIR/ID.err`, or finds them, and opens the log file.
    pub fn open(dir: &Path, id: &str, log: &Path) -> io::Result<Self> {
        Ok(Self {
            sources: [
                Source::open(dir.join(format!("{id}.out")), Stream::Stdout)?,
                Source::open(dir.join(format!("{id}.err")), Stream::Stderr)?,
            ],
            peephole: Peephole::new()?,
            log: LogFile::open(log)?,
            attached: BTreeMap::new(),
        })
    }

    /// The container's ends of the FIFOs, for stdout and stderr.
    pub fn container_ends(&self) -> io::Result<[File; 2]> {
        let open = |source: &Source| OpenOptions::new().read(true).write(true).open(&source.path);
        Ok([open(&self.sources[0])?, open(&self.sources[1])?])
    }

    /// Descriptors to wait for.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        [self.sources[0].fifo.as_fd(), self.sources[1].fifo.as_fd()]
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
    ///
    /// What is in the log leaves its FIFO after that: a shim that is killed loses nothing of it.
    pub fn pump(&mut self) -> io::Result<bool> {
        let mut records = Vec::new();
        let mut buffer = [0; CHUNK];
        let mut taken = [0; 2];
        for (index, source) in self.sources.iter_mut().enumerate() {
            let read = self.peephole.look(&source.fifo, &mut buffer)?;
            taken[index] = read;
            self.attached
                .retain(|_, ends| matches!(ends[index].write(&buffer[..read]), Ok(written) if written == read));
            source.splitter.push(&buffer[..read], Timestamp::now(), &mut records);
        }
        let logged = self.log.append(&records);
        for (source, taken) in self.sources.iter_mut().zip(taken).filter(|(_, taken)| *taken > 0) {
            // A full disk loses output; it must not hold the container up as well.
            source.fifo.read_exact(&mut buffer[..taken])?;
            source.keep_rest()?;
        }
        logged?;
        Ok(taken != [0; 2])
    }

    /// Empties and removes the FIFOs of a container that has ended: nobody writes any more.
    pub fn finish(&mut self) -> io::Result<()> {
        while self.pump()? {}
        let mut records = Vec::new();
        for source in &mut self.sources {
            std::fs::remove_file(&source.path)?;
            source.splitter.finish(Timestamp::now(), &mut records);
        }
        self.log.append(&records)?;
        self.sources.iter_mut().try_for_each(Source::keep_rest)
    }
}

/// One stream of an attempt.
#[derive(Debug)]
struct Source {
    fifo: File,
    path: PathBuf,
    splitter: Splitter,
    /// Whether there is a file with the line that is not complete.
    kept: bool,
}

impl Source {
    fn open(path: PathBuf, stream: Stream) -> io::Result<Self> {
        let rest = match std::fs::read(rest_of(&path)) {
            Ok(rest) => Some(rest),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self {
            fifo: fifo(&path)?,
            path,
            kept: rest.is_some(),
            splitter: rest.map_or(Splitter::new(stream), |rest| Splitter::resume(stream, rest)),
        })
    }

    /// Keeps what has left the FIFO and is in no log yet where a later shim finds it.
    fn keep_rest(&mut self) -> io::Result<()> {
        let rest = self.splitter.rest();
        if !rest.is_empty() {
            std::fs::write(rest_of(&self.path), rest)?;
        } else if self.kept {
            std::fs::remove_file(rest_of(&self.path))?;
        }
        self.kept = !rest.is_empty();
        Ok(())
    }
}

fn rest_of(fifo: &Path) -> PathBuf {
    let mut path = fifo.as_os_str().to_owned();
    path.push(".rest");
    path.into()
}

/// A pipe to look at what is in another without taking it out.
#[derive(Debug)]
struct Peephole {
    reader: File,
    writer: File,
}

impl Peephole {
    fn new() -> io::Result<Self> {
        let (reader, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC | OFlag::O_NONBLOCK)?;
        Ok(Self {
            reader: reader.into(),
            writer: writer.into(),
        })
    }

    /// How much is there, as far as the buffer holds it.
    fn look(&mut self, fifo: &File, buffer: &mut [u8]) -> io::Result<usize> {
        match tee(fifo, &self.writer, buffer.len(), SpliceFFlags::SPLICE_F_NONBLOCK) {
            Ok(seen) => self.reader.read_exact(&mut buffer[..seen]).map(|()| seen),
            Err(nix::Error::EAGAIN) => Ok(0),
            Err(error) => Err(error.into()),
        }
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
