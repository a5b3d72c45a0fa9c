//! The whole router, without a socket.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use bellwether_core::api::Problem;
use tower::ServiceExt as _;

use super::router;
use crate::store::Pool;
use crate::testing;
use crate::tls::Peer;

/// Every route under /api/v1, by hand: a route that is missing here fails `every_route_is_listed`.
const ROUTES: &[(&str, &str)] = &[
    ("GET", "/whoami"),
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
    token: String,
    _folder: tempfile::TempDir,
}

async fn api(pool: &Pool) -> Api {
    let (hub, folder) = testing::hub(pool).await;
    let token = testing::admin_token(&folder);
    Api { router: router(Arc::clone(&hub)), token, _folder: folder }
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
