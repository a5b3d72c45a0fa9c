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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::clock;
    use crate::store::Pool;
    use crate::store::rows::{MAIN, Rows};

    const HOUR: SignedDuration = SignedDuration::from_hours(1);

    fn blob(text: &str) -> Blob {
        Blob { digest: Digest::of(text.as_bytes()), frame: text.as_bytes().to_vec() }
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn what_is_used_again_is_marked_once_a_day_and_what_is_missing_is_said(pool: Pool) {
        let mut db = pool.acquire().await.expect("a connection");
        let (a, b, now) = (blob("a"), blob("b"), clock::now());
        insert_objects(&mut db, vec![b.clone(), a.clone()], now).await.expect("written");
        let other = Blob { frame: b"damaged".to_vec(), ..a.clone() };
        insert_objects(&mut db, vec![other], now + 48 * HOUR).await.expect("written");

        let wanted = [a.digest, b.digest, Digest::of(b"c")];
        let missing = list_missing_objects(&mut db, &wanted, now + HOUR).await.expect("read");
        assert_eq!(missing, [Digest::of(b"c")]);
        let swept = delete_unused_objects(&mut db, now + HOUR, now, 10).await.expect("swept");
        assert_eq!(swept, 2, "an hour is no day: neither was marked again");
        insert_objects(&mut db, vec![a.clone()], now).await.expect("written");
        list_missing_objects(&mut db, &wanted, now + 25 * HOUR).await.expect("read");
        assert_eq!(delete_unused_objects(&mut db, now + HOUR, now, 10).await.expect("swept"), 0);
        let read = list_objects(&mut db, &wanted).await.expect("read");
        assert_eq!(read.iter().map(|blob| blob.frame.as_slice()).collect::<Vec<_>>(), [b"a"]);
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn no_object_goes_while_there_is_a_bundle_that_was_not_marked(pool: Pool) {
        let mut db = pool.acquire().await.expect("a connection");
        let (object, bundle, now) = (blob("a"), blob("manifest"), clock::now());
        insert_objects(&mut db, vec![object], now - 9 * HOUR).await.expect("written");
        assert!(insert_bundle(&mut db, &bundle, 1, now).await.expect("written"), "it is new");
        assert!(!insert_bundle(&mut db, &bundle, 1, now).await.expect("written"));
        mark_marked(&mut db, &[bundle.digest], now - 3 * HOUR).await.expect("written");

        let held = delete_unused_objects(&mut db, now - HOUR, now - 2 * HOUR, 10).await.expect("swept");
        let unmarked = list_unmarked(&mut db, now, None, 10).await.expect("read");
        assert_eq!((held, unmarked.len()), (0, 1));
        let behind = list_unmarked(&mut db, now, Some(unmarked[0]), 10).await.expect("read");
        assert!(behind.is_empty(), "pages go on behind the last one");
        mark_marked(&mut db, &[bundle.digest], now).await.expect("written");
        assert_eq!(delete_unused_objects(&mut db, now - HOUR, now - 2 * HOUR, 10).await.expect("swept"), 1);
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_bundle_that_a_render_or_a_cluster_has_is_kept(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let target = rows.target("shop").await;
        let revision = rows.revision(MAIN, "a").await;
        let (rendered, assigned, unused) =
            (rows.bundle("rendered").await, rows.bundle("assigned").await, rows.bundle("unused").await);
        let render = rows.render(&target, revision, rendered).await;
        let rollout = rows.rollout(&target, render).await;
        let cluster = rows.cluster("c1").await;
        rows.assign(cluster, &rollout, assigned).await;
        let (db, later) = (&mut rows.db, clock::now() + HOUR);

        let young = delete_unused(db, clock::now() - HOUR, later, 10).await.expect("swept");
        let marked_lately = delete_unused(db, later, clock::now() - HOUR, 10).await.expect("swept");
        let swept = delete_unused(db, later, later, 10).await.expect("swept");

        assert_eq!((young, marked_lately, swept), (0, 0, 1));
        let left = list_manifests(db, &[rendered, assigned, unused]).await.expect("read");
        let mut left: Vec<_> = left.into_iter().map(|blob| blob.frame).collect();
        left.sort_unstable();
        assert_eq!(left, [b"assigned".to_vec(), b"rendered".to_vec()]);
    }
}
