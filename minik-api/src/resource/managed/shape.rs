//! What server-side apply has to know about a place in an object: whether its parts have owners of their
//! own, and by what they are told apart. Read from the schema.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Element, FieldSet, Node};
use crate::resource::schema::{Definition, Ownership, Schema, Type};

/// A place in an object.
#[derive(Clone, Copy)]
pub(super) struct Shape<'a> {
    schema: &'a Schema,
    ty: &'a Type,
    ownership: &'a Ownership,
}

/// How the value at a place is taken apart.
pub(super) enum Parts<'a> {
    /// Not at all: a scalar, or what is owned as a whole.
    Whole,
    /// Into the fields of a struct.
    Struct(&'a Definition),
    /// Into the values of a map.
    Map(Shape<'a>),
    /// Into the elements of a list, which its key fields (or, without any, the elements themselves) tell apart.
    List(Shape<'a>, &'a [Box<str>]),
}

static UNTYPED: Type = Type::Any;

impl<'a> Shape<'a> {
    /// The place of a whole object of type `ty`.
    pub(super) fn root(schema: &'a Schema, ty: &'a Type) -> Self {
        Self::inner(schema, ty)
    }

    /// A place that no field describes: lists in it are owned as a whole, maps by their keys.
    fn inner(schema: &'a Schema, ty: &'a Type) -> Self {
        let ownership = match ty {
            Type::List(_) => &Ownership::Whole,
            _ => &Ownership::Parts,
        };
        Self { schema, ty, ownership }
    }

    /// How `value` is taken apart here. What has no type is taken apart as it presents itself.
    pub(super) fn parts(self, value: &Value) -> Parts<'a> {
        match (self.ty, self.ownership) {
            (_, Ownership::Whole) => Parts::Whole,
            (Type::Struct(id), _) => {
                let definition = self.schema.get(*id);
                if definition.whole {
                    Parts::Whole
                } else {
                    Parts::Struct(definition)
                }
            }
            (Type::Map(value), _) => Parts::Map(Self::inner(self.schema, value)),
            (Type::List(item), Ownership::Keyed(keys)) => Parts::List(Self::inner(self.schema, item), keys),
            (Type::List(_), Ownership::Parts) => Parts::Whole,
            (Type::Any, _) if value.is_object() => Parts::Map(Self::inner(self.schema, &UNTYPED)),
            _ => Parts::Whole,
        }
    }

    /// The place of a list's elements or a map's values.
    pub(super) fn values(self) -> Self {
        match self.ty {
            Type::List(value) | Type::Map(value) => Self::inner(self.schema, value),
            _ => Self::inner(self.schema, &UNTYPED),
        }
    }

    /// The type at this place.
    pub(super) fn ty(self) -> &'a Type {
        self.ty
    }

    /// The schema that the place is in.
    pub(super) fn schema(self) -> &'a Schema {
        self.schema
    }

    /// The place of a struct's field.
    pub(super) fn field(self, definition: &'a Definition, name: &str) -> Option<Self> {
        let field = definition.field(name)?;
        Some(Self {
            schema: self.schema,
            ty: &field.ty,
            ownership: &field.ownership,
        })
    }

    /// The place of a struct's field, or of one that the struct does not have.
    pub(super) fn field_or_untyped(self, definition: &'a Definition, name: &str) -> Self {
        self.field(definition, name)
            .unwrap_or_else(|| Self::inner(self.schema, &UNTYPED))
    }

    /// The element that names `item` in a list of such items with these keys.
    pub(super) fn element(self, keys: &[Box<str>], item: &Value) -> Result<Element, &'static str> {
        if keys.is_empty() {
            return match item {
                Value::Object(_) => Err("associative list without keys has an element that's a map type"),
                Value::Array(_) => Err("not supported: associative list with lists as elements"),
                Value::Null => Err("associative list without keys has an element that's an explicit null"),
                scalar => Ok(Element::value(scalar)),
            };
        }
        let fields = match item {
            Value::Object(fields) => fields,
            Value::Null => return Err("associative list with keys may not have a null element"),
            _ => return Err("associative list with keys may not have non-map elements"),
        };
        let mut named = Map::new();
        for key in keys {
            let said = fields.get(&**key).filter(|value| !value.is_null());
            let value = said.or_else(|| self.default_of(key));
            named.insert(key.to_string(), value.ok_or(MISSING_KEY)?.clone());
        }
        Ok(Element::key(named))
    }

    /// The key field that `item` leaves out, or has as null, though it has no default.
    pub(super) fn missing_key<'k>(self, keys: &'k [Box<str>], item: &Value) -> Option<&'k str> {
        keys.iter()
            .map(AsRef::as_ref)
            .find(|key: &&str| item.get(*key).is_none_or(Value::is_null) && self.default_of(key).is_none())
    }

    fn default_of(self, key: &str) -> Option<&'a Value> {
        match self.ty {
            Type::Struct(id) => self.schema.get(*id).field(key)?.default.as_ref(),
            _ => None,
        }
    }

    /// The items of a list by element, in the order of their first occurrence. Items that have no element are
    /// left out; stored objects have none such, and applied ones are refused before.
    pub(super) fn index<'v>(self, keys: &[Box<str>], items: &'v [Value]) -> Indexed<'v> {
        let mut indexed = Indexed::default();
        for item in items {
            let Ok(element) = self.element(keys, item) else {
                continue;
            };
            let same = indexed.items.entry(element.clone()).or_default();
            if same.is_empty() {
                indexed.order.push(element);
            }
            same.push(item);
        }
        indexed
    }

    /// `set` with the structs' fields that it has something below of, but maps' keys and list elements as they
    /// are: nobody can own a field's content without the field being there.
    pub(super) fn with_parents(self, set: &FieldSet) -> FieldSet {
        let mut out = FieldSet::default();
        for (element, node) in set.iter() {
            let (place, named) = self.step(element);
            let children = match place {
                Some(place) => place.with_parents(&node.children),
                None => node.children.clone(),
            };
            let member = node.member || named && !node.children.is_empty();
            out.attach(|| element.clone(), Node { member, children });
        }
        out
    }

    /// The place that `element` leads to, and whether it is a field of a struct.
    fn step(self, element: &Element) -> (Option<Self>, bool) {
        match (self.parts(&Value::Null), element.field_name()) {
            (Parts::Struct(definition), Some(name)) => {
                let field = self.field(definition, name);
                (field, field.is_some())
            }
            (Parts::Map(value), Some(_)) => (Some(value), false),
            (Parts::List(item, _), None) if element.is_key() => (Some(item), false),
            _ => (None, false),
        }
    }
}

/// What [`Shape::element`] says of an item without one of its keys; the caller names the key.
pub(super) const MISSING_KEY: &str = "associative list with keys has an element that omits key field";

/// A list by element.
#[derive(Default)]
pub(super) struct Indexed<'v> {
    /// The elements, each once.
    pub(super) order: Vec<Element>,
    /// The items of each; more than one where the list has duplicates.
    pub(super) items: BTreeMap<Element, Vec<&'v Value>>,
}
