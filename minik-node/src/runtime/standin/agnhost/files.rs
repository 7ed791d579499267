//! `agnhost test-webserver`: the container's files over HTTP, with the lists and redirects of Go's file server.

use std::path::{Component, Path, PathBuf};

use axum::Router;
use axum::extract::Request;
use axum::response::{Html, IntoResponse, Response};
use http::StatusCode;
use http::header::CACHE_CONTROL;
use percent_encoding::percent_decode_str;

use super::query;
use crate::runtime::standin::{StandInError, not_found};

/// Largest file that is served.
const MAX_FILE: u64 = 16 << 20;

/// A small file of the container.
pub fn text(path: &'static str) -> Result<String, StandInError> {
    std::fs::read_to_string(path).map_err(|source| StandInError::File { path, source })
}

/// Everything under `/`.
pub fn routes() -> Router {
    Router::new().fallback(|request: Request| async move {
        let answered = tokio::task::spawn_blocking(move || answer(Path::new("/"), request.uri().path())).await;
        match answered {
            Ok(Some(response)) => ([(CACHE_CONTROL, "private")], response).into_response(),
            Ok(None) => not_found().await.into_response(),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
        }
    })
}

/// What a path under `root` is answered with; nothing when there is no such file.
fn answer(root: &Path, path: &str) -> Option<Response> {
    let decoded = percent_decode_str(path).decode_utf8().ok()?;
    let file = under(root, &decoded)?;
    let metadata = file.metadata().ok()?;
    if metadata.is_dir() {
        if !path.ends_with('/') {
            let last = path.rsplit('/').next().unwrap_or_default();
            return Some(query::redirect(StatusCode::MOVED_PERMANENTLY, &format!("{last}/")));
        }
        let index = file.join("index.html");
        return match std::fs::read(index) {
            Ok(page) => Some(Html(page).into_response()),
            Err(_none) => list(&file),
        };
    }
    if !metadata.is_file() || metadata.len() > MAX_FILE {
        return None;
    }
    std::fs::read(&file).ok().map(IntoResponse::into_response)
}

/// A path that stays under `root`.
fn under(root: &Path, path: &str) -> Option<PathBuf> {
    let relative = Path::new(path.trim_start_matches('/'));
    let plain = relative.components().all(|part| matches!(part, Component::Normal(_)));
    plain.then(|| root.join(relative))
}

fn list(folder: &Path) -> Option<Response> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .ok()?
        .filter_map(Result::ok)
        .map(|entry| {
            let slash = if entry.path().is_dir() { "/" } else { "" };
            format!("{}{slash}", entry.file_name().to_string_lossy())
        })
        .collect();
    names.sort();
    let lines: String = names
        .iter()
        .map(|name| format!("<a href=\"{name}\">{name}</a>\n"))
        .collect();
    Some(Html(format!("<pre>\n{lines}</pre>\n")).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_are_lists_files_are_themselves_and_nothing_is_outside() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("folder")).unwrap();
        std::fs::write(root.path().join("a b"), "text").unwrap();
        let status = |path| answer(root.path(), path).map(|response| response.status().as_u16());
        assert_eq!(status("/"), Some(200));
        assert_eq!(status("/a%20b"), Some(200));
        assert_eq!(status("/folder"), Some(301));
        assert_eq!(status("/none"), None);
        assert_eq!(status("/folder/../a%20b"), None);
    }
}
