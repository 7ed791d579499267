//! Making room: which Pods of lower priority would have to leave which node, so that a Pod fits. Pure; the rules of
//! Kubernetes' DefaultPreemption.

use std::cmp::Reverse;
use std::sync::Arc;

use k8s_openapi::api::policy::v1::PodDisruptionBudget;

use super::board::{Board, Site};
use super::facts::Facts;
use super::filter::Trial;
use super::refusal::{NEVER, NO_VICTIMS, NOT_HELPFUL, Refusal, VICTIM_GOING, count};
use super::view::View;
use crate::resource::validation::labels;

/// A node on which room can be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Room {
    /// The node.
    pub node: String,
    /// Who has to go, the most important first.
    pub victims: Vec<Arc<Facts>>,
}

struct Candidate {
    room: Room,
    /// Victims whose budget forbids it.
    violations: usize,
}

/// Room for a Pod that every node refuses.
///
/// # Errors
/// Why there is none, in the scheduler's words.
pub fn make_room(
    view: &View<'_>,
    board: &Board,
    facts: &Facts,
    refusals: &[(&Arc<Site>, Refusal)],
) -> Result<Room, String> {
    if !facts.preempts {
        return Err(NEVER.to_owned());
    }
    if awaits_victims(view, facts, refusals) {
        return Err(VICTIM_GOING.to_owned());
    }
    let mut candidates = Vec::new();
    let mut words = Vec::new();
    for (site, refusal) in refusals {
        if !refusal.for_want_of_room {
            words.push(NOT_HELPFUL.to_owned());
            continue;
        }
        match on_node(view, board, facts, site) {
            Ok(candidate) => candidates.push(candidate),
            Err(texts) => words.extend(texts),
        }
    }
    let best = candidates.into_iter().min_by_key(cost);
    best.map(|candidate| candidate.room)
        .ok_or_else(|| count(refusals.len(), words.into_iter()))
}

/// Whether those that had to leave the node that the Pod was promised are still going.
fn awaits_victims(view: &View<'_>, facts: &Facts, refusals: &[(&Arc<Site>, Refusal)]) -> bool {
    let Some(node) = view.nominations.get(&facts.key) else {
        return false;
    };
    let hopeless = |(site, refusal): &(&Arc<Site>, Refusal)| *site.name == **node && !refusal.for_want_of_room;
    let going =
        |resident: &Arc<Facts>| resident.priority < facts.priority && resident.terminating && resident.preempted;
    let residents = view
        .board
        .load(node)
        .into_iter()
        .flat_map(|load| load.residents.values());
    !refusals.iter().any(hopeless) && residents.into_iter().any(going)
}

/// The fewest and least important Pods that have to leave one node.
fn on_node(view: &View<'_>, board: &Board, facts: &Facts, site: &Arc<Site>) -> Result<Candidate, Vec<String>> {
    let residents = board
        .load(&site.name)
        .into_iter()
        .flat_map(|load| load.residents.values());
    let mut lower: Vec<Arc<Facts>> = residents
        .filter(|other| other.priority < facts.priority)
        .cloned()
        .collect();
    if lower.is_empty() {
        return Err(vec![NO_VICTIMS.to_owned()]);
    }
    lower.sort_by_key(|other| importance(other));
    let mut without = board.clone();
    for other in &lower {
        without.remove(&other.key);
    }
    if let Some(refusal) = refusal(view, &without, facts, site) {
        return Err(refusal.reasons.iter().map(ToString::to_string).collect());
    }
    let (protected, others) = by_budget(lower, view.budgets);
    let (mut victims, mut violations) = (Vec::new(), 0);
    for (index, other) in protected.iter().chain(&others).enumerate() {
        without.place(&site.name, other.clone());
        if refusal(view, &without, facts, site).is_some() {
            without.remove(&other.key);
            violations += usize::from(index < protected.len());
            victims.push(other.clone());
        }
    }
    victims.sort_by_key(|victim| importance(victim));
    let room = Room {
        node: site.name.to_string(),
        victims,
    };
    Ok(Candidate { room, violations })
}

fn refusal(view: &View<'_>, board: &Board, facts: &Facts, site: &Arc<Site>) -> Option<Refusal> {
    // What made every node useless was found before anybody thought of making room.
    let wanted = view.volumes.wanted(board, facts).unwrap_or_default();
    Trial::new(board, facts, &wanted).refusal(site)
}

/// Higher priority first, then those that run longer.
fn importance(facts: &Facts) -> (Reverse<i32>, bool, Option<jiff::Timestamp>) {
    (Reverse(facts.priority), facts.started.is_none(), facts.started)
}

/// Those whose budget would be overdrawn, and the others; both keep their order.
fn by_budget(pods: Vec<Arc<Facts>>, budgets: &[Arc<PodDisruptionBudget>]) -> (Vec<Arc<Facts>>, Vec<Arc<Facts>>) {
    let allowed = |budget: &Arc<PodDisruptionBudget>| budget.status.as_ref()?.disruptions_allowed;
    let mut left: Vec<i32> = budgets
        .iter()
        .map(|budget| allowed(budget).unwrap_or_default())
        .collect();
    pods.into_iter().partition(|pod| {
        let mut overdrawn = false;
        for (budget, left) in budgets.iter().zip(&mut left).filter(|(budget, _)| counts(budget, pod)) {
            let known = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
            if known.is_some_and(|pods| pods.contains_key(&pod.key.name)) {
                continue;
            }
            *left -= 1;
            overdrawn |= *left < 0;
        }
        overdrawn
    })
}

fn counts(budget: &PodDisruptionBudget, pod: &Facts) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let empty = |selector: &k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector| {
        selector
            .match_labels
            .as_ref()
            .is_none_or(std::collections::BTreeMap::is_empty)
            && selector.match_expressions.as_ref().is_none_or(Vec::is_empty)
    };
    budget.metadata.namespace.as_deref() == Some(pod.key.namespace.as_str())
        && !pod.class.labels.is_empty()
        && selector.is_some_and(|selector| !empty(selector) && labels::selects(selector, &pod.class.labels))
}

/// What nodes are compared by: budgets overdrawn, the most important victim, the sum of priorities, their number, and
/// the youth of the most important.
fn cost(candidate: &Candidate) -> (usize, i32, i64, usize, Reverse<Option<jiff::Timestamp>>, String) {
    let victims = &candidate.room.victims;
    let highest = victims.first().map_or(i32::MIN, |victim| victim.priority);
    let sum = victims
        .iter()
        .map(|victim| i64::from(victim.priority) + i64::from(i32::MAX) + 1)
        .sum();
    let earliest = victims
        .iter()
        .filter(|victim| victim.priority == highest)
        .filter_map(|victim| victim.started)
        .min();
    (
        candidate.violations,
        highest,
        sum,
        victims.len(),
        Reverse(earliest),
        candidate.room.node.clone(),
    )
}

#[cfg(test)]
#[path = "preempt_tests.rs"]
mod tests;
