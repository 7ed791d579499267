//! What Kubernetes' own end-to-end tests ask of EndpointSlice, Endpoints and mirroring, each test named after one of theirs.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Endpoints, Node, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::cluster::*;

/// The slices of a Service, as what their endpoints offer: addresses and numbered ports.
type Shape = BTreeSet<(Vec<String>, Vec<(String, i32)>)>;

async fn create<K>(cluster: &Cluster, object: Value) -> K
where
    K: kube::Resource<DynamicType = (), Scope = k8s_openapi::NamespaceResourceScope>
        + serde::de::DeserializeOwned
        + serde::Serialize
        + Clone
        + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object).unwrap();
    cluster
        .api("default")
        .create(&PostParams::default(), &object)
        .await
        .unwrap()
}

async fn serve(cluster: &Cluster, name: &str, spec: Value) -> Service {
    create(cluster, json!({"metadata": {"name": name}, "spec": spec})).await
}

async fn slices(cluster: &Cluster, service: &str) -> Vec<EndpointSlice> {
    let selector = format!("kubernetes.io/service-name={service}");
    let params = ListParams::default().labels(&selector);
    cluster.api("default").list(&params).await.unwrap().items
}

fn shape(slices: &[EndpointSlice]) -> Shape {
    let addresses = |slice: &EndpointSlice| {
        let all = slice
            .endpoints
            .iter()
            .flatten()
            .flat_map(|endpoint| endpoint.addresses.clone());
        let mut all: Vec<_> = all.collect();
        all.sort();
        all
    };
    let ports = |slice: &EndpointSlice| {
        let ports = slice.ports.iter().flatten();
        ports
            .map(|port| (port.name.clone().unwrap_or_default(), port.port.unwrap()))
            .collect()
    };
    slices.iter().map(|slice| (addresses(slice), ports(slice))).collect()
}

async fn endpoints(cluster: &Cluster, service: &str) -> Option<Endpoints> {
    cluster.api("default").get_opt(service).await.unwrap()
}

fn listed(endpoints: &Endpoints) -> usize {
    let subsets = endpoints.subsets.iter().flatten();
    subsets.flat_map(|subset| subset.addresses.iter().flatten()).count()
}

/// Two Pods that share a label and name different ports alike.
async fn two_pods(cluster: &Cluster) -> (String, String) {
    for (name, ports) in [
        ("pod1", json!([{"name": "example-name", "containerPort": 3000}])),
        (
            "pod2",
            json!([{"name": "example-name", "containerPort": 3001}, {"name": "other-port", "containerPort": 3002}]),
        ),
    ] {
        let labels = json!({name: "on", "shared12": "on"});
        let spec = json!({"containers": [{"name": "c", "image": "nginx", "ports": ports}]});
        let _: Pod = create(
            cluster,
            json!({"metadata": {"name": name, "labels": labels}, "spec": spec}),
        )
        .await;
    }
    let pods = cluster.api::<Pod>("default");
    let address = async |name: &str| {
        let running = |pod: &Pod| pod.status.as_ref().unwrap().pod_ip.is_some();
        let pod = eventually!(pods.get(name).await.unwrap(), running);
        pod.status.unwrap().pod_ip.unwrap()
    };
    (address("pod1").await, address("pod2").await)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoint_slice_should_create_endpoints_and_endpoint_slices_for_pods_matching_a_service() {
    let cluster = Cluster::start(&["worker1"], true).await;
    let (one, two) = two_pods(&cluster).await;
    let port = |name: &str, target: Value| json!([{"name": name, "port": 80, "targetPort": target}]);
    let selecting = |label: &str, ports: Value| json!({"selector": {label: "on"}, "publishNotReadyAddresses": true, "ports": ports});
    serve(
        &cluster,
        "example-int-port",
        selecting("pod1", port("example", json!(3000))),
    )
    .await;
    serve(
        &cluster,
        "example-named-port",
        selecting("shared12", port("http", json!("example-name"))),
    )
    .await;
    serve(
        &cluster,
        "example-no-match",
        selecting("pod3", port("example-no-match", json!(8080))),
    )
    .await;

    let single: Shape = [(vec![one.clone()], vec![("example".to_owned(), 3000)])].into();
    eventually!(shape(&slices(&cluster, "example-int-port").await), |seen: &Shape| *seen
        == single);
    let both: Shape = [
        (vec![one], vec![("http".to_owned(), 3000)]),
        (vec![two], vec![("http".to_owned(), 3001)]),
    ]
    .into();
    eventually!(
        shape(&slices(&cluster, "example-named-port").await),
        |seen: &Shape| *seen == both
    );
    let none: Shape = [(Vec::new(), Vec::new())].into();
    eventually!(shape(&slices(&cluster, "example-no-match").await), |seen: &Shape| *seen
        == none);
    let count =
        |expected: usize| move |seen: &Option<Endpoints>| seen.as_ref().is_some_and(|seen| listed(seen) == expected);
    eventually!(endpoints(&cluster, "example-int-port").await, count(1));
    eventually!(endpoints(&cluster, "example-named-port").await, count(2));
    eventually!(endpoints(&cluster, "example-no-match").await, count(0));

    let before: Vec<_> = slices(&cluster, "example-named-port")
        .await
        .iter()
        .map(ResourceExt::name_any)
        .collect();
    for name in &before {
        cluster
            .api::<EndpointSlice>("default")
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }
    let again = eventually!(slices(&cluster, "example-named-port").await, |seen: &Vec<
        EndpointSlice,
    >| shape(seen) == both);
    assert!(again.iter().all(|slice| !before.contains(&slice.name_any())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoint_slice_should_create_and_delete_endpoint_slices_for_a_service_with_a_selector_that_matches_no_pods() {
    let cluster = Cluster::start(&["worker1"], true).await;
    let selector = json!({"does-not-match-anything": "endpoints-and-endpoint-slices-should-still-be-created"});
    let spec = json!({"selector": selector, "ports": [{"name": "example", "port": 80}]});
    serve(&cluster, "example-empty-selector", spec).await;
    let found = eventually!(slices(&cluster, "example-empty-selector").await, |seen: &Vec<
        EndpointSlice,
    >| seen.len() == 1);
    assert_eq!(
        found[0].labels()["endpointslice.kubernetes.io/managed-by"],
        "endpointslice-controller.k8s.io"
    );
    assert_eq!(found[0].endpoints, None);
    eventually!(
        endpoints(&cluster, "example-empty-selector").await,
        Option::<Endpoints>::is_some
    );
    let services = cluster.api::<Service>("default");
    services
        .delete("example-empty-selector", &DeleteParams::default())
        .await
        .unwrap();
    eventually!(
        endpoints(&cluster, "example-empty-selector").await,
        Option::<Endpoints>::is_none
    );
    eventually!(
        slices(&cluster, "example-empty-selector").await,
        Vec::<EndpointSlice>::is_empty
    );
}

/// A Service without a selector belongs to whoever writes its slices: nobody adds to them or takes them away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoint_slice_should_support_a_service_with_multiple_endpoints_or_ports_in_multiple_endpoint_slices() {
    let cluster = Cluster::start(&["worker1"], true).await;
    let ports = json!([{"name": "portname1", "port": 80, "targetPort": 8090}, {"name": "portname2", "port": 81, "targetPort": 9090}]);
    serve(&cluster, "example-custom-endpoints", json!({"ports": ports})).await;
    for (name, port, number) in [("custom-1", "portname1", 8090), ("custom-2", "portname2", 9090)] {
        let labels = json!({
            "kubernetes.io/service-name": "example-custom-endpoints",
            "endpointslice.kubernetes.io/managed-by": "e2e-test.k8s.io",
        });
        let slice = json!({
            "metadata": {"name": name, "labels": labels}, "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.244.1.200"]}], "ports": [{"name": port, "port": number}],
        });
        let _: EndpointSlice = create(&cluster, slice).await;
    }
    // Something that the controllers do later than they would touch these.
    serve(
        &cluster,
        "later",
        json!({"selector": {"app": "later"}, "ports": [{"port": 80}]}),
    )
    .await;
    eventually!(slices(&cluster, "later").await, |seen: &Vec<EndpointSlice>| seen.len()
        == 1);
    let expected: Shape = [
        (vec!["10.244.1.200".to_owned()], vec![("portname1".to_owned(), 8090)]),
        (vec!["10.244.1.200".to_owned()], vec![("portname2".to_owned(), 9090)]),
    ]
    .into();
    assert_eq!(shape(&slices(&cluster, "example-custom-endpoints").await), expected);
    assert_eq!(endpoints(&cluster, "example-custom-endpoints").await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoint_slice_mirroring_should_mirror_a_custom_endpoints_resource_through_create_update_and_delete() {
    let cluster = Cluster::start(&[], false).await;
    serve(
        &cluster,
        "example-custom-endpoints",
        json!({"ports": [{"name": "example", "port": 80}]}),
    )
    .await;
    let written = |ip: &str, port: i32| {
        json!({
            "metadata": {"name": "example-custom-endpoints"},
            "subsets": [{"addresses": [{"ip": ip}], "ports": [{"name": "example", "port": port, "protocol": "TCP"}]}],
        })
    };
    let _: Endpoints = create(&cluster, written("10.1.2.3", 80)).await;
    let first: Shape = [(vec!["10.1.2.3".to_owned()], vec![("example".to_owned(), 80)])].into();
    let found = eventually!(slices(&cluster, "example-custom-endpoints").await, |seen: &Vec<
        EndpointSlice,
    >| shape(seen)
        == first);
    assert_eq!(
        found[0].labels()["endpointslice.kubernetes.io/managed-by"],
        "endpointslicemirroring-controller.k8s.io"
    );
    let api = cluster.api::<Endpoints>("default");
    let name = "example-custom-endpoints";
    api.patch(name, &PatchParams::default(), &Patch::Merge(written("10.2.3.4", 80)))
        .await
        .unwrap();
    let second: Shape = [(vec!["10.2.3.4".to_owned()], vec![("example".to_owned(), 80)])].into();
    eventually!(shape(&slices(&cluster, name).await), |seen: &Shape| *seen == second);
    api.delete(name, &DeleteParams::default()).await.unwrap();
    eventually!(slices(&cluster, name).await, Vec::<EndpointSlice>::is_empty);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoint_slice_mirroring_should_mirror_a_custom_endpoint_with_multiple_subsets_and_same_ip_address() {
    let cluster = Cluster::start(&[], false).await;
    let name = "example-custom-endpoints";
    serve(
        &cluster,
        name,
        json!({"ports": [{"name": "port80", "port": 80}, {"name": "port81", "port": 81}]}),
    )
    .await;
    let subset =
        |name: &str, port: i32| json!({"addresses": [{"ip": "10.244.1.9"}], "ports": [{"name": name, "port": port}]});
    let subsets = json!([subset("port80", 8090), subset("port81", 9090)]);
    let _: Endpoints = create(&cluster, json!({"metadata": {"name": name}, "subsets": subsets})).await;
    let expected: Shape = [
        (vec!["10.244.1.9".to_owned()], vec![("port80".to_owned(), 8090)]),
        (vec!["10.244.1.9".to_owned()], vec![("port81".to_owned(), 9090)]),
    ]
    .into();
    eventually!(shape(&slices(&cluster, name).await), |seen: &Shape| *seen == expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_should_test_the_lifecycle_of_an_endpoint() {
    let cluster = Cluster::start(&[], false).await;
    let subset =
        json!({"addresses": [{"ip": "10.0.0.24"}], "ports": [{"name": "http", "port": 80, "protocol": "TCP"}]});
    let labels = json!({"test-endpoint-static": "true"});
    let _: Endpoints = create(
        &cluster,
        json!({"metadata": {"name": "testservice", "labels": labels}, "subsets": [subset]}),
    )
    .await;
    let everywhere: Api<Endpoints> = Api::all(cluster.client.clone());
    let chosen = ListParams::default().labels("test-endpoint-static=true");
    let found = everywhere.list(&chosen).await.unwrap().items;
    assert_eq!((found.len(), found[0].name_any().as_str()), (1, "testservice"));
    let api = cluster.api::<Endpoints>("default");
    let mut updated = found[0].clone();
    updated
        .labels_mut()
        .insert("test-service".to_owned(), "updated".to_owned());
    let updated = api
        .replace("testservice", &PostParams::default(), &updated)
        .await
        .unwrap();
    assert_eq!(updated.labels()["test-service"], "updated");
    let patch = json!({
        "metadata": {"labels": {"test-service": "patched"}},
        "subsets": [{"addresses": [{"ip": "10.0.0.25"}], "ports": [{"name": "http-test", "port": 8080}]}],
    });
    let patched = api
        .patch("testservice", &PatchParams::default(), &Patch::Strategic(patch))
        .await
        .unwrap();
    assert_eq!(patched.labels()["test-service"], "patched");
    assert_eq!(
        patched.subsets.unwrap()[0].addresses.as_ref().unwrap()[0].ip,
        "10.0.0.25"
    );
    api.delete_collection(&DeleteParams::default(), &chosen).await.unwrap();
    assert!(everywhere.list(&chosen).await.unwrap().items.is_empty());
}

/// A label of its own is set as Pods come and go, and with it the zone of a node that gets one late.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn endpoints_follow_the_labels_of_nodes_and_pods() {
    let cluster = Cluster::start(&["worker1"], true).await;
    let (one, _) = two_pods(&cluster).await;
    let spec = json!({"selector": {"pod1": "on"}, "trafficDistribution": "PreferSameZone", "ports": [{"port": 80}]});
    serve(&cluster, "web", spec).await;
    let hints = |slices: &[EndpointSlice]| {
        let endpoint = slices.first()?.endpoints.as_ref()?.first()?.clone();
        Some((
            endpoint.addresses,
            endpoint.zone,
            endpoint.hints.and_then(|hints| hints.for_zones),
        ))
    };
    let without = Some((vec![one.clone()], None, None));
    eventually!(hints(&slices(&cluster, "web").await), |seen: &_| *seen == without);
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let zone = json!({"metadata": {"labels": {"topology.kubernetes.io/zone": "one"}}});
    nodes
        .patch("worker1", &PatchParams::default(), &Patch::Merge(zone))
        .await
        .unwrap();
    let named = eventually!(hints(&slices(&cluster, "web").await), |seen: &Option<(
        Vec<String>,
        Option<String>,
        _
    )>| {
        seen.as_ref().is_some_and(|(_, zone, _)| zone.is_some())
    });
    let (_, zone, for_zones) = named.unwrap();
    assert_eq!(
        (zone.as_deref(), for_zones.unwrap()[0].name.as_str()),
        (Some("one"), "one")
    );
    let unlabel = json!({"metadata": {"labels": {"pod1": null}}});
    cluster
        .api::<Pod>("default")
        .patch("pod1", &PatchParams::default(), &Patch::Merge(unlabel))
        .await
        .unwrap();
    let empty: Shape = [(Vec::new(), Vec::new())].into();
    eventually!(shape(&slices(&cluster, "web").await), |seen: &Shape| *seen == empty);
}
