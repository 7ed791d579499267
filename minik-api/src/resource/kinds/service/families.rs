//! Cluster IPs, IP families and the policy between them, on a cluster whose only family is IPv4.
//!
//! Kubernetes settles these before anything else: what [`refusals`] finds is reported alone.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::ServiceSpec;
use serde_json::json;

use super::needs::Needs;
use super::{addresses, needs};
use crate::resource::field::{FieldError, FieldErrors};

const IPV4: &str = "IPv4";
const IPV6: &str = "IPv6";
const FAMILIES: &[&str] = &[IPV4, IPV6];

const SINGLE: &str = "SingleStack";
const REQUIRE_DUAL: &str = "RequireDualStack";
const POLICIES: &[&str] = &["PreferDualStack", REQUIRE_DUAL, SINGLE];

const CLUSTER_IPS: &str = "spec.clusterIPs";
const IP_FAMILIES: &str = "spec.ipFamilies";
const POLICY: &str = "spec.ipFamilyPolicy";

/// Fills in policy and families where the client left them out; what contradicts itself is left as it is,
/// for [`refusals`] to name.
pub(super) fn fill(spec: &mut ServiceSpec, old: Option<&ServiceSpec>) {
    if spec.kind() == needs::EXTERNAL_NAME {
        return;
    }
    let by_hand = outside_of_families(spec);
    let inherited = old.and_then(|old| old.ip_family_policy.clone());
    let policy = spec
        .ip_family_policy
        .get_or_insert_with(|| inherited.unwrap_or_else(|| (if by_hand { REQUIRE_DUAL } else { SINGLE }).to_owned()));
    let single = policy == SINGLE;
    if single && old.is_some_and(|old| old.ip_families == spec.ip_families) {
        // Going back to one stack with nothing else changed means giving up the second family.
        spec.ip_families.iter_mut().for_each(|families| families.truncate(1));
    }
    let all_v4 = spec
        .addresses()
        .iter()
        .all(|ip| ip == needs::HEADLESS || family_of(ip) == Some(IPV4));
    if spec.ip_families.is_none() && all_v4 && spec.addresses().len() < 2 {
        spec.ip_families = Some(vec![IPV4.to_owned()]);
    }
    // Who writes the endpoints by hand may write both families, whatever the cluster has.
    if let (true, false, Some([only])) = (by_hand, single, spec.ip_families.as_deref()) {
        let other = if only == IPV4 { IPV6 } else { IPV4 };
        spec.ip_families = Some(vec![only.clone(), other.to_owned()]);
    }
}

/// What is wrong among cluster IPs, families and policy. Reported alone, in three stages: each stage
/// assumes that the one before found nothing.
pub(super) fn refusals(spec: &ServiceSpec, old: Option<&ServiceSpec>) -> FieldErrors {
    if spec.kind() == needs::EXTERNAL_NAME {
        return FieldErrors::new();
    }
    let mut errors = forms(spec, old);
    if errors.is_empty() {
        errors = counts(spec, old);
    }
    if errors.is_empty() && !outside_of_families(spec) {
        errors = unavailable(spec);
    }
    errors
}

/// Each value by itself, and the linked fields against each other.
fn forms(spec: &ServiceSpec, old: Option<&ServiceSpec>) -> FieldErrors {
    let ips = spec.addresses();
    let mut errors = FieldErrors::new();
    match (spec.cluster_ip.as_deref(), ips) {
        (Some(_), []) => errors.push(FieldError::required(CLUSTER_IPS, "")),
        (Some(one), [first, ..]) if one != first => {
            errors.push(FieldError::invalid(
                CLUSTER_IPS,
                json!(ips),
                "first value must match `clusterIP`",
            ));
        }
        (None, [_, ..]) => {
            let detail = "must be empty when `clusterIP` is not specified";
            errors.push(FieldError::invalid(CLUSTER_IPS, json!(ips), detail));
        }
        _ => {}
    }
    let families = spec.families();
    for (index, family) in families.iter().enumerate() {
        let at = format!("{IP_FAMILIES}[{index}]");
        if !FAMILIES.contains(&family.as_str()) {
            errors.push(FieldError::not_supported(at.clone(), family.as_str(), FAMILIES));
        }
        if families[..index].contains(family) {
            errors.push(FieldError::duplicate(at, family.as_str()));
        }
    }
    if let Some(policy) = spec
        .ip_family_policy
        .as_deref()
        .filter(|policy| !POLICIES.contains(policy))
    {
        errors.push(FieldError::not_supported(POLICY, policy, POLICIES));
    }
    let (bad_ips, any_bad) = address_forms(ips, old.map(Needs::addresses).unwrap_or_default());
    errors.extend(bad_ips);
    if !any_bad {
        errors.extend(address_families(spec));
    }
    errors
}

/// The errors, and whether one is so bad that the addresses' families cannot be compared.
fn address_forms(ips: &[String], existing: &[String]) -> (FieldErrors, bool) {
    let mut errors = FieldErrors::new();
    for (index, ip) in ips.iter().enumerate() {
        if index > 0 || ip != needs::HEADLESS {
            errors.extend(addresses::ip(&format!("{CLUSTER_IPS}[{index}]"), ip, existing));
        } else if ips.len() > 1 {
            errors.push(FieldError::invalid(
                CLUSTER_IPS,
                json!(ips),
                "'None' must be the first and only value",
            ));
        }
    }
    let any_bad = !errors.is_empty();
    if ips.len() > 2 {
        errors.push(FieldError::invalid(
            CLUSTER_IPS,
            json!(ips),
            "may only hold up to 2 values",
        ));
    }
    (errors, any_bad)
}

fn address_families(spec: &ServiceSpec) -> FieldErrors {
    let ips = spec.addresses();
    let mut errors = FieldErrors::new();
    if ips.len() > 1
        && FAMILIES
            .iter()
            .any(|family| ips.iter().all(|ip| family_of(ip) != Some(family)))
    {
        let detail = "may specify no more than one IP for each IP family";
        errors.push(FieldError::invalid(CLUSTER_IPS, json!(ips), detail));
    }
    if spec.is_headless() {
        return errors;
    }
    for (index, (ip, family)) in ips.iter().zip(spec.families()).enumerate() {
        if FAMILIES.contains(&family.as_str()) && family_of(ip) != Some(family) {
            let detail = format!("expected an {family} value as indicated by `ipFamilies[{index}]`");
            errors.push(FieldError::invalid(
                format!("{CLUSTER_IPS}[{index}]"),
                ip.as_str(),
                detail,
            ));
        }
    }
    errors
}

/// As many addresses and families as the policy says, and none of a family that the cluster has not.
fn counts(spec: &ServiceSpec, old: Option<&ServiceSpec>) -> FieldErrors {
    let (ips, families) = (spec.addresses(), spec.families());
    let mut errors = FieldErrors::new();
    let mut policy = |detail: &str| errors.push(FieldError::invalid(POLICY, json!(spec.ip_family_policy), detail));
    if spec.ip_family_policy.as_deref() != Some(SINGLE) {
        if !families.is_empty() && old.is_some_and(|old| families.len() < old.families().len()) {
            policy("must be 'SingleStack' to release the secondary IP family");
        }
    } else {
        if ips.len() == 2 {
            policy("must be 'RequireDualStack' or 'PreferDualStack' when multiple cluster IPs are specified");
        }
        if families.len() == 2 {
            policy("must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified");
        }
    }
    for (index, _) in ips
        .iter()
        .enumerate()
        .skip(families.len())
        .filter(|(_, ip)| family_of(ip) == Some(IPV6))
    {
        let detail = format!("{IPV6} is not configured on this cluster");
        errors.push(FieldError::invalid(
            format!("{CLUSTER_IPS}[{index}]"),
            json!(ips),
            detail,
        ));
    }
    errors
}

/// What only a dual-stack cluster could give.
fn unavailable(spec: &ServiceSpec) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if spec.ip_family_policy.as_deref() == Some(REQUIRE_DUAL) {
        let detail = "this cluster is not configured for dual-stack services";
        errors.push(FieldError::invalid(POLICY, REQUIRE_DUAL, detail));
    }
    for (index, family) in spec.families().iter().enumerate().filter(|(_, family)| *family != IPV4) {
        let at = format!("{IP_FAMILIES}[{index}]");
        errors.push(FieldError::invalid(
            at,
            family.as_str(),
            "not configured on this cluster",
        ));
    }
    errors
}

/// What an update may not do to the cluster IPs and families that a Service has.
pub(super) fn immutable(new: &ServiceSpec, old: &ServiceSpec) -> FieldErrors {
    if [new.kind(), old.kind()].contains(&needs::EXTERNAL_NAME) {
        return FieldErrors::new();
    }
    let (headless, was_headless) = (new.is_headless(), old.is_headless());
    let mut errors = FieldErrors::new();
    if !(headless && was_headless) {
        errors.extend(list_changes(
            CLUSTER_IPS,
            new.cluster_ips.as_deref(),
            old.addresses(),
            "clusterIP",
            new,
        ));
    }
    if !headless && !was_headless {
        errors.extend(list_changes(
            IP_FAMILIES,
            new.ip_families.as_deref(),
            old.families(),
            "ipFamily",
            new,
        ));
    }
    errors
}

fn list_changes(field: &str, new: Option<&[String]>, old: &[String], what: &str, spec: &ServiceSpec) -> FieldErrors {
    let given = new.unwrap_or_default();
    let refuse = |index: usize, detail: String| FieldError::invalid(format!("{field}[{index}]"), json!(new), detail);
    if given.is_empty() && !old.is_empty() {
        return vec![refuse(0, format!("primary {what} can not be unset"))];
    }
    // The second may come and go; the first stays, and so does the second while it is there.
    let compared = if given.len() == old.len() {
        old.len()
    } else {
        old.len().min(1)
    };
    let changed = (0..compared).filter(|index| given[*index] != old[*index]);
    let mut errors: FieldErrors = changed
        .map(|index| refuse(index, "may not change once set".to_owned()))
        .collect();
    if given.len() == 1 && old.len() > 1 && spec.ip_family_policy.as_deref() != Some(SINGLE) {
        let detail = format!("must be set to SingleStack when releasing the secondary {what}");
        errors.push(FieldError::invalid(POLICY, json!(spec.ip_family_policy), detail));
    }
    errors
}

/// Headless and without a selector: no virtual IP and no endpoints that the cluster would have to have.
fn outside_of_families(spec: &ServiceSpec) -> bool {
    spec.cluster_ip.as_deref() == Some(needs::HEADLESS) && spec.is_selectorless()
}

fn family_of(ip: &str) -> Option<&'static str> {
    match ip.parse() {
        Ok(IpAddr::V4(_)) => Some(IPV4),
        Ok(IpAddr::V6(_)) => Some(IPV6),
        Err(_) => None,
    }
}
