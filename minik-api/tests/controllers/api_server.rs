//! The API server as Pods find it: the two tests that Kubernetes' own network suite has about it.

use k8s_openapi::api::core::v1::{Endpoints, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Api, ListParams};

use crate::cluster::Cluster;

/// `API Server should provide secure master service`
#[tokio::test]
async fn the_api_server_provides_a_secure_service() {
    let cluster = Cluster::start(&[], false).await;
    let api: Api<Service> = Api::namespaced(cluster.client.clone(), "default");
    let spec = api.get("kubernetes").await.unwrap().spec.unwrap();
    let ports: Vec<_> = spec
        .ports
        .iter()
        .flatten()
        .map(|port| (port.name.as_deref(), port.port))
        .collect();
    assert_eq!(ports, [(Some("https"), 443)]);
    assert_eq!(spec.cluster_ip.as_deref(), Some("10.96.0.1"));
    assert_eq!(spec.selector, None, "its endpoints are the server's own");
}

/// `API Server should have Endpoints and EndpointSlices pointing to API Server`
#[tokio::test]
async fn the_api_server_has_endpoints_and_slices_that_point_to_it() {
    let cluster = Cluster::start(&[], false).await;
    let api: Api<Endpoints> = Api::namespaced(cluster.client.clone(), "default");
    let endpoints = api.get("kubernetes").await.unwrap();
    let pairs: Vec<(String, i32)> = endpoints
        .subsets
        .iter()
        .flatten()
        .flat_map(|subset| {
            let ports = subset.ports.iter().flatten();
            ports.flat_map(|port| {
                subset
                    .addresses
                    .iter()
                    .flatten()
                    .map(|address| (address.ip.clone(), port.port))
            })
        })
        .collect();
    assert_eq!(pairs, [("172.30.0.10".to_owned(), 6443)]);
    let api: Api<EndpointSlice> = Api::namespaced(cluster.client.clone(), "default");
    let selected = ListParams::default().labels("kubernetes.io/service-name=kubernetes");
    let slices = api.list(&selected).await.unwrap().items;
    assert_eq!(slices.len(), 1, "and the mirroring controller adds none");
    assert_eq!(slices[0].address_type, "IPv4");
    let ports: Vec<_> = slices[0]
        .ports
        .iter()
        .flatten()
        .map(|port| (port.name.as_deref(), port.port))
        .collect();
    assert_eq!(ports, [(Some("https"), Some(6443))]);
    let addresses: Vec<_> = slices[0]
        .endpoints
        .iter()
        .flatten()
        .flat_map(|endpoint| &endpoint.addresses)
        .collect();
    assert_eq!(addresses, ["172.30.0.10"]);
}
