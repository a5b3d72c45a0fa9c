//! What ends rollouts, waits and wishes from outside: a newer commit, a person, a deletion. Each is counted, answered and
//! logged as what ends by itself is.

use axum::http::StatusCode;
use bellwether_core::report::Verdict;
use bellwether_core::rollout::{Intent, RolloutState};
use bellwether_core::{TargetId, session};
use serde_json::{Value, json};

use super::rollouts::{REGIONAL, strategy};
use super::scene::{ANOTHER, ONE, Scene, finish, insert_repo_named};
use crate::process::clock;
use crate::source::git::upstream::Upstream;
use crate::store::intents::Verb;
use crate::store::targets::Deletion;
use crate::store::work::Stage;
use crate::store::{self, Pool};

impl Scene {
    async fn add_commit(&self, content: &str) {
        self.push(&[("one/a.yaml", content)]).await;
        self.render().await;
    }

    /// How many rollouts ended in this state, as the figures say.
    fn ended(&self, state: &str) -> u64 {
        let line = format!("bellwether_rollout_seconds_count{{state=\"{state}\"}} ");
        let figures = self.hub.metrics.encode();
        let count = figures.lines().find_map(|figure| figure.strip_prefix(&line));
        count.map_or(0, |count| count.parse().expect("a count"))
    }

    async fn count_entries(&self, action: &str, reason: &str) -> usize {
        let is_meant = |entry: &&Value| entry["action"] == action && entry["reason"] == reason;
        self.entries().await.iter().filter(is_meant).count()
    }

    async fn begin_deletion(&self) {
        let id = TargetId::new(self.id("one").await);
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let (action, by, at) = (session::Action::Delete, "alice".to_owned(), clock::now());
        let deletion = Deletion { action, forced: false, by, at };
        store::targets::mark_deletion(&mut db, id, &deletion).await.expect("it is written");
        drop(db);
        self.decide("one").await;
    }

    /// The commits that clusters are shown at, in order of their names.
    async fn shown_commits(&self) -> Vec<String> {
        let (_, status) = self.ask("GET", "/status?target=one", "").await;
        let rows = status["rows"].as_array().expect("rows").iter();
        rows.map(|row| row["commit"].as_str().expect("a commit").to_owned()).collect()
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_rollout_that_something_else_ends_is_counted_and_logged(pool: Pool) {
    const BY_A_PERSON: &str = "rolled back by a person";

    let scene = Scene::with(&pool, 2, &[], &strategy("pause")).await;
    scene.roll_out(&[("one/a.yaml", ONE)], 1).await;
    assert_eq!((scene.ended("done"), scene.ended("superseded"), scene.ended("cancelled")), (1, 0, 0));
    let first = scene.wanted().await;

    scene.add_commit(ANOTHER).await;
    scene.say(0, Verdict::Failed, 2).await;
    scene.add_commit(REGIONAL).await;
    assert_eq!(scene.ended("superseded"), 1, "by a newer commit");
    assert_eq!(scene.roll_back_to(first).await, "done");
    assert_eq!(scene.ended("superseded"), 2, "by a person");
    assert_eq!(scene.count_entries("rollout.superseded", BY_A_PERSON).await, 1);
    scene.begin_deletion().await;

    assert_eq!((scene.ended("done"), scene.ended("superseded"), scene.ended("cancelled")), (1, 2, 1));
    assert!(scene.states().await.into_iter().all(RolloutState::is_over), "each was counted");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_is_asked_of_a_rollout_that_is_history_is_refused_and_logged(pool: Pool) {
    const REASON: &str = "a newer rollout took its place";

    let scene = Scene::with(&pool, 1, &[], &strategy("pause")).await;
    scene.add_commit(ONE).await;
    let former = scene.rollouts().await.remove(0).id;
    scene.say(0, Verdict::Failed, 1).await;
    scene.add_commit(ANOTHER).await;

    let answer = scene.intend(Some(former), Verb::Rollout(Intent::Resume)).await;

    assert_eq!(answer, REASON);
    assert_eq!(scene.states().await, [RolloutState::Rolling, RolloutState::Superseded]);
    assert_eq!(scene.count_entries("rollout.intent.refused", REASON).await, 1);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_is_asked_of_a_target_that_is_being_deleted_is_refused_and_logged(pool: Pool) {
    const REASON: &str = "the target is being deleted";

    let scene = Scene::with(&pool, 1, &[], &strategy("pause")).await;
    scene.add_commit(ONE).await;
    let rollout = scene.rollouts().await.remove(0).id;
    scene.begin_deletion().await;

    assert_eq!(scene.intend(Some(rollout), Verb::Rollout(Intent::Pause)).await, REASON);
    assert_eq!(scene.roll_back().await, REASON);

    assert_eq!(scene.count_entries("rollout.intent.refused", REASON).await, 1);
    assert_eq!(scene.count_entries("target.rolled_back", REASON).await, 1);
}

/// Intents of a target, from one number on: each is a wish for the rollout that is there, or none that this version reads.
const MANY_ASKED: [&str; 2] = [
    r#"insert into intents (intent_id, target_id, verb, actor, reason, created_at)
       select ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, target_id, '{"verb": "freeze"}', 'ci', '', now()
         from targets, generate_series(1, 150) as n
        where name = 'one'"#,
    r#"insert into intents (intent_id, target_id, verb, actor, reason, created_at)
       select ('00000000-0000-7000-9000-' || lpad(to_hex(n), 12, '0'))::uuid, target_id, '{"verb": "release"}', 'ci', '', now()
         from targets, generate_series(1, 150) as n
        where name = 'one'"#,
];

#[crate::store::database_test(migrations = "../migrations")]
async fn whoever_asks_after_many_others_is_answered_too(pool: Pool) {
    const UNANSWERED: &str = "select count(*) = 0 from intents where done_at is null and verb ->> 'verb' = 'release'";

    let scene = Scene::with(&pool, 1, &[], &strategy("pause")).await;
    scene.add_commit(ONE).await;
    for statement in MANY_ASKED {
        store::execute_raw(&pool, statement).await.expect("it is written");
    }

    scene.decide("one").await;
    assert!(!scene.is_so(UNANSWERED).await, "more than one transaction answers");
    assert_eq!(scene.reconcile(Stage::Rollout).await.len(), 1, "it is due again by itself");

    assert!(scene.is_so(UNANSWERED).await);
    assert!(scene.is_so("select count(*) = 150 from intents where done_at is null").await, "for a later version");
    assert!(scene.reconcile(Stage::Rollout).await.is_empty(), "nothing is tried again and again for them");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_wave_goes_on_when_the_cluster_that_it_waits_for_is_deleted(pool: Pool) {
    let waves = json!({"waves": [{"name": "all", "maxConcurrent": "100%"}]});
    let scene = Scene::with(&pool, 2, &[], &waves).await;
    scene.add_commit(ONE).await;
    scene.say(0, Verdict::Healthy, 1).await;
    assert_eq!(scene.states().await, [RolloutState::Rolling]);

    let (revoked, _) = scene.ask("POST", "/clusters/cluster-2/revoke", "{}").await;
    let (deleted, _) = scene.ask("DELETE", "/clusters/cluster-2", "").await;
    assert_eq!((revoked, deleted), (StatusCode::NO_CONTENT, StatusCode::NO_CONTENT));

    assert_eq!(scene.reconcile(Stage::Rollout).await, [scene.id("one").await], "nobody else tells it");
    assert_eq!(scene.states().await, [RolloutState::Done]);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn whoever_goes_back_is_shown_at_the_commit_that_it_ran_itself(pool: Pool) {
    let one_by_one = json!({"onFailure": "rollback", "waves": [{"name": "all", "maxConcurrent": 1}]});
    let scene = Scene::with(&pool, 2, &[], &one_by_one).await;
    scene.add_commit(ONE).await;
    scene.say(0, Verdict::Healthy, 1).await;
    scene.say(1, Verdict::Healthy, 2).await;
    scene.add_commit(ANOTHER).await;
    let second = scene.rollouts().await.remove(0).id;
    assert_eq!(scene.intend(Some(second), Verb::Rollout(Intent::Abort)).await, "done");
    scene.say(0, Verdict::Healthy, 3).await;
    let before = scene.shown_commits().await;
    assert_ne!(before[0], before[1], "one had the second commit already");

    scene.add_commit(REGIONAL).await;
    scene.say(0, Verdict::Healthy, 4).await;
    assert_eq!(scene.states().await[0], RolloutState::Rolling);
    scene.say(1, Verdict::Failed, 5).await;
    finish(&scene, 6).await;
    finish(&scene, 7).await;

    assert_eq!(scene.states().await[0], RolloutState::Failed);
    assert_eq!(scene.shown_commits().await, before);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_repo_that_its_targets_left_can_go_and_what_was_rendered_from_it_stays(pool: Pool) {
    let scene = Scene::with(&pool, 1, &[], &strategy("pause")).await;
    scene.roll_out(&[("one/a.yaml", ONE)], 1).await;
    let (first, wanted) = (scene.runs(scene.clusters[0]).await, scene.wanted().await);
    let upstream = Upstream::new();
    upstream.push("main", "A push", &[("one/a.yaml", ANOTHER)]);
    let mut db = pool.acquire().await.expect("a connection");
    let other = insert_repo_named(&mut db, &scene.hub.project, "other", &upstream).await;
    drop(db);
    let moved = |name: &str| {
        let spec = json!({"repo": "other", "path": "one", "rollout": strategy("pause")});
        let metadata = json!({"name": name});
        json!({"apiVersion": "bellwether.dev/v1", "kind": "Target", "metadata": metadata, "spec": spec}).to_string()
    };
    let (in_use, problem) = scene.ask("DELETE", "/repos/apps", "").await;
    assert_eq!((in_use, &problem["code"]), (StatusCode::CONFLICT, &json!("repo_in_use")));

    for name in ["one", "two"] {
        let (changed, answer) = scene.ask("PUT", &format!("/targets/{name}"), &moved(name)).await;
        assert!(changed.is_success(), "{answer}");
    }
    scene.tell(Stage::Source, other.as_uuid()).await;
    scene.reconcile(Stage::Source).await;
    scene.render().await;
    assert_ne!(scene.runs(scene.clusters[0]).await, first, "it follows the other repo");
    let (deleted, answer) = scene.ask("DELETE", "/repos/apps", "").await;
    assert_eq!(deleted, StatusCode::NO_CONTENT, "{answer}");

    assert_eq!(scene.roll_back_to(wanted).await, "done", "what came of it is kept");
    assert_eq!(scene.runs(scene.clusters[0]).await, first);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn whoever_is_labelled_out_is_shown_so_and_follows_again_when_the_label_is_back(pool: Pool) {
    let scene = Scene::with(&pool, 1, &[], &strategy("pause")).await;
    let selector = serde_json::from_value(json!({"matchLabels": {"ring": "early"}})).expect("a selector");
    scene.change_spec("one", |spec| spec.clusters = selector).await;
    let relabel = async |labels: Value| {
        let (status, answer) = scene.ask("PUT", "/clusters/cluster-1/labels", &labels.to_string()).await;
        assert!(status.is_success(), "{answer}");
        scene.reconcile(Stage::Bundle).await;
        scene.reconcile(Stage::Rollout).await;
    };
    let shown = async || {
        let (_, status) = scene.ask("GET", "/status?target=one", "").await;
        (status["rows"][0]["selected"].clone(), status["targets"][0]["status"]["unselected"].clone())
    };
    scene.label(scene.clusters[0], "ring", "early").await;
    scene.roll_out(&[("one/a.yaml", ONE)], 1).await;
    let first = scene.runs(scene.clusters[0]).await;
    assert_eq!(shown().await, (json!(true), json!(0)));

    relabel(json!({"ring": "erly"})).await;
    scene.add_commit(ANOTHER).await;
    assert_eq!(shown().await, (json!(false), json!(1)));
    assert_eq!(scene.runs(scene.clusters[0]).await, first, "it goes on with what it has");
    relabel(json!({"ring": "early"})).await;

    assert_eq!(shown().await, (json!(true), json!(0)));
    assert_ne!(scene.runs(scene.clusters[0]).await, first, "it has the newer commit");
    assert_eq!(scene.count_entries("target.cluster.selected", "").await, 1);
}
