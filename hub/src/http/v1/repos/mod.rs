//! Repos: adding, changing, showing.

mod credential;
mod delete;
mod list;
mod put;
mod refresh;
mod show;

use bellwether_core::api::{API_VERSION, Metadata, RepoDocument, RepoHead, RepoStatus};
use bellwether_core::audit::{Action, Event};
use bellwether_core::repo::RepoSpec;
use bellwether_core::{Digest, Name, RepoId};

use crate::http::auth::Caller;
use crate::http::problem::Refusal;
use crate::process::clock;
use crate::setup;
use crate::store::repos::Repo;
use crate::store::{self, Connection, StoreError};
use crate::work::subjects;

pub(in crate::http) use credential::put_credential;
pub(in crate::http) use delete::delete;
pub(in crate::http) use list::list;
pub(in crate::http) use put::put;
pub(in crate::http) use refresh::refresh;
pub(in crate::http) use show::show;

pub(in crate::http) fn webhook_purpose(repo: RepoId) -> String {
    format!("webhook/{repo}")
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
        spec: repo.spec.clone().into(),
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

fn event(repo: &Repo, caller: &Caller, action: Action) -> Event {
    let subject = subjects::repo(&repo.name);
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
