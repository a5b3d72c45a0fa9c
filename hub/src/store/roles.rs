//! The two roles of the database: its owner, for migrations, and the one that the hub runs as, which owns nothing.
//!
//! So whoever gets hold of a running hub's connection can add entries to the audit log, and change or remove none.

use sqlx::{AssertSqlSafe, Connection as _, PgConnection};

use super::{Connection, Pool, StoreError};

/// Of the tables that the runner may only add to.
const APPEND_ONLY: &str = "audit_entries";
/// The tree's edge is written anew with each entry: one row, which is never removed.
const UPDATE_ONLY: &str = "audit_head";
/// Says which migrations ran: none of the runner's business.
const MIGRATIONS: &str = "_sqlx_migrations";

/// Makes a role that may log in and nothing else; one that is there is left as it is.
pub(crate) async fn ensure(owner: &Pool, role: &str) -> Result<(), StoreError> {
    let mut db = super::begin(owner).await?;
    lock(&mut db).await?;
    let there = sqlx::query_scalar!(r#"select to_regrole(quote_ident($1)) is not null as "there!""#, role)
        .fetch_one(&mut *db)
        .await?;
    if !there {
        let role = quoted(&mut db, role).await?;
        execute(&mut db, format!("create role {role} login")).await?;
    }
    db.commit().await?;
    Ok(())
}

/// Whom the database takes a URL's user for.
pub(crate) async fn find_name(url: &str) -> Result<String, StoreError> {
    let mut db = PgConnection::connect(url).await?;
    let name = sqlx::query_scalar!(r#"select current_user::text as "name!""#).fetch_one(&mut db).await?;
    db.close().await?;
    Ok(name)
}

/// Whether a role has all rights to the log anyway: as its owner, as a member of that role, or as a superuser.
pub(crate) async fn is_owner(owner: &Pool, role: &str) -> Result<bool, StoreError> {
    let owns = sqlx::query_scalar!(
        r#"
        select pg_has_role($1::name, relowner, 'member') as "owns!"
          from pg_class where oid = 'audit_entries'::regclass
        "#,
        role as _,
    )
    .fetch_one(owner)
    .await?;
    Ok(owns)
}

/// Gives a role what the hub needs while it runs, and takes what it does not; after each migration anew.
///
/// Partitions are reached through their table only, whose rights count then.
pub(crate) async fn grant(owner: &Pool, role: &str) -> Result<(), StoreError> {
    let mut db = super::begin(owner).await?;
    lock(&mut db).await?;
    let role = quoted(&mut db, role).await?;
    for relation in list_relations(&mut db).await? {
        let rights = match &*relation.name {
            MIGRATIONS => None,
            APPEND_ONLY => Some("select, insert"),
            UPDATE_ONLY => Some("select, update"),
            _ if relation.is_partition => None,
            _ => Some("select, insert, update, delete"),
        };
        let name = quoted(&mut db, &relation.name).await?;
        execute(&mut db, format!("revoke all on {name} from {role}")).await?;
        if let Some(rights) = rights {
            execute(&mut db, format!("grant {rights} on {name} to {role}")).await?;
        }
    }
    db.commit().await?;
    Ok(())
}

struct Relation {
    name: String,
    is_partition: bool,
}

/// Tables and views of the schema that the audit log is in.
async fn list_relations(db: &mut Connection) -> Result<Vec<Relation>, StoreError> {
    let relations = sqlx::query_as!(
        Relation,
        r#"
        select relname::text as "name!", relispartition as is_partition
          from pg_class
         where relkind in ('r', 'p', 'v')
           and relnamespace = (select relnamespace from pg_class where oid = 'audit_entries'::regclass)
         order by relname
        "#
    )
    .fetch_all(db)
    .await?;
    Ok(relations)
}

/// Rights are rows of a catalogue: two hubs that start at once would be in each other's way.
async fn lock(db: &mut Connection) -> Result<(), StoreError> {
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('roles', 0))").execute(db).await?;
    Ok(())
}

async fn quoted(db: &mut Connection, name: &str) -> Result<String, StoreError> {
    Ok(sqlx::query_scalar!(r#"select quote_ident($1) as "name!""#, name).fetch_one(db).await?)
}

/// Names cannot be parameters here; each was quoted by [`quoted`].
async fn execute(db: &mut Connection, statement: String) -> Result<(), StoreError> {
    sqlx::query(AssertSqlSafe(statement)).execute(db).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::clock;

    /// Becomes the role for good.
    async fn connect_as(pool: &Pool, role: &str) -> PgConnection {
        let mut db = PgConnection::connect(&crate::store::url_of(pool)).await.expect("a connection");
        execute(&mut db, format!("set session authorization {role}")).await.expect("a superuser may");
        db
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn the_hubs_role_adds_to_the_audit_log_and_changes_nothing_in_it(pool: Pool) {
        let role = format!("runner_{}", clock::new_id().simple());
        ensure(&pool, &role).await.expect("it is made");
        ensure(&pool, &role).await.expect("and is there");
        crate::store::audit::ensure_partitions(&pool, clock::now()).await.expect("months");

        grant(&pool, &role).await.expect("it is given");

        grant(&pool, &role).await.expect("a second start changes nothing");
        assert!(!is_owner(&pool, &role).await.expect("asked"));
        let month = format!("audit_entries_{}", clock::now().strftime("%Y_%m"));
        let mut db = connect_as(&pool, &role).await;
        for allowed in [
            "select * from audit_entries",
            "select * from presences",
            "update audit_head set size = size",
            "delete from work",
            "insert into audit_outbox (at, body) values (now(), '')",
        ] {
            execute(&mut db, allowed.to_owned()).await.expect(allowed);
        }
        for forbidden in [
            "update audit_entries set reason = ''",
            "delete from audit_entries",
            "truncate audit_entries",
            "drop table audit_entries",
            "delete from audit_head",
            "delete from audit_entries_other",
            &format!("delete from {month}"),
            "create table mine (a int)",
            "delete from _sqlx_migrations",
        ] {
            execute(&mut db, forbidden.to_owned()).await.expect_err(forbidden);
        }
        db.close().await.expect("closed");
        execute(&mut pool.acquire().await.expect("a connection"), format!("drop owned by {role}")).await.expect("gone");
        execute(&mut pool.acquire().await.expect("a connection"), format!("drop role {role}")).await.expect("gone");
    }
}
