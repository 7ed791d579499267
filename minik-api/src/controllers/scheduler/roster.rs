//! Who waits for a node, who has one, and whose turn it is. Pure.
//!
//! Fed with Pods, nodes and namespaces as they are now, in any order and as often as anybody likes. A Pod that fits nowhere
//! is set aside until something changes that its refusals were about, so a crowd that cannot be placed costs nothing while
//! nothing happens.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, Pod};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::board::Board;
use super::decide::{Decision, decide};
use super::facts::Facts;
use super::refusal::{Event, Reason};
use super::selector::Labels;
use super::view::View;
use super::volumes::Volumes;
use crate::controllers::cache::Key;
use crate::controllers::pod::{is_finished, is_terminating, node_name};

/// The name that Pods give this scheduler.
pub const NAME: &str = "default-scheduler";

/// A place in the queue: by priority, then by age.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Turn(Reverse<i32>, Option<Timestamp>, Key);

impl Turn {
    fn of(facts: &Facts) -> Self {
        Self(Reverse(facts.priority), facts.created, facts.key.clone())
    }
}

/// See the module's documentation.
#[derive(Debug, Default)]
pub struct Roster {
    board: Board,
    waiting: BTreeMap<Key, Arc<Facts>>,
    turns: BTreeSet<Turn>,
    aside: BTreeMap<Key, BTreeSet<Reason>>,
    /// Pods that were given a node which they do not show yet, by uid.
    assumed: BTreeMap<Key, String>,
    promises: BTreeMap<Key, String>,
}

impl Roster {
    /// A node is so now, or gone.
    pub fn see_node(&mut self, name: &str, node: Option<&Node>) {
        if self.board.set_node(name, node) {
            self.notice(Event::Node);
        }
    }

    /// A namespace has these labels now, or is gone.
    pub fn see_namespace(&mut self, name: &str, labels: Option<Labels>) {
        if self.board.set_namespace(name, labels) {
            self.notice(Event::Namespace);
        }
    }

    /// A Pod is so now, or gone.
    pub fn see_pod(&mut self, key: &Key, pod: Option<&Pod>) {
        let Some(pod) = pod.filter(|pod| !is_finished(pod)) else {
            self.forget(key);
            return;
        };
        if let Some(node) = node_name(pod) {
            self.assumed.remove(key);
            self.see_placed(node, Facts::of(pod));
        } else if is_ours(pod) && !is_terminating(pod) {
            if let Some(node) = pod
                .status
                .as_ref()
                .and_then(|status| status.nominated_node_name.clone())
            {
                self.promises.entry(key.clone()).or_insert(node);
            }
            self.see_waiting(Facts::of(pod));
        } else {
            self.forget(key);
        }
    }

    fn see_placed(&mut self, node: &str, facts: Facts) {
        self.leave_queue(&facts.key);
        let known = self.board.load(node).and_then(|load| load.residents.get(&facts.key));
        if known.is_some_and(|known| **known == facts) {
            return;
        }
        let less =
            known.is_some_and(|known| known.requests != facts.requests || known.terminating != facts.terminating);
        self.board.place(node, Arc::new(facts));
        self.notice(Event::Arrival);
        if less {
            self.notice(Event::Departure);
        }
    }

    fn see_waiting(&mut self, facts: Facts) {
        let key = facts.key.clone();
        match self.assumed.get(&key) {
            Some(uid) if *uid == facts.uid => return,
            Some(_) => self.forget(&key),
            None => {}
        }
        if self.waiting.get(&key).is_some_and(|known| **known == facts) {
            return;
        }
        let promise = self.promises.remove(&key);
        self.leave_queue(&key);
        self.promises.extend(promise.map(|node| (key.clone(), node)));
        self.turns.insert(Turn::of(&facts));
        self.waiting.insert(key, Arc::new(facts));
    }

    fn leave_queue(&mut self, key: &Key) {
        if let Some(facts) = self.waiting.remove(key) {
            self.turns.remove(&Turn::of(&facts));
        }
        self.aside.remove(key);
        self.promises.remove(key);
    }

    fn forget(&mut self, key: &Key) {
        self.leave_queue(key);
        self.assumed.remove(key);
        if self.board.remove(key).is_some() {
            self.notice(Event::Departure);
        }
    }

    /// Something happened: those set aside whom it may concern are asked again.
    pub fn notice(&mut self, event: Event) {
        let concerned = |reasons: &BTreeSet<Reason>| reasons.iter().any(|reason| reason.may_yield_to(event));
        let called: Vec<Key> = self
            .aside
            .iter()
            .filter(|(_, reasons)| concerned(reasons))
            .map(|(key, _)| key.clone())
            .collect();
        for key in called {
            self.aside.remove(&key);
            self.turns.extend(self.waiting.get(&key).map(|facts| Turn::of(facts)));
        }
    }

    /// Decides for the Pod whose turn it is, and counts the decision as done. A promise follows from the decision.
    pub fn next(&mut self, volumes: &Volumes, budgets: &[Arc<PodDisruptionBudget>]) -> Option<(Arc<Facts>, Decision)> {
        let Turn(_, _, key) = self.turns.pop_first()?;
        let facts = self.waiting.get(&key)?.clone();
        let view = View {
            board: &self.board,
            volumes,
            nominations: &self.promises,
            waiting: &self.waiting,
            budgets,
        };
        let decision = decide(&view, &facts);
        match &decision {
            Decision::Bind { node, .. } => {
                self.leave_queue(&key);
                self.assumed.insert(key, facts.uid.clone());
                self.board.place(node, facts.clone());
                self.notice(Event::Arrival);
            }
            Decision::Refuse {
                reasons,
                room,
                keeps_promise,
                ..
            } => {
                match room {
                    Some(room) => self.promises.insert(key.clone(), room.node.clone()),
                    None if *keeps_promise => None,
                    None => self.promises.remove(&key),
                };
                self.aside.insert(key, reasons.clone());
            }
        }
        Some((facts, decision))
    }

    /// Whether anybody's turn has come.
    pub fn is_idle(&self) -> bool {
        self.turns.is_empty()
    }

    /// A decision could not be carried out: nothing is assumed of the Pod any more.
    pub fn take_back(&mut self, key: &Key) {
        if self.assumed.contains_key(key) {
            self.forget(key);
        }
    }

    /// Asks again about a Pod that was set aside.
    pub fn recall(&mut self, key: &Key) {
        if self.aside.remove(key).is_some() {
            self.turns.extend(self.waiting.get(key).map(|facts| Turn::of(facts)));
        }
    }

    /// The counts, for the law that they do not depend on how they came about.
    #[cfg(test)]
    pub fn board(&self) -> &Board {
        &self.board
    }
}

/// Whether the Pod waits for this scheduler and nothing holds it back.
fn is_ours(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let scheduler = spec.and_then(|spec| spec.scheduler_name.as_deref());
    let gates = spec.and_then(|spec| spec.scheduling_gates.as_ref());
    scheduler.is_none_or(|name| name == NAME) && gates.is_none_or(Vec::is_empty)
}

#[cfg(test)]
#[path = "roster_tests.rs"]
mod tests;
