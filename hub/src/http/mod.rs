//! The REST API: rows → documents, people's requests → rows. It decides nothing about rollouts.
//!
//! Every route under `/api/v1` but none outside it needs a bearer token: the extractor [`auth::Caller`] is how a handler
//! learns who calls, and a test walks every route without a token.

mod auth;
mod health;
mod hooks;
mod input;
mod install;
mod pages;
mod problem;
pub(crate) mod readiness;
pub(crate) mod reads;
#[cfg(test)]
mod snapshots;
#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::ROUTES;
mod tokens;
mod v1;

use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{delete, get, post, put};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::v1::{audit, clusters, drift, repos, rollouts, status, targets};
use crate::Hub;
use crate::ports;

/// Specs and certificates are small; a webhook's body is only hashed.
const BODY_BYTES_MAX: usize = 1024 * 1024;

pub(crate) async fn serve(hub: Arc<Hub>, listener: TcpListener, stop: CancellationToken) {
    let lists = (hub.trust.known_callers.clone(), ports::Revoked::default());
    let incoming = ports::incoming(listener, hub.trust.api.clone(), ports::API, lists, stop.clone());
    ports::serve_http(incoming, router(hub), stop).await;
}

pub(crate) fn router(hub: Arc<Hub>) -> Router {
    let api = Router::new()
        .route("/whoami", get(auth::whoami))
        .route("/tokens", get(tokens::list).post(tokens::create))
        .route("/tokens/{name}", delete(tokens::revoke))
        .route("/clusters", get(clusters::list).post(clusters::register))
        .route("/clusters/{name}", get(clusters::show).delete(clusters::delete))
        .route("/clusters/{name}/targets", get(clusters::list_targets))
        .route("/clusters/{name}/labels", put(clusters::label))
        .route("/clusters/{name}/revoke", post(clusters::revoke))
        .route("/clusters/{name}/reenroll", post(clusters::reenroll))
        .route("/repos", get(repos::list))
        .route("/repos/{name}", get(repos::show).put(repos::put).delete(repos::delete))
        .route("/repos/{name}/credential", put(repos::put_credential))
        .route("/repos/{name}/webhook-secret", post(repos::renew_webhook_secret))
        .route("/repos/{name}/refresh", post(repos::refresh))
        .route("/repos/{name}/accept", post(repos::accept))
        .route("/targets", get(targets::list))
        .route("/targets/{name}", get(targets::show).put(targets::put).delete(targets::delete))
        .route("/targets/{name}/refresh", post(targets::refresh))
        .route("/targets/{name}/rollback", post(targets::rollback))
        .route("/targets/{name}/release", post(targets::release))
        .route("/rollouts", get(rollouts::list))
        .route("/rollouts/{id}", get(rollouts::show))
        .route("/rollouts/{id}/members", get(rollouts::list_members))
        .route("/rollouts/{id}/intents", post(rollouts::intend))
        .route("/status", get(status::show))
        .route("/drift", get(drift::list))
        .route("/audit", get(audit::list))
        .route("/audit/verify", post(audit::verify))
        .fallback(problem::no_such_route)
        .layer(middleware::from_fn_with_state(Arc::clone(&hub), auth::take_turn));
    Router::new()
        .nest("/api/v1", api)
        .route("/hooks/v1/{repo}", post(hooks::generic))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(hub)
}
