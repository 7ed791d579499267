//! Reviews (authentication.k8s.io/v1, authorization.k8s.io/v1): questions that are answered and not kept.
//! `http::review` answers them; here is what they are called and what 1.36 refuses in one.

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenReview};
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, NonResourceAttributes, ResourceAttributes, SelfSubjectAccessReview,
    SelfSubjectRulesReview, SubjectAccessReview, SubjectAccessReviewSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::kind_info::CREATED_ONLY;
use crate::resource::{Column, KindInfo, Registered, Strategy, print};

const AUTHENTICATION: KindInfo = KindInfo {
    group: "authentication.k8s.io",
    namespaced: false,
    verbs: CREATED_ONLY,
    stored: false,
    ..super::CORE
};

const AUTHORIZATION: KindInfo = KindInfo {
    group: "authorization.k8s.io",
    ..AUTHENTICATION
};

/// The kinds, by plural.
pub(super) fn all() -> Vec<Registered> {
    vec![
        row(SELF_SUBJECT, SelfSubjectReviews),
        row(TOKEN, TokenReviews),
        row(LOCAL_ACCESS, LocalAccessReviews),
        row(SELF_ACCESS, SelfAccessReviews),
        row(SELF_RULES, SelfRulesReviews),
        row(ACCESS, AccessReviews),
    ]
}

fn row(info: KindInfo, strategy: impl Strategy) -> Registered {
    super::row(info, strategy)
}

const SELF_SUBJECT: KindInfo = KindInfo {
    kind: "SelfSubjectReview",
    plural: "selfsubjectreviews",
    singular: "selfsubjectreview",
    schema: "io.k8s.api.authentication.v1.SelfSubjectReview",
    ..AUTHENTICATION
};
const TOKEN: KindInfo = KindInfo {
    kind: "TokenReview",
    plural: "tokenreviews",
    singular: "tokenreview",
    schema: "io.k8s.api.authentication.v1.TokenReview",
    ..AUTHENTICATION
};
const LOCAL_ACCESS: KindInfo = KindInfo {
    kind: "LocalSubjectAccessReview",
    plural: "localsubjectaccessreviews",
    singular: "localsubjectaccessreview",
    namespaced: true,
    schema: "io.k8s.api.authorization.v1.LocalSubjectAccessReview",
    ..AUTHORIZATION
};
const SELF_ACCESS: KindInfo = KindInfo {
    kind: "SelfSubjectAccessReview",
    plural: "selfsubjectaccessreviews",
    singular: "selfsubjectaccessreview",
    schema: "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
    ..AUTHORIZATION
};
const SELF_RULES: KindInfo = KindInfo {
    kind: "SelfSubjectRulesReview",
    plural: "selfsubjectrulesreviews",
    singular: "selfsubjectrulesreview",
    schema: "io.k8s.api.authorization.v1.SelfSubjectRulesReview",
    ..AUTHORIZATION
};
const ACCESS: KindInfo = KindInfo {
    kind: "SubjectAccessReview",
    plural: "subjectaccessreviews",
    singular: "subjectaccessreview",
    schema: "io.k8s.api.authorization.v1.SubjectAccessReview",
    ..AUTHORIZATION
};

/// A review that is checked by a function and never listed.
macro_rules! review {
    ($name:ident, $object:ty, $check:expr) => {
        struct $name;

        impl Strategy for $name {
            type Object = $object;

            fn default(&self, _object: &mut $object) {}

            fn validate(&self, object: &$object) -> FieldErrors {
                let check: fn(&$object) -> FieldErrors = $check;
                check(object)
            }

            fn validate_update(&self, new: &$object, _old: &$object) -> FieldErrors {
                self.validate(new)
            }

            fn columns(&self) -> &'static [Column] {
                &[print::NAME]
            }

            fn row(&self, object: &$object, _now: Timestamp) -> Vec<Value> {
                vec![print::name(&object.metadata)]
            }
        }
    };
}

review!(SelfSubjectReviews, SelfSubjectReview, |_| Vec::new());
review!(SelfRulesReviews, SelfSubjectRulesReview, |_| Vec::new());
review!(TokenReviews, TokenReview, |review| {
    let empty = review.spec.token.is_empty();
    empty
        .then(|| FieldError::required("spec.token", "token is required"))
        .into_iter()
        .collect()
});
review!(SelfAccessReviews, SelfSubjectAccessReview, |review| {
    let spec = &review.spec;
    let mut errors = attributes(spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref());
    errors.extend(bare(&review.metadata, &ObjectMeta::default(), "must be empty"));
    errors
});
review!(AccessReviews, SubjectAccessReview, |review| {
    let mut errors = subject(&review.spec);
    errors.extend(bare(&review.metadata, &ObjectMeta::default(), "must be empty"));
    errors
});
review!(LocalAccessReviews, LocalSubjectAccessReview, |review| {
    let mut errors = subject(&review.spec);
    let allowed = ObjectMeta {
        namespace: review.metadata.namespace.clone(),
        ..ObjectMeta::default()
    };
    errors.extend(bare(&review.metadata, &allowed, "must be empty except for namespace"));
    let own = review.metadata.namespace.as_deref().unwrap_or_default();
    if let Some(asked) = &review.spec.resource_attributes {
        let namespace = asked.namespace.as_deref().unwrap_or_default();
        if namespace != own {
            let field = "spec.resourceAttributes.namespace";
            errors.push(FieldError::invalid(field, namespace, "must match metadata.namespace"));
        }
    }
    if let Some(asked) = &review.spec.non_resource_attributes {
        let field = "spec.nonResourceAttributes";
        errors.push(FieldError::invalid(
            field,
            json!(asked),
            "disallowed on this kind of request",
        ));
    }
    errors
});

fn attributes(resource: Option<&ResourceAttributes>, path: Option<&NonResourceAttributes>) -> FieldErrors {
    match (resource, path) {
        (Some(_), Some(path)) => vec![FieldError::invalid(
            "spec.nonResourceAttributes",
            json!(path),
            "cannot be specified in combination with resourceAttributes",
        )],
        (None, None) => vec![FieldError::invalid(
            "spec.resourceAttributes",
            Value::Null,
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        )],
        _ => Vec::new(),
    }
}

fn subject(spec: &SubjectAccessReviewSpec) -> FieldErrors {
    let mut errors = attributes(spec.resource_attributes.as_ref(), spec.non_resource_attributes.as_ref());
    let nobody = spec.user.as_deref().unwrap_or_default().is_empty();
    if nobody && spec.groups.as_ref().is_none_or(|groups| groups.is_empty()) {
        let detail = "at least one of user or group must be specified";
        errors.push(FieldError::invalid("spec.user", "", detail));
    }
    errors
}

fn bare(metadata: &ObjectMeta, allowed: &ObjectMeta, detail: &str) -> Option<FieldError> {
    let shown = ObjectMeta {
        managed_fields: None,
        ..metadata.clone()
    };
    (shown != *allowed).then(|| FieldError::invalid("metadata", json!(metadata), detail))
}
