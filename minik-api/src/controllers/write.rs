//! The writes that controllers make, each with an error that says what was being written.
//!
//! Updates carry the resourceVersion that was read, so a decision from a stale cache loses the race
//! instead of overwriting; deletions carry the uid, so a namesake is never hit.

use std::fmt::Debug;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::cache::Key;
use super::error::{ReconcileError, found, is_not_found};

/// A namespaced kind with types known at compile time.
pub trait Kind:
    Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned
{
}

impl<K> Kind for K where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + Debug + Serialize + DeserializeOwned
{
}

/// "Service default/web", for errors.
pub fn what<K: Resource<DynamicType = ()>>(object: &K) -> String {
    format!("{} {}", K::kind(&()), Key::of(object))
}

fn api<K: Kind>(client: &Client, object: &K) -> Api<K> {
    Api::namespaced(client.clone(), &object.namespace().unwrap_or_default())
}

/// Whether the server still has exactly this object, and nobody has asked it to go.
///
/// Caches of different kinds follow the server at different speeds: one may show dependents going
/// before the other shows that their owner went first. Who is about to replace dependents asks.
pub async fn is_living<K: Kind>(client: &Client, object: &K) -> Result<bool, ReconcileError> {
    let live = found(api(client, object).get(&object.name_any()).await);
    let live = live.map_err(|source| ReconcileError::Read {
        what: what(object),
        source,
    })?;
    Ok(live.is_some_and(|live| live.uid() == object.uid() && live.meta().deletion_timestamp.is_none()))
}

/// POSTs a new object.
pub async fn create<K: Kind>(client: &Client, object: &K) -> Result<K, ReconcileError> {
    let result = api(client, object).create(&PostParams::default(), object).await;
    result.map_err(|source| {
        let name = object
            .meta()
            .name
            .clone()
            .or_else(|| object.meta().generate_name.clone())
            .unwrap_or_default();
        let key = Key::new(object.namespace().unwrap_or_default(), name);
        ReconcileError::Create {
            what: format!("{} {key}", K::kind(&())),
            source,
        }
    })
}

/// PUTs an object over the version that it was made from.
pub async fn update<K: Kind>(client: &Client, object: &K) -> Result<K, ReconcileError> {
    let result = api(client, object)
        .replace(&object.name_any(), &PostParams::default(), object)
        .await;
    result.map_err(|source| ReconcileError::Update {
        what: what(object),
        source,
    })
}

/// PUTs an object's status over the version that it was made from.
pub async fn update_status<K: Kind>(client: &Client, object: &K) -> Result<K, ReconcileError> {
    let api = api(client, object);
    let result = api
        .replace_status(&object.name_any(), &PostParams::default(), object)
        .await;
    result.map_err(|source| ReconcileError::UpdateStatus {
        what: what(object),
        source,
    })
}

/// DELETEs exactly this object; that it is gone already is no error.
pub async fn delete<K: Kind>(client: &Client, object: &K) -> Result<(), ReconcileError> {
    delete_by(client, object, DeleteParams::background()).await
}

/// DELETEs exactly this object once what it owns is gone; that it is gone already is no error.
pub async fn delete_with_dependents<K: Kind>(client: &Client, object: &K) -> Result<(), ReconcileError> {
    delete_by(client, object, DeleteParams::foreground()).await
}

async fn delete_by<K: Kind>(client: &Client, object: &K, params: DeleteParams) -> Result<(), ReconcileError> {
    let preconditions = Preconditions {
        uid: object.uid(),
        resource_version: None,
    };
    let params = params.preconditions(preconditions);
    match api(client, object).delete(&object.name_any(), &params).await {
        Err(error) if !is_not_found(&error) => Err(ReconcileError::Delete {
            what: what(object),
            source: error,
        }),
        _ => Ok(()),
    }
}

/// Replaces an object's owner references, if it is still the version that was read.
pub async fn set_owners<K: Kind>(client: &Client, object: &K, owners: &[OwnerReference]) -> Result<K, ReconcileError> {
    let patch = json!({"metadata": {
        "uid": object.uid(),
        "resourceVersion": object.resource_version(),
        "ownerReferences": owners,
    }});
    let result = api(client, object)
        .patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(patch))
        .await;
    result.map_err(|source| ReconcileError::Update {
        what: what(object),
        source,
    })
}

/// Takes a finalizer off exactly this object, whatever else has changed; that it is gone is no error.
pub async fn remove_finalizer<K: Kind>(client: &Client, object: &K, finalizer: &str) -> Result<(), ReconcileError> {
    let patch = json!({"metadata": {"uid": object.uid(), "$deleteFromPrimitiveList/finalizers": [finalizer]}});
    let result = api(client, object)
        .patch(&object.name_any(), &PatchParams::default(), &Patch::Strategic(patch))
        .await;
    match found(result) {
        Ok(_) => Ok(()),
        Err(source) => Err(ReconcileError::Update {
            what: what(object),
            source,
        }),
    }
}
