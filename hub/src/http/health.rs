//! Whether the hub lives, whether it can serve, and its figures.
//!
//! Anybody may ask, as often as they like: the database is asked once in a while, by one of them.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;

use super::readiness::remembered;
use crate::process::clock;
use crate::{Hub, store};

pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// A hub without Postgres is not ready.
pub(super) async fn ready(State(hub): State<Arc<Hub>>) -> (StatusCode, &'static str) {
    let asked = async {
        let Ok(mut db) = hub.vital.acquire().await else { return false };
        store::installation::is_there(&mut db).await.unwrap_or(false)
    };
    if remembered(&hub.readiness.is_ready, asked).await {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n")
    }
}

pub(super) async fn metrics(State(hub): State<Arc<Hub>>) -> impl IntoResponse {
    let asked = async {
        hub.metrics.sessions.set(i64::try_from(hub.sessions.count()).unwrap_or(i64::MAX));
        if let Ok(mut db) = hub.vital.acquire().await
            && let Ok(rows) = store::figures::load(&mut db, clock::now()).await
        {
            hub.metrics.note_rows(rows);
        }
        Bytes::from(hub.metrics.encode())
    };
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], remembered(&hub.readiness.figures, asked).await)
}
