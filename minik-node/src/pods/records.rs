//! Where a Pod's things lie on this machine, and what is known from there of containers that have ended.

use std::path::PathBuf;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use super::lost;
use super::volumes::Directories;
use crate::config::AgentConfig;
use crate::runtime::client::States;
use crate::runtime::exits;

/// `RUN_DIR/pods/UID` and `STATE_DIR/pods/UID`.
pub fn directories(config: &AgentConfig, uid: &str) -> Directories {
    Directories {
        run: config.run_dir.join("pods").join(uid),
        state: config.state_dir.join("pods").join(uid),
    }
}

/// `STATE_DIR/logs/NAMESPACE_NAME_UID`, as the kubelet names it.
pub fn logs(config: &AgentConfig, pod: &Pod) -> PathBuf {
    let metadata = &pod.metadata;
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    config.state_dir.join("logs").join(format!(
        "{}_{}_{}",
        part(&metadata.namespace),
        part(&metadata.name),
        part(&metadata.uid)
    ))
}

/// What became of the containers of a Pod whose shim is gone; what nobody knew is saved, so that it stays known.
pub fn recover(config: &AgentConfig, pod: &Pod, reported: &States) -> States {
    let (state_dir, saved) = saved(config, pod);
    let states = lost::recover(pod, reported, &saved, Timestamp::now());
    for (name, state) in states.iter().filter(|(name, state)| saved.get(*name) != Some(*state)) {
        if let Err(error) = exits::save(&state_dir, name, state) {
            tracing::warn!(container = name, %error, "save how a container ended");
        }
    }
    states
}

/// Containers that have ended, in whichever sandbox, and must not run again.
pub fn over(config: &AgentConfig, pod: &Pod) -> States {
    match &pod.spec {
        Some(spec) => lost::kept(spec, &saved(config, pod).1),
        None => States::new(),
    }
}

/// The Pod's state directory, and the ends that were saved there.
fn saved(config: &AgentConfig, pod: &Pod) -> (PathBuf, States) {
    let names = pod.spec.iter().flat_map(|spec| {
        let init = spec.init_containers.iter().flatten();
        init.chain(&spec.containers).map(|container| container.name.as_str())
    });
    let state_dir = directories(config, pod.metadata.uid.as_deref().unwrap_or_default()).state;
    let saved = exits::read_all(&state_dir, names).unwrap_or_else(|error| {
        tracing::warn!(dir = %state_dir.display(), %error, "read how containers ended");
        States::new()
    });
    (state_dir, saved)
}
