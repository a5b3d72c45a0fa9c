//! Bundles: the rendered objects of a target, content-addressed.
//!
//! A bundle's manifest is the sorted list of its objects with their digests, and the hash of the manifest is the
//! bundle's digest. It never says when or from which commit it was made: the same objects are the same bundle.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{Digest, ObjectKey};

/// Objects in one bundle. At ~200 bytes each the manifest stays below [`MANIFEST_BYTES_MAX`].
pub const OBJECTS_MAX: usize = 10_000;

/// Of a manifest, encoded: with what a plan may delete beside it, it has to fit the 4 MiB that a message may have.
pub const MANIFEST_BYTES_MAX: usize = 2_560 * 1024;

/// One line of a manifest: an object, and the SHA-256 of its canonical JSON.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Entry {
    #[serde(flatten)]
    pub key: ObjectKey,
    pub digest: Digest,
}

/// What a bundle consists of, in order of the objects' keys. A clone is the same lines: a fleet of ten thousand that runs
/// one bundle keeps them once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    entries: Arc<[Entry]>,
    digest: Digest,
}

/// Why there is no such manifest. `Duplicate`, `TooMany` and `TooLarge` come of objects; the others of bytes that are
/// read.
#[derive(Debug, thiserror::Error)]
pub enum ManifestError {
    #[error("{0} stands twice")]
    Duplicate(ObjectKey),
    #[error("{0} objects are more than the {OBJECTS_MAX} of one bundle")]
    TooMany(usize),
    #[error(
        "its list of objects has {0} bytes, more than the {MANIFEST_BYTES_MAX} of one bundle: share it out over several targets"
    )]
    TooLarge(usize),
    #[error("the manifest cannot be read")]
    Unreadable(#[from] serde_json::Error),
    #[error("the manifest hashes to {found:?}, not to {expected:?}")]
    Mismatch { expected: Digest, found: Digest },
    #[error("the manifest's lines are not in order")]
    Unsorted,
}

impl Manifest {
    /// Of lines in any order. Refuses two that are one object to an API server ([`ObjectKey::identity`]), and what is
    /// over [`OBJECTS_MAX`] or [`MANIFEST_BYTES_MAX`].
    pub fn new(mut entries: Vec<Entry>) -> Result<Self, ManifestError> {
        if entries.len() > OBJECTS_MAX {
            return Err(ManifestError::TooMany(entries.len()));
        }
        entries.sort();
        let mut identities: Vec<_> = entries.iter().map(|entry| entry.key.identity()).collect();
        identities.sort_unstable();
        if let Some(twice) = identities.windows(2).find(|pair| pair[0] == pair[1]) {
            let twin = entries.iter().find(|entry| entry.key.identity() == twice[0]).expect("it was listed from these");
            return Err(ManifestError::Duplicate(twin.key.clone()));
        }
        let encoded = encode(&entries);
        if encoded.len() > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLarge(encoded.len()));
        }
        let digest = Digest::of(&encoded);
        Ok(Self { entries: entries.into(), digest })
    }

    /// In the order of their keys.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Of [`Manifest::encode`]: the bundle's name.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// A bundle without objects: a rollout to it pauses.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The bytes whose hash is the bundle's digest: one JSON line per object.
    pub fn encode(&self) -> Vec<u8> {
        encode(&self.entries)
    }

    /// Reads what [`Manifest::encode`] wrote, and takes it only if it is the bundle that was named.
    pub fn decode(bytes: &[u8], expected: Digest) -> Result<Self, ManifestError> {
        let found = Digest::of(bytes);
        if found != expected {
            return Err(ManifestError::Mismatch { expected, found });
        }
        let lines = bytes.split(|&byte| byte == b'\n').filter(|line| !line.is_empty());
        let entries = lines.map(serde_json::from_slice).collect::<Result<Vec<Entry>, _>>()?;
        let manifest = Self::new(entries)?;
        if manifest.digest == expected { Ok(manifest) } else { Err(ManifestError::Unsorted) }
    }
}

fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(entries.len() * 200);
    for entry in entries {
        serde_json::to_writer(&mut bytes, entry).expect("writing strings into memory cannot fail");
        bytes.push(b'\n');
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(api_version: &str, name: &str) -> Entry {
        let key = ObjectKey {
            api_version: api_version.to_owned(),
            kind: "ConfigMap".to_owned(),
            namespace: Some("shop".to_owned()),
            name: name.to_owned(),
        };
        Entry { key, digest: Digest::of(name.as_bytes()) }
    }

    #[test]
    fn the_order_in_which_objects_come_does_not_matter() {
        let one = Manifest::new(vec![entry("v1", "a"), entry("v1", "b")]).expect("is a manifest");
        let other = Manifest::new(vec![entry("v1", "b"), entry("v1", "a")]).expect("is a manifest");

        assert_eq!(one.digest(), other.digest());
        assert_eq!(Manifest::decode(&one.encode(), one.digest()).expect("reads back"), one);
    }

    #[test]
    fn a_manifest_that_no_message_could_carry_is_refused() {
        let long = "x".repeat(250);
        let entries = |count: usize| (0..count).map(|number| entry("v1", &format!("{long}{number}"))).collect();

        assert!(Manifest::new(entries(5_000)).is_ok());
        assert!(matches!(Manifest::new(entries(10_000)), Err(ManifestError::TooLarge(_))));
    }

    #[test]
    fn the_same_object_in_two_versions_is_a_duplicate() {
        let twice = Manifest::new(vec![entry("v1", "a"), entry("v1", "b"), entry("v2", "a")]);
        let group_differs = Manifest::new(vec![entry("g/v1", "a"), entry("v1", "a")]);

        assert!(matches!(twice, Err(ManifestError::Duplicate(_))));
        assert!(group_differs.is_ok());
    }

    #[test]
    fn a_manifest_with_another_digest_is_refused() {
        let manifest = Manifest::new(vec![entry("v1", "a")]).expect("is a manifest");

        let read = Manifest::decode(&manifest.encode(), Digest::of(b"other"));

        assert!(matches!(read, Err(ManifestError::Mismatch { .. })));
    }
}
