//! Syntax of names and of label keys and values, in the words of apimachinery's `validation` package.
//! Each function gives the texts of what is wrong; none means valid.

use std::sync::LazyLock;

use regex::Regex;

use crate::resource::field::{FieldError, FieldErrors};

const LABEL_REGEX: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const SUBDOMAIN_REGEX: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const DNS1035_REGEX: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const QUALIFIED_REGEX: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_VALUE_REGEX: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";
const CONFIG_KEY_REGEX: &str = "[-._a-zA-Z0-9]+";
const HEADER_REGEX: &str = "[-A-Za-z0-9]+";
const ENV_NAME_REGEX: &str = "[ -<>-~]+";
const PATH_REGEX: &str = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";

/// Longest DNS label.
pub const LABEL_LENGTH: usize = 63;
/// Longest DNS subdomain.
pub const SUBDOMAIN_LENGTH: usize = 253;

fn whole(pattern: &str) -> Regex {
    Regex::new(&format!("^(?:{pattern})$")).expect("the patterns are constants that a test compiles")
}

static LABEL: LazyLock<Regex> = LazyLock::new(|| whole(LABEL_REGEX));
static SUBDOMAIN: LazyLock<Regex> = LazyLock::new(|| whole(SUBDOMAIN_REGEX));
static DNS1035: LazyLock<Regex> = LazyLock::new(|| whole(DNS1035_REGEX));
static QUALIFIED: LazyLock<Regex> = LazyLock::new(|| whole(QUALIFIED_REGEX));
static LABEL_VALUE: LazyLock<Regex> = LazyLock::new(|| whole(LABEL_VALUE_REGEX));
static CONFIG_KEY: LazyLock<Regex> = LazyLock::new(|| whole(CONFIG_KEY_REGEX));
static PATH: LazyLock<Regex> = LazyLock::new(|| whole(PATH_REGEX));
static HEADER: LazyLock<Regex> = LazyLock::new(|| whole(HEADER_REGEX));
static ENV_NAME: LazyLock<Regex> = LazyLock::new(|| whole(ENV_NAME_REGEX));

/// The text for something longer than `most` bytes.
#[must_use]
pub fn too_long(most: usize) -> String {
    format!("must be no more than {most} bytes")
}

fn pattern(words: &str, regex: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|e| format!("'{e}'")).collect();
    let listed = examples.join(",  or ");
    if listed.is_empty() {
        format!("{words} (regex used for validation is '{regex}')")
    } else {
        format!("{words} (e.g. {listed}, regex used for validation is '{regex}')")
    }
}

fn checked(text: &str, most: usize, regex: &Regex, problem: impl FnOnce() -> String) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > most {
        problems.push(too_long(most));
    }
    if !regex.is_match(text) {
        problems.push(problem());
    }
    problems
}

/// A DNS label of RFC 1123: Services, Namespaces, containers, volumes.
#[must_use]
pub fn dns_label(text: &str) -> Vec<String> {
    checked(text, LABEL_LENGTH, &LABEL, || {
        pattern(
            "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character",
            LABEL_REGEX,
            &["my-name", "123-abc"],
        )
    })
}

/// A DNS subdomain of RFC 1123: most objects.
#[must_use]
pub fn dns_subdomain(text: &str) -> Vec<String> {
    checked(text, SUBDOMAIN_LENGTH, &SUBDOMAIN, || {
        pattern(
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character",
            SUBDOMAIN_REGEX,
            &["example.com"],
        )
    })
}

/// A DNS label of RFC 1035, which starts with a letter.
#[must_use]
pub fn dns1035_label(text: &str) -> Vec<String> {
    checked(text, LABEL_LENGTH, &DNS1035, || {
        pattern(
            "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character",
            DNS1035_REGEX,
            &["my-name", "abc-123"],
        )
    })
}

/// The key of a label or annotation: `[prefix/]name`.
#[must_use]
pub fn qualified_name(text: &str) -> Vec<String> {
    let words = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character";
    let examples = ["MyName", "my.name", "123-abc"];
    let mut problems = Vec::new();
    let parts: Vec<&str> = text.split('/').collect();
    let name = match parts[..] {
        [name] => name,
        [prefix, name] => {
            if prefix.is_empty() {
                problems.push("prefix part must be non-empty".to_owned());
            } else {
                problems.extend(dns_subdomain(prefix).into_iter().map(|p| format!("prefix part {p}")));
            }
            name
        }
        _ => {
            let text = pattern(&format!("a qualified name {words}"), QUALIFIED_REGEX, &examples);
            problems.push(format!(
                "{text} with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ));
            return problems;
        }
    };
    if name.is_empty() {
        problems.push("name part must be non-empty".to_owned());
    } else if name.len() > LABEL_LENGTH {
        problems.push(format!("name part {}", too_long(LABEL_LENGTH)));
    }
    if !QUALIFIED.is_match(name) {
        problems.push(format!("name part {}", pattern(words, QUALIFIED_REGEX, &examples)));
    }
    problems
}

/// The value of a label.
#[must_use]
pub fn label_value(text: &str) -> Vec<String> {
    checked(text, LABEL_LENGTH, &LABEL_VALUE, || {
        pattern(
            "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character",
            LABEL_VALUE_REGEX,
            &["MyValue", "my_value", "12345"],
        )
    })
}

/// The name of a port that others refer to (IANA service name).
#[must_use]
pub fn port_name(text: &str) -> Vec<String> {
    let mut problems = Vec::new();
    if text.len() > 15 {
        problems.push("must be no more than 15 characters".to_owned());
    }
    if !text
        .bytes()
        .all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-')
    {
        problems.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)".to_owned());
    }
    if !text.bytes().any(|c| c.is_ascii_lowercase()) {
        problems.push("must contain at least one letter (a-z)".to_owned());
    }
    if text.contains("--") {
        problems.push("must not contain consecutive hyphens".to_owned());
    }
    if text.starts_with('-') || text.ends_with('-') {
        problems.push("must not begin or end with a hyphen".to_owned());
    }
    problems
}

/// A key of a ConfigMap or Secret.
#[must_use]
pub fn config_key(text: &str) -> Vec<String> {
    let mut problems = checked(text, SUBDOMAIN_LENGTH, &CONFIG_KEY, || {
        pattern(
            "a valid config key must consist of alphanumeric characters, '-', '_' or '.'",
            CONFIG_KEY_REGEX,
            &["key.name", "KEY_NAME", "key-name"],
        )
    });
    match text {
        "." => problems.push("must not be '.'".to_owned()),
        ".." => problems.push("must not be '..'".to_owned()),
        _ if text.starts_with("..") => problems.push("must not start with '..'".to_owned()),
        _ => {}
    }
    problems
}

/// The name of an environment variable: any printable ASCII but `=`.
#[must_use]
pub fn env_name(text: &str) -> Vec<String> {
    if ENV_NAME.is_match(text) {
        return Vec::new();
    }
    vec!["a valid environment variable name must consist only of printable ASCII characters other than '='".to_owned()]
}

/// The name of an HTTP header.
#[must_use]
pub fn header_name(text: &str) -> Vec<String> {
    let words = "a valid HTTP header must consist of alphanumeric characters or '-'";
    let valid = HEADER.is_match(text);
    (!valid)
        .then(|| pattern(words, HEADER_REGEX, &["X-Header-Name"]))
        .into_iter()
        .collect()
}

/// A name that may stand as one segment of a path; all that RBAC asks of the names of its objects.
#[must_use]
pub fn path_segment(text: &str) -> Vec<String> {
    if matches!(text, "." | "..") {
        return vec![format!("may not be '{text}'")];
    }
    ["/", "%"]
        .into_iter()
        .filter(|part| text.contains(part))
        .map(|part| format!("may not contain '{part}'"))
        .collect()
}

/// A DNS name whose first label is `*`.
#[must_use]
pub fn wildcard_subdomain(text: &str) -> Vec<String> {
    let fits = text
        .strip_prefix("*.")
        .is_some_and(|rest| text.len() <= SUBDOMAIN_LENGTH && dns_subdomain(rest).is_empty());
    if fits {
        return Vec::new();
    }
    let label = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
    vec![format!(
        "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.{label}(\\.{label})*')"
    )]
}

/// Checks a domain name of at least two labels; a dot may end it.
#[must_use]
pub fn full_domain(field: &str, text: &str) -> FieldErrors {
    if text.is_empty() {
        return vec![FieldError::required(field, "")];
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let problems = dns_subdomain(name);
    if !problems.is_empty() {
        return vec![FieldError::invalid(field, name, problems.join(","))];
    }
    if !name.contains('.') {
        let detail = "should be a domain with at least two segments separated by dots";
        return vec![FieldError::invalid(field, name, detail)];
    }
    let too_long = name
        .split('.')
        .flat_map(|label| FieldError::each(field, label, dns_label(label)));
    too_long.collect()
}

/// Checks `DOMAIN/PATH`: who is in charge of something, as one of many.
#[must_use]
pub fn domain_prefixed_path(field: &str, text: &str) -> FieldErrors {
    let Some((domain, path)) = text.split_once('/') else {
        return match text {
            "" => vec![FieldError::required(field, "")],
            _ => vec![FieldError::invalid(
                field,
                text,
                "must be a domain-prefixed path (such as \"acme.io/foo\")",
            )],
        };
    };
    if domain.is_empty() || path.is_empty() {
        let detail = "must be a domain-prefixed path (such as \"acme.io/foo\")";
        return vec![FieldError::invalid(field, text, detail)];
    }
    let mut errors = FieldError::each(field, domain, dns_subdomain(domain));
    if !PATH.is_match(path) {
        let detail = pattern("Invalid path", PATH_REGEX, &[]);
        errors.push(FieldError::invalid(field, path, detail));
    }
    errors
}

/// A number of a port.
#[must_use]
pub fn port_number(port: i32) -> Vec<String> {
    if (1..=65535).contains(&port) {
        Vec::new()
    } else {
        vec!["must be between 1 and 65535, inclusive".to_owned()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_labels_and_subdomains() {
        assert!(dns_label("my-name").is_empty() && dns_label("1").is_empty());
        for bad in ["", "My", "-a", "a-", "a.b", "a_b"] {
            assert_eq!(dns_label(bad).len(), 1, "{bad}");
        }
        assert_eq!(dns_label(&"a".repeat(64)), ["must be no more than 63 bytes"]);
        assert!(dns_subdomain("a.b-c.d").is_empty());
        assert_eq!(dns_subdomain("a..b").len(), 1);
        assert_eq!(dns1035_label("1a").len(), 1);
    }

    #[test]
    fn label_keys_and_values() {
        for good in ["app", "app.kubernetes.io/name", "A_b-c.d", "x/y"] {
            assert!(qualified_name(good).is_empty(), "{good}");
        }
        for bad in ["", "a/b/c", "/a", "a/", "-a", "UP/x"] {
            assert!(!qualified_name(bad).is_empty(), "{bad}");
        }
        assert!(label_value("").is_empty() && label_value("a_b.C").is_empty());
        assert_eq!(label_value("a b").len(), 1);
    }

    #[test]
    fn port_names_and_config_keys() {
        assert!(port_name("http-8080").is_empty());
        assert_eq!(port_name("8080"), ["must contain at least one letter (a-z)"]);
        assert_eq!(port_name("a--b"), ["must not contain consecutive hyphens"]);
        assert!(config_key("nginx.conf").is_empty());
        assert_eq!(config_key(".."), ["must not be '..'"]);
        assert!(!config_key("a/b").is_empty());
        assert!(env_name("MY_VAR").is_empty() && !env_name("a=b").is_empty());
    }
}
