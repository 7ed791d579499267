//! One pass of the deployment controller as a value: what to create, resize and delete, and the
//! status to show. Pure; the loop in `mod.rs` carries it out.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentStatus, ReplicaSet};

use super::limits::Limits;
use super::revision::{REVISION, desired_replicas, make_current, revision};
use super::sizes::{recreate_step, rescale, rolling_step, wanted};
use super::status::{Rollout, is_complete, is_paused};
use super::template::{new_replica_set, same_template};

/// What a pass looks at.
pub struct View<'a> {
    /// The Deployment.
    pub deployment: &'a Deployment,
    /// The ReplicaSets that it controls.
    pub replica_sets: &'a [Arc<ReplicaSet>],
    /// Names of those ReplicaSets that still have a Pod that has not finished.
    pub running: &'a [String],
    /// The time of the pass.
    pub now: Timestamp,
}

/// A ReplicaSet to write, and the size it had.
#[derive(Debug, PartialEq)]
pub struct Resize {
    /// The ReplicaSet as it should be.
    pub replica_set: ReplicaSet,
    /// The size it was asked for before.
    pub from: i32,
    /// The size it is asked for now.
    pub to: i32,
}

/// What to do. Empty lists and equal statuses mean that nothing is to be done.
#[derive(Debug, PartialEq)]
pub struct Plan {
    /// The ReplicaSet of a template that has none yet, at the size it starts with.
    pub create: Option<ReplicaSet>,
    /// ReplicaSets to update.
    pub update: Vec<Resize>,
    /// ReplicaSets beyond the revision history limit.
    pub delete: Vec<Arc<ReplicaSet>>,
    /// The revision to write on the Deployment, if another one is there.
    pub revision: Option<String>,
    /// The status as it should be.
    pub status: DeploymentStatus,
    /// When to look again if nothing changes.
    pub recheck: Option<Duration>,
}

/// Decides one pass.
///
/// # Errors
/// A template that does not serialise.
pub fn decide(view: &View<'_>) -> Result<Plan, serde_json::Error> {
    let Sets {
        new: observed_new,
        old: observed_old,
    } = split(view);
    let limits = Limits::of(view.deployment);
    let going = view.deployment.metadata.deletion_timestamp.is_some();
    let paused = is_paused(view.deployment);
    let scaling = is_scaling(view, limits);

    let mut new = observed_new.map(|set| ReplicaSet::clone(set));
    let mut old: Vec<ReplicaSet> = observed_old.iter().map(|set| ReplicaSet::clone(set)).collect();
    let recreate = is_recreate(view.deployment);
    let old_pods_gone = !observed_old.iter().any(|set| view.running.contains(&name(set)));
    let creates = !going && !paused && !scaling && new.is_none();
    let must_wait = recreate && (old.iter().any(|set| wanted(set) > 0) || !old_pods_gone);
    let fresh = creates && !must_wait;
    if fresh {
        new = Some(new_replica_set(view.deployment)?);
    }
    if let Some(new) = new.as_mut().filter(|_| !going) {
        make_current(new, view.deployment, &old.iter().collect::<Vec<_>>());
    }
    match (&mut new, going) {
        (_, true) => {}
        (new, false) if paused || scaling => rescale(new.as_mut(), &mut old, limits, !recreate),
        (new, false) if recreate => recreate_step(new.as_mut(), &mut old, old_pods_gone, limits),
        (Some(new), false) => rolling_step(new, &mut old, limits),
        (None, false) => {}
    }

    let rollout = Rollout {
        deployment: view.deployment,
        replica_sets: view.replica_sets.iter().map(|set| &**set).collect(),
        new: observed_new.map(|set| &**set),
        creating: new
            .as_ref()
            .filter(|_| fresh)
            .and_then(|set| set.metadata.name.as_deref()),
        judged: !going && !paused && !scaling,
        now: view.now,
    };
    let status = rollout.status();
    let settled = !going && (paused || is_complete(&status, limits));
    let wanted_revision = new
        .as_ref()
        .and_then(|set| set.metadata.annotations.as_ref()?.get(REVISION).cloned());
    let noted = view
        .deployment
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(REVISION));
    Ok(Plan {
        recheck: rollout.recheck(&status),
        delete: if settled {
            beyond_history(view.deployment, &observed_old)
        } else {
            Vec::new()
        },
        revision: wanted_revision
            .filter(|_| !going)
            .filter(|revision| noted != Some(revision)),
        status,
        update: changes(view, new.iter().filter(|_| !fresh).chain(&old)),
        create: new.filter(|_| fresh),
    })
}

struct Sets<'a> {
    new: Option<&'a Arc<ReplicaSet>>,
    old: Vec<&'a Arc<ReplicaSet>>,
}

/// The ReplicaSet of the present template, the oldest if there are several, and all others.
fn split<'a>(view: &View<'a>) -> Sets<'a> {
    let template = view.deployment.spec.as_ref().map(|spec| &spec.template);
    let mut sets: Vec<_> = view.replica_sets.iter().collect();
    sets.sort_by_key(|set| (set.metadata.creation_timestamp.as_ref().map(|time| time.0), name(set)));
    let runs_template = |set: &&&Arc<ReplicaSet>| {
        let own = set.spec.as_ref().and_then(|spec| spec.template.as_ref());
        matches!((own, template), (Some(own), Some(template)) if same_template(own, template))
    };
    let new = sets.iter().find(runs_template).copied();
    let old = sets
        .into_iter()
        .filter(|set| new.is_none_or(|new| !Arc::ptr_eq(new, set)))
        .collect();
    Sets { new, old }
}

fn name(set: &Arc<ReplicaSet>) -> String {
    set.metadata.name.clone().unwrap_or_default()
}

fn is_recreate(deployment: &Deployment) -> bool {
    let strategy = deployment.spec.as_ref().and_then(|spec| spec.strategy.as_ref());
    strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate")
}

/// Whether an active ReplicaSet was last sized for another number of replicas.
fn is_scaling(view: &View<'_>, limits: Limits) -> bool {
    let active = view.replica_sets.iter().filter(|set| wanted(set) > 0);
    active
        .filter_map(|set| desired_replicas(set))
        .any(|desired| desired != limits.replicas)
}

fn changes<'a>(view: &View<'_>, sets: impl Iterator<Item = &'a ReplicaSet>) -> Vec<Resize> {
    let mut changes = Vec::new();
    for set in sets {
        let observed = view
            .replica_sets
            .iter()
            .find(|observed| observed.metadata.name == set.metadata.name);
        if let Some(observed) = observed.filter(|observed| ***observed != *set) {
            changes.push(Resize {
                from: wanted(observed),
                to: wanted(set),
                replica_set: set.clone(),
            });
        }
    }
    changes
}

fn beyond_history(deployment: &Deployment, old: &[&Arc<ReplicaSet>]) -> Vec<Arc<ReplicaSet>> {
    let limit = deployment
        .spec
        .as_ref()
        .and_then(|spec| spec.revision_history_limit)
        .unwrap_or(10);
    let mut living: Vec<_> = old
        .iter()
        .filter(|set| set.metadata.deletion_timestamp.is_none())
        .collect();
    let excess = living.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
    living.sort_by_key(|set| revision(&set.metadata));
    let idle = |set: &&&&Arc<ReplicaSet>| {
        let status = set.status.as_ref();
        let seen = status.and_then(|status| status.observed_generation) >= set.metadata.generation;
        wanted(set) == 0 && seen && status.is_none_or(|status| status.replicas == 0)
    };
    living
        .iter()
        .take(excess)
        .filter(idle)
        .map(|set| Arc::clone(set))
        .collect()
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
