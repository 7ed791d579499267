//! The whole proxy in a real kernel: views in, packets out, between namespaces of the test's own.

#![allow(
    clippy::disallowed_methods,
    reason = "clients and those who disturb keep a pace of their own, whatever the proxy does"
)]

mod behaviours;
mod churn;
mod clients;
mod conntrack;
mod crafted;
mod edges;
mod halfway;
mod host_ports;
mod lab;
mod matrix;

/// How many times the suite's length a test that can go on does (`scripts/soak churn`).
pub fn times() -> usize {
    match std::env::var("MINIK_CHURN") {
        Ok(number) => number.parse().expect("MINIK_CHURN is a number"),
        Err(_) => 1,
    }
}
