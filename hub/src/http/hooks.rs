//! Webhooks: they wake the source stage, and the fetch decides. The signature is checked before anything is read.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use bellwether_core::Name;
use bellwether_core::audit::{Action, Event, Outcome};
use futures_util::StreamExt as _;
use secrecy::{ExposeSecret as _, SecretString};

use super::auth::busy;
use super::input::{BODY_DEADLINE, Named, too_slow};
use super::problem::Refusal;
use super::v1::repos::webhook_purpose;
use crate::pki::seal;
use crate::pki::seal::HmacSha256;
use crate::ports::Peer;
use crate::ports::network;
use crate::process::clock;
use crate::store::StoreError;
use crate::store::repos::Repo;
use crate::store::work::Stage;
use crate::work::actors;
use crate::work::change::Change;
use crate::work::subjects;
use crate::{Hub, store};

/// `X-Signature: sha256=HEX`, HMAC-SHA256 over the body as it came, with the repo's secret.
pub(super) async fn generic(
    State(hub): State<Arc<Hub>>,
    Extension(Peer(address)): Extension<Peer>,
    Named(name): Named,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Refusal> {
    let signature = headers.get("x-signature").and_then(|value| value.to_str().ok());
    let signature = signature.and_then(|value| value.strip_prefix("sha256="));
    let mut signature_bytes = [0; 32];
    let signed = signature.map(|signature| hex::decode_to_slice(signature, &mut signature_bytes));
    let Some(Ok(())) = signed else { return Err(refused()) };
    let repo = find_repo(&hub, &name, address).await?;
    // The same work and the same answer for a repo that is not there: names are not told to strangers.
    let secret = match &repo {
        Some(repo) => open_secret(&hub, repo)?,
        None => seal::random_token("bww_"),
    };
    let hashed = tokio::time::timeout(BODY_DEADLINE, hash(body, &secret)).await.map_err(|_| too_slow())??;
    let Some(repo) = repo else { return Err(refused()) };
    if !hashed.fits(&signature_bytes) {
        audit_forged(&hub, &repo, address).await?;
        return Err(refused());
    }
    let mut db = hub.requests.acquire().await.map_err(StoreError::from)?;
    let trace_id = clock::new_trace();
    tracing::info!(repo.name = %name, trace.id = trace_id, "a webhook");
    Change::tell_alone(&mut db, &hub.signals, (Stage::Source, repo.id.as_uuid()), clock::now(), &trace_id).await?;
    Ok(StatusCode::ACCEPTED)
}

/// A few at once: who forges webhooks leaves connections to the rest.
async fn find_repo(hub: &Hub, name: &Name, address: SocketAddr) -> Result<Option<Repo>, Refusal> {
    let _turn = hub.strangers.turn(Some(network(address.ip()))).await.ok_or_else(busy)?;
    let mut db = hub.requests.acquire().await.map_err(StoreError::from)?;
    Ok(store::repos::find_by_name(&mut db, name).await?)
}

/// Hashed as it comes: nothing of it is kept, whoever sent it.
async fn hash(body: Body, secret: &SecretString) -> Result<HmacSha256, Refusal> {
    let unreadable = |detail: &str| Refusal::new(StatusCode::BAD_REQUEST, "body_unreadable", detail);
    let mut hashed = HmacSha256::new(secret);
    let mut left = super::BODY_BYTES_MAX;
    let mut parts = body.into_data_stream();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| unreadable("the body broke off"))?;
        left = left.checked_sub(part.len()).ok_or_else(|| {
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "the body is larger than 1 MiB")
        })?;
        hashed.update(&part);
    }
    Ok(hashed)
}

/// A stranger can fail as often as they like; once a minute is enough to know of it.
async fn audit_forged(hub: &Hub, repo: &Repo, address: SocketAddr) -> Result<(), Refusal> {
    let from = Some(network(address.ip()));
    let Some(count) = hub.forged_webhooks.count(repo.id.as_uuid(), from, clock::steady()) else { return Ok(()) };
    let subject = subjects::webhook(&repo.name);
    let mut event = Event::new(clock::new_id(), clock::now(), actors::anonymous(), Action::WebhookRefused, subject);
    event.outcome = Outcome::Denied;
    "the signature does not fit the body".clone_into(&mut event.reason);
    event.detail = serde_json::json!({"address": address.to_string(), "times": count.times, "ofAll": count.of_all});
    let mut change = Change::begin(&hub.requests, &hub.signals).await?;
    change.audit(&event).await?;
    change.commit().await?;
    Ok(())
}

fn refused() -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "signature_invalid", "the webhook's signature does not fit")
        .hint("send X-Signature: sha256=HEX, the HMAC-SHA256 of the body with the secret that `repo add` printed")
}

fn open_secret(hub: &Hub, repo: &Repo) -> Result<SecretString, Refusal> {
    let unreadable = |cause: String| {
        tracing::error!(repo.name = %repo.name, error = cause, "a webhook secret cannot be opened");
        Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "secret_unreadable",
            "the repo's webhook secret cannot be opened",
        )
        .hint("was the hub started with another seal key?")
    };
    let bytes = hub
        .seal
        .open(&webhook_purpose(repo.id), &repo.webhook_secret)
        .map_err(|error| unreadable(crate::chain(&error)))?;
    let text = String::from_utf8(bytes.expose_secret().to_vec()).map_err(|error| unreadable(error.to_string()))?;
    Ok(SecretString::from(text))
}
