//! Targets of which a cluster is to run what is not stored any more.

use bellwether_core::TargetId;
use bellwether_core::api::Condition;
use jiff::Timestamp;
use sqlx::types::Json;
use uuid::Uuid;

use super::columns::{signed, unsigned};
use super::work::Stage;
use super::{Connection, StoreError, from_sql, to_sql};

/// What is known of a target's loss.
#[derive(Debug, Clone)]
pub(crate) struct Lost {
    /// How often it could not be made anew.
    pub(crate) tries: u32,
    pub(crate) again_at: Timestamp,
    /// `None`: not tried yet.
    pub(crate) condition: Option<Condition>,
}

/// Writes that something of these targets is lost, and tells the bundle stage of those of which that is news; says which.
/// In one statement, also outside of a transaction: what is noted was told.
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
                on conflict do nothing
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

pub(crate) async fn mark(db: &mut Connection, target: TargetId, lost: &Lost) -> Result<(), StoreError> {
    sqlx::query!(
        "update lost_content set tries = $2, again_at = $3, condition = $4 where target_id = $1",
        target.as_uuid(),
        signed(lost.tries),
        to_sql(lost.again_at),
        lost.condition.as_ref().map(Json) as _,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// All that its clusters are to run is stored again.
pub(crate) async fn delete(db: &mut Connection, target: TargetId) -> Result<(), StoreError> {
    sqlx::query!("delete from lost_content where target_id = $1", target.as_uuid()).execute(db).await?;
    Ok(())
}
