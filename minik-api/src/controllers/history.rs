//! The revisions of a Pod template that StatefulSets and DaemonSets keep as ControllerRevisions: what a
//! revision holds, which one is the present template's, and which have had their time. Pure, but for
//! [`record`], which writes what was decided. `kubectl rollout history` and `undo` read these objects.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use kube::{Api, Client, Resource, ResourceExt};
use serde_json::{Value, json};

use super::error::{ReconcileError, found, is_already_exists};
use super::owner::{controller_reference, is_controlled_by};
use super::write::{self, Kind};

/// The label on a Pod that says which revision it was made from.
pub const POD_REVISION: &str = "controller-revision-hash";
/// Left out of the annotations that a revision takes over from its owner.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// What must be written before a revision is the newest of its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upkeep {
    /// Nothing: it is.
    None,
    /// The revision, which is new.
    Create,
    /// Its number: the template is an earlier one again.
    Renumber,
}

/// The revision of an owner's present template.
#[derive(Debug, Clone, PartialEq)]
pub struct Present {
    /// The revision as it should be.
    pub revision: ControllerRevision,
    /// What is to be written for it.
    pub upkeep: Upkeep,
}

impl Present {
    /// The revision's name.
    pub fn name(&self) -> &str {
        self.revision.metadata.name.as_deref().unwrap_or_default()
    }
}

/// A template as a revision holds it: a strategic merge patch that puts the whole template back.
///
/// # Errors
/// A template that does not serialise.
pub fn patch_of(template: &PodTemplateSpec) -> Result<Value, serde_json::Error> {
    let mut template = serde_json::to_value(template)?;
    if let Some(fields) = template.as_object_mut() {
        fields.insert("$patch".into(), "replace".into());
    }
    Ok(json!({"spec": {"template": template}}))
}

/// The template that a revision holds.
///
/// # Errors
/// A revision that holds something else.
pub fn template_of(revision: &ControllerRevision) -> Result<PodTemplateSpec, serde_json::Error> {
    let data = revision.data.as_ref().map(|data| &data.0);
    let template = data.and_then(|data| data.pointer("/spec/template"));
    serde_json::from_value(template.cloned().unwrap_or_default())
}

/// A revision of `owner`'s, not numbered yet. `hash` is its mark, written under `label`.
pub fn new_revision<O: Resource<DynamicType = ()>>(
    owner: &O,
    template: &PodTemplateSpec,
    data: Value,
    (label, hash): (&str, &str),
) -> ControllerRevision {
    let template_labels = template.metadata.as_ref().and_then(|meta| meta.labels.clone());
    let mut labels: BTreeMap<String, String> = template_labels.unwrap_or_default();
    labels.insert(label.into(), hash.into());
    let mut annotations = owner.annotations().clone();
    annotations.remove(LAST_APPLIED);
    ControllerRevision {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", owner.name_any())),
            namespace: owner.namespace(),
            labels: Some(labels),
            annotations: Some(annotations).filter(|all| !all.is_empty()),
            owner_references: Some(vec![controller_reference(owner)]),
            ..ObjectMeta::default()
        },
        data: Some(RawExtension(data)),
        revision: 0,
    }
}

/// The revision of the present template, `wanted`, among those that exist: the newest if it says the
/// same, an older one moved to the front if that does, or a new one.
pub fn present(existing: &[Arc<ControllerRevision>], wanted: ControllerRevision) -> Present {
    let sorted = oldest_first(existing);
    let newest = sorted.last();
    let next = newest.map_or(0, |newest| newest.revision) + 1;
    let same = |revision: &&&Arc<ControllerRevision>| revision.data == wanted.data;
    match sorted.iter().rev().find(same) {
        None => Present {
            revision: ControllerRevision {
                revision: next,
                ..wanted
            },
            upkeep: Upkeep::Create,
        },
        Some(found) if newest.is_some_and(|newest| newest.data == found.data) => Present {
            revision: ControllerRevision::clone(found),
            upkeep: Upkeep::None,
        },
        Some(found) => Present {
            revision: ControllerRevision {
                revision: next,
                ..ControllerRevision::clone(found)
            },
            upkeep: Upkeep::Renumber,
        },
    }
}

/// Revisions by number; those of one number by age, then name.
fn oldest_first(revisions: &[Arc<ControllerRevision>]) -> Vec<&Arc<ControllerRevision>> {
    let mut sorted: Vec<_> = revisions.iter().collect();
    sorted.sort_by_key(|revision| {
        let meta = &revision.metadata;
        let created = meta.creation_timestamp.as_ref().map(|time| time.0);
        (revision.revision, created, meta.name.clone())
    });
    sorted
}

/// The oldest of `revisions` that are too many beyond `limit`, except those in use.
pub fn beyond(
    revisions: &[Arc<ControllerRevision>],
    limit: Option<i32>,
    in_use: impl Fn(&ControllerRevision) -> bool,
) -> Vec<Arc<ControllerRevision>> {
    let keep = usize::try_from(limit.unwrap_or(10)).unwrap_or(0);
    let idle = oldest_first(revisions).into_iter().filter(|revision| !in_use(revision));
    idle.take(revisions.len().saturating_sub(keep)).cloned().collect()
}

/// What became of writing a revision.
#[derive(Debug, PartialEq, Eq)]
pub enum Recorded {
    /// It is the newest now.
    Done,
    /// Its name is taken by a revision of something else: the owner's collision count must grow.
    Collision,
}

/// Writes what `present` asks for.
///
/// # Errors
/// The server refuses.
pub async fn record<O: Kind>(client: &Client, owner: &O, present: &Present) -> Result<Recorded, ReconcileError> {
    let wanted = &present.revision;
    match present.upkeep {
        Upkeep::None => Ok(Recorded::Done),
        Upkeep::Renumber => write::update(client, wanted).await.map(|_| Recorded::Done),
        Upkeep::Create => match write::create(client, wanted).await {
            Ok(_) => Ok(Recorded::Done),
            Err(ReconcileError::Create { source, .. }) if is_already_exists(&source) => {
                let api: Api<ControllerRevision> =
                    Api::namespaced(client.clone(), &owner.namespace().unwrap_or_default());
                let existing = found(api.get(present.name()).await).map_err(|source| ReconcileError::Read {
                    what: write::what(wanted),
                    source,
                })?;
                // What an earlier pass made and the cache does not show yet is no collision.
                let uid = owner.uid().unwrap_or_default();
                let own = |existing: ControllerRevision| {
                    is_controlled_by(&existing.metadata, &uid) && existing.data == wanted.data
                };
                Ok(if existing.is_none_or(own) {
                    Recorded::Done
                } else {
                    Recorded::Collision
                })
            }
            Err(error) => Err(error),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revision(name: &str, number: i64, data: &str) -> Arc<ControllerRevision> {
        Arc::new(ControllerRevision {
            metadata: ObjectMeta {
                name: Some(name.into()),
                ..ObjectMeta::default()
            },
            data: Some(RawExtension(data.into())),
            revision: number,
        })
    }

    fn wanted(data: &str) -> ControllerRevision {
        ControllerRevision::clone(&revision("new", 0, data))
    }

    fn outcome(existing: &[Arc<ControllerRevision>], data: &str) -> (String, i64, Upkeep) {
        let present = present(existing, wanted(data));
        (present.name().into(), present.revision.revision, present.upkeep)
    }

    #[test]
    fn a_template_is_new_newest_or_an_older_one_again() {
        assert_eq!(outcome(&[], "x"), ("new".into(), 1, Upkeep::Create));
        let existing = [revision("b", 2, "y"), revision("a", 1, "x")];
        assert_eq!(outcome(&existing, "z"), ("new".into(), 3, Upkeep::Create));
        assert_eq!(outcome(&existing, "y"), ("b".into(), 2, Upkeep::None));
        assert_eq!(outcome(&existing, "x"), ("a".into(), 3, Upkeep::Renumber));
    }

    #[test]
    fn the_oldest_idle_revisions_go_first() {
        let all: Vec<_> = (0..5).map(|n| revision(&format!("r{n}"), n, "")).collect();
        let gone = |limit, used: &[&str]| -> Vec<String> {
            let in_use = |revision: &ControllerRevision| used.contains(&revision.metadata.name.as_deref().unwrap());
            let gone = beyond(&all, Some(limit), in_use);
            gone.iter().map(|revision| revision.name_any()).collect()
        };
        assert_eq!(gone(3, &[]), ["r0", "r1"]);
        assert_eq!(gone(3, &["r0"]), ["r1", "r2"]);
        assert_eq!(gone(9, &[]), Vec::<String>::new());
    }

    #[test]
    fn a_revision_gives_its_template_back() {
        let mut template = PodTemplateSpec::default();
        let labels = BTreeMap::from([("app".to_string(), "web".to_string())]);
        template.metadata.get_or_insert_default().labels = Some(labels);
        let data = patch_of(&template).unwrap();
        assert_eq!(data["spec"]["template"]["$patch"], "replace");
        let revision = ControllerRevision {
            data: Some(RawExtension(data)),
            ..ControllerRevision::default()
        };
        assert_eq!(template_of(&revision).unwrap(), template);
    }
}
