//! The objects that every cluster has from its first moment, as kubeadm and the API server make
//! them. Pure: configuration in, objects out.

use std::collections::BTreeMap;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Secret, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{ServiceCIDR, ServiceCIDRSpec};
use k8s_openapi::api::scheduling::v1::PriorityClass;
use k8s_openapi::api::storage::v1::StorageClass;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;

use super::config::ControllerConfig;
use crate::controllers::endpoints::{SERVICE_NAME, SKIP};
use crate::controllers::volumes::PROVISIONER;

/// The namespaces that always exist.
pub const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

const SYSTEM: &str = "kube-system";
const DNS_SECRET: &str = "minik-dns";

/// A namespace.
pub fn namespace(name: &str) -> Namespace {
    Namespace {
        metadata: ObjectMeta {
            name: Some(name.into()),
            ..ObjectMeta::default()
        },
        ..Namespace::default()
    }
}

/// ServiceCIDR `kubernetes`: the range that the cluster was made with.
pub fn service_cidr(config: &ControllerConfig) -> ServiceCIDR {
    ServiceCIDR {
        metadata: ObjectMeta {
            name: Some("kubernetes".into()),
            ..ObjectMeta::default()
        },
        spec: Some(ServiceCIDRSpec {
            cidrs: Some(vec![config.service_cidr.trunc().to_string()]),
        }),
        status: None,
    }
}

/// The priority classes of the system: name, value, what they are for.
#[must_use]
pub fn priority_classes() -> [PriorityClass; 2] {
    let class = |name: &str, value: i32, description: &str| PriorityClass {
        metadata: ObjectMeta {
            name: Some(name.into()),
            ..ObjectMeta::default()
        },
        value: Some(value),
        description: Some(description.into()),
        preemption_policy: Some("PreemptLowerPriority".into()),
        global_default: None,
    };
    [
        class(
            "system-node-critical",
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        class(
            "system-cluster-critical",
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
        ),
    ]
}

/// StorageClass `standard`, everyone's default: directories of this machine's disk, made when a Pod needs one.
#[must_use]
pub fn storage_class() -> StorageClass {
    let default = (
        "storageclass.kubernetes.io/is-default-class".to_owned(),
        "true".to_owned(),
    );
    StorageClass {
        metadata: ObjectMeta {
            name: Some("standard".into()),
            annotations: Some([default].into()),
            ..ObjectMeta::default()
        },
        provisioner: PROVISIONER.into(),
        reclaim_policy: Some("Delete".into()),
        volume_binding_mode: Some("WaitForFirstConsumer".into()),
        ..StorageClass::default()
    }
}

/// Service `default/kubernetes`: the API server, at the first address of the service range.
///
/// # Errors
/// None for valid configuration; the object is spelt as JSON.
pub fn kubernetes_service(config: &ControllerConfig) -> Result<Service, serde_json::Error> {
    serde_json::from_value(json!({
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": config.kubernetes_address(),
            "clusterIPs": [config.kubernetes_address()],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": config.advertise_port}],
        },
    }))
}

/// The Endpoints of [`kubernetes_service`].
///
/// # Errors
/// As there.
pub fn kubernetes_endpoints(config: &ControllerConfig) -> Result<Endpoints, serde_json::Error> {
    serde_json::from_value(json!({
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {SKIP: "true"}},
        "subsets": [{
            "addresses": [{"ip": config.advertise_address}],
            "ports": [{"name": "https", "port": config.advertise_port, "protocol": "TCP"}],
        }],
    }))
}

/// The EndpointSlice of [`kubernetes_service`].
///
/// # Errors
/// As there.
pub fn kubernetes_slice(config: &ControllerConfig) -> Result<EndpointSlice, serde_json::Error> {
    serde_json::from_value(json!({
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": {SERVICE_NAME: "kubernetes"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [config.advertise_address], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": config.advertise_port, "protocol": "TCP"}],
    }))
}

/// Service `kube-system/kube-dns`.
///
/// # Errors
/// As for [`kubernetes_service`].
pub fn dns_service(config: &ControllerConfig) -> Result<Service, serde_json::Error> {
    serde_json::from_value(json!({
        "metadata": {
            "name": "kube-dns",
            "namespace": SYSTEM,
            "labels": {
                "k8s-app": "kube-dns",
                "kubernetes.io/cluster-service": "true",
                "kubernetes.io/name": "CoreDNS",
            },
            "annotations": {"prometheus.io/port": "9153", "prometheus.io/scrape": "true"},
        },
        "spec": {
            "clusterIP": config.cluster_dns,
            "clusterIPs": [config.cluster_dns],
            "selector": {"k8s-app": "kube-dns"},
            "ports": [
                {"name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53},
                {"name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53},
                {"name": "metrics", "port": 9153, "protocol": "TCP", "targetPort": 9153},
            ],
        },
    }))
}

/// Deployment `kube-system/coredns`: minik's own DNS server under the name that people look for.
///
/// # Errors
/// As for [`kubernetes_service`].
pub fn dns_deployment(config: &ControllerConfig) -> Result<Deployment, serde_json::Error> {
    let labels = json!({"k8s-app": "kube-dns"});
    let container = json!({
        "name": "coredns",
        "image": concat!("minik/dns:v", env!("CARGO_PKG_VERSION")),
        "imagePullPolicy": "IfNotPresent",
        "args": [
            "--domain", config.cluster_domain,
            "--listen", "0.0.0.0:53",
            "--kubeconfig", "/etc/minik-dns/kubeconfig",
        ],
        "ports": [
            {"name": "dns", "containerPort": 53, "protocol": "UDP"},
            {"name": "dns-tcp", "containerPort": 53, "protocol": "TCP"},
            {"name": "metrics", "containerPort": 9153, "protocol": "TCP"},
        ],
        "resources": {"limits": {"memory": "170Mi"}, "requests": {"cpu": "100m", "memory": "70Mi"}},
        "volumeMounts": [{"name": "credentials", "mountPath": "/etc/minik-dns", "readOnly": true}],
    });
    serde_json::from_value(json!({
        "metadata": {"name": "coredns", "namespace": SYSTEM, "labels": labels},
        "spec": {
            "replicas": 2,
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1}},
            "selector": {"matchLabels": labels},
            "template": {
                "metadata": {"labels": labels},
                "spec": {
                    "priorityClassName": "system-cluster-critical",
                    "serviceAccountName": "coredns",
                    "dnsPolicy": "Default",
                    "nodeSelector": {"kubernetes.io/os": "linux"},
                    "tolerations": [
                        {"key": "CriticalAddonsOnly", "operator": "Exists"},
                        {"key": "node-role.kubernetes.io/control-plane", "effect": "NoSchedule"},
                    ],
                    "containers": [container],
                    "volumes": [{"name": "credentials", "secret": {"secretName": DNS_SECRET}}],
                },
            },
        },
    }))
}

/// ServiceAccount `kube-system/coredns`, which the DNS Pods run as.
pub fn dns_account() -> ServiceAccount {
    ServiceAccount {
        metadata: system("coredns"),
        ..ServiceAccount::default()
    }
}

/// Secret `kube-system/minik-dns`: how the DNS server reaches the API server.
pub fn dns_secret(config: &ControllerConfig) -> Secret {
    let kubeconfig = k8s_openapi::ByteString(config.dns_kubeconfig.clone().into_bytes());
    Secret {
        metadata: system(DNS_SECRET),
        data: Some(BTreeMap::from([("kubeconfig".into(), kubeconfig)])),
        type_: Some("Opaque".into()),
        ..Secret::default()
    }
}

/// ConfigMap `kube-system/kube-proxy`: the service proxy's configuration in kube-proxy's own form,
/// an empty `mode` meaning iptables.
pub fn proxy_config(config: &ControllerConfig) -> ConfigMap {
    let text = format!(
        "apiVersion: kubeproxy.config.k8s.io/v1alpha1\n\
         bindAddress: 0.0.0.0\n\
         clusterCIDR: {}\n\
         detectLocalMode: \"\"\n\
         kind: KubeProxyConfiguration\n\
         metricsBindAddress: \"\"\n\
         mode: \"\"\n",
        config.pod_cidr
    );
    let mut metadata = system("kube-proxy");
    metadata.labels = Some(BTreeMap::from([("app".into(), "kube-proxy".into())]));
    ConfigMap {
        metadata,
        data: Some(BTreeMap::from([("config.conf".into(), text)])),
        ..ConfigMap::default()
    }
}

fn system(name: &str) -> ObjectMeta {
    ObjectMeta {
        name: Some(name.into()),
        namespace: Some(SYSTEM.into()),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ControllerConfig {
        ControllerConfig {
            service_cidr: "10.96.0.0/12".parse().unwrap(),
            pod_cidr: "10.244.0.0/16".parse().unwrap(),
            cluster_domain: "example.com".into(),
            cluster_dns: "10.96.0.10".parse().unwrap(),
            advertise_address: "172.30.0.10".parse().unwrap(),
            advertise_port: 6443,
            dns_kubeconfig: "kind: Config\n".into(),
            volumes_dir: "/nonexistent".into(),
            root_ca_pem: "a certificate".into(),
        }
    }

    #[test]
    fn the_api_server_is_the_first_address_of_the_range_and_points_to_the_node() {
        let service = kubernetes_service(&config()).unwrap();
        assert_eq!(service.spec.unwrap().cluster_ip.as_deref(), Some("10.96.0.1"));
        let slice = serde_json::to_value(kubernetes_slice(&config()).unwrap()).unwrap();
        assert_eq!(slice["endpoints"][0]["addresses"], json!(["172.30.0.10"]));
        assert_eq!(
            slice["ports"],
            json!([{"name": "https", "port": 6443, "protocol": "TCP"}])
        );
        let endpoints = serde_json::to_value(kubernetes_endpoints(&config()).unwrap()).unwrap();
        assert_eq!(endpoints["subsets"][0]["addresses"][0]["ip"], "172.30.0.10");
    }

    #[test]
    fn dns_selects_its_own_pods_and_serves_the_configured_domain() {
        let deployment = dns_deployment(&config()).unwrap().spec.unwrap();
        let labels = deployment.template.metadata.unwrap().labels;
        assert_eq!(labels, dns_service(&config()).unwrap().spec.unwrap().selector);
        let args = deployment.template.spec.unwrap().containers.remove(0).args.unwrap();
        assert!(args.windows(2).any(|pair| pair == ["--domain", "example.com"]));
    }

    /// A lesson runs `kubectl get configmaps kube-proxy -n kube-system -o yaml | grep -i mode` and finds
    /// `detectLocalMode: ""` and `mode: ""`.
    #[test]
    fn the_proxy_mode_is_found_as_the_lesson_finds_it() {
        let data = proxy_config(&config()).data.unwrap();
        let modes: Vec<_> = data["config.conf"]
            .lines()
            .filter(|line| line.to_lowercase().contains("mode"))
            .collect();
        assert_eq!(modes, ["detectLocalMode: \"\"", "mode: \"\""]);
    }
}
