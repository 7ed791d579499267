//! `/healthz`, `/livez`, `/readyz`, their single checks, and `/version`.

use axum::response::{IntoResponse, Response};
use http::{HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::error::ApiError;

use super::request::Options;
use super::state::State;

/// What this server says it is.
pub const GIT_VERSION: &str = "v1.36.2";

/// `/version`.
#[must_use]
pub fn version() -> Value {
    json!({
        "major": "1",
        "minor": "36",
        "emulationMajor": "1",
        "emulationMinor": "36",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": platform(),
    })
}

fn platform() -> &'static str {
    match std::env::consts::ARCH {
        "aarch64" => "linux/arm64",
        _ => "linux/amd64",
    }
}

/// Answers a health path: `endpoint` is `healthz`, `livez` or `readyz`, `check` a single check or none.
///
/// # Errors
/// There is no such check.
pub fn health(state: &State, endpoint: &str, check: Option<&str>, options: &Options) -> Result<Response, ApiError> {
    let mut checks = vec![("ping", true), ("etcd", true)];
    if endpoint == "readyz" {
        checks.push(("poststarthook/bootstrap-controller", state.is_ready()));
        checks.push(("shutdown", !state.shutdown.is_cancelled()));
    }
    if let Some(check) = check {
        checks.retain(|(name, _)| *name == check);
        if checks.is_empty() {
            return Err(ApiError::NoSuchPath);
        }
    }
    let healthy = checks.iter().all(|(_, passed)| *passed);
    let verbose = options.all("verbose").next().is_some();
    let body = if healthy && !verbose {
        "ok".to_owned()
    } else {
        report(endpoint, &checks, healthy)
    };
    let code = if healthy {
        StatusCode::OK
    } else {
        StatusCode::INTERNAL_SERVER_ERROR
    };
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/plain; charset=utf-8"),
        ),
        (
            HeaderName::from_static("x-content-type-options"),
            HeaderValue::from_static("nosniff"),
        ),
    ];
    Ok((code, headers, body).into_response())
}

fn report(endpoint: &str, checks: &[(&str, bool)], healthy: bool) -> String {
    let mut lines = String::new();
    for (name, passed) in checks {
        if *passed {
            lines.push_str(&format!("[+]{name} ok\n"));
        } else {
            lines.push_str(&format!("[-]{name} failed: reason withheld\n"));
        }
    }
    let outcome = if healthy { "passed" } else { "failed" };
    lines + &format!("{endpoint} check {outcome}\n")
}
