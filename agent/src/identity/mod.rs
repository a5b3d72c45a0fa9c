//! Who this agent is: its key, its certificate, and the roots by which it knows the hub.
//!
//! Kept in one Secret of the agent's namespace. A key is stored before it is enrolled: an answer that is lost, or a
//! process that dies in between, must not burn the token, which is bound to the first key that uses it. Nobody else ever
//! sees the key. The only room that knows `rcgen`.

mod pin;
mod stored;

use std::sync::Arc;

use arc_swap::ArcSwap;
use bellwether_core::Digest;
use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::ClientConfig;
use secrecy::{ExposeSecret as _, SecretString};

use crate::cluster::{Cluster, ClusterError};
use crate::config::Fingerprint;
pub(crate) use pin::SERVER_NAME;
use stored::{Stored, StoredKey};

/// A certificate as the hub gives it: DER, the leaf first.
#[derive(Debug, Clone)]
pub(crate) struct Granted {
    pub(crate) chain: Vec<Vec<u8>>,
    pub(crate) roots: Vec<Vec<u8>>,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum IdentityError {
    #[error("this cluster has not joined, and there is no join token")]
    NoToken,
    #[error("the identity in Secret {namespace}/{name} cannot be used: {problem}")]
    Unusable { namespace: String, name: &'static str, problem: String },
    #[error("the hub's answer to the join cannot be used: {problem}")]
    BadGrant { problem: String },
    #[error("the identity cannot be kept in Secret {namespace}/{name}")]
    Storage { namespace: String, name: &'static str, source: ClusterError },
    #[error("no key can be made")]
    Key(#[source] rcgen::Error),
}

impl IdentityError {
    pub(crate) fn hint(&self) -> String {
        match self {
            Self::NoToken => "run `bellwether cluster register NAME` and apply what it prints".to_owned(),
            Self::Unusable { namespace, name, .. } => {
                format!(
                    "run `bellwether cluster reenroll NAME`, delete Secret {namespace}/{name}, apply what it printed"
                )
            }
            Self::BadGrant { .. } => "check the hub's log, and that its version fits this agent's".to_owned(),
            Self::Storage { .. } => {
                "check that the agent's Role may create and update Secrets in its namespace".to_owned()
            }
            Self::Key(_) => String::new(),
        }
    }
}

/// A joined agent's identity. What the link connects with can be replaced while it runs.
pub(crate) struct Identity {
    live: ArcSwap<Live>,
}

struct Live {
    tls: Arc<ClientConfig>,
    not_after: Timestamp,
}

impl Identity {
    /// For a connection that begins now.
    pub(crate) fn tls(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.live.load().tls)
    }

    /// When the certificate ends; at half of its life it is to be renewed.
    pub(crate) fn not_after(&self) -> Timestamp {
        self.live.load().not_after
    }
}

/// What stands in the Secret, and what that means for this start.
pub(crate) enum Start {
    Joined(Identity),
    /// There is a key and a token, and no certificate yet.
    Join(Box<Join>),
}

/// An enrolment that may be repeated: with the same key, for as long as the token is the same.
pub(crate) struct Join {
    stored: Stored,
    key: KeyPair,
    token: SecretString,
}

/// Reads the identity, and makes and stores a key when there is none for this token yet.
///
/// A token that was not used yet wins over an identity that is there: it is how a person gives a cluster a new one.
pub(crate) async fn load(
    cluster: &Cluster,
    namespace: &str,
    token: Option<SecretString>,
) -> Result<Start, IdentityError> {
    let stored = Stored::read(cluster, namespace).await?;
    let digest = token.as_ref().map(|token| Digest::of(token.expose_secret().as_bytes()));
    let is_known = digest.is_none_or(|digest| stored.token() == Some(digest));
    if let Some(joined) = stored.joined().filter(|_| is_known) {
        let live = live(&joined.key, &joined.granted).map_err(|problem| stored.unusable(problem))?;
        return Ok(Start::Joined(Identity { live: ArcSwap::from_pointee(live) }));
    }
    let (Some(token), Some(digest)) = (token, digest) else { return Err(IdentityError::NoToken) };
    if let Some(StoredKey(pem)) = stored.joining_key().filter(|_| is_known) {
        let key = KeyPair::from_pem(pem.expose_secret()).map_err(|error| stored.unusable(error))?;
        return Ok(Start::Join(Box::new(Join { stored, key, token })));
    }
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(IdentityError::Key)?;
    let stored = stored.with_joining_key(cluster, &pem(&key), digest).await?;
    Ok(Start::Join(Box::new(Join { stored, key, token })))
}

impl Join {
    pub(crate) fn token(&self) -> &SecretString {
        &self.token
    }

    /// A request for a certificate: PKCS #10, DER. The hub reads nothing of it but the key.
    pub(crate) fn request(&self) -> Result<Vec<u8>, IdentityError> {
        let request = CertificateParams::default().serialize_request(&self.key).map_err(IdentityError::Key)?;
        Ok(request.der().to_vec())
    }

    /// Takes the certificate, if it is for our key and can be used, and stores it.
    pub(crate) async fn complete(self, cluster: &Cluster, granted: &Granted) -> Result<Identity, IdentityError> {
        let key = StoredKey(pem(&self.key));
        let live = live(&key, granted).map_err(|problem| IdentityError::BadGrant { problem })?;
        self.stored.with_certificate(cluster, &key, granted).await?;
        Ok(Identity { live: ArcSwap::from_pointee(live) })
    }
}

/// With what an agent that has not joined looks for the hub.
pub(crate) fn joining_tls(fingerprint: Fingerprint) -> Arc<ClientConfig> {
    pin::config(fingerprint)
}

fn pem(key: &KeyPair) -> SecretString {
    SecretString::from(key.serialize_pem())
}

fn live(key: &StoredKey, granted: &Granted) -> Result<Live, String> {
    let tls = pin::mutual_config(key.0.expose_secret(), granted)?;
    Ok(Live { tls: Arc::new(tls), not_after: not_after(granted)? })
}

fn not_after(granted: &Granted) -> Result<Timestamp, String> {
    let leaf = granted.chain.first().ok_or("there is no certificate")?;
    let (_, certificate) = x509_parser::parse_x509_certificate(leaf).map_err(|error| error.to_string())?;
    Timestamp::from_second(certificate.validity().not_after.timestamp()).map_err(|error| error.to_string())
}
