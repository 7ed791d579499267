//! The ServiceAccount admission plugin: a new Pod runs as an account of its namespace, and its containers find the
//! account's token, the cluster's certificate and their namespace where every client looks for them.
//!
//! Source: `plugin/pkg/admission/serviceaccount`; what is in the volume is made by the Pod's node.

use std::time::Duration;

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::storage::EventKind;

use super::call::Call;
use super::document;
use super::generated_name::generate;
use super::object::{self, text};
use super::request::key;

/// The account of Pods that name none.
const DEFAULT: &str = "default";
const MIRROR: &str = "kubernetes.io/config.mirror";
const VOLUME: &str = "kube-api-access-";
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// An hour, and seven seconds by which tokens are known that were asked for without being told how long.
const TOKEN_SECONDS: i64 = 3607;
/// How long a namespace may be without its default account, which a controller makes.
const PATIENCE: Duration = Duration::from_secs(1);

/// Admits a new Pod; other kinds pass.
///
/// # Errors
/// The account is not there.
pub async fn admit(call: &Call, pod: &mut Value) -> Result<(), ApiError> {
    if call.info().kind != "Pod" || pod["metadata"]["annotations"].get(MIRROR).is_some() {
        return Ok(());
    }
    let mut name = text(pod, "/spec/serviceAccountName").to_owned();
    if name.is_empty() {
        name = DEFAULT.to_owned();
        let spec = object::map(&mut pod["spec"]);
        spec.insert("serviceAccountName".to_owned(), DEFAULT.into());
        // The old name of the field, which is kept in step.
        spec.insert("serviceAccount".to_owned(), DEFAULT.into());
    }
    let namespace = &call.target.namespace;
    let Some(account) = find(call, &name).await? else {
        return Err(ApiError::Forbidden {
            resource: call.info().into(),
            name: text(pod, "/metadata/name").to_owned(),
            reason: format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"),
            causes: Vec::new(),
        });
    };
    let own = pod["spec"]["automountServiceAccountToken"].as_bool();
    if own
        .or(account["automountServiceAccountToken"].as_bool())
        .unwrap_or(true)
    {
        mount_token(pod);
    }
    let has_pull_secrets = pod["spec"]["imagePullSecrets"]
        .as_array()
        .is_some_and(|list| !list.is_empty());
    if let (false, Some(secrets)) = (has_pull_secrets, account.get("imagePullSecrets")) {
        pod["spec"]["imagePullSecrets"] = secrets.clone();
    }
    Ok(())
}

/// The account; the default one is waited for.
async fn find(call: &Call, name: &str) -> Result<Option<Value>, ApiError> {
    let kind = call.state.registry.by_kind("", "ServiceAccount");
    let kind = kind.ok_or(ApiError::NoSuchResource)?;
    let key = key(&kind.info, &call.target.namespace, name);
    let (snapshot, mut watch) = call.state.storage.cache().watch_from_now(&key);
    let mut found = snapshot.get(&key).map(|entry| entry.value.clone());
    if found.is_none() && name == DEFAULT {
        let made = async {
            while let Ok(event) = watch.next().await {
                if *event.entry.key == *key && event.kind != EventKind::Deleted {
                    return Some(event.entry.value.clone());
                }
            }
            None
        };
        found = tokio::time::timeout(PATIENCE, made).await.ok().flatten();
    }
    let account = found.map(|value| document::parse(&kind.info, &value)).transpose()?;
    Ok(account)
}

/// Mounts the token into every container that has nothing at its place, and adds the volume if any needs it.
fn mount_token(pod: &mut Value) {
    let spec = &mut pod["spec"];
    let volumes = spec["volumes"].as_array().into_iter().flatten();
    let mut names = volumes.filter_map(|volume| volume["name"].as_str());
    let there = names.find(|name| name.starts_with(VOLUME)).map(str::to_owned);
    let volume = there.clone().unwrap_or_else(|| generate(VOLUME));
    let mount = json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH});
    let mut needed = false;
    for list in ["initContainers", "containers"] {
        for container in spec[list].as_array_mut().into_iter().flatten() {
            let mounts = list_of(container, "volumeMounts");
            if mounts.iter().all(|mount| mount["mountPath"] != MOUNT_PATH) {
                mounts.push(mount.clone());
                needed = true;
            }
        }
    }
    if needed && there.is_none() {
        list_of(spec, "volumes").push(token_volume(&volume));
    }
}

/// A list in an object, made when it is missing.
fn list_of<'a>(object: &'a mut Value, field: &str) -> &'a mut Vec<Value> {
    let list = object::map(object).entry(field).or_insert(Value::Null);
    if !list.is_array() {
        *list = Value::Array(Vec::new());
    }
    match list {
        Value::Array(list) => list,
        _ => unreachable!("it has just been made one"),
    }
}

fn token_volume(name: &str) -> Value {
    json!({"name": name, "projected": {"defaultMode": 0o644, "sources": [
        {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
        {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
        {"downwardAPI": {"items": [
            {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}},
        ]}},
    ]}})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mounted(spec: Value) -> Value {
        let mut pod = json!({"spec": spec});
        mount_token(&mut pod);
        pod["spec"].take()
    }

    #[test]
    fn every_container_finds_the_token_unless_something_else_is_there() {
        let own = json!([{"name": "mine", "mountPath": MOUNT_PATH}]);
        let spec = mounted(json!({
            "initContainers": [{"name": "i"}],
            "containers": [{"name": "a", "volumeMounts": own}, {"name": "b", "volumeMounts": [{"name": "x", "mountPath": "/x"}]}],
            "volumes": [{"name": "mine"}],
        }));
        assert_eq!(spec["containers"][0]["volumeMounts"], own);
        let name = spec["volumes"][1]["name"].as_str().expect("a volume was added");
        assert_eq!((name.len(), name.starts_with(VOLUME)), (VOLUME.len() + 5, true));
        let mount = json!({"name": name, "readOnly": true, "mountPath": MOUNT_PATH});
        assert_eq!(spec["initContainers"][0]["volumeMounts"], json!([mount]));
        assert_eq!(spec["containers"][1]["volumeMounts"][1], mount);
        assert_eq!(spec["volumes"][1], token_volume(name));
    }

    #[test]
    fn a_volume_that_is_there_or_not_needed_is_not_added() {
        let there = mounted(json!({"containers": [{"name": "a"}], "volumes": [{"name": "kube-api-access-12345"}]}));
        assert_eq!(there["volumes"].as_array().map(Vec::len), Some(1));
        assert_eq!(
            there["containers"][0]["volumeMounts"][0]["name"],
            "kube-api-access-12345"
        );
        let own = json!([{"name": "mine", "mountPath": MOUNT_PATH}]);
        let none = mounted(json!({"containers": [{"name": "a", "volumeMounts": own}]}));
        assert_eq!(none.get("volumes"), None);
    }
}
