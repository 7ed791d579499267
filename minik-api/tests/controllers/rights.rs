//! Who controllers are: each the ServiceAccount that the bootstrap policy of Kubernetes gives its rights to. That none
//! needs more is checked under every test here, by the cluster that it runs on.

use std::time::{Duration, Instant};

use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use kube::api::{Api, DeleteParams, PostParams};

use crate::cluster::{Cluster, PATIENCE};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_controller_may_do_what_its_binding_says_and_no_more() {
    let cluster = Cluster::start(&["worker1"], true).await;
    let bindings: Api<ClusterRoleBinding> = Api::all(cluster.client.clone());
    let name = "system:controller:replicaset-controller";
    let mut binding = bindings.get(name).await.unwrap();
    bindings.delete(name, &DeleteParams::default()).await.unwrap();

    cluster.deploy("default", "web", 1).await;
    let refused = eventually!(cluster.take_forbidden(), |texts: &Vec<String>| !texts.is_empty());
    let account = "system:serviceaccount:kube-system:replicaset-controller";
    assert!(
        refused.iter().all(|text| text.starts_with(&format!("{account}: "))),
        "the others go on: {refused:#?}"
    );
    assert!(
        refused[0].contains(&format!("User \\\"{account}\\\" cannot ")),
        "{refused:#?}"
    );
    assert!(cluster.pods("default").await.is_empty());

    binding.metadata.resource_version = None;
    binding.metadata.uid = None;
    bindings.create(&PostParams::default(), &binding).await.unwrap();
    eventually!(cluster.pods("default").await, |pods: &Vec<_>| pods.len() == 1);
    cluster.take_forbidden();
}
