//! The cluster as the scheduler counts it: the nodes, what the Pods on each take, and what those Pods want of others.
//! Pure.
//!
//! Kept up change by change, so that a decision costs what the Pod asks and not what the cluster holds. A clone is a
//! snapshot: the larger maps are persistent.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use imbl::OrdMap;
use k8s_openapi::api::core::v1::{Node, Taint};

use super::facts::{Class, Facts, HostPort, PodTerm};
use super::resources::Resources;
use super::selector::{Labels, Selector};
use crate::controllers::cache::Key;

const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// A node, as far as it decides who may come.
#[derive(Debug, Clone, PartialEq)]
pub struct Site {
    /// Name.
    pub name: Arc<str>,
    /// Labels.
    pub labels: Labels,
    /// Taints.
    pub taints: Vec<Taint>,
    /// Whether it is cordoned.
    pub unschedulable: bool,
    /// What it has for Pods.
    pub allocatable: Resources,
}

impl Site {
    /// Reads a node. One that is not ready counts as tainted so, whether or not the taint has been written yet.
    pub fn of(node: &Node) -> Self {
        let spec = node.spec.as_ref();
        let status = node.status.as_ref();
        let mut taints = spec.and_then(|spec| spec.taints.clone()).unwrap_or_default();
        let mut conditions = status.iter().flat_map(|status| status.conditions.iter().flatten());
        let ready = conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
        if !ready {
            taints.push(Taint {
                key: NOT_READY.to_owned(),
                effect: "NoSchedule".to_owned(),
                ..Taint::default()
            });
        }
        let allocatable = status.and_then(|status| status.allocatable.as_ref());
        Self {
            name: node.metadata.name.as_deref().unwrap_or_default().into(),
            labels: node.metadata.labels.clone().unwrap_or_default(),
            taints,
            unschedulable: spec.and_then(|spec| spec.unschedulable) == Some(true),
            allocatable: allocatable.map(Resources::of).unwrap_or_default(),
        }
    }
}

/// What the Pods of one node take.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Load {
    /// Requests.
    pub requests: Resources,
    /// Requests, with a little for those that state none.
    pub estimate: Resources,
    /// How often each port is taken.
    pub ports: BTreeMap<HostPort, usize>,
    /// Pods that are here to stay, by what they are spread with.
    pub groups: BTreeMap<String, usize>,
    /// The Pods.
    pub residents: OrdMap<Key, Arc<Facts>>,
}

/// Pods by node: all of them, and those that are not going.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Count {
    /// All.
    pub all: i64,
    /// Those that are not going.
    pub staying: i64,
}

type PerNode = BTreeMap<Arc<str>, Count>;

/// See the module's documentation.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Board {
    sites: BTreeMap<Arc<str>, Arc<Site>>,
    loads: BTreeMap<Arc<str>, Load>,
    places: OrdMap<Key, Arc<str>>,
    classes: OrdMap<Arc<Class>, PerNode>,
    repelling: OrdMap<PodTerm, PerNode>,
    pulling: OrdMap<(PodTerm, i64), PerNode>,
    claimed: OrdMap<Key, i64>,
    namespaces: OrdMap<String, Labels>,
}

impl Board {
    /// A node is so now, or gone; tells whether that makes a difference.
    pub fn set_node(&mut self, name: &str, node: Option<&Node>) -> bool {
        let before = match node {
            Some(node) => {
                let site = Arc::new(Site::of(node));
                let same = self.sites.get(name).is_some_and(|known| *known == site);
                if same {
                    return false;
                }
                self.sites.insert(site.name.clone(), site)
            }
            None => self.sites.remove(name),
        };
        node.is_some() || before.is_some()
    }

    /// A namespace has these labels now, or is gone; tells whether that makes a difference.
    pub fn set_namespace(&mut self, name: &str, labels: Option<Labels>) -> bool {
        let before = match &labels {
            Some(labels) => self.namespaces.insert(name.to_owned(), labels.clone()),
            None => self.namespaces.remove(name),
        };
        before != labels
    }

    /// Counts a Pod on `node`, and no longer where it was counted before.
    pub fn place(&mut self, node: &str, facts: Arc<Facts>) {
        self.remove(&facts.key);
        let node: Arc<str> = self
            .sites
            .get(node)
            .map_or_else(|| node.into(), |site| site.name.clone());
        self.places.insert(facts.key.clone(), node.clone());
        self.count(&node, &facts, 1);
        self.loads
            .entry(node)
            .or_default()
            .residents
            .insert(facts.key.clone(), facts);
    }

    /// Counts a Pod no longer.
    pub fn remove(&mut self, key: &Key) -> Option<Arc<Facts>> {
        let node = self.places.remove(key)?;
        let load = self.loads.get_mut(&node)?;
        let facts = load.residents.remove(key)?;
        self.count(&node, &facts, -1);
        let is_empty = |load: &Load| load.residents.is_empty();
        if self.loads.get(&node).is_some_and(is_empty) {
            self.loads.remove(&node);
        }
        Some(facts)
    }

    fn count(&mut self, node: &Arc<str>, facts: &Facts, step: i64) {
        let load = self.loads.entry(node.clone()).or_default();
        let (requests, estimate) = (&facts.requests, &facts.estimate);
        if step > 0 {
            load.requests.add(requests);
            load.estimate.add(estimate);
        } else {
            load.requests.subtract(requests);
            load.estimate.subtract(estimate);
        }
        for port in &facts.ports {
            tally(&mut load.ports, port, step);
        }
        if !facts.terminating {
            tally(&mut load.groups, &facts.group, step);
        }
        let change = Count {
            all: step,
            staying: if facts.terminating { 0 } else { step },
        };
        shift(&mut self.classes, &facts.class, node, change);
        for term in &facts.anti_affinity {
            shift(&mut self.repelling, term, node, change);
        }
        for (weight, term) in &facts.pulls {
            shift(&mut self.pulling, &(term.clone(), *weight), node, change);
        }
        for claim in &facts.claims {
            let key = Key::new(&facts.key.namespace, claim);
            let uses = self.claimed.get(&key).copied().unwrap_or_default() + step;
            if uses > 0 {
                self.claimed.insert(key, uses);
            } else {
                self.claimed.remove(&key);
            }
        }
    }

    /// The nodes, by name.
    pub fn sites(&self) -> impl ExactSizeIterator<Item = &Arc<Site>> {
        self.sites.values()
    }

    /// What the Pods of a node take; nothing where there are none.
    pub fn load(&self, node: &str) -> Option<&Load> {
        self.loads.get(node)
    }

    /// How many Pods use a claim.
    pub fn users(&self, claim: &Key) -> i64 {
        self.claimed.get(claim).copied().unwrap_or_default()
    }

    /// Whether a term means the Pods of a class.
    pub fn means(&self, term: &PodTerm, class: &Class) -> bool {
        let named = term.namespaces.contains(&class.namespace);
        let labelled = |selector: &Selector| {
            let labels = self.namespaces.get(&class.namespace);
            labels.map_or_else(|| selector.matches(&Labels::new()), |labels| selector.matches(labels))
        };
        (named || term.namespace_selector.as_ref().is_some_and(labelled))
            && term
                .selector
                .as_ref()
                .is_some_and(|selector| selector.matches(&class.labels))
    }

    /// Pods that are not going, by node, that a selector means in one namespace.
    pub fn staying(&self, namespace: &str, selector: &Selector) -> BTreeMap<&str, i64> {
        let mut found = BTreeMap::new();
        let from = Class {
            namespace: namespace.to_owned(),
            labels: Labels::new(),
        };
        let classes = self.classes.range(Arc::new(from)..);
        for (_, per_node) in classes
            .take_while(|(class, _)| class.namespace == namespace)
            .filter(|(class, _)| selector.matches(&class.labels))
        {
            for (node, count) in per_node {
                *found.entry(&**node).or_default() += count.staying;
            }
        }
        found
    }

    /// The places (values of the term's node label) with Pods for which `all` terms hold, for each term.
    pub fn places_of(&self, all: &[PodTerm]) -> BTreeSet<(&str, &str)> {
        let mut places = BTreeSet::new();
        let every = |class: &Class| all.iter().all(|term| self.means(term, class));
        for (_, per_node) in self.classes.iter().filter(|(class, _)| every(class)) {
            for term in all {
                places.extend(self.values(per_node, &term.topology_key).map(|(value, _)| value));
            }
        }
        places
    }

    /// The places with Pods whose anti-affinity means `class`.
    pub fn closed_to(&self, class: &Class) -> BTreeSet<(&str, &str)> {
        let against = self.repelling.iter().filter(|(term, _)| self.means(term, class));
        against
            .flat_map(|(term, per_node)| self.values(per_node, &term.topology_key))
            .map(|(place, _)| place)
            .collect()
    }

    /// How much `facts` leans towards each place, and the Pods there towards it.
    pub fn leanings(&self, facts: &Facts) -> BTreeMap<(&str, &str), i64> {
        let mut sums = BTreeMap::new();
        let pulls = self
            .pulling
            .iter()
            .filter(|((term, _), _)| self.means(term, &facts.class));
        for ((term, weight), per_node) in pulls {
            for (place, count) in self.values(per_node, &term.topology_key) {
                *sums.entry(place).or_default() += weight * count.all;
            }
        }
        for (weight, term) in &facts.leanings {
            for (_, per_node) in self.classes.iter().filter(|(class, _)| self.means(term, class)) {
                for (place, count) in self.values(per_node, &term.topology_key) {
                    *sums.entry(place).or_default() += weight * count.all;
                }
            }
        }
        sums
    }

    /// What is counted by node, by that node's value of a label; the keys borrow from the nodes.
    fn values<'a>(
        &'a self,
        per_node: &'a PerNode,
        label: &str,
    ) -> impl Iterator<Item = ((&'a str, &'a str), Count)> + use<'a> {
        let label = label.to_owned();
        per_node.iter().filter_map(move |(node, count)| {
            let (key, value) = self.sites.get(node)?.labels.get_key_value(&label)?;
            Some(((key.as_str(), value.as_str()), *count))
        })
    }
}

fn tally<K: Ord + Clone>(counts: &mut BTreeMap<K, usize>, key: &K, step: i64) {
    let count = counts.entry(key.clone()).or_default();
    *count = count.saturating_add_signed(isize::try_from(step).unwrap_or_default());
    if *count == 0 {
        counts.remove(key);
    }
}

fn shift<K: Ord + Clone>(all: &mut OrdMap<K, PerNode>, key: &K, node: &Arc<str>, change: Count) {
    let mut per_node = all.remove(key).unwrap_or_default();
    let count = per_node.entry(node.clone()).or_default();
    count.all += change.all;
    count.staying += change.staying;
    if count.all == 0 {
        per_node.remove(node);
    }
    if !per_node.is_empty() {
        all.insert(key.clone(), per_node);
    }
}
