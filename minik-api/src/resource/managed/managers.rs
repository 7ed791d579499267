//! `metadata.managedFields` as a table: which manager owns which fields, since when.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{EntryError, FieldSet};

/// The longest list of Update managers that an object keeps; the oldest are put together beyond it.
const MOST_UPDATERS: usize = 10;
/// The manager that the oldest ones are put together under.
const ANCIENT: &str = "ancient-changes";

/// How a manager came to own its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// By applying a configuration.
    Apply,
    /// By any other write.
    Update,
}

impl Operation {
    /// As managedFields spell it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// What tells managers apart. Whoever applies is one manager in all API versions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Manager {
    /// How it came to own its fields.
    pub operation: Operation,
    /// Its name.
    pub name: String,
    /// The version that it wrote; empty for one that applies.
    pub api_version: String,
    /// The subresource that it wrote to; empty for the object itself.
    pub subresource: String,
}

/// What one manager owns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owned {
    /// The version whose fields these are.
    pub api_version: String,
    /// When the manager last changed any of them.
    pub time: Option<Timestamp>,
    /// The fields.
    pub fields: FieldSet,
}

/// Every manager of an object.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Managers(pub BTreeMap<Manager, Owned>);

impl Managers {
    /// Reads managedFields; a null is an empty list.
    ///
    /// # Errors
    /// The list or one of its entries is malformed.
    pub fn decode(entries: &Value) -> Result<Self, EntryError> {
        let entries = match entries {
            Value::Null => return Ok(Self::default()),
            Value::Array(entries) => entries,
            _ => return Err(EntryError::List),
        };
        entries.iter().map(decode).collect::<Result<_, _>>().map(Self)
    }

    /// The managedFields, in the order in which Kubernetes lists them; null when nobody owns anything.
    #[must_use]
    pub fn encode(&self) -> Value {
        let mut entries: Vec<(&Manager, &Owned)> = self.0.iter().collect();
        entries.sort_by_key(|(manager, owned)| {
            let second = owned.time.map_or(0, Timestamp::as_second);
            (
                manager.operation,
                second,
                &manager.name,
                &owned.api_version,
                &manager.subresource,
            )
        });
        match entries.as_slice() {
            [] => Value::Null,
            entries => entries.iter().map(|(manager, owned)| encode(manager, owned)).collect(),
        }
    }

    /// Takes managers without any field out.
    pub fn drop_idle(&mut self) {
        self.0.retain(|_, owned| !owned.fields.is_empty());
    }

    /// Puts the oldest Update managers together, version by version, until there are at most
    /// [`MOST_UPDATERS`] of them.
    pub fn cap(&mut self) {
        let updaters = self
            .0
            .iter()
            .filter(|(manager, _)| manager.operation == Operation::Update);
        let mut updaters: Vec<(Option<Timestamp>, Manager)> =
            updaters.map(|(manager, owned)| (owned.time, manager.clone())).collect();
        updaters.sort_by(|(a, left), (b, right)| {
            let second = |time: &Option<Timestamp>| time.map(Timestamp::as_second);
            second(a).cmp(&second(b)).then_with(|| left.cmp(right))
        });
        let mut left = updaters.len();
        let mut first_of: BTreeMap<String, Manager> = BTreeMap::new();
        for (_, manager) in updaters {
            if left <= MOST_UPDATERS {
                return;
            }
            let Some(first) = first_of.get(&manager.api_version) else {
                first_of.insert(manager.api_version.clone(), manager);
                continue;
            };
            let bucket = Manager {
                operation: Operation::Update,
                name: ANCIENT.to_owned(),
                api_version: manager.api_version.clone(),
                subresource: String::new(),
            };
            let before = self.0.remove(&bucket).or_else(|| self.0.remove(first));
            if let (Some(before), Some(mut newer)) = (before, self.0.remove(&manager)) {
                newer.fields = newer.fields.union(&before.fields);
                self.0.insert(bucket, newer);
                left -= 1;
            }
        }
    }
}

/// Whether two lists of managedFields say the same but for the times.
#[must_use]
pub fn same_but_times(one: &Value, other: &Value) -> bool {
    let untimed = |entries: &Value| {
        let mut managers = Managers::decode(entries).ok()?;
        managers.0.values_mut().for_each(|owned| owned.time = None);
        Some(managers)
    };
    one == other || matches!((untimed(one), untimed(other)), (Some(a), Some(b)) if a == b)
}

fn decode(entry: &Value) -> Result<(Manager, Owned), EntryError> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let operation = match text("operation").as_str() {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        other => return Err(EntryError::Operation(other.to_owned())),
    };
    if text("fieldsType") != "FieldsV1" {
        return Err(EntryError::FieldsType(text("fieldsType")));
    }
    let time = entry.get("time").and_then(Value::as_str);
    let time = time.map(|time| time.parse().map_err(|source| EntryError::Time { source }));
    let api_version = text("apiVersion");
    let manager = Manager {
        operation,
        name: text("manager"),
        api_version: match operation {
            Operation::Apply => String::new(),
            Operation::Update => api_version.clone(),
        },
        subresource: text("subresource"),
    };
    let fields = match entry.get("fieldsV1") {
        None | Some(Value::Null) => FieldSet::default(),
        Some(fields) => FieldSet::from_json(fields)?,
    };
    let owned = Owned {
        api_version,
        time: time.transpose()?,
        fields,
    };
    Ok((manager, owned))
}

fn encode(manager: &Manager, owned: &Owned) -> Value {
    let mut entry = Map::new();
    let mut put = |name: &str, value: Value| entry.insert(name.to_owned(), value);
    put("manager", manager.name.as_str().into());
    put("operation", manager.operation.as_str().into());
    put("apiVersion", owned.api_version.as_str().into());
    if let Some(time) = owned.time {
        put("time", time.to_string().into());
    }
    put("fieldsType", json!("FieldsV1"));
    put("fieldsV1", owned.fields.to_json());
    if !manager.subresource.is_empty() {
        put("subresource", manager.subresource.as_str().into());
    }
    Value::Object(entry)
}
