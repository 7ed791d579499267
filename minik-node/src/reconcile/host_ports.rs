//! Keeps the rules that lead from ports of the node to its Pods as [`plan::host_ports`](crate::plan::host_ports)
//! says, and takes flows out of the kernel that a change made stale.
//!
//! Owns the chains with the CNI plugin's names in this network namespace; leaves those of the Service proxy alone.
//! Touches nothing until a Pod with a host port is named, or an earlier agent's are.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Outcome, Pass, Reconciler, Timing};
use crate::kernel::conntrack::Conntrack;
use crate::kernel::netlink::Netlink;
use crate::model::Protocol;
use crate::plan::host_ports::{self, HostPorts, Plan, PodPorts, Rules};
use crate::proxy::iptables::kernel::{Kernel, KernelError};

/// Rules are looked over as often as the Service proxy's.
const TIMING: Timing = Timing {
    resync: Duration::from_secs(3600),
    retry_min: Duration::from_millis(10),
    retry_max: Duration::from_secs(10),
};

/// The rules of a Pod's ports could not be written.
#[derive(Debug, thiserror::Error)]
#[error("plugin type=\"portmap\" failed: {0}")]
pub struct HostPortsError(String);

/// What is wanted, numbered.
#[derive(Debug, Default)]
pub struct Wanted {
    number: u64,
    pods: HostPorts,
}

/// How far the kernel is.
#[derive(Debug, Default)]
struct Progress {
    /// The newest state that was tried.
    number: u64,
    /// Why it could not be brought about.
    error: Option<String>,
}

/// Names the ports of Pods; cheap to share.
#[derive(Debug)]
pub struct HostPortTable {
    wanted: watch::Sender<Option<Arc<Wanted>>>,
    progress: watch::Receiver<Progress>,
}

impl HostPortTable {
    /// Starts the reconciler in the network namespace of the process; `lock_file` is that of the node's iptables. The
    /// rules outlive `shutdown`.
    #[must_use]
    pub fn spawn(lock_file: PathBuf, shutdown: CancellationToken) -> Self {
        let wanted = watch::Sender::new(None);
        let (sender, progress) = watch::channel(Progress::default());
        let rules = PortRules {
            lock_file,
            kernel: None,
            conntrack: None,
            applied: None,
            clean: HostPorts::new(),
            progress: sender,
        };
        drop(super::spawn(rules, wanted.subscribe(), TIMING, shutdown));
        Self { wanted, progress }
    }

    /// Takes over the ports of Pods that an earlier agent started; rules of others go.
    pub fn adopt(&self, pods: HostPorts) {
        self.wanted.send_replace(Some(Arc::new(Wanted { number: 0, pods })));
    }

    /// Leads the ports to the Pod, or nowhere any more; returns when the kernel does.
    ///
    /// # Errors
    /// When the rules cannot be written; they are tried again until they are no longer wanted.
    pub async fn set(&self, uid: &str, pod: Option<PodPorts>) -> Result<(), HostPortsError> {
        let mut number = 0;
        self.wanted.send_modify(|wanted| {
            let before = wanted.as_deref();
            let mut pods = before.map(|wanted| wanted.pods.clone()).unwrap_or_default();
            match pod {
                Some(pod) => drop(pods.insert(uid.to_owned(), pod)),
                None => drop(pods.remove(uid)),
            }
            number = before.map_or(0, |wanted| wanted.number) + 1;
            *wanted = Some(Arc::new(Wanted { number, pods }));
        });
        let mut progress = self.progress.clone();
        let tried = progress.wait_for(|progress| progress.number >= number).await;
        let error = match tried {
            Ok(progress) => progress.error.clone(),
            Err(_) => Some("the agent is ending".to_owned()),
        };
        error.map_or(Ok(()), |error| Err(HostPortsError(error)))
    }
}

/// The reconciler; one a node.
#[derive(Debug)]
struct PortRules {
    lock_file: PathBuf,
    /// Found on first use.
    kernel: Option<Kernel>,
    conntrack: Option<(Conntrack, Netlink)>,
    /// What the kernel holds as far as we know.
    applied: Option<Rules>,
    /// The ports whose flows are as they should be.
    clean: HostPorts,
    progress: watch::Sender<Progress>,
}

impl PortRules {
    async fn write(&mut self, pods: &HostPorts, pass: Pass) -> Result<(), KernelError> {
        let desired = Rules::new(pods);
        let kernel = match &mut self.kernel {
            Some(kernel) => kernel,
            none => none.insert(Kernel::probe(self.lock_file.clone()).await?),
        };
        let observed = match (pass, self.applied.take()) {
            (Pass::Changed, Some(applied)) => applied,
            (Pass::Full, _) | (Pass::Changed, None) => Rules::parse(&kernel.print().await?),
        };
        if let Some(plan) = Plan::new(&observed, &desired) {
            tracing::debug!(%plan, "write host ports");
            kernel.restore(&plan.to_string()).await?;
        }
        self.applied = Some(desired);
        Ok(())
    }

    /// A kernel that does not let us costs clients that keep their port, not the Pods.
    async fn clean(&mut self, pods: &HostPorts) {
        let ports = host_ports::changed(&self.clean, pods);
        match self.delete_stale(&ports, pods).await {
            Ok(()) => self.clean = pods.clone(),
            Err(error) => tracing::warn!(error = error.as_ref() as &dyn std::error::Error, "stale flows may stay"),
        }
    }

    async fn delete_stale(
        &mut self,
        ports: &BTreeSet<(Protocol, u16)>,
        pods: &HostPorts,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        for protocol in [Protocol::Udp, Protocol::Sctp] {
            if !ports.iter().any(|(of, _)| *of == protocol) {
                continue;
            }
            let (conntrack, netlink) = match &mut self.conntrack {
                Some(sockets) => sockets,
                none => none.insert((Conntrack::open()?, Netlink::open()?)),
            };
            let by_link = netlink.addresses().await?;
            let local: BTreeSet<Ipv4Addr> = by_link.into_values().flatten().map(|net| net.addr()).collect();
            let stale = |flow: &_| host_ports::is_stale(flow, ports, pods, &local);
            for flow in conntrack.flows(protocol, stale).await? {
                conntrack.delete(&flow).await?;
            }
        }
        Ok(())
    }
}

impl Reconciler for PortRules {
    type Desired = Wanted;

    fn name(&self) -> &'static str {
        "host-ports"
    }

    async fn reconcile(&mut self, wanted: Arc<Wanted>, pass: Pass) -> Outcome {
        let outcome = match self.write(&wanted.pods, pass).await {
            Ok(()) => Outcome::Synced,
            Err(error) => Outcome::failed(&error),
        };
        let error = match &outcome {
            Outcome::Synced => {
                self.clean(&wanted.pods).await;
                None
            }
            Outcome::Failed(error) => Some(error.clone()),
        };
        self.progress.send_replace(Progress {
            number: wanted.number,
            error,
        });
        outcome
    }

    async fn disturbed(&mut self) {
        let Some(kernel) = &mut self.kernel else {
            return std::future::pending().await;
        };
        if let Err(error) = kernel.changed().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "rules are no longer watched");
            self.kernel = None;
        }
    }
}
