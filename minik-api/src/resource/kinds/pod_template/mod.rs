//! Pod specs, alone in a Pod or in the template of a workload: their defaults and their validation.

mod affinity;
mod containers;
mod defaults;
mod env_files;
mod os;
mod probes;
mod references;
mod security;
mod spec;
mod volumes;

pub(super) use affinity::node_terms as validate_node_terms;
pub(super) use containers::images as validate_images;
pub(super) use defaults::{host_ports, pod_spec as default_spec};
pub(super) use spec::{
    labels_of, template as validate_template, toleration as validate_toleration, validate as validate_spec,
};
