//! The authority's keys, sealed.

use jiff::Timestamp;

use super::{Connection, StoreError, to_sql};

pub(crate) struct SealedKey {
    pub(crate) name: String,
    pub(crate) certificate: Option<Vec<u8>>,
    pub(crate) sealed: Vec<u8>,
}

/// All of them, under a lock that makes a second hub wait until the first has written its own.
pub(crate) async fn lock_all(db: &mut Connection) -> Result<Vec<SealedKey>, StoreError> {
    sqlx::query!("lock table keys in exclusive mode").execute(&mut *db).await?;
    let keys =
        sqlx::query_as!(SealedKey, "select name, certificate, sealed from keys order by name").fetch_all(db).await?;
    Ok(keys)
}

pub(crate) async fn insert(db: &mut Connection, key: &SealedKey, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into keys (name, certificate, sealed, created_at) values ($1, $2, $3, $4)",
        key.name,
        key.certificate,
        key.sealed,
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(())
}
