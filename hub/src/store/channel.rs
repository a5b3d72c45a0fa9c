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
