//! Lists clusters.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use bellwether_core::api::{ClusterDocument, List};
use bellwether_core::{LabelSelector, Labels};
use serde::Deserialize;

use super::documents_of;
use crate::Hub;
use crate::http::auth::Caller;
use crate::http::input::QueryParams;
use crate::http::pages;
use crate::http::problem::Refusal;
use crate::store::stored::Entry;
use crate::store::{self, StoreError};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(in crate::http) struct ListQuery {
    cursor: Option<String>,
    limit: Option<u32>,
    /// `key=value`; more by commas.
    label: Option<String>,
}

pub(in crate::http) async fn list(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    QueryParams(query): QueryParams<ListQuery>,
) -> Result<Json<List<ClusterDocument>>, Refusal> {
    let after = query.cursor.as_deref().map(pages::decode_cursor::<String>).transpose()?.unwrap_or_default();
    let selector = selector(query.label.as_deref())?;
    let limit = pages::limit(query.limit);
    let mut db = hub.requests.acquire().await.map_err(StoreError::from)?;
    let listed = store::clusters::list(&mut db, caller.project.id, &after, limit).await?;
    let page = pages::page(listed, limit, pages::by_name);
    let clusters = page.items.into_iter().filter_map(Entry::readable);
    let chosen = clusters.filter(|cluster| selector.selects(&cluster.labels)).collect();
    let items = documents_of(&mut db, chosen).await?;
    Ok(Json(List { items, next: page.next }))
}

fn selector(label: Option<&str>) -> Result<LabelSelector, Refusal> {
    let mut match_labels = Labels::new();
    for pair in label.into_iter().flat_map(|text| text.split(',')) {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| Refusal::invalid("label_invalid", format!("`{pair}` is not of the form key=value")))?;
        match_labels.insert(key.to_owned(), value.to_owned());
    }
    Ok(LabelSelector { match_labels, ..LabelSelector::default() })
}
