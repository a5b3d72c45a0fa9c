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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::clock;
    use crate::store::{Pool, ask_raw, begin};

    #[crate::store::database_test(migrations = "../migrations")]
    async fn the_second_hub_waits_for_the_keys_of_the_first_and_makes_none(pool: Pool) {
        const WAITS: &str = "select coalesce(bool_or(wait_event_type = 'Lock'), false)
                               from pg_stat_activity where datname = current_database()";
        let mut first = begin(&pool).await.expect("a transaction");
        assert!(lock_all(&mut first).await.expect("it is free").is_empty());
        let mut second = begin(&pool).await.expect("a transaction");
        let waits = tokio::spawn(async move { lock_all(&mut second).await });
        let mut db = pool.acquire().await.expect("a connection");
        while !waits.is_finished() && !ask_raw(&mut db, WAITS).await.expect("it is read") {
            tokio::task::yield_now().await;
        }

        for name in ["root", "intermediate"] {
            let key = SealedKey { name: name.to_owned(), certificate: Some(vec![1]), sealed: name.into() };
            insert(&mut first, &key, clock::now()).await.expect("it is new");
        }
        first.commit().await.expect("it commits");

        let found = waits.await.expect("it ends").expect("it had only to wait");
        let found: Vec<_> = found.into_iter().map(|key| (key.name, key.certificate, key.sealed)).collect();
        let of = |name: &str| (name.to_owned(), Some(vec![1]), name.as_bytes().to_vec());
        assert_eq!(found, [of("intermediate"), of("root")]);
    }
}
