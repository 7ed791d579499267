//! Starting one container of a Pod: image, configuration, volumes, then the shim. What fails becomes a
//! [`Trouble`](super::decide::Trouble) with a back-off, an event and a waiting reason, as the kubelet words them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use k8s_openapi::api::core::v1::Container;

use super::backoff::Backoff;
use super::charge::{Charge, find};
use super::config::{Setting, Sources};
use super::container::{self, Parts};
use super::context::{PodError, chain};
use super::decide::Failure;
use super::downward::PodFacts;
use super::env_file::{EnvFile, EnvFiles};
use super::metrics::Operation;
use super::pull;
use super::records::{self, directories};
use super::sandbox::names;
use super::service_env;
use super::termination;
use super::volumes::Laid;
use super::volumes::keeper::Keeper;
use super::volumes::mounts;
use crate::config::allocatable;
use crate::runtime::client::ShimClientError;
use crate::runtime::image::Image;
use crate::runtime::spec::{Access, ContainerSpec, Mount};

/// Attempts whose logs are kept: the present one and the one before, for `kubectl logs --previous`.
const KEPT_LOGS: u32 = 2;

/// Starts a container, or records why it could not be; gives the id of the run whose program has begun.
pub async fn start(charge: &mut Charge, name: &str) -> Result<Option<String>, PodError> {
    let pod = Arc::clone(&charge.pod);
    let Some(container) = find(&pod, name) else {
        return Ok(None);
    };
    let began = Instant::now();
    let Some(image) = pull::pull(charge, container).await else {
        return Ok(None);
    };
    let spec = match prepare(charge, container, image).await {
        Ok(spec) => spec,
        Err((reason, event, message)) => {
            let text = if event == "Failed" {
                format!("Error: {message}")
            } else {
                message.clone()
            };
            charge
                .events
                .warning(&pod, (event == "Failed").then_some(name), event, text);
            charge.trouble(name, reason, message);
            return Ok(None);
        }
    };
    let metrics = charge.registry.metrics().clone();
    metrics.took(Operation::CreateContainer, began.elapsed());
    charge.knowledge.troubles.remove(name);
    if let Some(oldest) = spec.attempt.checked_sub(KEPT_LOGS) {
        remove_log(&spec.log.with_file_name(format!("{oldest}.log")))?;
    }
    charge.events.normal(&pod, Some(name), "Created", "Container created");
    let last = charge.knowledge.current(name);
    if let Some(since) = last.and_then(|run| charge.knowledge.ended_at(run)) {
        let before = charge.knowledge.crashes.get(name).copied();
        let backoff = Backoff::next(before, since, charge.node.clock.now());
        charge.knowledge.crashes.insert(name.to_owned(), backoff);
    }
    let id = spec.id.clone();
    let began = Instant::now();
    let launched = launch(charge, name, spec).await?;
    metrics.took(Operation::StartContainer, began.elapsed());
    charge
        .until(|states| states.get(name).is_some_and(|state| state.current.id == id))
        .await;
    Ok(launched.then_some(id))
}

/// Says whether the program runs.
async fn launch(charge: &mut Charge, name: &str, spec: ContainerSpec) -> Result<bool, PodError> {
    let Some(running) = &charge.running else {
        return Ok(false);
    };
    let id = spec.id.clone();
    match running.client.start(spec).await {
        Ok(()) => {
            charge
                .events
                .normal(&charge.pod, Some(name), "Started", "Container started");
            Ok(true)
        }
        // The shim's state has it as an attempt that ended with `StartError`.
        Err(ShimClientError::Refused(failure)) => {
            charge
                .events
                .warning(&charge.pod, Some(name), "Failed", format!("Error: {}", failure.message));
            let failure = Failure {
                id,
                reason: "RunContainerError",
                message: failure.message,
            };
            charge.knowledge.failures.insert(name.to_owned(), failure);
            Ok(false)
        }
        Err(error) => Err(error.into()),
    }
}

type Unprepared = (&'static str, &'static str, String);

async fn prepare(charge: &Charge, container: &Container, image: Arc<Image>) -> Result<ContainerSpec, Unprepared> {
    let config_error = |message: String| ("CreateContainerConfigError", "Failed", message);
    let pod = &charge.pod;
    let Some(pod_spec) = &pod.spec else {
        return Err(config_error("the Pod has no spec".to_owned()));
    };
    let node = &charge.node;
    let mut sources = Sources::fetch(&node.client, charge.namespace(), container)
        .await
        .map_err(|error| config_error(chain(&error)))?;
    let laid = charge.volumes.as_ref().and_then(Keeper::laid).unwrap_or_default();
    sources.files = env_files(charge, container, &laid).await;
    let setting = Setting {
        pod,
        container,
        facts: PodFacts {
            node: node.config.node.clone(),
            host_ip: node.config.node_ip,
            pod_ip: charge.address(),
        },
        allocatable: allocatable(&node.config),
    };
    let env = sources
        .environment(&setting, of_services(charge))
        .map_err(|error| config_error(chain(&error)))?;
    let directories = directories(&node.config, charge.uid());
    let mut mounts = files(&directories.state, container);
    let volumes = mounts::mounts(container, &laid, &env);
    mounts.extend(volumes.map_err(|error| (error.reason(), "Failed", chain(&error)))?);
    let attempt = attempt(charge, &container.name).map_err(|error| config_error(chain(&error)))?;
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
        log: records::logs(&node.config, pod)
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

/// The files of the Pod's volumes that the container's variables name, which it need not mount.
async fn env_files(charge: &Charge, container: &Container, laid: &BTreeMap<String, Laid>) -> EnvFiles {
    let mut files = EnvFiles::new();
    let sources = container
        .env
        .iter()
        .flatten()
        .filter_map(|variable| variable.value_from.as_ref());
    for reference in sources.filter_map(|source| source.file_key_ref.as_ref()) {
        let (Some(volume), Some(running)) = (laid.get(&reference.volume_name), &charge.running) else {
            continue;
        };
        let named = (reference.volume_name.clone(), reference.path.clone());
        if let Entry::Vacant(unread) = files.entry(named) {
            let text = running.client.read(&volume.source, &reference.path).await;
            unread.insert(EnvFile {
                path: volume.source.join(&reference.path),
                text: text.map_err(|error| chain(&error)),
            });
        }
    }
    files
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
fn of_services(charge: &Charge) -> BTreeMap<String, String> {
    let links = charge
        .pod
        .spec
        .as_ref()
        .and_then(|spec| spec.enable_service_links)
        .unwrap_or(true);
    let view = charge.node.view.borrow().clone();
    let services = view.iter().flat_map(|view| view.services.values()).map(Arc::as_ref);
    service_env::variables(services, charge.namespace(), links)
}

/// One more than the newest attempt that the shim knows or, in a new sandbox, that has a log.
fn attempt(charge: &Charge, name: &str) -> Result<u32, PodError> {
    if let Some(run) = charge.knowledge.current(name) {
        return Ok(run.attempt.saturating_add(1));
    }
    let path = records::logs(&charge.node.config, &charge.pod).join(name);
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
