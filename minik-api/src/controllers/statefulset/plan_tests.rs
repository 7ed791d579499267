use super::*;
use crate::controllers::history::Upkeep;
use k8s_openapi::api::apps::v1::{
    RollingUpdateStatefulSetStrategy, StatefulSetOrdinals, StatefulSetPersistentVolumeClaimRetentionPolicy,
    StatefulSetSpec, StatefulSetUpdateStrategy,
};
use k8s_openapi::api::core::v1::{Container, PodCondition, PodSpec, PodStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::ResourceExt;

const NOW: i64 = 1_000_000;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn template(image: u32) -> PodTemplateSpec {
    let container = Container {
        name: "web".into(),
        image: Some(format!("web:{image}")),
        ..Container::default()
    };
    PodTemplateSpec {
        metadata: None,
        spec: Some(PodSpec {
            containers: vec![container],
            ..PodSpec::default()
        }),
    }
}

fn set(replicas: i32) -> StatefulSet {
    let mut set = StatefulSet {
        spec: Some(StatefulSetSpec {
            replicas: Some(replicas),
            service_name: Some("nginx".into()),
            template: template(1),
            update_strategy: Some(StatefulSetUpdateStrategy {
                type_: Some("RollingUpdate".into()),
                rolling_update: Some(RollingUpdateStatefulSetStrategy {
                    partition: Some(0),
                    max_unavailable: None,
                }),
            }),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    };
    set.metadata.name = Some("web".into());
    set.metadata.namespace = Some("default".into());
    set.metadata.uid = Some("set".into());
    set
}

/// A cluster as the API server and the node agents would keep it.
struct World {
    set: StatefulSet,
    pods: BTreeMap<String, Arc<Pod>>,
    revisions: Vec<Arc<ControllerRevision>>,
    claims: Vec<Arc<PersistentVolumeClaim>>,
    uids: u32,
}

impl World {
    fn new(set: StatefulSet) -> Self {
        Self {
            set,
            pods: BTreeMap::new(),
            revisions: Vec::new(),
            claims: Vec::new(),
            uids: 0,
        }
    }

    fn plan(&self) -> Plan {
        let pods: Vec<_> = self.pods.values().cloned().collect();
        let claims = self.claims.iter().cloned().collect();
        let view = View {
            set: &self.set,
            pods: &pods,
            revisions: &self.revisions,
            claims: &claims,
            now: at(NOW),
        };
        decide(&view).unwrap()
    }

    fn pass(&mut self) -> Plan {
        let plan = self.plan();
        let revision = Arc::new(plan.update.revision.clone());
        match plan.update.upkeep {
            Upkeep::None => {}
            Upkeep::Create => self.revisions.push(revision),
            Upkeep::Renumber => {
                let slot = self
                    .revisions
                    .iter_mut()
                    .find(|r| r.metadata.name == revision.metadata.name);
                *slot.unwrap() = revision;
            }
        }
        for step in &plan.steps {
            self.take(step);
        }
        self.set.status = Some(plan.status.clone());
        self.revisions.retain(|revision| !plan.obsolete.contains(revision));
        plan
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Create { pod, claims } => {
                let mut pod = Pod::clone(pod);
                self.uids += 1;
                pod.metadata.uid = Some(format!("pod{}", self.uids));
                let first = self.pods.insert(pod.name_any(), Arc::new(pod)).is_none();
                assert!(first, "two Pods of one name");
                self.claims.extend(claims.iter().cloned().map(Arc::new));
            }
            Step::Complete { claims, .. } => self.claims.extend(claims.iter().cloned().map(Arc::new)),
            Step::Identify(pod) => drop(self.pods.insert(pod.name_any(), Arc::new(Pod::clone(pod)))),
            Step::Own { claim, owners } => {
                let slot = self
                    .claims
                    .iter_mut()
                    .find(|c| c.metadata.name == claim.metadata.name)
                    .unwrap();
                let mut owned = PersistentVolumeClaim::clone(slot);
                owned.metadata.owner_references = Some(owners.clone()).filter(|owners| !owners.is_empty());
                *slot = Arc::new(owned);
            }
            Step::Delete(pod) => {
                let name = pod.name_any();
                self.change(&name, |pod| pod.metadata.deletion_timestamp = Some(Time(at(NOW))));
            }
        }
    }

    fn change(&mut self, name: &str, change: impl FnOnce(&mut Pod)) {
        let slot = self.pods.get_mut(name).unwrap();
        let mut pod = Pod::clone(slot);
        change(&mut pod);
        *slot = Arc::new(pod);
    }

    /// What the node agent does next with this Pod: lets it go, or makes it Ready.
    fn advance(&mut self, name: &str) {
        if self.pods[name].metadata.deletion_timestamp.is_some() {
            self.pods.remove(name);
        } else {
            self.change(name, |pod| pod.status = Some(running()));
        }
    }

    fn settle(&mut self) {
        for _ in 0..60 {
            self.pass();
            let names: Vec<_> = self.pods.keys().cloned().collect();
            names.iter().for_each(|name| self.advance(name));
        }
    }

    fn names(&self) -> Vec<&str> {
        self.pods.keys().map(String::as_str).collect()
    }

    fn images(&self) -> Vec<String> {
        let image = |pod: &Arc<Pod>| pod.spec.as_ref().unwrap().containers[0].image.clone().unwrap();
        self.pods.values().map(image).collect()
    }

    fn spec(&mut self) -> &mut StatefulSetSpec {
        self.set.spec.as_mut().unwrap()
    }
}

fn running() -> PodStatus {
    PodStatus {
        phase: Some("Running".into()),
        conditions: Some(vec![PodCondition {
            type_: "Ready".into(),
            status: "True".into(),
            last_transition_time: Some(Time(at(NOW - 100))),
            ..PodCondition::default()
        }]),
        ..PodStatus::default()
    }
}

fn told(plan: &Plan) -> Vec<String> {
    let tell = |step: &Step| match step {
        Step::Create { pod, .. } => format!("create {}", pod.name_any()),
        Step::Delete(pod) => format!("delete {}", pod.name_any()),
        other => format!("{other:?}"),
    };
    plan.steps.iter().map(tell).collect()
}

#[test]
fn pods_come_in_order_and_go_in_the_reverse_one() {
    let mut world = World::new(set(2));
    assert_eq!(told(&world.pass()), ["create web-0"]);
    assert!(told(&world.pass()).is_empty(), "web-0 is not Ready");
    world.advance("web-0");
    assert_eq!(told(&world.pass()), ["create web-1"]);
    world.advance("web-1");
    world.spec().replicas = Some(0);
    assert_eq!(told(&world.pass()), ["delete web-1"]);
    assert!(told(&world.pass()).is_empty(), "web-1 has not gone");
    world.advance("web-1");
    assert_eq!(told(&world.pass()), ["delete web-0"]);
}

#[test]
fn a_parallel_set_waits_for_nobody() {
    let mut world = World::new(set(3));
    world.spec().pod_management_policy = Some("Parallel".into());
    assert_eq!(told(&world.pass()), ["create web-0", "create web-1", "create web-2"]);
    world.spec().replicas = Some(1);
    assert_eq!(told(&world.pass()), ["delete web-2", "delete web-1"]);
}

#[test]
fn a_pod_knows_its_name_number_service_and_revision() {
    let mut set = set(1);
    set.spec.as_mut().unwrap().ordinals = Some(StatefulSetOrdinals { start: Some(5) });
    let mut world = World::new(set);
    let plan = world.pass();
    let pod = &world.pods["web-5"];
    let labels = pod.labels();
    assert_eq!(labels["statefulset.kubernetes.io/pod-name"], "web-5");
    assert_eq!(labels["apps.kubernetes.io/pod-index"], "5");
    assert_eq!(labels["controller-revision-hash"], plan.update.name());
    let spec = pod.spec.as_ref().unwrap();
    assert_eq!(
        (spec.hostname.as_deref(), spec.subdomain.as_deref()),
        (Some("web-5"), Some("nginx"))
    );
    assert_eq!(pod.metadata.generate_name.as_deref(), Some("web-"));
}

#[test]
fn an_update_goes_from_the_highest_number_to_the_partition() {
    let mut world = World::new(set(3));
    world.settle();
    let first = world.set.status.clone().unwrap();
    assert_eq!(first.current_revision, first.update_revision);
    world.spec().template = template(2);
    world
        .spec()
        .update_strategy
        .as_mut()
        .unwrap()
        .rolling_update
        .as_mut()
        .unwrap()
        .partition = Some(2);
    assert_eq!(told(&world.pass()), ["delete web-2"]);
    let status = world.set.status.clone().unwrap();
    assert_eq!((status.current_replicas, status.updated_replicas), (Some(2), None));
    world.settle();
    assert_eq!(world.images(), ["web:1", "web:1", "web:2"]);
    let status = world.set.status.clone().unwrap();
    assert_eq!((status.current_replicas, status.updated_replicas), (Some(2), Some(1)));
    assert_eq!(status.current_revision, first.current_revision);
    // A Pod below the partition that goes comes back as it was.
    world.take(&Step::Delete(world.pods["web-0"].clone()));
    world.settle();
    assert_eq!(world.images(), ["web:1", "web:1", "web:2"]);
    world
        .spec()
        .update_strategy
        .as_mut()
        .unwrap()
        .rolling_update
        .as_mut()
        .unwrap()
        .partition = Some(0);
    world.settle();
    assert_eq!(world.images(), ["web:2", "web:2", "web:2"]);
    let status = world.set.status.clone().unwrap();
    assert_eq!(status.current_revision, status.update_revision);
    assert_eq!(status.current_replicas, Some(3));
}

#[test]
fn on_delete_replaces_only_what_others_delete() {
    let mut world = World::new(set(2));
    world.settle();
    world.spec().update_strategy = Some(StatefulSetUpdateStrategy {
        type_: Some("OnDelete".into()),
        rolling_update: None,
    });
    world.spec().template = template(2);
    world.settle();
    assert_eq!(world.images(), ["web:1", "web:1"]);
    world.take(&Step::Delete(world.pods["web-1"].clone()));
    world.settle();
    assert_eq!(world.images(), ["web:1", "web:2"]);
}

#[test]
fn more_than_one_may_be_missing_where_the_strategy_says_so() {
    let mut world = World::new(set(4));
    world.settle();
    world.spec().template = template(2);
    let rolling = world
        .spec()
        .update_strategy
        .as_mut()
        .unwrap()
        .rolling_update
        .as_mut()
        .unwrap();
    rolling.max_unavailable = Some(IntOrString::String("50%".into()));
    assert_eq!(told(&world.pass()), ["delete web-3", "delete web-2"]);
}

#[test]
fn an_earlier_template_is_the_earlier_revision_again() {
    let mut world = World::new(set(1));
    world.settle();
    world.spec().template = template(2);
    world.settle();
    world.spec().template = template(1);
    world.settle();
    let mut numbers: Vec<_> = world.revisions.iter().map(|revision| revision.revision).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [2, 3]);
    assert_eq!(world.images(), ["web:1"]);
}

#[test]
fn a_finished_pod_is_replaced() {
    let mut world = World::new(set(1));
    world.settle();
    world.change("web-0", |pod| {
        pod.status.as_mut().unwrap().phase = Some("Failed".into());
    });
    assert_eq!(told(&world.pass()), ["delete web-0"]);
    world.settle();
    assert_eq!(world.names(), ["web-0"]);
}

fn with_claims(when_deleted: &str, when_scaled: &str) -> World {
    let mut set = set(2);
    let mut claim = PersistentVolumeClaim::default();
    claim.metadata.name = Some("www".into());
    let spec = set.spec.as_mut().unwrap();
    spec.volume_claim_templates = Some(vec![claim]);
    spec.persistent_volume_claim_retention_policy = Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
        when_deleted: Some(when_deleted.into()),
        when_scaled: Some(when_scaled.into()),
    });
    let mut world = World::new(set);
    world.settle();
    world
}

fn owners(world: &World, claim: &str) -> Vec<String> {
    let claim = world.claims.iter().find(|c| c.name_any() == claim).unwrap();
    claim
        .owner_references()
        .iter()
        .map(|owner| format!("{} {}", owner.kind, owner.name))
        .collect()
}

#[test]
fn claims_are_made_once_and_mounted() {
    let world = with_claims("Retain", "Retain");
    let names: Vec<_> = world.claims.iter().map(|claim| claim.name_any()).collect();
    assert_eq!(names, ["www-web-0", "www-web-1"]);
    let volumes = world.pods["web-1"].spec.as_ref().unwrap().volumes.as_ref().unwrap();
    let source = volumes[0].persistent_volume_claim.as_ref().unwrap();
    assert_eq!(
        (volumes[0].name.as_str(), source.claim_name.as_str()),
        ("www", "www-web-1")
    );
    assert!(owners(&world, "www-web-0").is_empty());
}

#[test]
fn claims_belong_to_whose_end_is_theirs() {
    let mut world = with_claims("Delete", "Delete");
    assert_eq!(owners(&world, "www-web-1"), ["StatefulSet web"]);
    world.spec().replicas = Some(1);
    world.pass();
    assert_eq!(owners(&world, "www-web-1"), ["Pod web-1"]);
    assert_eq!(owners(&world, "www-web-0"), ["StatefulSet web"]);
    world.settle();
    // The claim has not gone yet: a new Pod would lose it again.
    world.spec().replicas = Some(2);
    assert!(told(&world.pass()).is_empty());
    world.claims.pop();
    assert_eq!(told(&world.pass()), ["create web-1"]);
}

#[path = "laws.rs"]
mod laws;
