//! Which nodes a Pod may go to: the filters of Kubernetes' scheduler in its order, the first that refuses speaking for
//! the node. Pure.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{Taint, Toleration};

use super::board::{Board, Load, Site};
use super::facts::{Facts, Spread};
use super::refusal::{Reason, Refusal};
use super::resources::PODS;
use super::volumes::Wanted;

/// A Pod in search of a node: what does not depend on the node, worked out once.
pub struct Trial<'a> {
    board: &'a Board,
    facts: &'a Facts,
    wanted: &'a Wanted,
    named: Option<BTreeSet<&'a str>>,
    spreads: Vec<Places<'a>>,
    friends: BTreeSet<(&'a str, &'a str)>,
    /// Whether the Pod is its own friend, so that the first of its kind may go anywhere.
    first: bool,
    foes: BTreeSet<(&'a str, &'a str)>,
    closed: BTreeSet<(&'a str, &'a str)>,
}

/// A constraint, and how many Pods it counts at each of its places.
struct Places<'a> {
    constraint: &'a Spread,
    counts: BTreeMap<&'a str, i64>,
    least: i64,
    own: i64,
}

impl<'a> Trial<'a> {
    /// Prepares the search.
    pub fn new(board: &'a Board, facts: &'a Facts, wanted: &'a Wanted) -> Self {
        let friends = match facts.affinity.as_slice() {
            [] => BTreeSet::new(),
            terms => board.places_of(terms),
        };
        let foes = facts.anti_affinity.iter();
        let own_friend = facts.affinity.iter().all(|term| board.means(term, &facts.class));
        Self {
            named: facts.demand.named(),
            spreads: facts
                .must_spread
                .iter()
                .map(|constraint| Places::of(board, facts, constraint))
                .collect(),
            first: friends.is_empty() && own_friend,
            friends,
            foes: foes
                .flat_map(|term| board.places_of(std::slice::from_ref(term)))
                .collect(),
            closed: board.closed_to(&facts.class),
            board,
            facts,
            wanted,
        }
    }

    /// Why this node will not do.
    pub fn refusal(&self, site: &'a Site) -> Option<Refusal> {
        let none = Load::default();
        let load = self.board.load(&site.name).unwrap_or(&none);
        if self.named.as_ref().is_some_and(|names| !names.contains(&*site.name)) {
            return Some(Refusal::flat(Reason::OtherNodeNamed));
        }
        admission(self.facts, site)
            .or_else(|| self.ports(load))
            .or_else(|| fit(self.facts, site, load))
            .or_else(|| self.wanted.refusal(site))
            .or_else(|| self.spread(site))
            .or_else(|| self.affinity(site))
    }

    fn ports(&self, load: &Load) -> Option<Refusal> {
        let taken = |port| load.ports.keys().any(|other| other.conflicts(port));
        let conflict = self.facts.ports.iter().any(taken);
        conflict.then(|| Refusal::crowded(Reason::Ports))
    }

    fn spread(&self, site: &Site) -> Option<Refusal> {
        for places in &self.spreads {
            let constraint = places.constraint;
            let Some(place) = site.labels.get(&constraint.topology_key) else {
                return Some(Refusal::flat(Reason::SpreadLabel));
            };
            let here = places.counts.get(place.as_str()).copied().unwrap_or_default();
            if here + places.own - places.least > i64::from(constraint.max_skew) {
                return Some(Refusal::crowded(Reason::Spread));
            }
        }
        None
    }

    fn affinity(&self, site: &'a Site) -> Option<Refusal> {
        let at = |key: &str| {
            site.labels
                .get_key_value(key)
                .map(|(key, value)| (key.as_str(), value.as_str()))
        };
        let terms = &self.facts.affinity;
        let labelled = terms.iter().all(|term| site.labels.contains_key(&term.topology_key));
        let befriended = |key: &str| at(key).is_some_and(|place| self.friends.contains(&place));
        let near = terms.iter().all(|term| befriended(&term.topology_key));
        if !labelled || !(near || self.first) {
            return Some(Refusal::flat(Reason::Affinity));
        }
        let here = |places: &BTreeSet<(&str, &str)>| {
            places
                .iter()
                .any(|(key, value)| site.labels.get(*key).is_some_and(|label| label == value))
        };
        if here(&self.foes) {
            return Some(Refusal::crowded(Reason::AntiAffinity));
        }
        here(&self.closed).then(|| Refusal::crowded(Reason::ExistingAntiAffinity))
    }
}

impl<'a> Places<'a> {
    fn of(board: &'a Board, facts: &'a Facts, constraint: &'a Spread) -> Self {
        let per_node = board.staying(&facts.class.namespace, &constraint.selector);
        let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
        for site in board
            .sites()
            .filter(|site| is_counted(facts, &facts.must_spread, constraint, site))
        {
            if let Some(place) = site.labels.get(&constraint.topology_key) {
                *counts.entry(place).or_default() += per_node.get(&*site.name).copied().unwrap_or_default();
            }
        }
        let few = i64::try_from(counts.len()).unwrap_or(i64::MAX) < i64::from(constraint.min_domains);
        let least = counts.values().min().copied().filter(|_| !few);
        Self {
            constraint,
            least: least.unwrap_or_default(),
            counts,
            own: i64::from(constraint.selector.matches(&facts.class.labels)),
        }
    }
}

/// Whether a constraint counts a node: it has the labels of all constraints, and the policies let it.
pub fn is_counted(facts: &Facts, all: &[Spread], constraint: &Spread, site: &Site) -> bool {
    all.iter().all(|other| site.labels.contains_key(&other.topology_key)) && honours(facts, constraint, site)
}

/// Whether the policies of a constraint let a node count.
fn honours(facts: &Facts, constraint: &Spread, site: &Site) -> bool {
    (!constraint.honours_affinity || facts.demand.matches(&site.name, &site.labels))
        && (!constraint.honours_taints || !is_repelled(facts, site))
}

/// What the node itself says, whoever is on it: cordoned, tainted, not asked for.
fn admission(facts: &Facts, site: &Site) -> Option<Refusal> {
    let cordon = Taint {
        key: "node.kubernetes.io/unschedulable".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    };
    if site.unschedulable && !tolerates(&facts.tolerations, &cordon) {
        return Some(Refusal::flat(Reason::Cordoned));
    }
    if is_repelled(facts, site) {
        return Some(Refusal::flat(Reason::Taints));
    }
    let asked_for = facts.demand.matches(&site.name, &site.labels);
    (!asked_for).then(|| Refusal::flat(Reason::NodeAffinity))
}

fn is_repelled(facts: &Facts, site: &Site) -> bool {
    let mut repelling = site
        .taints
        .iter()
        .filter(|taint| matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute"));
    repelling.any(|taint| !tolerates(&facts.tolerations, taint))
}

/// Whether any toleration is about this taint.
pub fn tolerates(tolerations: &[Toleration], taint: &Taint) -> bool {
    tolerations.iter().any(|toleration| is_about(toleration, taint))
}

/// Whether a toleration is about a taint.
pub fn is_about(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    let value = toleration.value.as_deref().unwrap_or_default();
    let given = taint.value.as_deref().unwrap_or_default();
    let exists = toleration.operator.as_deref() == Some("Exists");
    (effect.is_empty() || effect == taint.effect)
        && (key == taint.key || (key.is_empty() && exists))
        && (exists || value == given)
}

/// What is missing of the node's resources: everything that is, not the first thing.
fn fit(facts: &Facts, site: &Site, load: &Load) -> Option<Refusal> {
    let mut reasons = Vec::new();
    let mut for_want_of_room = true;
    let pods = i64::try_from(load.residents.len()).unwrap_or(i64::MAX);
    if pods >= site.allocatable.get(PODS) {
        reasons.push(Reason::TooManyPods);
    }
    for (resource, asked) in facts.requests.iter().filter(|(_, asked)| *asked > 0) {
        let whole = site.allocatable.get(resource);
        if asked > whole - load.requests.get(resource) {
            reasons.push(Reason::Insufficient(resource.to_owned()));
            for_want_of_room &= asked <= whole;
        }
    }
    (!reasons.is_empty()).then_some(Refusal {
        reasons,
        for_want_of_room,
    })
}
