//! The environment variables that tell a container about Services, as the kubelet makes them. Pure.
//!
//! Source: `pkg/kubelet/envvars` and `getServiceEnvVarMap`: Services with a cluster IP in the Pod's namespace
//! (unless `enableServiceLinks: false`) and always `default/kubernetes`.

use std::collections::BTreeMap;

use crate::model::{Protocol, Service};

/// Namespace of the Service that every container is told about.
const MASTER_NAMESPACE: &str = "default";
const MASTER_NAME: &str = "kubernetes";

/// Makes the variables that a container of `namespace` gets.
#[must_use]
pub fn variables<'a>(
    services: impl IntoIterator<Item = &'a Service>,
    namespace: &str,
    service_links: bool,
) -> BTreeMap<String, String> {
    let mut chosen: BTreeMap<&str, &Service> = BTreeMap::new();
    for service in services.into_iter().filter(|service| service.cluster_ip.is_some()) {
        let name = service.name.name.as_str();
        let master = service.name.namespace == MASTER_NAMESPACE && name == MASTER_NAME;
        if service.name.namespace == namespace && (service_links || master) {
            chosen.insert(name, service);
        } else if master {
            // A Service of that name in the Pod's own namespace comes first.
            chosen.entry(name).or_insert(service);
        }
    }
    let mut variables = BTreeMap::new();
    for service in chosen.into_values() {
        add(service, &mut variables);
    }
    variables
}

fn add(service: &Service, variables: &mut BTreeMap<String, String>) {
    let (Some(address), Some(first)) = (service.cluster_ip, service.ports.first()) else {
        return;
    };
    let prefix = shout(&service.name.name);
    let mut set = |name: String, value: String| drop(variables.insert(format!("{prefix}_{name}"), value));
    set("SERVICE_HOST".to_owned(), address.to_string());
    set("SERVICE_PORT".to_owned(), first.port.to_string());
    for port in service.ports.iter().filter(|port| !port.name.is_empty()) {
        set(format!("SERVICE_PORT_{}", shout(&port.name)), port.port.to_string());
    }
    for (index, port) in service.ports.iter().enumerate() {
        let protocol = match port.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Sctp => "sctp",
        };
        let url = format!("{protocol}://{address}:{}", port.port);
        if index == 0 {
            set("PORT".to_owned(), url.clone());
        }
        let port_prefix = format!("PORT_{}_{}", port.port, protocol.to_uppercase());
        set(port_prefix.clone(), url);
        set(format!("{port_prefix}_PROTO"), protocol.to_owned());
        set(format!("{port_prefix}_PORT"), port.port.to_string());
        set(format!("{port_prefix}_ADDR"), address.to_string());
    }
}

fn shout(name: &str) -> String {
    name.replace('-', "_").to_uppercase()
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1 as api;

    fn service(namespace: &str, name: &str, ip: &str, ports: &[(&str, i32, &str)]) -> Service {
        let ports = ports
            .iter()
            .map(|(name, port, protocol)| serde_json::json!({"name": name, "port": port, "protocol": protocol}));
        let object: api::Service = serde_json::from_value(serde_json::json!({
            "metadata": {"namespace": namespace, "name": name},
            "spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": ports.collect::<Vec<_>>()},
        }))
        .unwrap();
        Service::from_api(object).unwrap()
    }

    fn cluster() -> Vec<Service> {
        vec![
            service("default", "kubernetes", "10.96.0.1", &[("https", 443, "TCP")]),
            service("mytest", "myweb", "10.97.70.147", &[("80-80", 80, "TCP")]),
            service(
                "mytest",
                "kube-dns",
                "10.96.0.10",
                &[("dns", 53, "UDP"), ("dns-tcp", 53, "TCP")],
            ),
            service("mytest", "headless", "None", &[("", 80, "TCP")]),
            service("other", "far", "10.96.0.99", &[("", 80, "TCP")]),
        ]
    }

    #[test]
    fn a_named_port_gives_the_variables_of_the_kubelet() {
        let variables = variables(&cluster(), "mytest", true);
        let of_web: Vec<_> = variables
            .iter()
            .filter(|(name, _)| name.starts_with("MYWEB"))
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            of_web,
            [
                "MYWEB_PORT=tcp://10.97.70.147:80",
                "MYWEB_PORT_80_TCP=tcp://10.97.70.147:80",
                "MYWEB_PORT_80_TCP_ADDR=10.97.70.147",
                "MYWEB_PORT_80_TCP_PORT=80",
                "MYWEB_PORT_80_TCP_PROTO=tcp",
                "MYWEB_SERVICE_HOST=10.97.70.147",
                "MYWEB_SERVICE_PORT=80",
                "MYWEB_SERVICE_PORT_80_80=80",
            ]
        );
        assert_eq!(variables["KUBERNETES_SERVICE_PORT_HTTPS"], "443");
        assert_eq!(variables["KUBE_DNS_PORT"], "udp://10.96.0.10:53");
        assert_eq!(variables["KUBE_DNS_PORT_53_TCP"], "tcp://10.96.0.10:53");
        assert_eq!(variables["KUBE_DNS_SERVICE_PORT_DNS_TCP"], "53");
    }

    #[test]
    fn headless_and_foreign_services_are_left_out() {
        let variables = variables(&cluster(), "mytest", true);
        assert!(
            variables
                .keys()
                .all(|name| !name.starts_with("HEADLESS") && !name.starts_with("FAR"))
        );
    }

    #[test]
    fn without_links_only_kubernetes_is_left() {
        let variables = variables(&cluster(), "mytest", false);
        assert!(
            variables.keys().all(|name| name.starts_with("KUBERNETES_")) && variables.len() == 8,
            "{variables:?}"
        );
    }
}
