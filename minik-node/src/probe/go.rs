//! Durations and errors in the words of Go's standard library, in which the kubelet's events are written.

use std::io;
use std::time::Duration;

/// `1s`, `1m20s`, `5m0s`, `1h0m0s`: whole seconds, as `time.Duration` prints them.
#[must_use]
pub fn duration(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

/// What the system says of a failed call: `connection refused`.
#[must_use]
pub fn errno(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_lowercase(),
        None => error.to_string(),
    }
}

/// A TCP connection that did not come about.
#[must_use]
pub fn dial(host: &str, port: u16, error: &io::Error) -> String {
    if error.raw_os_error().is_some() {
        format!("dial tcp {host}:{port}: connect: {}", errno(error))
    } else {
        format!("dial tcp: lookup {host}: no such host")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_written_as_go_writes_them() {
        for (seconds, text) in [(1, "1s"), (80, "1m20s"), (300, "5m0s"), (3600, "1h0m0s")] {
            assert_eq!(duration(Duration::from_secs(seconds)), text);
        }
    }

    #[test]
    fn a_refused_connection_is_told_as_go_tells_it() {
        let refused = io::Error::from_raw_os_error(libc::ECONNREFUSED);
        assert_eq!(
            dial("10.244.1.3", 80, &refused),
            "dial tcp 10.244.1.3:80: connect: connection refused"
        );
    }
}
