//! A database as that of a large fleet, for tests: filled at once, and asked what was read of it and how.

use std::collections::BTreeMap;
use std::path::Path;

use bellwether_core::Digest;
use uuid::Uuid;

use super::bundles::Blob;
use super::{Connection, Pool, StoreError};

/// How large it is. A cluster has every target of its group.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Size {
    pub(crate) clusters: usize,
    pub(crate) targets: usize,
    pub(crate) groups: usize,
    /// Of each cluster.
    pub(crate) certificates: usize,
}

/// The ids that `fill_fleet.sql` makes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Cluster = 1,
    Target = 3,
    Rollout = 6,
}

pub(crate) fn id(kind: Kind, number: usize) -> Uuid {
    let text = format!("{:08x}-0000-7000-8000-{number:012x}", kind as u32);
    text.parse().expect("is an id")
}

/// What all targets of the fleet have in common.
pub(crate) struct Common<'a> {
    /// Where all clusters are connected.
    pub(crate) hub: Uuid,
    /// Of the folder that all targets are rendered from.
    pub(crate) inputs_digest: &'a str,
    /// Of no values.
    pub(crate) parameters: Digest,
}

/// Fills a database that has one project, one repo and one revision: see `sql/fill_fleet.sql`. One bundle for each target.
pub(crate) async fn fill(pool: &Pool, size: Size, common: Common<'_>, bundles: &[Blob]) -> Result<(), StoreError> {
    let mut db = pool.acquire().await?;
    sqlx::query("set statement_timeout = 0").execute(&mut *db).await?;
    sqlx::query("create temporary table made (t serial, digest bytea, manifest bytea)").execute(&mut *db).await?;
    let (digests, manifests): (Vec<_>, Vec<_>) =
        bundles.iter().map(|blob| (blob.digest.as_bytes().to_vec(), blob.frame.clone())).unzip();
    sqlx::query("insert into made (digest, manifest) select * from unnest($1, $2)")
        .bind(digests)
        .bind(manifests)
        .execute(&mut *db)
        .await?;
    let statements = include_str!("sql/fill_fleet.sql")
        .replace("{clusters}", &size.clusters.to_string())
        .replace("{targets}", &size.targets.to_string())
        .replace("{groups}", &size.groups.to_string())
        .replace("{certificates}", &size.certificates.to_string())
        .replace("{hub}", &common.hub.to_string())
        .replace("{inputs}", common.inputs_digest)
        .replace("{parameters}", &format!("\\x{}", hex::encode(common.parameters.as_bytes())));
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements)).execute(&mut *db).await?;
    // As autovacuum leaves it: with what the planner knows, and what index-only scans need not look up.
    sqlx::query("vacuum (analyze)").execute(&mut *db).await?;
    // Its settings are not those of others.
    db.close().await?;
    Ok(())
}

/// Lets an index win where one serves. Of a few thousand rows Postgres may as well read all, and which it does hangs by a
/// thread: from run to run it is not the same.
pub(crate) async fn prefer_indexes(pools: &[&Pool]) -> Result<(), StoreError> {
    for pool in pools {
        for db in &mut connections(pool).await? {
            sqlx::query("set random_page_cost = 1").execute(&mut **db).await?;
        }
    }
    // Connections that are opened later have it as well.
    let everywhere =
        "do $$ begin execute format('alter database %I set random_page_cost = 1', current_database()); end $$";
    sqlx::raw_sql(everywhere).execute(pools[0]).await?;
    Ok(())
}

/// All that a pool has open.
async fn connections(pool: &Pool) -> Result<Vec<sqlx::pool::PoolConnection<sqlx::Postgres>>, StoreError> {
    let mut all = Vec::new();
    while all.len() < pool.size() as usize {
        all.push(pool.acquire().await?);
    }
    Ok(all)
}

/// Rows and index entries read so far, by table. Whoever asks must not have work of others going on.
pub(crate) async fn rows_read(pools: &[&Pool]) -> Result<BTreeMap<String, i64>, StoreError> {
    for pool in pools {
        // A session keeps what it counted to itself for up to a second.
        for db in &mut connections(pool).await? {
            sqlx::query("select pg_stat_force_next_flush()").execute(&mut **db).await?;
        }
    }
    let read: Vec<(String, i64)> = sqlx::query_as(
        r"
        select t.relname::text, (t.seq_tup_read + coalesce(sum(i.idx_tup_read), 0))::bigint
          from pg_stat_user_tables t
          left join pg_stat_user_indexes i using (relid)
         group by t.relid, t.relname, t.seq_tup_read
        ",
    )
    .fetch_all(pools[0])
    .await?;
    Ok(read.into_iter().collect())
}

/// The text of the one statement of the hub that has all of these words, as it was checked when the hub was built.
pub(crate) fn query_with(words: &[&str]) -> String {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.sqlx");
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder).expect("it was built with it") {
        let text = std::fs::read_to_string(file.expect("it is listed").path()).expect("it is read");
        let document: serde_json::Value = serde_json::from_str(&text).expect("is JSON");
        let query = document["query"].as_str().expect("it has a query");
        let one_line = query.split_whitespace().collect::<Vec<_>>().join(" ");
        if words.iter().all(|word| one_line.contains(word)) {
            found.push(query.to_owned());
        }
    }
    assert_eq!(found.len(), 1, "statements with {words:?}: {found:#?}");
    found.remove(0)
}

/// How Postgres carries a statement out, with these arguments and, the second, with whatever arguments.
pub(crate) async fn plans(
    db: &mut Connection,
    query: &str,
    arguments: &[String],
) -> Result<[serde_json::Value; 2], StoreError> {
    let prepare = format!("prepare planned as {query}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(prepare)).execute(&mut *db).await?;
    let list = if arguments.is_empty() { String::new() } else { format!("({})", arguments.join(", ")) };
    let explain = format!("explain (format json) execute planned{list}");
    let mut plans = [serde_json::Value::Null, serde_json::Value::Null];
    for (plan, mode) in plans.iter_mut().zip(["force_custom_plan", "force_generic_plan"]) {
        let set = format!("set plan_cache_mode = {mode}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(set)).execute(&mut *db).await?;
        *plan = sqlx::query_scalar(sqlx::AssertSqlSafe(explain.clone())).fetch_one(&mut *db).await?;
    }
    sqlx::raw_sql("deallocate planned; reset plan_cache_mode").execute(&mut *db).await?;
    Ok(plans)
}

/// Until the transaction ends.
pub(crate) async fn drop_index(db: &mut Connection, index: &str) -> Result<(), StoreError> {
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("drop index {index}"))).execute(db).await?;
    Ok(())
}
