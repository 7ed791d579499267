//! Finding the image of a container, as the kubelet's image manager tells of it: each attempt that fails is
//! `ErrImagePull`, and from the next look at the Pod on it is `ImagePullBackOff` until the next attempt.
//!
//! Downloads nothing: an image is built in, or it is not there. Waiting and its length are decided in `decide`.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Container;

use super::charge::{Charge, find};
use super::context::chain;
use super::decide::{ERR_IMAGE_PULL, IMAGE_PULL_BACK_OFF};
use crate::runtime::image::{Image, ImageError};

/// The image of a container; without one, the reason is with the Pod's troubles and events.
pub async fn pull(charge: &mut Charge, container: &Container) -> Option<Arc<Image>> {
    let (pod, name) = (Arc::clone(&charge.pod), container.name.as_str());
    let wanted = container.image.clone().unwrap_or_default();
    match charge.node.images.get(&wanted).await {
        Ok(image) => {
            let message =
                format!("Container image {wanted:?} already present on machine and can be accessed by the pod");
            charge.events.normal(&pod, Some(name), "Pulled", message);
            if let Some(why) = &image.stand_in {
                let message = format!("{wanted} is a stand-in that knows a small part of the real program: {why}");
                charge.events.warning(&pod, Some(name), "StandInImage", message);
            }
            Some(image)
        }
        Err(error) => {
            not_there(charge, container, &wanted, &error);
            None
        }
    }
}

fn not_there(charge: &mut Charge, container: &Container, wanted: &str, error: &ImageError) {
    let (pod, name) = (Arc::clone(&charge.pod), container.name.as_str());
    let warn = |reason, message| charge.events.warning(&pod, Some(name), reason, message);
    let never = container.image_pull_policy.as_deref() == Some("Never") && matches!(error, ImageError::Unknown { .. });
    let (reason, message) = if never {
        let message = format!("Container image {wanted:?} is not present with pull policy of Never");
        warn("ErrImageNeverPull", message.clone());
        ("ErrImageNeverPull", message)
    } else {
        let message = chain(error);
        let pulling = format!("Pulling image {wanted:?}");
        charge.events.normal(&pod, Some(name), "Pulling", pulling);
        warn("Failed", format!("Failed to pull image {wanted:?}: {message}"));
        (ERR_IMAGE_PULL, message)
    };
    warn("Failed", format!("Error: {reason}"));
    charge.trouble(name, reason, message);
}

/// The next look at a container whose image was not there.
pub fn back_off(charge: &mut Charge, name: &str) {
    let pod = Arc::clone(&charge.pod);
    let image = find(&pod, name).and_then(|container| container.image.as_deref());
    let message = format!("Back-off pulling image {:?}", image.unwrap_or_default());
    let Some(trouble) = charge.knowledge.troubles.get_mut(name) else {
        return;
    };
    trouble.message = format!("{message}: {ERR_IMAGE_PULL}: {}", trouble.message);
    IMAGE_PULL_BACK_OFF.clone_into(&mut trouble.reason);
    charge.events.normal(&pod, Some(name), "BackOff", message);
    let error = format!("Error: {IMAGE_PULL_BACK_OFF}");
    charge.events.warning(&pod, Some(name), "Failed", error);
}
