//! The hub's REST API, as far as a simulation needs it: to register clusters, or to enrol those again that are there.
//!
//! One connection over HTTP/2. The hub is known by its root certificate, as agents know it.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use bellwether_core::api::{RegisterCluster, RegisteredCluster};
use bellwether_core::{Labels, Name};
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretString};
use serde::Serialize;
use tokio::task::JoinSet;

use crate::config::{Fingerprint, HubAddress, Simulation};
use crate::{identity, link};

/// For a connection, and for an answer of a hub that is busy with a thousand joins.
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Debug, thiserror::Error)]
pub(super) enum ApiError {
    #[error("{} is no file with a certificate", path.display())]
    Ca { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("{url} is not reached")]
    Unreachable { url: HubAddress, source: std::io::Error },
    #[error("the connection broke")]
    Broken(#[from] hyper::Error),
    #[error("no answer within {DEADLINE:?}")]
    NoAnswer(#[from] tokio::time::error::Elapsed),
    #[error("the hub answered {status}: {body}")]
    Refused { status: StatusCode, body: String },
    #[error("the hub's answer is not understood")]
    Unreadable(#[from] serde_json::Error),
    #[error("the request cannot be made")]
    Request(#[from] http::Error),
}

impl ApiError {
    pub(super) fn hint(&self) -> Option<Cow<'static, str>> {
        Some(Cow::Borrowed(match self {
            Self::Ca { .. } => "check BELLWETHER_CA: the hub writes ca.pem into its data folder",
            Self::Unreachable { .. } => {
                "check BELLWETHER_URL, and that BELLWETHER_CA is that hub's own root certificate"
            }
            Self::Refused { status: StatusCode::UNAUTHORIZED, .. } => "check BELLWETHER_TOKEN",
            _ => return None,
        }))
    }
}

pub(super) struct Api {
    requests: SendRequest<String>,
    url: HubAddress,
    token: SecretString,
    labels: Labels,
    _connection: JoinSet<()>,
}

impl Api {
    pub(super) async fn connect(simulation: &Simulation) -> Result<Self, ApiError> {
        let Simulation { url, ca, token, .. } = simulation;
        let root = CertificateDer::from_pem_file(ca).map_err(|source| ApiError::Ca { path: ca.clone(), source })?;
        let stream = link::stream(url, identity::joining_tls(Fingerprint::of(&root)));
        let stream = tokio::time::timeout(DEADLINE, stream).await?;
        let stream = stream.map_err(|source| ApiError::Unreachable { url: url.clone(), source })?;
        let (requests, connection) = handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        let mut carried = JoinSet::new();
        carried.spawn(async {
            // What breaks it is told by the request that it breaks.
            let _ = connection.await;
        });
        let (url, token, labels) = (url.clone(), token.clone(), simulation.labels());
        Ok(Self { requests, url, token, labels, _connection: carried })
    }

    /// A cluster with a token that was not used yet, whether it was there before or not.
    pub(super) async fn register(&self, name: &Name) -> Result<RegisteredCluster, ApiError> {
        let cluster = RegisterCluster {
            name: name.clone(),
            labels: self.labels.clone(),
            annotations: BTreeMap::new(),
            namespace: None,
            ttl_seconds: None,
        };
        match self.post("/api/v1/clusters", &cluster).await {
            Err(ApiError::Refused { status: StatusCode::CONFLICT, .. }) => {
                self.post(&format!("/api/v1/clusters/{name}/reenroll"), &serde_json::json!({})).await
            }
            answered => answered,
        }
    }

    async fn post(&self, path: &str, document: &impl Serialize) -> Result<RegisteredCluster, ApiError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("https://{}{path}", self.url))
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token.expose_secret()))
            .body(serde_json::to_string(document)?)?;
        let answer = tokio::time::timeout(DEADLINE, async {
            let response = self.requests.clone().send_request(request).await?;
            let status = response.status();
            Ok::<_, hyper::Error>((status, response.into_body().collect().await?.to_bytes()))
        });
        let (status, body) = answer.await??;
        if !status.is_success() {
            return Err(ApiError::Refused { status, body: String::from_utf8_lossy(&body).into_owned() });
        }
        Ok(serde_json::from_slice(&body)?)
    }
}
