//! `minik kubeconfig`

use std::io::Write;

use clap::Args;

use super::Cluster;
use crate::cluster::ClusterSpec;
use crate::kubeconfig::{Access, alone};
use crate::store;

/// Print the kubeconfig of a cluster.
#[derive(Debug, Args)]
pub struct Kubeconfig {
    #[command(flatten)]
    cluster: Cluster,
}

impl Kubeconfig {
    pub fn run(self) -> anyhow::Result<()> {
        let spec = store::load_running(&self.cluster.name)?;
        let text = alone(&access(&spec)?)?;
        std::io::stdout().write_all(text.as_bytes())?;
        Ok(())
    }
}

/// How the administrator reaches this cluster, with a certificate made for the purpose.
///
/// # Errors
/// That of the certificate authority.
pub fn access(spec: &ClusterSpec) -> anyhow::Result<Access> {
    let pki = super::internal::apiserver::pki(spec)?;
    let issued = pki.issue_client("kubernetes-admin", &["system:masters"])?;
    let port = spec.api_port.unwrap_or(crate::supervisor::API_PORT);
    Ok(Access {
        name: crate::cluster::names::context(&spec.name),
        server: format!("https://127.0.0.1:{port}"),
        ca_pem: pki.ca_pem().to_owned(),
        certificate_pem: issued.cert_pem,
        key_pem: issued.key_pem,
    })
}
