//! `GET /configz`: how this proxy is run, as a `KubeProxyConfiguration` (kubeproxy.config.k8s.io/v1alpha1).

use serde_json::{Value, json};

use super::{HEALTHZ, METRICS};
use crate::proxy::ProxyConfig;
use crate::proxy::iptables::kernel::LEGACY_LOOK;

/// The configuration under its group's name. Whatever is not minik's to choose has kube-proxy's default; limits of
/// connection tracking are the machine's (0: left as they are). `syncPeriod` is how often rules are looked for where the
/// kernel does not tell that somebody took them away.
pub fn configz(config: &ProxyConfig, mode: &str) -> Value {
    json!({"kubeproxy.config.k8s.io": {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "hostnameOverride": config.node,
        "bindAddress": "0.0.0.0",
        "bindAddressHardFail": false,
        "healthzBindAddress": HEALTHZ,
        "metricsBindAddress": METRICS,
        "enableProfiling": false,
        "mode": mode,
        "iptables": {
            "masqueradeBit": 14,
            "masqueradeAll": false,
            "localhostNodePorts": true,
            "syncPeriod": format!("{}s", LEGACY_LOOK.as_secs()),
            "minSyncPeriod": "0s",
        },
        "detectLocalMode": "ClusterCIDR",
        "clusterCIDR": config.cluster_cidr,
        "nodePortAddresses": null,
        "conntrack": {
            "maxPerCore": 0,
            "min": 0,
            "tcpEstablishedTimeout": "24h0m0s",
            "tcpCloseWaitTimeout": "1h0m0s",
            "tcpBeLiberal": false,
            "udpTimeout": "0s",
            "udpStreamTimeout": "0s",
        },
    }})
}
