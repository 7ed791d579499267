//! The decision against a small world of Pods.

use super::*;
use crate::controllers::job::pods::TRACKING;
use crate::controllers::job::world::*;
use k8s_openapi::api::batch::v1::{
    PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement, PodFailurePolicyRule, SuccessPolicy, SuccessPolicyRule,
};
use kube::ResourceExt;

fn pair(kind: &str, reason: &str) -> (String, String) {
    (kind.into(), reason.into())
}

#[test]
fn a_job_runs_so_many_at_a_time_until_all_is_done() {
    let mut world = World::new(job(Some(3), 2));
    assert_eq!(world.pass().create.len(), 2);
    let pod = world.pods.values().next().unwrap().clone();
    assert_eq!(pod.finalizers(), [TRACKING]);
    assert_eq!(pod.metadata.generate_name.as_deref(), Some("pi-"));
    world.run_all(0);
    assert_eq!((world.status().succeeded, world.status().active), (Some(2), Some(1)));
    world.run_all(0);
    let status = world.status();
    assert_eq!((status.succeeded, status.failed, status.active), (Some(3), None, None));
    assert!(status.completion_time.is_some());
    let why = "CompletionsReached";
    assert_eq!(
        world.conditions(),
        [pair("SuccessCriteriaMet", why), pair("Complete", why)]
    );
    assert_eq!(world.notes, ["Completed"]);
    assert!(world.pods.values().all(|pod| !is_tracked(pod)), "every Pod is let go");
}

#[test]
fn without_completions_one_success_is_enough() {
    let mut world = World::new(job(None, 3));
    world.settle();
    assert_eq!(world.running().len(), 3);
    let first = world.running()[0].clone();
    world.end(&first, 0);
    world.settle();
    assert_eq!(world.running().len(), 2, "the others go on, and nobody new comes");
    world.run_all(1);
    assert_eq!(world.status().failed, Some(2));
    assert_eq!(world.conditions()[1].0, "Complete");
}

#[test]
fn failures_are_tried_again_later_and_later_and_not_for_ever() {
    let mut world = World::new(job(Some(1), 1));
    world.spec().backoff_limit = Some(2);
    world.run_all(1);
    assert!(world.running().is_empty());
    assert_eq!(world.plan().recheck, Some(Duration::from_secs(10)));
    world.now += 10;
    world.run_all(1);
    assert_eq!(world.plan().recheck, Some(Duration::from_secs(20)));
    world.now += 20;
    world.run_all(1);
    let why = "BackoffLimitExceeded";
    assert_eq!(world.conditions(), [pair("FailureTarget", why), pair("Failed", why)]);
    assert_eq!((world.status().failed, world.made), (Some(3), 3));
    assert_eq!(world.notes, [why]);
}

#[test]
fn a_deadline_ends_what_runs() {
    let mut world = World::new(job(Some(1), 1));
    world.spec().active_deadline_seconds = Some(30);
    world.settle();
    assert_eq!(world.plan().recheck, Some(Duration::from_secs(30)));
    world.now += 30;
    let running = world.running();
    world.settle();
    assert_eq!(
        world.conditions(),
        [pair("FailureTarget", "DeadlineExceeded")],
        "its Pod has not gone yet"
    );
    world.end(&running[0], 143);
    world.settle();
    assert_eq!(world.conditions()[1], pair("Failed", "DeadlineExceeded"));
    assert_eq!(world.status().failed, Some(1));
}

#[test]
fn a_suspended_job_has_no_pods_and_loses_no_tries() {
    let mut world = World::new(job(Some(1), 1));
    world.settle();
    world.spec().suspend = Some(true);
    let running = world.running();
    world.settle();
    assert_eq!(world.conditions(), [pair("Suspended", "JobSuspended")]);
    world.end(&running[0], 143);
    world.settle();
    assert_eq!((world.running().len(), world.status().failed), (0, None));
    let started = world.status().start_time;
    world.now += 5;
    world.spec().suspend = Some(false);
    world.settle();
    assert_eq!(world.running().len(), 1);
    assert_ne!(world.status().start_time, started, "the deadline begins anew");
    assert_eq!(world.notes, ["Suspended", "Resumed"]);
}

#[test]
fn an_indexed_job_gives_each_pod_its_index() {
    let mut world = World::new(indexed(3, 2));
    world.settle();
    let indexes: Vec<_> = world
        .pods
        .values()
        .filter_map(|pod| crate::controllers::job::pods::index(pod))
        .collect();
    assert_eq!(indexes, [0, 1]);
    let pod = &world.pods["pod2"];
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!(spec.hostname.as_deref(), Some("pi-1"));
    assert_eq!(pod.metadata.generate_name.as_deref(), Some("pi-1-"));
    assert_eq!(pod.labels()["batch.kubernetes.io/job-completion-index"], "1");
    assert_eq!(spec.containers[0].env.as_ref().unwrap()[0].name, "JOB_COMPLETION_INDEX");
    world.end("pod2", 0);
    world.settle();
    assert_eq!(world.status().completed_indexes.as_deref(), Some("1"));
    world.run_all(0);
    assert_eq!(world.status().completed_indexes.as_deref(), Some("0-2"));
    assert_eq!(world.conditions()[1].0, "Complete");
}

#[test]
fn a_limit_per_index_fails_the_index_and_lets_the_others_end() {
    let mut world = World::new(indexed(2, 2));
    world.spec().backoff_limit_per_index = Some(1);
    world.spec().backoff_limit = Some(i32::MAX);
    world.settle();
    world.end("pod1", 1);
    world.settle();
    assert!(
        is_tracked(&world.pods["pod1"]),
        "it stays until its successor knows how often the index failed"
    );
    world.now += 10;
    world.settle();
    assert_eq!(
        world.pods["pod3"].annotations()["batch.kubernetes.io/job-index-failure-count"],
        "1"
    );
    assert!(!is_tracked(&world.pods["pod1"]));
    world.end("pod3", 1);
    world.end("pod2", 0);
    world.settle();
    let status = world.status();
    assert_eq!(
        (status.failed_indexes.as_deref(), status.completed_indexes.as_deref()),
        (Some("0"), Some("1"))
    );
    assert_eq!(world.conditions()[1], pair("Failed", "FailedIndexes"));
    assert_eq!(status.failed, Some(2));
}

fn rule(action: &str, code: i32) -> PodFailurePolicyRule {
    PodFailurePolicyRule {
        action: action.into(),
        on_exit_codes: Some(PodFailurePolicyOnExitCodesRequirement {
            container_name: None,
            operator: "In".into(),
            values: vec![code],
        }),
        on_pod_conditions: None,
    }
}

/// The message is the one that the documentation of Pod failure policies shows.
#[test]
fn a_failure_policy_ignores_or_ends_the_job() {
    let mut world = World::new(job(Some(1), 1));
    let rules = vec![rule("Ignore", 7), rule("FailJob", 42)];
    world.spec().pod_failure_policy = Some(PodFailurePolicy { rules });
    world.spec().pod_replacement_policy = Some("Failed".into());
    world.spec().backoff_limit = Some(0);
    world.run_all(7);
    assert_eq!((world.status().failed, world.running().len()), (None, 1));
    world.run_all(42);
    assert_eq!(world.conditions()[1], pair("Failed", "PodFailurePolicy"));
    let failed = world.status().conditions.unwrap().remove(1);
    let message = "Container work for pod default/pod2 failed with exit code 42 matching FailJob rule at index 1";
    assert_eq!(failed.message.as_deref(), Some(message));
}

#[test]
fn a_success_policy_ends_the_job_early() {
    let mut world = World::new(indexed(3, 3));
    let rules = vec![SuccessPolicyRule {
        succeeded_count: Some(1),
        succeeded_indexes: Some("0-1".into()),
    }];
    world.spec().success_policy = Some(SuccessPolicy { rules });
    world.settle();
    world.end("pod3", 0);
    world.settle();
    assert!(world.conditions().is_empty());
    world.end("pod2", 0);
    world.settle();
    assert_eq!(world.conditions(), [pair("SuccessCriteriaMet", "SuccessPolicy")]);
    world.end("pod1", 143);
    world.settle();
    assert_eq!(world.conditions()[1], pair("Complete", "SuccessPolicy"));
}

#[path = "laws.rs"]
mod laws;
