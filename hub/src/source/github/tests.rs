//! With Postgres, Git behind `git http-backend`, and an https server that speaks GitHub's API as it is documented and lets in
//! whom it gave a token.

use std::fmt::Write as _;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use aws_lc_rs::signature::{RSA_PKCS1_2048_8192_SHA256, UnparsedPublicKey};
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bellwether_core::Condition;
use bellwether_core::repo::CredentialKind;
use jiff::SignedDuration;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;

use super::GithubApp;
use crate::process::clock;
use crate::source::git::upstream::Upstream;
use crate::source::{Source, credential_purpose};
use crate::store::repos::{Credential, Repo};
use crate::store::work::{self, Stage};
use crate::store::{self, Pool};
use crate::work::change::Change;
use crate::worker::stage::Detached as _;
use crate::{Hub, testing};

const HOUR: SignedDuration = SignedDuration::from_hours(1);

/// What it knows and was asked.
struct GitHub {
    public_key: Vec<u8>,
    root: String,
    state: Mutex<Said>,
}

/// Status, headers and body.
type Other = (StatusCode, Vec<(&'static str, String)>, String);

struct Said {
    /// Tokens given; the last is good.
    given: usize,
    good: Option<String>,
    life: SignedDuration,
    /// Of the API, instead of a token.
    answer: Option<Other>,
    /// All that was sent, for what must not be among it.
    heard: String,
}

async fn answer(
    State(github): State<Arc<GitHub>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    {
        let mut said = github.state.lock().expect("no panic");
        let _ = writeln!(said.heard, "{method} {uri} {headers:?} {}", String::from_utf8_lossy(&body));
        if uri.path() == "/api/v3/app/installations/77/access_tokens" {
            let authorization = header("authorization");
            let claims = github.claims(&authorization);
            let asked: Value = serde_json::from_slice(&body).expect("JSON");
            let permissions = asked["permissions"].clone();
            assert!(
                permissions == json!({"contents": "read"}) || permissions == json!({"statuses": "write"}),
                "{asked}"
            );
            assert_eq!(asked, json!({"repositories": ["shop"], "permissions": permissions}));
            let now = clock::now().as_second();
            let (issued, ends) = (claims["iat"].as_i64().expect("a time"), claims["exp"].as_i64().expect("a time"));
            assert!(claims["iss"] == "123456" && issued <= now && now < ends && ends - issued <= 600, "{claims}");
            if let Some((status, headers, text)) = &said.answer {
                let mut response = Response::builder().status(status);
                for (name, value) in headers {
                    response = response.header(*name, value);
                }
                let text = text.replace("SIGNED", authorization.trim_start_matches("Bearer "));
                return response.body(text.into()).expect("a response");
            }
            said.given += 1;
            let token = format!("ghs_{}", said.given);
            said.good = Some(token.clone());
            let answer = json!({"token": token, "expires_at": (clock::now() + said.life).to_string(),
                "permissions": {"contents": "read"}, "repository_selection": "selected"});
            return (StatusCode::CREATED, Json(answer)).into_response();
        }
        let good =
            said.good.as_ref().map(|token| format!("Basic {}", STANDARD.encode(format!("x-access-token:{token}"))));
        if good != Some(header("authorization")) {
            return StatusCode::UNAUTHORIZED.into_response();
        }
    }
    serve_git(&github.root, &method, &uri, &headers, &body).await
}

/// As a web server does it: CGI.
async fn serve_git(root: &str, method: &Method, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let path = uri.path().strip_prefix("/acme").expect("its owner");
    let mut child = tokio::process::Command::new("git")
        .arg("http-backend")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs([("GIT_PROJECT_ROOT", root), ("GIT_HTTP_EXPORT_ALL", "1"), ("PATH_INFO", path)])
        .envs([("GIT_PROTOCOL", header("git-protocol")), ("CONTENT_TYPE", header("content-type"))])
        .envs([("QUERY_STRING", uri.query().unwrap_or_default()), ("REQUEST_METHOD", method.as_str())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git starts");
    child.stdin.take().expect("piped").write_all(body).await.expect("git reads");
    let output = child.wait_with_output().await.expect("git ends").stdout;
    let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("headers");
    let mut response = Response::builder();
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").expect("a header");
        response = if name == "Status" { response.status(&value[..3]) } else { response.header(name, value) };
    }
    response.body(Body::from(output[end + 4..].to_vec())).expect("a response")
}

impl GitHub {
    /// What a token says that the app's key signed.
    fn claims(&self, authorization: &str) -> Value {
        let signed = authorization.strip_prefix("Bearer ").expect("it is signed");
        let (said, signature) = signed.rsplit_once('.').expect("three parts");
        let signature = URL_SAFE_NO_PAD.decode(signature).expect("base64");
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, &self.public_key)
            .verify(said.as_bytes(), &signature)
            .expect("the app's key signed it");
        let (head, claims) = said.split_once('.').expect("two parts");
        let [head, claims] = [head, claims].map(|part| {
            let bytes = URL_SAFE_NO_PAD.decode(part).expect("base64");
            serde_json::from_slice::<Value>(&bytes).expect("JSON")
        });
        assert_eq!(head, json!({"alg": "RS256", "typ": "JWT"}));
        claims
    }
}

async fn serve(github: Arc<GitHub>) -> (String, String) {
    testing::serve_tls(Router::new().fallback(answer).with_state(github)).await
}

struct Scene {
    hub: Arc<Hub>,
    _folder: tempfile::TempDir,
    _upstream: Upstream,
    github: Arc<GitHub>,
    pem: String,
    repo: Repo,
}

impl Scene {
    /// A repo with a commit, and an app that may read it.
    async fn new(pool: &Pool) -> Self {
        let (hub, folder) = testing::hub(pool).await;
        let upstream = Upstream::new();
        upstream.push("main", "One", &[("shop/a.yaml", "a: 1")]);
        let (pem, public_key) = testing::rsa_key();
        let root = upstream.url().replace("file://", "").replace("/shop.git", "");
        let said = Said { given: 0, good: None, life: HOUR, answer: None, heard: String::new() };
        let github = Arc::new(GitHub { public_key, root, state: Mutex::new(said) });
        let (url, ca) = serve(Arc::clone(&github)).await;
        let mut repo = testing::repo(&hub.project, "apps", &format!("{url}/acme/shop.git"));
        repo.spec.ca = Some(ca);
        let mut db = hub.pool.acquire().await.expect("a connection");
        store::repos::insert(&mut db, &repo).await.expect("a new repo");
        drop(db);
        let scene = Self { hub, _folder: folder, _upstream: upstream, github, pem, repo };
        scene.give(CredentialKind::GithubApp).await;
        scene
    }

    /// The app's key, sealed as one, and stored as that or as something else.
    async fn give(&self, kind: CredentialKind) {
        let app = GithubApp::new("123456", 77, &self.pem.clone().into()).expect("a key");
        let (id, spec) = (self.repo.id, &self.repo.spec);
        let purpose = credential_purpose(Some(CredentialKind::GithubApp), id, &spec.url, spec.ca.as_deref());
        let sealed = self.hub.seal.seal(&purpose, app.text().expose_secret().as_bytes());
        let credential = Credential { kind: Some(kind), sealed };
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        store::repos::mark_credential(&mut db, id, &credential, None, clock::now()).await.expect("it is stored");
    }

    fn set(&self, change: impl FnOnce(&mut Said)) {
        change(&mut self.github.state.lock().expect("no panic"));
    }

    /// From now on, to whoever asks for a token.
    fn answer(&self, status: StatusCode, headers: &[(&'static str, String)], text: &str) {
        self.hub.app_tokens.forget(self.repo.id);
        self.set(|said| said.answer = Some((status, headers.to_vec(), text.to_owned())));
    }

    fn given(&self) -> usize {
        self.github.state.lock().expect("no panic").given
    }

    fn heard(&self) -> String {
        std::mem::take(&mut self.github.state.lock().expect("no panic").heard)
    }

    /// Fetches the repo, whatever was before; what is wrong then.
    async fn fetch(&self) -> Option<Condition> {
        let repo = self.repo.id;
        let mut change = Change::begin(&self.hub.pool, &self.hub.signals).await.expect("a transaction");
        store::repos::end_pauses(&mut change, repo).await.expect("they end");
        let trace = clock::new_trace();
        change.tell(Stage::Source, &[repo.as_uuid()], clock::now(), Some(&trace)).await.expect("it is told");
        change.commit().await.expect("it commits");
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let due = work::list_due(&mut db, Stage::Source, clock::now(), &[], 16).await.expect("what is due");
        for due in due {
            Source.reconcile(&self.hub, &due).await.expect("it is reconciled");
        }
        let condition = store::repos::find_fetch_status(&mut db, repo).await.expect("it is read").condition;
        let (told, line) = (format!("{condition:?}"), self.pem.lines().nth(1).expect("the key"));
        assert!(!told.contains("PRIVATE KEY") && !told.contains(line) && !told.contains("ghs_"), "{told}");
        condition
    }

    async fn code(&self) -> Option<String> {
        self.fetch().await.map(|condition| condition.code)
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_github_app_reads_its_repo_with_tokens_that_outlast_a_fetch(pool: Pool) {
    let scene = Scene::new(&pool).await;

    for _ in 0..2 {
        assert_eq!(scene.fetch().await, None);
    }
    assert_eq!(scene.given(), 1, "it is good for an hour");

    // One that ends sooner than a fetch may take would end in the middle of it.
    scene.set(|said| said.life = SignedDuration::from_mins(14));
    scene.hub.app_tokens.forget(scene.repo.id);
    for _ in 0..2 {
        assert_eq!(scene.fetch().await, None);
    }
    assert_eq!(scene.given(), 3);
    scene.set(|said| said.life = SignedDuration::from_mins(16));
    for _ in 0..2 {
        assert_eq!(scene.fetch().await, None);
    }
    assert_eq!(scene.given(), 4);

    let heard = scene.heard();
    let line = scene.pem.lines().nth(1).expect("the key");
    assert!(heard.contains("ghs_") || heard.contains("authorization"), "{heard}");
    assert!(!heard.contains("PRIVATE KEY") && !heard.contains(line), "{heard}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_token_that_was_taken_back_is_asked_for_again_once(pool: Pool) {
    let scene = Scene::new(&pool).await;
    assert_eq!(scene.fetch().await, None);

    scene.set(|said| said.good = None);
    assert_eq!(scene.fetch().await, None);
    assert_eq!(scene.given(), 2);

    // The repo is another's, say: what it gives is good for nothing there.
    let soon = (clock::now() + HOUR).to_string();
    scene.answer(StatusCode::CREATED, &[], &json!({"token": "ghs_other", "expires_at": soon}).to_string());
    let condition = scene.fetch().await.expect("it is refused");
    assert_eq!(condition.code, "github_app_refused");
    assert_eq!(condition.message, "127.0.0.1 refused the token that the GitHub App was just given");
    let heard = scene.heard();
    assert_eq!(heard.matches("/access_tokens").count() - 2, 1, "{heard}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_github_answers_instead_of_a_token_is_told_as_what_it_is(pool: Pool) {
    let scene = Scene::new(&pool).await;
    assert_eq!(scene.fetch().await, None);

    scene.answer(StatusCode::NOT_FOUND, &[], r#"{"message": "Integration not found"}"#);
    let condition = scene.fetch().await.expect("no token is given");
    assert_eq!(condition.code, "github_app_refused");
    assert_eq!(condition.message, "GitHub gives the app no token for this repository: Integration not found");
    assert!(condition.hint.is_some_and(|hint| hint.contains("bellwether credential set")));

    scene.answer(StatusCode::UNAUTHORIZED, &[], r#"{"message": "what is SIGNED \u001b[31m?"}"#);
    let condition = scene.fetch().await.expect("no token is given");
    assert!(condition.message.ends_with(": what is … [31m?"), "{condition:?}");

    let elsewhere = [("location", "https://git.example.com/api/v3/app".to_owned())];
    scene.answer(StatusCode::PERMANENT_REDIRECT, &elsewhere, "");
    let condition = scene.fetch().await.expect("it is followed nowhere");
    assert_eq!(
        (condition.code.as_str(), condition.message.as_str()),
        ("git_redirected", "127.0.0.1 redirects to git.example.com")
    );

    let reset = (clock::now() + HOUR).as_second().to_string();
    scene.answer(
        StatusCode::FORBIDDEN,
        &[("x-ratelimit-remaining", "0".to_owned()), ("x-ratelimit-reset", reset)],
        "{}",
    );
    assert_eq!(scene.code().await.as_deref(), Some("git_limited"));
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let (_, schedule) = store::repos::find_access(&mut db, scene.repo.id).await.expect("it is read");
    let until = schedule.not_before.expect("it is kept");
    assert!(until > clock::now() + SignedDuration::from_mins(50), "{until}");

    for (status, text, code) in [
        (StatusCode::BAD_GATEWAY, "", "git_server_failed"),
        (StatusCode::OK, "<html>", "github_api_not_found"),
        (StatusCode::CREATED, "<html>", "github_api_not_found"),
        (StatusCode::CREATED, r#"{"token": "a\nb", "expires_at": "2099-01-01T00:00:00Z"}"#, "github_api_not_found"),
        (StatusCode::CREATED, &"x".repeat(65 << 10), "github_api_not_found"),
        (StatusCode::FORBIDDEN, "<html>", "github_app_refused"),
    ] {
        scene.answer(status, &[], text);
        assert_eq!(scene.code().await.as_deref(), Some(code), "{status} {text:.40}");
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn an_apps_key_is_sent_to_nobody_by_whoever_takes_it_for_a_token(pool: Pool) {
    let scene = Scene::new(&pool).await;

    // As a hub of an earlier version would, or after somebody changed the row.
    scene.give(CredentialKind::Token).await;

    assert_eq!(scene.code().await.as_deref(), Some("credential_unreadable"));
    assert_eq!(scene.heard(), "");
}
