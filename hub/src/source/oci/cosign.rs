//! Signatures by key, as `cosign sign --key` leaves them: a manifest under a tag that follows from the digest that is signed,
//! whose layers are what was signed, and whose annotations are the signatures.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, ParsedPublicKey};
use base64::Engine as _;
use rustls::pki_types::SubjectPublicKeyInfoDer;
use rustls::pki_types::pem::PemObject as _;
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

/// What was signed is some hundred bytes.
pub(super) const PAYLOAD_BYTES_MAX: u64 = 64 << 10;

/// More of one artifact are not looked at.
pub(super) const SIGNATURES_MAX: usize = 50;

pub(super) const PAYLOAD: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
pub(super) const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

const TYPE: &str = "cosign container image signature";

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidCosignKey {
    #[error("a key of `cosignKeys` is no public key in PEM form")]
    NotPem,
    #[error("a key of `cosignKeys` is not of the kind that `cosign generate-key-pair` makes, ECDSA on P-256")]
    NotP256,
}

/// A key that artifacts may be signed by.
#[derive(Debug)]
pub(crate) struct CosignKey {
    key: ParsedPublicKey,
    id: String,
}

impl CosignKey {
    pub(crate) fn read(pem: &str) -> Result<Self, InvalidCosignKey> {
        let key = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).map_err(|_| InvalidCosignKey::NotPem)?;
        let parsed = ParsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, key.as_ref());
        let key_id = format!("cosign:sha256:{}", hex::encode(Sha256::digest(key.as_ref())));
        parsed.map(|key| Self { key, id: key_id }).map_err(|_| InvalidCosignKey::NotP256)
    }

    /// How it is called where a revision is said to be verified by it: the hash that `openssl pkey -pubin -outform DER` and
    /// `sha256sum` give.
    pub(crate) fn id(&self) -> &str {
        &self.id
    }

    /// Whether it signed this payload, and that says this digest.
    pub(super) fn has_signed(&self, digest: &str, payload: &[u8], signature: &str) -> bool {
        let engine = base64::engine::general_purpose::STANDARD;
        let Ok(signature) = engine.decode(signature.trim()) else { return false };
        let Ok(says) = serde_json::from_slice::<Payload>(payload) else { return false };
        says.critical.kind == TYPE
            && says.critical.image.digest == digest
            && self.key.verify_sig(payload, &signature).is_ok()
    }
}

/// Under which tag the signatures of a digest are.
pub(super) fn tag_of(digest: &str) -> String {
    format!("{}.sig", digest.replace(':', "-"))
}

#[derive(Deserialize)]
struct Payload {
    critical: Critical,
}

#[derive(Deserialize)]
struct Critical {
    image: Image,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct Image {
    #[serde(rename = "docker-manifest-digest")]
    digest: String,
}
