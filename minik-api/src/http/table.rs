//! Tables: what `kubectl get` prints. Columns and cells come from the kind's strategy.

use serde_json::{Value, json};

use crate::error::ApiError;
use crate::resource::Registered;

use super::call::{Call, now};
use super::document;
use super::list_meta::ListMeta;

/// One row, with as much of the object as `includeObject` asks for.
///
/// # Errors
/// The document is damaged.
pub fn row(call: &Call, document: &[u8]) -> Result<Value, ApiError> {
    let object = document::parse(call.info(), document)?;
    let cells = call.kind().strategy.row(&object, now())?;
    Ok(match call.options.get("includeObject") {
        Some("None") => json!({"cells": cells}),
        Some("Object") => json!({"cells": cells, "object": object}),
        _ => json!({"cells": cells, "object": document::partial(document)?}),
    })
}

/// The Table of `rows`. A watch describes its columns only once.
#[must_use]
pub fn of(kind: &Registered, meta: impl std::borrow::Borrow<ListMeta>, rows: &[Value], with_columns: bool) -> Value {
    let columns = kind.strategy.columns().iter().map(|column| {
        json!({
            "name": column.name,
            "type": column.kind,
            "format": column.format,
            "description": column.description,
            "priority": column.priority,
        })
    });
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": meta.borrow(),
        "columnDefinitions": with_columns.then(|| columns.collect::<Vec<_>>()),
        "rows": rows,
    })
}
