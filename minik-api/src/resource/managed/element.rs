//! One step of a path into an object, as FieldsV1 spells it.

use std::fmt;

use serde_json::{Map, Value};

use super::EntryError;

/// A step from an object, map or list into one of its parts. Held in its FieldsV1 form, keys sorted and
/// without blanks, so that equal steps are equal texts: `f:spec`, `k:{"name":"web"}`, `v:"a"`, `i:0`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Element(Box<str>);

impl Element {
    /// The field or map key called `name`.
    #[must_use]
    pub fn field(name: &str) -> Self {
        Self(format!("f:{name}").into_boxed_str())
    }

    /// The list element with these values in its key fields.
    #[must_use]
    pub fn key(fields: Map<String, Value>) -> Self {
        Self(format!("k:{}", Value::Object(fields)).into_boxed_str())
    }

    /// The element of a set that is this scalar.
    #[must_use]
    pub fn value(scalar: &Value) -> Self {
        Self(format!("v:{scalar}").into_boxed_str())
    }

    /// Reads the FieldsV1 form.
    ///
    /// # Errors
    /// `text` has none of the four prefixes, or what follows it is not what the prefix announces.
    pub fn parse(text: &str) -> Result<Self, EntryError> {
        let malformed = || EntryError::Element(text.to_owned());
        let (prefix, rest) = text.split_at_checked(2).ok_or_else(malformed)?;
        match prefix {
            "f:" => Ok(Self(text.into())),
            "k:" => match serde_json::from_str(rest) {
                Ok(Value::Object(fields)) if !fields.is_empty() => Ok(Self::key(fields)),
                _ => Err(malformed()),
            },
            "v:" => match serde_json::from_str::<Value>(rest) {
                Ok(scalar) => Ok(Self::value(&scalar)),
                Err(_unparsable) => Err(malformed()),
            },
            "i:" if rest.parse::<i64>().is_ok() => Ok(Self(text.into())),
            _ => Err(malformed()),
        }
    }

    /// The FieldsV1 form.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The field's name, if this is a field or a map key.
    #[must_use]
    pub fn field_name(&self) -> Option<&str> {
        self.0.strip_prefix("f:")
    }

    /// Whether this names a list element by its key fields.
    #[must_use]
    pub fn is_key(&self) -> bool {
        self.0.starts_with("k:")
    }
}

/// As conflicts print it: `.spec`, `[name="web"]`, `[="a"]`, `[0]`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (prefix, rest) = self.0.split_at(2);
        match prefix {
            "f:" => write!(f, ".{rest}"),
            "k:" => {
                let fields: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
                let pairs: Vec<String> = fields.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "[{}]", pairs.join(","))
            }
            "v:" => write!(f, "[={rest}]"),
            _ => write!(f, "[{rest}]"),
        }
    }
}
