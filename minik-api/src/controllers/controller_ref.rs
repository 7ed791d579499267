//! Controllers of Pods and the objects they own: who is asked for attention when a Pod changes, and how
//! orphans are adopted and strangers released. The rules are those of [`owner`](super::owner); this
//! module carries them out through the API and never decides anything itself.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{Client, Resource, ResourceExt};

use super::cache::{Cache, Key};
use super::context::Context;
use super::error::ReconcileError;
use super::owner::{Matcher, adopted, claim, controller_of, controller_reference, released};
use super::queue::Queue;
use super::write::{self, Kind};

/// A kind whose objects control what a selector of theirs selects.
pub trait Owner: Kind + Send + Sync + 'static {
    /// Where its objects are held.
    fn cache(context: &Context) -> &Arc<Cache<Self>>;

    /// What the object selects.
    fn selector(&self) -> LabelSelector;
}

/// The object's selector, compiled.
///
/// # Errors
/// A selector that validation should have refused.
pub fn matcher<O: Owner>(owner: &O) -> Result<Matcher, ReconcileError> {
    Matcher::new(&owner.selector()).map_err(|source| ReconcileError::Selector {
        what: write::what(owner),
        source,
    })
}

/// Asks for attention to every `O` that changes.
pub fn follow<O: Owner>(context: &Context, queue: &Arc<Queue<Key>>) {
    let queue = queue.clone();
    O::cache(context).on_change(move |change| {
        change
            .latest()
            .into_iter()
            .for_each(|owner| queue.add(Key::of(&**owner)));
    });
}

/// Asks for attention to the `O` that controls an object of `owned` when that changes, and to all that
/// would adopt it when nobody controls it.
pub fn follow_owned<O: Owner, K: Resource + Clone + 'static>(
    context: &Context,
    owned: &Cache<K>,
    queue: &Arc<Queue<Key>>,
) {
    let (queue, owners) = (queue.clone(), O::cache(context).clone());
    owned.on_change(move |change| {
        for state in change.states() {
            let namespace = state.meta().namespace.clone().unwrap_or_default();
            match controller_of(state.meta()) {
                Some(owner) if owner.kind == O::kind(&()) => queue.add(Key::new(namespace, &owner.name)),
                Some(_) => {}
                None => {
                    let all = owners.snapshot();
                    let wants = |owner: &&Arc<O>| matcher(&***owner).is_ok_and(|selector| selector.matches(&**state));
                    all.in_namespace(&namespace)
                        .filter(wants)
                        .for_each(|owner| queue.add(Key::of(&**owner)));
                }
            }
        }
    });
}

/// The objects among `candidates` that `owner` controls, after adopting orphans and releasing strangers.
/// Before the first adoption the server is asked whether the owner is still there.
///
/// # Errors
/// The selector is unusable, or the server refuses an adoption or release.
pub async fn claim_objects<'a, O: Owner, K: Kind + 'a>(
    client: &Client,
    owner: &O,
    candidates: impl Iterator<Item = &'a Arc<K>>,
) -> Result<Vec<Arc<K>>, ReconcileError> {
    let claims = claim(owner.meta(), &matcher(owner)?, candidates);
    let mut owned = claims.owned;
    if !claims.adopt.is_empty() && write::is_living(client, owner).await? {
        for orphan in claims.adopt {
            let owners = adopted(orphan.meta(), controller_reference(owner));
            owned.push(Arc::new(write::set_owners(client, &*orphan, &owners).await?));
        }
    }
    for stranger in claims.release {
        let owners = released(stranger.meta(), &owner.uid().unwrap_or_default());
        write::set_owners(client, &*stranger, &owners).await?;
    }
    Ok(owned)
}
