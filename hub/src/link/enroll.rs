//! A join token and a certificate request → a certificate.
//!
//! A token is for one cluster and binds to the first key that uses it: the same key may come again until its certificate
//! was used, because an answer may be lost; any other key is refused, and said in the audit log.

use bellwether_core::audit::{Event, Outcome, Subject};
use bellwether_core::{ClusterId, Digest};
use uuid::Uuid;

use super::service::Caller;
use crate::ca::{self, CaError, Issued};
use crate::change::Change;
use crate::store::clusters::{Cluster, Enrollment};
use crate::store::{self, StoreError};
use crate::{Hub, actors, clock, seal};

#[derive(Debug, thiserror::Error)]
pub(super) enum EnrollError {
    #[error("the join token is not known")]
    Unknown,
    #[error("the join token has expired")]
    Expired,
    #[error("the join token was used by another agent")]
    Used,
    #[error("the cluster is revoked")]
    Revoked,
    #[error("the certificate request cannot be used")]
    Request(#[source] CaError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

pub(super) async fn enroll(hub: &Hub, token: &str, csr: &[u8], address: &str) -> Result<Issued, EnrollError> {
    let key = ca::key_of(csr).map_err(EnrollError::Request)?;
    let hash = seal::hash_token(token);
    let mut change = Change::begin(&hub.pool, &hub.wakes).await?;
    let enrollment = store::clusters::lock_enrollment(&mut change, hash).await?;
    let cluster = match &enrollment {
        Some(enrollment) => store::clusters::find(&mut change, enrollment.cluster).await?,
        None => None,
    };
    if let Err(refused) = check(enrollment.as_ref(), cluster.as_ref(), key) {
        let subject = cluster.as_ref().map_or(Uuid::nil(), |cluster| cluster.id.as_uuid());
        // A stranger can fail as often as they like; once a minute is enough to know of it.
        if hub.refused_enrolments.is_first(subject) {
            audit_refusal(&mut change, cluster.as_ref(), &refused, address).await?;
            change.commit().await?;
        }
        return Err(refused);
    }
    let cluster = cluster.ok_or(EnrollError::Unknown)?;
    let issued = issue(hub, &mut change, cluster.id, csr).await?;
    store::clusters::mark_enrollment_used(&mut change, hash, key, clock::now()).await?;
    let mut event = event(&cluster, "cluster.enrolled");
    event.detail = serde_json::json!({"serial": issued.serial, "address": address});
    change.audit(&event).await?;
    change.commit().await?;
    tracing::info!(cluster.name = %cluster.name, "issued a certificate to a new agent");
    Ok(issued)
}

/// A live certificate → one with a later end. The identity is the presented certificate's; of the request, only the key.
pub(super) async fn renew(hub: &Hub, caller: &Caller, csr: &[u8]) -> Result<Issued, EnrollError> {
    let now = clock::now();
    let mut change = Change::begin(&hub.pool, &hub.wakes).await?;
    if !store::certificates::mark_used(&mut change, &caller.serial, caller.cluster, now).await? {
        return Err(EnrollError::Revoked);
    }
    let cluster = store::clusters::find(&mut change, caller.cluster).await?.ok_or(EnrollError::Unknown)?;
    let issued = issue(hub, &mut change, cluster.id, csr).await?;
    let mut event = event(&cluster, "cluster.renewed");
    event.detail = serde_json::json!({"serial": issued.serial, "before": caller.serial, "address": caller.address});
    change.audit(&event).await?;
    change.commit().await?;
    Ok(issued)
}

fn check(enrollment: Option<&Enrollment>, cluster: Option<&Cluster>, key: Digest) -> Result<(), EnrollError> {
    let (Some(enrollment), Some(cluster)) = (enrollment, cluster) else { return Err(EnrollError::Unknown) };
    if cluster.revoked_at.is_some() {
        return Err(EnrollError::Revoked);
    }
    if enrollment.first_key.is_some_and(|first| first != key) || enrollment.spent {
        return Err(EnrollError::Used);
    }
    if enrollment.expires_at <= clock::now() {
        return Err(EnrollError::Expired);
    }
    Ok(())
}

async fn issue(hub: &Hub, change: &mut Change<'_>, cluster: ClusterId, csr: &[u8]) -> Result<Issued, EnrollError> {
    let now = clock::now();
    let issued = hub
        .authority
        .issue_agent(csr, cluster, now, hub.config.certificate_lifetime())
        .map_err(EnrollError::Request)?;
    store::certificates::insert(change, &issued.serial, cluster, now, issued.not_after).await?;
    Ok(issued)
}

async fn audit_refusal(
    change: &mut Change<'_>,
    cluster: Option<&Cluster>,
    refused: &EnrollError,
    address: &str,
) -> Result<(), StoreError> {
    let mut event = if let Some(cluster) = cluster {
        event(cluster, "cluster.enroll.refused")
    } else {
        let subject = Subject { kind: "cluster".to_owned(), name: "unknown".to_owned() };
        Event::new(clock::new_id(), clock::now(), actors::anonymous(), "cluster.enroll.refused", subject)
    };
    event.outcome = Outcome::Denied;
    event.reason = refused.to_string();
    event.detail = serde_json::json!({"address": address});
    change.audit(&event).await
}

fn event(cluster: &Cluster, action: &'static str) -> Event {
    let subject = Subject { kind: "cluster".to_owned(), name: cluster.name.to_string() };
    let mut event = Event::new(clock::new_id(), clock::now(), actors::agent(&cluster.name), action, subject);
    event.cluster = Some(cluster.name.to_string());
    event
}
