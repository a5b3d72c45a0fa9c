//! Targets whose commit this hub's mirror does not have, and cannot get.

use bellwether_core::Version;
use bellwether_core::repo::{ForcePush, RepoSpec};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::scene::{ANOTHER, ONE, Scene, await_true, finish, insert_target};
use crate::bundle::Bundle;
use crate::process::clock;
use crate::source::git::upstream::Upstream;
use crate::store::repos;
use crate::store::work::Stage;
use crate::store::{self, Pool};
use crate::worker::stage;

const FIVE: [&str; 5] = ["one", "two", "three", "four", "five"];

/// Five targets of a repo whose server is gone, on a hub that has an empty mirror of it.
async fn left_behind(pool: &Pool) -> (Scene, tempfile::TempDir) {
    let scene = Scene::new(pool, 1).await;
    let mut db = pool.acquire().await.expect("a connection");
    let strategy = json!({"waves": [{"name": "all", "maxConcurrent": "100%"}]});
    for name in &FIVE[2..] {
        insert_target(&mut db, &scene.hub.project, scene.repo, name, &strategy).await;
    }
    let paths = FIVE.map(|name| format!("{name}/a.yaml"));
    let files: Vec<_> = paths.iter().map(|path| (path.as_str(), ONE)).collect();
    scene.push(&files).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    finish(&scene, 1).await;
    scene.push(&files.iter().map(|(path, _)| (*path, ANOTHER)).collect::<Vec<_>>()).await;
    let gone = r#"update repos set spec = spec || '{"url": "file:///nonexistent/shop.git"}'"#;
    store::execute_raw(pool, gone).await.expect("it is written");
    store::execute_raw(pool, "update work set trace_id = null").await.expect("as if clusters had joined");
    let (hub, folder) = crate::testing::hub_beside(pool, &scene.folder).await;
    (Scene { hub, ..scene }, folder)
}

#[crate::store::database_test(migrations = "../migrations")]
async fn targets_whose_commit_no_mirror_has_hold_up_no_other(pool: Pool) {
    let (scene, _folder) = left_behind(&pool).await;
    let upstream = Upstream::new();
    upstream.push("main", "A push", &[("other/a.yaml", ONE)]);
    let repo = crate::testing::repo(&scene.hub.project, "others", &upstream.url());
    let mut db = pool.acquire().await.expect("a connection");
    repos::insert(&mut db, &repo).await.expect("a new repo");
    insert_target(
        &mut db,
        &scene.hub.project,
        repo.id,
        "other",
        &json!({"waves": [{"name": "all", "maxConcurrent": "100%"}]}),
    )
    .await;
    scene.tell(Stage::Source, repo.id.as_uuid()).await;
    scene.reconcile(Stage::Source).await;
    store::execute_raw(&pool, "update work set trace_id = null").await.expect("it is written");

    let stop = CancellationToken::new();
    let worker = tokio::spawn(stage::run_detached(scene.hub.clone(), Bundle, stop.clone()));
    await_true(&mut db, "select exists (select from renders join targets using (target_id) where name = 'other')")
        .await;
    stop.cancel();
    worker.await.expect("it ends");

    let waiting = "select count(distinct key) from work join targets on key = target_id where stage = 'bundle'";
    assert_eq!(store::ask_number(&mut db, waiting).await.expect("it is read"), 5, "another hub may have the commit");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn who_is_labelled_out_while_the_repo_is_away_stands_in_the_log(pool: Pool) {
    const OUT: &str =
        r#"update targets set spec = spec || '{"clusters": {"matchLabels": {"ring": "late"}}}' where name = 'one'"#;
    const LEFT: &str = "select count(*) = 1 from audit_outbox
                         where convert_from(body, 'UTF8') like '%target.cluster.unselected%'";

    let (scene, _folder) = left_behind(&pool).await;
    scene.tell(Stage::Source, scene.repo.as_uuid()).await;
    scene.reconcile(Stage::Source).await;
    store::execute_raw(&pool, OUT).await.expect("it selects nobody that is there");

    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;

    let mut db = pool.acquire().await.expect("a connection");
    assert_eq!(scene.condition("one").await.as_deref(), Some("commit_not_mirrored"));
    assert!(store::ask_raw(&mut db, LEFT).await.expect("it is read"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_target_says_that_its_commit_cannot_be_had_and_its_clusters_are_served_with_what_they_run(pool: Pool) {
    let (mut scene, _folder) = left_behind(&pool).await;
    scene.reconcile(Stage::Bundle).await;
    assert_eq!(scene.condition("one").await, None, "nobody knows yet that the repo is away");
    scene.tell(Stage::Source, scene.repo.as_uuid()).await;
    scene.reconcile(Stage::Source).await;
    let newcomer = scene.join().await;

    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;

    assert_eq!(scene.condition("one").await.as_deref(), Some("commit_not_mirrored"));
    assert!(scene.listing(newcomer).await.contains_key("one"), "what the others run is for it too");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_target_whose_commit_has_come_is_rendered_at_once(pool: Pool) {
    let (scene, _folder) = left_behind(&pool).await;
    let mut db = pool.acquire().await.expect("a connection");
    store::execute_raw(&pool, "delete from work where stage = 'source'").await.expect("nobody fetches yet");
    let there = crate::testing::repo(&scene.hub.project, "apps", &scene.upstream.url()).spec;
    let (stop, put_off) = (CancellationToken::new(), "select count(*) >= 15 from work where stage = 'source'");
    let worker = tokio::spawn(stage::run_detached(scene.hub.clone(), Bundle, stop.clone()));
    // Each of the five asks for a fetch whenever it is tried: after the third time it is left alone for eight seconds.
    await_true(&mut db, put_off).await;

    repos::mark_spec(&mut db, scene.repo, Version::new(1), &there, clock::now()).await.expect("the repo is back");
    scene.reconcile(Stage::Source).await;
    let rendered = "select count(distinct target_id) = 5 from renders join revisions using (revision_id)
                     where revision_id = (select max(revision_id::text)::uuid from revisions)";
    let soon = tokio::time::timeout(std::time::Duration::from_secs(5), await_true(&mut db, rendered)).await;
    stop.cancel();
    worker.await.expect("it ends");

    assert!(soon.is_ok(), "nobody waits for what is there");
}

/// A target whose commit is to be rendered, of a repo whose branch is another one since, on a hub that was not there before.
async fn at_a_new_hub(pool: &Pool, move_branch: impl FnOnce(&Upstream)) -> (Scene, tempfile::TempDir) {
    let scene = Scene::new(pool, 1).await;
    let mut db = pool.acquire().await.expect("a connection");
    let there = crate::testing::repo(&scene.hub.project, "apps", &scene.upstream.url()).spec;
    let spec = RepoSpec { force_push: ForcePush::Block, ..there };
    repos::mark_spec(&mut db, scene.repo, Version::new(1), &spec, clock::now()).await.expect("it is changed");
    scene.upstream.push("other", "A push", &[("other/a.yaml", ONE)]);
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    finish(&scene, 1).await;
    scene.push(&[("one/a.yaml", ANOTHER)]).await;
    move_branch(&scene.upstream);
    let (hub, folder) = crate::testing::hub_beside(pool, &scene.folder).await;
    let mut scene = Scene { hub, ..scene };
    scene.join().await;
    scene.reconcile(Stage::Bundle).await;
    assert_eq!(scene.condition("one").await, None, "nobody knows yet that the commit is gone");
    scene.tell(Stage::Source, scene.repo.as_uuid()).await;
    scene.reconcile(Stage::Source).await;

    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    (scene, folder)
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_target_says_that_its_branch_is_gone_at_a_hub_that_never_had_its_commit(pool: Pool) {
    let delete = |upstream: &Upstream| drop(upstream.git(["update-ref", "-d", "refs/heads/main"], b""));
    let (scene, _folder) = at_a_new_hub(&pool, delete).await;

    assert_eq!(scene.condition("one").await.as_deref(), Some("branch_not_found"));
    assert!(scene.listing(scene.clusters[1]).await.contains_key("one"), "what the others run is for who joins too");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_target_says_that_a_rewritten_branch_waits_at_a_hub_that_never_had_its_commit(pool: Pool) {
    let rewrite = |upstream: &Upstream| {
        let blob = upstream.blob(ONE.as_bytes());
        upstream.push_tree("main", &upstream.tree(&[("100644", b"a.yaml", &blob)]));
    };
    let (scene, _folder) = at_a_new_hub(&pool, rewrite).await;

    assert_eq!(scene.condition("one").await.as_deref(), Some("head_rewritten"));
    assert!(scene.listing(scene.clusters[1]).await.contains_key("one"), "what the others run is for who joins too");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_a_hub_cannot_make_for_who_joins_without_an_older_commit_is_tried_again_by_a_hub_that_has_it(pool: Pool) {
    const NAMED: &str =
        "{apiVersion: v1, kind: ConfigMap, metadata: {name: one, namespace: default}, data: {at: \"${cluster.name}\"}}";
    const SOON: &str = "select exists (select from work join targets on key = target_id
                                        where stage = 'bundle' and name = 'one'
                                          and due_at between now() + interval '4 min' and now() + interval '6 min')";

    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", NAMED), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    finish(&scene, 1).await;
    scene.push(&[("one/a.yaml", "a: [")]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    let first = scene.hub.clone();
    let (hub, _folder) = crate::testing::hub_beside(&pool, &scene.folder).await;
    let mut scene = Scene { hub, ..scene };
    // It fetches the newest commit, without those before.
    scene.tell(Stage::Source, scene.repo.as_uuid()).await;
    scene.reconcile(Stage::Source).await;
    let newcomer = scene.join().await;
    scene.tell(Stage::Bundle, scene.id("one").await).await;

    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;

    let mut db = pool.acquire().await.expect("a connection");
    assert_eq!(scene.condition("one").await.as_deref(), Some("yaml_invalid"));
    assert!(!scene.listing(newcomer).await.contains_key("one"));
    assert!(store::ask_raw(&mut db, SOON).await.expect("it is read"));
    store::execute_raw(&pool, "update work set due_at = now() where stage = 'bundle'").await.expect("it is time");
    let scene = Scene { hub: first, ..scene };
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    assert!(scene.listing(newcomer).await.contains_key("one"), "with its own name");
}
