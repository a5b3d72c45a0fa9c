//! Postgres' NOTIFY and LISTEN, on one channel.

use sqlx::postgres::PgListener;

use super::{Connection, Pool, StoreError};

const CHANNEL: &str = "bellwether";

pub(crate) async fn send(db: &mut Connection, text: &str) -> Result<(), StoreError> {
    sqlx::query!("select pg_notify($1, $2)", CHANNEL, text).execute(db).await?;
    Ok(())
}

/// A connection of its own that hears what is sent.
pub(crate) struct Listener(PgListener);

impl Listener {
    pub(crate) async fn connect(pool: &Pool) -> Result<Self, StoreError> {
        let mut listener = PgListener::connect_with(pool).await?;
        listener.listen(CHANNEL).await?;
        Ok(Self(listener))
    }

    pub(crate) async fn next(&mut self) -> Result<String, StoreError> {
        Ok(self.0.recv().await?.payload().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::begin;

    #[crate::store::database_test(migrations = "../migrations")]
    async fn what_is_sent_is_heard_once_it_is_committed_and_never_before(pool: Pool) {
        let mut listener = Listener::connect(&pool).await.expect("it listens");
        let mut abandoned = begin(&pool).await.expect("a transaction");
        send(&mut abandoned, "abandoned").await.expect("it is sent");
        abandoned.rollback().await.expect("it is taken back");
        let mut kept = begin(&pool).await.expect("a transaction");
        send(&mut kept, "kept").await.expect("it is sent");
        let mut db = pool.acquire().await.expect("a connection");
        send(&mut db, "at once").await.expect("it is sent");

        let first = listener.next().await.expect("it is heard");
        kept.commit().await.expect("it commits");
        let second = listener.next().await.expect("it is heard");

        assert_eq!((first.as_str(), second.as_str()), ("at once", "kept"));
    }
}
