//! CronJob: a schedule and the Job that is made by it.

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, JobTemplateSpec};
use serde_json::Value;

use super::workload::{self, non_negative};
use super::{job, pod_template};
use crate::resource::cron::Schedule;
use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::names;
use crate::resource::{Column, KindInfo, Strategy, Subresource, print};

pub(super) const INFO: KindInfo = KindInfo {
    group: "batch",
    kind: "CronJob",
    plural: "cronjobs",
    singular: "cronjob",
    short_names: &["cj"],
    categories: &["all"],
    schema: "io.k8s.api.batch.v1.CronJob",
    subresources: &[Subresource::Status],
    ..super::CORE
};

/// A Job's name is its CronJob's with eleven more characters.
const LONGEST_NAME: usize = 52;
const POLICIES: [&str; 3] = ["Allow", "Forbid", "Replace"];

const COLUMNS: &[Column] = &[
    print::NAME,
    print::text(
        "Schedule",
        0,
        "The schedule in Cron format, see https://en.wikipedia.org/wiki/Cron.",
    ),
    print::text(
        "Timezone",
        0,
        "The time zone name for the given schedule, see https://en.wikipedia.org/wiki/List_of_tz_database_time_zones. If not specified, this will default to the time zone of the kube-controller-manager process. The set of valid time zone names and the time zone offset is loaded from the system-wide time zone database by the API server during CronJob validation and the controller manager during execution. If no system-wide time zone database can be found a bundled version of the database is used instead. If the time zone name becomes invalid during the lifetime of a CronJob or due to a change in host configuration, the controller will stop creating new new Jobs and will create a system event with the reason UnknownTimeZone. More information can be found in https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/#time-zones",
    ),
    Column {
        kind: "boolean",
        ..print::text(
            "Suspend",
            0,
            "This flag tells the controller to suspend subsequent executions, it does not apply to already started executions.  Defaults to false.",
        )
    },
    print::integer("Active", 0, "A list of pointers to currently running jobs."),
    print::text(
        "Last Schedule",
        0,
        "Information when was the last time the job was successfully scheduled.",
    ),
    print::AGE,
    workload::CONTAINERS,
    workload::IMAGES,
    print::text(
        "Selector",
        1,
        "A label query over pods that should match the pod count. Normally, the system sets this field for you. More info: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors",
    ),
];

/// How CronJobs behave.
pub(super) struct CronJobs;

impl Strategy for CronJobs {
    type Object = CronJob;

    fn default(&self, object: &mut CronJob) {
        let spec = &mut object.spec;
        spec.concurrency_policy.get_or_insert_with(|| "Allow".to_owned());
        spec.suspend.get_or_insert(false);
        spec.successful_jobs_history_limit.get_or_insert(3);
        spec.failed_jobs_history_limit.get_or_insert(1);
        let template = spec.job_template.spec.get_or_insert_default();
        pod_template::default_spec(template.template.spec.get_or_insert_default());
    }

    fn prepare_for_create(&self, object: &mut CronJob) {
        object.status = Some(CronJobStatus::default());
        object.metadata.generation = Some(1);
    }

    fn prepare_for_update(&self, new: &mut CronJob, old: &CronJob) {
        new.status.clone_from(&old.status);
        workload::step_generation(&mut new.metadata, &old.metadata, new.spec != old.spec);
    }

    fn prepare_for_status_update(&self, new: &mut CronJob, old: &CronJob) {
        new.spec.clone_from(&old.spec);
        new.metadata.generation = old.metadata.generation;
    }

    fn validate(&self, object: &CronJob) -> FieldErrors {
        let mut errors = meta::validate(&object.metadata, Scope::Namespaced, names::dns_subdomain);
        errors.extend(spec(&object.spec, None));
        let name = object.metadata.name.as_deref().unwrap_or_default();
        if name.len() > LONGEST_NAME {
            let detail = "must be no more than 52 characters";
            errors.push(FieldError::invalid("metadata.name", name, detail));
        }
        errors
    }

    fn validate_update(&self, new: &CronJob, old: &CronJob) -> FieldErrors {
        let mut errors = meta::contents(&new.metadata);
        errors.extend(spec(&new.spec, Some(&old.spec)));
        errors
    }

    fn warnings(&self, object: &CronJob) -> Vec<String> {
        workload::name_warning(&object.metadata).into_iter().collect()
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &CronJob, now: Timestamp) -> Vec<Value> {
        let spec = object.spec.clone();
        let status = object.status.clone().unwrap_or_default();
        let template = spec.job_template.spec.unwrap_or_default();
        let (containers, images) = print::containers(Some(&template.template));
        let suspended = if spec.suspend == Some(true) { "True" } else { "False" };
        let last = status
            .last_schedule_time
            .as_ref()
            .map(|time| print::since(Some(time), now));
        vec![
            print::name(&object.metadata),
            Value::from(spec.schedule),
            print::or_none(spec.time_zone.as_deref()),
            Value::from(suspended),
            Value::from(status.active.map_or(0, |jobs| jobs.len())),
            print::or_none(last.as_deref()),
            print::age(&object.metadata, now),
            Value::from(containers),
            Value::from(images),
            Value::from(
                template
                    .selector
                    .as_ref()
                    .map_or_else(|| "<none>".to_owned(), print::selector),
            ),
        ]
    }
}

fn spec(spec: &CronJobSpec, old: Option<&CronJobSpec>) -> FieldErrors {
    let mut errors = Vec::new();
    if spec.schedule.is_empty() {
        errors.push(FieldError::required("spec.schedule", ""));
    } else {
        errors.extend(schedule(spec, old));
    }
    errors.extend(non_negative(
        "spec.startingDeadlineSeconds",
        spec.starting_deadline_seconds,
    ));
    if old.is_none_or(|old| old.time_zone != spec.time_zone) {
        errors.extend(spec.time_zone.iter().flat_map(|zone| time_zone(zone)));
    }
    match spec.concurrency_policy.as_deref().unwrap_or_default() {
        "" => errors.push(FieldError::required("spec.concurrencyPolicy", "")),
        policy if POLICIES.contains(&policy) => {}
        other => errors.push(FieldError::not_supported("spec.concurrencyPolicy", other, &POLICIES)),
    }
    errors.extend(template(&spec.job_template));
    errors.extend(non_negative(
        "spec.successfulJobsHistoryLimit",
        spec.successful_jobs_history_limit,
    ));
    errors.extend(non_negative(
        "spec.failedJobsHistoryLimit",
        spec.failed_jobs_history_limit,
    ));
    errors
}

fn schedule(spec: &CronJobSpec, old: Option<&CronJobSpec>) -> FieldErrors {
    let given = spec.schedule.as_str();
    let mut details: Vec<String> = Schedule::parse(given).err().into_iter().collect();
    let zoned = given.contains("TZ");
    let was_zoned = old.is_some_and(|old| old.schedule.contains("TZ"));
    if zoned && was_zoned && spec.time_zone.is_some() {
        details.push("cannot use both timeZone field and TZ or CRON_TZ in schedule".to_owned());
    } else if zoned && !was_zoned {
        details.push("cannot use TZ or CRON_TZ in schedule, use timeZone field instead".to_owned());
    }
    FieldError::each("spec.schedule", given, details)
}

/// The name of a zone of the IANA database, spelt as files are.
fn time_zone(zone: &str) -> FieldErrors {
    const FIELD: &str = "spec.timeZone";
    let invalid = |detail: String| FieldError::invalid(FIELD, zone, detail);
    if zone.is_empty() {
        return vec![invalid("timeZone must be nil or non-empty string".to_owned())];
    }
    let unknown = || invalid(format!("unknown time zone {zone}"));
    let spelt = |part: &str| {
        let letters = part.bytes().all(|c| c.is_ascii_alphanumeric() || b".-_+".contains(&c));
        letters && (1..=14).contains(&part.len()) && !part.starts_with('-') && part != "." && part != ".."
    };
    if !zone.split('/').all(spelt) {
        return vec![unknown()];
    }
    if zone.eq_ignore_ascii_case("local") {
        let detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
        return vec![invalid(detail.to_owned())];
    }
    let found = jiff::tz::TimeZone::get(zone).is_ok();
    if found { Vec::new() } else { vec![unknown()] }
}

fn template(template: &JobTemplateSpec) -> FieldErrors {
    const FIELD: &str = "spec.jobTemplate.spec";
    let Some(spec) = &template.spec else { return Vec::new() };
    let mut errors = job::validate_template(FIELD, spec);
    if let Some(selector) = &spec.selector {
        let value = serde_json::to_value(selector).unwrap_or_default();
        let detail = "`selector` will be auto-generated";
        errors.push(FieldError::invalid(format!("{FIELD}.selector"), value, detail));
    }
    if spec.manual_selector == Some(true) {
        let supported = ["nil", "false"];
        errors.push(FieldError::not_supported(
            format!("{FIELD}.manualSelector"),
            true,
            &supported,
        ));
    }
    errors
}
