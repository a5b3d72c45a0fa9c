//! Bearer tokens of the API.

use bellwether_core::Digest;
use jiff::Timestamp;
use uuid::Uuid;

use super::{Connection, StoreError, named, to_sql};

/// Who a token is for; `None` when it is unknown, expired or revoked.
pub(crate) async fn find_name(db: &mut Connection, hash: Digest, now: Timestamp) -> Result<Option<String>, StoreError> {
    let name = sqlx::query_scalar!(
        r#"
        select name
          from api_tokens
         where token_hash = $1 and revoked_at is null and (expires_at is null or expires_at > $2)
        "#,
        hash.as_bytes(),
        to_sql(now),
    )
    .fetch_optional(db)
    .await?;
    Ok(name)
}

pub(crate) async fn count(db: &mut Connection) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(r#"select count(*) as "count!" from api_tokens"#).fetch_one(db).await?)
}

pub(crate) async fn insert(
    db: &mut Connection,
    id: Uuid,
    name: &str,
    hash: Digest,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query!(
        "insert into api_tokens (token_id, name, token_hash, created_at) values ($1, $2, $3, $4)",
        id,
        name,
        hash.as_bytes(),
        to_sql(now),
    )
    .execute(db)
    .await
    .map_err(named)?;
    Ok(())
}
