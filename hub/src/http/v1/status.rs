//! What runs where.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use bellwether_core::Name;
use bellwether_core::api::{NamedCondition, StatusDocument, StatusRow};
use bellwether_core::report::{Counts, Verdict};
use serde::Deserialize;

use super::targets;
use crate::Hub;
use crate::http::auth::Caller;
use crate::http::input::QueryParams;
use crate::http::problem::{Refusal, unreadable};
use crate::store::fleet::Placement;
use crate::store::stored::Entry;
use crate::store::{self, StoreError};

/// Rows of one answer; more is asked for by target.
const ROWS_MAX: i64 = 20_000;
const REPOS_MAX: i64 = 1_000;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(in crate::http) struct StatusQuery {
    target: Option<Name>,
}

pub(in crate::http) async fn show(
    State(hub): State<Arc<Hub>>,
    _: Caller,
    QueryParams(query): QueryParams<StatusQuery>,
) -> Result<Json<StatusDocument>, Refusal> {
    let mut db = hub.pool.acquire().await.map_err(StoreError::from)?;
    let mut conditions = Vec::new();
    let shown = match &query.target {
        Some(name) => vec![targets::find(&mut db, name).await?],
        None => readable("Target", store::targets::list(&mut db, "", REPOS_MAX).await?, &mut conditions),
    };
    let only = query.target.as_ref().and_then(|_| shown.first()).map(|target| target.id);
    let placements = store::fleet::list_placements(&mut db, only, None, ROWS_MAX).await?;
    let mut documents = Vec::with_capacity(shown.len());
    for target in &shown {
        documents.push(targets::document_of(&mut db, target).await?);
    }
    for repo in readable("Repo", store::repos::list(&mut db, "", REPOS_MAX).await?, &mut conditions) {
        if let Some(condition) = store::repos::find_fetch_status(&mut db, repo.id).await?.condition {
            conditions.push(NamedCondition { kind: "Repo".to_owned(), name: repo.name, condition });
        }
    }
    let selects = |one: &Placement| {
        let target = shown.iter().find(|target| target.name == one.target);
        target.is_none_or(|target| target.spec.clusters.selects(&one.labels))
    };
    let rows = placements.into_iter().map(|one| (selects(&one), one)).map(row).collect();
    Ok(Json(StatusDocument { targets: documents, rows, conditions }))
}

/// What can be read; of what cannot, a condition.
fn readable<T>(kind: &str, entries: Vec<Entry<T>>, conditions: &mut Vec<NamedCondition>) -> Vec<T> {
    let mut read = Vec::with_capacity(entries.len());
    for entry in entries {
        if let (Err(error), Ok(name)) = (&entry.read, entry.name.parse()) {
            conditions.push(NamedCondition { kind: kind.to_owned(), name, condition: unreadable(error.to_string()) });
        }
        read.extend(entry.readable());
    }
    read
}

/// A disconnected cluster's health is unknown, whatever it said last.
fn row((selected, one): (bool, Placement)) -> StatusRow {
    let said = one.said.as_ref();
    let verdict = said.map_or(Verdict::Unknown, |said| said.verdict);
    let worst = said.and_then(|said| said.lines.first());
    StatusRow {
        target: one.target,
        cluster: one.cluster,
        connected: one.connected,
        selected,
        since: one.since,
        commit: one.commit,
        digest: one.digest,
        applied: said.is_some_and(|said| said.applied),
        verdict: if one.connected { verdict } else { Verdict::Unknown },
        objects: said.map_or_else(Counts::default, |said| said.objects),
        message: worst.map(ToString::to_string).unwrap_or_default(),
        reported_at: said.map(|said| said.at),
    }
}
