//! A Pod's shim as its worker sees it: a connection, and the newest that it reported.

use std::path::Path;

use tokio::sync::watch;

use crate::runtime::client::{ShimClient, ShimClientError, States};
use crate::runtime::spec::SandboxSpec;

/// A shim and what it reports: `None` once it has died.
#[derive(Debug)]
pub struct Running {
    /// The shim.
    pub client: ShimClient,
    /// What it was told.
    pub spec: SandboxSpec,
    /// The newest states.
    pub states: watch::Receiver<Option<States>>,
}

impl Running {
    /// Follows a shim's states.
    pub async fn follow(client: ShimClient, spec: SandboxSpec) -> Result<Self, ShimClientError> {
        let mut watch = client.watch().await?;
        let (sender, states) = watch::channel(Some(watch.next().await?));
        tokio::spawn(async move {
            loop {
                let next = tokio::select! {
                    next = watch.next() => next,
                    () = sender.closed() => return,
                };
                let lost = next.is_err();
                sender.send_replace(next.ok());
                if lost {
                    return;
                }
            }
        });
        Ok(Self { client, spec, states })
    }

    /// Finds the shim in a run directory. One that does not answer is lost.
    pub async fn adopt(dir: &Path) -> Result<Self, ShimClientError> {
        let (client, spec) = ShimClient::adopt(dir)?;
        match Self::follow(client.clone(), spec.clone()).await {
            Err(ShimClientError::Connect(_) | ShimClientError::Talk { .. }) => Ok(Self {
                client,
                spec,
                states: watch::channel(None).1,
            }),
            other => other,
        }
    }
}
