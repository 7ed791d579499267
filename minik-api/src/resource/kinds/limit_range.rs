//! LimitRange: what Pods, containers and claims of a namespace may ask for at least and at most.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{LimitRange, LimitRangeItem};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use serde_json::Value;

use crate::resource::field::{FieldError, FieldErrors};
use crate::resource::validation::meta::{self, Scope};
use crate::resource::validation::{names, resources, time};
use crate::resource::{Column, KindInfo, Strategy, print};

pub(super) const INFO: KindInfo = KindInfo {
    kind: "LimitRange",
    plural: "limitranges",
    singular: "limitrange",
    short_names: &["limits"],
    schema: "io.k8s.api.core.v1.LimitRange",
    ..super::CORE
};

const TYPES: [&str; 3] = ["Container", "PersistentVolumeClaim", "Pod"];
const ONE: i128 = 1_000_000_000;

/// 1.36 has no printer of its own for LimitRanges: name, and the time of creation in full.
const COLUMNS: &[Column] = &[
    print::NAME,
    Column {
        name: "Created At",
        kind: "date",
        ..print::AGE
    },
];

type Amounts = BTreeMap<String, Quantity>;

/// How LimitRanges behave.
pub(super) struct LimitRanges;

impl Strategy for LimitRanges {
    type Object = LimitRange;

    fn default(&self, object: &mut LimitRange) {
        let limits = object.spec.iter_mut().flat_map(|s| &mut s.limits);
        limits.filter(|limit| limit.type_ == "Container").for_each(default);
    }

    fn validate(&self, object: &LimitRange) -> FieldErrors {
        let mut errors = meta::validate(&object.metadata, Scope::Namespaced, names::dns_subdomain);
        errors.extend(limits(object));
        errors
    }

    fn validate_update(&self, new: &LimitRange, _old: &LimitRange) -> FieldErrors {
        let mut errors = meta::contents(&new.metadata);
        errors.extend(limits(new));
        errors
    }

    fn columns(&self) -> &'static [Column] {
        COLUMNS
    }

    fn row(&self, object: &LimitRange, _now: Timestamp) -> Vec<Value> {
        let created = object.metadata.creation_timestamp.as_ref();
        vec![
            print::name(&object.metadata),
            Value::from(created.map(|t| time::to_seconds(t.0))),
        ]
    }
}

/// What is not said follows from what is: a limit from the most, a request from the limit or the least.
fn default(limit: &mut LimitRangeItem) {
    fn fill(into: &mut Amounts, from: &Amounts) {
        for (name, amount) in from {
            into.entry(name.clone()).or_insert_with(|| amount.clone());
        }
    }
    let mut default = limit.default.take().unwrap_or_default();
    let mut request = limit.default_request.take().unwrap_or_default();
    limit.max.iter().for_each(|max| fill(&mut default, max));
    fill(&mut request, &default);
    limit.min.iter().for_each(|min| fill(&mut request, min));
    limit.default = Some(default).filter(|d| !d.is_empty());
    limit.default_request = Some(request).filter(|r| !r.is_empty());
}

fn limits(object: &LimitRange) -> FieldErrors {
    let mut errors = Vec::new();
    let mut taken = BTreeSet::new();
    let limits = object.spec.iter().flat_map(|s| &s.limits);
    for (index, limit) in limits.enumerate() {
        let field = format!("spec.limits[{index}]");
        let at = format!("{field}.type");
        let kind = limit.type_.as_str();
        errors.extend(type_name(&at, kind));
        if !taken.insert(kind) {
            errors.push(FieldError::duplicate(at, kind));
        }
        errors.extend(resource_names(&field, limit));
        errors.extend(relations(&field, limit));
    }
    errors
}

fn type_name(field: &str, kind: &str) -> FieldErrors {
    let problems = names::qualified_name(kind);
    if problems.is_empty() && !kind.contains('/') && !TYPES.contains(&kind) {
        let detail = "must be a standard limit type or fully qualified";
        return vec![FieldError::invalid(field, kind, detail)];
    }
    FieldError::each(field, kind, problems)
}

fn resource_names(field: &str, limit: &LimitRangeItem) -> FieldErrors {
    let kind = limit.type_.as_str();
    let check = match kind {
        "Pod" | "Container" => resources::container_name,
        _ => resources::name,
    };
    let names = |child: &str, amounts: &Option<Amounts>| -> FieldErrors {
        let names = amounts.iter().flatten().map(|(name, _)| name);
        names
            .flat_map(|name| check(&format!("{field}.{child}[{name}]"), name))
            .collect()
    };
    let mut errors = names("max", &limit.max);
    errors.extend(names("min", &limit.min));
    for (child, amounts) in [("default", &limit.default), ("defaultRequest", &limit.default_request)] {
        if kind != "Pod" {
            errors.extend(names(child, amounts));
        } else if amounts.as_ref().is_some_and(|a| !a.is_empty()) {
            let detail = "may not be specified when `type` is 'Pod'";
            errors.push(FieldError::forbidden(format!("{field}.{child}"), detail));
        }
    }
    let says = |amounts: &Option<Amounts>| amounts.as_ref().is_some_and(|a| a.contains_key("storage"));
    if kind == "PersistentVolumeClaim" && !says(&limit.min) && !says(&limit.max) {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(FieldError::required(format!("{field}.limits"), detail));
    }
    errors.extend(names("maxLimitRequestRatio", &limit.max_limit_request_ratio));
    errors
}

/// An amount, to compare and to show.
#[derive(Clone, Copy)]
struct Given<'a> {
    nanos: i128,
    text: &'a str,
}

fn given<'a>(amounts: &'a Option<Amounts>, name: &str) -> Option<Given<'a>> {
    let amount = amounts.as_ref()?.get(name)?;
    Some(Given {
        nanos: resources::nanos(amount)?,
        text: &amount.0,
    })
}

/// The least is not above the default request, that not above the default, that not above the most.
fn relations(field: &str, limit: &LimitRangeItem) -> FieldErrors {
    let maps = [
        &limit.max,
        &limit.min,
        &limit.default,
        &limit.default_request,
        &limit.max_limit_request_ratio,
    ];
    let names: BTreeSet<&String> = maps.into_iter().flatten().flat_map(|m| m.keys()).collect();
    let mut errors = Vec::new();
    // A Pod's have been refused as a whole.
    let defaults = (limit.type_ != "Pod").then_some((&limit.default, &limit.default_request));
    for name in names {
        let (min, max) = (given(&limit.min, name), given(&limit.max, name));
        let default = defaults.and_then(|(default, _)| given(default, name));
        let request = defaults.and_then(|(_, request)| given(request, name));
        // Where, whose value is shown, what is too much (in words), than what.
        let rules = [
            ("min", min, min, "min value", max, "max value"),
            (
                "defaultRequest",
                request,
                min,
                "min value",
                request,
                "default request value",
            ),
            (
                "defaultRequest",
                request,
                request,
                "default request value",
                max,
                "max value",
            ),
            (
                "defaultRequest",
                request,
                request,
                "default request value",
                default,
                "default limit value",
            ),
            ("default", min, min, "min value", default, "default value"),
            ("default", max, default, "default value", max, "max value"),
        ];
        for (child, shown, low, low_name, high, high_name) in rules {
            let (Some(shown), Some(low), Some(high)) = (shown, low, high) else {
                continue;
            };
            if low.nanos > high.nanos {
                let detail = format!("{low_name} {} is greater than {high_name} {}", low.text, high.text);
                errors.push(FieldError::invalid(
                    format!("{field}.{child}[{name}]"),
                    shown.text,
                    detail,
                ));
            }
        }
        errors.extend(ratio(&format!("{field}.maxLimitRequestRatio[{name}]"), limit, name));
        errors.extend(overcommitted(field, name, default, request));
    }
    errors
}

/// What cannot be promised twice is limited to what is requested.
fn overcommitted(
    field: &str,
    name: &str,
    default: Option<Given<'_>>,
    request: Option<Given<'_>>,
) -> Option<FieldError> {
    let (default, request) = (default?, request?);
    let differs = !resources::may_be_overcommitted(name) && default.nanos != request.nanos;
    let detail = format!(
        "default value {} must equal to defaultRequest value {} in {name}",
        default.text, request.text
    );
    differs.then(|| FieldError::invalid(format!("{field}.defaultRequest[{name}]"), request.text, detail))
}

#[expect(
    clippy::cast_precision_loss,
    reason = "1.36 compares and shows the quotient as a float"
)]
fn ratio(field: &str, limit: &LimitRangeItem, name: &str) -> FieldErrors {
    let Some(ratio) = given(&limit.max_limit_request_ratio, name) else {
        return Vec::new();
    };
    let mut errors = Vec::new();
    if ratio.nanos < ONE {
        let detail = format!("ratio {} is less than 1", ratio.text);
        errors.push(FieldError::invalid(field, ratio.text, detail));
    }
    if let (Some(min), Some(max)) = (given(&limit.min, name), given(&limit.max, name))
        && min.nanos > 0
    {
        let most = max.nanos as f64 / min.nanos as f64;
        if ratio.nanos as f64 / ONE as f64 > most {
            let detail = format!("ratio {} is greater than max/min = {most:.6}", ratio.text);
            errors.push(FieldError::invalid(field, ratio.text, detail));
        }
    }
    errors
}
