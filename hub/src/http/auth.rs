//! Who calls.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{StatusCode, header};
use axum::response::Json;
use bellwether_core::audit::Actor;
use serde_json::{Value, json};

use super::problem::Refusal;
use crate::{Hub, actors, clock, seal, store};

/// Somebody with a token that is good now. A handler that takes none is open to everybody.
pub(super) struct Caller {
    pub(super) name: String,
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
        let mut db = hub.pool.acquire().await.map_err(store::StoreError::from)?;
        let name = store::tokens::find_name(&mut db, seal::hash_token(token.trim()), clock::now()).await?;
        name.map(|name| Self { name }).ok_or_else(refused)
    }
}

pub(super) async fn whoami(caller: Caller) -> Json<Value> {
    Json(json!({"name": caller.name, "kind": "token"}))
}
