//! `/etc/resolv.conf` and `/etc/hosts` of a Pod, as the kubelet writes them. Pure.
//!
//! Source: `pkg/kubelet/network/dns` and `pkg/kubelet/kubelet_pods.go` (`managedHostsFileContent`).

use std::net::{IpAddr, Ipv4Addr};

use k8s_openapi::api::core::v1::{HostAlias, PodSpec};

/// Limits of `pkg/apis/core/validation` that the kubelet cuts to.
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCH: usize = 32;
const MAX_SEARCH_CHARS: usize = 2048;

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

/// A Pod's `resolv.conf`, and what did not fit in: texts of `DNSConfigForming` events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolvConf {
    /// The file.
    pub text: String,
    /// Texts of events.
    pub omitted: Vec<String>,
}

/// Writes a Pod's `resolv.conf`. `machine` is the node's own file, for `dnsPolicy: Default`; without one the Pod is its
/// own name server, as with the kubelet's `--resolv-conf=""`.
#[must_use]
pub fn resolv_conf(spec: &PodSpec, namespace: &str, cluster: &ClusterDns, machine: Option<&str>) -> ResolvConf {
    let host_network = spec.host_network.unwrap_or(false);
    let mut resolver = match spec.dns_policy.as_deref() {
        Some("None") => Resolver::default(),
        Some("Default") => of_machine(machine),
        Some("ClusterFirst") | None if host_network => of_machine(machine),
        _ => Resolver {
            nameservers: vec![cluster.address.to_string()],
            search: cluster_search(namespace, &cluster.domain, machine),
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
    let omitted = fit(&mut resolver);
    ResolvConf {
        text: render(&resolver),
        omitted,
    }
}

/// The cluster's domains, and behind them those of the node.
fn cluster_search(namespace: &str, domain: &str, machine: Option<&str>) -> Vec<String> {
    let mut search = vec![
        format!("{namespace}.svc.{domain}"),
        format!("svc.{domain}"),
        domain.to_owned(),
    ];
    if let Some(text) = machine {
        merge(&mut search, of_machine(Some(text)).search.into_iter());
    }
    search
}

/// Cuts to what resolvers take, and says so.
fn fit(resolver: &mut Resolver) -> Vec<String> {
    let mut omitted = Vec::new();
    if resolver.nameservers.len() > MAX_NAMESERVERS {
        resolver.nameservers.truncate(MAX_NAMESERVERS);
        let line = resolver.nameservers.join(" ");
        omitted.push(format!(
            "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {line}"
        ));
    }
    let all = resolver.search.len();
    resolver.search.truncate(MAX_SEARCH);
    while resolver.search.join(" ").len() > MAX_SEARCH_CHARS {
        resolver.search.pop();
    }
    if resolver.search.len() < all {
        let line = resolver.search.join(" ");
        omitted.push(format!(
            "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {line}"
        ));
    }
    omitted
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
            // `lan.` and `lan` are one domain; `.` alone is another.
            Some("search") => {
                let trimmed = |word: String| match word.strip_suffix('.') {
                    Some(rest) if !rest.is_empty() => rest.to_owned(),
                    _ => word,
                };
                resolver.search = words.into_iter().map(trimmed).collect();
            }
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

/// Writes the `hosts` of a Pod in the node's network: the node's own file, and the Pod's aliases.
#[must_use]
pub fn node_hosts(spec: &PodSpec, node: &str) -> String {
    format!(
        "# Kubernetes-managed hosts file (host network).\n{node}{}",
        aliases(spec)
    )
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
    text + &aliases(spec)
}

fn aliases(spec: &PodSpec) -> String {
    let aliases = spec.host_aliases.iter().flatten();
    let line = |alias: &HostAlias| {
        let names = alias.hostnames.clone().unwrap_or_default().join("\t");
        format!("{}\t{names}\n", alias.ip)
    };
    let lines: String = aliases.map(line).collect();
    if lines.is_empty() {
        return lines;
    }
    format!("\n# Entries added by HostAliases.\n{lines}")
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

    const MACHINE: &str = "nameserver 127.0.0.53\nnameserver 192.0.2.1\nsearch lan.\noptions edns0\n";

    #[test]
    fn each_policy_gives_the_kubelet_s_file() {
        let first = "search shop.svc.cluster.local svc.cluster.local cluster.local lan\nnameserver 10.96.0.10\noptions ndots:5\n";
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
                "search shop.svc.cluster.local svc.cluster.local cluster.local lan example.org\nnameserver 10.96.0.10\noptions ndots:1 edns0\n",
            ),
        ] {
            assert_eq!(
                resolv_conf(&spec(spec_json.clone()), "shop", &cluster(), Some(MACHINE)).text,
                expected,
                "{spec_json}"
            );
        }
    }

    #[test]
    fn a_node_without_resolver_settings_gives_pods_none() {
        let spec = spec(serde_json::json!({"containers": [], "dnsPolicy": "Default"}));
        assert_eq!(
            resolv_conf(&spec, "shop", &cluster(), None).text,
            "search .\nnameserver 127.0.0.1\n"
        );
    }

    #[test]
    fn what_resolvers_do_not_take_is_left_out_and_said() {
        let many: Vec<String> = (1..=4).map(|n| format!("192.0.2.{n}")).collect();
        let config = serde_json::json!({"nameservers": many, "searches": [format!("{}.a", "x".repeat(1200)), format!("{}.b", "y".repeat(900))]});
        let spec = spec(serde_json::json!({"containers": [], "dnsPolicy": "None", "dnsConfig": config}));
        let conf = resolv_conf(&spec, "shop", &cluster(), None);
        let (first, left) = ("x".repeat(1200), "192.0.2.1 192.0.2.2 192.0.2.3");
        assert_eq!(
            conf.omitted,
            [
                format!(
                    "Nameserver limits were exceeded, some nameservers have been omitted, the applied nameserver line is: {left}"
                ),
                format!(
                    "Search Line limits were exceeded, some search paths have been omitted, the applied search line is: {first}.a"
                ),
            ]
        );
        let servers = "nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n";
        assert_eq!(conf.text, format!("search {first}.a\n{servers}"));
    }

    #[test]
    fn a_pod_in_the_nodes_network_has_the_nodes_hosts() {
        let spec = spec(
            serde_json::json!({"containers": [], "hostNetwork": true, "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["a"]}]}),
        );
        assert_eq!(
            node_hosts(&spec, "127.0.0.1\tlocalhost\n"),
            "# Kubernetes-managed hosts file (host network).\n127.0.0.1\tlocalhost\n\n# Entries added by HostAliases.\n192.0.2.1\ta\n"
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
