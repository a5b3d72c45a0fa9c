//! An artifact in a registry, from the repo to what clusters are assigned.

use bellwether_core::{RepoId, TargetId, Version};
use serde_json::json;

use super::scene::{ANOTHER, ONE, Scene, finish};
use crate::process::clock;
use crate::source::oci::artifact::Artifact;
use crate::source::oci::docker::DockerRegistry;
use crate::source::oci::signatures::{CosignPair, signature_tag};
use crate::store::repos;
use crate::store::targets::Target;
use crate::store::work::Stage;
use crate::store::{self, Pool};

async fn insert_artifact(scene: &Scene, url: String) -> RepoId {
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let repo = crate::testing::repo(&scene.hub.project, "artifact", &url);
    repos::insert(&mut db, &repo).await.expect("a new repo");
    let spec = json!({
        "repo": "artifact", "path": "shop", "ref": {"tag": "stable"},
        "rollout": {"waves": [{"name": "all", "maxConcurrent": "100%"}]},
    });
    let target = Target {
        id: TargetId::new(clock::new_id()),
        project: scene.hub.project.clone(),
        name: "of-artifact".parse().expect("a name"),
        repo: repo.id,
        reference: "refs/tags/stable".to_owned(),
        spec: serde_json::from_value(spec).expect("a spec"),
        version: Version::new(1),
        created_at: clock::now(),
        deletion: None,
    };
    store::targets::insert(&mut db, &target).await.expect("a new target");
    repo.id
}

async fn reconcile(scene: &Scene, repo: RepoId) {
    scene.tell(Stage::Source, repo.as_uuid()).await;
    for stage in [Stage::Source, Stage::Bundle, Stage::Rollout] {
        scene.reconcile(stage).await;
    }
}

/// The cluster runs what it was assigned, and the rollout ends.
async fn settle(scene: &Scene, time: i64) {
    finish(scene, time).await;
    scene.tell(Stage::Rollout, scene.id("of-artifact").await).await;
    scene.reconcile(Stage::Rollout).await;
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_is_pushed_to_a_registry_is_assigned_to_clusters_and_what_is_broken_is_not(pool: Pool) {
    let registry = DockerRegistry::start().await;
    let scene = Scene::new(&pool, 1).await;
    let push =
        async |content: &str| registry.push("team/shop", "stable", &Artifact::flux(&[("shop/a.yaml", content)])).await;
    push(ONE).await;
    let repo = insert_artifact(&scene, registry.repo_url("team/shop")).await;

    reconcile(&scene, repo).await;
    let first = scene.listing(scene.clusters[0]).await.remove("of-artifact").expect("it is assigned");
    settle(&scene, 1).await;

    push(ANOTHER).await;
    reconcile(&scene, repo).await;
    let second = scene.listing(scene.clusters[0]).await.remove("of-artifact").expect("it is assigned");
    settle(&scene, 2).await;
    assert_ne!(first.assignment.digest, second.assignment.digest);

    let layer = ("application/vnd.oci.image.layer.v1.tar+xz", &b"x"[..], json!(null));
    registry.push("team/shop", "stable", &Artifact::new(&[layer])).await;
    reconcile(&scene, repo).await;
    let third = scene.listing(scene.clusters[0]).await.remove("of-artifact").expect("it is assigned");
    assert_eq!(third.assignment.digest, second.assignment.digest, "what is no artifact of files changes nothing");
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let condition = store::revisions::find_ref_condition(&mut db, repo, "refs/tags/stable").await.expect("it is read");
    assert_eq!(condition.map(|condition| condition.code).as_deref(), Some("artifact_unsupported"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn keys_that_are_given_later_hold_for_artifacts_that_were_seen_before(pool: Pool) {
    let registry = DockerRegistry::start().await;
    let scene = Scene::new(&pool, 1).await;
    let pushed = registry.push("team/shop", "stable", &Artifact::flux(&[("shop/a.yaml", ONE)])).await;
    let repo = insert_artifact(&scene, registry.repo_url("team/shop")).await;
    scene.tell(Stage::Source, repo.as_uuid()).await;
    scene.reconcile(Stage::Source).await;
    let key = CosignPair::new();
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let mut known = repos::find(&mut db, repo).await.expect("it is read").expect("it is there");
    known.spec.cosign_keys = vec![key.pem()];
    repos::mark_spec(&mut db, repo, known.version, &known.spec, clock::now()).await.expect("it is written");

    // As for a target that was just added: faster than the registry answers.
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;

    assert!(scene.listing(scene.clusters[0]).await.is_empty());
    assert_eq!(scene.condition("of-artifact").await.as_deref(), Some("revision_unverified"));
    reconcile(&scene, repo).await;
    assert!(scene.listing(scene.clusters[0]).await.is_empty());
    assert_eq!(scene.condition("of-artifact").await.as_deref(), Some("artifact_unsigned"));
    registry.push("team/shop", &signature_tag(&pushed), &key.sign(&pushed)).await;
    reconcile(&scene, repo).await;
    assert!(scene.listing(scene.clusters[0]).await.contains_key("of-artifact"));
    let (head, _) = store::revisions::find_head(&mut db, repo, "refs/tags/stable").await.expect("it is read");
    let verified = head.expect("it was seen").verified.expect("it is signed").to_string();
    assert!(verified.starts_with("cosign:sha256:"), "{verified}");
}
