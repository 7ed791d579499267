//! GET of an object and of a collection: revisions, pages, selectors.

use std::sync::Arc;

use axum::response::Response;
use data_encoding::BASE64URL_NOPAD;
use http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::error::ApiError;
use crate::resource::field::{FieldError, Reason};
use crate::storage::{Compacted, Entry, Mvcc};

use super::call::Call;
use super::list_meta::ListMeta;
use super::list_options;
use super::request::{Options, prefix};
use super::respond;
use super::select::Selection;

const EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response to retrieve the remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// Answers with the object in the path.
///
/// # Errors
/// There is none.
pub fn get(call: &Call) -> Result<Response, ApiError> {
    let cache = call.state.storage.cache();
    if let Some(requested) = version(&call.options)? {
        reached(requested, cache.revision())?;
    }
    let entry = cache.get(&call.key()).ok_or_else(|| call.not_found())?;
    respond::object(call, StatusCode::OK, &entry.value, &[])
}

/// Answers with the collection in the path.
///
/// # Errors
/// Options make no sense, or ask for a revision that is gone or not there yet.
pub fn list(call: &Call) -> Result<Response, ApiError> {
    let (page, meta) = page(call)?;
    respond::list(call, &page, &meta)
}

/// What a request about the collection in the path is about: the selected objects, or one page of them.
///
/// # Errors
/// As [`list`].
pub fn page(call: &Call) -> Result<(Vec<Arc<Entry>>, ListMeta), ApiError> {
    let options = &call.options;
    list_options::check(options, false)?;
    let selection = Selection::parse(call.kind(), options)?;
    let limit: usize = options.number("limit")?.unwrap_or(0);
    let prefix = prefix(call.info(), &call.target.namespace);
    let now = call.state.storage.cache().snapshot();
    let (state, after) = match options.get("continue") {
        Some(_) if version(options)?.is_some() => {
            let reason = "specifying resource version is not allowed when using continue";
            return Err(ApiError::BadRequest(reason.to_owned()));
        }
        Some(token) => resume(now, &prefix, token)?,
        None => (at_version(now, options)?, None),
    };
    let mut rest = state
        .range(&prefix, after.as_deref())
        .filter(|entry| selection.matches(call.kind(), entry));
    let mut page = Vec::new();
    page.extend(rest.by_ref().take(if limit == 0 { usize::MAX } else { limit }).cloned());
    let left = rest.count();
    let mut meta = ListMeta {
        resource_version: state.revision().to_string(),
        ..ListMeta::default()
    };
    if left > 0
        && let Some(last) = page.last()
    {
        meta.token = Token::new(state.revision(), &last.key[prefix.len()..]).encode()?;
        meta.remaining_item_count = selection.is_everything().then_some(left);
    }
    Ok((page, meta))
}

/// The `resourceVersion` of a request; 0 and nothing both mean whatever is at hand.
///
/// # Errors
/// It is no number.
pub fn version(options: &Options) -> Result<Option<u64>, ApiError> {
    let Some(text) = options.get("resourceVersion") else {
        return Ok(None);
    };
    match text.parse() {
        Ok(0) => Ok(None),
        Ok(revision) => Ok(Some(revision)),
        Err(_) => Err(invalid_option(
            "resourceVersion",
            Reason::Invalid(json!(text).into()),
            &format!("strconv.ParseUint: parsing {text:?}: invalid syntax"),
        )),
    }
}

/// 422 about one option.
#[must_use]
pub fn invalid_option(field: &str, reason: Reason, detail: &str) -> ApiError {
    list_options::invalid(vec![FieldError {
        field: field.to_owned(),
        reason,
        detail: detail.to_owned(),
    }])
}

/// Checks that the history has got to a revision.
///
/// # Errors
/// It has not.
pub fn reached(requested: u64, current: u64) -> Result<(), ApiError> {
    if requested > current {
        Err(ApiError::FutureVersion { requested, current })
    } else {
        Ok(())
    }
}

fn at_version(now: Mvcc, options: &Options) -> Result<Mvcc, ApiError> {
    let Some(requested) = version(options)? else {
        return Ok(now);
    };
    let exact = options.get("resourceVersionMatch") == Some("Exact");
    reached(requested, now.revision())?;
    if exact {
        now.at(requested).ok_or_else(|| {
            Compacted {
                requested,
                oldest: now.compacted(),
            }
            .into()
        })
    } else {
        Ok(now)
    }
}

const TOKEN_VERSION: &str = "meta.k8s.io/v1";

/// Where a paged list goes on; the form is the API server's.
#[derive(Serialize, Deserialize)]
struct Token {
    v: String,
    rv: i64,
    /// The key after which the next page starts, followed by a zero byte.
    start: String,
}

impl Token {
    fn new(revision: u64, last: &str) -> Self {
        let rv = i64::try_from(revision).unwrap_or(i64::MAX);
        Self {
            v: TOKEN_VERSION.to_owned(),
            rv,
            start: format!("{last}\0"),
        }
    }

    fn encode(&self) -> Result<String, ApiError> {
        Ok(BASE64URL_NOPAD.encode(&serde_json::to_vec(self)?))
    }

    fn decode(token: &str) -> Result<Self, ApiError> {
        let invalid =
            |why: String| ApiError::BadRequest(format!("invalid continue token: continue key is not valid: {why}"));
        let bytes = BASE64URL_NOPAD
            .decode(token.as_bytes())
            .map_err(|error| invalid(format!("illegal base64 data at input byte {}", error.position)))?;
        let token: Self = serde_json::from_slice(&bytes).map_err(|_malformed| {
            let first = char::from(bytes.first().copied().unwrap_or_default());
            invalid(format!("invalid character '{first}' looking for beginning of value"))
        })?;
        // As `k8s.io/apiserver/pkg/storage.DecodeContinue`.
        if token.v != TOKEN_VERSION {
            return Err(invalid(format!(
                "server does not recognize this encoded version {:?}",
                token.v
            )));
        }
        if token.rv == 0 {
            return Err(invalid(format!(
                "incorrect encoded start resourceVersion (version {TOKEN_VERSION})"
            )));
        }
        if token.start.is_empty() {
            return Err(invalid(format!("encoded start key empty (version {TOKEN_VERSION})")));
        }
        // What would lead out of the collection.
        if token.start.split('/').any(|part| part == "..") {
            return Err(invalid(token.start));
        }
        Ok(token)
    }
}

fn resume(now: Mvcc, prefix: &str, token: &str) -> Result<(Mvcc, Option<String>), ApiError> {
    let token = Token::decode(token)?;
    let last = token.start.trim_end_matches('\0');
    let after = format!("{prefix}{last}");
    // A negative revision asks for the rest of a list whose own revision is gone.
    let state = match u64::try_from(token.rv) {
        Ok(revision) => now.at(revision).ok_or(()).or_else(|()| {
            let token = Token {
                v: token.v.clone(),
                rv: -1,
                start: token.start.clone(),
            }
            .encode()?;
            Err(ApiError::ContinueExpired {
                message: EXPIRED,
                token,
            })
        })?,
        Err(_) => now,
    };
    Ok((state, Some(after)))
}
