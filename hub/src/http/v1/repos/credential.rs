//! Takes the token or the private key that a repo is read with.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use bellwether_core::audit::Action;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use super::event;
use crate::http::auth::Caller;
use crate::http::input::{Body, Named};
use crate::http::problem::Refusal;
use crate::process::clock;
use crate::source::credential_purpose;
use crate::source::git::{InvalidKey, RepoUrl, SshKey};
use crate::store::repos::Repo;
use crate::store::work::Stage;
use crate::work::change::Change;
use crate::{Hub, store};

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(in crate::http) struct CredentialBody {
    token: Option<SecretString>,
    /// A private key as `ssh-keygen` writes it, without a passphrase.
    ssh_key: Option<SecretString>,
}

pub(in crate::http) async fn put_credential(
    State(hub): State<Arc<Hub>>,
    caller: Caller,
    Named(name): Named,
    Body(body): Body<CredentialBody>,
) -> Result<StatusCode, Refusal> {
    check(&body)?;
    let now = clock::now();
    let mut change = Change::begin(&hub.requests, &hub.signals).await?;
    let known = store::repos::lock_by_name(&mut change, &name).await?;
    let repo = known.ok_or_else(|| Refusal::not_found("repo", &name))?;
    let purpose = credential_purpose(repo.id, &repo.spec.url, repo.spec.ca.as_deref());
    let sealed = hub.seal.seal(&purpose, body.of(&repo)?.expose_secret().trim().as_bytes());
    store::repos::mark_credential(&mut change, repo.id, &sealed, now).await?;
    store::repos::end_pauses(&mut change, repo.id).await?;
    change.audit(&event(&repo, &caller, Action::RepoCredentialChanged)).await?;
    change.tell(Stage::Source, &[repo.id.as_uuid()], now, Some(&clock::new_trace())).await?;
    change.commit().await?;
    Ok(StatusCode::NO_CONTENT)
}

impl CredentialBody {
    /// Of the kind that the repo's server takes.
    fn of(&self, repo: &Repo) -> Result<&SecretString, Refusal> {
        let wants_key = RepoUrl::origin_of(&repo.spec.url).starts_with("ssh://");
        let fitting = if wants_key { &self.ssh_key } else { &self.token };
        fitting.as_ref().ok_or_else(|| {
            let (way, wants, flag) = if wants_key {
                ("ssh", "a private key", "--ssh-key-file")
            } else {
                ("https", "a token", "--token-file")
            };
            let detail = format!("repo `{}` is fetched by {way}, which takes {wants}", repo.name);
            Refusal::invalid("credential_invalid", detail).hint(format!("give it with `{flag}`"))
        })
    }
}

fn check(body: &CredentialBody) -> Result<(), Refusal> {
    match (&body.token, &body.ssh_key) {
        (Some(token), None) => {
            let token = token.expose_secret().trim();
            if token.is_empty() || token.len() > 4096 || token.chars().any(char::is_control) {
                return Err(Refusal::invalid("credential_invalid", "a token is one line of 1 to 4096 characters"));
            }
            Ok(())
        }
        (None, Some(key)) => {
            let refused =
                |error: InvalidKey| Refusal::invalid(error.code(), error.to_string()).maybe_hint(error.hint());
            SshKey::parse(key.expose_secret()).map(|_| ()).map_err(refused)
        }
        _ => Err(Refusal::invalid("credential_invalid", "a credential is either a `token` or an `sshKey`")),
    }
}
