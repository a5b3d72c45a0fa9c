//! Tokens of the API: made, and known again by what is kept of them.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;

use bellwether_core::access::Role;
use bellwether_core::audit::{Action, Actor, Event};
use bellwether_core::{Digest, Name};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::Semaphore;

use super::caller::Caller;
use crate::Hub;
use crate::pki::seal;
use crate::process::clock;
use crate::store::tokens::Token;
use crate::store::{self, StoreError};
use crate::work::change::Change;
use crate::work::subjects;

/// Of one token: a page in a browser asks a dozen things, and each waits for milliseconds.
const ASKED_AT_ONCE: usize = 4;

/// A token that somebody is to have.
pub(crate) struct NewToken {
    pub(crate) name: Name,
    pub(crate) role: Role,
    pub(crate) created_by: Option<String>,
    pub(crate) expires_at: Option<Timestamp>,
}

/// Writes a token with its entry; what it is, is known from here on to whoever called only.
pub(crate) async fn create(
    change: &mut Change<'_>,
    new: NewToken,
    by: Actor,
) -> Result<(Token, SecretString), StoreError> {
    let now = clock::now();
    let secret = seal::random_token("bwt_");
    let token = Token {
        id: clock::new_id(),
        name: new.name,
        role: new.role,
        created_at: now,
        created_by: new.created_by,
        expires_at: new.expires_at,
        revoked_at: None,
        last_used_at: None,
    };
    store::tokens::insert(change, &token, seal::hash_token(secret.expose_secret())).await?;
    let subject = subjects::token(&token.name);
    let mut event = Event::new(clock::new_id(), now, by, Action::TokenCreated, subject);
    event.detail = serde_json::json!({"role": token.role, "expiresAt": token.expires_at});
    change.audit(&event).await?;
    Ok((token, secret))
}

/// Whose token has this hash, if it is good now, and how many things may be asked with it at once.
pub(crate) async fn authenticate(
    hub: &Hub,
    hash: Digest,
    from: Option<IpAddr>,
) -> Result<Option<(Caller, Arc<Semaphore>)>, StoreError> {
    let mut db = hub.requests.acquire().await?;
    let Some(found) = store::tokens::find(&mut db, hash, from, clock::now()).await? else {
        hub.known_tokens.remove(&hash);
        return Ok(None);
    };
    let own =
        hub.known_tokens.get_or_insert_with(&hash, || Ok::<_, Infallible>(Arc::new(Semaphore::new(ASKED_AT_ONCE))));
    let Ok(own) = own;
    Ok(Some((Caller { name: found.name, role: found.role, project: hub.project.clone() }, own)))
}
