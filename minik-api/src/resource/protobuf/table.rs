//! Every message of the served groups: numbers, JSON names and types, read from the checked-in table
//! (`schema/kubernetes-1.36-protobuf.json.gz`). Answers questions; changes nothing.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use flate2::read::GzDecoder;
use serde::Deserialize;

static COMPRESSED: &[u8] = include_bytes!("../../../schema/kubernetes-1.36-protobuf.json.gz");

static STANDARD: LazyLock<Table> = LazyLock::new(|| {
    let raw: BTreeMap<String, Vec<RawField>> =
        serde_json::from_reader(GzDecoder::new(COMPRESSED)).expect("the checked-in table is JSON; a test reads it");
    Table::build(&raw)
});

/// The API groups of Kubernetes' own packages, which are named by the first word of their group.
const PACKAGE: &str = "io.k8s.api";
/// The package of what every group shares.
const META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1";

/// The table of 1.36, built on first use.
#[must_use]
pub fn standard() -> &'static Table {
    &STANDARD
}

/// Index of a message in its [`Table`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageId(u16);

/// What is neither a message nor made of other values: one variant for each pair of wire and JSON form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scalar {
    /// A varint; `bool`.
    Bool,
    /// A varint; a number.
    Int32,
    /// A varint; a number.
    Int64,
    /// Eight bytes; a number.
    Double,
    /// UTF-8.
    String,
    /// Bytes; base64 in JSON.
    Bytes,
    /// `{seconds, nanos}`; RFC 3339 to the second.
    Time,
    /// `{seconds, nanos}`; RFC 3339 to the microsecond.
    MicroTime,
    /// `{string}`; a string.
    Quantity,
    /// `{type, int, string}`; a number or a string.
    IntOrString,
    /// `{raw}`, JSON inside: `RawExtension`, `FieldsV1`.
    Json,
}

/// The type of a field, or of what a list or map holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Type {
    /// One value.
    Scalar(Scalar),
    /// Another message.
    Message(MessageId),
    /// A repeated field.
    List(Box<Type>),
    /// A repeated field of `{key, value}`; an object in JSON.
    Map(Box<Type>),
    /// `{repeated items}`; a list in JSON (`authentication` ExtraValue, `meta` Verbs).
    Wrapped(Box<Type>),
}

/// One field of a message.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its number on the wire.
    pub number: u32,
    /// Its JSON name; empty for a message whose fields stand in its parent's JSON object.
    pub name: Box<str>,
    /// Its type.
    pub ty: Type,
    /// Whether Go has a pointer: absent and zero are then different values.
    pub pointer: bool,
    /// Whether Go leaves an empty one out of JSON.
    pub omit_empty: bool,
    go_name: Option<Box<str>>,
}

impl Field {
    /// The field's name in Go, which errors quote.
    #[must_use]
    pub fn go_name(&self) -> String {
        match (&self.go_name, self.name.chars().next()) {
            (Some(name), _) => name.to_string(),
            (None, Some(first)) => format!("{}{}", first.to_ascii_uppercase(), &self.name[first.len_utf8()..]),
            (None, None) => String::new(),
        }
    }

    /// Whether the field's own fields stand in its parent's JSON object.
    #[must_use]
    pub fn is_inline(&self) -> bool {
        self.name.is_empty()
    }
}

#[derive(Debug)]
struct Message {
    name: Box<str>,
    /// By number.
    fields: Box<[Field]>,
}

/// All messages.
#[derive(Debug)]
pub struct Table(Box<[Message]>);

impl Table {
    /// The message of this full name, for example `io.k8s.api.core.v1.Service`.
    #[must_use]
    pub fn named(&self, name: &str) -> Option<MessageId> {
        let found = self.0.binary_search_by(|message| (*message.name).cmp(name)).ok()?;
        u16::try_from(found).ok().map(MessageId)
    }

    /// The message of a kind. DeleteOptions and Status belong to every group.
    #[must_use]
    pub fn of_kind(&self, api_version: &str, kind: &str) -> Option<MessageId> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let package = match group.split('.').next().unwrap_or_default() {
            "" => "core",
            first => first,
        };
        let shared = || self.named(&format!("{META}.{kind}"));
        self.named(&format!("{PACKAGE}.{package}.{version}.{kind}"))
            .or_else(shared)
    }

    /// The fields of a message, by number.
    #[must_use]
    pub fn fields(&self, id: MessageId) -> &[Field] {
        &self.0[usize::from(id.0)].fields
    }

    /// The field of this number.
    #[must_use]
    pub fn field(&self, id: MessageId, number: u32) -> Option<&Field> {
        let fields = self.fields(id);
        let found = fields.binary_search_by(|field| field.number.cmp(&number)).ok()?;
        Some(&fields[found])
    }

    /// The full name of a message.
    #[must_use]
    pub fn name(&self, id: MessageId) -> &str {
        &self.0[usize::from(id.0)].name
    }

    /// The name of a message without its package.
    #[must_use]
    pub fn go_name(&self, id: MessageId) -> &str {
        let name = self.name(id);
        name.rsplit('.').next().unwrap_or(name)
    }

    /// Every message.
    pub fn iter(&self) -> impl Iterator<Item = MessageId> {
        (0..self.0.len()).filter_map(|index| u16::try_from(index).ok().map(MessageId))
    }

    fn build(raw: &BTreeMap<String, Vec<RawField>>) -> Self {
        let ids: BTreeMap<&str, MessageId> = raw
            .keys()
            .zip(0..)
            .map(|(name, index)| (name.as_str(), MessageId(index)))
            .collect();
        let messages = raw.iter().map(|(name, fields)| Message {
            name: name.as_str().into(),
            fields: fields.iter().map(|field| field.build(&ids)).collect(),
        });
        Self(messages.collect())
    }
}

/// One field as the file has it: number, JSON name, type, and sometimes the Go name.
#[derive(Deserialize)]
#[serde(untagged)]
enum RawField {
    Plain(u32, String, String),
    Named(u32, String, String, String),
}

impl RawField {
    fn build(&self, ids: &BTreeMap<&str, MessageId>) -> Field {
        let (number, name, ty, go_name) = match self {
            Self::Plain(number, name, ty) => (number, name, ty, None),
            Self::Named(number, name, ty, go_name) => (number, name, ty, Some(go_name.as_str().into())),
        };
        let (omit_empty, ty) = unmarked(ty, "?");
        let (pointer, ty) = unmarked(ty, "*");
        Field {
            number: *number,
            name: name.as_str().into(),
            ty: type_of(ty, ids),
            pointer,
            omit_empty,
            go_name,
        }
    }
}

fn unmarked<'t>(ty: &'t str, mark: &str) -> (bool, &'t str) {
    ty.strip_prefix(mark).map_or((false, ty), |rest| (true, rest))
}

fn type_of(ty: &str, ids: &BTreeMap<&str, MessageId>) -> Type {
    let nested = |rest: &str| Box::new(type_of(rest, ids));
    if let Some(rest) = ty.strip_prefix("[]") {
        return Type::List(nested(rest));
    }
    if let Some(rest) = ty.strip_prefix("{}") {
        return Type::Map(nested(rest));
    }
    if let Some(rest) = ty.strip_prefix("<>") {
        return Type::Wrapped(nested(rest));
    }
    Type::Scalar(match ty {
        "bool" => Scalar::Bool,
        "int32" => Scalar::Int32,
        "int64" => Scalar::Int64,
        "double" => Scalar::Double,
        "string" => Scalar::String,
        "bytes" => Scalar::Bytes,
        "time" => Scalar::Time,
        "microtime" => Scalar::MicroTime,
        "quantity" => Scalar::Quantity,
        "int-or-string" => Scalar::IntOrString,
        "json" => Scalar::Json,
        message => return Type::Message(*ids.get(message).expect("the table is closed; a test reads it")),
    })
}
