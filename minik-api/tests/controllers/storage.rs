//! Claims and volumes: made on demand, made by hand, kept and removed as their policies say.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Event, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, DeleteParams, ListParams, PostParams};
use serde_json::{Value, json};

use crate::cluster::*;

async fn claim(cluster: &Cluster, name: &str, spec: Value) -> PersistentVolumeClaim {
    let mut claim = json!({
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    });
    for (key, value) in spec.as_object().unwrap() {
        claim["spec"][key] = value.clone();
    }
    let claim = serde_json::from_value(claim).unwrap();
    cluster
        .api("default")
        .create(&PostParams::default(), &claim)
        .await
        .unwrap()
}

async fn mount(cluster: &Cluster, pod: &str, claim: &str) {
    let pod = json!({
        "metadata": {"name": pod},
        "spec": {
            "containers": [{"name": "c", "image": "pause"}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": claim}}],
        },
    });
    let pod: Pod = serde_json::from_value(pod).unwrap();
    cluster
        .api("default")
        .create(&PostParams::default(), &pod)
        .await
        .unwrap();
}

fn phase(claim: &PersistentVolumeClaim) -> &str {
    claim
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref())
        .unwrap_or_default()
}

async fn reasons(cluster: &Cluster, name: &str) -> Vec<String> {
    let fields = format!("involvedObject.name={name}");
    let params = ListParams::default().fields(&fields);
    let events = cluster.api::<Event>("default").list(&params).await.unwrap().items;
    events.into_iter().filter_map(|event| event.reason).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_of_the_default_class_waits_for_its_pod_and_its_volume_goes_with_it() {
    let cluster = Cluster::start(&["worker1"], true).await;
    let claims = cluster.api::<PersistentVolumeClaim>("default");
    let made = claim(&cluster, "data", json!({})).await;
    assert_eq!(made.spec.unwrap().storage_class_name.as_deref(), Some("standard"));
    let told = |wanted: &'static str| move |seen: &Vec<String>| seen.iter().any(|reason| reason == wanted);
    eventually!(reasons(&cluster, "data").await, told("WaitForFirstConsumer"));
    assert_eq!(phase(&claims.get("data").await.unwrap()), "Pending");

    mount(&cluster, "web", "data").await;
    let bound = eventually!(
        claims.get("data").await.unwrap(),
        |claim: &PersistentVolumeClaim| phase(claim) == "Bound"
    );
    let name = format!("pvc-{}", made.metadata.uid.unwrap());
    assert_eq!(bound.spec.as_ref().unwrap().volume_name.as_deref(), Some(name.as_str()));
    assert_eq!(
        bound.status.as_ref().unwrap().capacity.as_ref().unwrap()["storage"].0,
        "1Gi"
    );
    assert_eq!(
        bound.metadata.annotations.unwrap()["volume.kubernetes.io/selected-node"],
        "worker1"
    );
    eventually!(reasons(&cluster, "data").await, told("ProvisioningSucceeded"));
    let pods = cluster.api::<Pod>("default");
    let placed = |pod: &Pod| pod.spec.as_ref().unwrap().node_name.is_some();
    eventually!(pods.get("web").await.unwrap(), placed);
    let volumes: Api<PersistentVolume> = Api::all(cluster.client.clone());
    let volume = volumes.get(&name).await.unwrap();
    assert_eq!(volume.status.unwrap().phase.as_deref(), Some("Bound"));
    assert_eq!(
        volume.spec.unwrap().host_path.unwrap().path,
        format!("/nonexistent/{name}")
    );

    // In use it stays; afterwards it goes, and its volume with it.
    claims.delete("data", &DeleteParams::default()).await.unwrap();
    assert!(claims.get("data").await.unwrap().metadata.deletion_timestamp.is_some());
    pods.delete("web", &DeleteParams::default()).await.unwrap();
    eventually!(
        claims.get_opt("data").await.unwrap(),
        Option::<PersistentVolumeClaim>::is_none
    );
    eventually!(
        volumes.get_opt(&name).await.unwrap(),
        Option::<PersistentVolume>::is_none
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_volume_made_by_hand_is_found_by_size_mode_and_class_and_kept() {
    let cluster = Cluster::start(&["worker1"], true).await;
    let volumes: Api<PersistentVolume> = Api::all(cluster.client.clone());
    for (name, size) in [("small", "500Mi"), ("large", "10Gi"), ("right", "2Gi")] {
        let volume = json!({
            "metadata": {"name": name},
            "spec": {
                "capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "manual",
                "hostPath": {"path": "/srv"},
            },
        });
        let volume = serde_json::from_value(volume).unwrap();
        volumes.create(&PostParams::default(), &volume).await.unwrap();
        let available = |volume: &PersistentVolume| {
            volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Available")
        };
        eventually!(volumes.get(name).await.unwrap(), available);
    }
    let claims = cluster.api::<PersistentVolumeClaim>("default");
    claim(&cluster, "data", json!({"storageClassName": "manual"})).await;
    let bound = eventually!(
        claims.get("data").await.unwrap(),
        |claim: &PersistentVolumeClaim| phase(claim) == "Bound"
    );
    assert_eq!(bound.spec.unwrap().volume_name.as_deref(), Some("right"));
    // One that fits nothing waits, and says for what.
    claim(
        &cluster,
        "huge",
        json!({"storageClassName": "manual", "resources": {"requests": {"storage": "1Ti"}}}),
    )
    .await;
    let told = |seen: &Vec<String>| seen.iter().any(|reason| reason == "ProvisioningFailed");
    eventually!(reasons(&cluster, "huge").await, told);
    claims.delete("data", &DeleteParams::default()).await.unwrap();
    let released = |volume: &PersistentVolume| {
        volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Released")
    };
    eventually!(volumes.get("right").await.unwrap(), released);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_immediate_class_makes_volumes_at_once() {
    let cluster = Cluster::start(&[], false).await;
    let classes: Api<StorageClass> = Api::all(cluster.client.clone());
    let class = json!({
        "metadata": {"name": "now"}, "provisioner": "minik.dev/local-path", "reclaimPolicy": "Retain",
        "volumeBindingMode": "Immediate",
    });
    let class = serde_json::from_value(class).unwrap();
    classes.create(&PostParams::default(), &class).await.unwrap();
    let made = claim(&cluster, "data", json!({"storageClassName": "now"})).await;
    let claims = cluster.api::<PersistentVolumeClaim>("default");
    eventually!(
        claims.get("data").await.unwrap(),
        |claim: &PersistentVolumeClaim| phase(claim) == "Bound"
    );
    claims.delete("data", &DeleteParams::default()).await.unwrap();
    let volumes: Api<PersistentVolume> = Api::all(cluster.client.clone());
    let name = format!("pvc-{}", made.metadata.uid.unwrap());
    let released = |volume: &PersistentVolume| {
        volume.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Released")
    };
    eventually!(volumes.get(&name).await.unwrap(), released);
}
