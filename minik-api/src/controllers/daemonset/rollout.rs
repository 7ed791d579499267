//! One step of a DaemonSet's rolling update: which old Pods go, and where a new one comes beside an old one. Pure.

use std::sync::Arc;

use k8s_openapi::api::apps::v1::DaemonSet;
use k8s_openapi::api::core::v1::Pod;

use crate::controllers::share::{Round, share};

/// The bounds of a rolling update, in nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Nodes that may have two Pods.
    pub surge: i32,
    /// Nodes that may be without an available Pod.
    pub unavailable: i32,
}

impl Limits {
    /// The bounds for a set that is for so many nodes: percentages of these, rounded up; when both come out as
    /// nothing one node may be without, or no update could begin.
    pub fn of(set: &DaemonSet, desired: i32) -> Self {
        let strategy = set.spec.as_ref().and_then(|spec| spec.update_strategy.as_ref());
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref());
        let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref());
        let surge = surge.map_or(0, |surge| share(surge, desired, Round::Up));
        let unavailable = unavailable.map_or(1, |unavailable| share(unavailable, desired, Round::Up));
        Self {
            surge,
            unavailable: if surge == 0 { unavailable.max(1) } else { unavailable },
        }
    }

    /// Whether a new Pod comes before the old one goes.
    pub fn allow_surge(self) -> bool {
        self.surge > 0
    }
}

/// What is known of the nodes of a set, to take the next step.
pub struct Rollout<'a> {
    limits: Limits,
    unavailable: i32,
    surging: i32,
    /// Old Pods that do nobody any good, and those that do.
    broken: Vec<&'a Arc<Pod>>,
    working: Vec<(&'a str, &'a Arc<Pod>)>,
    /// Nodes whose old Pod does nobody any good.
    in_need: Vec<&'a str>,
    /// Old Pods whose successor has taken over.
    replaced: Vec<&'a Arc<Pod>>,
}

/// The step.
#[derive(Debug, Default)]
pub struct Step<'a> {
    /// Old Pods to delete.
    pub delete: Vec<Arc<Pod>>,
    /// Nodes that get a new Pod beside the old one.
    pub create: Vec<&'a str>,
}

impl<'a> Rollout<'a> {
    /// Nothing known yet.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            unavailable: 0,
            surging: 0,
            broken: Vec::new(),
            working: Vec::new(),
            in_need: Vec::new(),
            replaced: Vec::new(),
        }
    }

    /// Takes note of a node: its new and its old Pods.
    pub fn see(
        &mut self,
        node: &'a str,
        (new, old): (&[&'a Arc<Pod>], &[&'a Arc<Pod>]),
        is_available: impl Fn(&Pod) -> bool,
    ) {
        match (new, old) {
            ([], [old]) if is_available(old) => self.working.push((node, old)),
            ([], [old]) => {
                self.unavailable += 1;
                self.broken.push(old);
                self.in_need.push(node);
            }
            ([new], []) => self.unavailable += i32::from(!is_available(new)),
            ([new], [old]) if is_available(new) => self.replaced.push(old),
            ([_], [_]) => {
                self.surging += 1;
                self.unavailable += 1;
            }
            // Nothing runs there, or too much: for the next pass to put right.
            _ => {
                self.unavailable += 1;
                self.surging += i32::from(!new.is_empty());
            }
        }
    }

    /// The step: within the limits, an old Pod that is of no use counting for nothing.
    pub fn step(self) -> Step<'a> {
        let room = |limit: i32, used: i32| usize::try_from(limit - used).unwrap_or(0);
        if !self.limits.allow_surge() {
            let spare = room(self.limits.unavailable, self.unavailable);
            let working = self.working.into_iter().take(spare).map(|(_, pod)| pod);
            return Step {
                delete: self.broken.into_iter().chain(working).cloned().collect(),
                create: Vec::new(),
            };
        }
        let spare = room(self.limits.surge, self.surging);
        let nodes = self.working.into_iter().take(spare).map(|(node, _)| node);
        Step {
            delete: self.replaced.into_iter().cloned().collect(),
            create: self.in_need.into_iter().chain(nodes).collect(),
        }
    }
}
