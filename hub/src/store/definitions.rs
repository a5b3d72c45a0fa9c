//! The definitions of clusters: lists of them and what is told of each, stored once for all clusters that have the same.
//!
//! One is stored only while the list of its cluster's newest stream names it, within what a cluster may store.

use std::collections::BTreeSet;

use bellwether_core::definitions::Definitions;
use bellwether_core::session::Packed;
use bellwether_core::{ClusterId, Digest, SessionNumber};
use jiff::Timestamp;

use super::{Connection, StoreError, from_sql, to_sql};

/// Of the definitions of one cluster, compressed: five times what those of all operators of a catalogue have. It is what
/// the key of one agent can fill.
const CLUSTER_BYTES_MAX: i64 = 16 * 1024 * 1024;

/// Holds its row until the transaction ends, so that nobody deletes it before a stream names it.
pub(crate) async fn mark(db: &mut Connection, list: &Definitions, now: Timestamp) -> Result<(), StoreError> {
    let digest = list.digest();
    let is_new = sqlx::query_scalar!(
        r#"
        insert into definition_lists (digest, listing, seen_at) values ($1, $2, $3)
            on conflict (digest) do update set seen_at = excluded.seen_at
        returning xmax = 0 as "is_new!"
        "#,
        digest.as_bytes(),
        list.text(),
        to_sql(now),
    )
    .fetch_one(&mut *db)
    .await?;
    if is_new {
        let named: BTreeSet<_> = list.digests().collect();
        let named: Vec<_> = named.iter().map(|digest| digest.as_bytes().to_vec()).collect();
        sqlx::query!(
            "insert into definition_names (list, digest) select $1, unnest($2::bytea[])",
            digest.as_bytes(),
            &named,
        )
        .execute(db)
        .await?;
    }
    Ok(())
}

/// Which of these lists are stored, with all that they name.
pub(crate) async fn list_whole(db: &mut Connection, lists: &BTreeSet<Digest>) -> Result<BTreeSet<Digest>, StoreError> {
    if lists.is_empty() {
        return Ok(BTreeSet::new());
    }
    let lists: Vec<_> = lists.iter().map(|digest| digest.as_bytes().to_vec()).collect();
    let whole = sqlx::query_scalar!(
        r#"
        select l.digest
          from definition_lists l
         where l.digest = any($1)
           and not exists (select from definition_names n
                            where n.list = l.digest
                              and not exists (select from definitions d where d.digest = n.digest))
        "#,
        &lists,
    )
    .fetch_all(db)
    .await?;
    whole.iter().map(|digest| super::digest(digest, "definition_lists")).collect()
}

/// What a list names and nobody has brought; nothing where its clusters may store no more.
pub(crate) async fn list_missing(db: &mut Connection, list: Digest) -> Result<BTreeSet<Digest>, StoreError> {
    let missing = sqlx::query_scalar!(
        r#"
        select n.digest
          from definition_names n
         where n.list = $1
           and not exists (select from definitions d where d.digest = n.digest)
           and $2 > (select coalesce(sum(d.packed_bytes), 0)
                       from definition_names o
                       join definitions d on d.digest = o.digest
                      where o.list = $1)
        "#,
        list.as_bytes(),
        CLUSTER_BYTES_MAX,
    )
    .fetch_all(db)
    .await?;
    missing.iter().map(|digest| super::digest(digest, "definition_names")).collect()
}

/// Stores one that the list of this stream names. False: it names it no more, or its cluster may store no more, or it is
/// stored already.
pub(crate) async fn insert(
    db: &mut Connection,
    (cluster, session): (ClusterId, SessionNumber),
    packed: &Packed,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let bytes = i32::try_from(packed.bytes.len()).unwrap_or(i32::MAX);
    let inserted = sqlx::query!(
        r#"
        insert into definitions (digest, packed, packed_bytes, seen_at)
        select n.digest, $4, $5, $6
          from sessions s
          join definition_names n on n.list = s.definitions
         where s.cluster_id = $1 and s.session = $2 and n.digest = $3
           and $7 >= $5::int + (select coalesce(sum(d.packed_bytes), 0)
                             from definition_names o
                             join definitions d on d.digest = o.digest
                            where o.list = s.definitions)
            on conflict (digest) do nothing
        "#,
        cluster.as_uuid(),
        session.get(),
        packed.digest.as_bytes(),
        &packed.bytes,
        bytes,
        to_sql(now),
        CLUSTER_BYTES_MAX,
    )
    .execute(db)
    .await?;
    Ok(inserted.rows_affected() > 0)
}

/// Deletes a list that no stream names, and what no other list names of it.
pub(crate) async fn delete_unnamed(db: &mut Connection, list: Digest) -> Result<(), StoreError> {
    let named = sqlx::query_scalar!("select digest from definition_names where list = $1", list.as_bytes())
        .fetch_all(&mut *db)
        .await?;
    let deleted = sqlx::query!(
        "delete from definition_lists where digest = $1 and not exists (select from sessions where definitions = $1)",
        list.as_bytes(),
    )
    .execute(&mut *db)
    .await?;
    if deleted.rows_affected() == 0 {
        return Ok(());
    }
    sqlx::query!(
        r#"
        delete from definitions d
         where d.digest = any($1) and not exists (select from definition_names n where n.digest = d.digest)
        "#,
        &named,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Deletes so many lists that no stream names, and so many definitions that no list names, of those that nobody brought
/// since then; says how many of the one or the other it deleted.
pub(crate) async fn delete_unseen(db: &mut Connection, before: Timestamp, limit: i64) -> Result<u64, StoreError> {
    let lists = sqlx::query!(
        r#"
        delete from definition_lists
         where digest in (select l.digest from definition_lists l
                           where l.seen_at < $1 and not exists (select from sessions s where s.definitions = l.digest)
                           limit $2)
        "#,
        to_sql(before),
        limit,
    )
    .execute(&mut *db)
    .await?;
    let definitions = sqlx::query!(
        r#"
        delete from definitions
         where digest in (select d.digest from definitions d
                           where d.seen_at < $1
                             and not exists (select from definition_names n where n.digest = d.digest)
                           limit $2)
        "#,
        to_sql(before),
        limit,
    )
    .execute(db)
    .await?;
    Ok(lists.rows_affected().max(definitions.rows_affected()))
}

/// What is known of a cluster's definitions.
pub(crate) struct Told {
    pub(crate) list: Definitions,
    pub(crate) at: Timestamp,
    /// Those of which there is more than a digest.
    pub(crate) stored: BTreeSet<Digest>,
}

/// `None`: its agent has told nothing.
pub(crate) async fn find_told(db: &mut Connection, cluster: ClusterId) -> Result<Option<Told>, StoreError> {
    let row = sqlx::query!(
        r#"
        select l.listing, s.definitions_at as "at!",
               array(select d.digest from definition_names n join definitions d on d.digest = n.digest
                      where n.list = l.digest) as "stored!"
          from sessions s
          join definition_lists l on l.digest = s.definitions
         where s.cluster_id = $1
        "#,
        cluster.as_uuid(),
    )
    .fetch_optional(db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let unreadable = |_| StoreError::Unreadable { table: "definition_lists", column: "listing" };
    let list = Definitions::parse(&row.listing).map_err(unreadable)?;
    let stored = row.stored.iter().map(|digest| super::digest(digest, "definitions")).collect::<Result<_, _>>()?;
    Ok(Some(Told { list, at: from_sql(row.at), stored }))
}

/// As it was brought.
pub(crate) async fn find_packed(db: &mut Connection, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(sqlx::query_scalar!("select packed from definitions where digest = $1", digest.as_bytes())
        .fetch_optional(db)
        .await?)
}
