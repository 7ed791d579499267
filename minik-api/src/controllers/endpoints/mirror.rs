//! Mirrors Endpoints that people write by hand, for a Service without a selector, into EndpointSlices,
//! which are all that proxies and DNS read.
//!
//! Reads Services, Endpoints and slices from the shared caches; writes only slices that carry its name.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointSubset, Endpoints, Service};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointSlice};
use kube::ResourceExt;

use super::apply::{apply_slices, service_of};
use super::model::Port;
use super::slices::{Frame, Groups, MANAGED_BY, Plan, SERVICE_NAME, plan};
use super::trigger::LAST_CHANGE;
use super::unseen::Unseen;
use crate::controllers::cache::Key;
use crate::controllers::context::Context;
use crate::controllers::error::ReconcileError;
use crate::controllers::owner::controller_reference;
use crate::controllers::queue::{Queue, drive};
use crate::controllers::recorder::{Note, Recorder, Severity};

/// The value of [`MANAGED_BY`].
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
/// Endpoints that say so are not mirrored: somebody writes their slices.
pub const SKIP: &str = "endpointslice.kubernetes.io/skip-mirror";
/// Endpoints used as a lock are not endpoints.
const LEADER: &str = "control-plane.alpha.kubernetes.io/leader";
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// The most addresses mirrored from one subset.
const MOST: usize = 1000;

/// The families that slices are kept apart by.
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];

/// The controller; see the module's documentation.
pub struct MirroringController {
    context: Arc<Context>,
    recorder: Recorder,
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
                expected.seen(&service_of(slice), &slice.name_any());
                own.add(service_of(slice));
            }
        });
        let recorder = context.recorder.component("endpoint-slice-mirroring-controller", None);
        Self {
            context,
            recorder,
            queue,
            unseen,
        }
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
        let own = |slice: &&Arc<EndpointSlice>| is_mirrored(slice) && service_of(slice) == key;
        let existing: Vec<_> = slices.in_namespace(&key.namespace).filter(own).cloned().collect();
        let endpoints = self
            .context
            .endpoints
            .get(&key)
            .filter(|endpoints| is_mirrorable(endpoints));
        let service = self.context.services.get(&key).filter(|service| !has_selector(service));
        let plan = match (endpoints, service) {
            (Some(endpoints), Some(_)) => {
                if let Some(note) = too_many(&endpoints) {
                    self.recorder.record(&*endpoints, note, Timestamp::now());
                }
                mirrored(&endpoints, &existing)
            }
            _ => Plan {
                delete: existing,
                ..Plan::default()
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

/// The writes that make `existing` show `endpoints`: a slice for each family and set of ports.
fn mirrored(endpoints: &Endpoints, existing: &[Arc<EndpointSlice>]) -> Plan {
    let mut all = Plan::default();
    for family in FAMILIES {
        let of_family = |slice: &&Arc<EndpointSlice>| slice.address_type == family;
        let existing: Vec<_> = existing.iter().filter(of_family).cloned().collect();
        let plan = plan(&frame(endpoints, family), groups(endpoints, family), &existing);
        all.create.extend(plan.create);
        all.update.extend(plan.update);
        all.delete.extend(plan.delete);
    }
    all
}

fn frame(endpoints: &Endpoints, family: &'static str) -> Frame {
    let mut labels = endpoints.metadata.labels.clone().unwrap_or_default();
    labels.insert(SERVICE_NAME.into(), endpoints.metadata.name.clone().unwrap_or_default());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    let mut annotations = endpoints.metadata.annotations.clone().unwrap_or_default();
    annotations.remove(LAST_APPLIED);
    annotations.remove(LAST_CHANGE);
    Frame {
        owner: controller_reference(endpoints),
        namespace: endpoints.metadata.namespace.clone().unwrap_or_default(),
        labels,
        annotations,
        last_change: None,
        address_type: family,
        most: MOST,
        placeholder: false,
    }
}

/// The addresses of a subset, ready ones first, as many as are mirrored.
fn addresses(subset: &EndpointSubset) -> impl Iterator<Item = (&EndpointAddress, bool)> {
    let ready = subset.addresses.iter().flatten().map(|address| (address, true));
    let unready = subset
        .not_ready_addresses
        .iter()
        .flatten()
        .map(|address| (address, false));
    ready.chain(unready)
}

fn groups(endpoints: &Endpoints, family: &str) -> Groups {
    let mut groups: BTreeMap<Vec<Port>, Vec<Endpoint>> = BTreeMap::new();
    for subset in endpoints.subsets.iter().flatten() {
        let mut ports: Vec<Port> = subset.ports.iter().flatten().map(port).collect();
        ports.sort();
        let group = groups.entry(ports).or_default();
        for (address, ready) in addresses(subset)
            .take(MOST)
            .filter(|(address, _)| family_of(address) == Some(family))
        {
            let endpoint = endpoint(address, ready);
            if !group.iter().any(|known| known.addresses == endpoint.addresses) {
                group.push(endpoint);
            }
        }
    }
    groups.retain(|_, endpoints| !endpoints.is_empty());
    groups
}

fn family_of(address: &EndpointAddress) -> Option<&'static str> {
    match address.ip.parse().ok()? {
        std::net::IpAddr::V4(_) => Some("IPv4"),
        std::net::IpAddr::V6(_) => Some("IPv6"),
    }
}

/// What to tell of addresses that are left out.
fn too_many(endpoints: &Endpoints) -> Option<Note> {
    let skipped = |subset: &EndpointSubset| addresses(subset).count().saturating_sub(MOST);
    let skipped: usize = endpoints.subsets.iter().flatten().map(skipped).sum();
    (skipped > 0).then(|| Note {
        severity: Severity::Warning,
        reason: "TooManyAddressesToMirror",
        message: format!(
            "A max of {MOST} addresses can be mirrored to EndpointSlices per Endpoints subset. {skipped} addresses were \
             skipped"
        ),
    })
}

fn port(port: &k8s_openapi::api::core::v1::EndpointPort) -> Port {
    Port {
        name: port.name.clone().unwrap_or_default(),
        port: port.port,
        protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
        app_protocol: port.app_protocol.clone(),
    }
}

fn endpoint(address: &EndpointAddress, ready: bool) -> Endpoint {
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
    use k8s_openapi::api::core::v1::EndpointPort;
    use serde_json::json;

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
        let endpoints = ext_db(vec![subset]);
        let plan = mirrored(&endpoints, &[]);
        let [slice] = plan.create.as_slice() else {
            panic!("{plan:?}")
        };
        assert_eq!(slice.metadata.generate_name.as_deref(), Some("ext-db-"));
        assert_eq!(slice.metadata.owner_references.as_ref().unwrap()[0].kind, "Endpoints");
        assert_eq!(slice.ports.as_ref().unwrap()[0].port, Some(3306));
        assert_eq!(slice.endpoints.as_ref().unwrap()[0].addresses, ["192.0.2.42"]);
        assert_eq!(slice.metadata.labels.as_ref().unwrap()[MANAGED_BY], MANAGER);
    }

    fn ext_db(subsets: Vec<EndpointSubset>) -> Endpoints {
        let mut endpoints = Endpoints {
            subsets: Some(subsets),
            ..Endpoints::default()
        };
        endpoints.metadata.name = Some("ext-db".into());
        endpoints.metadata.uid = Some("uid".into());
        endpoints
    }

    fn subset(value: serde_json::Value) -> EndpointSubset {
        serde_json::from_value(value).unwrap()
    }

    /// Addresses and port numbers of each slice.
    fn shapes(plan: &Plan) -> Vec<(&str, usize, Vec<i32>)> {
        let slices = plan.create.iter().map(|slice| {
            let ports = slice.ports.iter().flatten().filter_map(|port| port.port).collect();
            (
                slice.address_type.as_str(),
                slice.endpoints.as_ref().map_or(0, Vec::len),
                ports,
            )
        });
        let mut shapes: Vec<_> = slices.collect();
        shapes.sort();
        shapes
    }

    #[test]
    fn each_family_and_set_of_ports_has_one_slice_and_none_has_no_addresses() {
        let addresses = json!([{"ip": "192.0.2.1"}, {"ip": "2001:db8::1"}, {"ip": "192.0.2.2"}]);
        let http = subset(json!({"addresses": addresses, "ports": [{"port": 80}]}));
        let https = subset(json!({"notReadyAddresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 443}]}));
        let plan = mirrored(&ext_db(vec![http, https]), &[]);
        assert_eq!(
            shapes(&plan),
            [("IPv4", 1, vec![443]), ("IPv4", 2, vec![80]), ("IPv6", 1, vec![80])]
        );
        let unready = plan
            .create
            .iter()
            .find(|slice| slice.ports.as_ref().unwrap()[0].port == Some(443))
            .unwrap();
        let conditions = unready.endpoints.as_ref().unwrap()[0].conditions.as_ref().unwrap();
        assert_eq!(conditions.ready, Some(false));
        assert_eq!(mirrored(&ext_db(Vec::new()), &[]), Plan::default());
        let slices: Vec<_> = plan.create.into_iter().map(Arc::new).collect();
        let emptied = mirrored(&ext_db(Vec::new()), &slices);
        assert_eq!(
            (emptied.delete.len(), emptied.create.len(), emptied.update.len()),
            (3, 0, 0)
        );
    }

    /// `--mirroring-max-endpoints-per-subset=1000`.
    #[test]
    fn a_thousand_addresses_share_a_slice_and_more_are_told_of() {
        let addresses: Vec<_> = (0..1003)
            .map(|n| json!({"ip": format!("10.0.{}.{}", n / 250, n % 250)}))
            .collect();
        let endpoints = ext_db(vec![subset(json!({"addresses": addresses, "ports": [{"port": 80}]}))]);
        assert_eq!(shapes(&mirrored(&endpoints, &[])), [("IPv4", 1000, vec![80])]);
        let text =
            "A max of 1000 addresses can be mirrored to EndpointSlices per Endpoints subset. 3 addresses were skipped";
        assert_eq!(too_many(&endpoints).unwrap().message, text);
    }

    #[test]
    fn what_others_wrote_about_the_endpoints_comes_along_and_our_own_notes_do_not() {
        let mut endpoints = ext_db(vec![subset(
            json!({"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}),
        )]);
        let given = [
            ("team", "db"),
            (LAST_APPLIED, "{}"),
            (LAST_CHANGE, "2026-11-21T02:55:55Z"),
        ];
        endpoints.metadata.annotations = Some(given.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        endpoints.metadata.labels = Some([("app".to_owned(), "db".to_owned())].into());
        let slice = mirrored(&endpoints, &[]).create.remove(0);
        assert_eq!(
            slice.metadata.annotations.unwrap(),
            [("team".to_owned(), "db".to_owned())].into()
        );
        assert_eq!(slice.metadata.labels.unwrap()["app"], "db");
    }
}
