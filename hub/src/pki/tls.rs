//! Both ports' TLS: what the hub shows, and whose certificates it takes.
//!
//! The agents' port takes a client certificate of our own authority or none (`Enroll` comes without one); who may call
//! what with which is for `link` to decide, with `ca::identity_of`. Neighbours: `ca` (certificates), `trust` (which makes
//! configurations anew), `ports` (where they are used).

use std::sync::Arc;

use rustls::RootCertStore;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{NoServerSessionStorage, ServerConfig, VerifierBuilderError, WebPkiClientVerifier};
use rustls::version::TLS13;
use secrecy::ExposeSecret as _;

use crate::pki::ca::{Authority, ServerIdentity};

#[derive(Debug, thiserror::Error)]
pub(crate) enum TlsError {
    #[error("cannot use the hub's certificate or key")]
    Identity(#[source] rustls::Error),
    #[error("cannot trust the authority's root")]
    Root(#[source] rustls::Error),
    #[error("cannot verify agents' certificates")]
    Verifier(#[from] VerifierBuilderError),
}

/// For the agents' port. With a revocation list, certificates on it end the handshake.
pub(crate) fn agents_config(
    authority: &Authority,
    server: &ServerIdentity,
    revoked: Option<Vec<u8>>,
) -> Result<ServerConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    for root in authority.roots() {
        roots.add(CertificateDer::from(root)).map_err(TlsError::Root)?;
    }
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .with_crls(revoked.map(CertificateRevocationListDer::from))
        // The list is the intermediate's; the intermediate itself is revoked by replacing it.
        .only_check_end_entity_revocation()
        .allow_unauthenticated()
        .build()?;

    let builder = tls13(provider).with_client_cert_verifier(verifier);
    let mut config = builder.with_single_cert(chain(server), private_key(server)).map_err(TlsError::Identity)?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would skip the check of the certificate, and so its revocation.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// For the API's port, where nobody needs a certificate.
pub(crate) fn api_config(server: &ServerIdentity) -> Result<ServerConfig, TlsError> {
    let builder = tls13(Arc::new(aws_lc_rs::default_provider())).with_no_client_auth();
    let mut config = builder.with_single_cert(chain(server), private_key(server)).map_err(TlsError::Identity)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(config)
}

fn tls13(provider: Arc<CryptoProvider>) -> rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier> {
    ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("the provider has TLS 1.3's cipher suites")
}

fn chain(server: &ServerIdentity) -> Vec<CertificateDer<'static>> {
    server.chain.iter().cloned().map(CertificateDer::from).collect()
}

fn private_key(server: &ServerIdentity) -> PrivateKeyDer<'static> {
    PrivatePkcs8KeyDer::from(server.key.expose_secret().to_vec()).into()
}
