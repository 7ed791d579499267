//! The serviceaccount controller: every namespace has a ServiceAccount `default`.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::ResourceExt;

use super::cache::Key;
use super::context::Context;
use super::error::{ReconcileError, is_already_exists};
use super::queue::{Queue, drive};
use super::write;

const DEFAULT: &str = "default";

/// The controller; its queue holds the keys of namespaces.
pub struct ServiceAccountController {
    context: Arc<Context>,
    queue: Arc<Queue<Key>>,
}

impl ServiceAccountController {
    /// A controller that learns of changes from now on.
    pub fn new(context: Arc<Context>) -> Self {
        let queue = Arc::new(Queue::default());
        let own = queue.clone();
        context.namespaces.on_change(move |change| {
            change.new.iter().for_each(|namespace| own.add(Key::of(&**namespace)));
        });
        let own = queue.clone();
        context.service_accounts.on_change(move |change| {
            let gone = change
                .old
                .iter()
                .filter(|account| change.new.is_none() && account.name_any() == DEFAULT);
            gone.for_each(|account| own.add(Key::new("", account.namespace().unwrap_or_default())));
        });
        Self { context, queue }
    }

    /// Works until dropped.
    pub async fn run(&self) {
        self.context.namespaces.synced().await;
        self.context.service_accounts.synced().await;
        drive(&self.queue, 4, |key| self.reconcile(key)).await;
    }

    async fn reconcile(&self, key: Key) -> Result<(), ReconcileError> {
        let living = self
            .context
            .namespaces
            .get(&key)
            .filter(|ns| ns.metadata.deletion_timestamp.is_none());
        let account = Key::new(&key.name, DEFAULT);
        if living.is_none() || self.context.service_accounts.get(&account).is_some() {
            return Ok(());
        }
        let metadata = ObjectMeta {
            name: Some(account.name),
            namespace: Some(account.namespace),
            ..ObjectMeta::default()
        };
        let account = ServiceAccount {
            metadata,
            ..ServiceAccount::default()
        };
        match write::create(&self.context.client, &account).await {
            Err(ReconcileError::Create { source, .. }) if is_already_exists(&source) => Ok(()),
            other => other.map(drop),
        }
    }
}
