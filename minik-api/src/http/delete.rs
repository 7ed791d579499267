//! DELETE of objects and collections: grace, finalizers, propagation, preconditions.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use crate::error::{ApiError, Details, Status};
use crate::resource::KindInfo;
use crate::resource::decode::Format;
use crate::resource::field::{FieldError, FieldErrors};
use crate::storage::{Change, Outcome, guaranteed_update};

use super::addresses;
use super::auth::restrict_to_own_pods;
use super::call::{self, Call};
use super::object::{self, text};
use super::{document, read, respond};

/// Keeps an object until its dependents are gone.
const FOREGROUND: &str = "foregroundDeletion";
/// Keeps an object until its dependents are on their own.
const ORPHAN: &str = "orphan";
/// What may become of an object's dependents, as the refusal of anything else lists it.
const POLICIES: [&str; 4] = ["Foreground", "Background", "Orphan", NO_POLICY];
/// Stands in that list for a policy that is not given.
const NO_POLICY: &str = "nil";
/// Namespaces that the cluster cannot do without.
const IMMORTAL: [&str; 3] = ["default", "kube-system", "kube-public"];
/// Kinds whose deletion answers with the object and not with a Status, as 1.36 has them.
const ANSWERED_WITH_OBJECT: [&str; 3] = ["Pod", "Service", "ServiceAccount"];
/// Kinds whose dependents live on unless the client says otherwise, as their first version had it.
const ORPHANING: [(&str, &str); 2] = [("batch/v1", "Job"), ("v1", "ReplicationController")];
/// What those who delete Jobs without a wish are told.
const ORPHANS_LEFT: &str = "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove them or set propagationPolicy=Orphan to suppress this warning";
/// Seconds that a Pod without a wish of its own gets.
const DEFAULT_GRACE: i64 = 30;

/// A client's DeleteOptions, from the body or, without one, from the query.
#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DeleteOptions {
    grace_period_seconds: Option<i64>,
    preconditions: Option<Preconditions>,
    orphan_dependents: Option<bool>,
    propagation_policy: Option<String>,
    dry_run: Vec<String>,
}

#[derive(Debug, Default, Clone, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

impl DeleteOptions {
    /// Reads the options of a request.
    ///
    /// # Errors
    /// They do not decode, or contradict each other.
    pub fn read(call: &Call, body: &[u8], format: Format) -> Result<Self, ApiError> {
        let bad = |error: &dyn std::fmt::Display| ApiError::BadRequest(error.to_string());
        let query = &call.options;
        let options: Self = match (body.is_empty(), format) {
            (false, Format::Json) => serde_json::from_slice(body).map_err(|e| bad(&e))?,
            (false, Format::Yaml) => serde_saphyr::from_slice(body).map_err(|e| bad(&e))?,
            (true, _) => Self {
                grace_period_seconds: query.number("gracePeriodSeconds")?,
                preconditions: None,
                orphan_dependents: query.get("orphanDependents").map(|value| value == "true"),
                propagation_policy: query.get("propagationPolicy").map(str::to_owned),
                dry_run: query.all("dryRun").map(str::to_owned).collect(),
            },
        };
        let mut errors = FieldErrors::new();
        if let Some(policy) = options.propagation_policy.as_deref() {
            if options.orphan_dependents.is_some() {
                let detail = "orphanDependents and deletionPropagation cannot be both set";
                errors.push(FieldError::invalid("propagationPolicy", policy, detail));
            }
            if !POLICIES.contains(&policy) || policy == NO_POLICY {
                errors.push(FieldError::not_supported("propagationPolicy", policy, &POLICIES));
            }
        }
        call::dry_run(options.dry_run.iter().map(String::as_str), &mut errors);
        if errors.is_empty() {
            Ok(options)
        } else {
            Err(call::invalid_options("DeleteOptions", errors))
        }
    }

    fn warnings(&self, info: &KindInfo) -> Vec<String> {
        let silent = self.propagation_policy.is_none() && self.orphan_dependents.is_none();
        let warned = silent && info.group == "batch" && info.kind == "Job";
        warned.then(|| ORPHANS_LEFT.to_owned()).into_iter().collect()
    }

    /// The same for a request that has asked for a dry run elsewhere.
    #[must_use]
    pub fn dry(mut self) -> Self {
        self.dry_run = vec!["All".to_owned()];
        self
    }

    /// Whether nothing may be deleted.
    #[must_use]
    pub fn is_dry_run(&self) -> bool {
        self.dry_run.iter().any(|directive| directive == "All")
    }
}

/// Deletes the object in the path, or begins to.
///
/// # Errors
/// It is not there, must not be deleted, or a precondition fails.
pub async fn delete(call: &Call, body: &Bytes, format: Format) -> Result<Response, ApiError> {
    let options = DeleteOptions::read(call, body, format)?;
    let deleted = delete_one(call, &call.target.name, &call.key(), &options).await?;
    let info = call.info();
    let warnings = options.warnings(info);
    if !deleted.gone || ANSWERED_WITH_OBJECT.contains(&info.kind) {
        return respond::object(call, StatusCode::OK, &deleted.document, &warnings);
    }
    let details = Details {
        name: call.target.name.clone(),
        group: info.group.to_owned(),
        kind: info.plural.to_owned(),
        uid: deleted.uid,
        ..Details::default()
    };
    respond::status(call.accept, StatusCode::OK, &Status::success(details), &warnings)
}

/// Deletes every selected object of the collection in the path, or one page of them, and answers with what it found.
///
/// # Errors
/// Selectors or options make no sense, or one of the deletions fails.
pub async fn delete_collection(call: &Call, body: &Bytes, format: Format) -> Result<Response, ApiError> {
    let options = DeleteOptions::read(call, body, format)?;
    let (found, meta) = read::page(call)?;
    for entry in &found {
        let name = entry.key.rsplit('/').next().unwrap_or_default();
        match delete_one(call, name, &entry.key, &options).await {
            // Gone is what was asked for.
            Ok(_) | Err(ApiError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    respond::list(call, &found, &meta)
}

/// What a deletion came to.
pub struct Deleted {
    gone: bool,
    document: Bytes,
    uid: String,
}

/// Deletes the object at `key`, or begins to.
///
/// # Errors
/// It is not there, must not be deleted, or a precondition fails.
pub async fn delete_one(call: &Call, name: &str, key: &str, options: &DeleteOptions) -> Result<Deleted, ApiError> {
    let info = call.info();
    let dry_run = options.is_dry_run();
    if info.kind == "Namespace" && IMMORTAL.contains(&name) {
        let reason = "this namespace may not be deleted".to_owned();
        let (resource, name) = (info.into(), name.to_owned());
        return Err(ApiError::Forbidden {
            resource,
            name,
            reason,
            causes: Vec::new(),
        });
    }
    let decided = guaranteed_update(&*call.state.storage, key, |entry| {
        let entry = entry.ok_or_else(|| ApiError::not_found(info, name))?;
        let old = document::parse(info, &entry.value)?;
        restrict_to_own_pods(&call.identity, info, &old, name, "delete")?;
        check_preconditions(info, name, &old, options)?;
        let uid = text(&old, "/metadata/uid").to_owned();
        let (change, gone, document) = match decide(&old, options, call::now()) {
            Fate::Gone(last) => (
                Change::Delete(document::encode(info, &last)?),
                true,
                entry.value.clone(),
            ),
            Fate::Marked(new) => {
                let document = document::encode(info, &new)?;
                let bytes = document.stamp(entry.revision);
                (Change::Put(document), false, bytes)
            }
            Fate::Waits => (Change::Keep, false, entry.value.clone()),
        };
        Ok::<_, ApiError>((
            if dry_run { Change::Keep } else { change },
            Deleted { gone, document, uid },
        ))
    });
    let (outcome, deleted) = decided.await?;
    Ok(match outcome {
        Outcome::Written(entry) => Deleted {
            document: entry.value.clone(),
            ..deleted
        },
        Outcome::Deleted(entry) => {
            addresses::forget(&call.state, info, &entry).await;
            Deleted {
                document: entry.value.clone(),
                ..deleted
            }
        }
        Outcome::Kept => deleted,
    })
}

/// Checks that the object is the one that the client means.
///
/// # Errors
/// It is another, or has changed.
pub fn check_preconditions(info: &KindInfo, name: &str, old: &Value, options: &DeleteOptions) -> Result<(), ApiError> {
    let Some(preconditions) = &options.preconditions else {
        return Ok(());
    };
    let version = preconditions.resource_version.as_deref();
    check_identity(info, name, old, preconditions.uid.as_deref(), version)
}

/// Checks that an object has the uid and the revision that are asked for.
///
/// # Errors
/// It has not.
pub fn check_identity(
    info: &KindInfo,
    name: &str,
    old: &Value,
    uid: Option<&str>,
    version: Option<&str>,
) -> Result<(), ApiError> {
    for (what, wanted, pointer) in [
        ("UID", uid, "/metadata/uid"),
        ("ResourceVersion", version, "/metadata/resourceVersion"),
    ] {
        let is = text(old, pointer);
        if let Some(wanted) = wanted.filter(|wanted| *wanted != is) {
            let reason = format!("Precondition failed: {what} in precondition: {wanted}, {what} in object meta: {is}");
            return Err(ApiError::conflict(info, name, reason));
        }
    }
    Ok(())
}

/// What a deletion does to an object.
#[derive(Debug, PartialEq)]
enum Fate {
    /// It goes now; this is its last state.
    Gone(Value),
    /// It stays, marked, until its grace is over and its finalizers are done.
    Marked(Value),
    /// It is marked already and nothing changes.
    Waits,
}

fn decide(old: &Value, options: &DeleteOptions, now: Timestamp) -> Fate {
    let mut new = old.clone();
    let finalizers = wanted_finalizers(old, options);
    object::set_finalizers(&mut new, &finalizers);
    let pod = text(old, "/kind") == "Pod";
    let left = object::deletion_grace(old).unwrap_or_default();
    if object::is_deleting(old) && left > 0 {
        // The grace of a begun deletion can only be shortened.
        let Some(wanted) = options.grace_period_seconds.filter(|wanted| pod && *wanted < left) else {
            return Fate::Waits;
        };
        let wanted = if wanted < 0 { 1 } else { wanted };
        let due = text(old, "/metadata/deletionTimestamp").parse().unwrap_or(now);
        mark(&mut new, due - SignedDuration::from_secs(left - wanted), Some(wanted));
        return if wanted == 0 && object::may_go(&new) {
            Fate::Gone(new)
        } else {
            Fate::Marked(new)
        };
    }
    let grace = if pod { pod_grace(old, options) } else { 0 };
    if grace > 0 && !object::is_deleting(old) {
        mark(&mut new, now + SignedDuration::from_secs(grace), Some(grace));
        object::bump_generation(&mut new);
        return Fate::Marked(new);
    }
    if object::may_go(&new) {
        return Fate::Gone(new);
    }
    if !object::is_deleting(old) {
        // A Namespace has no grace to tell of; its phase says the same.
        if text(old, "/kind") == "Namespace" {
            mark(&mut new, now, None);
            object::map(&mut new["status"]).insert("phase".to_owned(), "Terminating".into());
        } else {
            mark(&mut new, now, Some(0));
        }
        object::bump_generation(&mut new);
    }
    if new == *old { Fate::Waits } else { Fate::Marked(new) }
}

fn mark(object: &mut Value, due: Timestamp, grace: Option<i64>) {
    let metadata = object::metadata(object);
    metadata.insert("deletionTimestamp".to_owned(), due.to_string().into());
    if let Some(grace) = grace {
        metadata.insert("deletionGracePeriodSeconds".to_owned(), grace.into());
    }
}

/// Seconds that a Pod gets to stop. One that runs nowhere, or no more, needs none.
fn pod_grace(pod: &Value, options: &DeleteOptions) -> i64 {
    let own = pod
        .pointer("/spec/terminationGracePeriodSeconds")
        .and_then(Value::as_i64);
    let wanted = options.grace_period_seconds.or(own).unwrap_or(DEFAULT_GRACE);
    let bound = !text(pod, "/spec/nodeName").is_empty();
    let over = matches!(text(pod, "/status/phase"), "Succeeded" | "Failed");
    match wanted {
        _ if !bound || over => 0,
        negative if negative < 0 => 1,
        seconds => seconds,
    }
}

/// The finalizers that the propagation policy leaves, in a stable order.
fn wanted_finalizers(old: &Value, options: &DeleteOptions) -> Vec<String> {
    let had = object::finalizers(old);
    let has = |name: &str| had.iter().any(|finalizer| finalizer == name);
    let (orphan, foreground) = match (options.orphan_dependents, options.propagation_policy.as_deref()) {
        (Some(orphan), _) => (orphan, false),
        (None, Some(policy)) => (policy == "Orphan", policy == "Foreground"),
        (None, None) if has(ORPHAN) || has(FOREGROUND) => (has(ORPHAN), has(FOREGROUND)),
        (None, None) => (orphans_by_default(old), false),
    };
    let mut wanted: Vec<String> = had
        .iter()
        .filter(|finalizer| !matches!(finalizer.as_str(), ORPHAN | FOREGROUND))
        .cloned()
        .collect();
    wanted.extend(orphan.then(|| ORPHAN.to_owned()));
    wanted.extend(foreground.then(|| FOREGROUND.to_owned()));
    wanted
}

fn orphans_by_default(object: &Value) -> bool {
    ORPHANING.contains(&(text(object, "/apiVersion"), text(object, "/kind")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).expect("is in range")
    }

    fn bound_pod() -> Value {
        json!({"kind": "Pod", "metadata": {"name": "p"}, "spec": {"nodeName": "w", "terminationGracePeriodSeconds": 20}})
    }

    fn grace(seconds: i64) -> DeleteOptions {
        DeleteOptions {
            grace_period_seconds: Some(seconds),
            ..DeleteOptions::default()
        }
    }

    #[test]
    fn a_bound_pod_is_marked_until_its_kubelet_lets_go() {
        let Fate::Marked(marked) = decide(&bound_pod(), &DeleteOptions::default(), at(100)) else {
            panic!("stays");
        };
        assert_eq!(text(&marked, "/metadata/deletionTimestamp"), "1970-01-01T00:02:00Z");
        assert_eq!(object::deletion_grace(&marked), Some(20));
        assert_eq!(decide(&marked, &grace(30), at(101)), Fate::Waits);
        let Fate::Marked(sooner) = decide(&marked, &grace(5), at(101)) else {
            panic!("stays")
        };
        assert_eq!(text(&sooner, "/metadata/deletionTimestamp"), "1970-01-01T00:01:45Z");
        assert!(matches!(decide(&marked, &grace(0), at(101)), Fate::Gone(_)));
    }

    #[test]
    fn a_pod_that_runs_nowhere_goes_at_once() {
        let mut pod = bound_pod();
        pod["spec"].as_object_mut().expect("is a map").remove("nodeName");
        assert!(matches!(decide(&pod, &DeleteOptions::default(), at(0)), Fate::Gone(_)));
        let mut pod = bound_pod();
        pod["status"] = json!({"phase": "Succeeded"});
        assert!(matches!(decide(&pod, &DeleteOptions::default(), at(0)), Fate::Gone(_)));
    }

    #[test]
    fn propagation_is_left_to_finalizers() {
        let object = json!({"kind": "Deployment", "metadata": {"name": "d", "generation": 1}});
        let policy = |policy: &str| DeleteOptions {
            propagation_policy: Some(policy.to_owned()),
            ..DeleteOptions::default()
        };
        assert!(matches!(decide(&object, &policy("Background"), at(0)), Fate::Gone(_)));
        let Fate::Marked(marked) = decide(&object, &policy("Foreground"), at(0)) else {
            panic!("stays")
        };
        assert_eq!(object::finalizers(&marked), ["foregroundDeletion"]);
        assert_eq!(object::deletion_grace(&marked), Some(0));
        assert_eq!(marked["metadata"]["generation"], 2);
        assert_eq!(decide(&marked, &DeleteOptions::default(), at(1)), Fate::Waits);
    }

    #[test]
    fn a_namespace_ends_only_when_it_is_empty() {
        let mut namespace =
            json!({"kind": "Namespace", "metadata": {"name": "n"}, "spec": {"finalizers": ["kubernetes"]}});
        let Fate::Marked(marked) = decide(&namespace, &DeleteOptions::default(), at(0)) else {
            panic!("stays")
        };
        assert_eq!(marked["status"]["phase"], "Terminating");
        namespace["spec"] = json!({});
        assert!(matches!(
            decide(&namespace, &DeleteOptions::default(), at(0)),
            Fate::Gone(_)
        ));
    }
}
