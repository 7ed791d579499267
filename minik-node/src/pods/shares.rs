//! Which namespaces the containers of a Pod share, and what is set in them. Pure.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::PodSpec;

use crate::runtime::spec::{Processes, Shares};

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
