use super::*;
use k8s_openapi::api::core::v1::{
    Container, ContainerPort, PodCondition, PodSpec, PodStatus, ServicePort, ServiceSpec,
};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

fn service(ports: &[(&str, i32)]) -> Service {
    let ports = ports.iter().map(|(target, port)| ServicePort {
        name: Some((*target).to_string()),
        port: *port,
        target_port: Some(IntOrString::String((*target).into())),
        ..ServicePort::default()
    });
    let spec = ServiceSpec {
        ports: Some(ports.collect()),
        cluster_ip: Some("10.96.0.9".into()),
        ..ServiceSpec::default()
    };
    let mut service = Service {
        spec: Some(spec),
        ..Service::default()
    };
    service.metadata.name = Some("web".into());
    service
}

fn pod(ip: &str, ready: bool, declares: &[(&str, i32)]) -> Arc<Pod> {
    let ports = declares.iter().map(|(name, port)| ContainerPort {
        name: Some((*name).to_string()),
        container_port: *port,
        ..ContainerPort::default()
    });
    let container = Container {
        ports: Some(ports.collect()),
        ..Container::default()
    };
    let status = if ready { "True" } else { "False" };
    let condition = PodCondition {
        type_: "Ready".into(),
        status: status.into(),
        ..PodCondition::default()
    };
    let mut pod = Pod {
        spec: Some(PodSpec {
            containers: vec![container],
            node_name: Some("n".into()),
            ..PodSpec::default()
        }),
        status: Some(PodStatus {
            pod_ip: Some(ip.into()),
            conditions: Some(vec![condition]),
            ..PodStatus::default()
        }),
        ..Pod::default()
    };
    pod.metadata.name = Some(format!("p-{ip}"));
    pod.metadata.uid = Some(ip.into());
    Arc::new(pod)
}

/// Ready addresses, others, and port numbers of each subset.
fn shape(subsets: &[EndpointSubset]) -> Vec<(Vec<&str>, Vec<&str>, Vec<i32>)> {
    subsets
        .iter()
        .map(|subset| {
            (
                subset.addresses.iter().flatten().map(|a| a.ip.as_str()).collect(),
                subset
                    .not_ready_addresses
                    .iter()
                    .flatten()
                    .map(|a| a.ip.as_str())
                    .collect(),
                subset.ports.iter().flatten().map(|p| p.port).collect(),
            )
        })
        .collect()
}

#[test]
fn addresses_are_in_numeric_order_and_share_a_subset_when_they_share_ports() {
    let http = [("http", 80)];
    let pods = [
        pod("10.0.0.10", true, &http),
        pod("10.0.0.9", true, &http),
        pod("10.0.0.11", false, &http),
    ];
    let subsets = subsets(&service(&http), &pods);
    assert_eq!(
        shape(&subsets),
        [(vec!["10.0.0.9", "10.0.0.10"], vec!["10.0.0.11"], vec![80])]
    );
}

#[test]
fn named_ports_that_differ_split_subsets() {
    let declared = [("http", 80)];
    let pods = [
        pod("10.0.0.1", true, &declared),
        pod("10.0.0.2", true, &[("http", 8080)]),
    ];
    let subsets = subsets(&service(&declared), &pods);
    assert_eq!(
        shape(&subsets),
        [
            (vec!["10.0.0.1"], vec![], vec![80]),
            (vec!["10.0.0.2"], vec![], vec![8080])
        ]
    );
}

#[test]
fn a_pod_without_the_named_port_is_no_endpoint() {
    let pods = [pod("10.0.0.1", true, &[("other", 1)])];
    assert_eq!(subsets(&service(&[("http", 80)]), &pods), []);
}

#[test]
fn an_unchanged_object_is_not_written_and_strangers_annotations_stay() {
    let http = [("http", 80)];
    let pods = [pod("10.0.0.1", true, &http)];
    let service = service(&http);
    let mut first = plan(&service, &pods, None, Some("t".into())).unwrap();
    assert_eq!(first.metadata.labels.as_ref().unwrap()[MANAGED_BY], MANAGER);
    first
        .metadata
        .annotations
        .get_or_insert_default()
        .insert("mine".into(), "x".into());
    assert_eq!(plan(&service, &pods, Some(&first), Some("later".into())), None);
    let emptied = plan(&service, &[], Some(&first), None).unwrap();
    assert_eq!(emptied.subsets, None);
    assert_eq!(
        emptied.metadata.annotations.unwrap(),
        BTreeMap::from([("mine".to_string(), "x".to_string())])
    );
}

#[test]
fn beyond_a_thousand_addresses_are_left_out_and_it_is_said() {
    let http = [("http", 80)];
    let pods: Vec<_> = (0..1005)
        .map(|n| pod(&format!("10.0.{}.{}", n / 250, n % 250), true, &http))
        .collect();
    let endpoints = plan(&service(&http), &pods, None, None).unwrap();
    assert_eq!(
        endpoints.metadata.annotations.as_ref().unwrap()[OVER_CAPACITY],
        "truncated"
    );
    assert_eq!(
        endpoints.subsets.as_ref().unwrap()[0].addresses.as_ref().unwrap().len(),
        1000
    );
    assert_eq!(plan(&service(&http), &pods, Some(&endpoints), None), None);
}
