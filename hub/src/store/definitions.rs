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

mod lists {
    use super::super::sets::{marked, named};

    marked!("definition_lists", "listing");
    named!("definition_lists", "select from sessions s where s.definitions = said.digest");
}

mod bodies {
    use super::super::sets::named;

    named!("definitions", "select from definition_names n where n.digest = said.digest");
}

/// Keeps its row, and those of what it names, until the transaction ends.
pub(crate) async fn mark(db: &mut Connection, list: &Definitions, now: Timestamp) -> Result<(), StoreError> {
    let digest = list.digest();
    if !lists::mark(db, digest, list.text(), now).await? {
        return Ok(());
    }
    let named: BTreeSet<_> = list.digests().collect();
    let named: Vec<_> = named.iter().map(|digest| digest.as_bytes().to_vec()).collect();
    sqlx::query!(
        "insert into definition_names (list, digest) select $1, unnest($2::bytea[])",
        digest.as_bytes(),
        &named
    )
    .execute(&mut *db)
    .await?;
    // Who deletes one that others named does not see yet that this list does.
    bodies::share(db, &named).await.map(drop)
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

/// Deletes lists that no session names, and what no other list names of them. The caller's is a transaction.
pub(crate) async fn delete_unnamed(db: &mut Connection, unnamed: &BTreeSet<Digest>) -> Result<(), StoreError> {
    if unnamed.is_empty() {
        return Ok(());
    }
    let unnamed: Vec<_> = unnamed.iter().map(|digest| digest.as_bytes().to_vec()).collect();
    let named = sqlx::query_scalar!("select distinct digest from definition_names where list = any($1)", &unnamed)
        .fetch_all(&mut *db)
        .await?;
    if lists::delete_unnamed(db, &unnamed).await? > 0 {
        bodies::delete_unnamed(db, &named).await?;
    }
    Ok(())
}

/// Deletes so many lists that no session names, and so many definitions that no list names, of those that came before then;
/// says how many of the one or the other it deleted.
pub(crate) async fn delete_unseen(db: &mut Connection, before: Timestamp, limit: i64) -> Result<u64, StoreError> {
    let deleted = lists::delete_unseen(db, before, limit).await?;
    Ok(deleted.max(bodies::delete_unseen(db, before, limit).await?))
}

/// What is known of a cluster's definitions.
pub(crate) struct KnownDefinitions {
    pub(crate) list: Definitions,
    pub(crate) at: Timestamp,
    /// Those of which there is more than a digest.
    pub(crate) stored: BTreeSet<Digest>,
}

/// `None`: its agent has told nothing.
pub(crate) async fn find_told(db: &mut Connection, cluster: ClusterId) -> Result<Option<KnownDefinitions>, StoreError> {
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
    Ok(Some(KnownDefinitions { list, at: from_sql(row.at), stored }))
}

/// Packed by a hub.
pub(crate) async fn find_packed(db: &mut Connection, digest: Digest) -> Result<Option<Vec<u8>>, StoreError> {
    Ok(sqlx::query_scalar!("select packed from definitions where digest = $1", digest.as_bytes())
        .fetch_optional(db)
        .await?)
}
