//! Parameters of a request's query as Go's handlers read them, and the answers that say what is wrong with one.

use std::collections::BTreeMap;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use http::header::LOCATION;
use http::{HeaderValue, StatusCode};

/// Name to value; the empty text stands for a parameter that is not there.
pub type Parameters = BTreeMap<String, String>;

/// The text of a parameter.
pub fn text<'a>(parameters: &'a Parameters, name: &str) -> &'a str {
    parameters.get(name).map_or("", String::as_str)
}

/// A whole number, `default` without one.
///
/// # Errors
/// What the real program answers.
pub fn number<T: std::str::FromStr>(parameters: &Parameters, name: &str, range: &str, default: T) -> Result<T, String> {
    match text(parameters, name) {
        "" => Ok(default),
        given => given
            .parse()
            .map_err(|_unparsed| format!("argument '{name}' must be an integer{range} or empty, got {given:?}\n")),
    }
}

/// A duration as Go writes it (`1m30s`), zero without one.
///
/// # Errors
/// What the real program answers.
pub fn duration(parameters: &Parameters, name: &str) -> Result<Duration, String> {
    match text(parameters, name) {
        "" => Ok(Duration::ZERO),
        given => go_duration(given)
            .ok_or_else(|| format!("argument '{name}' must be a valid golang duration or empty, got {given:?}\n")),
    }
}

/// Reads Go's `time.Duration`; none below zero.
pub fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    text.parse::<jiff::SignedDuration>().ok()?.try_into().ok()
}

/// Sends the client elsewhere.
pub fn redirect(status: StatusCode, location: &str) -> Response {
    let body = format!(
        "<a href=\"{location}\">{}</a>.\n\n",
        status.canonical_reason().unwrap_or_default()
    );
    let mut response = (status, axum::response::Html(body)).into_response();
    match HeaderValue::from_str(location) {
        Ok(value) => {
            response.headers_mut().insert(LOCATION, value);
            response
        }
        Err(error) => (
            StatusCode::BAD_REQUEST,
            format!("invalid redirect: {location:?}: {error}\n"),
        )
            .into_response(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_writes_them() {
        for (text, seconds) in [
            ("0", Some(0)),
            ("3s", Some(3)),
            ("1m30s", Some(90)),
            ("-1s", None),
            ("3", None),
        ] {
            assert_eq!(go_duration(text), seconds.map(Duration::from_secs), "{text}");
        }
    }

    #[test]
    fn a_wrong_parameter_is_told_as_the_real_program_tells_it() {
        let asked = Parameters::from([("code".to_owned(), "x".to_owned())]);
        assert_eq!(
            number::<u8>(&asked, "code", " [0-127]", 0).unwrap_err(),
            "argument 'code' must be an integer [0-127] or empty, got \"x\"\n"
        );
        assert_eq!(number::<u16>(&asked, "port", "", 7), Ok(7));
    }
}
