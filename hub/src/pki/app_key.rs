//! Keys that sign JSON web tokens: RSA with SHA-256, as GitHub has its apps sign. They live in memory and in sealed rows.

use std::fmt;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::Value;

/// A key of 16,384 bits is smaller.
const PEM_BYTES_MAX: usize = 32 * 1024;

pub(crate) struct AppKey(RsaKeyPair);

impl fmt::Debug for AppKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AppKey(…)")
    }
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("this is no RSA private key in PEM form")]
pub(crate) struct InvalidAppKey;

impl AppKey {
    /// `BEGIN RSA PRIVATE KEY`, as GitHub gives it, or `BEGIN PRIVATE KEY`.
    pub(crate) fn parse(pem: &str) -> Result<Self, InvalidAppKey> {
        if pem.len() > PEM_BYTES_MAX {
            return Err(InvalidAppKey);
        }
        let key = match PrivateKeyDer::from_pem_slice(pem.as_bytes()).map_err(|_| InvalidAppKey)? {
            PrivateKeyDer::Pkcs1(der) => RsaKeyPair::from_der(der.secret_pkcs1_der()),
            PrivateKeyDer::Pkcs8(der) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
            _ => return Err(InvalidAppKey),
        };
        key.map(Self).map_err(|_| InvalidAppKey)
    }

    /// A JSON web token that says this.
    pub(crate) fn sign(&self, claims: &Value) -> String {
        let parts = [r#"{"alg":"RS256","typ":"JWT"}"#.to_owned(), claims.to_string()];
        let said = parts.map(|part| URL_SAFE_NO_PAD.encode(part)).join(".");
        let mut signature = vec![0; self.0.public_modulus_len()];
        self.0
            .sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), said.as_bytes(), &mut signature)
            .expect("a key that was accepted signs");
        format!("{said}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
