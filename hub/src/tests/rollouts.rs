//! Rollouts of one target after another: what is remembered of those that ended, and what people can go back to.

use bellwether_core::report::{Counts, ObjectLine, Report, Verdict};
use bellwether_core::rollout::{Intent, Kind, RolloutState};
use bellwether_core::session::DriftMode;
use bellwether_core::target::TargetSpec;
use bellwether_core::{ClusterId, Digest, Generation, RenderId, ReportSequence, RolloutId, SessionNumber, TargetId};
use serde_json::json;

use super::scene::{ANOTHER, ONE, Scene, await_true, come_back, finish, go_away};
use crate::bundle::Bundle;
use crate::process::clock;
use crate::rollout::Rollouts;
use crate::store::intents::{IntentRow, TargetVerb, Verb};
use crate::store::reports::Received;
use crate::store::rollouts::{Rollout, Which};
use crate::store::sessions::{self, Opened};
use crate::store::stored::Entry;
use crate::store::work::{self, Stage};
use crate::store::{self, Pool, StoreError};
use crate::work::change::Change;
use crate::worker::stage::{Detached as _, Transactional as _};

/// What a cluster runs says in which region it is.
pub(super) const REGIONAL: &str = "{apiVersion: v1, kind: ConfigMap, metadata: {name: one, namespace: default, \
                        labels: {region: \"${cluster.labels.region:-none}\"}}}";
/// Every cluster runs something of its own.
const NAMED: &str = "{apiVersion: v1, kind: ConfigMap, metadata: {name: one, namespace: default, \
                     labels: {cluster: \"${cluster.name}\", push: \"PUSH\"}}}";

pub(super) fn strategy(on_failure: &str) -> serde_json::Value {
    json!({"onFailure": on_failure, "waves": [{"name": "all", "maxConcurrent": "100%"}]})
}

/// Of a failure that only another revision fixes.
pub(super) fn failed_line() -> ObjectLine {
    let line = json!({"apiVersion": "v1", "kind": "ConfigMap", "namespace": "default", "name": "one",
                      "outcome": "rejected", "verdict": "failed", "message": "it is wrong", "hint": "fix it"});
    serde_json::from_value(line).expect("a line")
}

impl Scene {
    /// Pushes, renders and rolls out, and every cluster says that all is well.
    pub(super) async fn roll_out(&self, files: &[(&str, &str)], time: i64) {
        self.push(files).await;
        self.render().await;
        finish(self, time).await;
    }

    /// What clusters are rendered with, or the spec, may have changed.
    pub(super) async fn render(&self) {
        self.tell(Stage::Bundle, self.id("one").await).await;
        self.reconcile(Stage::Bundle).await;
        self.reconcile(Stage::Rollout).await;
    }

    pub(super) async fn label(&self, cluster: ClusterId, key: &str, value: &str) {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let known = store::clusters::find(&mut db, cluster).await.expect("it is read").expect("it is there");
        let mut labels = known.labels.clone();
        labels.insert(key.to_owned(), value.to_owned());
        store::clusters::mark_labels(&mut db, cluster, known.version, &labels, clock::now()).await.expect("written");
    }

    pub(super) async fn runs(&self, cluster: ClusterId) -> Option<Digest> {
        self.listing(cluster).await.get("one").map(|listed| listed.assignment.digest)
    }

    /// What a cluster says of what it was assigned, and what is decided on that.
    pub(super) async fn say(&self, place: usize, verdict: Verdict, time: i64) {
        self.report(place, verdict, time).await;
        self.decide("one").await;
    }

    async fn report(&self, place: usize, verdict: Verdict, time: i64) {
        let cluster = self.clusters[place];
        let assignment = self.listing(cluster).await.remove("one").expect("it is assigned").assignment;
        let report = Report {
            target: assignment.target,
            generation: assignment.generation,
            digest: assignment.digest,
            applied: true,
            verdict,
            objects: Counts::default(),
            lines: (verdict == Verdict::Failed).then(failed_line).into_iter().collect(),
            suspended: None,
        };
        let session = SessionNumber::new(i64::try_from(place).expect("a few") + 1);
        let received = Received { cluster, session, sequence: ReportSequence::new(10 * time), report };
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        store::reports::mark_newer(&mut db, &[&received], clock::now()).await.expect("it is written");
    }

    /// The rollouts of the target, newest first.
    pub(super) async fn rollouts(&self) -> Vec<Rollout> {
        let target = TargetId::new(self.id("one").await);
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let found = store::rollouts::list(&mut db, self.hub.project.id, Some(target), uuid::Uuid::max(), 20)
            .await
            .expect("they are read");
        let found: Vec<_> = found.into_iter().filter_map(Entry::readable).collect();
        drop(db);
        for rollout in &found {
            self.check_counts(rollout.id).await;
        }
        found
    }

    pub(super) async fn states(&self) -> Vec<RolloutState> {
        self.rollouts().await.into_iter().map(|rollout| rollout.state).collect()
    }

    /// What one query counts is what the members, read one by one, add up to.
    async fn check_counts(&self, rollout: RolloutId) {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let counted = store::rollouts::list_waves(&mut db, &[rollout]).await.expect("they are counted");
        let counted = counted.into_values().next().unwrap_or_default();
        let members = store::rollouts::list_members(&mut db, rollout, Which::default(), clock::now()).await;
        let members = members.expect("they are read");
        for (place, counted) in (0..).zip(counted) {
            let added = counted.recounted(members.iter().filter(|entry| entry.member.wave == place));
            assert_eq!(counted, added);
        }
    }

    pub(super) async fn intend(&self, rollout: Option<RolloutId>, verb: Verb) -> String {
        let target = TargetId::new(self.id("one").await);
        let id = clock::new_id();
        let asked = IntentRow { id, target, rollout, verb, actor: "alice".to_owned(), reason: "because".to_owned() };
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        store::intents::insert(&mut db, &asked, clock::now()).await.expect("it is written");
        self.decide("one").await;
        store::intents::find_outcome(&mut db, id).await.expect("it is read").expect("it is answered")
    }

    pub(super) async fn wanted(&self) -> RenderId {
        let target = TargetId::new(self.id("one").await);
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        store::wanted::find(&mut db, target).await.expect("it is read").expect("it is there").render.id
    }

    /// To what ran before.
    pub(super) async fn roll_back(&self) -> String {
        self.intend(None, Verb::Target(TargetVerb::RollbackTo { render: None, commit: String::new() })).await
    }

    pub(super) async fn roll_back_to(&self, render: RenderId) -> String {
        let verb = TargetVerb::RollbackTo { render: Some(render.as_uuid()), commit: String::new() };
        self.intend(None, Verb::Target(verb)).await
    }

    /// Its agent comes anew, and has not told yet what it kept to itself.
    pub(super) async fn reconnect(&self, place: usize, session: i64) {
        self.reconnect_at(place, session, clock::now()).await;
    }

    pub(super) async fn reconnect_at(&self, place: usize, session: i64, now: jiff::Timestamp) {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let opened = Opened {
            cluster: self.clusters[place],
            session: SessionNumber::new(session),
            hub: self.hub.id,
            boot: clock::new_id(),
            address: "127.0.0.1:1",
            serial: "1",
            agent_version: "1",
            facts: &std::collections::BTreeMap::new(),
            apis: None,
            definitions: None,
            is_believed: true,
        };
        sessions::mark_opened(&mut db, &[opened], now).await.expect("a stream");
    }

    pub(super) async fn catch_up(&self, place: usize, session: i64) {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let (cluster, session) = (self.clusters[place], SessionNumber::new(session));
        sessions::mark_caught_up(&mut db, &[(cluster, session)], clock::now()).await.expect("it is heard");
        drop(db);
        self.decide("one").await;
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_went_back_with_a_change_of_single_clusters_stays_back(pool: Pool) {
    let scene = Scene::with(&pool, 3, &[], &strategy("rollback")).await;
    scene.roll_out(&[("one/a.yaml", REGIONAL)], 1).await;
    let [first, second, _] = [scene.clusters[0], scene.clusters[1], scene.clusters[2]];
    let before = scene.runs(first).await;
    for cluster in [first, second] {
        scene.label(cluster, "region", "eu").await;
    }
    scene.render().await;
    assert_ne!(scene.runs(second).await, before, "both get what their region says");

    scene.say(0, Verdict::Failed, 2).await;
    assert_eq!((scene.runs(first).await, scene.runs(second).await), (before, before), "both get back what they ran");
    finish(&scene, 3).await;
    scene.decide("one").await;

    assert_eq!(scene.states().await, [RolloutState::Failed, RolloutState::Done], "no other one begins by itself");
    assert_eq!(scene.runs(second).await, before);

    // Something else than what failed is another matter.
    scene.label(second, "region", "us").await;
    scene.render().await;
    assert_ne!(scene.runs(second).await, before);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn the_reason_of_a_failure_says_what_a_person_can_do(pool: Pool) {
    let scene = Scene::with(&pool, 1, &[], &strategy("pause")).await;
    scene.push(&[("one/a.yaml", ONE)]).await;
    scene.render().await;

    scene.say(0, Verdict::Failed, 1).await;

    let rollout = scene.rollouts().await.remove(0);
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let members = store::rollouts::list_members(&mut db, rollout.id, Which::default(), clock::now()).await;
    assert_eq!(members.expect("they are read")[0].member.reason, "it is wrong; fix it");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn whoever_is_retried_is_told_under_which_generation_and_nobody_else(pool: Pool) {
    let scene = Scene::with(&pool, 2, &[], &strategy("pause")).await;
    scene.push(&[("one/a.yaml", ONE)]).await;
    scene.render().await;
    let retried = async |place: usize| {
        let listed = scene.listing(scene.clusters[place]).await.remove("one").expect("it is assigned");
        (listed.retried, listed.assignment.generation)
    };
    let (never, first) = retried(0).await;
    assert_eq!(never, Generation::default());
    scene.say(0, Verdict::Failed, 1).await;
    let rollout = scene.rollouts().await.remove(0);
    assert_eq!(rollout.state, RolloutState::Paused);

    let retry = Intent::Retry { cluster: scene.clusters[0] };
    assert_eq!(scene.intend(Some(rollout.id), Verb::Rollout(retry)).await, "done");
    assert_eq!(scene.intend(Some(rollout.id), Verb::Rollout(Intent::Resume)).await, "done");

    let (at, generation) = retried(0).await;
    assert!(at == generation && generation > first, "{at:?}, {generation:?}");
    assert_eq!(retried(1).await.0, Generation::default());
    // Another way to keep it is no wish to have it tried again.
    scene.change_spec("one", |spec| spec.sync.drift = DriftMode::Warn).await;
    scene.tell_by_a_person("one").await;
    scene.reconcile(Stage::Rollout).await;
    let (still, later) = retried(0).await;
    assert!(still == at && later > at, "{still:?}, {later:?}");
    finish(&scene, 4).await;
    scene.roll_out(&[("one/a.yaml", ANOTHER)], 5).await;
    assert_eq!(retried(0).await.0, Generation::default(), "something new is nobody's second try");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn whoever_waits_to_be_tried_again_and_goes_back_instead_is_not_told_to_try_the_old_again(pool: Pool) {
    let waves = json!([{"name": "all", "maxConcurrent": 2}]);
    let strategy = json!({"onFailure": "rollback", "failureBudget": 1, "waves": waves});
    let scene = Scene::with(&pool, 4, &[], &strategy).await;
    scene.push(&[("one/a.yaml", ONE)]).await;
    scene.render().await;
    for (place, time) in [(0, 1), (1, 1), (2, 2), (3, 2)] {
        scene.say(place, Verdict::Healthy, time).await;
    }
    let first = async || scene.listing(scene.clusters[0]).await.remove("one").expect("it is assigned");
    let before = first().await.assignment;
    scene.push(&[("one/a.yaml", ANOTHER)]).await;
    scene.render().await;
    scene.say(0, Verdict::Failed, 3).await;
    let rollout = scene.rollouts().await.remove(0);
    assert_eq!(rollout.state, RolloutState::Rolling, "one may fail");
    // Two others are in flight: it waits for its turn.
    let retry = Intent::Retry { cluster: scene.clusters[0] };
    assert_eq!(scene.intend(Some(rollout.id), Verb::Rollout(retry)).await, "done");

    scene.report(1, Verdict::Failed, 4).await;
    scene.say(2, Verdict::Failed, 4).await;

    assert_eq!(scene.rollouts().await.remove(0).state, RolloutState::RollingBack);
    let after = first().await;
    assert!(after.assignment.generation > before.generation && after.assignment.digest == before.digest);
    assert_eq!(after.retried, Generation::default());
}

#[crate::store::database_test(migrations = "../migrations")]
async fn whoever_waited_in_a_change_of_single_clusters_that_was_aborted_stays_as_it_is(pool: Pool) {
    let scene = Scene::with(&pool, 2, &[], &strategy("pause")).await;
    scene.roll_out(&[("one/a.yaml", REGIONAL)], 1).await;
    let (first, second) = (scene.clusters[0], scene.clusters[1]);
    let before = scene.runs(second).await;
    for cluster in [first, second] {
        scene.label(cluster, "region", "eu").await;
    }
    scene.tell(Stage::Bundle, scene.id("one").await).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconnect(1, 12).await;
    scene.decide("one").await;
    let change = scene.rollouts().await.remove(0);
    assert_eq!((change.state, scene.runs(second).await), (RolloutState::Rolling, before), "it is not heard yet");

    assert_eq!(scene.intend(Some(change.id), Verb::Rollout(Intent::Abort)).await, "done");
    scene.catch_up(1, 12).await;
    scene.decide("one").await;

    assert_eq!(scene.states().await, [RolloutState::Cancelled, RolloutState::Done]);
    assert_eq!(scene.runs(second).await, before);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_rollback_gives_no_cluster_what_another_version_of_the_spec_gave_to_others(pool: Pool) {
    let scene = Scene::with(&pool, 2, &[], &strategy("pause")).await;
    let selects = |env: &'static str| {
        move |spec: &mut TargetSpec| {
            spec.clusters = serde_json::from_value(json!({"matchLabels": {"env": env}})).expect("a selector");
        }
    };
    let (staging, production) = (scene.clusters[0], scene.clusters[1]);
    scene.label(staging, "env", "staging").await;
    scene.label(production, "env", "production").await;
    scene.change_spec("one", selects("staging")).await;
    scene.roll_out(&[("one/a.yaml", ONE), ("two/a.yaml", ANOTHER)], 1).await;
    let of_staging = scene.wanted().await;
    scene.change_spec("one", selects("production")).await;
    scene.change_spec("one", |spec| "two".clone_into(&mut spec.path)).await;
    scene.render().await;
    finish(&scene, 2).await;
    let before = scene.runs(production).await;
    assert!(before.is_some());

    let back = scene.roll_back().await;
    let answer = scene.roll_back_to(of_staging).await;

    assert!(back.starts_with("no earlier revision"), "the cluster that is selected has run nothing else: {back}");
    assert_ne!(answer, "done");
    assert_eq!(scene.runs(production).await, before);

    // A cluster that ran it goes back to just that, although the spec is another by now.
    scene.label(staging, "env", "production").await;
    let earlier = scene.runs(staging).await;
    scene.render().await;
    finish(&scene, 3).await;
    assert_ne!(scene.runs(staging).await, earlier);
    assert_eq!(scene.roll_back_to(of_staging).await, "done");
    assert_eq!((scene.runs(staging).await, scene.runs(production).await), (earlier, before));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_cluster_that_came_later_does_not_shut_the_way_back_for_the_others(pool: Pool) {
    let mut scene = Scene::with(&pool, 2, &[], &strategy("pause")).await;
    scene.roll_out(&[("one/a.yaml", &NAMED.replace("PUSH", "1"))], 1).await;
    let first = scene.runs(scene.clusters[0]).await;
    scene.roll_out(&[("one/a.yaml", &NAMED.replace("PUSH", "2"))], 2).await;
    let newcomer = scene.join().await;
    scene.render().await;
    finish(&scene, 3).await;
    let latest = scene.runs(newcomer).await;
    assert!(latest.is_some());

    assert_eq!(scene.roll_back().await, "done");

    assert_eq!((scene.runs(scene.clusters[0]).await, scene.runs(newcomer).await), (first, latest));
    let mut db = pool.acquire().await.expect("a connection");
    let named = "select count(*) = 1 from audit_outbox
                  where convert_from(body, 'UTF8') like '%target.rolled_back%'
                    and convert_from(body, 'UTF8') like '%cluster-3%'";
    assert!(store::ask_raw(&mut db, named).await.expect("it is read"), "the log names who stayed");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_rollback_undoes_the_last_rollout_and_nothing_of_the_one_before(pool: Pool) {
    let scene = Scene::with(&pool, 2, &[], &strategy("pause")).await;
    scene.label(scene.clusters[0], "region", "eu").await;
    scene.label(scene.clusters[1], "region", "us").await;
    let by_region = "region/${cluster.labels.region}.yaml".to_owned();
    scene.change_spec("one", |spec| spec.render.parameter_files = vec![by_region.into()]).await;
    let manifest = ("one/a.yaml", &*NAMED.replace("PUSH", "${push}"));
    scene.roll_out(&[manifest, ("region/eu.yaml", "push: a"), ("region/us.yaml", "push: a")], 1).await;
    scene.roll_out(&[("region/eu.yaml", "push: b")], 2).await;
    let (eu, us) = (scene.runs(scene.clusters[0]).await, scene.runs(scene.clusters[1]).await);
    scene.roll_out(&[("region/us.yaml", "push: b")], 3).await;
    assert_ne!(scene.runs(scene.clusters[1]).await, us);

    assert_eq!(scene.roll_back().await, "done");

    assert_eq!((scene.runs(scene.clusters[0]).await, scene.runs(scene.clusters[1]).await), (eu, us));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_second_rollback_does_not_bring_back_what_the_first_took_away(pool: Pool) {
    let waves = json!({"waves": [{"name": "one", "count": 1}, {"name": "rest"}]});
    let scene = Scene::with(&pool, 2, &[], &waves).await;
    scene.roll_out(&[("one/a.yaml", ONE)], 1).await;
    finish(&scene, 2).await;
    assert_eq!(scene.states().await, [RolloutState::Done]);
    let good = scene.runs(scene.clusters[0]).await;
    scene.push(&[("one/a.yaml", ANOTHER)]).await;
    scene.render().await;
    let runs = async || [scene.runs(scene.clusters[0]).await, scene.runs(scene.clusters[1]).await];
    assert_eq!(runs().await.iter().filter(|runs| **runs == good).count(), 1, "the canary has it");
    assert_eq!(scene.roll_back().await, "done");
    assert_eq!(runs().await, [good, good]);

    let answer = scene.roll_back().await;

    assert!(answer.starts_with("no earlier revision"), "{answer}");
    assert_eq!(runs().await, [good, good]);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn who_joins_after_a_rollout_was_aborted_gets_what_the_others_run(pool: Pool) {
    let mut scene =
        Scene::with(&pool, 3, &[], &json!({"waves": [{"name": "one", "count": 1}, {"name": "rest"}]})).await;
    scene.roll_out(&[("one/a.yaml", ONE)], 1).await;
    finish(&scene, 2).await;
    let good = scene.runs(scene.clusters[0]).await;
    scene.push(&[("one/a.yaml", ANOTHER)]).await;
    scene.render().await;
    let aborted = scene.rollouts().await.remove(0).id;
    assert_eq!(scene.intend(Some(aborted), Verb::Rollout(Intent::Abort)).await, "done");

    let joined = scene.join().await;
    scene.render().await;

    assert_eq!(scene.runs(joined).await, good);
    assert_eq!(scene.states().await[1..], [RolloutState::Cancelled, RolloutState::Done]);
    finish(&scene, 3).await;
    scene.render().await;
    assert_eq!(
        scene.states().await,
        [RolloutState::Done, RolloutState::Cancelled, RolloutState::Done],
        "nothing else begins"
    );
}

/// Something was rolled out and finished, and what came next was aborted after its first cluster.
async fn aborted(pool: &Pool, between: impl AsyncFnOnce(&Scene)) -> (Scene, Option<Digest>) {
    let waves = json!({"waves": [{"name": "one", "count": 1}, {"name": "rest"}]});
    let scene = Scene::with(pool, 3, &[], &waves).await;
    scene.roll_out(&[("one/a.yaml", ONE)], 1).await;
    finish(&scene, 2).await;
    let good = scene.runs(scene.clusters[0]).await;
    between(&scene).await;
    scene.push(&[("one/a.yaml", ANOTHER)]).await;
    scene.render().await;
    let newest = scene.rollouts().await.remove(0).id;
    assert_eq!(scene.intend(Some(newest), Verb::Rollout(Intent::Abort)).await, "done");
    (scene, good)
}

#[crate::store::database_test(migrations = "../migrations")]
async fn who_joined_and_is_away_when_a_rollout_is_aborted_is_welcome_when_it_comes_back(pool: Pool) {
    let (mut scene, good) = aborted(&pool, async |_| {}).await;
    let joined = scene.join().await;
    go_away(&scene, 3).await;
    scene.render().await;
    assert_eq!(scene.runs(joined).await, None);

    come_back(&scene, 3).await;
    scene.reconcile(Stage::Rollout).await;

    assert_eq!(scene.runs(joined).await, good);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn who_joins_after_an_abort_gets_what_the_others_run_though_the_spec_was_edited_since(pool: Pool) {
    let edit = async |scene: &Scene| {
        scene.change_spec("one", |spec| spec.sync.prune = bellwether_core::session::Prune::Never).await;
        scene.render().await;
    };
    let (mut scene, good) = aborted(&pool, edit).await;

    let joined = scene.join().await;
    scene.render().await;

    assert_eq!(scene.runs(joined).await, good);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn who_joins_after_an_abort_with_values_of_its_own_gets_what_the_others_run_with_these(pool: Pool) {
    let waves = json!({"waves": [{"name": "one", "count": 1}, {"name": "rest"}]});
    let mut scene = Scene::with(&pool, 3, &[], &waves).await;
    scene.roll_out(&[("one/a.yaml", &*NAMED.replace("PUSH", "a"))], 1).await;
    finish(&scene, 2).await;
    let kept = scene.wanted().await;
    scene.push(&[("one/a.yaml", &*NAMED.replace("PUSH", "b"))]).await;
    scene.render().await;
    let newest = scene.rollouts().await.remove(0).id;
    assert_eq!(scene.intend(Some(newest), Verb::Rollout(Intent::Abort)).await, "done");

    let joined = scene.join().await;
    scene.render().await;

    let runs = scene.runs(joined).await.expect("it was given nothing");
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let kept = store::renders::find(&mut db, kept).await.expect("it is read").expect("it is there");
    assert_eq!(kept.variants.len(), 4);
    assert!(kept.variants.values().any(|digest| *digest == runs), "it was given what was given up");
}

/// Every cluster runs something of its own, a commit is on its way that one cluster has, and another one joined and was rendered
/// for at that commit only.
struct OnTheWay {
    scene: Scene,
    kept: RenderId,
    canary: usize,
    joined: ClusterId,
}

impl OnTheWay {
    async fn new(pool: &Pool, on_failure: &str) -> Self {
        let waves = json!({"onFailure": on_failure, "waves": [{"name": "one", "count": 1}, {"name": "rest"}]});
        let mut scene = Scene::with(pool, 3, &[], &waves).await;
        scene.roll_out(&[("one/a.yaml", &*NAMED.replace("PUSH", "a"))], 1).await;
        finish(&scene, 2).await;
        let (kept, before) = (scene.wanted().await, scene.listings().await);
        scene.push(&[("one/a.yaml", &*NAMED.replace("PUSH", "b"))]).await;
        scene.render().await;
        let now = scene.listings().await;
        let canary = before.iter().zip(&now).position(|(before, now)| before != now).expect("one has it");
        let joined = scene.join().await;
        scene.render().await;
        assert_eq!(scene.states().await[0], RolloutState::Rolling);
        assert_eq!(scene.runs(joined).await, None, "what goes on is for who was there");
        Self { scene, kept, canary, joined }
    }

    /// Whatever was told of the target by now is done, and nothing else is.
    async fn has_what_the_others_run(&self) -> bool {
        self.scene.reconcile(Stage::Bundle).await;
        self.scene.reconcile(Stage::Rollout).await;
        let mut db = self.scene.hub.pool.acquire().await.expect("a connection");
        let kept = store::renders::find(&mut db, self.kept).await.expect("it is read").expect("it is there");
        drop(db);
        let runs = self.scene.runs(self.joined).await;
        runs.is_some_and(|runs| kept.variants.values().any(|digest| *digest == runs))
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn who_joined_while_a_commit_was_on_its_way_gets_what_the_others_run_once_that_is_aborted(pool: Pool) {
    let on_the_way = OnTheWay::new(&pool, "pause").await;
    let scene = &on_the_way.scene;
    let newest = scene.rollouts().await.remove(0).id;

    assert_eq!(scene.intend(Some(newest), Verb::Rollout(Intent::Abort)).await, "done");

    assert!(on_the_way.has_what_the_others_run().await);
    assert_eq!(scene.reconcile(Stage::Bundle).await, [] as [uuid::Uuid; 0], "told once");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn who_joined_while_a_commit_was_on_its_way_gets_what_the_others_run_once_that_rolled_back_by_itself(pool: Pool) {
    let on_the_way = OnTheWay::new(&pool, "rollback").await;
    let scene = &on_the_way.scene;

    scene.say(on_the_way.canary, Verdict::Failed, 3).await;
    finish(scene, 4).await;
    finish(scene, 5).await;

    assert_eq!(scene.states().await[0], RolloutState::Failed);
    assert!(on_the_way.has_what_the_others_run().await);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_was_made_for_who_joined_is_told_though_another_hub_took_the_work_meanwhile(pool: Pool) {
    let mut on_the_way = OnTheWay::new(&pool, "pause").await;
    let newest = on_the_way.scene.rollouts().await.remove(0).id;
    assert_eq!(on_the_way.scene.intend(Some(newest), Verb::Rollout(Intent::Abort)).await, "done");
    assert!(on_the_way.has_what_the_others_run().await);
    finish(&on_the_way.scene, 3).await;
    on_the_way.joined = on_the_way.scene.join().await;
    let scene = &on_the_way.scene;
    scene.tell(Stage::Bundle, scene.id("one").await).await;
    let mut db = pool.acquire().await.expect("a connection");
    let seen = work::list_due(&mut db, Stage::Bundle, clock::now(), &[], 16).await.expect("what is due");
    assert_eq!(seen.len(), 1);
    store::execute_raw(&pool, "delete from work where stage = 'bundle'").await.expect("another hub takes it");

    Bundle.reconcile(&scene.hub, &seen[0]).await.expect("a reconcile");

    assert!(on_the_way.has_what_the_others_run().await);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_comes_after_a_commit_that_some_could_not_be_rendered_for_goes_to_them_by_waves(pool: Pool) {
    let scene = Scene::with(
        &pool,
        3,
        &[],
        &json!({"waves": [{"name": "one", "count": 1}, {"name": "rest", "maxConcurrent": 1}]}),
    )
    .await;
    let by_name = "names/${cluster.name}.yaml".to_owned();
    scene.change_spec("one", |spec| spec.render.parameter_files = vec![by_name.into()]).await;
    let manifest = ("one/a.yaml", &*NAMED.replace("PUSH", "${push}"));
    let names = ["names/cluster-1.yaml", "names/cluster-2.yaml", "names/cluster-3.yaml"];
    scene.roll_out(&[manifest, (names[0], "push: a"), (names[1], "push: a"), (names[2], "push: a")], 1).await;
    finish(&scene, 2).await;
    finish(&scene, 3).await;
    scene.roll_out(&[(names[1], "push: [a"), (names[2], "push: [a")], 4).await;
    assert_eq!(scene.states().await, [RolloutState::Done], "they keep what they have");
    let before = scene.runs(scene.clusters[2]).await;

    scene.push(&[(names[1], "push: b"), (names[2], "push: b")]).await;
    scene.render().await;

    let newest = scene.rollouts().await.remove(0);
    assert_eq!((newest.kind, newest.state), (Kind::Revision, RolloutState::Rolling));
    assert_eq!(scene.runs(scene.clusters[2]).await, before, "one at a time");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_label_that_many_clusters_are_given_changes_them_by_waves(pool: Pool) {
    let waves = json!({"waves": [{"name": "one", "count": 1}, {"name": "rest", "maxConcurrent": 1}]});
    let scene = Scene::with(&pool, 3, &[], &waves).await;
    scene.roll_out(&[("one/a.yaml", REGIONAL)], 1).await;
    finish(&scene, 2).await;
    finish(&scene, 3).await;
    let last = scene.clusters[2];
    let before = scene.runs(last).await;

    for cluster in scene.clusters.clone() {
        scene.label(cluster, "region", "typing-error").await;
    }
    scene.render().await;

    let newest = scene.rollouts().await.remove(0);
    assert_eq!((newest.kind, newest.state), (Kind::ClusterChange, RolloutState::Rolling));
    assert_eq!(scene.runs(last).await, before, "nobody looked yet at what the first makes of it");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_change_whose_only_cluster_another_one_took_over_is_superseded_and_not_shown(pool: Pool) {
    let scene = Scene::with(&pool, 2, &[], &strategy("pause")).await;
    scene.roll_out(&[("one/a.yaml", REGIONAL)], 1).await;
    let cluster = scene.clusters[0];
    scene.label(cluster, "region", "typing-error").await;
    scene.render().await;
    scene.say(0, Verdict::Failed, 2).await;
    assert_eq!(scene.states().await, [RolloutState::Paused, RolloutState::Done]);

    scene.label(cluster, "region", "eu").await;
    scene.render().await;
    finish(&scene, 3).await;
    scene.decide("one").await;

    let states = scene.states().await;
    assert_eq!(states, [RolloutState::Done, RolloutState::Superseded, RolloutState::Done]);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_rollback_ends_though_a_member_went_on_with_a_later_rollout(pool: Pool) {
    let scene = Scene::with(&pool, 2, &[], &strategy("rollback")).await;
    scene.roll_out(&[("one/a.yaml", REGIONAL)], 1).await;
    let (failing, well) = (scene.clusters[0], scene.clusters[1]);
    let before = scene.runs(failing).await;
    for cluster in [failing, well] {
        scene.label(cluster, "region", "eu").await;
    }
    scene.render().await;
    let paused = scene.rollouts().await.remove(0);
    assert_eq!(scene.intend(Some(paused.id), Verb::Rollout(Intent::Pause)).await, "done");
    scene.say(1, Verdict::Healthy, 2).await;
    scene.say(0, Verdict::Failed, 3).await;
    let paused = scene.rollouts().await.remove(0);
    assert_eq!(paused.state, RolloutState::Paused);
    scene.label(well, "region", "us").await;
    scene.render().await;
    finish(&scene, 4).await;
    let later = scene.runs(well).await;

    assert_eq!(scene.intend(Some(paused.id), Verb::Rollout(Intent::Resume)).await, "done");
    finish(&scene, 5).await;
    scene.decide("one").await;

    assert_eq!((scene.runs(failing).await, scene.runs(well).await), (before, later));
    assert_eq!(scene.states().await, [RolloutState::Done, RolloutState::Failed, RolloutState::Done]);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_rollout_that_went_on_past_failures_lets_newcomers_in(pool: Pool) {
    let mut scene = Scene::with(&pool, 2, &[], &strategy("continue")).await;
    scene.push(&[("one/a.yaml", REGIONAL)]).await;
    scene.render().await;
    scene.say(0, Verdict::Failed, 1).await;
    scene.say(1, Verdict::Healthy, 2).await;

    let newcomer = scene.join().await;
    scene.render().await;

    assert!(scene.runs(newcomer).await.is_some());
}

impl Scene {
    /// As if the rollout stage looked at the target at that time.
    pub(super) async fn decide_at(&self, now: jiff::Timestamp) {
        self.reconcile_at(now).await.expect("a reconcile");
    }

    pub(super) async fn try_to_decide(&self) -> Result<(), StoreError> {
        self.reconcile_at(clock::now()).await
    }

    async fn reconcile_at(&self, now: jiff::Timestamp) -> Result<(), StoreError> {
        let key = self.id("one").await;
        let mut change = Change::begin(&self.hub.pool, &self.hub.signals).await?;
        Rollouts.reconcile(&self.hub, &mut change, key, None, now).await?;
        change.commit().await
    }

    pub(super) async fn is_so(&self, question: &'static str) -> bool {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        store::ask_raw(&mut db, question).await.expect("it is answered")
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn an_agent_that_connects_again_and_again_and_is_never_heard_is_offline_in_time(pool: Pool) {
    let scene = Scene::with(&pool, 2, &["--grace-ms", "1"], &strategy("pause")).await;
    scene.push(&[("one/a.yaml", REGIONAL)]).await;
    scene.render().await;
    scene.say(0, Verdict::Healthy, 1).await;
    let began_at = clock::now();
    let after = |seconds| began_at + jiff::SignedDuration::from_secs(seconds);
    let mut db = scene.hub.pool.acquire().await.expect("a connection");

    for (session, turn) in (12..).zip(0..7) {
        let (cluster, session) = (scene.clusters[1], SessionNumber::new(session));
        scene.reconnect_at(1, session.get(), after(turn * 10)).await;
        let end = sessions::End { cluster, session, at: after(turn * 10 + 5) };
        sessions::mark_ended(&mut db, &[end]).await.expect("it is written");
    }
    scene.reconnect_at(1, 30, after(70)).await;
    scene.decide_at(after(71)).await;

    assert!(scene.is_so("select count(*) = 1 from rollout_clusters where state = 'offline'").await);
    assert_eq!(scene.states().await, [RolloutState::Done]);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_hub_that_was_silent_hears_its_agents_anew_before_it_counts_on_them(pool: Pool) {
    let scene = Scene::with(&pool, 2, &["--hub-heartbeat-ms", "100"], &strategy("pause")).await;
    assert!(scene.is_so("select bool_and(is_heard) from presences").await);

    // Longer than what its heartbeats promise.
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    await_true(&mut db, "select clock_timestamp() > started_at + interval '400 ms' from hubs").await;
    let stop = tokio_util::sync::CancellationToken::new();
    let heartbeat = tokio::spawn(crate::worker::heartbeat::run(scene.hub.clone(), stop.clone()));
    await_true(&mut db, "select bool_and(caught_up_at is null and away_since is not null) from sessions").await;

    stop.cancel();
    heartbeat.await.expect("it ends");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_cluster_that_lacks_a_value_is_named_and_holds_up_no_other(pool: Pool) {
    let scene = Scene::with(&pool, 2, &[], &strategy("pause")).await;
    scene.label(scene.clusters[0], "region", "eu").await;

    scene.push(&[("one/a.yaml", &REGIONAL.replace(":-none", ""))]).await;
    scene.render().await;
    let condition = scene.condition_text().await;
    let tries: Vec<_> = [scene.rerender().await, scene.rerender().await, scene.rerender().await].concat();

    assert!(scene.runs(scene.clusters[0]).await.is_some());
    assert!(condition.contains("cluster-2") && !condition.contains("cluster-1"), "{condition}");
    assert!(tries.is_empty(), "whatever makes another try worth while says so itself");

    scene.say(0, Verdict::Healthy, 1).await;
    scene.label(scene.clusters[1], "region", "us").await;
    scene.render().await;
    assert!(scene.runs(scene.clusters[1]).await.is_some());
    assert_eq!(scene.condition_text().await, "");
}

impl Scene {
    async fn condition_text(&self) -> String {
        let id = TargetId::new(self.id("one").await);
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let condition = store::renders::find_condition(&mut db, id).await.expect("it is read");
        condition.map(|condition| condition.message).unwrap_or_default()
    }

    /// What the bundle stage is told when the rollout stage looks.
    async fn rerender(&self) -> Vec<uuid::Uuid> {
        self.decide("one").await;
        self.reconcile(Stage::Bundle).await
    }
}
