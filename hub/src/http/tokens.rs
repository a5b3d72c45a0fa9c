//! Tokens of the API: made, listed, taken back. What a token is, is shown once.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bellwether_core::Name;
use bellwether_core::api::{CreateToken, CreatedToken, List, TokenDocument};
use bellwether_core::audit::{Action, Event};
use jiff::SignedDuration;
use secrecy::ExposeSecret as _;

use super::auth::Caller;
use super::input::{Body, Named, QueryParams};
use super::pages::{self, Paging};
use super::problem::Refusal;
use crate::Hub;
use crate::access::token::{self, NewToken};
use crate::process::clock;
use crate::store::tokens::Token;
use crate::store::{self, StoreError};
use crate::work::change::Change;
use crate::work::subjects;

pub(super) async fn create(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Body(asked): Body<CreateToken>,
) -> Result<(StatusCode, Json<CreatedToken>), Refusal> {
    if asked.ttl_seconds == Some(0) {
        return Err(Refusal::invalid("ttl_invalid", "a token is good for at least a second"));
    }
    let now = clock::now();
    let name = asked.name.clone();
    let new = NewToken {
        name: asked.name,
        role: asked.role,
        created_by: Some(caller.name.clone()),
        expires_at: asked.ttl_seconds.map(|seconds| now + SignedDuration::from_secs(seconds.into())),
    };
    let mut change = Change::begin(&hub.requests, &hub.signals).await?;
    let made = token::create(&mut change, new, caller.actor()).await;
    let (token, secret) = made.map_err(|error| match error {
        StoreError::NameTaken => Refusal::conflict("token_exists", format!("there is or was a token `{name}`"))
            .hint("choose another name: the audit log knows people by it"),
        other => other.into(),
    })?;
    change.commit().await?;
    let created = CreatedToken { token: document(token), secret: secret.expose_secret().to_owned() };
    Ok((StatusCode::CREATED, Json(created)))
}

pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    _: Caller,
    QueryParams(paging): QueryParams<Paging>,
) -> Result<Json<List<TokenDocument>>, Refusal> {
    let after = paging.cursor.as_deref().map(pages::decode_cursor::<String>).transpose()?.unwrap_or_default();
    let limit = pages::limit(paging.limit);
    let mut db = hub.requests.acquire().await.map_err(StoreError::from)?;
    let tokens = store::tokens::list(&mut db, &after, limit).await?.into_iter().map(document).collect();
    Ok(Json(pages::page(tokens, limit, |token: &TokenDocument| pages::encode_cursor(&token.name))))
}

/// Refused from the next request on, at every hub.
pub(super) async fn revoke(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
) -> Result<StatusCode, Refusal> {
    if name.as_str() == caller.name {
        // So there is always one left that can make others.
        return Err(Refusal::conflict("token_own", "a token does not revoke itself")
            .hint("make another admin token, and revoke this one with it"));
    }
    let mut change = Change::begin(&hub.requests, &hub.signals).await?;
    if !store::tokens::mark_revoked(&mut change, &name, clock::now()).await? {
        return Err(Refusal::not_found("token", &name));
    }
    change.audit(&event(&name, &caller, Action::TokenRevoked)).await?;
    change.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

fn document(token: Token) -> TokenDocument {
    TokenDocument {
        name: token.name,
        role: token.role,
        created_at: token.created_at,
        created_by: token.created_by,
        expires_at: token.expires_at,
        revoked_at: token.revoked_at,
        last_used_at: token.last_used_at,
    }
}

fn event(name: &Name, caller: &Caller, action: Action) -> Event {
    let subject = subjects::token(name);
    Event::new(clock::new_id(), clock::now(), caller.actor(), action, subject)
}
