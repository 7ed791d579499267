//! The fabric: which routes a node needs so that its Pods reach the Pods of every other node.
//!
//! Nodes share a link, so a route through the other node's address does; nothing is encapsulated.

use std::collections::BTreeMap;

use super::link::Route;
use crate::model::Node;
use ipnet::Ipv4Net;

/// `rtm_protocol` of the routes that are ours to change: 109, free in `/etc/iproute2/rt_protos`.
/// Everything else in the table is somebody else's.
pub const PROTOCOL: u8 = 109;

/// Routes by destination.
pub type Routes = BTreeMap<Ipv4Net, Route>;

/// What to do so that the observed routes become the desired ones.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct FabricPlan {
    /// Destinations of ours that no node has any more.
    pub delete: Vec<Ipv4Net>,
    /// Routes of ours that lead elsewhere.
    pub replace: Vec<Route>,
    /// Routes that are missing. Apart from `replace`, since replacing where we have nothing could take away
    /// somebody else's route.
    pub add: Vec<Route>,
}

impl FabricPlan {
    /// Compares.
    #[must_use]
    pub fn new(observed: &Routes, desired: &Routes) -> Self {
        let mut plan = Self {
            delete: observed
                .keys()
                .filter(|destination| !desired.contains_key(destination))
                .copied()
                .collect(),
            ..Self::default()
        };
        for (destination, route) in desired {
            match observed.get(destination) {
                Some(there) if there == route => {}
                Some(_) => plan.replace.push(route.clone()),
                None => plan.add.push(route.clone()),
            }
        }
        plan
    }

    /// Whether there is nothing to do.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.delete.is_empty() && self.replace.is_empty() && self.add.is_empty()
    }
}

/// The routes of node `own`: its Pod range via its address for every other node that has both (IPv4).
///
/// A node that lacks either gets none; it has no Pods that could be reached. When two nodes claim one range,
/// which is the allocator's mistake, the first by name has it, so that nodes agree.
#[must_use]
pub fn routes<'a>(nodes: impl IntoIterator<Item = &'a Node>, own: &str) -> Routes {
    let by_name: BTreeMap<&str, &Node> = nodes.into_iter().map(|node| (node.name.as_str(), node)).collect();
    let range_of = |node: &Node| node.pod_cidr.map(|range| range.trunc());
    // Its own range too, lest another node's claim on it takes the node's Pods away from it.
    let own_range = by_name.get(own).and_then(|node| range_of(node));
    let mut routes = Routes::new();
    for (_, node) in by_name.into_iter().filter(|(name, _)| *name != own) {
        let (Some(address), Some(range)) = (node.internal_ip, range_of(node)) else {
            continue;
        };
        if Some(range) != own_range {
            let route = Route {
                protocol: PROTOCOL,
                ..Route::via(range, [address])
            };
            routes.entry(range).or_insert(route);
        }
    }
    routes
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Node as ApiNode, NodeAddress, NodeSpec, NodeStatus};
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn node(name: &str, addresses: &[(&str, &str)], ranges: &[&str]) -> ApiNode {
        let mut node = ApiNode::default();
        node.metadata.name = Some(name.to_owned());
        node.spec = Some(NodeSpec {
            pod_cidr: ranges.first().map(ToString::to_string),
            pod_cidrs: Some(ranges.iter().map(ToString::to_string).collect()),
            ..NodeSpec::default()
        });
        let addresses = addresses
            .iter()
            .map(|(type_, address)| NodeAddress {
                type_: (*type_).to_owned(),
                address: (*address).to_owned(),
            })
            .collect();
        node.status = Some(NodeStatus {
            addresses: Some(addresses),
            ..NodeStatus::default()
        });
        node
    }

    /// From the API's objects, as the view takes them over.
    fn routes(nodes: &[ApiNode], own: &str) -> Routes {
        let nodes: Vec<Node> = nodes.iter().cloned().filter_map(Node::from_api).collect();
        super::routes(&nodes, own)
    }

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn cluster() -> Vec<ApiNode> {
        let usual = |name, ip, range| node(name, &[("Hostname", name), ("InternalIP", ip)], &[range]);
        vec![
            usual("control-plane", "172.30.0.10", "10.244.0.0/24"),
            usual("worker1", "172.30.0.11", "10.244.1.0/24"),
            usual("worker2", "172.30.0.12", "10.244.2.0/24"),
        ]
    }

    fn seen(nodes: &[ApiNode], own: &str) -> Vec<(String, Vec<Ipv4Addr>)> {
        routes(nodes, own)
            .into_iter()
            .map(|(destination, route)| (destination.to_string(), route.gateways.into_iter().collect()))
            .collect()
    }

    #[test]
    fn every_other_node_s_pods_go_through_that_node() {
        assert_eq!(
            seen(&cluster(), "worker1"),
            [
                ("10.244.0.0/24".to_owned(), vec![Ipv4Addr::new(172, 30, 0, 10)]),
                ("10.244.2.0/24".to_owned(), vec![Ipv4Addr::new(172, 30, 0, 12)]),
            ]
        );
    }

    #[test]
    fn nodes_without_address_or_range_get_no_route() {
        let mut nodes = cluster();
        nodes[0].status = None;
        nodes[2].spec = None;
        assert_eq!(seen(&nodes, "worker1"), []);
        // IPv6 alone is neither.
        let six = [node("six", &[("InternalIP", "fd00::1")], &["fd00:1::/64"])];
        assert_eq!(seen(&six, "worker1"), []);
    }

    #[test]
    fn a_range_claimed_twice_goes_to_the_first_name_and_never_away_from_its_own_node() {
        let mut nodes = cluster();
        for (name, range) in [("a-thief", "10.244.1.0/24"), ("another-thief", "10.244.2.0/24")] {
            nodes.push(node(name, &[("InternalIP", "172.30.0.66")], &[range]));
        }
        assert_eq!(
            seen(&nodes, "worker1"),
            [
                ("10.244.0.0/24".to_owned(), vec![Ipv4Addr::new(172, 30, 0, 10)]),
                ("10.244.2.0/24".to_owned(), vec![Ipv4Addr::new(172, 30, 0, 66)]),
            ]
        );
    }

    #[test]
    fn pod_cidr_alone_is_enough() {
        let mut nodes = cluster();
        nodes[0].spec.as_mut().unwrap().pod_cidrs = None;
        assert!(routes(&nodes, "worker1").contains_key(&net("10.244.0.0/24")));
    }

    #[test]
    fn a_node_that_moved_is_replaced_and_one_that_left_is_deleted() {
        let before = routes(&cluster(), "worker1");
        let mut nodes = cluster();
        nodes.remove(0);
        nodes[1].status.as_mut().unwrap().addresses.as_mut().unwrap()[1].address = "172.30.0.99".to_owned();
        let plan = FabricPlan::new(&before, &routes(&nodes, "worker1"));
        assert_eq!(plan.delete, [net("10.244.0.0/24")]);
        let moved = Route::via(net("10.244.2.0/24"), [Ipv4Addr::new(172, 30, 0, 99)]);
        assert_eq!(
            plan.replace,
            [Route {
                protocol: PROTOCOL,
                ..moved
            }]
        );
    }

    fn any_routes() -> impl Strategy<Value = Routes> {
        proptest::collection::btree_map(0_u8..20, 1_u8..4, 0..12).prop_map(|by_range| {
            let route = |(range, hop)| {
                let destination = Ipv4Net::new_assert([10, 244, range, 0].into(), 24);
                let route = Route::via(destination, [Ipv4Addr::new(172, 30, 0, hop)]);
                (
                    destination,
                    Route {
                        protocol: PROTOCOL,
                        ..route
                    },
                )
            };
            by_range.into_iter().map(route).collect()
        })
    }

    proptest! {
        #[test]
        fn applying_a_plan_gives_what_is_desired(observed in any_routes(), desired in any_routes()) {
            let plan = FabricPlan::new(&observed, &desired);
            let mut table = observed;
            for destination in &plan.delete {
                prop_assert!(table.remove(destination).is_some(), "deletes only what is there");
            }
            for route in &plan.replace {
                prop_assert!(table.insert(route.destination, route.clone()).is_some(), "replaces only what is there");
            }
            for route in &plan.add {
                prop_assert!(table.insert(route.destination, route.clone()).is_none(), "adds only what is missing");
            }
            prop_assert_eq!(&table, &desired);
            prop_assert!(FabricPlan::new(&table, &desired).is_empty());
        }
    }
}
