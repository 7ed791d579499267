//! The log format of Kubernetes' container runtimes: `TIME STREAM TAG LINE`, written by shims, read for
//! `kubectl logs`. Pure; files are somebody else's.
//!
//! Source: `pkg/kubelet/kuberuntime/logs/logs.go` and the CRI design: RFC 3339 time with nanoseconds, `stdout`
//! or `stderr`, `F` for a line that is complete and `P` for a piece whose rest follows.

use jiff::Timestamp;

/// Longest piece of a line in one record, as containerd writes them.
pub const MAX_PIECE: usize = 16 * 1024;

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// Cuts one stream into records. Holds at most [`MAX_PIECE`] bytes between calls.
#[derive(Debug)]
pub struct Splitter {
    stream: Stream,
    rest: Vec<u8>,
}

impl Splitter {
    /// For a stream that has said nothing yet.
    #[must_use]
    pub const fn new(stream: Stream) -> Self {
        Self {
            stream,
            rest: Vec::new(),
        }
    }

    /// Goes on where one that [`rest`](Self::rest) was asked of stopped.
    #[must_use]
    pub const fn resume(stream: Stream, rest: Vec<u8>) -> Self {
        Self { stream, rest }
    }

    /// The line that is not complete yet.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// Appends to `out` the records that `bytes`, read at `now`, complete.
    pub fn push(&mut self, bytes: &[u8], now: Timestamp, out: &mut Vec<u8>) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            let (text, complete) = match piece.strip_suffix(b"\n") {
                Some(text) => (text, true),
                None => (piece, false),
            };
            self.rest.extend_from_slice(text);
            while self.rest.len() > MAX_PIECE {
                let tail = self.rest.split_off(MAX_PIECE);
                record(out, now, self.stream, b'P', &self.rest);
                self.rest = tail;
            }
            if complete {
                record(out, now, self.stream, b'F', &self.rest);
                self.rest.clear();
            }
        }
    }

    /// Appends to `out` what is left of a stream that ended without a newline.
    pub fn finish(&mut self, now: Timestamp, out: &mut Vec<u8>) {
        if !self.rest.is_empty() {
            record(out, now, self.stream, b'P', &self.rest);
            self.rest.clear();
        }
    }
}

fn record(out: &mut Vec<u8>, now: Timestamp, stream: Stream, tag: u8, text: &[u8]) {
    out.extend_from_slice(format!("{now:.9} {} ", stream.as_str()).as_bytes());
    out.push(tag);
    out.push(b' ');
    out.extend_from_slice(text);
    out.push(b'\n');
}

/// One parsed record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// The time as it stands in the file.
    pub time: &'a str,
    /// The same, understood.
    pub at: Timestamp,
    /// Where the text came from.
    pub stream: Stream,
    /// Whether the line ends here.
    pub complete: bool,
    /// The text, without the newline of the file.
    pub text: &'a [u8],
}

/// Reads one line of a log file, without its newline; `None` for what is no record.
#[must_use]
pub fn parse(line: &[u8]) -> Option<Record<'_>> {
    let mut fields = line.splitn(4, |byte| *byte == b' ');
    let time = std::str::from_utf8(fields.next()?).ok()?;
    let stream = match fields.next()? {
        b"stdout" => Stream::Stdout,
        b"stderr" => Stream::Stderr,
        _ => return None,
    };
    let complete = match fields.next()? {
        b"F" => true,
        b"P" => false,
        _ => return None,
    };
    Some(Record {
        time,
        at: time.parse().ok()?,
        stream,
        complete,
        text: fields.next()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-02T03:04:05.000000006Z";

    fn split(chunks: &[&[u8]]) -> String {
        let now = NOW.parse().unwrap();
        let mut splitter = Splitter::new(Stream::Stdout);
        let mut out = Vec::new();
        for chunk in chunks {
            splitter.push(chunk, now, &mut out);
        }
        splitter.finish(now, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_in_two_reads_is_one_record() {
        assert_eq!(
            split(&[b"he", b"llo\n\nx"]),
            format!("{NOW} stdout F hello\n{NOW} stdout F \n{NOW} stdout P x\n")
        );
    }

    #[test]
    fn a_long_line_is_cut_and_only_its_end_is_full() {
        let text = vec![b'a'; MAX_PIECE * 2 + 1];
        let log = split(&[&text, b"\n"]);
        let records: Vec<_> = log.lines().map(|line| parse(line.as_bytes()).unwrap()).collect();
        let shape: Vec<_> = records
            .iter()
            .map(|record| (record.text.len(), record.complete))
            .collect();
        assert_eq!(shape, [(MAX_PIECE, false), (MAX_PIECE, false), (1, true)]);
    }

    #[test]
    fn what_is_no_record_is_refused() {
        for line in [
            "",
            "x",
            "2026-01-02T03:04:05Z stdout F",
            "2026-01-02T03:04:05Z out F x",
            "when stdout F x",
        ] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
        let record = parse(b"2026-01-02T03:04:05Z stderr P a b ").unwrap();
        assert_eq!(
            (record.stream, record.complete, record.text),
            (Stream::Stderr, false, b"a b ".as_slice())
        );
    }
}
