//! GET of CustomResourceDefinitions: there are none, and no way to make one. Discovery does not tell of them. kubectl asks
//! for the list before it creates what cannot be patched, such as a review, and fails if it gets no answer.

use axum::response::Response;
use http::StatusCode;
use serde_json::json;

use crate::authz::{Attributes, Resource, Target};
use crate::error::{self, ApiError};
use crate::identity::Identity;

use super::auth;
use super::negotiate::Accepted;
use super::request::Verb;
use super::respond;
use super::state::State;

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";
/// The path of the collection.
pub const PATH: [&str; 4] = ["apis", GROUP, "v1", PLURAL];

/// Answers with the empty list.
///
/// # Errors
/// Whoever asks may not know.
pub fn list(state: &State, identity: &Identity, accept: Accepted) -> Result<Response, ApiError> {
    let about = error::Resource {
        group: GROUP,
        plural: PLURAL,
    };
    let wanted = Attributes {
        verb: Verb::List.as_str(),
        target: Target::Resource(Resource {
            group: GROUP,
            resource: PLURAL,
            subresource: "",
            namespace: "",
            name: "",
        }),
    };
    auth::authorize(state, identity, about, &wanted)?;
    let revision = state.storage.cache().revision().to_string();
    let list = json!({
        "apiVersion": format!("{GROUP}/v1"), "kind": "CustomResourceDefinitionList",
        "metadata": {"resourceVersion": revision}, "items": [],
    });
    respond::finish(accept, StatusCode::OK, serde_json::to_vec(&list)?, &[])
}
