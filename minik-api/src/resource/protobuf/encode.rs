//! The JSON of one object to its message's bytes, as Go's generated encoders write it: fields by number, keys of
//! maps in order, and every field that is no pointer present, its zero too.

use data_encoding::BASE64;
use serde_json::{Map, Value};

use super::table::{Field, MessageId, Scalar, Table, Type};
use super::wire::{FIXED64, VARINT, put_bytes, put_nested, put_tag, put_varint};
use crate::resource::validation::time;

/// The object does not fit its message. Objects come from storage, so this is the server's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeError {
    /// A value has another form than its field.
    #[error("{message}.{field} cannot be written as protobuf")]
    Misfit {
        /// The message.
        message: String,
        /// The JSON name of the field.
        field: String,
    },
    /// The object names no kind of the table.
    #[error("{0} has no protobuf form")]
    NoMessage(String),
}

/// Appends `object` as the message `id`.
pub(super) fn message(
    table: &Table,
    id: MessageId,
    object: &Map<String, Value>,
    out: &mut Vec<u8>,
) -> Result<(), EncodeError> {
    for field in table.fields(id) {
        let place = Place { table, id, field };
        let value = object.get(&*field.name).filter(|value| !value.is_null());
        match (&field.ty, value) {
            (Type::Message(inner), _) if field.is_inline() => {
                put_nested(out, field.number, |out| message(table, *inner, object, out))?;
            }
            (Type::Message(inner), None) if !field.pointer => {
                put_nested(out, field.number, |out| message(table, *inner, &Map::new(), out))?;
            }
            (Type::Scalar(scalar), None) if !field.pointer => put_zero(*scalar, field.number, out),
            (_, None) => {}
            (Type::List(item), Some(Value::Array(items))) => {
                for value in items {
                    place.put(field.number, item, value, out)?;
                }
            }
            (Type::Map(ty), Some(Value::Object(pairs))) => {
                for (key, value) in pairs {
                    put_nested(out, field.number, |out| {
                        put_bytes(out, 1, key.as_bytes());
                        place.put(2, ty, value, out)
                    })?;
                }
            }
            (Type::List(_) | Type::Map(_), Some(_)) => return Err(place.misfit()),
            (ty, Some(value)) => place.put(field.number, ty, value, out)?,
        }
    }
    Ok(())
}

/// The field that is being written.
#[derive(Clone, Copy)]
struct Place<'t> {
    table: &'t Table,
    id: MessageId,
    field: &'t Field,
}

impl Place<'_> {
    fn misfit(&self) -> EncodeError {
        EncodeError::Misfit {
            message: self.table.go_name(self.id).to_owned(),
            field: self.field.name.to_string(),
        }
    }

    /// Appends one value: a field's, or one of those that a list or map holds.
    fn put(&self, number: u32, ty: &Type, value: &Value, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        match ty {
            Type::Scalar(scalar) => put_scalar(*scalar, number, value, out).ok_or_else(|| self.misfit()),
            Type::Message(id) => {
                let object = value.as_object().ok_or_else(|| self.misfit())?;
                put_nested(out, number, |out| message(self.table, *id, object, out))
            }
            Type::Wrapped(item) => {
                let items = value.as_array().ok_or_else(|| self.misfit())?;
                put_nested(out, number, |out| {
                    items.iter().try_for_each(|value| self.put(1, item, value, out))
                })
            }
            // Kubernetes has no list of lists and no map of maps.
            Type::List(_) | Type::Map(_) => Err(self.misfit()),
        }
    }
}

/// Appends a scalar; none when `value` has another form.
#[expect(
    clippy::cast_sign_loss,
    reason = "two's complement is how the wire has negative numbers"
)]
fn put_scalar(scalar: Scalar, number: u32, value: &Value, out: &mut Vec<u8>) -> Option<()> {
    match scalar {
        Scalar::Bool => put_number(out, number, u64::from(value.as_bool()?)),
        Scalar::Int32 | Scalar::Int64 => put_number(out, number, value.as_i64()? as u64),
        Scalar::Double => {
            put_tag(out, number, FIXED64);
            out.extend_from_slice(&value.as_f64()?.to_le_bytes());
        }
        Scalar::String => put_bytes(out, number, value.as_str()?.as_bytes()),
        Scalar::Bytes => put_bytes(out, number, &BASE64.decode(value.as_str()?.as_bytes()).ok()?),
        Scalar::Time | Scalar::MicroTime => {
            let time = time::parse(value.as_str()?).ok()?;
            let nanos = match scalar {
                Scalar::MicroTime => time.subsec_nanosecond(),
                _ => 0,
            };
            put_parts(out, number, |out| {
                put_number(out, 1, time.as_second() as u64);
                put_number(out, 2, i64::from(nanos) as u64);
            });
        }
        Scalar::Quantity => {
            let text = value.as_str()?;
            put_parts(out, number, |out| put_bytes(out, 1, text.as_bytes()));
        }
        Scalar::IntOrString => {
            let (kind, int, text) = match value {
                Value::String(text) => (1, 0, text.as_str()),
                int => (0, int.as_i64()?, ""),
            };
            put_parts(out, number, |out| {
                put_number(out, 1, kind);
                put_number(out, 2, int as u64);
                put_bytes(out, 3, text.as_bytes());
            });
        }
        Scalar::Json => {
            let raw = serde_json::to_vec(value).ok()?;
            put_parts(out, number, |out| put_bytes(out, 1, &raw));
        }
    }
    Some(())
}

/// What stands for a field that is not in the object, since its Go field always holds something.
fn put_zero(scalar: Scalar, number: u32, out: &mut Vec<u8>) {
    match scalar {
        Scalar::Bool | Scalar::Int32 | Scalar::Int64 => put_number(out, number, 0),
        Scalar::Double => {
            put_tag(out, number, FIXED64);
            out.extend_from_slice(&[0; 8]);
        }
        Scalar::String | Scalar::Time | Scalar::MicroTime | Scalar::Json => put_bytes(out, number, b""),
        // Bytes that are none are nil, and nil is not written.
        Scalar::Bytes => {}
        Scalar::Quantity => put_parts(out, number, |out| put_bytes(out, 1, b"0")),
        Scalar::IntOrString => put_parts(out, number, |out| {
            put_number(out, 1, 0);
            put_number(out, 2, 0);
            put_bytes(out, 3, b"");
        }),
    }
}

fn put_number(out: &mut Vec<u8>, number: u32, value: u64) {
    put_tag(out, number, VARINT);
    put_varint(out, value);
}

fn put_parts(out: &mut Vec<u8>, number: u32, write: impl FnOnce(&mut Vec<u8>)) {
    let mut parts = Vec::new();
    write(&mut parts);
    put_bytes(out, number, &parts);
}
