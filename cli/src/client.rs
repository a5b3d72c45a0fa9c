//! How the hub is asked: one request at a time, over TLS, with a token and a deadline.
//!
//! Trusts only the given CA. Never follows a redirect, so the token goes nowhere but to the given host. What comes back
//! is kept as it came beside what this program reads of it, so that `-o json` loses no field. What goes wrong becomes a
//! [`Failure`] that says which address was asked and what to do.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use bellwether_core::Name;
use bellwether_core::api::{List, Problem};
use reqwest::header::{AUTHORIZATION, HeaderMap, HeaderValue};
use reqwest::{Certificate, Method, StatusCode, redirect};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use crate::args::{Connection, is_loopback, parse_url};
use crate::failure::Failure;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
const TIMEOUT: Duration = Duration::from_secs(30);
/// Of the requests that read the whole audit log: a million entries are hashed in a few seconds, and disks are slow. And of those
/// that have something fetched and rendered for a fleet.
const LONG_TIMEOUT: Duration = Duration::from_mins(10);
/// Pages of one list; a hub that hands out cursors without end must not keep this program for ever.
pub(crate) const PAGES_MAX: usize = 1_000;
/// The hub gives no more in one.
const PAGE_MAX: usize = 1_000;
/// Of an answer that is not ours, as far as it is shown.
const FOREIGN_CHARS_MAX: usize = 200;

#[derive(Debug)]
pub(crate) struct Client {
    http: reqwest::Client,
    base: Url,
}

/// An answer as it came, and what is read of it.
#[derive(Debug, Clone)]
pub(crate) struct Answer<T> {
    pub(crate) json: Value,
    pub(crate) document: T,
}

impl<T> Answer<T> {
    /// Puts the rest of a list, which another page has, behind what is here of it. Lists are named by JSON pointers.
    pub(crate) fn append(&mut self, list: &str, page: &Value, list_there: &str) {
        let more = page.pointer(list_there).and_then(Value::as_array).cloned().unwrap_or_default();
        if let Some(all) = self.json.pointer_mut(list).and_then(Value::as_array_mut) {
            all.extend(more);
        }
    }
}

/// Where in the API, below `/api/v1`.
#[derive(Debug, Clone)]
pub(crate) struct Route {
    segments: Vec<String>,
    query: Vec<(&'static str, String)>,
}

impl Route {
    pub(crate) fn new<'a>(segments: impl IntoIterator<Item = &'a str>) -> Self {
        Self { segments: segments.into_iter().map(str::to_owned).collect(), query: Vec::new() }
    }

    /// `/KIND/NAME`.
    pub(crate) fn named(kind: &str, name: &Name) -> Self {
        Self::new([kind, name.as_str()])
    }

    pub(crate) fn then(mut self, segment: &str) -> Self {
        self.segments.push(segment.to_owned());
        self
    }

    pub(crate) fn with(mut self, key: &'static str, value: impl Into<String>) -> Self {
        self.query.push((key, value.into()));
        self
    }

    pub(crate) fn maybe_with(self, key: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.with(key, value.to_string()),
            None => self,
        }
    }

    fn url(&self, base: &Url) -> Url {
        let mut url = base.clone();
        url.set_query(None);
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "v1"]).extend(&self.segments);
        }
        if !self.query.is_empty() {
            url.query_pairs_mut().extend_pairs(&self.query);
        }
        url
    }
}

/// Why there is no answer, told apart by what a loop may do about it.
#[derive(Debug)]
pub(crate) enum RequestError {
    /// No answer, or one that says that the hub is not itself just now: the same request may succeed later.
    Unavailable(Failure),
    NotFound(Failure),
    Refused(Failure),
}

impl From<RequestError> for anyhow::Error {
    fn from(error: RequestError) -> Self {
        error.into_failure().into()
    }
}

impl RequestError {
    pub(crate) fn into_failure(self) -> Failure {
        match self {
            Self::Unavailable(failure) | Self::NotFound(failure) | Self::Refused(failure) => failure,
        }
    }
}

type Answered<T> = Result<Answer<T>, RequestError>;

impl Client {
    /// Reads what the flags and the environment say; nothing is sent yet.
    pub(crate) fn new(connection: &Connection) -> anyhow::Result<Self> {
        let variable = |name: &str| std::env::var(name).ok();
        let base = find_url(connection, variable)?;
        let token = find_token(connection, variable)?;
        let ca = connection.ca.clone().or_else(|| non_empty(variable("BELLWETHER_CA")).map(PathBuf::from));
        Self::with_token(base, &token, ca.as_deref())
    }

    fn with_token(base: Url, token: &str, ca: Option<&Path>) -> anyhow::Result<Self> {
        let mut builder = reqwest::Client::builder()
            .user_agent(concat!("bellwether/", env!("CARGO_PKG_VERSION")))
            .default_headers(HeaderMap::from_iter([(AUTHORIZATION, bearer(token)?)]))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .redirect(redirect::Policy::none());
        if let Some(ca) = ca {
            builder = builder.tls_certs_only(read_certificates(ca)?);
        }
        if is_loopback(&base) {
            // A proxy could not reach this machine's own hub.
            builder = builder.no_proxy();
        }
        let http = builder.build().context("cannot set up TLS")?;
        Ok(Self { http, base })
    }

    /// Where the hub hears something that is no request to its API; as this program reaches it, which a Git host may not.
    pub(crate) fn url_of(&self, path: &str) -> String {
        format!("{}{path}", self.base.as_str().trim_end_matches('/'))
    }

    pub(crate) async fn fetch<T: DeserializeOwned>(&self, route: &Route) -> Answered<T> {
        self.ask(Method::GET, route, None).await
    }

    /// The pages of a list as one, up to `limit` items. `next` is what the last page said: where the items end.
    pub(crate) async fn fetch_list<T: DeserializeOwned>(&self, route: &Route, limit: usize) -> Answered<List<T>> {
        self.fetch_list_from(route, None, limit).await
    }

    /// The same, from where another answer's `next` says.
    pub(crate) async fn fetch_list_from<T: DeserializeOwned>(
        &self,
        route: &Route,
        mut next: Option<String>,
        limit: usize,
    ) -> Answered<List<T>> {
        let mut items = Vec::new();
        let mut raw = Vec::new();
        for _ in 0..PAGES_MAX {
            let left = limit.saturating_sub(items.len()).min(PAGE_MAX);
            let page = route.clone().with("limit", left.to_string()).maybe_with("cursor", next.take());
            let page: Answer<List<T>> = self.fetch(&page).await?;
            items.extend(page.document.items);
            raw.extend(page.json.get("items").and_then(Value::as_array).cloned().unwrap_or_default());
            next = page.document.next;
            if next.is_none() || items.len() >= limit {
                return Ok(Answer { json: json!({"items": raw, "next": next}), document: List { items, next } });
            }
        }
        Err(endless(route))
    }

    pub(crate) async fn put<T: DeserializeOwned>(&self, route: &Route, body: &impl Serialize) -> Answered<T> {
        self.ask(Method::PUT, route, Some(to_json(body))).await
    }

    pub(crate) async fn post<T: DeserializeOwned>(&self, route: &Route, body: &impl Serialize) -> Answered<T> {
        self.ask(Method::POST, route, Some(to_json(body))).await
    }

    pub(crate) async fn delete(&self, route: &Route) -> Answered<Value> {
        self.ask(Method::DELETE, route, None).await
    }

    async fn ask<T: DeserializeOwned>(&self, method: Method, route: &Route, body: Option<Value>) -> Answered<T> {
        let url = route.url(&self.base);
        let id = Uuid::now_v7();
        let is_long = |segment: &String| segment == "audit" || segment == "plan";
        let takes_long = route.segments.first().into_iter().chain(route.segments.get(2)).any(is_long);
        let timeout = if takes_long { LONG_TIMEOUT } else { TIMEOUT };
        let mut request =
            self.http.request(method, url.clone()).timeout(timeout).header("x-request-id", id.to_string());
        if let Some(body) = body {
            request = request.json(&body);
        }
        let unreachable = |error: &reqwest::Error| RequestError::Unavailable(self.unreachable(error));
        let response = request.send().await.map_err(|error| unreachable(&error))?;
        let status = response.status();
        let bytes = response.bytes().await.map_err(|error| unreachable(&error))?;
        if !status.is_success() {
            return Err(refusal(&url, status, id, &bytes));
        }
        read_answer(&url, &bytes).map_err(RequestError::Refused)
    }

    /// Why no answer came, in the words of its first cause.
    fn unreachable(&self, error: &reqwest::Error) -> Failure {
        let base = &self.base;
        if error.is_timeout() {
            return Failure::new(format!("{base} did not answer in time"))
                .hint("is the hub running there, and can this machine reach it? check BELLWETHER_URL");
        }
        let cause = first_cause(error).to_string();
        // rustls' errors come wrapped several times, so their text is what can be asked.
        if cause.contains("not valid for name") {
            return Failure::new(format!("{base} has a certificate for other names: {cause}"))
                .hint("give the hub's address as its certificate names it, in BELLWETHER_URL or --url");
        }
        if cause.contains("certificate") {
            return Failure::new(format!("{base} has a certificate that is not trusted: {cause}"))
                .hint("set BELLWETHER_CA to a file with the CA certificate of this hub, or give --ca");
        }
        Failure::new(format!("cannot reach {base}: {cause}"))
            .hint("is the hub running there? check BELLWETHER_URL, or give --url")
    }
}

/// A list that goes on after as many pages as are asked for is not shown as if it were whole.
pub(crate) fn endless(route: &Route) -> RequestError {
    let what = route.segments.join("/");
    RequestError::Refused(Failure::new(format!("`{what}` has more than {PAGES_MAX} pages")))
}

fn first_cause(error: &reqwest::Error) -> &dyn std::error::Error {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause
}

fn to_json(body: &impl Serialize) -> Value {
    serde_json::to_value(body).expect("our documents have only text keys")
}

fn bearer(token: &str) -> anyhow::Result<HeaderValue> {
    let refuse =
        |_| Failure::usage("the token has characters that no token has").hint("is BELLWETHER_TOKEN a whole token?");
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).map_err(refuse)?;
    // Keeps it out of debug output.
    value.set_sensitive(true);
    Ok(value)
}

fn read_certificates(path: &Path) -> anyhow::Result<Vec<Certificate>> {
    let hint = "BELLWETHER_CA or --ca names a file with certificates in PEM";
    let pem = std::fs::read(path)
        .map_err(|error| Failure::new(format!("cannot read the CA file {}: {error}", path.display())).hint(hint))?;
    let certificates = Certificate::from_pem_bundle(&pem).unwrap_or_default();
    if certificates.is_empty() {
        return Err(Failure::new(format!("{} holds no certificate", path.display())).hint(hint).into());
    }
    Ok(certificates)
}

/// CI systems say that a variable is not set by an empty one.
fn non_empty(value: Option<String>) -> Option<String> {
    value.filter(|value| !value.is_empty())
}

fn find_url(connection: &Connection, variable: impl Fn(&str) -> Option<String>) -> Result<Url, Failure> {
    if let Some(url) = &connection.url {
        return Ok(url.clone());
    }
    let hint = "set BELLWETHER_URL, or give --url https://HOST:PORT";
    let text = non_empty(variable("BELLWETHER_URL")).ok_or_else(|| Failure::usage("no hub is named").hint(hint))?;
    parse_url(&text).map_err(|error| Failure::usage(format!("BELLWETHER_URL: {error}")).hint(hint))
}

/// Flags come before the environment, and a token before a file that holds one.
fn find_token(connection: &Connection, variable: impl Fn(&str) -> Option<String>) -> Result<String, Failure> {
    let variable = |name: &str| non_empty(variable(name));
    let from_file = |path: PathBuf| {
        std::fs::read_to_string(&path)
            .map(|text| text.trim().to_owned())
            .map_err(|error| Failure::new(format!("cannot read the token file {}: {error}", path.display())))
    };
    if let Some(token) = &connection.token {
        return Ok(token.trim().to_owned());
    }
    if let Some(path) = &connection.token_file {
        return from_file(path.clone());
    }
    if let Some(token) = variable("BELLWETHER_TOKEN") {
        return Ok(token.trim().to_owned());
    }
    if let Some(path) = variable("BELLWETHER_TOKEN_FILE") {
        return from_file(path.into());
    }
    Err(Failure::usage("no API token is given")
        .hint("set BELLWETHER_TOKEN; the hub writes its first token to `admin-token` in its data folder"))
}

/// What a status other than success means.
fn refusal(url: &Url, status: StatusCode, id: Uuid, body: &[u8]) -> RequestError {
    let problem: Option<Problem> = serde_json::from_slice(body).ok();
    let mut message = match &problem {
        Some(problem) if problem.detail.is_empty() => problem.title.clone(),
        Some(problem) => problem.detail.clone(),
        None => format!("{url} answered {status}{}", foreign_text(body)),
    };
    let hint = problem.and_then(|problem| problem.hint);
    if status.is_server_error() {
        message = format!("{message} (request {id})");
        let failure = Failure::new(message).hint("the hub's log says more under this request's id").maybe_hint(hint);
        return RequestError::Unavailable(failure);
    }
    let failure = Failure::new(message).maybe_hint(hint);
    match status {
        StatusCode::UNAUTHORIZED => RequestError::Refused(
            failure.hint("is BELLWETHER_TOKEN (or --token) a token of this hub that has not expired?"),
        ),
        StatusCode::NOT_FOUND => RequestError::NotFound(failure),
        StatusCode::TOO_MANY_REQUESTS => RequestError::Unavailable(failure),
        _ => RequestError::Refused(failure),
    }
}

/// What somebody else than the hub said, for a person to recognise who it was.
fn foreign_text(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let text: String = text.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(FOREIGN_CHARS_MAX).collect();
    if text.is_empty() { text } else { format!(": {text}") }
}

fn read_answer<T: DeserializeOwned>(url: &Url, bytes: &[u8]) -> Result<Answer<T>, Failure> {
    // Requests that are only accepted are answered with nothing.
    let bytes = if bytes.is_empty() { b"null" } else { bytes };
    let unreadable = |error: serde_json::Error| {
        Failure::new(format!("cannot read what {url} answered: {error}"))
            .hint("is that the API of a hub, and of the same version as this program (`bellwether version`)?")
    };
    let json: Value = serde_json::from_slice(bytes).map_err(unreadable)?;
    let document = serde_json::from_value(json.clone()).map_err(unreadable)?;
    Ok(Answer { json, document })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;
    use std::thread::JoinHandle;

    use super::*;

    fn connection(token: Option<&str>, token_file: Option<PathBuf>) -> Connection {
        Connection { url: None, token: token.map(str::to_owned), token_file, ca: None }
    }

    /// Answers each of these in turn, one connection each, and hands back what was asked.
    pub(crate) fn hub(answers: Vec<(u16, &'static str)>) -> (Client, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let base = format!("http://{}/", listener.local_addr().expect("an address")).parse().expect("a URL");
        let served = std::thread::spawn(move || {
            answers
                .into_iter()
                .map(|(status, body)| {
                    let (mut stream, _) = listener.accept().expect("a connection");
                    let mut request = vec![0; 64 * 1024];
                    let length = stream.read(&mut request).expect("a request");
                    let head =
                        format!("HTTP/1.1 {status} X\r\nconnection: close\r\ncontent-length: {}\r\n\r\n", body.len());
                    stream.write_all(format!("{head}{body}").as_bytes()).expect("an answer");
                    String::from_utf8_lossy(&request[..length]).into_owned()
                })
                .collect()
        });
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        (Client::with_token(base, "secret", None).expect("a client"), served)
    }

    fn shown(error: RequestError) -> String {
        format!("{:?}", error.into_failure())
    }

    #[tokio::test]
    async fn a_problem_is_told_in_the_hubs_words_with_its_hint() {
        let problem = r#"{"type":"about:blank","title":"Not Found","status":404,"detail":"there is no target `shp`","code":"target_not_found","hint":"did you mean `shop`?"}"#;
        let (client, served) = hub(vec![(404, problem)]);

        let error = client.fetch::<Value>(&Route::new(["targets", "shp"])).await.expect_err("a problem");

        assert!(matches!(error, RequestError::NotFound(_)));
        let text = shown(error);
        assert!(text.contains("there is no target `shp`") && text.contains("did you mean `shop`?"), "{text}");
        let request = served.join().expect("served").remove(0).to_lowercase();
        assert!(request.starts_with("get /api/v1/targets/shp http/1.1"), "{request}");
        assert!(request.contains("authorization: bearer secret") && request.contains("x-request-id: "), "{request}");
    }

    #[tokio::test]
    async fn an_answer_from_somebody_else_names_the_address_and_the_request() {
        let (client, served) = hub(vec![(502, "<html>bad\n gateway</html>")]);

        let error = client.fetch::<Value>(&Route::new(["status"])).await.expect_err("a problem");

        assert!(matches!(error, RequestError::Unavailable(_)));
        let text = shown(error);
        assert!(text.contains("/api/v1/status answered 502") && text.contains("<html>bad gateway</html>"), "{text}");
        assert!(text.contains("(request 0"), "{text}");
        served.join().expect("served");
    }

    #[tokio::test]
    async fn a_refused_token_says_which_variable_to_look_at() {
        let (client, served) = hub(vec![(401, "")]);

        let error = client.fetch::<Value>(&Route::new(["whoami"])).await.expect_err("a problem");

        assert!(shown(error).contains("BELLWETHER_TOKEN"));
        served.join().expect("served");
    }

    #[tokio::test]
    async fn a_hub_that_is_not_there_is_named() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        drop(listener);
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let base = format!("http://{address}/").parse().expect("a URL");
        let client = Client::with_token(base, "secret", None).expect("a client");

        let error = client.fetch::<Value>(&Route::new(["whoami"])).await.expect_err("nobody there");

        let text = shown(error);
        assert!(text.contains(&format!("cannot reach http://{address}/: Connection refused")), "{text}");
        assert!(text.contains("BELLWETHER_URL"), "{text}");
    }

    #[tokio::test]
    async fn pages_become_one_list_with_every_field_that_came() {
        let first = r#"{"items":[{"name":"a","new":1}],"next":"x y"}"#;
        let second = r#"{"items":[{"name":"b"}],"next":"z"}"#;
        let (client, served) = hub(vec![(200, first), (200, second)]);

        let list: Answer<List<Value>> =
            client.fetch_list(&Route::new(["clusters"]).with("label", "k=v"), 2).await.expect("a list");

        assert_eq!(list.json, json!({"items": [{"name": "a", "new": 1}, {"name": "b"}], "next": "z"}));
        assert_eq!(list.document.items.len(), 2);
        let requests = served.join().expect("served");
        assert!(requests[0].starts_with("GET /api/v1/clusters?label=k%3Dv&limit=2 HTTP"), "{}", requests[0]);
        assert!(requests[1].starts_with("GET /api/v1/clusters?label=k%3Dv&limit=1&cursor=x+y HTTP"), "{}", requests[1]);
    }

    #[test]
    fn flags_come_before_the_environment() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("token");
        std::fs::write(&file, "from-file\n").expect("a file");
        let none = |_: &str| None;
        let env = |name: &str| (name == "BELLWETHER_TOKEN").then(|| "from-env".to_owned());

        assert_eq!(find_token(&connection(Some("flag"), Some(file.clone())), env).expect("a token"), "flag");
        assert_eq!(find_token(&connection(None, Some(file)), env).expect("a token"), "from-file");
        assert_eq!(find_token(&connection(None, None), env).expect("a token"), "from-env");
        assert!(format!("{:?}", find_token(&connection(None, None), none)).contains("BELLWETHER_TOKEN"));
    }
}
