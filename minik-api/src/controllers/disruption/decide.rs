//! How many Pods of a budget may be disrupted. Pure; time comes in as `now`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::policy::v1::{PodDisruptionBudget, PodDisruptionBudgetStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::controllers::pod::{is_ready, is_terminating};
use crate::resource::validation::labels;

/// How long a Pod whose eviction was allowed may take until its deletion shows.
const DELETION_PATIENCE: SignedDuration = SignedDuration::from_mins(2);
const ALLOWED: &str = "DisruptionAllowed";

/// What the number of expected Pods is taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expectation {
    /// The Pods that are there.
    Pods,
    /// The replicas that their controllers want.
    Scale,
}

/// What a budget counts by: only one that states a number of available Pods can do without controllers.
pub fn expectation(budget: &PodDisruptionBudget) -> Expectation {
    let spec = budget.spec.as_ref();
    let by_number = spec.is_some_and(|spec| {
        spec.max_unavailable.is_none() && !matches!(&spec.min_available, Some(IntOrString::String(_)))
    });
    if by_number {
        Expectation::Pods
    } else {
        Expectation::Scale
    }
}

/// Whether a budget is about a Pod of its namespace.
pub fn selects(budget: &PodDisruptionBudget, pod: &Pod) -> bool {
    let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    let none = BTreeMap::new();
    let given = pod.metadata.labels.as_ref().unwrap_or(&none);
    selector.is_some_and(|selector| labels::selects(selector, given))
}

/// The status of a budget over `pods`, of which `expected` should be there, and when to look again.
pub fn status(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    expected: i32,
    now: Timestamp,
) -> (PodDisruptionBudgetStatus, Option<Duration>) {
    let (disrupted, recheck) = still_disrupted(budget, pods, now);
    let name = |pod: &Pod| pod.metadata.name.clone().unwrap_or_default();
    let healthy = pods
        .iter()
        .filter(|pod| !is_terminating(pod) && !disrupted.contains_key(&name(pod)) && is_ready(pod));
    let healthy = i32::try_from(healthy.count()).unwrap_or(i32::MAX);
    let desired = desired(budget, expected);
    let allowed = if expected > 0 { (healthy - desired).max(0) } else { 0 };
    let generation = budget.metadata.generation;
    let (status, reason) = match allowed {
        0 => ("False", "InsufficientPods"),
        _ => ("True", "SufficientPods"),
    };
    let status = PodDisruptionBudgetStatus {
        conditions: Some(with_condition(budget, status, reason, "", now)),
        current_healthy: Some(healthy),
        desired_healthy: Some(desired),
        disrupted_pods: Some(disrupted).filter(|pods| !pods.is_empty()),
        disruptions_allowed: Some(allowed),
        expected_pods: Some(expected),
        observed_generation: generation,
    };
    (status, recheck)
}

/// The status of a budget that cannot be counted: nothing is allowed, and why.
pub fn failed(budget: &PodDisruptionBudget, why: &str, now: Timestamp) -> PodDisruptionBudgetStatus {
    PodDisruptionBudgetStatus {
        disruptions_allowed: Some(0),
        conditions: Some(with_condition(budget, "False", "SyncFailed", why, now)),
        ..budget.status.clone().unwrap_or_default()
    }
}

/// Pods whose eviction was allowed and whose deletion does not show yet.
fn still_disrupted(
    budget: &PodDisruptionBudget,
    pods: &[Arc<Pod>],
    now: Timestamp,
) -> (BTreeMap<String, Time>, Option<Duration>) {
    let known = budget.status.as_ref().and_then(|status| status.disrupted_pods.as_ref());
    let mut still = BTreeMap::new();
    let mut recheck: Option<Duration> = None;
    for pod in pods.iter().filter(|pod| !is_terminating(pod)) {
        let name = pod.metadata.name.clone().unwrap_or_default();
        let Some(since) = known.and_then(|known| known.get(&name)) else {
            continue;
        };
        let left = DELETION_PATIENCE - now.duration_since(since.0);
        if let Ok(left) = Duration::try_from(left) {
            recheck = Some(recheck.map_or(left, |soonest| soonest.min(left)));
            still.insert(name, since.clone());
        }
    }
    (still, recheck)
}

fn desired(budget: &PodDisruptionBudget, expected: i32) -> i32 {
    let spec = budget.spec.as_ref();
    if let Some(most) = spec.and_then(|spec| spec.max_unavailable.as_ref()) {
        return (expected - of(most, expected)).max(0);
    }
    spec.and_then(|spec| spec.min_available.as_ref())
        .map_or(0, |least| of(least, expected))
}

/// A number, or a share of `total`, rounded up.
fn of(amount: &IntOrString, total: i32) -> i32 {
    match amount {
        IntOrString::Int(number) => *number,
        IntOrString::String(share) => {
            let percent: i64 = share.trim_end_matches('%').parse().unwrap_or_default();
            let scaled = (i64::from(total) * percent + 99) / 100;
            i32::try_from(scaled).unwrap_or(i32::MAX)
        }
    }
}

fn with_condition(
    budget: &PodDisruptionBudget,
    status: &str,
    reason: &str,
    message: &str,
    now: Timestamp,
) -> Vec<Condition> {
    let before = budget
        .status
        .as_ref()
        .and_then(|status| status.conditions.clone())
        .unwrap_or_default();
    let same = before
        .iter()
        .find(|condition| condition.type_ == ALLOWED && condition.status == status);
    let since = same.map_or(Time(now), |condition| condition.last_transition_time.clone());
    let condition = Condition {
        type_: ALLOWED.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        last_transition_time: since,
        observed_generation: budget.metadata.generation,
    };
    let others = before.into_iter().filter(|condition| condition.type_ != ALLOWED);
    others.chain([condition]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn budget(spec: Value, status: Value) -> PodDisruptionBudget {
        let budget = json!({"metadata": {"name": "b", "generation": 1}, "spec": spec, "status": status});
        serde_json::from_value(budget).unwrap()
    }

    fn pod(name: &str, ready: bool) -> Arc<Pod> {
        let condition = json!({"type": "Ready", "status": if ready { "True" } else { "False" }});
        let pod = json!({"metadata": {"name": name}, "status": {"conditions": [condition]}});
        Arc::new(serde_json::from_value(pod).unwrap())
    }

    fn pods(ready: usize, others: usize) -> Vec<Arc<Pod>> {
        let number = |n: usize| format!("p{n}");
        (0..ready + others).map(|n| pod(&number(n), n < ready)).collect()
    }

    /// Healthy, desired, allowed.
    fn counts(spec: Value, pods: &[Arc<Pod>], expected: i32) -> (i32, i32, i32) {
        let (status, _) = status(&budget(spec, json!({})), pods, expected, at(0));
        (
            status.current_healthy.unwrap(),
            status.desired_healthy.unwrap(),
            status.disruptions_allowed.unwrap(),
        )
    }

    #[test]
    fn numbers_and_shares_are_counted_as_the_documentation_has_it() {
        assert_eq!(counts(json!({"minAvailable": 2}), &pods(3, 0), 3), (3, 2, 1));
        assert_eq!(counts(json!({"minAvailable": 2}), &pods(1, 2), 3), (1, 2, 0));
        assert_eq!(counts(json!({"maxUnavailable": 1}), &pods(3, 0), 3), (3, 2, 1));
        assert_eq!(counts(json!({"maxUnavailable": 1}), &pods(2, 1), 3), (2, 2, 0));
        // Shares are rounded up: of 7 Pods half are 4.
        assert_eq!(counts(json!({"minAvailable": "50%"}), &pods(7, 0), 7), (7, 4, 3));
        assert_eq!(counts(json!({"maxUnavailable": "30%"}), &pods(7, 0), 7), (7, 4, 3));
        assert_eq!(counts(json!({"minAvailable": 0}), &[], 0), (0, 0, 0));
    }

    #[test]
    fn what_was_let_go_is_not_counted_twice_until_its_time_is_up() {
        let disrupted = json!({"disruptedPods": {"p0": at(0).to_string()}});
        let waiting = budget(json!({"minAvailable": 1}), disrupted);
        let (early, recheck) = status(&waiting, &pods(2, 0), 2, at(30));
        assert_eq!((early.current_healthy, early.disruptions_allowed), (Some(1), Some(0)));
        assert_eq!(recheck, Some(Duration::from_secs(90)));
        let (late, recheck) = status(&waiting, &pods(2, 0), 2, at(121));
        assert_eq!((late.current_healthy, late.disrupted_pods), (Some(2), None));
        assert_eq!(recheck, None);
    }

    #[test]
    fn the_condition_follows_and_remembers_since_when() {
        let first = budget(json!({"minAvailable": 1}), json!({}));
        let (seen, _) = status(&first, &pods(2, 0), 2, at(0));
        let condition = seen.conditions.clone().unwrap().remove(0);
        assert_eq!(
            (condition.status.as_str(), condition.reason.as_str()),
            ("True", "SufficientPods")
        );
        let mut again = first.clone();
        again.status = Some(seen.clone());
        assert_eq!(status(&again, &pods(2, 0), 2, at(60)).0, seen, "nothing to write");
        let (less, _) = status(&again, &pods(1, 1), 2, at(60));
        let condition = less.conditions.unwrap().remove(0);
        assert_eq!(
            (condition.reason.as_str(), condition.last_transition_time.0),
            ("InsufficientPods", at(60))
        );
    }

    proptest! {
        /// As many as are allowed may go, and the budget still holds.
        #[test]
        fn what_is_allowed_leaves_what_is_wanted(ready in 0usize..12, others in 0usize..6, amount in 0i32..12, by in 0..4usize) {
            let spec = match by {
                0 => json!({"minAvailable": amount}),
                1 => json!({"maxUnavailable": amount}),
                2 => json!({"minAvailable": format!("{}%", amount * 9)}),
                _ => json!({"maxUnavailable": format!("{}%", amount * 9)}),
            };
            let expected = i32::try_from(ready + others).unwrap();
            let (healthy, desired, allowed) = counts(spec, &pods(ready, others), expected);
            prop_assert!(allowed >= 0);
            prop_assert!(allowed == 0 || healthy - allowed >= desired);
        }
    }
}
