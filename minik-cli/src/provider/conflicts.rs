//! Whether a cluster's address ranges are free in the outside world, and which ones would be.

use std::collections::BTreeMap;
use std::fmt;

use ipnet::Ipv4Net;
use minik_node::kernel::link::Link;
use minik_node::kernel::netlink::Netlink;

use super::netns::ProviderError;
use super::underlay::outside_link;
use crate::cluster::ClusterSpec;

/// Where free ranges are looked for (RFC 1918).
const PRIVATE: [&str; 3] = ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"];

/// A range of the cluster that is taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The flag that sets it: `--pod-network-cidr`.
    pub flag: &'static str,
    /// Its value.
    pub range: Ipv4Net,
    /// Who has it: `172.30.0.0/16 on docker0`, or another flag of this cluster.
    pub taken_by: String,
    /// A range of the same size that is free, if there is any.
    pub free: Option<Ipv4Net>,
}

impl fmt::Display for Conflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            flag,
            range,
            taken_by,
            free,
        } = self;
        write!(f, "{flag} {range} overlaps {taken_by}")?;
        match free {
            Some(free) => write!(f, "; {flag} {free} is free"),
            None => write!(f, "; no private range of that size is free"),
        }
    }
}

/// Compares the cluster's ranges with the addresses and routes of the calling thread's namespace, and with each
/// other. What the cluster itself has there already is no conflict; an isolated cluster meets nobody. Needs a
/// tokio runtime.
///
/// # Errors
/// When the namespace cannot be looked at.
pub async fn conflicts(spec: &ClusterSpec) -> Result<Vec<Conflict>, ProviderError> {
    let taken = if spec.isolated {
        Vec::new()
    } else {
        taken(&outside_link(&spec.name)).await?
    };
    let ranges = [
        ("--node-network-cidr", spec.node_network_cidr),
        ("--pod-network-cidr", spec.pod_network_cidr),
        ("--service-cidr", spec.service_cidr),
    ];
    Ok(decide(&ranges, &taken))
}

/// All ranges that mean something in the calling thread's namespace, with the words for whose they are.
async fn taken(own_link: &str) -> Result<Vec<(Ipv4Net, String)>, ProviderError> {
    let here = Netlink::open()?;
    let links = here.links().await?;
    let addresses = here.addresses().await?.into_iter();
    let addresses = addresses.flat_map(|(link, nets)| nets.into_iter().map(move |net| (link, net.trunc())));
    let routes = here
        .routes()
        .await?
        .into_iter()
        .map(|(link, route)| (link, route.destination));
    Ok(addresses
        .chain(routes)
        .filter(|(link, _)| links.get(link).is_none_or(|link| link.name != own_link))
        .map(|(link, net)| (net, format!("{net} on {}", name(&links, link))))
        .collect())
}

/// Another cluster's link is told by the name that says whose it is.
fn name(links: &BTreeMap<u32, Link>, index: u32) -> String {
    match links.get(&index) {
        Some(link) => link
            .altnames
            .iter()
            .find(|name| name.starts_with("minik."))
            .unwrap_or(&link.name)
            .clone(),
        None => format!("link {index}"),
    }
}

/// One conflict at most for each range. A default route claims nothing, nor do the two halves of the address
/// space by which VPNs say the same.
fn decide(ranges: &[(&'static str, Ipv4Net)], taken: &[(Ipv4Net, String)]) -> Vec<Conflict> {
    let taken: Vec<_> = taken.iter().filter(|(net, _)| net.prefix_len() > 1).collect();
    let mut settled: Vec<(Ipv4Net, String)> = Vec::new();
    let mut conflicts = Vec::new();
    for (position, (flag, range)) in ranges.iter().enumerate() {
        let taker = taken
            .iter()
            .copied()
            .chain(&settled)
            .find(|(net, _)| overlap(net, range));
        let mut agreed = *range;
        if let Some((_, taken_by)) = taker {
            let later = ranges[position + 1..].iter().map(|(_, net)| net);
            let avoid: Vec<&Ipv4Net> = taken
                .iter()
                .map(|(net, _)| net)
                .chain(settled.iter().map(|(net, _)| net))
                .chain(later)
                .collect();
            let free = free_like(*range, &avoid);
            agreed = free.unwrap_or(*range);
            conflicts.push(Conflict {
                flag,
                range: *range,
                taken_by: taken_by.clone(),
                free,
            });
        }
        settled.push((agreed, format!("{flag} {agreed}")));
    }
    conflicts
}

/// The next free range of the same size, in the same private block first.
fn free_like(range: Ipv4Net, avoid: &[&Ipv4Net]) -> Option<Ipv4Net> {
    let blocks = PRIVATE.iter().filter_map(|block| block.parse::<Ipv4Net>().ok());
    let (own, others): (Vec<_>, Vec<_>) = blocks.partition(|block| block.contains(&range));
    let after = own
        .iter()
        .flat_map(|block| subnets(*block, range))
        .filter(|net| *net > range);
    let elsewhere = own.iter().chain(&others).flat_map(|block| subnets(*block, range));
    after
        .chain(elsewhere)
        .find(|net| !avoid.iter().any(|taken| overlap(taken, net)))
}

/// None when the block is smaller.
fn subnets(block: Ipv4Net, like: Ipv4Net) -> impl Iterator<Item = Ipv4Net> {
    block.subnets(like.prefix_len()).into_iter().flatten()
}

fn overlap(a: &Ipv4Net, b: &Ipv4Net) -> bool {
    a.contains(b) || b.contains(a)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WANTED: [(&str, &str); 3] = [
        ("--node-network-cidr", "172.30.0.0/24"),
        ("--pod-network-cidr", "10.244.0.0/16"),
        ("--service-cidr", "10.96.0.0/12"),
    ];

    fn decide_text(wanted: &[(&'static str, &str)], taken: &[&str]) -> Vec<String> {
        let wanted: Vec<_> = wanted
            .iter()
            .map(|(flag, range)| (*flag, range.parse().unwrap()))
            .collect();
        let taken: Vec<_> = taken
            .iter()
            .map(|net| (net.parse().unwrap(), format!("{net} on eth9")))
            .collect();
        decide(&wanted, &taken).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn an_ordinary_machine_is_no_conflict() {
        let taken = [
            "127.0.0.0/8",
            "0.0.0.0/0",
            "0.0.0.0/1",
            "128.0.0.0/1",
            "192.168.1.0/24",
            "172.17.0.0/16",
        ];
        assert_eq!(decide_text(&WANTED, &taken), [""; 0]);
    }

    #[test]
    fn a_smaller_or_larger_neighbour_is_named_and_a_free_range_of_the_same_size_proposed() {
        assert_eq!(
            decide_text(&WANTED, &["172.30.0.0/16", "10.244.7.3/32"]),
            [
                "--node-network-cidr 172.30.0.0/24 overlaps 172.30.0.0/16 on eth9; --node-network-cidr 172.31.0.0/24 is free",
                "--pod-network-cidr 10.244.0.0/16 overlaps 10.244.7.3/32 on eth9; --pod-network-cidr 10.245.0.0/16 is free",
            ]
        );
    }

    #[test]
    fn a_vpn_for_all_of_ten_moves_everything_and_the_proposals_do_not_meet() {
        let proposals = decide_text(&WANTED, &["10.0.0.0/8", "172.16.0.0/12"]);
        assert_eq!(
            proposals,
            [
                "--node-network-cidr 172.30.0.0/24 overlaps 172.16.0.0/12 on eth9; --node-network-cidr 192.168.0.0/24 is free",
                "--pod-network-cidr 10.244.0.0/16 overlaps 10.0.0.0/8 on eth9; no private range of that size is free",
                "--service-cidr 10.96.0.0/12 overlaps 10.0.0.0/8 on eth9; no private range of that size is free",
            ]
        );
    }

    #[test]
    fn flags_are_compared_with_each_other() {
        let wanted = [
            ("--node-network-cidr", "10.0.0.0/24"),
            ("--pod-network-cidr", "10.0.0.0/16"),
        ];
        assert_eq!(
            decide_text(&wanted, &[]),
            [
                "--pod-network-cidr 10.0.0.0/16 overlaps --node-network-cidr 10.0.0.0/24; --pod-network-cidr 10.1.0.0/16 is free"
            ]
        );
    }
}
