//! The cronjob controller: makes a Job whenever a CronJob's schedule is due.
//!
//! Reads CronJobs and Jobs from the shared caches, decides in [`plan`], creates and deletes Jobs and
//! writes the CronJob's status. Decides on no older copy of a CronJob than the one it wrote, since that says
//! which time was served last. Never touches Pods.

mod due;
mod plan;

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::{Api, Resource, ResourceExt};

use super::cache::Key;
use super::context::Context;
use super::error::{ReconcileError, found, is_already_exists, server_message};
use super::latest::Latest;
use super::owner::{controller_of, is_controlled_by};
use super::queue::{Queue, drive};
use super::recorder::{Note, Recorder, Severity};
use super::write;
use plan::{Plan, Start, View, decide};

/// CronJobs worked on at a time.
const WORKERS: usize = 4;

/// The controller; see the module's documentation.
pub struct CronJobController {
    context: Arc<Context>,
    recorder: Recorder,
    queue: Arc<Queue<Key>>,
    latest: Arc<Latest>,
}

impl CronJobController {
    /// A controller that learns of changes from now on.
    pub fn new(context: Arc<Context>) -> Self {
        let (queue, latest): (Arc<Queue<Key>>, Arc<Latest>) = Default::default();
        let (own, written) = (queue.clone(), latest.clone());
        context.cron_jobs.on_change(move |change| {
            if let (Some(old), None) = (&change.old, &change.new) {
                written.forget(&**old);
            }
            change
                .latest()
                .into_iter()
                .for_each(|cron_job| own.add(Key::of(&**cron_job)));
        });
        let owners = queue.clone();
        context.jobs.on_change(move |change| {
            for job in change.states() {
                let owner = controller_of(&job.metadata).filter(|owner| owner.kind == "CronJob");
                let namespace = job.namespace().unwrap_or_default();
                owner
                    .into_iter()
                    .for_each(|owner| owners.add(Key::new(&namespace, &owner.name)));
            }
        });
        let recorder = context.recorder.component("cronjob-controller", None);
        Self {
            context,
            recorder,
            queue,
            latest,
        }
    }

    /// Works until dropped.
    pub async fn run(&self) {
        self.context.cron_jobs.synced().await;
        self.context.jobs.synced().await;
        drive(&self.queue, WORKERS, |key| self.reconcile(key)).await;
    }

    async fn reconcile(&self, key: Key) -> Result<(), ReconcileError> {
        let Some(cron_job) = self.context.cron_jobs.get(&key) else {
            return Ok(());
        };
        // An older copy is followed by the newer one, and with it by another pass.
        if !self.latest.is_shown(&*cron_job) {
            return Ok(());
        }
        let uid = cron_job.uid().unwrap_or_default();
        let jobs = self.context.jobs.snapshot();
        let own = jobs.in_namespace(&key.namespace);
        let own: Vec<_> = own
            .filter(|job| is_controlled_by(&job.metadata, &uid))
            .cloned()
            .collect();
        let missing = self.missing(&cron_job, &own).await?;
        let plan = decide(&View {
            cron_job: &cron_job,
            jobs: &own,
            missing: &missing,
            now: Timestamp::now(),
        });
        if let Some(delay) = plan.recheck {
            self.queue.add_after(key, delay);
        }
        self.apply(&cron_job, plan).await
    }

    /// The uids of the noted Jobs that are gone. The cache may not show a new one yet, so the server is asked.
    async fn missing(&self, cron_job: &CronJob, own: &[Arc<Job>]) -> Result<BTreeSet<String>, ReconcileError> {
        let active = cron_job.status.as_ref().and_then(|status| status.active.as_ref());
        let mut missing = BTreeSet::new();
        for reference in active.into_iter().flatten() {
            if own.iter().any(|job| job.uid() == reference.uid) {
                continue;
            }
            let name = reference.name.as_deref().unwrap_or_default();
            let live = self.read(cron_job, name).await?;
            if live.is_none_or(|job| job.uid() != reference.uid) {
                missing.extend(reference.uid.clone());
            }
        }
        Ok(missing)
    }

    async fn read(&self, cron_job: &CronJob, name: &str) -> Result<Option<Job>, ReconcileError> {
        let namespace = cron_job.namespace().unwrap_or_default();
        let api: Api<Job> = Api::namespaced(self.context.client.clone(), &namespace);
        found(api.get(name).await).map_err(|source| ReconcileError::Read {
            what: format!("Job {}", Key::new(&namespace, name)),
            source,
        })
    }

    async fn apply(&self, cron_job: &CronJob, plan: Plan) -> Result<(), ReconcileError> {
        for note in plan.notes {
            self.recorder.record(cron_job, note, Timestamp::now());
        }
        for job in &plan.delete {
            self.delete(cron_job, job).await?;
        }
        let mut status = plan.status;
        if let Some(start) = plan.start {
            // Its going is on the way, and with it a Job that would only be deleted.
            if !write::is_living(&self.context.client, cron_job).await? {
                return Ok(());
            }
            self.start(cron_job, start, &mut status).await?;
        }
        if cron_job.status.as_ref() != Some(&status) {
            let changed = CronJob {
                status: Some(status),
                ..cron_job.clone()
            };
            let written = write::update_status(&self.context.client, &changed).await?;
            self.latest.wrote(&written);
        }
        Ok(())
    }

    async fn start(&self, cron_job: &CronJob, start: Start, status: &mut CronJobStatus) -> Result<(), ReconcileError> {
        let name = start.job.name_any();
        let job = match write::create(&self.context.client, &start.job).await {
            Ok(job) => {
                let message = format!("Created job {name}");
                self.note(cron_job, Severity::Normal, "SuccessfulCreate", message);
                job
            }
            // An earlier pass made it and could not say so.
            Err(ReconcileError::Create { what, source }) if is_already_exists(&source) => {
                let uid = cron_job.uid().unwrap_or_default();
                let existing = self.read(cron_job, &name).await?;
                let own = existing.filter(|job| is_controlled_by(&job.metadata, &uid));
                own.ok_or(ReconcileError::Create { what, source })?
            }
            Err(error) => {
                if let ReconcileError::Create { source, .. } = &error {
                    let message = format!("Error creating job: {}", server_message(source));
                    self.note(cron_job, Severity::Warning, "FailedCreate", message);
                }
                return Err(error);
            }
        };
        let reference = ObjectReference {
            field_path: None,
            resource_version: job.resource_version(),
            ..job.object_ref(&())
        };
        status.active.get_or_insert_default().push(reference);
        status.last_schedule_time = Some(Time(start.scheduled));
        Ok(())
    }

    async fn delete(&self, cron_job: &CronJob, job: &Job) -> Result<(), ReconcileError> {
        let result = write::delete(&self.context.client, job).await;
        let name = job.name_any();
        match &result {
            Ok(()) => self.note(
                cron_job,
                Severity::Normal,
                "SuccessfulDelete",
                format!("Deleted job {name}"),
            ),
            Err(_) => self.note(
                cron_job,
                Severity::Warning,
                "FailedDelete",
                format!("Deleted job: {name}"),
            ),
        }
        result
    }

    fn note(&self, cron_job: &CronJob, severity: Severity, reason: &'static str, message: String) {
        let note = Note {
            severity,
            reason,
            message,
        };
        self.recorder.record(cron_job, note, Timestamp::now());
    }
}
