//! Keeps a cluster's network as it was made: waits for the kernel to tell of a change in any of its namespaces, looks what
//! is wrong, and mends that. Holds every namespace open, so that one whose name was taken away gets it back instead of being
//! made anew, with all that lives in it.
//!
//! Pods' links are the agents' to keep, rules the Service proxies'.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use futures::FutureExt;
use futures::future::select_all;
use minik_node::kernel::monitor::{Change, Monitor, MonitorError};
use minik_node::kernel::netns::NetNs;
use minik_node::kernel::netns_dir::RUN_NETNS;
use minik_node::plan::link::{PROTOCOL_KERNEL, PROTOCOL_STATIC};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::netns::{ProviderError, provision};
use super::survey::survey;
use super::underlay::{BRIDGE, DEAD_END, NODE_LINK, OUTSIDE_PORT, outside_link};
use crate::cluster::ClusterSpec;
use crate::errors::chain;
use crate::power;

/// First pause after a failed attempt; doubles up to the longest.
const RETRY_FIRST: std::time::Duration = std::time::Duration::from_millis(20);
const RETRY_LONGEST: std::time::Duration = std::time::Duration::from_secs(10);

/// Why a network cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum KeeperError {
    /// A namespace, or what is in it.
    #[error(transparent)]
    Network(#[from] ProviderError),
    /// A namespace could not be watched.
    #[error(transparent)]
    Watch(#[from] MonitorError),
    /// `inotify`
    #[error("watch {RUN_NETNS}")]
    Names(#[source] io::Error),
}

/// One namespace.
struct Kept {
    /// `None` for the outside world that is not ours.
    name: Option<String>,
    namespace: NetNs,
    monitor: Monitor,
}

/// Events of the folder of names, for tokio to wait on.
struct Names(Inotify);

impl AsRawFd for Names {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// Keeps the network of a cluster that is up. The calling thread's namespace is that of `minik up`.
///
/// # Errors
/// [`KeeperError`]; what cannot be mended is tried again, not an error.
pub async fn keep(spec: &ClusterSpec) -> Result<std::convert::Infallible, KeeperError> {
    let names = watch_names().map_err(KeeperError::Names)?;
    let kept = open(spec)?;
    let links = links(spec);
    let mut pause = None;
    loop {
        // Looked at before the first wait: the time before is nobody's.
        pause = match mend(spec, &kept).await {
            Ok(()) => None,
            Err(error) => {
                tracing::warn!(error = chain(&error), "mend the network");
                Some(pause.map_or(RETRY_FIRST, |last: std::time::Duration| (last * 2).min(RETRY_LONGEST)))
            }
        };
        match pause {
            Some(pause) => tokio::time::sleep(pause).await,
            None => disturbed(&names, &kept, &links).await?,
        }
    }
}

fn watch_names() -> io::Result<AsyncFd<Names>> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    inotify.add_watch(RUN_NETNS, AddWatchFlags::IN_DELETE)?;
    // SAFETY: the descriptor lives and stays the same for as long as the `Inotify` that owns it.
    Ok(unsafe { AsyncFd::register_with_interest(Names(inotify), Interest::READABLE) }?)
}

fn open(spec: &ClusterSpec) -> Result<Vec<Kept>, KeeperError> {
    let nodes = spec.nodes.iter().map(|node| Some(spec.node_netns(&node.name)));
    let names = nodes.chain([Some(spec.fabric_netns()), spec.outside_netns()]);
    names
        .map(|name| {
            let namespace = match &name {
                Some(name) => NetNs::create(name),
                None => NetNs::current(),
            };
            let namespace = namespace.map_err(ProviderError::from)?;
            let monitor = Monitor::open_in(&namespace)?;
            Ok(Kept {
                name,
                namespace,
                monitor,
            })
        })
        .collect()
}

/// Every link that is ours to keep, whichever namespace it is in.
fn links(spec: &ClusterSpec) -> Vec<String> {
    let fixed = [NODE_LINK, DEAD_END[0], DEAD_END[1], BRIDGE, OUTSIDE_PORT].map(str::to_owned);
    let ports = spec.nodes.iter().map(|node| node.name.clone());
    ports.chain(fixed).chain([outside_link(&spec.name)]).collect()
}

/// Waits until something of ours may have changed.
async fn disturbed(names: &AsyncFd<Names>, kept: &[Kept], links: &[String]) -> Result<(), KeeperError> {
    let ours = |change: &Change| match change {
        Change::Link(name) | Change::Address(name) => links.contains(name),
        // Routes to single Pods are the agents'.
        Change::Route(destination, protocol) => {
            [PROTOCOL_STATIC, PROTOCOL_KERNEL].contains(protocol) && destination.prefix_len() < 32
        }
        Change::Parameter | Change::Unknown => true,
    };
    let listen = |error| KeeperError::Watch(MonitorError::Listen(error));
    loop {
        let changes = select_all(kept.iter().map(|kept| kept.monitor.changes().boxed()));
        tokio::select! {
            (changes, ..) = changes => if changes.map_err(listen)?.iter().any(ours) {
                return Ok(());
            },
            ready = names.readable() => {
                let mut ready = ready.map_err(KeeperError::Names)?;
                match ready.get_inner().0.read_events() {
                    Ok(events) if events.iter().any(|event| is_ours(event.name.as_deref(), kept)) => return Ok(()),
                    // The folder is everybody's: another cluster's Pods come and go in it.
                    Ok(_) => {}
                    Err(nix::Error::EAGAIN) => ready.clear_ready(),
                    Err(errno) => return Err(KeeperError::Names(errno.into())),
                }
            }
        }
    }
}

/// Whether a name that went is one of ours; `None` says that more went than could be told.
fn is_ours(name: Option<&OsStr>, kept: &[Kept]) -> bool {
    name.is_none_or(|name| {
        kept.iter()
            .any(|kept| kept.name.as_deref().is_some_and(|own| name == own))
    })
}

/// Gives names back, then looks, and mends what is wrong.
async fn mend(spec: &ClusterSpec, kept: &[Kept]) -> Result<(), ProviderError> {
    name_again(kept)?;
    // What is switched off is as it should be.
    let spec = &power::only_on(spec);
    let faults = survey(spec).await?;
    if faults.is_empty() {
        return Ok(());
    }
    provision(spec, &|_part| {}).await?;
    let mut by_place = BTreeMap::<&str, Vec<&str>>::new();
    for fault in &faults {
        by_place.entry(&fault.place).or_default().push(&fault.what);
    }
    for (place, what) in by_place {
        tracing::warn!(place, "mended: {}", what.join(", "));
    }
    // A name that went after the first look was given to a new namespace: the next pass lays the links again.
    if name_again(kept)? {
        provision(spec, &|_part| {}).await?;
    }
    Ok(())
}

/// Sees to it that every name is that of the namespace which is held; tells whether one was not.
fn name_again(kept: &[Kept]) -> Result<bool, ProviderError> {
    let mut any = false;
    for (name, namespace) in kept
        .iter()
        .filter_map(|kept| Some((kept.name.as_deref()?, &kept.namespace)))
    {
        match NetNs::find(name)? {
            Some(found) if found.id()? == namespace.id()? => continue,
            Some(_another) => NetNs::delete(name)?,
            None => {}
        }
        namespace.name_again(name)?;
        any = true;
        tracing::warn!(name, "gave a network namespace its name back");
    }
    Ok(any)
}
