//! The Secret that the identity is kept in. Reads and writes it; decides nothing.

use bellwether_core::Digest;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use secrecy::{ExposeSecret as _, SecretString};

use super::{Granted, IdentityError};
use crate::executor::kubernetes::client::{Bytes, Cluster, ClusterError, Secret};

pub(super) const SECRET_NAME: &str = "bellwether-agent-identity";

const KEY: &str = "key.pem";
const CHAIN: &str = "chain.pem";
const ROOTS: &str = "roots.pem";
/// The key of a join that is under way; the identity before it stays usable until it is through.
const JOINING_KEY: &str = "joining-key.pem";
/// What the journal is sealed with.
const JOURNAL_KEY: &str = "journal.key";
/// The digest of the token that the newest key was made for: a token that was used is told from a new one by it.
const TOKEN: &str = "token.digest";

pub(super) struct StoredKey(pub(super) SecretString);

pub(super) struct Stored {
    secret: Secret,
}

pub(super) struct Joined {
    pub(super) key: StoredKey,
    pub(super) granted: Granted,
}

impl Stored {
    pub(super) async fn read(cluster: &Cluster, namespace: &str) -> Result<Self, IdentityError> {
        let secret = cluster.read_secret(namespace, SECRET_NAME).await.map_err(|source| storage(namespace, source))?;
        Ok(Self { secret: secret.unwrap_or_else(|| Secret::new(namespace, SECRET_NAME)) })
    }

    pub(super) fn token(&self) -> Option<Digest> {
        self.secret.text(TOKEN)?.parse().ok()
    }

    pub(super) fn joining_key(&self) -> Option<StoredKey> {
        self.secret.text(JOINING_KEY).map(|pem| StoredKey(SecretString::from(pem)))
    }

    pub(super) fn journal_key(&self) -> Option<[u8; 32]> {
        self.secret.data.get(JOURNAL_KEY)?.0.as_slice().try_into().ok()
    }

    pub(super) async fn with_journal_key(mut self, cluster: &Cluster) -> Result<Self, IdentityError> {
        let mut key = [0; 32];
        aws_lc_rs::rand::fill(&mut key).expect("the system gives random bytes");
        self.secret.data.insert(JOURNAL_KEY.to_owned(), Bytes(key.to_vec()));
        self.write(cluster).await
    }

    /// A whole identity; `None` when a part of it is missing or is no PEM.
    pub(super) fn joined(&self) -> Option<Joined> {
        let key = StoredKey(SecretString::from(self.secret.text(KEY)?));
        let chain = certificates(self.secret.text(CHAIN)?)?;
        let roots = certificates(self.secret.text(ROOTS)?)?;
        Some(Joined { key, granted: Granted { chain, roots } })
    }

    pub(super) async fn with_joining_key(
        mut self,
        cluster: &Cluster,
        key: &SecretString,
        token: Digest,
    ) -> Result<Self, IdentityError> {
        self.secret.set(JOINING_KEY, key.expose_secret());
        self.secret.set(TOKEN, &token.to_string());
        self.write(cluster).await
    }

    pub(super) async fn with_certificate(
        mut self,
        cluster: &Cluster,
        key: &StoredKey,
        granted: &Granted,
    ) -> Result<Self, IdentityError> {
        self.secret.set(KEY, key.0.expose_secret());
        self.secret.set(CHAIN, &pem_of(&granted.chain));
        self.secret.set(ROOTS, &pem_of(&granted.roots));
        self.secret.data.remove(JOINING_KEY);
        self.write(cluster).await
    }

    /// The next certificate of the same key. A join that is under way beside it stays as it is.
    pub(super) async fn with_renewed(
        mut self,
        cluster: &Cluster,
        key: &StoredKey,
        granted: &Granted,
    ) -> Result<Self, IdentityError> {
        if self.secret.text(KEY) != Some(key.0.expose_secret()) {
            let namespace = self.secret.namespace().to_owned();
            return Err(IdentityError::Replaced { namespace, name: SECRET_NAME });
        }
        self.secret.set(CHAIN, &pem_of(&granted.chain));
        self.secret.set(ROOTS, &pem_of(&granted.roots));
        self.write(cluster).await
    }

    async fn write(self, cluster: &Cluster) -> Result<Self, IdentityError> {
        let namespace = self.secret.namespace().to_owned();
        let secret = cluster.write_secret(&self.secret).await.map_err(|source| storage(&namespace, source))?;
        Ok(Self { secret })
    }

    pub(super) fn unusable(&self, problem: impl std::fmt::Display) -> IdentityError {
        let namespace = self.secret.namespace().to_owned();
        IdentityError::Unusable { namespace, name: SECRET_NAME, problem: problem.to_string() }
    }
}

fn storage(namespace: &str, source: ClusterError) -> IdentityError {
    IdentityError::Storage { namespace: namespace.to_owned(), name: SECRET_NAME, source }
}

fn certificates(pem: &str) -> Option<Vec<Vec<u8>>> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let ders: Vec<_> = read.ok()?.into_iter().map(|der| der.to_vec()).collect();
    (!ders.is_empty()).then_some(ders)
}

fn pem_of(certificates: &[Vec<u8>]) -> String {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    let mut text = String::new();
    for der in certificates {
        text.push_str("-----BEGIN CERTIFICATE-----\n");
        let encoded = STANDARD.encode(der);
        // RFC 7468: lines of 64.
        for line in encoded.as_bytes().chunks(64) {
            text.extend(line.iter().map(|&byte| char::from(byte)));
            text.push('\n');
        }
        text.push_str("-----END CERTIFICATE-----\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_read_back_as_they_were_written() {
        let ders = vec![vec![0x30, 1, 2, 3], vec![9; 200]];

        assert_eq!(certificates(&pem_of(&ders)), Some(ders));
        assert_eq!(certificates(""), None);
    }

    #[test]
    fn an_identity_without_one_of_its_parts_is_none() {
        let mut stored = Stored { secret: Secret::new("bellwether-system", SECRET_NAME) };
        for (name, text) in [(KEY, "key"), (CHAIN, &pem_of(&[vec![1]])), (ROOTS, &pem_of(&[vec![2]]))] {
            assert!(stored.joined().is_none());
            stored.secret.set(name, text);
        }

        let joined = stored.joined().expect("all parts are there");

        assert_eq!((joined.granted.chain, joined.granted.roots), (vec![vec![1]], vec![vec![2]]));
    }
}
