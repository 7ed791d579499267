//! What 1.36 fills in for a Pod spec, wherever it stands.

use k8s_openapi::api::core::v1::{
    Container, DownwardAPIVolumeFile, EnvVar, EphemeralContainer, HTTPGetAction, LifecycleHandler, ObjectFieldSelector,
    PodSpec, Probe, ResourceFieldSelector, Volume,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

const FILE_MODE: i32 = 0o644;
const TOKEN_SECONDS: i64 = 3600;

/// Fills in a Pod spec. Idempotent.
pub(in super::super) fn pod_spec(spec: &mut PodSpec) {
    spec.restart_policy.get_or_insert_with(|| "Always".to_owned());
    spec.dns_policy.get_or_insert_with(|| "ClusterFirst".to_owned());
    spec.termination_grace_period_seconds.get_or_insert(30);
    spec.scheduler_name
        .get_or_insert_with(|| "default-scheduler".to_owned());
    spec.security_context.get_or_insert_default();
    // The older name of the field is kept equal to the newer one.
    if spec.service_account_name.is_none() {
        spec.service_account_name = spec.service_account.take();
    }
    spec.service_account.clone_from(&spec.service_account_name);
    spec.containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten())
        .for_each(container);
    spec.ephemeral_containers.iter_mut().flatten().for_each(ephemeral);
    spec.volumes.iter_mut().flatten().for_each(volume);
    if spec.host_network != Some(true) {
        spec.host_network = None;
    }
}

/// A Pod in the node's network holds each container port on the node, too.
pub(in super::super) fn host_ports(spec: &mut PodSpec) {
    if spec.host_network != Some(true) {
        return;
    }
    let containers = spec
        .containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten());
    for port in containers.flat_map(|c| c.ports.iter_mut().flatten()) {
        if port.host_port.unwrap_or_default() == 0 {
            port.host_port = Some(port.container_port);
        }
    }
}

fn container(container: &mut Container) {
    let policy = pull_policy(container.image.as_deref().unwrap_or_default());
    container.image_pull_policy.get_or_insert_with(|| policy.to_owned());
    container
        .termination_message_path
        .get_or_insert_with(|| "/dev/termination-log".to_owned());
    container
        .termination_message_policy
        .get_or_insert_with(|| "File".to_owned());
    container.resources.get_or_insert_default();
    for port in container.ports.iter_mut().flatten() {
        port.protocol.get_or_insert_with(|| "TCP".to_owned());
    }
    container.env.iter_mut().flatten().for_each(environment);
    let probes = [
        &mut container.liveness_probe,
        &mut container.readiness_probe,
        &mut container.startup_probe,
    ];
    probes.into_iter().flatten().for_each(probe);
    if let Some(lifecycle) = &mut container.lifecycle {
        [&mut lifecycle.post_start, &mut lifecycle.pre_stop]
            .into_iter()
            .flatten()
            .for_each(handler);
    }
}

fn ephemeral(container: &mut EphemeralContainer) {
    let policy = pull_policy(container.image.as_deref().unwrap_or_default());
    container.image_pull_policy.get_or_insert_with(|| policy.to_owned());
    container
        .termination_message_path
        .get_or_insert_with(|| "/dev/termination-log".to_owned());
    container
        .termination_message_policy
        .get_or_insert_with(|| "File".to_owned());
    container.resources.get_or_insert_default();
}

/// `Always` for the tag `latest`, said or implied.
fn pull_policy(image: &str) -> &'static str {
    let (name, digest) = image
        .split_once('@')
        .map_or((image, None), |(name, digest)| (name, Some(digest)));
    let last = name.rsplit('/').next().unwrap_or(name);
    match (last.split_once(':'), digest) {
        (Some((_, "latest")), _) | (None, None) => "Always",
        _ => "IfNotPresent",
    }
}

fn environment(variable: &mut EnvVar) {
    let Some(from) = &mut variable.value_from else { return };
    from.field_ref.iter_mut().for_each(field_reference);
    from.resource_field_ref.iter_mut().for_each(resource_reference);
}

fn field_reference(field: &mut ObjectFieldSelector) {
    field.api_version.get_or_insert_with(|| "v1".to_owned());
}

/// A divisor is a struct to Go, which it writes even when nobody gave one.
fn resource_reference(resource: &mut ResourceFieldSelector) {
    resource.divisor.get_or_insert_with(|| Quantity("0".to_owned()));
}

fn file(file: &mut DownwardAPIVolumeFile) {
    file.field_ref.iter_mut().for_each(field_reference);
    file.resource_field_ref.iter_mut().for_each(resource_reference);
}

fn probe(probe: &mut Probe) {
    let at_least_one = |value: &mut Option<i32>, default| {
        if value.unwrap_or_default() == 0 {
            *value = Some(default);
        }
    };
    at_least_one(&mut probe.timeout_seconds, 1);
    at_least_one(&mut probe.period_seconds, 10);
    at_least_one(&mut probe.success_threshold, 1);
    at_least_one(&mut probe.failure_threshold, 3);
    if let Some(get) = &mut probe.http_get {
        http_get(get);
    }
    if let Some(grpc) = &mut probe.grpc {
        grpc.service.get_or_insert_default();
    }
}

fn handler(handler: &mut LifecycleHandler) {
    if let Some(get) = &mut handler.http_get {
        http_get(get);
    }
}

fn http_get(get: &mut HTTPGetAction) {
    get.path.get_or_insert_with(|| "/".to_owned());
    get.scheme.get_or_insert_with(|| "HTTP".to_owned());
}

fn volume(volume: &mut Volume) {
    if *volume
        == (Volume {
            name: volume.name.clone(),
            ..Volume::default()
        })
    {
        volume.empty_dir = Some(k8s_openapi::api::core::v1::EmptyDirVolumeSource::default());
    }
    if let Some(source) = &mut volume.secret {
        source.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(source) = &mut volume.config_map {
        source.default_mode.get_or_insert(FILE_MODE);
    }
    if let Some(source) = &mut volume.host_path {
        source.type_.get_or_insert_default();
    }
    if let Some(source) = &mut volume.downward_api {
        source.default_mode.get_or_insert(FILE_MODE);
        source.items.iter_mut().flatten().for_each(file);
    }
    let Some(source) = &mut volume.projected else { return };
    source.default_mode.get_or_insert(FILE_MODE);
    for projection in source.sources.iter_mut().flatten() {
        if let Some(token) = &mut projection.service_account_token {
            token.expiration_seconds.get_or_insert(TOKEN_SECONDS);
        }
        let files = projection
            .downward_api
            .iter_mut()
            .flat_map(|api| api.items.iter_mut().flatten());
        files.for_each(file);
    }
}

#[cfg(test)]
mod tests {
    use super::{PodSpec, pod_spec, pull_policy};
    use serde_json::json;

    /// `kubectl get -o yaml` of such a Pod shows `divisor: "0"`.
    #[test]
    fn a_reference_to_a_resource_has_a_divisor() {
        let reference = |divisor: &str| json!({"containerName": "main", "resource": "limits.cpu", "divisor": divisor});
        let pod = |divisor: &dyn Fn(&str) -> serde_json::Value| {
            let files = json!({"items": [{"path": "a", "resourceFieldRef": divisor("0")}]});
            json!({
                "containers": [{"name": "main", "env": [
                    {"name": "A", "valueFrom": {"resourceFieldRef": divisor("0")}},
                    {"name": "B", "valueFrom": {"resourceFieldRef": divisor("1m")}},
                ]}],
                "volumes": [
                    {"name": "a", "downwardAPI": files},
                    {"name": "b", "projected": {"sources": [{"downwardAPI": files}]}},
                ],
            })
        };
        let given = |divisor: &str| {
            let mut reference = reference(divisor);
            if divisor == "0" {
                reference.as_object_mut().unwrap().remove("divisor");
            }
            reference
        };
        let mut filled: PodSpec = serde_json::from_value(pod(&given)).unwrap();
        pod_spec(&mut filled);
        let mut expected: PodSpec = serde_json::from_value(pod(&reference)).unwrap();
        pod_spec(&mut expected);
        assert_eq!(filled, expected);
        assert!(json!(filled).to_string().contains(r#""divisor":"0""#));
    }

    #[test]
    fn the_latest_tag_is_pulled_always() {
        let cases = [
            ("nginx", "Always"),
            ("nginx:latest", "Always"),
            ("nginx:1.8.1", "IfNotPresent"),
            ("localhost:5000/nginx", "Always"),
            ("localhost:5000/nginx:1", "IfNotPresent"),
            ("nginx@sha256:0000", "IfNotPresent"),
            ("nginx:latest@sha256:0000", "Always"),
        ];
        for (image, policy) in cases {
            assert_eq!(pull_policy(image), policy, "{image}");
        }
    }
}
