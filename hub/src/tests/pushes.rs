//! What a push wakes, renders and assigns.

use std::collections::BTreeSet;

use bellwether_core::bundle::Manifest;
use bellwether_core::{Digest, TargetId};
use bellwether_proto::compression::compress;

use super::scene::{ANOTHER, ONE, Scene, finish, shown};
use crate::bundle::Bundle;
use crate::process::clock;
use crate::store::work::{self, Stage};
use crate::store::{self, Pool};
use crate::worker::stage::Detached as _;

#[crate::store::database_test(migrations = "../migrations")]
async fn a_push_wakes_only_targets_whose_folder_it_moved(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let first = [("one/a.yaml", ONE), ("two/a.yaml", ONE), ("README.md", "1")];
    scene.push(&first).await;
    assert_eq!(scene.reconcile(Stage::Bundle).await.len(), 2, "the first revision concerns both");

    scene.push(&[("one/a.yaml", ANOTHER)]).await;
    assert_eq!(scene.reconcile(Stage::Bundle).await, [scene.id("one").await]);

    scene.push(&[("README.md", "2")]).await;
    assert!(scene.reconcile(Stage::Bundle).await.is_empty(), "none of its files is a target's");

    // What does not render may have been fixed elsewhere.
    scene.push(&[("two/a.yaml", "not: [yaml")]).await;
    assert_eq!(scene.reconcile(Stage::Bundle).await, [scene.id("two").await]);
    scene.push(&[("README.md", "3")]).await;
    assert_eq!(scene.reconcile(Stage::Bundle).await, [scene.id("two").await]);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_push_assigns_every_cluster_at_once_and_says_what_may_be_pruned(pool: Pool) {
    let scene = Scene::new(&pool, 5).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    scene.reconcile(Stage::Link).await;
    let mut before = Vec::new();
    for cluster in &scene.clusters {
        before.push(scene.listing(*cluster).await);
    }
    finish(&scene, 1).await;

    scene.push(&[("one/a.yaml", ANOTHER)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;

    let mut generations = Vec::new();
    for (cluster, before) in scene.clusters.iter().zip(before) {
        let after = scene.listing(*cluster).await;
        let (one, two) = (&after["one"].assignment, &after["two"].assignment);
        assert!(one.generation > before["one"].assignment.generation);
        let prunable: Vec<_> = one.prunable.iter().map(|key| key.name.as_str()).collect();
        assert_eq!(prunable, ["one"]);
        assert!(before["one"].assignment.prunable.is_empty());
        assert_eq!(two.generation, before["two"].assignment.generation, "it did not move");
        generations.push(one.generation);
    }
    generations.sort_unstable();
    generations.dedup();
    assert_eq!(generations.len(), 5, "each assignment has a generation of its own");
    let mut told = scene.reconcile(Stage::Link).await;
    told.sort_unstable();
    assert_eq!(told, scene.clusters.iter().map(|cluster| cluster.as_uuid()).collect::<Vec<_>>());
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_a_cluster_never_pruned_may_still_go_with_the_next_push(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let prunable = async || {
        let listing = scene.listing(scene.clusters[0]).await;
        listing["one"].assignment.prunable.iter().map(|key| key.name.clone()).collect::<Vec<_>>()
    };
    let roll = async |files: &[(&str, &str)]| {
        scene.push(files).await;
        scene.reconcile(Stage::Bundle).await;
        scene.reconcile(Stage::Rollout).await;
    };
    roll(&[("one/a.yaml", ONE), ("one/b.yaml", ANOTHER)]).await;
    finish(&scene, 1).await;

    roll(&[("one/b.yaml", "")]).await;
    assert_eq!(prunable().await, ["another"]);
    // It is skipped before it has carried that out, and gets the next one instead.
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let target = TargetId::new(scene.id("one").await);
    let row = shown(&mut db, target).await;
    let done = bellwether_core::rollout::RolloutState::Done;
    store::rollouts::mark_state(&mut db, row.id, done, "", clock::now()).await.expect("it is written");
    drop(db);
    roll(&[("one/a.yaml", &ONE.replace("namespace: default", "namespace: default, labels: {a: b}"))]).await;
    assert_eq!(prunable().await, ["another"], "no other plan would ever name it");
    finish(&scene, 2).await;

    roll(&[("one/a.yaml", ONE)]).await;
    assert!(prunable().await.is_empty(), "it was carried out");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_commit_that_the_mirror_lacks_is_fetched_and_no_condition(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    // Another hub on the same database, or this one after its folder was lost.
    let (other, _folder) = crate::testing::hub_beside(&pool, &scene.folder).await;
    let other = Scene { hub: other, ..scene };

    assert_eq!(other.reconcile(Stage::Bundle).await.len(), 2);
    assert_eq!(other.reconcile(Stage::Source).await, [other.repo.as_uuid()], "the reconcile asked for it");
    assert_eq!(other.reconcile(Stage::Bundle).await.len(), 2, "their rows stayed");

    assert_eq!(other.counts().await["renders"], 2);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_push_concerns_a_target_whose_render_read_something_that_moved(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE), ("base/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let (one, two) = (scene.id("one").await, scene.id("two").await);
    let inputs = store::renders::list_inputs(&mut db, scene.repo).await.expect("they are read");
    let read = |folder: &str| vec![".bellwetherignore".to_owned(), ".gitattributes".to_owned(), folder.to_owned()];
    let at = |target| (TargetId::new(target), "refs/heads/main".to_owned());
    assert_eq!(inputs, [(at(one), read("one")), (at(two), read("two"))].into());

    // As an engine will say that it looked for a file that is not there, and read another folder.
    let paths = BTreeSet::from(["one", "base", "missing/values.yaml"].map(ToOwned::to_owned));
    drop(db);
    let read_all = async || read_by_render(&scene, "one", &paths).await;
    read_all().await;
    scene.push(&[("README.md", "1")]).await;
    assert!(scene.reconcile(Stage::Bundle).await.is_empty());
    for (path, text) in [("base/a.yaml", ANOTHER), ("missing/values.yaml", "a: 1")] {
        scene.push(&[(path, text)]).await;
        assert_eq!(scene.reconcile(Stage::Bundle).await, [one]);
        assert_ne!(wanted_digests(&scene, "one").await, [Digest::of(b"what it read before")], "it is rendered anew");
        read_all().await;
    }

    // Of what it did not read nothing is rendered anew, whoever asks.
    scene.push(&[("README.md", "2"), ("two/a.yaml", ANOTHER)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.tell(Stage::Bundle, one).await;
    scene.reconcile(Stage::Bundle).await;
    assert_eq!(wanted_digests(&scene, "one").await, [Digest::of(b"what it read before")]);
}

/// As if the target's last render had read these paths of its commit, and come to something that none of ours comes to.
async fn read_by_render(scene: &Scene, target: &str, paths: &BTreeSet<String>) {
    let id = TargetId::new(scene.id(target).await);
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let (head, _) = store::revisions::find_head(&mut db, scene.repo, "refs/heads/main").await.expect("it is read");
    let commit = head.expect("it was pushed").commit;
    let mirror = scene.hub.mirrors.of(scene.repo).reader().expect("it was fetched");
    let digest = mirror.digest_of(&commit, paths).expect("it is read");
    let render = store::wanted::find(&mut db, id).await.expect("it is read").expect("it was rendered").render;
    let inputs: Vec<_> = paths.iter().cloned().collect();
    store::renders::mark_inputs(&mut db, render.id, (&inputs, &digest), (&[], &Vec::new()), render.engine.as_deref())
        .await
        .expect("it is written");
    let manifest = Manifest::new(Vec::new()).expect("a manifest").encode();
    let blob = store::bundles::Blob { digest: Digest::of(b"what it read before"), frame: compress(&manifest) };
    store::bundles::insert_bundle(&mut db, &blob, 0, clock::now()).await.expect("it is written");
    let other = "update render_variants v set digest = sha256('what it read before')
                   from wanted_renders w join targets t using (target_id)
                  where v.render_id = w.render_id and t.name = 'one'";
    store::execute_in(&mut db, other).await.expect("it is written");
}

/// What the target's clusters are to run.
async fn wanted_digests(scene: &Scene, target: &str) -> Vec<Digest> {
    let id = TargetId::new(scene.id(target).await);
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let wanted = store::wanted::find(&mut db, id).await.expect("it is read").expect("it was rendered");
    wanted.render.variants.into_values().collect()
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_reconcile_whose_rows_another_hub_has_taken_writes_nothing(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let seen_before = work::list_due(&mut db, Stage::Bundle, clock::now(), &[], 16).await.expect("what is due");
    drop(db);
    scene.reconcile(Stage::Bundle).await;
    scene.push(&[("one/a.yaml", ANOTHER)]).await;
    scene.reconcile(Stage::Bundle).await;
    let counts = scene.counts().await;

    for due in &seen_before {
        Bundle.reconcile(&scene.hub, due).await.expect("a reconcile");
    }

    assert_eq!(scene.counts().await, counts, "an older render would be taken for the newest");
}
