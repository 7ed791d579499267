//! The metadata of lists and tables.

use serde::Serialize;

/// The position of a list in the history and in its pages.
#[derive(Debug, Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ListMeta {
    /// The revision that the list shows.
    pub resource_version: String,
    /// Where the next page starts; empty on the last.
    #[serde(rename = "continue", skip_serializing_if = "String::is_empty")]
    pub token: String,
    /// How many objects the next pages hold, when that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remaining_item_count: Option<usize>,
}

/// The list metadata of an answer about one document: its own revision.
#[must_use]
pub fn revision(document: &[u8]) -> ListMeta {
    #[derive(serde::Deserialize)]
    struct Head {
        metadata: Meta,
    }
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Meta {
        resource_version: String,
    }
    let resource_version = serde_json::from_slice::<Head>(document).map(|head| head.metadata.resource_version);
    ListMeta {
        resource_version: resource_version.unwrap_or_default(),
        ..ListMeta::default()
    }
}
