//! Webhooks: they wake the source stage, and the fetch decides. The signature is checked before anything is read.

use std::sync::Arc;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{HeaderMap, StatusCode};
use bellwether_core::audit::{Event, Outcome, Subject};
use secrecy::{ExposeSecret as _, SecretString};

use super::input::Named;
use super::problem::Refusal;
use super::repos::webhook_purpose;
use crate::change::Change;
use crate::store::repos::Repo;
use crate::store::work::Stage;
use crate::tls::Peer;
use crate::{Hub, actors, clock, seal, store};

/// `X-Signature: sha256=HEX`, HMAC-SHA256 over the body as it came, with the repo's secret.
pub(super) async fn generic(
    State(hub): State<Arc<Hub>>,
    Extension(Peer(address)): Extension<Peer>,
    Named(name): Named,
    headers: HeaderMap,
    body: Result<Bytes, BytesRejection>,
) -> Result<StatusCode, Refusal> {
    let body = body.map_err(|rejection| Refusal::new(rejection.status(), "body_unreadable", rejection.body_text()))?;
    let mut change = Change::begin(&hub.pool, &hub.wakes).await?;
    // The same answer for a repo that is not there: names are not told to strangers.
    let Some(repo) = store::repos::find_by_name(&mut change, &name).await? else { return Err(refused()) };
    let signature = headers.get("x-signature").and_then(|value| value.to_str().ok());
    let signature = signature.and_then(|value| value.strip_prefix("sha256="));
    let secret = open_secret(&hub, &repo)?;
    if !signature.is_some_and(|signature| seal::verify_hmac_sha256(&secret, &body, signature)) {
        let subject = Subject { kind: "webhook".to_owned(), name: name.to_string() };
        let mut event = Event::new(clock::new_id(), clock::now(), actors::anonymous(), "webhook.refused", subject);
        event.outcome = Outcome::Denied;
        "the signature does not fit the body".clone_into(&mut event.reason);
        event.detail = serde_json::json!({"address": address.to_string()});
        // A stranger can fail as often as they like; once a minute is enough to know of it.
        if hub.forged_webhooks.is_first(repo.id.as_uuid()) {
            change.audit(&event).await?;
            change.commit().await?;
        }
        return Err(refused());
    }
    let trace_id = clock::new_trace();
    tracing::info!(repo.name = %name, trace.id = trace_id, "a webhook");
    change.tell(Stage::Source, &[repo.id.as_uuid()], clock::now(), Some(&trace_id)).await?;
    change.commit().await?;
    Ok(StatusCode::ACCEPTED)
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
