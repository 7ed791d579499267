//! The compact form of the definitions: structs with sorted fields, each with its Go-shaped type.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

/// Index of a struct in its [`Schema`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StructId(u16);

/// What a JSON value has to look like; one variant for each Go type that decodes differently.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// A struct of the schema.
    Struct(StructId),
    /// `string`, and the named string types.
    String,
    /// `bool`.
    Bool,
    /// `int32`.
    Int32,
    /// `int64`.
    Int64,
    /// `float64`.
    Float64,
    /// `[]byte`, base64 in JSON.
    Bytes,
    /// `v1.Time`: RFC 3339 with seconds.
    Time,
    /// `v1.MicroTime`: RFC 3339 with microseconds.
    MicroTime,
    /// `intstr.IntOrString`.
    IntOrString,
    /// `resource.Quantity`.
    Quantity,
    /// Any JSON value (`runtime.RawExtension`, `v1.FieldsV1`).
    Any,
    /// A list.
    List(Box<Type>),
    /// A map with string keys.
    Map(Box<Type>),
}

/// How a strategic merge patch treats a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListPatch {
    /// The patch's list replaces the whole list.
    Replace,
    /// Elements are merged by this key; a list of scalars merges as a set and has no key.
    Merge(Option<Box<str>>),
}

/// Who can own what of a value (KEP-555): the `x-kubernetes-list-type` and `x-kubernetes-map-type` of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ownership {
    /// One manager owns all of it (`atomic`).
    Whole,
    /// Each field or key has owners of its own (`granular`; says nothing about lists).
    Parts,
    /// Each element of a list has owners of its own; these fields tell the elements apart, and without any
    /// (`set`) the elements themselves do.
    Keyed(Box<[Box<str>]>),
}

/// When Go writes a field into JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Always: it has no `omitempty`.
    Always,
    /// When it is not its type's zero value: `omitempty`, and no pointer.
    NonZero,
    /// When it was given, zero or not: a pointer.
    Given,
}

/// One field of a struct.
#[derive(Debug, Clone)]
pub struct Field {
    /// JSON name.
    pub name: Box<str>,
    /// Its type.
    pub ty: Type,
    /// Whether the definition lists it as required.
    pub required: bool,
    /// When Go writes it.
    pub presence: Presence,
    /// Whether the field is a struct by value, which Go writes even when it is empty.
    pub by_value: bool,
    /// How a strategic merge patch treats it when it is a list.
    pub list_patch: ListPatch,
    /// Whether a strategic merge patch may carry `$retainKeys` for it.
    pub retain_keys: bool,
    /// Who can own what of it.
    pub ownership: Ownership,
    /// The value that stands for an absent one, where the definition says so.
    pub default: Option<serde_json::Value>,
}

/// One struct.
#[derive(Debug)]
pub struct Definition {
    /// `io.k8s.api.core.v1.ServiceSpec`.
    pub name: Box<str>,
    /// Whether it has one owner, wherever it stands (`x-kubernetes-map-type: atomic`).
    pub whole: bool,
    fields: Box<[Field]>,
}

impl Definition {
    /// The field of this JSON name; names are case-sensitive.
    #[must_use]
    pub fn field(&self, name: &str) -> Option<&Field> {
        self.fields
            .binary_search_by(|f| (*f.name).cmp(name))
            .ok()
            .map(|i| &self.fields[i])
    }

    /// All fields, sorted by name.
    #[must_use]
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The bare struct name, as Go's errors print it: `ServiceSpec`.
    #[must_use]
    pub fn go_name(&self) -> &str {
        self.name.rsplit('.').next().unwrap_or(&self.name)
    }

    /// The name with its Go package, as Go prints a type: `v1.ServiceSpec`.
    #[must_use]
    pub fn go_type(&self) -> &str {
        let mut dots = self.name.rmatch_indices('.').map(|(i, _)| i);
        dots.nth(1).map_or(&*self.name, |i| &self.name[i + 1..])
    }
}

/// All structs, and all kinds that 1.36 registers (served here or not).
#[derive(Debug)]
pub struct Schema {
    definitions: Box<[Definition]>,
    by_name: BTreeMap<Box<str>, StructId>,
    registered: BTreeSet<Box<str>>,
}

impl Schema {
    /// The struct with this full name.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<StructId> {
        self.by_name.get(name).copied()
    }

    /// The struct itself.
    #[must_use]
    pub fn get(&self, id: StructId) -> &Definition {
        &self.definitions[usize::from(id.0)]
    }

    /// Whether Kubernetes 1.36 registers the kind, whether or not minik serves it.
    #[must_use]
    pub fn is_registered(&self, group: &str, version: &str, kind: &str) -> bool {
        self.registered.contains(format!("{group}/{version}/{kind}").as_str())
    }

    pub(super) fn read(document: &[u8]) -> Result<Self, serde_json::Error> {
        let raw: RawDocument = serde_json::from_slice(document)?;
        let structs: BTreeMap<&str, &RawNode> = raw
            .definitions
            .iter()
            .filter(|(_, n)| n.properties.is_some())
            .map(|(k, n)| (k.as_str(), n))
            .collect();
        let ids: BTreeMap<&str, StructId> = structs
            .keys()
            .enumerate()
            .map(|(i, name)| (*name, StructId(u16::try_from(i).expect("a few hundred definitions"))))
            .collect();
        let definitions = structs
            .iter()
            .map(|(name, node)| definition(name, node, &ids, &raw.presence))
            .collect();
        Ok(Self {
            definitions,
            by_name: ids.iter().map(|(name, id)| (Box::from(*name), *id)).collect(),
            registered: raw.kinds.into_iter().map(String::into_boxed_str).collect(),
        })
    }
}

/// The parts of the file that the compact form keeps; descriptions are skipped while reading.
#[derive(Deserialize)]
struct RawDocument {
    definitions: BTreeMap<String, RawNode>,
    kinds: Vec<String>,
    presence: RawPresence,
}

/// Field names by definition; a field in neither is always written.
#[derive(Deserialize)]
struct RawPresence {
    nonzero: BTreeMap<String, BTreeSet<String>>,
    given: BTreeMap<String, BTreeSet<String>>,
}

impl RawPresence {
    fn of(&self, definition: &str, field: &str) -> Presence {
        let has =
            |fields: &BTreeMap<String, BTreeSet<String>>| fields.get(definition).is_some_and(|f| f.contains(field));
        if has(&self.nonzero) {
            Presence::NonZero
        } else if has(&self.given) {
            Presence::Given
        } else {
            Presence::Always
        }
    }
}

#[derive(Deserialize, Default)]
struct RawNode {
    #[serde(rename = "type")]
    kind: Option<String>,
    format: Option<String>,
    #[serde(rename = "$ref")]
    reference: Option<String>,
    #[serde(rename = "allOf", default)]
    all_of: Vec<RawNode>,
    items: Option<Box<RawNode>>,
    #[serde(rename = "additionalProperties")]
    values: Option<Box<RawNode>>,
    properties: Option<BTreeMap<String, RawNode>>,
    #[serde(default)]
    required: Vec<String>,
    default: Option<serde_json::Value>,
    #[serde(rename = "x-kubernetes-patch-strategy")]
    patch_strategy: Option<String>,
    #[serde(rename = "x-kubernetes-patch-merge-key")]
    patch_merge_key: Option<String>,
    #[serde(rename = "x-kubernetes-list-type")]
    list_type: Option<String>,
    #[serde(rename = "x-kubernetes-list-map-keys", default)]
    list_map_keys: Vec<String>,
    #[serde(rename = "x-kubernetes-map-type")]
    map_type: Option<String>,
}

fn definition(name: &str, node: &RawNode, ids: &BTreeMap<&str, StructId>, presence: &RawPresence) -> Definition {
    let properties = node.properties.iter().flatten();
    let fields = properties
        .map(|(field, schema)| {
            let ty = type_of(schema, ids);
            let strategies = schema.patch_strategy.as_deref().unwrap_or_default();
            Field {
                name: field.as_str().into(),
                required: node.required.iter().any(|r| r == field),
                presence: presence.of(name, field),
                by_value: matches!(ty, Type::Struct(_))
                    && schema.default.as_ref().is_some_and(serde_json::Value::is_object),
                list_patch: if strategies.split(',').any(|s| s == "merge") {
                    ListPatch::Merge(schema.patch_merge_key.as_deref().map(Box::from))
                } else {
                    ListPatch::Replace
                },
                retain_keys: strategies.split(',').any(|s| s == "retainKeys"),
                ownership: ownership(schema, &ty),
                default: schema.default.clone(),
                ty,
            }
        })
        .collect();
    Definition {
        name: name.into(),
        whole: node.map_type.as_deref() == Some("atomic"),
        fields,
    }
}

/// A list without a list type is owned as its patch strategy merges it.
fn ownership(node: &RawNode, ty: &Type) -> Ownership {
    if !matches!(ty, Type::List(_)) {
        return match node.map_type.as_deref() {
            Some("atomic") => Ownership::Whole,
            _ => Ownership::Parts,
        };
    }
    let merges = node.patch_strategy.as_deref().unwrap_or_default();
    let keys: &[String] = match node.list_type.as_deref() {
        Some("map") => &node.list_map_keys,
        Some("set") => &[],
        None if merges.split(',').any(|strategy| strategy == "merge") => node.patch_merge_key.as_slice(),
        _ => return Ownership::Whole,
    };
    Ownership::Keyed(keys.iter().map(|key| key.as_str().into()).collect())
}

fn type_of(node: &RawNode, ids: &BTreeMap<&str, StructId>) -> Type {
    let reference = node
        .reference
        .as_deref()
        .or_else(|| node.all_of.first()?.reference.as_deref());
    if let Some(reference) = reference {
        let name = reference.rsplit('/').next().unwrap_or(reference);
        return ids.get(name).map_or_else(|| opaque(name), |id| Type::Struct(*id));
    }
    match (node.kind.as_deref(), node.format.as_deref()) {
        (Some("string"), Some("byte")) => Type::Bytes,
        (Some("string"), _) => Type::String,
        (Some("boolean"), _) => Type::Bool,
        (Some("integer"), Some("int32")) => Type::Int32,
        (Some("integer"), _) => Type::Int64,
        (Some("number"), _) => Type::Float64,
        (Some("array"), _) => Type::List(Box::new(node.items.as_deref().map_or(Type::Any, |n| type_of(n, ids)))),
        (Some("object"), _) if node.values.is_some() => {
            Type::Map(Box::new(node.values.as_deref().map_or(Type::Any, |n| type_of(n, ids))))
        }
        _ => Type::Any,
    }
}

/// The definitions that are no structs decode themselves in Go; they are known by name.
fn opaque(name: &str) -> Type {
    match name.rsplit('.').next() {
        Some("Time") => Type::Time,
        Some("MicroTime") => Type::MicroTime,
        Some("IntOrString") => Type::IntOrString,
        Some("Quantity") => Type::Quantity,
        _ => Type::Any,
    }
}
