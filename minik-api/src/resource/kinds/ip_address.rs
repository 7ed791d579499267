//! networking.k8s.io/v1 IPAddress: one address that somebody holds; its name is the address.
//!
//! `http::addresses` makes and removes those of Services.

use std::net::IpAddr;

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IPAddress, ParentReference};
use serde_json::{Value, json};

use super::ingress::validate::required_segment;
use super::service::addresses;
use crate::resource::field::{FieldError, FieldErrors, Shown};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::names;
use crate::resource::{Column, KindInfo, Strategy, print};

pub(super) const INFO: KindInfo = KindInfo {
    group: "networking.k8s.io",
    kind: "IPAddress",
    plural: "ipaddresses",
    singular: "ipaddress",
    short_names: &["ip"],
    namespaced: false,
    schema: "io.k8s.api.networking.v1.IPAddress",
    ..super::CORE
};

const FIELD: &str = "spec.parentRef";

/// As 1.36 has them: the rows carry an age that no column announces.
const COLUMNS: &[Column] = &[
    print::NAME,
    print::text(
        "ParentRef",
        0,
        "ParentRef references the resource that an IPAddress is attached to. An IPAddress must reference a parent object.",
    ),
];

/// How IPAddresses behave.
pub(super) struct IpAddresses;

impl Strategy for IpAddresses {
    type Object = IPAddress;

    fn default(&self, _object: &mut IPAddress) {}

    fn validate(&self, object: &IPAddress) -> FieldErrors {
        let mut errors = meta::validate(&object.metadata, Scope::Cluster, address_name);
        match reference(object) {
            Some(reference) => errors.extend(parent(reference)),
            None => errors.push(FieldError::required(FIELD, "")),
        }
        errors
    }

    fn validate_update(&self, new: &IPAddress, old: &IPAddress) -> FieldErrors {
        let mut errors = meta::contents(&new.metadata);
        if reference(new) != reference(old) {
            let shown = Shown::pointer(reference(new).map(whole));
            errors.push(FieldError::invalid_shown(FIELD, shown, "field is immutable"));
        }
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &IPAddress, now: Timestamp) -> Vec<Value> {
        vec![
            print::name(&object.metadata),
            print::or_none(reference(object).map(shown).as_deref()),
            print::age(&object.metadata, now),
        ]
    }
}

/// What the address is attached to; the schema's empty reference is none.
fn reference(object: &IPAddress) -> Option<&ParentReference> {
    let reference = &object.spec.parent_ref;
    (*reference != ParentReference::default()).then_some(reference)
}

/// The reference as Kubernetes keeps it.
fn whole(reference: &ParentReference) -> Shown {
    let text = |text: &Option<String>| json!(text.as_deref().unwrap_or_default()).into();
    Shown::go([
        ("Group", text(&reference.group)),
        ("Resource", json!(reference.resource).into()),
        ("Namespace", text(&reference.namespace)),
        ("Name", json!(reference.name).into()),
    ])
}

/// `services/default/web`
fn shown(reference: &ParentReference) -> String {
    let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let group = given(&reference.group)
        .map(|group| format!(".{group}"))
        .unwrap_or_default();
    let namespace = given(&reference.namespace)
        .map(|namespace| format!("/{namespace}"))
        .unwrap_or_default();
    let resource = format!("{}{group}", reference.resource).to_lowercase();
    format!("{resource}{namespace}/{}", reference.name)
}

/// The canonical text of an address.
fn address_name(name: &str) -> Vec<String> {
    let errors = addresses::ip("", name, &[]);
    let canonical = name.parse::<IpAddr>().map(|address| address.to_string());
    let detail = match canonical {
        Ok(canonical) if errors.is_empty() && canonical != name => {
            Some(format!("must be in canonical form ({canonical:?})"))
        }
        _ => None,
    };
    errors.into_iter().map(|error| error.detail).chain(detail).collect()
}

fn parent(reference: &ParentReference) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if let Some(group) = reference.group.as_deref().filter(|group| !group.is_empty()) {
        let at = format!("{FIELD}.group");
        errors.extend(FieldError::each(&at, group, names::dns_subdomain(group)));
    }
    errors.extend(required_segment(&format!("{FIELD}.resource"), &reference.resource));
    errors.extend(required_segment(&format!("{FIELD}.name"), &reference.name));
    if let Some(namespace) = reference.namespace.as_deref().filter(|text| !text.is_empty()) {
        let at = format!("{FIELD}.namespace");
        errors.extend(FieldError::each(&at, namespace, names::path_segment(namespace)));
    }
    errors
}
