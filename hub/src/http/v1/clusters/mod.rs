//! Registering clusters, and what is known of them.

mod annotate;
mod apis;
mod definitions;
mod delete;
mod label;
mod list;
mod reenroll;
mod register;
mod revoke;
mod rights;
mod show;
mod targets;
#[cfg(test)]
mod tests;

use bellwether_core::api::{API_VERSION, ClusterDocument, ClusterPhase, ClusterStatus, Metadata, RegisteredCluster};
use bellwether_core::audit::{Action, Event};
use bellwether_core::session::identity_conflict::IdentityConflict;
use bellwether_core::{ClusterId, Condition, Name, Version};
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret as _;

use crate::Hub;
use crate::http::auth::Caller;
use crate::http::install::Install;
use crate::http::problem::Refusal;
use crate::pki::{revocations, seal};
use crate::process::clock;
use crate::store::clusters::Cluster;
use crate::store::views::clusters::AgentStatus;
use crate::store::{self, Connection, StoreError, views};
use crate::work::change::Change;
use crate::work::subjects;

pub(in crate::http) use annotate::annotate;
pub(in crate::http) use apis::list_apis;
pub(in crate::http) use definitions::{list_definitions, show_definition};
pub(in crate::http) use delete::delete;
pub(in crate::http) use label::label;
pub(in crate::http) use list::list;
pub(in crate::http) use reenroll::reenroll;
pub(in crate::http) use register::register;
pub(in crate::http) use revoke::revoke;
pub(in crate::http) use rights::rights;
pub(in crate::http) use show::show;
pub(in crate::http) use targets::list as list_targets;

/// How long a join token may be used.
const TTL_SECONDS: u32 = 3_600;
const TTL_SECONDS_MAX: u32 = 7 * 24 * 3_600;

fn checked_ttl(asked: Option<u32>) -> Result<SignedDuration, Refusal> {
    let seconds = asked.unwrap_or(TTL_SECONDS);
    if seconds == 0 || seconds > TTL_SECONDS_MAX {
        return Err(Refusal::invalid("ttl_invalid", "a join token is good for at least a second and at most 7 days"));
    }
    Ok(SignedDuration::from_secs(seconds.into()))
}

/// `manifest` says what is to be installed with it.
async fn hand_out_token(
    hub: &Hub,
    change: &mut Change<'_>,
    cluster: &Cluster,
    (ttl, now): (SignedDuration, Timestamp),
    manifest: fn(&Install<'_>) -> String,
) -> Result<RegisteredCluster, Refusal> {
    let token = seal::random_token("bwj_");
    let expires_at = now + ttl;
    let hash = seal::hash_token(token.expose_secret());
    store::clusters::insert_enrollment(change, hash, cluster.id, now, expires_at).await?;
    let fingerprint = hub.authority.fingerprint();
    let namespace: Name = cluster.namespace.parse().map_err(|_| Refusal::invalid("name_invalid", "the namespace"))?;
    let manifest = manifest(&Install {
        namespace: &namespace,
        cluster: &cluster.name,
        hub: &hub.agents_address,
        fingerprint: &fingerprint,
        token: &token,
        image: &hub.config.agent_image,
    });
    Ok(RegisteredCluster {
        cluster: document(change, cluster).await?,
        token: token.expose_secret().to_owned(),
        expires_at,
        ca_fingerprint: fingerprint,
        hub: hub.agents_address.clone(),
        manifest,
    })
}

/// Of what was just written on top of it.
fn next(version: Version) -> Version {
    Version::new(version.get() + 1)
}

async fn shut_out(hub: &Hub, cluster: ClusterId) {
    hub.sessions.cut(cluster);
    if let Err(error) = revocations::refresh(hub).await {
        // The certificate is refused by its row; the handshake refuses it at the next poll.
        tracing::warn!(error = %crate::chain(&error), "could not refresh the revocation list");
    }
}

async fn lock(change: &mut Change<'_>, caller: &Caller, name: &Name) -> Result<Cluster, Refusal> {
    let cluster = find(change, caller, name).await?;
    store::clusters::lock(change, cluster.id).await?.ok_or_else(|| Refusal::not_found("cluster", name))
}

pub(in crate::http) async fn find(db: &mut Connection, caller: &Caller, name: &Name) -> Result<Cluster, Refusal> {
    store::clusters::find_by_name(db, caller.project.id, name).await?.ok_or_else(|| Refusal::not_found("cluster", name))
}

async fn document(db: &mut Connection, cluster: &Cluster) -> Result<ClusterDocument, StoreError> {
    let mut documents = documents_of(db, vec![cluster.clone()]).await?;
    Ok(documents.remove(0))
}

/// In the order of the clusters.
async fn documents_of(db: &mut Connection, clusters: Vec<Cluster>) -> Result<Vec<ClusterDocument>, StoreError> {
    let ids: Vec<_> = clusters.iter().map(|cluster| cluster.id).collect();
    let mut agents = views::clusters::load(db, &ids, clock::now()).await?;
    let of = |cluster: Cluster| {
        let agent = agents.remove(&cluster.id).unwrap_or_default();
        document_with(cluster, agent)
    };
    Ok(clusters.into_iter().map(of).collect())
}

fn document_with(cluster: Cluster, agent: AgentStatus) -> ClusterDocument {
    let phase = match (cluster.revoked_at, agent.since, agent.connected) {
        (Some(_), _, _) => ClusterPhase::Revoked,
        (None, None, _) => ClusterPhase::Registered,
        (None, Some(_), true) => ClusterPhase::Connected,
        (None, Some(_), false) => ClusterPhase::Disconnected,
    };
    ClusterDocument {
        api_version: API_VERSION.to_owned(),
        kind: "Cluster".to_owned(),
        metadata: Metadata {
            name: cluster.name.clone(),
            project: Some(cluster.project.name),
            id: Some(cluster.id.as_uuid()),
            version: Some(cluster.version),
            created_at: Some(cluster.created_at),
        },
        labels: cluster.labels,
        annotations: cluster.annotations,
        status: ClusterStatus {
            phase,
            since: cluster.revoked_at.or(agent.since),
            agent_version: agent.agent_version,
            facts: agent.facts,
            facts_told_at: agent.facts_told_at,
            apis_told_at: agent.apis_told_at,
            certificate_expires_at: agent.certificate_expires_at,
            conditions: agent.conflict.and_then(|conflict| contested(&cluster.name, conflict)).into_iter().collect(),
            targets: Vec::new(),
            targets_next: None,
        },
    }
}

fn contested(cluster: &Name, (conflict, address): (IdentityConflict, String)) -> Option<Condition> {
    let since = conflict.contested_at?;
    let message = format!(
        "two agents take turns with this cluster's identity, from {} and {address}; neither is told anything new",
        conflict.other.address
    );
    let hint = format!(
        "bellwether cluster reenroll {cluster}: apply what it prints to the cluster that is to keep the identity, and restart its agent"
    );
    Some(Condition::new("cluster_contested", &message, Some(&hint), Some(since)))
}

fn event(cluster: &Cluster, caller: &Caller, action: Action) -> Event {
    let subject = subjects::cluster(cluster);
    Event::new(clock::new_id(), clock::now(), caller.actor(), action, subject)
}
