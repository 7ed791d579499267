//! `/etc/resolv.conf` and `/etc/hosts` of a Pod, as the kubelet writes them. Pure.
//!
//! Source: `pkg/kubelet/network/dns` and `pkg/kubelet/kubelet_pods.go` (`managedHostsFileContent`).

use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::core::v1::PodSpec;

/// Limits of `pkg/apis/core/validation` that the kubelet cuts to.
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCH: usize = 32;

/// What of the cluster goes into a `resolv.conf`.
#[derive(Debug, Clone)]
pub struct ClusterDns {
    /// Address of the cluster's name server.
    pub address: Ipv4Addr,
    /// `cluster.local`
    pub domain: String,
}

#[derive(Debug, Default)]
struct Resolver {
    nameservers: Vec<String>,
    search: Vec<String>,
    options: Vec<String>,
}

/// Writes a Pod's `resolv.conf`. `machine` is the node's own file, for `dnsPolicy: Default`; without one the Pod is its
/// own name server, as with the kubelet's `--resolv-conf=""`.
#[must_use]
pub fn resolv_conf(spec: &PodSpec, namespace: &str, cluster: &ClusterDns, machine: Option<&str>) -> String {
    let host_network = spec.host_network.unwrap_or(false);
    let mut resolver = match spec.dns_policy.as_deref() {
        Some("None") => Resolver::default(),
        Some("Default") => of_machine(machine),
        Some("ClusterFirst") | None if host_network => of_machine(machine),
        _ => Resolver {
            nameservers: vec![cluster.address.to_string()],
            search: vec![
                format!("{namespace}.svc.{}", cluster.domain),
                format!("svc.{}", cluster.domain),
                cluster.domain.clone(),
            ],
            options: vec!["ndots:5".to_owned()],
        },
    };
    if let Some(config) = &spec.dns_config {
        merge(&mut resolver.nameservers, config.nameservers.iter().flatten().cloned());
        merge(&mut resolver.search, config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            resolver
                .options
                .retain(|present| present.split(':').next() != Some(name.as_str()));
            resolver.options.push(
                option
                    .value
                    .as_ref()
                    .map_or(name.clone(), |value| format!("{name}:{value}")),
            );
        }
    }
    resolver.nameservers.truncate(MAX_NAMESERVERS);
    resolver.search.truncate(MAX_SEARCH);
    render(&resolver)
}

fn merge(into: &mut Vec<String>, more: impl Iterator<Item = String>) {
    for item in more {
        if !into.contains(&item) {
            into.push(item);
        }
    }
}

/// The machine's settings without its loopback resolvers, which no Pod can reach.
fn of_machine(text: Option<&str>) -> Resolver {
    let Some(text) = text else {
        return Resolver {
            nameservers: vec![Ipv4Addr::LOCALHOST.to_string()],
            search: vec![".".to_owned()],
            options: Vec::new(),
        };
    };
    let mut resolver = Resolver::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let keyword = words.next();
        let words: Vec<String> = words.map(str::to_owned).collect();
        match keyword {
            Some("nameserver") => resolver
                .nameservers
                .extend(words.into_iter().take(1).filter(|word| reachable(word))),
            Some("search") => resolver.search = words,
            Some("options") => resolver.options.extend(words),
            _ => {}
        }
    }
    resolver
}

fn reachable(nameserver: &str) -> bool {
    nameserver.parse::<IpAddr>().is_ok_and(|address| !address.is_loopback())
}

/// In the kubelet's order: search, nameservers, options.
fn render(resolver: &Resolver) -> String {
    let mut text = String::new();
    if !resolver.search.is_empty() {
        text.push_str(&format!("search {}\n", resolver.search.join(" ")));
    }
    for nameserver in &resolver.nameservers {
        text.push_str(&format!("nameserver {nameserver}\n"));
    }
    if !resolver.options.is_empty() {
        text.push_str(&format!("options {}\n", resolver.options.join(" ")));
    }
    text
}

/// Writes a Pod's `hosts`. `domain` is `SUBDOMAIN.NAMESPACE.svc.DOMAIN` of a Pod with a subdomain.
#[must_use]
pub fn hosts(spec: &PodSpec, address: Ipv4Addr, hostname: &str, domain: Option<&str>) -> String {
    let mut text = String::from(
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
         fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
    );
    match domain {
        Some(domain) => text.push_str(&format!("{address}\t{hostname}.{domain}\t{hostname}\n")),
        None => text.push_str(&format!("{address}\t{hostname}\n")),
    }
    let aliases = spec.host_aliases.iter().flatten();
    let lines: Vec<String> = aliases
        .map(|alias| {
            format!(
                "{}\t{}\n",
                alias.ip,
                alias.hostnames.clone().unwrap_or_default().join("\t")
            )
        })
        .collect();
    if !lines.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        text.push_str(&lines.concat());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cluster() -> ClusterDns {
        ClusterDns {
            address: Ipv4Addr::new(10, 96, 0, 10),
            domain: "cluster.local".to_owned(),
        }
    }

    fn spec(json: serde_json::Value) -> PodSpec {
        serde_json::from_value(json).unwrap()
    }

    const MACHINE: &str = "nameserver 127.0.0.53\nnameserver 192.0.2.1\nsearch lan\noptions edns0\n";

    #[test]
    fn each_policy_gives_the_kubelet_s_file() {
        let first =
            "search shop.svc.cluster.local svc.cluster.local cluster.local\nnameserver 10.96.0.10\noptions ndots:5\n";
        for (spec_json, expected) in [
            (serde_json::json!({"containers": []}), first),
            (
                serde_json::json!({"containers": [], "dnsPolicy": "ClusterFirst"}),
                first,
            ),
            (
                serde_json::json!({"containers": [], "dnsPolicy": "ClusterFirstWithHostNet", "hostNetwork": true}),
                first,
            ),
            (
                serde_json::json!({"containers": [], "dnsPolicy": "Default"}),
                "search lan\nnameserver 192.0.2.1\noptions edns0\n",
            ),
            (
                serde_json::json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {"nameservers": ["192.0.2.7"], "options": [{"name": "ndots", "value": "2"}]}}),
                "nameserver 192.0.2.7\noptions ndots:2\n",
            ),
            (
                serde_json::json!({"containers": [], "dnsConfig": {"searches": ["example.org"], "options": [{"name": "ndots", "value": "1"}, {"name": "edns0"}]}}),
                "search shop.svc.cluster.local svc.cluster.local cluster.local example.org\nnameserver 10.96.0.10\noptions ndots:1 edns0\n",
            ),
        ] {
            assert_eq!(
                resolv_conf(&spec(spec_json.clone()), "shop", &cluster(), Some(MACHINE)),
                expected,
                "{spec_json}"
            );
        }
    }

    #[test]
    fn a_node_without_resolver_settings_gives_pods_none() {
        let spec = spec(serde_json::json!({"containers": [], "dnsPolicy": "Default"}));
        assert_eq!(
            resolv_conf(&spec, "shop", &cluster(), None),
            "search .\nnameserver 127.0.0.1\n"
        );
    }

    #[test]
    fn hosts_names_the_pod_and_its_aliases() {
        let spec =
            spec(serde_json::json!({"containers": [], "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["a", "b"]}]}));
        let text = hosts(
            &spec,
            Ipv4Addr::new(10, 244, 1, 2),
            "web-0",
            Some("web.shop.svc.cluster.local"),
        );
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
        assert!(text.contains("\n10.244.1.2\tweb-0.web.shop.svc.cluster.local\tweb-0\n"));
        assert!(text.ends_with("\n# Entries added by HostAliases.\n192.0.2.1\ta\tb\n"));
    }
}
