//! The empty object of a kind, which a new object is compared with: what Go writes of a struct that nothing was
//! set in.

use serde_json::{Map, Value};

use crate::resource::KindInfo;
use crate::resource::schema::{self, Presence, Schema, StructId, Type};

/// The empty object of the kind.
pub(super) fn zero(info: &KindInfo) -> Value {
    let schema = schema::standard();
    let mut object = match schema.named(info.schema) {
        Some(id) => structure(schema, id),
        None => Value::Object(Map::new()),
    };
    info.stamp(&mut object);
    object
}

fn structure(schema: &Schema, id: StructId) -> Value {
    let fields = schema.get(id).fields().iter();
    let written = fields.filter_map(|field| match field.ty {
        Type::Struct(id) if field.by_value => Some((field.name.to_string(), structure(schema, id))),
        Type::Struct(_) => None,
        ref ty if field.presence == Presence::Always => Some((field.name.to_string(), plain(ty))),
        _ => None,
    });
    Value::Object(written.collect())
}

fn plain(ty: &Type) -> Value {
    match ty {
        Type::String => "".into(),
        Type::Bool => false.into(),
        Type::Int32 | Type::Int64 | Type::Float64 | Type::IntOrString => 0.into(),
        Type::Quantity => "0".into(),
        _ => Value::Null,
    }
}
