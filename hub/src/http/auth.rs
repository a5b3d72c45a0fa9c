//! Who calls.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::response::Json;
use bellwether_core::Digest;
use bellwether_core::api::TokenRole;
use bellwether_core::audit::Actor;
use serde_json::{Value, json};

use super::problem::Refusal;
use crate::pki::seal;
use crate::process::clock;
use crate::store::tokens::Found;
use crate::work::actors;
use crate::{Hub, store};

/// Somebody with a token that is good now. A handler that takes none is open to everybody.
pub(super) struct Caller {
    pub(super) name: String,
    pub(super) role: TokenRole,
}

impl Caller {
    pub(super) fn actor(&self) -> Actor {
        actors::token(&self.name)
    }
}

impl FromRequestParts<Arc<Hub>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, hub: &Arc<Hub>) -> Result<Self, Refusal> {
        let refused = || {
            Refusal::new(StatusCode::UNAUTHORIZED, "unauthenticated", "a bearer token is needed, and this is none")
                .hint("set BELLWETHER_TOKEN; the first token is in the hub's data folder, in `admin-token`")
        };
        let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| value.strip_prefix("Bearer ")).ok_or_else(refused)?;
        let found = find(hub, seal::hash_token(token.trim())).await?.ok_or_else(refused)?;
        let caller = Self { name: found.name, role: found.role };
        if caller.role == TokenRole::Viewer && !only_reads(parts) {
            let detail = format!("token `{}` may only read", caller.name);
            return Err(Refusal::new(StatusCode::FORBIDDEN, "forbidden", detail).hint("use a token of an admin"));
        }
        Ok(caller)
    }
}

/// Checking the log changes nothing, however it is asked for.
fn only_reads(parts: &Parts) -> bool {
    parts.method == Method::GET || parts.uri.path().ends_with("/audit/verify")
}

/// Tokens that were good a moment ago are looked up beside each other; of others a few at once, so that those who guess
/// leave connections to the rest.
async fn find(hub: &Hub, hash: Digest) -> Result<Option<Found>, Refusal> {
    let is_known = hub.known_tokens.get(&hash).is_some();
    let _turn = if is_known { None } else { hub.strangers.acquire().await.ok() };
    let now = clock::now();
    let mut db = hub.requests.acquire().await.map_err(store::StoreError::from)?;
    let found = store::tokens::find(&mut db, hash, now).await?;
    match &found {
        Some(_) => hub.known_tokens.insert(hash, ()),
        None => {
            hub.known_tokens.remove(&hash);
        }
    }
    Ok(found)
}

pub(super) async fn whoami(caller: Caller) -> Json<Value> {
    Json(json!({"name": caller.name, "kind": "token", "role": caller.role}))
}
