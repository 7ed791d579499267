//! The API server from the outside: in process, over path sockets, over TLS.

mod common;
mod discovery;
mod listeners;
mod refusals;
mod verbs;
mod watches;
