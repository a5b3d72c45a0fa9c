//! A conversation with the whole router, without a socket.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use bellwether_core::api::Problem;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::router;
use crate::pki::seal;
use crate::ports::Peer;
use crate::store::{self, Pool};
use crate::{Hub, testing};

pub(in crate::http) struct Api {
    pub(in crate::http) router: Router,
    pub(in crate::http) hub: Arc<Hub>,
    pub(in crate::http) token: String,
    _folder: tempfile::TempDir,
}

pub(in crate::http) async fn api(pool: &Pool) -> Api {
    let (hub, folder) = testing::hub(pool).await;
    let token = testing::admin_token(&folder);
    Api { router: router(Arc::clone(&hub)), hub, token, _folder: folder }
}

impl Api {
    pub(in crate::http) async fn call(
        &self,
        method: &str,
        path: &str,
        token: Option<&str>,
        body: &str,
    ) -> (StatusCode, String) {
        self.call_with(&[], method, path, token, body).await
    }

    /// The same, with other headers beside the token's.
    pub(in crate::http) async fn call_with(
        &self,
        headers: &[(&str, &str)],
        method: &str,
        path: &str,
        token: Option<&str>,
        body: &str,
    ) -> (StatusCode, String) {
        let method = Method::from_bytes(method.as_bytes()).expect("is a method");
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
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

    pub(in crate::http) async fn ask(&self, method: &str, path: &str, body: &str) -> (StatusCode, String) {
        self.call(method, &format!("/api/v1{path}"), Some(&self.token), body).await
    }

    /// What a webhook of repo `apps` with a signature by this secret is answered.
    pub(in crate::http) async fn hook(&self, secret: &str, body: &'static [u8]) -> StatusCode {
        let mut signature = seal::HmacSha256::new(secret.as_bytes());
        signature.update(body);
        let request =
            Request::post("/hooks/v1/apps").header("x-signature", format!("sha256={}", hex::encode(signature.bytes())));
        let peer = Peer("127.0.0.1:1".parse().expect("is an address"));
        let request = request.extension(peer).body(Body::from(body)).expect("is a request");
        self.router.clone().oneshot(request).await.expect("the router always answers").status()
    }

    pub(in crate::http) async fn problem(&self, method: &str, path: &str, body: &str) -> (StatusCode, Problem) {
        let (status, text) = self.ask(method, path, body).await;
        (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("not a problem: {text}")))
    }
}

pub(in crate::http) fn repo(url: &str, version: Option<i64>) -> String {
    let metadata = json!({"name": "apps", "version": version});
    json!({"apiVersion": "bellwether.dev/v1", "kind": "Repo", "metadata": metadata, "spec": {"url": url}}).to_string()
}

pub(in crate::http) fn target(spec: &Value) -> String {
    json!({"apiVersion": "bellwether.dev/v1", "kind": "Target", "metadata": {"name": "shop"}, "spec": spec}).to_string()
}

impl Api {
    /// The details of the entries with this action, oldest first, whether they are sealed or on their way.
    pub(in crate::http) async fn audited(&self, action: &str) -> Vec<Value> {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let bodies = store::audit::list_bodies(&mut db).await.expect("the log can be read");
        let entries = bodies.iter().map(|body| serde_json::from_slice::<Value>(body).expect("an entry is JSON"));
        entries.filter(|entry| entry["action"] == action).collect()
    }
}
