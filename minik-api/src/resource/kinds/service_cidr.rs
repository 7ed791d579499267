//! networking.k8s.io/v1 ServiceCIDR: a range that cluster IPs come from.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::Timestamp;
use k8s_openapi::api::networking::v1::ServiceCIDR;
use serde_json::{Value, json};

use super::service::addresses;
use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::names;
use crate::resource::{Column, KindInfo, Strategy, Subresource, print};

pub(super) const INFO: KindInfo = KindInfo {
    group: "networking.k8s.io",
    kind: "ServiceCIDR",
    plural: "servicecidrs",
    singular: "servicecidr",
    namespaced: false,
    schema: "io.k8s.api.networking.v1.ServiceCIDR",
    subresources: &[Subresource::Status],
    ..super::CORE
};

const FIELD: &str = "spec.cidrs";

const COLUMNS: &[Column] = &[
    print::NAME,
    print::text(
        "CIDRs",
        0,
        "CIDRs defines the IP blocks in CIDR notation (e.g. \"192.168.0.0/24\" or \"2001:db8::/64\") from which to assign service cluster IPs. Max of two CIDRs is allowed, one of each IP family. This field is immutable.",
    ),
    print::AGE,
];

/// How ServiceCIDRs behave.
pub(super) struct ServiceCidrs;

impl Strategy for ServiceCidrs {
    type Object = ServiceCIDR;

    fn default(&self, _object: &mut ServiceCIDR) {}

    fn prepare_for_create(&self, object: &mut ServiceCIDR) {
        object.status = Some(Default::default());
    }

    fn prepare_for_update(&self, new: &mut ServiceCIDR, old: &ServiceCIDR) {
        new.status.clone_from(&old.status);
    }

    fn prepare_for_status_update(&self, new: &mut ServiceCIDR, old: &ServiceCIDR) {
        new.spec.clone_from(&old.spec);
    }

    fn validate(&self, object: &ServiceCIDR) -> FieldErrors {
        let mut errors = meta::validate(&object.metadata, Scope::Cluster, names::dns_subdomain);
        errors.extend(ranges(&cidrs(object)));
        errors
    }

    fn validate_update(&self, new: &ServiceCIDR, old: &ServiceCIDR) -> FieldErrors {
        let mut errors = meta::contents(&new.metadata);
        let (is, was) = (cidrs(new), cidrs(old));
        match (is.len(), was.len()) {
            (now, before) if now == before => {
                let changed = is.iter().zip(&was).enumerate().filter(|(_, (is, was))| is != was);
                errors.extend(
                    changed.map(|(index, (is, _))| FieldError::immutable(format!("{FIELD}[{index}]"), is.as_str())),
                );
            }
            // A range of the other family may join.
            (2, 1) => {
                if is[0] != was[0] {
                    errors.push(FieldError::immutable(format!("{FIELD}[0]"), is[0].as_str()));
                }
                errors.extend(ranges(&is));
            }
            _ => errors.push(FieldError::immutable(FIELD, json!(is))),
        }
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &ServiceCIDR, now: Timestamp) -> Vec<Value> {
        vec![
            print::name(&object.metadata),
            Value::from(cidrs(object).join(",")),
            print::age(&object.metadata, now),
        ]
    }
}

fn cidrs(object: &ServiceCIDR) -> Vec<String> {
    object
        .spec
        .as_ref()
        .and_then(|spec| spec.cidrs.clone())
        .unwrap_or_default()
}

fn ranges(cidrs: &[String]) -> FieldErrors {
    match cidrs.len() {
        0 => return vec![FieldError::required(FIELD, "at least one CIDR required")],
        1 | 2 => {}
        _ => {
            // Kubernetes prints its internal struct here, whose field has no JSON name.
            let value = json!({"CIDRs": cidrs});
            return vec![FieldError::invalid(FIELD, value, "may only hold up to 2 values")];
        }
    }
    let mut errors: FieldErrors = cidrs
        .iter()
        .enumerate()
        .flat_map(|(index, text)| range(&format!("{FIELD}[{index}]"), text))
        .collect();
    if let [Some(one), Some(two)] = cidrs.iter().map(|text| family(text)).collect::<Vec<_>>()[..]
        && one == two
    {
        let detail = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.push(FieldError::invalid(FIELD, json!(cidrs), detail));
    }
    errors
}

fn range(field: &str, text: &str) -> FieldErrors {
    let mut errors = addresses::cidr(field, text, &[]);
    if let Ok(range) = text.parse::<IpNet>()
        && range.trunc().to_string() != text
    {
        let detail = format!("must be in canonical form ({:?})", range.trunc().to_string());
        errors.push(FieldError::invalid(field, text, detail));
    }
    errors
}

fn family(text: &str) -> Option<bool> {
    text.parse::<IpNet>()
        .ok()
        .map(|range| matches!(range.addr(), IpAddr::V4(_)))
}
