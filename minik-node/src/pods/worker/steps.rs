//! Carrying one step of a plan out, and telling of its failure.

use jiff::SignedDuration;

use super::super::backoff::Backoff;
use super::super::context::{PodError, chain};
use super::super::decide::{Stage, Step, Stopping, Trouble};
use super::super::{pull, sandbox, start};
use super::Worker;

impl Worker {
    /// Does one step; `true` once the Pod is no longer this worker's.
    pub(super) async fn do_step(&mut self, step: &Step, gone: bool) -> Result<bool, PodError> {
        match step {
            Step::CreateSandbox => sandbox::create(&mut self.charge).await?,
            Step::RemoveSandbox => sandbox::remove(&mut self.charge).await?,
            Step::Start(name) => {
                if let Some(id) = start::start(&mut self.charge, name).await? {
                    self.post_start(name, id);
                }
            }
            Step::BackOff(name) => pull::back_off(&mut self.charge, name),
            Step::Stop { container, grace, why } => self.stop(container, *grace, why),
            Step::Signal(name, kill_at) => {
                let signal = self
                    .charge
                    .knowledge
                    .current(name)
                    .map_or(libc::SIGTERM, |run| run.stop_signal);
                self.signal(name, signal).await?;
                self.reach(name, Stage::Signalled(*kill_at));
            }
            Step::Kill(name) => {
                self.signal(name, libc::SIGKILL).await?;
                self.reach(name, Stage::Killed);
            }
            Step::Release => {
                if !gone {
                    self.release().await?;
                }
                sandbox::forget(&mut self.charge).await?;
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Begins a container's way out, or shortens it.
    fn stop(&mut self, name: &str, grace: SignedDuration, why: &str) {
        let Some(id) = self.charge.knowledge.current(name).map(|run| run.id.clone()) else {
            return;
        };
        if !why.is_empty() {
            self.charge.events.normal(&self.charge.pod, Some(name), "Killing", why);
        }
        let stage = match self.charge.knowledge.stopping(name).map(|stopping| stopping.stage) {
            Some(Stage::Hook) => Stage::Hook,
            None if self.pre_stop(name, id.clone()) => Stage::Hook,
            _ => Stage::Waiting,
        };
        let stopping = Stopping {
            id,
            since: self.charge.node.clock.now(),
            grace,
            stage,
        };
        self.charge.knowledge.stopping.insert(name.to_owned(), stopping);
    }

    fn reach(&mut self, name: &str, stage: Stage) {
        if let Some(stopping) = self.charge.knowledge.stopping.get_mut(name) {
            stopping.stage = stage;
        }
    }

    async fn signal(&self, container: &str, signal: i32) -> Result<(), PodError> {
        match &self.charge.running {
            Some(running) => Ok(running.client.signal(container, signal).await?),
            None => Ok(()),
        }
    }

    /// Tells of a step that failed.
    pub(super) fn failed(&mut self, step: &Step, error: &PodError) {
        let text = chain(error);
        tracing::warn!(pod = self.charge.key(), ?step, error = text, "step failed");
        match step {
            Step::CreateSandbox => {
                self.charge.events.warning(
                    &self.charge.pod,
                    None,
                    "FailedCreatePodSandBox",
                    format!("Failed to create pod sandbox: {text}"),
                );
                let now = self.charge.node.clock.now();
                let backoff = Backoff::next(
                    self.charge
                        .knowledge
                        .sandbox_trouble
                        .as_ref()
                        .map(|trouble| trouble.backoff),
                    now,
                    now,
                );
                self.charge.knowledge.sandbox_trouble = Some(Trouble {
                    reason: "FailedCreatePodSandBox".to_owned(),
                    message: text,
                    at: now,
                    backoff,
                });
            }
            Step::RemoveSandbox => {
                self.charge.events.warning(
                    &self.charge.pod,
                    None,
                    "FailedKillPod",
                    format!("error killing pod: {text}"),
                );
            }
            _ => {}
        }
    }
}
