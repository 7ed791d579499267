//! Label and field selectors: parse a query string, match an object.

use std::collections::BTreeMap;

/// Why a selector was refused.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SelectorError(String);

/// A label selector.
#[derive(Debug, Clone, Default)]
pub struct LabelSelector(Vec<(String, String)>);

impl LabelSelector {
    /// Parses.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        pairs(text).map(Self)
    }
    /// Matches.
    #[must_use]
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.0.iter().all(|(k, v)| labels.get(k) == Some(v))
    }
}

/// One requirement of a field selector.
#[derive(Debug, Clone)]
pub struct FieldRequirement {
    /// Which field.
    pub field: String,
    /// Equal or not.
    pub equal: bool,
    /// Its value.
    pub value: String,
}

/// A field selector.
#[derive(Debug, Clone, Default)]
pub struct FieldSelector(Vec<FieldRequirement>);

impl FieldSelector {
    /// Parses.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let requirement = |(field, value)| FieldRequirement { field, equal: true, value };
        pairs(text).map(|all| Self(all.into_iter().map(requirement).collect()))
    }
    /// The requirements.
    #[must_use]
    pub fn requirements(&self) -> &[FieldRequirement] {
        &self.0
    }
    /// Matches.
    pub fn matches(&self, field: impl Fn(&str) -> Option<String>) -> bool {
        self.0.iter().all(|r| field(&r.field).as_ref() == Some(&r.value))
    }
}

fn pairs(text: &str) -> Result<Vec<(String, String)>, SelectorError> {
    text.split(',')
        .filter(|part| !part.is_empty())
        .map(|part| {
            let (k, v) = part.split_once('=').ok_or_else(|| SelectorError(format!("bad {part}")))?;
            Ok((k.to_owned(), v.trim_start_matches('=').to_owned()))
        })
        .collect()
}
