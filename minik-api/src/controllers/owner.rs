//! Ownership: which objects a controller may call its own.
//!
//! Pure rules over metadata, those of Kubernetes' `ControllerRefManager`: an object
//! belongs to the controller that its controller reference names by uid; one without such a
//! reference that the selector matches is adopted; an owned one that no longer matches is released.

use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta, OwnerReference};
use kube::core::{ParseExpressionError, Selector, SelectorExt};
use kube::{Resource, ResourceExt};

/// The reference that makes `owner` the controller of an object.
pub fn controller_reference<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: owner.name_any(),
        uid: owner.uid().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The reference to an object's controller, if it has one.
pub fn controller_of(meta: &ObjectMeta) -> Option<&OwnerReference> {
    meta.owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))
}

/// Whether the object's controller has this uid.
pub fn is_controlled_by(meta: &ObjectMeta, uid: &str) -> bool {
    controller_of(meta).is_some_and(|owner| owner.uid == uid)
}

/// A selector ready to match labels. An empty one selects nothing, as for every workload.
pub struct Matcher(Option<Selector>);

impl Matcher {
    /// Compiles `selector`.
    ///
    /// # Errors
    /// An operator that is unknown or has the wrong number of values.
    pub fn new(selector: &LabelSelector) -> Result<Self, ParseExpressionError> {
        let selector = Selector::try_from(selector.clone())?;
        Ok(Self((!selector.selects_all()).then_some(selector)))
    }

    /// Whether the object's labels are selected.
    pub fn matches(&self, object: &impl Resource) -> bool {
        self.0
            .as_ref()
            .is_some_and(|selector| selector.matches(object.labels()))
    }
}

/// What an owner should do about the objects of its namespace.
#[derive(Debug)]
pub struct Claims<K> {
    /// Its own already.
    pub owned: Vec<Arc<K>>,
    /// Selected orphans.
    pub adopt: Vec<Arc<K>>,
    /// Its own, but not selected any more.
    pub release: Vec<Arc<K>>,
}

/// Sorts `objects` by what `owner` should do about them. A terminating owner adopts nothing, and
/// nobody adopts or releases a terminating object.
pub fn claim<'a, K: Resource + 'a>(
    owner: &ObjectMeta,
    selector: &Matcher,
    objects: impl Iterator<Item = &'a Arc<K>>,
) -> Claims<K> {
    let uid = owner.uid.as_deref().unwrap_or_default();
    let settled = owner.deletion_timestamp.is_some();
    let mut claims = Claims {
        owned: Vec::new(),
        adopt: Vec::new(),
        release: Vec::new(),
    };
    for object in objects {
        let meta = object.meta();
        let leaving = settled || meta.deletion_timestamp.is_some();
        match controller_of(meta) {
            Some(controller) if controller.uid != uid => {}
            Some(_) if selector.matches(&**object) => claims.owned.push(object.clone()),
            Some(_) if !leaving => claims.release.push(object.clone()),
            None if !leaving && selector.matches(&**object) => claims.adopt.push(object.clone()),
            _ => {}
        }
    }
    claims
}

/// The owner references of an adopted object.
pub fn adopted(meta: &ObjectMeta, owner: OwnerReference) -> Vec<OwnerReference> {
    let mut owners = meta.owner_references.clone().unwrap_or_default();
    owners.retain(|o| o.uid != owner.uid);
    owners.push(owner);
    owners
}

/// The owner references of a released object.
pub fn released(meta: &ObjectMeta, owner_uid: &str) -> Vec<OwnerReference> {
    let owners = meta.owner_references.clone().unwrap_or_default();
    owners.into_iter().filter(|o| o.uid != owner_uid).collect()
}
