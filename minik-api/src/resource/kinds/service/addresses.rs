//! Addresses and ranges in a Service's fields, held to 1.36's strict form: no leading zeros, no IPv4 in
//! IPv6 clothes, no bits beyond a prefix. Texts that the old object already had stay acceptable.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;

use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::ip;

const NOT_A_CIDR: &str = "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)";

/// Checks one address.
pub(in crate::resource::kinds) fn ip(field: &str, text: &str, existing: &[String]) -> FieldErrors {
    if existing.iter().any(|known| known == text) {
        return FieldErrors::new();
    }
    let problem = match text.parse::<IpAddr>() {
        Ok(address) => mapped(address).map(|_| "must not be an IPv4-mapped IPv6 address"),
        Err(_) if without_zeros(text).is_some() => Some("must not have leading 0s"),
        Err(_) => Some(ip::NOT_AN_IP),
    };
    problem
        .into_iter()
        .map(|problem| FieldError::invalid(field, text, problem))
        .collect()
}

/// Checks one range.
pub(in crate::resource::kinds) fn cidr(field: &str, text: &str, existing: &[String]) -> FieldErrors {
    if existing.iter().any(|known| known.trim() == text) {
        return FieldErrors::new();
    }
    let problem = match parse_range(text) {
        None => Some(NOT_A_CIDR),
        Some((_, true)) => Some("must not have leading 0s in IP or prefix length"),
        Some((range, false)) if mapped(range.addr()).is_some() => Some("must not have an IPv4-mapped IPv6 address"),
        Some((range, false)) if range.addr() != range.network() => {
            Some("must not have bits set beyond the prefix length")
        }
        Some(_) => None,
    };
    problem
        .into_iter()
        .map(|problem| FieldError::invalid(field, text, problem))
        .collect()
}

/// A warning about an address that can be read but is not written as it should be.
pub(super) fn ip_warning(field: &str, text: &str) -> Option<String> {
    let plain = match text.parse::<IpAddr>() {
        Ok(address) => mapped(address),
        Err(_) => Some(without_zeros(text)?),
    };
    if let Some(plain) = plain {
        let advice = format!("use {:?}", plain.to_string());
        return Some(format!(
            "{field}: non-standard IP address {text:?} will be considered invalid in a future Kubernetes release: {advice}"
        ));
    }
    let canonical = text.parse::<IpAddr>().ok().filter(IpAddr::is_ipv6)?.to_string();
    (canonical != text)
        .then(|| format!("{field}: IPv6 address {text:?} should be in RFC 5952 canonical format ({canonical:?})"))
}

/// A warning about a range that is not written as it should be.
pub(super) fn cidr_warning(field: &str, text: &str) -> Option<String> {
    let canonical = text
        .parse::<IpNet>()
        .ok()
        .filter(|range| range.addr().is_ipv6())?
        .to_string();
    (canonical != text)
        .then(|| format!("{field}: IPv6 CIDR value {text:?} should be in RFC 5952 canonical format ({canonical:?})"))
}

/// The range, and whether zeros had to go before it could be read.
fn parse_range(text: &str) -> Option<(IpNet, bool)> {
    let (address, length) = text.split_once('/')?;
    if length.is_empty() || !length.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let strict = address.parse::<IpAddr>().ok();
    let zeros = strict.is_none() || (length.len() > 1 && length.starts_with('0'));
    let address = strict.or_else(|| without_zeros(address).map(IpAddr::V4))?;
    Some((IpNet::new(address, length.parse().ok()?).ok()?, zeros))
}

/// An IPv4 address whose octets have leading zeros, read as decimal.
fn without_zeros(text: &str) -> Option<Ipv4Addr> {
    let octets: Vec<&str> = text
        .split('.')
        .map(|octet| match octet.trim_start_matches('0') {
            "" if !octet.is_empty() => "0",
            rest => rest,
        })
        .collect();
    octets.join(".").parse().ok()
}

fn mapped(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V6(address) => address.to_ipv4_mapped(),
        IpAddr::V4(_) => None,
    }
}
