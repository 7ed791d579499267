//! The service ip repair controller: every cluster IP of a Service has an IPAddress that refers to the
//! Service, and every IPAddress of a Service has its Service.
//!
//! The write path keeps the two together (`http::addresses`); this repairs what a crash, or somebody who
//! deletes an IPAddress, leaves. The first pass over the caches is the repair at start.

mod decide;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::networking::v1::{IPAddress, IPAddressSpec, ParentReference, ServiceCIDR};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, PostParams, Preconditions};
use kube::{Api, ResourceExt};

use super::cache::Key;
use super::context::Context;
use super::error::{ReconcileError, found, is_already_exists, is_not_found};
use super::queue::{Queue, drive};
use super::recorder::{Note, Recorder};
use super::write;
use crate::alloc::{FAMILY, MANAGED_BY, MANAGER};
use decide::{Leak, Repair};

/// How long an address that a Service got by an update may take to get its IPAddress.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// The controller. Service keys have a namespace, IPAddress keys have none.
pub struct ServiceIpRepairController {
    context: Arc<Context>,
    service_recorder: Recorder,
    address_recorder: Recorder,
    queue: Arc<Queue<Key>>,
    /// Services that lacked an IPAddress when last looked at.
    suspects: Mutex<BTreeSet<Key>>,
}

impl ServiceIpRepairController {
    /// A controller that learns of changes from now on.
    pub fn new(context: Arc<Context>) -> Self {
        let queue: Arc<Queue<Key>> = Arc::default();
        let own = queue.clone();
        context.services.on_change(move |change| {
            if let Some(service) = &change.new {
                own.add(Key::of(&**service));
            }
            // Whatever it left behind is looked at when its time is up.
            let gone = change.old.iter().filter(|_| change.new.is_none());
            gone.flat_map(|service| decide::addresses(service))
                .for_each(|ip| own.add(Key::new("", ip)));
        });
        let own = queue.clone();
        context.ip_addresses.on_change(move |change| {
            let Some(latest) = change.latest() else { return };
            own.add(Key::of(&**latest));
            let parent = &latest.spec.parent_ref;
            if change.new.is_none() && parent.resource == "services" {
                own.add(Key::new(
                    parent.namespace.clone().unwrap_or_default(),
                    parent.name.clone(),
                ));
            }
        });
        let component = "ipallocator-repair-controller";
        Self {
            service_recorder: context.recorder.component(component, Some("ClusterIPAllocation")),
            address_recorder: context.recorder.component(component, Some("IPAddressAllocation")),
            context,
            queue,
            suspects: Mutex::default(),
        }
    }

    /// Works until dropped.
    pub async fn run(&self) {
        self.context.services.synced().await;
        self.context.ip_addresses.synced().await;
        self.context.service_cidrs.synced().await;
        drive(&self.queue, 5, |key| self.reconcile(key)).await;
    }

    async fn reconcile(&self, key: Key) -> Result<(), ReconcileError> {
        if key.namespace.is_empty() {
            return self.check_address(key).await;
        }
        let Some(service) = self.context.services.get(&key) else {
            self.suspects().remove(&key);
            return Ok(());
        };
        for ip in decide::addresses(&service) {
            self.check_cluster_ip(&key, &service, ip).await?;
        }
        Ok(())
    }

    async fn check_cluster_ip(&self, key: &Key, service: &Service, ip: &str) -> Result<(), ReconcileError> {
        let cached = self.context.ip_addresses.get(&Key::new("", ip));
        let held = match cached {
            Some(held) => Some((*held).clone()),
            // The cache of IPAddresses may lag behind that of Services.
            None => found(self.api().get(ip).await).map_err(|source| ReconcileError::Read {
                what: format!("IPAddress {ip}"),
                source,
            })?,
        };
        let referred = held.as_ref().and_then(|held| self.parent(held));
        let verdict = decide::cluster_ip(service, ip, self.in_range(ip), held.as_ref(), referred.as_deref());
        let tell = |note: Note| self.service_recorder.record(service, note, Timestamp::now());
        match verdict {
            Repair::Nothing => {
                self.suspects().remove(key);
                Ok(())
            }
            Repair::Tell(note) => {
                tell(note);
                Ok(())
            }
            Repair::Create(_) if self.suspects().insert(key.clone()) => {
                self.queue.add_after(key.clone(), SECOND_LOOK);
                Ok(())
            }
            Repair::Create(note) => {
                if write::is_living(&self.context.client, service).await? {
                    tell(note);
                    self.create(service, ip).await?;
                }
                self.suspects().remove(key);
                Ok(())
            }
            Repair::Recreate(note) => {
                if let Some(note) = note {
                    tell(note);
                }
                if let Some(held) = held {
                    self.delete(&held).await?;
                }
                self.create(service, ip).await
            }
        }
    }

    async fn check_address(&self, key: Key) -> Result<(), ReconcileError> {
        let Some(held) = self.context.ip_addresses.get(&key) else {
            return Ok(());
        };
        let parent = self.parent(&held);
        match decide::address(&held, parent.as_deref(), Timestamp::now()) {
            Leak::None => Ok(()),
            Leak::Wait(delay) => {
                self.queue.add_after(key, delay);
                Ok(())
            }
            Leak::Remove(note) => {
                self.address_recorder.record(&*held, note, Timestamp::now());
                self.delete(&held).await
            }
        }
    }

    /// The Service that an IPAddress refers to.
    fn parent(&self, held: &IPAddress) -> Option<Arc<Service>> {
        let reference = &held.spec.parent_ref;
        let namespace = reference.namespace.clone().unwrap_or_default();
        self.context.services.get(&Key::new(namespace, reference.name.clone()))
    }

    fn in_range(&self, ip: &str) -> bool {
        let Ok(ip) = ip.parse::<std::net::IpAddr>() else {
            return false;
        };
        let contains = |range: &ServiceCIDR| {
            let cidrs = range.spec.iter().filter_map(|spec| spec.cidrs.as_ref()).flatten();
            let mut networks = cidrs.filter_map(|cidr| cidr.parse::<ipnet::IpNet>().ok());
            networks.any(|network| network.contains(&ip))
        };
        self.context
            .service_cidrs
            .snapshot()
            .iter()
            .any(|range| contains(range))
    }

    async fn create(&self, service: &Service, ip: &str) -> Result<(), ReconcileError> {
        let labels = [(FAMILY, "IPv4"), (MANAGED_BY, MANAGER)];
        let object = IPAddress {
            metadata: ObjectMeta {
                name: Some(ip.to_owned()),
                labels: Some(labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into()),
                ..ObjectMeta::default()
            },
            spec: IPAddressSpec {
                parent_ref: ParentReference {
                    group: None,
                    resource: "services".to_owned(),
                    namespace: service.namespace(),
                    name: service.name_any(),
                },
            },
        };
        match self.api().create(&PostParams::default(), &object).await {
            Err(source) if !is_already_exists(&source) => Err(ReconcileError::Create {
                what: format!("IPAddress {ip}"),
                source,
            }),
            _ => Ok(()),
        }
    }

    async fn delete(&self, held: &IPAddress) -> Result<(), ReconcileError> {
        let params = DeleteParams::background().preconditions(Preconditions {
            uid: held.uid(),
            resource_version: None,
        });
        match self.api().delete(&held.name_any(), &params).await {
            Err(source) if !is_not_found(&source) => Err(ReconcileError::Delete {
                what: write::what(held),
                source,
            }),
            _ => Ok(()),
        }
    }

    fn api(&self) -> Api<IPAddress> {
        Api::all(self.context.client.clone())
    }

    fn suspects(&self) -> std::sync::MutexGuard<'_, BTreeSet<Key>> {
        // A panic while the lock is held leaves at worst a Service that is looked at once more.
        self.suspects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
