//! Sets of APIs that clusters serve, each stored once.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::Digest;
use bellwether_core::apis::Apis;
use jiff::Timestamp;

use super::{Connection, StoreError, to_sql};

/// Holds its row until the transaction ends, so that nobody deletes it before a stream names it.
pub(crate) async fn mark(db: &mut Connection, apis: &Apis, now: Timestamp) -> Result<(), StoreError> {
    let digest = apis.digest();
    sqlx::query!(
        r#"
        insert into api_sets (digest, apis, seen_at) values ($1, $2, $3)
            on conflict (digest) do update set seen_at = excluded.seen_at
        "#,
        digest.as_bytes(),
        apis.text(),
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(())
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

/// Deletes one that no stream names.
pub(crate) async fn delete_unnamed(db: &mut Connection, digest: Digest) -> Result<(), StoreError> {
    sqlx::query!(
        "delete from api_sets where digest = $1 and not exists (select from sessions where apis = $1)",
        digest.as_bytes(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Deletes so many of those that no stream names and that nobody brought since then; says how many it deleted.
pub(crate) async fn delete_unseen(db: &mut Connection, before: Timestamp, limit: i64) -> Result<u64, StoreError> {
    let deleted = sqlx::query!(
        r#"
        delete from api_sets
         where digest in (select a.digest from api_sets a
                           where a.seen_at < $1 and not exists (select from sessions s where s.apis = a.digest)
                           limit $2)
        "#,
        to_sql(before),
        limit,
    )
    .execute(db)
    .await?;
    Ok(deleted.rows_affected())
}
