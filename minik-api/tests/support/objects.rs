//! Random objects of every kind: an example, changed at random places to what the OpenAPI document allows there, and
//! sometimes to what it does not. Nothing here knows a kind by its fields; the document says what a field may hold.
//! Included by path by the test programs and by the fuzz targets; choices come out of given bytes, so that both can
//! repeat and shrink them.

use arbitrary::{Result, Unstructured};
use minik_api::resource::{KindInfo, Registry, schema};
use serde_json::{Map, Value, json};

use crate::examples::{examples, views};

/// Below this depth of new structure only scalars are made.
const DEEPEST: usize = 5;
/// Changes to one example.
const MOST_CHANGES: u8 = 4;

/// Names, values of fields that are compared with lists, and what is neither.
const WORDS: &[&str] = &[
    "web",
    "a",
    "b",
    "app",
    "default",
    "demo",
    "kube-system",
    "http",
    "web.example.com",
    "example.com/thing",
    "10.96.0.10",
    "10.96.1.2",
    "10.244.0.7",
    "10.0.0.0/8",
    "127.0.0.1",
    "fd00::1",
    "None",
    "Local",
    "Cluster",
    "Always",
    "*",
    "/",
    "/var/lib",
    "$(A)",
    "50%",
    "*/5 * * * *",
    "foregroundDeletion",
    "kubernetes",
    "v1",
    "Pod",
    "Service",
    "UPPER",
    "with_underscore",
    "-dash",
    "",
    " ",
    "é🦀",
    "\u{0}",
    "a-name-that-is-longer-than-the-sixty-three-characters-that-a-label-may-have",
];
const NUMBERS: &[i64] = &[
    0,
    1,
    -1,
    2,
    3,
    53,
    80,
    443,
    30000,
    30080,
    32767,
    65535,
    65536,
    86400,
    i32::MAX as i64,
    i32::MIN as i64,
    i64::MAX,
    i64::MIN,
];
const QUANTITIES: &[&str] = &[
    "1",
    "100m",
    "64Mi",
    "1Gi",
    "0",
    "-1",
    "1e3",
    "0.5",
    "12E",
    "1n",
    "9223372036854775808",
    "x",
];
const TIMES: &[&str] = &[
    "2026-01-02T03:04:05Z",
    "1970-01-01T00:00:00Z",
    "2026-01-02T03:04:05.123456Z",
    "yesterday",
];

/// What random objects are made from.
pub struct Generator {
    schemas: Value,
    examples: Vec<(&'static str, Value)>,
    views: Vec<(&'static str, Value)>,
}

impl Generator {
    /// A generator for every kind of the registry.
    pub fn new(registry: &Registry) -> Self {
        let roots: Vec<&str> = registry.iter().map(|kind| kind.info.schema).collect();
        Self {
            schemas: serde_json::to_value(schema::Definitions::read().components(&roots)).expect("are JSON"),
            examples: examples(),
            views: views(),
        }
    }

    /// An example of the kind, as it stands.
    pub fn example(&self, u: &mut Unstructured<'_>, info: &KindInfo) -> Result<Value> {
        let candidates: Vec<&Value> = self
            .examples
            .iter()
            .filter(|(kind, _)| *kind == info.kind && info.view.is_none())
            .chain(self.views.iter().filter(|(group, _)| *group == info.group))
            .map(|(_, body)| body)
            .collect();
        let mut object = match candidates.as_slice() {
            [] => json!({"spec": {}}),
            some => (*u.choose(some)?).clone(),
        };
        info.stamp(&mut object);
        Ok(object)
    }

    /// An object of the kind: an example with up to four changes.
    pub fn object(&self, u: &mut Unstructured<'_>, info: &KindInfo) -> Result<Value> {
        let mut object = self.example(u, info)?;
        for _ in 0..u.int_in_range(0..=MOST_CHANGES)? {
            self.change(u, info, &mut object)?;
        }
        Ok(object)
    }

    /// Changes `object` at one random place.
    pub fn change(&self, u: &mut Unstructured<'_>, info: &KindInfo, object: &mut Value) -> Result<()> {
        let root = &self.schemas[info.schema];
        let fields: Vec<(&String, &Value)> = root["properties"]
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(name, _)| !matches!(name.as_str(), "apiVersion" | "kind"))
            .collect();
        if fields.is_empty() {
            return Ok(());
        }
        let (name, schema) = *u.choose(&fields)?;
        self.change_at(u, schema, &mut object[name])
    }

    /// Changes `value`, or something in it.
    fn change_at(&self, u: &mut Unstructured<'_>, schema: &Value, value: &mut Value) -> Result<()> {
        let (_, schema) = self.resolve(schema);
        if !u.ratio(1, 4)? {
            match value {
                Value::Object(present) if schema["properties"].is_object() => {
                    let fields: Vec<(&String, &Value)> =
                        schema["properties"].as_object().into_iter().flatten().collect();
                    // What is there already is as likely to be changed as what is not.
                    let there: Vec<_> = fields
                        .iter()
                        .copied()
                        .filter(|(name, _)| present.contains_key(*name))
                        .collect();
                    let from = if there.is_empty() || u.ratio(1, 2)? {
                        &fields
                    } else {
                        &there
                    };
                    if let Ok((name, schema)) = u.choose(from) {
                        return self.change_at(u, schema, present.entry((*name).clone()).or_insert(Value::Null));
                    }
                }
                Value::Array(items) if !items.is_empty() && u.ratio(3, 4)? => {
                    let at = u.choose_index(items.len())?;
                    return self.change_at(u, &schema["items"], &mut items[at]);
                }
                _ => {}
            }
        }
        *value = match u.int_in_range(0..=15)? {
            0 => Value::Null,
            1 => self.scalar(u)?,
            2 => json!({"unknown": true}),
            3 => json!([]),
            _ => self.value(u, schema, 0)?,
        };
        Ok(())
    }

    fn scalar(&self, u: &mut Unstructured<'_>) -> Result<Value> {
        Ok(match u.int_in_range(0..=3)? {
            0 => u.arbitrary::<bool>()?.into(),
            1 => (*u.choose(NUMBERS)?).into(),
            2 => 1.5.into(),
            _ => (*u.choose(WORDS)?).into(),
        })
    }

    /// A value that fits the schema.
    fn value(&self, u: &mut Unstructured<'_>, schema: &Value, depth: usize) -> Result<Value> {
        let (name, schema) = self.resolve(schema);
        match name.rsplit('.').next() {
            Some("Quantity") => return Ok((*u.choose(QUANTITIES)?).into()),
            Some("Time" | "MicroTime") => return Ok((*u.choose(TIMES)?).into()),
            Some("IntOrString") if u.arbitrary()? => return Ok((*u.choose(NUMBERS)?).into()),
            Some("IntOrString") => return Ok((*u.choose(WORDS)?).into()),
            _ => {}
        }
        if let Some(values) = schema["enum"].as_array()
            && !u.ratio(1, 8)?
        {
            return Ok(u.choose(values)?.clone());
        }
        Ok(match (schema["type"].as_str(), schema["format"].as_str()) {
            (Some("string"), Some("byte")) => "AAECAw==".into(),
            (Some("string"), Some("date-time")) => (*u.choose(TIMES)?).into(),
            (Some("string"), _) => (*u.choose(WORDS)?).into(),
            (Some("integer"), _) => (*u.choose(NUMBERS)?).into(),
            (Some("number"), _) => 0.5.into(),
            (Some("boolean"), _) => u.arbitrary::<bool>()?.into(),
            (Some("array"), _) if depth < DEEPEST => {
                let items = 0..u.int_in_range(0..=2)?;
                items
                    .map(|_| self.value(u, &schema["items"], depth + 1))
                    .collect::<Result<_>>()?
            }
            (Some("array"), _) => json!([]),
            _ => self.map(u, schema, depth)?.into(),
        })
    }

    fn map(&self, u: &mut Unstructured<'_>, schema: &Value, depth: usize) -> Result<Map<String, Value>> {
        let mut map = Map::new();
        if depth >= DEEPEST {
            return Ok(map);
        }
        if schema["additionalProperties"].is_object() {
            for _ in 0..u.int_in_range(0..=2)? {
                let value = self.value(u, &schema["additionalProperties"], depth + 1)?;
                map.insert((*u.choose(WORDS)?).to_owned(), value);
            }
        }
        let required = schema["required"].as_array();
        for (name, field) in schema["properties"].as_object().into_iter().flatten() {
            let needed = required.is_some_and(|required| required.iter().any(|other| other == name));
            if if needed { !u.ratio(1, 16)? } else { u.ratio(1, 6)? } {
                map.insert(name.clone(), self.value(u, field, depth + 1)?);
            }
        }
        Ok(map)
    }

    /// The definition that a schema refers to, with its name.
    fn resolve<'s>(&'s self, schema: &'s Value) -> (&'s str, &'s Value) {
        let reference = schema["$ref"].as_str().or_else(|| schema["allOf"][0]["$ref"].as_str());
        let name = reference.and_then(|reference| reference.rsplit('/').next());
        name.map_or(("", schema), |name| (name, &self.schemas[name]))
    }
}
