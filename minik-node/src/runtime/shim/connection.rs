//! One agent connection of the shim: reads a request line with its descriptors, queues reply lines.

use std::io::{self, IoSliceMut, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};

use super::complain;
use crate::runtime::protocol::{MAX_LINE, Reply, Request};

/// Most descriptors a request carries: stdin, stdout, stderr.
const MAX_FDS: usize = 3;

/// A connection that never blocks the shim.
#[derive(Debug)]
pub struct Connection {
    stream: UnixStream,
    input: Vec<u8>,
    output: Vec<u8>,
    /// Descriptors that came with the request.
    pub fds: Vec<OwnedFd>,
    /// Whether each change of state is sent.
    pub watching: bool,
}

/// What reading gave.
#[derive(Debug)]
pub enum Input {
    /// A whole request.
    Request(Request),
    /// Nothing whole yet.
    Partial,
    /// The agent closed, or said what is no request.
    Closed,
}

impl Connection {
    /// Wraps an accepted socket.
    pub fn new(stream: UnixStream) -> io::Result<Self> {
        stream.set_nonblocking(true)?;
        Ok(Self {
            stream,
            input: Vec::new(),
            output: Vec::new(),
            fds: Vec::new(),
            watching: false,
        })
    }

    /// For `poll`.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }

    /// Whether replies wait for room in the socket.
    pub fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    /// Takes what is there.
    pub fn read(&mut self) -> Input {
        let mut buffer = [0; 16 * 1024];
        match self.receive(&mut buffer) {
            Ok(0) => return Input::Closed,
            Ok(read) => self.input.extend_from_slice(&buffer[..read]),
            Err(nix::Error::EAGAIN | nix::Error::EINTR) => return Input::Partial,
            Err(_) => return Input::Closed,
        }
        let Some(end) = self.input.iter().position(|byte| *byte == b'\n') else {
            return if self.input.len() > MAX_LINE {
                Input::Closed
            } else {
                Input::Partial
            };
        };
        let line: Vec<u8> = self.input.drain(..=end).collect();
        match serde_json::from_slice(&line) {
            Ok(request) => Input::Request(request),
            Err(error) => {
                complain(&format!("bad request: {error}"));
                Input::Closed
            }
        }
    }

    fn receive(&mut self, buffer: &mut [u8]) -> nix::Result<usize> {
        let mut space = nix::cmsg_space!([RawFd; MAX_FDS]);
        let mut slices = [IoSliceMut::new(buffer)];
        let message = recvmsg::<()>(
            self.stream.as_raw_fd(),
            &mut slices,
            Some(&mut space),
            MsgFlags::MSG_CMSG_CLOEXEC,
        )?;
        for control in message.cmsgs()? {
            if let ControlMessageOwned::ScmRights(fds) = control {
                // SAFETY: the kernel has just installed these descriptors for us.
                self.fds
                    .extend(fds.into_iter().map(|fd| unsafe { OwnedFd::from_raw_fd(fd) }));
            }
        }
        self.fds.truncate(MAX_FDS);
        Ok(message.bytes)
    }

    /// Queues a reply and sends what fits. An agent that does not read is cut off.
    pub fn send(&mut self, reply: &Reply) -> io::Result<()> {
        serde_json::to_writer(&mut self.output, reply)?;
        self.output.push(b'\n');
        if self.output.len() > MAX_LINE {
            return Err(io::Error::other("agent does not read"));
        }
        self.flush()
    }

    /// Sends what fits.
    pub fn flush(&mut self) -> io::Result<()> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output) {
                Ok(written) => drop(self.output.drain(..written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
