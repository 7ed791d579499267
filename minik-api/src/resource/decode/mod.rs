//! Request bodies (JSON, YAML) to JSON objects that fit their kind's schema, with the API server's
//! error texts for syntax errors, wrong types, and unknown or duplicate fields.
//!
//! The way of a body: [`tree`] parses it and keeps duplicates and order; this module finds out which
//! kind it claims to be; [`fit`] lays it over the schema, and what comes out is what Go's decoder would
//! have kept: no nulls, no unknown fields, no zero values that Go leaves out (`false`, `0`, `""`, an empty list or map
//! of a field with `omitempty` and no pointer), and every struct by value present. Defaults and validation come later,
//! in the kind's strategy.

mod fit;
mod go;
mod settle;
mod syntax;
mod tree;

use serde_json::Value;

use self::fit::Words;
pub use self::settle::settle;
use self::tree::Tree;
use super::{KindInfo, schema};

/// How a body is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// `application/json`.
    Json,
    /// `application/yaml`.
    Yaml,
}

/// The `fieldValidation` query parameter: what to do about unknown and duplicate fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldValidation {
    /// Refuse the request.
    Strict,
    /// Accept it with one warning for each field.
    Warn,
    /// Accept it silently.
    Ignore,
}

/// An object as its body meant it.
#[derive(Debug, Clone, PartialEq)]
pub struct Decoded {
    /// The object; `apiVersion` and `kind` are always set.
    pub object: Value,
    /// One text for each unknown or duplicate field under [`FieldValidation::Warn`].
    pub warnings: Vec<String>,
}

/// Why a body was refused. Always a `BadRequest`; the text is the API server's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// No version and kind could be read from the body.
    #[error("the object provided is unrecognized (must be of type {expected}): {problem} ({excerpt})")]
    Unrecognized {
        /// The kind that the path serves.
        expected: String,
        /// The parser's words.
        problem: String,
        /// The first bytes of the body: text when it starts like a JSON object, otherwise hexadecimal.
        excerpt: String,
    },
    /// The body's kind is known, but its content is not that of the expected kind.
    #[error("{kind} in version {version:?} cannot be handled as a {expected}: {problem}")]
    Unhandled {
        /// Kind in the body.
        kind: String,
        /// Version in the body, without its group.
        version: String,
        /// The kind that the path serves.
        expected: String,
        /// The decoder's words.
        problem: String,
    },
    /// Right kind, other version than the path's.
    #[error("the API version in the data ({actual}) does not match the expected API version ({expected})")]
    VersionMismatch {
        /// `apiVersion` of the body.
        actual: String,
        /// `apiVersion` of the path.
        expected: String,
    },
    /// A patch's outcome does not fit the schema; there is no body to quote.
    #[error("{0}")]
    Misfit(String),
}

/// The object in `body`, which must be of the kind that `info` describes.
///
/// # Errors
/// Every way in which the body is no such object, with the words of a 1.36 API server.
pub fn decode(
    body: &[u8],
    format: Format,
    info: &KindInfo,
    validation: FieldValidation,
) -> Result<Decoded, DecodeError> {
    let unrecognized = |problem: String| DecodeError::Unrecognized {
        expected: info.kind.to_owned(),
        problem,
        excerpt: excerpt(body),
    };
    let parsed = tree::parse(body, format).map_err(unrecognized)?;
    let claimed = TypeMeta::of(&parsed.tree)
        .map_err(|problem| unrecognized(format!("couldn't get version/kind; json parse error: {problem}")))?
        .or(info);
    let unhandled = |problem: String| DecodeError::Unhandled {
        kind: claimed.kind.clone(),
        version: claimed.version.clone(),
        expected: info.kind.to_owned(),
        problem,
    };
    claimed.check_kind(info).map_err(unhandled)?;
    let fitted = fit::fit(&parsed.tree, info.schema, Words::Decoder).map_err(unhandled)?;
    if claimed.api_version() != info.api_version() {
        return Err(DecodeError::VersionMismatch {
            actual: claimed.api_version(),
            expected: info.api_version(),
        });
    }
    let mut strict: Vec<String> = parsed.duplicate_key.into_iter().collect();
    strict.extend(fitted.strict);
    if validation == FieldValidation::Strict && !strict.is_empty() {
        return Err(unhandled(format!("strict decoding error: {}", strict.join(", "))));
    }
    let mut object = fitted.value;
    info.stamp(&mut object);
    let warnings = if validation == FieldValidation::Warn {
        strict.iter().map(|problem| warning(problem)).collect()
    } else {
        Vec::new()
    };
    Ok(Decoded { object, warnings })
}

/// What a client is warned of where a strict reader would have refused: the problem without what YAML readers say
/// before it.
#[must_use]
pub fn warning(problem: &str) -> String {
    let (_, text) = problem
        .rsplit_once("yaml: unmarshal errors:\n")
        .unwrap_or(("", problem));
    text.trim().to_owned()
}

/// Any JSON; the error is Go's.
///
/// # Errors
/// The text is none.
pub fn json(text: &[u8]) -> Result<Value, String> {
    serde_json::from_slice(text).map_err(|error| syntax::first_error(text).unwrap_or_else(|| error.to_string()))
}

/// What a strict reader says about fields that stand twice in a patch; nothing where it is no JSON, which others say.
#[must_use]
pub fn duplicate_fields(patch: &[u8]) -> Vec<String> {
    serde_json::from_slice(patch).map_or_else(|_no_json| Vec::new(), |tree: Tree| tree.duplicates())
}

/// A value as Go's `%v` prints it: `map[spec:map[replicas:3]]`.
#[must_use]
pub fn go_value(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(go_value).collect::<Vec<_>>().join(" ")),
        Value::Object(fields) => {
            let pairs = fields.iter().map(|(name, value)| format!("{name}:{}", go_value(value)));
            format!("map[{}]", pairs.collect::<Vec<_>>().join(" "))
        }
        scalar => scalar.to_string(),
    }
}

/// A configuration to apply: JSON or YAML, of no type yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Configuration {
    /// What it says.
    pub object: Value,
    /// What a strict reader says about the first key that stands twice.
    pub duplicate_key: Option<String>,
}

/// The configuration in `body`.
///
/// # Errors
/// It is no YAML, or no object.
pub fn configuration(body: &[u8]) -> Result<Configuration, String> {
    let converting = |problem: String| format!("error converting YAML to JSON: {problem}");
    let parsed = tree::parse(body, Format::Yaml).map_err(converting)?;
    match parsed.tree {
        Tree::Object(_) | Tree::Null => Ok(Configuration {
            object: parsed.tree.to_value(),
            duplicate_key: parsed.duplicate_key.map(converting),
        }),
        other => Err(format!(
            "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go value of type map[string]interface {{}}",
            other.go_kind()
        )),
    }
}

/// `value` laid over the schema, for objects that a patch has made: the object without unknown fields,
/// and a text for each of those.
///
/// # Errors
/// The first field of a wrong type.
pub fn check(value: &Value, info: &KindInfo) -> Result<(Value, Vec<String>), DecodeError> {
    check_in(Words::Decoder, value, info)
}

/// [`check`] for what came of a strategic merge patch, with the words that Kubernetes has for that.
///
/// # Errors
/// The first field of a wrong type.
pub fn check_merged(value: &Value, info: &KindInfo) -> Result<(Value, Vec<String>), DecodeError> {
    check_in(Words::Converter, value, info)
}

fn check_in(words: Words, value: &Value, info: &KindInfo) -> Result<(Value, Vec<String>), DecodeError> {
    let fitted = fit::fit(&Tree::from(value), info.schema, words).map_err(DecodeError::Misfit)?;
    let mut object = fitted.value;
    info.stamp(&mut object);
    Ok((object, fitted.strict))
}

/// The `apiVersion` and `kind` that a body claims.
struct TypeMeta {
    group: String,
    version: String,
    kind: String,
}

impl TypeMeta {
    fn of(tree: &Tree) -> Result<Self, String> {
        const SHAPE: &str =
            r#"struct { APIVersion string "json:\"apiVersion,omitempty\""; Kind string "json:\"kind,omitempty\"" }"#;
        let fields = match tree {
            Tree::Object(fields) => fields.as_slice(),
            Tree::Null => &[],
            other => {
                return Err(format!(
                    "json: cannot unmarshal {} into Go value of type {SHAPE}",
                    other.go_kind()
                ));
            }
        };
        let text = |name: &str| match fields.iter().rev().find(|(key, _)| key == name) {
            None | Some((_, Tree::Null)) => Ok(String::new()),
            Some((_, Tree::String(text))) => Ok(text.clone()),
            Some((_, other)) => Err(format!(
                "json: cannot unmarshal {} into Go struct field .{name} of type string",
                other.go_kind()
            )),
        };
        let api_version = text("apiVersion")?;
        let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
        Ok(Self {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: text("kind")?,
        })
    }

    /// Missing parts are taken from the path, as 1.36 does.
    fn or(mut self, info: &KindInfo) -> Self {
        if self.version.is_empty() && self.group.is_empty() {
            info.group.clone_into(&mut self.group);
            info.version.clone_into(&mut self.version);
        }
        if self.kind.is_empty() {
            info.kind.clone_into(&mut self.kind);
        }
        self
    }

    fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.clone()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }

    fn check_kind(&self, info: &KindInfo) -> Result<(), String> {
        if !schema::standard().is_registered(&self.group, &self.version, &self.kind) {
            return Err(format!(
                "no kind {:?} is registered for version {:?} in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
                self.kind,
                self.api_version()
            ));
        }
        if self.kind == info.kind && self.group == info.group {
            return Ok(());
        }
        Err(format!(
            "converting ({}.{}) to ({}.{}): unknown conversion",
            self.version,
            self.kind,
            go::internal_package(info.group),
            info.kind
        ))
    }
}

const EXCERPT: usize = 30;

/// The first bytes of a body, as errors quote it.
pub(super) fn excerpt(body: &[u8]) -> String {
    let head = &body[..body.len().min(EXCERPT)];
    let text = match body.first() {
        None => return "<empty>".to_owned(),
        Some(b'{') => String::from_utf8_lossy(head).into_owned(),
        Some(_) => data_encoding::HEXLOWER.encode(head),
    };
    if body.len() > EXCERPT {
        format!("{text} ...")
    } else {
        text
    }
}
