//! The waves of rollouts, with their members counted.

use std::collections::BTreeMap;

use bellwether_core::RolloutId;
use bellwether_core::rollout::{Heard, PlannedWave, Wave};
use uuid::Uuid;

use crate::store::columns::{in_millis, millis, signed, text, unsigned, word};
use crate::store::{Connection, StoreError, from_sql, to_sql};

type DateTime = chrono::DateTime<chrono::Utc>;

/// Writes waves that wait, in their order.
pub(crate) async fn insert_waves(
    db: &mut Connection,
    rollout: RolloutId,
    waves: &[PlannedWave],
) -> Result<(), StoreError> {
    let names: Vec<String> = waves.iter().map(|wave| wave.name.clone()).collect();
    let concurrent_max: Vec<i32> = waves.iter().map(|wave| signed(wave.concurrent_max)).collect();
    let healthy_min: Vec<i32> = waves.iter().map(|wave| signed(wave.healthy_min)).collect();
    let soak_ms: Vec<i64> = waves.iter().map(|wave| in_millis(wave.soak)).collect();
    sqlx::query!(
        r#"
        insert into rollout_waves (rollout_id, wave, name, state, concurrent_max, healthy_min, soak_ms)
        select $1, place - 1, name, 'waiting', concurrent_max, healthy_min, soak_ms
          from unnest($2::text[], $3::int[], $4::int[], $5::bigint[])
               with ordinality as w (name, concurrent_max, healthy_min, soak_ms, place)
        "#,
        rollout.as_uuid(),
        &names,
        &concurrent_max,
        &healthy_min,
        &soak_ms,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Writes a wave as it is now.
pub(crate) async fn mark_wave(
    db: &mut Connection,
    rollout: RolloutId,
    place: u32,
    wave: &Wave,
) -> Result<(), StoreError> {
    sqlx::query!(
        r#"
        update rollout_waves
           set state = $3, opened_at = $4, soak_until = $5, soak_left_ms = $6, soak_from = $7
         where rollout_id = $1 and wave = $2
        "#,
        rollout.as_uuid(),
        signed(place),
        text(wave.state),
        wave.opened_at.map(to_sql),
        wave.soak_until.map(to_sql),
        wave.soak_left.map(in_millis),
        wave.soak_from.map(to_sql),
    )
    .execute(db)
    .await?;
    Ok(())
}

struct WaveRow {
    rollout_id: Uuid,
    name: String,
    state: String,
    concurrent_max: i32,
    healthy_min: i32,
    soak_ms: i64,
    opened_at: Option<DateTime>,
    soak_from: Option<DateTime>,
    soak_until: Option<DateTime>,
    soak_left_ms: Option<i64>,
    members: i64,
    overtaken: i64,
    waiting: i64,
    in_flight: i64,
    healthy: i64,
    failed: i64,
    offline: i64,
    skipped: i64,
    rolled_back: i64,
    silent: i64,
    heard_from: Option<DateTime>,
    heard_until: Option<DateTime>,
    returnable: i64,
    first_installs: i64,
}

impl TryFrom<WaveRow> for Wave {
    type Error = StoreError;

    fn try_from(row: WaveRow) -> Result<Self, StoreError> {
        let count = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
        let soak_from = row.soak_from.map(from_sql);
        let heard = row.heard_from.zip(row.heard_until);
        let heard = heard.map(|(from, until)| Heard { from: from_sql(from), until: from_sql(until) });
        Ok(Self {
            name: row.name,
            state: word(&row.state, "rollout_waves")?,
            concurrent_max: unsigned(row.concurrent_max),
            healthy_min: unsigned(row.healthy_min),
            soak: millis(row.soak_ms),
            opened_at: row.opened_at.map(from_sql),
            soak_from,
            soak_until: row.soak_until.map(from_sql),
            soak_left: row.soak_left_ms.map(millis),
            members: count(row.members),
            overtaken: count(row.overtaken),
            waiting: count(row.waiting),
            in_flight: count(row.in_flight),
            healthy: count(row.healthy),
            failed: count(row.failed),
            offline: count(row.offline),
            skipped: count(row.skipped),
            rolled_back: count(row.rolled_back),
            silent: count(row.silent),
            heard_for: soak_from.zip(heard).map(|(from, heard)| heard.duration_since(from)),
            returnable: count(row.returnable),
            first_installs: count(row.first_installs),
            notable: None,
        })
    }
}

/// The open wave of a rollout, if it has no members.
pub(crate) async fn find_empty_wave(db: &mut Connection, rollout: RolloutId) -> Result<Option<String>, StoreError> {
    let name = sqlx::query_scalar!(
        r#"
        select name
          from rollout_waves w
         where rollout_id = $1 and state = 'open'
           and not exists (select from rollout_clusters m
                            where m.rollout_id = w.rollout_id and m.wave = w.wave and not m.overtaken)
         limit 1
        "#,
        rollout.as_uuid(),
    )
    .fetch_optional(db)
    .await?;
    Ok(name)
}

/// The waves of these rollouts in their order, with their members counted and none of them named.
pub(crate) async fn list_waves(
    db: &mut Connection,
    rollouts: &[RolloutId],
) -> Result<BTreeMap<RolloutId, Vec<Wave>>, StoreError> {
    let ids: Vec<Uuid> = rollouts.iter().map(|id| id.as_uuid()).collect();
    let rows = sqlx::query_file_as!(WaveRow, "src/store/sql/list_waves.sql", &ids).fetch_all(db).await?;
    let mut waves: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for row in rows {
        waves.entry(RolloutId::new(row.rollout_id)).or_default().push(row.try_into()?);
    }
    Ok(waves)
}
