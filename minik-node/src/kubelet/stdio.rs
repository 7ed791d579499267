//! The three descriptors of an exec, the kubelet's ends of them, and the terminal that may stand for all.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use nix::fcntl::OFlag;
use tokio::io::unix::AsyncFd;

/// How far behind its container an attached client may be, in bytes.
const ROOM: i32 = 1 << 20;

/// Our end of a pipe or terminal, never blocking.
#[derive(Debug, Clone)]
pub struct End(Arc<AsyncFd<File>>);

impl End {
    /// Takes a descriptor, from now on without blocking.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let flags = OFlag::from_bits_truncate(nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_GETFL)?);
        nix::fcntl::fcntl(&fd, nix::fcntl::FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        // SAFETY: the descriptor lives and stays the same for as long as the `File` that owns it.
        Ok(Self(Arc::new(unsafe { AsyncFd::register(File::from(fd)) }?)))
    }

    /// Reads; 0 is the end. A terminal whose last user has gone reports EIO, which is its end.
    pub async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            if let Ok(result) = ready.try_io(|fd| fd.get_ref().read(buffer)) {
                return end_of_terminal(result);
            }
        }
    }

    /// Reads what is there; `None` when that is nothing yet.
    pub fn read_now(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        match end_of_terminal(self.0.get_ref().read(buffer)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            result => result.map(Some),
        }
    }

    /// Writes everything.
    pub async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let mut ready = self.0.writable().await?;
            if let Ok(result) = ready.try_io(|fd| fd.get_ref().write(bytes)) {
                bytes = &bytes[result?..];
            }
        }
        Ok(())
    }

    /// Sets a terminal's size.
    pub fn resize(&self, width: u16, height: u16) -> io::Result<()> {
        let size = libc::winsize {
            ws_row: height,
            ws_col: width,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        // SAFETY: TIOCSWINSZ reads the structure, which outlives the call.
        nix::errno::Errno::result(unsafe { libc::ioctl(self.0.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) })?;
        Ok(())
    }
}

fn end_of_terminal(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(0),
        other => other,
    }
}

/// Our ends; the program's are handed to the shim.
#[derive(Debug)]
pub struct Ends {
    /// Where input goes, when the client sends any.
    pub input: Option<End>,
    /// Where output comes from, by channel number.
    pub outputs: Vec<(u8, End)>,
    /// The terminal, to be resized.
    pub terminal: Option<End>,
}

/// What the client asked for.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// `input`/`stdin`
    pub stdin: bool,
    /// `output`/`stdout`
    pub stdout: bool,
    /// `error`/`stderr`
    pub stderr: bool,
}

/// Makes pipes; a stream that nobody wants is `/dev/null`.
pub fn pipes(wanted: Wanted) -> io::Result<(Ends, [OwnedFd; 3])> {
    let pipe = || nix::unistd::pipe2(OFlag::O_CLOEXEC);
    let null = || {
        OpenOptions::new()
            .read(true)
            .write(true)
            .open("/dev/null")
            .map(OwnedFd::from)
    };
    let mut ends = Ends {
        input: None,
        outputs: Vec::new(),
        terminal: None,
    };
    let stdin = if wanted.stdin {
        let (reader, writer) = pipe()?;
        ends.input = Some(End::new(writer)?);
        reader
    } else {
        null()?
    };
    let mut output = |wanted: bool, channel: u8| -> io::Result<OwnedFd> {
        if !wanted {
            return null();
        }
        let (reader, writer) = pipe()?;
        ends.outputs.push((channel, End::new(reader)?));
        Ok(writer)
    };
    let stdout = output(wanted.stdout, 1)?;
    let stderr = output(wanted.stderr, 2)?;
    Ok((ends, [stdin, stdout, stderr]))
}

/// Gives a pipe room for a writer that does not wait: [`ROOM`] bytes. What is no pipe stays as it is.
pub fn roomy(fd: &OwnedFd) -> io::Result<()> {
    let flags = OFlag::from_bits_truncate(nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_GETFL)?);
    nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    match nix::fcntl::fcntl(fd, nix::fcntl::FcntlArg::F_SETPIPE_SZ(ROOM)) {
        Ok(_) | Err(nix::Error::EBADF) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Opens a terminal of the container's own devpts, so that `tty` inside names it.
pub fn terminal(init: i32, stdin: bool) -> io::Result<(Ends, [OwnedFd; 3])> {
    let path = format!("/proc/{init}/root/dev/pts/ptmx");
    let master = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOCTTY | libc::O_NONBLOCK)
        .open(Path::new(&path))?;
    let unlocked: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads an integer, which outlives the call.
    nix::errno::Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const unlocked) })?;
    let slave = peer(master.as_fd())?;
    let stdio = [slave.try_clone()?, slave.try_clone()?, slave];
    let end = End::new(master.into())?;
    Ok((
        Ends {
            input: stdin.then(|| end.clone()),
            outputs: vec![(1, end.clone())],
            terminal: Some(end),
        },
        stdio,
    ))
}

fn peer(master: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes open flags and gives a new descriptor.
    let fd = nix::errno::Errno::result(unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) })?;
    // SAFETY: the kernel has just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
