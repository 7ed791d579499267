//! One message's bytes to the JSON object that Go would write for it: no empty optional strings, numbers, lists or
//! maps, and a zero behind a pointer kept. Fields may come in any order and in pieces; unknown ones are passed over.

use data_encoding::BASE64;
use jiff::Timestamp;
use serde_json::{Map, Number, Value};

use super::table::{Field, MessageId, Scalar, Table, Type};
use super::wire::{FIXED64, LENGTH, MOST_DEPTH, Reader, Tag, VARINT, WireError};
use crate::resource::validation::time;

/// Reads `bytes` as a message into `out`, beside what is there already.
pub(super) fn message(
    table: &Table,
    id: MessageId,
    bytes: &[u8],
    depth: usize,
    out: &mut Map<String, Value>,
) -> Result<(), WireError> {
    if depth > MOST_DEPTH {
        return Err(WireError::TooDeep);
    }
    let decoder = Decoder { table, depth };
    let mut reader = Reader(bytes);
    while let Some(tag) = reader.tag(table.go_name(id))? {
        match table.field(id, tag.number) {
            Some(field) => decoder.field(&mut reader, tag, field, out)?,
            None => reader.skip(tag.wire_type)?,
        }
    }
    Ok(())
}

struct Decoder<'t> {
    table: &'t Table,
    depth: usize,
}

impl Decoder<'_> {
    fn field(
        &self,
        reader: &mut Reader<'_>,
        tag: Tag,
        field: &Field,
        out: &mut Map<String, Value>,
    ) -> Result<(), WireError> {
        match &field.ty {
            Type::Message(id) if field.is_inline() => {
                expect(tag, LENGTH, field)?;
                message(self.table, *id, reader.bytes()?, self.depth + 1, out)
            }
            Type::Message(id) => {
                expect(tag, LENGTH, field)?;
                let object = entry(out, field, Value::Object(Map::new()));
                match object {
                    Value::Object(object) => message(self.table, *id, reader.bytes()?, self.depth + 1, object),
                    _ => Ok(()),
                }
            }
            Type::List(item) => {
                let Value::Array(items) = entry(out, field, Value::Array(Vec::new())) else {
                    return Ok(());
                };
                self.items(reader, tag, field, item, items)
            }
            Type::Map(value) => {
                expect(tag, LENGTH, field)?;
                let (key, value) = self.pair(reader.bytes()?, field, value)?;
                if let Value::Object(pairs) = entry(out, field, Value::Object(Map::new())) {
                    pairs.insert(key, value);
                }
                Ok(())
            }
            Type::Wrapped(_) | Type::Scalar(_) => {
                let value = self.value(reader, tag, field, &field.ty)?;
                // To Go an IntOrString is a struct, and no struct is empty.
                let can_be_empty = field.ty != Type::Scalar(Scalar::IntOrString);
                if value.is_null() || field.omit_empty && !field.pointer && can_be_empty && is_zero(&value) {
                    out.remove(&*field.name);
                } else {
                    out.insert(field.name.to_string(), value);
                }
                Ok(())
            }
        }
    }

    /// One more item; numbers also come many at once.
    fn items(
        &self,
        reader: &mut Reader<'_>,
        tag: Tag,
        field: &Field,
        item: &Type,
        items: &mut Vec<Value>,
    ) -> Result<(), WireError> {
        let packed = matches!(item, Type::Scalar(Scalar::Bool | Scalar::Int32 | Scalar::Int64));
        if !packed || tag.wire_type != LENGTH {
            items.push(self.value(reader, tag, field, item)?);
            return Ok(());
        }
        let mut inner = Reader(reader.bytes()?);
        let tag = Tag {
            wire_type: VARINT,
            ..tag
        };
        while !inner.0.is_empty() {
            items.push(self.value(&mut inner, tag, field, item)?);
        }
        Ok(())
    }

    fn pair(&self, bytes: &[u8], field: &Field, ty: &Type) -> Result<(String, Value), WireError> {
        let mut reader = Reader(bytes);
        let (mut key, mut value) = (String::new(), None);
        while let Some(tag) = reader.tag(&field.go_name())? {
            match tag.number {
                1 => {
                    expect(tag, LENGTH, field)?;
                    key = text(reader.bytes()?);
                }
                2 => value = Some(self.value(&mut reader, tag, field, ty)?),
                _ => reader.skip(tag.wire_type)?,
            }
        }
        Ok((key, value.unwrap_or_else(|| zero(ty))))
    }

    /// One value: an item of a list, the value of a pair, or a field that holds one.
    fn value(&self, reader: &mut Reader<'_>, tag: Tag, field: &Field, ty: &Type) -> Result<Value, WireError> {
        let wire_type = match ty {
            Type::Scalar(Scalar::Bool | Scalar::Int32 | Scalar::Int64) => VARINT,
            Type::Scalar(Scalar::Double) => FIXED64,
            _ => LENGTH,
        };
        expect(tag, wire_type, field)?;
        match ty {
            Type::Scalar(scalar) => self.scalar(reader, *scalar),
            Type::Message(id) => {
                let mut object = Map::new();
                message(self.table, *id, reader.bytes()?, self.depth + 1, &mut object)?;
                Ok(Value::Object(object))
            }
            Type::Wrapped(item) | Type::List(item) => {
                let mut inner = Reader(reader.bytes()?);
                let mut items = Vec::new();
                while let Some(tag) = inner.tag(&field.go_name())? {
                    match tag.number {
                        1 => self.items(&mut inner, tag, field, item, &mut items)?,
                        _ => inner.skip(tag.wire_type)?,
                    }
                }
                Ok(Value::Array(items))
            }
            Type::Map(value) => {
                let (key, value) = self.pair(reader.bytes()?, field, value)?;
                Ok(Value::Object(Map::from_iter([(key, value)])))
            }
        }
    }

    #[expect(clippy::cast_possible_truncation, reason = "as the generated decoders do")]
    #[expect(
        clippy::cast_possible_wrap,
        reason = "two's complement is how the wire has negative numbers"
    )]
    fn scalar(&self, reader: &mut Reader<'_>, scalar: Scalar) -> Result<Value, WireError> {
        Ok(match scalar {
            Scalar::Bool => Value::Bool(reader.varint()? != 0),
            Scalar::Int32 => Value::from(reader.varint()? as i32),
            Scalar::Int64 => Value::from(reader.varint()? as i64),
            Scalar::Double => {
                let bytes = reader.take(8)?;
                let bits = bytes
                    .iter()
                    .rev()
                    .fold(0_u64, |bits, byte| bits << 8 | u64::from(*byte));
                // What is not finite has no JSON.
                Number::from_f64(f64::from_bits(bits)).map_or(Value::Null, Value::Number)
            }
            Scalar::String => Value::String(text(reader.bytes()?)),
            Scalar::Bytes => Value::String(BASE64.encode(reader.bytes()?)),
            Scalar::Time => clock(reader.bytes()?, |seconds, _| {
                Timestamp::from_second(seconds).map(time::to_seconds)
            })?,
            Scalar::MicroTime => clock(reader.bytes()?, |seconds, nanos| {
                Timestamp::new(seconds, nanos / 1000 * 1000).map(time::to_micros)
            })?,
            Scalar::Quantity => match parts(reader.bytes()?, "Quantity")?.text {
                Some(quantity) => Value::String(quantity),
                None => zero(&Type::Scalar(Scalar::Quantity)),
            },
            Scalar::IntOrString => {
                let parts = parts(reader.bytes()?, "IntOrString")?;
                match parts.first {
                    0 => Value::from(parts.second as i32),
                    1 => Value::String(parts.third.unwrap_or_default()),
                    _ => return Err(WireError::IntOrString),
                }
            }
            Scalar::Json => match parts(reader.bytes()?, "RawExtension")?.raw {
                Some(raw) if !raw.is_empty() => {
                    serde_json::from_slice(raw).map_err(|error| WireError::Json(error.to_string()))?
                }
                _ => Value::Null,
            },
        })
    }
}

/// What the small messages that have a JSON form of their own are made of.
#[derive(Default)]
struct Parts<'b> {
    first: i64,
    second: i64,
    /// Field 1 as text, and as it is.
    text: Option<String>,
    raw: Option<&'b [u8]>,
    third: Option<String>,
}

#[expect(
    clippy::cast_possible_wrap,
    reason = "two's complement is how the wire has negative numbers"
)]
fn parts<'b>(bytes: &'b [u8], message: &str) -> Result<Parts<'b>, WireError> {
    let mut reader = Reader(bytes);
    let mut parts = Parts::default();
    while let Some(tag) = reader.tag(message)? {
        match (tag.number, tag.wire_type) {
            (1, VARINT) => parts.first = reader.varint()? as i64,
            (2, VARINT) => parts.second = reader.varint()? as i64,
            (1, LENGTH) => {
                let raw = reader.bytes()?;
                parts.text = Some(text(raw));
                parts.raw = Some(raw);
            }
            (3, LENGTH) => parts.third = Some(text(reader.bytes()?)),
            (_, wire_type) => reader.skip(wire_type)?,
        }
    }
    Ok(parts)
}

/// A time; none when the message is empty, as a zero time is written.
fn clock(bytes: &[u8], format: impl FnOnce(i64, i32) -> Result<String, jiff::Error>) -> Result<Value, WireError> {
    if bytes.is_empty() {
        return Ok(Value::Null);
    }
    let parts = parts(bytes, "Timestamp")?;
    let nanos = i32::try_from(parts.second).unwrap_or_default();
    let written = format(parts.first, nanos).map_err(|_out_of_range| WireError::Year)?;
    Ok(Value::String(written))
}

fn entry<'o>(out: &'o mut Map<String, Value>, field: &Field, empty: Value) -> &'o mut Value {
    if !out.contains_key(&*field.name) {
        out.insert(field.name.to_string(), Value::Null);
    }
    let value = &mut out[&*field.name];
    if value.is_null() {
        *value = empty;
    }
    value
}

fn expect(tag: Tag, wire_type: u8, field: &Field) -> Result<(), WireError> {
    if tag.wire_type == wire_type {
        return Ok(());
    }
    Err(WireError::WrongWireType {
        wire_type: tag.wire_type,
        field: field.go_name(),
    })
}

/// Go keeps any bytes in a string; JSON has them replaced.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What Go leaves out under `omitempty`.
fn is_zero(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        Value::Object(_) => false,
    }
}

/// What a pair without a value holds.
fn zero(ty: &Type) -> Value {
    match ty {
        Type::Message(_) | Type::Map(_) => Value::Object(Map::new()),
        Type::List(_) | Type::Wrapped(_) => Value::Array(Vec::new()),
        Type::Scalar(scalar) => match scalar {
            Scalar::Bool => Value::Bool(false),
            Scalar::Int32 | Scalar::Int64 | Scalar::Double | Scalar::IntOrString => Value::from(0),
            Scalar::String | Scalar::Bytes => Value::String(String::new()),
            Scalar::Quantity => Value::String("0".to_owned()),
            Scalar::Time | Scalar::MicroTime | Scalar::Json => Value::Null,
        },
    }
}
