//! The REST API: rows → documents, people's requests → rows. It decides nothing about rollouts.
//!
//! Every route under `/api/v1` but none outside it needs a bearer token: the table of routes says what each does, and so which
//! right it needs. The extractor [`auth::Caller`] is how a handler learns who calls; it is answered only behind such a line.

mod auth;
mod health;
pub(crate) mod hooks;
mod input;
mod install;
mod pages;
mod problem;
pub(crate) mod readiness;
pub(crate) mod reads;
#[cfg(test)]
mod snapshots;
#[cfg(test)]
mod testing;
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
use axum::routing::{MethodRouter, delete, get, post, put};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use self::auth::Does;
use self::v1::{audit, clusters, drift, repos, rollouts, status, targets};
use crate::Hub;
use crate::ports;

/// Specs and certificates are small.
const BODY_BYTES_MAX: usize = 1024 * 1024;

pub(crate) async fn serve(hub: Arc<Hub>, listener: TcpListener, stop: CancellationToken) {
    let lists = (hub.trust.known_callers.clone(), ports::Revoked::default());
    let incoming = ports::incoming(listener, hub.trust.api.clone(), ports::API, lists, stop.clone());
    ports::serve_http(incoming, router(hub), stop).await;
}

/// Routes for whoever has the right to what they do.
fn of(hub: &Arc<Hub>, does: Does, methods: MethodRouter<Arc<Hub>>) -> MethodRouter<Arc<Hub>> {
    methods.route_layer(middleware::from_fn_with_state((Arc::clone(hub), does), auth::take_turn))
}

pub(crate) fn router(hub: Arc<Hub>) -> Router {
    let read = |methods| of(&hub, Does::Read, methods);
    let change = |methods| of(&hub, Does::Change, methods);
    let api = Router::new()
        .route("/whoami", read(get(auth::whoami)))
        .route("/tokens", read(get(tokens::list)).merge(change(post(tokens::create))))
        .route("/tokens/{name}", change(delete(tokens::revoke)))
        .route("/clusters", read(get(clusters::list)).merge(change(post(clusters::register))))
        .route("/clusters/{name}", read(get(clusters::show)).merge(change(delete(clusters::delete))))
        .route("/clusters/{name}/targets", read(get(clusters::list_targets)))
        .route("/clusters/{name}/apis", read(get(clusters::list_apis)))
        .route("/clusters/{name}/rbac", read(get(clusters::rights)))
        .route("/clusters/{name}/definitions", read(get(clusters::list_definitions)))
        .route("/clusters/{name}/definitions/{definition}", read(get(clusters::show_definition)))
        .route("/clusters/{name}/labels", change(put(clusters::label)))
        .route("/clusters/{name}/annotations", change(put(clusters::annotate)))
        .route("/clusters/{name}/revoke", change(post(clusters::revoke)))
        .route("/clusters/{name}/reenroll", change(post(clusters::reenroll)))
        .route("/repos", read(get(repos::list)))
        .route("/repos/{name}", read(get(repos::show)).merge(change(put(repos::put).delete(repos::delete))))
        .route(
            "/repos/{name}/credential",
            change(put(repos::put_credential).post(repos::make_credential).delete(repos::delete_credential)),
        )
        .route("/repos/{name}/webhook-secret", change(post(repos::renew_webhook_secret)))
        .route("/repos/{name}/refresh", change(post(repos::refresh)))
        .route("/repos/{name}/accept", change(post(repos::accept)))
        .route("/targets", read(get(targets::list)))
        .route("/targets/{name}", read(get(targets::show)).merge(change(put(targets::put).delete(targets::delete))))
        // What Secrets hold is not for whoever only looks.
        .route("/targets/{name}/render", change(get(targets::render)))
        .route("/targets/{name}/explain", change(get(targets::explain)))
        .route("/targets/{name}/plan", change(post(targets::plan)))
        .route("/targets/{name}/refresh", change(post(targets::refresh)))
        .route("/targets/{name}/rollback", change(post(targets::rollback)))
        .route("/targets/{name}/release", change(post(targets::release)))
        .route("/rollouts", read(get(rollouts::list)))
        .route("/rollouts/{id}", read(get(rollouts::show)))
        .route("/rollouts/{id}/members", read(get(rollouts::list_members)))
        .route("/rollouts/{id}/intents", change(post(rollouts::intend)))
        .route("/status", read(get(status::show)))
        .route("/drift", read(get(drift::list)))
        .route("/drift/{id}", read(get(drift::show)))
        .route("/audit", read(get(audit::list)))
        .route("/audit/verify", of(&hub, Does::CheckLog, post(audit::verify)))
        .fallback(problem::no_such_route);
    Router::new()
        .nest("/api/v1", api)
        .route("/hooks/v1/{repo}", post(hooks::take))
        .route("/livez", get(health::live))
        .route("/readyz", get(health::ready))
        .route("/metrics", get(health::metrics))
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .with_state(hub)
}
