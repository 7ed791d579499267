//! The servicecidrs controller: says that a ServiceCIDR is ready, and keeps one that is to go for as long as
//! addresses of Services are in it and in no other.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::cache::Key;
use super::context::Context;
use super::error::{ReconcileError, is_not_found};
use super::queue::{Queue, drive};
use crate::alloc::{MANAGED_BY, MANAGER};

/// What keeps a ServiceCIDR that is to go.
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
/// How long a ServiceCIDR stays after its deletion has begun, so that every allocator has heard of it.
const GRACE: Duration = Duration::from_secs(10);
const READY: &str = "Kubernetes Service CIDR is ready";
const IN_USE: &str =
    "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";

/// What is to be done about a ServiceCIDR.
#[derive(Debug, PartialEq)]
enum Step {
    /// It is as it should be.
    Nothing,
    /// Give it its finalizer.
    Protect,
    /// Say how it is: whether it is ready, and why.
    Say(&'static str, &'static str, &'static str),
    /// Look again later.
    Wait(Duration),
    /// Let it go.
    LetGo,
}

/// The controller; its queue holds the keys of ServiceCIDRs.
pub struct ServiceCidrController {
    context: Arc<Context>,
    queue: Arc<Queue<Key>>,
}

impl ServiceCidrController {
    /// A controller that learns of changes from now on.
    pub fn new(context: Arc<Context>) -> Self {
        let queue: Arc<Queue<Key>> = Arc::default();
        // A range that comes or goes can decide about every other one; there are a few.
        let (own, all) = (queue.clone(), context.service_cidrs.clone());
        context.service_cidrs.on_change(move |_| {
            all.snapshot().iter().for_each(|range| own.add(Key::of(&**range)));
        });
        let (own, all) = (queue.clone(), context.service_cidrs.clone());
        context.ip_addresses.on_change(move |change| {
            if change.new.is_none() {
                let leaving = |range: &&Arc<ServiceCIDR>| range.metadata.deletion_timestamp.is_some();
                all.snapshot()
                    .iter()
                    .filter(leaving)
                    .for_each(|range| own.add(Key::of(&**range)));
            }
        });
        Self { context, queue }
    }

    /// Works until dropped.
    pub async fn run(&self) {
        self.context.service_cidrs.synced().await;
        self.context.ip_addresses.synced().await;
        drive(&self.queue, 1, |key| self.reconcile(key)).await;
    }

    async fn reconcile(&self, key: Key) -> Result<(), ReconcileError> {
        let Some(range) = self.context.service_cidrs.get(&key) else {
            return Ok(());
        };
        let all = self.context.service_cidrs.snapshot();
        let addresses = self.context.ip_addresses.snapshot();
        let now = Timestamp::now();
        match step(&range, all.iter().map(|r| &**r), addresses.iter().map(|a| &**a), now) {
            Step::Nothing => Ok(()),
            Step::Wait(delay) => {
                self.queue.add_after(key, delay);
                Ok(())
            }
            Step::Protect => {
                let mut finalizers = range.finalizers().to_vec();
                finalizers.push(FINALIZER.to_owned());
                self.patch(&range, false, &json!({"metadata": {"finalizers": finalizers}}))
                    .await
            }
            Step::LetGo => {
                let mut finalizers = range.finalizers().to_vec();
                finalizers.retain(|finalizer| finalizer != FINALIZER);
                self.patch(&range, false, &json!({"metadata": {"finalizers": finalizers}}))
                    .await
            }
            Step::Say(status, reason, message) => {
                let condition = json!({"type": "Ready", "status": status, "reason": reason, "message": message,
                    "lastTransitionTime": Timestamp::from_second(now.as_second()).unwrap_or(now).to_string()});
                self.patch(&range, true, &json!({"status": {"conditions": [condition]}}))
                    .await
            }
        }
    }

    async fn patch(&self, range: &ServiceCIDR, status: bool, change: &Value) -> Result<(), ReconcileError> {
        let api: Api<ServiceCIDR> = Api::all(self.context.client.clone());
        let mut change = change.clone();
        change["metadata"]["resourceVersion"] = range.resource_version().into();
        let (name, params, patch) = (range.name_any(), PatchParams::default(), Patch::Merge(change));
        let patched = if status {
            api.patch_status(&name, &params, &patch).await
        } else {
            api.patch(&name, &params, &patch).await
        };
        match patched {
            Err(source) if !is_not_found(&source) => Err(ReconcileError::Update {
                what: format!("ServiceCIDR {name}"),
                source,
            }),
            _ => Ok(()),
        }
    }
}

fn step<'a>(
    range: &ServiceCIDR,
    all: impl Iterator<Item = &'a ServiceCIDR>,
    addresses: impl Iterator<Item = &'a IPAddress>,
    now: Timestamp,
) -> Step {
    let protected = range.finalizers().iter().any(|finalizer| finalizer == FINALIZER);
    let conditions = range
        .status
        .iter()
        .filter_map(|status| status.conditions.as_ref())
        .flatten();
    let said = conditions
        .into_iter()
        .find(|condition| condition.type_ == "Ready")
        .map(|condition| condition.status.as_str());
    let Some(deleted) = &range.metadata.deletion_timestamp else {
        return match said {
            _ if !protected => Step::Protect,
            Some("True") => Step::Nothing,
            _ => Step::Say("True", "", READY),
        };
    };
    if !protected {
        return Step::Nothing;
    }
    let others: Vec<IpNet> = all
        .filter(|other| other.name_any() != range.name_any())
        .flat_map(networks)
        .collect();
    if !may_go(&networks(range), &others, addresses) {
        return match said {
            Some("False") => Step::Nothing,
            _ => Step::Say("False", "Terminating", IN_USE),
        };
    }
    let gone_for = Duration::try_from(now.duration_since(deleted.0)).unwrap_or_default();
    match GRACE.checked_sub(gone_for) {
        Some(left) if !left.is_zero() => Step::Wait(left),
        _ => Step::LetGo,
    }
}

/// Whether no address of a Service would be left without a range.
fn may_go<'a>(networks: &[IpNet], others: &[IpNet], addresses: impl Iterator<Item = &'a IPAddress>) -> bool {
    let covered = |network: &IpNet| others.iter().any(|other| other.contains(network));
    if networks.iter().all(covered) {
        return true;
    }
    let managed = addresses.filter(|ip| ip.labels().get(MANAGED_BY).is_some_and(|by| by == MANAGER));
    let mut held = managed.filter_map(|ip| ip.name_any().parse::<IpAddr>().ok());
    !held.any(|ip| {
        networks.iter().any(|network| network.contains(&ip)) && !others.iter().any(|other| other.contains(&ip))
    })
}

fn networks(range: &ServiceCIDR) -> Vec<IpNet> {
    let cidrs = range.spec.iter().filter_map(|spec| spec.cidrs.as_ref()).flatten();
    cidrs.filter_map(|cidr| cidr.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(name: &str, cidr: &str, more: Value) -> ServiceCIDR {
        let mut object = json!({"metadata": {"name": name, "finalizers": [FINALIZER]}, "spec": {"cidrs": [cidr]}});
        object["metadata"]
            .as_object_mut()
            .unwrap()
            .extend(more.as_object().unwrap().clone());
        serde_json::from_value(object).unwrap()
    }

    fn address(ip: &str) -> IPAddress {
        serde_json::from_value(json!({"metadata": {"name": ip, "labels": {MANAGED_BY: MANAGER}},
            "spec": {"parentRef": {"resource": "services", "name": "a"}}}))
        .unwrap()
    }

    #[test]
    fn a_range_is_kept_while_it_alone_holds_addresses() {
        let leaving = || range("b", "10.1.0.0/24", json!({"deletionTimestamp": "2026-11-21T02:00:00Z"}));
        let held = [address("10.1.0.5")];
        let wide = range("wide", "10.1.0.0/16", json!({}));
        let now = |text: &str| text.parse::<Timestamp>().unwrap();
        let late = now("2026-11-21T02:01:00Z");
        let soon = now("2026-11-21T02:00:04Z");
        assert_eq!(
            step(&leaving(), [&leaving()].into_iter(), held.iter(), late),
            Step::Say("False", "Terminating", IN_USE)
        );
        assert_eq!(
            step(&leaving(), [&leaving(), &wide].into_iter(), held.iter(), late),
            Step::LetGo
        );
        assert_eq!(step(&leaving(), [&leaving()].into_iter(), [].iter(), late), Step::LetGo);
        let left = Step::Wait(Duration::from_secs(6));
        assert_eq!(step(&leaving(), [&leaving()].into_iter(), [].iter(), soon), left);
    }

    #[test]
    fn a_new_range_is_protected_and_then_ready() {
        let new = range("a", "10.1.0.0/24", json!({"finalizers": []}));
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(step(&new, [&new].into_iter(), [].iter(), now), Step::Protect);
        let mut protected = range("a", "10.1.0.0/24", json!({}));
        assert_eq!(
            step(&protected, [].into_iter(), [].iter(), now),
            Step::Say("True", "", READY)
        );
        let condition = json!({"conditions": [{"type": "Ready", "status": "True", "reason": "", "message": READY,
            "lastTransitionTime": "2026-11-21T02:00:00Z"}]});
        protected.status = serde_json::from_value(condition).unwrap();
        assert_eq!(step(&protected, [].into_iter(), [].iter(), now), Step::Nothing);
    }
}
