//! The definitions as an OpenAPI v3 document carries them, descriptions and all.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Deserialize)]
struct Document {
    definitions: BTreeMap<String, Value>,
}

/// The definitions named in `roots` and all that they refer to, as `components.schemas` of an OpenAPI v3
/// document holds them. Unknown roots are left out.
#[must_use]
pub fn openapi_components(roots: &[&str]) -> Value {
    let mut all: Document = serde_json::from_reader(std::io::BufReader::new(super::document()))
        .expect("the checked-in definitions are well-formed; a test reads them all");
    let mut schemas = Map::new();
    let mut todo: Vec<String> = roots.iter().map(ToString::to_string).collect();
    while let Some(name) = todo.pop() {
        if let Some(definition) = all.definitions.remove(&name) {
            collect_references(&definition, &mut todo);
            schemas.insert(name, definition);
        }
    }
    Value::Object(schemas)
}

fn collect_references(node: &Value, into: &mut Vec<String>) {
    match node {
        Value::Object(fields) => {
            for (key, value) in fields {
                match value.as_str() {
                    Some(reference) if key == "$ref" => into.extend(reference.rsplit('/').next().map(str::to_owned)),
                    _ => collect_references(value, into),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect_references(item, into)),
        _ => {}
    }
}
