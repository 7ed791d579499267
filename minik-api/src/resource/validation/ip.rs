//! Addresses in fields.

use std::net::IpAddr;

use crate::resource::field::{FieldError, FieldErrors};

/// The text for what is no address.
pub const NOT_AN_IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// Checks that `text` is an IP address.
#[must_use]
pub fn valid(field: &str, text: &str) -> FieldErrors {
    match text.parse::<IpAddr>() {
        Ok(_) => Vec::new(),
        Err(_) => vec![FieldError::invalid(field, text, NOT_AN_IP)],
    }
}

/// Checks that `text` is no address that only its own host or link can use. What is no address at all
/// is not reported again.
#[must_use]
pub fn not_special(field: &str, text: &str) -> FieldErrors {
    let Ok(ip) = text.parse::<IpAddr>() else {
        return vec![FieldError::invalid(field, text, "must be a valid IP address")];
    };
    let v4 = |test: fn(&std::net::Ipv4Addr) -> bool| matches!(&ip, IpAddr::V4(ip) if test(ip));
    let link_local =
        v4(std::net::Ipv4Addr::is_link_local) || matches!(ip, IpAddr::V6(ip) if ip.segments()[0] & 0xffc0 == 0xfe80);
    let link_local_multicast =
        v4(|ip| ip.octets()[..3] == [224, 0, 0]) || matches!(ip, IpAddr::V6(ip) if ip.segments()[0] & 0xff0f == 0xff02);
    let mut errors = Vec::new();
    if ip.is_unspecified() {
        errors.push(FieldError::invalid(
            field,
            text,
            format!("may not be unspecified ({ip})"),
        ));
    }
    if ip.is_loopback() {
        errors.push(FieldError::invalid(
            field,
            text,
            "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ));
    }
    if link_local {
        errors.push(FieldError::invalid(
            field,
            text,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        ));
    }
    if link_local_multicast {
        let detail = "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)";
        errors.push(FieldError::invalid(field, text, detail));
    }
    errors
}
