//! networking.k8s.io/v1 IngressClass.

use jiff::Timestamp;
use k8s_openapi::api::networking::v1::{IngressClass, IngressClassParametersReference, IngressClassSpec};
use serde_json::Value;

use super::ingress::validate::required_segment;
use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::names;
use crate::resource::{Column, KindInfo, Strategy, print};

pub(super) const INFO: KindInfo = KindInfo {
    group: "networking.k8s.io",
    kind: "IngressClass",
    plural: "ingressclasses",
    singular: "ingressclass",
    namespaced: false,
    schema: "io.k8s.api.networking.v1.IngressClass",
    ..super::CORE
};

/// Longest name of a controller, in bytes.
const MOST_CONTROLLER: usize = 250;
/// What the path of a controller's name may consist of.
const PATH_CHARACTERS: &str = "/-._~%!$&'()*+,;=:";

const COLUMNS: &[Column] = &[
    print::NAME,
    print::text(
        "Controller",
        0,
        "Controller that is responsible for handling this class",
    ),
    print::text("Parameters", 0, "A reference to a resource with additional parameters"),
    print::AGE,
];

/// How IngressClasses behave.
pub(super) struct IngressClasses;

impl Strategy for IngressClasses {
    type Object = IngressClass;

    fn default(&self, object: &mut IngressClass) {
        if let Some(parameters) = object.spec.as_mut().and_then(|spec| spec.parameters.as_mut()) {
            parameters.scope.get_or_insert_with(|| "Cluster".to_owned());
        }
    }

    fn prepare_for_create(&self, object: &mut IngressClass) {
        object.metadata.generation = Some(1);
    }

    fn prepare_for_update(&self, new: &mut IngressClass, old: &IngressClass) {
        new.metadata.generation = super::next_generation(&old.metadata, new.spec == old.spec);
    }

    fn validate(&self, object: &IngressClass) -> FieldErrors {
        let mut errors = meta::validate(&object.metadata, Scope::Cluster, names::dns_subdomain);
        errors.extend(spec(&object.spec.clone().unwrap_or_default()));
        errors
    }

    fn validate_update(&self, new: &IngressClass, old: &IngressClass) -> FieldErrors {
        let controller = |class: &IngressClass| class.spec.clone().unwrap_or_default().controller.unwrap_or_default();
        let mut errors = FieldErrors::new();
        if controller(new) != controller(old) {
            errors.push(FieldError::immutable("spec.controller", controller(new)));
        }
        errors.extend(self.validate(new));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &IngressClass, now: Timestamp) -> Vec<Value> {
        let spec = object.spec.as_ref();
        let parameters = spec.and_then(|spec| spec.parameters.as_ref()).map(|parameters| {
            let kind = &parameters.kind;
            let group = parameters.api_group.as_ref().map(|group| format!(".{group}"));
            format!("{kind}{}/{}", group.unwrap_or_default(), parameters.name)
        });
        vec![
            print::name(&object.metadata),
            Value::from(spec.and_then(|spec| spec.controller.clone()).unwrap_or_default()),
            print::or_none(parameters.as_deref()),
            print::age(&object.metadata, now),
        ]
    }
}

fn spec(spec: &IngressClassSpec) -> FieldErrors {
    const FIELD: &str = "spec.controller";
    let mut errors = FieldErrors::new();
    match spec.controller.as_deref().unwrap_or_default() {
        "" => errors.push(FieldError::required(FIELD, "")),
        controller => {
            if controller.len() > MOST_CONTROLLER {
                errors.push(FieldError::too_long(FIELD, MOST_CONTROLLER));
            }
            errors.extend(prefixed_path(FIELD, controller));
        }
    }
    errors.extend(spec.parameters.iter().flat_map(parameters));
    errors
}

/// `acme.io/foo`: a domain, and a path below it.
fn prefixed_path(field: &str, text: &str) -> FieldErrors {
    let (host, path) = match text.split_once('/') {
        Some((host, path)) if !host.is_empty() && !path.is_empty() => (host, path),
        _ => {
            let detail = r#"must be a domain-prefixed path (such as "acme.io/foo")"#;
            return vec![FieldError::invalid(field, text, detail)];
        }
    };
    let mut errors = FieldError::each(field, host, names::dns_subdomain(host));
    let fits = |c: char| c.is_ascii_alphanumeric() || PATH_CHARACTERS.contains(c);
    if !path.chars().all(fits) {
        let detail = r"Invalid path (regex used for validation is '[A-Za-z0-9/\-._~%!$&'()*+,;=:]+')";
        errors.push(FieldError::invalid(field, path, detail));
    }
    errors
}

fn parameters(parameters: &IngressClassParametersReference) -> FieldErrors {
    let mut errors = FieldErrors::new();
    if let Some(group) = parameters.api_group.as_deref() {
        let problems = names::dns_subdomain(group);
        errors.extend(FieldError::each("spec.parameters.apiGroup", group, problems));
    }
    errors.extend(required_segment("spec.parameters.kind", &parameters.kind));
    errors.extend(required_segment("spec.parameters.name", &parameters.name));
    let field = "spec.parameters.namespace";
    match (parameters.scope.as_deref(), parameters.namespace.as_deref()) {
        (None, _) => errors.push(FieldError::required("spec.parameters.scope", "")),
        (Some("Namespace"), None) => {
            errors.push(FieldError::required(field, "`parameters.scope` is set to 'Namespace'"));
        }
        (Some("Namespace"), Some(namespace)) => {
            errors.extend(FieldError::each(field, namespace, names::dns_label(namespace)));
        }
        (Some("Cluster"), Some(_)) => {
            errors.push(FieldError::forbidden(field, "`parameters.scope` is set to 'Cluster'"));
        }
        (Some("Cluster"), None) => {}
        (Some(other), _) => errors.push(FieldError::not_supported(
            "spec.parameters.scope",
            other,
            &["Cluster", "Namespace"],
        )),
    }
    errors
}
