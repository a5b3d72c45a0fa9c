//! The mark by which a part of the journal is known to be this agent's.
//!
//! Whoever may create a Secret in the agent's namespace can give it the journal's label. What the agent acts on is only
//! what was made with the key in its identity's Secret.

use aws_lc_rs::hmac;

#[derive(Clone)]
pub(crate) struct Seal(hmac::Key);

impl Seal {
    pub(crate) fn new(key: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    pub(super) fn tag(&self, fields: &[&[u8]]) -> Vec<u8> {
        hmac::sign(&self.0, &joined(fields)).as_ref().to_vec()
    }

    pub(super) fn is_good(&self, fields: &[&[u8]], tag: &[u8]) -> bool {
        hmac::verify(&self.0, &joined(fields), tag).is_ok()
    }
}

/// Each with its length before it, so that no byte can move from one to the next.
fn joined(fields: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in fields {
        bytes.extend_from_slice(&(field.len() as u64).to_be_bytes());
        bytes.extend_from_slice(field);
    }
    bytes
}
