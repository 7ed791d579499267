//! Which namespaces the containers of a Pod share, and what is set in them. Pure.
//!
//! Source of what may be set: the safe parameters of `pkg/kubelet/sysctl`, each of which belongs to one namespace.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::PodSpec;

use crate::runtime::spec::{Processes, Shares};

const OF_IPC: [&str; 1] = ["kernel.shm_rmid_forced"];
const OF_NET: [&str; 11] = [
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.ping_group_range",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.tcp_wmem",
];

/// Why a Pod may not set the parameters that it names.
#[must_use]
pub fn forbidden_sysctl(spec: &PodSpec) -> Option<String> {
    let context = spec.security_context.as_ref()?;
    let error = |name: &str| {
        let name = sysctl_path(name).to_string_lossy().replace('/', ".");
        let shared = |namespace: &str| format!("{name:?} not allowed with host {namespace} enabled");
        if OF_IPC.contains(&name.as_str()) {
            (spec.host_ipc == Some(true)).then(|| shared("ipc"))
        } else if OF_NET.contains(&name.as_str()) {
            (spec.host_network == Some(true)).then(|| shared("net"))
        } else {
            Some(format!("{name:?} not allowlisted"))
        }
    };
    context.sysctls.iter().flatten().find_map(|sysctl| error(&sysctl.name))
}

/// What `hostPID`, `shareProcessNamespace`, `hostIPC` and `sysctls` say.
pub fn shares(spec: &PodSpec) -> Shares {
    let context = spec.security_context.as_ref();
    let sysctls = context.into_iter().flat_map(|context| context.sysctls.iter().flatten());
    Shares {
        processes: match (spec.host_pid, spec.share_process_namespace) {
            (Some(true), _) => Processes::Node,
            (_, Some(true)) => Processes::Pod,
            _ => Processes::Container,
        },
        node_ipc: spec.host_ipc.unwrap_or(false),
        sysctls: sysctls
            .map(|sysctl| (sysctl_path(&sysctl.name), sysctl.value.clone()))
            .collect(),
    }
}

/// A parameter's name may be written with dots or with slashes; the first of them says with which.
fn sysctl_path(name: &str) -> PathBuf {
    let dotted = name.find(['.', '/']).is_some_and(|at| name.as_bytes()[at] == b'.');
    let swapped = name.chars().map(|c| match c {
        '.' if dotted => '/',
        '/' if dotted => '.',
        other => other,
    });
    PathBuf::from(swapped.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_the_pods_own_may_be_set() {
        for (name, field, expected) in [
            ("net.ipv4.tcp_syncookies", "", None),
            ("net/ipv4/tcp_syncookies", "", None),
            ("kernel.shm_rmid_forced", "hostNetwork", None),
            ("vm.swappiness", "", Some("\"vm.swappiness\" not allowlisted")),
            (
                "net.ipv4.ip_forward",
                "",
                Some("\"net.ipv4.ip_forward\" not allowlisted"),
            ),
            (
                "net.ipv4.tcp_rmem",
                "hostNetwork",
                Some("\"net.ipv4.tcp_rmem\" not allowed with host net enabled"),
            ),
            (
                "kernel.shm_rmid_forced",
                "hostIPC",
                Some("\"kernel.shm_rmid_forced\" not allowed with host ipc enabled"),
            ),
        ] {
            let context = serde_json::json!({"sysctls": [{"name": name, "value": "1"}]});
            let mut spec = serde_json::json!({"containers": [], "securityContext": context});
            if !field.is_empty() {
                spec[field] = true.into();
            }
            let spec: PodSpec = serde_json::from_value(spec).unwrap();
            assert_eq!(forbidden_sysctl(&spec).as_deref(), expected, "{name} {field}");
        }
    }

    #[test]
    fn parameters_may_be_written_in_two_ways() {
        for (name, path) in [
            ("net.ipv4.ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/ip_forward", "net/ipv4/ip_forward"),
            ("net/ipv4/conf/eth0.1/rp_filter", "net/ipv4/conf/eth0.1/rp_filter"),
            ("net.ipv4.conf.eth0/1.rp_filter", "net/ipv4/conf/eth0.1/rp_filter"),
        ] {
            assert_eq!(sysctl_path(name), PathBuf::from(path), "{name}");
        }
    }
}
