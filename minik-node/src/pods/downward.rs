//! The downward API: what a Pod's fields and its containers' resources are to the container itself. Pure.
//!
//! Source: `pkg/fieldpath`, `pkg/api/v1/resource` (`ExtractContainerResourceValue`). Used by environment variables
//! and by volumes, which offer different fields; the API server refuses those that are not offered.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Container, Pod, ResourceFieldSelector};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::quantity::{Amount, div_up};

/// What is told that is not in the Pod object.
#[derive(Debug, Clone)]
pub struct PodFacts {
    /// Name of the node.
    pub node: String,
    /// Address of the node.
    pub host_ip: Ipv4Addr,
    /// Address of the Pod.
    pub pod_ip: Ipv4Addr,
}

/// A question that has no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum DownwardError {
    /// A field that is not offered.
    #[error("unsupported fieldPath: {0}")]
    Field(String),
    /// A resource that is not offered.
    #[error("unsupported container resource : {0}")]
    Resource(String),
    /// No such container.
    #[error("container {0} not found")]
    Container(String),
    /// An amount that is none.
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Amount(String),
}

/// A field of the Pod object itself, as volumes and variables have it.
pub fn field(pod: &Pod, path: &str) -> Result<String, DownwardError> {
    let metadata = &pod.metadata;
    let value = match path {
        "metadata.name" => metadata.name.clone(),
        "metadata.namespace" => metadata.namespace.clone(),
        "metadata.uid" => metadata.uid.clone(),
        "metadata.labels" => metadata.labels.as_ref().map(lines),
        "metadata.annotations" => metadata.annotations.as_ref().map(lines),
        _ => {
            let entry = |prefix: &str, map: &Option<BTreeMap<String, String>>| {
                let key = path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']")?;
                Some(map.as_ref().and_then(|map| map.get(key).cloned()).unwrap_or_default())
            };
            let found = entry("metadata.labels", &metadata.labels)
                .or_else(|| entry("metadata.annotations", &metadata.annotations));
            return found.ok_or_else(|| DownwardError::Field(path.to_owned()));
        }
    };
    Ok(value.unwrap_or_default())
}

/// A field as a variable has it: also where the Pod runs and at which addresses.
pub fn variable_field(pod: &Pod, path: &str, facts: &PodFacts) -> Result<String, DownwardError> {
    let account = || pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone());
    Ok(match path {
        "spec.nodeName" => facts.node.clone(),
        "spec.serviceAccountName" => account().unwrap_or_default(),
        "status.podIP" | "status.podIPs" => facts.pod_ip.to_string(),
        "status.hostIP" | "status.hostIPs" => facts.host_ip.to_string(),
        _ => return field(pod, path),
    })
}

/// Lines `key="value"`, sorted, with values as Go quotes them.
fn lines(map: &BTreeMap<String, String>) -> String {
    let lines: Vec<String> = map
        .iter()
        .map(|(key, value)| format!("{key}={}", quoted(value)))
        .collect();
    lines.join("\n")
}

fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            c if c.is_ascii_control() => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A resource of `container`, or of the one that the selector names. What has no limit is limited by the node.
pub fn resource(
    pod: &Pod,
    container: Option<&Container>,
    selector: &ResourceFieldSelector,
    allocatable: &BTreeMap<String, Quantity>,
) -> Result<String, DownwardError> {
    let named = selector.container_name.as_deref().filter(|name| !name.is_empty());
    let container = match named {
        None => container,
        Some(name) => {
            let spec = pod.spec.as_ref();
            let containers = spec.map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
            containers
                .into_iter()
                .flatten()
                .find(|container| container.name == name)
        }
    };
    let container = container.ok_or_else(|| DownwardError::Container(named.unwrap_or_default().to_owned()))?;
    let unknown = || DownwardError::Resource(selector.resource.clone());
    let (side, name) = selector.resource.split_once('.').ok_or_else(unknown)?;
    let offered = matches!(name, "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
    if !offered || !matches!(side, "limits" | "requests") {
        return Err(unknown());
    }
    let own = amount(container, side, name)?;
    let found = if side == "limits" && own.is_none_or(Amount::is_zero) {
        allocatable.get(name).map(|quantity| parse(&quantity.0)).transpose()?
    } else {
        own
    };
    let divisor = selector.divisor.as_ref().map(|divisor| parse(&divisor.0)).transpose()?;
    let divisor = divisor.filter(|divisor| !divisor.is_zero()).unwrap_or(Amount::ONE);
    let Some(found) = found else { return Ok("0".to_owned()) };
    let count = if name == "cpu" {
        div_up(found.millis(), divisor.millis())
    } else {
        div_up(found.units(), divisor.units())
    };
    Ok(count.to_string())
}

fn amount(container: &Container, side: &str, name: &str) -> Result<Option<Amount>, DownwardError> {
    let Some(resources) = &container.resources else {
        return Ok(None);
    };
    let amounts = if side == "limits" {
        &resources.limits
    } else {
        &resources.requests
    };
    let found = amounts.as_ref().and_then(|amounts| amounts.get(name));
    found.map(|quantity| parse(&quantity.0)).transpose()
}

fn parse(text: &str) -> Result<Amount, DownwardError> {
    Amount::parse(text).ok_or_else(|| DownwardError::Amount(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod() -> Pod {
        serde_json::from_value(json!({
            "metadata": {
                "name": "web", "namespace": "shop", "uid": "u1",
                "labels": {"b": "2", "a": "say \"hi\""},
                "annotations": {"note": "two\nlines\t\u{1}", "x/y": "z"},
            },
            "spec": {"serviceAccountName": "builder", "containers": [
                {"name": "main", "resources": {"limits": {"cpu": "1250m", "memory": "64Mi"}, "requests": {"cpu": "250m"}}},
                {"name": "side"},
            ]},
        }))
        .unwrap()
    }

    #[test]
    fn fields_are_told_as_the_kubelet_tells_them() {
        let facts = PodFacts {
            node: "worker1".to_owned(),
            host_ip: [172, 30, 0, 11].into(),
            pod_ip: [10, 244, 1, 2].into(),
        };
        for (path, expected) in [
            ("metadata.name", "web"),
            ("metadata.namespace", "shop"),
            ("metadata.uid", "u1"),
            ("metadata.labels['b']", "2"),
            ("metadata.labels['none']", ""),
            ("metadata.annotations['x/y']", "z"),
            ("metadata.labels", "a=\"say \\\"hi\\\"\"\nb=\"2\""),
            ("metadata.annotations", "note=\"two\\nlines\\t\\x01\"\nx/y=\"z\""),
            ("spec.nodeName", "worker1"),
            ("spec.serviceAccountName", "builder"),
            ("status.podIP", "10.244.1.2"),
            ("status.podIPs", "10.244.1.2"),
            ("status.hostIP", "172.30.0.11"),
            ("status.hostIPs", "172.30.0.11"),
        ] {
            assert_eq!(variable_field(&pod(), path, &facts).as_deref(), Ok(expected), "{path}");
        }
        let refused = DownwardError::Field("spec.hostname".to_owned());
        assert_eq!(variable_field(&pod(), "spec.hostname", &facts), Err(refused));
        assert!(field(&pod(), "spec.nodeName").is_err(), "no field of a volume");
    }

    #[test]
    fn resources_are_counted_in_their_divisor_and_rounded_up() {
        let node =
            [("cpu", "4"), ("memory", "8Gi")].map(|(name, amount)| (name.to_owned(), Quantity(amount.to_owned())));
        let node = node.into();
        let pod = pod();
        let own = &pod.spec.as_ref().unwrap().containers[0];
        for (resource_name, container, divisor, expected) in [
            ("limits.cpu", None, None, "2"),
            ("limits.cpu", None, Some("1m"), "1250"),
            ("limits.cpu", None, Some("0"), "2"),
            ("limits.memory", None, None, "67108864"),
            ("limits.memory", None, Some("1Mi"), "64"),
            ("requests.cpu", None, Some("1m"), "250"),
            ("requests.memory", None, None, "0"),
            ("limits.cpu", Some("side"), None, "4"),
            ("limits.memory", Some("side"), Some("1Gi"), "8"),
            ("limits.ephemeral-storage", None, None, "0"),
        ] {
            let selector = ResourceFieldSelector {
                resource: resource_name.to_owned(),
                container_name: container.map(str::to_owned),
                divisor: divisor.map(|text: &str| Quantity(text.to_owned())),
            };
            let found = resource(&pod, Some(own), &selector, &node);
            assert_eq!(found.as_deref(), Ok(expected), "{selector:?}");
        }
        let nobody = ResourceFieldSelector {
            resource: "limits.cpu".to_owned(),
            container_name: Some("none".to_owned()),
            divisor: None,
        };
        let error = resource(&pod, Some(own), &nobody, &node).unwrap_err();
        assert_eq!(error.to_string(), "container none not found");
    }
}
