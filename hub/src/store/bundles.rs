//! Objects and bundles, content-addressed and compressed.

use bellwether_core::Digest;
use jiff::Timestamp;

use super::{Connection, StoreError, to_sql};

/// A blob under its digest: compressed, as it rests and as it travels.
#[derive(Debug, Clone)]
pub(crate) struct Blob {
    pub(crate) digest: Digest,
    pub(crate) frame: Vec<u8>,
}

/// Objects of these that the store lacks; the others are marked as used.
///
/// `used_at` is to the day: an object in each commit's bundle is written once a day, not once a commit.
pub(crate) async fn list_missing_objects(
    db: &mut Connection,
    digests: &[Digest],
    now: Timestamp,
) -> Result<Vec<Digest>, StoreError> {
    let wanted: Vec<_> = digests.iter().map(|digest| digest.as_bytes().to_vec()).collect();
    let missing = sqlx::query_scalar!(
        r#"
        with touched as (
            update objects
               set used_at = $2::timestamptz
             where digest = any($1) and used_at < $2::timestamptz - interval '1 day'
        )
        select wanted as "wanted!"
          from unnest($1::bytea[]) as wanted
         where not exists (select from objects where digest = wanted)
        "#,
        &wanted,
        to_sql(now),
    )
    .fetch_all(db)
    .await?;
    missing.iter().map(|bytes| super::digest(bytes, "objects")).collect()
}

/// Sorted by digest, so that two hubs that write the same wait for each other instead of deadlocking.
pub(crate) async fn insert_objects(
    db: &mut Connection,
    mut blobs: Vec<Blob>,
    now: Timestamp,
) -> Result<(), StoreError> {
    blobs.sort_unstable_by_key(|blob| blob.digest);
    let digests: Vec<_> = blobs.iter().map(|blob| blob.digest.as_bytes().to_vec()).collect();
    let bodies: Vec<_> = blobs.into_iter().map(|blob| blob.frame).collect();
    sqlx::query!(
        r#"
        insert into objects (digest, body, used_at)
        select digest, body, $3 from unnest($1::bytea[], $2::bytea[]) as o (digest, body)
            on conflict do nothing
        "#,
        &digests,
        &bodies,
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(())
}

pub(crate) async fn insert_bundle(
    db: &mut Connection,
    manifest: &Blob,
    objects: usize,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into bundles (digest, manifest, objects, used_at)
        values ($1, $2, $3, $4)
            on conflict (digest) do update
           set used_at = excluded.used_at
         where bundles.used_at < excluded.used_at - interval '1 day'
        "#,
        manifest.digest.as_bytes(),
        manifest.frame,
        i32::try_from(objects).expect("a manifest has at most 10,000 lines"),
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Whether one of these bundles has no objects.
pub(crate) async fn is_any_empty(db: &mut Connection, digests: &[Digest]) -> Result<bool, StoreError> {
    let digests: Vec<_> = digests.iter().map(|digest| digest.as_bytes().to_vec()).collect();
    let is_any = sqlx::query_scalar!(
        r#"select exists (select from bundles where digest = any($1) and objects = 0) as "is_any!""#,
        &digests,
    )
    .fetch_one(db)
    .await?;
    Ok(is_any)
}

pub(crate) async fn list_manifests(db: &mut Connection, digests: &[Digest]) -> Result<Vec<Blob>, StoreError> {
    let wanted: Vec<_> = digests.iter().map(|digest| digest.as_bytes().to_vec()).collect();
    let rows =
        sqlx::query!("select digest, manifest from bundles where digest = any($1)", &wanted).fetch_all(db).await?;
    rows.into_iter()
        .map(|row| Ok(Blob { digest: super::digest(&row.digest, "bundles")?, frame: row.manifest }))
        .collect()
}

/// Bodies of these objects, in the order of their digests; those that are not there are left out.
pub(crate) async fn list_objects(db: &mut Connection, digests: &[Digest]) -> Result<Vec<Blob>, StoreError> {
    let wanted: Vec<_> = digests.iter().map(|digest| digest.as_bytes().to_vec()).collect();
    let rows = sqlx::query!("select digest, body from objects where digest = any($1) order by digest", &wanted)
        .fetch_all(db)
        .await?;
    rows.into_iter().map(|row| Ok(Blob { digest: super::digest(&row.digest, "objects")?, frame: row.body })).collect()
}
