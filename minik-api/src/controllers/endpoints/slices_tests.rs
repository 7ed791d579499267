use super::*;
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, PodCondition, PodIP, PodSpec, PodStatus, ServicePort, ServiceSpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use proptest::prelude::*;

fn service() -> Service {
    let port = ServicePort {
        port: 80,
        target_port: Some(IntOrString::String("http".into())),
        ..ServicePort::default()
    };
    let mut service = Service {
        spec: Some(ServiceSpec {
            ports: Some(vec![port]),
            cluster_ip: Some("10.96.0.9".into()),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    };
    service.metadata.name = Some("web".into());
    service.metadata.uid = Some("svc".into());
    service
}

/// A Pod: its number, its `http` port, ready, terminating.
type Spec = (u8, i32, bool, bool);

fn pod((number, http, ready, terminating): Spec) -> Arc<Pod> {
    let port = ContainerPort {
        name: Some("http".into()),
        container_port: http,
        ..ContainerPort::default()
    };
    let container = Container {
        name: "web".into(),
        ports: Some(vec![port]),
        ..Container::default()
    };
    let ip = format!("10.244.1.{number}");
    let condition = PodCondition {
        type_: "Ready".into(),
        status: if ready { "True" } else { "False" }.into(),
        ..PodCondition::default()
    };
    let mut pod = Pod {
        spec: Some(PodSpec {
            containers: vec![container],
            node_name: Some("worker1".into()),
            ..PodSpec::default()
        }),
        status: Some(PodStatus {
            phase: Some("Running".into()),
            pod_ip: Some(ip.clone()),
            pod_ips: Some(vec![PodIP { ip }]),
            conditions: Some(vec![condition]),
            ..PodStatus::default()
        }),
        ..Pod::default()
    };
    pod.metadata.name = Some(format!("web-{number}"));
    pod.metadata.uid = Some(format!("uid-{number}"));
    pod.metadata.deletion_timestamp = terminating.then_some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(
        jiff::Timestamp::UNIX_EPOCH,
    ));
    Arc::new(pod)
}

fn frame() -> Frame {
    let service = service();
    Frame {
        owner: crate::controllers::owner::controller_reference(&service),
        namespace: "default".into(),
        labels: labels(&service, "endpointslice-controller.k8s.io"),
        annotations: BTreeMap::new(),
        last_change: Some("2026-11-21T01:58:36Z".into()),
        address_type: "IPv4",
        most: MOST,
        placeholder: true,
    }
}

fn groups(pods: &[Spec]) -> Groups {
    let pods: Vec<_> = pods.iter().copied().map(pod).collect();
    on_nodes(&service(), &pods)
}

/// The endpoints of Pods whose nodes exist: `worker1` in zone `one`.
fn on_nodes(service: &Service, pods: &[Arc<Pod>]) -> Groups {
    let mut node = Node::default();
    node.metadata.labels = Some([(ZONE.to_owned(), "one".to_owned())].into());
    let node = Arc::new(node);
    endpoints(service, pods, |name| (name == "worker1").then_some(&node))
}

/// The API server: names what is created.
fn apply(plan: Plan, slices: &mut Vec<Arc<EndpointSlice>>, serial: &mut usize) {
    slices.retain(|slice| !plan.delete.iter().any(|gone| gone.metadata.name == slice.metadata.name));
    for slice in plan.update {
        let slot = slices
            .iter_mut()
            .find(|old| old.metadata.name == slice.metadata.name)
            .unwrap();
        *slot = Arc::new(slice);
    }
    for mut slice in plan.create {
        *serial += 1;
        slice.metadata.name = Some(format!("{}{serial:05}", slice.metadata.generate_name.as_ref().unwrap()));
        slices.push(Arc::new(slice));
    }
}

fn addresses_of(slice: &EndpointSlice) -> Vec<String> {
    slice
        .endpoints
        .iter()
        .flatten()
        .flat_map(|endpoint| endpoint.addresses.clone())
        .collect()
}

#[test]
fn a_slice_is_shaped_as_kubernetes_shapes_it() {
    let plan = plan(&frame(), groups(&[(7, 8080, true, false)]), &[]);
    let [slice] = plan.create.as_slice() else {
        panic!("{plan:?}")
    };
    let expected = serde_json::json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "generateName": "web-",
            "namespace": "default",
            "labels": {
                "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io",
                "kubernetes.io/service-name": "web"
            },
            "annotations": {"endpoints.kubernetes.io/last-change-trigger-time": "2026-11-21T01:58:36Z"},
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Service", "name": "web", "uid": "svc",
                "controller": true, "blockOwnerDeletion": true
            }]
        },
        "addressType": "IPv4",
        "endpoints": [{
            "addresses": ["10.244.1.7"],
            "conditions": {"ready": true, "serving": true, "terminating": false},
            "targetRef": {"kind": "Pod", "name": "web-7", "uid": "uid-7"},
            "nodeName": "worker1",
            "zone": "one"
        }],
        "ports": [{"name": "", "protocol": "TCP", "port": 8080}]
    });
    assert_eq!(serde_json::to_value(slice).unwrap(), expected);
}

#[test]
fn a_service_without_pods_has_one_slice_that_says_so() {
    let mut slices = Vec::new();
    let mut serial = 0;
    apply(plan(&frame(), Groups::new(), &slices), &mut slices, &mut serial);
    assert_eq!(
        (slices.len(), slices[0].endpoints.clone(), slices[0].ports.clone()),
        (1, None, None)
    );
    assert_eq!(plan(&frame(), Groups::new(), &slices), Plan::default());
    let name = slices[0].metadata.name.clone();
    apply(
        plan(&frame(), groups(&[(1, 80, true, false)]), &slices),
        &mut slices,
        &mut serial,
    );
    apply(plan(&frame(), Groups::new(), &slices), &mut slices, &mut serial);
    assert_eq!(slices.len(), 1);
    assert_eq!((slices[0].endpoints.clone(), slices[0].ports.clone()), (None, None));
    assert!(name.is_some());
}

#[test]
fn conditions_follow_readiness_and_termination() {
    let conditions = |service: &Service, spec: Spec| {
        let groups = on_nodes(service, &[pod(spec)]);
        let conditions = groups.values().next().unwrap()[0].conditions.clone().unwrap();
        (
            conditions.ready.unwrap(),
            conditions.serving.unwrap(),
            conditions.terminating.unwrap(),
        )
    };
    let mut service = service();
    assert_eq!(conditions(&service, (1, 80, true, false)), (true, true, false));
    assert_eq!(conditions(&service, (1, 80, false, false)), (false, false, false));
    assert_eq!(conditions(&service, (1, 80, true, true)), (false, true, true));
    assert_eq!(conditions(&service, (1, 80, false, true)), (false, false, true));
    service.spec.as_mut().unwrap().publish_not_ready_addresses = Some(true);
    assert_eq!(conditions(&service, (1, 80, false, true)), (true, false, true));
}

#[test]
fn a_named_port_that_differs_gives_a_slice_each() {
    let plan = plan(
        &frame(),
        groups(&[(1, 80, true, false), (2, 8080, true, false), (3, 80, true, false)]),
        &[],
    );
    let shapes: Vec<_> = plan
        .create
        .iter()
        .map(|s| (s.ports.as_ref().unwrap()[0].port, addresses_of(s).len()))
        .collect();
    assert_eq!(shapes, [(Some(80), 2), (Some(8080), 1)]);
}

#[test]
fn an_endpoint_keeps_its_place_when_its_conditions_change() {
    let (mut slices, mut serial) = (Vec::new(), 0);
    apply(
        plan(&frame(), groups(&[(1, 80, true, false), (2, 80, true, false)]), &slices),
        &mut slices,
        &mut serial,
    );
    apply(
        plan(
            &frame(),
            groups(&[(2, 80, true, false), (1, 80, false, false)]),
            &slices,
        ),
        &mut slices,
        &mut serial,
    );
    assert_eq!(addresses_of(&slices[0]), ["10.244.1.1", "10.244.1.2"]);
}

#[test]
fn headless_services_mark_their_slices() {
    let mut service = service();
    service.spec.as_mut().unwrap().cluster_ip = Some("None".into());
    service.metadata.labels = Some(BTreeMap::from([
        ("app".into(), "web".into()),
        (SERVICE_NAME.into(), "lie".into()),
    ]));
    let labels = labels(&service, "m");
    let expected = [("app", "web"), (MANAGED_BY, "m"), (SERVICE_NAME, "web"), (HEADLESS, "")];
    assert_eq!(labels, expected.map(|(k, v)| (k.to_string(), v.to_string())).into());
}

#[test]
fn traffic_distribution_becomes_hints_of_ready_endpoints() {
    let hints = |distribution: Option<&str>, ready: bool| {
        let mut service = service();
        service.spec.as_mut().unwrap().traffic_distribution = distribution.map(Into::into);
        let groups = on_nodes(&service, &[pod((1, 80, ready, false))]);
        let hints = groups.values().next().unwrap()[0].hints.clone();
        hints.map(|hints| serde_json::to_value(hints).unwrap())
    };
    let zone = serde_json::json!({"forZones": [{"name": "one"}]});
    let both = serde_json::json!({"forZones": [{"name": "one"}], "forNodes": [{"name": "worker1"}]});
    assert_eq!(hints(None, true), None);
    assert_eq!(hints(Some("PreferSameZone"), true), Some(zone.clone()));
    assert_eq!(hints(Some("PreferClose"), true), Some(zone));
    assert_eq!(hints(Some("PreferSameNode"), true), Some(both));
    assert_eq!(hints(Some("PreferSameNode"), false), None);
}

#[test]
fn pods_of_nodes_that_are_gone_are_no_endpoints_unless_all_are_published() {
    let mut service = service();
    let lost = || {
        let mut lost = Pod::clone(&pod((1, 80, true, false)));
        lost.spec.as_mut().unwrap().node_name = Some("gone".into());
        Arc::new(lost)
    };
    assert!(on_nodes(&service, &[lost()]).is_empty());
    service.spec.as_mut().unwrap().publish_not_ready_addresses = Some(true);
    assert_eq!(on_nodes(&service, &[lost()]).values().next().unwrap()[0].zone, None);
}

/// A Service that was deleted and made again: the garbage collector has the old slices.
#[test]
fn slices_of_a_namesake_are_not_taken_over() {
    let wanted = || groups(&[(1, 80, true, false)]);
    let old = plan(&frame(), wanted(), &[]).create.remove(0);
    let mut again = frame();
    again.owner.uid = "another".into();
    let plan = plan(&again, wanted(), &[Arc::new(old)]);
    assert_eq!((plan.create.len(), plan.update.len(), plan.delete.len()), (1, 0, 1));
}

fn any_pods() -> impl Strategy<Value = Vec<Spec>> {
    let spec = (
        any::<u8>(),
        prop_oneof![4 => Just(80), 1 => Just(8080)],
        any::<bool>(),
        any::<bool>(),
    );
    prop::collection::vec(spec, 0..256).prop_map(|mut specs| {
        specs.sort_by_key(|spec| spec.0);
        specs.dedup_by_key(|spec| spec.0);
        specs
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// After any history of Pods: slices show exactly the Pods, each once, at most 100 in a slice, a
    /// slice's ports the same for all, never without any slice; and a second pass writes nothing.
    #[test]
    fn slices_follow_the_pods(history in prop::collection::vec(any_pods(), 1..6)) {
        let (mut slices, mut serial) = (Vec::new(), 0);
        for specs in history {
            let before = slices.clone();
            let plan_now = plan(&frame(), groups(&specs), &slices);
            let written = plan_now.create.len() + plan_now.update.len() + plan_now.delete.len();
            prop_assert!(written <= before.len() + specs.len().div_ceil(MOST) + 2);
            apply(plan_now, &mut slices, &mut serial);
            prop_assert!(!slices.is_empty());
            let mut shown: Vec<(String, Option<i32>, bool)> = Vec::new();
            for slice in &slices {
                let endpoints = slice.endpoints.clone().unwrap_or_default();
                prop_assert!(endpoints.len() <= MOST);
                prop_assert!(!endpoints.is_empty() || slices.len() == 1);
                let port = slice.ports.as_ref().and_then(|ports| ports[0].port);
                shown.extend(endpoints.iter().map(|e| (e.addresses[0].clone(), port, e.conditions.as_ref().unwrap().ready.unwrap())));
            }
            let mut expected: Vec<_> =
                specs.iter().map(|(n, http, ready, gone)| (format!("10.244.1.{n}"), Some(*http), *ready && !gone)).collect();
            shown.sort();
            expected.sort();
            prop_assert_eq!(shown, expected);
            prop_assert_eq!(plan(&frame(), groups(&specs), &slices), Plan::default(), "unchanged must write nothing");
        }
    }

    /// One Pod more or less writes one slice.
    #[test]
    fn one_change_writes_one_slice(count in 2u8..=250, which in any::<prop::sample::Index>()) {
        let all: Vec<Spec> = (0..count).map(|n| (n, 80, true, false)).collect();
        let (mut slices, mut serial) = (Vec::new(), 0);
        apply(plan(&frame(), groups(&all), &slices), &mut slices, &mut serial);
        let mut fewer = all.clone();
        fewer.remove(which.index(all.len()));
        let less = plan(&frame(), groups(&fewer), &slices);
        prop_assert_eq!(less.create.len() + less.update.len() + less.delete.len(), 1);
        apply(less, &mut slices, &mut serial);
        let more = plan(&frame(), groups(&all), &slices);
        prop_assert_eq!(more.create.len() + more.update.len() + more.delete.len(), 1);
    }
}
