//! Who calls, out of a request's headers.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{FromRequestParts, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{Json, Response};
use bellwether_core::Digest;
use bellwether_core::access::Right;
use serde_json::{Value, json};
use tokio::sync::{AcquireError, OwnedSemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::problem::Refusal;
use crate::Hub;
use crate::access::token;
use crate::pki::seal;
use crate::ports::{Peer, UntilTaken, Usage, network};
use crate::process::turns::TURN_DEADLINE;

pub(super) use crate::access::caller::Caller;

/// Who asks, as [`take_turn`] has found out.
#[derive(Clone)]
struct Known(Caller);

/// A handler that takes none is open to everybody.
impl FromRequestParts<Arc<Hub>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &Arc<Hub>) -> Result<Self, Refusal> {
        let Some(Known(caller)) = parts.extensions.get::<Known>().cloned() else {
            let detail = "a bearer token is needed, and this is none";
            return Err(Refusal::new(StatusCode::UNAUTHORIZED, "unauthenticated", detail)
                .hint("set BELLWETHER_TOKEN; the first token is in the hub's data folder, in `admin-token`"));
        };
        Ok(caller)
    }
}

fn hash_of(headers: &HeaderMap) -> Option<Digest> {
    let header = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    Some(seal::hash_token(header.strip_prefix("Bearer ")?.trim()))
}

/// What a route does: so which right it needs, and with whom it takes turns.
#[derive(Clone, Copy)]
pub(super) enum Does {
    /// Shows a page.
    Read,
    /// Reads the whole log, and changes nothing.
    CheckLog,
    Change,
}

impl Does {
    const fn needs(self) -> Right {
        match self {
            Self::Read | Self::CheckLog => Right::Read,
            Self::Change => Right::Change,
        }
    }
}

/// Finds out who asks and whether they may, and lets them wait for their turn: what one token asks, and what all of them read,
/// leaves connections to the rest. Strangers wait for each other alone, and are passed on without a turn: no handler answers
/// them.
pub(super) async fn take_turn(
    State((hub, does)): State<(Arc<Hub>, Does)>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let until = Instant::now() + TURN_DEADLINE;
    let Some(hash) = hash_of(request.headers()) else { return Ok(next.run(request).await) };
    let from = request.extensions().get::<Peer>().map(|peer| network(peer.0.ip()));
    let Some((caller, own)) = recognise(&hub, hash, from, until).await? else { return Ok(next.run(request).await) };
    if let Some(connection) = request.extensions().get::<Arc<Usage>>() {
        connection.let_in();
    }
    if !caller.may(does.needs()) {
        let detail = format!("token `{}` may only read", caller.name);
        return Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden", detail).hint("use a token of an admin"));
    }
    let reads = match does {
        Does::Read => Some(&hub.reads.pages),
        Does::CheckLog => Some(&hub.reads.checks),
        Does::Change => None,
    };
    let _turn = match reads {
        Some(reads) => Some(within(until, reads.acquire()).await?),
        None => None,
    };
    request.extensions_mut().insert(Known(caller));
    let mut response = next.run(request).await;
    response.extensions_mut().insert(UntilTaken::new(own));
    Ok(response)
}

/// Whose token it is, and a turn of its own. One that was good a moment ago waits for nobody else's to be looked up.
async fn recognise(
    hub: &Hub,
    hash: Digest,
    from: Option<IpAddr>,
    until: Instant,
) -> Result<Option<(Caller, OwnedSemaphorePermit)>, Refusal> {
    if let Some(own) = hub.known_tokens.get(&hash) {
        let own = within(until, own.acquire_owned()).await?;
        return Ok(token::authenticate(hub, hash, from).await?.map(|(caller, _)| (caller, own)));
    }
    let turn = hub.strangers.turn(from).await.ok_or_else(busy)?;
    let found = token::authenticate(hub, hash, from).await?;
    drop(turn);
    match found {
        Some((caller, own)) => Ok(Some((caller, within(until, own.acquire_owned()).await?))),
        None => Ok(None),
    }
}

async fn within<T>(until: Instant, turn: impl Future<Output = Result<T, AcquireError>>) -> Result<T, Refusal> {
    timeout_at(until, turn).await.ok().and_then(Result::ok).ok_or_else(busy)
}

pub(super) fn busy() -> Refusal {
    let detail = "too much is asked at once: with this token, by all who read, or by strangers";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "busy", detail).hint("try again in a moment")
}

pub(super) async fn whoami(caller: Caller) -> Json<Value> {
    Json(json!({"name": caller.name, "kind": "token", "role": caller.role}))
}
