//! What is wrong between Services and IPAddresses, in the words of 1.36's repair controller. Pure.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{IPAddress, ParentReference};
use kube::ResourceExt;

use crate::alloc::{FAMILY, MANAGED_BY, MANAGER};
use crate::controllers::recorder::{Note, Severity};

/// How long an IPAddress may be there without its Service, which is stored after it.
const GRACE: Duration = Duration::from_secs(60);

/// What to do about one cluster IP of a Service.
#[derive(Debug, PartialEq)]
pub enum Repair {
    /// Nothing.
    Nothing,
    /// Nothing can be done but to tell.
    Tell(Note),
    /// Make the IPAddress.
    Create(Note),
    /// Replace the IPAddress by one that is right.
    Recreate(Option<Note>),
}

/// What to do about an IPAddress.
#[derive(Debug, PartialEq)]
pub enum Leak {
    /// Nothing.
    None,
    /// Look again when its Service has had time to be stored.
    Wait(Duration),
    /// Delete it.
    Remove(Note),
}

/// Judges one cluster IP of `service`: the IPAddress of that name, and the Service that it refers to.
pub fn cluster_ip(
    service: &Service,
    ip: &str,
    in_range: bool,
    held: Option<&IPAddress>,
    referred: Option<&Service>,
) -> Repair {
    let key = || format!("{}/{}", service.namespace().unwrap_or_default(), service.name_any());
    if !in_range {
        let text =
            format!("Cluster IP [IPv4]: {ip} is not within any configured Service CIDR; please recreate service");
        return Repair::Tell(warning("ClusterIPOutOfRange", text));
    }
    let Some(held) = held else {
        let text = format!("Cluster IP [IPv4]: {ip} is not allocated; repairing");
        return Repair::Create(warning("ClusterIPNotAllocated", text));
    };
    let parent = &held.spec.parent_ref;
    let wrong = || {
        let text = format!(
            "the ClusterIP [IPv4]: {ip} for Service {} has a wrong reference; repairing",
            key()
        );
        Repair::Recreate(Some(warning("ClusterIPNotAllocated", text)))
    };
    if !is_service(parent) {
        return wrong();
    }
    if !refers_to(parent, service) {
        let Some(referred) = referred else { return wrong() };
        if addresses(referred).any(|other| other == ip) {
            let text = format!("Cluster IP [IPv4]:{ip} was assigned to multiple services; please recreate service");
            return Repair::Tell(warning("ClusterIPAlreadyAllocated", text));
        }
    }
    let label = |key: &str| held.labels().get(key).map(String::as_str);
    if label(FAMILY) != Some("IPv4") || label(MANAGED_BY) != Some(MANAGER) {
        return Repair::Recreate(None);
    }
    Repair::Nothing
}

/// Judges an IPAddress; `parent` is the Service that it refers to, if that is there.
pub fn address(held: &IPAddress, parent: Option<&Service>, now: Timestamp) -> Leak {
    if held.labels().get(MANAGED_BY).map(String::as_str) != Some(MANAGER) {
        return Leak::None;
    }
    let name = held.name_any();
    let reference = &held.spec.parent_ref;
    if !is_service(reference) {
        let text = format!(
            "IPAddress {name} appears to have been modified, not referencing a Service {}: cleaning up",
            reference.resource
        );
        return Leak::Remove(warning("IPAddressNotAllocated", text));
    }
    let namespace = reference.namespace.as_deref().unwrap_or_default();
    let owner = format!("Service {namespace}/{}", reference.name);
    let Some(parent) = parent else {
        let born = held.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
        let lived = Duration::try_from(now.duration_since(born)).unwrap_or_default();
        if lived <= GRACE {
            return Leak::Wait(GRACE.saturating_sub(lived) + Duration::from_secs(1));
        }
        let text = format!("IPAddress: {name} for {owner} appears to have leaked: cleaning up");
        return Leak::Remove(warning("IPAddressNotAllocated", text));
    };
    if addresses(parent).any(|ip| ip == name) {
        return Leak::None;
    }
    let text = format!("IPAddress: {name} for {owner} has a wrong reference; cleaning up");
    Leak::Remove(warning("IPAddressWrongReference", text))
}

/// The cluster IPs of a Service, as texts.
pub fn addresses(service: &Service) -> impl Iterator<Item = &str> {
    let all = service
        .spec
        .iter()
        .filter_map(|spec| spec.cluster_ips.as_ref())
        .flatten();
    all.map(String::as_str).filter(|ip| !matches!(*ip, "" | "None"))
}

fn is_service(reference: &ParentReference) -> bool {
    reference.group.as_deref().unwrap_or_default().is_empty() && reference.resource == "services"
}

fn refers_to(reference: &ParentReference, service: &Service) -> bool {
    reference.namespace == service.namespace() && reference.name == service.name_any()
}

fn warning(reason: &'static str, message: String) -> Note {
    Note {
        severity: Severity::Warning,
        reason,
        message,
    }
}
