//! Views out of manifests, for tests.

use k8s_openapi::serde_json::{Value, from_value};
use kube::runtime::watcher::Event;

use super::{Change, ClusterView, Collector};

/// A synced view of the manifests' Services, EndpointSlices, Nodes and Namespaces.
pub(crate) fn view(node: Option<&str>, manifests: &str) -> ClusterView {
    let mut collector = Collector::new(node.map(str::to_owned));
    for change in [
        Change::Service(Event::Init),
        Change::Slice(Event::Init),
        Change::Node(Event::Init),
        Change::Namespace(Event::Init),
    ] {
        collector.take(change);
    }
    let objects: Vec<Value> = serde_saphyr::from_multiple(manifests).expect("manifests are YAML");
    for object in objects.into_iter().filter(|object| !object.is_null()) {
        collector.take(match object["kind"].as_str() {
            Some("Service") => Change::Service(Event::InitApply(from_value(object).expect("a Service"))),
            Some("EndpointSlice") => Change::Slice(Event::InitApply(from_value(object).expect("a slice"))),
            Some("Node") => Change::Node(Event::InitApply(from_value(object).expect("a Node"))),
            Some("Namespace") => Change::Namespace(Event::InitApply(from_value(object).expect("a Namespace"))),
            kind => panic!("{kind:?} is no part of a view"),
        });
    }
    for change in [
        Change::Service(Event::InitDone),
        Change::Slice(Event::InitDone),
        Change::Node(Event::InitDone),
        Change::Namespace(Event::InitDone),
    ] {
        collector.take(change);
    }
    collector.view().expect("every list is complete").clone()
}
