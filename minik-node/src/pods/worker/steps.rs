//! Carrying one step of a plan out, and telling of its failure.

use jiff::Timestamp;

use super::super::backoff::Backoff;
use super::super::decide::{Step, Trouble};
use super::super::{sandbox, start};
use super::{PodError, Worker, chain};

impl Worker {
    /// Does one step; `true` once the Pod is no longer this worker's.
    pub(super) async fn carry_out(&mut self, step: &Step, gone: bool) -> Result<bool, PodError> {
        match step {
            Step::CreateSandbox => sandbox::create(self).await?,
            Step::RemoveSandbox => sandbox::remove(self).await?,
            Step::Start(name) => start::start(self, name).await?,
            Step::Stop(name, kill_at) => {
                self.events.normal(
                    &self.pod,
                    Some(name),
                    "Killing",
                    "Stopping container ".to_owned() + name,
                );
                let signal = self
                    .knowledge
                    .states
                    .get(name)
                    .map_or(libc::SIGTERM, |state| state.current.stop_signal);
                self.signal(name, signal).await?;
                self.knowledge.stopping.insert(name.clone(), Some(*kill_at));
            }
            Step::Kill(name) => {
                self.signal(name, libc::SIGKILL).await?;
                self.knowledge.stopping.insert(name.clone(), None);
            }
            Step::Release => {
                if !gone {
                    self.release().await?;
                }
                sandbox::forget(self)?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn signal(&self, container: &str, signal: i32) -> Result<(), PodError> {
        match &self.running {
            Some(running) => Ok(running.client.signal(container, signal).await?),
            None => Ok(()),
        }
    }

    /// Tells of a step that failed.
    pub(super) fn failed(&mut self, step: &Step, error: &PodError) {
        let text = chain(error);
        tracing::warn!(pod = self.key(), ?step, error = text, "step failed");
        match step {
            Step::CreateSandbox => {
                self.events.warning(
                    &self.pod,
                    None,
                    "FailedCreatePodSandBox",
                    format!("Failed to create pod sandbox: {text}"),
                );
                let now = Timestamp::now();
                let backoff = Backoff::next(
                    self.knowledge.sandbox_trouble.as_ref().map(|trouble| trouble.backoff),
                    now,
                );
                self.knowledge.sandbox_trouble = Some(Trouble {
                    reason: "FailedCreatePodSandBox".to_owned(),
                    message: text,
                    at: now,
                    backoff,
                });
            }
            Step::RemoveSandbox => {
                self.events
                    .warning(&self.pod, None, "FailedKillPod", format!("error killing pod: {text}"));
            }
            _ => {}
        }
    }
}
