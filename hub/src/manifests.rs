//! Manifests, read from the store.

use std::collections::BTreeMap;

use bellwether_core::Digest;
use bellwether_core::bundle::{Manifest, OBJECTS_MAX};
use bellwether_proto::zip;

use crate::store::{self, Connection, StoreError};

/// A line has three names of at most 253 bytes, a kind and a digest.
const MANIFEST_BYTES_MAX: usize = OBJECTS_MAX * 1024;

/// Manifests of these bundles; those that are not there are left out.
pub(crate) async fn load(db: &mut Connection, digests: &[Digest]) -> Result<BTreeMap<Digest, Manifest>, StoreError> {
    let unreadable = || StoreError::Unreadable { table: "bundles", column: "manifest" };
    let mut manifests = BTreeMap::new();
    for blob in store::bundles::list_manifests(db, digests).await? {
        let bytes = zip::inflate(&blob.frame, MANIFEST_BYTES_MAX).ok_or_else(unreadable)?;
        let manifest = Manifest::decode(&bytes, blob.digest).map_err(|_| unreadable())?;
        manifests.insert(blob.digest, manifest);
    }
    Ok(manifests)
}
