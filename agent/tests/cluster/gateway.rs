//! A way to the API server that refuses what it is told to, and counts.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

type Answer = Response<UnsyncBoxBody<Bytes, kube::Error>>;

/// Ends when it is dropped, and every connection over it.
pub(crate) struct Gateway {
    address: SocketAddr,
    state: Arc<State>,
    _connections: JoinSet<()>,
}

struct State {
    client: kube::Client,
    /// What it is about.
    plural: &'static str,
    counts: Mutex<Counts>,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// However many pages each has: the cluster holds what other tests make, too.
    pub(crate) lists: usize,
    pub(crate) watches: usize,
    refuses_watches: bool,
    /// Discovery does not name the verb.
    hides_watches: bool,
}

impl Gateway {
    pub(crate) async fn start(client: kube::Client, plural: &'static str) -> Self {
        let state = Arc::new(State { client, plural, counts: Mutex::default() });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("listens");
        let address = listener.local_addr().expect("has an address");
        let mut connections = JoinSet::new();
        connections.spawn(accept(listener, Arc::clone(&state)));
        Self { address, state, _connections: connections }
    }

    /// Nobody watches them.
    pub(crate) fn refuse_watches(&self) {
        self.state.counts().refuses_watches = true;
    }

    pub(crate) fn let_watches_through(&self) {
        self.state.counts().refuses_watches = false;
    }

    /// As of a kind that is served so.
    pub(crate) fn serve_without_watches(&self) {
        let mut counts = self.state.counts();
        (counts.refuses_watches, counts.hides_watches) = (true, true);
    }

    pub(crate) fn counts(&self) -> Counts {
        *self.state.counts()
    }

    /// Under which a kubeconfig that leads here is written.
    pub(crate) fn write_kubeconfig(&self, folder: &Path) -> PathBuf {
        let cluster = json!({"name": "gateway", "cluster": {"server": format!("http://{}", self.address)}});
        let context = json!({"name": "gateway", "context": {"cluster": "gateway", "user": "gateway"}});
        let user = json!({"name": "gateway", "user": {}});
        let config = json!({"apiVersion": "v1", "kind": "Config", "current-context": "gateway",
            "clusters": [cluster], "contexts": [context], "users": [user]});
        let path = folder.join("gateway");
        std::fs::write(&path, config.to_string()).expect("writes");
        path
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    let mut connections = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let service = service_fn(move |request| {
                let state = Arc::clone(&state);
                async move { state.answer(request).await }
            });
            let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(tcp), service).await;
        });
    }
}

impl State {
    fn counts(&self) -> std::sync::MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Answer, kube::Error> {
        if self.is_refused(request.uri()) {
            let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 405,
                "reason": "MethodNotAllowed", "message": "it cannot be watched"});
            return Ok(answer(StatusCode::METHOD_NOT_ALLOWED, &status));
        }
        let is_discovery = matches!(request.uri().path(), "/api" | "/apis") && self.counts().hides_watches;
        let (mut parts, body) = request.into_parts();
        let path = parts.uri.path_and_query().expect("has a path").as_str().parse().expect("is a path");
        parts.uri = path;
        parts.headers.remove(header::HOST);
        parts.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let response = self.client.send(Request::from_parts(parts, Body::from(body))).await?;
        if !is_discovery {
            return Ok(response.map(BodyExt::boxed_unsync));
        }
        let (status, body) = (response.status(), response.into_body().collect_bytes().await?);
        let mut groups: Value = serde_json::from_slice(&body).expect("is JSON");
        self.hide_watches(&mut groups);
        Ok(answer(status, &groups))
    }

    fn is_refused(&self, uri: &http::Uri) -> bool {
        let is_theirs = uri.path().ends_with(&format!("/{}", self.plural));
        let query = uri.query().unwrap_or_default();
        let mut counts = self.counts();
        if !is_theirs || !query.contains("labelSelector") {
            return false;
        }
        let is_watch = query.contains("watch=true");
        if is_watch {
            counts.watches += 1;
        } else if !query.contains("continue=") {
            counts.lists += 1;
        }
        is_watch && counts.refuses_watches
    }

    fn hide_watches(&self, groups: &mut Value) {
        let versions = groups["items"].as_array_mut().into_iter().flatten();
        let versions = versions.filter_map(|group| group["versions"].as_array_mut()).flatten();
        let resources = versions.filter_map(|version| version["resources"].as_array_mut()).flatten();
        for resource in resources.filter(|resource| resource["resource"] == self.plural) {
            resource["verbs"].as_array_mut().expect("has verbs").retain(|verb| verb != "watch");
        }
    }
}

fn answer(status: StatusCode, value: &Value) -> Answer {
    let body = Full::new(Bytes::from(value.to_string())).map_err(|never| match never {}).boxed_unsync();
    let answer = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
    answer.body(body).expect("is an answer")
}
