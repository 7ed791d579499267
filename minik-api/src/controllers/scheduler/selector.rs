//! Selectors over labels of Pods, namespaces and nodes, read once and compared many times. Pure.
//!
//! The shapes come from `LabelSelector` and `NodeSelectorTerm`; both become a conjunction of [`Requirement`]s that can
//! be ordered, so that equal demands of many Pods are counted as one.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// Labels of anything.
pub type Labels = BTreeMap<String, String>;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Gt,
    Lt,
}

/// What must hold of one label.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Requirement {
    key: String,
    operator: Operator,
    values: BTreeSet<String>,
}

impl Requirement {
    /// `key` has one of these values.
    pub fn is_in(key: &str, values: &[&str]) -> Self {
        Self::new(key, "In", values.iter().map(ToString::to_string))
    }

    /// `key` has none of these values.
    pub fn is_not_in(key: &str, values: &[&str]) -> Self {
        Self::new(key, "NotIn", values.iter().map(ToString::to_string))
    }

    /// An operator that validation should have refused makes a requirement that nothing meets.
    fn new(key: &str, operator: &str, values: impl Iterator<Item = String>) -> Self {
        let values = values.collect();
        let (operator, values) = match operator {
            "In" => (Operator::In, values),
            "NotIn" => (Operator::NotIn, values),
            "Exists" => (Operator::Exists, values),
            "DoesNotExist" => (Operator::DoesNotExist, values),
            "Gt" => (Operator::Gt, values),
            "Lt" => (Operator::Lt, values),
            _ => (Operator::In, BTreeSet::new()),
        };
        Self {
            key: key.to_owned(),
            operator,
            values,
        }
    }

    fn holds(&self, value: Option<&str>) -> bool {
        match self.operator {
            Operator::In => value.is_some_and(|value| self.values.contains(value)),
            Operator::NotIn => value.is_none_or(|value| !self.values.contains(value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Gt => self.compares(value, |label, bound| label > bound),
            Operator::Lt => self.compares(value, |label, bound| label < bound),
        }
    }

    fn compares(&self, value: Option<&str>, holds: impl Fn(i64, i64) -> bool) -> bool {
        let number = |text: &str| text.parse::<i64>().ok();
        let bound = self.values.first().and_then(|bound| number(bound));
        matches!((value.and_then(number), bound), (Some(label), Some(bound)) if holds(label, bound))
    }
}

/// Requirements that must all hold; without any it selects everything.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Selector(BTreeSet<Requirement>);

impl Selector {
    /// The selector of `matchLabels` and `matchExpressions`.
    pub fn of(selector: &LabelSelector) -> Self {
        let equal = selector.match_labels.iter().flatten();
        let equal = equal.map(|(key, value)| Requirement::is_in(key, &[value]));
        let others = selector.match_expressions.iter().flatten();
        let others =
            others.map(|given| Requirement::new(&given.key, &given.operator, given.values.iter().flatten().cloned()));
        Self(equal.chain(others).collect())
    }

    /// The same, and `requirement`.
    pub fn and(mut self, requirement: Requirement) -> Self {
        self.0.insert(requirement);
        self
    }

    /// Whether these labels are selected.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0
            .iter()
            .all(|requirement| requirement.holds(labels.get(&requirement.key).map(String::as_str)))
    }
}

/// One term of a node selector: labels, and fields of which there is one, `metadata.name`.
#[derive(Debug, Clone, PartialEq)]
pub struct NodeTerm {
    labels: Vec<Requirement>,
    names: Vec<Requirement>,
}

impl NodeTerm {
    /// The term as the API spells it.
    pub fn of(term: &NodeSelectorTerm) -> Self {
        let read = |given: &NodeSelectorRequirement| {
            Requirement::new(&given.key, &given.operator, given.values.iter().flatten().cloned())
        };
        Self {
            labels: term.match_expressions.iter().flatten().map(read).collect(),
            names: term.match_fields.iter().flatten().map(read).collect(),
        }
    }

    /// Whether the node is meant; an empty term means none.
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        let labelled = |wanted: &Requirement| wanted.holds(labels.get(&wanted.key).map(String::as_str));
        let named = |wanted: &Requirement| wanted.holds((wanted.key == "metadata.name").then_some(name));
        !(self.labels.is_empty() && self.names.is_empty())
            && self.labels.iter().all(labelled)
            && self.names.iter().all(named)
    }

    /// The nodes that the term names, if it names any: no other can match.
    fn named(&self) -> Option<BTreeSet<&str>> {
        let lists = self.names.iter().filter(|wanted| wanted.operator == Operator::In);
        lists
            .map(|wanted| wanted.values.iter().map(String::as_str).collect::<BTreeSet<_>>())
            .reduce(|one, other| &one & &other)
    }
}

/// Which nodes a Pod may run on: its `nodeSelector` and the required part of its node affinity.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeDemand {
    /// `spec.nodeSelector`.
    pub labels: Labels,
    /// Terms of which one must match, where there are any.
    pub terms: Option<Vec<NodeTerm>>,
}

impl NodeDemand {
    /// Whether the node will do.
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        let selected = self.labels.iter().all(|(key, value)| labels.get(key) == Some(value));
        let meant = |terms: &Vec<NodeTerm>| terms.iter().any(|term| term.matches(name, labels));
        selected && self.terms.as_ref().is_none_or(meant)
    }

    /// The nodes that all terms are about, when each names some, as those of a DaemonSet's Pod do.
    pub fn named(&self) -> Option<BTreeSet<&str>> {
        let terms = self.terms.as_ref().filter(|terms| !terms.is_empty())?;
        let lists: Option<Vec<_>> = terms.iter().map(NodeTerm::named).collect();
        lists.map(|lists| lists.into_iter().flatten().collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn term(value: serde_json::Value) -> NodeTerm {
        NodeTerm::of(&serde_json::from_value(value).unwrap())
    }

    #[test]
    fn node_terms_know_all_operators_and_the_name() {
        let labels: Labels = [
            ("cpus".to_owned(), "8".to_owned()),
            ("disk".to_owned(), "ssd".to_owned()),
        ]
        .into();
        let cases = [
            (
                json!({"matchExpressions": [{"key": "disk", "operator": "In", "values": ["hdd", "ssd"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "disk", "operator": "NotIn", "values": ["ssd"]}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "gpu", "operator": "NotIn", "values": ["a"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "gpu", "operator": "DoesNotExist"}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "cpus", "operator": "Gt", "values": ["7"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "cpus", "operator": "Gt", "values": ["8"]}]}),
                false,
            ),
            (
                json!({"matchExpressions": [{"key": "cpus", "operator": "Lt", "values": ["9"]}]}),
                true,
            ),
            (
                json!({"matchExpressions": [{"key": "disk", "operator": "Lt", "values": ["9"]}]}),
                false,
            ),
            (
                json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["worker1"]}]}),
                true,
            ),
            (
                json!({"matchFields": [{"key": "metadata.name", "operator": "NotIn", "values": ["worker1"]}]}),
                false,
            ),
            (json!({}), false),
        ];
        for (value, expected) in cases {
            assert_eq!(term(value.clone()).matches("worker1", &labels), expected, "{value}");
        }
    }

    #[test]
    fn a_demand_names_nodes_only_when_every_term_does() {
        let named = |values: &[&str]| {
            term(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": values}]}))
        };
        let any = term(json!({"matchExpressions": [{"key": "disk", "operator": "Exists"}]}));
        let demand = |terms| NodeDemand {
            labels: Labels::new(),
            terms: Some(terms),
        };
        assert_eq!(
            demand(vec![named(&["a"]), named(&["b"])]).named(),
            Some(["a", "b"].into())
        );
        assert_eq!(demand(vec![named(&["a"]), any]).named(), None);
        assert_eq!(NodeDemand::default().named(), None);
    }
}
