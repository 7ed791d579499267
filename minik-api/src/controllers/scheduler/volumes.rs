//! What the claims of a Pod say about nodes, and what becomes of them once a node is chosen. Pure.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;

use super::board::{Board, Site};
use super::facts::Facts;
use super::refusal::{Reason, Refusal};
use crate::controllers::cache::{Key, Snapshot};
use crate::controllers::volumes::matching::{
    NO_PROVISIONER, class_of, find, is_reachable, volume_name, waits_for_consumer,
};

/// Claims, volumes and classes at one moment.
#[derive(Debug, Default)]
pub struct Volumes {
    /// PersistentVolumeClaims.
    pub claims: Snapshot<PersistentVolumeClaim>,
    /// PersistentVolumes.
    pub volumes: Snapshot<PersistentVolume>,
    /// StorageClasses.
    pub classes: Snapshot<StorageClass>,
}

/// What to do for a claim before the Pod that waited with it is bound.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimStep {
    /// The claim.
    pub claim: Key,
    /// The volume to keep for it; `None` asks the provisioner to make one for the chosen node.
    pub volume: Option<String>,
}

/// What the claims of one Pod want of nodes.
#[derive(Debug, Clone, Default)]
pub struct Wanted {
    bound: Vec<Option<Arc<PersistentVolume>>>,
    waiting: Vec<(Arc<PersistentVolumeClaim>, bool)>,
    free: Vec<Arc<PersistentVolume>>,
    taken: bool,
}

impl Volumes {
    /// Looks at the claims of a Pod.
    ///
    /// # Errors
    /// What makes every node useless, in the scheduler's words.
    pub fn wanted(&self, board: &Board, facts: &Facts) -> Result<Wanted, String> {
        let mut wanted = Wanted::default();
        for name in &facts.claims {
            let key = Key::new(&facts.key.namespace, name);
            let claim = self.claims.get(&key);
            let claim = claim.ok_or_else(|| format!("persistentvolumeclaim {name:?} not found"))?;
            if claim.metadata.deletion_timestamp.is_some() {
                return Err(format!("persistentvolumeclaim {name:?} is being deleted"));
            }
            let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
            if phase == Some("Lost") {
                let volume = volume_name(claim).unwrap_or_default();
                return Err(format!(
                    "persistentvolumeclaim {name:?} bound to non-existent persistentvolume {volume:?}"
                ));
            }
            let modes = claim.spec.iter().flat_map(|spec| spec.access_modes.iter().flatten());
            let exclusive = modes.into_iter().any(|mode| mode == "ReadWriteOncePod");
            wanted.taken |= exclusive && board.users(&key) > 0;
            self.look_at(claim, &mut wanted)?;
        }
        if !wanted.waiting.is_empty() {
            wanted.free = self.volumes.iter().cloned().collect();
        }
        Ok(wanted)
    }

    fn look_at(&self, claim: &Arc<PersistentVolumeClaim>, wanted: &mut Wanted) -> Result<(), String> {
        let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
        match volume_name(claim) {
            Some(volume) if phase == Some("Bound") => {
                wanted.bound.push(self.volumes.get(&Key::new("", volume)).cloned());
                Ok(())
            }
            // A claim that names its volume waits for nobody.
            None => match self.classes.get(&Key::new("", class_of(claim))) {
                Some(class) if waits_for_consumer(class) => {
                    let makes = class.provisioner != NO_PROVISIONER;
                    wanted.waiting.push((claim.clone(), makes));
                    Ok(())
                }
                _ => Err("pod has unbound immediate PersistentVolumeClaims".to_owned()),
            },
            Some(_) => Err("pod has unbound immediate PersistentVolumeClaims".to_owned()),
        }
    }
}

impl Wanted {
    /// Why the volumes keep the Pod from a node.
    pub fn refusal(&self, site: &Site) -> Option<Refusal> {
        if self.taken {
            return Some(Refusal::crowded(Reason::VolumeInUse));
        }
        let at = (&*site.name, &site.labels);
        for volume in &self.bound {
            match volume {
                None => return Some(Refusal::flat(Reason::VolumeGone)),
                Some(volume) if !is_reachable(volume, at) => return Some(Refusal::flat(Reason::VolumeElsewhere)),
                Some(_) => {}
            }
        }
        self.steps(site).is_none().then(|| Refusal::flat(Reason::NoVolume))
    }

    /// What to do for each claim that waited for a node, if this one were it; `None` if something cannot be done.
    pub fn steps(&self, site: &Site) -> Option<Vec<ClaimStep>> {
        let at = (&*site.name, &site.labels);
        let mut steps: Vec<ClaimStep> = Vec::with_capacity(self.waiting.len());
        for (claim, can_be_made) in &self.waiting {
            let chosen = |name: &Option<String>| steps.iter().any(|step| step.volume == *name);
            let left = self.free.iter().filter(|volume| !chosen(&volume.metadata.name));
            let volume = find(claim, left, Some(at)).and_then(|volume| volume.metadata.name.clone());
            if volume.is_none() && !can_be_made {
                return None;
            }
            steps.push(ClaimStep {
                claim: Key::of(&**claim),
                volume,
            });
        }
        Some(steps)
    }
}
