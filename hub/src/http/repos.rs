//! Repos: adding, changing, showing.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bellwether_core::api::{API_VERSION, CreatedRepo, List, Metadata, RepoDocument, RepoHead, RepoSpec, RepoStatus};
use bellwether_core::audit::{Event, Subject};
use bellwether_core::{Digest, Name, RepoId, Version};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::auth::Caller;
use super::input::{Body, Named, QueryParams};
use super::pages::{self, Paging};
use super::problem::Refusal;
use crate::change::Change;
use crate::source::credential_purpose;
use crate::source::git::RepoUrl;
use crate::store::repos::Repo;
use crate::store::work::Stage;
use crate::store::{self, Connection, StoreError};
use crate::{Hub, clock, seal, setup};

/// Less would only hurt the Git server: webhooks are for speed.
const POLL_SECONDS_MIN: u32 = 5;

pub(super) fn webhook_purpose(repo: RepoId) -> String {
    format!("webhook/{repo}")
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(super) struct PutQuery {
    /// False when a token follows: a fetch without it would only be refused.
    fetch: bool,
}

impl Default for PutQuery {
    fn default() -> Self {
        Self { fetch: true }
    }
}

/// Adds a repo or changes it, and fetches it at once.
pub(super) async fn put(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
    QueryParams(query): QueryParams<PutQuery>,
    Body(document): Body<RepoDocument>,
) -> Result<(StatusCode, Json<CreatedRepo>), Refusal> {
    check(&hub, &name, &document)?;
    let now = clock::now();
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    let known = store::repos::lock_by_name(&mut change, &name).await?;
    let mut credential_removed = false;
    let (repo, secret) = match known {
        Some(repo) => {
            let seen = document.metadata.version.unwrap_or(repo.version);
            if seen != repo.version {
                return Err(StoreError::Stale { table: "repos" }.into());
            }
            if repo.spec == document.spec {
                (repo, None)
            } else {
                store::repos::mark_spec(&mut change, repo.id, seen, &document.spec, now).await?;
                // A token that was given for one server is not told to another.
                let purpose = |spec: &RepoSpec| credential_purpose(repo.id, &spec.url, spec.ca.as_deref());
                if purpose(&repo.spec) != purpose(&document.spec) {
                    credential_removed = store::repos::delete_credential(&mut change, repo.id).await?;
                }
                let mut event = event(&repo, &caller, "repo.changed");
                event.detail = serde_json::json!({
                    "before": audited(&repo.spec),
                    "after": audited(&document.spec),
                    "credentialRemoved": credential_removed,
                });
                change.audit(&event).await?;
                (Repo { spec: document.spec, version: Version::new(seen.get() + 1), ..repo }, None)
            }
        }
        None => {
            let (repo, secret) = new_repo(&hub, name, document.spec);
            store::repos::insert(&mut change, &repo).await?;
            change.audit(&event(&repo, &caller, "repo.added")).await?;
            (repo, Some(secret))
        }
    };
    store::repos::end_pauses(&mut change, repo.id).await?;
    if query.fetch {
        change.tell(Stage::Source, &[repo.id.as_uuid()], now, Some(&clock::new_trace())).await?;
    }
    let created = CreatedRepo {
        repo: document_of(&mut change, &repo).await?,
        webhook_secret: secret.as_ref().map(|secret| secret.expose_secret().to_owned()),
        webhook_path: format!("/hooks/v1/{}", repo.name),
        credential_removed,
    };
    change.commit().await?;
    let status = if secret.is_some() { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(created)))
}

fn new_repo(hub: &Hub, name: Name, spec: RepoSpec) -> (Repo, SecretString) {
    let id = RepoId::new(clock::new_id());
    let secret = seal::random_token("bww_");
    let repo = Repo {
        id,
        project: hub.project,
        name,
        spec,
        webhook_secret: hub.seal.seal(&webhook_purpose(id), secret.expose_secret().as_bytes()),
        version: Version::new(1),
        created_at: clock::now(),
    };
    (repo, secret)
}

fn check(hub: &Hub, name: &Name, document: &RepoDocument) -> Result<(), Refusal> {
    super::targets::check_head(name, "Repo", &document.api_version, &document.kind, &document.metadata)?;
    RepoUrl::parse(&document.spec.url, hub.config.url_policy())
        .map_err(|error| Refusal::invalid(error.code(), crate::chain(&error)).hint(error.hint()))?;
    if document.spec.poll_seconds.is_some_and(|seconds| seconds < POLL_SECONDS_MIN) {
        let detail = format!("`pollSeconds` is at least {POLL_SECONDS_MIN}");
        return Err(Refusal::invalid("poll_invalid", detail).hint("send webhooks to be faster than that"));
    }
    if let Some(ca) = &document.spec.ca
        && !ca.contains("-----BEGIN CERTIFICATE-----")
    {
        return Err(Refusal::invalid("ca_invalid", "`ca` holds no certificate in PEM form"));
    }
    Ok(())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct CredentialBody {
    token: SecretString,
}

pub(super) async fn put_credential(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
    Body(body): Body<CredentialBody>,
) -> Result<StatusCode, Refusal> {
    let token = body.token.expose_secret().trim();
    if token.is_empty() || token.len() > 4096 || token.chars().any(char::is_control) {
        return Err(Refusal::invalid("credential_invalid", "a token is one line of 1 to 4096 characters"));
    }
    let now = clock::now();
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    let known = store::repos::lock_by_name(&mut change, &name).await?;
    let repo = known.ok_or_else(|| Refusal::not_found("repo", &name))?;
    let purpose = credential_purpose(repo.id, &repo.spec.url, repo.spec.ca.as_deref());
    let sealed = hub.seal.seal(&purpose, token.as_bytes());
    store::repos::mark_credential(&mut change, repo.id, &sealed, now).await?;
    store::repos::end_pauses(&mut change, repo.id).await?;
    change.audit(&event(&repo, &caller, "repo.credential.changed")).await?;
    change.tell(Stage::Source, &[repo.id.as_uuid()], now, Some(&clock::new_trace())).await?;
    change.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    _: Caller,
    QueryParams(paging): QueryParams<Paging>,
) -> Result<Json<List<RepoDocument>>, Refusal> {
    let after = paging.cursor.as_deref().map(pages::decode_cursor::<String>).transpose()?.unwrap_or_default();
    let limit = pages::limit(paging.limit);
    let mut db = hub.pool.acquire().await.map_err(StoreError::from)?;
    let mut documents = Vec::new();
    for repo in store::repos::list(&mut db, &after, limit).await? {
        documents.push(document_of(&mut db, &repo).await?);
    }
    Ok(Json(pages::page(documents, limit, |document| pages::encode_cursor(&document.metadata.name))))
}

pub(super) async fn show(
    State(hub): State<Arc<Hub>>,
    _: Caller,
    Named(name): Named,
) -> Result<Json<RepoDocument>, Refusal> {
    let mut db = hub.pool.acquire().await.map_err(StoreError::from)?;
    let repo = find(&mut db, &name).await?;
    Ok(Json(document_of(&mut db, &repo).await?))
}

pub(super) async fn refresh(State(hub): State<Arc<Hub>>, _: Caller, Named(name): Named) -> Result<StatusCode, Refusal> {
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    let repo = find(&mut change, &name).await?;
    store::repos::end_pauses(&mut change, repo.id).await?;
    change.tell(Stage::Source, &[repo.id.as_uuid()], clock::now(), Some(&clock::new_trace())).await?;
    change.commit().await?;
    Ok(StatusCode::ACCEPTED)
}

pub(super) async fn delete(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
) -> Result<StatusCode, Refusal> {
    let mut change = Change::begin(&hub.pool, &hub.signals).await?;
    let repo = find(&mut change, &name).await?;
    store::repos::delete(&mut change, repo.id).await.map_err(|error| match error {
        StoreError::InUse => Refusal::conflict("repo_in_use", format!("targets still use repo `{name}`"))
            .hint("delete those targets first: bellwether target list"),
        other => other.into(),
    })?;
    change.audit(&event(&repo, &caller, "repo.deleted")).await?;
    // Its mirror goes.
    change.tell(Stage::Source, &[repo.id.as_uuid()], clock::now(), None).await?;
    change.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn find(db: &mut Connection, name: &Name) -> Result<Repo, Refusal> {
    store::repos::find_by_name(db, name).await?.ok_or_else(|| Refusal::not_found("repo", name))
}

async fn document_of(db: &mut Connection, repo: &Repo) -> Result<RepoDocument, StoreError> {
    // Asked first: when nothing is pending, everything that is read after it is there.
    let pending = store::work::is_pending(db, repo.id, None, clock::now()).await?;
    let fetch = store::repos::find_fetch_status(db, repo.id).await?;
    let heads = store::revisions::list_heads(db, repo.id).await?;
    Ok(RepoDocument {
        api_version: API_VERSION.to_owned(),
        kind: "Repo".to_owned(),
        metadata: Metadata {
            name: repo.name.clone(),
            project: setup::PROJECT.parse().ok(),
            id: Some(repo.id.as_uuid()),
            version: Some(repo.version),
            created_at: Some(repo.created_at),
        },
        spec: repo.spec.clone(),
        status: Some(RepoStatus {
            fetched_at: fetch.fetched_at,
            heads: heads
                .into_iter()
                .map(|head| RepoHead {
                    reference: head.reference,
                    commit: head.commit,
                    author: head.author,
                    subject: head.subject,
                    seen_at: head.seen_at,
                })
                .collect(),
            has_credential: fetch.has_credential,
            pending,
            condition: fetch.condition,
        }),
    })
}

fn event(repo: &Repo, caller: &Caller, action: &'static str) -> Event {
    let subject = Subject { kind: "repo".to_owned(), name: repo.name.to_string() };
    let mut event = Event::new(clock::new_id(), clock::now(), caller.actor(), action, subject);
    event.detail = audited(&repo.spec);
    event
}

fn audited(spec: &RepoSpec) -> serde_json::Value {
    serde_json::json!({
        "url": spec.url,
        "ca": spec.ca.as_ref().map(|ca| Digest::of(ca.trim().as_bytes())),
        "pollSeconds": spec.poll_seconds,
    })
}
