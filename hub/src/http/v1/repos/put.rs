//! Adds a repo or changes it.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bellwether_core::api::{CreatedRepo, RepoDocument};
use bellwether_core::audit::Action;
use bellwether_core::repo::RepoSpec;
use bellwether_core::signature::Verify;
use bellwether_core::{Name, RepoId, Version};
use secrecy::SecretString;
use serde::Deserialize;

use super::{answer, audited, event, new_webhook_secret};
use crate::Hub;
use crate::commit_status;
use crate::http::auth::Caller;
use crate::http::input::{Body, Named, QueryParams};
use crate::http::problem::Refusal;
use crate::http::v1::targets::check_head;
use crate::process::clock;
use crate::source::credential_purpose;
use crate::source::git::{FetchError, InvalidUrl, InvalidVerifyKey, KnownHosts, RepoUrl, Verifier};
use crate::source::oci::CosignKey;
use crate::store::repos::Repo;
use crate::store::work::Stage;
use crate::store::{self, StoreError};
use crate::work::change::Change;

/// A team's keys; each is read whenever a revision is to be rolled out.
const VERIFY_KEYS_BYTES_MAX: usize = 128 << 10;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(in crate::http) struct PutQuery {
    /// False when a token follows: a fetch without it would only be refused.
    fetch: bool,
}

impl Default for PutQuery {
    fn default() -> Self {
        Self { fetch: true }
    }
}

/// Adds a repo or changes it, and fetches it at once. One that is sent as it stands keeps its version, and nothing is done:
/// who wants it fetched says so by another route, which stands in the log.
pub(in crate::http) async fn put(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
    QueryParams(query): QueryParams<PutQuery>,
    Body(document): Body<RepoDocument>,
) -> Result<(StatusCode, Json<CreatedRepo>), Refusal> {
    check_head(&name, "Repo", &document.api_version, &document.kind, &document.metadata)?;
    let spec = RepoSpec::from(document.spec);
    check(&hub, &spec)?;
    let now = clock::now();
    let mut change = Change::begin(&hub.requests, &hub.signals).await?;
    let known = store::repos::lock_by_name(&mut change, caller.project.id, &name).await?;
    let status = if known.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    let mut credential_removed = false;
    let (repo, secret) = match known {
        Some(repo) => {
            let seen = document.metadata.version.unwrap_or(repo.version);
            if seen != repo.version {
                return Err(StoreError::Stale { table: "repos" }.into());
            }
            if repo.spec == spec {
                let answer = answer(&mut change, &repo, None).await?;
                return Ok((status, Json(CreatedRepo { unchanged: true, ..answer })));
            }
            store::repos::mark_spec(&mut change, repo.id, seen, &spec, now).await?;
            // A token that was given for one server is not told to another.
            let purpose = |spec: &RepoSpec| credential_purpose(None, repo.id, &spec.url, spec.ca.as_deref());
            if purpose(&repo.spec) != purpose(&spec) {
                credential_removed = store::repos::delete_credential(&mut change, repo.id).await?;
            }
            // Nor does the one before go on to wake it.
            let secret = if RepoUrl::origin_of(&repo.spec.url) == RepoUrl::origin_of(&spec.url) {
                None
            } else {
                let (secret, sealed) = new_webhook_secret(&hub, repo.id);
                store::repos::mark_webhook_secret(&mut change, repo.id, &sealed, now).await?;
                Some(secret)
            };
            let mut event = event(&repo, &caller, Action::RepoChanged);
            event.detail = serde_json::json!({
                "before": audited(&repo.spec),
                "after": audited(&spec),
                "credentialRemoved": credential_removed,
                "webhookSecretRenewed": secret.is_some(),
            });
            change.audit(&event).await?;
            (Repo { spec, version: Version::new(seen.get() + 1), ..repo }, secret)
        }
        // Somebody deleted what this was read from.
        None if document.metadata.version.is_some() => return Err(StoreError::Stale { table: "repos" }.into()),
        None => {
            let (repo, secret) = new_repo(&hub, &caller, name, spec);
            store::repos::insert(&mut change, &repo).await?;
            change.audit(&event(&repo, &caller, Action::RepoAdded)).await?;
            (repo, Some(secret))
        }
    };
    store::repos::end_pauses(&mut change, repo.id).await?;
    // What lacked it renders now.
    let lacking = store::sources::list_lacking(&mut change, repo.project.id).await?;
    change.tell(Stage::Bundle, &lacking, now, Some(&clock::new_trace())).await?;
    if query.fetch {
        change.tell(Stage::Source, &[repo.id.as_uuid()], now, Some(&clock::new_trace())).await?;
    }
    change.tell_host(repo.id.as_uuid(), now).await?;
    let answer = answer(&mut change, &repo, secret.as_ref()).await?;
    change.commit().await?;
    Ok((status, Json(CreatedRepo { credential_removed, ..answer })))
}

fn new_repo(hub: &Hub, caller: &Caller, name: Name, spec: RepoSpec) -> (Repo, SecretString) {
    let id = RepoId::new(clock::new_id());
    let (secret, sealed) = new_webhook_secret(hub, id);
    let repo = Repo {
        id,
        project: caller.project.clone(),
        name,
        spec,
        webhook_secret: sealed,
        version: Version::new(1),
        created_at: clock::now(),
    };
    (repo, secret)
}

fn check(hub: &Hub, spec: &RepoSpec) -> Result<(), Refusal> {
    let refuse = |error: InvalidUrl| Refusal::invalid(error.code(), crate::chain(&error)).maybe_hint(error.hint());
    let url = RepoUrl::parse(&spec.url, hub.config.url_policy()).map_err(refuse)?;
    if url.names_a_host_alone() && spec.chart.is_none() {
        return Err(refuse(InvalidUrl::NoPath));
    }
    check_known_hosts(&url, spec.known_hosts.as_deref())?;
    spec.check().map_err(|error| Refusal::invalid(error.code(), error.to_string()).maybe_hint(error.hint()))?;
    if spec.chart.is_some() && !url.may_have_charts() {
        return Err(Refusal::invalid("chart_invalid", "`chart` is for Helm repositories, which are at https URLs")
            .hint("leave it out: an artifact of a registry is one chart"));
    }
    if spec.commit_status.is_some() && !commit_status::has_api(&url, spec.chart.as_deref()) {
        let refusal = Refusal::invalid("commit_status_invalid", "`commitStatus` is for Git repositories at https URLs");
        return Err(refusal.hint("leave it out: with an ssh key no API of a host lets the hub in"));
    }
    if let Some(verify) = &spec.verify {
        check_verify(&url, spec.chart.as_deref(), verify)?;
    }
    check_cosign_keys(&url, &spec.cosign_keys)
}

fn check_cosign_keys(url: &RepoUrl, keys: &[String]) -> Result<(), Refusal> {
    let hint = "`cosign generate-key-pair` writes it to cosign.pub";
    if !keys.is_empty() && !url.is_registry() {
        let refusal = Refusal::invalid("cosign_key_invalid", "`cosignKeys` are for artifacts at `oci://` URLs");
        return Err(refusal.hint("leave them out"));
    }
    for key in keys {
        CosignKey::read(key)
            .map_err(|error| Refusal::invalid("cosign_key_invalid", crate::chain(&error)).hint(hint))?;
    }
    Ok(())
}

fn check_verify(url: &RepoUrl, chart: Option<&str>, verify: &Verify) -> Result<(), Refusal> {
    if url.is_registry() || chart.is_some() || url.is_file() {
        return Err(Refusal::invalid("verify_unused", "`verify` is for commits and tags of Git")
            .hint("leave it out; of an artifact give `cosignKeys`"));
    }
    let bytes: usize = verify.keys.iter().map(String::len).sum();
    if bytes > VERIFY_KEYS_BYTES_MAX {
        let detail =
            format!("the keys of `verify` have {bytes} bytes, and at most {VERIFY_KEYS_BYTES_MAX} are allowed");
        let hint = "export them without what others signed: `gpg --export-options export-minimal --armor --export KEY`";
        return Err(Refusal::invalid("verify_key_invalid", detail).hint(hint));
    }
    Verifier::read(verify)
        .map(drop)
        .map_err(|error| Refusal::invalid("verify_key_invalid", crate::chain(&error)).hint(InvalidVerifyKey::HINT))
}

/// Nobody is trusted for being met first, so a repo by ssh comes with its host's keys.
fn check_known_hosts(url: &RepoUrl, text: Option<&str>) -> Result<(), Refusal> {
    let known = KnownHosts::parse(text.unwrap_or_default())
        .map_err(|error| Refusal::invalid("known_hosts_invalid", crate::chain(&error)).hint(KnownHosts::HINT))?;
    match (url.ssh(), text) {
        (None, Some(_)) => {
            Err(Refusal::invalid("known_hosts_unused", "`knownHosts` is for repos that are fetched by ssh")
                .hint("leave it out, or give the repo's ssh URL"))
        }
        (Some(place), _) if !known.has(place) => {
            let error = FetchError::unknown_host(place);
            Err(Refusal::invalid("known_hosts_missing", error.to_string()).maybe_hint(error.hint()))
        }
        _ => Ok(()),
    }
}
