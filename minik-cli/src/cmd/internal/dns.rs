//! `minik internal dns`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use minik_node::dns::DnsConfig;

/// Cluster DNS. Runs in a Pod, so it is told everything by flags and a mounted Secret.
#[derive(Debug, Args)]
pub struct Dns {
    /// Credentials for the API server
    #[arg(long, default_value = "/etc/minik-dns/kubeconfig")]
    kubeconfig: PathBuf,
    /// Domain of the cluster's names
    #[arg(long, default_value = "cluster.local")]
    domain: String,
    /// Where to answer, over UDP and TCP
    #[arg(long, default_value = "0.0.0.0:53")]
    listen: SocketAddr,
}

impl Dns {
    pub fn run(self) -> anyhow::Result<ExitCode> {
        super::log_to_stderr();
        let config = DnsConfig {
            kubeconfig: self.kubeconfig,
            domain: self.domain,
            listen: self.listen,
        };
        crate::cmd::runtime()?.block_on(async {
            minik_node::dns::run(config, super::until_terminated()?).await?;
            Ok(ExitCode::SUCCESS)
        })
    }
}
