//! How each host is told the status of a commit:
//! <https://docs.github.com/en/rest/commits/statuses>, <https://docs.gitlab.com/api/commits/#set-the-pipeline-status-of-a-commit>,
//! <https://gitea.com/api/swagger#/repository/repoCreateStatus>.

use std::time::Duration;

use bellwether_core::commit_status::CommitState;
use bellwether_core::repo::GitHost;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, USER_AGENT};
use reqwest::{StatusCode, redirect};
use secrecy::{ExposeSecret as _, SecretString};
use serde_json::{Value, json};
use url::Url;

use crate::egress::Failure;
use crate::process::clock;
use crate::source::RepoError;
use crate::source::git::{FetchError, Remote, RepoUrl, tidy};
use crate::source::github::{Limit, limit, root};
use crate::store::commit_statuses::Told;

/// It looks up a repository and writes a row.
pub(super) const DEADLINE: Duration = Duration::from_secs(20);

/// Of an answer so much is read, for what it says of an error.
const ANSWER_BYTES_MAX: usize = 64 << 10;

/// Why a host was not told.
#[derive(Debug, thiserror::Error)]
pub(super) enum TellError {
    /// The way to it, or what it lets the hub in with.
    #[error(transparent)]
    Way(#[from] RepoError),
    #[error("the repo's URL names no repository of such a host")]
    NoApi,
    #[error("the repo has no token that its host could be told with")]
    NoToken,
    #[error("{host} did not take the status of a commit (HTTP status {status}){said}")]
    Refused { host: String, status: u16, said: String },
}

impl From<FetchError> for TellError {
    fn from(error: FetchError) -> Self {
        Self::Way(error.into())
    }
}

/// Whose fault it is that a host was not told.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Blame {
    /// It is away, or wants to be left alone, for so long if it says so.
    Host(Option<Duration>),
    /// All that is told with it fails.
    Token,
    /// Others may be taken.
    Commit,
}

impl TellError {
    pub(super) fn blame(&self) -> Blame {
        match self {
            Self::Way(RepoError::Fetch(_)) => Blame::Host(self.retry_after()),
            Self::Refused { status: 401 | 403, .. } | Self::Way(_) | Self::NoToken | Self::NoApi => Blame::Token,
            Self::Refused { .. } => Blame::Commit,
        }
    }

    /// It was sent, and no answer says what came of it.
    pub(super) fn may_have_been_taken(&self) -> bool {
        matches!(self, Self::Way(RepoError::Fetch(FetchError::Unreachable { .. } | FetchError::ServerFailed { .. })))
    }

    fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Way(error) => error.retry_after(),
            Self::NoApi | Self::NoToken | Self::Refused { .. } => None,
        }
    }
}

/// Whether a host that was told one thing need not be told the other. GitLab has no way from `running` to `running`.
pub(super) fn knows(host: GitHost, told: &Told, wanted: &Told) -> bool {
    let is_pending = |told: &Told| told.status.state == CommitState::Pending;
    told == wanted
        || host == GitHost::Gitlab && told.context == wanted.context && is_pending(told) && is_pending(wanted)
}

/// Whether a repo is at a host that may have such an API.
pub(crate) fn has_api(url: &RepoUrl, chart: Option<&str>) -> bool {
    matches!(url, RepoUrl::Plain(url) if url.scheme() == "https" && chart.is_none()) && !url.is_registry()
}

/// What is sent where.
#[derive(Debug, PartialEq)]
struct Request {
    url: Url,
    authorization: String,
    body: Value,
}

/// `None`: the URL names no repository of such a host.
fn request(
    repo: &Url,
    host: GitHost,
    token: &str,
    (commit, pipeline): (&str, Option<i64>),
    told: &Told,
) -> Option<Request> {
    let name = repo.host_str()?;
    let path = repo.path().trim_matches('/');
    let path = path.strip_suffix(".git").unwrap_or(path);
    let (owner, repository) = path.rsplit_once('/')?;
    let port = repo.port().map(|port| format!(":{port}")).unwrap_or_default();
    let here = format!("https://{name}{port}");
    let (state, description, context) = (told.status.state, &told.status.description, &told.context);
    // GitHub's and Gitea's repositories have one owner, GitLab's a path of groups.
    if host != GitHost::Gitlab && owner.contains('/') {
        return None;
    }
    let (url, scheme, body) = match host {
        GitHost::Github => (
            format!("{}repos/{owner}/{repository}/statuses/{commit}", root(name, repo.port())),
            "Bearer",
            json!({"state": github(state), "description": description, "context": context}),
        ),
        GitHost::Gitlab => {
            let project = utf8_percent_encode(path, NON_ALPHANUMERIC);
            let mut body = json!({"state": gitlab(state), "description": description, "name": context});
            // Another one may have begun since, in which what was told first would go on for ever.
            if let Some(pipeline) = pipeline {
                body["pipeline_id"] = pipeline.into();
            }
            (format!("{here}/api/v4/projects/{project}/statuses/{commit}"), "Bearer", body)
        }
        GitHost::Gitea => (
            format!("{here}/api/v1/repos/{owner}/{repository}/statuses/{commit}"),
            "token",
            json!({"state": github(state), "description": description, "context": context}),
        ),
    };
    Some(Request { url: url.parse().ok()?, authorization: format!("{scheme} {token}"), body })
}

/// Gitea's words too.
const fn github(state: CommitState) -> &'static str {
    match state {
        CommitState::Pending => "pending",
        CommitState::Success => "success",
        CommitState::Failure => "failure",
        CommitState::Cancelled => "error",
    }
}

const fn gitlab(state: CommitState) -> &'static str {
    match state {
        CommitState::Pending => "running",
        CommitState::Success => "success",
        CommitState::Failure => "failed",
        CommitState::Cancelled => "canceled",
    }
}

/// Tells the repo's own host; follows it nowhere, and trusts what the repo trusts. Says which of GitLab's pipelines has it.
pub(super) async fn tell(
    remote: &Remote,
    host: GitHost,
    commit: (&str, Option<i64>),
    told: &Told,
) -> Result<Option<i64>, TellError> {
    let RepoUrl::Plain(repo) = &remote.url else { return Err(TellError::NoApi) };
    let Some(token) = &remote.credential else { return Err(TellError::NoToken) };
    let request = request(repo, host, token.expose_secret(), commit, told).ok_or(TellError::NoApi)?;
    let name = request.url.host_str().unwrap_or_default().to_owned();
    let failed = |failure| TellError::from(FetchError::of_egress(name.clone(), failure));
    let client = remote.destination(&name, remote.url.is_loopback()).build_client(redirect::Policy::none());
    let mut authorization = HeaderValue::try_from(request.authorization).map_err(|_| TellError::NoToken)?;
    authorization.set_sensitive(true);
    let sent = client
        .map_err(failed)?
        .post(request.url)
        .timeout(DEADLINE)
        .header(AUTHORIZATION, authorization)
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, "bellwether")
        .json(&request.body);
    let failed = |error| failed(Failure::of(error));
    let mut response = sent.send().await.map_err(failed)?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = Vec::new();
    while let Some(part) = response.chunk().await.map_err(failed)? {
        body.extend_from_slice(&part[..part.len().min(ANSWER_BYTES_MAX - body.len())]);
        if body.len() == ANSWER_BYTES_MAX {
            break;
        }
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    if status.is_success() {
        return Ok(body["pipeline_id"].as_i64());
    }
    let said = said(&body, token);
    // GitLab says so of what it was told by another hub, or before an answer was lost.
    let is_known = status == StatusCode::BAD_REQUEST && said.starts_with("Cannot transition status");
    if is_known && told.status.state == CommitState::Pending {
        return Ok(None);
    }
    Err(refused(name, status, &headers, said))
}

/// In an error's words, without what it was sent.
fn said(body: &Value, token: &SecretString) -> String {
    let text = |value: &Value| match value {
        Value::Null => None,
        Value::String(text) => Some(text.clone()),
        other => Some(other.to_string()),
    };
    // GitHub's message names the kind of fault, and its errors the fault.
    let causes = body["errors"].as_array().into_iter().flatten().filter_map(|error| text(&error["message"]));
    let words = text(&body["message"]).or_else(|| text(&body["error"])).into_iter().chain(causes);
    tidy(words.collect::<Vec<_>>().join(": ").replace(token.expose_secret(), "…").as_bytes())
}

fn refused(host: String, status: StatusCode, headers: &HeaderMap, said: String) -> TellError {
    let is_secondary = status == StatusCode::FORBIDDEN && said.contains("rate limit");
    if let Some(Limit { retry_after }) = limit(status, headers, clock::now()) {
        return FetchError::Limited { host, retry_after }.into();
    }
    if is_secondary || status == StatusCode::TOO_MANY_REQUESTS {
        return FetchError::Limited { host, retry_after: None }.into();
    }
    if status.is_server_error() {
        return FetchError::ServerFailed { host, status: status.as_u16() }.into();
    }
    let said = if said.is_empty() { said } else { format!(": {said}") };
    TellError::Refused { host, status: status.as_u16(), said }
}

#[cfg(test)]
mod tests {
    use bellwether_core::commit_status::CommitStatus;

    use super::*;

    fn of(repo: &str, host: GitHost) -> Option<Request> {
        let status = CommitStatus { state: CommitState::Cancelled, description: "superseded".to_owned() };
        let told = Told { context: "bellwether/web".to_owned(), status };
        request(&repo.parse().expect("a URL"), host, "T", ("abc", Some(7)), &told)
    }

    #[test]
    fn each_host_is_told_at_its_own_address_in_its_own_words() {
        let place = |repo: &str, host| of(repo, host).map(|request| request.url.to_string());

        let github = "https://api.github.com/repos/acme/shop/statuses/abc";
        assert_eq!(place("https://github.com/acme/shop.git", GitHost::Github).as_deref(), Some(github));
        let enterprise = "https://git.example.com:8443/api/v3/repos/acme/shop/statuses/abc";
        assert_eq!(place("https://git.example.com:8443/acme/shop", GitHost::Github).as_deref(), Some(enterprise));
        let gitlab = "https://gitlab.com/api/v4/projects/acme%2Fweb%2Fshop/statuses/abc";
        assert_eq!(place("https://gitlab.com/acme/web/shop.git", GitHost::Gitlab).as_deref(), Some(gitlab));
        let gitea = "https://codeberg.org/api/v1/repos/acme/shop/statuses/abc";
        assert_eq!(place("https://codeberg.org/acme/shop/", GitHost::Gitea).as_deref(), Some(gitea));
        assert_eq!(place("https://github.com/acme/web/shop", GitHost::Github), None);
        assert_eq!(place("https://github.com/shop", GitHost::Github), None);

        let words = |host| {
            let Request { authorization, body, .. } = of("https://h.example/a/b", host).expect("a request");
            (authorization, body)
        };
        let told =
            |state: &str, name: &str| json!({"state": state, "description": "superseded", name: "bellwether/web"});
        assert_eq!(words(GitHost::Github), ("Bearer T".to_owned(), told("error", "context")));
        let mut of_gitlab = told("canceled", "name");
        of_gitlab["pipeline_id"] = 7.into();
        assert_eq!(words(GitHost::Gitlab), ("Bearer T".to_owned(), of_gitlab));
        assert_eq!(words(GitHost::Gitea), ("token T".to_owned(), told("error", "context")));
    }

    #[test]
    fn what_a_host_says_of_an_error_is_told_without_the_token() {
        let token = SecretString::from("s3cret");
        let text = |body: &str| said(&serde_json::from_str(body).expect("JSON"), &token);

        assert_eq!(text(r#"{"message": "token s3cret is bad"}"#), "token … is bad");
        assert_eq!(text(r#"{"error": "insufficient_scope"}"#), "insufficient_scope");
        let errors = r#"{"message": "Validation Failed", "errors": [{"message": "No commit found"}]}"#;
        assert_eq!(text(errors), "Validation Failed: No commit found");
        assert_eq!(text("{}"), "");
    }

    #[test]
    fn who_is_to_be_left_alone_is_known_by_what_it_answers() {
        let blame = |status: u16, name: &'static str, value: &'static str, text: &str| {
            let headers = [(name.parse().expect("a name"), HeaderValue::from_static(value))].into_iter().collect();
            refused("h".to_owned(), StatusCode::from_u16(status).expect("a status"), &headers, text.to_owned()).blame()
        };

        assert_eq!(blame(429, "retry-after", "600", ""), Blame::Host(Some(Duration::from_mins(10))));
        assert_eq!(blame(403, "x-other", "1", "You have exceeded a secondary rate limit"), Blame::Host(None));
        assert_eq!(blame(502, "x-other", "1", ""), Blame::Host(None));
        assert_eq!(blame(403, "x-other", "1", "Resource not accessible"), Blame::Token);
        assert_eq!(blame(401, "x-other", "1", ""), Blame::Token);
        assert_eq!(blame(422, "x-other", "1", "No commit found"), Blame::Commit);
    }
}
