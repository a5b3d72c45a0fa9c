//! Webhooks, as the Git hosts send them: they wake the source stage, and the fetch decides what there is.
//!
//! Whom one is from is known by its headers, and proven by that host's own rule before anything of its body is read
//! ([`claim`]). Then it says which refs were pushed ([`told`]), and a fetch is asked for if a target follows one of them and
//! what is said is not known yet ([`judge`]). What cannot be made out is fetched for.

mod claim;
#[cfg(test)]
mod fuzz;
mod judge;
#[cfg(test)]
mod tests;
mod told;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::{Extension, Json};
use bellwether_core::api::WebhookAnswer;
use bellwether_core::audit::{Action, Event, Outcome};
use bellwether_core::{Digest, Name};
use futures_util::StreamExt as _;
use secrecy::{ExposeSecret as _, SecretString};

use self::claim::{Claim, Proof, hasher};
use self::judge::{Verdict, judge};
use self::told::WebhookEvent;
use super::auth::busy;
use super::input::{BODY_DEADLINE, Named, too_slow};
use super::problem::Refusal;
use super::v1::repos::webhook_purpose;
use crate::pki::seal::{self, HmacSha256};
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

/// As much as GitHub sends at most. Of what is larger than what is kept it is only known whom it is from.
const BYTES_MAX: usize = 25 * 1024 * 1024;
/// A push of a thousand commits, at most hosts; with all that are kept at once, 16 MiB.
const KEPT_BYTES_MAX: usize = 256 * 1024;
/// Whoever comes meanwhile is heard all the same, and what they say is not read: a fetch finds out.
pub(crate) const BODIES_KEPT: usize = 64;

type Answer = (StatusCode, Json<WebhookAnswer>);

pub(super) async fn take(
    State(hub): State<Arc<Hub>>,
    Extension(Peer(address)): Extension<Peer>,
    Named(name): Named,
    headers: HeaderMap,
    body: Body,
) -> Result<Answer, Refusal> {
    if claim::is_unproven_ping(&headers) {
        // The same for every name, and nothing is looked up for it.
        return Ok(nothing("heard"));
    }
    let Some(claim) = Claim::read(&headers, clock::now()) else { return Err(refused()) };
    let repo = find_repo(&hub, &name, address).await?;
    // The same work and the same answer for a repo that is not there: names are not told to strangers.
    let secret = match &repo {
        Some(repo) => open_secret(&hub, repo).unwrap_or_else(|| seal::random_token("bww_")),
        None => seal::random_token("bww_"),
    };
    match (receive(&hub, body, &claim, &secret).await?, repo) {
        (Received::Proven(body), Some(repo)) => hear(&hub, &repo, &claim, body.as_deref()).await,
        (Received::Forged, Some(repo)) => {
            // Written after the answer, which comes as soon as for a repo that is not there.
            let forged = forged_event(&hub, &repo, &claim, address);
            if let Some(event) = forged {
                hub.tasks.spawn(audit_forged(hub.clone(), event));
            }
            Err(refused())
        }
        (_, None) => Err(refused()),
    }
}

enum Received {
    /// It is from whom it says; its body, if that was kept.
    Proven(Option<Vec<u8>>),
    Forged,
}

/// What a host that has proven who it is says.
async fn hear(hub: &Hub, repo: &Repo, claim: &Claim, body: Option<&[u8]>) -> Result<Answer, Refusal> {
    let pushes = match told::read(claim, body) {
        WebhookEvent::Ping => return Ok(nothing("heard")),
        WebhookEvent::Other => return Ok(nothing("it is no push")),
        WebhookEvent::Unclear => None,
        WebhookEvent::Pushed(pushes) => Some(pushes),
    };
    let mut expected = BTreeMap::new();
    if let Some(pushes) = &pushes {
        let mut db = hub.requests.acquire().await.map_err(StoreError::from)?;
        match judge(pushes, &store::webhooks::list_followed(&mut db, repo.id).await?) {
            Verdict::Unfollowed => return Ok(nothing("no target follows what was pushed")),
            Verdict::Known { overtaken } => {
                store::webhooks::delete_expected(&mut db, repo.id, &overtaken).await?;
                return Ok(nothing("it is known already"));
            }
            Verdict::Fetch { expected: heads } => expected = heads,
        }
    }
    let delivery = claim.delivery.or_else(|| told::delivery_in(claim, body));
    let trace_id = clock::new_trace();
    if !ask_for_fetch(hub, repo, delivery, &expected, &trace_id).await? {
        return Ok(nothing("it came before"));
    }
    tracing::info!(repo.name = %repo.name, trace.id = trace_id, host = claim.host.as_str(), "a webhook");
    Ok(answer(StatusCode::ACCEPTED, "the repository is fetched"))
}

/// False: the same webhook asked before.
async fn ask_for_fetch(
    hub: &Hub,
    repo: &Repo,
    delivery: Option<Digest>,
    expected: &BTreeMap<String, Option<String>>,
    trace_id: &str,
) -> Result<bool, StoreError> {
    let (now, key) = (clock::now(), repo.id.as_uuid());
    let Some(delivery) = delivery else {
        let mut db = hub.requests.acquire().await?;
        store::webhooks::expect_heads(&mut db, repo.id, expected, now).await?;
        Change::tell_alone(&mut db, &hub.signals, (Stage::Source, key), now, trace_id).await?;
        return Ok(true);
    };
    let mut change = Change::begin(&hub.requests, &hub.signals).await?;
    if !store::webhooks::insert_delivery(&mut change, repo.id, delivery, now).await? {
        change.abandon().await?;
        return Ok(false);
    }
    store::webhooks::expect_heads(&mut change, repo.id, expected, now).await?;
    change.tell(Stage::Source, &[key], now, Some(trace_id)).await?;
    change.commit().await?;
    Ok(true)
}

/// A few at once: who forges webhooks leaves connections to the rest.
async fn find_repo(hub: &Hub, name: &Name, address: SocketAddr) -> Result<Option<Repo>, Refusal> {
    let _turn = hub.strangers.turn(Some(network(address.ip()))).await.ok_or_else(busy)?;
    let mut db = hub.requests.acquire().await.map_err(StoreError::from)?;
    Ok(store::repos::find_by_name(&mut db, hub.project.id, name).await?)
}

/// Whoever shows the secret itself is judged before anything is received.
async fn receive(hub: &Hub, body: Body, claim: &Claim, secret: &SecretString) -> Result<Received, Refusal> {
    if let Proof::Secret(said) = &claim.proof
        && !seal::is_secret(said, secret)
    {
        return Ok(Received::Forged);
    }
    let place = hub.webhook_bodies.try_acquire().ok();
    let mut hasher = hasher(&claim.proof, secret);
    let collected = collect(body, hasher.as_mut(), place.is_some());
    let kept = tokio::time::timeout(BODY_DEADLINE, collected).await.map_err(|_| too_slow())??;
    let fits = match (hasher, &claim.proof) {
        (Some(hasher), Proof::Signed(signatures) | Proof::SignedWithTime { signatures, .. }) => hasher.fits(signatures),
        (_, Proof::Secret(_)) => true,
        (None, _) => false,
    };
    Ok(if fits { Received::Proven(kept) } else { Received::Forged })
}

/// Hashed as it comes; kept while it is small.
async fn collect(body: Body, mut hasher: Option<&mut HmacSha256>, keeps: bool) -> Result<Option<Vec<u8>>, Refusal> {
    let unreadable = |detail: &str| Refusal::new(StatusCode::BAD_REQUEST, "body_unreadable", detail);
    let mut left = BYTES_MAX;
    let mut kept = keeps.then(Vec::new);
    let mut parts = body.into_data_stream();
    while let Some(part) = parts.next().await {
        let part = part.map_err(|_| unreadable("the body broke off"))?;
        left = left.checked_sub(part.len()).ok_or_else(|| {
            Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "the body is larger than 25 MiB")
        })?;
        if let Some(hasher) = &mut hasher {
            hasher.update(&part);
        }
        kept = kept.filter(|kept| kept.len() + part.len() <= KEPT_BYTES_MAX);
        if let Some(kept) = &mut kept {
            kept.extend_from_slice(&part);
        }
    }
    Ok(kept)
}

/// A stranger can fail as often as they like; once a minute is enough to know of it.
fn forged_event(hub: &Hub, repo: &Repo, claim: &Claim, address: SocketAddr) -> Option<Event> {
    let from = Some(network(address.ip()));
    let count = hub.forged_webhooks.count(repo.id.as_uuid(), from, clock::steady())?;
    let subject = subjects::webhook(repo);
    let mut event = Event::new(clock::new_id(), clock::now(), actors::anonymous(), Action::WebhookRefused, subject);
    event.outcome = Outcome::Denied;
    "what it shows does not fit the repo's webhook secret".clone_into(&mut event.reason);
    event.detail = serde_json::json!({
        "address": address.to_string(),
        "host": claim.host.as_str(),
        "times": count.times,
        "ofAll": count.of_all,
    });
    Some(event)
}

async fn audit_forged(hub: Arc<Hub>, event: Event) {
    let written = async {
        let mut change = Change::begin(&hub.requests, &hub.signals).await?;
        change.audit(&event).await?;
        change.commit().await
    };
    if let Err(error) = written.await {
        tracing::warn!(error = %crate::chain(&error), "a forged webhook is not in the log");
    }
}

fn nothing(outcome: &str) -> Answer {
    answer(StatusCode::OK, outcome)
}

fn answer(status: StatusCode, outcome: &str) -> Answer {
    (status, Json(WebhookAnswer { outcome: outcome.to_owned() }))
}

fn refused() -> Refusal {
    Refusal::new(StatusCode::UNAUTHORIZED, "signature_invalid", "the webhook does not prove whom it is from").hint(
        "give the Git host the webhook secret of the repo, and let it send JSON; a new secret: bellwether repo webhook \
         NAME --rotate",
    )
}

/// `None` is told to whoever runs the hub, and to nobody who sends webhooks.
fn open_secret(hub: &Hub, repo: &Repo) -> Option<SecretString> {
    let opened = hub.seal.open(&webhook_purpose(repo.id), &repo.webhook_secret).map_err(|error| crate::chain(&error));
    let text =
        opened.and_then(|bytes| String::from_utf8(bytes.expose_secret().to_vec()).map_err(|error| error.to_string()));
    if let Err(cause) = &text {
        let hint = "was the hub started with another seal key?";
        tracing::error!(repo.name = %repo.name, error = cause, hint, "a webhook secret cannot be opened");
    }
    text.ok().map(SecretString::from)
}
