//! SPDY/3.1 as Kubernetes' clients speak it to exec, attach and port-forward: many streams of bytes on one connection,
//! begun by the client and told apart by their headers.
//!
//! [`frame`] is the pure codec, [`session`] the streams over whatever carries the bytes: an upgraded HTTP connection, or
//! a WebSocket as a tunnel (KEP-4006). The protocol is long dead elsewhere and no crate speaks it. Like Kubernetes' own
//! library it leaves flow control to the connection below.

mod dictionary;
pub mod frame;
mod session;

pub use session::{Input, Output, Session, Stream, Unread};
