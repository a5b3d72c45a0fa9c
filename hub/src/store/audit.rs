//! The audit log's rows: the outbox that handlers and stages write, and the entries that the sealer numbers.

use bellwether_core::api::{AuditEntry, AuditFilter};
use bellwether_core::audit::{Actor, ActorKind, Event, Frontier, Outcome, Subject};
use bellwether_core::{Digest, Name};
use jiff::Timestamp;

use super::{Connection, StoreError, from_sql, to_sql};

/// In their order.
pub(crate) async fn append(db: &mut Connection, events: &[Event]) -> Result<(), StoreError> {
    let times: Vec<_> = events.iter().map(|event| to_sql(event.at)).collect();
    let bodies: Vec<_> = events.iter().map(Event::body).collect();
    sqlx::query!(
        r#"
        insert into audit_outbox (at, body)
        select at, body from unnest($1::timestamptz[], $2::bytea[]) with ordinality as e (at, body, place) order by place
        "#,
        &times,
        &bodies,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Whether this transaction is the sealer now; nobody waits.
pub(crate) async fn lock_sealer(db: &mut Connection) -> Result<bool, StoreError> {
    let locked =
        sqlx::query_scalar!(r#"select pg_try_advisory_xact_lock(hashtextextended('audit/sealer', 0)) as "locked!""#)
            .fetch_one(db)
            .await?;
    Ok(locked)
}

/// An entry on its way to a number.
pub(crate) struct Unsealed {
    pub(crate) at: Timestamp,
    pub(crate) body: Vec<u8>,
}

/// Takes the oldest rows of the outbox.
pub(crate) async fn take_unsealed(db: &mut Connection, limit: i64) -> Result<Vec<Unsealed>, StoreError> {
    let mut rows = sqlx::query!(
        r#"
        delete from audit_outbox
         where outbox_id in (select outbox_id from audit_outbox order by outbox_id limit $1)
        returning outbox_id, at, body
        "#,
        limit,
    )
    .fetch_all(db)
    .await?;
    rows.sort_unstable_by_key(|row| row.outbox_id);
    Ok(rows.into_iter().map(|row| Unsealed { at: from_sql(row.at), body: row.body }).collect())
}

pub(crate) async fn find_head(db: &mut Connection) -> Result<Frontier, StoreError> {
    let row = sqlx::query!("select size, frontier from audit_head").fetch_one(db).await?;
    let unreadable = StoreError::Unreadable { table: "audit_head", column: "frontier" };
    let roots = row
        .frontier
        .chunks(Digest::LENGTH)
        .map(|bytes| super::digest(bytes, "audit_head"))
        .collect::<Result<Vec<_>, _>>()?;
    u64::try_from(row.size).ok().and_then(|size| Frontier::new(size, roots)).ok_or(unreadable)
}

pub(crate) async fn mark_head(db: &mut Connection, frontier: &Frontier) -> Result<(), StoreError> {
    let roots: Vec<u8> = frontier.roots().iter().flat_map(|root| root.as_bytes().iter().copied()).collect();
    sqlx::query!("update audit_head set size = $1, frontier = $2", size_of(frontier), roots).execute(db).await?;
    Ok(())
}

pub(crate) fn size_of(frontier: &Frontier) -> i64 {
    i64::try_from(frontier.size()).expect("nobody writes 2^63 entries")
}

/// A sealed entry: its number, its bytes, and what they say.
pub(crate) struct Sealed {
    pub(crate) seq: i64,
    pub(crate) body: Vec<u8>,
    pub(crate) leaf_hash: Digest,
    pub(crate) at: Timestamp,
    pub(crate) index: Index,
}

/// What the columns repeat of an entry's bytes.
#[derive(Debug, Clone, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) event_id: uuid::Uuid,
    pub(crate) project: Option<String>,
    pub(crate) actor: Actor,
    pub(crate) action: String,
    pub(crate) subject: Subject,
    pub(crate) cluster: Option<String>,
    pub(crate) target: Option<String>,
    pub(crate) rollout: Option<uuid::Uuid>,
    pub(crate) commit: Option<String>,
    pub(crate) outcome: Outcome,
    pub(crate) reason: String,
    pub(crate) trace_id: Option<String>,
}

impl Index {
    pub(crate) fn of(body: &[u8]) -> Result<Self, StoreError> {
        serde_json::from_slice(body).map_err(|_| StoreError::Unreadable { table: "audit_outbox", column: "body" })
    }
}

pub(crate) async fn insert(db: &mut Connection, entry: &Sealed) -> Result<(), StoreError> {
    let index = &entry.index;
    sqlx::query!(
        r#"
        insert into audit_entries
               (seq, at, event_id, project, actor_kind, actor_name, action, subject_kind, subject_name, cluster,
                target, rollout_id, commit_id, outcome, reason, trace_id, body, leaf_hash)
        values ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18)
        "#,
        entry.seq,
        to_sql(entry.at),
        index.event_id,
        index.project,
        index.actor.kind.as_str(),
        index.actor.name,
        index.action,
        index.subject.kind,
        index.subject.name,
        index.cluster,
        index.target,
        index.rollout,
        index.commit,
        index.outcome.as_str(),
        index.reason,
        index.trace_id,
        entry.body,
        entry.leaf_hash.as_bytes(),
    )
    .execute(db)
    .await?;
    Ok(())
}

struct Row {
    seq: i64,
    at: chrono::DateTime<chrono::Utc>,
    event_id: uuid::Uuid,
    project: Option<String>,
    actor_kind: String,
    actor_name: String,
    action: String,
    subject_kind: String,
    subject_name: String,
    cluster: Option<String>,
    target: Option<String>,
    rollout_id: Option<uuid::Uuid>,
    commit_id: Option<String>,
    outcome: String,
    reason: String,
    trace_id: Option<String>,
    body: Vec<u8>,
    leaf_hash: Vec<u8>,
}

/// A page, newest first, before a place in the log: what is about this project, or about the whole installation.
pub(crate) async fn list(
    db: &mut Connection,
    project: &Name,
    filter: &AuditFilter,
    before: Option<(Timestamp, i64)>,
    limit: i64,
) -> Result<Vec<AuditEntry>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select seq, at, event_id, project, actor_kind, actor_name, action, subject_kind, subject_name, cluster, target,
               rollout_id, commit_id, outcome, reason, trace_id, body, leaf_hash
          from audit_entries
         where ($1::text is null or actor_name = $1)
           and ($2::text is null or action = $2 or starts_with(action, $2 || '.'))
           and ($3::text is null or cluster = $3)
           and ($4::text is null or target = $4)
           and ($5::uuid is null or rollout_id = $5)
           and ($6::text is null or outcome = $6)
           and ($7::timestamptz is null or at >= $7)
           and ($8::timestamptz is null or at < $8)
           and ($9::timestamptz is null or (at, seq) < ($9, $10))
           and (project is null or project = $12)
         order by at desc, seq desc
         limit $11
        "#,
        filter.actor,
        filter.action,
        filter.cluster,
        filter.target,
        filter.rollout,
        filter.outcome.map(Outcome::as_str),
        filter.since.map(to_sql),
        filter.until.map(to_sql),
        before.map(|(at, _)| to_sql(at)),
        before.map_or(0, |(_, seq)| seq),
        limit,
        project.as_str(),
    )
    .fetch_all(db)
    .await?;
    rows.into_iter().map(TryInto::try_into).collect()
}

impl TryFrom<Row> for AuditEntry {
    type Error = StoreError;

    fn try_from(row: Row) -> Result<Self, StoreError> {
        let unreadable = |column| StoreError::Unreadable { table: "audit_entries", column };
        let body: serde_json::Value = serde_json::from_slice(&row.body).map_err(|_| unreadable("body"))?;
        let word = |text: String| serde_json::Value::String(text);
        let kind: ActorKind = serde_json::from_value(word(row.actor_kind)).map_err(|_| unreadable("actor_kind"))?;
        Ok(Self {
            seq: row.seq,
            event_id: row.event_id,
            at: from_sql(row.at),
            project: row.project.map(|name| super::name(&name, "audit_entries")).transpose()?,
            actor: Actor { kind, name: row.actor_name },
            action: row.action,
            subject: Subject { kind: row.subject_kind, name: row.subject_name },
            cluster: row.cluster,
            target: row.target,
            rollout: row.rollout_id,
            commit: row.commit_id,
            outcome: serde_json::from_value(word(row.outcome)).map_err(|_| unreadable("outcome"))?,
            reason: row.reason,
            trace_id: row.trace_id,
            detail: body.get("detail").cloned().unwrap_or_default(),
            leaf_hash: super::digest(&row.leaf_hash, "audit_entries")?,
        })
    }
}

/// Entries from a number on, in their order, as `verify` reads them.
pub(crate) async fn list_from(db: &mut Connection, seq: i64, limit: i64) -> Result<Vec<Sealed>, StoreError> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        select seq, at, event_id, project, actor_kind, actor_name, action, subject_kind, subject_name, cluster, target,
               rollout_id, commit_id, outcome, reason, trace_id, body, leaf_hash
          from audit_entries
         where seq >= $1
         order by seq
         limit $2
        "#,
        seq,
        limit,
    )
    .fetch_all(db)
    .await?;
    rows.into_iter()
        .map(|row| {
            let (body, leaf_hash) = (row.body.clone(), row.leaf_hash.clone());
            let entry = AuditEntry::try_from(row)?;
            Ok(Sealed {
                seq: entry.seq,
                body,
                leaf_hash: super::digest(&leaf_hash, "audit_entries")?,
                at: entry.at,
                index: Index {
                    event_id: entry.event_id,
                    project: entry.project.map(|name| name.to_string()),
                    actor: entry.actor,
                    action: entry.action,
                    subject: entry.subject,
                    cluster: entry.cluster,
                    target: entry.target,
                    rollout: entry.rollout,
                    commit: entry.commit,
                    outcome: entry.outcome,
                    reason: entry.reason,
                    trace_id: entry.trace_id,
                },
            })
        })
        .collect()
}

/// What was written, sealed or not, oldest first.
#[cfg(test)]
pub(crate) async fn list_bodies(db: &mut Connection) -> Result<Vec<Vec<u8>>, StoreError> {
    let statement = "select body from audit_outbox order by outbox_id";
    Ok(sqlx::query_scalar(statement).fetch_all(db).await?)
}

pub(crate) async fn count_unsealed(db: &mut Connection) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar!(r#"select count(*) as "count!" from audit_outbox"#).fetch_one(db).await?)
}

/// Makes the partitions of this month and the next.
///
/// Entries of a month without one are in the default partition, and move into theirs: what they say does not change.
pub(crate) async fn ensure_partitions(pool: &super::Pool, now: Timestamp) -> Result<(), StoreError> {
    let this = now.to_zoned(jiff::tz::TimeZone::UTC).date().first_of_month();
    for start in [this, this.saturating_add(jiff::Span::new().months(1))] {
        ensure_partition(pool, start).await?;
    }
    Ok(())
}

async fn ensure_partition(pool: &super::Pool, start: jiff::civil::Date) -> Result<(), StoreError> {
    let end = start.saturating_add(jiff::Span::new().months(1));
    let name = format!("audit_entries_{}", start.strftime("%Y_%m"));
    let mut db = super::begin(pool).await?;
    sqlx::query!("select pg_advisory_xact_lock(hashtextextended('audit/partitions', 0))").execute(&mut *db).await?;
    let there =
        sqlx::query_scalar!(r#"select to_regclass($1) is not null as "there!""#, name).fetch_one(&mut *db).await?;
    if there {
        return Ok(());
    }
    let (from, to) = (format!("'{start} 00:00Z'"), format!("'{end} 00:00Z'"));
    let statements = [
        // The sealer must not write another of these entries meanwhile.
        "lock table audit_entries_other in access exclusive mode".to_owned(),
        format!("create table {name} (like audit_entries including defaults including constraints)"),
        format!(
            "with moved as (delete from audit_entries_other where at >= {from} and at < {to} returning *)
             insert into {name} select * from moved"
        ),
        format!("alter table audit_entries attach partition {name} for values from ({from}) to ({to})"),
    ];
    for statement in statements {
        sqlx::query(sqlx::AssertSqlSafe(statement)).execute(&mut *db).await?;
    }
    db.commit().await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::process::clock;
    use crate::store::{Pool, ask_number};

    /// As the sealer writes one.
    fn sealed(seq: i64, at: Timestamp, project: Option<&str>, action: &str) -> Sealed {
        let body = serde_json::json!({
            "eventId": clock::new_id(), "project": project, "actor": {"kind": "token", "name": "ann"},
            "action": action, "subject": {"kind": "repo", "name": "apps"}, "outcome": "done", "reason": "",
        });
        let body = body.to_string().into_bytes();
        let index = Index::of(&body).expect("it is an entry");
        Sealed { seq, leaf_hash: Digest::of(&body), body, at, index }
    }

    async fn numbers(db: &mut Connection, filter: &AuditFilter, before: Option<(Timestamp, i64)>) -> Vec<i64> {
        let project = "default".parse().expect("a name");
        let listed = list(db, &project, filter, before, 2).await.expect("read");
        listed.into_iter().map(|entry| entry.seq).collect()
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn what_was_written_is_taken_in_its_order_and_once(pool: Pool) {
        let mut db = pool.acquire().await.expect("a connection");
        for body in ["one", "two", "three"] {
            sqlx::query("insert into audit_outbox (at, body) values (now(), $1)")
                .bind(body.as_bytes())
                .execute(&mut *db)
                .await
                .expect("written");
        }
        let mut take = async |limit| {
            let taken = take_unsealed(&mut db, limit).await.expect("taken");
            taken.into_iter().map(|one| String::from_utf8(one.body).expect("text")).collect::<Vec<_>>()
        };

        assert_eq!(take(2).await, ["one", "two"]);
        assert_eq!(take(2).await, ["three"]);
        assert_eq!(take(2).await, [""; 0]);
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn one_seals_at_a_time_and_nobody_waits_for_that(pool: Pool) {
        let mut one = crate::store::begin(&pool).await.expect("a transaction");
        let mut other = crate::store::begin(&pool).await.expect("a transaction");

        assert!(lock_sealer(&mut one).await.expect("asked"));
        assert!(!lock_sealer(&mut other).await.expect("asked"));
        one.commit().await.expect("it commits");
        assert!(lock_sealer(&mut other).await.expect("asked"));
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn the_head_is_read_as_it_was_written(pool: Pool) {
        let mut db = pool.acquire().await.expect("a connection");
        let mut frontier = find_head(&mut db).await.expect("read");
        assert_eq!(frontier.size(), 0);

        for leaf in 0..7_u8 {
            frontier.push(Digest::of(&[leaf]));
        }
        mark_head(&mut db, &frontier).await.expect("written");

        let read = find_head(&mut db).await.expect("read");
        assert_eq!((read.size(), read.root()), (7, frontier.root()));
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn pages_of_the_log_leave_nothing_out_and_tell_nothing_of_other_projects(pool: Pool) {
        let mut db = pool.acquire().await.expect("a connection");
        let now = clock::now();
        // Two have one time, as of one transaction.
        for (seq, seconds, project, action) in [
            (1, 0, Some("default"), "rollout.started"),
            (2, 1, None, "token.created"),
            (3, 1, Some("default"), "rollout.done"),
            (4, 2, Some("other"), "rollout.done"),
            (5, 3, Some("default"), "rollouts.listed"),
        ] {
            let entry = sealed(seq, now + SignedDuration::from_secs(seconds), project, action);
            insert(&mut db, &entry).await.expect("written");
        }
        let all = AuditFilter::default();

        assert_eq!(numbers(&mut db, &all, None).await, [5, 3]);
        assert_eq!(numbers(&mut db, &all, Some((now + SignedDuration::from_secs(1), 3))).await, [2, 1]);
        let of_rollouts = AuditFilter { action: Some("rollout".to_owned()), ..AuditFilter::default() };
        assert_eq!(numbers(&mut db, &of_rollouts, None).await, [3, 1], "a word is no beginning of another");
        let (since, until) = (now + SignedDuration::from_secs(1), now + SignedDuration::from_secs(3));
        let between = AuditFilter { since: Some(since), until: Some(until), ..AuditFilter::default() };
        assert_eq!(numbers(&mut db, &between, None).await, [3, 2], "since then, and before that");
        let read = list_from(&mut db, 2, 2).await.expect("read");
        assert_eq!(read.iter().map(|entry| entry.seq).collect::<Vec<_>>(), [2, 3], "the proof is over all of it");
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_month_that_was_late_takes_what_it_was_written_without(pool: Pool) {
        let mut db = pool.acquire().await.expect("a connection");
        let now = clock::now();
        insert(&mut db, &sealed(1, now, None, "token.created")).await.expect("written");
        insert(&mut db, &sealed(2, now - SignedDuration::from_hours(24 * 90), None, "token.created"))
            .await
            .expect("written");
        let before = list_from(&mut db, 1, 10).await.expect("read");

        ensure_partitions(&pool, now).await.expect("months");
        ensure_partitions(&pool, now).await.expect("they are there");

        let without = ask_number(&mut db, "select count(*) from audit_entries_other").await.expect("counted");
        let after = list_from(&mut db, 1, 10).await.expect("read");
        assert_eq!(without, 1, "a month that is over gets none");
        let bytes =
            |all: Vec<Sealed>| all.into_iter().map(|one| (one.seq, one.body, one.leaf_hash)).collect::<Vec<_>>();
        assert_eq!(bytes(before), bytes(after));
    }
}
