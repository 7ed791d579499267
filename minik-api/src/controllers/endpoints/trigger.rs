//! When the change happened that made endpoints change: the annotation from which proxies measure
//! how long programming the network took. Pure bookkeeping, as Kubernetes' `TriggerTimeTracker`.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};

use crate::controllers::cache::Key;
use crate::controllers::pod::ready_condition;

/// The annotation on Endpoints and EndpointSlices.
pub const LAST_CHANGE: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// What has been seen of each Service.
#[derive(Default)]
pub struct TriggerTimes(BTreeMap<Key, Seen>);

#[derive(Default)]
struct Seen {
    service: Option<Timestamp>,
    pods: BTreeMap<String, Option<Turn>>,
}

/// When a Pod last became ready or ceased to be, and which. Times have whole seconds, and Pods here may come and be ready
/// within one.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Turn {
    at: Timestamp,
    ready: bool,
}

impl TriggerTimes {
    /// The earliest of the changes since the last call, if any of them says when it happened.
    pub fn next(&mut self, service: &Service, pods: &[Arc<Pod>]) -> Option<Timestamp> {
        let key = Key::of(service);
        let created = service.metadata.creation_timestamp.as_ref().map(|time| time.0);
        let now = Seen {
            service: created,
            pods: pods
                .iter()
                .map(|pod| (pod.metadata.name.clone().unwrap_or_default(), changed_at(pod)))
                .collect(),
        };
        let earliest = match self.0.get(&key) {
            // A Service that is new to us changed when it was made.
            None => created,
            Some(before) => {
                let changed = now
                    .pods
                    .iter()
                    .filter(|(name, turn)| before.pods.get(*name).is_none_or(|old| is_newer(**turn, *old)));
                let service = created.filter(|created| before.service.is_none_or(|old| old < *created));
                changed.filter_map(|(_, turn)| Some((*turn)?.at)).chain(service).min()
            }
        };
        self.0.insert(key, now);
        earliest
    }

    /// The Service is gone.
    pub fn forget(&mut self, key: &Key) {
        self.0.remove(key);
    }
}

fn is_newer(now: Option<Turn>, old: Option<Turn>) -> bool {
    match (now, old) {
        (Some(now), Some(old)) => now.at > old.at || now.at == old.at && now.ready != old.ready,
        (now, None) => now.is_some(),
        (None, Some(_)) => false,
    }
}

/// The Pod's last turn, if it says one.
fn changed_at(pod: &Pod) -> Option<Turn> {
    let condition = ready_condition(pod)?;
    Some(Turn {
        at: condition.last_transition_time.as_ref()?.0,
        ready: condition.status == "True",
    })
}

/// A time as the annotation spells it: RFC 3339, to the second.
pub fn spell(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{PodCondition, PodStatus};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    fn pod(name: &str, ready_at: Option<i64>) -> Arc<Pod> {
        let condition = ready_at.map(|second| PodCondition {
            type_: "Ready".into(),
            last_transition_time: Some(Time(Timestamp::from_second(second).unwrap())),
            ..PodCondition::default()
        });
        let mut pod = Pod {
            status: Some(PodStatus {
                conditions: condition.map(|c| vec![c]),
                ..PodStatus::default()
            }),
            ..Pod::default()
        };
        pod.metadata.name = Some(name.into());
        Arc::new(pod)
    }

    #[test]
    fn the_earliest_new_change_counts() {
        let mut service = Service::default();
        service.metadata.creation_timestamp = Some(Time(Timestamp::from_second(50).unwrap()));
        let mut times = TriggerTimes::default();
        let mut next = |pods: &[Arc<Pod>]| times.next(&service, pods).map(Timestamp::as_second);
        assert_eq!(
            next(&[pod("a", Some(10))]),
            Some(50),
            "a new Service counts from its creation"
        );
        assert_eq!(next(&[pod("a", Some(10))]), None);
        assert_eq!(
            next(&[pod("a", Some(70)), pod("b", Some(60)), pod("c", None)]),
            Some(60)
        );
        assert_eq!(next(&[pod("b", Some(60))]), None, "a Pod that went says no time");
        let mut ready = Arc::unwrap_or_clone(pod("b", Some(60)));
        let conditions = ready.status.as_mut().and_then(|status| status.conditions.as_mut());
        conditions.unwrap()[0].status = "True".to_owned();
        let ready = Arc::new(ready);
        assert_eq!(
            next(std::slice::from_ref(&ready)),
            Some(60),
            "ready within the second in which it came"
        );
        assert_eq!(next(std::slice::from_ref(&ready)), None);
    }

    /// As Kubernetes 1.36 spells it: `2026-11-21T02:55:55Z`.
    #[test]
    fn spelt_to_the_second() {
        assert_eq!(
            spell("2026-11-21T02:55:55.987Z".parse().unwrap()),
            "2026-11-21T02:55:55Z"
        );
    }
}
