//! Init containers: one after another, each to its success; those that stay (sidecars) until they have started.

use super::{Plan, View, is_sidecar};

impl View<'_> {
    /// Brings the init containers on; `true` once the others may run.
    pub(super) fn initialise(&self, plan: &mut Plan) -> bool {
        let knowledge = self.knowledge;
        let list = self.spec.init_containers.as_deref().unwrap_or_default();
        let ran = |name: &str| knowledge.current(name).is_some();
        // Once a container of the Pod proper has run in this sandbox, only sidecars are looked after.
        let initialised = self.spec.containers.iter().any(|container| ran(&container.name));
        let newest = list.iter().rposition(|container| ran(&container.name));
        for (index, container) in list.iter().enumerate() {
            let name = &container.name;
            let passed = initialised || newest.is_some_and(|newest| index < newest);
            if knowledge.alive(name) {
                let sidecar = is_sidecar(container);
                if sidecar {
                    self.keep_or_stop(container, "Init container", "", plan);
                }
                let begun = sidecar && knowledge.started(container);
                if !passed && !begun {
                    return false;
                }
            } else if is_sidecar(container) || !passed && !knowledge.succeeded(name) {
                self.start(container, plan);
                if !passed {
                    return false;
                }
            }
        }
        true
    }
}
