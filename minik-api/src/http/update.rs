//! Changes of a stored object: PUT, PATCH, and the subresources that are changes in disguise. All go
//! through [`change`]: read, let the caller make the new object, check it, store it against what was read.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use crate::alloc::Reservation;
use crate::error::ApiError;
use crate::resource::decode::{self, FieldValidation, Format};
use crate::resource::field::{FieldError, Reason};
use crate::resource::{KindInfo, Subresource, managed, patch as patches};
use crate::storage::{Change, Entry, Outcome, guaranteed_update};

use super::addresses;
use super::auth::restrict_to_own_pods;
use super::call::{Call, WriteOptions};
use super::create;
use super::document;
use super::escalation;
use super::negotiate::content_type;
use super::object::{self, text};
use super::respond;
use super::write::{Done, Wanted};

const MODIFIED: &str = "the object has been modified; please apply your changes to the latest version and try again";
const JSON_PATCH: &str = "application/json-patch+json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const STRATEGIC_PATCH: &str = "application/strategic-merge-patch+json";
const PATCHES: &str = "application/json-patch+json, application/merge-patch+json, application/strategic-merge-patch+json, application/apply-patch+yaml";

/// Kinds that a PUT creates when they are not there, as 1.36 has them.
const CREATED_ON_UPDATE: [&str; 4] = ["Service", "Endpoints", "Event", "Lease"];
/// Kinds that cannot be replaced without saying what is replaced.
const CONDITIONAL_ONLY: [&str; 1] = ["Lease"];

/// What part of the object a change may touch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Everything but status.
    Main,
    /// Status.
    Status,
    /// A Namespace's `spec.finalizers`.
    Finalizers,
    /// A Pod's `spec.ephemeralContainers`.
    EphemeralContainers,
    /// What the containers of a Pod may use.
    Resize,
}

impl From<Option<Subresource>> for Part {
    fn from(subresource: Option<Subresource>) -> Self {
        match subresource {
            Some(Subresource::Status) => Self::Status,
            Some(Subresource::Finalize) => Self::Finalizers,
            Some(Subresource::EphemeralContainers) => Self::EphemeralContainers,
            Some(Subresource::Resize) => Self::Resize,
            _ => Self::Main,
        }
    }
}

/// Replaces the object in the path by the one in `body`.
///
/// # Errors
/// The body does not decode or fit the path, the object is not there or has changed, or it is invalid.
pub async fn update(call: &Call, body: &Bytes, format: Format) -> Result<Response, ApiError> {
    let options = call.write_options(false)?;
    let decoded = decode::decode(body, format, call.info(), options.validation)?;
    check_path(call, &decoded.object)?;
    let part = Part::from(call.target.subresource);
    let absent = call.state.storage.cache().get(&call.key()).is_none();
    if absent && part == Part::Main && CREATED_ON_UPDATE.contains(&call.info().kind) {
        return create::create(call, body, format).await;
    }
    let mut warnings = decoded.warnings;
    let mut sent = decoded.object;
    if call.info().namespaced {
        object::metadata(&mut sent).insert("namespace".to_owned(), call.target.namespace.as_str().into());
    }
    let done = change(call, part, &options, |_| Ok(Wanted::new(sent.clone()))).await?;
    warnings.extend(done.warnings);
    respond::object(call, StatusCode::OK, &done.document, &warnings)
}

/// Applies the patch in `body` to the object in the path.
///
/// # Errors
/// As [`update`], or the patch does not apply.
pub async fn patch(call: &Call, body: &Bytes) -> Result<Response, ApiError> {
    let info = call.info();
    let media_type = content_type(&call.headers).to_owned();
    match media_type.as_str() {
        JSON_PATCH | MERGE_PATCH | STRATEGIC_PATCH => {}
        _ => return Err(ApiError::UnsupportedMediaType(PATCHES)),
    }
    let options = call.write_options(false)?;
    let part = Part::from(call.target.subresource);
    let duplicates = match options.validation {
        FieldValidation::Ignore => Vec::new(),
        FieldValidation::Strict | FieldValidation::Warn => decode::duplicate_fields(body),
    };
    let done = change(call, part, &options, |old| {
        let patched = apply_patch(&media_type, old, body, |old| patches::strategic_patch(old, body, info))?;
        // The refusal of what came of a patch quotes the patch where it was laid over Go's maps, else the outcome.
        let refuse = |problem: String| {
            let quoted = match media_type.as_str() {
                STRATEGIC_PATCH => decode::json(body).as_ref().map(decode::go_value).unwrap_or_default(),
                _ => patched.to_string(),
            };
            misfit(quoted, problem)
        };
        let check = match media_type.as_str() {
            STRATEGIC_PATCH => decode::check_merged,
            _ => decode::check,
        };
        let (object, unknown) = check(&patched, info).map_err(|problem| refuse(problem.to_string()))?;
        let unknown = [duplicates.clone(), unknown].concat();
        let mut wanted = Wanted::new(object);
        match options.validation {
            FieldValidation::Strict if !unknown.is_empty() => {
                return Err(refuse(format!("strict decoding error: {}", unknown.join(", "))));
            }
            FieldValidation::Strict | FieldValidation::Ignore => {}
            FieldValidation::Warn => wanted.warnings = unknown,
        }
        Ok(wanted)
    })
    .await?;
    respond::object(call, StatusCode::OK, &done.document, &done.warnings)
}

/// Applies a patch of any media type that is understood.
///
/// # Errors
/// The media type is not, or the patch does not apply.
pub fn apply_patch(
    media_type: &str,
    old: &Value,
    body: &[u8],
    strategic: impl FnOnce(&Value) -> Result<Value, patches::PatchError>,
) -> Result<Value, ApiError> {
    Ok(match media_type {
        JSON_PATCH => patches::json_patch(old, body)?,
        MERGE_PATCH => patches::merge_patch(old, body)?,
        STRATEGIC_PATCH => strategic(old)?,
        _ => return Err(ApiError::UnsupportedMediaType(PATCHES)),
    })
}

/// 422 about a patch whose outcome does not fit the schema; it names no kind.
fn misfit(quoted: String, problem: String) -> ApiError {
    ApiError::Invalid {
        kind: String::new(),
        group: String::new(),
        name: String::new(),
        errors: vec![FieldError::invalid("patch", quoted, problem)],
    }
}

/// Changes the object in the path: `make` turns the stored object into the wanted one.
///
/// # Errors
/// What `make` says; or the object is not there, not the one that was meant, or invalid.
pub async fn change(
    call: &Call,
    part: Part,
    options: &WriteOptions,
    mut make: impl FnMut(&Value) -> Result<Wanted, ApiError>,
) -> Result<Done, ApiError> {
    let (outcome, planned) = guaranteed_update(&*call.state.storage, &call.key(), |entry| {
        let entry = entry.ok_or_else(|| call.not_found())?;
        let old = document::parse(call.info(), &entry.value)?;
        let mut wanted = make(&old)?;
        let warnings = std::mem::take(&mut wanted.warnings);
        let mut planned = plan(call, part, options, entry, old, wanted)?;
        planned.warnings.splice(..0, warnings);
        let change = if options.dry_run {
            Change::Keep
        } else {
            std::mem::replace(&mut planned.change, Change::Keep)
        };
        Ok::<_, ApiError>((change, planned))
    })
    .await?;
    let document = match outcome {
        Outcome::Written(entry) => entry.value.clone(),
        Outcome::Deleted(entry) => {
            addresses::forget(&call.state, call.info(), &entry).await;
            entry.value.clone()
        }
        Outcome::Kept => planned.document,
    };
    if let Some(reservation) = planned.reservation.filter(|_| !options.dry_run) {
        addresses::settle(&call.state, &document::parse(call.info(), &document)?, reservation).await?;
    }
    Ok(Done {
        document,
        warnings: planned.warnings,
    })
}

struct Planned {
    change: Change,
    /// The object at its old revision.
    document: Bytes,
    reservation: Option<Reservation>,
    warnings: Vec<String>,
}

/// Decides what becomes of `old` when a client wants another object.
fn plan(
    call: &Call,
    part: Part,
    options: &WriteOptions,
    entry: &Entry,
    mut old: Value,
    wanted: Wanted,
) -> Result<Planned, ApiError> {
    let info = call.info();
    // Kinds do not look at managedFields, and they are dear to carry along.
    let mut new = wanted.object;
    let stored = object::take_managed_fields(&mut old);
    let sent = object::take_managed_fields(&mut new);
    let old = &old;
    let name = &call.target.name;
    restrict_to_own_pods(&call.identity, info, old, name, "update status for")?;
    check_versions(call, old, &new)?;
    let errors = immutable_identity(old, &new);
    if !errors.is_empty() {
        return Err(ApiError::invalid(info, name, errors));
    }
    object::carry_over(&mut new, old);
    refuse_new_finalizers(call, old, &new)?;
    let strategy = &call.kind().strategy;
    let mut reservation = None;
    if matches!(part, Part::EphemeralContainers | Part::Resize) {
        new = with_part_of_spec(old, &new, part);
    }
    if part != Part::Finalizers {
        strategy.default(&mut new)?;
    }
    if part == Part::Main {
        escalation::check(call, Some(old), &new)?;
    }
    let managed_fields = wanted
        .managed_fields
        .unwrap_or_else(|| managed::update(&call.writer(options), Some(old), &new, &stored, &sent));
    match part {
        Part::Finalizers => {
            let finalizers = new.pointer("/spec/finalizers").cloned().unwrap_or_default();
            new = old.clone();
            object::map(&mut new["spec"]).insert("finalizers".to_owned(), finalizers);
        }
        Part::Status => strategy.prepare_for_status_update(&mut new, old)?,
        Part::Main | Part::EphemeralContainers | Part::Resize => strategy.prepare_for_update(&mut new, old)?,
    }
    decode::settle(info, &mut new);
    let errors = match part {
        Part::EphemeralContainers | Part::Resize => strategy.validate_spec_part(&new, old)?,
        _ => strategy.validate_update(&new, old)?,
    };
    if info.kind == "Service" && part == Part::Main && !addresses::come_first(&errors) {
        reservation = Some(addresses::reserve_more(call, &mut new, old)?);
    }
    if !errors.is_empty() {
        return Err(ApiError::invalid(info, name, errors));
    }
    let warnings = if part == Part::Main {
        strategy.warnings(&new)?
    } else {
        Vec::new()
    };
    let (change, document) = outcome(info, entry, old, new, managed_fields, &stored)?;
    Ok(Planned {
        change,
        document,
        reservation,
        warnings,
    })
}

/// What `new` in place of `old` comes to, and the object that the client gets. `stored` are the managedFields there are.
fn outcome(
    info: &KindInfo,
    entry: &Entry,
    old: &Value,
    mut new: Value,
    managed_fields: Value,
    stored: &Value,
) -> Result<(Change, Bytes), ApiError> {
    let ends =
        object::is_deleting(&new) && object::may_go(&new) && object::deletion_grace(&new).unwrap_or_default() == 0;
    object::keep(&mut new, old, "resourceVersion");
    // That the same fields were written again is no change worth a revision.
    if !ends && new == *old && managed::same_but_times(&managed_fields, stored) {
        return Ok((Change::Keep, entry.value.clone()));
    }
    object::set_managed_fields(&mut new, managed_fields);
    let document = document::encode(info, &new)?;
    let bytes = document.stamp(entry.revision);
    let change = if ends {
        Change::Delete(document)
    } else {
        Change::Put(document)
    };
    Ok((change, bytes))
}

/// `old` with the part of `new` that a Pod's subresource is about.
fn with_part_of_spec(old: &Value, new: &Value, part: Part) -> Value {
    let mut object = old.clone();
    let metadata = object::metadata(&mut object);
    if let Some(version) = new.pointer("/metadata/resourceVersion") {
        metadata.insert("resourceVersion".to_owned(), version.clone());
    }
    let spec = object::map(&mut object["spec"]);
    if part == Part::EphemeralContainers {
        match new.pointer("/spec/ephemeralContainers") {
            Some(containers) => spec.insert("ephemeralContainers".to_owned(), containers.clone()),
            None => spec.remove("ephemeralContainers"),
        };
        return object;
    }
    for field in ["containers", "initContainers"] {
        let wanted = new.pointer(&format!("/spec/{field}")).and_then(Value::as_array);
        let containers = spec.get_mut(field).and_then(Value::as_array_mut).into_iter().flatten();
        for container in containers {
            let name = text(container, "/name").to_owned();
            let same = wanted.into_iter().flatten().find(|other| text(other, "/name") == name);
            let resources = same.and_then(|other| other.get("resources")).cloned();
            object::map(container).insert("resources".to_owned(), resources.unwrap_or_else(|| json!({})));
        }
    }
    object
}

fn check_versions(call: &Call, old: &Value, new: &Value) -> Result<(), ApiError> {
    let info = call.info();
    let name = &call.target.name;
    let (sent, stored) = (text(new, "/metadata/uid"), text(old, "/metadata/uid"));
    if !sent.is_empty() && sent != stored {
        let reason = format!("Precondition failed: UID in precondition: {sent}, UID in object meta: {stored}");
        return Err(ApiError::conflict(info, name, reason));
    }
    match text(new, "/metadata/resourceVersion") {
        "" if CONDITIONAL_ONLY.contains(&info.kind) => {
            let detail = "must be specified for an update";
            let error = FieldError::invalid("metadata.resourceVersion", 0, detail);
            Err(ApiError::invalid(info, name, vec![error]))
        }
        "" | "0" => Ok(()),
        sent if sent == text(old, "/metadata/resourceVersion") => Ok(()),
        _ => Err(ApiError::conflict(info, name, MODIFIED)),
    }
}

/// The key is made of name and namespace, so no kind may let them change.
fn immutable_identity(old: &Value, new: &Value) -> Vec<FieldError> {
    let changed = |field: &str| {
        let pointer = format!("/{}", field.replace('.', "/"));
        let (was, is) = (text(old, &pointer), text(new, &pointer));
        (was != is).then(|| FieldError::immutable(field, is))
    };
    ["metadata.name", "metadata.namespace"]
        .into_iter()
        .filter_map(changed)
        .collect()
}

fn refuse_new_finalizers(call: &Call, old: &Value, new: &Value) -> Result<(), ApiError> {
    if !object::is_deleting(old) {
        return Ok(());
    }
    let had = object::finalizers(old);
    let added: Vec<_> = object::finalizers(new)
        .into_iter()
        .filter(|finalizer| !had.contains(finalizer))
        .collect();
    if added.is_empty() {
        return Ok(());
    }
    let quoted: Vec<_> = added.iter().map(|finalizer| format!("{finalizer:?}")).collect();
    let detail = format!(
        "no new finalizers can be added if the object is being deleted, found new finalizers []string{{{}}}",
        quoted.join(", ")
    );
    let field = "metadata.finalizers".to_owned();
    let error = FieldError {
        field,
        reason: Reason::Forbidden,
        detail,
    };
    Err(ApiError::invalid(call.info(), &call.target.name, vec![error]))
}

/// The body of a PUT must be about the object in the path.
fn check_path(call: &Call, sent: &Value) -> Result<(), ApiError> {
    let name = &call.target.name;
    let refuse = |message: String| Err(ApiError::BadRequest(message));
    match text(sent, "/metadata/name") {
        "" => refuse(format!(
            "the name of the object ({name} based on URL) was undeterminable: name must be provided"
        )),
        other if other != name => refuse(format!(
            "the name of the object ({other}) does not match the name on the URL ({name})"
        )),
        _ => match text(sent, "/metadata/namespace") {
            "" => Ok(()),
            other if other == call.target.namespace => Ok(()),
            _ => refuse(
                "the namespace of the provided object does not match the namespace sent on the request".to_owned(),
            ),
        },
    }
}
