//! PodTemplate: a Pod's template as an object of its own, which nothing in a cluster reads.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::PodTemplate;
use serde_json::Value;

use super::{pod_template, workload};
use crate::resource::field::FieldErrors;
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::names;
use crate::resource::{Column, KindInfo, Strategy, print};

pub(super) const INFO: KindInfo = KindInfo {
    kind: "PodTemplate",
    plural: "podtemplates",
    singular: "podtemplate",
    schema: "io.k8s.api.core.v1.PodTemplate",
    ..super::CORE
};

const COLUMNS: &[Column] = &[
    print::NAME,
    print::text("Containers", 0, workload::CONTAINERS.description),
    print::text("Images", 0, workload::IMAGES.description),
    print::text("Pod Labels", 0, "The labels for the pod template."),
];

/// How PodTemplates behave.
pub(super) struct PodTemplates;

impl Strategy for PodTemplates {
    type Object = PodTemplate;

    fn default(&self, object: &mut PodTemplate) {
        let template = object.template.get_or_insert_default();
        pod_template::default_spec(template.spec.get_or_insert_default());
    }

    fn prepare_for_create(&self, object: &mut PodTemplate) {
        object.metadata.generation = Some(1);
    }

    fn prepare_for_update(&self, new: &mut PodTemplate, old: &PodTemplate) {
        workload::step_generation(&mut new.metadata, &old.metadata, new.template != old.template);
    }

    fn validate(&self, object: &PodTemplate) -> FieldErrors {
        let mut errors = meta::validate(&object.metadata, Scope::Namespaced, names::dns_subdomain);
        errors.extend(contents(object));
        errors
    }

    fn validate_update(&self, new: &PodTemplate, _old: &PodTemplate) -> FieldErrors {
        let mut errors = meta::contents(&new.metadata);
        errors.extend(contents(new));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &PodTemplate, _now: Timestamp) -> Vec<Value> {
        let template = object.template.as_ref();
        let (containers, images) = print::containers(template);
        let labels = template.and_then(|t| t.metadata.as_ref()?.labels.as_ref());
        vec![
            print::name(&object.metadata),
            Value::from(containers),
            Value::from(images),
            Value::from(print::labels(labels)),
        ]
    }
}

fn contents(object: &PodTemplate) -> FieldErrors {
    let template = object.template.as_ref();
    template.map_or_else(Vec::new, |t| pod_template::validate_template("template", t))
}
