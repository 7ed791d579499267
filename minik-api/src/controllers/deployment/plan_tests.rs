use super::*;
use k8s_openapi::api::apps::v1::{DeploymentSpec, DeploymentStrategy, ReplicaSetStatus};
use k8s_openapi::api::core::v1::{Container, PodSpec, PodTemplateSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

fn deployment(image: &str, replicas: i32) -> Deployment {
    let container = Container {
        name: "web".into(),
        image: Some(image.into()),
        ..Container::default()
    };
    let spec = PodSpec {
        containers: vec![container],
        ..PodSpec::default()
    };
    let mut deployment = Deployment {
        spec: Some(DeploymentSpec {
            replicas: Some(replicas),
            progress_deadline_seconds: Some(600),
            template: PodTemplateSpec {
                metadata: None,
                spec: Some(spec),
            },
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    };
    deployment.metadata.name = Some("web".into());
    deployment.metadata.uid = Some("uid".into());
    deployment.metadata.generation = Some(1);
    deployment
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Carries out a plan as the API server would, and lets the ReplicaSets have all their Pods at once.
struct World {
    deployment: Deployment,
    sets: Vec<Arc<ReplicaSet>>,
    running: Vec<String>,
    now: i64,
    sized: Vec<(String, i32, i32)>,
}

impl World {
    fn new(deployment: Deployment) -> Self {
        Self {
            deployment,
            sets: Vec::new(),
            running: Vec::new(),
            now: 1_000,
            sized: Vec::new(),
        }
    }

    fn plan(&self) -> Plan {
        let view = View {
            deployment: &self.deployment,
            replica_sets: &self.sets,
            running: &self.running,
            now: at(self.now),
        };
        decide(&view).unwrap()
    }

    fn pass(&mut self) -> Plan {
        self.now += 1;
        let plan = self.plan();
        if let Some(mut set) = plan.create.clone() {
            set.metadata.creation_timestamp = Some(Time(at(self.now)));
            self.sized.push((set.metadata.name.clone().unwrap(), 0, wanted(&set)));
            self.sets.push(Arc::new(set));
        }
        for change in &plan.update {
            let slot = self
                .sets
                .iter_mut()
                .find(|s| s.metadata.name == change.replica_set.metadata.name)
                .unwrap();
            *slot = Arc::new(change.replica_set.clone());
            self.sized.push((
                change.replica_set.metadata.name.clone().unwrap(),
                change.from,
                change.to,
            ));
        }
        self.sets.retain(|set| !plan.delete.contains(set));
        if let Some(revision) = &plan.revision {
            self.deployment
                .metadata
                .annotations
                .get_or_insert_default()
                .insert(REVISION.into(), revision.clone());
        }
        self.deployment.status = Some(plan.status.clone());
        plan
    }

    fn run_pods(&mut self) {
        for set in &mut self.sets {
            let mut running = ReplicaSet::clone(set);
            let size = wanted(&running);
            running.status = Some(ReplicaSetStatus {
                replicas: size,
                ready_replicas: Some(size),
                available_replicas: Some(size),
                observed_generation: running.metadata.generation,
                ..ReplicaSetStatus::default()
            });
            *set = Arc::new(running);
        }
    }

    fn settle(&mut self) {
        for _ in 0..40 {
            self.pass();
            self.run_pods();
        }
        let plan = self.plan();
        assert_eq!(
            (plan.create, plan.update, plan.delete),
            (None, vec![], vec![]),
            "a settled world changes nothing"
        );
        assert_eq!(Some(plan.status), self.deployment.status);
    }

    fn condition(&self, kind: &str) -> (String, String, String) {
        let conditions = self.deployment.status.as_ref().unwrap().conditions.as_ref().unwrap();
        let found = conditions.iter().find(|condition| condition.type_ == kind).unwrap();
        (
            found.status.clone(),
            found.reason.clone().unwrap(),
            found.message.clone().unwrap(),
        )
    }
}

fn triple(a: &str, b: &str, c: &str) -> (String, String, String) {
    (a.into(), b.into(), c.into())
}

#[test]
fn a_new_deployment_gets_its_replica_set_at_full_size_in_one_pass() {
    let mut world = World::new(deployment("nginx:1", 2));
    let plan = world.pass();
    let set = plan.create.unwrap();
    assert_eq!(wanted(&set), 2);
    let name = set.metadata.name.clone().unwrap();
    let annotations = set.metadata.annotations.unwrap();
    for (key, value) in [("desired-replicas", "2"), ("max-replicas", "3"), ("revision", "1")] {
        assert_eq!(annotations[&format!("deployment.kubernetes.io/{key}")], value);
    }
    assert_eq!(plan.revision.as_deref(), Some("1"));
    let message = format!("Created new replica set \"{name}\"");
    assert_eq!(
        world.condition("Progressing"),
        triple("True", "NewReplicaSetCreated", &message)
    );
    let message = "Deployment does not have minimum availability.";
    assert_eq!(
        world.condition("Available"),
        triple("False", "MinimumReplicasUnavailable", message)
    );
    assert_eq!(plan.recheck, Some(Duration::from_secs(601)));

    world.run_pods();
    world.pass();
    let message = format!("ReplicaSet \"{name}\" has successfully progressed.");
    assert_eq!(
        world.condition("Progressing"),
        triple("True", "NewReplicaSetAvailable", &message)
    );
    let message = "Deployment has minimum availability.";
    assert_eq!(
        world.condition("Available"),
        triple("True", "MinimumReplicasAvailable", message)
    );
}

#[test]
fn an_update_rolls_and_an_undo_reuses_the_old_replica_set() {
    let mut world = World::new(deployment("nginx:1", 2));
    world.settle();
    let first = world.sets[0].metadata.name.clone().unwrap();
    let template = world.deployment.spec.as_ref().unwrap().template.clone();
    world.deployment.spec = deployment("nginx:2", 2).spec;
    world.sized.clear();
    world.settle();
    assert_eq!(world.sets.len(), 2);
    let second = world.sets[1].metadata.name.clone().unwrap();
    let steps: Vec<_> = world
        .sized
        .iter()
        .map(|(name, from, to)| (name.as_str(), *from, *to))
        .collect();
    let (a, b) = (first.as_str(), second.as_str());
    assert_eq!(steps, [(b, 0, 1), (a, 2, 1), (b, 1, 2), (a, 1, 0)]);

    world.deployment.spec.as_mut().unwrap().template = template;
    world.settle();
    assert_eq!(world.sets.len(), 2);
    let sizes: Vec<_> = world
        .sets
        .iter()
        .map(|set| (wanted(set), revision(&set.metadata)))
        .collect();
    assert_eq!(sizes, [(2, 3), (0, 2)]);
    assert_eq!(world.deployment.metadata.annotations.as_ref().unwrap()[REVISION], "3");
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut world = World::new(deployment("nginx:1", 2));
    world.settle();
    world.deployment.spec = deployment("nginx:2", 5).spec;
    world.deployment.spec.as_mut().unwrap().paused = Some(true);
    world.settle();
    assert_eq!(world.sets.iter().map(|set| wanted(set)).collect::<Vec<_>>(), [5]);
    assert_eq!(
        world.condition("Progressing"),
        triple("Unknown", "DeploymentPaused", "Deployment is paused")
    );
    world.deployment.spec.as_mut().unwrap().paused = Some(false);
    world.settle();
    assert_eq!(world.sets.iter().map(|set| wanted(set)).collect::<Vec<_>>(), [0, 5]);
}

#[test]
fn recreate_has_no_new_pod_while_an_old_one_runs() {
    let mut world = World::new(deployment("nginx:1", 2));
    let strategy = Some(DeploymentStrategy {
        type_: Some("Recreate".into()),
        rolling_update: None,
    });
    world.deployment.spec.as_mut().unwrap().strategy = strategy.clone();
    world.settle();
    world.running = vec![world.sets[0].metadata.name.clone().unwrap()];
    world.deployment.spec = deployment("nginx:2", 2).spec;
    world.deployment.spec.as_mut().unwrap().strategy = strategy;
    for _ in 0..5 {
        world.pass();
        world.run_pods();
    }
    assert_eq!(world.sets.iter().map(|set| wanted(set)).collect::<Vec<_>>(), [0]);
    world.running.clear();
    world.settle();
    assert_eq!(world.sets.iter().map(|set| wanted(set)).collect::<Vec<_>>(), [0, 2]);
}

#[test]
fn history_beyond_its_limit_goes_oldest_first() {
    let mut world = World::new(deployment("nginx:0", 1));
    world.deployment.spec.as_mut().unwrap().revision_history_limit = Some(2);
    for version in 0..5 {
        world.deployment.spec.as_mut().unwrap().template =
            deployment(&format!("nginx:{version}"), 1).spec.unwrap().template;
        world.settle();
    }
    let revisions: Vec<_> = world.sets.iter().map(|set| revision(&set.metadata)).collect();
    assert_eq!(revisions, [3, 4, 5]);
}

#[test]
fn a_rollout_that_stands_still_passes_its_deadline() {
    let mut world = World::new(deployment("nginx:1", 1));
    world.pass();
    world.now += 599;
    world.pass();
    assert_eq!(world.condition("Progressing").1, "NewReplicaSetCreated");
    world.now += 5;
    let plan = world.pass();
    let name = world.sets[0].metadata.name.clone().unwrap();
    let message = format!("ReplicaSet \"{name}\" has timed out progressing.");
    assert_eq!(
        world.condition("Progressing"),
        triple("False", "ProgressDeadlineExceeded", &message)
    );
    assert_eq!(plan.recheck, None);
}

#[test]
fn a_terminating_deployment_only_reports() {
    let mut world = World::new(deployment("nginx:1", 2));
    world.deployment.metadata.deletion_timestamp = Some(Time(at(1)));
    let plan = world.pass();
    assert_eq!((plan.create, plan.update, plan.revision), (None, vec![], None));
}
