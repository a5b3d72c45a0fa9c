//! What a target's chart leaves to chance: a sealed seed for each time that somebody wanted new values.

use bellwether_core::TargetId;
use jiff::Timestamp;

use super::{Connection, StoreError, from_sql, to_sql};

pub(crate) struct FrozenSeed {
    pub(crate) sealed: Vec<u8>,
    pub(crate) made_at: Timestamp,
}

pub(crate) async fn find(
    db: &mut Connection,
    target: TargetId,
    generation: &str,
) -> Result<Option<FrozenSeed>, StoreError> {
    let row = sqlx::query!(
        "select sealed, made_at from frozen_seeds where target_id = $1 and generation = $2",
        target.as_uuid(),
        generation,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| FrozenSeed { sealed: row.sealed, made_at: from_sql(row.made_at) }))
}

/// Nothing where there is one, or where the target is gone.
pub(crate) async fn insert_first(
    db: &mut Connection,
    target: TargetId,
    generation: &str,
    seed: &FrozenSeed,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        insert into frozen_seeds (target_id, generation, sealed, made_at)
        select target_id, $2, $3, $4
          from targets
         where target_id = $1
            on conflict do nothing
        "#,
        target.as_uuid(),
        generation,
        seed.sealed,
        to_sql(seed.made_at),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// All of a target's but the newest, and this one.
pub(crate) async fn delete_older(
    db: &mut Connection,
    target: TargetId,
    this: &str,
    kept: i64,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        delete from frozen_seeds
         where target_id = $1
           and generation <> $2
           and generation in (
               select generation
                 from frozen_seeds
                where target_id = $1
                order by made_at desc, generation
               offset $3
               )
        "#,
        target.as_uuid(),
        this,
        kept,
    )
    .execute(db)
    .await?;
    Ok(())
}
