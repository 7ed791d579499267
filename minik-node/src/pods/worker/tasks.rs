//! What goes on beside a worker's own steps: probes and hooks, each a task that reports back.
//!
//! A report about a run that is over by then counts for nothing.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use super::super::decide::{Failure, Hook, Stage};
use super::super::hooks;
use super::super::probes::Due;
use super::Worker;
use crate::probe::check::{self, Outcome, Target};

/// What a task has to say.
#[derive(Debug)]
pub enum Report {
    /// A probe was asked.
    Probed(Due, Outcome),
    /// A `postStart` hook of a container's run ended; the error is the kubelet's text.
    PostStart(String, String, Result<(), String>),
    /// A `preStop` hook did.
    PreStop(String, String, Result<(), String>),
}

impl Worker {
    /// Asks every probe that is due.
    pub(super) fn ask_probes(&mut self, now: Timestamp) {
        self.probes.follow(
            &self.charge.pod,
            &self.charge.knowledge,
            self.began,
            rand::random::<f64>,
        );
        for due in self.probes.take_due(now) {
            let Some(target) = self.target(&due.container) else {
                continue;
            };
            let Some(probe) = due.kind.of(&target.container).cloned() else {
                continue;
            };
            let (metrics, pod) = (self.charge.registry.metrics().clone(), Arc::clone(&self.charge.pod));
            self.tasks.spawn(async move {
                let began = Instant::now();
                let outcome = check::check(&probe, &target).await;
                metrics.probed(&pod, &due.container, due.kind, &outcome, began.elapsed());
                Report::Probed(due, outcome)
            });
        }
        self.charge.knowledge.health = self.probes.health();
    }

    /// Runs the `postStart` hook of a container that has just begun to run, if it has one.
    pub(super) fn post_start(&mut self, name: &str, id: String) {
        let Some(target) = self.target(name) else { return };
        let lifecycle = target.container.lifecycle.as_ref();
        let Some(handler) = lifecycle.and_then(|lifecycle| lifecycle.post_start.clone()) else {
            return;
        };
        self.charge
            .knowledge
            .hooks
            .insert(name.to_owned(), Hook::Running(id.clone()));
        let (name, pod) = (name.to_owned(), self.full_name());
        self.tasks.spawn(async move {
            let result = hooks::run(&handler, &target, &pod).await;
            Report::PostStart(name, id, result)
        });
    }

    /// Runs the `preStop` hook of a container that is to end; says whether it has one.
    pub(super) fn pre_stop(&mut self, name: &str, id: String) -> bool {
        let Some(target) = self.target(name) else { return false };
        let lifecycle = target.container.lifecycle.as_ref();
        let Some(handler) = lifecycle.and_then(|lifecycle| lifecycle.pre_stop.clone()) else {
            return false;
        };
        let (name, pod) = (name.to_owned(), self.full_name());
        self.tasks.spawn(async move {
            let result = hooks::run(&handler, &target, &pod).await;
            Report::PreStop(name, id, result)
        });
        true
    }

    /// Takes over what a task has to say.
    pub(super) fn take(&mut self, report: Report) {
        match report {
            Report::Probed(due, outcome) => {
                if self.probes.record(&due, outcome.result(), self.charge.node.clock.now()) {
                    self.tell_of_probe(&due, outcome);
                }
                self.charge.knowledge.health = self.probes.health();
            }
            Report::PostStart(name, id, result) => {
                if self.charge.knowledge.hooks.get(&name) == Some(&Hook::Running(id.clone())) {
                    self.post_start_ended(name, id, result);
                }
            }
            Report::PreStop(name, id, result) => {
                if let Err(text) = result {
                    tracing::info!(pod = self.charge.key(), container = name, text, "preStop");
                    self.charge.events.warning(
                        &self.charge.pod,
                        Some(&name),
                        "FailedPreStopHook",
                        "PreStopHook failed",
                    );
                }
                let stopping = self.charge.knowledge.stopping.get_mut(&name);
                if let Some(stopping) = stopping.filter(|stopping| stopping.id == id && stopping.stage == Stage::Hook) {
                    stopping.stage = Stage::Waiting;
                }
            }
        }
    }

    fn post_start_ended(&mut self, name: String, id: String, result: Result<(), String>) {
        match result {
            Ok(()) => drop(self.charge.knowledge.hooks.remove(&name)),
            Err(message) => {
                // What the hook said may be secret: it is for the status, not for events.
                self.charge.events.warning(
                    &self.charge.pod,
                    Some(&name),
                    "FailedPostStartHook",
                    "PostStartHook failed",
                );
                self.charge
                    .knowledge
                    .hooks
                    .insert(name.clone(), Hook::Failed(id.clone()));
                let failure = Failure {
                    id,
                    reason: "PostStartHookError",
                    message,
                };
                self.charge.knowledge.failures.insert(name, failure);
            }
        }
    }

    fn tell_of_probe(&self, due: &Due, outcome: Outcome) {
        let word = due.kind.word();
        let (reason, message) = match outcome {
            Outcome::Success => return,
            Outcome::Warning(text) => ("ProbeWarning", format!("{word} probe warning: {text}")),
            Outcome::Failure(text) => ("Unhealthy", format!("{word} probe failed: {text}")),
            Outcome::Errored(state, text) => (
                "Unhealthy",
                format!("{word} probe errored and resulted in {state} state: {text}"),
            ),
        };
        self.charge
            .events
            .warning(&self.charge.pod, Some(&due.container), reason, message);
        tracing::debug!(pod = self.charge.key(), container = due.container, kind = ?due.kind, "probe");
    }

    fn target(&self, name: &str) -> Option<Target> {
        let pod = Arc::clone(&self.charge.pod);
        let spec = pod.spec.as_ref()?;
        let mut containers = spec.init_containers.iter().flatten().chain(&spec.containers);
        let container = containers.find(|container| container.name == name)?.clone();
        let running = self.charge.running.as_ref()?;
        Some(Target {
            container,
            address: running.spec.address,
            shim: running.client.clone(),
        })
    }

    /// `NAME_NAMESPACE(UID)`, as the kubelet writes Pods.
    fn full_name(&self) -> String {
        format!(
            "{}_{}({})",
            self.charge.name(),
            self.charge.namespace(),
            self.charge.uid()
        )
    }
}
