//! What became of containers that nobody held any more: their shim died, or the machine did. Pure.
//!
//! An end that was saved counts; of what ran and has no end, nobody can tell, and the kubelet's word for that is
//! `ContainerStatusUnknown`, 137. Either way it is an attempt that ended: what must not run again does not.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{
    ContainerStateRunning, ContainerStateTerminated, ContainerStatus, ContainerUser, Pod, PodSpec,
};

use super::decide::restart;
use crate::runtime::client::States;
use crate::runtime::protocol::{Attempt, ContainerState, Ended, Exit};
use crate::runtime::spec::User;

/// The states of a Pod's containers now that its shim is gone: from what the shim `reported` last, or else the API
/// remembers, and the ends that were `saved`.
#[must_use]
pub fn recover(pod: &Pod, reported: &States, saved: &States, now: Timestamp) -> States {
    let mut states = remembered(pod);
    for (name, state) in reported.iter().chain(saved) {
        let newer = |known: &ContainerState| known.current.attempt <= state.current.attempt;
        if states.get(name).is_none_or(newer) {
            states.insert(name.clone(), state.clone());
        }
    }
    for state in states.values_mut() {
        state.current.pid = 0;
        state.current.ended.get_or_insert(Ended {
            at: now,
            exit: Exit::LOST,
            start_error: None,
        });
    }
    states
}

/// Which of the states hold in a new sandbox: those of containers that must not run again.
#[must_use]
pub fn kept(spec: &PodSpec, states: &States) -> States {
    let is_over = |name: &str, state: &ContainerState| {
        let container = spec.containers.iter().find(|container| container.name == name);
        let ended = state.current.ended.as_ref();
        container
            .zip(ended)
            .is_some_and(|(container, ended)| !restart::after(spec, container, ended.exit.code))
    };
    let kept = states.iter().filter(|(name, state)| is_over(name, state));
    kept.map(|(name, state)| (name.clone(), state.clone())).collect()
}

/// What the API was told of each container's newest attempt.
fn remembered(pod: &Pod) -> States {
    let status = pod.status.iter();
    let statuses = status.flat_map(|status| {
        let init = status.init_container_statuses.iter().flatten();
        init.chain(status.container_statuses.iter().flatten())
    });
    statuses
        .filter_map(|status| {
            let current = attempt(status)?;
            Some((
                status.name.clone(),
                ContainerState {
                    current,
                    previous: None,
                },
            ))
        })
        .collect()
}

fn attempt(status: &ContainerStatus) -> Option<Attempt> {
    let id = status.container_id.as_deref()?;
    let running = status.state.as_ref().and_then(|state| state.running.as_ref());
    let state = |state: &Option<k8s_openapi::api::core::v1::ContainerState>| state.as_ref()?.terminated.clone();
    // One that waits to be started again ended before.
    let terminated = state(&status.state).or_else(|| state(&status.last_state));
    let time = |time: &Option<k8s_openapi::apimachinery::pkg::apis::meta::v1::Time>| time.as_ref().map(|time| time.0);
    let (started_at, ended) = match (running, terminated) {
        (Some(ContainerStateRunning { started_at }), _) => (time(started_at), None),
        (None, Some(terminated)) => (time(&terminated.started_at), Some(ended(&terminated))),
        (None, None) => (None, None),
    };
    Some(Attempt {
        id: id.rsplit("://").next().unwrap_or(id).to_owned(),
        attempt: u32::try_from(status.restart_count).unwrap_or(0),
        image: status.image.clone(),
        image_id: status.image_id.clone(),
        stop_signal: libc::SIGTERM,
        user: status.user.as_ref().and_then(user),
        pid: 0,
        started_at: started_at.unwrap_or(Timestamp::UNIX_EPOCH),
        ended,
    })
}

fn user(user: &ContainerUser) -> Option<User> {
    let linux = user.linux.as_ref()?;
    let number = |value: &i64| u32::try_from(*value).ok();
    Some(User {
        uid: number(&linux.uid)?,
        gid: number(&linux.gid)?,
        groups: linux.supplemental_groups.iter().flatten().filter_map(number).collect(),
    })
}

fn ended(terminated: &ContainerStateTerminated) -> Ended {
    let reason = terminated.reason.as_deref();
    let exit = Exit {
        code: terminated.exit_code,
        signal: terminated.signal,
    };
    Ended {
        at: terminated
            .finished_at
            .as_ref()
            .map_or(Timestamp::UNIX_EPOCH, |time| time.0),
        exit: if reason == Some("ContainerStatusUnknown") {
            Exit::LOST
        } else {
            exit
        },
        start_error: (reason == Some("StartError"))
            .then(|| terminated.message.clone())
            .flatten(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(policy: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"name": "p"},
            "spec": {"restartPolicy": policy, "containers": [{"name": "a"}, {"name": "b"}, {"name": "c"}, {"name": "new"}]},
            "status": {"containerStatuses": [
                {"name": "a", "containerID": "minik://aa", "restartCount": 2, "image": "i", "imageID": "d", "ready": true,
                 "state": {"running": {"startedAt": "2026-11-21T05:00:00Z"}}},
                {"name": "b", "containerID": "minik://bb", "restartCount": 0, "image": "i", "imageID": "d", "ready": false,
                 "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}},
                {"name": "c", "containerID": "minik://cc", "restartCount": 1, "image": "i", "imageID": "d", "ready": false,
                 "state": {"waiting": {"reason": "CrashLoopBackOff"}},
                 "lastState": {"terminated": {"exitCode": 3, "reason": "Error"}}},
                {"name": "new", "restartCount": 0, "image": "i", "imageID": "", "ready": false, "state": {"waiting": {}}}
            ]}
        }))
        .unwrap()
    }

    fn exits(states: &States) -> Vec<(&str, u32, Exit)> {
        let exit = |state: &ContainerState| state.current.ended.as_ref().unwrap().exit;
        let all = states.iter();
        all.map(|(name, state)| (name.as_str(), state.current.attempt, exit(state)))
            .collect()
    }

    fn exit(code: i32) -> Exit {
        Exit { code, signal: None }
    }

    #[test]
    fn what_ran_and_has_no_end_is_lost_and_what_never_ran_is_new() {
        let states = recover(&pod("Always"), &States::new(), &States::new(), Timestamp::UNIX_EPOCH);
        assert_eq!(
            exits(&states),
            [("a", 2, Exit::LOST), ("b", 0, exit(0)), ("c", 1, exit(3))]
        );
    }

    #[test]
    fn an_end_that_was_saved_counts_even_if_nobody_heard_of_it() {
        let mut saved = recover(&pod("Always"), &States::new(), &States::new(), Timestamp::UNIX_EPOCH);
        saved.retain(|name, _| name == "a");
        saved.get_mut("a").unwrap().current.ended.as_mut().unwrap().exit = exit(7);
        let states = recover(&pod("Always"), &States::new(), &saved, Timestamp::UNIX_EPOCH);
        assert_eq!(exits(&states)[0], ("a", 2, exit(7)));
        // The end of an attempt before the one that ran says nothing of that.
        saved.get_mut("a").unwrap().current.attempt = 1;
        let states = recover(&pod("Always"), &States::new(), &saved, Timestamp::UNIX_EPOCH);
        assert_eq!(exits(&states)[0], ("a", 2, Exit::LOST));
    }

    #[test]
    fn nothing_runs_twice_that_must_not() {
        for (policy, expected) in [
            ("Never", vec!["a", "b", "c"]),
            ("OnFailure", vec!["b"]),
            ("Always", vec![]),
        ] {
            let pod = pod(policy);
            let states = recover(&pod, &States::new(), &States::new(), Timestamp::UNIX_EPOCH);
            let kept = kept(pod.spec.as_ref().unwrap(), &states);
            assert_eq!(kept.keys().collect::<Vec<_>>(), expected, "{policy}");
        }
    }
}
