//! dns_zone
