//! What of a cluster's network is not as it should be: reads everything that [`provision`](super::netns::provision) makes,
//! changes nothing.

use std::fmt;

use minik_node::kernel::netns::NetNs;
use minik_node::kernel::sysctl::{self, Sysctl};
use minik_node::kernel::veth::Place;
use minik_node::plan::link::{LinkState, Route};

use super::netns::ProviderError;
use super::underlay::{
    BRIDGE, DEAD_END, FABRIC_SYSCTLS, NODE_LINK, NODE_SYSCTLS, OUTSIDE_PORT, OUTSIDE_SYSCTLS, dead_end, node_link,
    outside_link, outside_state,
};
use crate::cluster::ClusterSpec;

/// One thing that is wrong, and where: `worker1: link eth0 is missing or down`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// `fabric`, `outside`, or a node's name.
    pub place: String,
    /// What.
    pub what: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

/// What one namespace should have.
struct Expected {
    place: String,
    /// `None` for the calling thread's.
    netns: Option<String>,
    sysctls: &'static [Sysctl],
    links: Vec<(String, Option<LinkState>)>,
}

/// Looks at every namespace of a cluster. Needs a tokio runtime.
///
/// # Errors
/// When a namespace that is there cannot be looked into.
pub async fn survey(spec: &ClusterSpec) -> Result<Vec<Fault>, ProviderError> {
    let mut faults = Vec::new();
    for expected in expected(spec) {
        let found = match &expected.netns {
            Some(name) => NetNs::find(name)?,
            None => Some(NetNs::current()?),
        };
        let what = match found {
            Some(namespace) => look(&expected, namespace).await?,
            None => vec!["its network namespace is missing".to_owned()],
        };
        let place = &expected.place;
        faults.extend(what.into_iter().map(|what| Fault {
            place: place.clone(),
            what,
        }));
    }
    Ok(faults)
}

fn expected(spec: &ClusterSpec) -> Vec<Expected> {
    let ports = spec.nodes.iter().map(|node| node.name.clone());
    let ports = ports.chain([OUTSIDE_PORT.to_owned(), BRIDGE.to_owned()]);
    let fabric = Expected {
        place: "fabric".to_owned(),
        netns: Some(spec.fabric_netns()),
        sysctls: &FABRIC_SYSCTLS,
        links: ports.map(|port| (port, None)).collect(),
    };
    let outside = Expected {
        place: "outside".to_owned(),
        netns: spec.outside_netns(),
        sysctls: if spec.isolated { &OUTSIDE_SYSCTLS } else { &[] },
        links: vec![(outside_link(&spec.name), Some(outside_state(spec)))],
    };
    let nodes = spec.nodes.iter().map(|node| Expected {
        place: node.name.clone(),
        netns: Some(spec.node_netns(&node.name)),
        sysctls: &NODE_SYSCTLS,
        links: vec![
            (NODE_LINK.to_owned(), Some(node_link(spec, node))),
            (DEAD_END[0].to_owned(), Some(dead_end(spec, node))),
        ],
    });
    [fabric, outside].into_iter().chain(nodes).collect()
}

async fn look(expected: &Expected, namespace: NetNs) -> Result<Vec<String>, ProviderError> {
    let differing = namespace.run(|| sysctl::differing(expected.sysctls))?;
    let mut faults: Vec<String> = differing
        .into_iter()
        .map(|(sysctl, found)| format!("{} is {found} instead of {}", sysctl.key, sysctl.value))
        .collect();
    // Sets nothing: there are no parameters among its arguments.
    let place = Place::open(namespace, &[])?;
    let all: Vec<Route> = place
        .netlink
        .routes()
        .await?
        .into_iter()
        .map(|(_, route)| route)
        .collect();
    for (name, wanted) in &expected.links {
        let seen = place.netlink.observe(name).await?;
        faults.extend(compare(name, wanted.as_ref(), seen.as_ref()));
        let connected = wanted.iter().flat_map(|wanted| &wanted.addresses);
        let lacking = connected
            .filter_map(|address| Route::connected(*address))
            .filter(|route| !all.contains(route));
        faults.extend(
            lacking.map(|route| format!("link {name} lacks the route to its own network {}", route.destination)),
        );
    }
    Ok(faults)
}

/// What a link lacks. What is there beyond it is others' (the agents' routes, say). Pure.
fn compare(name: &str, wanted: Option<&LinkState>, seen: Option<&LinkState>) -> Vec<String> {
    let (Some(wanted), Some(seen)) = (wanted, seen) else {
        return seen
            .is_none()
            .then(|| format!("link {name} is missing or down"))
            .into_iter()
            .collect();
    };
    let addresses = wanted.addresses.difference(&seen.addresses);
    let routes = wanted.routes.difference(&seen.routes);
    let neighbours = wanted
        .neighbours
        .iter()
        .filter(|(address, mac)| seen.neighbours.get(*address) != Some(*mac));
    let mut faults: Vec<String> = addresses
        .map(|address| format!("link {name} lacks address {address}"))
        .collect();
    faults.extend(routes.map(|route| format!("link {name} lacks the route to {}", route.destination)));
    faults.extend(neighbours.map(|(address, _)| format!("link {name} lacks neighbour {address}")));
    if (wanted.mac, wanted.mtu) != (seen.mac, seen.mtu) {
        faults.push(format!("link {name} has another link-layer address or MTU"));
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::parameters::{Asked, resolve};

    #[test]
    fn a_link_lacks_what_is_wanted_and_not_seen() {
        let asked = Asked {
            name: "lab".to_owned(),
            ..Asked::default()
        };
        let spec = resolve(&asked, None).unwrap();
        let wanted = dead_end(&spec, &spec.nodes[1]);
        assert_eq!(compare("dead0", Some(&wanted), Some(&wanted)), Vec::<String>::new());
        assert_eq!(compare("dead0", Some(&wanted), None), ["link dead0 is missing or down"]);
        let bare = LinkState::bare(wanted.mac, wanted.mtu);
        assert_eq!(
            compare("dead0", Some(&wanted), Some(&bare)),
            [
                "link dead0 lacks the route to 0.0.0.0/0",
                "link dead0 lacks neighbour 169.254.0.1"
            ]
        );
        assert_eq!(compare("dead0", Some(&bare), Some(&wanted)), Vec::<String>::new());
    }
}
