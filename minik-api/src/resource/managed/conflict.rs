//! What an apply that would take fields from others answers with, in Kubernetes' words.

use std::collections::BTreeMap;

use super::{Element, FieldSet, Manager, Operation};

/// One field that another manager owns with another value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// Who owns it.
    pub manager: Manager,
    /// Which field.
    pub path: Vec<Element>,
}

impl Conflict {
    /// The field as messages and causes name it: `.spec.replicas`.
    #[must_use]
    pub fn field(&self) -> String {
        self.path.iter().map(Element::to_string).collect()
    }

    /// The cause's message: `conflict with "kubectl" using apps/v1`.
    #[must_use]
    pub fn message(&self) -> String {
        format!("conflict with {}", printed(&self.manager))
    }
}

/// All fields that stand against an apply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", message(.0))]
pub struct Conflicts(pub Vec<Conflict>);

impl Conflicts {
    /// The conflicts about each manager's fields.
    pub(super) fn of(sets: BTreeMap<Manager, FieldSet>) -> Self {
        let all = sets.into_iter().flat_map(|(manager, set)| {
            let of_manager = move |path| Conflict {
                manager: manager.clone(),
                path,
            };
            set.paths().into_iter().map(of_manager)
        });
        Self(all.collect())
    }

    /// The conflicts about fields that are not in `allowed`.
    pub(super) fn without(mut self, allowed: &FieldSet) -> Self {
        self.0.retain(|conflict| !allowed.has(&conflict.path));
        self
    }
}

fn message(conflicts: &[Conflict]) -> String {
    if let [one] = conflicts {
        return format!("Apply failed with 1 conflict: {}: {}", one.message(), one.field());
    }
    let mut by_manager: BTreeMap<&Manager, Vec<String>> = BTreeMap::new();
    for conflict in conflicts {
        by_manager.entry(&conflict.manager).or_default().push(conflict.field());
    }
    let lines = by_manager.into_iter().flat_map(|(manager, fields)| {
        let head = format!("conflicts with {}:", printed(manager));
        std::iter::once(head).chain(fields.into_iter().map(|field| format!("- {field}")))
    });
    let lines: Vec<String> = lines.collect();
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}

fn printed(manager: &Manager) -> String {
    let mut text = format!("{:?}", manager.name);
    if !manager.subresource.is_empty() {
        text += &format!(" with subresource {:?}", manager.subresource);
    }
    if manager.operation == Operation::Update {
        text += &format!(" using {}", manager.api_version);
    }
    text
}
