//! Selectors of a list or watch: parsed from the query, checked against the kind, applied to stored
//! entries. Labels and fields of an entry are read out of its document once and kept beside it.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::error::ApiError;
use crate::resource::Registered;
use crate::resource::selector::{FieldSelector, LabelSelector};
use crate::storage::{Attributes, Entry};

use super::document;
use super::request::Options;

/// Which entries a client wants.
pub struct Selection {
    labels: LabelSelector,
    fields: FieldSelector,
    everything: bool,
}

impl Selection {
    /// Reads `labelSelector` and `fieldSelector`.
    ///
    /// # Errors
    /// One does not parse, or a field is not selectable for this kind.
    pub fn parse(kind: &Registered, options: &Options) -> Result<Self, ApiError> {
        let labels = options.get("labelSelector");
        let fields = options.get("fieldSelector");
        let bad = |error: &dyn std::fmt::Display| ApiError::BadRequest(error.to_string());
        let selection = Self {
            everything: labels.is_none() && fields.is_none(),
            labels: LabelSelector::parse(labels.unwrap_or_default()).map_err(|e| bad(&e))?,
            fields: FieldSelector::parse(fields.unwrap_or_default()).map_err(|e| bad(&e))?,
        };
        for requirement in selection.fields.requirements() {
            let label = requirement.field.as_str();
            let general = matches!(label, "metadata.name" | "metadata.namespace");
            if !general && !kind.strategy.selectable_fields().contains(&label) {
                return Err(ApiError::BadRequest(format!("field label not supported: {label}")));
            }
        }
        Ok(selection)
    }

    /// Whether nothing is filtered out.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.everything
    }

    /// Whether `entry` is wanted. A damaged document matches nothing.
    pub fn matches(&self, kind: &Registered, entry: &Entry) -> bool {
        if self.everything {
            return true;
        }
        // What an entry remembers are the fields of its own kind, not of one that shows it under other names.
        let viewed = kind.info.view.map(|_| attributes(kind, entry));
        let attributes = viewed
            .as_ref()
            .unwrap_or_else(|| entry.attributes(|| attributes(kind, entry)));
        self.labels.matches(&attributes.labels)
            && self
                .fields
                .matches(|label: &str| Some(attributes.fields.get(label).cloned().unwrap_or_default()))
    }
}

/// The one name that `options` limit a list or watch to.
#[must_use]
pub fn selected_name(options: &Options) -> Option<String> {
    // A selector that does not parse selects no name; the list or watch itself refuses it.
    let fields = FieldSelector::parse(options.get("fieldSelector")?).ok()?;
    let name = fields
        .requirements()
        .iter()
        .find(|r| r.field == "metadata.name" && r.equal);
    name.map(|requirement| requirement.value.clone())
}

#[derive(Deserialize)]
struct Labelled {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

fn attributes(kind: &Registered, entry: &Entry) -> Attributes {
    let Ok(Labelled { metadata }) = serde_json::from_slice(&entry.value) else {
        tracing::error!(key = &*entry.key, "a stored document has no metadata");
        return Attributes::default();
    };
    let mut fields = BTreeMap::from([
        ("metadata.name", metadata.name),
        ("metadata.namespace", metadata.namespace),
    ]);
    let selectable = kind.strategy.selectable_fields();
    if !selectable.is_empty()
        && let Ok(object) = document::parse(&kind.info, &entry.value)
    {
        for label in selectable {
            match kind.strategy.selectable_field(&object, label) {
                Ok(value) => {
                    fields.insert(label, value.unwrap_or_default());
                }
                Err(error) => tracing::error!(key = &*entry.key, %error, "a stored document is damaged"),
            }
        }
    }
    Attributes {
        labels: metadata.labels,
        fields,
    }
}
