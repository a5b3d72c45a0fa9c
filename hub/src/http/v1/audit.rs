//! The audit log, read and checked.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use bellwether_core::api::{AuditEntry, AuditFilter, AuditVerification, List};
use jiff::Timestamp;

use crate::Hub;
use crate::http::auth::Caller;
use crate::http::input::QueryParams;
use crate::http::pages;
use crate::http::problem::Refusal;
use crate::store::{self, StoreError};
use crate::worker::sealer;

pub(in crate::http) async fn list(
    State(hub): State<Arc<Hub>>,
    _: Caller,
    QueryParams(filter): QueryParams<AuditFilter>,
) -> Result<Json<List<AuditEntry>>, Refusal> {
    let before = filter.cursor.as_deref().map(pages::decode_cursor::<(Timestamp, i64)>).transpose()?;
    let limit = pages::limit(filter.limit);
    let mut db = hub.requests.acquire().await.map_err(StoreError::from)?;
    let entries = store::audit::list(&mut db, &filter, before, limit).await?;
    Ok(Json(pages::page(entries, limit, |entry| pages::encode_cursor(&(entry.at, entry.seq)))))
}

pub(in crate::http) async fn verify(
    State(hub): State<Arc<Hub>>,
    _: Caller,
) -> Result<Json<AuditVerification>, Refusal> {
    let found = sealer::verify(&hub).await?;
    Ok(Json(AuditVerification {
        entries: found.entries,
        verified: found.problem.is_none(),
        first_bad: found.problem.map(|(seq, _)| seq),
        problem: found.problem.map(|(_, problem)| problem.to_owned()),
        root: found.root,
    }))
}
