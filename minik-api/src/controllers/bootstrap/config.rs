//! What differs from one cluster to another. Pure data, given by whoever starts the API server.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use ipnet::Ipv4Net;

/// What the controllers need to know about the cluster.
#[derive(Debug, Clone)]
pub struct ControllerConfig {
    /// Range of cluster IPs; its first address is Service `kubernetes`.
    pub service_cidr: Ipv4Net,
    /// Range of Pod addresses of the whole cluster.
    pub pod_cidr: Ipv4Net,
    /// `cluster.local`.
    pub cluster_domain: String,
    /// Address of Service `kube-dns`.
    pub cluster_dns: Ipv4Addr,
    /// The address that Service `kubernetes` points to.
    pub advertise_address: Ipv4Addr,
    /// The port beside it.
    pub advertise_port: u16,
    /// A kubeconfig for the DNS Pods, stored in Secret `kube-system/minik-dns`.
    pub dns_kubeconfig: String,
    /// Where volumes are made on demand.
    pub volumes_dir: PathBuf,
    /// The cluster's certificate authority, for ConfigMap `kube-root-ca.crt` of every namespace.
    pub root_ca_pem: String,
}

impl ControllerConfig {
    /// The first usable address of the service range.
    pub fn kubernetes_address(&self) -> Ipv4Addr {
        self.service_cidr.hosts().next().unwrap_or(self.service_cidr.network())
    }
}
