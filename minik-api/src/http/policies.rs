//! The stored roles and bindings as one policy, kept until one of them changes. Decides nothing: [`crate::authz`] does.

use std::sync::{Arc, Mutex, PoisonError};

use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use serde::de::DeserializeOwned;

use crate::authz::Policy;
use crate::storage::Mvcc;

/// Where roles and bindings are stored.
const POLICY: &str = "rbac.authorization.k8s.io/";

/// The policy as last read. It is read again when one of its objects has changed: when there are more or
/// fewer of them, or a newer one.
#[derive(Default)]
pub struct PolicyCache(Mutex<(usize, u64, Arc<Policy>)>);

impl PolicyCache {
    /// The policy of the roles and bindings in `objects`.
    ///
    /// # Errors
    /// One of them is damaged.
    pub fn get(&self, objects: &Mvcc) -> Result<Arc<Policy>, serde_json::Error> {
        let newest = objects.range(POLICY, None).map(|entry| entry.revision).max();
        let stamp = (objects.range(POLICY, None).count(), newest.unwrap_or_default());
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if (known.0, known.1) != stamp {
            let policy = Policy::new(
                read::<Role>(objects, "roles")?,
                read::<ClusterRole>(objects, "clusterroles")?,
                read::<RoleBinding>(objects, "rolebindings")?,
                read::<ClusterRoleBinding>(objects, "clusterrolebindings")?,
            );
            *known = (stamp.0, stamp.1, Arc::new(policy));
        }
        Ok(known.2.clone())
    }
}

fn read<K: DeserializeOwned>(objects: &Mvcc, plural: &str) -> Result<Vec<K>, serde_json::Error> {
    let prefix = format!("{POLICY}{plural}/");
    let entries = objects.range(&prefix, None);
    entries.map(|entry| serde_json::from_slice(&entry.value)).collect()
}
