//! The root-ca-cert-publisher: every namespace has a ConfigMap `kube-root-ca.crt` by which its Pods know the API server.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;
use kube::api::{Api, PostParams};

use super::cache::Key;
use super::context::Context;
use super::error::{ReconcileError, is_already_exists};
use super::queue::{Queue, drive};
use super::write;

const NAME: &str = "kube-root-ca.crt";
const FILE: &str = "ca.crt";
const DESCRIPTION: &str = "kubernetes.io/description";
const DESCRIBED: &str = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc. No other usage is guaranteed across distributions of Kubernetes clusters.";

/// The controller; its queue holds the keys of namespaces.
pub struct RootCaPublisher {
    context: Arc<Context>,
    queue: Arc<Queue<Key>>,
    certificate: String,
}

impl RootCaPublisher {
    /// A controller that learns of changes from now on and publishes `certificate` (PEM).
    pub fn new(context: Arc<Context>, certificate: String) -> Self {
        let queue = Arc::new(Queue::default());
        let own = queue.clone();
        context.namespaces.on_change(move |change| {
            change.new.iter().for_each(|namespace| own.add(Key::of(&**namespace)));
        });
        let own = queue.clone();
        context.config_maps.on_change(move |change| {
            let ours = change.old.iter().filter(|map| map.name_any() == NAME);
            ours.for_each(|map| own.add(Key::new("", map.namespace().unwrap_or_default())));
        });
        Self {
            context,
            queue,
            certificate,
        }
    }

    /// Works until dropped.
    pub async fn run(&self) {
        self.context.namespaces.synced().await;
        self.context.config_maps.synced().await;
        drive(&self.queue, 4, |key| self.reconcile(key)).await;
    }

    async fn reconcile(&self, key: Key) -> Result<(), ReconcileError> {
        let namespace = self.context.namespaces.get(&key);
        if namespace.is_none_or(|ns| ns.metadata.deletion_timestamp.is_some()) {
            return Ok(());
        }
        let stored = self.context.config_maps.get(&Key::new(&key.name, NAME));
        let wanted = BTreeMap::from([(FILE.to_owned(), self.certificate.clone())]);
        match stored {
            None => {
                let map = ConfigMap {
                    metadata: ObjectMeta {
                        name: Some(NAME.to_owned()),
                        namespace: Some(key.name),
                        annotations: Some(BTreeMap::from([(DESCRIPTION.to_owned(), DESCRIBED.to_owned())])),
                        ..ObjectMeta::default()
                    },
                    data: Some(wanted),
                    ..ConfigMap::default()
                };
                match write::create(&self.context.client, &map).await {
                    Err(ReconcileError::Create { source, .. }) if is_already_exists(&source) => Ok(()),
                    other => other.map(drop),
                }
            }
            Some(map) if map.data.as_ref() == Some(&wanted) => Ok(()),
            Some(map) => {
                let mut map = (*map).clone();
                map.data = Some(wanted);
                let api: Api<ConfigMap> = Api::namespaced(self.context.client.clone(), &key.name);
                let what = format!("ConfigMap {}/{NAME}", key.name);
                let replaced = api.replace(NAME, &PostParams::default(), &map).await;
                replaced
                    .map(drop)
                    .map_err(|source| ReconcileError::Update { what, source })
            }
        }
    }
}
