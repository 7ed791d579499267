//! ReplicationControllers, and all kinds of workloads together.

use std::time::{Duration, Instant};

use k8s_openapi::api::apps::v1::{DaemonSet, StatefulSet};
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Pod, ReplicationController};
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::cluster::*;

fn template(app: &str) -> Value {
    json!({
        "metadata": {"labels": {"app": app}},
        "spec": {"containers": [{"name": app, "image": "nginx"}]},
    })
}

fn object<K: DeserializeOwned>(name: &str, spec: Value) -> K {
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replicationcontroller_keeps_its_pods() {
    let cluster = Cluster::start(&["worker1"], true).await;
    let controllers = cluster.api::<ReplicationController>("default");
    let controller: ReplicationController = serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {"replicas": 2, "selector": {"app": "web"}, "template": {
            "metadata": {"labels": {"app": "web"}},
            "spec": {"containers": [{"name": "web", "image": "nginx"}]},
        }},
    }))
    .unwrap();
    controllers.create(&PostParams::default(), &controller).await.unwrap();
    let available = |count: i32| {
        move |controller: &ReplicationController| {
            let status = controller.status.clone().unwrap_or_default();
            status.available_replicas.unwrap_or(0) == count && status.replicas == count
        }
    };
    eventually!(controllers.get("web").await.unwrap(), available(2));
    let scale = Patch::Merge(json!({"spec": {"replicas": 1}}));
    controllers
        .patch_scale("web", &PatchParams::default(), &scale)
        .await
        .unwrap();
    eventually!(controllers.get("web").await.unwrap(), available(1));
}

/// Whatever was going on, it ends: once everything is as wanted, no controller writes again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settled_workloads_write_nothing() {
    let cluster = Cluster::start(&["worker1", "worker2"], true).await;
    let with = |app: &str| json!({"selector": {"matchLabels": {"app": app}}, "template": template(app)});
    let params = PostParams::default();
    let sets = cluster.api::<StatefulSet>("default");
    sets.create(&params, &object("ordered", with("ordered"))).await.unwrap();
    let daemons = cluster.api::<DaemonSet>("default");
    daemons
        .create(&params, &object("daemon", with("daemon")))
        .await
        .unwrap();
    let controllers = cluster.api::<ReplicationController>("default");
    let spec = json!({"selector": {"app": "old"}, "template": template("old")});
    controllers.create(&params, &object("old", spec)).await.unwrap();
    let mut work = template("work");
    work["spec"]["restartPolicy"] = "Never".into();
    let jobs = cluster.api::<Job>("default");
    let job = json!({"template": work});
    jobs.create(&params, &object("work", job.clone())).await.unwrap();
    let suspended = json!({"schedule": "* * * * *", "suspend": true, "jobTemplate": {"spec": job}});
    let crons = cluster.api::<CronJob>("default");
    crons.create(&params, &object("never", suspended)).await.unwrap();
    cluster.deploy("default", "web", 2).await;
    eventually!(cluster.pods("default").await, |pods: &Vec<Pod>| nodes_of(pods).len()
        == 7);

    // A list shows the revision of the whole store, events included.
    let revision = || async {
        tokio::time::sleep(Duration::from_millis(400)).await;
        jobs.list(&ListParams::default())
            .await
            .unwrap()
            .metadata
            .resource_version
    };
    let mut last = revision().await;
    let begun = Instant::now();
    loop {
        let now = revision().await;
        if now == last {
            break;
        }
        assert!(begun.elapsed() < PATIENCE, "still writing at revision {now:?}");
        last = now;
    }
    assert_eq!(revision().await, last);
}
