//! A join token and a certificate request → a certificate.
//!
//! Which key may have one is decided by `core::enrollment`; who is refused is said in the audit log.

use std::net::SocketAddr;

use bellwether_core::ClusterId;
use bellwether_core::audit::{Action, Event, Outcome};
use bellwether_core::enrollment::{self, Refused};
use uuid::Uuid;

use super::caller::Caller;
use crate::Hub;
use crate::pki::ca::{self, CaError, Issued};
use crate::pki::seal;
use crate::ports::network;
use crate::process::clock;
use crate::process::rate_limiter::Count;
use crate::store::clusters::Cluster;
use crate::store::{self, StoreError};
use crate::work::actors;
use crate::work::change::Change;
use crate::work::subjects;

#[derive(Debug, thiserror::Error)]
pub(super) enum EnrollError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("this certificate was renewed already, and the newer one was used")]
    Replaced,
    #[error("the certificate request is for another key than the certificate that was shown")]
    OtherKey,
    #[error("too many tries; come again later")]
    TooOften,
    #[error("the certificate request cannot be used")]
    Request(#[source] CaError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(super) async fn enroll(
    hub: &Hub,
    token: &str,
    csr: &[u8],
    address: Option<SocketAddr>,
) -> Result<Issued, EnrollError> {
    let from = address.map(|address| network(address.ip()));
    if from.is_some_and(|from| !hub.join_tries.may(&from)) {
        return Err(EnrollError::TooOften);
    }
    let _turn = hub.strangers.turn(from).await.ok_or(EnrollError::TooOften)?;
    let key = ca::key_of(csr).map_err(EnrollError::Request)?;
    let hash = seal::hash_token(token);
    let address = address.map_or_else(|| "unknown".to_owned(), |address| address.to_string());
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    // The cluster first, as whoever revokes it does.
    let cluster = match store::clusters::find_invited(&mut change, hash).await? {
        Some(cluster) => store::clusters::lock(&mut change, cluster).await?,
        None => None,
    };
    let token = store::clusters::lock_enrollment(&mut change, hash).await?;
    let checked = match &cluster {
        None => Err(Refused::Unknown.into()),
        Some(cluster) => enrollment::check(token.as_ref(), cluster.revoked_at.is_some(), key, clock::now())
            .map_err(EnrollError::from)
            .and_then(|()| check_rate(hub, cluster)),
    };
    if let Err(refused) = checked {
        if let Some(from) = from {
            hub.join_tries.take(from);
        }
        let subject = cluster.as_ref().map_or(Uuid::nil(), |cluster| cluster.id.as_uuid());
        // A stranger can fail as often as they like; once a minute is enough to know of it.
        if let Some(count) = hub.refused_enrolments.count(subject, from, clock::steady()) {
            audit_refusal(&mut change, cluster.as_ref(), &refused, &address, count).await?;
            change.commit().await?;
        }
        return Err(refused);
    }
    let cluster = cluster.ok_or(Refused::Unknown)?;
    hub.enrolments.take(cluster.id);
    // Their answers were lost, or they were asked for by somebody who has no use for them.
    store::certificates::revoke_unused(&mut change, cluster.id, clock::now()).await?;
    let issued = issue(hub, &mut change, cluster.id, csr, None).await?;
    store::clusters::mark_enrollment_used(&mut change, hash, key, clock::now()).await?;
    let mut event = event(&cluster, Action::ClusterEnrolled);
    event.detail = serde_json::json!({"serial": issued.serial, "address": address});
    change.audit(&event).await?;
    change.commit().await?;
    tracing::info!(cluster.name = %cluster.name, "issued a certificate to a new agent");
    Ok(issued)
}

/// A live certificate → one with a later end. The identity is the presented certificate's; of the request, only the key.
pub(super) async fn renew(hub: &Hub, caller: &Caller, csr: &[u8]) -> Result<Issued, EnrollError> {
    let now = clock::now();
    if ca::key_of(csr).map_err(EnrollError::Request)? != caller.key {
        return Err(EnrollError::OtherKey);
    }
    if !hub.renewals.may(&caller.cluster) || !caller.may_call(&hub.calls) {
        return Err(EnrollError::TooOften);
    }
    let _turn = store::take_admission(&hub.stream_turns).await?;
    let mut change = Change::begin(&hub.vital, &hub.signals).await?;
    let cluster = store::clusters::lock(&mut change, caller.cluster).await?.ok_or(Refused::Unknown)?;
    if !store::certificates::mark_used(&mut change, &caller.serial, caller.cluster, now).await? {
        return Err(Refused::Revoked.into());
    }
    hub.renewals.take(caller.cluster);
    // Somebody kept a copy of the old one.
    if store::certificates::is_replaced(&mut change, &caller.serial, caller.cluster).await? {
        return Err(EnrollError::Replaced);
    }
    store::certificates::revoke_unused_successors(&mut change, &caller.serial, now).await?;
    let issued = issue(hub, &mut change, cluster.id, csr, Some(&caller.serial)).await?;
    let mut event = event(&cluster, Action::ClusterRenewed);
    event.detail = serde_json::json!({"serial": issued.serial, "before": caller.serial, "address": caller.address});
    change.audit(&event).await?;
    change.commit().await?;
    Ok(issued)
}

/// A token that is not spent is good as often as it is shown, and each time makes a certificate and an entry.
fn check_rate(hub: &Hub, cluster: &Cluster) -> Result<(), EnrollError> {
    hub.enrolments.may(&cluster.id).then_some(()).ok_or(EnrollError::TooOften)
}

async fn issue(
    hub: &Hub,
    change: &mut Change<'_>,
    cluster: ClusterId,
    csr: &[u8],
    renewed_from: Option<&str>,
) -> Result<Issued, EnrollError> {
    let now = clock::now();
    let issued = hub
        .authority
        .issue_agent(csr, cluster, now, hub.config.certificate_lifetime())
        .map_err(EnrollError::Request)?;
    store::certificates::insert(change, &issued.serial, cluster, now, issued.not_after, renewed_from).await?;
    Ok(issued)
}

async fn audit_refusal(
    change: &mut Change<'_>,
    cluster: Option<&Cluster>,
    refused: &EnrollError,
    address: &str,
    count: Count,
) -> Result<(), StoreError> {
    let mut event = if let Some(cluster) = cluster {
        event(cluster, Action::ClusterEnrollRefused)
    } else {
        let subject = subjects::unknown_cluster();
        Event::new(clock::new_id(), clock::now(), actors::anonymous(), Action::ClusterEnrollRefused, subject)
    };
    event.outcome = Outcome::Denied;
    event.reason = refused.to_string();
    event.detail = serde_json::json!({"address": address, "times": count.times, "ofAll": count.of_all});
    change.audit(&event).await
}

fn event(cluster: &Cluster, action: Action) -> Event {
    let subject = subjects::cluster(cluster);
    Event::new(clock::new_id(), clock::now(), actors::agent(&cluster.name), action, subject)
}
