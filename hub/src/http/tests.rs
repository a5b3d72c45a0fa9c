//! The whole router, without a socket.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use bellwether_core::api::Problem;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::router;
use crate::pki::seal;
use crate::pki::tls::Peer;
use crate::process::clock;
use crate::store::{self, Pool};
use crate::{Hub, testing};

/// Every route under /api/v1, by hand: a route that is missing here fails `every_route_is_listed`.
pub(crate) const ROUTES: &[(&str, &str)] = &[
    ("GET", "/whoami"),
    ("GET", "/tokens"),
    ("POST", "/tokens"),
    ("DELETE", "/tokens/a"),
    ("GET", "/clusters"),
    ("POST", "/clusters"),
    ("GET", "/clusters/a"),
    ("DELETE", "/clusters/a"),
    ("PUT", "/clusters/a/labels"),
    ("POST", "/clusters/a/revoke"),
    ("POST", "/clusters/a/reenroll"),
    ("GET", "/repos"),
    ("GET", "/repos/a"),
    ("PUT", "/repos/a"),
    ("DELETE", "/repos/a"),
    ("PUT", "/repos/a/credential"),
    ("POST", "/repos/a/refresh"),
    ("GET", "/targets"),
    ("GET", "/targets/a"),
    ("PUT", "/targets/a"),
    ("DELETE", "/targets/a"),
    ("POST", "/targets/a/refresh"),
    ("POST", "/targets/a/rollback"),
    ("POST", "/targets/a/release"),
    ("GET", "/rollouts"),
    ("GET", "/rollouts/a"),
    ("POST", "/rollouts/a/intents"),
    ("GET", "/status"),
    ("GET", "/drift"),
    ("GET", "/audit"),
    ("POST", "/audit/verify"),
];

struct Api {
    router: Router,
    hub: Arc<Hub>,
    token: String,
    _folder: tempfile::TempDir,
}

async fn api(pool: &Pool) -> Api {
    let (hub, folder) = testing::hub(pool).await;
    let token = testing::admin_token(&folder);
    Api { router: router(Arc::clone(&hub)), hub, token, _folder: folder }
}

impl Api {
    async fn call(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> (StatusCode, String) {
        let method = Method::from_bytes(method.as_bytes()).expect("is a method");
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let address = "127.0.0.1:1".parse().expect("is an address");
        let request = request.extension(Peer(address)).body(Body::from(body.to_owned())).expect("is a request");
        let response = self.router.clone().oneshot(request).await.expect("the router always answers");
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("the answer is small");
        (status, String::from_utf8_lossy(&bytes).into_owned())
    }

    async fn ask(&self, method: &str, path: &str, body: &str) -> (StatusCode, String) {
        self.call(method, &format!("/api/v1{path}"), Some(&self.token), body).await
    }

    async fn problem(&self, method: &str, path: &str, body: &str) -> (StatusCode, Problem) {
        let (status, text) = self.ask(method, path, body).await;
        (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("not a problem: {text}")))
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn no_route_of_the_api_answers_without_a_token(pool: Pool) {
    let api = api(&pool).await;

    for (method, path) in ROUTES {
        for token in [None, Some("bwt_wrong"), Some("")] {
            let (status, body) = api.call(method, &format!("/api/v1{path}"), token, "{}").await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path}: {body}");
        }
    }
}

#[test]
fn every_route_is_listed() {
    let source = include_str!("mod.rs");
    let nested = source.split("let api = Router::new()").nth(1).and_then(|rest| rest.split(".fallback").next());
    let nested = nested.expect("the API's routes stand together");
    let methods =
        ["get(", "post(", "put(", "delete("].map(|method| nested.matches(method).count()).iter().sum::<usize>();

    assert_eq!(methods, ROUTES.len(), "a route was added or removed: list it in ROUTES");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn an_unknown_field_suggests_the_nearest(pool: Pool) {
    let api = api(&pool).await;

    let body =
        r#"{"apiVersion":"bellwether.dev/v1","kind":"Target","metadata":{"name":"a"},"spec":{"repo":"r","pth":"x"}}"#;
    let (status, problem) = api.problem("PUT", "/targets/a", body).await;

    assert_eq!((status, problem.code.as_str()), (StatusCode::BAD_REQUEST, "unknown_field"));
    assert_eq!(problem.hint.as_deref(), Some("did you mean `path`?"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_repo_that_is_not_there_suggests_the_nearest(pool: Pool) {
    let api = api(&pool).await;
    let repo = r#"{"apiVersion":"bellwether.dev/v1","kind":"Repo","metadata":{"name":"apps"},"spec":{"url":"https://example.org/apps.git"}}"#;
    let (created, body) = api.ask("PUT", "/repos/apps", repo).await;
    assert_eq!(created, StatusCode::CREATED, "{body}");

    let body = r#"{"apiVersion":"bellwether.dev/v1","kind":"Target","metadata":{"name":"a"},"spec":{"repo":"aps"}}"#;
    let (status, problem) = api.problem("PUT", "/targets/a", body).await;

    assert_eq!((status, problem.code.as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "repo_not_found"));
    assert_eq!(problem.hint.as_deref(), Some("did you mean `apps`?"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn bad_input_is_refused_by_name(pool: Pool) {
    let api = api(&pool).await;
    let repo = |url: &str| {
        format!(
            r#"{{"apiVersion":"bellwether.dev/v1","kind":"Repo","metadata":{{"name":"a"}},"spec":{{"url":"{url}"}}}}"#
        )
    };

    for (method, path, body, code) in [
        ("PUT", "/repos/a", repo("ssh://-oProxyCommand=x/"), "repo_url_unsupported"),
        ("PUT", "/repos/A", repo("https://example.org/a"), "name_invalid"),
        ("PUT", "/repos/b", repo("https://example.org/a"), "name_differs"),
        ("PUT", "/repos/a", "{".to_owned(), "body_invalid"),
        ("POST", "/clusters", r#"{"name":"a","labels":{"a b":"c"}}"#.to_owned(), "label_invalid"),
        ("POST", "/clusters", r#"{"name":"a","ttlSeconds":9999999}"#.to_owned(), "ttl_invalid"),
        ("GET", "/clusters?cursor=!", String::new(), "cursor_invalid"),
        ("GET", "/audit?actr=me", String::new(), "query_invalid"),
        ("GET", "/rollouts/none", String::new(), "rollout_not_found"),
        ("GET", "/nothing", String::new(), "no_such_route"),
    ] {
        let (status, problem) = api.problem(method, path, &body).await;
        assert!(status.is_client_error(), "{method} {path}: {status}");
        assert_eq!(problem.code, code, "{method} {path}: {}", problem.detail);
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_cluster_is_registered_once_and_its_token_is_shown_once(pool: Pool) {
    let api = api(&pool).await;

    let (first, registered) = api.ask("POST", "/clusters", r#"{"name":"a","labels":{"ring":"canary"}}"#).await;
    let (second, problem) = api.problem("POST", "/clusters", r#"{"name":"a"}"#).await;
    let (_, shown) = api.ask("GET", "/clusters/a", "").await;

    assert_eq!(first, StatusCode::CREATED);
    assert!(registered.contains("bwj_"), "the answer holds the token");
    assert_eq!((second, problem.code.as_str()), (StatusCode::CONFLICT, "cluster_exists"));
    assert!(!shown.contains("bwj_"), "{shown}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_webhook_with_a_wrong_signature_wakes_nothing(pool: Pool) {
    let api = api(&pool).await;

    let (status, body) = api.call("POST", "/hooks/v1/none", None, "{}").await;

    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(body.contains("signature_invalid"), "{body}");
}

fn repo(url: &str, version: Option<i64>) -> String {
    let metadata = json!({"name": "apps", "version": version});
    json!({"apiVersion": "bellwether.dev/v1", "kind": "Repo", "metadata": metadata, "spec": {"url": url}}).to_string()
}

fn target(spec: &Value) -> String {
    json!({"apiVersion": "bellwether.dev/v1", "kind": "Target", "metadata": {"name": "shop"}, "spec": spec}).to_string()
}

impl Api {
    /// The details of the entries with this action, oldest first, whether they are sealed or on their way.
    async fn audited(&self, action: &str) -> Vec<Value> {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let bodies = store::audit::list_bodies(&mut db).await.expect("the log can be read");
        let entries = bodies.iter().map(|body| serde_json::from_slice::<Value>(body).expect("an entry is JSON"));
        entries.filter(|entry| entry["action"] == action).collect()
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_repo_that_moves_to_another_origin_loses_its_token(pool: Pool) {
    let api = api(&pool).await;
    api.ask("PUT", "/repos/apps", &repo("https://git.example.org/apps.git", None)).await;
    let (given, _) = api.ask("PUT", "/repos/apps/credential", r#"{"token":"hunter2"}"#).await;
    assert_eq!(given, StatusCode::NO_CONTENT);

    let (_, same_origin) = api.ask("PUT", "/repos/apps", &repo("https://git.example.org/other.git", None)).await;
    let (_, moved) = api.ask("PUT", "/repos/apps", &repo("https://evil.example.com/apps.git", None)).await;

    let read = |text: &str| serde_json::from_str::<Value>(text).expect("a document");
    assert_eq!(read(&same_origin)["repo"]["status"]["hasCredential"], true);
    assert_eq!(read(&moved)["repo"]["status"]["hasCredential"], false, "{moved}");
    assert_eq!(read(&moved)["credentialRemoved"], true);
    let entries = api.audited("repo.changed").await;
    assert_eq!(entries[1]["detail"]["before"]["url"], "https://git.example.org/other.git");
    assert_eq!(entries[1]["detail"]["after"]["url"], "https://evil.example.com/apps.git");
    assert_eq!(entries[1]["detail"]["credentialRemoved"], true);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_write_on_top_of_an_older_version_is_refused(pool: Pool) {
    let api = api(&pool).await;
    api.ask("PUT", "/repos/apps", &repo("https://git.example.org/a.git", None)).await;
    let (_, changed) = api.ask("PUT", "/repos/apps", &repo("https://git.example.org/b.git", Some(1))).await;
    let changed: Value = serde_json::from_str(&changed).expect("a document");
    assert_eq!(changed["repo"]["metadata"]["version"], 2);

    for url in ["https://git.example.org/b.git", "https://git.example.org/c.git"] {
        let (status, problem) = api.problem("PUT", "/repos/apps", &repo(url, Some(1))).await;
        assert_eq!((status, problem.code.as_str()), (StatusCode::CONFLICT, "changed_meanwhile"), "{url}");
    }

    api.ask("POST", "/clusters", r#"{"name":"a"}"#).await;
    let (first, _) = api.ask("PUT", "/clusters/a/labels?version=1", r#"{"ring":"canary"}"#).await;
    let (second, problem) = api.problem("PUT", "/clusters/a/labels?version=1", r#"{"ring":"rest"}"#).await;
    assert_eq!(first, StatusCode::OK);
    assert_eq!((second, problem.code.as_str()), (StatusCode::CONFLICT, "changed_meanwhile"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_spec_that_was_read_before_a_deletion_is_not_written_after_it(pool: Pool) {
    let api = api(&pool).await;
    api.ask("PUT", "/repos/apps", &repo("https://git.example.org/a.git", None)).await;
    api.ask("PUT", "/targets/shop", &target(&json!({"repo": "apps"}))).await;
    let mut db = pool.acquire().await.expect("a connection");
    let shop = "shop".parse().expect("is a name");
    let seen = store::targets::find_by_name(&mut db, &shop).await.expect("it is read").expect("it is there");

    let (status, body) = api.ask("DELETE", "/targets/shop?mode=prune", "").await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let written = store::targets::mark_spec(&mut db, &seen, clock::now()).await;

    assert!(matches!(written, Err(store::StoreError::Stale { .. })), "{written:?}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_problem_names_its_cause(pool: Pool) {
    let api = api(&pool).await;
    api.ask("PUT", "/repos/apps", &repo("https://git.example.org/a.git", None)).await;
    api.ask("PUT", "/targets/shop", &target(&json!({"repo": "apps"}))).await;

    let (status, problem) = api.problem("POST", "/targets/shop/rollback", r#"{"reason":"a\u0000b"}"#).await;
    assert_eq!((status, problem.code.as_str()), (StatusCode::BAD_REQUEST, "text_invalid"));
    let long = json!({"reason": "x".repeat(5_000)}).to_string();
    let (status, problem) = api.problem("POST", "/targets/shop/rollback", &long).await;
    assert_eq!((status, problem.code.as_str()), (StatusCode::BAD_REQUEST, "text_invalid"));

    let strange = json!({format!("pa\u{202e}{}", "x".repeat(5_000)): 1}).to_string();
    let (_, problem) = api.problem("PUT", "/targets/shop", &strange).await;
    assert!(problem.detail.len() <= 1_024 && !problem.detail.contains('\u{202e}'), "{problem:?}");

    let mut holder = store::begin(&pool).await.expect("a transaction");
    store::execute_in(&mut holder, "lock table repos in access exclusive mode").await.expect("locked");
    let (status, problem) = api.problem("PUT", "/repos/apps", &repo("https://git.example.org/b.git", None)).await;
    assert_eq!((status, problem.code.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "busy"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn parameter_values_stand_in_no_audit_entry(pool: Pool) {
    let api = api(&pool).await;
    api.ask("PUT", "/repos/apps", &repo("https://git.example.org/a.git", None)).await;
    let values: serde_json::Map<_, _> =
        (0..60).map(|number| (format!("key{number}"), Value::String(format!("hunter2{}", "x".repeat(200))))).collect();
    let spec = json!({"repo": "apps", "path": "apps/shop", "parameters": [{"values": values}]});

    let (status, body) = api.ask("PUT", "/targets/shop", &target(&spec)).await;

    assert_eq!(status, StatusCode::CREATED, "{body}");
    let entries = api.audited("target.added").await;
    let text = entries[0].to_string();
    assert!(!text.contains("hunter2"), "{text}");
    assert_eq!(entries[0]["detail"]["spec"]["path"], "apps/shop", "{text}");
    assert!(text.contains("key59"), "names are told: {text}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn revoking_and_enrolling_again_leave_nothing_of_before(pool: Pool) {
    let api = api(&pool).await;
    let (_, registered) = api.ask("POST", "/clusters", r#"{"name":"a"}"#).await;
    let registered: Value = serde_json::from_str(&registered).expect("a document");
    let token = registered["token"].as_str().expect("a token").to_owned();
    let id = registered["cluster"]["metadata"]["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    let cluster = bellwether_core::ClusterId::new(id);
    let now = clock::now();

    let mut db = api.hub.pool.acquire().await.expect("a connection");
    store::certificates::insert(&mut db, "aa", cluster, now, now + jiff::SignedDuration::from_hours(1), None)
        .await
        .expect("written");
    let (status, _) = api.ask("POST", "/clusters/a/reenroll", "").await;
    assert_eq!(status, StatusCode::CREATED);
    assert!(!store::certificates::mark_used(&mut db, "aa", cluster, now).await.expect("asked"), "it was good still");

    let (status, _) = api.ask("POST", "/clusters/a/revoke", "").await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, _) = api.ask("POST", "/clusters/a/reenroll", "").await;
    assert_eq!(status, StatusCode::CREATED);
    let mut change = store::begin(&pool).await.expect("a transaction");
    let found = store::clusters::lock_enrollment(&mut change, seal::hash_token(&token)).await.expect("asked");
    assert!(found.is_none(), "the earlier join token came back: {found:?}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_token_is_shown_once_reads_as_its_role_says_and_ends_when_revoked(pool: Pool) {
    let api = api(&pool).await;
    let (status, created) = api.ask("POST", "/tokens", r#"{"name":"wallboard","ttlSeconds":600}"#).await;
    assert_eq!(status, StatusCode::CREATED, "{created}");
    let created: Value = serde_json::from_str(&created).expect("a document");
    let viewer = created["secret"].as_str().expect("the token").to_owned();
    let as_viewer = async |method, path| api.call(method, &format!("/api/v1{path}"), Some(&viewer), "{}").await.0;

    assert_eq!(as_viewer("GET", "/clusters").await, StatusCode::OK);
    for (method, path) in ROUTES.iter().filter(|(method, path)| *method != "GET" && *path != "/audit/verify") {
        assert_eq!(as_viewer(method, path).await, StatusCode::FORBIDDEN, "{method} {path}");
    }
    let (_, listed) = api.ask("GET", "/tokens", "").await;
    assert!(!listed.contains(&viewer) && listed.contains("lastUsedAt\":\""), "{listed}");
    assert_eq!(api.ask("DELETE", "/tokens/admin", "").await.0, StatusCode::CONFLICT, "one would be locked out");

    assert_eq!(api.ask("DELETE", "/tokens/wallboard", "").await.0, StatusCode::NO_CONTENT);
    assert_eq!(as_viewer("GET", "/clusters").await, StatusCode::UNAUTHORIZED);
    assert_eq!(api.audited("token.revoked").await.len(), 1);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn readiness_is_asked_of_the_database_once_in_a_while(pool: Pool) {
    let api = api(&pool).await;
    let mut held = Vec::new();
    for _ in 1..store::VITAL_CONNECTIONS_MAX {
        held.push(api.hub.vital.acquire().await.expect("a connection"));
    }
    assert_eq!(api.call("GET", "/readyz", None, "").await.0, StatusCode::OK);
    held.push(api.hub.vital.acquire().await.expect("the last one"));

    let all = async {
        for _ in 0..200 {
            assert_eq!(api.call("GET", "/readyz", None, "").await.0, StatusCode::OK);
        }
    };

    tokio::time::timeout(std::time::Duration::from_millis(900), all).await.expect("nobody waits for a connection");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_webhook_without_the_right_signature_is_read_to_no_end_and_buffered_by_nobody(pool: Pool) {
    let api = api(&pool).await;
    let (_, created) = api.ask("PUT", "/repos/apps", &repo("https://git.example.org/a.git", None)).await;
    let created: Value = serde_json::from_str(&created).expect("a document");
    let secret = created["webhookSecret"].as_str().expect("shown once").to_owned();
    let post = async |path: &str, signature: Option<String>, body: Body| {
        let mut request = Request::builder().method("POST").uri(path);
        if let Some(signature) = signature {
            request = request.header("x-signature", format!("sha256={signature}"));
        }
        let address = "127.0.0.1:1".parse().expect("is an address");
        let request = request.extension(Peer(address)).body(body).expect("is a request");
        api.router.clone().oneshot(request).await.expect("answered").status()
    };
    let never = || Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let sign = |body: &[u8]| {
        let mut hashed = crate::pki::seal::HmacSha256::new(&secret.clone().into());
        hashed.update(body);
        hashed.hex()
    };

    assert_eq!(post("/hooks/v1/apps", None, never()).await, StatusCode::UNAUTHORIZED, "no signature, nothing read");
    let wrong = "0".repeat(64);
    for path in ["/hooks/v1/apps", "/hooks/v1/none"] {
        assert_eq!(post(path, Some(wrong.clone()), Body::from("{}")).await, StatusCode::UNAUTHORIZED, "{path}");
    }
    let large = vec![b'x'; 2 << 20];
    assert_eq!(post("/hooks/v1/apps", Some(sign(&large)), Body::from(large)).await, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(post("/hooks/v1/apps", Some(sign(b"{}")), Body::from("{}")).await, StatusCode::ACCEPTED);
}
