//! Resource requests and the quality-of-service class that follows from them.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Amount;

use crate::resource::validation::quantity::Quantity;

/// The resources that decide about the class.
const COUNTED: [&str; 2] = ["cpu", "memory"];

/// A limit without a request is the request, too.
pub(super) fn default_requests(spec: &mut PodSpec) {
    for container in spec
        .containers
        .iter_mut()
        .chain(spec.init_containers.iter_mut().flatten())
    {
        let Some(ResourceRequirements {
            limits: Some(limits),
            requests,
            ..
        }) = &mut container.resources
        else {
            continue;
        };
        for (name, limit) in limits.iter() {
            requests
                .get_or_insert_default()
                .entry(name.clone())
                .or_insert_with(|| limit.clone());
        }
    }
}

/// `Guaranteed`, `Burstable` or `BestEffort`.
pub(super) fn class(spec: &PodSpec) -> &'static str {
    let containers = || spec.containers.iter().chain(spec.init_containers.iter().flatten());
    if containers().all(|c| amounts(c, Kind::Request).is_empty() && amounts(c, Kind::Limit).is_empty()) {
        return "BestEffort";
    }
    let guaranteed = containers().all(|container| {
        let limits = amounts(container, Kind::Limit);
        limits.len() == COUNTED.len() && amounts(container, Kind::Request) == limits
    });
    if guaranteed { "Guaranteed" } else { "Burstable" }
}

#[derive(Clone, Copy)]
enum Kind {
    Request,
    Limit,
}

/// The counted resources that are not zero, in billionths.
fn amounts(container: &Container, kind: Kind) -> BTreeMap<&str, i128> {
    let list: Option<&BTreeMap<String, Amount>> = container.resources.as_ref().and_then(|r| match kind {
        Kind::Request => r.requests.as_ref(),
        Kind::Limit => r.limits.as_ref(),
    });
    list.into_iter()
        .flatten()
        .filter(|(name, _)| COUNTED.contains(&name.as_str()))
        .filter_map(|(name, amount)| Some((name.as_str(), Quantity::parse(&amount.0).ok()?.nanos())))
        .filter(|(_, nanos)| *nanos > 0)
        .collect()
}
