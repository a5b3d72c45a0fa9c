//! GitHub's API, as far as an app asks it for a token to read a repository with:
//! <https://docs.github.com/en/rest/apps/apps#create-an-installation-access-token-for-an-app>.

use std::time::Duration;

use jiff::Timestamp;
use reqwest::header::{ACCEPT, HeaderMap, LOCATION, RETRY_AFTER, USER_AGENT};
use reqwest::{StatusCode, redirect};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;
use url::Url;

use super::{AppError, Permission};
use crate::egress::Failure;
use crate::process::clock;
use crate::source::git::{FetchError, Remote, RepoUrl, parse_wait, tidy};

/// It looks up an app and signs a token.
const DEADLINE: Duration = Duration::from_secs(20);

/// A token with what it is for has some kilobytes.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// GitHub's have some hundred characters, and may become longer.
const TOKEN_BYTES_MAX: usize = 4096;

/// What GitHub gives.
#[derive(Deserialize)]
pub(super) struct Given {
    pub(super) token: SecretString,
    pub(super) expires_at: Timestamp,
}

#[derive(Deserialize)]
struct Said {
    message: String,
}

/// Where the API of a repository's host is, and what the repository is called there.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Api {
    url: Url,
    repository: String,
}

/// `None`: there is none.
pub(super) fn find(repo: &Url) -> Option<Api> {
    let host = repo.host_str()?;
    if repo.scheme() != "https" {
        return None;
    }
    let parts: Vec<_> = repo.path_segments()?.filter(|part| !part.is_empty()).collect();
    let [_, name] = parts[..] else { return None };
    let repository = name.strip_suffix(".git").unwrap_or(name).to_owned();
    Some(Api { url: root(host, repo.port()).parse().ok()?, repository })
}

/// Where the API of a host is.
pub(crate) fn root(host: &str, port: Option<u16>) -> String {
    if host == "github.com" || host.ends_with(".ghe.com") {
        return format!("https://api.{host}/");
    }
    let port = port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("https://{host}{port}/api/v3/")
}

/// Asks the API of the repo's own host; follows it nowhere, and trusts what the repo trusts.
pub(super) async fn ask_for_token(
    remote: &Remote,
    installation: u64,
    signed: &str,
    permission: Permission,
) -> Result<Given, AppError> {
    // No more than it is asked for, of this repository only.
    let permissions = match permission {
        Permission::ReadContents => json!({"contents": "read"}),
        Permission::WriteStatuses => json!({"statuses": "write"}),
    };
    let RepoUrl::Plain(repo) = &remote.url else { return Err(AppError::NoPlace) };
    let Api { url: api, repository } = find(repo).filter(|_| remote.chart.is_none()).ok_or(AppError::NoPlace)?;
    let url = api.join(&format!("app/installations/{installation}/access_tokens")).map_err(|_| AppError::NoPlace)?;
    let host = api.host_str().unwrap_or_default();
    let failed = |failure| AppError::Fetch(FetchError::of_egress(host.to_owned(), failure));
    let client = remote.destination(host, remote.url.is_loopback()).build_client(redirect::Policy::none());
    let request = client
        .map_err(failed)?
        .post(url)
        .timeout(DEADLINE)
        .bearer_auth(signed)
        .header(ACCEPT, "application/vnd.github+json")
        .header("X-GitHub-Api-Version", "2022-11-28")
        .header(USER_AGENT, "bellwether")
        .json(&json!({"repositories": [repository], "permissions": permissions}));
    let failed = |error| failed(Failure::of(error));
    let mut response = request.send().await.map_err(failed)?;
    let (status, headers) = (response.status(), response.headers().clone());
    let not_the_api = || AppError::NotTheApi { url: api.to_string() };
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(failed)? {
        if body.len() + part.len() > ANSWER_BYTES_MAX {
            return Err(not_the_api());
        }
        body.extend_from_slice(&part);
    }
    if status != StatusCode::CREATED {
        return Err(refused(&api, status, &headers, &body, signed));
    }
    // What an error says may repeat the token.
    let given: Given = serde_json::from_slice(&body).map_err(|_| not_the_api())?;
    if given.is_plausible() { Ok(given) } else { Err(not_the_api()) }
}

impl Given {
    fn is_plausible(&self) -> bool {
        let text = secrecy::ExposeSecret::expose_secret(&self.token);
        (1..=TOKEN_BYTES_MAX).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
    }
}

fn refused(api: &Url, status: StatusCode, headers: &HeaderMap, body: &[u8], signed: &str) -> AppError {
    let host = api.host_str().unwrap_or_default().to_owned();
    if let Some(Limit { retry_after }) = limit(status, headers, clock::now()) {
        return FetchError::Limited { host, retry_after }.into();
    }
    if status.is_redirection() {
        let place = headers.get(LOCATION).and_then(|place| api.join(place.to_str().ok()?).ok());
        let target = place.as_ref().and_then(Url::host_str).unwrap_or("another place").to_owned();
        return FetchError::Redirected { host, target }.into();
    }
    if status.is_server_error() {
        return FetchError::ServerFailed { host, status: status.as_u16() }.into();
    }
    if status.is_success() {
        return AppError::NotTheApi { url: api.to_string() };
    }
    // Whoever answers was shown what was signed; whoever reads the condition was not.
    let said = serde_json::from_slice::<Said>(body).map(|said| tidy(said.message.replace(signed, "…").as_bytes()));
    AppError::Refused { message: said.unwrap_or_else(|_| format!("HTTP status {}", status.as_u16())) }
}

/// It asks to come back later; `None`: it does not say when.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) retry_after: Option<Duration>,
}

/// Whether it asks to come back later: <https://docs.github.com/en/rest/using-the-rest-api/rate-limits-for-the-rest-api>.
pub(crate) fn limit(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Option<Limit> {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let wait = header(RETRY_AFTER.as_str()).and_then(parse_wait);
    let may_limit = matches!(status, StatusCode::FORBIDDEN | StatusCode::TOO_MANY_REQUESTS);
    if wait.is_some() && (may_limit || status == StatusCode::SERVICE_UNAVAILABLE) {
        return Some(Limit { retry_after: wait });
    }
    let is_used_up = header("x-ratelimit-remaining") == Some("0");
    let resets_at = header("x-ratelimit-reset").and_then(|at| Timestamp::from_second(at.parse().ok()?).ok());
    let until_then = resets_at.map(|at| Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO));
    let retry_after = match status {
        StatusCode::FORBIDDEN if is_used_up => until_then,
        StatusCode::TOO_MANY_REQUESTS => until_then.filter(|_| is_used_up),
        _ => return None,
    };
    Some(Limit { retry_after })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_api_is_that_of_the_repos_own_host() {
        let of = |url: &str| find(&url.parse().expect("a URL")).map(|api| (api.url.to_string(), api.repository));
        let is = |api: &str, name: &str| Some((api.to_owned(), name.to_owned()));

        assert_eq!(of("https://github.com/acme/apps.git"), is("https://api.github.com/", "apps"));
        assert_eq!(of("https://acme.ghe.com/acme/apps/"), is("https://api.acme.ghe.com/", "apps"));
        assert_eq!(of("https://git.example.org:8443/acme/apps"), is("https://git.example.org:8443/api/v3/", "apps"));
        for none in
            ["http://github.com/acme/apps", "https://github.com/", "https://github.com/a/b/c", "oci://ghcr.io/a/b"]
        {
            assert_eq!(of(none), None, "{none}");
        }
    }

    #[test]
    fn a_limit_is_told_from_a_refusal() {
        let now = Timestamp::from_second(1_000).expect("a time");
        let asked = |status, headers: &[(&'static str, &str)]| {
            let headers = headers
                .iter()
                .map(|(name, value)| ((*name).try_into().expect("a name"), value.parse().expect("a value")));
            limit(status, &headers.collect(), now).map(|limit| limit.retry_after.map(|wait| wait.as_secs()))
        };
        let forbidden = StatusCode::FORBIDDEN;

        assert_eq!(asked(forbidden, &[("retry-after", "60")]), Some(Some(60)));
        assert_eq!(asked(forbidden, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1030")]), Some(Some(30)));
        assert_eq!(asked(forbidden, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "900")]), Some(Some(0)));
        assert_eq!(asked(forbidden, &[("x-ratelimit-remaining", "7"), ("x-ratelimit-reset", "1030")]), None);
        assert_eq!(asked(forbidden, &[]), None);
        assert_eq!(asked(StatusCode::TOO_MANY_REQUESTS, &[]), Some(None));
        assert_eq!(asked(StatusCode::NOT_FOUND, &[("retry-after", "60")]), None);
    }
}
