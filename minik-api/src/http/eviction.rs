//! POST of an Eviction: a deletion of a Pod that asks the PodDisruptionBudgets first.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{ApiError, Cause, Resource, Status};
use crate::resource::Registered;
use crate::resource::decode::Format;
use crate::resource::validation::labels;
use crate::storage::{Change, Document, guaranteed_update};

use super::call::{Call, now};
use super::delete::{self, DeleteOptions};
use super::document;
use super::object::{self, text};
use super::request::prefix;
use super::respond;

const VIOLATED: &str = "Cannot evict pod as it would violate the pod's disruption budget.";
/// The condition of a budget that says whether it allows disruptions.
const ALLOWED: &str = "DisruptionAllowed";
/// Evictions that a budget's controller may still have to see.
const MOST_DISRUPTED: usize = 2000;
/// Seconds after which a budget that its controller has not seen yet is asked again.
const UNSEEN_RETRY: u32 = 10;

/// Deletes the Pod in the path, if the budgets that select it allow.
///
/// # Errors
/// The body names another Pod, a budget refuses, or the deletion fails.
pub async fn evict(call: &Call, body: &Bytes, format: Format) -> Result<Response, ApiError> {
    let eviction = super::read_value(body, format)?;
    if text(&eviction, "/metadata/name") != call.target.name {
        let reason = "name in URL does not match name in Eviction object";
        return Err(ApiError::BadRequest(reason.to_owned()));
    }
    let mut options = match eviction.pointer("/deleteOptions").filter(|options| !options.is_null()) {
        Some(options) => DeleteOptions::deserialize(options).map_err(|e| ApiError::BadRequest(e.to_string()))?,
        None => DeleteOptions::default(),
    };
    if call.write_options(false)?.dry_run {
        options = options.dry();
    }
    let entry = call.state.storage.cache().get(&call.key());
    let entry = entry.ok_or_else(|| call.not_found())?;
    let pod = document::parse(call.info(), &entry.value)?;
    delete::check_preconditions(call.info(), &call.target.name, &pod, &options)?;
    if !needs_no_leave(&pod) {
        take_leave(call, &pod, options.is_dry_run()).await?;
    }
    delete::delete_one(call, &call.target.name, &call.key(), &options).await?;
    respond::status(call.accept, StatusCode::CREATED, &Status::created(), &[])
}

/// A Pod that serves nobody is not counted by any budget.
fn needs_no_leave(pod: &Value) -> bool {
    object::is_deleting(pod) || matches!(text(pod, "/status/phase"), "Pending" | "Succeeded" | "Failed")
}

/// Takes one disruption out of the budget that selects `pod`; without a budget there is nothing to take.
async fn take_leave(call: &Call, pod: &Value, dry_run: bool) -> Result<(), ApiError> {
    let Some(budgets) = call.state.registry.by_kind("policy", "PodDisruptionBudget") else {
        return Ok(());
    };
    let selecting = selecting(call, budgets, pod)?;
    let key = match selecting.as_slice() {
        [] => return Ok(()),
        [one] => one,
        _ => {
            let reason =
                "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
            return Err(ApiError::Unclassified(reason.to_owned()));
        }
    };
    guaranteed_update(&*call.state.storage, key, |entry| {
        // A budget that is gone by now forbids nothing.
        let Some(entry) = entry else {
            return Ok((Change::Keep, ()));
        };
        let mut budget = document::parse(&budgets.info, &entry.value)?;
        if !is_ready(pod) && lets_unhealthy_go(&budget) {
            return Ok((Change::Keep, ()));
        }
        spend(&mut budget, &call.target.name)?;
        let change = if dry_run {
            Change::Keep
        } else {
            Change::Put(Document::encode(&budget)?)
        };
        Ok::<_, ApiError>((change, ()))
    })
    .await?;
    Ok(())
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    let ready = |condition: &Value| text(condition, "/type") == "Ready" && text(condition, "/status") == "True";
    conditions.is_some_and(|conditions| conditions.iter().any(ready))
}

/// Whether a Pod that is not ready costs the budget nothing (KEP-3017): always, or as long as enough others are healthy.
fn lets_unhealthy_go(budget: &Value) -> bool {
    let wanted = number(budget, "/status/desiredHealthy");
    text(budget, "/spec/unhealthyPodEvictionPolicy") == "AlwaysAllow"
        || wanted > 0 && number(budget, "/status/currentHealthy") >= wanted
}

/// Where the budgets that select `pod` are stored.
fn selecting(call: &Call, budgets: &Registered, pod: &Value) -> Result<Vec<String>, ApiError> {
    let given = pod.pointer("/metadata/labels").cloned().unwrap_or_else(|| json!({}));
    let given = serde_json::from_value(given)?;
    let state = call.state.storage.cache().snapshot();
    let mut keys = Vec::new();
    for entry in state.range(&prefix(&budgets.info, &call.target.namespace), None) {
        let budget: Value = serde_json::from_slice(&entry.value)?;
        let Some(selector) = budget.pointer("/spec/selector").filter(|s| !s.is_null()) else {
            continue;
        };
        if labels::selects(&LabelSelector::deserialize(selector)?, &given) {
            keys.push(entry.key.to_string());
        }
    }
    Ok(keys)
}

/// Counts one disruption more, if one is allowed.
fn spend(budget: &mut Value, pod: &str) -> Result<(), ApiError> {
    let name = text(budget, "/metadata/name").to_owned();
    let refused = |message: String, retry_after_seconds: Option<u32>| ApiError::TooManyRequests {
        message: VIOLATED.to_owned(),
        causes: vec![Cause {
            reason: "DisruptionBudget",
            message,
            field: String::new(),
        }],
        retry_after_seconds,
    };
    if number(budget, "/status/observedGeneration") < number(budget, "/metadata/generation") {
        let message = format!("The disruption budget {name} is still being processed by the server.");
        return Err(refused(message, Some(UNSEEN_RETRY)));
    }
    let allowed = number(budget, "/status/disruptionsAllowed");
    let broken = |reason: &str| ApiError::Forbidden {
        resource: Resource {
            group: "policy",
            plural: "poddisruptionbudget",
        },
        name: name.clone(),
        reason: reason.to_owned(),
        causes: Vec::new(),
    };
    if allowed < 0 {
        return Err(broken("pdb disruptions allowed is negative"));
    }
    let unseen = budget.pointer("/status/disruptedPods").and_then(Value::as_object);
    if unseen.is_some_and(|pods| pods.len() > MOST_DISRUPTED) {
        return Err(broken(
            "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        ));
    }
    if allowed == 0 {
        return Err(refused(why_none(budget, &name), None));
    }
    if allowed == 1 {
        none_left(budget);
    }
    let status = object::map(&mut budget["status"]);
    status.insert("disruptionsAllowed".to_owned(), (allowed - 1).into());
    let disrupted = object::map(status.entry("disruptedPods").or_insert_with(|| json!({})));
    disrupted.insert(pod.to_owned(), now().to_string().into());
    Ok(())
}

fn number(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or_default()
}

fn conditions(budget: &mut Value) -> &mut Vec<Value> {
    let conditions = object::map(&mut budget["status"])
        .entry("conditions")
        .or_insert_with(|| json!([]));
    if !conditions.is_array() {
        *conditions = json!([]);
    }
    match conditions {
        Value::Array(conditions) => conditions,
        _ => unreachable!("was just made a list"),
    }
}

/// What keeps a budget from allowing a disruption.
fn why_none(budget: &mut Value, name: &str) -> String {
    let failed = conditions(budget)
        .iter()
        .find(|condition| text(condition, "/type") == ALLOWED && text(condition, "/reason") == "SyncFailed");
    if let Some(condition) = failed.filter(|condition| text(condition, "/status") == "False") {
        let why = text(condition, "/message");
        return format!(
            "The disruption budget {name} does not allow evicting pods currently because it failed sync: {why}"
        );
    }
    let (wanted, healthy) = (
        number(budget, "/status/desiredHealthy"),
        number(budget, "/status/currentHealthy"),
    );
    if healthy <= wanted {
        format!("The disruption budget {name} needs {wanted} healthy pods and has {healthy} currently")
    } else {
        format!("The disruption budget {name} does not allow evicting pods currently")
    }
}

/// Says in the conditions that the last disruption was taken.
fn none_left(budget: &mut Value) {
    let generation = number(budget, "/status/observedGeneration");
    let conditions = conditions(budget);
    let was = conditions.iter().find(|condition| text(condition, "/type") == ALLOWED);
    let since = was
        .filter(|condition| text(condition, "/status") == "False")
        .map_or_else(
            || now().to_string(),
            |condition| text(condition, "/lastTransitionTime").to_owned(),
        );
    conditions.retain(|condition| text(condition, "/type") != ALLOWED);
    conditions.push(json!({
        "type": ALLOWED,
        "status": "False",
        "reason": "InsufficientPods",
        "message": "",
        "observedGeneration": generation,
        "lastTransitionTime": since,
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_spent_one_by_one_and_then_refuses() {
        let mut budget = json!({
            "metadata": {"name": "b", "generation": 1},
            "status": {"observedGeneration": 1, "disruptionsAllowed": 1, "desiredHealthy": 2, "currentHealthy": 3},
        });
        assert!(spend(&mut budget, "p").is_ok());
        assert_eq!(budget["status"]["disruptionsAllowed"], 0);
        assert!(budget["status"]["disruptedPods"]["p"].is_string());
        assert_eq!(budget["status"]["conditions"][0]["reason"], "InsufficientPods");
        budget["status"]["currentHealthy"] = 2.into();
        let refused = spend(&mut budget, "q").expect_err("nothing is left");
        assert_eq!(refused.code(), StatusCode::TOO_MANY_REQUESTS);
        let status = serde_json::to_value(refused.status()).expect("is JSON");
        assert_eq!(status["message"], VIOLATED);
        assert_eq!(status["reason"], "TooManyRequests");
        assert_eq!(
            status["details"]["causes"],
            json!([{"reason": "DisruptionBudget", "message": "The disruption budget b needs 2 healthy pods and has 2 currently"}])
        );
        budget["metadata"]["generation"] = 2.into();
        let unseen = serde_json::to_value(spend(&mut budget, "q").expect_err("is not seen").status()).expect("is JSON");
        assert_eq!(unseen["details"]["retryAfterSeconds"], 10);
        budget["metadata"]["generation"] = 1.into();
        budget["status"]["currentHealthy"] = 3.into();
        let refused =
            serde_json::to_value(spend(&mut budget, "q").expect_err("none is left").status()).expect("is JSON");
        let message = "The disruption budget b does not allow evicting pods currently";
        assert_eq!(refused["details"]["causes"][0]["message"], message);
    }

    #[test]
    fn a_pod_that_is_not_ready_costs_nothing_where_enough_others_are() {
        let budget = |healthy: i64, policy: &str| json!({"spec": {"unhealthyPodEvictionPolicy": policy}, "status": {"desiredHealthy": 2, "currentHealthy": healthy}});
        assert!(lets_unhealthy_go(&budget(2, "IfHealthyBudget")));
        assert!(!lets_unhealthy_go(&budget(1, "IfHealthyBudget")));
        assert!(lets_unhealthy_go(&budget(0, "AlwaysAllow")));
        assert!(!lets_unhealthy_go(
            &json!({"status": {"desiredHealthy": 0, "currentHealthy": 0}})
        ));
        assert!(is_ready(
            &json!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}})
        ));
        assert!(!is_ready(
            &json!({"status": {"conditions": [{"type": "Ready", "status": "False"}]}})
        ));
    }
}
