//! The definitions as an OpenAPI v3 document carries them, descriptions and all.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;

/// How a definition refers to another. In a text the quotes would be escaped.
const REFERENCE: &str = r##""$ref":"#/components/schemas/"##;

/// Every definition, by name, as it is written.
#[derive(Deserialize)]
pub struct Definitions {
    #[serde(rename = "definitions")]
    by_name: BTreeMap<String, Box<RawValue>>,
}

/// The `components.schemas` of a document, by name.
pub type Components<'d> = BTreeMap<&'d str, Cow<'d, RawValue>>;

impl Definitions {
    /// Reads the checked-in definitions.
    ///
    /// # Panics
    /// If they are damaged; a test reads them all.
    #[must_use]
    pub fn read() -> Self {
        serde_json::from_slice(&super::document()).expect("the checked-in definitions are well-formed")
    }

    /// The definitions named in `roots` and all that they refer to. Unknown roots are left out.
    pub fn components<'d>(&'d self, roots: &[&str]) -> Components<'d> {
        let mut found = Components::new();
        let mut todo = Vec::new();
        let add = |name: &str, found: &mut Components<'d>, todo: &mut Vec<&'d str>| {
            if let Some((name, definition)) = self.by_name.get_key_value(name)
                && !found.contains_key(name.as_str())
            {
                found.insert(name, Cow::Borrowed(definition));
                todo.push(definition.get());
            }
        };
        for root in roots {
            add(root, &mut found, &mut todo);
        }
        while let Some(definition) = todo.pop() {
            for reference in definition.split(REFERENCE).skip(1) {
                let name = reference.split_once('"').map_or(reference, |(name, _)| name);
                add(name, &mut found, &mut todo);
            }
        }
        found
    }

    /// One definition, to be changed.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Value> {
        serde_json::from_str(self.by_name.get(name)?.get()).ok()
    }
}
