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

#[cfg(test)]
mod tests {
    use bellwether_core::rollout::{Member, MemberState, WaveState};
    use jiff::SignedDuration;

    use super::*;
    use crate::process::clock;
    use crate::store::Pool;
    use crate::store::rollouts::{Rollout, insert_members, mark_members, mark_overtaken};
    use crate::store::rows::{MAIN, Rows};

    fn planned(name: &str) -> PlannedWave {
        PlannedWave {
            name: name.to_owned(),
            members: Vec::new(),
            concurrent_max: 3,
            healthy_min: 2,
            soak: SignedDuration::from_secs(30),
        }
    }

    async fn rolling(rows: &mut Rows) -> Rollout {
        let (target, revision, bundle) =
            (rows.target("shop").await, rows.revision(MAIN, "a").await, rows.bundle("a").await);
        let render = rows.render(&target, revision, bundle).await;
        let rollout = rows.rollout(&target, render).await;
        insert_waves(&mut rows.db, rollout.id, &[planned("canary"), planned("rest")]).await.expect("written");
        rollout
    }

    async fn waves(rows: &mut Rows, rollout: &Rollout) -> Vec<Wave> {
        list_waves(&mut rows.db, &[rollout.id]).await.expect("read").remove(&rollout.id).expect("it has waves")
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn waves_are_read_in_their_order_as_they_were_written(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let rollout = rolling(&mut rows).await;
        let first = waves(&mut rows, &rollout).await.remove(0);
        let (state, opened_at) = (WaveState::Soaking, Some(clock::now()));
        let soak_left = Some(SignedDuration::from_millis(1_500));

        let soaking = Wave { state, opened_at, soak_left, ..first };
        mark_wave(&mut rows.db, rollout.id, 0, &soaking).await.expect("written");

        let read = waves(&mut rows, &rollout).await;
        assert_eq!(read[0], soaking);
        assert_eq!((read[1].name.as_str(), read[1].state, read[1].members), ("rest", WaveState::Waiting, 0));
        assert_eq!((read[1].concurrent_max, read[1].healthy_min, read[1].soak.as_secs()), (3, 2, 30));
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn a_member_that_another_rollout_has_is_in_no_count_but_its_own(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let rollout = rolling(&mut rows).await;
        let (bundle, before) = (rows.bundle("a").await, rows.bundle("before").await);
        let mut members = Vec::new();
        for (name, state, had) in [
            ("c1", MemberState::Healthy, Some(before)),
            ("c2", MemberState::Applied, None),
            ("c3", MemberState::Failed, Some(before)),
            ("c4", MemberState::Applied, Some(before)),
        ] {
            let member = Member::waiting(rows.cluster(name).await, 0, bundle, had);
            members.push(Member { state, assigned_at: Some(clock::now()), ..member });
        }
        insert_members(&mut rows.db, rollout.id, &members, &BTreeMap::new()).await.expect("written");
        mark_members(&mut rows.db, rollout.id, &members.iter().collect::<Vec<_>>()).await.expect("written");
        let by = RolloutId::new(clock::new_id());
        mark_overtaken(&mut rows.db, rollout.target, by, &[members[3].cluster]).await.expect("written");

        let wave = waves(&mut rows, &rollout).await.remove(0);

        assert_eq!((wave.members, wave.overtaken), (3, 1));
        assert_eq!((wave.healthy, wave.in_flight, wave.failed, wave.skipped), (1, 1, 1, 0));
        assert_eq!((wave.returnable, wave.first_installs), (2, 1));
        assert_eq!(wave.silent, 1, "nobody has heard the healthy one");
    }

    #[crate::store::database_test(migrations = "../migrations")]
    async fn an_open_wave_is_empty_when_others_have_all_of_its_members(pool: Pool) {
        let mut rows = Rows::new(&pool).await;
        let rollout = rolling(&mut rows).await;
        let bundle = rows.bundle("a").await;
        let member = Member::waiting(rows.cluster("c1").await, 0, bundle, None);
        insert_members(&mut rows.db, rollout.id, std::slice::from_ref(&member), &BTreeMap::new())
            .await
            .expect("written");

        assert_eq!(find_empty_wave(&mut rows.db, rollout.id).await.expect("read"), None, "none is open");
        let open = Wave { state: WaveState::Open, ..waves(&mut rows, &rollout).await.remove(0) };
        mark_wave(&mut rows.db, rollout.id, 0, &open).await.expect("written");
        assert_eq!(find_empty_wave(&mut rows.db, rollout.id).await.expect("read"), None);
        let by = RolloutId::new(clock::new_id());
        mark_overtaken(&mut rows.db, rollout.target, by, &[member.cluster]).await.expect("written");
        assert_eq!(find_empty_wave(&mut rows.db, rollout.id).await.expect("read").as_deref(), Some("canary"));
    }
}
