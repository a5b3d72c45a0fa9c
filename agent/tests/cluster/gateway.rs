//! A way to the API server that refuses and holds back what it is told to, and counts.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use kube::client::Body;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
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
    /// Each watch that is open holds one more.
    open: Arc<()>,
    refused: Mutex<Option<(Picked, StatusCode, String)>>,
    held: Mutex<Option<Picked>>,
    /// How many requests are held back.
    waiting: Mutex<usize>,
    released: Notify,
    followed: Mutex<Option<Followed>>,
}

/// Whether a request is meant.
pub(crate) type Picked = fn(&Method, &Uri) -> bool;

/// How long each answer takes that is followed: what is asked at the same time is then seen to be.
const FOLLOWED_ANSWER: Duration = Duration::from_millis(100);

/// Requests about single objects, in their order.
#[derive(Debug, Clone, Default)]
pub(crate) struct Followed {
    pub(crate) requests: Vec<String>,
    /// How often one was made while none was on its way.
    pub(crate) round_trips: usize,
    /// That, when each of them was made.
    pub(crate) round_trips_of: Vec<usize>,
    on_their_way: usize,
}

#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// However many pages each has: the cluster holds what other tests make, too.
    pub(crate) lists: usize,
    pub(crate) watches: usize,
    refuses_watches: bool,
    /// Discovery does not name the verb.
    hides_watches: bool,
    /// It knows of no discovery but the older.
    has_older_discovery: bool,
    /// How often somebody asked for what one version serves.
    pub(crate) version_lists: usize,
}

impl Gateway {
    pub(crate) async fn start(client: kube::Client, plural: &'static str) -> Self {
        let state = Arc::new(State {
            client,
            plural,
            counts: Mutex::default(),
            open: Arc::default(),
            refused: Mutex::default(),
            held: Mutex::default(),
            waiting: Mutex::default(),
            released: Notify::new(),
            followed: Mutex::default(),
        });
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

    /// As an API server does that was made before aggregated discovery: it has not heard of the media type, and answers
    /// with the names of groups and versions, each of which it lists for itself.
    pub(crate) fn serve_older_discovery(&self) {
        self.state.counts().has_older_discovery = true;
    }

    pub(crate) fn counts(&self) -> Counts {
        *self.state.counts()
    }

    /// Watches that nobody has ended.
    pub(crate) fn open_watches(&self) -> usize {
        Arc::strong_count(&self.state.open) - 1
    }

    /// As something between the agent and the API server does that does not know them.
    pub(crate) fn refuse(&self, picked: Picked) {
        self.refuse_with(StatusCode::METHOD_NOT_ALLOWED, picked);
    }

    pub(crate) fn refuse_with(&self, code: StatusCode, picked: Picked) {
        self.refuse_saying(code, "not here", picked);
    }

    pub(crate) fn refuse_saying(&self, code: StatusCode, message: &str, picked: Picked) {
        *lock(&self.state.refused) = Some((picked, code, message.to_owned()));
    }

    pub(crate) fn refuse_nothing(&self) {
        *lock(&self.state.refused) = None;
    }

    /// Until they are released.
    pub(crate) fn hold(&self, picked: Picked) {
        *lock(&self.state.held) = Some(picked);
    }

    /// Until one is held back.
    pub(crate) async fn wait_for_held(&self) {
        let deadline = tokio::time::Instant::now() + Duration::from_mins(1);
        while *lock(&self.state.waiting) == 0 {
            assert!(tokio::time::Instant::now() < deadline, "nothing came that is held back");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    pub(crate) fn release(&self) {
        *lock(&self.state.held) = None;
        self.state.released.notify_waiters();
    }

    pub(crate) fn follow_requests(&self) {
        *lock(&self.state.followed) = Some(Followed::default());
    }

    pub(crate) fn followed(&self) -> Followed {
        lock(&self.state.followed).clone().expect("it follows")
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn counts(&self) -> MutexGuard<'_, Counts> {
        lock(&self.counts)
    }

    async fn answer(&self, request: Request<Incoming>) -> Result<Answer, kube::Error> {
        let (method, uri) = (request.method().clone(), request.uri().clone());
        let refused = lock(&self.refused).clone();
        if let Some((_, code, message)) = refused.filter(|(picked, ..)| picked(&method, &uri)) {
            return Ok(answer(code, &json!({"message": message, "code": code.as_u16()})));
        }
        self.hold_back(&method, &uri).await;
        if !self.begin(&method, &uri) {
            return self.pass_on(request).await;
        }
        tokio::time::sleep(FOLLOWED_ANSWER).await;
        let answer = self.pass_on(request).await;
        if let Some(followed) = lock(&self.followed).as_mut() {
            followed.on_their_way -= 1;
        }
        answer
    }

    async fn hold_back(&self, method: &Method, uri: &Uri) {
        let released = self.released.notified();
        if lock(&self.held).is_some_and(|picked| picked(method, uri)) {
            *lock(&self.waiting) += 1;
            released.await;
            *lock(&self.waiting) -= 1;
        }
    }

    /// Whether it is followed.
    fn begin(&self, method: &Method, uri: &Uri) -> bool {
        let (query, name) = (uri.query().unwrap_or_default(), uri.path().rsplit('/').next().unwrap_or_default());
        let mut followed = lock(&self.followed);
        let Some(followed) = followed.as_mut().filter(|_| uri.path().contains("/namespaces/")) else { return false };
        if query.contains("watch=true") || query.contains("labelSelector") {
            return false;
        }
        let force = if query.contains("force=true") { " by force" } else { "" };
        followed.requests.push(format!("{method} {name}{force}"));
        followed.round_trips += usize::from(followed.on_their_way == 0);
        followed.round_trips_of.push(followed.round_trips);
        followed.on_their_way += 1;
        true
    }

    async fn pass_on(&self, request: Request<Incoming>) -> Result<Answer, kube::Error> {
        if self.is_refused(request.uri()) {
            let status = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "code": 405,
                "reason": "MethodNotAllowed", "message": "it cannot be watched"});
            return Ok(answer(StatusCode::METHOD_NOT_ALLOWED, &status));
        }
        let is_watch = self.is_watch(request.uri());
        let is_discovery = matches!(request.uri().path(), "/api" | "/apis");
        let hides_watches = is_discovery && self.counts().hides_watches;
        let (mut parts, body) = request.into_parts();
        if is_discovery && self.counts().has_older_discovery {
            let Some(older) = without_aggregated(&parts.headers) else {
                return Ok(answer(StatusCode::NOT_ACCEPTABLE, &json!({"message": "only the following are accepted"})));
            };
            parts.headers.insert(header::ACCEPT, older);
        }
        self.counts().version_lists += usize::from(is_version(parts.uri.path()));
        let path = parts.uri.path_and_query().expect("has a path").as_str().parse().expect("is a path");
        parts.uri = path;
        parts.headers.remove(header::HOST);
        parts.headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let body = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
        let response = self.client.send(Request::from_parts(parts, Body::from(body))).await?;
        if is_watch {
            let open = Arc::clone(&self.open);
            let held = move |frame| {
                let _open = Arc::clone(&open);
                frame
            };
            return Ok(response.map(|body| body.map_frame(held).boxed_unsync()));
        }
        if !hides_watches {
            return Ok(response.map(BodyExt::boxed_unsync));
        }
        let (status, body) = (response.status(), response.into_body().collect_bytes().await?);
        let mut groups: Value = serde_json::from_slice(&body).expect("is JSON");
        self.hide_watches(&mut groups);
        Ok(answer(status, &groups))
    }

    fn is_watch(&self, uri: &Uri) -> bool {
        uri.path().ends_with(&format!("/{}", self.plural))
            && uri.query().is_some_and(|query| query.contains("watch=true"))
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

/// What else is accepted, as a server passes over media types that it has not heard of.
fn without_aggregated(headers: &HeaderMap) -> Option<HeaderValue> {
    let accepted = headers.get(header::ACCEPT)?.to_str().ok()?.split(',').map(str::trim);
    let others: Vec<_> = accepted.filter(|one| !one.contains("as=APIGroupDiscoveryList")).collect();
    (!others.is_empty()).then(|| HeaderValue::from_str(&others.join(",")).expect("was a header"))
}

/// `/api/v1` or `/apis/apps/v1`.
fn is_version(path: &str) -> bool {
    path == "/api/v1" || path.strip_prefix("/apis/").is_some_and(|rest| rest.split('/').count() == 2)
}

fn answer(status: StatusCode, value: &Value) -> Answer {
    let body = Full::new(Bytes::from(value.to_string())).map_err(|never| match never {}).boxed_unsync();
    let answer = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
    answer.body(body).expect("is an answer")
}
