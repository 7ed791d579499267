//! Ranges and addresses of Services, as the control plane keeps them.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Event, Service};
use k8s_openapi::api::networking::v1::{IPAddress, ServiceCIDR};
use k8s_openapi::api::rbac::v1::ClusterRole;
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::json;

use crate::cluster::*;

fn ready(range: &ServiceCIDR) -> Option<(String, String, String)> {
    let status = range.status.as_ref()?;
    let condition = status
        .conditions
        .as_ref()?
        .iter()
        .find(|condition| condition.type_ == "Ready")?;
    Some((
        condition.status.clone(),
        condition.reason.clone(),
        condition.message.clone(),
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_first_range_is_ready_and_protected_and_its_addresses_are_objects() {
    let cluster = Cluster::start(&[], false).await;
    let ranges: Api<ServiceCIDR> = Api::all(cluster.client.clone());
    let range = eventually!(ranges.get("kubernetes").await.unwrap(), |range: &ServiceCIDR| ready(
        range
    )
    .is_some());
    assert_eq!(range.finalizers(), ["networking.k8s.io/service-cidr-finalizer"]);
    assert_eq!(
        range.spec.as_ref().unwrap().cidrs.as_deref(),
        Some(&["10.96.0.0/12".to_owned()][..])
    );
    let said = ready(&range).unwrap();
    assert_eq!(
        said,
        ("True".into(), String::new(), "Kubernetes Service CIDR is ready".into())
    );
    let addresses: Api<IPAddress> = Api::all(cluster.client.clone());
    let parent = addresses.get("10.96.0.1").await.unwrap().spec.parent_ref;
    assert_eq!(
        (parent.namespace.as_deref(), parent.name.as_str()),
        (Some("default"), "kubernetes")
    );
    // A range with addresses in it stays, and says why.
    ranges.delete("kubernetes", &DeleteParams::default()).await.unwrap();
    let said = eventually!(ready(&ranges.get("kubernetes").await.unwrap()).unwrap(), |said: &(
        String,
        String,
        String
    )| {
        said.0 == "False"
    });
    let text =
        "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR";
    assert_eq!((said.1.as_str(), said.2.as_str()), ("Terminating", text));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_ip_that_lost_its_ip_address_gets_it_back() {
    let cluster = Cluster::start(&[], false).await;
    cluster.expose("web").await;
    let service: Service = cluster.api("default").get("web").await.unwrap();
    let ip = service.spec.unwrap().cluster_ip.unwrap();
    let addresses: Api<IPAddress> = Api::all(cluster.client.clone());
    let lost = addresses.get(&ip).await.unwrap();
    addresses.delete(&ip, &DeleteParams::default()).await.unwrap();
    let back = eventually!(addresses.get_opt(&ip).await.unwrap(), |found: &Option<IPAddress>| found
        .is_some());
    let back = back.unwrap();
    assert_ne!(back.uid(), lost.uid());
    assert_eq!((back.spec, back.metadata.labels), (lost.spec, lost.metadata.labels));
    let events = cluster.api::<Event>("default");
    let about = ListParams::default().fields("reason=ClusterIPNotAllocated");
    let told = eventually!(events.list(&about).await.unwrap().items, |events: &Vec<Event>| !events
        .is_empty());
    let text = format!("Cluster IP [IPv4]: {ip} is not allocated; repairing");
    assert_eq!(told[0].message.as_deref(), Some(text.as_str()));
    assert_eq!(
        told[0].reporting_component.as_deref(),
        Some("ipallocator-repair-controller")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_roles_of_every_cluster_are_aggregated() {
    let cluster = Cluster::start(&[], false).await;
    let roles: Api<ClusterRole> = Api::all(cluster.client.clone());
    let may = |role: &ClusterRole, resource: &str, verb: &str| {
        role.rules.iter().flatten().any(|rule| {
            let resources = rule.resources.iter().flatten();
            resources.into_iter().any(|r| r == resource) && rule.verbs.iter().any(|v| v == verb)
        })
    };
    // `admin` takes from `edit`, which takes from `view`.
    let admin = eventually!(roles.get("admin").await.unwrap(), |role: &ClusterRole| may(
        role, "pods/log", "get"
    ));
    assert!(may(&admin, "rolebindings", "create") && may(&admin, "services", "delete"));
    let view = roles.get("view").await.unwrap();
    assert!(!may(&view, "secrets", "get"));
    let mine: ClusterRole = serde_json::from_value(json!({
        "metadata": {"name": "mine", "labels": {"rbac.authorization.k8s.io/aggregate-to-view": "true"}},
        "rules": [{"apiGroups": ["example.com"], "resources": ["crons"], "verbs": ["get"]}],
    }))
    .unwrap();
    roles.create(&PostParams::default(), &mine).await.unwrap();
    eventually!(roles.get("view").await.unwrap(), |role: &ClusterRole| may(
        role, "crons", "get"
    ));
}
