//! An agent that says whatever a test wants it to: the real wire and the real TLS, and nothing behind them.
//!
//! What it can do, anybody can who holds a cluster's certificate. It never touches a cluster.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use bellwether_core::dry_run::DryRuns;
use bellwether_core::session::{AgentMessage, Hello, HubMessage, PROTOCOL, root};
use bellwether_proto::v1::agents_client::AgentsClient;
use bellwether_proto::{hub_message, v1};
use hyper_util::rt::TokioIo;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use tonic::transport::{Channel, Endpoint};
use uuid::Uuid;

/// In every hub's certificate.
const SERVER_NAME: &str = "bellwether-hub";
/// The scheme is plain because TLS is done here.
const ENDPOINT: &str = "http://bellwether-hub";
/// A test says few things, one after the other.
const OUTBOUND_MAX: usize = 4;

/// Somebody with a cluster's certificate.
#[derive(Debug)]
pub struct FakeAgent {
    hub: String,
    tls: Arc<ClientConfig>,
}

impl FakeAgent {
    /// Trades a join token for a certificate. `hub` is where agents find it, `ca` the file with its root.
    pub async fn enroll(hub: &str, ca: &Path, token: &str) -> Result<Self> {
        let root = CertificateDer::from_pem_slice(&fs::read(ca)?)?;
        let anonymous = builder(&root)?.with_no_client_auth();
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let csr = CertificateParams::default().serialize_request(&key)?.der().to_vec();
        let mut client = AgentsClient::new(connect(hub, Arc::new(finished(anonymous))).await?);
        let granted = client.enroll(v1::EnrollRequest { token: token.to_owned(), csr }).await?.into_inner();

        let chain = granted.chain.into_iter().map(CertificateDer::from).collect();
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes())?;
        let known = builder(&root)?.with_client_auth_cert(chain, key)?;
        Ok(Self { hub: hub.to_owned(), tls: Arc::new(finished(known)) })
    }

    /// Connects and greets, and waits for the hub's first word.
    pub async fn open(&self) -> Result<FakeSession> {
        let (to_hub, messages) = mpsc::channel(OUTBOUND_MAX);
        let hello = Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            boot: Uuid::new_v4(),
            // It holds nothing.
            root: root([]),
            acked: None,
            facts: BTreeMap::new(),
            apis: None,
            definitions: None,
            dry_runs: DryRuns::Unknown,
            acts_as_accounts: true,
        };
        to_hub.send(AgentMessage::Hello(hello).into()).await?;
        let mut client = AgentsClient::new(connect(&self.hub, Arc::clone(&self.tls)).await?);
        let from_hub = client.session(ReceiverStream::new(messages)).await?.into_inner();
        let mut session = FakeSession { to_hub, from_hub };
        let first = session.next().await?;
        anyhow::ensure!(matches!(first, Some(HubMessage::Welcome(_))), "the hub began with {first:?}");
        Ok(session)
    }
}

/// A live stream; it ends when this is dropped.
#[derive(Debug)]
pub struct FakeSession {
    to_hub: mpsc::Sender<v1::FromAgent>,
    from_hub: Streaming<v1::FromHub>,
}

impl FakeSession {
    pub async fn send(&self, message: AgentMessage) -> Result<()> {
        self.to_hub.send(message.into()).await.context("the stream is over")
    }

    /// `None` when the hub ended the stream, however it did.
    pub async fn next(&mut self) -> Result<Option<HubMessage>> {
        match self.from_hub.message().await {
            Ok(Some(message)) => Ok(Some(hub_message(message)?)),
            Ok(None) | Err(_) => Ok(None),
        }
    }
}

fn builder(
    root: &CertificateDer<'static>,
) -> Result<rustls::ConfigBuilder<ClientConfig, rustls::client::WantsClientCert>> {
    let mut roots = RootCertStore::empty();
    roots.add(root.clone())?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    Ok(ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&TLS13])?.with_root_certificates(roots))
}

fn finished(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

async fn connect(hub: &str, tls: Arc<ClientConfig>) -> Result<Channel> {
    let hub = hub.to_owned();
    let connector = tower::service_fn(move |_| {
        let (hub, tls) = (hub.clone(), Arc::clone(&tls));
        async move {
            let tcp = TcpStream::connect(hub.as_str()).await?;
            let name = ServerName::try_from(SERVER_NAME).expect("it is a DNS name");
            TlsConnector::from(tls).connect(name, tcp).await.map(TokioIo::new)
        }
    });
    Ok(Endpoint::from_static(ENDPOINT).connect_with_connector(connector).await?)
}
