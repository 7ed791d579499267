//! The API server from the outside: in process, over path sockets, over TLS.

mod common;
mod listeners;
mod verbs;
