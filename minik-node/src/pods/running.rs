//! A Pod's shim as its worker sees it: a connection, and the newest that it reported. One that is killed is started again, and
//! finds the containers where they are.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch;

use crate::runtime::client::{ShimClient, ShimClientError, States, Watch};
use crate::runtime::spec::SandboxSpec;

/// How often a shim is started in the place of one that was killed, if it dies as well, and how long the first waits then; each
/// other waits twice as long.
const MOST_ATTEMPTS: u32 = 8;
const FIRST_DELAY: Duration = Duration::from_millis(10);

/// A shim and what it reports: `None` once it has died, and the sandbox with it.
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
    /// Follows a shim's states; `program` is what it is started again with.
    pub async fn follow(client: ShimClient, spec: SandboxSpec, program: &Path) -> Result<Self, ShimClientError> {
        let mut watch = client.watch().await?;
        let (sender, states) = watch::channel(Some(watch.next().await?));
        tokio::spawn(tell(client.clone(), watch, sender, program.to_owned()));
        Ok(Self { client, spec, states })
    }

    /// Finds the shim in a run directory, or starts another if it was killed. Without a sandbox it is lost.
    pub async fn adopt(dir: &Path, program: &Path) -> Result<Self, ShimClientError> {
        let (client, spec) = ShimClient::adopt(dir)?;
        let (sender, states) = watch::channel(None);
        if let Some((watch, found)) = reach(&client, program).await {
            sender.send_replace(Some(found));
            tokio::spawn(tell(client.clone(), watch, sender, program.to_owned()));
        }
        Ok(Self { client, spec, states })
    }

    /// Ends the shim, and with it the sandbox; what is lost already has ended.
    pub async fn end(&mut self) -> Result<(), ShimClientError> {
        while self.states.borrow_and_update().is_some() {
            match self.client.shutdown().await {
                // Killed just now. Whoever follows it says whether there is another, or nothing to end any more.
                Err(ShimClientError::Connect(_) | ShimClientError::Talk { .. }) => {}
                Ok(()) => {
                    // The last ends arrive before the connection closes.
                    let ended = self.states.wait_for(Option::is_none).await.is_ok();
                    tracing::trace!(ended, "shim ended");
                    return Ok(());
                }
                other => return other,
            }
            if self.states.changed().await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

/// Passes states on for as long as anybody listens and there is a sandbox.
async fn tell(client: ShimClient, mut watch: Watch, sender: watch::Sender<Option<States>>, program: PathBuf) {
    loop {
        let next = tokio::select! {
            next = watch.next() => next,
            () = sender.closed() => return,
        };
        match next {
            Ok(states) => drop(sender.send_replace(Some(states))),
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the connection to a shim broke"
                );
                let found = reach(&client, &program).await;
                let Some((other, states)) = found else {
                    sender.send_replace(None);
                    return;
                };
                watch = other;
                sender.send_replace(Some(states));
            }
        }
    }
}

/// The states of a shim, of it or of another in its place; `None` when there is no sandbox, or nobody can come back to it.
async fn reach(client: &ShimClient, program: &Path) -> Option<(Watch, States)> {
    let mut delay = FIRST_DELAY;
    for _ in 0..MOST_ATTEMPTS {
        match try_to_reach(client, program).await {
            Ok(found) => return found,
            Err(error) => tracing::warn!(error = &error as &dyn std::error::Error, "take over from a shim"),
        }
        tokio::time::sleep(delay).await;
        delay *= 2;
    }
    None
}

async fn try_to_reach(client: &ShimClient, program: &Path) -> Result<Option<(Watch, States)>, ShimClientError> {
    let mut watch = match client.watch().await {
        Err(ShimClientError::Connect(_)) if client.revive(program)? => client.watch().await?,
        Err(ShimClientError::Connect(_)) => return Ok(None),
        other => other?,
    };
    let states = watch.next().await?;
    Ok(Some((watch, states)))
}
