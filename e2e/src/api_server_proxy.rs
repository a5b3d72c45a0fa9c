//! A proxy between an agent and its cluster's API server, which stops the requests that a test names, and tells which
//! ones passed.
//!
//! It ends the agent's TLS and begins its own, and passes on whose token a request has; so whoever speaks through it may do
//! what they may do without it.
//! Neighbours: `postgres_proxy` does the same before a hub's database.

use std::io;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::FutureExt as _;
use futures_util::future::Shared;
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, header};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use kube::client::Body;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::git_server::{GitServerTls, acceptor};
use crate::held::Held;

#[derive(Debug)]
struct Trap {
    method: Method,
    words: String,
    /// Until the first request has come.
    untold: Option<(oneshot::Sender<Held>, Held)>,
    /// The test's word, for every request: whoever sent the first may give it up, and send it again.
    word: Word,
}

type Word = Shared<oneshot::Receiver<()>>;

#[derive(Debug, Default)]
struct Seen {
    traps: Vec<Trap>,
    /// Methods and paths, in their order.
    passed: Vec<(Method, String)>,
}

#[derive(Debug)]
pub struct ApiServerProxy {
    server: String,
    ca_pem: String,
    seen: Arc<Mutex<Seen>>,
    /// Ends with the proxy, and every connection with it.
    _serving: JoinSet<()>,
}

impl ApiServerProxy {
    /// Before the API server of this kubeconfig, whose user counts for nothing.
    pub async fn start(kubeconfig: &Path) -> Result<Self> {
        let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
        let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        config.auth_info = AuthInfo::default();
        let client = Client::try_from(config)?;
        let tls = GitServerTls::issue()?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let server = format!("https://{}", listener.local_addr()?);
        let seen = Arc::<Mutex<Seen>>::default();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, acceptor(&tls)?, Passage { client, seen: Arc::clone(&seen) }));
        Ok(Self { server, ca_pem: tls.ca_pem, seen, _serving: serving })
    }

    /// The same, for whoever has this kubeconfig.
    pub fn kubeconfig(&self, text: &str) -> Result<String> {
        let mut config: Value = serde_json::from_str(text).context("it is no kubeconfig of ours")?;
        let ca = BASE64_STANDARD.encode(&self.ca_pem);
        config["clusters"][0]["cluster"] = json!({"server": self.server, "certificate-authority-data": ca});
        Ok(format!("{config:#}\n"))
    }

    /// Stops every request with this method whose path has these words, until the first is let go. What is answered
    /// tells when that has come.
    pub fn hold(&self, method: Method, words: &str) -> oneshot::Receiver<Held> {
        let (caught, told) = oneshot::channel();
        let (held, word) = Held::pair();
        let untold = Some((caught, held));
        self.lock().traps.push(Trap { method, words: words.to_owned(), untold, word: word.shared() });
        told
    }

    /// How many requests with this method whose paths have these words have gone on to the API server.
    pub fn passed(&self, method: &Method, words: &str) -> usize {
        self.lock().passed.iter().filter(|(passed, path)| passed == method && path.contains(words)).count()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Clone)]
struct Passage {
    client: Client,
    seen: Arc<Mutex<Seen>>,
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, passage: Passage) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(serve_connection(stream, acceptor.clone(), passage.clone()));
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_connection(stream: TcpStream, acceptor: TlsAcceptor, passage: Passage) {
    let Ok(stream) = acceptor.accept(stream).await else { return };
    let service = service_fn(move |request| {
        let passage = passage.clone();
        async move { passage.carry(request).await }
    });
    // Whoever goes away in the middle does so by intention.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
}

impl Passage {
    /// An error ends the connection.
    async fn carry(&self, request: Request<Incoming>) -> io::Result<Response<Body>> {
        let (mut head, body) = request.into_parts();
        let body = read(body).await.map_err(io::Error::other)?;
        if let Some(word) = self.spring(&head.method, head.uri.path()) {
            word.await.map_err(io::Error::other)?;
        }
        let passed = (head.method.clone(), head.uri.path().to_owned());
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).passed.push(passed);
        // It is this proxy's.
        head.headers.remove(header::HOST);
        self.client.send(Request::from_parts(head, Body::from(body))).await.map_err(io::Error::other)
    }

    /// What this request waits for, in the last trap that fits it. The first one there tells the test.
    fn spring(&self, method: &Method, path: &str) -> Option<Word> {
        let traps = &mut self.seen.lock().unwrap_or_else(PoisonError::into_inner).traps;
        let trap = traps.iter_mut().rfind(|trap| trap.method == *method && path.contains(&trap.words))?;
        if let Some((caught, held)) = trap.untold.take()
            && let Err(held) = caught.send(held)
        {
            // Nobody waits for it any more.
            held.let_go();
        }
        Some(trap.word.clone())
    }
}

async fn read(body: Incoming) -> hyper::Result<Vec<u8>> {
    let (mut body, mut bytes) = (pin!(body), Vec::new());
    while let Some(frame) = std::future::poll_fn(|context| body.as_mut().poll_frame(context)).await {
        bytes.extend(frame?.into_data().unwrap_or_default());
    }
    Ok(bytes)
}
