//! The scheduler against the API server: what it writes, and what wakes it.

use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Event, Node, Pod, PodCondition};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use crate::cluster::*;

async fn create(cluster: &Cluster, name: &str, spec: Value) -> Pod {
    let mut pod = json!({"metadata": {"name": name}, "spec": {"containers": [{"name": "c", "image": "pause"}]}});
    for (key, value) in spec.as_object().unwrap() {
        pod["spec"][key] = value.clone();
    }
    let pod = serde_json::from_value(pod).unwrap();
    cluster
        .api("default")
        .create(&PostParams::default(), &pod)
        .await
        .unwrap()
}

fn scheduled(pod: &Pod) -> Option<PodCondition> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    conditions
        .iter()
        .find(|condition| condition.type_ == "PodScheduled")
        .cloned()
}

fn on(pod: &Pod) -> Option<String> {
    pod.spec.as_ref()?.node_name.clone()
}

async fn told(cluster: &Cluster, name: &str, reason: &str) -> Vec<Event> {
    let fields = format!("involvedObject.name={name},reason={reason}");
    let params = ListParams::default().fields(&fields);
    cluster.api::<Event>("default").list(&params).await.unwrap().items
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_pod_is_told_once_and_bound_when_a_label_comes() {
    let cluster = Cluster::start(&["worker1", "worker2"], false).await;
    create(&cluster, "picky", json!({"nodeSelector": {"disk": "ssd"}})).await;
    let pods = cluster.api::<Pod>("default");
    let refused = eventually!(pods.get("picky").await.unwrap(), |pod: &Pod| scheduled(pod).is_some());
    let condition = scheduled(&refused).unwrap();
    let message = "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. no new claims to \
                   deallocate, preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.";
    assert_eq!(
        (
            condition.status.as_str(),
            condition.reason.as_deref(),
            condition.message.as_deref()
        ),
        ("False", Some("Unschedulable"), Some(message))
    );
    let events = eventually!(told(&cluster, "picky", "FailedScheduling").await, |events: &Vec<
        Event,
    >| !events
        .is_empty());
    assert_eq!(events[0].message.as_deref(), Some(message));
    assert_eq!(
        (events[0].type_.as_deref(), events[0].action.as_deref()),
        (Some("Warning"), Some("Scheduling"))
    );
    let nodes: Api<Node> = Api::all(cluster.client.clone());
    let label = Patch::Merge(json!({"metadata": {"labels": {"disk": "ssd"}}}));
    nodes.patch("worker2", &PatchParams::default(), &label).await.unwrap();
    let bound = eventually!(pods.get("picky").await.unwrap(), |pod: &Pod| on(pod).is_some());
    assert_eq!(
        (on(&bound).as_deref(), scheduled(&bound).unwrap().status.as_str()),
        (Some("worker2"), "True")
    );
    let events = eventually!(told(&cluster, "picky", "Scheduled").await, |events: &Vec<Event>| {
        !events.is_empty()
    });
    assert_eq!(
        events[0].message.as_deref(),
        Some("Successfully assigned default/picky to worker2")
    );
    assert_eq!(told(&cluster, "picky", "FailedScheduling").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gated_pod_waits_until_its_gates_are_gone() {
    let cluster = Cluster::start(&["worker1"], false).await;
    let gated = create(
        &cluster,
        "gated",
        json!({"schedulingGates": [{"name": "example.com/wait"}]}),
    )
    .await;
    let condition = scheduled(&gated).unwrap();
    let message = "Scheduling is blocked due to non-empty scheduling gates";
    assert_eq!(
        (
            condition.status.as_str(),
            condition.reason.as_deref(),
            condition.message.as_deref()
        ),
        ("False", Some("SchedulingGated"), Some(message))
    );
    let pods = cluster.api::<Pod>("default");
    // One that came later is bound first.
    create(&cluster, "free", json!({})).await;
    eventually!(pods.get("free").await.unwrap(), |pod: &Pod| on(pod).is_some());
    assert_eq!(on(&pods.get("gated").await.unwrap()), None);
    let close = Patch::Merge(json!({"spec": {"schedulingGates": [{"name": "example.com/other"}]}}));
    let refused = pods
        .patch("gated", &PatchParams::default(), &close)
        .await
        .unwrap_err()
        .to_string();
    let text = "spec.schedulingGates[0].name: Forbidden: only deletion is allowed, but found new scheduling gate 'example.com/other'";
    assert!(refused.contains(text), "{refused}");
    let open = Patch::Merge(json!({"spec": {"schedulingGates": []}}));
    pods.patch("gated", &PatchParams::default(), &open).await.unwrap();
    eventually!(pods.get("gated").await.unwrap(), |pod: &Pod| on(pod).is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_important_pod_makes_room_for_itself() {
    let cluster = Cluster::start(&["worker1"], false).await;
    let classes: Api<PriorityClass> = Api::all(cluster.client.clone());
    let class = json!({"metadata": {"name": "vip"}, "value": 1000});
    let class = serde_json::from_value(class).unwrap();
    classes.create(&PostParams::default(), &class).await.unwrap();
    let large = json!([{"name": "c", "image": "pause", "resources": {"requests": {"cpu": "3"}}}]);
    create(&cluster, "low", json!({"containers": large})).await;
    let pods = cluster.api::<Pod>("default");
    eventually!(pods.get("low").await.unwrap(), |pod: &Pod| on(pod).is_some());
    let vip = create(
        &cluster,
        "vip",
        json!({"containers": large, "priorityClassName": "vip"}),
    )
    .await;
    let going = eventually!(pods.get("low").await.unwrap(), |pod: &Pod| pod
        .metadata
        .deletion_timestamp
        .is_some());
    let conditions = going.status.unwrap().conditions.unwrap();
    let target = conditions.iter().find(|c| c.type_ == "DisruptionTarget").unwrap();
    assert_eq!(
        (target.reason.as_deref(), target.message.as_deref()),
        (
            Some("PreemptionByScheduler"),
            Some("default-scheduler: preempting to accommodate a higher priority pod")
        )
    );
    let waiting = eventually!(pods.get("vip").await.unwrap(), |pod: &Pod| pod
        .status
        .as_ref()
        .unwrap()
        .nominated_node_name
        .is_some());
    assert_eq!(waiting.status.unwrap().nominated_node_name.as_deref(), Some("worker1"));
    let events = eventually!(told(&cluster, "low", "Preempted").await, |events: &Vec<Event>| !events
        .is_empty());
    let text = format!("Preempted by pod {} on node worker1", vip.metadata.uid.unwrap());
    assert_eq!(events[0].message.as_deref(), Some(text.as_str()));
    assert_eq!(on(&pods.get("vip").await.unwrap()), None, "its victim is still going");
    pods.delete("low", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    eventually!(pods.get("vip").await.unwrap(), |pod: &Pod| on(pod).is_some());
}

/// Room for 250, two of them for cluster DNS: the rest waits, and follows as soon as anybody leaves.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_finds_no_room_follows_those_that_leave() {
    let cluster = Cluster::start(&["worker1"], true).await;
    cluster.deploy("default", "web", 250).await;
    let placed = |pods: &Vec<Pod>| pods.len() == 250 && nodes_of(pods).len() == 248;
    let pods = eventually!(cluster.pods("default").await, placed);
    let waiting = |pods: &Vec<Pod>| {
        pods.iter()
            .filter(|pod| on(pod).is_none())
            .all(|pod| scheduled(pod).is_some())
    };
    eventually!(cluster.pods("default").await, waiting);
    let first = pods.iter().find(|pod| on(pod).is_some()).unwrap();
    let name = first.metadata.name.clone().unwrap();
    cluster
        .api::<Pod>("default")
        .delete(&name, &DeleteParams::default())
        .await
        .unwrap();
    let replaced = |pods: &Vec<Pod>| {
        nodes_of(pods).len() == 248 && pods.iter().all(|pod| pod.metadata.name.as_ref() != Some(&name))
    };
    eventually!(cluster.pods("default").await, replaced);
}
