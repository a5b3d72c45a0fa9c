//! Signatures as `ssh-keygen -Y sign -n git` makes them.

use russh::keys::PublicKey;
use russh::keys::ssh_key::{HashAlg, SshSig};

use super::{InvalidVerifyKey, Unverified};

pub(super) const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----";

/// So that what was signed for something else is no signature of a commit.
const NAMESPACE: &str = "git";

#[derive(Debug, Clone)]
pub(super) struct Key(PublicKey);

impl Key {
    pub(super) fn id(&self) -> String {
        id_of(&self.0)
    }
}

fn id_of(key: &PublicKey) -> String {
    format!("ssh:{}", key.fingerprint(HashAlg::Sha256))
}

/// One a line, as they stand in a `.pub` file.
pub(super) fn read(text: &str) -> Result<Vec<Key>, InvalidVerifyKey> {
    let mut keys = Vec::new();
    for (line, text) in (1..).zip(text.lines()) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let invalid = || if line == 1 { InvalidVerifyKey::Unknown } else { InvalidVerifyKey::Ssh { line } };
        keys.push(Key(PublicKey::from_openssh(text).map_err(|_| invalid())?));
    }
    Ok(keys)
}

pub(super) fn find_signer(keys: &[Key], content: &[u8], signature: &[u8]) -> Result<String, Unverified> {
    let Ok(signature) = SshSig::from_pem(signature) else { return Err(Unverified::ByOthers(None)) };
    let signer = signature.public_key();
    let Some(Key(key)) = keys.iter().find(|Key(key)| key.key_data() == signer) else {
        return Err(Unverified::ByOthers(Some(id_of(&PublicKey::from(signer.clone())))));
    };
    match key.verify(NAMESPACE, content, &signature) {
        Ok(()) => Ok(id_of(key)),
        Err(_) => Err(Unverified::NotGood { key: id_of(key), reason: "is not over this content" }),
    }
}
