//! What a repo's keys have signed, from the push to what clusters are assigned.

use bellwether_core::repo::RepoSpec;
use bellwether_core::rollout::{Intent, RolloutState};
use bellwether_core::signature::{Verify, VerifyMode};
use bellwether_core::{RevisionId, TargetId};
use serde_json::json;

use super::scene::{ANOTHER, ONE, Scene, finish, insert_target};
use crate::process::clock;
use crate::source::git::signers::Signer;
use crate::store::intents::Verb;
use crate::store::work::Stage;
use crate::store::{self, Pool};

impl Scene {
    /// What somebody gave to the repo, without a fetch.
    pub(super) async fn change_repo(&self, change: impl FnOnce(&mut RepoSpec)) {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let mut repo = store::repos::find(&mut db, self.repo).await.expect("it is read").expect("it is there");
        change(&mut repo.spec);
        store::repos::mark_spec(&mut db, repo.id, repo.version, &repo.spec, clock::now()).await.expect("written");
    }

    pub(super) async fn trust(&self, signers: &[&Signer]) {
        let keys = signers.iter().map(|signer| signer.public.clone()).collect();
        self.change_repo(|spec| spec.verify = Some(Verify { mode: VerifyMode::Commit, keys })).await;
    }

    async fn reconcile_all(&self) {
        self.tell(Stage::Source, self.repo.as_uuid()).await;
        for stage in [Stage::Source, Stage::Bundle, Stage::Rollout] {
            self.reconcile(stage).await;
        }
    }

    async fn head(&self) -> store::revisions::Revision {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let (head, _) = store::revisions::find_head(&mut db, self.repo, "refs/heads/main").await.expect("it is read");
        head.expect("it was pushed")
    }

    async fn ref_condition(&self) -> Option<String> {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let condition = store::revisions::find_ref_condition(&mut db, self.repo, "refs/heads/main").await;
        condition.expect("it is read").map(|condition| condition.code)
    }

    async fn verified_by(&self) -> Option<String> {
        self.head().await.verified.map(|verified| verified.to_string())
    }

    /// What the entries of an action say of keys.
    async fn audited(&self, action: &str) -> Vec<serde_json::Value> {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let bodies = store::audit::list_bodies(&mut db).await.expect("the log can be read");
        let entries = bodies.iter().map(|body| serde_json::from_slice::<serde_json::Value>(body).expect("JSON"));
        entries.filter(|entry| entry["action"] == action).map(|entry| entry["detail"]["verifiedBy"].clone()).collect()
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_no_key_of_the_repo_signed_is_shown_and_never_rolled_out(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let (ada, eve) = (Signer::ssh(&["ed25519"]), Signer::ssh(&["ed25519"]));
    scene.trust(&[&ada]).await;
    let unsigned = scene.upstream.push("main", "A push", &[("one/a.yaml", ONE)]);

    scene.reconcile_all().await;
    assert_eq!((scene.head().await.commit, scene.verified_by().await), (unsigned, None));
    assert_eq!(scene.ref_condition().await.as_deref(), Some("revision_unsigned"));
    assert_eq!(scene.condition("one").await.as_deref(), Some("revision_unsigned"));
    assert!(scene.runs(scene.clusters[0]).await.is_none());
    eve.sign_head(&scene.upstream, "main");
    scene.reconcile_all().await;
    assert_eq!(scene.ref_condition().await.as_deref(), Some("revision_signed_by_others"));
    assert!(scene.runs(scene.clusters[0]).await.is_none());

    let signed = ada.sign_head(&scene.upstream, "main");
    scene.reconcile_all().await;

    assert_eq!((scene.head().await.commit, scene.verified_by().await), (signed, Some(ada.id.clone())));
    assert_eq!((scene.ref_condition().await, scene.condition("one").await), (None, None));
    assert!(scene.runs(scene.clusters[0]).await.is_some());
    assert_eq!(scene.audited("revision.seen").await.last(), Some(&json!(ada.id)));
    assert_eq!(scene.audited("rollout.planned").await, [json!(ada.id)]);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn keys_that_are_given_later_hold_for_what_was_seen_before(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let ada = Signer::ssh(&["ed25519"]);
    scene.push(&[("one/a.yaml", ONE), ("three/a.yaml", ANOTHER)]).await;
    scene.trust(&[&ada]).await;
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let rollout = json!({"waves": [{"name": "all", "maxConcurrent": "100%"}]});
    insert_target(&mut db, &scene.hub.project, scene.repo, "three", &rollout).await;
    drop(db);

    // Before it is known who signed it; and then the targets that were to be rendered anyway.
    scene.tell(Stage::Bundle, scene.id("three").await).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;

    assert!(scene.listing(scene.clusters[0]).await.is_empty());
    assert_eq!(scene.condition("three").await.as_deref(), Some("revision_unverified"));
    scene.reconcile_all().await;
    assert!(scene.listing(scene.clusters[0]).await.is_empty());
    assert_eq!(scene.condition("three").await.as_deref(), Some("revision_unsigned"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_render_of_before_is_given_to_nobody_once_keys_are_given(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let ada = Signer::ssh(&["ed25519"]);
    scene.push(&[("one/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.trust(&[&ada]).await;

    scene.reconcile(Stage::Rollout).await;
    assert!(scene.runs(scene.clusters[0]).await.is_none());
    scene.change_repo(|spec| spec.verify = None).await;
    scene.decide("one").await;

    assert!(scene.runs(scene.clusters[0]).await.is_some());
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_was_signed_before_keys_were_given_goes_on_once_it_was_looked_at(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let ada = Signer::ssh(&["ed25519"]);
    scene.upstream.push("main", "A push", &[("one/a.yaml", ONE)]);
    ada.sign_head(&scene.upstream, "main");
    scene.tell(Stage::Source, scene.repo.as_uuid()).await;
    scene.reconcile(Stage::Source).await;
    assert_eq!(scene.verified_by().await, None);
    scene.trust(&[&ada]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    assert!(scene.runs(scene.clusters[0]).await.is_none());

    scene.reconcile_all().await;

    assert_eq!(scene.verified_by().await, Some(ada.id.clone()));
    assert!(scene.runs(scene.clusters[0]).await.is_some());
    assert_eq!(scene.audited("revision.verified").await, [json!(ada.id)]);
    scene.reconcile_all().await;
    assert_eq!(scene.audited("revision.verified").await.len(), 1, "it is said once");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_key_that_was_taken_away_counts_for_nothing_any_more(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let (ada, ben) = (Signer::ssh(&["ed25519"]), Signer::ssh(&["ed25519"]));
    scene.trust(&[&ada, &ben]).await;
    scene.upstream.push("main", "A push", &[("one/a.yaml", ONE)]);
    ada.sign_head(&scene.upstream, "main");
    scene.reconcile_all().await;
    finish(&scene, 1).await;
    let (ran, first) = (scene.runs(scene.clusters[0]).await, scene.head().await.id);
    scene.upstream.push("main", "A push", &[("one/a.yaml", ANOTHER)]);
    ben.sign_head(&scene.upstream, "main");
    scene.reconcile_all().await;
    finish(&scene, 2).await;
    assert_ne!(scene.runs(scene.clusters[0]).await, ran);

    scene.trust(&[&ben]).await;

    let answer = scene.roll_back_to(scene.render_of(first).await).await;
    assert!(answer.contains("signed by one of the repo's keys"), "{answer}");
    assert_ne!(scene.runs(scene.clusters[0]).await, ran);
    scene.trust(&[&ben, &ada]).await;
    assert_eq!(scene.roll_back_to(scene.render_of(first).await).await, "done");
    assert_eq!(scene.runs(scene.clusters[0]).await, ran);
}

impl Scene {
    async fn render_of(&self, revision: RevisionId) -> bellwether_core::RenderId {
        let target = TargetId::new(self.id("one").await);
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let revision = store::revisions::find(&mut db, revision).await.expect("it is read").expect("it is there");
        let render = store::renders::find_at_commit(&mut db, target, &revision.commit).await.expect("it is read");
        render.expect("it was rendered").id
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_rollout_under_way_pauses_when_no_key_that_is_given_signed_it(pool: Pool) {
    let waves = json!({"waves": [{"name": "all", "maxConcurrent": 1}]});
    let scene = Scene::with(&pool, 2, &[], &waves).await;
    scene.push(&[("one/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    let assigned = async || {
        let runs = [scene.runs(scene.clusters[0]).await, scene.runs(scene.clusters[1]).await];
        runs.into_iter().flatten().count()
    };
    assert_eq!(assigned().await, 1);

    scene.trust(&[&Signer::ssh(&["ed25519"])]).await;
    let place = usize::from(scene.runs(scene.clusters[0]).await.is_none());
    scene.say(place, bellwether_core::report::Verdict::Healthy, 1).await;

    assert_eq!(scene.states().await, [RolloutState::Paused]);
    assert_eq!(assigned().await, 1);
    let rollout = scene.rollouts().await[0].id;
    let answer = scene.intend(Some(rollout), Verb::Rollout(Intent::Resume)).await;
    assert!(answer.contains("signed by one of the repo's keys"), "{answer}");
    assert_eq!((scene.states().await, assigned().await), (vec![RolloutState::Paused], 1));
    scene.change_repo(|spec| spec.verify = None).await;
    scene.intend(Some(rollout), Verb::Rollout(Intent::Resume)).await;
    assert_eq!(assigned().await, 2);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_rollback_goes_back_to_the_last_that_a_key_of_now_has_signed(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let (ada, ben) = (Signer::ssh(&["ed25519"]), Signer::ssh(&["ed25519"]));
    scene.trust(&[&ada, &ben]).await;
    let mut ran = Vec::new();
    for (time, signer, text) in [(1, &ben, ONE), (2, &ada, ANOTHER), (3, &ben, super::rollouts::REGIONAL)] {
        scene.upstream.push("main", "A push", &[("one/a.yaml", text)]);
        signer.sign_head(&scene.upstream, "main");
        scene.reconcile_all().await;
        finish(&scene, time).await;
        ran.push(scene.runs(scene.clusters[0]).await);
    }
    assert!(ran[0] != ran[1] && ran[1] != ran[2], "{ran:?}");

    scene.trust(&[&Signer::ssh(&["ed25519"])]).await;
    let answer = scene.roll_back().await;
    assert!(answer.contains("signed by one of the repo's keys"), "{answer}");
    assert_eq!(scene.runs(scene.clusters[0]).await, ran[2]);

    scene.trust(&[&ben]).await;
    assert_eq!(scene.roll_back().await, "done");
    assert_eq!(scene.runs(scene.clusters[0]).await, ran[0]);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_a_revoked_part_of_a_key_signed_is_not_brought_back(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let mut ada = Signer::by_parts();
    scene.trust(&[&ada]).await;
    scene.upstream.push("main", "A push", &[("one/a.yaml", ONE)]);
    ada.sign_head(&scene.upstream, "main");
    scene.reconcile_all().await;
    finish(&scene, 1).await;
    assert_eq!(scene.verified_by().await, Some(ada.id.clone()), "people know it by its primary part");
    let (first, ran) = (scene.head().await.id, scene.runs(scene.clusters[0]).await);
    assert!(ran.is_some());

    ada.revoke_part(1);
    ada.add_part();
    scene.trust(&[&ada]).await;
    scene.upstream.push("main", "A push", &[("one/a.yaml", ANOTHER)]);
    ada.sign_head(&scene.upstream, "main");
    scene.reconcile_all().await;
    finish(&scene, 2).await;
    assert_ne!(scene.runs(scene.clusters[0]).await, ran, "the other part signs");

    let answer = scene.roll_back_to(scene.render_of(first).await).await;
    assert!(answer.contains("signed by one of the repo's keys"), "{answer}");
    assert_ne!(scene.runs(scene.clusters[0]).await, ran);
}
