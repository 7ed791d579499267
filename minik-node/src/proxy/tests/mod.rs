//! The whole proxy in a real kernel: views in, packets out, between namespaces of the test's own.

mod behaviours;
mod conntrack;
mod crafted;
mod lab;
mod matrix;
