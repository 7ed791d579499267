//! Paths below something, and modes of the files there: of volumes, mounts, profiles.

use crate::resource::field::{FieldError, FieldErrors};

const MODES: std::ops::RangeInclusive<i32> = 0..=0o777;

/// Checks that a path leads neither to the root nor up.
pub fn descending(field: &str, path: &str) -> FieldErrors {
    let absolute = path.starts_with('/');
    let absolute = absolute.then(|| FieldError::invalid(field, path, "must be a relative path"));
    absolute.into_iter().chain(no_way_up(field, path)).collect()
}

/// Checks that a path does not lead up.
pub fn no_way_up(field: &str, path: &str) -> Option<FieldError> {
    let up = path.split('/').any(|part| part == "..");
    up.then(|| FieldError::invalid(field, path, "must not contain '..'"))
}

/// Checks the path of a file in a volume, whose own files begin with two dots.
pub fn of_file(field: &str, path: &str) -> FieldErrors {
    let mut errors = Vec::new();
    if path.is_empty() {
        errors.push(FieldError::required(field, ""));
    }
    errors.extend(descending(field, path));
    if path.starts_with("..") && !path.starts_with("../") {
        errors.push(FieldError::invalid(field, path, "must not start with '..'"));
    }
    errors
}

/// Checks the permissions of a file.
pub fn mode(field: &str, mode: Option<i32>) -> Option<FieldError> {
    let mode = mode.filter(|mode| !MODES.contains(mode))?;
    let detail = "must be a number between 0 and 0777 (octal), both inclusive";
    Some(FieldError::invalid(field, mode, detail))
}
