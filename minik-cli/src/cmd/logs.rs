//! `minik logs`

use std::io::Write;

use clap::Args;
use futures::AsyncReadExt;
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::LogParams;

use super::Cluster;
use super::get::Namespace;
use crate::client;
use crate::errors::Rejected;

/// Print what a container has said.
#[derive(Debug, Args)]
pub struct Logs {
    #[command(flatten)]
    cluster: Cluster,
    /// Pod
    pod: String,
    #[command(flatten)]
    namespace: Namespace,
    /// Container, if the Pod has several
    #[arg(short, long)]
    container: Option<String>,
    /// Go on with what it says from now on
    #[arg(short, long)]
    follow: bool,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    tail: Option<i64>,
    /// Of the container before its last restart
    #[arg(short, long)]
    previous: bool,
}

impl Logs {
    pub fn run(self) -> anyhow::Result<()> {
        super::runtime()?.block_on(self.print())
    }

    async fn print(self) -> anyhow::Result<()> {
        let pods: Api<Pod> = Api::namespaced(client::connect(&self.cluster.name)?, &self.namespace.namespace);
        let pod_name = self.pod.strip_prefix("pod/").unwrap_or(&self.pod);
        let pod = pods.get(pod_name).await.map_err(Rejected::from_kube)?;
        let params = LogParams {
            container: Some(super::container_of(&pod, self.container.as_deref())?),
            follow: self.follow,
            tail_lines: self.tail,
            previous: self.previous,
            ..LogParams::default()
        };
        let mut stream = std::pin::pin!(pods.log_stream(pod_name, &params).await.map_err(Rejected::from_kube)?);
        let mut buffer = [0; 16 * 1024];
        loop {
            let read = stream.read(&mut buffer).await?;
            if read == 0 {
                return Ok(());
            }
            let mut out = std::io::stdout().lock();
            out.write_all(&buffer[..read])?;
            out.flush()?;
        }
    }
}
