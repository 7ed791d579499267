//! The IPAddress object of every cluster IP, and the ServiceCIDRs that cluster IPs come from.
//!
//! As in Kubernetes an address is allocated by creating its IPAddress before the Service is stored, and
//! given back by deleting it after the Service is gone; what a crash leaves between the two is repaired by
//! the `service ip repair` controller. The bitmaps of `crate::alloc` find a free address at once; creating
//! the object, which only one writer can, decides.

use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnet::Ipv4Net;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use serde_json::{Value, json};

use crate::alloc::{Allocators, FAMILY, MANAGED_BY, MANAGER, Refusal, Reservation};
use crate::error::ApiError;
use crate::resource::KindInfo;
use crate::resource::field::FieldErrors;
use crate::storage::{Change, Document, Entry, Expected, Op, StorageError, Write, guaranteed_update};

use super::call::{Call, now};
use super::object::{self, text};
use super::state::State;

/// Where IPAddresses are stored.
const ADDRESSES: &str = "networking.k8s.io/ipaddresses/";
/// Where ServiceCIDRs are stored.
const RANGES: &str = "networking.k8s.io/servicecidrs/";
/// How often an address that another writer was faster to take is replaced by another.
const MAX_ATTEMPTS: usize = 16;

/// Brings the allocators to the ServiceCIDRs as they are stored. Costs a look at each of them, of which
/// there are a few, and a rebuild only when one has changed.
///
/// # Errors
/// A stored object is damaged.
pub fn follow_ranges(state: &State) -> Result<(), serde_json::Error> {
    let snapshot = state.storage.cache().snapshot();
    let stored: Vec<_> = snapshot.range(RANGES, None).collect();
    let known: Vec<(Arc<str>, u64)> = stored.iter().map(|entry| (entry.key.clone(), entry.revision)).collect();
    if state.allocators.knows(&known) {
        return Ok(());
    }
    let mut networks = Vec::new();
    for entry in &stored {
        let range: ServiceCIDR = serde_json::from_slice(&entry.value)?;
        if is_ready(&range) {
            let cidrs = range.spec.into_iter().filter_map(|spec| spec.cidrs).flatten();
            networks.extend(cidrs.filter_map(|cidr| cidr.parse::<Ipv4Net>().ok()));
        }
    }
    if stored.is_empty() {
        // Nobody has said anything yet: the range that the cluster was made with.
        networks.push(state.config.service_cidr);
    }
    let mut held: Vec<Ipv4Addr> = snapshot
        .range(ADDRESSES, None)
        .filter_map(|entry| entry.key.strip_prefix(ADDRESSES)?.parse().ok())
        .collect();
    for entry in snapshot.range("core/services/", None) {
        held.extend(Allocators::addresses_of(&serde_json::from_slice(&entry.value)?)?);
    }
    state.allocators.set_ranges(known, &networks, held.into_iter());
    Ok(())
}

/// Whether addresses may come from a range: it stays, and nobody has said that it is not ready.
fn is_ready(range: &ServiceCIDR) -> bool {
    let conditions = range
        .status
        .iter()
        .filter_map(|status| status.conditions.as_ref())
        .flatten();
    let ready = conditions
        .filter(|condition| condition.type_ == "Ready")
        .all(|c| c.status == "True");
    range.metadata.deletion_timestamp.is_none() && ready
}

/// Takes the numbers that a new Service asks for and writes them into it.
///
/// # Errors
/// A number cannot be had.
pub fn reserve(call: &Call, service: &mut Value) -> Result<Reservation, ApiError> {
    follow_ranges(&call.state)?;
    let name = text(service, "/metadata/name").to_owned();
    let reserved = call.state.allocators.for_create(service);
    reserved.map_err(|refusal| refused(call, &name, refusal))
}

/// Takes the numbers that a changed Service needs beyond those of `old` and writes them into it.
///
/// # Errors
/// A number cannot be had.
pub fn reserve_more(call: &Call, service: &mut Value, old: &Value) -> Result<Reservation, ApiError> {
    follow_ranges(&call.state)?;
    let reserved = call.state.allocators.for_update(service, old);
    reserved.map_err(|refusal| refused(call, &call.target.name, refusal))
}

fn refused(call: &Call, name: &str, refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::Invalid(errors) => ApiError::invalid(call.info(), name, errors),
        Refusal::Exhausted(text) => ApiError::Internal(format!("Internal error occurred: {text}")),
    }
}

/// Whether these errors of a Service stand before any about numbers that cannot be had: Kubernetes settles address
/// families, allocates, and looks at everything else only then.
pub fn come_first(errors: &FieldErrors) -> bool {
    let early = |field: &str| field.starts_with("spec.clusterIP") || field.starts_with("spec.ipFamil");
    !errors.is_empty() && errors.iter().all(|error| early(&error.field))
}

/// Makes the IPAddresses of a new Service's cluster IPs. Where another writer was faster, the Service gets
/// other addresses than those of `reservation`; `asked` is the Service as its client wants it.
///
/// # Errors
/// The address that the Service asks for is gone, or storing failed.
pub async fn claim(
    call: &Call,
    asked: &Value,
    service: &mut Value,
    mut reservation: Reservation,
) -> Result<Reservation, ApiError> {
    let mut attempt = 1;
    loop {
        match make_all(&call.state, service, &reservation.taken_addresses()).await {
            Ok(()) => return Ok(reservation),
            Err(Unmade::Taken(address)) if attempt < MAX_ATTEMPTS => {
                drop(reservation);
                call.state.allocators.hold_address(address);
                service.clone_from(asked);
                reservation = reserve(call, service)?;
                attempt += 1;
            }
            Err(Unmade::Taken(address)) => {
                let reason = format!("the address {address} was taken by other writers again and again");
                return Err(ApiError::Internal(reason));
            }
            Err(Unmade::Failed(error)) => return Err(error),
        }
    }
}

/// Gives the addresses back of a Service that was not stored after all.
pub async fn abandon(state: &State, reservation: Reservation) {
    for address in reservation.taken_addresses() {
        remove(state, address).await;
    }
}

/// After an update of a Service: makes the IPAddresses of the addresses it took, removes those of the
/// addresses it gave up, and commits.
///
/// # Errors
/// Storing failed. The repair controller makes up for it.
pub async fn settle(state: &State, service: &Value, reservation: Reservation) -> Result<(), ApiError> {
    for address in reservation.given_up_addresses() {
        remove(state, address).await;
    }
    let taken = reservation.taken_addresses();
    reservation.commit();
    match make_all(state, service, &taken).await {
        Ok(()) | Err(Unmade::Taken(_)) => Ok(()),
        Err(Unmade::Failed(error)) => Err(error),
    }
}

/// After a deletion of a Service: removes its IPAddresses.
///
/// # Errors
/// The object is no Service.
pub async fn release(state: &State, service: &Value) -> Result<(), serde_json::Error> {
    for address in Allocators::addresses_of(service)? {
        let parent = state.storage.cache().get(&format!("{ADDRESSES}{address}"));
        let parent: Option<Value> = parent.map(|entry| serde_json::from_slice(&entry.value)).transpose()?;
        let own = parent.is_none_or(|ip| {
            ["name", "namespace"].iter().all(|field| {
                text(&ip, &format!("/spec/parentRef/{field}")) == text(service, &format!("/metadata/{field}"))
            })
        });
        if own {
            remove(state, address).await;
        }
    }
    state.allocators.release(service)
}

/// Why an IPAddress was not made.
enum Unmade {
    /// Somebody has it.
    Taken(Ipv4Addr),
    /// Storing failed.
    Failed(ApiError),
}

async fn make_all(state: &State, service: &Value, addresses: &[Ipv4Addr]) -> Result<(), Unmade> {
    for (index, address) in addresses.iter().enumerate() {
        if let Err(unmade) = make(state, service, *address).await {
            for made in &addresses[..index] {
                remove(state, *made).await;
            }
            return Err(unmade);
        }
    }
    Ok(())
}

async fn make(state: &State, service: &Value, address: Ipv4Addr) -> Result<(), Unmade> {
    let mut object = json!({
        "metadata": {"name": address.to_string(), "labels": {FAMILY: "IPv4", MANAGED_BY: MANAGER}},
        "spec": {"parentRef": {
            "resource": "services",
            "namespace": text(service, "/metadata/namespace"),
            "name": text(service, "/metadata/name"),
        }},
    });
    object::begin(&mut object, "", now());
    let document = Document::encode(&object).map_err(|error| Unmade::Failed(error.into()))?;
    let write = Write {
        key: format!("{ADDRESSES}{address}").into(),
        expected: Expected::Absent,
        op: Op::Put(document),
    };
    match state.storage.commit(write).await {
        Ok(_) => Ok(()),
        Err(StorageError::Conflict(_)) => Err(Unmade::Taken(address)),
        Err(error) => Err(Unmade::Failed(error.into())),
    }
}

/// Removes an IPAddress if it is there. What cannot be removed now is a leak that the repair controller finds.
async fn remove(state: &State, address: Ipv4Addr) {
    let key = format!("{ADDRESSES}{address}");
    let removed = guaranteed_update(&*state.storage, &key, |entry| {
        let Some(entry) = entry else {
            return Ok((Change::Keep, ()));
        };
        let object: Value = serde_json::from_slice(&entry.value)?;
        Ok::<_, ApiError>((Change::Delete(Document::encode(&object)?), ()))
    });
    if let Err(error) = removed.await {
        tracing::warn!(%address, %error, "an IPAddress is left behind");
    }
}

/// Notes what a new object of any client holds.
pub fn remember(state: &State, info: &KindInfo, name: &str) {
    if info.kind == "IPAddress"
        && let Ok(address) = name.parse()
    {
        state.allocators.hold_address(address);
    }
}

/// Gives back what a deleted object held.
pub async fn forget(state: &State, info: &KindInfo, last: &Entry) {
    let released = match info.kind {
        "Service" => match serde_json::from_slice(&last.value) {
            Ok(service) => release(state, &service).await,
            Err(error) => Err(error),
        },
        "IPAddress" => {
            let name = last.key.rsplit('/').next().unwrap_or_default();
            if let Ok(address) = name.parse() {
                state.allocators.free_address(address);
            }
            Ok(())
        }
        _ => Ok(()),
    };
    if let Err(error) = released {
        tracing::error!(key = &*last.key, %error, "a deleted object is damaged");
    }
}
