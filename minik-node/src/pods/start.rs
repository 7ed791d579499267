//! Starting one container of a Pod: image, configuration, volumes, then the shim. What fails becomes a
//! [`Trouble`] with a back-off, an event and a waiting reason, as the kubelet words them.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Container, Pod};

use super::backoff::Backoff;
use super::config::{Setting, Sources};
use super::container::{self, Parts};
use super::decide::{Failure, Trouble};
use super::downward::PodFacts;
use super::pull;
use super::sandbox::{self, directories, names};
use super::service_env;
use super::termination;
use super::volumes::keeper::Keeper;
use super::volumes::mounts;
use super::worker::{PodError, Worker, chain};
use crate::agent;
use crate::runtime::client::ShimClientError;
use crate::runtime::image::Image;
use crate::runtime::spec::{Access, ContainerSpec, Mount};

/// Attempts whose logs are kept: the present one and the one before, for `kubectl logs --previous`.
const KEPT_LOGS: u32 = 2;

/// Starts a container, or records why it could not be.
pub async fn start(worker: &mut Worker, name: &str) -> Result<(), PodError> {
    let pod = Arc::clone(&worker.pod);
    let Some(container) = find(&pod, name) else {
        return Ok(());
    };
    let Some(image) = pull::pull(worker, container).await else {
        return Ok(());
    };
    let spec = match prepare(worker, container, image).await {
        Ok(spec) => spec,
        Err((reason, event, message)) => {
            let text = if event == "Failed" {
                format!("Error: {message}")
            } else {
                message.clone()
            };
            worker
                .events
                .warning(&pod, (event == "Failed").then_some(name), event, text);
            trouble(worker, name, reason, message);
            return Ok(());
        }
    };
    worker.knowledge.troubles.remove(name);
    if let Some(oldest) = spec.attempt.checked_sub(KEPT_LOGS) {
        remove_log(&spec.log.with_file_name(format!("{oldest}.log")))?;
    }
    worker.events.normal(&pod, Some(name), "Created", "Container created");
    let last = worker.knowledge.current(name);
    if let Some(since) = last.and_then(|run| worker.knowledge.ended_at(run)) {
        let before = worker.knowledge.crashes.get(name).copied();
        let backoff = Backoff::next(before, since, worker.node.clock.now());
        worker.knowledge.crashes.insert(name.to_owned(), backoff);
    }
    let id = spec.id.clone();
    let launched = launch(worker, name, spec).await?;
    worker
        .until(|states| states.get(name).is_some_and(|state| state.current.id == id))
        .await;
    if launched {
        worker.post_start(name, id);
    }
    Ok(())
}

/// Says whether the program runs.
async fn launch(worker: &mut Worker, name: &str, spec: ContainerSpec) -> Result<bool, PodError> {
    let Some(running) = &worker.running else {
        return Ok(false);
    };
    let id = spec.id.clone();
    match running.client.start(spec).await {
        Ok(()) => {
            worker
                .events
                .normal(&worker.pod, Some(name), "Started", "Container started");
            Ok(true)
        }
        // The shim's state has it as an attempt that ended with `StartError`.
        Err(ShimClientError::Refused(failure)) => {
            worker
                .events
                .warning(&worker.pod, Some(name), "Failed", format!("Error: {}", failure.message));
            let failure = Failure {
                id,
                reason: "RunContainerError",
                message: failure.message,
            };
            worker.knowledge.failures.insert(name.to_owned(), failure);
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

/// A container of a Pod by name.
pub(super) fn find<'a>(pod: &'a Pod, name: &str) -> Option<&'a Container> {
    let spec = pod.spec.as_ref()?;
    spec.init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
        .find(|container| container.name == name)
}

/// Remembers why a container could not be started, and how long that is let rest.
pub(super) fn trouble(worker: &mut Worker, name: &str, reason: &str, message: String) {
    let now = worker.node.clock.now();
    let before = worker.knowledge.troubles.get(name).map(|trouble| trouble.backoff);
    let backoff = Backoff::next(before, now, now);
    worker.knowledge.troubles.insert(
        name.to_owned(),
        Trouble {
            reason: reason.to_owned(),
            message,
            at: now,
            backoff,
        },
    );
}

type Unprepared = (&'static str, &'static str, String);

async fn prepare(worker: &Worker, container: &Container, image: Arc<Image>) -> Result<ContainerSpec, Unprepared> {
    let config_error = |message: String| ("CreateContainerConfigError", "Failed", message);
    let pod = &worker.pod;
    let Some(pod_spec) = &pod.spec else {
        return Err(config_error("the Pod has no spec".to_owned()));
    };
    let node = &worker.node;
    let sources = Sources::fetch(&node.client, worker.namespace(), container)
        .await
        .map_err(|error| config_error(chain(&error)))?;
    let setting = Setting {
        pod,
        container,
        facts: PodFacts {
            node: node.config.node.clone(),
            host_ip: node.config.node_ip,
            pod_ip: worker.address(),
        },
        allocatable: agent::allocatable(&node.config),
    };
    let env = sources
        .environment(&setting, of_services(worker))
        .map_err(|error| config_error(chain(&error)))?;
    let directories = directories(&node.config, worker.uid());
    let laid = worker.volumes.as_ref().and_then(Keeper::laid).unwrap_or_default();
    let mut mounts = files(&directories.state, container);
    let volumes = mounts::mounts(container, &laid, &env);
    mounts.extend(volumes.map_err(|error| (error.reason(), "Failed", chain(&error)))?);
    let attempt = attempt(worker, &container.name).map_err(|error| config_error(chain(&error)))?;
    let message = termination::prepare(&directories.state, container, attempt);
    mounts.extend(message.map_err(|error| config_error(format!("make termination message file: {error}")))?);
    let names = names(&node.config, pod).map_err(|error| config_error(error.to_string()))?;
    let parts = Parts {
        image,
        attempt,
        env,
        hostname: names.kernel,
        mounts,
        writable: directories.state.join("containers").join(&container.name),
        log: sandbox::logs(&node.config, pod)
            .join(&container.name)
            .join(format!("{attempt}.log")),
    };
    let mut spec = container::spec(pod, pod_spec, container, parts).map_err(config_error)?;
    let lifecycle = container.lifecycle.as_ref();
    if let Some(signal) = lifecycle.and_then(|lifecycle| signal_number(lifecycle.stop_signal.as_deref()?)) {
        spec.stop_signal = signal;
    }
    Ok(spec)
}

/// `SIGUSR1`, `SIGRTMIN+3`: a name that the API has checked.
fn signal_number(name: &str) -> Option<i32> {
    let real_time = |base: i32, rest: &str| match rest {
        "" => Some(base),
        rest => Some(base + rest.parse::<i32>().ok()?),
    };
    if let Some(rest) = name.strip_prefix("SIGRTMIN") {
        return real_time(libc::SIGRTMIN(), rest);
    }
    if let Some(rest) = name.strip_prefix("SIGRTMAX") {
        return real_time(libc::SIGRTMAX(), rest);
    }
    name.parse::<nix::sys::signal::Signal>()
        .ok()
        .map(|signal| signal as i32)
}

/// The files that every container finds, where it has not mounted its own.
fn files(state: &Path, container: &Container) -> Vec<Mount> {
    let own = |target: &Path| {
        let mut mounts = container.volume_mounts.iter().flatten();
        mounts.any(|mount| Path::new(&mount.mount_path) == target)
    };
    let mount = |name: &str| Mount {
        source: state.join(name),
        target: Path::new("/etc").join(name),
        access: Access::ReadWrite,
        sub_path: None,
    };
    let mounts = ["resolv.conf", "hosts", "hostname"].map(mount);
    mounts.into_iter().filter(|mount| !own(&mount.target)).collect()
}

/// The variables of the Services that are there now.
fn of_services(worker: &Worker) -> BTreeMap<String, String> {
    let links = worker
        .pod
        .spec
        .as_ref()
        .and_then(|spec| spec.enable_service_links)
        .unwrap_or(true);
    let view = worker.node.view.borrow().clone();
    let services = view.iter().flat_map(|view| view.services.values()).map(Arc::as_ref);
    service_env::variables(services, worker.namespace(), links)
}

/// One more than the newest attempt that the shim knows or, in a new sandbox, that has a log.
fn attempt(worker: &Worker, name: &str) -> Result<u32, PodError> {
    if let Some(run) = worker.knowledge.current(name) {
        return Ok(run.attempt.saturating_add(1));
    }
    let path = sandbox::logs(&worker.node.config, &worker.pod).join(name);
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(0),
        Err(source) => {
            let operation = "list";
            return Err(PodError::File {
                operation,
                path,
                source,
            });
        }
    };
    let names = entries.filter_map(Result::ok).map(|entry| entry.file_name());
    let attempts = names.filter_map(|name| name.to_str()?.strip_suffix(".log")?.parse::<u32>().ok());
    Ok(attempts.max().map_or(0, |newest| newest.saturating_add(1)))
}

fn remove_log(path: &std::path::Path) -> Result<(), PodError> {
    for path in [path.to_owned(), path.with_extension("log.1")] {
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                return Err(PodError::File {
                    operation: "remove",
                    path,
                    source,
                });
            }
            _ => {}
        }
    }
    Ok(())
}
