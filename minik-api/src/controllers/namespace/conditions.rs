//! What a namespace that is being deleted says about its progress. Pure; reasons and sentences are
//! those of Kubernetes 1.36's namespace controller.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::NamespaceCondition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// What one pass found.
#[derive(Debug, Default, PartialEq)]
pub struct Findings {
    /// Objects left, by qualified plural.
    pub remaining: BTreeMap<String, usize>,
    /// Of those, objects held by each finalizer.
    pub finalizers: BTreeMap<String, usize>,
    /// What could not be deleted, in the server's words.
    pub failures: Vec<String>,
}

impl Findings {
    /// Whether the namespace is empty.
    pub fn is_empty(&self) -> bool {
        self.remaining.is_empty() && self.failures.is_empty()
    }
}

/// The conditions as they should be, given those that are there.
pub fn conditions(old: &[NamespaceCondition], found: &Findings, now: Timestamp) -> Vec<NamespaceCondition> {
    let wanted = found.states();
    let ours: Vec<_> = wanted.iter().map(|(kind, ..)| *kind).collect();
    let others = old.iter().filter(|condition| !ours.contains(&condition.type_.as_str()));
    let mut conditions: Vec<_> = others.cloned().collect();
    for (kind, status, reason, message) in wanted {
        let before = old
            .iter()
            .find(|condition| condition.type_ == kind && condition.status == status);
        conditions.push(NamespaceCondition {
            type_: kind.into(),
            status: status.into(),
            reason: Some(reason.into()),
            message: Some(message),
            last_transition_time: before.and_then(|c| c.last_transition_time.clone()).or(Some(Time(now))),
        });
    }
    conditions
}

impl Findings {
    fn states(&self) -> [Wanted; 5] {
        [
            state(
                "NamespaceDeletionDiscoveryFailure",
                None,
                "ResourcesDiscovered",
                "All resources successfully discovered",
            ),
            state(
                "NamespaceDeletionGroupVersionParsingFailure",
                None,
                "ParsedGroupVersions",
                "All legacy kube types successfully parsed",
            ),
            state(
                "NamespaceDeletionContentFailure",
                self.failed().map(|message| ("ContentDeletionFailed", message)),
                "ContentDeleted",
                "All content successfully deleted, may be waiting on finalization",
            ),
            state(
                "NamespaceContentRemaining",
                self.left().map(|message| ("SomeResourcesRemain", message)),
                "ContentRemoved",
                "All content successfully removed",
            ),
            state(
                "NamespaceFinalizersRemaining",
                self.held().map(|message| ("SomeFinalizersRemain", message)),
                "ContentHasNoFinalizers",
                "All content-preserving finalizers finished",
            ),
        ]
    }

    fn failed(&self) -> Option<String> {
        let (count, texts) = (self.failures.len(), self.failures.join(", "));
        (count > 0).then(|| format!("Failed to delete all resource types, {count} remaining: {texts}"))
    }

    fn left(&self) -> Option<String> {
        let texts: Vec<_> = self
            .remaining
            .iter()
            .map(|(kind, n)| format!("{kind} has {n} resource instances"))
            .collect();
        (!texts.is_empty()).then(|| format!("Some resources are remaining: {}", texts.join(", ")))
    }

    fn held(&self) -> Option<String> {
        let texts: Vec<_> = self
            .finalizers
            .iter()
            .map(|(name, n)| format!("{name} in {n} resource instances"))
            .collect();
        let texts = texts.join(", ");
        (!texts.is_empty()).then(|| format!("Some content in the namespace has finalizers remaining: {texts}"))
    }
}

type Wanted = (&'static str, &'static str, &'static str, String);

fn state(
    kind: &'static str,
    trouble: Option<(&'static str, String)>,
    reason: &'static str,
    message: &'static str,
) -> Wanted {
    match trouble {
        Some((reason, message)) => (kind, "True", reason, message),
        None => (kind, "False", reason, message.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_remains_is_named_and_counted() {
        let found = Findings {
            remaining: BTreeMap::from([("configmaps.".to_string(), 1), ("pods.".to_string(), 2)]),
            finalizers: BTreeMap::from([("example.com/hold".to_string(), 1)]),
            failures: Vec::new(),
        };
        let all = conditions(&[], &found, Timestamp::UNIX_EPOCH);
        let message = |kind: &str| all.iter().find(|c| c.type_ == kind).unwrap().message.clone().unwrap();
        let expected =
            "Some resources are remaining: configmaps. has 1 resource instances, pods. has 2 resource instances";
        assert_eq!(message("NamespaceContentRemaining"), expected);
        let expected =
            "Some content in the namespace has finalizers remaining: example.com/hold in 1 resource instances";
        assert_eq!(message("NamespaceFinalizersRemaining"), expected);
        let later = Timestamp::from_second(9).unwrap();
        assert_eq!(
            conditions(&all, &found, later),
            all,
            "times change only with the status"
        );
    }
}
