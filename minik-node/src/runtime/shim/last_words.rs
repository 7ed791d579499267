//! What an ended container left at its `terminationMessagePath`, or at the end of its log.
//!
//! Source: `getTerminationMessage` and the limits of `pkg/kubelet/container`.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::runtime::cri_log;
use crate::runtime::protocol::Exit;
use crate::runtime::spec::ContainerSpec;

const MOST_BYTES: u64 = 4096;
const MOST_LOG_BYTES: usize = 2048;
const MOST_LOG_LINES: usize = 80;
/// What of a log is looked at: more than its last lines can take in the file.
const LOG_TAIL: u64 = 256 * 1024;

/// Makes the empty file that the container finds.
pub fn prepare(spec: &ContainerSpec) -> io::Result<()> {
    let Some(words) = &spec.last_words else { return Ok(()) };
    if let Some(dir) = words.file.parent() {
        fs::create_dir_all(dir)?;
    }
    fs::write(&words.file, "")?;
    fs::set_permissions(&words.file, Permissions::from_mode(0o666))
}

/// Reads what is to be remembered of a container that ended so.
pub fn read(spec: &ContainerSpec, exit: Exit) -> Option<String> {
    let words = spec.last_words.as_ref()?;
    let said = match end_of(&words.file, MOST_BYTES) {
        Ok(said) => said,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
        Err(error) => format!("Error on reading termination log {}: {error}", words.file.display()).into_bytes(),
    };
    if !said.is_empty() {
        return Some(String::from_utf8_lossy(&said).into_owned());
    }
    if !words.or_log || exit.code == 0 {
        return None;
    }
    match end_of(&spec.log, LOG_TAIL) {
        Ok(log) => Some(end_of_log(&log)).filter(|text| !text.is_empty()),
        Err(error) => Some(format!("Error on reading termination message from logs: {error}")),
    }
}

fn end_of(path: &Path, bytes: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(bytes)))?;
    let mut text = Vec::new();
    file.take(bytes).read_to_end(&mut text)?;
    Ok(text)
}

/// The last lines of a log, without times, as far as they fit.
fn end_of_log(log: &[u8]) -> String {
    let records: Vec<_> = log.split(|byte| *byte == b'\n').filter_map(cri_log::parse).collect();
    let whole = |record: &cri_log::Record<'_>| record.complete;
    let mut lines = 0;
    let from = records.iter().rposition(|record| {
        lines += usize::from(whole(record));
        lines > MOST_LOG_LINES
    });
    let mut text = Vec::new();
    for record in &records[from.map_or(0, |at| at + 1)..] {
        text.extend_from_slice(record.text);
        if record.complete {
            text.push(b'\n');
        }
    }
    let cut = text.len().saturating_sub(MOST_LOG_BYTES);
    String::from_utf8_lossy(&text[cut..]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_log_is_eighty_lines_and_two_kilobytes() {
        let log = |count: usize, text: &str| -> Vec<u8> {
            let line = |n| format!("2026-01-02T03:04:05Z stderr F {text}{n}\n");
            (0..count).map(line).collect::<String>().into_bytes()
        };
        let short = end_of_log(&log(100, "l"));
        assert!(short.starts_with("l20\n") && short.ends_with("l99\n"), "{short}");
        assert_eq!(end_of_log(&log(100, &"x".repeat(60))).len(), MOST_LOG_BYTES);
        assert_eq!(end_of_log(b"2026-01-02T03:04:05Z stdout P cut"), "cut");
        assert_eq!(end_of_log(b""), "");
    }
}
