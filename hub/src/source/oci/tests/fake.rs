//! A registry of our own, that does what it is told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::artifact::{Artifact, MANIFEST};

/// A server's key and certificate, and the authority that signed it.
pub(crate) struct Identity {
    pub(crate) ca: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Identity {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new([]).expect("valid names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).expect("a certificate").pem();
        let issuer = Issuer::new(params, key);
        let key = KeyPair::generate().expect("a key");
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let params = CertificateParams::new(names).expect("valid names");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate").pem();
        Self { ca, certificate, key: key.serialize_pem() }
    }

    fn acceptor(&self) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let certificate = rustls::pki_types::CertificateDer::from_pem_slice(self.certificate.as_bytes());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.expect("a certificate")],
                PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key"),
            )
            .expect("a pair");
        TlsAcceptor::from(Arc::new(config))
    }
}

/// What was asked: the method and the path with its query, and the headers.
#[derive(Debug, Clone)]
pub(super) struct RecordedRequest {
    pub(super) line: String,
    pub(super) headers: HeaderMap,
}

impl RecordedRequest {
    pub(super) fn authorization(&self) -> Option<&str> {
        self.headers.get(header::AUTHORIZATION)?.to_str().ok()
    }
}

type Answer = Arc<dyn Fn(&RecordedRequest) -> Option<Response> + Send + Sync>;

pub(super) struct Fake {
    pub(super) address: SocketAddr,
    asked: Arc<Mutex<Vec<RecordedRequest>>>,
    is_secure: bool,
}

impl Fake {
    /// Answers 404 where `answer` has nothing to say.
    pub(super) async fn start(answer: impl Fn(&RecordedRequest) -> Option<Response> + Send + Sync + 'static) -> Self {
        Self::listen(None, Arc::new(answer)).await
    }

    pub(super) async fn start_tls(
        identity: &Identity,
        answer: impl Fn(&RecordedRequest) -> Option<Response> + Send + Sync + 'static,
    ) -> Self {
        Self::listen(Some(identity.acceptor()), Arc::new(answer)).await
    }

    async fn listen(acceptor: Option<TlsAcceptor>, answer: Answer) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let asked: Arc<Mutex<Vec<RecordedRequest>>> = Arc::default();
        let (is_secure, noted) = (acceptor.is_some(), asked.clone());
        let handle = move |request: Request| {
            let target = request.uri().path_and_query().map_or("", axum::http::uri::PathAndQuery::as_str);
            let one =
                RecordedRequest { line: format!("{} {target}", request.method()), headers: request.headers().clone() };
            noted.lock().expect("not poisoned").push(one.clone());
            let answered = answer(&one).unwrap_or_else(|| StatusCode::NOT_FOUND.into_response());
            std::future::ready(answered)
        };
        let service = TowerToHyperService::new(Router::new().fallback(handle));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (service, acceptor) = (service.clone(), acceptor.clone());
                tokio::spawn(async move {
                    let server = auto::Builder::new(TokioExecutor::new());
                    let _ = match acceptor {
                        None => server.serve_connection(TokioIo::new(stream), service).await,
                        Some(acceptor) => match acceptor.accept(stream).await {
                            Ok(stream) => server.serve_connection(TokioIo::new(stream), service).await,
                            Err(_) => return,
                        },
                    };
                });
            }
        });
        Self { address, asked, is_secure }
    }

    pub(super) fn url(&self) -> String {
        format!("{}://{}/team/shop", if self.is_secure { "oci" } else { "oci+http" }, self.address)
    }

    pub(super) fn asked(&self) -> Vec<RecordedRequest> {
        std::mem::take(&mut *self.asked.lock().expect("not poisoned"))
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.asked().into_iter().map(|asked| asked.line).collect()
    }
}

/// What a registry that behaves would answer.
pub(super) fn serve(asked: &RecordedRequest, tags: &BTreeMap<&str, Artifact>) -> Option<Response> {
    let (method, path) = asked.line.split_once(' ')?;
    let path = path.strip_prefix("/v2/team/shop/")?;
    if path == "tags/list" {
        let names: Vec<&&str> = tags.keys().collect();
        return Some(axum::Json(serde_json::json!({"name": "team/shop", "tags": names})).into_response());
    }
    if let Some(digest) = path.strip_prefix("blobs/") {
        let blob = tags.values().find_map(|artifact| artifact.blobs.get(digest))?;
        return Some(Bytes::from(blob.clone()).into_response());
    }
    let name = path.strip_prefix("manifests/")?;
    let found = tags.iter().find(|(tag, artifact)| **tag == name || artifact.digest() == name);
    let (_, artifact) = found?;
    let body = if method == "HEAD" { Body::empty() } else { Body::from(artifact.manifest.clone()) };
    let headers = [("content-type", MANIFEST.to_owned()), ("docker-content-digest", artifact.digest())];
    Some((headers, body).into_response())
}
