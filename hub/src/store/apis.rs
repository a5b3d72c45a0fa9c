//! Sets of APIs that clusters serve.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::Digest;
use bellwether_core::apis::Apis;
use jiff::Timestamp;

use super::{Connection, StoreError};

mod rows {
    use super::super::sets::{marked, named};

    marked!("api_sets", "apis");
    named!("api_sets", "select from sessions s where s.apis = said.digest");
}

pub(crate) use rows::delete_unseen;

/// Keeps its row until the transaction ends.
pub(crate) async fn mark(db: &mut Connection, apis: &Apis, now: Timestamp) -> Result<(), StoreError> {
    rows::mark(db, apis.digest(), apis.text(), now).await.map(drop)
}

/// Deletes those of these that no session names. The caller's is a transaction.
pub(crate) async fn delete_unnamed(db: &mut Connection, sets: &BTreeSet<Digest>) -> Result<(), StoreError> {
    let sets: Vec<_> = sets.iter().map(|digest| digest.as_bytes().to_vec()).collect();
    rows::delete_unnamed(db, &sets).await.map(drop)
}

/// Which of these are stored.
pub(crate) async fn list_known(
    db: &mut Connection,
    digests: &BTreeSet<Digest>,
) -> Result<BTreeSet<Digest>, StoreError> {
    if digests.is_empty() {
        return Ok(BTreeSet::new());
    }
    let digests: Vec<_> = digests.iter().map(|digest| digest.as_bytes().to_vec()).collect();
    let known =
        sqlx::query_scalar!("select digest from api_sets where digest = any($1)", &digests).fetch_all(db).await?;
    known.iter().map(|digest| super::digest(digest, "api_sets")).collect()
}

/// Those of these that are stored and can be read.
pub(crate) async fn load(
    db: &mut Connection,
    digests: &BTreeSet<Digest>,
) -> Result<BTreeMap<Digest, Apis>, StoreError> {
    if digests.is_empty() {
        return Ok(BTreeMap::new());
    }
    let digests: Vec<_> = digests.iter().map(|digest| digest.as_bytes().to_vec()).collect();
    let sets = sqlx::query_scalar!("select apis from api_sets where digest = any($1)", &digests).fetch_all(db).await?;
    Ok(sets.iter().filter_map(|text| Apis::parse(text).ok()).map(|apis| (apis.digest(), apis)).collect())
}
