//! Whether a revision may be rolled out, as far as signatures go.
//!
//! Asked each time that a revision is to be rolled out, of the repo as it is now: keys count for what was seen before they were
//! given, too. The source stage finds out who signed what and writes it into the revision; nobody else has to look at a
//! signature.

use std::collections::BTreeSet;
use std::sync::{Arc, LazyLock};

use bellwether_core::repo::RepoSpec;
use bellwether_core::signature::{self, Signed, Verified, Verify};
use bellwether_core::{Condition, Digest, RevisionId};
use jiff::Timestamp;
use quick_cache::sync::Cache;

use super::git::Verifier;
use super::oci::CosignKey;
use crate::store::renders::Render;
use crate::store::revisions::Revision;
use crate::store::sources::ReadSource;
use crate::store::targets::Target;
use crate::store::{self, Connection, StoreError};

/// What has to be signed, and by whom.
pub(crate) struct Policy {
    signed: Signed,
    keys: Arc<BTreeSet<String>>,
}

/// Which signatures count, by what a repo says: a team's keys are looked through once, and asked for whenever a rollout is
/// looked at. As many as an installation has repos with keys; others are looked through again.
static KEYS: LazyLock<Cache<Digest, Arc<BTreeSet<String>>>> = LazyLock::new(|| Cache::new(1_000));

fn keys_of(verify: &Verify) -> Arc<BTreeSet<String>> {
    let read = || Verifier::read(verify).map(|verifier| verifier.ids()).unwrap_or_default();
    let texts = Digest::of_parts(verify.keys.iter().map(String::as_bytes));
    let found = KEYS.get_or_insert_with(&texts, || Ok::<_, std::convert::Infallible>(Arc::new(read())));
    let Ok(found) = found;
    found
}

impl Policy {
    /// `None`: nothing has to be signed. A key that cannot be read has signed nothing.
    pub(crate) fn of(spec: &RepoSpec) -> Option<Self> {
        if let Some(verify) = &spec.verify {
            return Some(Self { signed: Signed::Git(verify.mode), keys: keys_of(verify) });
        }
        if spec.cosign_keys.is_empty() {
            return None;
        }
        let keys = spec.cosign_keys.iter().filter_map(|pem| CosignKey::read(pem).ok());
        Some(Self { signed: Signed::Artifact, keys: Arc::new(keys.map(|key| key.id().to_owned()).collect()) })
    }

    pub(crate) fn admits(&self, verified: Option<&Verified>) -> bool {
        signature::is_admitted(self.signed, verified, &self.keys)
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

/// Whether the keys of now, of each repo that a render is of, have signed what it read there.
pub(crate) async fn is_admitted(db: &mut Connection, target: &Target, render: &Render) -> Result<bool, StoreError> {
    let policy = load_policy(db, target).await?;
    admits(db, policy.as_ref(), (render.revision, &render.sources)).await
}

/// `own` is the policy of the target's own repo.
pub(crate) async fn admits(
    db: &mut Connection,
    own: Option<&Policy>,
    (revision, sources): (RevisionId, &[ReadSource]),
) -> Result<bool, StoreError> {
    if let Some(policy) = own {
        let revision = store::revisions::find(db, revision).await?;
        if !revision.is_some_and(|revision| policy.admits(revision.verified.as_ref())) {
            return Ok(false);
        }
    }
    for read in sources {
        let repo = store::repos::find(db, read.repo).await?;
        let policy = repo.and_then(|repo| Policy::of(&repo.spec));
        if policy.is_some_and(|policy| !policy.admits(read.verified.as_ref())) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `None`: nothing has to be signed.
pub(crate) async fn load_policy(db: &mut Connection, target: &Target) -> Result<Option<Policy>, StoreError> {
    Ok(store::repos::find(db, target.repo).await?.and_then(|repo| Policy::of(&repo.spec)))
}

#[cfg(test)]
mod tests {
    use bellwether_core::signature::VerifyMode;

    use super::*;
    use crate::source::git::signers::Signer;

    #[test]
    fn keys_are_looked_through_once_however_often_they_are_asked_for() {
        let (ada, ben) = (Signer::ssh(&["ed25519"]), Signer::ssh(&["ed25519"]));
        let of = |signers: &[&Signer]| {
            let keys = signers.iter().map(|signer| signer.public.clone()).collect();
            keys_of(&Verify { mode: VerifyMode::Commit, keys })
        };

        assert!(Arc::ptr_eq(&of(&[&ada]), &of(&[&ada])));
        assert_eq!(*of(&[&ada, &ben]), [ada.id.clone(), ben.id.clone()].into());
        assert_eq!(*of(&[&ben]), [ben.id.clone()].into());
    }
}
