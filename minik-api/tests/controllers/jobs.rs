//! Jobs and CronJobs through the API: Pods counted once, finalizers taken off, Jobs made by schedule.

use std::time::{Duration, Instant};

use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{Event, Pod};
use kube::ResourceExt;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use serde_json::{Value, json};

use super::cluster::*;

fn job(name: &str, spec: Value) -> Job {
    let mut spec = spec;
    spec["template"] = json!({"spec": {
        "restartPolicy": "Never",
        "containers": [{"name": "work", "image": "busybox"}],
    }});
    serde_json::from_value(json!({"metadata": {"name": name}, "spec": spec})).unwrap()
}

/// Ends a running Pod, as the node agent does when its container has.
async fn end(pods: &Api<Pod>, pod: &Pod, code: i32) {
    let phase = if code == 0 { "Succeeded" } else { "Failed" };
    let status = json!({"status": {"phase": phase, "containerStatuses": [{
        "name": "work", "image": "busybox", "imageID": "", "ready": false, "restartCount": 0,
        "state": {"terminated": {"exitCode": code, "finishedAt": "2026-11-21T01:58:36Z"}},
    }]}});
    let params = PatchParams::default();
    pods.patch_status(&pod.name_any(), &params, &Patch::Merge(status))
        .await
        .unwrap();
}

fn running(pods: &[Pod]) -> Vec<&Pod> {
    let is_running = |pod: &&Pod| pod.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Running");
    pods.iter().filter(is_running).collect()
}

fn has(kind: &'static str) -> impl Fn(&Job) -> bool {
    move |job| {
        let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
        conditions
            .into_iter()
            .any(|condition| condition.type_ == kind && condition.status == "True")
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_indexed_job_completes_and_goes_after_its_time() {
    let cluster = Cluster::start(&["worker1"], true).await;
    let (jobs, pods) = (cluster.api::<Job>("default"), cluster.api::<Pod>("default"));
    let spec = json!({"completions": 3, "parallelism": 2, "completionMode": "Indexed", "ttlSecondsAfterFinished": 0});
    jobs.create(&PostParams::default(), &job("pi", spec)).await.unwrap();
    let all = eventually!(cluster.pods("default").await, |pods: &Vec<Pod>| running(pods).len()
        == 2);
    for pod in &all {
        assert_eq!(pod.labels()["batch.kubernetes.io/job-name"], "pi");
        assert!(!pod.finalizers().is_empty());
        end(&pods, pod, 0).await;
    }
    let all = eventually!(cluster.pods("default").await, |pods: &Vec<Pod>| running(pods).len()
        == 1);
    end(&pods, running(&all)[0], 0).await;
    let events = cluster.api::<Event>("default");
    let completed = |events: &Vec<Event>| {
        let told = |reason: &str| events.iter().filter(|e| e.reason.as_deref() == Some(reason)).count();
        told("Completed") == 1 && told("SuccessfulCreate") == 3
    };
    eventually!(events.list(&ListParams::default()).await.unwrap().items, completed);
    eventually!(jobs.get_opt("pi").await.unwrap(), Option::<Job>::is_none);
    eventually!(cluster.pods("default").await, Vec::<Pod>::is_empty);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_fails_says_why_and_its_pods_can_be_deleted() {
    let cluster = Cluster::start(&["worker1"], true).await;
    let (jobs, pods) = (cluster.api::<Job>("default"), cluster.api::<Pod>("default"));
    let spec = json!({"backoffLimit": 0});
    jobs.create(&PostParams::default(), &job("no", spec)).await.unwrap();
    let all = eventually!(cluster.pods("default").await, |pods: &Vec<Pod>| running(pods).len()
        == 1);
    end(&pods, &all[0], 3).await;
    let failed = eventually!(jobs.get("no").await.unwrap(), has("Failed"));
    let status = failed.status.unwrap();
    assert_eq!((status.failed, status.active, status.succeeded), (Some(1), None, None));
    let reasons: Vec<_> = status
        .conditions
        .unwrap()
        .into_iter()
        .filter_map(|condition| condition.reason)
        .collect();
    assert_eq!(reasons, ["BackoffLimitExceeded", "BackoffLimitExceeded"]);
    pods.delete(&all[0].name_any(), &DeleteParams::default()).await.unwrap();
    eventually!(cluster.pods("default").await, Vec::<Pod>::is_empty);
    // A Job that goes while its Pod runs does not keep it.
    jobs.create(&PostParams::default(), &job("gone", json!({})))
        .await
        .unwrap();
    eventually!(cluster.pods("default").await, |pods: &Vec<Pod>| running(pods).len()
        == 1);
    jobs.delete("gone", &DeleteParams::background()).await.unwrap();
    eventually!(cluster.pods("default").await, Vec::<Pod>::is_empty);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cronjob_makes_its_job_when_it_is_due() {
    let cluster = Cluster::start(&["worker1"], true).await;
    let (crons, jobs) = (cluster.api::<CronJob>("default"), cluster.api::<Job>("default"));
    let template = json!({"spec": job("x", json!({})).spec});
    let cron: CronJob = serde_json::from_value(json!({
        "metadata": {"name": "hello"}, "spec": {"schedule": "@every 1s", "jobTemplate": template},
    }))
    .unwrap();
    crons.create(&PostParams::default(), &cron).await.unwrap();
    let made = eventually!(jobs.list(&ListParams::default()).await.unwrap().items, |jobs: &Vec<
        Job,
    >| !jobs
        .is_empty());
    assert!(made[0].name_any().starts_with("hello-"));
    let noted = |cron: &CronJob| {
        let status = cron.status.clone().unwrap_or_default();
        status.last_schedule_time.is_some() && status.active.is_some_and(|active| !active.is_empty())
    };
    eventually!(crons.get("hello").await.unwrap(), noted);
    crons.delete("hello", &DeleteParams::background()).await.unwrap();
    eventually!(
        jobs.list(&ListParams::default()).await.unwrap().items,
        Vec::<Job>::is_empty
    );
    eventually!(cluster.pods("default").await, Vec::<Pod>::is_empty);
}
