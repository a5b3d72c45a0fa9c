//! Objects and bundles, content-addressed and compressed.

use bellwether_core::Digest;
use jiff::{SignedDuration, Timestamp};

use super::{Connection, StoreError, from_sql, to_sql};

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
    mark_objects_used(db, digests, SignedDuration::from_hours(24), now).await?;
    let wanted: Vec<_> = digests.iter().map(|digest| digest.as_bytes().to_vec()).collect();
    // A statement of its own: it sees what a sweep deleted before the objects were marked.
    let missing = sqlx::query_scalar!(
        r#"
        select wanted as "wanted!"
          from unnest($1::bytea[]) as wanted
         where not exists (select from objects where digest = wanted)
        "#,
        &wanted,
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

/// True: it was not there yet.
pub(crate) async fn insert_bundle(
    db: &mut Connection,
    manifest: &Blob,
    objects: usize,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let is_new = sqlx::query_scalar!(
        r#"
        insert into bundles (digest, manifest, objects, used_at)
        values ($1, $2, $3, $4)
            on conflict (digest) do update
           set used_at = excluded.used_at, manifest = excluded.manifest
         where bundles.used_at < excluded.used_at - interval '1 day' or bundles.manifest <> excluded.manifest
        returning xmax = 0 as "is_new!"
        "#,
        manifest.digest.as_bytes(),
        manifest.frame,
        i32::try_from(objects).expect("a manifest has at most 10,000 lines"),
        to_sql(now),
    )
    .fetch_optional(db)
    .await?;
    Ok(is_new.unwrap_or(false))
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

/// Those of these objects that are not stored.
pub(crate) async fn list_missing(db: &mut Connection, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
    let digests: Vec<_> = digests.iter().map(|digest| digest.as_bytes().to_vec()).collect();
    let missing = sqlx::query_scalar!(
        r#"
        select wanted as "wanted!"
          from unnest($1::bytea[]) as wanted
         where not exists (select from objects where digest = wanted)
        "#,
        &digests,
    )
    .fetch_all(db)
    .await?;
    missing.iter().map(|bytes| super::digest(bytes, "objects")).collect()
}

/// Bodies of these objects, in the order of their digests; those that are not there are left out.
pub(crate) async fn list_objects(db: &mut Connection, digests: &[Digest]) -> Result<Vec<Blob>, StoreError> {
    let wanted: Vec<_> = digests.iter().map(|digest| digest.as_bytes().to_vec()).collect();
    let rows = sqlx::query!("select digest, body from objects where digest = any($1) order by digest", &wanted)
        .fetch_all(db)
        .await?;
    rows.into_iter().map(|row| Ok(Blob { digest: super::digest(&row.digest, "objects")?, frame: row.body })).collect()
}

/// Those of these objects that were not for so long are marked as used. Locked by their digests' order, so that a sweep and
/// a render that mark the same wait for each other instead of deadlocking.
pub(crate) async fn mark_objects_used(
    db: &mut Connection,
    digests: &[Digest],
    unless_within: SignedDuration,
    now: Timestamp,
) -> Result<(), StoreError> {
    let digests: Vec<_> = digests.iter().map(|digest| digest.as_bytes().to_vec()).collect();
    sqlx::query!(
        r#"
        with unmarked as (
            select digest from objects where digest = any($1) and used_at < $3 order by digest for no key update
        )
        update objects o set used_at = $2 from unmarked where o.digest = unmarked.digest
        "#,
        &digests,
        to_sql(now),
        to_sql(now - unless_within),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// A bundle whose objects were not marked as used for a while.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unmarked {
    pub(crate) digest: Digest,
    pub(crate) marked_at: Timestamp,
    /// How many objects it names.
    pub(crate) objects: i32,
}

/// So many bundles whose objects were not marked as used since, the longest unmarked first, behind the given one.
pub(crate) async fn list_unmarked(
    db: &mut Connection,
    since: Timestamp,
    after: Option<Unmarked>,
    limit: i64,
) -> Result<Vec<Unmarked>, StoreError> {
    let after =
        after.map_or((Timestamp::UNIX_EPOCH, Vec::new()), |one| (one.marked_at, one.digest.as_bytes().to_vec()));
    let rows = sqlx::query!(
        r#"
        select digest, marked_at, objects
          from bundles
         where marked_at < $1 and (marked_at, digest) > ($2, $3)
         order by marked_at, digest
         limit $4
        "#,
        to_sql(since),
        to_sql(after.0),
        after.1,
        limit,
    )
    .fetch_all(db)
    .await?;
    let unmarked = rows.into_iter().map(|row| {
        let digest = super::digest(&row.digest, "bundles")?;
        Ok(Unmarked { digest, marked_at: from_sql(row.marked_at), objects: row.objects })
    });
    unmarked.collect()
}

/// The objects of these bundles are marked as used.
pub(crate) async fn mark_marked(db: &mut Connection, digests: &[Digest], now: Timestamp) -> Result<(), StoreError> {
    let digests: Vec<_> = digests.iter().map(|digest| digest.as_bytes().to_vec()).collect();
    sqlx::query!("update bundles set marked_at = $2 where digest = any($1)", &digests, to_sql(now)).execute(db).await?;
    Ok(())
}

/// Deletes so many of those that were not used since and that nothing names; says how many it deleted. Only those whose
/// objects are about to be marked are looked at: each once in a while, and not all of them at every sweep.
pub(crate) async fn delete_unused(
    db: &mut Connection,
    since: Timestamp,
    marked: Timestamp,
    limit: i64,
) -> Result<u64, StoreError> {
    let deleted = sqlx::query!(
        r#"
        delete from bundles
         where used_at < $1
           and digest in (
               select digest
                 from bundles b
                where used_at < $1 and marked_at < $3
                  and not exists (select from render_variants v where v.digest = b.digest)
                  and not exists (select from assignments a where a.digest = b.digest)
                  and not exists (select from rollout_clusters m where m.digest = b.digest)
                  and not exists (select from rollout_clusters m where m.digest_before = b.digest)
                limit $2
               )
        "#,
        to_sql(since),
        limit,
        to_sql(marked),
    )
    .execute(db)
    .await?;
    Ok(deleted.rows_affected())
}

/// Deletes so many of those that were not used since; says how many it deleted. None while there is a bundle that was not
/// marked since the other time: nobody knows which objects it names.
pub(crate) async fn delete_unused_objects(
    db: &mut Connection,
    since: Timestamp,
    marked: Timestamp,
    limit: i64,
) -> Result<u64, StoreError> {
    let deleted = sqlx::query!(
        r#"
        delete from objects
         where used_at < $1
           and digest in (select digest from objects where used_at < $1 limit $2)
           and not exists (select from bundles where marked_at < $3)
        "#,
        to_sql(since),
        limit,
        to_sql(marked),
    )
    .execute(db)
    .await?;
    Ok(deleted.rows_affected())
}
