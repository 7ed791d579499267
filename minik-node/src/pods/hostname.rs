//! What a Pod is called, inside and in DNS. Pure.
//!
//! Source: `GeneratePodHostNameAndDomain` of `pkg/kubelet` and `GetNodenameForKernel` of `pkg/kubelet/util`.

use k8s_openapi::api::core::v1::Pod;

/// Longest label of a DNS name.
const MAX_LABEL: usize = 63;
/// Longest host name of the kernel.
const MAX_KERNEL: usize = 64;

/// A Pod's names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// What `hostname` prints, and `$HOSTNAME`.
    pub kernel: String,
    /// The host name without its domain.
    pub host: String,
    /// `SUBDOMAIN.NAMESPACE.svc.DOMAIN` of a Pod with a subdomain.
    pub domain: Option<String>,
}

/// A name that the kernel does not take.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long ({MAX_KERNEL} characters is the max, {} characters requested)",
    fqdn.len()
)]
pub struct TooLong {
    fqdn: String,
}

/// Names a Pod that runs on `node`; one in the node's network is called as the node.
pub fn names(pod: &Pod, node: &str, cluster_domain: &str) -> Result<Names, TooLong> {
    let Some(spec) = &pod.spec else {
        return Ok(only(node));
    };
    if spec.host_network == Some(true) {
        return Ok(only(node));
    }
    if let Some(name) = spec.hostname_override.as_deref().filter(|name| !name.is_empty()) {
        return Ok(only(name));
    }
    let given = spec.hostname.as_deref().filter(|name| !name.is_empty());
    let host = match given {
        Some(name) => name.to_owned(),
        None => cut(pod.metadata.name.as_deref().unwrap_or_default()),
    };
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let subdomain = spec.subdomain.as_deref().filter(|name| !name.is_empty());
    let domain = subdomain.map(|name| format!("{name}.{namespace}.svc.{cluster_domain}"));
    let kernel = match (&domain, spec.set_hostname_as_fqdn) {
        (Some(domain), Some(true)) => format!("{host}.{domain}"),
        _ => host.clone(),
    };
    if kernel.len() > MAX_KERNEL {
        return Err(TooLong { fqdn: kernel });
    }
    Ok(Names { kernel, host, domain })
}

fn only(name: &str) -> Names {
    Names {
        kernel: name.to_owned(),
        host: name.to_owned(),
        domain: None,
    }
}

/// A Pod's name is longer than a host's may be.
fn cut(name: &str) -> String {
    if name.len() <= MAX_LABEL {
        return name.to_owned();
    }
    name[..MAX_LABEL].trim_end_matches(['-', '.']).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn named(name: &str, spec: Value) -> Result<Names, String> {
        let mut pod = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": {"containers": []}});
        for (key, value) in spec.as_object().unwrap() {
            pod["spec"][key] = value.clone();
        }
        let pod: Pod = serde_json::from_value(pod).unwrap();
        names(&pod, "worker1", "cluster.local").map_err(|error| error.to_string())
    }

    #[test]
    fn fields_decide_what_a_pod_is_called() {
        let domain = Some("db.shop.svc.cluster.local");
        let long = format!("{}-tail", "a".repeat(62));
        let cut = "a".repeat(62);
        for (name, spec, kernel, host, domain) in [
            ("web", json!({}), "web", "web", None),
            ("web", json!({"hostname": "one"}), "one", "one", None),
            ("web", json!({"subdomain": "db"}), "web", "web", domain),
            (
                "web",
                json!({"hostname": "one", "subdomain": "db"}),
                "one",
                "one",
                domain,
            ),
            (
                "web",
                json!({"subdomain": "db", "setHostnameAsFQDN": true}),
                "web.db.shop.svc.cluster.local",
                "web",
                domain,
            ),
            ("web", json!({"setHostnameAsFQDN": true}), "web", "web", None),
            (
                "web",
                json!({"hostname": "one", "subdomain": "db", "hostNetwork": true}),
                "worker1",
                "worker1",
                None,
            ),
            (
                "web",
                json!({"hostnameOverride": "Any.name", "subdomain": "db"}),
                "Any.name",
                "Any.name",
                None,
            ),
            (&long, json!({}), &cut, &cut, None),
        ] {
            let found = named(name, spec.clone()).unwrap();
            assert_eq!(
                (found.kernel.as_str(), found.host.as_str(), found.domain.as_deref()),
                (kernel, host, domain),
                "{spec}"
            );
        }
        let host = "a".repeat(40);
        let error = named(
            "web",
            json!({"hostname": host, "subdomain": "db", "setHostnameAsFQDN": true}),
        )
        .unwrap_err();
        let fqdn = format!("{host}.db.shop.svc.cluster.local");
        assert_eq!(
            error,
            format!(
                "failed to construct FQDN from pod hostname and cluster domain, FQDN {fqdn} is too long (64 characters is the max, 66 characters requested)"
            )
        );
    }
}
