//! What clusters say of themselves, and many of them say alike: stored once, found by its digest.
//!
//! Whoever says such a thing marks it and names it, in one transaction. A fleet says the same at once, and changes to what
//! others had before; so nobody waits here for a row that was there already. Who marks it shares it, and who would delete
//! it leaves what others hold to the sweep.

use jiff::SignedDuration;

/// How long what no cluster has any more is kept at most: of clusters that were deleted, or that somebody held when it was
/// to be deleted.
pub(crate) const UNNAMED_KEPT: SignedDuration = SignedDuration::from_hours(1);

/// Of a table, and the column with what was said: how a row is marked.
macro_rules! marked {
    ($table:literal, $said:literal) => {
        /// Keeps its row until the transaction ends; says whether it is new.
        pub(crate) async fn mark(
            db: &mut $crate::store::Connection,
            digest: bellwether_core::Digest,
            said: &str,
            now: jiff::Timestamp,
        ) -> Result<bool, $crate::store::StoreError> {
            let row = [digest.as_bytes().to_vec()];
            if share(db, &row).await? > 0 {
                return Ok(false);
            }
            let inserted = sqlx::query!(
                "insert into "
                    + $table
                    + " (digest, "
                    + $said
                    + ", seen_at) values ($1, $2, $3) on conflict do nothing",
                digest.as_bytes(),
                said,
                $crate::store::to_sql(now),
            )
            .execute(&mut *db)
            .await?;
            if inserted.rows_affected() == 0 {
                // Somebody was faster. If that is deleted by now, a foreign key says so to whoever names it.
                share(db, &row).await?;
            }
            Ok(inserted.rows_affected() > 0)
        }
    };
}

/// Of a table, and a statement that gives a row of `said` its names: how rows are held, and deleted once they have none.
macro_rules! named {
    ($table:literal, $names:literal) => {
        /// Holds those of these that are there until the transaction ends, beside others who do; says how many there are.
        pub(crate) async fn share(
            db: &mut $crate::store::Connection,
            digests: &[Vec<u8>],
        ) -> Result<usize, $crate::store::StoreError> {
            let held = sqlx::query_scalar!(
                "select digest from " + $table + " where digest = any($1) order by digest for key share",
                digests,
            )
            .fetch_all(db)
            .await?;
            Ok(held.len())
        }

        /// Deletes those of these that nothing names and nobody holds; says how many. The caller's is a transaction.
        pub(crate) async fn delete_unnamed(
            db: &mut $crate::store::Connection,
            digests: &[Vec<u8>],
        ) -> Result<u64, $crate::store::StoreError> {
            if digests.is_empty() {
                return Ok(0);
            }
            let free = sqlx::query_scalar!(
                "select digest from "
                    + $table
                    + " said where digest = any($1) and not exists ("
                    + $names
                    + ")
                  order by digest for update skip locked",
                digests,
            )
            .fetch_all(&mut *db)
            .await?;
            // A statement of its own: it sees all who named one of them before it was held here.
            let deleted = sqlx::query!(
                "delete from " + $table + " said where digest = any($1) and not exists (" + $names + ")",
                &free,
            )
            .execute(db)
            .await?;
            Ok(deleted.rows_affected())
        }

        /// Deletes so many of those that nothing names and that came before then; says how many it deleted.
        pub(crate) async fn delete_unseen(
            db: &mut $crate::store::Connection,
            before: jiff::Timestamp,
            limit: i64,
        ) -> Result<u64, $crate::store::StoreError> {
            let mut db = sqlx::Connection::begin(db).await?;
            let unnamed = sqlx::query_scalar!(
                "select digest from " + $table + " said where seen_at < $1 and not exists (" + $names + ") limit $2",
                $crate::store::to_sql(before),
                limit,
            )
            .fetch_all(&mut *db)
            .await?;
            let deleted = delete_unnamed(&mut db, &unnamed).await?;
            db.commit().await?;
            Ok(deleted)
        }
    };
}

pub(super) use {marked, named};
