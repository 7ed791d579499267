//! Endpoints, the deprecated form of EndpointSlices.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{EndpointAddress, EndpointPort, EndpointSubset, Endpoints};
use serde_json::Value;

use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::{ip, names};
use crate::resource::{Column, KindInfo, Strategy, print};

pub(super) const INFO: KindInfo = KindInfo {
    kind: "Endpoints",
    plural: "endpoints",
    singular: "endpoints",
    short_names: &["ep"],
    schema: "io.k8s.api.core.v1.Endpoints",
    deprecation: Some("v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice"),
    ..super::CORE
};

/// Endpoints shown in a cell.
const MOST_SHOWN: usize = 3;

const COLUMNS: &[Column] = &[
    print::NAME,
    print::text(
        "Endpoints",
        0,
        "The set of all endpoints is the union of all subsets. Addresses are placed into subsets according to the IPs they share. A single address with multiple ports, some of which are ready and some of which are not (because they come from different containers) will result in the address being displayed in different subsets for the different ports. No address will appear in both Addresses and NotReadyAddresses in the same subset. Sets of addresses and ports that comprise a service.",
    ),
    print::AGE,
];

/// How Endpoints behave.
pub(super) struct EndpointsStrategy;

impl Strategy for EndpointsStrategy {
    type Object = Endpoints;

    fn default(&self, object: &mut Endpoints) {
        for port in object
            .subsets
            .iter_mut()
            .flatten()
            .flat_map(|s| s.ports.iter_mut().flatten())
        {
            port.protocol.get_or_insert_with(|| "TCP".to_owned());
        }
    }

    fn validate(&self, object: &Endpoints) -> FieldErrors {
        let mut errors = meta::validate(&object.metadata, Scope::Namespaced, names::dns_subdomain);
        errors.extend(subsets(object.subsets.as_deref().unwrap_or_default()));
        errors
    }

    fn validate_update(&self, new: &Endpoints, _old: &Endpoints) -> FieldErrors {
        let mut errors = meta::contents(&new.metadata);
        errors.extend(subsets(new.subsets.as_deref().unwrap_or_default()));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &Endpoints, now: Timestamp) -> Vec<Value> {
        let cell = cell(object.subsets.as_deref().unwrap_or_default());
        vec![
            print::name(&object.metadata),
            Value::from(cell),
            print::age(&object.metadata, now),
        ]
    }
}

fn cell(subsets: &[EndpointSubset]) -> String {
    let mut all = Vec::new();
    for subset in subsets {
        let addresses = subset.addresses.as_deref().unwrap_or_default();
        match subset.ports.as_deref() {
            None | Some([]) => all.extend(addresses.iter().map(|a| a.ip.clone())),
            Some(ports) => all.extend(
                ports
                    .iter()
                    .flat_map(|p| addresses.iter().map(|a| joined(&a.ip, p.port))),
            ),
        }
    }
    if all.is_empty() {
        return "<none>".to_owned();
    }
    let shown = all[..all.len().min(MOST_SHOWN)].join(",");
    if all.len() > MOST_SHOWN {
        format!("{shown} + {} more...", all.len() - MOST_SHOWN)
    } else {
        shown
    }
}

fn joined(ip: &str, port: i32) -> String {
    if ip.contains(':') {
        format!("[{ip}]:{port}")
    } else {
        format!("{ip}:{port}")
    }
}

fn subsets(subsets: &[EndpointSubset]) -> FieldErrors {
    let mut errors = Vec::new();
    for (index, subset) in subsets.iter().enumerate() {
        let at = format!("subsets[{index}]");
        let ready = subset.addresses.as_deref().unwrap_or_default();
        let not_ready = subset.not_ready_addresses.as_deref().unwrap_or_default();
        if ready.is_empty() && not_ready.is_empty() {
            errors.push(FieldError::required(
                at.clone(),
                "must specify `addresses` or `notReadyAddresses`",
            ));
        }
        for (child, addresses) in [("addresses", ready), ("notReadyAddresses", not_ready)] {
            for (n, given) in addresses.iter().enumerate() {
                errors.extend(address(&format!("{at}.{child}[{n}]"), given));
            }
        }
        let ports = subset.ports.as_deref().unwrap_or_default();
        for (n, given) in ports.iter().enumerate() {
            errors.extend(port(&format!("{at}.ports[{n}]"), given, ports.len() > 1));
        }
    }
    errors
}

fn address(field: &str, address: &EndpointAddress) -> FieldErrors {
    let at = format!("{field}.ip");
    let mut errors = ip::valid(&at, &address.ip);
    if let Some(hostname) = address.hostname.as_deref().filter(|h| !h.is_empty()) {
        errors.extend(FieldError::each(
            &format!("{field}.hostname"),
            hostname,
            names::dns_label(hostname),
        ));
    }
    if let Some(node) = address.node_name.as_deref() {
        errors.extend(FieldError::each(
            &format!("{field}.nodeName"),
            node,
            names::dns_subdomain(node),
        ));
    }
    if errors.is_empty() {
        errors.extend(ip::not_special(&at, &address.ip));
    }
    errors
}

fn port(field: &str, port: &EndpointPort, needs_name: bool) -> FieldErrors {
    let mut errors = Vec::new();
    let at = format!("{field}.name");
    match port.name.as_deref().unwrap_or_default() {
        "" if needs_name => errors.push(FieldError::required(at, "")),
        "" => {}
        name => errors.extend(FieldError::each(&at, name, names::dns_label(name))),
    }
    errors.extend(FieldError::each(
        &format!("{field}.port"),
        port.port,
        names::port_number(port.port),
    ));
    let protocol = port.protocol.as_deref().unwrap_or_default();
    if !super::service::PROTOCOLS.contains(&protocol) {
        errors.push(FieldError::not_supported(
            format!("{field}.protocol"),
            protocol,
            super::service::PROTOCOLS,
        ));
    }
    if let Some(app) = &port.app_protocol {
        errors.extend(FieldError::each(
            &format!("{field}.appProtocol"),
            app.as_str(),
            names::qualified_name(app),
        ));
    }
    errors
}
