//! Bearer tokens of the API.

use std::net::IpAddr;

use bellwether_core::access::Role;
use bellwether_core::{Digest, Name};
use chrono::{DateTime, Utc};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{Connection, StoreError, from_sql, named, to_sql};

/// Networks of one token that are remembered: a team's office, its CI, somebody at home, and one more.
const NETWORKS_MAX: i64 = 4;
/// Whoever has not come from somewhere for so long is a stranger there.
const NETWORK_COUNTS: SignedDuration = SignedDuration::from_hours(30 * 24);

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

/// Who a token is for; `None` when it is unknown, expired or revoked. That it was used, and from which network, is written
/// at most once a minute each.
pub(crate) async fn find(
    db: &mut Connection,
    hash: Digest,
    from: Option<IpAddr>,
    now: Timestamp,
) -> Result<Option<Found>, StoreError> {
    let from = from.map(|from| from.to_string());
    let row = sqlx::query!(
        r#"
        select token_id, name, role, coalesce(last_used_at < $2::timestamptz - interval '1 min', true) as "is_unmarked!",
               not exists (select from token_networks n
                            where n.token_id = t.token_id and n.network = $3
                              and n.used_at >= $2::timestamptz - interval '1 min') as "is_network_unmarked!"
          from api_tokens t
         where token_hash = $1 and revoked_at is null and (expires_at is null or expires_at > $2)
        "#,
        hash.as_bytes(),
        to_sql(now),
        from,
    )
    .fetch_optional(&mut *db)
    .await?;
    let Some(row) = row else { return Ok(None) };
    if row.is_unmarked {
        sqlx::query!("update api_tokens set last_used_at = $2 where token_id = $1", row.token_id, to_sql(now))
            .execute(&mut *db)
            .await?;
    }
    if let Some(from) = from.filter(|_| row.is_network_unmarked) {
        mark_network(db, row.token_id, &from, now).await?;
    }
    Ok(Some(Found { name: row.name, role: role(&row.role)? }))
}

/// Of a token only the latest networks are kept.
async fn mark_network(db: &mut Connection, token: Uuid, network: &str, now: Timestamp) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into token_networks (token_id, network, used_at) values ($1, $2, $3)
            on conflict (token_id, network) do update set used_at = greatest(token_networks.used_at, excluded.used_at)
        "#,
        token,
        network,
        to_sql(now),
    )
    .execute(&mut *db)
    .await?;
    sqlx::query!(
        r#"
        delete from token_networks
         where token_id = $1
           and network not in (select network from token_networks where token_id = $1
                                order by used_at desc, network limit $2)
        "#,
        token,
        NETWORKS_MAX,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Networks that tokens that are good now were used from lately, the latest first.
pub(crate) async fn list_networks(db: &mut Connection, limit: i64, now: Timestamp) -> Result<Vec<String>, StoreError> {
    let networks = sqlx::query_scalar!(
        r#"
        select n.network
          from token_networks n
          join api_tokens t using (token_id)
         where t.revoked_at is null and (t.expires_at is null or t.expires_at > $2) and n.used_at > $3
         group by n.network
         order by max(n.used_at) desc
         limit $1
        "#,
        limit,
        to_sql(now),
        to_sql(now - NETWORK_COUNTS),
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::clock;
    use crate::store::Pool;

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_token_is_known_from_every_network_that_it_is_used_from_lately(pool: Pool) {
        let mut db = pool.acquire().await.expect("a connection");
        let hash = Digest::of(b"a token");
        let now = clock::now();
        let token = Token {
            id: clock::new_id(),
            name: "ci".parse().expect("is a name"),
            role: Role::Viewer,
            created_at: now,
            created_by: None,
            expires_at: None,
            revoked_at: None,
            last_used_at: None,
        };
        insert(&mut db, &token, hash).await.expect("it is written");
        let address = |last: u8| Some(IpAddr::from([192, 0, 2, last]));
        let mut used = async |last: u8, seconds: i64| {
            let at = now + SignedDuration::from_secs(seconds);
            find(&mut db, hash, address(last), at).await.expect("it is read").expect("it is good");
            list_networks(&mut db, 10, at).await.expect("they are read")
        };

        used(1, 0).await;
        assert_eq!(used(2, 1).await, ["192.0.2.2", "192.0.2.1"]);
        for last in 3..=5 {
            used(last, i64::from(last)).await;
        }
        assert_eq!(used(1, 6).await, ["192.0.2.1", "192.0.2.5", "192.0.2.4", "192.0.2.3"], "the latest few");
        assert_eq!(used(5, 40 * 24 * 3_600).await, ["192.0.2.5"], "the others are long ago");
    }
}
