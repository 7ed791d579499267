//! Takes from an object what Go would not write of it. The types that strategies work with write some fields always
//! that Go leaves out when they are zero: the name of a pull secret, for one.

use serde_json::Value;

use super::fit::is_zero;
use crate::resource::KindInfo;
use crate::resource::schema::{self, Presence, Schema, StructId, Type};

/// Takes every zero from `object` that Go leaves out.
pub fn settle(info: &KindInfo, object: &mut Value) {
    let schema = schema::standard();
    if let Some(id) = schema.named(info.schema) {
        structure(schema, id, object);
    }
}

fn structure(schema: &Schema, id: StructId, value: &mut Value) {
    let Value::Object(fields) = value else {
        return;
    };
    let definition = schema.get(id);
    fields.retain(|name, value| {
        let Some(field) = definition.field(name) else {
            return true;
        };
        inside(schema, &field.ty, value);
        field.presence != Presence::NonZero || !is_zero(value, &field.ty)
    });
}

fn inside(schema: &Schema, ty: &Type, value: &mut Value) {
    match (ty, value) {
        (Type::Struct(id), value) => structure(schema, *id, value),
        (Type::List(item), Value::Array(items)) => items.iter_mut().for_each(|value| inside(schema, item, value)),
        (Type::Map(item), Value::Object(entries)) => entries.values_mut().for_each(|value| inside(schema, item, value)),
        _ => {}
    }
}
