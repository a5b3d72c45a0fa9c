//! Who calls, out of a request's headers.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{Method, StatusCode, header};
use axum::response::Json;
use serde_json::{Value, json};

use super::problem::Refusal;
use crate::Hub;
use crate::access::token;

pub(super) use crate::access::caller::Caller;

/// A handler that takes none is open to everybody.
impl FromRequestParts<Arc<Hub>> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, hub: &Arc<Hub>) -> Result<Self, Refusal> {
        let refused = || {
            Refusal::new(StatusCode::UNAUTHORIZED, "unauthenticated", "a bearer token is needed, and this is none")
                .hint("set BELLWETHER_TOKEN; the first token is in the hub's data folder, in `admin-token`")
        };
        let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = header.and_then(|value| value.strip_prefix("Bearer ")).ok_or_else(refused)?;
        let caller = token::authenticate(hub, token.trim()).await?.ok_or_else(refused)?;
        if !caller.may_change() && !only_reads(parts) {
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

pub(super) async fn whoami(caller: Caller) -> Json<Value> {
    Json(json!({"name": caller.name, "kind": "token", "role": caller.role}))
}
