//! One pass of the daemonset controller as a value. Pure; the loop in `mod.rs` carries it out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, DaemonSetStatus};
use k8s_openapi::api::core::v1::{Node, Pod, PodTemplateSpec};
use kube::ResourceExt;

use super::placement::{Fit, fit, new_pod, target};
use super::rollout::{Limits, Rollout};
use crate::controllers::hash::template_hash;
use crate::controllers::history::{POD_REVISION, Present, beyond, new_revision, patch_of, present};
use crate::controllers::pod::{
    is_active, is_available, is_finished, is_ready, is_terminating, next_available, node_name, phase,
};
use crate::controllers::pod_control::BURST;
use crate::controllers::recorder::{Note, Severity};

/// What a pass looks at.
pub struct View<'a> {
    /// The DaemonSet.
    pub set: &'a DaemonSet,
    /// The Pods that it controls.
    pub pods: &'a [Arc<Pod>],
    /// The revisions that it controls.
    pub revisions: &'a [Arc<ControllerRevision>],
    /// Every node.
    pub nodes: &'a [Arc<Node>],
    /// Nodes on which a failed Pod is to be left alone for now.
    pub resting: &'a BTreeSet<String>,
    /// Whether the cache shows every Pod that earlier passes created or deleted.
    pub settled: bool,
    /// The time of the pass.
    pub now: Timestamp,
}

/// What to do, in this order.
#[derive(Debug, PartialEq)]
pub struct Plan {
    /// The revision of the present template.
    pub update: Present,
    /// What to tell.
    pub notes: Vec<Note>,
    /// Pods to delete.
    pub delete: Vec<Arc<Pod>>,
    /// Pods to create.
    pub create: Vec<Pod>,
    /// The status as it should be.
    pub status: DaemonSetStatus,
    /// Revisions beyond the history limit.
    pub obsolete: Vec<Arc<ControllerRevision>>,
    /// When to look again if nothing changes.
    pub recheck: Option<Duration>,
}

/// Pods on one node, the oldest first.
pub type OnNode<'a> = Vec<&'a Arc<Pod>>;

/// Decides one pass.
///
/// # Errors
/// A template that does not serialise.
pub fn decide(view: &View<'_>) -> Result<Plan, serde_json::Error> {
    let template = view
        .set
        .spec
        .as_ref()
        .map(|spec| spec.template.clone())
        .unwrap_or_default();
    let update = update_revision(view, &template)?;
    let hash = update.revision.labels().get(POD_REVISION).cloned().unwrap_or_default();
    let pass = Pass::new(view, &hash);
    let mut work = Work::default();
    if view.settled && view.set.metadata.deletion_timestamp.is_none() {
        pass.manage(&mut work);
        if work.delete.is_empty() && work.create.is_empty() {
            pass.roll(&mut work);
        }
    }
    let limit = view.set.spec.as_ref().and_then(|spec| spec.revision_history_limit);
    let active = view.pods.iter().map(|pod| &**pod).filter(|pod| is_active(pod));
    let is_old = |old: &&Arc<ControllerRevision>| old.metadata.name != update.revision.metadata.name;
    let old: Vec<_> = view.revisions.iter().filter(is_old).cloned().collect();
    Ok(Plan {
        notes: work.notes,
        delete: work.delete.into_iter().take(BURST).collect(),
        create: work
            .create
            .iter()
            .take(BURST)
            .map(|node| new_pod(view.set, &template, &hash, node))
            .collect(),
        status: pass.status(),
        obsolete: beyond(&old, limit, |old| pass.is_in_use(old)),
        recheck: next_available(active, pass.min_ready, view.now),
        update,
    })
}

fn update_revision(view: &View<'_>, template: &PodTemplateSpec) -> Result<Present, serde_json::Error> {
    let collisions = view.set.status.as_ref().and_then(|status| status.collision_count);
    let hash = template_hash(template, collisions)?;
    let wanted = new_revision(view.set, template, patch_of(template)?, (POD_REVISION, &hash));
    Ok(present(view.revisions, wanted))
}

#[derive(Default)]
struct Work<'a> {
    notes: Vec<Note>,
    delete: Vec<Arc<Pod>>,
    create: Vec<&'a str>,
}

struct Pass<'a> {
    view: &'a View<'a>,
    hash: &'a str,
    min_ready: i32,
    limits: Limits,
    fits: BTreeMap<&'a str, Fit>,
    pods: BTreeMap<&'a str, OnNode<'a>>,
}

impl<'a> Pass<'a> {
    fn new(view: &'a View<'a>, hash: &'a str) -> Self {
        let name = |node: &'a Arc<Node>| node.metadata.name.as_deref().unwrap_or_default();
        let fits: BTreeMap<_, _> = view
            .nodes
            .iter()
            .map(|node| (name(node), fit(view.set, node)))
            .collect();
        let desired = fits.values().filter(|fit| fit.should_run).count();
        let mut pods: BTreeMap<&str, OnNode<'a>> = BTreeMap::new();
        for pod in view
            .pods
            .iter()
            .filter(|pod| !(is_terminating(pod) && is_finished(pod)))
        {
            if let Some(node) = target(pod) {
                pods.entry(node).or_default().push(pod);
            }
        }
        for on_node in pods.values_mut() {
            on_node.sort_by_key(|pod| {
                let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
                (node_name(pod).is_none(), created, pod.metadata.name.clone())
            });
        }
        Self {
            view,
            hash,
            min_ready: view
                .set
                .spec
                .as_ref()
                .and_then(|spec| spec.min_ready_seconds)
                .unwrap_or(0),
            limits: Limits::of(view.set, i32::try_from(desired).unwrap_or(i32::MAX)),
            fits,
            pods,
        }
    }

    fn is_updated(&self, pod: &Pod) -> bool {
        pod.labels().get(POD_REVISION).is_some_and(|hash| hash == self.hash)
    }

    fn is_available(&self, pod: &Pod) -> bool {
        is_available(pod, self.min_ready, self.view.now)
    }

    fn is_in_use(&self, revision: &ControllerRevision) -> bool {
        let hash = revision.labels().get(POD_REVISION);
        hash.is_some() && self.view.pods.iter().any(|pod| pod.labels().get(POD_REVISION) == hash)
    }

    /// A Pod on every node that should have one, and none elsewhere.
    fn manage(&self, work: &mut Work<'a>) {
        for (node, fit) in &self.fits {
            let on_node = self.pods.get(node);
            match (fit, on_node) {
                (Fit { should_run: true, .. }, None) => work.create.push(node),
                (Fit { may_stay: true, .. }, Some(on_node)) => self.prune(node, on_node, work),
                (Fit { may_stay: false, .. }, Some(on_node)) => work.delete.extend(going(on_node)),
                _ => {}
            }
        }
        // A Pod that waits for a node that is gone would wait for ever.
        let lost = self.pods.iter().filter(|(node, _)| !self.fits.contains_key(*node));
        let waiting = lost.flat_map(|(_, on_node)| on_node.iter().copied());
        let unbound = waiting.filter(|pod| node_name(pod).is_none() && !is_terminating(pod));
        work.delete.extend(unbound.cloned());
    }

    /// Takes away what has ended, and all but one Pod that runs, or but two where one is to follow the other.
    fn prune(&self, node: &str, on_node: &OnNode<'a>, work: &mut Work<'a>) {
        let mut running = Vec::new();
        for pod in on_node.iter().copied().filter(|pod| !is_terminating(pod)) {
            let name = format!("{}/{}", pod.namespace().unwrap_or_default(), pod.name_any());
            match phase(pod) {
                "Failed" if self.view.resting.contains(node) => {}
                "Failed" => {
                    let message = format!("Found failed daemon pod {name} on node {node}, will try to kill it");
                    work.notes.push(note(Severity::Warning, "FailedDaemonPod", message));
                    work.delete.push(pod.clone());
                }
                "Succeeded" => {
                    let message = format!("Found succeeded daemon pod {name} on node {node}, will try to delete it");
                    work.notes.push(note(Severity::Normal, "SucceededDaemonPod", message));
                    work.delete.push(pod.clone());
                }
                _ => running.push(pod),
            }
        }
        if !self.limits.allow_surge() {
            work.delete.extend(running.into_iter().skip(1).cloned());
            return;
        }
        let (new, old): (Vec<_>, Vec<_>) = running.into_iter().partition(|pod| self.is_updated(pod));
        if let (Some(new), Some(old)) = (new.first(), old.first())
            && (!is_ready(old) || self.is_available(new))
        {
            work.delete.push(Arc::clone(old));
        }
        let surplus = new.into_iter().skip(1).chain(old.into_iter().skip(1));
        work.delete.extend(surplus.cloned());
    }

    /// The next step of a rolling update.
    fn roll(&self, work: &mut Work<'a>) {
        let strategy = self
            .view
            .set
            .spec
            .as_ref()
            .and_then(|spec| spec.update_strategy.as_ref());
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("OnDelete") {
            return;
        }
        let wanted = self.fits.iter().filter(|(_, fit)| fit.should_run);
        let mut rollout = Rollout::new(self.limits);
        for (node, _) in wanted {
            let none = Vec::new();
            let living = self.pods.get(node).unwrap_or(&none).iter().copied();
            let living = living.filter(|pod| !is_terminating(pod));
            let (new, old): (Vec<_>, Vec<_>) = living.partition(|pod| self.is_updated(pod));
            rollout.see(node, (&new, &old), |pod| self.is_available(pod));
        }
        let step = rollout.step();
        work.delete = step.delete;
        work.create = step.create;
    }

    fn status(&self) -> DaemonSetStatus {
        let mut status = DaemonSetStatus::default();
        let (mut available, mut updated) = (0, 0);
        for (node, fit) in &self.fits {
            let first = self.pods.get(node).and_then(|on_node| on_node.first());
            if !fit.should_run {
                status.number_misscheduled += i32::from(first.is_some());
                continue;
            }
            status.desired_number_scheduled += 1;
            let Some(pod) = first else { continue };
            status.current_number_scheduled += 1;
            status.number_ready += i32::from(is_ready(pod));
            available += i32::from(self.is_available(pod));
            updated += i32::from(self.is_updated(pod));
        }
        let some = |count: i32| (count != 0).then_some(count);
        let before = self.view.set.status.as_ref();
        let observed = if self.view.settled {
            self.view.set.metadata.generation
        } else {
            before.and_then(|status| status.observed_generation)
        };
        DaemonSetStatus {
            number_available: some(available),
            number_unavailable: some(status.desired_number_scheduled - available),
            updated_number_scheduled: some(updated),
            observed_generation: observed,
            collision_count: before.and_then(|status| status.collision_count),
            conditions: before.and_then(|status| status.conditions.clone()),
            ..status
        }
    }
}

fn going(on_node: &OnNode<'_>) -> Vec<Arc<Pod>> {
    let staying = on_node.iter().filter(|pod| !is_terminating(pod));
    staying.map(|pod| Arc::clone(pod)).collect()
}

fn note(severity: Severity, reason: &'static str, message: String) -> Note {
    Note {
        severity,
        reason,
        message,
    }
}

#[cfg(test)]
#[path = "plan_tests.rs"]
mod tests;
