//! The arithmetic of a rollout: how large each ReplicaSet of a Deployment should be next. Pure.
//!
//! All functions read the observed state (`status`) and edit only `spec.replicas` of copies, in the
//! order in which Kubernetes' deployment controller takes its steps.

use std::cmp::Reverse;

use k8s_openapi::api::apps::v1::ReplicaSet;

use super::limits::Limits;
use super::revision::{max_replicas, note_size};

/// The size a ReplicaSet has been asked for.
pub fn wanted(replica_set: &ReplicaSet) -> i32 {
    replica_set.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

/// The Pods of a ReplicaSet that are available.
pub fn available(replica_set: &ReplicaSet) -> i32 {
    replica_set
        .status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or(0)
}

/// The available Pods that will still be there once the ReplicaSet has the size it was asked for.
/// Kubernetes counts all that are available, and so may fall below its promise while a ReplicaSet
/// has yet to follow its last resizing.
fn staying(replica_set: &ReplicaSet) -> i32 {
    available(replica_set).min(wanted(replica_set))
}

/// Asks for another size; says whether it was another.
fn resize(replica_set: &mut ReplicaSet, size: i32, limits: Limits) -> bool {
    let changed = wanted(replica_set) != size;
    if changed {
        replica_set.spec.get_or_insert_default().replicas = Some(size);
    }
    if changed || size > 0 {
        note_size(replica_set, limits);
    }
    changed
}

/// One step of a rolling update: the new ReplicaSet grows while surge allows, or else the old ones
/// shrink while availability allows.
pub fn rolling_step(new: &mut ReplicaSet, old: &mut [ReplicaSet], limits: Limits) {
    let total = wanted(new) + old.iter().map(wanted).sum::<i32>();
    let room = (limits.most() - total).max(0);
    let size = if wanted(new) > limits.replicas {
        limits.replicas
    } else {
        wanted(new) + room.min(limits.replicas - wanted(new))
    };
    if !resize(new, size, limits) {
        shrink_old(new, old, limits);
    }
}

fn shrink_old(new: &ReplicaSet, old: &mut [ReplicaSet], limits: Limits) {
    let total = wanted(new) + old.iter().map(wanted).sum::<i32>();
    // Pods the new ReplicaSet has asked for but does not have yet must not be counted on.
    let missing = (wanted(new) - available(new)).max(0);
    let mut may_go = total - limits.fewest() - missing;
    if may_go <= 0 {
        return;
    }
    old.sort_by_key(|set| set.metadata.creation_timestamp.as_ref().map(|time| time.0));
    // Unhealthy Pods first: taking them away cannot cost availability.
    for set in old.iter_mut() {
        let unhealthy = (wanted(set) - available(set)).clamp(0, may_go);
        if unhealthy > 0 {
            resize(set, wanted(set) - unhealthy, limits);
            may_go -= unhealthy;
        }
    }
    let mut spare = staying(new) + old.iter().map(staying).sum::<i32>() - limits.fewest();
    for set in old.iter_mut() {
        let step = wanted(set).min(spare.max(0));
        if step > 0 {
            resize(set, wanted(set) - step, limits);
            spare -= step;
        }
    }
}

/// One step of Recreate: the old go first; `old_pods_gone` says that none of their Pods runs.
pub fn recreate_step(new: Option<&mut ReplicaSet>, old: &mut [ReplicaSet], old_pods_gone: bool, limits: Limits) {
    let mut shrunk = false;
    for set in old.iter_mut().filter(|set| wanted(set) > 0) {
        shrunk |= resize(set, 0, limits);
    }
    if let Some(new) = new.filter(|_| !shrunk && old_pods_gone) {
        resize(new, limits.replicas, limits);
    }
}

/// Follows a change of `spec.replicas`, also in the middle of a rollout or while paused.
pub fn rescale(new: Option<&mut ReplicaSet>, old: &mut [ReplicaSet], limits: Limits, rolling: bool) {
    let mut sets: Vec<&mut ReplicaSet> = old.iter_mut().collect();
    let has_new = new.is_some();
    sets.extend(new);
    let active: Vec<usize> = (0..sets.len()).filter(|i| wanted(sets[*i]) > 0).collect();
    let Some(last) = sets.len().checked_sub(1) else { return };
    match *active.as_slice() {
        [] => {
            resize(sets[last], limits.replicas, limits);
        }
        [only] => {
            resize(sets[only], limits.replicas, limits);
        }
        _ if has_new && is_saturated(sets[last], limits) => {
            for set in &mut sets[..last] {
                resize(set, 0, limits);
            }
        }
        _ if rolling => proportionally(&mut sets, limits),
        _ => {}
    }
}

fn is_saturated(new: &ReplicaSet, limits: Limits) -> bool {
    wanted(new) == limits.replicas
        && super::revision::desired_replicas(new) == Some(limits.replicas)
        && available(new) == limits.replicas
}

/// Spreads a change over all active ReplicaSets by their share, so that a rollout keeps its balance:
/// the larger ones first, the remainder to the largest.
fn proportionally(sets: &mut [&mut ReplicaSet], limits: Limits) {
    let total: i32 = sets.iter().map(|set| wanted(set)).sum();
    let allowed = if limits.replicas > 0 { limits.most() } else { 0 };
    let to_add = allowed - total;
    let newer_first = to_add > 0;
    sets.sort_by_key(|set| {
        let age = set
            .metadata
            .creation_timestamp
            .as_ref()
            .map(|time| time.0.as_second())
            .unwrap_or(0);
        (Reverse(wanted(set)), if newer_first { -age } else { age })
    });
    let mut added = 0;
    let mut sizes: Vec<i32> = Vec::with_capacity(sets.len());
    for set in sets.iter() {
        let size = wanted(set);
        let part = if size > 0 && to_add != 0 {
            fraction(set, limits)
        } else {
            0
        };
        let left = to_add - added;
        let part = if to_add > 0 {
            part.clamp(0, left)
        } else {
            part.clamp(left, 0)
        };
        added += part;
        sizes.push(size + part);
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    for (set, size) in sets.iter_mut().zip(sizes) {
        resize(set, size, limits);
    }
}

/// What a change of the Deployment's size means for a ReplicaSet of this share.
fn fraction(set: &ReplicaSet, limits: Limits) -> i32 {
    if limits.replicas == 0 {
        return -wanted(set);
    }
    let before = max_replicas(set)
        .filter(|before| *before > 0)
        .unwrap_or(limits.replicas);
    let size = f64::from(wanted(set)) * f64::from(limits.most()) / f64::from(before);
    // Sizes are far below 2^31, so the cast loses nothing.
    size.round() as i32 - wanted(set)
}

#[cfg(test)]
#[path = "sizes_tests.rs"]
mod tests;
