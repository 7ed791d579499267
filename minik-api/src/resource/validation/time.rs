//! Timestamps as Kubernetes writes them, and Go's words for those that are none.

use jiff::Timestamp;

/// An RFC 3339 timestamp.
///
/// # Errors
/// Go's text for a string that does not parse as `time.RFC3339`.
pub fn parse(text: &str) -> Result<Timestamp, String> {
    let shaped = text.len() >= "2006-01-02T15:04:05Z".len() && text.as_bytes()[10] == b'T';
    let parsed = if shaped { text.parse::<Timestamp>().ok() } else { None };
    parsed.ok_or_else(|| {
        format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {text:?} as \"2006\"")
    })
}

/// As `metav1.Time`: whole seconds, UTC.
#[must_use]
pub fn to_seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// As `metav1.MicroTime`: six digits, UTC.
#[must_use]
pub fn to_micros(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}
