//! A parsed body that still has its duplicate keys and its order, from JSON or YAML.

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Number, Value};

use super::{Format, syntax};

/// Go's decoder collects at most this many strict errors.
pub(super) const MOST_STRICT_ERRORS: usize = 100;

/// Any JSON value; an object keeps every key in the order of the body.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tree {
    Null,
    Bool(bool),
    Number(Number),
    String(String),
    List(Vec<Tree>),
    Object(Vec<(String, Tree)>),
}

impl Tree {
    /// The word for this value in Go's `json: cannot unmarshal …`.
    pub(super) fn go_kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "bool",
            Self::Number(_) => "number",
            Self::String(_) => "string",
            Self::List(_) => "array",
            Self::Object(_) => "object",
        }
    }

    /// The plain value; the last of several equal keys wins.
    pub(super) fn to_value(&self) -> Value {
        match self {
            Self::Null => Value::Null,
            Self::Bool(b) => Value::Bool(*b),
            Self::Number(n) => Value::Number(n.clone()),
            Self::String(s) => Value::String(s.clone()),
            Self::List(items) => items.iter().map(Self::to_value).collect(),
            Self::Object(fields) => fields.iter().map(|(k, v)| (k.clone(), v.to_value())).collect(),
        }
    }

    /// The fields that stand twice in one object, as a strict reader names them: `duplicate field "spec.replicas"`.
    pub(super) fn duplicates(&self) -> Vec<String> {
        let mut found = Vec::new();
        self.look_for_duplicates("", &mut found);
        found
    }

    fn look_for_duplicates(&self, path: &str, found: &mut Vec<String>) {
        match self {
            Self::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    item.look_for_duplicates(&format!("{path}[{index}]"), found);
                }
            }
            Self::Object(fields) => {
                let mut seen = BTreeSet::new();
                for (name, value) in fields {
                    let separator = if path.is_empty() { "" } else { "." };
                    let path = format!("{path}{separator}{name}");
                    if !seen.insert(name) {
                        let text = format!("duplicate field {path:?}");
                        if found.len() < MOST_STRICT_ERRORS && !found.contains(&text) {
                            found.push(text);
                        }
                    }
                    value.look_for_duplicates(&path, found);
                }
            }
            Self::Null | Self::Bool(_) | Self::Number(_) | Self::String(_) => {}
        }
    }

    /// Objects in key order: what a YAML body becomes on its way through Go's maps.
    fn sort(&mut self) {
        match self {
            Self::List(items) => items.iter_mut().for_each(Self::sort),
            Self::Object(fields) => {
                fields.sort_by(|a, b| a.0.cmp(&b.0));
                fields.iter_mut().for_each(|(_, value)| value.sort());
            }
            _ => {}
        }
    }
}

impl From<&Value> for Tree {
    fn from(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(b) => Self::Bool(*b),
            Value::Number(n) => Self::Number(n.clone()),
            Value::String(s) => Self::String(s.clone()),
            Value::Array(items) => Self::List(items.iter().map(Self::from).collect()),
            Value::Object(fields) => Self::Object(fields.iter().map(|(k, v)| (k.clone(), Self::from(v))).collect()),
        }
    }
}

/// A body's tree, and for YAML what a strict reader says about the first duplicate key: it stops
/// there, whereas the JSON decoder names them all.
#[derive(Debug)]
pub(super) struct Parsed {
    pub(super) tree: Tree,
    pub(super) duplicate_key: Option<String>,
}

/// Parses a body; the error is the server's text for a body without syntax.
pub(super) fn parse(body: &[u8], format: Format) -> Result<Parsed, String> {
    match format {
        Format::Json => parse_json(body).map(|tree| Parsed {
            tree,
            duplicate_key: None,
        }),
        Format::Yaml => parse_yaml(body),
    }
}

fn parse_json(body: &[u8]) -> Result<Tree, String> {
    serde_json::from_slice(body).map_err(|error| {
        let words = syntax::first_error(body).unwrap_or_else(|| error.to_string());
        format!("couldn't get version/kind; json parse error: {words}")
    })
}

fn parse_yaml(body: &[u8]) -> Result<Parsed, String> {
    use serde_saphyr::{DuplicateKeyPolicy, Options};
    let read = |duplicate_keys| {
        let mut options = Options::default();
        options.duplicate_keys = duplicate_keys;
        options.legacy_octal_numbers = true;
        options.with_snippet = false;
        serde_saphyr::from_slice_with_options::<Tree>(body, options)
    };
    let words = |error: &serde_saphyr::Error| {
        let line = error.location().map_or(1, |location| location.line());
        format!("yaml: line {line}: {error}")
    };
    match read(DuplicateKeyPolicy::Error) {
        Ok(mut tree) => {
            tree.sort();
            Ok(Parsed {
                tree,
                duplicate_key: None,
            })
        }
        Err(strict) => {
            let mut tree = read(DuplicateKeyPolicy::LastWins).map_err(|error| words(&error))?;
            tree.sort();
            let line = strict.location().map_or(1, |location| location.line());
            let key = duplicate_name(&strict);
            let duplicate = format!("yaml: unmarshal errors:\n  line {line}: key {key:?} already set in map");
            Ok(Parsed {
                tree,
                duplicate_key: Some(duplicate),
            })
        }
    }
}

fn duplicate_name(error: &serde_saphyr::Error) -> String {
    match error.without_snippet() {
        serde_saphyr::Error::DuplicateMappingKey { key: Some(key), .. } => key.clone(),
        _ => String::new(),
    }
}

impl<'de> Deserialize<'de> for Tree {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(TreeVisitor)
    }
}

struct TreeVisitor;

impl<'de> Visitor<'de> for TreeVisitor {
    type Value = Tree;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }
    fn visit_unit<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }
    fn visit_none<E>(self) -> Result<Tree, E> {
        Ok(Tree::Null)
    }
    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Tree, D::Error> {
        Tree::deserialize(deserializer)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Tree, E> {
        Ok(Tree::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Tree, E> {
        Ok(Tree::Number(value.into()))
    }
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Tree, E> {
        Number::from_f64(value)
            .map(Tree::Number)
            .ok_or_else(|| E::custom("a number that is not finite"))
    }
    fn visit_str<E>(self, value: &str) -> Result<Tree, E> {
        Ok(Tree::String(value.to_owned()))
    }
    fn visit_string<E>(self, value: String) -> Result<Tree, E> {
        Ok(Tree::String(value))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Tree::List(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Tree, A::Error> {
        let mut fields = Vec::new();
        while let Some(key) = access.next_key::<Tree>()? {
            let key = match key {
                Tree::String(key) => key,
                Tree::Number(number) => number.to_string(),
                Tree::Bool(value) => value.to_string(),
                other => return Err(A::Error::custom(format!("a key cannot be of type {}", other.go_kind()))),
            };
            fields.push((key, access.next_value()?));
        }
        Ok(Tree::Object(fields))
    }
}
