//! `/openapi/v2` as protobuf, for clients that take nothing else (kubectl before 1.27): the messages of gnostic's
//! `OpenAPIv2.proto`, as far as [`super::v2::document`] has anything for them. Pure; every JSON document has a form.

use prost::encoding::{WireType, bool, encode_key, encode_varint};
use serde_json::{Map, Value};

/// `Operation`s of a `PathItem`, by field number.
const METHODS: [(&str, u32); 7] = [
    ("get", 2),
    ("put", 3),
    ("post", 4),
    ("delete", 5),
    ("options", 6),
    ("head", 7),
    ("patch", 8),
];

/// The `Document` of a Swagger 2.0 document.
#[must_use]
pub fn document(document: &Value) -> Vec<u8> {
    let mut out = Message::default();
    out.text(1, &document["swagger"]);
    let mut info = Message::default();
    info.text(1, &document["info"]["title"]);
    info.text(2, &document["info"]["version"]);
    out.message(2, &info);
    let mut paths = Message::default();
    for (path, item) in entries(&document["paths"]) {
        paths.named(2, path, &path_item(item));
    }
    out.message(8, &paths);
    out.message(9, &named_schemas(&document["definitions"]));
    out.0
}

fn path_item(item: &Value) -> Message {
    let mut out = Message::default();
    for (method, number) in METHODS {
        if let Some(value) = item.get(method) {
            out.message(number, &operation(value));
        }
    }
    out.parameters(9, &item["parameters"]);
    out
}

fn operation(value: &Value) -> Message {
    let mut out = Message::default();
    out.text(3, &value["description"]);
    out.texts(6, &value["produces"]);
    out.texts(7, &value["consumes"]);
    out.parameters(8, &value["parameters"]);
    let mut responses = Message::default();
    for (code, response) in entries(&value["responses"]) {
        let mut inner = Message::default();
        inner.text(1, &response["description"]);
        if let Some(schema) = response.get("schema") {
            inner.message(2, &wrapped(1, &self::schema(schema)));
        }
        responses.named(1, code, &wrapped(1, &inner));
    }
    out.message(9, &responses);
    out.texts(10, &value["schemes"]);
    out.extensions(13, value);
    out
}

/// A `ParametersItem`: the one of the body has a schema, the others a type.
fn parameter(value: &Value) -> Message {
    let mut out = Message::default();
    if value["in"] == "body" {
        out.text(2, &value["name"]);
        out.text(3, &value["in"]);
        out.flag(4, &value["required"]);
        out.message(5, &schema(&value["schema"]));
        return wrapped(1, &wrapped(1, &out));
    }
    out.flag(1, &value["required"]);
    out.text(2, &value["in"]);
    out.text(3, &value["description"]);
    out.text(4, &value["name"]);
    let (kind, unique, place) = match value["in"].as_str() {
        Some("path") => (5, 19, 4),
        _ => (6, 20, 3),
    };
    out.text(kind, &value["type"]);
    out.flag(unique, &value["uniqueItems"]);
    wrapped(1, &wrapped(2, &wrapped(place, &out)))
}

fn schema(value: &Value) -> Message {
    let mut out = Message::default();
    out.text(1, &value["$ref"]);
    out.text(2, &value["format"]);
    out.text(4, &value["description"]);
    if let Some(default) = value.get("default") {
        out.message(5, &any(default));
    }
    out.texts(19, &value["required"]);
    for choice in value["enum"].as_array().into_iter().flatten() {
        out.message(20, &any(choice));
    }
    if let Some(values) = value.get("additionalProperties") {
        out.message(21, &wrapped(1, &schema(values)));
    }
    if value["type"].is_string() {
        let mut kinds = Message::default();
        kinds.text(1, &value["type"]);
        out.message(22, &kinds);
    }
    if let Some(items) = value.get("items") {
        out.message(23, &wrapped(1, &schema(items)));
    }
    if value["properties"].is_object() {
        out.message(25, &named_schemas(&value["properties"]));
    }
    out.extensions(31, value);
    out
}

/// `Definitions` and `Properties` are alike.
fn named_schemas(value: &Value) -> Message {
    let mut out = Message::default();
    for (name, value) in entries(value) {
        out.named(1, name, &schema(value));
    }
    out
}

/// An `Any` holds YAML, which JSON is.
fn any(value: &Value) -> Message {
    let mut out = Message::default();
    out.bytes(2, value.to_string().as_bytes());
    out
}

/// A message whose only field is another: a case of a `oneof`.
fn wrapped(number: u32, inner: &Message) -> Message {
    let mut out = Message::default();
    out.message(number, inner);
    out
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

/// Fields of a message, written one after the other. What is absent is not written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn bytes(&mut self, number: u32, bytes: &[u8]) {
        encode_key(number, WireType::LengthDelimited, &mut self.0);
        encode_varint(bytes.len() as u64, &mut self.0);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, number: u32, message: &Self) {
        self.bytes(number, &message.0);
    }

    fn text(&mut self, number: u32, value: &Value) {
        if let Some(text) = value.as_str() {
            self.bytes(number, text.as_bytes());
        }
    }

    fn texts(&mut self, number: u32, values: &Value) {
        values
            .as_array()
            .into_iter()
            .flatten()
            .for_each(|value| self.text(number, value));
    }

    fn flag(&mut self, number: u32, value: &Value) {
        if *value == true {
            bool::encode(number, &true, &mut self.0);
        }
    }

    /// An entry of a map: its name and its value.
    fn named(&mut self, number: u32, name: &str, value: &Self) {
        let mut entry = Self::default();
        entry.bytes(1, name.as_bytes());
        entry.message(2, value);
        self.message(number, &entry);
    }

    fn parameters(&mut self, number: u32, values: &Value) {
        let values = values.as_array().into_iter().flatten();
        values.for_each(|value| self.message(number, &parameter(value)));
    }

    fn extensions(&mut self, number: u32, value: &Value) {
        for (name, value) in entries(value).filter(|(name, _)| name.starts_with("x-")) {
            self.named(number, name, &any(value));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_schema_is_written_field_by_field() {
        let value = json!({"type": "string", "x-a": 1, "required": ["b"]});
        // required = 19, type = 22 of TypeItem.value = 1, vendor_extension = 31 of NamedAny{1: name, 2: Any{2: yaml}}.
        let expected: &[u8] = b"\x9a\x01\x01b\xb2\x01\x08\x0a\x06string\xfa\x01\x0a\x0a\x03x-a\x12\x03\x12\x011";
        assert_eq!(schema(&value).0, expected);
    }

    #[test]
    fn a_parameter_stands_in_its_case() {
        let query = parameter(&json!({"name": "dryRun", "in": "query", "type": "string", "uniqueItems": true}));
        let inner = b"\x12\x05query\x22\x06dryRun\x32\x06string\xa0\x01\x01";
        let length = u8::try_from(inner.len()).expect("is short");
        // ParametersItem.parameter, Parameter.non_body_parameter, NonBodyParameter.query_parameter_sub_schema
        let head = [0x0a, length + 4, 0x12, length + 2, 0x1a, length];
        assert_eq!(query.0, [&head[..], &inner[..]].concat());
    }
}
