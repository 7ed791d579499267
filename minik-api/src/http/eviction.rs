//! POST of an Eviction: a deletion of a Pod that asks the PodDisruptionBudgets first.

use axum::response::Response;
use bytes::Bytes;
use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::{ApiError, Cause, Status};
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
            return Err(ApiError::Internal(reason.to_owned()));
        }
    };
    guaranteed_update(&*call.state.storage, key, |entry| {
        // A budget that is gone by now forbids nothing.
        let Some(entry) = entry else {
            return Ok((Change::Keep, ()));
        };
        let mut budget = document::parse(&budgets.info, &entry.value)?;
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
    let number = |budget: &Value, pointer: &str| budget.pointer(pointer).and_then(Value::as_i64).unwrap_or_default();
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
    if allowed <= 0 {
        let wanted = number(budget, "/status/desiredHealthy");
        let healthy = number(budget, "/status/currentHealthy");
        let message = format!("The disruption budget {name} needs {wanted} healthy pods and has {healthy} currently");
        return Err(refused(message, None));
    }
    let status = object::map(&mut budget["status"]);
    status.insert("disruptionsAllowed".to_owned(), (allowed - 1).into());
    let disrupted = object::map(status.entry("disruptedPods").or_insert_with(|| json!({})));
    disrupted.insert(pod.to_owned(), now().to_string().into());
    Ok(())
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
        let refused = spend(&mut budget, "q").expect_err("nothing is left");
        assert_eq!(refused.code(), StatusCode::TOO_MANY_REQUESTS);
        let status = serde_json::to_value(refused.status()).expect("is JSON");
        assert_eq!(status["message"], VIOLATED);
        assert_eq!(status["reason"], "TooManyRequests");
        assert_eq!(
            status["details"]["causes"],
            json!([{"reason": "DisruptionBudget", "message": "The disruption budget b needs 2 healthy pods and has 3 currently"}])
        );
        budget["metadata"]["generation"] = 2.into();
        let unseen = serde_json::to_value(spend(&mut budget, "q").expect_err("is not seen").status()).expect("is JSON");
        assert_eq!(unseen["details"]["retryAfterSeconds"], 10);
    }
}
