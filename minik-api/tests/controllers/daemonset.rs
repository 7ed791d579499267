//! DaemonSets through the API.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::cluster::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemonset_runs_on_every_node_and_rolls() {
    let cluster = Cluster::start(&["worker1", "worker2", "worker3"], true).await;
    let sets = cluster.api::<DaemonSet>("default");
    let set: DaemonSet = serde_json::from_value(json!({
        "metadata": {"name": "agent"},
        "spec": {
            "selector": {"matchLabels": {"app": "agent"}},
            "template": {
                "metadata": {"labels": {"app": "agent"}},
                "spec": {"containers": [{"name": "agent", "image": "busybox"}]},
            },
        },
    }))
    .unwrap();
    sets.create(&PostParams::default(), &set).await.unwrap();
    let complete = |set: &DaemonSet| {
        let status = set.status.clone().unwrap_or_default();
        status.observed_generation == set.metadata.generation
            && status.desired_number_scheduled == 3
            && status.updated_number_scheduled == Some(3)
            && status.number_available == Some(3)
    };
    eventually!(sets.get("agent").await.unwrap(), complete);
    assert_eq!(
        nodes_of(&cluster.pods("default").await),
        ["worker1", "worker2", "worker3"]
    );

    let template = json!({"spec": {"template": {"metadata": {"annotations": {"x": "2"}}}}});
    sets.patch("agent", &PatchParams::default(), &Patch::Merge(template))
        .await
        .unwrap();
    eventually!(sets.get("agent").await.unwrap(), complete);
    let revisions = cluster.api::<ControllerRevision>("default");
    let revisions = revisions.list(&ListParams::default()).await.unwrap().items;
    assert_eq!(revisions.len(), 2);
    let newest = revisions.iter().max_by_key(|revision| revision.revision).unwrap();
    let hash = &newest.labels()["controller-revision-hash"];
    let pods = cluster.pods("default").await;
    let of_newest = |pod: &&Pod| &pod.labels()["controller-revision-hash"] == hash;
    assert_eq!(pods.iter().filter(of_newest).count(), 3);

    sets.delete("agent", &DeleteParams::background()).await.unwrap();
    eventually!(cluster.pods("default").await, Vec::<Pod>::is_empty);
}
