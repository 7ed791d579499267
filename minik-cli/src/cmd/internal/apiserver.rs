//! `minik internal apiserver`

use std::net::{IpAddr, Ipv4Addr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixListener;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use minik_api::controllers::ControllerConfig;
use minik_api::pki::{ClusterPki, ServerNames};
use minik_api::server::{ApiConfig, Listeners};

use super::Process;
use crate::cluster::ClusterSpec;
use crate::kubeconfig::{self, Access};
use crate::supervisor::API_PORT;

/// Ports that NodePort Services may use, as kube-apiserver's `--service-node-port-range` has it.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30000..=32767;

pub fn run(process: &Process) -> anyhow::Result<ExitCode> {
    let inherited = super::inherited::sockets()?;
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
        volumes_dir: spec.state_dir.join("volumes"),
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
