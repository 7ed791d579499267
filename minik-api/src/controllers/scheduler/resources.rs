//! What Pods request and nodes have: amounts by resource, and the arithmetic of init containers, sidecars, overhead and
//! Pod-level requests. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, PodSpec};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use crate::resource::validation::resources::nanos;

/// The name of the processor's resource, counted in thousandths.
pub const CPU: &str = "cpu";
/// The name of the memory's resource, counted in bytes.
pub const MEMORY: &str = "memory";
/// How many Pods a node takes.
pub const PODS: &str = "pods";

/// What the scheduler takes a container for that requests nothing: so many do not end up on one node.
const UNSTATED: [(&str, i64); 2] = [(CPU, 100), (MEMORY, 200 * 1024 * 1024)];

/// Amounts by resource; what is absent is 0. Thousandths of processors, and whole units of everything else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources(BTreeMap<String, i64>);

impl Resources {
    /// The amounts as the API spells them, rounded up.
    pub fn of(amounts: &BTreeMap<String, Quantity>) -> Self {
        let read = |(name, amount): (&String, &Quantity)| {
            let unit: i128 = if name == CPU { 1_000_000 } else { 1_000_000_000 };
            let nanos = nanos(amount).unwrap_or_default();
            let rounded = nanos / unit + i128::from(nanos % unit > 0);
            (name.clone(), i64::try_from(rounded).unwrap_or(i64::MAX))
        };
        Self(amounts.iter().map(read).collect())
    }

    /// The amount of one resource.
    pub fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or_default()
    }

    /// Every resource with its amount.
    pub fn iter(&self) -> impl Iterator<Item = (&str, i64)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), *amount))
    }

    /// Adds the other's amounts.
    pub fn add(&mut self, other: &Self) {
        for (name, amount) in other.iter() {
            let sum = self.0.entry(name.to_owned()).or_default();
            *sum = sum.saturating_add(amount);
        }
    }

    /// Takes the other's amounts away.
    pub fn subtract(&mut self, other: &Self) {
        for (name, amount) in other.iter() {
            if let Some(left) = self.0.get_mut(name) {
                *left -= amount;
            }
        }
        self.0.retain(|_, amount| *amount != 0);
    }

    fn plus(&self, other: &Self) -> Self {
        let mut sum = self.clone();
        sum.add(other);
        sum
    }

    /// The larger of both, resource by resource.
    fn raise(&mut self, other: &Self) {
        for (name, amount) in other.iter() {
            let most = self.0.entry(name.to_owned()).or_default();
            *most = amount.max(*most);
        }
    }
}

/// What a Pod requests of its node: the sum of its containers and sidecars, or what its init containers need at their
/// worst moment beside the sidecars started before them; plus overhead.
pub fn requested(spec: &PodSpec) -> Resources {
    aggregate(spec, requests)
}

/// The same, with a little for each container that requests nothing: by this nodes are compared.
pub fn estimated(spec: &PodSpec) -> Resources {
    aggregate(spec, |container| {
        let mut amounts = requests(container);
        for (name, amount) in UNSTATED {
            amounts.0.entry(name.to_owned()).or_insert(amount);
        }
        amounts
    })
}

fn aggregate(spec: &PodSpec, requests: impl Fn(&Container) -> Resources) -> Resources {
    let mut total = Resources::default();
    for container in &spec.containers {
        total.add(&requests(container));
    }
    let mut sidecars = Resources::default();
    let mut worst = Resources::default();
    for container in spec.init_containers.iter().flatten() {
        let own = requests(container);
        if container.restart_policy.as_deref() == Some("Always") {
            sidecars.add(&own);
            worst.raise(&sidecars);
        } else {
            worst.raise(&own.plus(&sidecars));
        }
    }
    total.add(&sidecars);
    total.raise(&worst);
    // What the Pod requests as a whole goes before what its containers do.
    let whole = spec
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    if let Some(whole) = whole {
        total.0.extend(Resources::of(whole).0);
    }
    total.add(&spec.overhead.as_ref().map(Resources::of).unwrap_or_default());
    total
}

fn requests(container: &Container) -> Resources {
    let given = container
        .resources
        .as_ref()
        .and_then(|resources| resources.requests.as_ref());
    given.map(Resources::of).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn cpu(spec: serde_json::Value) -> i64 {
        requested(&serde_json::from_value(spec).unwrap()).get(CPU)
    }

    fn asks(cpu: &str) -> serde_json::Value {
        json!({"name": "c", "resources": {"requests": {"cpu": cpu}}})
    }

    fn sidecar(cpu: &str) -> serde_json::Value {
        json!({"name": "s", "restartPolicy": "Always", "resources": {"requests": {"cpu": cpu}}})
    }

    /// The formula of KEP-753: max(sum of containers and sidecars, each init container with the sidecars before it).
    #[test]
    fn init_containers_count_at_their_worst_moment() {
        assert_eq!(cpu(json!({"containers": [asks("100m"), asks("200m")]})), 300);
        assert_eq!(
            cpu(json!({"containers": [asks("100m")], "initContainers": [asks("1")]})),
            1000
        );
        let both = json!({"containers": [asks("100m")], "initContainers": [sidecar("50m"), asks("1")]});
        assert_eq!(cpu(both), 1050);
        let after = json!({"containers": [asks("100m")], "initContainers": [asks("120m"), sidecar("50m")]});
        assert_eq!(cpu(after), 150);
        let overhead = json!({"containers": [asks("100m")], "overhead": {"cpu": "10m"}});
        assert_eq!(cpu(overhead), 110);
        let whole = json!({"containers": [asks("100m")], "resources": {"requests": {"cpu": "2"}}});
        assert_eq!(cpu(whole), 2000);
    }

    #[test]
    fn what_requests_nothing_is_estimated() {
        let spec: PodSpec = serde_json::from_value(json!({"containers": [{"name": "c"}, asks("1")]})).unwrap();
        assert_eq!(requested(&spec).get(MEMORY), 0);
        assert_eq!(
            (estimated(&spec).get(CPU), estimated(&spec).get(MEMORY)),
            (1100, 400 * 1024 * 1024)
        );
    }
}
