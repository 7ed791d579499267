//! Views out of manifests, for tests.

use k8s_openapi::serde_json::{Value, from_value};
use kube::runtime::watcher::Event;

use super::{Change, ClusterView, Collector};

/// A synced view of the manifests' Services, EndpointSlices, Nodes and Namespaces.
pub(crate) fn view(node: Option<&str>, manifests: &str) -> ClusterView {
    let mut collector = Collector::new(node.map(str::to_owned));
    for change in [
        Change::service(Event::Init),
        Change::slice(Event::Init),
        Change::node(Event::Init),
        Change::namespace(Event::Init),
    ] {
        collector.take(change);
    }
    let objects: Vec<Value> = serde_saphyr::from_multiple(manifests).expect("manifests are YAML");
    for object in objects.into_iter().filter(|object| !object.is_null()) {
        collector.take(match object["kind"].as_str() {
            Some("Service") => Change::service(Event::InitApply(from_value(object).expect("a Service"))),
            Some("EndpointSlice") => Change::slice(Event::InitApply(from_value(object).expect("a slice"))),
            Some("Node") => Change::node(Event::InitApply(from_value(object).expect("a Node"))),
            Some("Namespace") => Change::namespace(Event::InitApply(from_value(object).expect("a Namespace"))),
            kind => panic!("{kind:?} is no part of a view"),
        });
    }
    for change in [
        Change::service(Event::InitDone),
        Change::slice(Event::InitDone),
        Change::node(Event::InitDone),
        Change::namespace(Event::InitDone),
    ] {
        collector.take(change);
    }
    collector.view().expect("every list is complete").clone()
}
