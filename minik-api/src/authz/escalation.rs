//! Nobody gives away more than they have: which of the rules that somebody grants they do not hold themselves, and in
//! what words 1.36 says so (`k8s.io/component-helpers/auth/rbac/validation`, `rbac/validation/policy_compact`). Pure;
//! `http::escalation` asks.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::Rules;
use crate::identity::Identity;

/// Why `identity`, for whom the rules of `held` hold, may not grant `granted`; nothing when it may.
#[must_use]
pub fn refusal(identity: &Identity, held: &Rules, granted: &[PolicyRule]) -> Option<String> {
    let atoms = granted.iter().flat_map(atoms);
    let missing: Vec<PolicyRule> = atoms
        .filter(|atom| !held.rules.iter().any(|rule| covers(rule, atom)))
        .collect();
    if missing.is_empty() {
        return None;
    }
    let described: BTreeSet<String> = compact(missing).iter().map(describe).collect();
    let described: Vec<String> = described.into_iter().collect();
    let mut text = format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        identity.user,
        quoted(&identity.groups),
        described.join("\n")
    );
    if !held.problems.is_empty() {
        text.push_str(&format!("; resolution errors: [{}]", held.problems.join(" ")));
    }
    Some(text)
}

/// The rules that together allow everything.
#[must_use]
pub fn everything() -> [PolicyRule; 2] {
    let all = || vec!["*".to_owned()];
    let objects = PolicyRule {
        verbs: all(),
        api_groups: Some(all()),
        resources: Some(all()),
        ..PolicyRule::default()
    };
    let paths = PolicyRule {
        verbs: all(),
        non_resource_urls: Some(all()),
        ..PolicyRule::default()
    };
    [objects, paths]
}

/// A rule as many that allow one verb on one thing each.
fn atoms(rule: &PolicyRule) -> Vec<PolicyRule> {
    let one = |value: &String| Some(vec![value.clone()]);
    let mut atoms = Vec::new();
    for group in list(&rule.api_groups) {
        for resource in list(&rule.resources) {
            for verb in &rule.verbs {
                let atom = PolicyRule {
                    verbs: vec![verb.clone()],
                    api_groups: one(group),
                    resources: one(resource),
                    ..PolicyRule::default()
                };
                let names = list(&rule.resource_names);
                if names.is_empty() {
                    atoms.push(atom);
                    continue;
                }
                atoms.extend(names.iter().map(|name| PolicyRule {
                    resource_names: one(name),
                    ..atom.clone()
                }));
            }
        }
    }
    for url in list(&rule.non_resource_urls) {
        atoms.extend(rule.verbs.iter().map(|verb| PolicyRule {
            verbs: vec![verb.clone()],
            non_resource_urls: one(url),
            ..PolicyRule::default()
        }));
    }
    atoms
}

/// Whether a rule that is held allows what an atom does.
fn covers(held: &PolicyRule, atom: &PolicyRule) -> bool {
    let all = |held: &[String], wanted: &[String]| {
        held.iter().any(|item| item == "*") || wanted.iter().all(|item| held.contains(item))
    };
    let names = list(&held.resource_names);
    all(&held.verbs, &atom.verbs)
        && all(list(&held.api_groups), list(&atom.api_groups))
        && list(&atom.resources).iter().all(|wanted| resource(list(&held.resources), wanted))
        && list(&atom.non_resource_urls).iter().all(|wanted| url(list(&held.non_resource_urls), wanted))
        // A rule for some objects allows nothing about all of them.
        && (names.is_empty() || !list(&atom.resource_names).is_empty() && all(names, list(&atom.resource_names)))
}

fn resource(held: &[String], wanted: &str) -> bool {
    let part = wanted.split_once('/').map(|(_, part)| format!("*/{part}"));
    held.iter()
        .any(|item| item == "*" || item == wanted || Some(item) == part.as_ref())
}

fn url(held: &[String], wanted: &str) -> bool {
    held.iter()
        .any(|item| item == wanted || item.strip_suffix('*').is_some_and(|prefix| wanted.starts_with(prefix)))
}

/// Atoms about one resource as one rule with several verbs.
fn compact(atoms: Vec<PolicyRule>) -> Vec<PolicyRule> {
    let mut by_resource: BTreeMap<[Vec<String>; 3], PolicyRule> = BTreeMap::new();
    let mut rest = Vec::new();
    for atom in atoms {
        if !list(&atom.non_resource_urls).is_empty() {
            rest.push(atom);
            continue;
        }
        let key = [&atom.api_groups, &atom.resources, &atom.resource_names].map(|field| list(field).to_vec());
        match by_resource.entry(key) {
            Entry::Occupied(mut rule) => rule.get_mut().verbs.extend(atom.verbs),
            Entry::Vacant(place) => drop(place.insert(atom)),
        }
    }
    rest.extend(by_resource.into_values());
    rest
}

/// As `rbacv1helpers.CompactString`.
fn describe(rule: &PolicyRule) -> String {
    let parts = [
        ("APIGroups", list(&rule.api_groups)),
        ("Resources", list(&rule.resources)),
        ("NonResourceURLs", list(&rule.non_resource_urls)),
        ("ResourceNames", list(&rule.resource_names)),
        ("Verbs", rule.verbs.as_slice()),
    ];
    let parts = parts.iter().filter(|(_, values)| !values.is_empty());
    let parts: Vec<String> = parts
        .map(|(name, values)| format!("{name}:{}", quoted(values)))
        .collect();
    format!("{{{}}}", parts.join(", "))
}

/// As Go's `%q` prints a list of texts.
fn quoted(values: &[String]) -> String {
    let values: Vec<String> = values.iter().map(|value| format!("{value:?}")).collect();
    format!("[{}]", values.join(" "))
}

fn list(field: &Option<Vec<String>>) -> &[String] {
    field.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(verbs: &[&str], group: &str, resources: &[&str], names: &[&str]) -> PolicyRule {
        let owned = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        PolicyRule {
            verbs: owned(verbs),
            api_groups: Some(vec![group.to_owned()]),
            resources: Some(owned(resources)),
            resource_names: Some(owned(names)),
            ..PolicyRule::default()
        }
    }

    fn refused(held: Vec<PolicyRule>, granted: &[PolicyRule]) -> Option<String> {
        let identity = Identity {
            user: "jane".to_owned(),
            groups: vec!["devs".to_owned(), "system:authenticated".to_owned()],
            ..Identity::default()
        };
        let problems = Vec::new();
        let text = refusal(&identity, &Rules { rules: held, problems }, granted)?;
        let head = "user \"jane\" (groups=[\"devs\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n";
        Some(text.strip_prefix(head).expect("begins so").to_owned())
    }

    #[test]
    fn what_is_held_may_be_granted() {
        let granted = [rule(&["get", "list"], "", &["pods", "pods/log"], &[])];
        assert_eq!(refused(vec![rule(&["*"], "*", &["*"], &[])], &granted), None);
        assert_eq!(
            refused(vec![rule(&["get", "list"], "", &["pods", "*/log"], &[])], &granted),
            None
        );
        let parts = vec![
            rule(&["get"], "", &["pods", "pods/log"], &[]),
            rule(&["list"], "", &["pods", "pods/log"], &[]),
        ];
        assert_eq!(refused(parts, &granted), None, "several rules may cover one");
        assert_eq!(refused(everything().to_vec(), &everything()), None);
    }

    #[test]
    fn what_is_not_held_is_named_verb_by_verb() {
        let granted = [rule(&["get", "delete", "watch"], "", &["pods"], &[])];
        assert_eq!(
            refused(vec![rule(&["get"], "", &["pods"], &[])], &granted).as_deref(),
            Some("{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"delete\" \"watch\"]}")
        );
        assert_eq!(
            refused(Vec::new(), &everything()).as_deref(),
            Some("{APIGroups:[\"*\"], Resources:[\"*\"], Verbs:[\"*\"]}\n{NonResourceURLs:[\"*\"], Verbs:[\"*\"]}")
        );
    }

    #[test]
    fn a_right_to_one_object_is_none_to_all() {
        let one = rule(&["get"], "", &["secrets"], &["a"]);
        assert_eq!(refused(vec![one.clone()], std::slice::from_ref(&one)), None);
        assert_eq!(
            refused(vec![rule(&["get"], "", &["secrets"], &[])], std::slice::from_ref(&one)),
            None
        );
        assert_eq!(
            refused(vec![one], &[rule(&["get"], "", &["secrets"], &[])]).as_deref(),
            Some("{APIGroups:[\"\"], Resources:[\"secrets\"], Verbs:[\"get\"]}")
        );
    }
}
