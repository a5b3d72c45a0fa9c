//! Bearer tokens of the API.

use std::net::IpAddr;

use bellwether_core::access::Role;
use bellwether_core::{Digest, Name};
use chrono::{DateTime, Utc};
use jiff::Timestamp;
use uuid::Uuid;

use super::{Connection, StoreError, from_sql, named, to_sql};

/// Whose a token is.
pub(crate) struct Found {
    pub(crate) name: String,
    pub(crate) role: Role,
}

/// A token, without what it is.
#[derive(Debug, Clone)]
pub(crate) struct Token {
    pub(crate) id: Uuid,
    pub(crate) name: Name,
    pub(crate) role: Role,
    pub(crate) created_at: Timestamp,
    pub(crate) created_by: Option<String>,
    pub(crate) expires_at: Option<Timestamp>,
    pub(crate) revoked_at: Option<Timestamp>,
    pub(crate) last_used_at: Option<Timestamp>,
}

struct Row {
    token_id: Uuid,
    name: String,
    role: String,
    created_at: DateTime<Utc>,
    created_by: Option<String>,
    expires_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
    last_used_at: Option<DateTime<Utc>>,
}

impl TryFrom<Row> for Token {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.token_id,
            name: super::name(&row.name, "api_tokens")?,
            role: role(&row.role)?,
            created_at: from_sql(row.created_at),
            created_by: row.created_by,
            expires_at: row.expires_at.map(from_sql),
            revoked_at: row.revoked_at.map(from_sql),
            last_used_at: row.last_used_at.map(from_sql),
        })
    }
}

fn role(text: &str) -> Result<Role, StoreError> {
    text.parse().map_err(|_| StoreError::Unreadable { table: "api_tokens", column: "role" })
}

/// Who a token is for; `None` when it is unknown, expired or revoked. That it was used, and from where, is written at most
/// once a minute.
pub(crate) async fn find(
    db: &mut Connection,
    hash: Digest,
    from: Option<IpAddr>,
    now: Timestamp,
) -> Result<Option<Found>, StoreError> {
    let row = sqlx::query!(
        r#"
        select name, role, coalesce(last_used_at < $2::timestamptz - interval '1 min', true) as "is_unmarked!"
          from api_tokens
         where token_hash = $1 and revoked_at is null and (expires_at is null or expires_at > $2)
        "#,
        hash.as_bytes(),
        to_sql(now),
    )
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    if row.is_unmarked {
        sqlx::query!(
            "update api_tokens set last_used_at = $2, last_network = coalesce($3, last_network) where token_hash = $1",
            hash.as_bytes(),
            to_sql(now),
            from.map(|from| from.to_string()),
        )
        .execute(db)
        .await?;
    }
    Ok(Some(Found { name: row.name, role: role(&row.role)? }))
}

/// Networks that tokens that are good now were last used from, the latest first.
pub(crate) async fn list_networks(db: &mut Connection, limit: i64, now: Timestamp) -> Result<Vec<String>, StoreError> {
    let networks = sqlx::query_scalar!(
        r#"
        select last_network as "network!"
          from api_tokens
         where last_network is not null and revoked_at is null and (expires_at is null or expires_at > $2)
         order by last_used_at desc
         limit $1
        "#,
        limit,
        to_sql(now),
    )
    .fetch_all(db)
    .await?;
    Ok(networks)
}

pub(crate) async fn count(db: &mut Connection) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(r#"select count(*) as "count!" from api_tokens"#).fetch_one(db).await?)
}

pub(crate) async fn insert(db: &mut Connection, token: &Token, hash: Digest) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into api_tokens (token_id, name, token_hash, role, created_at, created_by, expires_at)
        values ($1, $2, $3, $4, $5, $6, $7)
        "#,
        token.id,
        token.name.as_str(),
        hash.as_bytes(),
        token.role.as_str(),
        to_sql(token.created_at),
        token.created_by,
        token.expires_at.map(to_sql),
    )
    .execute(db)
    .await
    .map_err(named)?;
    Ok(())
}

/// A page in order of names, after one; also those that are over, because the audit log names them.
pub(crate) async fn list(db: &mut Connection, after: &str, limit: i64) -> Result<Vec<Token>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select token_id, name, role, created_at, created_by, expires_at, revoked_at, last_used_at
          from api_tokens
         where name > $1
         order by name
         limit $2
        "#,
        after,
        limit,
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

/// False: there is none with this name, or it is revoked already.
pub(crate) async fn mark_revoked(db: &mut Connection, name: &Name, now: Timestamp) -> Result<bool, StoreError> {
    let revoked = sqlx::query!(
        "update api_tokens set revoked_at = $2 where name = $1 and revoked_at is null",
        name.as_str(),
        to_sql(now),
    )
    .execute(db)
    .await?;
    Ok(revoked.rows_affected() == 1)
}
