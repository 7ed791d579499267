//! Stub.
/// Stub.
pub fn run(_p: &str, _a: &[std::ffi::OsString]) -> std::process::ExitCode { std::process::ExitCode::FAILURE }
