//! StatefulSets through the API: order, names, history, rollback.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::{ControllerRevision, StatefulSet};
use k8s_openapi::api::core::v1::{Event, PersistentVolumeClaim, Pod};
use kube::ResourceExt;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::json;

use super::cluster::*;

fn manifest(replicas: i32) -> StatefulSet {
    serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {
            "serviceName": "nginx",
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "nginx"}},
            "template": {
                "metadata": {"labels": {"app": "nginx"}},
                "spec": {"containers": [{"name": "nginx", "image": "nginx"}]},
            },
        },
    }))
    .unwrap()
}

fn complete(replicas: i32) -> impl Fn(&StatefulSet) -> bool {
    move |set| {
        let status = set.status.clone().unwrap_or_default();
        status.observed_generation == set.metadata.generation
            && status.updated_replicas == Some(replicas)
            && status.available_replicas == Some(replicas)
            && status.replicas == replicas
            && status.current_revision == status.update_revision
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_set_comes_up_rolls_and_shrinks_in_order() {
    let cluster = Cluster::start(&["worker1", "worker2"], true).await;
    let sets = cluster.api::<StatefulSet>("default");
    sets.create(&PostParams::default(), &manifest(3)).await.unwrap();
    eventually!(sets.get("web").await.unwrap(), complete(3));
    let pods = cluster.pods("default").await;
    let names: Vec<_> = pods.iter().map(|pod| pod.name_any()).collect();
    assert_eq!(names, ["web-0", "web-1", "web-2"]);
    let template = json!({"spec": {"template": {"metadata": {"annotations": {"x": "2"}}}}});
    sets.patch("web", &PatchParams::default(), &Patch::Merge(template))
        .await
        .unwrap();
    eventually!(sets.get("web").await.unwrap(), complete(3));
    let revisions = cluster.api::<ControllerRevision>("default");
    let mut revisions = revisions.list(&ListParams::default()).await.unwrap().items;
    revisions.sort_by_key(|revision| revision.revision);
    assert_eq!(
        revisions.iter().map(|revision| revision.revision).collect::<Vec<_>>(),
        [1, 2]
    );

    // What `kubectl rollout undo` sends: the patch that the earlier revision holds.
    let undo = Patch::Strategic(revisions[0].data.as_ref().unwrap().0.clone());
    sets.patch("web", &PatchParams::default(), &undo).await.unwrap();
    let set = eventually!(sets.get("web").await.unwrap(), complete(3));
    assert_eq!(set.status.unwrap().update_revision, revisions[0].metadata.name);
    assert!(set.spec.unwrap().template.metadata.unwrap().annotations.is_none());

    let scale = Patch::Merge(json!({"spec": {"replicas": 1}}));
    sets.patch_scale("web", &PatchParams::default(), &scale).await.unwrap();
    eventually!(sets.get("web").await.unwrap(), complete(1));
    let events = cluster.api::<Event>("default");
    let told = |events: &Vec<Event>| {
        let has = |text: &str| events.iter().any(|event| event.message.as_deref() == Some(text));
        has("create Pod web-2 in StatefulSet web successful") && has("delete Pod web-1 in StatefulSet web successful")
    };
    eventually!(events.list(&ListParams::default()).await.unwrap().items, told);

    sets.delete("web", &DeleteParams::background()).await.unwrap();
    eventually!(cluster.pods("default").await, Vec::<Pod>::is_empty);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pod_gets_its_claims_first() {
    let cluster = Cluster::start(&[], false).await;
    let mut set = manifest(2);
    let claim = json!([{
        "metadata": {"name": "www"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    }]);
    let spec = set.spec.as_mut().unwrap();
    spec.volume_claim_templates = serde_json::from_value(claim).unwrap();
    spec.pod_management_policy = Some("Parallel".into());
    let sets = cluster.api::<StatefulSet>("default");
    sets.create(&PostParams::default(), &set).await.unwrap();
    let pods = eventually!(cluster.pods("default").await, |pods: &Vec<Pod>| pods.len() == 2);
    let volumes = pods[1].spec.as_ref().unwrap().volumes.as_ref().unwrap();
    let source = volumes
        .iter()
        .find_map(|volume| volume.persistent_volume_claim.as_ref());
    assert_eq!(source.unwrap().claim_name, "www-web-1");
    let claims = cluster.api::<PersistentVolumeClaim>("default");
    let claims = claims.list(&ListParams::default()).await.unwrap().items;
    let names: Vec<_> = claims.iter().map(|claim| claim.name_any()).collect();
    assert_eq!(names, ["www-web-0", "www-web-1"]);
    let events = cluster.api::<Event>("default");
    let told = |events: &Vec<Event>| {
        let text = "create Claim www-web-0 Pod web-0 in StatefulSet web success";
        events.iter().any(|event| event.message.as_deref() == Some(text))
    };
    eventually!(events.list(&ListParams::default()).await.unwrap().items, told);
}
