//! The audit log, read and checked.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bellwether_core::api::{AuditEntry, AuditFilter, AuditVerification, List};
use bellwether_core::audit::Action;
use bellwether_core::nearest;
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
    caller: Caller,
    QueryParams(filter): QueryParams<AuditFilter>,
) -> Result<Json<List<AuditEntry>>, Refusal> {
    filter.action.as_deref().map_or(Ok(()), check_action)?;
    let before = filter.cursor.as_deref().map(pages::decode_cursor::<(Timestamp, i64)>).transpose()?;
    let limit = pages::limit(filter.limit);
    let mut db = hub.requests.acquire().await.map_err(StoreError::from)?;
    let entries = store::audit::list(&mut db, &caller.project.name, &filter, before, limit).await?;
    Ok(Json(pages::page(entries, limit, |entry| pages::encode_cursor(&(entry.at, entry.seq)))))
}

/// The catalogue is closed: what is in none of its spellings is a mistake, and no entry would ever be found for it.
fn check_action(prefix: &str) -> Result<(), Refusal> {
    let known = Action::ALL.iter().flat_map(|action| {
        let spelling = action.as_str();
        spelling.match_indices('.').map(|(end, _)| &spelling[..end]).chain([spelling])
    });
    if known.clone().any(|known| known == prefix) {
        return Ok(());
    }
    let refusal = Refusal::new(StatusCode::BAD_REQUEST, "query_invalid", format!("there is no action `{prefix}`"));
    let hint =
        nearest(prefix, known).map_or("docs/api.md lists them".to_owned(), |near| format!("did you mean `{near}`?"));
    Err(refusal.hint(hint))
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
