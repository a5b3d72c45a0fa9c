//! Who is in a rollout, who is left out of it, and who is waited for.

use bellwether_core::report::{Verdict, may_pass};
use bellwether_core::rollout::{Intent, Member, MemberState, RolloutState, why};
use bellwether_core::{SessionNumber, TargetId, session};
use jiff::{SignedDuration, Timestamp};
use serde_json::json;

use super::rollouts::{REGIONAL, strategy};
use super::scene::{ANOTHER, ONE, Scene, TWO_IS_FOR_LATE_ONES, await_true, finish, go_away, label, shown};
use crate::process::clock;
use crate::store::intents::Verb;
use crate::store::rollouts::Which;
use crate::store::targets::Deletion;
use crate::store::work::Stage;
use crate::store::{self, Pool, sessions};

#[crate::store::database_test(migrations = "../migrations")]
async fn a_blink_that_nobody_saw_costs_a_soak_no_more_than_its_own_time(pool: Pool) {
    let soaking = json!({"waves": [{"name": "all", "maxConcurrent": "100%", "soak": "10m"}]});
    let scene = Scene::with(&pool, 2, &[], &soaking).await;
    scene.roll_out(&[("one/a.yaml", ONE)], 1).await;
    let began_at = clock::now();
    let after = |seconds| began_at + SignedDuration::from_secs(seconds);
    assert!(scene.is_so("select soak_until - soak_from = interval '10 min' from rollout_waves").await);

    scene.reconnect_at(0, 50, after(480)).await;
    let mut db = pool.acquire().await.expect("a connection");
    sessions::mark_caught_up(&mut db, &[(scene.clusters[0], SessionNumber::new(50))], after(485))
        .await
        .expect("written");
    let told = scene.why_at(after(601)).await;
    assert!(told.contains("all soaks on, because a healthy cluster was silent: 1m5"), "{told}");
    scene.decide_at(after(486)).await;

    let left = "select soak_until - soak_from between interval '110 s' and interval '120 s' from rollout_waves";
    assert!(scene.is_so(left).await, "two of ten minutes are left");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn whoever_missed_a_rollout_that_was_replaced_wakes_nobody_by_it(pool: Pool) {
    let scene = Scene::with(&pool, 2, &["--grace-ms", "1"], &strategy("pause")).await;
    scene.push(&[("one/a.yaml", ONE)]).await;
    scene.render().await;
    scene.say(0, Verdict::Healthy, 1).await;
    go_away(&scene, 1).await;
    scene.decide_at(clock::now() + SignedDuration::from_secs(70)).await;
    assert!(scene.is_so("select count(*) = 1 from rollout_clusters where state = 'offline'").await);
    let mut db = pool.acquire().await.expect("a connection");
    let missed = store::rollouts::list_targets_of(&mut db, &[scene.clusters[1]]).await.expect("they are read");
    assert_eq!(missed.len(), 1, "it has yet to catch up");

    scene.push(&[("one/a.yaml", ANOTHER)]).await;
    scene.render().await;
    scene.reconnect(1, 50).await;
    scene.catch_up(1, 50).await;
    scene.say(0, Verdict::Healthy, 2).await;
    scene.say(1, Verdict::Healthy, 3).await;

    assert_eq!(scene.states().await, [RolloutState::Done, RolloutState::Done]);
    let woken = store::rollouts::list_targets_of(&mut db, &[scene.clusters[1]]).await.expect("they are read");
    assert!(woken.is_empty(), "nothing is decided about it any more");
    let woken = store::sessions::list_targets_of_hubs(&mut db, &[scene.hub.id]).await.expect("they are read");
    assert!(woken.is_empty());
}

#[crate::store::database_test(migrations = "../migrations")]
async fn changes_of_single_clusters_are_history_once_all_their_clusters_are_settled(pool: Pool) {
    const CHANGES: &str = "insert into rollouts
        (rollout_id, target_id, render_id, kind, strategy, failures_max, state, state_since, reason, trace_id,
         created_at, updated_at, ended_at)
        select ('ffffffff-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, target_id, render_id, 'cluster_change',
               strategy, failures_max, 'done', state_since, reason, trace_id, created_at, updated_at, now()
          from rollouts, generate_series(1, 40) as n";
    const CATCHES_UP: &str = "insert into rollout_clusters
        (rollout_id, cluster_id, wave, position, digest, state, reason)
        select 'ffffffff-0000-7000-8000-000000000003', cluster_id, wave, position, digest, 'offline', ''
          from rollout_clusters limit 1";
    const ITS_WAVE: &str =
        "insert into rollout_waves (rollout_id, wave, name, state, concurrent_max, healthy_min, soak_ms)
        select 'ffffffff-0000-7000-8000-000000000003', wave, name, state, concurrent_max, healthy_min, soak_ms
          from rollout_waves";

    let scene = Scene::with(&pool, 2, &[], &strategy("pause")).await;
    scene.roll_out(&[("one/a.yaml", ONE)], 1).await;
    for statement in [CHANGES, ITS_WAVE, CATCHES_UP] {
        store::execute_raw(&pool, statement).await.expect("it is written");
    }

    let mut db = pool.acquire().await.expect("a connection");
    let later = clock::now() + SignedDuration::from_hours(1);
    store::rollouts::delete_old(&mut db, later, 20, 1_000).await.expect("swept");

    // The last 20, the one that a cluster catches up with, and the one over the whole target.
    assert!(scene.is_so("select count(*) = 22 from rollouts").await);
    assert!(scene.is_so("select count(*) = 1 from rollouts where kind = 'revision'").await);
}

/// Forty more of the rollout that is there, newer ones, of which each ended before its first cluster had it.
const LEFT_WAITING: [&str; 2] = [
    "insert into rollouts
        (rollout_id, target_id, render_id, kind, strategy, failures_max, state, state_since, reason, trace_id,
         created_at, updated_at, ended_at)
     select ('ffffffff-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, target_id, render_id, kind, strategy,
            failures_max, (array['superseded', 'cancelled', 'failed'])[1 + n % 3], state_since, reason, trace_id,
            created_at, updated_at, now()
       from rollouts, generate_series(1, 40) as n",
    "insert into rollout_clusters (rollout_id, cluster_id, wave, position, digest, state, reason)
     select o.rollout_id, m.cluster_id, m.wave, m.position, m.digest, 'waiting', ''
       from rollouts o, rollout_clusters m
      where o.state <> 'done' and m.position = 1",
];

#[crate::store::database_test(migrations = "../migrations")]
async fn rollouts_that_ended_before_all_had_it_are_kept_no_longer_than_others(pool: Pool) {
    let scene = Scene::with(&pool, 2, &[], &strategy("pause")).await;
    scene.roll_out(&[("one/a.yaml", ONE)], 1).await;
    for statement in LEFT_WAITING {
        store::execute_raw(&pool, statement).await.expect("it is written");
    }
    let mut db = pool.acquire().await.expect("a connection");
    assert!(scene.is_so("select count(*) = 40 from rollout_clusters where state = 'waiting'").await);

    let later = clock::now() + SignedDuration::from_hours(1);
    store::rollouts::delete_old(&mut db, later, 20, 1_000).await.expect("swept");

    assert!(scene.is_so("select count(*) = 21 from rollouts").await, "the last 20, and the one that counts");
    assert!(scene.is_so("select count(*) = 1 from rollouts where state = 'done'").await);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_wave_that_selects_nobody_rolls_on_when_its_selector_or_a_label_is_corrected_or_newer_content_comes(
    pool: Pool,
) {
    let ring = |ring: &str| json!({"waves": [{"name": "canary", "clusters": {"matchLabels": {"ring": ring}}}]});
    let scene = Scene::with(&pool, 2, &[], &ring("canray")).await;
    scene.label(scene.clusters[0], "ring", "canary").await;
    scene.push(&[("one/a.yaml", ONE)]).await;
    scene.render().await;
    let counts = async || {
        let assigned = scene.runs(scene.clusters[0]).await.is_some();
        (scene.states().await, assigned)
    };
    assert_eq!(counts().await, (vec![RolloutState::Rolling], false), "it holds");

    let corrected = serde_json::from_value(ring("canary")).expect("a strategy");
    scene.change_spec("one", |spec| spec.rollout = Some(corrected)).await;
    scene.render().await;
    assert_eq!(counts().await, (vec![RolloutState::Rolling, RolloutState::Superseded], true), "the selector");

    let mistyped = serde_json::from_value(ring("canarry")).expect("a strategy");
    scene.say(0, Verdict::Healthy, 1).await;
    scene.say(1, Verdict::Healthy, 1).await;
    scene.change_spec("one", |spec| spec.rollout = Some(mistyped)).await;
    scene.push(&[("one/a.yaml", ANOTHER)]).await;
    scene.render().await;
    let before = scene.runs(scene.clusters[1]).await;
    label(&scene, 1, json!({"ring": "canarry"})).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    assert_ne!(scene.runs(scene.clusters[1]).await, before, "the label");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_waits_behind_a_rollout_is_told_by_it(pool: Pool) {
    let scene = Scene::with(&pool, 2, &[], &strategy("pause")).await;
    let why = async || {
        let (_, rollouts) = scene.ask("GET", "/rollouts", "").await;
        rollouts["items"][0]["why"].as_str().expect("it says why").to_owned()
    };
    scene.push(&[("one/a.yaml", ONE)]).await;
    scene.render().await;
    assert!(!why().await.contains("waits until"), "{}", why().await);

    scene.change_spec("one", |spec| spec.rollout = None).await;
    scene.render().await;
    assert!(
        why().await.ends_with("a newer spec waits until this ends: `bellwether rollout abort one` ends it"),
        "{}",
        why().await
    );
    scene.push(&[("one/a.yaml", ANOTHER)]).await;
    scene.render().await;
    assert!(why().await.contains("; commit ") && why().await.contains(" waits until this ends"), "{}", why().await);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn nobody_is_open_in_a_rollout_that_another_replaced(pool: Pool) {
    const OPEN: &str = "select count(*) = 0 from rollout_clusters where is_unsettled";
    const WAITING: &str = "select count(*) = 1 from rollout_clusters where state = 'waiting'";

    let one_by_one = json!({"onFailure": "pause", "waves": [{"name": "all", "maxConcurrent": 1}]});
    let scene = Scene::with(&pool, 2, &[], &one_by_one).await;
    let roll = async |content: &str| {
        scene.push(&[("one/a.yaml", content)]).await;
        scene.render().await;
    };
    roll(ONE).await;
    scene.say(0, Verdict::Failed, 1).await;
    assert_eq!(scene.states().await, [RolloutState::Paused]);
    assert!(scene.is_so(WAITING).await);

    roll(ANOTHER).await;
    let aborted = scene.rollouts().await.remove(0).id;
    assert_eq!(scene.intend(Some(aborted), Verb::Rollout(Intent::Abort)).await, "done");
    assert_eq!(scene.states().await, [RolloutState::Cancelled, RolloutState::Superseded]);
    roll(REGIONAL).await;
    scene.say(0, Verdict::Healthy, 2).await;
    scene.say(1, Verdict::Healthy, 3).await;

    assert_eq!(scene.states().await[0], RolloutState::Done);
    assert!(scene.is_so(OPEN).await, "what agents say is not asked for among them");
}

/// Two clusters that were given what is for `eu`: the first has it and is well, the second failed, and then it was aborted.
async fn aborted_change(pool: &Pool) -> Scene {
    let scene = Scene::with(pool, 2, &[], &strategy("pause")).await;
    scene.roll_out(&[("one/a.yaml", REGIONAL)], 1).await;
    for cluster in &scene.clusters {
        scene.label(*cluster, "region", "eu").await;
    }
    scene.render().await;
    scene.say(0, Verdict::Healthy, 2).await;
    scene.say(1, Verdict::Failed, 3).await;
    let change = scene.rollouts().await.remove(0);
    assert_eq!(scene.intend(Some(change.id), Verb::Rollout(Intent::Abort)).await, "done");
    scene
}

#[crate::store::database_test(migrations = "../migrations")]
async fn whoever_had_what_an_aborted_change_gave_may_have_it_again(pool: Pool) {
    let scene = aborted_change(&pool).await;
    let well = scene.clusters[0];
    let of_eu = scene.runs(well).await;
    assert!(scene.set_aside().await.is_empty(), "one runs it, and the other was given it");

    scene.label(well, "region", "us").await;
    scene.render().await;
    scene.say(0, Verdict::Healthy, 4).await;
    assert_ne!(scene.runs(well).await, of_eu);
    scene.label(well, "region", "eu").await;
    scene.render().await;

    assert_eq!(scene.runs(well).await, of_eu);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_deletion_does_not_wait_for_a_cluster_whose_identity_two_agents_use(pool: Pool) {
    const CONTESTED: &str = r#"update sessions set rivalry = '{"contested_at": "2026-01-01T00:00:00Z"}',
                                caught_up_at = null, away_since = now()"#;

    let scene = Scene::with(&pool, 1, &["--grace-ms", "1"], &strategy("pause")).await;
    scene.roll_out(&[("one/a.yaml", ONE)], 1).await;
    store::execute_raw(&pool, CONTESTED).await.expect("it is written");
    let id = TargetId::new(scene.id("one").await);
    let mut db = pool.acquire().await.expect("a connection");
    let deletion =
        Deletion { action: session::Action::Delete, forced: false, by: "alice".to_owned(), at: clock::now() };
    store::targets::mark_deletion(&mut db, id, &deletion).await.expect("it is written");

    scene.decide_at(clock::now()).await;
    scene.decide_at(clock::now()).await;
    let waits = store::targets::find(&mut db, id).await.expect("it is read").is_some();
    scene.decide_at(clock::now() + SignedDuration::from_secs(61)).await;

    assert!(waits, "it may have been heard a moment ago");
    assert!(store::targets::find(&mut db, id).await.expect("it is read").is_none(), "nothing new is told to it");
    let named = "select count(*) = 1 from audit_outbox
                  where convert_from(body, 'UTF8') like '%target.gone%' and convert_from(body, 'UTF8') like '%cluster-1%'";
    assert!(scene.is_so(named).await, "the log names who has not answered");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_cluster_that_joins_while_nothing_renders_gets_the_last_that_did(pool: Pool) {
    let mut scene = Scene::with(&pool, 1, &[], &strategy("pause")).await;
    scene.roll_out(&[("one/a.yaml", ONE)], 1).await;
    let good = scene.runs(scene.clusters[0]).await;
    scene.push(&[("one/a.yaml", "a: [")]).await;
    scene.render().await;

    let newcomer = scene.join().await;
    scene.render().await;

    assert_eq!(scene.runs(newcomer).await, good);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn who_is_labelled_out_while_nothing_renders_stands_in_the_log(pool: Pool) {
    const LEFT: &str = "select count(*) = 1 from audit_outbox
                         where convert_from(body, 'UTF8') like '%target.cluster.unselected%'";

    let scene = Scene::new(&pool, 2).await;
    store::execute_raw(&pool, TWO_IS_FOR_LATE_ONES).await.expect("it is written");
    label(&scene, 0, json!({"ring": "late"})).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    finish(&scene, 1).await;
    scene.push(&[("two/a.yaml", "a: [")]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;

    label(&scene, 0, json!({})).await;
    assert_eq!(scene.reconcile(Stage::Bundle).await, [scene.id("two").await]);
    scene.reconcile(Stage::Rollout).await;

    assert_eq!(scene.condition("two").await.as_deref(), Some("yaml_invalid"));
    assert!(scene.is_so(LEFT).await);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_stream_that_begins_does_not_wait_for_a_reconcile_of_whoever_waits_for_its_cluster(pool: Pool) {
    const WAITS: &str =
        "select exists (select from pg_locks where not granted and relation = 'rollout_waves'::regclass)";

    let scene = Scene::with(&pool, 2, &[], &strategy("pause")).await;
    scene.roll_out(&[("one/a.yaml", REGIONAL)], 1).await;
    go_away(&scene, 1).await;
    for cluster in &scene.clusters {
        scene.label(*cluster, "region", "eu").await;
    }
    scene.tell(Stage::Bundle, scene.id("one").await).await;
    scene.reconcile(Stage::Bundle).await;
    let mut other = store::begin(&pool).await.expect("a transaction");
    store::execute_in(&mut other, "lock table rollout_waves in exclusive mode").await.expect("it is locked");

    let mut db = pool.acquire().await.expect("a connection");
    let streams = async {
        await_true(&mut db, WAITS).await;
        let is_written = tokio::time::timeout(std::time::Duration::from_secs(5), scene.reconnect(1, 50)).await.is_ok();
        let still_waits = store::ask_raw(&mut db, WAITS).await.expect("it is answered");
        drop(other);
        (is_written, still_waits)
    };
    let (_, (is_written, still_waits)) = tokio::join!(scene.try_to_decide(), streams);

    assert!(is_written && still_waits, "the stream was written while the reconcile went on");
}

impl Scene {
    /// What the newest rollout waits for, as people are told at that time.
    async fn why_at(&self, now: Timestamp) -> String {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let target = TargetId::new(self.id("one").await);
        let row = shown(&mut db, target).await;
        let views = store::views::rollouts::load(&mut db, vec![row]).await.expect("it is read");
        why(&views.first().expect("it is there").rollout, now)
    }

    /// Whom the target's document names as left out, and why.
    async fn set_aside(&self) -> Vec<(String, String)> {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let target = store::targets::find(&mut db, TargetId::new(self.id("one").await)).await.expect("it is read");
        let views = store::views::targets::load(&mut db, target.into_iter().collect(), clock::now()).await;
        let named = views.expect("they are read").remove(0).set_aside.into_iter();
        named.map(|one| (one.cluster, one.cause)).collect()
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn an_upgraded_hub_lifts_no_skip(pool: Pool) {
    let scene = Scene::with(&pool, 2, &[], &strategy("pause")).await;
    scene.push(&[("one/a.yaml", ONE)]).await;
    scene.tell(Stage::Bundle, scene.id("one").await).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconnect(1, 50).await;
    scene.decide("one").await;
    let rollout = scene.rollouts().await.remove(0);
    let skip = Verb::Rollout(Intent::Skip { cluster: scene.clusters[1] });
    assert_eq!(scene.intend(Some(rollout.id), skip).await, "done");
    scene.catch_up(1, 50).await;
    scene.say(0, Verdict::Healthy, 1).await;
    assert_eq!(scene.set_aside().await, [("cluster-2".to_owned(), "skipped".to_owned())]);
    assert_eq!((scene.states().await, scene.runs(scene.clusters[1]).await), (vec![RolloutState::Done], None));

    // The version before knew fewer fields of a spec, and hashed those.
    store::execute_raw(&pool, "update wanted_renders set recipe = '\\x00'").await.expect("it is written");
    scene.push(&[("README.md", "2")]).await;
    scene.render().await;

    assert_eq!((scene.states().await, scene.runs(scene.clusters[1]).await), (vec![RolloutState::Done], None));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_a_failure_is_that_may_pass_is_said_by_one_rule(pool: Pool) {
    let scene = Scene::with(&pool, 1, &[], &strategy("pause")).await;
    scene.push(&[("one/a.yaml", ONE)]).await;
    scene.render().await;
    scene.say(0, Verdict::Failed, 1).await;
    let mut db = pool.acquire().await.expect("a connection");
    let rollout = scene.rollouts().await.remove(0).id;
    let evidence = async |db: &mut store::Connection, lines: &'static str| {
        store::execute_in(db, lines).await.expect("it is written");
        let members = store::rollouts::list_members(db, rollout, Which::default(), clock::now()).await;
        members.expect("they are read").remove(0).seen.evidence.expect("it has reported").may_pass
    };

    let is_final = !evidence(&mut db, "select 1").await;
    let without_lines = evidence(&mut db, "update reports set lines = '[]'").await;

    assert!(is_final);
    assert_eq!(without_lines, may_pass(Verdict::Failed, &[]));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn every_state_of_a_member_is_unsettled_in_rows_as_in_decisions(pool: Pool) {
    let scene = Scene::with(&pool, 1, &[], &strategy("pause")).await;
    scene.push(&[("one/a.yaml", ONE)]).await;
    scene.render().await;
    let mut db = pool.acquire().await.expect("a connection");
    let rollout = scene.rollouts().await.remove(0).id;
    let member = store::rollouts::list_members(&mut db, rollout, Which::default(), clock::now()).await;
    let member = member.expect("they are read").remove(0).member;

    for state in MemberState::ALL {
        let changed = Member { state, ..member.clone() };
        store::rollouts::mark_members(&mut db, rollout, &[&changed]).await.expect("it is written");
        let is_unsettled = store::rollouts::is_any_unsettled(&mut db, rollout).await.expect("it is read");
        assert_eq!(is_unsettled, state.is_unsettled(), "{state:?}");
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn whoever_is_left_out_of_what_nobody_gives_them_any_more_is_not_named(pool: Pool) {
    let scene = aborted_change(&pool).await;
    let failing = scene.clusters[1];

    scene.label(failing, "region", "us").await;
    scene.render().await;
    scene.say(1, Verdict::Healthy, 4).await;
    let mut db = pool.acquire().await.expect("a connection");
    let left_out = "select exists (select from set_aside)";
    assert!(store::ask_raw(&mut db, left_out).await.expect("it is read"), "of eu's bundle");
    assert_eq!(scene.set_aside().await, [], "it has what it is to have");

    // It is to have eu's again, and does not get it by itself.
    scene.label(failing, "region", "eu").await;
    scene.render().await;

    assert_eq!(scene.set_aside().await, [("cluster-2".to_owned(), "failed".to_owned())]);
}
