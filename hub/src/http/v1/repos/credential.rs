//! What a repo is read with: takes a token, a private key, or the key of a GitHub App; makes a key; takes it away. Of what is
//! stored nothing is ever answered but what is public.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use bellwether_core::Name;
use bellwether_core::api::MadeCredential;
use bellwether_core::audit::Action;
use bellwether_core::repo::CredentialKind;
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::event;
use crate::http::auth::Caller;
use crate::http::input::{Body, Named};
use crate::http::problem::Refusal;
use crate::process::clock;
use crate::source::credential_purpose;
use crate::source::git::{InvalidKey, RepoUrl, SshKey};
use crate::source::github::GithubApp;
use crate::store::repos::{Credential, Repo};
use crate::store::work::Stage;
use crate::work::change::Change;
use crate::{Hub, store};

/// A token of whatever kind has some hundred characters.
const TOKEN_CHARACTERS_MAX: usize = 4096;

/// GitHub's have some twenty.
const APP_ID_CHARACTERS_MAX: usize = 64;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::http) struct CredentialBody {
    token: Option<SecretString>,
    /// A private key as `ssh-keygen` writes it, without a passphrase.
    ssh_key: Option<SecretString>,
    github_app: Option<GithubAppBody>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GithubAppBody {
    /// Its number or its client id.
    app_id: String,
    installation_id: u64,
    /// PEM, as GitHub gives it.
    private_key: SecretString,
}

/// In the place of what was stored, and fetches with it.
pub(in crate::http) async fn put_credential(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
    Body(body): Body<CredentialBody>,
) -> Result<StatusCode, Refusal> {
    let given = Given::read(body)?;
    store_given(&hub, &caller, &name, &given).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A new key for ssh, of which only the public half is told.
pub(in crate::http) async fn make_credential(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
) -> Result<(StatusCode, Json<MadeCredential>), Refusal> {
    let (secret, public_key) = SshKey::make(&format!("bellwether-{name}"));
    let given = Given { kind: CredentialKind::SshKey, secret, public: Some(public_key.clone()) };
    store_given(&hub, &caller, &name, &given).await?;
    Ok((StatusCode::CREATED, Json(MadeCredential { public_key })))
}

/// From now on the repo is fetched without one. One that has none stays as it is.
pub(in crate::http) async fn delete_credential(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
) -> Result<StatusCode, Refusal> {
    let now = clock::now();
    let mut change = Change::begin(&hub.requests, &hub.signals).await?;
    let repo = lock(&mut change, &caller, &name).await?;
    if store::repos::delete_credential(&mut change, repo.id).await? {
        let mut event = event(&repo, &caller, Action::RepoCredentialChanged);
        event.detail["removed"] = true.into();
        change.audit(&event).await?;
        fetch_at_once(&mut change, &repo, now).await?;
    }
    change.commit().await?;
    hub.app_tokens.forget(repo.id);
    Ok(StatusCode::NO_CONTENT)
}

async fn store_given(hub: &Hub, caller: &Caller, name: &Name, given: &Given) -> Result<(), Refusal> {
    let now = clock::now();
    let mut change = Change::begin(&hub.requests, &hub.signals).await?;
    let repo = lock(&mut change, caller, name).await?;
    given.check_place(&repo)?;
    let purpose = credential_purpose(Some(given.kind), repo.id, &repo.spec.url, repo.spec.ca.as_deref());
    let sealed = hub.seal.seal(&purpose, given.secret.expose_secret().as_bytes());
    let credential = Credential { kind: Some(given.kind), sealed };
    store::repos::mark_credential(&mut change, repo.id, &credential, given.public.as_deref(), now).await?;
    let mut event = event(&repo, caller, Action::RepoCredentialChanged);
    event.detail["credential"] = serde_json::json!({"kind": given.kind, "public": given.public});
    change.audit(&event).await?;
    fetch_at_once(&mut change, &repo, now).await?;
    change.commit().await?;
    hub.app_tokens.forget(repo.id);
    Ok(())
}

async fn lock(change: &mut Change<'_>, caller: &Caller, name: &Name) -> Result<Repo, Refusal> {
    store::repos::lock_by_name(change, caller.project.id, name).await?.ok_or_else(|| Refusal::not_found("repo", name))
}

async fn fetch_at_once(change: &mut Change<'_>, repo: &Repo, now: Timestamp) -> Result<(), Refusal> {
    store::repos::end_pauses(change, repo.id).await?;
    change.tell_host(repo.id.as_uuid(), now).await?;
    Ok(change.tell(Stage::Source, &[repo.id.as_uuid()], now, Some(&clock::new_trace())).await?)
}

/// What was given, checked, as it is sealed.
struct Given {
    kind: CredentialKind,
    secret: SecretString,
    /// What may be shown of it.
    public: Option<String>,
}

impl Given {
    fn read(body: CredentialBody) -> Result<Self, Refusal> {
        match body {
            CredentialBody { token: Some(token), ssh_key: None, github_app: None } => read_token(&token),
            CredentialBody { token: None, ssh_key: Some(key), github_app: None } => read_ssh_key(&key),
            CredentialBody { token: None, ssh_key: None, github_app: Some(app) } => read_app(&app),
            _ => Err(Refusal::invalid("credential_invalid", "a credential is a `token`, an `sshKey` or a `githubApp`")),
        }
    }

    /// Of a kind that the repo's server takes.
    fn check_place(&self, repo: &Repo) -> Result<(), Refusal> {
        let wants_key = RepoUrl::origin_of(&repo.spec.url).starts_with("ssh://");
        if wants_key != (self.kind == CredentialKind::SshKey) {
            let (way, wants, hint) = if wants_key {
                (
                    "ssh",
                    "a private key",
                    "give it with `--ssh-key-file`, or let the hub make one: bellwether credential make",
                )
            } else {
                ("https", "a token", "give it with `--token-file`")
            };
            let detail = format!("repo `{}` is fetched by {way}, which takes {wants}", repo.name);
            return Err(Refusal::invalid("credential_invalid", detail).hint(hint));
        }
        if self.kind == CredentialKind::GithubApp && !GithubApp::may_read(&repo.spec.url, repo.spec.chart.as_deref()) {
            let detail = format!("repo `{}` is not at `https://HOST/OWNER/NAME`, where a GitHub App reads", repo.name);
            return Err(Refusal::invalid("credential_invalid", detail).hint("give a token: `--token-file`"));
        }
        Ok(())
    }
}

fn read_token(token: &SecretString) -> Result<Given, Refusal> {
    let text = token.expose_secret().trim();
    if text.is_empty() || text.len() > TOKEN_CHARACTERS_MAX || text.chars().any(char::is_control) {
        let detail = format!("a token is one line of 1 to {TOKEN_CHARACTERS_MAX} characters");
        return Err(Refusal::invalid("credential_invalid", detail));
    }
    Ok(Given { kind: CredentialKind::Token, secret: text.into(), public: None })
}

fn read_ssh_key(key: &SecretString) -> Result<Given, Refusal> {
    let text = key.expose_secret();
    let refused = |error: InvalidKey| Refusal::invalid(error.code(), error.to_string()).maybe_hint(error.hint());
    let public = SshKey::parse(text).map_err(refused)?.public_line();
    Ok(Given { kind: CredentialKind::SshKey, secret: text.trim().into(), public })
}

fn read_app(body: &GithubAppBody) -> Result<Given, Refusal> {
    let id = body.app_id.trim();
    let is_id = |character: char| character.is_ascii_alphanumeric() || "._-".contains(character);
    if id.is_empty() || id.len() > APP_ID_CHARACTERS_MAX || !id.chars().all(is_id) {
        let detail = "`appId` is the number or the client id of a GitHub App";
        let hint = "both stand on the app's page: Settings > General";
        return Err(Refusal::invalid("credential_invalid", detail).hint(hint));
    }
    let app = GithubApp::new(id, body.installation_id, &body.private_key).map_err(|error| {
        Refusal::invalid("credential_invalid", error.to_string())
            .hint("give the file that GitHub made when a private key was generated for the app")
    })?;
    let public = format!("app {id}, installation {}", body.installation_id);
    Ok(Given { kind: CredentialKind::GithubApp, secret: app.text(), public: Some(public) })
}
