//! Whether the hub lives, whether it can serve, and its figures.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;

use crate::{Hub, clock, store};

pub(super) async fn live() -> &'static str {
    "ok\n"
}

/// A hub without Postgres is not ready.
pub(super) async fn ready(State(hub): State<Arc<Hub>>) -> (StatusCode, &'static str) {
    let asked = async {
        let mut db = hub.pool.acquire().await?;
        store::audit::count_unsealed(&mut db).await
    };
    match asked.await {
        Ok(_) => (StatusCode::OK, "ok\n"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the database does not answer\n"),
    }
}

pub(super) async fn metrics(State(hub): State<Arc<Hub>>) -> impl IntoResponse {
    hub.metrics.sessions.set(i64::try_from(hub.sessions.count()).unwrap_or(i64::MAX));
    if let Ok(mut db) = hub.pool.acquire().await
        && let Ok(rows) = store::figures::load(&mut db, clock::now()).await
    {
        hub.metrics.note_rows(rows);
    }
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], hub.metrics.encode())
}
