//! Ownership after a write that is no apply: the writer owns what it changed, and nobody else does any more.

use serde_json::Value;

use super::compare::Comparison;
use super::zero::zero;
use super::{Managers, Operation, Owned, Shape, Writer, identity, root_type};
use crate::resource::schema;

/// The managedFields of `new`, with which `writer` replaces `old` (none: creates it). Both objects are given
/// without managedFields; `stored` are those of `old`, and `sent` those that the client asks for: an empty one
/// is taken as not understood, a list with one empty entry as the wish to forget all owners.
#[must_use]
pub fn update(writer: &Writer<'_>, old: Option<&Value>, new: &Value, stored: &Value, sent: &Value) -> Value {
    let ty = root_type(writer.info);
    let shape = Shape::root(schema::standard(), &ty);
    let empty = old.is_none().then(|| zero(writer.info));
    let before = old.or(empty.as_ref()).unwrap_or(&Value::Null);
    let ignored = writer.ignored();
    let change = Comparison::of(shape, before, new).without(&ignored);
    if change.is_empty() && (sent.is_null() || sent == stored) {
        return stored.clone();
    }
    let mut managers = chosen(writer, stored, sent);
    if managers.0.is_empty() && old.is_some() {
        // Nobody ever owned this object's fields; that begins with the first apply.
        return Value::Null;
    }
    record(writer, &change, &mut managers);
    managers.encode()
}

/// The managers that the client asks for, or those that are stored.
fn chosen(writer: &Writer<'_>, stored: &Value, sent: &Value) -> Managers {
    let stored = || Managers::decode(stored).unwrap_or_default();
    if !writer.subresource.is_empty() {
        return stored();
    }
    match sent.as_array().map(Vec::as_slice) {
        Some([Value::Object(entry)]) if entry.is_empty() => Managers::default(),
        _ => match Managers::decode(sent) {
            Ok(managers) if !managers.0.is_empty() => managers,
            _ => stored(),
        },
    }
}

/// Gives `writer` what the change wrote, and takes it from all others.
pub(super) fn record(writer: &Writer<'_>, change: &Comparison, managers: &mut Managers) {
    let api_version = writer.info.api_version();
    let written = change.written();
    for owned in managers.0.values_mut().filter(|owned| owned.api_version == api_version) {
        owned.fields = owned.fields.difference(&written).difference(&change.removed);
    }
    managers.drop_idle();
    let own = written.difference(&identity());
    if !own.is_empty() {
        let manager = writer.manager(Operation::Update);
        let before = managers.0.get(&manager).map(|owned| &owned.fields);
        let fields = before.map_or_else(|| own.clone(), |before| before.union(&own));
        let owned = Owned {
            api_version,
            time: Some(writer.now),
            fields,
        };
        managers.0.insert(manager, owned);
    }
    managers.cap();
}
