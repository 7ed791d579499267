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
mod lab;
mod matrix;
