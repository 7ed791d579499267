//! One pass of the statefulset controller as a value. Pure; the loop in `mod.rs` carries it out.
//!
//! The order is Kubernetes': first every Pod that should be there, lowest number first; then those that
//! should not, highest first; then, when all are as they should be, those of an older revision, highest
//! first. An OrderedReady set takes no step while an earlier one is not complete.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet, StatefulSetStatus};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

use super::claims::{Claims, PodClaims};
use super::identity::{ordinal, pod_revision, replicas, start};
use super::pods::{new_pod, with_identity};
use super::status::{StatusView, status};
use crate::controllers::hash::revision_hash;
use crate::controllers::history::{Present, beyond, new_revision, patch_of, present, template_of};
use crate::controllers::pod::{is_active, is_available, is_finished, is_terminating, next_available, phase};
use crate::controllers::share::{Round, share};

/// The label under which a revision carries its own hash.
const REVISION_HASH: &str = "controller.kubernetes.io/hash";

/// What a pass looks at.
pub struct View<'a> {
    /// The StatefulSet.
    pub set: &'a StatefulSet,
    /// The Pods that it controls.
    pub pods: &'a [Arc<Pod>],
    /// The revisions that it controls.
    pub revisions: &'a [Arc<ControllerRevision>],
    /// All volume claims.
    pub claims: &'a Claims,
    /// The time of the pass.
    pub now: Timestamp,
}

/// One write about a Pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Step {
    /// These claims, and then this Pod.
    Create {
        /// The Pod.
        pod: Box<Pod>,
        /// The claims that it needs and that are missing.
        claims: Vec<PersistentVolumeClaim>,
    },
    /// The claims that a Pod lacks that waits for them.
    Complete {
        /// The Pod.
        pod: Arc<Pod>,
        /// The missing claims.
        claims: Vec<PersistentVolumeClaim>,
    },
    /// The labels of its number.
    Identify(Box<Pod>),
    /// Other owners for a claim.
    Own {
        /// The claim.
        claim: Arc<PersistentVolumeClaim>,
        /// Its owners from now on.
        owners: Vec<OwnerReference>,
    },
    /// No such Pod any more.
    Delete(Arc<Pod>),
}

/// What to do, in this order.
#[derive(Debug, PartialEq)]
pub struct Plan {
    /// The revision of the present template.
    pub update: Present,
    /// Writes about Pods and their claims.
    pub steps: Vec<Step>,
    /// The status as it should be.
    pub status: StatefulSetStatus,
    /// Revisions beyond the history limit.
    pub obsolete: Vec<Arc<ControllerRevision>>,
    /// When to look again if nothing changes.
    pub recheck: Option<Duration>,
}

/// Decides one pass.
///
/// # Errors
/// A template that does not serialise, or a revision that holds none.
pub fn decide(view: &View<'_>) -> Result<Plan, serde_json::Error> {
    let update = update_revision(view)?;
    let noted = view
        .set
        .status
        .as_ref()
        .and_then(|status| status.current_revision.as_deref());
    let current = view.revisions.iter().find(|r| r.metadata.name.as_deref() == noted);
    let current = current.map_or(&update.revision, |current| current);
    let pass = Pass {
        view,
        current: Revision::of(current)?,
        update: Revision::of(&update.revision)?,
        min_ready: view
            .set
            .spec
            .as_ref()
            .and_then(|spec| spec.min_ready_seconds)
            .unwrap_or(0),
        ordered: view
            .set
            .spec
            .as_ref()
            .and_then(|spec| spec.pod_management_policy.as_deref())
            != Some("Parallel"),
    };
    let (steps, updated_away) = match view.set.metadata.deletion_timestamp {
        Some(_) => (Vec::new(), 0),
        None => pass.steps(),
    };
    let status = status(&StatusView {
        set: view.set,
        pods: view.pods,
        current: &pass.current.name,
        update: &pass.update.name,
        updated_away,
        min_ready: pass.min_ready,
        now: view.now,
    });
    let limit = view.set.spec.as_ref().and_then(|spec| spec.revision_history_limit);
    let idle = pass.idle_revisions();
    let active = view.pods.iter().map(|pod| &**pod).filter(|pod| is_active(pod));
    Ok(Plan {
        steps,
        status,
        obsolete: beyond(&idle, limit, |_| false),
        recheck: next_available(active, pass.min_ready, view.now),
        update,
    })
}

fn update_revision(view: &View<'_>) -> Result<Present, serde_json::Error> {
    let template = view
        .set
        .spec
        .as_ref()
        .map(|spec| spec.template.clone())
        .unwrap_or_default();
    let data = patch_of(&template)?;
    let collisions = view.set.status.as_ref().and_then(|status| status.collision_count);
    let hash = revision_hash(&serde_json::to_vec(&data)?, collisions.unwrap_or(0));
    let wanted = new_revision(view.set, &template, data, (REVISION_HASH, &hash));
    Ok(present(view.revisions, wanted))
}

/// A revision's name and template.
struct Revision {
    name: String,
    template: PodTemplateSpec,
}

impl Revision {
    fn of(revision: &ControllerRevision) -> Result<Self, serde_json::Error> {
        Ok(Self {
            name: revision.metadata.name.clone().unwrap_or_default(),
            template: template_of(revision)?,
        })
    }
}

struct Pass<'a> {
    view: &'a View<'a>,
    current: Revision,
    update: Revision,
    min_ready: i32,
    /// Whether one step must be complete before the next.
    ordered: bool,
}

/// Pods whose numbers are wanted.
type Kept<'p> = BTreeMap<i32, &'p Arc<Pod>>;

/// Whether an ordered set may go on to the next Pod.
#[derive(PartialEq, Eq)]
enum Then {
    GoOn,
    Wait,
}

impl Pass<'_> {
    /// The steps, and how many of them delete a Pod of the current revision for an update.
    fn steps(&self) -> (Vec<Step>, usize) {
        let mut steps = Vec::new();
        let (kept, condemned) = self.sorted();
        let first = start(self.view.set);
        let numbers: Vec<i32> = (first..first.saturating_add(replicas(self.view.set))).collect();
        for number in &numbers {
            let then = self.keep(*number, kept.get(number).copied(), &mut steps);
            if self.ordered && then == Then::Wait {
                return (steps, 0);
            }
        }
        for (number, pod) in &condemned {
            steps.extend(self.own_claims(*number, pod));
        }
        let all = kept.values().chain(condemned.iter().rev().map(|(_, pod)| pod));
        let first_unavailable = all.copied().find(|pod| self.is_unavailable(pod));
        for (_, pod) in &condemned {
            let blocked = self.is_unavailable(pod) && first_unavailable.is_none_or(|first| !Arc::ptr_eq(first, pod));
            if is_terminating(pod) || (self.ordered && blocked) {
                if self.ordered {
                    return (steps, 0);
                }
                continue;
            }
            steps.push(Step::Delete(Arc::clone(pod)));
            if self.ordered {
                return (steps, 0);
            }
        }
        let outdated = self.outdated(&numbers, &kept);
        let away = outdated
            .iter()
            .filter(|pod| pod_revision(pod) == self.current.name)
            .count();
        steps.extend(outdated.into_iter().map(|pod| Step::Delete(pod.clone())));
        (steps, away)
    }

    /// The Pods whose numbers are wanted, and those whose are not, highest first.
    fn sorted(&self) -> (Kept<'_>, Vec<(i32, &Arc<Pod>)>) {
        let first = start(self.view.set);
        let wanted = first..first.saturating_add(replicas(self.view.set));
        let numbered = self.view.pods.iter();
        let numbered = numbered.filter_map(|pod| Some((ordinal(self.view.set, pod)?, pod)));
        let (kept, mut condemned): (Vec<_>, Vec<_>) = numbered.partition(|(number, _)| wanted.contains(number));
        condemned.sort_by_key(|(number, _)| Reverse(*number));
        (kept.into_iter().collect(), condemned)
    }

    /// What the Pod of a wanted number needs, and whether the next may be looked at.
    fn keep(&self, number: i32, pod: Option<&Arc<Pod>>, steps: &mut Vec<Step>) -> Then {
        let claims = self.claims(number, pod.map(|pod| &**pod));
        let Some(pod) = pod else {
            if !claims.are_stale() {
                steps.push(Step::Create {
                    pod: Box::new(self.new_pod(number)),
                    claims: claims.missing(),
                });
            }
            return Then::Wait;
        };
        if is_finished(pod) {
            if !is_terminating(pod) {
                steps.push(Step::Delete(pod.clone()));
            }
            return Then::Wait;
        }
        if phase(pod) == "Pending" {
            let claims = claims.missing();
            if !claims.is_empty() {
                steps.push(Step::Complete {
                    pod: pod.clone(),
                    claims,
                });
            }
        }
        if self.ordered && self.is_unavailable(pod) {
            return Then::Wait;
        }
        steps.extend(with_identity(pod, number).map(|pod| Step::Identify(Box::new(pod))));
        steps.extend(self.own_claims(number, pod));
        Then::GoOn
    }

    fn claims<'p>(&'p self, ordinal: i32, pod: Option<&'p Pod>) -> PodClaims<'p> {
        PodClaims {
            set: self.view.set,
            ordinal,
            pod,
            existing: self.view.claims,
        }
    }

    fn own_claims(&self, number: i32, pod: &Pod) -> Vec<Step> {
        let misowned = self.claims(number, Some(pod)).misowned();
        misowned
            .into_iter()
            .map(|(claim, owners)| Step::Own { claim, owners })
            .collect()
    }

    /// A missing Pod: below the partition of the current revision, else of the new one.
    fn new_pod(&self, number: i32) -> Pod {
        let set = self.view.set;
        let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
        let rolls = strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("RollingUpdate");
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let current_replicas = set.status.as_ref().and_then(|status| status.current_replicas);
        let boundary = match rolling {
            Some(rolling) => rolling.partition.unwrap_or(0),
            None if rolls => current_replicas.unwrap_or(0),
            None => 0,
        };
        let revision = if number < start(set).saturating_add(boundary) {
            &self.current
        } else {
            &self.update
        };
        new_pod(set, &revision.template, &revision.name, number)
    }

    fn is_unavailable(&self, pod: &Pod) -> bool {
        let available = phase(pod) == "Running" && is_available(pod, self.min_ready, self.view.now);
        !available || is_terminating(pod)
    }

    /// The Pods of another revision that may go now.
    fn outdated<'p>(&self, numbers: &[i32], kept: &Kept<'p>) -> Vec<&'p Arc<Pod>> {
        let strategy = self
            .view
            .set
            .spec
            .as_ref()
            .and_then(|spec| spec.update_strategy.as_ref());
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
            return Vec::new();
        }
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let bound = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        let bound = bound.map_or(1, |bound| share(bound, replicas(self.view.set), Round::Down).max(1));
        let there = |number: &&i32| kept.get(number).is_some_and(|pod| !self.is_unavailable(pod));
        let unavailable = numbers.len() - numbers.iter().filter(there).count();
        let allowed = usize::try_from(bound).unwrap_or(1).saturating_sub(unavailable);
        let partition = rolling.and_then(|rolling| rolling.partition).unwrap_or(0);
        let above = numbers.iter().skip(usize::try_from(partition).unwrap_or(0)).rev();
        let pods = above.filter_map(|number| kept.get(number).copied());
        pods.filter(|pod| pod_revision(pod) != self.update.name && !is_terminating(pod))
            .take(allowed)
            .collect()
    }

    /// The revisions that no Pod and neither end of the rollout needs.
    fn idle_revisions(&self) -> Vec<Arc<ControllerRevision>> {
        let used = |name: &str| {
            let of_pod = |pod: &Arc<Pod>| pod_revision(pod) == name;
            name == self.current.name || name == self.update.name || self.view.pods.iter().any(of_pod)
        };
        let idle = self.view.revisions.iter();
        let idle = idle.filter(|revision| !used(revision.metadata.name.as_deref().unwrap_or_default()));
        idle.cloned().collect()
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
