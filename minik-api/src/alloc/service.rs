//! Which numbers a Service holds, which it lacks, and in what words it is refused one (Kubernetes 1.36).

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use serde_json::json;

use super::numbers::Refused;
use super::{Claim, Held, Refusal};
use crate::resource::field::FieldError;

const EXTERNAL_NAME: &str = "ExternalName";
const FULL: &str = "range is full";

/// Every number in the object that its type has a use for.
pub fn claims(service: &Service) -> BTreeSet<Claim> {
    let Some(spec) = &service.spec else {
        return BTreeSet::new();
    };
    let mut claims = BTreeSet::new();
    if has_cluster_ip(spec) {
        claims.extend(
            spec.cluster_ips
                .iter()
                .flatten()
                .filter_map(|ip| ip.parse().ok())
                .map(Claim::Address),
        );
    }
    if has_node_ports(spec) {
        claims.extend(spec.ports.iter().flatten().filter_map(node_port).map(Claim::Port));
    }
    claims.extend(spec.health_check_node_port.and_then(port_number).map(Claim::Port));
    claims
}

/// Takes what the Service needs beyond what `old` (none: it is new) holds, and writes what it was given into the object:
/// the address first, then node ports, then the port for health checks.
pub fn fill(
    service: &mut Service,
    old: Option<&Service>,
    held: &mut Held,
    taken: &mut Vec<Claim>,
) -> Result<(), Refusal> {
    let Some(spec) = &mut service.spec else { return Ok(()) };
    let before = old.map(claims).unwrap_or_default();
    let old = old.and_then(|old| old.spec.as_ref());
    // Nothing but its type gives or takes a Service's address; whoever writes another one is refused by validation.
    if has_cluster_ip(spec) && old.is_none_or(|old| old.type_.as_deref() == Some(EXTERNAL_NAME)) {
        cluster_ip(spec, held, taken)?;
    }
    if has_node_ports(spec) {
        let shares = old.is_none();
        node_ports(spec, &before, shares, held, taken)?;
    }
    if needs_health_check_port(spec) && !old.is_some_and(needs_health_check_port) {
        health_check_port(spec, held, taken)?;
    }
    Ok(())
}

fn cluster_ip(spec: &mut ServiceSpec, held: &mut Held, taken: &mut Vec<Claim>) -> Result<(), Refusal> {
    let asked = spec.cluster_ips.iter().flatten().next().filter(|ip| !ip.is_empty());
    let address = match asked.map(|ip| (ip, ip.parse::<Ipv4Addr>())) {
        // Validation has refused every text that is no address.
        Some((_, Err(_))) => return Ok(()),
        Some((ip, Ok(address))) => {
            held.addresses.take(address).map_err(|refused| {
                let why = match refused {
                    Refused::Taken => "provided IP is already allocated",
                    Refused::OutOfRange => "the provided network does not match the current range",
                };
                invalid_addresses(std::slice::from_ref(ip), &format!("failed to allocate IP {ip}: {why}"))
            })?;
            address
        }
        None => held
            .addresses
            .take_any(&mut held.random)
            .ok_or_else(|| Refusal::Exhausted(format!("failed to allocate a serviceIP: {FULL}")))?,
    };
    taken.push(Claim::Address(address));
    spec.cluster_ip = Some(address.to_string());
    spec.cluster_ips = Some(vec![address.to_string()]);
    Ok(())
}

/// Entries of a new Service with the same port number and other protocols share a node port (`shares`); those that an
/// update leaves without one get one each.
fn node_ports(
    spec: &mut ServiceSpec,
    before: &BTreeSet<Claim>,
    shares: bool,
    held: &mut Held,
    taken: &mut Vec<Claim>,
) -> Result<(), Refusal> {
    let ports = spec.ports.get_or_insert_default();
    // Two protocols of one Service may share a number: what the Service itself holds is no clash.
    let mut own: BTreeSet<u16> = before.iter().filter_map(port_of).collect();
    for (index, port) in ports.iter_mut().enumerate() {
        let field = format!("spec.ports[{index}].nodePort");
        if let Some(number) = port.node_port.filter(|number| *number != 0) {
            let wanted = port_number(number);
            if wanted.is_some_and(|wanted| own.contains(&wanted)) {
                continue;
            }
            let wanted = wanted.ok_or_else(|| invalid_port(&field, number, out_of_range(held)))?;
            let refused = held.ports.take(wanted).err();
            if let Some(refused) = refused {
                return Err(invalid_port(&field, number, describe(refused, held)));
            }
            taken.push(Claim::Port(wanted));
            own.insert(wanted);
        }
    }
    for index in 0..ports.len() {
        if node_port(&ports[index]).is_some() {
            continue;
        }
        let number = match twin(ports, index).filter(|_| shares) {
            Some(number) => number,
            None => {
                let number = held
                    .ports
                    .take_any(&mut held.random)
                    .ok_or_else(|| Refusal::Exhausted(format!("failed to allocate a nodePort: {FULL}")))?;
                taken.push(Claim::Port(number));
                number
            }
        };
        ports[index].node_port = Some(i32::from(number));
    }
    Ok(())
}

/// The node port of another entry with the same port number and another protocol: both get the same one.
fn twin(ports: &[ServicePort], index: usize) -> Option<u16> {
    let (number, protocol) = (ports[index].port, &ports[index].protocol);
    let taken: Vec<u16> = ports
        .iter()
        .filter(|p| p.protocol == *protocol)
        .filter_map(node_port)
        .collect();
    ports
        .iter()
        .filter(|other| other.port == number && other.protocol != *protocol)
        .filter_map(node_port)
        .find(|candidate| !taken.contains(candidate))
}

/// A port that cannot be had is nobody's fault, to Kubernetes.
fn health_check_port(spec: &mut ServiceSpec, held: &mut Held, taken: &mut Vec<Claim>) -> Result<(), Refusal> {
    let number = match spec.health_check_node_port.filter(|number| *number != 0) {
        Some(number) => {
            let refuse = |why: String| {
                Refusal::Exhausted(format!(
                    "failed to allocate requested HealthCheck NodePort {number}: {why}"
                ))
            };
            let wanted = port_number(number).ok_or_else(|| refuse(out_of_range(held)))?;
            let refused = held.ports.take(wanted).err();
            if let Some(refused) = refused {
                return Err(refuse(describe(refused, held)));
            }
            wanted
        }
        None => held
            .ports
            .take_any(&mut held.random)
            .ok_or_else(|| Refusal::Exhausted(format!("failed to allocate a HealthCheck NodePort 0: {FULL}")))?,
    };
    taken.push(Claim::Port(number));
    spec.health_check_node_port = Some(i32::from(number));
    Ok(())
}

fn has_cluster_ip(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() != Some(EXTERNAL_NAME) && spec.cluster_ip.as_deref() != Some("None")
}

fn has_node_ports(spec: &ServiceSpec) -> bool {
    match spec.type_.as_deref() {
        Some("NodePort") => true,
        Some("LoadBalancer") => {
            // Without allocation the numbers that were named are still the Service's.
            spec.allocate_load_balancer_node_ports != Some(false)
                || spec.ports.iter().flatten().any(|port| node_port(port).is_some())
        }
        _ => false,
    }
}

fn needs_health_check_port(spec: &ServiceSpec) -> bool {
    spec.type_.as_deref() == Some("LoadBalancer") && spec.external_traffic_policy.as_deref() == Some("Local")
}

fn node_port(port: &ServicePort) -> Option<u16> {
    port.node_port.and_then(port_number)
}

fn port_number(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|number| *number != 0)
}

fn port_of(claim: &Claim) -> Option<u16> {
    match claim {
        Claim::Port(port) => Some(*port),
        Claim::Address(_) => None,
    }
}

fn invalid_addresses(asked: &[String], detail: &str) -> Refusal {
    Refusal::Invalid(vec![FieldError::invalid("spec.clusterIPs", json!(asked), detail)])
}

fn invalid_port(field: &str, number: i32, why: String) -> Refusal {
    Refusal::Invalid(vec![FieldError::invalid(field, number, why)])
}

/// Why a port cannot be had.
fn describe(refused: Refused, held: &Held) -> String {
    match refused {
        Refused::OutOfRange => out_of_range(held),
        Refused::Taken => "provided port is already allocated".to_owned(),
    }
}

fn out_of_range(held: &Held) -> String {
    format!(
        "provided port is not in the valid range. The range of valid ports is {}",
        held.ports.describe()
    )
}
