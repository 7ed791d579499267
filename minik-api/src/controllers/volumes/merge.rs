//! Changes of claims and volumes as whole objects: the role of the persistent volume controller lets it update what it
//! binds, and not patch it.

use std::fmt::Debug;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::Api;
use kube::api::PostParams;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What is written here.
pub trait Stored: Clone + Debug + Serialize + DeserializeOwned {}
impl Stored for PersistentVolume {}
impl Stored for PersistentVolumeClaim {}

/// PUTs the newest version of an object with `patch` merged into it; what the patch says of uid and version holds, as it
/// would in a patch.
pub async fn merged<K: Stored>(api: &Api<K>, name: &str, patch: Value) -> Result<K, kube::Error> {
    let changed = merge(api, name, &patch).await?;
    api.replace(name, &PostParams::default(), &changed).await
}

/// The same for the status.
pub async fn merged_status<K: Stored>(api: &Api<K>, name: &str, patch: Value) -> Result<K, kube::Error> {
    let changed = merge(api, name, &patch).await?;
    api.replace_status(name, &PostParams::default(), &changed).await
}

async fn merge<K: Stored>(api: &Api<K>, name: &str, patch: &Value) -> Result<K, kube::Error> {
    let mut object = serde_json::to_value(api.get(name).await?).map_err(kube::Error::SerdeError)?;
    json_patch::merge(&mut object, patch);
    serde_json::from_value(object).map_err(kube::Error::SerdeError)
}
