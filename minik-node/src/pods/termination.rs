//! `terminationMessagePath`: what a container leaves to be told of its end.
//!
//! Owns one file a run, `STATE/pods/UID/termination/NAME/ATTEMPT`, mounted into the container; falls back to the last
//! of its log where the policy says so.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::Container;

use crate::runtime::protocol::Attempt;
use crate::runtime::spec::{Access, Mount};

/// Most that is taken of the file (`MaxContainerTerminationMessageLength`), its end.
const MAX_FILE: u64 = 4096;
/// Most that is taken of the log, in bytes and lines.
const MAX_LOG: (u64, usize) = (2048, 80);

/// Makes the file of a run that is about to start.
pub fn prepare(state: &Path, container: &Container, attempt: u32) -> io::Result<Option<Mount>> {
    let Some(target) = container
        .termination_message_path
        .as_ref()
        .filter(|path| !path.is_empty())
    else {
        return Ok(None);
    };
    let source = file(state, &container.name, attempt);
    if let Some(dir) = source.parent() {
        fs::create_dir_all(dir)?;
    }
    File::create(&source)?;
    // Whoever the container runs as writes it.
    fs::set_permissions(&source, Permissions::from_mode(0o666))?;
    Ok(Some(Mount {
        source,
        target: PathBuf::from(target),
        access: Access::ReadWrite,
        sub_path: None,
    }))
}

/// What a run that ended left to be told; `logs` is the folder of its logs.
pub fn message(state: &Path, logs: &Path, container: &Container, attempt: &Attempt) -> String {
    let Some(ended) = &attempt.ended else {
        return String::new();
    };
    let path = file(state, &container.name, attempt.attempt);
    let text = match tail(&path, MAX_FILE) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return format!("Error on reading termination log {}: {error}", path.display()),
    };
    let policy = container.termination_message_policy.as_deref();
    let asks_log = policy == Some("FallbackToLogsOnError") && ended.exit.code != 0 && ended.start_error.is_none();
    if !text.is_empty() || !asks_log {
        return text;
    }
    match last_of_log(&logs.join(&container.name).join(format!("{}.log", attempt.attempt))) {
        Ok(text) => text,
        Err(error) => format!("Error on reading termination message from logs: {error}"),
    }
}

fn file(state: &Path, container: &str, attempt: u32) -> PathBuf {
    state.join("termination").join(container).join(attempt.to_string())
}

/// The last `most` bytes of a file.
fn tail(path: &Path, most: u64) -> io::Result<String> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(most)))?;
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The last lines of a log in CRI format (`TIME STREAM TAG TEXT`), without what is not text.
fn last_of_log(path: &Path) -> io::Result<String> {
    // Each line carries a time, a stream and a tag besides.
    let overhead = 64 * MAX_LOG.1 as u64;
    let text = tail(path, MAX_LOG.0 + overhead)?;
    let lines: Vec<&str> = text.lines().collect();
    let first = lines.len().saturating_sub(MAX_LOG.1);
    let mut message = String::new();
    for line in &lines[first..] {
        let mut parts = line.splitn(4, ' ').skip(2);
        if let (Some(tag), Some(text)) = (parts.next(), parts.next()) {
            message.push_str(text);
            if tag == "F" {
                message.push('\n');
            }
        }
    }
    let mut from = message.len().saturating_sub(MAX_LOG.0 as usize);
    while !message.is_char_boundary(from) {
        from += 1;
    }
    Ok(message.split_off(from))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::protocol::{Ended, Exit};

    fn attempt(code: i32) -> Attempt {
        Attempt {
            id: "id".into(),
            attempt: 0,
            image: String::new(),
            image_id: String::new(),
            stop_signal: libc::SIGTERM,
            user: None,
            pid: 0,
            started_at: jiff::Timestamp::UNIX_EPOCH,
            ended: Some(Ended {
                at: jiff::Timestamp::UNIX_EPOCH,
                exit: Exit { code, signal: None },
                start_error: None,
            }),
        }
    }

    #[test]
    fn the_file_comes_before_the_log_and_both_are_cut_at_their_beginning() {
        let dir = tempfile::tempdir().unwrap();
        let (state, logs) = (dir.path().join("state"), dir.path().join("logs"));
        let mut container = Container {
            name: "c".into(),
            termination_message_path: Some("/dev/termination-log".into()),
            ..Container::default()
        };
        let mount = prepare(&state, &container, 0).unwrap().unwrap();
        assert_eq!(mount.target, Path::new("/dev/termination-log"));
        fs::create_dir_all(logs.join("c")).unwrap();
        let lines: String = (0..100)
            .map(|line| format!("2026-01-01T00:00:00Z stderr F line {line}\n"))
            .collect();
        fs::write(logs.join("c/0.log"), lines).unwrap();

        assert_eq!(message(&state, &logs, &container, &attempt(1)), "");
        container.termination_message_policy = Some("FallbackToLogsOnError".into());
        assert_eq!(message(&state, &logs, &container, &attempt(0)), "");
        let log = message(&state, &logs, &container, &attempt(1));
        assert_eq!(
            (log.lines().next(), log.lines().last()),
            (Some("line 20"), Some("line 99"))
        );
        fs::write(&mount.source, "x".repeat(5000) + "end").unwrap();
        let file = message(&state, &logs, &container, &attempt(1));
        assert_eq!((file.len(), &file[4093..]), (4096, "end"));
    }
}
