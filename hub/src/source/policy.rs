//! Whether a revision may be rolled out, as far as signatures go.
//!
//! Asked each time that a revision is to be rolled out, of the repo as it is now: keys count for what was seen before they were
//! given, too. The source stage finds out who signed what and writes it into the revision; nobody else has to look at a
//! signature.

use std::collections::BTreeSet;

use bellwether_core::Condition;
use bellwether_core::repo::RepoSpec;
use bellwether_core::signature::{Signed, Verified, is_admitted};
use jiff::Timestamp;

use super::git::Verifier;
use super::oci::CosignKey;
use crate::store::revisions::Revision;

/// What has to be signed, and by whom.
pub(crate) struct Policy {
    signed: Signed,
    keys: BTreeSet<String>,
}

impl Policy {
    /// `None`: nothing has to be signed. A key that cannot be read has signed nothing.
    pub(crate) fn of(spec: &RepoSpec) -> Option<Self> {
        if let Some(verify) = &spec.verify {
            let keys = Verifier::read(verify).map(|verifier| verifier.ids()).unwrap_or_default();
            return Some(Self { signed: Signed::Git(verify.mode), keys });
        }
        if spec.cosign_keys.is_empty() {
            return None;
        }
        let keys = spec.cosign_keys.iter().filter_map(|pem| CosignKey::read(pem).ok());
        Some(Self { signed: Signed::Artifact, keys: keys.map(|key| key.id().to_owned()).collect() })
    }

    pub(crate) fn admits(&self, verified: Option<&Verified>) -> bool {
        is_admitted(self.signed, verified, &self.keys)
    }
}

/// What keeps a revision from being rolled out, unless something better is known.
pub(crate) fn hold(spec: &RepoSpec, revision: &Revision, now: Timestamp) -> Option<Condition> {
    let policy = Policy::of(spec)?;
    if policy.admits(revision.verified.as_ref()) {
        return None;
    }
    let message = format!("commit {} is not known to be signed by one of the repo's keys", revision.commit);
    let hint = "it is looked at with the next fetch of the repo: bellwether repo refresh; what runs goes on until then";
    Some(Condition::new("revision_unverified", &message, Some(hint), Some(now)))
}
