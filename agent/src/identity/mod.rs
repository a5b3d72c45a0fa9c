//! Who this agent is: its key, its certificate, and the roots by which it knows the hub.
//!
//! Kept in one Secret of the agent's namespace. A key is stored before it is enrolled: an answer that is lost, or a
//! process that dies in between, must not burn the token, which is bound to the first key that uses it. Nobody else ever
//! sees the key. The only module that knows `rcgen`.

mod pin;
mod stored;

use std::borrow::Cow;
use std::sync::Arc;

use bellwether_core::Digest;
use jiff::{SignedDuration, Timestamp};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls::ClientConfig;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::sync::watch;

use crate::config::Fingerprint;
use crate::executor::kubernetes::client::{Cluster, ClusterError};
use crate::journal::Seal;
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
    #[error("the certificate that the hub gave cannot be used: {problem}")]
    BadGrant { problem: String },
    #[error("Secret {namespace}/{name} does not hold this agent's key any more")]
    Replaced { namespace: String, name: &'static str },
    #[error("the identity cannot be kept in Secret {namespace}/{name}")]
    Storage { namespace: String, name: &'static str, source: ClusterError },
    #[error("no key can be made")]
    Key(#[source] rcgen::Error),
}

impl IdentityError {
    pub(crate) fn hint(&self) -> Option<Cow<'static, str>> {
        Some(match self {
            Self::NoToken => "run `bellwether cluster register NAME` and apply what it prints".into(),
            Self::Unusable { namespace, name, .. } => format!(
                "run `bellwether cluster reenroll NAME`, delete Secret {namespace}/{name}, apply what it printed"
            )
            .into(),
            Self::BadGrant { .. } => "check the hub's log, and that its version fits this agent's".into(),
            Self::Storage { .. } => "check that the agent's Role may create and update Secrets in its namespace".into(),
            Self::Replaced { .. } => "restart the agent: it goes on as what that Secret says that it is".into(),
            Self::Key(_) => return None,
        })
    }
}

/// A joined agent's identity: one key for as long as it lives, and the certificate of now.
pub(crate) struct Identity {
    key: StoredKey,
    live: watch::Sender<Arc<Live>>,
}

/// A certificate that can be used, and what it is used with.
pub(crate) struct Live {
    tls: Arc<ClientConfig>,
    not_before: Timestamp,
    not_after: Timestamp,
}

impl Identity {
    fn new(key: StoredKey, granted: &Granted) -> Result<Self, String> {
        let live = Live::new(&key, granted)?;
        Ok(Self { key, live: watch::Sender::new(Arc::new(live)) })
    }

    pub(crate) fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.borrow())
    }

    /// Sees each certificate that takes the place of the one before.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Arc<Live>> {
        self.live.subscribe()
    }

    /// A request for the next certificate, of the same key: an answer that is lost costs nothing then.
    pub(crate) fn request(&self) -> Result<Vec<u8>, IdentityError> {
        Key::from_pem(&self.key).map_err(IdentityError::Key)?.request()
    }

    /// Takes the next certificate, if it can be used and ends later. It is stored before it is used.
    pub(crate) async fn renew(
        &self,
        cluster: &Cluster,
        namespace: &str,
        granted: &Granted,
    ) -> Result<(), IdentityError> {
        let next = self.next(granted).map_err(|problem| IdentityError::BadGrant { problem })?;
        Stored::read(cluster, namespace).await?.with_renewed(cluster, &self.key, granted).await?;
        self.live.send_replace(Arc::new(next));
        Ok(())
    }

    fn next(&self, granted: &Granted) -> Result<Live, String> {
        let next = Live::new(&self.key, granted)?;
        let before = self.live().not_after;
        if next.not_after <= before {
            return Err(format!("it ends at {}, and the one before at {before}", next.not_after));
        }
        Ok(next)
    }
}

impl Live {
    fn new(key: &StoredKey, granted: &Granted) -> Result<Self, String> {
        let tls = Arc::new(pin::mutual_config(key.0.expose_secret(), granted)?);
        let leaf = granted.chain.first().ok_or("there is no certificate")?;
        let (_, certificate) = x509_parser::parse_x509_certificate(leaf).map_err(|error| error.to_string())?;
        let time = |seconds| Timestamp::from_second(seconds).map_err(|error| error.to_string());
        let validity = certificate.validity();
        let not_before = time(validity.not_before.timestamp())?;
        let live = Self { tls, not_before, not_after: time(validity.not_after.timestamp())? };
        pin::verify_chain(granted, not_before + live.life() / 2)?;
        Ok(live)
    }

    /// For a connection that begins now.
    pub(crate) fn tls(&self) -> Arc<ClientConfig> {
        Arc::clone(&self.tls)
    }

    pub(crate) const fn not_after(&self) -> Timestamp {
        self.not_after
    }

    pub(crate) fn life(&self) -> SignedDuration {
        self.not_after.duration_since(self.not_before)
    }

    /// When the next one is to be asked for: at half of its life, and up to a tenth of it later by `chance`, so that a
    /// fleet that joined in one hour does not come back in one hour for ever.
    pub(crate) fn renew_at(&self, chance: f64) -> Timestamp {
        let life = self.life();
        let spread = SignedDuration::try_from_secs_f64(life.as_secs_f64() * chance / 10.0).unwrap_or_default();
        self.not_before + life / 2 + spread
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
    key: Key,
    token: SecretString,
}

/// A key that no certificate was issued for yet. By itself it is kept nowhere.
pub(crate) struct Key(KeyPair);

impl Key {
    pub(crate) fn generate() -> Result<Self, IdentityError> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map(Self).map_err(IdentityError::Key)
    }

    fn from_pem(pem: &StoredKey) -> Result<Self, rcgen::Error> {
        KeyPair::from_pem(pem.0.expose_secret()).map(Self)
    }

    fn pem(&self) -> SecretString {
        SecretString::from(self.0.serialize_pem())
    }

    /// A request for a certificate: PKCS #10, DER. The hub reads nothing of it but the key.
    pub(crate) fn request(&self) -> Result<Vec<u8>, IdentityError> {
        let request = CertificateParams::default().serialize_request(&self.0).map_err(IdentityError::Key)?;
        Ok(request.der().to_vec())
    }

    /// Takes the certificate, if it is for this key and can be used.
    pub(crate) fn joined(&self, granted: &Granted) -> Result<Identity, IdentityError> {
        Identity::new(StoredKey(self.pem()), granted).map_err(|problem| IdentityError::BadGrant { problem })
    }
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
        let identity = Identity::new(joined.key, &joined.granted).map_err(|problem| stored.unusable(problem))?;
        return Ok(Start::Joined(identity));
    }
    let (Some(token), Some(digest)) = (token, digest) else { return Err(IdentityError::NoToken) };
    if let Some(pem) = stored.joining_key().filter(|_| is_known) {
        let key = Key::from_pem(&pem).map_err(|error| stored.unusable(error))?;
        return Ok(Start::Join(Box::new(Join { stored, key, token })));
    }
    let key = Key::generate()?;
    let stored = stored.with_joining_key(cluster, &key.pem(), digest).await?;
    Ok(Start::Join(Box::new(Join { stored, key, token })))
}

/// What the journal is sealed with: as old as the identity's Secret, whatever becomes of the key and the certificate.
pub(crate) async fn load_journal_seal(cluster: &Cluster, namespace: &str) -> Result<Seal, IdentityError> {
    let stored = Stored::read(cluster, namespace).await?;
    let stored = if stored.journal_key().is_some() { stored } else { stored.with_journal_key(cluster).await? };
    let key = stored.journal_key().ok_or_else(|| stored.unusable("it has no key for the journal"))?;
    Ok(Seal::new(&key))
}

impl Join {
    pub(crate) fn token(&self) -> &SecretString {
        &self.token
    }

    pub(crate) fn request(&self) -> Result<Vec<u8>, IdentityError> {
        self.key.request()
    }

    /// Takes the certificate, if it is for our key and can be used, and stores it.
    pub(crate) async fn complete(self, cluster: &Cluster, granted: &Granted) -> Result<Identity, IdentityError> {
        let identity = self.key.joined(granted)?;
        self.stored.with_certificate(cluster, &identity.key, granted).await?;
        Ok(identity)
    }
}

/// With what an agent that has not joined looks for the hub.
pub(crate) fn joining_tls(fingerprint: Fingerprint) -> Arc<ClientConfig> {
    pin::config(fingerprint)
}

#[cfg(test)]
mod tests;
