//! What changed between two states of an object, as sets of fields.

use serde_json::{Map, Value};

use super::shape::{Parts, Shape};
use super::{Element, FieldSet, Node};

/// The difference of two objects.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Comparison {
    /// Fields that only the new object has.
    pub(super) added: FieldSet,
    /// Fields with another value in the new object.
    pub(super) modified: FieldSet,
    /// Fields that only the old object has.
    pub(super) removed: FieldSet,
}

impl Comparison {
    /// How `new` differs from `old`, both of the given shape.
    pub(super) fn of(shape: Shape<'_>, old: &Value, new: &Value) -> Self {
        let Change {
            added,
            modified,
            removed,
        } = compare(shape, Some(old), Some(new));
        Self {
            added: added.children,
            modified: modified.children,
            removed: removed.children,
        }
    }

    /// The difference without `ignored` and what is below it.
    pub(super) fn without(&self, ignored: &FieldSet) -> Self {
        Self {
            added: self.added.without(ignored),
            modified: self.modified.without(ignored),
            removed: self.removed.without(ignored),
        }
    }

    /// What a writer of the new object set.
    pub(super) fn written(&self) -> FieldSet {
        self.modified.union(&self.added)
    }

    /// Whether nothing changed.
    pub(super) fn is_empty(&self) -> bool {
        self.added.is_empty() && self.modified.is_empty() && self.removed.is_empty()
    }
}

/// The difference at one place.
#[derive(Default)]
struct Change {
    added: Node,
    modified: Node,
    removed: Node,
}

impl Change {
    fn attach(&mut self, element: &dyn Fn() -> Element, below: Self) {
        self.added.children.attach(element, below.added);
        self.modified.children.attach(element, below.modified);
        self.removed.children.attach(element, below.removed);
    }

    /// A place that is compared as a whole.
    fn whole<T: PartialEq>(old: Option<&T>, new: Option<&T>) -> Self {
        let mut change = Self::default();
        match (old, new) {
            (None, _) => change.added.member = true,
            (_, None) => change.removed.member = true,
            (Some(old), Some(new)) => change.modified.member = old != new,
        }
        change
    }
}

fn compare(shape: Shape<'_>, old: Option<&Value>, new: Option<&Value>) -> Change {
    if old == new {
        return Change::default();
    }
    let Some(present) = new.or(old) else {
        return Change::default();
    };
    let parts = shape.parts(present);
    // Two empty values are told apart as a whole, or null and {} would be the same.
    if matches!(parts, Parts::Whole) || old.is_none_or(is_hollow) && new.is_none_or(is_hollow) {
        return Change::whole(old, new);
    }
    let mut change = Change::default();
    match parts {
        Parts::Whole => {}
        Parts::Struct(definition) => {
            let place = |name: &str| shape.field_or_untyped(definition, name);
            compare_fields(&mut change, place, old, new);
        }
        Parts::Map(value) => compare_fields(&mut change, |_| value, old, new),
        Parts::List(item, keys) => compare_items(&mut change, item, keys, old, new),
    }
    change.added.member |= old.is_none();
    change.removed.member |= new.is_none();
    change
}

fn compare_fields<'a>(
    change: &mut Change,
    place: impl Fn(&str) -> Shape<'a>,
    old: Option<&Value>,
    new: Option<&Value>,
) {
    let nothing = Map::new();
    let [old, new] = [old, new].map(|value| value.and_then(Value::as_object).unwrap_or(&nothing));
    for (name, before) in old {
        let below = compare(place(name), Some(before), new.get(name));
        change.attach(&|| Element::field(name), below);
    }
    for (name, after) in new.iter().filter(|(name, _)| !old.contains_key(*name)) {
        let below = compare(place(name), None, Some(after));
        change.attach(&|| Element::field(name), below);
    }
}

fn compare_items(change: &mut Change, item: Shape<'_>, keys: &[Box<str>], old: Option<&Value>, new: Option<&Value>) {
    let [old, new] = [old, new].map(|value| value.and_then(Value::as_array).map_or(&[][..], Vec::as_slice));
    let (old, new) = (item.index(keys, old), item.index(keys, new));
    let added = new.order.iter().filter(|element| !old.items.contains_key(element));
    for element in old.order.iter().chain(added) {
        let (before, after) = (old.items.get(element), new.items.get(element));
        let below = match (before.map(Vec::as_slice), after.map(Vec::as_slice)) {
            // Duplicates cannot be told apart, so they are compared together.
            (Some([_, _, ..]), _) | (_, Some([_, _, ..])) => Change::whole(before, after),
            (before, after) => {
                let [before, after] = [before, after].map(|items| items.and_then(|items| items.first().copied()));
                compare(item, before, after)
            }
        };
        change.attach(&|| element.clone(), below);
    }
}

/// Whether there is nothing in a container, or a null in its place.
pub(super) fn is_hollow(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        _ => false,
    }
}
