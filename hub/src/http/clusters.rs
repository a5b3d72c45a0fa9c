//! Registering clusters, and what is known of them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bellwether_core::api::{
    API_VERSION, ClusterDocument, ClusterPhase, ClusterStatus, ClusterTarget, Condition, List, Metadata,
    RegisterCluster, RegisteredCluster,
};
use bellwether_core::audit::{Event, Subject};
use bellwether_core::labels::check_labels;
use bellwether_core::report::{Counts, Verdict};
use bellwether_core::{ClusterId, LabelSelector, Labels, Name, Version};
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret as _;
use serde::Deserialize;

use super::auth::Caller;
use super::input::{Body, Named, QueryParams};
use super::pages;
use super::problem::Refusal;
use crate::change::Change;
use crate::install::{self, Install};
use crate::store::clusters::Cluster;
use crate::store::work::Stage;
use crate::store::{self, Connection, StoreError};
use crate::{Hub, clock, seal, setup, trust};

/// Where agents are installed when nobody says otherwise.
const NAMESPACE: &str = "bellwether-system";
/// How long a join token may be used.
const TTL_SECONDS: u32 = 3_600;
const TTL_SECONDS_MAX: u32 = 7 * 24 * 3_600;
/// Targets in the document of one cluster.
const TARGETS_MAX: i64 = 10_000;

pub(super) async fn register(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Body(asked): Body<RegisterCluster>,
) -> Result<(StatusCode, Json<RegisteredCluster>), Refusal> {
    check_labels(&asked.labels).map_err(|error| Refusal::invalid("label_invalid", error.to_string()))?;
    let ttl = checked_ttl(asked.ttl_seconds)?;
    let now = clock::now();
    let cluster = Cluster {
        id: ClusterId::new(clock::new_id()),
        project: hub.project,
        namespace: asked.namespace.map_or_else(|| NAMESPACE.to_owned(), |namespace| namespace.to_string()),
        name: asked.name,
        labels: asked.labels,
        version: Version::new(1),
        created_at: now,
        revoked_at: None,
    };
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    store::clusters::insert(&mut change, &cluster).await.map_err(|error| match error {
        StoreError::NameTaken => {
            Refusal::conflict("cluster_exists", format!("there is a cluster `{}` already", cluster.name))
                .hint(format!("for a new join token: bellwether cluster reenroll {}", cluster.name))
        }
        other => other.into(),
    })?;
    let registered = hand_out_token(&hub, &mut change, &cluster, ttl, now).await?;
    let mut event = event(&cluster, &caller, "cluster.registered");
    event.detail = serde_json::json!({"labels": cluster.labels, "namespace": cluster.namespace});
    change.audit(&event).await?;
    change.commit().await?;
    Ok((StatusCode::CREATED, Json(registered)))
}

fn checked_ttl(asked: Option<u32>) -> Result<SignedDuration, Refusal> {
    let seconds = asked.unwrap_or(TTL_SECONDS);
    if seconds == 0 || seconds > TTL_SECONDS_MAX {
        return Err(Refusal::invalid("ttl_invalid", "a join token is good for at least a second and at most 7 days"));
    }
    Ok(SignedDuration::from_secs(seconds.into()))
}

async fn hand_out_token(
    hub: &Hub,
    change: &mut Change<'_>,
    cluster: &Cluster,
    ttl: SignedDuration,
    now: Timestamp,
) -> Result<RegisteredCluster, Refusal> {
    let token = seal::random_token("bwj_");
    let expires_at = now + ttl;
    let hash = seal::hash_token(token.expose_secret());
    store::clusters::insert_enrollment(change, hash, cluster.id, now, expires_at).await?;
    let fingerprint = hub.authority.fingerprint();
    let namespace: Name = cluster.namespace.parse().map_err(|_| Refusal::invalid("name_invalid", "the namespace"))?;
    let manifest = install::manifest(&Install {
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

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct ListQuery {
    cursor: Option<String>,
    limit: Option<u32>,
    /// `key=value`; more by commas.
    label: Option<String>,
}

pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    _: Caller,
    QueryParams(query): QueryParams<ListQuery>,
) -> Result<Json<List<ClusterDocument>>, Refusal> {
    let after = query.cursor.as_deref().map(pages::decode_cursor::<String>).transpose()?.unwrap_or_default();
    let selector = selector(query.label.as_deref())?;
    let limit = pages::limit(query.limit);
    let mut db = hub.pool.acquire().await.map_err(StoreError::from)?;
    let clusters = store::clusters::list(&mut db, &after, limit).await?;
    let mut documents = Vec::with_capacity(clusters.len());
    for cluster in &clusters {
        documents.push(document(&mut db, cluster).await?);
    }
    let mut page = pages::page(documents, limit, |document| pages::encode_cursor(&document.metadata.name));
    page.items.retain(|document| selector.selects(&document.labels));
    Ok(Json(page))
}

fn selector(label: Option<&str>) -> Result<LabelSelector, Refusal> {
    let mut match_labels = Labels::new();
    for pair in label.into_iter().flat_map(|text| text.split(',')) {
        let (key, value) = pair
            .split_once('=')
            .ok_or_else(|| Refusal::invalid("label_invalid", format!("`{pair}` is not of the form key=value")))?;
        match_labels.insert(key.to_owned(), value.to_owned());
    }
    Ok(LabelSelector { match_labels, ..LabelSelector::default() })
}

pub(super) async fn show(
    State(hub): State<Arc<Hub>>,
    _: Caller,
    Named(name): Named,
) -> Result<Json<ClusterDocument>, Refusal> {
    let mut db = hub.pool.acquire().await.map_err(StoreError::from)?;
    let cluster = find(&mut db, &name).await?;
    let mut document = document(&mut db, &cluster).await?;
    let placements = store::fleet::list_placements(&mut db, None, Some(cluster.id), TARGETS_MAX).await?;
    document.status.targets = placements
        .into_iter()
        .map(|one| ClusterTarget {
            target: one.target,
            digest: one.digest,
            generation: one.generation,
            applied: one.said.as_ref().is_some_and(|said| said.applied),
            verdict: one.said.as_ref().map_or(Verdict::Unknown, |said| said.verdict),
            objects: one.said.as_ref().map_or_else(Counts::default, |said| said.objects),
            reported_at: one.said.as_ref().map(|said| said.at),
            lines: one.said.map(|said| said.lines).unwrap_or_default(),
        })
        .collect();
    Ok(Json(document))
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct LabelQuery {
    /// What the labels were read at: refused when somebody else wrote meanwhile.
    version: Option<Version>,
}

pub(super) async fn label(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
    QueryParams(query): QueryParams<LabelQuery>,
    Body(labels): Body<Labels>,
) -> Result<Json<ClusterDocument>, Refusal> {
    check_labels(&labels).map_err(|error| Refusal::invalid("label_invalid", error.to_string()))?;
    let now = clock::now();
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    let cluster = find(&mut change, &name).await?;
    let seen = query.version.unwrap_or(cluster.version);
    store::clusters::mark_labels(&mut change, cluster.id, seen, &labels, now).await?;
    let mut event = event(&cluster, &caller, "cluster.labelled");
    event.detail = serde_json::json!({"before": cluster.labels, "after": labels});
    change.audit(&event).await?;
    let targets = store::targets::list_ids_of_project(&mut change, cluster.project).await?;
    change.tell(Stage::Bundle, &targets, now, None).await?;
    let document = document(&mut change, &Cluster { labels, version: next(cluster.version), ..cluster }).await?;
    change.commit().await?;
    Ok(Json(document))
}

/// Of what was just written on top of it.
fn next(version: Version) -> Version {
    Version::new(version.get() + 1)
}

/// The cluster's certificates are refused from now on, and its live stream ends.
pub(super) async fn revoke(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
) -> Result<StatusCode, Refusal> {
    let now = clock::now();
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    let cluster = lock(&mut change, &name).await?;
    store::clusters::delete_enrollments(&mut change, cluster.id).await?;
    store::clusters::mark_revoked(&mut change, cluster.id, now).await?;
    store::certificates::mark_all_revoked(&mut change, cluster.id, now).await?;
    change.audit(&event(&cluster, &caller, "cluster.revoked")).await?;
    change.commit().await?;
    shut_out(&hub, cluster.id).await;
    Ok(StatusCode::NO_CONTENT)
}

async fn shut_out(hub: &Hub, cluster: ClusterId) {
    hub.sessions.cut(cluster);
    if let Err(error) = trust::refresh(hub).await {
        // The certificate is refused by its row; the handshake refuses it at the next poll.
        tracing::warn!(error = %crate::chain(&error), "could not refresh the revocation list");
    }
}

async fn lock(change: &mut Change<'_>, name: &Name) -> Result<Cluster, Refusal> {
    let cluster = find(change, name).await?;
    store::clusters::lock(change, cluster.id).await?.ok_or_else(|| Refusal::not_found("cluster", name))
}

/// Whoever had the cluster's identity before has it no more.
pub(super) async fn reenroll(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
) -> Result<(StatusCode, Json<RegisteredCluster>), Refusal> {
    let now = clock::now();
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    let cluster = lock(&mut change, &name).await?;
    store::clusters::delete_enrollments(&mut change, cluster.id).await?;
    store::certificates::mark_all_revoked(&mut change, cluster.id, now).await?;
    store::clusters::mark_welcome_again(&mut change, cluster.id, now).await?;
    store::sessions::mark_rivalry(&mut change, cluster.id, None).await?;
    let ttl = checked_ttl(None)?;
    let cluster = Cluster { revoked_at: None, version: next(cluster.version), ..cluster };
    let registered = hand_out_token(&hub, &mut change, &cluster, ttl, now).await?;
    change.audit(&event(&cluster, &caller, "cluster.reenrolled")).await?;
    change.commit().await?;
    shut_out(&hub, cluster.id).await;
    Ok((StatusCode::CREATED, Json(registered)))
}

/// Forgets a cluster. What runs there goes on running: nothing is deleted in it.
pub(super) async fn delete(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
) -> Result<StatusCode, Refusal> {
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    let cluster = lock(&mut change, &name).await?;
    let concerned = store::rollouts::list_targets_of(&mut change, &[cluster.id]).await?;
    store::clusters::delete(&mut change, cluster.id).await?;
    // Their waves have a member less to wait for.
    change.tell(Stage::Rollout, &concerned, clock::now(), None).await?;
    change.audit(&event(&cluster, &caller, "cluster.deleted")).await?;
    change.commit().await?;
    shut_out(&hub, cluster.id).await;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn find(db: &mut Connection, name: &Name) -> Result<Cluster, Refusal> {
    store::clusters::find_by_name(db, name).await?.ok_or_else(|| Refusal::not_found("cluster", name))
}

async fn document(db: &mut Connection, cluster: &Cluster) -> Result<ClusterDocument, StoreError> {
    let agent_status = store::fleet::find_agent_status(db, cluster.id).await?;
    let phase = match (cluster.revoked_at, agent_status.since, agent_status.connected) {
        (Some(_), _, _) => ClusterPhase::Revoked,
        (None, None, _) => ClusterPhase::Registered,
        (None, Some(_), true) => ClusterPhase::Connected,
        (None, Some(_), false) => ClusterPhase::Disconnected,
    };
    Ok(ClusterDocument {
        api_version: API_VERSION.to_owned(),
        kind: "Cluster".to_owned(),
        metadata: Metadata {
            name: cluster.name.clone(),
            project: setup::PROJECT.parse().ok(),
            id: Some(cluster.id.as_uuid()),
            version: Some(cluster.version),
            created_at: Some(cluster.created_at),
        },
        labels: cluster.labels.clone(),
        status: ClusterStatus {
            phase,
            since: cluster.revoked_at.or(agent_status.since),
            agent_version: agent_status.agent_version,
            facts: agent_status.facts,
            certificate_expires_at: agent_status.certificate_expires_at,
            conditions: contested(db, cluster).await?.into_iter().collect(),
            targets: Vec::new(),
        },
    })
}

async fn contested(db: &mut Connection, cluster: &Cluster) -> Result<Option<Condition>, StoreError> {
    let found = store::sessions::find_rivalry(db, cluster.id).await?;
    Ok(found.filter(|(rivalry, _)| rivalry.contested_at.is_some()).map(|(rivalry, address)| Condition {
        code: "cluster_contested".to_owned(),
        message: format!(
            "two agents take turns with this cluster's identity, from {} and {address}; neither is told anything new",
            rivalry.other.address
        ),
        hint: Some(format!(
            "bellwether cluster reenroll {}: apply what it prints to the cluster that is to keep the identity",
            cluster.name
        )),
        file: None,
        line: None,
        since: rivalry.contested_at,
    }))
}

fn event(cluster: &Cluster, caller: &Caller, action: &'static str) -> Event {
    let subject = Subject { kind: "cluster".to_owned(), name: cluster.name.to_string() };
    let mut event = Event::new(clock::new_id(), clock::now(), caller.actor(), action, subject);
    event.cluster = Some(cluster.name.to_string());
    event
}
