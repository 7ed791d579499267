//! Mirrors Endpoints that people write by hand, for a Service without a selector, into EndpointSlices,
//! which are all that proxies and DNS read.
//!
//! Reads Services, Endpoints and slices from the shared caches; writes only slices that carry its name.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EndpointAddress, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointSlice};
use kube::ResourceExt;

use super::apply_slices;
use super::model::Port;
use super::slices::{Frame, Groups, MANAGED_BY, SERVICE_NAME, plan};
use super::trigger::{LAST_CHANGE, spell};
use super::unseen::Unseen;
use crate::controllers::cache::Key;
use crate::controllers::context::Context;
use crate::controllers::error::ReconcileError;
use crate::controllers::owner::controller_reference;
use crate::controllers::queue::{Queue, drive};

/// The value of [`MANAGED_BY`].
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// Endpoints that say so are not mirrored: somebody writes their slices.
pub const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Endpoints used as a lock are not endpoints.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The most addresses mirrored from one subset.
const MOST: usize = 1000;

/// The controller; see the module's documentation.
pub struct MirroringController {
    context: Arc<Context>,
    queue: Arc<Queue<Key>>,
    unseen: Arc<Unseen>,
}

impl MirroringController {
    /// A controller that learns of changes from now on.
    pub fn new(context: Arc<Context>) -> Self {
        let queue = Arc::new(Queue::<Key>::default());
        let own = queue.clone();
        context
            .endpoints
            .on_change(move |change| change.latest().into_iter().for_each(|o| own.add(Key::of(&**o))));
        let own = queue.clone();
        context
            .services
            .on_change(move |change| change.latest().into_iter().for_each(|o| own.add(Key::of(&**o))));
        let unseen = Arc::<Unseen>::default();
        let (own, expected) = (queue.clone(), unseen.clone());
        context.slices.on_change(move |change| {
            for slice in change.states().filter(|slice| is_mirrored(slice)) {
                expected.seen(&super::service_of(slice), &slice.name_any());
                own.add(super::service_of(slice));
            }
        });
        Self { context, queue, unseen }
    }

    /// Works until dropped.
    pub async fn run(&self) {
        self.context.endpoints.synced().await;
        self.context.services.synced().await;
        self.context.slices.synced().await;
        drive(&self.queue, 2, |key| self.reconcile(key)).await;
    }

    async fn reconcile(&self, key: Key) -> Result<(), ReconcileError> {
        if self.unseen.any(&key) {
            return Ok(());
        }
        let slices = self.context.slices.snapshot();
        let own = |slice: &&Arc<EndpointSlice>| is_mirrored(slice) && super::service_of(slice) == key;
        let existing: Vec<_> = slices.in_namespace(&key.namespace).filter(own).cloned().collect();
        let endpoints = self
            .context
            .endpoints
            .get(&key)
            .filter(|endpoints| is_mirrorable(endpoints));
        let service = self.context.services.get(&key).filter(|service| !has_selector(service));
        let plan = match (endpoints, service) {
            (Some(endpoints), Some(_)) => {
                let frame = frame(&endpoints, Timestamp::now());
                plan(&frame, groups(&endpoints), &existing)
            }
            _ => super::slices::Plan {
                delete: existing,
                ..super::slices::Plan::default()
            },
        };
        apply_slices(&self.context, &self.unseen, &key, plan).await
    }
}

fn is_mirrored(slice: &EndpointSlice) -> bool {
    slice
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(MANAGED_BY))
        .is_some_and(|by| by == MANAGER)
}

fn is_mirrorable(endpoints: &Endpoints) -> bool {
    let skipped = endpoints
        .metadata
        .labels
        .as_ref()
        .and_then(|labels| labels.get(SKIP))
        .is_some_and(|v| v == "true");
    let locked = endpoints
        .metadata
        .annotations
        .as_ref()
        .is_some_and(|annotations| annotations.contains_key(LEADER));
    !skipped && !locked
}

fn has_selector(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.as_ref())
        .is_some_and(|selector| !selector.is_empty())
}

fn frame(endpoints: &Endpoints, now: Timestamp) -> Frame {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.into(), endpoints.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.remove(LAST_APPLIED);
    let last_change = annotations.remove(LAST_CHANGE).unwrap_or_else(|| spell(now));
    Frame {
        owner: controller_reference(endpoints),
        namespace: endpoints.metadata.namespace.clone().unwrap_or_default(),
        labels,
        annotations,
        last_change: Some(last_change),
    }
}

fn groups(endpoints: &Endpoints) -> Groups {
    let mut groups: BTreeMap<Vec<Port>, Vec<Endpoint>> = BTreeMap::new();
    for subset in endpoints.subsets.iter().flatten() {
        let mut ports: Vec<Port> = subset.ports.iter().flatten().map(port).collect();
        ports.sort();
        let ready = subset.addresses.iter().flatten().map(|address| (address, true));
        let unready = subset
            .not_ready_addresses
            .iter()
            .flatten()
            .map(|address| (address, false));
        let group = groups.entry(ports).or_default();
        for (address, ready) in ready.chain(unready).take(MOST) {
            let endpoint = mirrored(address, ready);
            if address.ip.parse::<std::net::Ipv4Addr>().is_ok()
                && !group.iter().any(|e| e.addresses == endpoint.addresses)
            {
                group.push(endpoint);
            }
        }
    }
    groups.retain(|_, endpoints| !endpoints.is_empty());
    groups
}

fn port(port: &k8s_openapi::api::core::v1::EndpointPort) -> Port {
    Port {
        name: port.name.clone().unwrap_or_default(),
        port: port.port,
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
        app_protocol: port.app_protocol.clone(),
    }
}

fn mirrored(address: &EndpointAddress, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![address.ip.clone()],
        conditions: Some(EndpointConditions {
            ready: Some(ready),
            ..EndpointConditions::default()
        }),
        hostname: address.hostname.clone().filter(|hostname| !hostname.is_empty()),
        node_name: address.node_name.clone(),
        target_ref: address.target_ref.clone(),
        ..Endpoint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{EndpointPort, EndpointSubset};

    /// Service `ext-db` of the lessons, port 3306 at 192.0.2.42.
    #[test]
    fn an_external_database_gets_a_slice() {
        let address = EndpointAddress {
            ip: "192.0.2.42".into(),
            ..EndpointAddress::default()
        };
        let port = EndpointPort {
            port: 3306,
            protocol: Some("TCP".into()),
            ..EndpointPort::default()
        };
        let subset = EndpointSubset {
            addresses: Some(vec![address]),
            ports: Some(vec![port]),
            not_ready_addresses: None,
        };
        let mut endpoints = Endpoints {
            subsets: Some(vec![subset]),
            ..Endpoints::default()
        };
        endpoints.metadata.name = Some("ext-db".into());
        let plan = plan(&frame(&endpoints, Timestamp::UNIX_EPOCH), groups(&endpoints), &[]);
        let [slice] = plan.create.as_slice() else {
            panic!("{plan:?}")
        };
        assert_eq!(slice.metadata.generate_name.as_deref(), Some("ext-db-"));
        assert_eq!(slice.metadata.owner_references.as_ref().unwrap()[0].kind, "Endpoints");
        assert_eq!(slice.ports.as_ref().unwrap()[0].port, Some(3306));
        assert_eq!(slice.endpoints.as_ref().unwrap()[0].addresses, ["192.0.2.42"]);
        assert_eq!(slice.metadata.labels.as_ref().unwrap()[MANAGED_BY], MANAGER);
    }
}
