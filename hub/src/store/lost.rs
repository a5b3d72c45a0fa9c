//! Targets of which a cluster is to run what is not stored any more.

use bellwether_core::{Condition, TargetId};
use jiff::Timestamp;
use sqlx::types::Json;
use uuid::Uuid;

use super::columns::{signed, unsigned};
use super::work::Stage;
use super::{Connection, StoreError, from_sql, to_sql};

/// What is known of a target's loss.
#[derive(Debug, Clone)]
pub(crate) struct Lost {
    /// How often it was tried to make it anew.
    pub(crate) tries: u32,
    pub(crate) again_at: Timestamp,
    /// `None`: not tried yet.
    pub(crate) condition: Option<Condition>,
}

/// Writes that something of these targets is lost, and tells the bundle stage of those of which that is news, or of which
/// it has long forgotten to try again; says which. In one statement, also outside of a transaction: what is noted was told.
pub(crate) async fn note(
    db: &mut Connection,
    targets: &[TargetId],
    trace_id: &str,
    now: Timestamp,
) -> Result<Vec<TargetId>, StoreError> {
    let targets: Vec<Uuid> = targets.iter().map(|target| target.as_uuid()).collect();
    let news = sqlx::query_scalar!(
        r#"
        with news as (
            insert into lost_content (target_id, found_at, again_at)
            select target_id, $2::timestamptz, $2 from targets where target_id = any($1) order by target_id
                on conflict (target_id) do update set again_at = excluded.again_at
             where lost_content.again_at < excluded.again_at - interval '10 min'
            returning target_id
        )
        insert into work (stage, key, due_at, trace_id)
        select $4, target_id, $2, $3 from news
        returning key
        "#,
        &targets,
        to_sql(now),
        trace_id,
        Stage::Bundle.as_str(),
    )
    .fetch_all(db)
    .await?;
    Ok(news.into_iter().map(TargetId::new).collect())
}

pub(crate) async fn find(db: &mut Connection, target: TargetId) -> Result<Option<Lost>, StoreError> {
    let row = sqlx::query!(
        r#"
        select tries, again_at, condition as "condition: Json<Condition>" from lost_content where target_id = $1
        "#,
        target.as_uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Lost {
        tries: unsigned(row.tries),
        again_at: from_sql(row.again_at),
        condition: row.condition.map(|condition| condition.0),
    }))
}

/// Begins a try, after which the next is due then. False: another hub has begun it.
pub(crate) async fn begin_try(
    db: &mut Connection,
    target: TargetId,
    before: &Lost,
    again_at: Timestamp,
) -> Result<bool, StoreError> {
    let begun = sqlx::query!(
        "update lost_content set tries = tries + 1, again_at = $3 where target_id = $1 and tries = $2",
        target.as_uuid(),
        signed(before.tries),
        to_sql(again_at),
    )
    .execute(db)
    .await?;
    Ok(begun.rows_affected() > 0)
}

/// The next try is due then, and not later.
pub(crate) async fn mark_again(db: &mut Connection, target: TargetId, again_at: Timestamp) -> Result<(), StoreError> {
    sqlx::query!("update lost_content set again_at = $2 where target_id = $1", target.as_uuid(), to_sql(again_at))
        .execute(db)
        .await?;
    Ok(())
}

/// Writes what the target has to say of it.
pub(crate) async fn mark_condition(
    db: &mut Connection,
    target: TargetId,
    condition: &Condition,
) -> Result<(), StoreError> {
    sqlx::query!("update lost_content set condition = $2 where target_id = $1", target.as_uuid(), Json(condition) as _)
        .execute(db)
        .await?;
    Ok(())
}

/// All that its clusters are to run is stored again.
pub(crate) async fn delete(db: &mut Connection, target: TargetId) -> Result<(), StoreError> {
    sqlx::query!("delete from lost_content where target_id = $1", target.as_uuid()).execute(db).await?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;
    use crate::process::clock;
    use crate::store::rows::Rows;
    use crate::store::{Pool, count_rows};

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_loss_is_told_once_however_many_find_it_and_again_when_it_was_long_forgotten(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let target = rows.target("shop").await.id;
        let (db, now) = (&mut rows.db, clock::now());
        let all = [target, TargetId::new(clock::new_id())];
        let mut news = async |minutes| {
            let told = note(db, &all, "trace", now + SignedDuration::from_mins(minutes)).await.expect("noted");
            (told, count_rows(db, &["work"]).await.expect("counted")["work"])
        };

        assert_eq!(news(0).await, (vec![target], 1), "who is no target is left out");
        assert_eq!(news(5).await, (vec![], 1));
        assert_eq!(news(11).await, (vec![target], 2), "nobody has tried since");
        assert_eq!(news(12).await, (vec![], 2));
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn of_two_hubs_one_begins_a_try(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let target = rows.target("shop").await.id;
        let (db, now) = (&mut rows.db, clock::now());
        note(db, &[target], "trace", now).await.expect("noted");
        let seen = find(db, target).await.expect("read").expect("it is noted");
        let again_at = now + SignedDuration::from_mins(1);

        assert!(begin_try(db, target, &seen, again_at).await.expect("begun"));
        assert!(!begin_try(db, target, &seen, again_at).await.expect("begun"), "another has begun it");
        let seen = find(db, target).await.expect("read").expect("it is noted");
        assert_eq!((seen.tries, seen.again_at), (1, again_at));
        delete(db, target).await.expect("written");
        assert!(!begin_try(db, target, &seen, again_at).await.expect("begun"), "nothing is lost any more");
    }
}
