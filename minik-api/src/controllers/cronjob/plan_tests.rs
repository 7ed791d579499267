use super::*;
use k8s_openapi::api::batch::v1::{JobCondition, JobSpec, JobStatus};
use proptest::prelude::*;

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn cron_job(schedule: &str) -> CronJob {
    let mut cron_job = CronJob::default();
    cron_job.metadata.name = Some("hello".into());
    cron_job.metadata.namespace = Some("default".into());
    cron_job.metadata.uid = Some("cron".into());
    cron_job.metadata.creation_timestamp = Some(Time(at("2026-11-21T10:00:30Z")));
    cron_job.spec.schedule = schedule.into();
    cron_job.spec.job_template.spec = Some(JobSpec::default());
    cron_job.spec.successful_jobs_history_limit = Some(3);
    cron_job.spec.failed_jobs_history_limit = Some(1);
    cron_job
}

/// A cluster as the API server would keep it.
struct World {
    cron_job: CronJob,
    jobs: Vec<Arc<Job>>,
    now: Timestamp,
    told: Vec<String>,
    started: Vec<Timestamp>,
}

impl World {
    fn new(cron_job: CronJob) -> Self {
        let now = at("2026-11-21T10:00:30Z");
        Self {
            cron_job,
            jobs: Vec::new(),
            now,
            told: Vec::new(),
            started: Vec::new(),
        }
    }

    fn plan(&self) -> Plan {
        let active = self
            .cron_job
            .status
            .iter()
            .flat_map(|status| status.active.iter().flatten());
        let gone = active.filter(|active| self.jobs.iter().all(|job| job.uid() != active.uid));
        let missing = gone.filter_map(|active| active.uid.clone()).collect();
        decide(&View {
            cron_job: &self.cron_job,
            jobs: &self.jobs,
            missing: &missing,
            now: self.now,
        })
    }

    fn pass(&mut self, time: &str) {
        self.pass_at(at(time));
    }

    fn pass_at(&mut self, now: Timestamp) {
        self.now = now;
        let plan = self.plan();
        self.told.extend(
            plan.notes
                .iter()
                .map(|note| format!("{}: {}", note.reason, note.message)),
        );
        self.jobs.retain(|job| !plan.delete.contains(job));
        let mut status = plan.status;
        if let Some(Start { mut job, scheduled }) = plan.start {
            let name = job.name_any();
            assert!(
                self.jobs.iter().all(|other| other.name_any() != name),
                "a second {name}"
            );
            job.metadata.uid = Some(name.clone());
            job.status = Some(JobStatus {
                start_time: Some(Time(now)),
                ..JobStatus::default()
            });
            status.active.get_or_insert_default().push(ObjectReference {
                name: Some(name.clone()),
                uid: Some(name),
                ..ObjectReference::default()
            });
            status.last_schedule_time = Some(Time(scheduled));
            self.started.push(scheduled);
            self.jobs.push(Arc::new(job));
        }
        self.cron_job.status = Some(status);
    }

    fn end(&mut self, index: usize, kind: &str) {
        let Some(slot) = self.jobs.get_mut(index).filter(|job| finished(job).is_none()) else {
            return;
        };
        let mut job = Job::clone(slot);
        let status = job.status.get_or_insert_default();
        status.completion_time = (kind == "Complete").then_some(Time(self.now));
        status.conditions = Some(vec![JobCondition {
            type_: kind.into(),
            status: "True".into(),
            ..JobCondition::default()
        }]);
        *slot = Arc::new(job);
    }

    fn names(&self) -> Vec<String> {
        self.jobs.iter().map(|job| job.name_any()).collect()
    }

    fn active(&self) -> usize {
        self.cron_job
            .status
            .as_ref()
            .and_then(|status| status.active.as_ref())
            .map_or(0, Vec::len)
    }
}

/// 2026-11-21T10:01:00Z is minute 29889601 of Unix time.
#[test]
fn a_job_is_named_after_its_minute_and_remembers_its_time() {
    let mut world = World::new(cron_job("* * * * *"));
    world.pass("2026-11-21T10:00:59Z");
    assert!(world.jobs.is_empty());
    assert_eq!(world.plan().recheck, Some(Duration::from_millis(1_100)));
    world.pass("2026-11-21T10:01:00Z");
    let minute = at("2026-11-21T10:01:00Z").as_second() / 60;
    assert_eq!(world.names(), [format!("hello-{minute}")]);
    let job = &world.jobs[0];
    assert_eq!(job.annotations()[SCHEDULED], "2026-11-21T10:01:00Z");
    assert_eq!(job.owner_references()[0].kind, "CronJob");
    world.pass("2026-11-21T10:01:30Z");
    assert_eq!((world.jobs.len(), world.active()), (1, 1), "one Job a time");
    world.end(0, "Complete");
    world.pass("2026-11-21T10:01:31Z");
    assert_eq!(world.active(), 0);
    assert_eq!(
        world.told,
        [format!(
            "SawCompletedJob: Saw completed job: hello-{minute}, condition: Complete"
        )]
    );
    let status = world.cron_job.status.unwrap();
    assert!(status.last_successful_time.is_some() && status.last_schedule_time.is_some());
}

#[test]
fn a_time_zone_moves_the_schedule_and_its_mark() {
    let mut cron_job = cron_job("0 19 * * *");
    cron_job.spec.time_zone = Some("Asia/Tokyo".into());
    let mut world = World::new(cron_job);
    world.cron_job.metadata.creation_timestamp = Some(Time(at("2026-11-21T09:00:00Z")));
    world.pass("2026-11-21T10:00:01Z");
    assert_eq!(world.jobs[0].annotations()[SCHEDULED], "2026-11-21T19:00:00+09:00");
}

#[test]
fn policies_say_what_becomes_of_a_job_that_still_runs() {
    let run = |policy: &str| {
        let mut world = World::new(cron_job("* * * * *"));
        world.cron_job.spec.concurrency_policy = Some(policy.into());
        world.pass("2026-11-21T10:01:00Z");
        world.pass("2026-11-21T10:02:00Z");
        (world.jobs.len(), world.active(), world.started.len(), world.told)
    };
    assert_eq!(run("Allow"), (2, 2, 2, vec![]));
    assert_eq!(run("Replace"), (1, 1, 2, vec![]));
    let told = "JobAlreadyActive: Not starting job because prior execution is running and concurrency policy is Forbid";
    assert_eq!(run("Forbid"), (1, 1, 1, vec![told.to_string()]));
}

#[test]
fn a_suspended_cronjob_starts_nothing_and_one_past_its_deadline_neither() {
    let mut world = World::new(cron_job("* * * * *"));
    world.cron_job.spec.suspend = Some(true);
    world.pass("2026-11-21T10:05:00Z");
    assert!(world.jobs.is_empty() && world.plan().recheck.is_none());
    world.cron_job.spec.suspend = Some(false);
    world.cron_job.spec.schedule = "0 * * * *".into();
    world.cron_job.spec.starting_deadline_seconds = Some(60);
    world.pass("2026-11-21T11:02:00Z");
    assert!(world.jobs.is_empty());
}

#[test]
fn ended_jobs_are_kept_up_to_the_limits() {
    let mut world = World::new(cron_job("* * * * *"));
    for minute in 1..=6 {
        world.pass(&format!("2026-11-21T10:{minute:02}:00Z"));
        let last = world.jobs.len() - 1;
        world.end(last, if minute < 5 { "Complete" } else { "Failed" });
    }
    world.pass("2026-11-21T10:06:30Z");
    assert_eq!(world.jobs.len(), 4);
    world.jobs.clear();
    world.pass("2026-11-21T10:07:00Z");
    assert_eq!(world.active(), 1);
    world.jobs.clear();
    world.pass("2026-11-21T10:07:30Z");
    assert!(
        world
            .told
            .last()
            .unwrap()
            .starts_with("MissingJob: Active job went missing: hello-")
    );
}

#[test]
fn somebody_elses_run_is_noticed_and_left_alone() {
    let mut world = World::new(cron_job("0 0 1 1 *"));
    let mut job = new_job(&world.cron_job, world.now, &TimeZone::UTC);
    job.metadata.name = Some("by-hand".into());
    job.metadata.uid = Some("by-hand".into());
    world.jobs.push(Arc::new(job));
    world.pass("2026-11-21T10:01:00Z");
    assert_eq!(
        world.told,
        ["UnexpectedJob: Saw a job that the controller did not create or forgot: by-hand"]
    );
    assert_eq!((world.jobs.len(), world.active()), (1, 0));
}

proptest! {
    /// However late and often the controller looks, it starts each scheduled time at most once, in order, and
    /// under Forbid and Replace never has two Jobs running.
    #[test]
    fn no_time_is_served_twice(
        steps in prop::collection::vec((0i64..200, 0usize..4, any::<bool>()), 1..40),
        policy in prop_oneof![Just("Allow"), Just("Forbid"), Just("Replace")],
    ) {
        let mut world = World::new(cron_job("* * * * *"));
        world.cron_job.spec.concurrency_policy = Some(policy.into());
        for (seconds, index, ends) in steps {
            let now = world.now.checked_add(jiff::SignedDuration::from_secs(seconds)).unwrap();
            world.pass_at(now);
            world.pass_at(now);
            prop_assert!(policy == "Allow" || world.active() <= 1);
            if ends {
                world.end(index, "Complete");
            }
        }
        prop_assert!(world.started.is_sorted_by(|a, b| a < b));
    }
}
