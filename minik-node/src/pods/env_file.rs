//! Files of variables, which `fileKeyRef` names: a strict part of what a POSIX shell reads, every value in single quotes.
//! Pure; the text comes from [`super::start`].
//!
//! Source: KEP-3721, `ParseEnv` of `pkg/kubelet/util/env` in 1.36, whose texts these are.

use std::collections::BTreeMap;
use std::path::PathBuf;

/// What `fileKeyRef`s of a container name, by volume and path in it; those in volumes that are not laid are absent.
pub type EnvFiles = BTreeMap<(String, String), EnvFile>;

/// One file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvFile {
    /// Where it is on the node.
    pub path: PathBuf,
    /// What it holds, or why it cannot be read.
    pub text: Result<String, String>,
}

/// Why a file is none of variables; the line counts from 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvFileError {
    /// It cannot be read.
    #[error("failed to open environment variable file {path:?}: {why}")]
    Open {
        /// File.
        path: PathBuf,
        /// What the system says.
        why: String,
    },
    /// A line that declares nothing.
    #[error("invalid environment variable format at line {line}: {what}")]
    Line {
        /// Which.
        line: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// A value that does not end.
    #[error("invalid environment variable format starting at line {line}: unclosed single quote")]
    Unclosed {
        /// Where it begins.
        line: usize,
    },
}

impl EnvFile {
    /// The value of `key`; empty when the file does not declare it.
    pub fn value(&self, key: &str) -> Result<String, EnvFileError> {
        match &self.text {
            Ok(text) => parse(text, key),
            Err(why) => Err(EnvFileError::Open {
                path: self.path.clone(),
                why: why.clone(),
            }),
        }
    }
}

fn parse(text: &str, key: &str) -> Result<String, EnvFileError> {
    let mut lines = text.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        let wrong = |what| EnvFileError::Line { line: number, what };
        let line = line.trim_start_matches(BLANK);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, value) = line.split_once('=').ok_or_else(|| wrong("missing '='"))?;
        if name.trim_end_matches(BLANK).is_empty() {
            return Err(wrong("empty variable name"));
        }
        if name.ends_with(BLANK) {
            return Err(wrong("whitespace before '=' is not allowed"));
        }
        // As in a shell, where what follows the blank is a command.
        let value = if value.starts_with(BLANK) {
            String::new()
        } else {
            let opened = value.strip_prefix('\'');
            quoted(
                opened.ok_or_else(|| wrong("value must be enclosed in single quotes"))?,
                number,
                &mut lines,
            )?
        };
        if name == key {
            return Ok(value);
        }
    }
    Ok(String::new())
}

const BLANK: [char; 2] = [' ', '\t'];

/// A value from behind its first quote to its second, over as many lines as that takes.
fn quoted<'t>(
    first: &'t str,
    began: usize,
    lines: &mut impl Iterator<Item = (&'t str, usize)>,
) -> Result<String, EnvFileError> {
    let mut value = String::new();
    let (mut rest, mut number) = (first, began);
    loop {
        if let Some((last, after)) = rest.split_once('\'') {
            value.push_str(last);
            let after = after.trim_start_matches(BLANK);
            if !after.is_empty() && !after.starts_with('#') {
                let what = "unexpected content after closing quote";
                return Err(EnvFileError::Line { line: number, what });
            }
            return Ok(value);
        }
        value.push_str(rest);
        value.push('\n');
        (rest, number) = lines.next().ok_or(EnvFileError::Unclosed { line: began })?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_what_their_quotes_hold() {
        for (text, key, expected) in [
            ("KEY1='val1'\nKEY2='val2'\n", "KEY2", "val2"),
            ("   KEY1='val1'\n\t\tKEY2='val2'", "KEY2", "val2"),
            ("# comment\n\n  # another\nKEY='bar'", "KEY", "bar"),
            ("KEY='foo#not a comment' # a comment\n", "KEY", "foo#not a comment"),
            ("MULTI='line1\n  line2\n'\nKEY='x'", "MULTI", "line1\n  line2\n"),
            ("KEY='  a $VAR ${VAR} \\n=b '", "KEY", "  a $VAR ${VAR} \\n=b "),
            ("KEY=''", "KEY", ""),
            ("KEY= 'val1'\n", "KEY", ""),
            ("KEY='a'\nKEY='b'", "KEY", "a"),
            ("KEY='a'\r\nOTHER='b'\r\n", "OTHER", "b"),
            ("KEY='a'", "NONE", ""),
            ("KEY='a'\nwhat follows is not read", "KEY", "a"),
        ] {
            assert_eq!(parse(text, key).as_deref(), Ok(expected), "{text:?}");
        }
    }

    #[test]
    fn what_a_shell_would_read_otherwise_is_refused_by_line() {
        let line = |line, what| EnvFileError::Line { line, what };
        for (text, expected) in [
            ("KEY1='foo'\nINVALID_LINE\n", line(2, "missing '='")),
            ("='foo'", line(1, "empty variable name")),
            ("KEY = 'v'", line(1, "whitespace before '=' is not allowed")),
            ("KEY=value", line(1, "value must be enclosed in single quotes")),
            ("KEY=\"value\"", line(1, "value must be enclosed in single quotes")),
            ("KEY='a''b'", line(1, "unexpected content after closing quote")),
            ("KEY='a\nb'c", line(2, "unexpected content after closing quote")),
            ("A='a'\nKEY='b\nc", EnvFileError::Unclosed { line: 2 }),
        ] {
            assert_eq!(parse(text, "NONE"), Err(expected), "{text:?}");
        }
    }
}
