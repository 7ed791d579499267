//! `minik up`

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use ipnet::Ipv4Net;
use jiff::Timestamp;
use minik_node::kernel::netns::NetNs;
use nix::sys::signal::Signal;

use super::down::Down;
use super::foreground::{self, Leave, Signals};
use super::{Cluster, kubeconfig};
use crate::cluster::{ClusterSpec, names};
use crate::errors::Exit;
use crate::kubeconfig::Environment;
use crate::parameters::{Asked, resolve};
use crate::preflight::{self, Finding};
use crate::processes::{self, Belonging};
use crate::progress::Progress;
use crate::provider::netns::provision;
use crate::provider::survey::survey;
use crate::store::{self, RunLock, WhenBusy, name_flag};
use crate::supervisor::launch::launch;
use crate::{client, power, readiness};

/// How long daemons left behind by a dead supervisor may take to stop.
const LEFTOVER_GRACE: std::time::Duration = std::time::Duration::from_secs(5);

/// Start a cluster. Returns when the API answers and every node is Ready.
#[derive(Debug, Args)]
pub struct Up {
    #[command(flatten)]
    cluster: Cluster,
    /// Number of nodes, the control plane included [default: 3]
    #[arg(long)]
    nodes: Option<u8>,
    /// Give the cluster an outside world of its own, so that it touches nothing of this machine
    #[arg(long)]
    isolated: bool,
    /// Let Pods reach beyond this machine, under its address
    #[arg(long)]
    egress: bool,
    /// Addresses of the nodes [default: 172.30.0.0/24]
    #[arg(long, value_name = "CIDR")]
    node_network_cidr: Option<Ipv4Net>,
    /// Which rules the nodes write [default: iptables]
    #[arg(long)]
    proxy_mode: Option<Mode>,
    /// Addresses of the Pods; every node gets a /24 [default: 10.244.0.0/16]
    #[arg(long, value_name = "CIDR")]
    pod_network_cidr: Option<Ipv4Net>,
    /// Addresses of Services [default: 10.96.0.0/12]
    #[arg(long, value_name = "CIDR")]
    service_cidr: Option<Ipv4Net>,
    /// Domain of the cluster's names [default: cluster.local]
    #[arg(long, value_name = "DOMAIN")]
    cluster_domain: Option<String>,
    /// Where the cluster's state is kept [default: /var/lib/minik/NAME]
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Also wait until cluster DNS answers
    #[arg(long)]
    wait: bool,
    /// Stay, see to it that the cluster runs, and stop it when told to end (SIGTERM, Ctrl-C)
    #[arg(long)]
    foreground: bool,
    /// Kubeconfig to add the cluster to, instead of KUBECONFIG's or ~/.kube/config
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
}

/// kube-proxy's modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Mode {
    Iptables,
    Nftables,
    Ipvs,
}

impl Up {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        if let Some(mode @ (Mode::Nftables | Mode::Ipvs)) = self.proxy_mode {
            let mode = mode
                .to_possible_value()
                .map(|value| value.get_name().to_owned())
                .unwrap_or_default();
            bail!("proxy mode {mode} is not in this version, which has iptables only");
        }
        if !nix::unistd::Uid::effective().is_root() {
            bail!("minik up must run as root: run it with sudo");
        }
        let runtime = super::runtime()?;
        runtime.block_on(self.start())?;
        if !self.foreground {
            return Ok(ExitCode::SUCCESS);
        }
        let mut signals = runtime.block_on(async { Signals::listen() })?;
        foreground::ready();
        while let Leave::Lost = runtime.block_on(foreground::attend(&self.cluster.name, &mut signals))? {
            eprintln!("the cluster's supervisor has died: starting another");
            runtime.block_on(self.start())?;
        }
        drop(runtime);
        Down::of(self.cluster, self.kubeconfig).run()
    }

    async fn start(&self) -> anyhow::Result<()> {
        let progress = Progress::new();
        let lock = RunLock::acquire(&self.cluster.name, WhenBusy::Refuse)?;
        let prepared = self.prepare(&progress).await;
        let (spec, was_up) = match prepared {
            Ok(prepared) => prepared,
            Err(error) => {
                lock.release();
                return Err(error);
            }
        };
        // What was written earlier tells of an earlier run, unless that run goes on.
        let since = if was_up {
            Timestamp::UNIX_EPOCH
        } else {
            Timestamp::now()
        };
        let (spec, mended) = if was_up {
            let mended = mend(&spec).await.with_context(|| hint(&self.cluster.name))?;
            (spec, mended)
        } else {
            bring_up(spec, &progress)
                .await
                .with_context(|| hint(&self.cluster.name))?
        };
        let access = kubeconfig::access(&spec)?;
        let file = crate::kubeconfig::add(&Environment::of_process(self.kubeconfig.clone()), &access)?;
        // From here on `minik down` may come at any time.
        drop(lock);

        self.wait_for(&spec, since, &progress).await?;
        for what in &mended {
            progress.line(&format!("  mended: {what}"));
        }
        if was_up && mended.is_empty() {
            progress.line(&format!("cluster {:?} is already up, and well", spec.name));
        }
        tell(&spec, &access.name, &file);
        Ok(())
    }

    /// Everything that can be refused, with nothing touched yet. Tells whether the cluster is up already.
    async fn prepare(&self, progress: &Progress) -> anyhow::Result<(ClusterSpec, bool)> {
        let name = &self.cluster.name;
        let was_up = store::supervisor_runs(name);
        let asked = self.asked()?;
        // A run directory knows where its cluster's state is, even when every process has died.
        let stored = match store::load_linked(name)? {
            Some(stored) => Some(stored),
            None => store::load(asked.state_dir.as_deref().unwrap_or(&names::default_state_dir(name)))?,
        };
        let spec = resolve(&asked, stored.as_ref())?;
        if was_up {
            return Ok((spec, true));
        }
        let step = progress.step("preflight");
        let report = preflight::judge(&preflight::probe::look(&spec).await?, &spec);
        if !report.errors.is_empty() {
            drop(step);
            for Finding { what, advice } in &report.errors {
                eprintln!("error: {what}\n  {advice}");
            }
            return Err(Exit(1).into());
        }
        step.done();
        for Finding { what, advice } in &report.notes {
            progress.line(&format!("  note: {what}: {advice}"));
        }
        Ok((spec, false))
    }

    fn asked(&self) -> anyhow::Result<Asked> {
        // The cluster's processes stand elsewhere.
        let state_dir = self.state_dir.as_deref().map(std::path::absolute).transpose();
        Ok(Asked {
            name: self.cluster.name.clone(),
            nodes: self.nodes,
            isolated: self.isolated,
            egress: self.egress,
            node_network_cidr: self.node_network_cidr,
            pod_network_cidr: self.pod_network_cidr,
            service_cidr: self.service_cidr,
            cluster_domain: self.cluster_domain.clone(),
            proxy_mode: None,
            state_dir: state_dir.context("find the state directory")?,
        })
    }

    async fn wait_for(&self, spec: &ClusterSpec, since: Timestamp, progress: &Progress) -> anyhow::Result<()> {
        let client = client::connect(&spec.name)?;
        let step = progress.step("API server");
        readiness::api(&client, spec).await?;
        step.done();
        let step = progress.step("nodes");
        readiness::nodes(&client, &power::only_on(spec), since, |node| {
            step.detail(&format!("{node} is ready"));
        })
        .await?;
        step.done();
        if self.wait {
            let step = progress.step("DNS");
            readiness::dns(&client, spec, since).await?;
            step.done();
        }
        Ok(())
    }
}

/// Mends the network of a cluster that runs; tells what was wrong with it.
async fn mend(spec: &ClusterSpec) -> anyhow::Result<Vec<String>> {
    let spec = &power::only_on(spec);
    let faults = survey(spec).await.context("look at the nodes' network")?;
    // Always, since a way out of the machine is not among what is surveyed.
    provision(spec, &|_part| {}).await.context("mend the nodes' network")?;
    Ok(faults.iter().map(ToString::to_string).collect())
}

/// Makes the nodes and starts the supervisor. Returns the parameters with the port it bound, and what was found amiss if
/// anything was left of an earlier run.
async fn bring_up(mut spec: ClusterSpec, progress: &Progress) -> anyhow::Result<(ClusterSpec, Vec<String>)> {
    let mut amiss = end_leftovers(&spec.name)?;
    store::save(&spec)?;
    let step = progress.step("certificates");
    super::internal::apiserver::pki(&spec)?;
    step.done();
    let step = progress.step("network");
    let on = power::only_on(&spec);
    if NetNs::find(&spec.fabric_netns())?.is_some() {
        let faults = survey(&on).await.context("look at the nodes' network")?;
        amiss.extend(faults.iter().map(ToString::to_string));
    }
    provision(&on, &|part| step.detail(part))
        .await
        .context("make the nodes' network")?;
    step.done();
    let step = progress.step("supervisor");
    let port = launch(&spec)?;
    if spec.api_port != Some(port) {
        spec.api_port = Some(port);
        store::save(&spec)?;
    }
    step.done();
    Ok((spec, amiss))
}

/// Daemons outlive a supervisor that was killed, and hold the sockets and the storage that theirs need. Pods stay.
/// Tells that the supervisor was missing, if anything of the cluster ran without it.
fn end_leftovers(cluster: &str) -> anyhow::Result<Vec<String>> {
    let all = processes::of_cluster(cluster).context("list processes")?;
    let missing = (!all.is_empty()).then(|| "the supervisor did not run".to_owned());
    let daemons: Vec<i32> = all
        .into_iter()
        .filter(|(_, how)| matches!(how, Belonging::Internal { what, .. } if what == "apiserver" || what == "agent" || what == "network"))
        .map(|(pid, _)| pid)
        .collect();
    let stopped = processes::end(daemons, Signal::SIGTERM, LEFTOVER_GRACE).context("stop earlier processes")?;
    let killed = processes::end(stopped.left, Signal::SIGKILL, LEFTOVER_GRACE).context("kill earlier processes")?;
    if !killed.left.is_empty() {
        bail!("earlier processes of the cluster do not end: {:?}", killed.left);
    }
    Ok(missing.into_iter().collect())
}

fn hint(cluster: &str) -> String {
    format!(
        "cluster {cluster:?} did not come up (`minik down{}` removes what there is of it)",
        name_flag(cluster)
    )
}

/// How to reach it, on standard error: there is no data in it.
fn tell(spec: &ClusterSpec, context: &str, kubeconfig: &std::path::Path) {
    let name = name_flag(&spec.name);
    let nodes: Vec<String> = spec
        .nodes
        .iter()
        .map(|node| format!("{} {}", node.name, node.ip))
        .collect();
    let outside = if spec.isolated {
        format!("outside  minik host exec{name} -- curl http://NODE-IP:NODEPORT")
    } else {
        "outside  this machine: curl http://NODE-IP:NODEPORT".to_owned()
    };
    eprintln!(
        "\nkubectl  --context {context} get nodes        ({})\nnodes    {}\n{outside}\nstop     minik down{name}",
        kubeconfig.display(),
        nodes.join(", "),
    );
}
