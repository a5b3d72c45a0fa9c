//! Two projects that call a repo and a target the same. There is no way to make a second project yet, so rows of it are
//! written as a later version will.

use bellwether_core::audit::{Action, Event};
use bellwether_core::{RepoId, TargetId};
use serde_json::{Value, json};

use super::scene::{ANOTHER, ONE, Scene, insert_repo_named, insert_target};
use crate::process::clock;
use crate::source::git::upstream::Upstream;
use crate::store::projects::Project;
use crate::store::work::Stage;
use crate::store::{self, Pool, StoreError};
use crate::work::change::Change;
use crate::work::{actors, subjects};
use crate::worker::sealer;

/// A project that has what the scene's own has, under the same names.
struct Other {
    project: Project,
    upstream: Upstream,
    repo: RepoId,
    target: TargetId,
}

impl Other {
    async fn new(scene: &Scene) -> Self {
        let project = scene.add_project("other").await;
        let upstream = Upstream::new();
        let mut db = scene.hub.pool.acquire().await.expect("a connection");
        let repo = insert_repo_named(&mut db, &project, "apps", &upstream).await;
        insert_target(&mut db, &project, repo, "one", &json!({"waves": [{"name": "all"}]})).await;
        let name = "one".parse().expect("a name");
        let target = store::targets::find_by_name(&mut db, project.id, &name).await.expect("it is read");
        Self { project, upstream, repo, target: target.expect("it is there").id }
    }

    async fn push(&self, scene: &Scene, files: &[(&str, &str)]) {
        self.upstream.push("main", "A push", files);
        scene.tell(Stage::Source, self.repo.as_uuid()).await;
        scene.reconcile(Stage::Source).await;
    }
}

async fn get(scene: &Scene, path: &str) -> Value {
    let (status, document) = scene.ask("GET", path, "").await;
    assert!(status.is_success(), "{path}: {status} {document}");
    document
}

/// Of what a list shows.
fn ids(list: &Value) -> Vec<&str> {
    list["items"].as_array().expect("a list").iter().map(id_of).collect()
}

fn id_of(item: &Value) -> &str {
    item["metadata"]["id"].as_str().or(item["id"].as_str()).expect("it has one")
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_name_is_taken_in_its_project_and_free_in_another(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let other = Other::new(&scene).await;
    let mut db = pool.acquire().await.expect("a connection");
    let named = |name: &str| name.parse().expect("a name");

    let (apps, one) = (named("apps"), named("one"));
    for (project, repo, target) in [
        (&scene.hub.project, scene.repo, TargetId::new(scene.id("one").await)),
        (&other.project, other.repo, other.target),
    ] {
        let found = store::repos::find_by_name(&mut db, project.id, &apps).await.expect("it is read");
        assert_eq!(found.as_ref().map(|repo| (repo.id, &repo.project)), Some((repo, project)));
        let again = store::repos::Repo { id: RepoId::new(clock::new_id()), ..found.expect("it is there") };
        let again = store::repos::insert(&mut db, &again).await;
        assert!(matches!(again, Err(StoreError::NameTaken)), "twice in one project");
        let found = store::targets::find_by_name(&mut db, project.id, &one).await.expect("it is read").expect("it is");
        assert_eq!((found.id, &found.project), (target, project));
        let again = store::targets::Target { id: TargetId::new(clock::new_id()), ..found };
        let again = store::targets::insert(&mut db, &again).await;
        assert!(matches!(again, Err(StoreError::NameTaken)), "twice in one project");
    }
    // A cluster is lent: which of two is meant must never depend on the project.
    let cluster = store::clusters::find(&mut db, scene.clusters[0]).await.expect("it is read").expect("it is there");
    let namesake = store::clusters::Cluster {
        id: bellwether_core::ClusterId::new(clock::new_id()),
        project: other.project.clone(),
        ..cluster
    };
    let again = store::clusters::insert(&mut db, &namesake).await;
    assert!(matches!(again, Err(StoreError::NameTaken)));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_push_moves_and_renders_nothing_of_another_project_that_is_called_the_same(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let other = Other::new(&scene).await;

    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    let mut moved = scene.reconcile(Stage::Bundle).await;
    let mut expected = [scene.id("one").await, scene.id("two").await];
    moved.sort_unstable();
    expected.sort_unstable();
    assert_eq!(moved, expected);

    other.push(&scene, &[("one/a.yaml", ANOTHER)]).await;
    assert_eq!(scene.reconcile(Stage::Bundle).await, [other.target.as_uuid()]);

    scene.reconcile(Stage::Rollout).await;
    let mut db = pool.acquire().await.expect("a connection");
    let mut wanted = Vec::new();
    for target in [scene.id("one").await, other.target.as_uuid()] {
        let found =
            store::wanted::find(&mut db, TargetId::new(target)).await.expect("it is read").expect("it rendered");
        wanted.push(found.render.variants.into_values().collect::<Vec<_>>());
    }
    // The other project has no cluster, so nothing is rendered for one: what it has is nobody's.
    assert_eq!(wanted[0].len(), 1);
    assert_eq!(wanted[1], []);
    let runs: Vec<_> = scene.listing(scene.clusters[0]).await.into_values().map(|one| one.assignment.target).collect();
    assert!(!runs.contains(&other.target), "{runs:?}");
    let own = store::targets::find(&mut db, TargetId::new(scene.id("one").await)).await.expect("read").expect("there");
    let others = store::targets::find(&mut db, other.target).await.expect("it is read").expect("it is there");
    assert_eq!(scene.hub.owner_of(&own), format!("{}/default/one", scene.hub.installation));
    assert_eq!(scene.hub.owner_of(&others), format!("{}/other/one", scene.hub.installation));
}

/// What the rollout, the drift and the assignment of another project's target are made from.
const OF_ANOTHER: &str = "
    with other as (select t.target_id, t.repo_id from targets t join projects p using (project_id) where p.name = 'other'),
    seen as (
        insert into revisions (revision_id, repo_id, ref, commit_id, author, subject, seen_at, trace_id)
        select repo_id, repo_id, 'refs/heads/main', repeat('a', 40), '', '', now(), '' from other),
    rendered as (
        insert into renders (render_id, target_id, revision_id, target_version, inputs_digest, variables, created_at)
        select target_id, target_id, repo_id, 1, '', '{}', now() from other),
    rolled as (
        insert into rollouts (rollout_id, target_id, render_id, kind, strategy, failures_max, state, state_since, reason,
                              trace_id, created_at, updated_at)
        select target_id, target_id, target_id, 'revision', '{\"waves\": [{\"name\": \"all\"}]}', 0, 'rolling', now(), '', '',
               now(), now()
          from other),
    stored as (
        insert into bundles (digest, manifest, objects, used_at) values (sha256('another'), '', 0, now())),
    placed as (
        insert into assignments (cluster_id, target_id, digest, generation, rollout_id, render_id, action, prunable, assigned_at)
        select c.cluster_id, o.target_id, sha256('another'), 1, o.target_id, o.target_id, 'apply', '[]', now()
          from other o, clusters c),
    failed as (
        insert into repo_fetch_status (repo_id, checked_at, condition)
        select repo_id, now(), '{\"code\": \"repo_unreachable\", \"message\": \"of another project\"}' from other)
    insert into drift_events (drift_id, cluster_id, target_id, object, change, action, fields, found_at, recorded_at)
    select o.target_id, c.cluster_id, o.target_id, '{\"apiVersion\": \"v1\", \"kind\": \"ConfigMap\", \"name\": \"a\"}',
           'deleted', 'corrected', '{}', now(), now()
      from other o, clusters c";

#[crate::store::database_test(migrations = "../migrations")]
async fn what_another_project_has_is_in_no_list_and_found_by_no_name_or_id(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let other = Other::new(&scene).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    store::execute_raw(&pool, OF_ANOTHER).await.expect("a later version can");
    let (one, id) = (scene.id("one").await.to_string(), other.target.to_string());

    for list in ["/targets", "/repos", "/rollouts", "/rollouts?target=one", "/drift", "/drift?target=one"] {
        let shown = get(&scene, list).await;
        assert!(!ids(&shown).contains(&id.as_str()), "{list}: {shown}");
        assert!(!ids(&shown).contains(&other.repo.to_string().as_str()), "{list}: {shown}");
    }
    assert_eq!(ids(&get(&scene, "/targets").await).len(), 2);
    assert_eq!(ids(&get(&scene, "/rollouts").await).len(), 2);
    let shown = get(&scene, "/targets/one").await;
    assert_eq!(
        (shown["metadata"]["id"].as_str(), shown["metadata"]["project"].as_str()),
        (Some(&*one), Some("default"))
    );
    let shown = get(&scene, "/repos/apps").await;
    assert_eq!(shown["metadata"]["id"], json!(scene.repo));
    let status = get(&scene, "/status").await;
    assert_eq!(status["rows"].as_array().map(Vec::len), Some(2), "{status}");
    assert!(!status.to_string().contains("of another project"), "{status}");
    let runs = get(&scene, "/clusters/cluster-1/targets").await;
    assert_eq!(runs["items"].as_array().map(Vec::len), Some(2), "{runs}");
    for path in ["", "/members"] {
        let (status, problem) = scene.ask("GET", &format!("/rollouts/{id}{path}"), "").await;
        assert_eq!((status.as_u16(), problem["code"].as_str()), (404, Some("rollout_not_found")));
    }
    let pause = json!({"intent": {"verb": "pause"}, "reason": ""}).to_string();
    let (status, _) = scene.ask("POST", &format!("/rollouts/{id}/intents"), &pause).await;
    assert_eq!(status.as_u16(), 404);

    // It was there, and goes by its own name alone.
    let (status, _) = scene.ask("DELETE", "/targets/one?mode=orphan", "").await;
    assert_eq!(status.as_u16(), 202);
    let mut db = pool.acquire().await.expect("a connection");
    let others = store::targets::find(&mut db, other.target).await.expect("it is read").expect("it is there");
    assert_eq!(others.deletion, None);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_cluster_that_is_another_projects_is_not_there(pool: Pool) {
    let scene = Scene::new(&pool, 2).await;
    scene.add_project("other").await;
    let moves = "update clusters set project_id = (select project_id from projects where name = 'other')
                  where name = 'cluster-2'";
    store::execute_raw(&pool, moves).await.expect("a later version can");

    let shown = get(&scene, "/clusters").await;
    let (status, problem) = scene.ask("GET", "/clusters/cluster-2", "").await;
    let (relabelled, _) = scene.ask("PUT", "/clusters/cluster-2/labels", "{}").await;

    assert_eq!(shown["items"].as_array().map(Vec::len), Some(1), "{shown}");
    assert_eq!((status.as_u16(), problem["code"].as_str()), (404, Some("cluster_not_found")));
    assert_eq!(relabelled.as_u16(), 404);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn the_log_of_a_project_has_nothing_of_a_namesake_in_another(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let other = Other::new(&scene).await;
    let one = "one".parse().expect("a name");
    let mut change = Change::begin(&scene.hub.pool, &scene.hub.signals).await.expect("a transaction");
    for (project, reason) in [(&scene.hub.project, "ours"), (&other.project, "theirs")] {
        let subject = subjects::target(project, &one);
        let mut event = Event::new(clock::new_id(), clock::now(), actors::hub(), Action::TargetChanged, subject);
        reason.clone_into(&mut event.reason);
        change.audit(&event).await.expect("it is written");
    }
    change.commit().await.expect("it commits");
    sealer::seal_batch(&scene.hub).await.expect("it is sealed");

    let of_the_target = get(&scene, "/audit?target=one").await;
    let all = get(&scene, "/audit").await;

    let reasons = |list: &Value| {
        list["items"].as_array().expect("a list").iter().map(|one| one["reason"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(reasons(&of_the_target), ["ours"]);
    assert!(!reasons(&all).contains(&json!("theirs")), "{all}");
    assert!(all.to_string().contains("token.created"), "what is the whole installation's is shown to all: {all}");
    let verified = scene.ask("POST", "/audit/verify", "").await.1;
    assert_eq!(verified["verified"], true, "the log is one, whoever sees what of it: {verified}");
}
