//! The way out of the machine for a cluster with `--egress`: what the machine's own namespace forwards for it, and
//! under which address.
//!
//! Owns one nftables table named `minik.CLUSTER`. Forwarding is turned on for single links, since `ip_forward` would
//! change every link and `accept_redirects` with them, and could not be put back as it was. Which links that was is
//! kept in the table, in set `borrowed`: [`close`] needs no other memory, and a link that several clusters borrow
//! stays on until the last of them goes.
//!
//! [`opening`] and [`closing`] decide, purely; [`open`] and [`close`] look and act.

use std::collections::{BTreeMap, BTreeSet};

use minik_node::kernel::link::LinkError;
use minik_node::kernel::netns::{NetNs, NetNsError};
use minik_node::kernel::nft::{self, NftError};
use minik_node::kernel::route::RouteError;
use minik_node::kernel::sysctl::{self, SysctlError};
use minik_node::kernel::veth::Place;
use serde_json::Value;

use super::underlay::outside_link;
use crate::cluster::ClusterSpec;

/// The set that remembers.
const BORROWED: &str = "borrowed";

/// What failed.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The tables there are could not be read, or ours not written.
    #[error("let Pods out of the machine")]
    Rules(#[from] NftError),
    /// Forwarding of a link.
    #[error("forward packets of the cluster")]
    Forwarding(#[from] SysctlError),
    /// The machine's own namespace.
    #[error(transparent)]
    Namespace(#[from] NetNsError),
    /// Its links.
    #[error("look for the way out of the machine")]
    Links(#[from] LinkError),
    /// Its routes.
    #[error("look for the way out of the machine")]
    Routes(#[from] RouteError),
}

/// What of the machine matters here.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Observed {
    /// Whether packets that arrive by a link are forwarded; `all` stands for `ip_forward`.
    pub forwarding: BTreeMap<String, bool>,
    /// Links by which the machine reaches others: those with a route through a gateway, or a default route.
    pub uplinks: BTreeSet<String>,
    /// Links borrowed by each cluster that has a table.
    pub borrowed: BTreeMap<String, BTreeSet<String>>,
}

/// How a cluster's way out is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// The table, for nft. First: it remembers what the next step changes.
    pub script: String,
    /// Links whose packets must be forwarded and are not.
    pub forward: BTreeSet<String>,
}

/// How it is closed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Closing {
    /// Links whose packets were not forwarded before. First: the table remembers them until that is done.
    pub stop_forwarding: BTreeSet<String>,
    /// The table's end, for nft; `None` without a table.
    pub script: Option<String>,
}

/// What makes the way out as it should be. Pure.
#[must_use]
pub fn opening(spec: &ClusterSpec, observed: &Observed) -> Opening {
    let lab = outside_link(&spec.name);
    let is_off = |link: &String| observed.forwarding.get(link) == Some(&false);
    let by_anyone: BTreeSet<&String> = observed.borrowed.values().flatten().collect();
    let own = observed.borrowed.get(&spec.name).cloned().unwrap_or_default();
    // What another cluster has borrowed is on by now, and is ours as well from here on.
    let new = observed
        .uplinks
        .iter()
        .filter(|link| is_off(link) || by_anyone.contains(link));
    let borrowed: BTreeSet<String> = own.into_iter().chain(new.cloned()).collect();
    let mut forward: BTreeSet<String> = observed.uplinks.iter().filter(|link| is_off(link)).cloned().collect();
    if is_off(&lab) {
        forward.insert(lab.clone());
    }
    Opening {
        script: table(spec, &lab, &borrowed),
        forward,
    }
}

/// What takes the cluster's way out away again. Pure.
#[must_use]
pub fn closing(cluster: &str, observed: &Observed) -> Closing {
    let Some(own) = observed.borrowed.get(cluster) else {
        return Closing::default();
    };
    let others: BTreeSet<&String> = observed
        .borrowed
        .iter()
        .filter(|(name, _)| *name != cluster)
        .flat_map(|(_, links)| links)
        .collect();
    // Whoever has turned forwarding on for the machine as a whole since then wants it on every link.
    let all = observed.forwarding.get("all") == Some(&true);
    let stop_forwarding = own
        .iter()
        .filter(|link| !all && !others.contains(link) && observed.forwarding.get(*link) == Some(&true));
    Closing {
        stop_forwarding: stop_forwarding.cloned().collect(),
        script: Some(format!("delete table ip {}\n", table_name(cluster))),
    }
}

/// `minik.CLUSTER`, like the outside world's link.
fn table_name(cluster: &str) -> String {
    format!("minik.{cluster}")
}

/// Replaces the table in one transaction.
///
/// Chain `forward` keeps the machine from becoming a router for its neighbours: by links that did not forward before,
/// only answers and what a rule has redirected (another program's published ports) come in. Chain `postrouting` gives
/// what leaves the machine's address; nobody out there knows the way to a Pod.
fn table(spec: &ClusterSpec, lab: &str, borrowed: &BTreeSet<String>) -> String {
    let name = table_name(&spec.name);
    let elements = if borrowed.is_empty() {
        String::new()
    } else {
        let links: Vec<String> = borrowed.iter().map(|link| format!("\"{link}\"")).collect();
        format!("\n\t\telements = {{ {} }}", links.join(", "))
    };
    format!(
        r#"add table ip {name}
delete table ip {name}
table ip {name} {{
	set {BORROWED} {{
		type ifname
		comment "links that did not forward before this cluster"{elements}
	}}
	chain forward {{
		type filter hook forward priority filter; policy accept;
		iifname @{BORROWED} ct state established,related accept
		iifname @{BORROWED} ct status dnat accept
		iifname @{BORROWED} drop
	}}
	chain postrouting {{
		type nat hook postrouting priority srcnat; policy accept;
		oifname != "{lab}" ip saddr {{ {nodes}, {pods} }} masquerade
	}}
}}
"#,
        nodes = spec.node_network_cidr.trunc(),
        pods = spec.pod_network_cidr.trunc(),
    )
}

/// Opens the way out, or mends it, in `machine`, where the cluster's link is already.
///
/// # Errors
/// Whatever kept the machine from being looked at or changed.
pub(super) async fn open(spec: &ClusterSpec, machine: &Place) -> Result<(), EgressError> {
    let observed = Observed {
        uplinks: uplinks(machine).await?,
        ..look(&machine.netns)?
    };
    let opening = opening(spec, &observed);
    machine.netns.run(|| {
        nft::load(&opening.script)?;
        opening
            .forward
            .iter()
            .try_for_each(|link| sysctl::set_forwarding(link, true))?;
        Ok(())
    })?
}

/// Closes it in the calling thread's namespace; returns a line for each thing undone.
///
/// # Errors
/// Whatever kept the machine from being looked at or changed.
pub(super) fn close(cluster: &str) -> Result<Vec<String>, EgressError> {
    let observed = match look(&NetNs::current()?) {
        // Then no cluster can have been given a way out.
        Err(EgressError::Rules(error)) if error.is_missing_program() => return Ok(Vec::new()),
        observed => observed?,
    };
    let closing = closing(cluster, &observed);
    let mut undone = Vec::new();
    for link in &closing.stop_forwarding {
        sysctl::set_forwarding(link, false)?;
        undone.push(format!("forwarding of link {link}"));
    }
    if let Some(script) = &closing.script {
        nft::load(script)?;
        undone.push(format!("nftables table ip {}", table_name(cluster)));
    }
    Ok(undone)
}

/// All but the uplinks.
fn look(machine: &NetNs) -> Result<Observed, EgressError> {
    machine.run(|| {
        Ok(Observed {
            forwarding: sysctl::forwarding()?,
            uplinks: BTreeSet::new(),
            borrowed: nft::list(&["sets", "ip"])?.iter().filter_map(borrowed_links).collect(),
        })
    })?
}

async fn uplinks(machine: &Place) -> Result<BTreeSet<String>, EgressError> {
    let links = machine.netlink.links().await?;
    let routes = machine.netlink.routes().await?;
    let beyond = routes
        .into_iter()
        .filter(|(_, route)| !route.gateways.is_empty() || route.destination.prefix_len() == 0);
    let names = beyond.filter_map(|(link, _)| links.get(&link));
    // Routes to Pods and Services go through gateways too.
    let names = names.filter(|link| !link.altnames.iter().any(|name| name.starts_with("minik.")));
    Ok(names.map(|link| link.name.clone()).collect())
}

/// A cluster and its links, if this object is such a set. Pure.
fn borrowed_links(object: &Value) -> Option<(String, BTreeSet<String>)> {
    let set = object.get("set")?;
    let cluster = set["table"].as_str()?.strip_prefix("minik.")?;
    if set["name"] != BORROWED {
        return None;
    }
    let links = set["elem"].as_array().into_iter().flatten();
    Some((
        cluster.to_owned(),
        links.filter_map(|link| link.as_str().map(str::to_owned)).collect(),
    ))
}

/// Chains of the calling thread's namespace that drop what is forwarded unless a rule of theirs takes it, such as
/// `ip filter FORWARD` on a machine with Docker: no rule of another table can let the packet pass. What is dropped there
/// is somebody's wish, so it is told, not changed.
///
/// # Errors
/// [`NftError`].
pub fn forwarding_refused_by() -> Result<Vec<String>, NftError> {
    Ok(nft::list(&["chains"])?.iter().filter_map(refuses_forwarding).collect())
}

fn refuses_forwarding(object: &Value) -> Option<String> {
    let chain = object.get("chain")?;
    let (family, table, name) = (
        chain["family"].as_str()?,
        chain["table"].as_str()?,
        chain["name"].as_str()?,
    );
    let drops = chain["hook"] == "forward" && chain["policy"] == "drop" && matches!(family, "ip" | "inet");
    drops.then(|| format!("{family} {table} {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::{Asked, resolve};

    fn spec(name: &str) -> ClusterSpec {
        let asked = Asked {
            name: name.to_owned(),
            egress: true,
            ..Asked::default()
        };
        resolve(&asked, None).unwrap()
    }

    fn set(links: &[&str]) -> BTreeSet<String> {
        links.iter().map(|link| (*link).to_owned()).collect()
    }

    fn observed(forwarding: &[(&str, bool)], uplinks: &[&str], borrowed: &[(&str, &[&str])]) -> Observed {
        Observed {
            forwarding: forwarding.iter().map(|(link, on)| ((*link).to_owned(), *on)).collect(),
            uplinks: set(uplinks),
            borrowed: borrowed
                .iter()
                .map(|(cluster, links)| ((*cluster).to_owned(), set(links)))
                .collect(),
        }
    }

    #[test]
    fn links_that_did_not_forward_are_borrowed_and_given_back() {
        let lab = outside_link("lab");
        let before = observed(&[("all", false), ("eth0", false), (&lab, false)], &["eth0"], &[]);
        let opening = opening(&spec("lab"), &before);
        assert_eq!(opening.forward, set(&["eth0", &lab]));
        assert!(
            opening.script.contains("elements = { \"eth0\" }"),
            "the lab's own link goes with the lab"
        );
        let after = observed(
            &[("all", false), ("eth0", true), (&lab, true)],
            &["eth0"],
            &[("lab", &["eth0"])],
        );
        assert_eq!(super::opening(&spec("lab"), &after).forward, set(&[]));
        assert_eq!(
            super::opening(&spec("lab"), &after).script,
            opening.script,
            "and is not forgotten"
        );
        let closing = closing("lab", &after);
        assert_eq!(closing.stop_forwarding, set(&["eth0"]));
        assert_eq!(closing.script.as_deref(), Some("delete table ip minik.lab\n"));
    }

    #[test]
    fn a_machine_that_forwards_anyway_lends_nothing() {
        let before = observed(&[("all", true), ("eth0", true)], &["eth0"], &[]);
        let opening = opening(&spec("lab"), &before);
        assert_eq!(opening.forward, set(&[]));
        assert!(!opening.script.contains("elements"));
    }

    #[test]
    fn what_several_clusters_borrow_stays_until_the_last_goes() {
        let both = observed(
            &[("all", false), ("eth0", true)],
            &["eth0"],
            &[("one", &["eth0"]), ("two", &["eth0"])],
        );
        assert_eq!(closing("one", &both).stop_forwarding, set(&[]));
        // The second came when the first had turned forwarding on.
        let first = observed(&[("all", false), ("eth0", true)], &["eth0"], &[("one", &["eth0"])]);
        assert!(opening(&spec("two"), &first).script.contains("elements = { \"eth0\" }"));
        let last = observed(&[("all", false), ("eth0", true)], &["eth0"], &[("two", &["eth0"])]);
        assert_eq!(closing("two", &last).stop_forwarding, set(&["eth0"]));
    }

    #[test]
    fn forwarding_that_somebody_else_wants_by_now_stays() {
        let since = observed(&[("all", true), ("eth0", true)], &["eth0"], &[("lab", &["eth0"])]);
        assert_eq!(closing("lab", &since).stop_forwarding, set(&[]));
        assert_eq!(closing("other", &since), Closing::default());
    }

    #[test]
    fn only_sets_of_clusters_are_memories() {
        let listed = |table: &str, name: &str| serde_json::json!({"set": {"family": "ip", "table": table, "name": name, "elem": ["eth0"]}});
        assert_eq!(
            borrowed_links(&listed("minik.lab", "borrowed")),
            Some(("lab".to_owned(), set(&["eth0"])))
        );
        assert_eq!(borrowed_links(&listed("filter", "borrowed")), None);
        assert_eq!(borrowed_links(&listed("minik.lab", "other")), None);
        let empty = serde_json::json!({"set": {"family": "ip", "table": "minik.lab", "name": "borrowed"}});
        assert_eq!(borrowed_links(&empty), Some(("lab".to_owned(), set(&[]))));
    }

    #[test]
    fn chains_that_drop_what_is_forwarded_are_named() {
        let chain = |policy: &str, hook: &str| serde_json::json!({"chain": {"family": "ip", "table": "filter", "name": "FORWARD", "hook": hook, "policy": policy}});
        assert_eq!(
            refuses_forwarding(&chain("drop", "forward")).as_deref(),
            Some("ip filter FORWARD")
        );
        assert_eq!(refuses_forwarding(&chain("accept", "forward")), None);
        assert_eq!(refuses_forwarding(&chain("drop", "input")), None);
    }
}
