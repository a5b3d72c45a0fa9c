//! Manifests and objects by their digests, which never change: what was read or written lately is kept in memory.
//!
//! A fleet that moves to one bundle reads it once, and not once for each cluster. What is kept is only spared reading: it
//! may be dropped at any time, and which cluster may have what is decided by its rows.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bellwether_core::Digest;
use bellwether_core::bundle::{Manifest, OBJECTS_MAX};
use bellwether_proto::compression;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::store::bundles::Blob;
use crate::store::{self, Connection, Pool, StoreError};

/// A line has three names of at most 253 bytes, a kind and a digest.
const MANIFEST_BYTES_MAX: usize = OBJECTS_MAX * 1024;
/// Of a line in memory, about: four short strings and a digest.
const LINE_BYTES: u64 = 250;
/// Of manifests, and again of compressed objects: what is on its way to a fleet fits many times.
const KEPT_BYTES_MAX: u64 = 16 * 1024 * 1024;
/// What the tables are made for at first.
const KEPT_ITEMS: usize = 1_000;

#[derive(Debug)]
pub(crate) struct Content {
    manifests: Cache<Digest, Manifest, Weight>,
    /// Compressed, as they rest and travel.
    objects: Cache<Digest, Arc<[u8]>, Weight>,
}

#[derive(Debug, Clone)]
struct Weight;

impl Weighter<Digest, Manifest> for Weight {
    fn weight(&self, _: &Digest, manifest: &Manifest) -> u64 {
        LINE_BYTES * (1 + manifest.entries().len() as u64)
    }
}

impl Weighter<Digest, Arc<[u8]>> for Weight {
    fn weight(&self, _: &Digest, frame: &Arc<[u8]>) -> u64 {
        LINE_BYTES + frame.len() as u64
    }
}

impl Default for Content {
    fn default() -> Self {
        Self {
            manifests: Cache::with_weighter(KEPT_ITEMS, KEPT_BYTES_MAX, Weight),
            objects: Cache::with_weighter(KEPT_ITEMS, KEPT_BYTES_MAX, Weight),
        }
    }
}

impl Content {
    pub(crate) fn keep_manifest(&self, manifest: Manifest) {
        self.manifests.insert(manifest.digest(), manifest);
    }

    pub(crate) fn keep_objects(&self, blobs: &[Blob]) {
        for blob in blobs {
            self.objects.insert(blob.digest, blob.frame.as_slice().into());
        }
    }

    /// Manifests of these bundles; those that are not stored are left out.
    pub(crate) async fn load_manifests(
        &self,
        db: &mut Connection,
        digests: &BTreeSet<Digest>,
    ) -> Result<BTreeMap<Digest, Manifest>, StoreError> {
        let known = digests.iter().filter_map(|digest| Some((*digest, self.manifests.get(digest)?)));
        let mut manifests: BTreeMap<_, _> = known.collect();
        let missing: Vec<_> = digests.iter().filter(|digest| !manifests.contains_key(digest)).copied().collect();
        if missing.is_empty() {
            return Ok(manifests);
        }
        for manifest in read_manifests(db, &missing).await? {
            let manifest = manifest?;
            self.keep_manifest(manifest.clone());
            manifests.insert(manifest.digest(), manifest);
        }
        Ok(manifests)
    }

    /// The same. Those that cannot be read are left out too, and named in the log.
    pub(crate) async fn load_readable(
        &self,
        db: &mut Connection,
        digests: &BTreeSet<Digest>,
    ) -> Result<BTreeMap<Digest, Manifest>, StoreError> {
        match self.load_manifests(db, digests).await {
            Err(StoreError::Unreadable { .. }) => {}
            other => return other,
        }
        let mut manifests = BTreeMap::new();
        for digest in digests {
            match self.load_manifests(db, &[*digest].into()).await {
                Err(error @ StoreError::Unreadable { .. }) => {
                    tracing::error!(bundle = %digest, error = %crate::chain(&error), "cannot read a bundle");
                }
                other => manifests.extend(other?),
            }
        }
        Ok(manifests)
    }

    /// All of these objects, compressed, if all of them are kept.
    pub(crate) fn find_objects(&self, digests: &[Digest]) -> Option<Vec<(Digest, Arc<[u8]>)>> {
        digests.iter().map(|digest| Some((*digest, self.objects.get(digest)?))).collect()
    }

    /// These objects, compressed. Those that are not stored are left out.
    pub(crate) async fn load_objects(
        &self,
        pool: &Pool,
        digests: &[Digest],
    ) -> Result<Vec<(Digest, Arc<[u8]>)>, StoreError> {
        let known = digests.iter().filter_map(|digest| Some((*digest, self.objects.get(digest)?)));
        let mut objects: BTreeMap<_, _> = known.collect();
        let missing: Vec<_> = digests.iter().filter(|digest| !objects.contains_key(digest)).copied().collect();
        if !missing.is_empty() {
            let mut db = pool.acquire().await?;
            let blobs = store::bundles::list_objects(&mut db, &missing).await?;
            drop(db);
            self.keep_objects(&blobs);
            objects.extend(blobs.into_iter().map(|blob| (blob.digest, blob.frame.into())));
        }
        Ok(objects.into_iter().collect())
    }
}

/// As they are stored, whatever is kept in memory; those that are not stored are left out.
pub(crate) async fn read_manifests(
    db: &mut Connection,
    digests: &[Digest],
) -> Result<Vec<Result<Manifest, StoreError>>, StoreError> {
    let unreadable = || StoreError::Unreadable { table: "bundles", column: "manifest" };
    let read = |blob: Blob| {
        let bytes = compression::decompress(&blob.frame, MANIFEST_BYTES_MAX).ok_or_else(unreadable)?;
        Manifest::decode(&bytes, blob.digest).map_err(|_| unreadable())
    };
    Ok(store::bundles::list_manifests(db, digests).await?.into_iter().map(read).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_has_a_bound() {
        let content = Content::default();
        let frame = vec![0; 1024 * 1024];

        for number in 0..64_u32 {
            content.keep_objects(&[Blob { digest: Digest::of(&number.to_be_bytes()), frame: frame.clone() }]);
        }

        assert!(content.objects.weight() <= KEPT_BYTES_MAX);
        assert!(content.objects.len() > 4, "{}", content.objects.len());
    }
}
