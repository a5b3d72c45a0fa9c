//! The key that a repo is read with. It lives in memory and in sealed rows; no program and no file is given it.

use std::borrow::Cow;

use russh::keys::ssh_key::LineEnding;
use russh::keys::ssh_key::private::{Ed25519Keypair, KeypairData};
use russh::keys::{Algorithm, PrivateKey, decode_secret_key};
use secrecy::SecretString;
use secrecy::zeroize::Zeroize as _;

use crate::pki::seal::random;

/// A key of 16,384 bits with its comment is smaller.
const BYTES_MAX: usize = 32 << 10;

pub(crate) struct SshKey(pub(super) PrivateKey);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidKey {
    #[error("the key has a passphrase")]
    HasPassphrase,
    #[error("a public key was given, where the private one is needed")]
    Public,
    #[error("this is no private key in the form that `ssh-keygen` writes")]
    NotAKey,
    #[error("keys of the kind {kind} are not supported")]
    UnsupportedKind { kind: String },
}

impl InvalidKey {
    pub(crate) const fn code(&self) -> &'static str {
        match self {
            Self::HasPassphrase => "credential_has_passphrase",
            Self::Public | Self::NotAKey | Self::UnsupportedKind { .. } => "credential_invalid",
        }
    }

    pub(crate) fn hint(&self) -> Option<Cow<'static, str>> {
        Some(Cow::Borrowed(match self {
            Self::HasPassphrase => {
                "nobody is there to type it: make a key of its own for the hub (`ssh-keygen -t ed25519 -N '' -f FILE`), or \
                 take the passphrase off a copy (`ssh-keygen -p -N '' -f COPY`); the hub seals it"
            }
            Self::Public => "give the file without `.pub`",
            Self::NotAKey | Self::UnsupportedKind { .. } => {
                "make one for the hub: `ssh-keygen -t ed25519 -N '' -f FILE`; ed25519, ecdsa and rsa can be used"
            }
        }))
    }
}

impl SshKey {
    /// A new one as `ssh-keygen -t ed25519` writes it, and its public half.
    pub(crate) fn make(comment: &str) -> (SecretString, String) {
        let mut seed = random::<32>();
        let pair = KeypairData::Ed25519(Ed25519Keypair::from_seed(&seed));
        seed.zeroize();
        let key = PrivateKey::new(pair, comment).expect("a pair of this kind is a key");
        let text = key.to_openssh(LineEnding::LF).expect("a key is written as text");
        let public = Self(key).public_line().expect("a key is written as text");
        (SecretString::from(text.as_str()), public)
    }

    /// As hosts take it.
    pub(crate) fn public_line(&self) -> Option<String> {
        self.0.public_key().to_openssh().ok()
    }

    pub(crate) fn parse(text: &str) -> Result<Self, InvalidKey> {
        if text.len() > BYTES_MAX {
            return Err(InvalidKey::NotAKey);
        }
        if ["ssh-", "ecdsa-", "sk-"].iter().any(|start| text.trim_start().starts_with(start)) {
            return Err(InvalidKey::Public);
        }
        // What OpenSSL wrote before says so in clear text.
        if text.contains("ENCRYPTED") {
            return Err(InvalidKey::HasPassphrase);
        }
        let key = match decode_secret_key(text, None) {
            Ok(key) => key,
            Err(russh::keys::Error::KeyIsEncrypted) => return Err(InvalidKey::HasPassphrase),
            // What it says could tell of the key.
            Err(_) => return Err(InvalidKey::NotAKey),
        };
        if key.is_encrypted() {
            return Err(InvalidKey::HasPassphrase);
        }
        match key.algorithm() {
            Algorithm::Ed25519 | Algorithm::Ecdsa { .. } | Algorithm::Rsa { .. } => Ok(Self(key)),
            other => Err(InvalidKey::UnsupportedKind { kind: other.to_string() }),
        }
    }
}
