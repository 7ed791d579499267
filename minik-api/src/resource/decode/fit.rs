//! Lays a parsed body over a struct of the schema, as Go's decoder does field by field.

use serde_json::{Map, Number, Value, json};

use super::go;
use super::tree::{MOST_STRICT_ERRORS, Tree};
use crate::resource::schema::{self, Definition, Field, Presence, Schema, StructId, Type};
use crate::resource::validation::quantity::Quantity;
use crate::resource::validation::time;

/// What a body became.
pub(super) struct Fitted {
    /// The object as Go would have kept it.
    pub(super) value: Value,
    /// Unknown and duplicate fields in the order of the body, each named once.
    pub(super) strict: Vec<String>,
}

/// Whose words a field of a wrong type is refused in.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Words {
    /// Those of Go's JSON decoder, which reads bodies.
    Decoder,
    /// Those of apimachinery's converter, which turns the outcome of a strategic merge patch into an object.
    Converter,
}

/// Fits `tree` to the definition called `root`; the error is the first field of a wrong type.
pub(super) fn fit(tree: &Tree, root: &str, words: Words) -> Result<Fitted, String> {
    let schema = schema::standard();
    let mut fitter = Fitter {
        schema,
        words,
        json_path: Vec::new(),
        strict_path: Vec::new(),
        strict: Vec::new(),
    };
    let value = match schema.named(root) {
        Some(id) => fitter.structure(tree, id, None)?,
        None => tree.to_value(),
    };
    Ok(Fitted {
        value,
        strict: fitter.strict,
    })
}

/// The field being decoded, for Go's `Go struct field S.path of type T`.
#[derive(Clone, Copy)]
struct Place<'a> {
    definition: &'a Definition,
    field: &'a Field,
}

/// Kinds whose objects stand whole in others: a StatefulSet's claims.
const EMBEDDED: &[(&str, &str, &str)] = &[(
    "io.k8s.api.core.v1.PersistentVolumeClaim",
    "v1",
    "PersistentVolumeClaim",
)];

/// Says what an object inside another is, whatever the client calls it, as the conversion of `apps/v1` does.
fn stamp(definition: &str, object: &mut Map<String, Value>) {
    if let Some((_, api_version, kind)) = EMBEDDED.iter().find(|(name, ..)| *name == definition) {
        object.insert("apiVersion".to_owned(), Value::from(*api_version));
        object.insert("kind".to_owned(), Value::from(*kind));
    }
}

/// Go's zero time, which a required time that nobody gave has.
const ZERO_TIME: &str = "0001-01-01T00:00:00Z";
const ZERO_MICRO_TIME: &str = "0001-01-01T00:00:00.000000Z";

struct Fitter<'a> {
    schema: &'a Schema,
    words: Words,
    /// Field names from the root; map keys and indexes are left out, as Go does.
    json_path: Vec<&'a str>,
    /// Field names, map keys and indexes, for unknown and duplicate fields.
    strict_path: Vec<String>,
    strict: Vec<String>,
}

impl<'a> Fitter<'a> {
    fn structure(&mut self, tree: &Tree, id: StructId, place: Option<Place<'_>>) -> Result<Value, String> {
        let fields = match tree {
            Tree::Null => &[],
            Tree::Object(fields) => fields.as_slice(),
            other => return Err(self.mismatch(other, &Type::Struct(id), place)),
        };
        let definition: &'a Definition = self.schema.get(id);
        let mut out = Map::new();
        let mut seen = Vec::with_capacity(fields.len());
        for (key, value) in fields {
            let Some(field) = definition.field(key) else {
                self.report("unknown", key);
                continue;
            };
            if seen.contains(&key) {
                self.report("duplicate", key);
            }
            seen.push(key);
            self.json_path.push(&field.name);
            let separator = if self.strict_path.is_empty() { "" } else { "." };
            self.strict_path.push(format!("{separator}{key}"));
            let mut fitted = self.value(value, &field.ty, Place { definition, field })?;
            self.strict_path.pop();
            self.json_path.pop();
            if self.is_required_selector(field) && fitted == json!({}) {
                fitted = json!({"matchLabels": {}});
            }
            if is_kept(&fitted, field) {
                out.insert(key.clone(), fitted);
            } else {
                out.remove(key);
            }
        }
        self.add_structs_by_value(definition, &mut out)?;
        if place.is_some() {
            stamp(&definition.name, &mut out);
        }
        Ok(Value::Object(out))
    }

    fn add_structs_by_value(&mut self, definition: &'a Definition, out: &mut Map<String, Value>) -> Result<(), String> {
        for field in definition.fields() {
            if let Type::Struct(id) = field.ty
                && field.by_value
                && !out.contains_key(&*field.name)
            {
                let empty = self.structure(&Tree::Null, id, None)?;
                out.insert(field.name.to_string(), empty);
            }
            let zero = match field.ty {
                Type::Time => ZERO_TIME,
                // The one that an object itself has, `eventTime` of an Event, those of the older form lack.
                Type::MicroTime if !self.json_path.is_empty() => ZERO_MICRO_TIME,
                _ => continue,
            };
            if field.required && !out.contains_key(&*field.name) {
                out.insert(field.name.to_string(), Value::from(zero));
            }
        }
        Ok(())
    }

    /// Whether Go has a pointer to a label selector here, and validation tells none from an empty one, which the types
    /// that strategies are written for cannot. An empty one is always refused; until then it keeps its empty map.
    fn is_required_selector(&self, field: &Field) -> bool {
        let selector = |id| self.schema.get(id).go_name() == "LabelSelector";
        field.required && field.presence == Presence::Given && matches!(field.ty, Type::Struct(id) if selector(id))
    }

    fn value(&mut self, tree: &Tree, ty: &Type, place: Place<'_>) -> Result<Value, String> {
        match (tree, ty) {
            (Tree::Null, _) => Ok(Value::Null),
            (_, Type::Any) => Ok(tree.to_value()),
            (_, Type::Struct(id)) => self.structure(tree, *id, Some(place)),
            (Tree::List(items), Type::List(item)) => self.list(items, item, place),
            (Tree::Object(fields), Type::Map(value)) => self.map(fields, value, place),
            (Tree::String(text), Type::String) => Ok(Value::String(text.clone())),
            (Tree::Bool(value), Type::Bool) => Ok(Value::Bool(*value)),
            (Tree::Number(number), Type::Float64) => Ok(Value::Number(number.clone())),
            (Tree::Number(number), Type::Int64) if number.as_i64().is_some() => Ok(Value::Number(number.clone())),
            (Tree::Number(number), Type::Int32) if is_int32(number) => Ok(Value::Number(number.clone())),
            (Tree::Number(number), Type::Int32 | Type::Int64) => {
                Err(self.unmarshal_error(&format!("number {number}"), ty, place))
            }
            (_, Type::IntOrString) => self.int_or_string(tree, place),
            (_, Type::Quantity) => quantity(tree),
            (Tree::String(text), Type::Time) => time::parse(text).map(|t| Value::String(time::to_seconds(t))),
            (Tree::String(text), Type::MicroTime) => time::parse(text).map(|t| Value::String(time::to_micros(t))),
            (Tree::String(text), Type::Bytes) => bytes(text),
            (other, Type::Time | Type::MicroTime) => Err(format!(
                "json: cannot unmarshal {} into Go value of type string",
                other.go_kind()
            )),
            (other, ty) => Err(self.mismatch(other, ty, Some(place))),
        }
    }

    fn list(&mut self, items: &[Tree], item: &Type, place: Place<'_>) -> Result<Value, String> {
        let mut out = Vec::with_capacity(items.len());
        for (index, tree) in items.iter().enumerate() {
            self.strict_path.push(format!("[{index}]"));
            let fitted = match self.value(tree, item, place)? {
                Value::Null => self.zero(item)?,
                fitted => fitted,
            };
            out.push(fitted);
            self.strict_path.pop();
        }
        Ok(Value::Array(out))
    }

    fn map(&mut self, fields: &[(String, Tree)], value: &Type, place: Place<'_>) -> Result<Value, String> {
        let mut out = Map::new();
        for (key, tree) in fields {
            if out.contains_key(key) {
                self.report("duplicate", key);
            }
            self.strict_path.push(format!(".{key}"));
            let fitted = match self.value(tree, value, place)? {
                Value::Null => self.zero(value)?,
                fitted => fitted,
            };
            self.strict_path.pop();
            out.insert(key.clone(), fitted);
        }
        Ok(Value::Object(out))
    }

    /// Go's zero value: what null leaves in a list or a map.
    fn zero(&mut self, ty: &Type) -> Result<Value, String> {
        Ok(match ty {
            Type::Struct(id) => self.structure(&Tree::Null, *id, None)?,
            Type::String | Type::Bytes => Value::String(String::new()),
            Type::Bool => Value::Bool(false),
            Type::Int32 | Type::Int64 | Type::Float64 | Type::IntOrString => Value::from(0),
            Type::Quantity => Value::String("0".to_owned()),
            Type::List(_) => Value::Array(Vec::new()),
            Type::Map(_) => Value::Object(Map::new()),
            Type::Time => Value::from(ZERO_TIME),
            Type::MicroTime => Value::from(ZERO_MICRO_TIME),
            Type::Any => Value::Null,
        })
    }

    fn int_or_string(&self, tree: &Tree, place: Place<'_>) -> Result<Value, String> {
        match tree {
            Tree::String(_) => Ok(tree.to_value()),
            Tree::Number(number) if is_int32(number) => Ok(tree.to_value()),
            Tree::Number(number) => Err(self.unmarshal_error(&format!("number {number}"), &Type::Int32, place)),
            other => Err(self.unmarshal_error(other.go_kind(), &Type::Int32, place)),
        }
    }

    fn report(&mut self, what: &str, key: &str) {
        let path = self.strict_path.concat();
        let path = if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}.{key}")
        };
        let text = format!("{what} field {path:?}");
        if self.strict.len() < MOST_STRICT_ERRORS && !self.strict.contains(&text) {
            self.strict.push(text);
        }
    }

    fn mismatch(&self, tree: &Tree, ty: &Type, place: Option<Place<'_>>) -> String {
        if self.words == Words::Converter {
            return go::conversion_error(tree, ty);
        }
        match place {
            Some(place) => self.unmarshal_error(tree.go_kind(), ty, place),
            None => format!(
                "json: cannot unmarshal {} into Go value of type {}",
                tree.go_kind(),
                go::type_name(ty, self.schema, "string")
            ),
        }
    }

    fn unmarshal_error(&self, found: &str, ty: &Type, place: Place<'_>) -> String {
        let definition = place.definition.go_name();
        let named = go::string_type(definition, &place.field.name);
        format!(
            "json: cannot unmarshal {found} into Go struct field {definition}.{} of type {}",
            self.json_path.join("."),
            go::type_name(ty, self.schema, named)
        )
    }
}

fn is_int32(number: &Number) -> bool {
    number.as_i64().is_some_and(|n| i32::try_from(n).is_ok())
}

fn quantity(tree: &Tree) -> Result<Value, String> {
    let text = match tree {
        Tree::String(text) => text.clone(),
        other => other.to_value().to_string(),
    };
    Quantity::parse(&text)
        .map(|quantity| Value::String(quantity.to_string()))
        .map_err(|error| error.to_string())
}

fn bytes(text: &str) -> Result<Value, String> {
    let compact: String = text.chars().filter(|c| !matches!(c, '\r' | '\n')).collect();
    match data_encoding::BASE64.decode(compact.as_bytes()) {
        Ok(_) => Ok(Value::String(compact)),
        Err(error) => Err(format!("illegal base64 data at input byte {}", error.position)),
    }
}

/// Whether Go would write the field back.
fn is_kept(value: &Value, field: &Field) -> bool {
    match value {
        Value::Null => false,
        // Storage does not tell an empty list from none.
        Value::Array(items) => field.required || !items.is_empty(),
        Value::Object(fields) => field.required || !matches!(field.ty, Type::Map(_)) || !fields.is_empty(),
        scalar => field.presence != Presence::NonZero || !is_zero(scalar, &field.ty),
    }
}

/// Whether a scalar is the zero value of its type. Times and quantities are structs to Go, and no struct is
/// empty to it.
pub(super) fn is_zero(value: &Value, ty: &Type) -> bool {
    match (value, ty) {
        (Value::Bool(value), Type::Bool) => !value,
        (Value::Number(number), Type::Int32 | Type::Int64 | Type::Float64) => number.as_f64() == Some(0.0),
        (Value::String(text), Type::String | Type::Bytes) => text.is_empty(),
        _ => false,
    }
}
