//! `/openapi/v2`: the v3 documents laid together in the older form, for clients that know no other; [`super::gnostic`] has
//! its protobuf. Pure.

use serde_json::{Map, Value, json};

const METHODS: [&str; 7] = ["get", "put", "post", "delete", "options", "head", "patch"];

/// One Swagger 2.0 document with every path and definition of the OpenAPI v3 `documents`.
pub fn document(documents: impl Iterator<Item = Value>) -> Value {
    let (mut paths, mut definitions) = (Map::new(), Map::new());
    for mut document in documents {
        for (path, item) in entries(document["paths"].take()) {
            paths.insert(path, path_item(item));
        }
        for (name, schema) in entries(document["components"]["schemas"].take()) {
            let kinds = schema["x-kubernetes-group-version-kind"].clone();
            match definitions.get_mut(&name) {
                // What every group has is of all of their kinds.
                Some(known) => add_kinds(known, kinds),
                None => drop(definitions.insert(name, definition(schema))),
            }
        }
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "v1.36.0"},
        "paths": paths,
        "definitions": definitions,
    })
}

fn entries(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => Map::new(),
    }
}

fn add_kinds(known: &mut Value, kinds: Value) {
    let (Some(known), Value::Array(kinds)) = (known["x-kubernetes-group-version-kind"].as_array_mut(), kinds) else {
        return;
    };
    let missing: Vec<Value> = kinds.into_iter().filter(|kind| !known.contains(kind)).collect();
    known.extend(missing);
}

/// A schema: references stand bare and point to `definitions`, and a choice of types is a string with a format.
fn definition(schema: Value) -> Value {
    let mut fields = match schema {
        Value::Object(fields) => fields,
        Value::Array(items) => return items.into_iter().map(definition).collect(),
        other => return other,
    };
    if let Some(Value::Array(whole)) = fields.remove("allOf") {
        fields.extend(whole.into_iter().flat_map(entries));
        fields.remove("default");
    }
    if fields.remove("oneOf").is_some() {
        fields.insert("type".to_owned(), "string".into());
    }
    fields
        .into_iter()
        .map(|(key, value)| match (key.as_str(), &value) {
            ("$ref", Value::String(reference)) => {
                let name = reference.rsplit('/').next().unwrap_or_default();
                (key, format!("#/definitions/{name}").into())
            }
            // Values, not schemas.
            ("default" | "enum", _) => (key, value),
            // Names, whatever they are: LimitRangeItem has a field `default`.
            ("properties", _) => {
                let fields = entries(value).into_iter();
                (key, fields.map(|(name, schema)| (name, definition(schema))).collect())
            }
            _ => (key, definition(value)),
        })
        .collect()
}

fn path_item(item: Value) -> Value {
    entries(item)
        .into_iter()
        .map(|(key, value)| match (METHODS.contains(&key.as_str()), value) {
            (true, value) => (key, operation(value)),
            (false, Value::Array(parameters)) => (key, parameters.into_iter().map(parameter).collect()),
            (false, other) => (key, other),
        })
        .collect()
}

fn operation(operation: Value) -> Value {
    let mut fields = entries(operation);
    let mut parameters: Vec<Value> = match fields.remove("parameters") {
        Some(Value::Array(parameters)) => parameters.into_iter().map(parameter).collect(),
        _ => Vec::new(),
    };
    if let Some(mut body) = fields.remove("requestBody") {
        let content = entries(body["content"].take());
        fields.insert("consumes".to_owned(), content.keys().cloned().collect());
        let schema = content.into_iter().next().map(|(_, mut media)| media["schema"].take());
        parameters.push(json!({
            "name": "body", "in": "body", "required": true, "schema": definition(schema.unwrap_or_default()),
        }));
    }
    if !parameters.is_empty() {
        fields.insert("parameters".to_owned(), parameters.into());
    }
    let mut produces = Vec::new();
    let responses: Map<String, Value> = entries(fields.remove("responses").unwrap_or_default())
        .into_iter()
        .map(|(code, mut response)| {
            let content = entries(response["content"].take());
            let mut fields = entries(response);
            fields.remove("content");
            if let Some((_, media)) = content.iter().next() {
                fields.insert("schema".to_owned(), definition(media["schema"].clone()));
                produces = content.keys().cloned().collect();
            }
            (code, fields.into())
        })
        .collect();
    fields.insert("responses".to_owned(), responses.into());
    fields.insert("produces".to_owned(), produces.into());
    fields.insert("schemes".to_owned(), json!(["https"]));
    fields.into()
}

/// A parameter's type stands beside its name.
fn parameter(parameter: Value) -> Value {
    let mut fields = entries(parameter);
    let schema = fields.remove("schema").unwrap_or_default();
    fields.extend(entries(schema));
    fields.into()
}
