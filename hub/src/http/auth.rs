//! Who calls, out of a request's headers.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::middleware::Next;
use axum::response::{Json, Response};
use bellwether_core::Digest;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::problem::Refusal;
use crate::Hub;
use crate::access::token;
use crate::pki::seal;

pub(super) use crate::access::caller::Caller;

/// A handler that takes none is open to everybody.
impl FromRequestParts<Arc<Hub>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, hub: &Arc<Hub>) -> Result<Self, Refusal> {
        let refused = || {
            Refusal::new(StatusCode::UNAUTHORIZED, "unauthenticated", "a bearer token is needed, and this is none")
                .hint("set BELLWETHER_TOKEN; the first token is in the hub's data folder, in `admin-token`")
        };
        let hash = hash_of(&parts.headers).ok_or_else(refused)?;
        let caller = token::authenticate(hub, hash).await?.ok_or_else(refused)?;
        if !caller.may_change() && !only_reads(&parts.method, &parts.uri) {
            let detail = format!("token `{}` may only read", caller.name);
            return Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden", detail).hint("use a token of an admin"));
        }
        Ok(caller)
    }
}

fn hash_of(headers: &HeaderMap) -> Option<Digest> {
    let header = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    Some(seal::hash_token(header.strip_prefix("Bearer ")?.trim()))
}

/// Checking the log changes nothing, however it is asked for.
fn only_reads(method: &Method, uri: &Uri) -> bool {
    method == Method::GET || checks_the_log(uri)
}

fn checks_the_log(uri: &Uri) -> bool {
    uri.path().ends_with("/audit/verify")
}

/// As long as one waits for a connection.
const TURN_DEADLINE: Duration = Duration::from_secs(5);

/// Before a request comes to the database: what one token asks, and what all of them read, leaves connections to the
/// rest. Nobody has to be known for it, so that being told from a stranger is within one's turn too.
pub(super) async fn take_turn(State(hub): State<Arc<Hub>>, request: Request, next: Next) -> Result<Response, Refusal> {
    let token = hash_of(request.headers()).and_then(|hash| hub.known_tokens.get(&hash));
    let reads = match only_reads(request.method(), request.uri()) {
        true if checks_the_log(request.uri()) => Some(&hub.reads.checks),
        true => Some(&hub.reads.pages),
        false => None,
    };
    let turns = async {
        let own = match &token {
            Some(own) => own.acquire().await.ok(),
            None => None,
        };
        let of_all = match reads {
            Some(reads) => reads.acquire().await.ok(),
            None => None,
        };
        (own, of_all)
    };
    let _turns = timeout(TURN_DEADLINE, turns).await.map_err(|_| {
        let detail = "too much is asked at once with this token, or by all who read";
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail).hint("try again in a moment")
    })?;
    Ok(next.run(request).await)
}

pub(super) async fn whoami(caller: Caller) -> Json<Value> {
    Json(json!({"name": caller.name, "kind": "token", "role": caller.role}))
}
