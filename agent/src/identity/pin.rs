//! How the agent knows the hub, in TLS 1.3 and nothing older.
//!
//! Before the join: by the fingerprint of the root certificate, which the hub presents at the end of its chain. That
//! certificate, and no other, is then the trust anchor for an ordinary verification of the leaf. After the join: by the
//! roots that came with the certificate. Either way the hub's name is a fixed one, whatever its address is.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{ClientConfig, Resumption};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{CertificateError, DigitallySignedStruct, Error, PeerIncompatible, RootCertStore, SignatureScheme};

use super::Granted;
use crate::config::Fingerprint;

/// What every hub's certificate is for.
pub(crate) const SERVER_NAME: &str = "bellwether-hub";

const HTTP_2: &[u8] = b"h2";

/// Trusts the one root with this fingerprint; presents nothing.
pub(super) fn config(fingerprint: Fingerprint) -> Arc<ClientConfig> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = PinnedRoot { fingerprint, provider: Arc::clone(&provider) };
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])
        .expect("the provider speaks TLS 1.3")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    Arc::new(finished(config))
}

/// Trusts the roots that came with the certificate, and presents it.
pub(super) fn mutual_config(key_pem: &str, granted: &Granted) -> Result<ClientConfig, String> {
    let roots = roots(granted)?;
    let key = PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|error| format!("the key: {error}"))?;
    let chain = granted.chain.iter().map(|der| CertificateDer::from(der.clone())).collect();
    let config = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .expect("the provider speaks TLS 1.3")
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| format!("the certificate: {error}"))?;
    Ok(finished(config))
}

/// Whether one of its roots signed the certificate, over the others of its chain, to be a client's.
pub(super) fn verify_chain(granted: &Granted, at: Timestamp) -> Result<(), String> {
    let chain: Vec<_> = granted.chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
    let (leaf, others) = chain.split_first().ok_or("there is no certificate")?;
    let at = Duration::try_from(at.as_duration()).map_err(|error| error.to_string())?;
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots(granted)?), Arc::new(aws_lc_rs::default_provider()))
        .build()
        .map_err(|error| format!("the roots: {error}"))?
        .verify_client_cert(leaf, others, UnixTime::since_unix_epoch(at))
        .map(drop)
        .map_err(|error| format!("the chain: {error}"))
}

fn roots(granted: &Granted) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    for root in &granted.roots {
        roots.add(CertificateDer::from(root.clone())).map_err(|error| format!("a root: {error}"))?;
    }
    if roots.is_empty() {
        return Err("there is no root".to_owned());
    }
    Ok(roots)
}

fn finished(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![HTTP_2.to_vec()];
    // Every connection shows the certificate of now, and is refused when that is revoked.
    config.resumption = Resumption::disabled();
    config
}

#[derive(Debug)]
struct PinnedRoot {
    fingerprint: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for PinnedRoot {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let is_pinned = |certificate: &&CertificateDer<'_>| Fingerprint::of(certificate) == self.fingerprint;
        let root = others.iter().find(is_pinned).ok_or(Error::InvalidCertificate(CertificateError::UnknownIssuer))?;
        let mut roots = RootCertStore::empty();
        roots.add(root.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
            .build()
            .map_err(|error| Error::General(error.to_string()))?
            .verify_server_cert(leaf, others, name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::PeerIncompatible(PeerIncompatible::Tls12NotOffered))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

    use super::*;

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn authority(above: Option<&Authority>) -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("makes a key");
        match above {
            None => CertifiedIssuer::self_signed(params, key),
            Some(above) => CertifiedIssuer::signed_by(params, key, above),
        }
        .expect("makes a certificate")
    }

    fn leaf(name: &str, issuer: &Authority) -> CertificateDer<'static> {
        let params = CertificateParams::new([name.to_owned()]).expect("is a name");
        let key = KeyPair::generate().expect("makes a key");
        params.signed_by(&key, issuer).expect("makes a certificate").der().clone()
    }

    fn verify(pinned: &Authority, leaf: &CertificateDer<'_>, others: &[&Authority]) -> Result<(), Error> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = PinnedRoot { fingerprint: Fingerprint::of(pinned.der()), provider };
        let others: Vec<_> = others.iter().map(|authority| authority.der().clone()).collect();
        let name = ServerName::try_from(SERVER_NAME).expect("is a name");
        verifier.verify_server_cert(leaf, &others, &name, &[], UnixTime::now()).map(drop)
    }

    #[test]
    fn a_chain_up_to_the_pinned_root_is_trusted() {
        let root = authority(None);
        let intermediate = authority(Some(&root));
        let leaf = leaf(SERVER_NAME, &intermediate);

        assert_eq!(verify(&root, &leaf, &[&intermediate, &root]), Ok(()));
    }

    #[test]
    fn another_root_is_not_trusted() {
        let (root, other) = (authority(None), authority(None));
        let intermediate = authority(Some(&other));
        let leaf = leaf(SERVER_NAME, &intermediate);

        assert!(verify(&root, &leaf, &[&intermediate, &other]).is_err());
    }

    #[test]
    fn presenting_the_pinned_root_beside_a_foreign_chain_does_not_help() {
        let (root, other) = (authority(None), authority(None));
        let intermediate = authority(Some(&other));
        let leaf = leaf(SERVER_NAME, &intermediate);

        assert!(verify(&root, &leaf, &[&intermediate, &other, &root]).is_err());
    }

    #[test]
    fn a_certificate_for_another_name_is_not_trusted() {
        let root = authority(None);
        let intermediate = authority(Some(&root));
        let leaf = leaf("bellwether-agent", &intermediate);

        assert!(verify(&root, &leaf, &[&intermediate, &root]).is_err());
    }

    #[test]
    fn a_chain_without_its_intermediate_or_root_is_not_trusted() {
        let root = authority(None);
        let intermediate = authority(Some(&root));
        let leaf = leaf(SERVER_NAME, &intermediate);

        assert!(verify(&root, &leaf, &[&root]).is_err());
        assert!(verify(&root, &leaf, &[&intermediate]).is_err());
    }

    #[test]
    fn a_certificate_that_does_not_belong_to_the_key_is_refused() {
        let root = authority(None);
        let granted = Granted { chain: vec![leaf("agent", &root).to_vec()], roots: vec![root.der().to_vec()] };
        let key = KeyPair::generate().expect("makes a key").serialize_pem();

        let refused = mutual_config(&key, &granted);

        assert!(refused.is_err_and(|problem| problem.contains("the certificate")));
    }
}
