//! Lists by pages: each names where the next begins.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bellwether_core::api::List;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::problem::Refusal;
use crate::store::stored::Entry;

/// Rows of one page where nothing else is asked.
const PAGE: u32 = 100;
/// Rows of one page at most: a screen's worth times ten.
const PAGE_MAX: u32 = 1_000;
/// A whole page.
pub(super) const FULL: i64 = PAGE_MAX as i64;
/// Targets of one page at most: for each of them every cluster of the fleet is read.
pub(super) const TARGETS_MAX: i64 = 100;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct Paging {
    pub(super) cursor: Option<String>,
    pub(super) limit: Option<u32>,
}

pub(super) fn limit(asked: Option<u32>) -> i64 {
    i64::from(asked.unwrap_or(PAGE).clamp(1, PAGE_MAX))
}

/// Where a page begins, hidden from people: it is given back as it came.
pub(super) fn encode_cursor(place: &impl Serialize) -> Option<String> {
    serde_json::to_vec(place).ok().map(|bytes| URL_SAFE_NO_PAD.encode(bytes))
}

pub(super) fn decode_cursor<T: DeserializeOwned>(cursor: &str) -> Result<T, Refusal> {
    let refused =
        || Refusal::new(axum::http::StatusCode::BAD_REQUEST, "cursor_invalid", "this is no cursor of this list");
    let bytes = URL_SAFE_NO_PAD.decode(cursor).map_err(|_| refused())?;
    serde_json::from_slice(&bytes).map_err(|_| refused())
}

/// Where a page of rows begins: at the name or the id of one, which can be read whatever else it says.
pub(super) fn by_name<T>(entry: &Entry<T>) -> Option<String> {
    encode_cursor(&entry.name)
}

/// A page, and the cursor of the next when this one is full.
pub(super) fn page<T>(items: Vec<T>, limit: i64, place: impl Fn(&T) -> Option<String>) -> List<T> {
    let is_full = i64::try_from(items.len()).is_ok_and(|count| count >= limit);
    let next = items.last().filter(|_| is_full).and_then(place);
    List { items, next }
}
