//! Server-side apply: the stored object takes what a configuration says, the applying manager owns exactly that,
//! and what it owned before and says no more goes, unless others own it too.

use std::collections::BTreeMap;

use serde_json::Value;

use super::compare::Comparison;
use super::extract::{field_set, problems};
use super::merge::{merged, removed};
use super::zero::zero;
use super::{
    Conflicts, EntryError, FieldSet, Managers, Operation, Owned, Shape, Writer, identity, last_applied, root_type,
    update,
};
use crate::resource::schema;

/// The manager of what was there before anybody applied.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Why a configuration was not applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// It is of another version or kind (400).
    #[error("invalid object type: {0}")]
    Type(String),
    /// It says who owns what (400).
    #[error("metadata.managedFields must be nil")]
    ManagedFields,
    /// It does not fit the schema (500, as Kubernetes has it).
    #[error("failed to create typed patch object ({object}): {problems}")]
    Schema {
        /// `default/web; apps/v1, Kind=Deployment`.
        object: String,
        /// Everything that does not fit.
        problems: String,
    },
    /// The stored object's managedFields cannot be read (500).
    #[error("failed to decode managed fields")]
    Stored(#[source] EntryError),
    /// Others own what it would change (409).
    #[error(transparent)]
    Conflicts(#[from] Conflicts),
}

/// What an apply makes.
#[derive(Debug, Clone, PartialEq)]
pub struct Applied {
    /// The object, without managedFields and before defaults.
    pub object: Value,
    /// Its managedFields.
    pub managed_fields: Value,
}

/// `live` (none: nothing is stored yet) after `writer` applied `config`; `force` takes what others own.
/// `live` is given without its managedFields, which are in `stored`.
///
/// # Errors
/// [`ApplyError`].
pub fn apply(
    writer: &Writer<'_>,
    live: Option<&Value>,
    stored: &Value,
    config: &Value,
    force: bool,
) -> Result<Applied, ApplyError> {
    check_type(writer, config)?;
    if config
        .pointer("/metadata/managedFields")
        .is_some_and(|fields| !fields.is_null())
    {
        return Err(ApplyError::ManagedFields);
    }
    let ty = root_type(writer.info);
    let shape = Shape::root(schema::standard(), &ty);
    let problems = problems(shape, config);
    if !problems.is_empty() {
        let object = described(config);
        return Err(ApplyError::Schema { object, problems });
    }
    let managers = Managers::decode(stored).map_err(ApplyError::Stored)?;
    let empty = zero(writer.info);
    let mut application = Application {
        writer,
        shape,
        live: live.unwrap_or(&empty),
        config,
        managers,
    };
    if let (Some(live), true) = (live, application.managers.0.is_empty()) {
        let before = Writer {
            name: BEFORE_FIRST_APPLY,
            ..*writer
        };
        let all = Comparison::of(shape, &empty, live).without(&writer.ignored());
        update::record(&before, &all, &mut application.managers);
    }
    let (object, managers) = match application.run(force) {
        Err(conflicts) => {
            let allowed = last_applied::allowed(writer, shape, application.live);
            let conflicts = conflicts.without(&allowed);
            if !conflicts.0.is_empty() {
                return Err(conflicts.into());
            }
            application.run(true)?
        }
        Ok(done) => done,
    };
    let mut object = object;
    last_applied::renew(writer, &mut object, config);
    let changed = Some(&object) != live;
    let managed_fields = application.timed(managers, changed).encode();
    Ok(Applied { object, managed_fields })
}

fn check_type(writer: &Writer<'_>, config: &Value) -> Result<(), ApplyError> {
    let text = |name: &str| config.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("apiVersion") == writer.info.api_version() && text("kind") == writer.info.kind {
        return Ok(());
    }
    Err(ApplyError::Type(go_kind(text("apiVersion"), text("kind"))))
}

/// A kind with its version as Go prints it: `apps/v1, Kind=Deployment`, `/v1, Kind=Pod`.
fn go_kind(api_version: &str, kind: &str) -> String {
    let slash = if api_version.contains('/') { "" } else { "/" };
    format!("{slash}{api_version}, Kind={kind}")
}

fn described(config: &Value) -> String {
    let text = |pointer: &str| config.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let kind = go_kind(text("/apiVersion"), text("/kind"));
    format!("{}/{}; {kind}", text("/metadata/namespace"), text("/metadata/name"))
}

struct Application<'a> {
    writer: &'a Writer<'a>,
    shape: Shape<'a>,
    live: &'a Value,
    config: &'a Value,
    /// The managers before.
    managers: Managers,
}

impl Application<'_> {
    fn run(&self, force: bool) -> Result<(Value, Managers), Conflicts> {
        let manager = self.writer.manager(Operation::Apply);
        let api_version = self.writer.info.api_version();
        let ignored = self.writer.ignored();
        let said = field_set(self.shape, self.config).without(&ignored);
        let mut managers = self.managers.clone();
        let owned = Owned {
            api_version: api_version.clone(),
            time: self.managers.0.get(&manager).and_then(|owned| owned.time),
            fields: said,
        };
        let last = managers.0.insert(manager.clone(), owned);
        let object = merged(self.shape, self.live, self.config);
        let object = match last {
            Some(last) if !last.fields.is_empty() => self.pruned(&object, &managers, &last.fields),
            _ => object,
        };
        let change = Comparison::of(self.shape, self.live, &object).without(&ignored);
        let written = change.written();
        let mut conflicts = BTreeMap::new();
        let others = managers.0.iter_mut().filter(|(other, _)| **other != manager);
        for (other, owned) in others.filter(|(_, owned)| owned.api_version == api_version) {
            let contested = owned.fields.intersection(&written);
            owned.fields = owned.fields.difference(&contested).difference(&change.removed);
            if !contested.is_empty() {
                conflicts.insert(other.clone(), contested);
            }
        }
        if !force && !conflicts.is_empty() {
            return Err(Conflicts::of(conflicts));
        }
        if let Some(owned) = managers.0.get_mut(&manager) {
            owned.fields = owned.fields.difference(&identity());
        }
        managers.drop_idle();
        Ok((object, managers))
    }

    /// `object` without what the manager applied last time and nobody owns now.
    fn pruned(&self, object: &Value, managers: &Managers, last: &FieldSet) -> Value {
        let shape = self.shape;
        let last = shape.with_parents(last);
        let all = shape.with_parents(&field_set(shape, object));
        let left_of = |object: &Value| shape.with_parents(&field_set(shape, object));
        let candidate = removed(shape, object, &last);
        let api_version = self.writer.info.api_version();
        let owned = managers.0.values().filter(|owned| owned.api_version == api_version);
        let owned = owned.fold(FieldSet::default(), |all, owned| all.union(&owned.fields));
        let kept = left_of(&candidate).union(&shape.with_parents(&owned));
        let candidate = removed(shape, object, &all.difference(&kept));
        // Only what the manager owned goes; removing a parent took along what others left unowned below it.
        let gone = all.difference(&left_of(&candidate)).intersection(&last);
        removed(shape, object, &gone)
    }

    /// The managers, the applying one as of now if it changed the object. Whoever only says what is so already
    /// owns that too, but changed it at no time.
    fn timed(&self, mut managers: Managers, changed: bool) -> Managers {
        if changed && let Some(owned) = managers.0.get_mut(&self.writer.manager(Operation::Apply)) {
            owned.time = Some(self.writer.now);
        }
        managers
    }
}
