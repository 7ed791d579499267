//! Writes the slices of one Service as planned, whoever planned them.

use futures::future::try_join_all;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::ResourceExt;

use super::slices::{Plan, SERVICE_NAME};
use super::unseen::Unseen;
use crate::controllers::cache::Key;
use crate::controllers::context::Context;
use crate::controllers::error::ReconcileError;
use crate::controllers::write;

/// The Service that a slice belongs to.
pub fn service_of(slice: &EndpointSlice) -> Key {
    let name = slice.labels().get(SERVICE_NAME).cloned().unwrap_or_default();
    Key::new(slice.namespace().unwrap_or_default(), name)
}

/// Creates, then updates, then deletes, so that no endpoint is missing in between.
pub async fn apply_slices(context: &Context, unseen: &Unseen, key: &Key, plan: Plan) -> Result<(), ReconcileError> {
    let client = &context.client;
    for slice in &plan.create {
        let created = write::create(client, slice).await?;
        let name = created.name_any();
        // The watch may have been faster than the reply.
        if context.slices.get(&Key::new(&key.namespace, &name)).is_none() {
            unseen.created(key, name);
        }
    }
    try_join_all(plan.update.iter().map(|slice| write::update(client, slice))).await?;
    try_join_all(plan.delete.iter().map(|slice| write::delete(client, &**slice))).await?;
    Ok(())
}
