//! The contract between the verbs and a kind: [`Strategy`] is what a kind's file writes, over its
//! typed object; [`DynStrategy`] is what the verbs call, over JSON.

use jiff::Timestamp;
use k8s_openapi::Metadata;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use super::field::FieldErrors;

/// One printer column of a kind's Table, as `kubectl get` shows it.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    /// Header as Kubernetes spells it, for example `Cluster-IP`.
    pub name: &'static str,
    /// OpenAPI type of the cell: `string`, `integer`, `date`.
    pub kind: &'static str,
    /// OpenAPI format; `name` marks the column that names the object.
    pub format: &'static str,
    /// 0 is always shown, 1 only with `-o wide`.
    pub priority: i32,
    /// One sentence, shown by clients that ask for column definitions.
    pub description: &'static str,
}

/// How one kind behaves. All methods are pure; Kubernetes 1.36 is the reference for each.
pub trait Strategy: Send + Sync + 'static {
    /// The k8s-openapi type.
    type Object: Metadata<Ty = ObjectMeta> + Serialize + DeserializeOwned + Clone + Send + Sync;

    /// Fills the fields that 1.36 defaults. Runs on every write, before validation, and must be idempotent.
    fn default(&self, object: &mut Self::Object);

    /// Clears what a creating client may not set (status, and for generation-bearing kinds sets `generation` 1).
    fn prepare_for_create(&self, _object: &mut Self::Object) {}

    /// Carries over what an update of the main resource may not change (status), and bumps `generation`
    /// where the spec changed.
    fn prepare_for_update(&self, _new: &mut Self::Object, _old: &Self::Object) {}

    /// Keeps everything but status (and what a status update may change) as it was.
    fn prepare_for_status_update(&self, _new: &mut Self::Object, _old: &Self::Object) {}

    /// Every violation, in the order in which 1.36 reports them.
    fn validate(&self, object: &Self::Object) -> FieldErrors;

    /// Every violation of an update, immutable fields included.
    fn validate_update(&self, new: &Self::Object, old: &Self::Object) -> FieldErrors;

    /// Every violation of an update that comes by a subresource for a part of the spec
    /// (`/ephemeralcontainers`, `/resize`).
    fn validate_spec_part(&self, new: &Self::Object, old: &Self::Object) -> FieldErrors {
        self.validate_update(new, old)
    }

    /// Texts for `Warning: 299` headers about what the object says, such as a deprecated field.
    fn warnings(&self, _object: &Self::Object) -> Vec<String> {
        Vec::new()
    }

    /// Printer columns, `Name` first.
    fn columns(&self) -> &'static [Column];

    /// One cell for each column. `now` gives ages.
    fn row(&self, object: &Self::Object, now: Timestamp) -> Vec<Value>;

    /// The value of a field selector's label beyond `metadata.name` and `metadata.namespace`; `None` when
    /// the kind does not support selecting by it.
    fn selectable_field(&self, _object: &Self::Object, _label: &str) -> Option<String> {
        None
    }

    /// The labels that [`Strategy::selectable_field`] answers to.
    fn selectable_fields(&self) -> &'static [&'static str] {
        &[]
    }
}

/// [`Strategy`] with its type erased: objects are JSON that the schema has already accepted.
pub trait DynStrategy: Send + Sync {
    /// See [`Strategy::default`].
    fn default(&self, object: &mut Value) -> Result<(), serde_json::Error>;
    /// See [`Strategy::prepare_for_create`].
    fn prepare_for_create(&self, object: &mut Value) -> Result<(), serde_json::Error>;
    /// See [`Strategy::prepare_for_update`].
    fn prepare_for_update(&self, new: &mut Value, old: &Value) -> Result<(), serde_json::Error>;
    /// See [`Strategy::prepare_for_status_update`].
    fn prepare_for_status_update(&self, new: &mut Value, old: &Value) -> Result<(), serde_json::Error>;
    /// See [`Strategy::validate`].
    fn validate(&self, object: &Value) -> Result<FieldErrors, serde_json::Error>;
    /// See [`Strategy::validate_update`].
    fn validate_update(&self, new: &Value, old: &Value) -> Result<FieldErrors, serde_json::Error>;
    /// See [`Strategy::validate_spec_part`].
    fn validate_spec_part(&self, new: &Value, old: &Value) -> Result<FieldErrors, serde_json::Error>;
    /// See [`Strategy::warnings`].
    fn warnings(&self, object: &Value) -> Result<Vec<String>, serde_json::Error>;
    /// See [`Strategy::columns`].
    fn columns(&self) -> &'static [Column];
    /// See [`Strategy::row`].
    fn row(&self, object: &Value, now: Timestamp) -> Result<Vec<Value>, serde_json::Error>;
    /// See [`Strategy::selectable_field`].
    fn selectable_field(&self, object: &Value, label: &str) -> Result<Option<String>, serde_json::Error>;
    /// See [`Strategy::selectable_fields`].
    fn selectable_fields(&self) -> &'static [&'static str];
}

fn edit<S: Strategy>(object: &mut Value, f: impl FnOnce(&mut S::Object)) -> Result<(), serde_json::Error> {
    let mut typed: S::Object = serde_json::from_value(object.take())?;
    f(&mut typed);
    *object = serde_json::to_value(&typed)?;
    Ok(())
}

fn typed<S: Strategy>(object: &Value) -> Result<S::Object, serde_json::Error> {
    S::Object::deserialize(object)
}

impl<S: Strategy> DynStrategy for S {
    fn default(&self, object: &mut Value) -> Result<(), serde_json::Error> {
        edit::<S>(object, |o| Strategy::default(self, o))
    }
    fn prepare_for_create(&self, object: &mut Value) -> Result<(), serde_json::Error> {
        edit::<S>(object, |o| Strategy::prepare_for_create(self, o))
    }
    fn prepare_for_update(&self, new: &mut Value, old: &Value) -> Result<(), serde_json::Error> {
        let old = typed::<S>(old)?;
        edit::<S>(new, |o| Strategy::prepare_for_update(self, o, &old))
    }
    fn prepare_for_status_update(&self, new: &mut Value, old: &Value) -> Result<(), serde_json::Error> {
        let old = typed::<S>(old)?;
        edit::<S>(new, |o| Strategy::prepare_for_status_update(self, o, &old))
    }
    fn validate(&self, object: &Value) -> Result<FieldErrors, serde_json::Error> {
        Ok(Strategy::validate(self, &typed::<S>(object)?))
    }
    fn validate_update(&self, new: &Value, old: &Value) -> Result<FieldErrors, serde_json::Error> {
        Ok(Strategy::validate_update(self, &typed::<S>(new)?, &typed::<S>(old)?))
    }
    fn validate_spec_part(&self, new: &Value, old: &Value) -> Result<FieldErrors, serde_json::Error> {
        Ok(Strategy::validate_spec_part(self, &typed::<S>(new)?, &typed::<S>(old)?))
    }
    fn warnings(&self, object: &Value) -> Result<Vec<String>, serde_json::Error> {
        Ok(Strategy::warnings(self, &typed::<S>(object)?))
    }
    fn columns(&self) -> &'static [Column] {
        Strategy::columns(self)
    }
    fn row(&self, object: &Value, now: Timestamp) -> Result<Vec<Value>, serde_json::Error> {
        Ok(Strategy::row(self, &typed::<S>(object)?, now))
    }
    fn selectable_field(&self, object: &Value, label: &str) -> Result<Option<String>, serde_json::Error> {
        Ok(Strategy::selectable_field(self, &typed::<S>(object)?, label))
    }
    fn selectable_fields(&self) -> &'static [&'static str] {
        Strategy::selectable_fields(self)
    }
}
