//! The way to a repo's host, and what it lets the hub in with.

use std::time::Duration;

use bellwether_core::repo::CredentialKind;
use bellwether_core::{Digest, RepoId};
use secrecy::{ExposeSecret as _, SecretString};

use super::RepoError;
use super::git::{InvalidUrl, Remote, RepoUrl};
use super::github::{GithubApp, Permission};
use crate::Hub;
use crate::pki::seal::SealError;
use crate::process::clock;
use crate::store::repos::{Credential, Repo};

/// Without a credential. Whether the URL is allowed may have changed since it was given.
pub(super) fn remote_of(hub: &Hub, repo: &Repo) -> Result<Remote, InvalidUrl> {
    let policy = hub.config.url_policy();
    Ok(Remote {
        url: RepoUrl::parse(&repo.spec.url, policy)?,
        ca_pem: repo.spec.ca.clone(),
        known_hosts: repo.spec.known_hosts.clone(),
        chart: repo.spec.chart.clone(),
        cosign_keys: repo.spec.cosign_keys.clone(),
        verify: repo.spec.verify.clone(),
        credential: None,
        may_be_private: policy.private,
    })
}

/// How the repo's host is reached, with a token that may write statuses of commits; without one, if none is stored. A token
/// outlasts a conversation of this length.
pub(crate) async fn to_tell(
    hub: &Hub,
    repo: &Repo,
    credential: Option<&Credential>,
    longest: Duration,
) -> Result<Remote, RepoError> {
    let remote = remote_of(hub, repo)?;
    let Some(credential) = credential else { return Ok(remote) };
    let text = open_credential(hub, repo, credential)?;
    let token = match credential.kind {
        Some(CredentialKind::GithubApp) => {
            let asked = (repo.id, Permission::WriteStatuses);
            hub.app_tokens.token(asked, &GithubApp::read(&text)?, &remote, longest, clock::now()).await?.text
        }
        // A host's API takes what follows a user's name.
        _ => text.expose_secret().rsplit_once(':').map_or_else(|| text.clone(), |(_, token)| token.into()),
    };
    Ok(Remote { credential: Some(token), ..remote })
}

pub(super) fn open_credential(hub: &Hub, repo: &Repo, credential: &Credential) -> Result<SecretString, SealError> {
    let purpose = credential_purpose(credential.kind, repo.id, &repo.spec.url, repo.spec.ca.as_deref());
    let bytes = hub.seal.open(&purpose, &credential.sealed)?;
    let text = std::str::from_utf8(bytes.expose_secret()).map_err(|_| SealError::NotSealed { purpose })?;
    Ok(SecretString::from(text))
}

/// What a repo's credential is sealed for: it opens for no other host, and for nobody else's certificate. An ssh key is
/// never told to a host, so other known hosts leave it where it is. Nor is the key of a GitHub App, which therefore opens
/// where nothing else does: a hub that takes it for a token must not send it.
pub(crate) fn credential_purpose(kind: Option<CredentialKind>, repo: RepoId, url: &str, ca: Option<&str>) -> String {
    let what = if kind == Some(CredentialKind::GithubApp) { "github-app" } else { "credential" };
    let authority = ca.map_or_else(|| "system".to_owned(), |pem| Digest::of(pem.trim().as_bytes()).to_string());
    format!("{what}/{repo}/{}/{authority}", RepoUrl::origin_of(url))
}
