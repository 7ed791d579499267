//! Which of the nodes that will do is best: the scores of Kubernetes' scheduler with its default weights. Pure.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::board::{Board, Load, Site};
use super::facts::{Facts, Spread};
use super::filter::{is_counted, tolerates};
use super::resources::{CPU, MEMORY};

/// The best score of a plugin.
const BEST: i64 = 100;
/// What differs between nodes if nothing else does.
const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";
/// The skews of the scheduler's own constraints, for Pods that state none.
const OWN_SPREAD: [(&str, i32); 2] = [(HOSTNAME, 3), (ZONE, 5)];

/// The best of `sites`: the highest score, then the fewest Pods of the same group, then the fewest Pods, then the first
/// by name, where Kubernetes would throw dice.
pub fn best<'a>(board: &Board, facts: &Facts, sites: &[&'a Arc<Site>]) -> Option<&'a Arc<Site>> {
    let scores = scores(board, facts, sites);
    let none = Load::default();
    let rank = |(site, score): &(&'a Arc<Site>, i64)| {
        let load = board.load(&site.name).unwrap_or(&none);
        let of_group = load.groups.get(&facts.group).copied().unwrap_or_default();
        (-score, of_group, load.residents.len(), site.name.clone())
    };
    sites.iter().copied().zip(scores).min_by_key(rank).map(|(site, _)| site)
}

/// The sum of all plugins' scores, in the order of `sites`.
fn scores(board: &Board, facts: &Facts, sites: &[&Arc<Site>]) -> Vec<i64> {
    let weighted = [
        (3, reversed(sites.iter().map(|site| grudges(facts, site)).collect())),
        (2, scaled(sites.iter().map(|site| liking(facts, site)).collect())),
        (2, spreading(board, facts, sites)),
        (2, between(company(board, facts, sites))),
        (1, sites.iter().map(|site| room(board, facts, site)).collect()),
        (1, sites.iter().map(|site| balance(board, facts, site)).collect()),
    ];
    let sum = |index: usize| weighted.iter().map(|(weight, scores)| weight * scores[index]).sum();
    (0..sites.len()).map(sum).collect()
}

/// TaintToleration: taints that the Pod would rather avoid.
fn grudges(facts: &Facts, site: &Site) -> i64 {
    let about_this = |effect: Option<&str>| matches!(effect.unwrap_or_default(), "" | "PreferNoSchedule");
    let tolerations: Vec<_> = facts
        .tolerations
        .iter()
        .filter(|toleration| about_this(toleration.effect.as_deref()))
        .cloned()
        .collect();
    let taints = site.taints.iter().filter(|taint| taint.effect == "PreferNoSchedule");
    sum(taints.filter(|taint| !tolerates(&tolerations, taint)).map(|_| 1))
}

/// NodeAffinity: what the Pod prefers of nodes.
fn liking(facts: &Facts, site: &Site) -> i64 {
    let liked = facts
        .preferred
        .iter()
        .filter(|(_, term)| term.matches(&site.name, &site.labels));
    sum(liked.map(|(weight, _)| *weight))
}

/// InterPodAffinity: whom the Pod prefers to be near, and who prefers it.
fn company(board: &Board, facts: &Facts, sites: &[&Arc<Site>]) -> Vec<i64> {
    let leanings = board.leanings(facts);
    let at = |site: &&Arc<Site>| {
        let here = leanings
            .iter()
            .filter(|((key, value), _)| site.labels.get(*key).is_some_and(|label| label == value));
        sum(here.map(|(_, weight)| *weight))
    };
    sites.iter().map(at).collect()
}

/// NodeResourcesFit: the share of the node that would stay free.
fn room(board: &Board, facts: &Facts, site: &Site) -> i64 {
    let load = board.load(&site.name);
    let share = |resource: &str| {
        let whole = site.allocatable.get(resource);
        let used = load.map_or(0, |load| load.estimate.get(resource)) + facts.estimate.get(resource);
        (whole > 0).then(|| (whole - used).max(0) * BEST / whole)
    };
    let shares: Vec<i64> = [CPU, MEMORY].into_iter().filter_map(share).collect();
    let count = i64::try_from(shares.len()).unwrap_or(1).max(1);
    shares.into_iter().sum::<i64>() / count
}

/// NodeResourcesBalancedAllocation: how evenly processors and memory would be used; of no interest to a Pod that requests
/// nothing.
fn balance(board: &Board, facts: &Facts, site: &Site) -> i64 {
    if [CPU, MEMORY]
        .into_iter()
        .all(|resource| facts.requests.get(resource) == 0)
    {
        return 0;
    }
    let load = board.load(&site.name);
    let permille = |resource: &str| {
        let whole = site.allocatable.get(resource);
        let used = load.map_or(0, |load| load.requests.get(resource)) + facts.requests.get(resource);
        (whole > 0).then(|| (i128::from(used) * 1000 / i128::from(whole)).min(1000))
    };
    match (permille(CPU), permille(MEMORY)) {
        (Some(cpu), Some(memory)) => i64::try_from((1000 - (cpu - memory).abs() / 2) / 10).unwrap_or_default(),
        _ => BEST,
    }
}

/// PodTopologySpread: by the constraints that should hold, or by the scheduler's own.
fn spreading(board: &Board, facts: &Facts, sites: &[&Arc<Site>]) -> Vec<i64> {
    if facts.spreads {
        if facts.may_spread.is_empty() {
            return vec![0; sites.len()];
        }
        let complete = |site: &Site| {
            facts
                .may_spread
                .iter()
                .all(|c| site.labels.contains_key(&c.topology_key))
        };
        let per_constraint: Vec<_> = facts
            .may_spread
            .iter()
            .map(|constraint| constrained(board, facts, constraint, sites))
            .collect();
        let sums = |index: usize| {
            let site = sites[index];
            complete(site).then(|| per_constraint.iter().filter_map(|scores| scores[index]).sum::<f64>())
        };
        return inverted(&(0..sites.len()).map(sums).collect::<Vec<_>>());
    }
    let counted = |site: &Site| {
        let load = board.load(&site.name);
        load.and_then(|load| load.groups.get(&facts.group))
            .copied()
            .unwrap_or_default()
    };
    let all: Vec<(&Site, i64)> = board
        .sites()
        .filter(|site| facts.demand.matches(&site.name, &site.labels))
        .map(|site| (&**site, i64::try_from(counted(site)).unwrap_or_default()))
        .collect();
    let own: Vec<_> = OWN_SPREAD
        .iter()
        .map(|(key, skew)| at_places(key, *skew, &all, sites))
        .collect();
    let sums = |index: usize| {
        Some(
            own.iter()
                .filter_map(|scores: &Vec<Option<f64>>| scores[index])
                .sum::<f64>(),
        )
    };
    inverted(&(0..sites.len()).map(sums).collect::<Vec<_>>())
}

fn constrained(board: &Board, facts: &Facts, constraint: &Spread, sites: &[&Arc<Site>]) -> Vec<Option<f64>> {
    let per_node = board.staying(&facts.class.namespace, &constraint.selector);
    let counted: Vec<(&Site, i64)> = board
        .sites()
        .filter(|site| is_counted(facts, &facts.may_spread, constraint, site))
        .map(|site| (&**site, per_node.get(&*site.name).copied().unwrap_or_default()))
        .collect();
    at_places(&constraint.topology_key, constraint.max_skew, &counted, sites)
}

/// For each site the Pods at its place, weighed by how many places there are: the more Pods, the higher.
fn at_places(key: &str, max_skew: i32, counted: &[(&Site, i64)], sites: &[&Arc<Site>]) -> Vec<Option<f64>> {
    let mut places: BTreeMap<&str, i64> = BTreeMap::new();
    for place in sites.iter().filter_map(|site| site.labels.get(key)) {
        places.insert(place, 0);
    }
    for (site, count) in counted {
        if let Some(sum) = site.labels.get(key).and_then(|place| places.get_mut(place.as_str())) {
            *sum += count;
        }
    }
    let weight = (number(i64::try_from(places.len()).unwrap_or_default()) + 2.0).ln();
    let score = |site: &&Arc<Site>| {
        let count = places.get(site.labels.get(key)?.as_str())?;
        Some(number(*count) * weight + f64::from(max_skew - 1))
    };
    sites.iter().map(score).collect()
}

#[allow(clippy::cast_precision_loss, reason = "counts of Pods are far below 2^52")]
fn number(count: i64) -> f64 {
    count as f64
}

/// Few Pods are best; a node that a constraint has no place for is worst.
#[allow(clippy::cast_possible_truncation, reason = "sums of counts of Pods")]
fn inverted(sums: &[Option<f64>]) -> Vec<i64> {
    let rounded: Vec<Option<i64>> = sums.iter().map(|sum| sum.map(|sum| sum.round() as i64)).collect();
    let most = rounded.iter().flatten().max().copied().unwrap_or_default();
    let least = rounded.iter().flatten().min().copied().unwrap_or_default();
    let score = |sum: &Option<i64>| match sum {
        None => 0,
        Some(_) if most == 0 => BEST,
        Some(sum) => BEST * (most + least - sum) / most,
    };
    rounded.iter().map(score).collect()
}

/// The highest becomes the best.
fn scaled(scores: Vec<i64>) -> Vec<i64> {
    let most = scores.iter().max().copied().unwrap_or_default();
    if most == 0 {
        return scores;
    }
    scores.into_iter().map(|score| score * BEST / most).collect()
}

/// The highest becomes 0; without any, all are best.
fn reversed(scores: Vec<i64>) -> Vec<i64> {
    scaled(scores).into_iter().map(|score| BEST - score).collect()
}

/// The lowest (of 0 and all) becomes 0, the highest the best.
fn between(scores: Vec<i64>) -> Vec<i64> {
    let most = scores.iter().max().copied().unwrap_or_default().max(0);
    let least = scores.iter().min().copied().unwrap_or_default().min(0);
    let span = most - least;
    let score = |score: i64| if span > 0 { BEST * (score - least) / span } else { 0 };
    scores.into_iter().map(score).collect()
}

fn sum(numbers: impl Iterator<Item = i64>) -> i64 {
    numbers.sum()
}
