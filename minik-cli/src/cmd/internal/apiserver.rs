//! `minik internal apiserver`

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, bail};
use minik_api::controllers::ControllerConfig;
use minik_api::pki::{ClusterPki, ServerNames};
use minik_api::server::{ApiConfig, Listeners};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};

use super::Process;
use crate::cluster::ClusterSpec;
use crate::kubeconfig::{self, Access};
use crate::supervisor::{API_PORT, FIRST_LISTEN_FD};

/// Ports that NodePort Services may use, as kube-apiserver's `--service-node-port-range` has it.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;

pub fn run(process: &Process) -> anyhow::Result<ExitCode> {
    let inherited = inherited_sockets(&listen_names()?)?;
    super::log_to_stderr();
    let spec = process.spec()?;
    // Requests and controllers are many and short: a second core helps, and more only cost memory.
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the async runtime")?;
    runtime.block_on(async {
        let shutdown = super::until_terminated()?;
        let pki = pki(&spec)?;
        let listeners = sort(inherited, Arc::new(pki.server_config()?))?;
        minik_api::server::run(config(&spec)?, listeners, controllers(&spec, &pki)?, shutdown).await?;
        Ok(ExitCode::SUCCESS)
    })
}

fn config(spec: &ClusterSpec) -> anyhow::Result<ApiConfig> {
    let account_key = ClusterPki::account_key(&spec.pki_dir()).context("prepare the key of service account tokens")?;
    Ok(ApiConfig {
        account_key,
        service_cidr: spec.service_cidr,
        pod_cidr: spec.pod_network_cidr,
        node_ports: NODE_PORTS,
        cluster_domain: spec.cluster_domain.clone(),
        advertise_address: spec.control_plane().ip,
        advertise_port: API_PORT,
        data_dir: spec.state_dir.join("db"),
        nodes_dir: spec.run_dir().join("nodes"),
    })
}

fn controllers(spec: &ClusterSpec, pki: &ClusterPki) -> anyhow::Result<ControllerConfig> {
    Ok(ControllerConfig {
        service_cidr: spec.service_cidr,
        pod_cidr: spec.pod_network_cidr,
        cluster_domain: spec.cluster_domain.clone(),
        cluster_dns: spec.cluster_dns(),
        advertise_address: spec.control_plane().ip,
        advertise_port: API_PORT,
        dns_kubeconfig: dns_kubeconfig(spec, pki)?,
        root_ca_pem: pki.ca_pem().to_owned(),
    })
}

/// How the DNS Pods reach the API: through Service `kubernetes`, as CoreDNS does, as its service account.
fn dns_kubeconfig(spec: &ClusterSpec, pki: &ClusterPki) -> anyhow::Result<String> {
    let user = "system:serviceaccount:kube-system:coredns";
    let issued = pki.issue_client(user, &["system:serviceaccounts"])?;
    Ok(kubeconfig::alone(&Access {
        name: "minik".to_owned(),
        server: format!("https://{}:443", spec.kubernetes_ip()),
        ca_pem: pki.ca_pem().to_owned(),
        certificate_pem: issued.cert_pem,
        key_pem: issued.key_pem,
    })?)
}

/// The cluster's certificate authority; its server certificate is good for every way to reach the API.
///
/// # Errors
/// That of reading or making it.
pub fn pki(spec: &ClusterSpec) -> anyhow::Result<ClusterPki> {
    let ips = [Ipv4Addr::LOCALHOST, spec.kubernetes_ip(), spec.control_plane().ip]
        .map(IpAddr::V4)
        .to_vec();
    let names = ServerNames::standard(&spec.cluster_domain, ips);
    ClusterPki::load_or_create(&spec.pki_dir(), &names).context("prepare the cluster's certificates")
}

/// `LISTEN_FDNAMES`, checked against `LISTEN_FDS` (`sd_listen_fds(3)`; our parent is the supervisor, so there is
/// no `LISTEN_PID` to tell its word from another's).
fn listen_names() -> anyhow::Result<Vec<String>> {
    let names = std::env::var("LISTEN_FDNAMES").context("read LISTEN_FDNAMES")?;
    let count: usize = std::env::var("LISTEN_FDS")
        .context("read LISTEN_FDS")?
        .parse()
        .context("parse LISTEN_FDS")?;
    let names: Vec<String> = names.split(':').map(str::to_owned).collect();
    if names.len() != count {
        bail!(
            "LISTEN_FDS says {count} sockets and LISTEN_FDNAMES names {}",
            names.len()
        );
    }
    Ok(names)
}

/// Takes the sockets; from here on they are not passed to any child.
fn inherited_sockets(names: &[String]) -> anyhow::Result<Vec<(String, OwnedFd)>> {
    (FIRST_LISTEN_FD..)
        .zip(names)
        .map(|(fd, name)| {
            let socket = take(fd).with_context(|| format!("take inherited socket {name}"))?;
            Ok((name.clone(), socket))
        })
        .collect()
}

fn take(fd: RawFd) -> nix::Result<OwnedFd> {
    // SAFETY: the process has just started and opened nothing itself: the number is either the supervisor's
    // socket or free, and if it is free the next call fails.
    let socket = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    fcntl(socket, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
    // SAFETY: it is open, and nobody else here will close it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// By name: who connects to which socket is who is asking.
fn sort(inherited: Vec<(String, OwnedFd)>, tls_config: Arc<rustls::ServerConfig>) -> anyhow::Result<Listeners> {
    let mut admin = None;
    let mut nodes = Vec::new();
    let mut tls = Vec::new();
    for (name, socket) in inherited {
        match name.strip_prefix("node.") {
            Some(node) => nodes.push((node.to_owned(), path_listener(socket)?)),
            None if name == "admin" => admin = Some(path_listener(socket)?),
            None => {
                let listener = TcpListener::from(socket);
                listener.set_nonblocking(true)?;
                tls.push(tokio::net::TcpListener::from_std(listener)?);
            }
        }
    }
    Ok(Listeners {
        admin: admin.context("no socket named admin was passed")?,
        nodes,
        tls,
        tls_config: Some(tls_config),
    })
}

fn path_listener(socket: OwnedFd) -> anyhow::Result<tokio::net::UnixListener> {
    let listener = UnixListener::from(socket);
    listener.set_nonblocking(true)?;
    Ok(tokio::net::UnixListener::from_std(listener)?)
}
