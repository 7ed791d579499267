//! `matchLabelKeys` and `mismatchLabelKeys` of a new Pod, spelled out in the label selectors beside them with the Pod's
//! own values (KEP-3633 for affinity, KEP-3243 for spreading). The scheduler then needs the selectors alone, and a label
//! that changes later changes nothing.
//!
//! Only Pods: a template's labels are its controller's to complete. Pure.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{PodAffinityTerm, PodSpec, WeightedPodAffinityTerm};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, LabelSelectorRequirement};

type Labels = BTreeMap<String, String>;

/// Merges all of a Pod's.
pub fn merge(labels: &Labels, spec: &mut PodSpec) {
    for constraint in spec.topology_spread_constraints.iter_mut().flatten() {
        let keys = constraint.match_label_keys.as_deref();
        extend(constraint.label_selector.as_mut(), keys, "In", labels);
    }
    let Some(affinity) = &mut spec.affinity else { return };
    if let Some(near) = &mut affinity.pod_affinity {
        terms(
            near.preferred_during_scheduling_ignored_during_execution.as_mut(),
            near.required_during_scheduling_ignored_during_execution.as_mut(),
            labels,
        );
    }
    if let Some(far) = &mut affinity.pod_anti_affinity {
        terms(
            far.preferred_during_scheduling_ignored_during_execution.as_mut(),
            far.required_during_scheduling_ignored_during_execution.as_mut(),
            labels,
        );
    }
}

fn terms(
    preferred: Option<&mut Vec<WeightedPodAffinityTerm>>,
    required: Option<&mut Vec<PodAffinityTerm>>,
    labels: &Labels,
) {
    let preferred = preferred.into_iter().flatten();
    let preferred = preferred.map(|weighted| &mut weighted.pod_affinity_term);
    preferred
        .chain(required.into_iter().flatten())
        .for_each(|each| term(each, labels));
}

fn term(term: &mut PodAffinityTerm, labels: &Labels) {
    let mut selector = term.label_selector.as_mut();
    extend(selector.as_deref_mut(), term.match_label_keys.as_deref(), "In", labels);
    extend(selector, term.mismatch_label_keys.as_deref(), "NotIn", labels);
}

/// Keys that the Pod has no label of are left out.
fn extend(selector: Option<&mut LabelSelector>, keys: Option<&[String]>, operator: &str, labels: &Labels) {
    let (Some(selector), Some(keys)) = (selector, keys) else {
        return;
    };
    let present = keys.iter().filter_map(|key| Some((key, labels.get(key)?)));
    let merged: Vec<_> = present
        .map(|(key, value)| LabelSelectorRequirement {
            key: key.clone(),
            operator: operator.to_owned(),
            values: Some(vec![value.clone()]),
        })
        .collect();
    if !merged.is_empty() {
        selector.match_expressions.get_or_insert_default().extend(merged);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_become_requirements_with_the_pods_own_values() {
        let labels = Labels::from([
            ("hash".to_owned(), "1".to_owned()),
            ("tenant".to_owned(), "a".to_owned()),
        ]);
        let near = json!({"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "web"}},
            "matchLabelKeys": ["hash", "absent"], "mismatchLabelKeys": ["tenant"]});
        let mut spec: PodSpec = serde_json::from_value(json!({
            "containers": [],
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}, "matchLabelKeys": ["hash"]},
            ],
            "affinity": {
                "podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [near]},
                "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "podAffinityTerm": near}]},
            },
        }))
        .unwrap();
        merge(&labels, &mut spec);
        let spec = serde_json::to_value(spec).unwrap();
        let hash = json!({"key": "hash", "operator": "In", "values": ["1"]});
        let tenant = json!({"key": "tenant", "operator": "NotIn", "values": ["a"]});
        assert_eq!(
            spec["topologySpreadConstraints"][0]["labelSelector"],
            json!({"matchExpressions": [hash]})
        );
        let both = json!({"matchExpressions": [hash, tenant], "matchLabels": {"app": "web"}});
        let affinity = &spec["affinity"];
        for merged in [
            &affinity["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0],
            &affinity["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"][0]["podAffinityTerm"],
        ] {
            assert_eq!(merged["labelSelector"], both);
            assert_eq!(
                merged["matchLabelKeys"], near["matchLabelKeys"],
                "they stay as they were sent"
            );
        }
    }
}
