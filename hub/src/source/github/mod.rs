//! Repos that a GitHub App may read: its key signs who it is, and GitHub answers with a token for an hour.
//!
//! The key is shown to nobody: what it signs is sent to the API of the repo's own host and nowhere else. The token may read
//! the contents of that one repository. It is kept in memory while it outlasts a whole fetch, and in no row.

mod api;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bellwether_core::{Digest, RepoId};
use jiff::{SignedDuration, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::json;

pub(crate) use self::api::{Limit, limit, root};
use crate::pki::app_key::{AppKey, InvalidAppKey};
use crate::source::git::{FetchError, Remote};

/// How long what the key signs is good for; GitHub takes ten minutes at most.
const SIGNED_FOR: SignedDuration = SignedDuration::from_mins(9);

/// Clocks differ; GitHub's own advice.
const SIGNED_BEFORE: SignedDuration = SignedDuration::from_mins(1);

/// An app, where it is installed, and the key that it signs with.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct GithubApp {
    /// Its number, or its client id.
    app_id: String,
    installation_id: u64,
    private_key: SecretString,
}

impl fmt::Debug for GithubApp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GithubApp({} at {})", self.app_id, self.installation_id)
    }
}

impl GithubApp {
    pub(crate) fn new(app_id: &str, installation_id: u64, private_key: &SecretString) -> Result<Self, InvalidAppKey> {
        let pem = private_key.expose_secret().trim();
        AppKey::parse(pem)?;
        Ok(Self { app_id: app_id.to_owned(), installation_id, private_key: pem.into() })
    }

    /// Whether there is an API to ask for a token, and a repository that it can be for.
    pub(crate) fn may_read(url: &str, chart: Option<&str>) -> bool {
        chart.is_none() && url.parse().is_ok_and(|url| api::find(&url).is_some())
    }

    /// As it is sealed.
    pub(crate) fn text(&self) -> SecretString {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Text<'a> {
            app_id: &'a str,
            installation_id: u64,
            private_key: &'a str,
        }
        let Self { app_id, installation_id, private_key } = self;
        let text = Text { app_id, installation_id: *installation_id, private_key: private_key.expose_secret() };
        serde_json::to_string(&text).expect("texts and numbers are written").into()
    }

    pub(super) fn read(text: &SecretString) -> Result<Self, AppError> {
        // What the error says may repeat some of it.
        serde_json::from_str(text.expose_secret()).map_err(|_| AppError::Key(InvalidAppKey))
    }
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum AppError {
    #[error(transparent)]
    Fetch(#[from] FetchError),
    #[error("the GitHub App's key cannot be used")]
    Key(#[from] InvalidAppKey),
    #[error("GitHub gives the app no token for this repository: {message}")]
    Refused { message: String },
    #[error("{host} refused the token that the GitHub App was just given")]
    TokenRefused { host: String },
    #[error("what answers at {url} is not GitHub's API")]
    NotTheApi { url: String },
    #[error("a GitHub App reads repositories at `https://HOST/OWNER/NAME`")]
    NoPlace,
}

impl AppError {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Fetch(error) => error.code(),
            Self::Key(_) => "credential_unreadable",
            Self::Refused { .. } | Self::TokenRefused { .. } => "github_app_refused",
            Self::NotTheApi { .. } | Self::NoPlace => "github_api_not_found",
        }
    }

    pub(super) fn hint(&self) -> Option<Cow<'static, str>> {
        let text = match self {
            Self::Fetch(error) => return error.hint(),
            Self::Key(_) => "give it again: bellwether credential set",
            Self::Refused { .. } | Self::TokenRefused { .. } => {
                "the app has to be installed for the repository and may read its contents; check its id, the installation's id \
                 and the key: bellwether credential set"
            }
            Self::NotTheApi { .. } | Self::NoPlace => {
                "check the repo's URL; on other hosts than GitHub's give a token: bellwether credential set"
            }
        };
        Some(Cow::Borrowed(text))
    }
}

/// What a token is for: each may do that one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Permission {
    ReadContents,
    WriteStatuses,
}

/// A token for one repository.
pub(super) struct Token {
    pub(super) text: SecretString,
    /// It was asked for just now.
    pub(super) is_new: bool,
}

/// Tokens that are good for a while yet.
#[derive(Default)]
pub(crate) struct AppTokens(Mutex<BTreeMap<(RepoId, Permission), KeptToken>>);

struct KeptToken {
    /// Of the app and the URL that it is for.
    of: Digest,
    token: SecretString,
    ends_at: Timestamp,
}

impl AppTokens {
    /// The one that is there, if it outlasts a fetch of this length; or a new one.
    pub(super) async fn token(
        &self,
        asked: (RepoId, Permission),
        app: &GithubApp,
        remote: &Remote,
        longest: Duration,
        now: Timestamp,
    ) -> Result<Token, AppError> {
        let ca = remote.ca_pem.as_deref().unwrap_or_default();
        let text = app.text();
        let of = Digest::of_parts([text.expose_secret().as_bytes(), remote.url.as_str().as_bytes(), ca.as_bytes()]);
        let until = now.saturating_add(longest).unwrap_or(Timestamp::MAX);
        if let Some(text) = self.find(asked, of, now, until) {
            return Ok(Token { text, is_new: false });
        }
        let claims = json!({
            "iss": app.app_id,
            "iat": (now - SIGNED_BEFORE).as_second(),
            "exp": (now + SIGNED_FOR).as_second(),
        });
        let signed = AppKey::parse(app.private_key.expose_secret())?.sign(&claims);
        let given = api::ask_for_token(remote, app.installation_id, &signed, asked.1).await?;
        let held = KeptToken { of, token: given.token.clone(), ends_at: given.expires_at };
        self.lock().insert(asked, held);
        Ok(Token { text: given.token, is_new: true })
    }

    /// It was refused: others of this repo are for something else.
    pub(crate) fn forget_one(&self, repo: RepoId, permission: Permission) {
        self.lock().remove(&(repo, permission));
    }

    /// What they are of is gone.
    pub(crate) fn forget(&self, repo: RepoId) {
        self.lock().retain(|(of, _), _| *of != repo);
    }

    fn find(&self, asked: (RepoId, Permission), of: Digest, now: Timestamp, until: Timestamp) -> Option<SecretString> {
        let mut held = self.lock();
        held.retain(|_, one| one.ends_at > now);
        held.get(&asked).filter(|one| one.of == of && one.ends_at > until).map(|one| one.token.clone())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(RepoId, Permission), KeptToken>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
