//! Repos: adding, changing, showing.

mod accept;
mod credential;
mod delete;
mod list;
mod put;
mod refresh;
mod show;
#[cfg(test)]
mod tests;
mod webhook_secret;

use bellwether_core::api::{
    API_VERSION, CreatedRepo, Metadata, RepoCredential, RepoDocument, RepoHead, RepoStatus, webhook_path,
};
use bellwether_core::audit::{Action, Event};
use bellwether_core::repo::RepoSpec;
use bellwether_core::{Digest, Name, RepoId};
use secrecy::{ExposeSecret as _, SecretString};

use crate::Hub;
use crate::http::auth::Caller;
use crate::http::problem::Refusal;
use crate::pki::seal;
use crate::process::clock;
use crate::source::git::Verifier;
use crate::store::repos::{CredentialNote, Repo};
use crate::store::revisions::Revision;
use crate::store::views::repos::RepoView;
use crate::store::{self, Connection, StoreError, views};
use crate::work::subjects;

pub(in crate::http) use accept::accept;
pub(in crate::http) use credential::{delete_credential, make_credential, put_credential};
pub(in crate::http) use delete::delete;
pub(in crate::http) use list::list;
pub(in crate::http) use put::put;
pub(in crate::http) use refresh::refresh;
pub(in crate::http) use show::show;
pub(in crate::http) use webhook_secret::renew_webhook_secret;

pub(in crate::http) fn webhook_purpose(repo: RepoId) -> String {
    format!("webhook/{repo}")
}

/// A new secret, and how it is kept.
fn new_webhook_secret(hub: &Hub, repo: RepoId) -> (SecretString, Vec<u8>) {
    let secret = seal::random_token("bww_");
    let sealed = hub.seal.seal(&webhook_purpose(repo), secret.expose_secret().as_bytes());
    (secret, sealed)
}

async fn find(db: &mut Connection, caller: &Caller, name: &Name) -> Result<Repo, Refusal> {
    store::repos::find_by_name(db, caller.project.id, name).await?.ok_or_else(|| Refusal::not_found("repo", name))
}

async fn document_of(db: &mut Connection, repo: &Repo) -> Result<RepoDocument, StoreError> {
    let mut documents = documents_of(db, vec![repo.clone()]).await?;
    Ok(documents.remove(0))
}

/// What a change of it is answered with.
async fn answer(db: &mut Connection, repo: &Repo, secret: Option<&SecretString>) -> Result<CreatedRepo, StoreError> {
    Ok(CreatedRepo {
        repo: document_of(db, repo).await?,
        webhook_secret: secret.map(|secret| secret.expose_secret().to_owned()),
        webhook_path: webhook_path(&repo.name),
        credential_removed: false,
        unchanged: false,
    })
}

/// In the order of the repos.
async fn documents_of(db: &mut Connection, repos: Vec<Repo>) -> Result<Vec<RepoDocument>, StoreError> {
    let views = views::repos::load(db, repos, clock::now()).await?;
    Ok(views.into_iter().map(document).collect())
}

fn document(view: RepoView) -> RepoDocument {
    let head = |head: Revision| RepoHead {
        reference: head.reference,
        tag: head.tag,
        commit: head.commit,
        author: head.author,
        subject: head.subject,
        verified_by: head.verified.map(|verified| verified.to_string()),
        seen_at: head.seen_at,
    };
    RepoDocument {
        api_version: API_VERSION.to_owned(),
        kind: "Repo".to_owned(),
        metadata: Metadata {
            name: view.repo.name,
            project: Some(view.repo.project.name),
            id: Some(view.repo.id.as_uuid()),
            version: Some(view.repo.version),
            created_at: Some(view.repo.created_at),
        },
        spec: view.repo.spec.into(),
        status: Some(RepoStatus {
            fetched_at: view.fetch.fetched_at,
            heads: view.heads.into_iter().map(head).collect(),
            has_credential: view.fetch.credential.is_some(),
            credential: view.fetch.credential.map(|CredentialNote { kind, public, since }| RepoCredential {
                kind,
                public,
                since,
            }),
            pending: view.pending,
            condition: view.fetch.condition,
        }),
    }
}

fn event(repo: &Repo, caller: &Caller, action: Action) -> Event {
    let subject = subjects::repo(repo);
    let mut event = Event::new(clock::new_id(), clock::now(), caller.actor(), action, subject);
    event.detail = audited(&repo.spec);
    event
}

fn audited(spec: &RepoSpec) -> serde_json::Value {
    serde_json::json!({
        "url": spec.url,
        "chart": spec.chart,
        "cosignKeys": spec.cosign_keys.iter().map(|key| Digest::of(key.trim().as_bytes())).collect::<Vec<_>>(),
        "verify": spec.verify.as_ref().map(|verify| serde_json::json!({
            "mode": verify.mode,
            "keys": Verifier::read(verify).map(|verifier| verifier.names()).unwrap_or_default(),
        })),
        "ca": spec.ca.as_ref().map(|ca| Digest::of(ca.trim().as_bytes())),
        "knownHosts": spec.known_hosts.as_ref().map(|known| Digest::of(known.trim().as_bytes())),
        "forcePush": spec.force_push,
        "pollSeconds": spec.poll_seconds,
        "commitStatus": spec.commit_status,
    })
}
