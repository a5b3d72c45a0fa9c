//! Targets that are rendered from more than one repo.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use axum::response::IntoResponse as _;
use bellwether_core::RepoId;
use bellwether_core::report::Verdict;
use bellwether_core::rollout::{Intent, RolloutState};
use bellwether_core::signature::{Verify, VerifyMode};
use bellwether_core::source::full_name;
use bellwether_core::target::TargetSpec;
use serde_json::{Value, json};
use uuid::Uuid;

use super::engines::{engine, scene as scene_with_engine};
use super::scene::{ANOTHER, ONE, Scene, finish, insert_repo_named};
use crate::process::clock;
use crate::source::git::http;
use crate::source::git::signers::Signer;
use crate::source::git::upstream::Upstream;
use crate::source::oci::artifact::{Artifact, gzip, sha256, tar};
use crate::source::oci::docker::DockerRegistry;
use crate::source::oci::signatures::CosignPair;
use crate::store::intents::Verb;
use crate::store::projects::Project;
use crate::store::targets::Target;
use crate::store::work::Stage;
use crate::store::{self, Pool};
use crate::work::change::Change;

/// Another repo of a scene.
struct Env {
    upstream: Upstream,
    repo: RepoId,
}

impl Env {
    async fn new(scene: &Scene, name: &str, project: &Project) -> Self {
        let upstream = Upstream::new();
        let mut db = scene.hub.pool.acquire().await.expect("a connection");
        let repo = insert_repo_named(&mut db, project, name, &upstream).await;
        Self { upstream, repo }
    }

    async fn push(&self, scene: &Scene, files: &[(&str, &str)]) -> String {
        let commit = self.upstream.push("main", "A push", files);
        scene.tell(Stage::Source, self.repo.as_uuid()).await;
        scene.reconcile(Stage::Source).await;
        commit
    }

    /// Whom a push concerns.
    async fn moves(&self, scene: &Scene, files: &[(&str, &str)]) -> Vec<Uuid> {
        self.push(scene, files).await;
        scene.reconcile(Stage::Bundle).await
    }
}

const SIZED: &str =
    "{apiVersion: v1, kind: ConfigMap, metadata: {name: one, namespace: default}, data: {size: \"${size}\"}}";

/// Its parameters are in another repo.
async fn sized_by(scene: &Scene, target: &str, files: Value) {
    let render = json!({"parameterFiles": files});
    scene.change_spec(target, |spec| spec.render = serde_json::from_value(render).expect("options")).await;
    scene.tell(Stage::Bundle, scene.id(target).await).await;
}

async fn sources_of(scene: &Scene, target: &str) -> Vec<(String, String, String)> {
    let sources = scene.wanted_of(target).await.render.sources;
    sources.into_iter().map(|one| (one.name.to_string(), one.reference, one.commit)).collect()
}

/// Everything that is due, until nothing is.
async fn settle(scene: &Scene) {
    for _ in 0..5 {
        scene.reconcile(Stage::Source).await;
        scene.reconcile(Stage::Bundle).await;
        scene.reconcile(Stage::Rollout).await;
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_push_to_another_repo_rolls_out_those_that_read_what_moved_and_a_rollback_brings_both_back(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let env = Env::new(&scene, "env", &scene.hub.project).await;
    env.upstream.push("main", "A push", &[("eu.yaml", "size: small\n"), ("us.yaml", "size: big\n")]);
    sized_by(&scene, "one", json!([{"repo": "env", "path": "eu.yaml"}])).await;
    sized_by(&scene, "two", json!([{"repo": "env", "path": "us.yaml"}])).await;
    scene.push(&[("one/a.yaml", SIZED), ("two/a.yaml", SIZED)]).await;
    settle(&scene).await;
    assert_eq!(scene.condition("one").await, None);
    let head = env.upstream.git(["rev-parse", "main"], b"").trim().to_owned();
    assert_eq!(sources_of(&scene, "one").await, [("env".to_owned(), "refs/heads/main".to_owned(), head)]);
    finish(&scene, 1).await;
    let runs = async |target: &str| scene.listing(scene.clusters[0]).await[target].assignment.digest;
    let (first, other) = (runs("one").await, runs("two").await);

    assert!(env.moves(&scene, &[("README.md", "1")]).await.is_empty(), "nobody reads it");
    let one = scene.id("one").await;
    let second = env.push(&scene, &[("eu.yaml", "size: tiny\n")]).await;
    assert_eq!(scene.reconcile(Stage::Bundle).await, [one]);
    assert_eq!(sources_of(&scene, "one").await[0].2, second);
    settle(&scene).await;
    finish(&scene, 2).await;
    assert_ne!(runs("one").await, first, "it is rolled out");
    assert_eq!(runs("two").await, other);

    // The commit of the target's own repo is the same before and after.
    assert_eq!(scene.roll_back().await, "done");
    settle(&scene).await;
    assert_eq!(runs("one").await, first);

    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let id = bellwether_core::TargetId::new(one);
    let at = store::renders::find_at_commit(&mut db, id, &second).await.expect("it is read").expect("it was rendered");
    assert_eq!(at.id, scene.wanted_of("one").await.render.id, "a commit of the other repo says which render is meant");
    let known = store::renders::list_commits(&mut db, id, &second[..8], 5).await.expect("they are read");
    assert_eq!(known, [second]);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_repo_that_is_missing_or_of_another_project_is_named_and_what_runs_stays(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ONE)]).await;
    scene.reconcile(Stage::Bundle).await;
    let before = scene.bundles_of("one").await;

    sized_by(&scene, "one", json!([{"repo": "env", "path": "eu.yaml"}])).await;
    scene.reconcile(Stage::Bundle).await;
    let condition = scene.condition_of("one").await.expect("there is no such repo");
    assert_eq!(condition.code, "source_repo_not_found");
    assert_eq!(condition.message, "there is no repo `env`, which `render` of the target names");
    assert_eq!(
        condition.hint.as_deref(),
        Some("correct its name, or add it to the project: bellwether repo add env URL")
    );
    assert_eq!(scene.bundles_of("one").await, before);

    let other = scene.add_project("other").await;
    let env = Env::new(&scene, "env", &other).await;
    env.push(&scene, &[("eu.yaml", "size: small\n")]).await;
    scene.tell(Stage::Bundle, scene.id("one").await).await;
    settle(&scene).await;
    assert_eq!(scene.condition("one").await.as_deref(), Some("source_repo_not_found"), "it is nobody else's to read");
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let lacking = store::sources::list_lacking(&mut db, scene.hub.project.id).await.expect("they are read");
    assert_eq!(lacking, [scene.id("one").await], "who adds it wakes these");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_file_or_a_ref_that_another_repo_does_not_have_is_named_and_comes_with_its_push(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let env = Env::new(&scene, "env", &scene.hub.project).await;
    env.upstream.push("main", "A push", &[("README.md", "1")]);
    sized_by(&scene, "one", json!([{"repo": "env", "path": "eu.yaml"}])).await;
    sized_by(&scene, "two", json!([{"repo": "env", "ref": {"branch": "next"}, "path": "eu.yaml"}])).await;
    scene.push(&[("one/a.yaml", SIZED), ("two/a.yaml", SIZED)]).await;
    settle(&scene).await;

    let missing = scene.condition_of("one").await.expect("there is no such file");
    assert_eq!((missing.code.as_str(), missing.file.as_deref()), ("parameter_file_missing", Some("env@main:/eu.yaml")));
    let gone = scene.condition_of("two").await.expect("there is no such branch");
    assert_eq!(gone.code, "branch_not_found", "{gone:?}");
    assert!(gone.message.contains("repo `env`") && gone.message.contains("next"), "{gone:?}");

    env.upstream.push("next", "A push", &[("eu.yaml", "size: big\n")]);
    env.push(&scene, &[("eu.yaml", "size: small\n")]).await;
    settle(&scene).await;
    assert_eq!((scene.condition("one").await, scene.condition("two").await), (None, None));
    assert_ne!(scene.bundles_of("one").await, scene.bundles_of("two").await);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_repo_that_targets_are_rendered_from_is_in_use_until_they_are_not(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let env = Env::new(&scene, "env", &scene.hub.project).await;
    env.upstream.push("main", "A push", &[("eu.yaml", "size: small\n")]);
    sized_by(&scene, "one", json!([{"repo": "env", "path": "eu.yaml"}])).await;
    scene.push(&[("one/a.yaml", SIZED), ("two/a.yaml", ONE)]).await;
    settle(&scene).await;
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let deleted = store::repos::delete(&mut db, env.repo).await;
    assert!(matches!(deleted, Err(store::StoreError::InUse)), "{deleted:?}");

    scene.push(&[("one/a.yaml", ONE)]).await;
    sized_by(&scene, "one", json!([])).await;
    settle(&scene).await;

    store::repos::delete(&mut db, env.repo).await.expect("nobody reads it");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_commit_of_another_repo_that_the_mirror_lacks_is_fetched_and_no_condition(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let env = Env::new(&scene, "env", &scene.hub.project).await;
    env.upstream.push("main", "A push", &[("eu.yaml", "size: small\n")]);
    sized_by(&scene, "one", json!([{"repo": "env", "path": "eu.yaml"}])).await;
    scene.push(&[("one/a.yaml", SIZED), ("two/a.yaml", ONE)]).await;
    settle(&scene).await;
    let before = scene.bundles_of("one").await;
    // Another hub on the same database, or this one after its folder was lost.
    let (other, _folder) = crate::testing::hub_beside(&pool, &scene.folder).await;
    let scene = Scene { hub: other, ..scene };
    store::execute_raw(&pool, "delete from wanted_renders").await.expect("an intruder can");
    scene.tell(Stage::Bundle, scene.id("one").await).await;

    for _ in 0..2 {
        scene.reconcile(Stage::Bundle).await;
        assert_eq!(scene.condition("one").await, None);
        scene.reconcile(Stage::Source).await;
    }
    scene.reconcile(Stage::Bundle).await;

    assert_eq!(scene.bundles_of("one").await, before);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_chart_gets_its_values_from_another_repo(pool: Pool) {
    let scene = scene_with_engine(&pool, 1, &engine()).await;
    let env = Env::new(&scene, "env", &scene.hub.project).await;
    env.upstream.push("main", "A push", &[("shop/eu.yaml", "size: small\n")]);
    let chart = [
        ("two/a.yaml", ONE),
        ("one/Chart.yaml", "apiVersion: v2\nname: one\nversion: 1.0.0\n"),
        (
            "one/templates/a.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: one, namespace: default}\ndata: {size: {{ .Values.size }}}\n",
        ),
        ("envs/eu.yaml", "size: large\n"),
    ];
    let files = json!(["envs/eu.yaml", {"repo": "env", "path": "shop/${cluster.labels.env:-eu}.yaml"}]);
    let render = json!({"helm": {"valuesFiles": files}});
    scene.change_spec("one", |spec| spec.render = serde_json::from_value(render).expect("options")).await;
    scene.push(&chart).await;
    settle(&scene).await;
    assert_eq!(scene.condition_of("one").await, None);
    let small = scene.bundles_of("one").await;
    let one = scene.id("one").await;

    assert_eq!(env.moves(&scene, &[("shop/us.yaml", "size: x\n")]).await, [] as [Uuid; 0]);
    assert_eq!(env.moves(&scene, &[("shop/eu.yaml", "size: tiny\n")]).await, [one]);
    assert_ne!(scene.bundles_of("one").await, small);
    env.upstream.push_link("main", "shop/eu.yaml", "/etc/passwd");
    scene.tell(Stage::Source, env.repo.as_uuid()).await;
    settle(&scene).await;
    let condition = scene.condition_of("one").await.expect("it is refused");
    assert_eq!(condition.code, "file_symlink");
    assert_eq!(condition.message, "env@main: `shop/eu.yaml` is a symbolic link");
}

impl Env {
    async fn trust(&self, scene: &Scene, signers: &[&Signer]) {
        let mut db = scene.hub.pool.acquire().await.expect("a connection");
        let mut repo = store::repos::find(&mut db, self.repo).await.expect("it is read").expect("it is there");
        let keys = signers.iter().map(|signer| signer.public.clone()).collect();
        repo.spec.verify = (!signers.is_empty()).then_some(Verify { mode: VerifyMode::Commit, keys });
        store::repos::mark_spec(&mut db, repo.id, repo.version, &repo.spec, clock::now()).await.expect("written");
    }
}

const UNSIGNED: &str = "signed by one of the repo's keys";

#[crate::store::database_test(migrations = "../migrations")]
async fn what_no_key_of_another_repo_signed_goes_no_further_once_keys_are_given_there(pool: Pool) {
    let waves = json!({"waves": [{"name": "all", "maxConcurrent": 1}]});
    let scene = Scene::with(&pool, 2, &[], &waves).await;
    let env = Env::new(&scene, "env", &scene.hub.project).await;
    env.upstream.push("main", "A push", &[("eu.yaml", "size: small\n")]);
    sized_by(&scene, "one", json!([{"repo": "env", "path": "eu.yaml"}])).await;
    scene.push(&[("one/a.yaml", SIZED), ("two/a.yaml", ONE)]).await;
    settle(&scene).await;
    let assigned = async |scene: &Scene| {
        let mut count = 0;
        for cluster in &scene.clusters {
            count += usize::from(scene.runs(*cluster).await.is_some());
        }
        count
    };
    assert_eq!(assigned(&scene).await, 1);

    env.trust(&scene, &[&Signer::ssh(&["ed25519"])]).await;
    let place = usize::from(scene.runs(scene.clusters[0]).await.is_none());
    scene.say(place, Verdict::Healthy, 1).await;
    assert_eq!((scene.states().await, assigned(&scene).await), (vec![RolloutState::Paused], 1));
    let rollout = scene.rollouts().await[0].id;
    let answer = scene.intend(Some(rollout), Verb::Rollout(Intent::Resume)).await;
    assert!(answer.contains(UNSIGNED), "{answer}");
    assert_eq!(assigned(&scene).await, 1);

    env.trust(&scene, &[]).await;
    scene.intend(Some(rollout), Verb::Rollout(Intent::Resume)).await;
    assert_eq!(assigned(&scene).await, 2);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn whoever_joins_gets_nothing_that_no_key_of_another_repo_signed(pool: Pool) {
    let mut scene = Scene::new(&pool, 1).await;
    let env = Env::new(&scene, "env", &scene.hub.project).await;
    env.upstream.push("main", "A push", &[("eu.yaml", "size: small\n")]);
    sized_by(&scene, "one", json!([{"repo": "env", "path": "eu.yaml"}])).await;
    scene.push(&[("one/a.yaml", SIZED), ("two/a.yaml", ONE)]).await;
    settle(&scene).await;
    finish(&scene, 1).await;
    env.trust(&scene, &[&Signer::ssh(&["ed25519"])]).await;

    let newcomer = scene.join().await;
    scene.decide("one").await;
    assert_eq!(scene.runs(newcomer).await, None);
    assert!(scene.runs(scene.clusters[0]).await.is_some(), "what runs goes on");

    env.trust(&scene, &[]).await;
    scene.decide("one").await;
    assert_eq!(scene.runs(newcomer).await, scene.runs(scene.clusters[0]).await);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_rollback_does_not_bring_back_what_no_key_of_another_repo_signed(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let env = Env::new(&scene, "env", &scene.hub.project).await;
    let ada = Signer::ssh(&["ed25519"]);
    env.upstream.push("main", "A push", &[("eu.yaml", "size: small\n")]);
    sized_by(&scene, "one", json!([{"repo": "env", "path": "eu.yaml"}])).await;
    scene.push(&[("one/a.yaml", SIZED), ("two/a.yaml", ONE)]).await;
    settle(&scene).await;
    finish(&scene, 1).await;
    let (unsigned, ran) = (scene.wanted_of("one").await.render.id, scene.runs(scene.clusters[0]).await);
    env.trust(&scene, &[&ada]).await;
    env.upstream.push("main", "A push", &[("eu.yaml", "size: big\n")]);
    ada.sign_head(&env.upstream, "main");
    scene.tell(Stage::Source, env.repo.as_uuid()).await;
    settle(&scene).await;
    finish(&scene, 2).await;
    let signed = scene.runs(scene.clusters[0]).await;
    assert!(ran.is_some() && signed != ran, "what is signed is rolled out");

    for answer in [scene.roll_back_to(unsigned).await, scene.roll_back().await] {
        assert!(answer.contains(UNSIGNED), "{answer}");
    }
    assert_eq!(scene.runs(scene.clusters[0]).await, signed);
    env.trust(&scene, &[]).await;
    assert_eq!(scene.roll_back().await, "done");
    assert_eq!(scene.runs(scene.clusters[0]).await, ran);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_target_names_no_repo_of_another_project_and_is_not_told_that_there_is_one(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let other = scene.add_project("other").await;
    let env = Env::new(&scene, "env", &other).await;
    let put = async |spec: Value| {
        let document =
            json!({"apiVersion": "bellwether.dev/v1", "kind": "Target", "metadata": {"name": "one"}, "spec": spec});
        scene.ask("PUT", "/targets/one", &document.to_string()).await
    };
    let read = |name: &str| json!({"repo": "apps", "path": "one", "render": {"parameterFiles": [{"repo": name, "path": "eu.yaml"}]}});

    for (spec, hint) in [
        (read("env"), "add it first: bellwether repo add NAME URL"),
        (read("envs"), "add it first: bellwether repo add NAME URL"),
        (json!({"repo": "env", "path": "one"}), "add it first: bellwether repo add NAME URL"),
        (read("aps"), "did you mean `apps`?"),
    ] {
        let (status, problem) = put(spec).await;
        assert_eq!((status.as_u16(), problem["code"].as_str()), (422, Some("repo_not_found")), "{problem}");
        assert_eq!(problem["hint"], hint);
    }
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    store::repos::delete(&mut db, env.repo).await.expect("nobody minds it");
}

/// A Helm repository with versions of the chart `db`, over http.
struct Charts {
    url: String,
    versions: Arc<Mutex<Vec<&'static str>>>,
    asked: Arc<Mutex<Vec<String>>>,
    is_down: Arc<AtomicBool>,
}

fn archive(name: &str, version: &str) -> Vec<u8> {
    let chart = format!("apiVersion: v2\nname: {name}\nversion: {version}\n");
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Chart.Name }}', namespace: default}\n\
                    data: {version: '{{ .Chart.Version }}'}\n";
    let (at, templates) = (format!("{name}/Chart.yaml"), format!("{name}/templates/a.yaml"));
    gzip(&tar(&[(&at, &chart), (&templates, template)]))
}

impl Charts {
    async fn start(versions: &[&'static str]) -> Self {
        let versions = Arc::new(Mutex::new(versions.to_vec()));
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let is_down: Arc<AtomicBool> = Arc::default();
        let (known, heard, ends) = (versions.clone(), asked.clone(), is_down.clone());
        let answer = move |uri: axum::http::Uri| {
            heard.lock().expect("not poisoned").push(uri.path().to_owned());
            let known = known.lock().expect("not poisoned").clone();
            let is_down = ends.load(Ordering::Relaxed);
            async move {
                if is_down {
                    return axum::http::StatusCode::SERVICE_UNAVAILABLE.into_response();
                }
                if uri.path() == "/charts/index.yaml" {
                    let entry = |version: &&str| {
                        let digest = sha256(&archive("db", version));
                        let digest = digest.trim_start_matches("sha256:");
                        format!("  - {{name: db, version: {version}, digest: {digest}, urls: [db-{version}.tgz]}}\n")
                    };
                    let entries: String = known.iter().map(entry).collect();
                    return format!("apiVersion: v1\nentries:\n  db:\n{entries}").into_response();
                }
                let version = uri.path().strip_prefix("/charts/db-").and_then(|rest| rest.strip_suffix(".tgz"));
                version.map_or_else(
                    || axum::http::StatusCode::NOT_FOUND.into_response(),
                    |version| archive("db", version).into_response(),
                )
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/charts", listener.local_addr().expect("it is bound"));
        tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
        Self { url, versions, asked, is_down }
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().expect("not poisoned").clone()
    }
}

async fn add_repo(scene: &Scene, name: &str, url: &str, chart: Option<&str>) -> RepoId {
    let mut repo = crate::testing::repo(&scene.hub.project, name, url);
    repo.spec.chart = chart.map(str::to_owned);
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    store::repos::insert(&mut db, &repo).await.expect("a new repo");
    repo.id
}

/// As `helm dependency update` writes it.
fn lock(wanted: &[String], locked: &[String]) -> String {
    let (wanted, locked) = (wanted.join(","), locked.join(","));
    let digest = sha256(format!("[[{wanted}],[{locked}]]").as_bytes());
    format!("dependencies: [{locked}]\ndigest: {digest}\ngenerated: '2026-01-01T00:00:00Z'\n")
}

/// How a registry is reached is what its repo says.
fn as_charts_have_it(url: &str) -> String {
    url.replace("oci+http://", "oci://")
}

/// Of a chart, as Helm writes it in JSON.
fn dependency(name: &str, version: &str, repository: &str) -> String {
    format!(r#"{{"name":"{name}","version":"{version}","repository":"{repository}"}}"#)
}

/// A chart that has nothing but these.
fn chart_of(dependencies: &[String]) -> String {
    let each: Vec<_> = dependencies.iter().map(|one| format!("- {one}\n")).collect();
    format!("apiVersion: v2\nname: one\nversion: 1.0.0\ndependencies:\n{}", each.concat())
}

#[crate::store::database_test(migrations = "../migrations")]
async fn dependencies_of_a_chart_are_fetched_from_repos_of_the_project_and_from_nowhere_else(pool: Pool) {
    let (charts, registry) = (Charts::start(&["1.0.0"]).await, DockerRegistry::start().await);
    let cache = archive("cache", "2.1.0");
    let layer = ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", &cache[..], json!(null));
    registry.push("charts/cache", "2.1.0", &Artifact::new(&[layer])).await;
    let registry_url = as_charts_have_it(&registry.repo_url("charts"));
    let wanted = [dependency("db", "~1.0", &charts.url), dependency("cache", "2.1.0", &registry_url)];
    let scene = scene_with_engine(&pool, 1, &engine()).await;
    scene.push(&[("one/Chart.yaml", &chart_of(&wanted)), ("two/a.yaml", ONE)]).await;
    settle(&scene).await;

    let condition = scene.condition_of("one").await.expect("nobody registered it");
    assert_eq!(condition.code, "source_not_registered", "{condition:?}");
    assert_eq!((condition.file.as_deref(), condition.line), (Some("one/Chart.yaml"), Some(5)));
    let hint = condition.hint.expect("what to do");
    let document = format!("kind: Repo, metadata: {{name: db}}, spec: {{url: {}, chart: db}}", charts.url);
    assert!(hint.starts_with("apply it as a repo") && hint.contains(&document), "{hint}");
    assert!(charts.asked().is_empty(), "nobody said that it may be");
    add_repo(&scene, "mirror", "https://charts.example.org", Some("db")).await;
    scene.tell(Stage::Bundle, scene.id("one").await).await;
    scene.reconcile(Stage::Bundle).await;
    let hint = scene.condition_of("one").await.and_then(|condition| condition.hint).expect("what to do");
    assert!(hint.starts_with("repo `mirror` has a chart `db` of https://charts.example.org; "), "{hint}");

    let db = add_repo(&scene, "db", &charts.url, Some("db")).await;
    add_repo(&scene, "cache", &registry.repo_url("charts/cache"), None).await;
    scene.tell(Stage::Bundle, scene.id("one").await).await;
    settle(&scene).await;
    settle(&scene).await;
    assert_eq!(scene.condition_of("one").await, None);
    let names: Vec<_> = sources_of(&scene, "one").await.into_iter().map(|(name, at, _)| (name, at)).collect();
    let expected = [("cache", "refs/tags/2.1.0"), ("db", "semver:~1.0")];
    let by_name: std::collections::BTreeSet<_> = names.iter().map(|(name, at)| (&**name, &**at)).collect();
    assert_eq!(by_name.into_iter().collect::<Vec<_>>(), expected);
    let (one, before) = (scene.id("one").await, scene.bundles_of("one").await);

    let release = async |version: &'static str| {
        charts.versions.lock().expect("not poisoned").push(version);
        scene.tell(Stage::Source, db.as_uuid()).await;
        scene.reconcile(Stage::Source).await;
        scene.reconcile(Stage::Bundle).await
    };
    assert_eq!(release("1.1.0").await, [] as [Uuid; 0], "it is not in the range");
    assert_eq!(release("1.0.7").await, [one]);
    let newer = scene.bundles_of("one").await;
    assert_ne!(newer, before);

    let locked = [dependency("db", "1.0.0", &charts.url), dependency("cache", "2.1.0", &registry_url)];
    scene.push(&[("one/Chart.lock", &lock(&wanted, &locked))]).await;
    settle(&scene).await;
    settle(&scene).await;
    assert_eq!(scene.condition_of("one").await, None);
    assert_eq!(scene.bundles_of("one").await, before, "it is what the lock says");
    assert_eq!(release("1.0.8").await, [] as [Uuid; 0]);

    let wanted = [dependency("db", "~3.0", &charts.url), dependency("cache", "2.1.0", &registry_url)];
    scene.push(&[("one/Chart.yaml", &chart_of(&wanted))]).await;
    settle(&scene).await;
    let condition = scene.condition_of("one").await.expect("the lock is of something else");
    assert_eq!((condition.code.as_str(), condition.file.as_deref()), ("helm_dependency", Some("one/Chart.lock")));
    let locked = [dependency("db", "3.0.1", &charts.url), dependency("cache", "2.1.0", &registry_url)];
    scene.push(&[("one/Chart.lock", &lock(&wanted, &locked))]).await;
    settle(&scene).await;
    settle(&scene).await;
    let condition = scene.condition_of("one").await.expect("there is no such version");
    assert_eq!(condition.code, "tag_not_found", "{condition:?}");
    assert!(condition.message.starts_with("repo `db`, which the target is rendered from: "), "{condition:?}");
    assert!(condition.message.contains("3.0.1"), "{condition:?}");
    assert_eq!((condition.file.as_deref(), condition.line), (Some("one/Chart.yaml"), Some(5)));
    assert_eq!(scene.bundles_of("one").await, before, "what runs stays");
}

/// The chart `cache` in a registry.
async fn push_cache(registry: &DockerRegistry, version: &str) {
    let cache = archive("cache", version);
    let layer = ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", &cache[..], json!(null));
    registry.push("charts/cache", version, &Artifact::new(&[layer])).await;
}

#[crate::store::database_test(migrations = "../migrations")]
async fn charts_whose_registries_are_away_stay_what_they_were_and_go_on_being_rendered(pool: Pool) {
    let (charts, registry) = (Charts::start(&["1.0.0"]).await, DockerRegistry::start().await);
    push_cache(&registry, "2.1.0").await;
    let scene = scene_with_engine(&pool, 1, &engine()).await;
    let db = add_repo(&scene, "db", &charts.url, Some("db")).await;
    let cache = add_repo(&scene, "cache", &registry.repo_url("charts/cache"), None).await;
    let registry_url = as_charts_have_it(&registry.repo_url("charts"));
    let wanted = [dependency("db", "~1.0", &charts.url), dependency("cache", "^2.0", &registry_url)];
    scene.push(&[("one/Chart.yaml", &chart_of(&wanted)), ("two/a.yaml", ONE)]).await;
    settle(&scene).await;
    settle(&scene).await;
    assert_eq!(scene.condition_of("one").await, None);
    let (before, sources) = (scene.bundles_of("one").await, sources_of(&scene, "one").await);

    charts.versions.lock().expect("not poisoned").push("1.0.7");
    charts.is_down.store(true, Ordering::Relaxed);
    drop(registry);
    for repo in [db, cache] {
        scene.tell(Stage::Source, repo.as_uuid()).await;
    }
    settle(&scene).await;
    let mut connection = scene.hub.pool.acquire().await.expect("a connection");
    for repo in [db, cache] {
        let status = store::repos::find_fetch_status(&mut connection, repo).await.expect("it is read");
        assert!(status.condition.is_some(), "its repo says that nobody answers");
    }
    scene.tell(Stage::Bundle, scene.id("one").await).await;
    settle(&scene).await;
    assert_eq!((scene.condition_of("one").await, scene.bundles_of("one").await), (None, before.clone()));

    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: own, namespace: default}\n";
    scene.push(&[("one/templates/own.yaml", map)]).await;
    settle(&scene).await;
    let after = scene.bundles_of("one").await;
    assert_eq!((scene.condition_of("one").await, sources_of(&scene, "one").await), (None, sources));
    assert_ne!(after, before, "a push to its own repo waits for no registry");

    charts.is_down.store(false, Ordering::Relaxed);
    let (asked, mut change) =
        (clock::new_trace(), Change::begin(&scene.hub.pool, &scene.hub.signals).await.expect("a transaction"));
    change.tell(Stage::Source, &[db.as_uuid()], clock::now(), Some(&asked)).await.expect("somebody asks");
    change.commit().await.expect("it commits");
    settle(&scene).await;
    assert_ne!(scene.bundles_of("one").await, after, "what was released meanwhile comes when it is back");
}

/// A target of this repo, which is rendered so.
async fn add_target(scene: &Scene, name: &str, repo: (RepoId, &str), reference: Value, render: Value) {
    let spec = json!({"repo": repo.1, "ref": reference, "path": "", "render": render});
    let spec: TargetSpec = serde_json::from_value(spec).expect("a spec");
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let known = store::targets::find_by_name(&mut db, scene.hub.project.id, &"one".parse().expect("a name")).await;
    let target = Target {
        id: bellwether_core::TargetId::new(clock::new_id()),
        name: name.parse().expect("a name"),
        repo: repo.0,
        reference: full_name(&spec.reference),
        spec,
        ..known.expect("it is read").expect("it is there")
    };
    store::targets::insert(&mut db, &target).await.expect("a new target");
    scene.tell(Stage::Source, repo.0.as_uuid()).await;
    scene.tell(Stage::Bundle, target.id.as_uuid()).await;
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_kustomization_in_git_lies_over_a_chart_of_a_helm_repository_and_of_a_registry(pool: Pool) {
    let (charts, registry) = (Charts::start(&["1.0.0"]).await, DockerRegistry::start().await);
    push_cache(&registry, "2.1.0").await;
    let scene = scene_with_engine(&pool, 1, &engine()).await;
    scene.push(&[("one/a.yaml", ONE), ("two/a.yaml", ANOTHER)]).await;
    let db = add_repo(&scene, "db", &charts.url, Some("db")).await;
    let cache = add_repo(&scene, "cache", &registry.repo_url("charts/cache"), None).await;
    let overlays = Env::new(&scene, "overlays", &scene.hub.project).await;
    let files = [("db/kustomization.yaml", "namePrefix: eu-\n"), ("cache/kustomization.yaml", "nameSuffix: -eu\n")];
    let first = overlays.upstream.push("main", "A push", &files);
    let over = |path: &str| json!({"kustomize": {"repo": "overlays", "path": path}});
    add_target(&scene, "over-db", (db, "db"), json!({"semver": "~1.0"}), over("db")).await;
    add_target(&scene, "over-cache", (cache, "cache"), json!({"tag": "2.1.0"}), over("cache")).await;
    settle(&scene).await;
    settle(&scene).await;
    let made = async |target: &str| {
        let (status, rendered) = scene.ask("GET", &format!("/targets/{target}/render?cluster=cluster-1"), "").await;
        assert!(status.is_success(), "{rendered}");
        let body = &rendered["objects"][0]["body"];
        format!("{} {}", body["metadata"]["name"], body["data"]["version"])
    };

    for (target, expected) in [("over-db", r#""eu-db" "1.0.0""#), ("over-cache", r#""cache-eu" "2.1.0""#)] {
        assert_eq!(scene.condition_of(target).await, None);
        assert_eq!(made(target).await, expected);
        let read = [("overlays".to_owned(), "refs/heads/main".to_owned(), first.clone())];
        assert_eq!(sources_of(&scene, target).await, read);
    }
    assert!(overlays.moves(&scene, &[("README.md", "1"), ("db/notes.md", "2")]).await.is_empty(), "nobody reads it");
    let over_db = scene.id("over-db").await;
    assert_eq!(overlays.moves(&scene, &[("db/kustomization.yaml", "namePrefix: us-\n")]).await, [over_db]);
    assert_eq!(made("over-db").await, r#""us-db" "1.0.0""#);
    charts.versions.lock().expect("not poisoned").push("1.0.7");
    scene.tell(Stage::Source, db.as_uuid()).await;
    scene.reconcile(Stage::Source).await;
    assert_eq!(scene.reconcile(Stage::Bundle).await, [over_db]);
    assert_eq!(made("over-db").await, r#""us-db" "1.0.7""#);

    overlays.push(&scene, &[("db/kustomization.yaml", "resources: [nowhere.yaml]\n")]).await;
    settle(&scene).await;
    let condition = scene.condition_of("over-db").await.expect("it is told");
    let file = Some("overlays@main:/db/kustomization.yaml");
    assert_eq!((condition.code.as_str(), condition.file.as_deref()), ("kustomize_failed", file), "{condition:?}");
    let mut connection = scene.hub.pool.acquire().await.expect("a connection");
    let deleted = store::repos::delete(&mut connection, overlays.repo).await;
    assert!(matches!(deleted, Err(store::StoreError::InUse)), "{deleted:?}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_a_chart_of_a_registry_has_not_signed_goes_no_further_once_its_repo_has_keys(pool: Pool) {
    let registry = DockerRegistry::start().await;
    let cache = archive("cache", "2.1.0");
    let layer = ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", &cache[..], json!(null));
    registry.push("charts/cache", "2.1.0", &Artifact::new(&[layer])).await;
    let engine = engine();
    let settings = ["--render-engine", engine.to_str().expect("a name"), "--allow-unconfined-render"];
    let waves = json!({"waves": [{"name": "all", "maxConcurrent": 1}]});
    let scene = Scene::with(&pool, 2, &settings, &waves).await;
    let repo = add_repo(&scene, "cache", &registry.repo_url("charts/cache"), None).await;
    let wanted = [dependency("cache", "2.1.0", &as_charts_have_it(&registry.repo_url("charts")))];
    scene.push(&[("one/Chart.yaml", &chart_of(&wanted))]).await;
    for _ in 0..2 {
        scene.reconcile(Stage::Bundle).await;
        scene.reconcile(Stage::Source).await;
    }
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    let assigned = async || {
        let runs = [scene.runs(scene.clusters[0]).await, scene.runs(scene.clusters[1]).await];
        runs.into_iter().flatten().count()
    };
    assert_eq!((scene.condition_of("one").await, assigned().await), (None, 1));

    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let mut known = store::repos::find(&mut db, repo).await.expect("it is read").expect("it is there");
    known.spec.cosign_keys = vec![CosignPair::new().pem()];
    store::repos::mark_spec(&mut db, repo, known.version, &known.spec, clock::now()).await.expect("it is written");
    let place = usize::from(scene.runs(scene.clusters[0]).await.is_none());
    scene.say(place, Verdict::Healthy, 1).await;

    assert_eq!(scene.states().await, [RolloutState::Paused]);
    assert_eq!(assigned().await, 1, "it reaches no further cluster");
    scene.tell(Stage::Bundle, scene.id("one").await).await;
    scene.reconcile(Stage::Bundle).await;
    assert_eq!(scene.condition("one").await.as_deref(), Some("revision_unverified"));
}

/// A kustomization of remote bases.
fn overlay(bases: &[String]) -> String {
    format!("# eu\nnamespace: default\nresources: [{}]\n", bases.join(", "))
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_remote_base_is_fetched_from_the_repo_of_the_project_and_moves_with_its_ref(pool: Pool) {
    let bases = Upstream::new();
    let base =
        |map: &str| [("shop/kustomization.yaml", "resources: [a.yaml]\n".to_owned()), ("shop/a.yaml", map.to_owned())];
    let push = |map: &str| {
        let files = base(map);
        bases.push("main", "A push", &[(files[0].0, &files[0].1), (files[1].0, &files[1].1)])
    };
    let first = push(ONE);
    bases.git(["tag", "v1", "main"], b"");
    let url = http::start_serving(&bases).await;
    let scene = scene_with_engine(&pool, 1, &engine()).await;
    let (at_tag, at_branch) =
        (overlay(&[format!("'{url}//shop?ref=v1'")]), overlay(&[format!("'{url}//shop?ref=main'")]));
    scene.push(&[("one/kustomization.yaml", &at_tag), ("two/kustomization.yaml", &at_branch)]).await;
    settle(&scene).await;
    let condition = scene.condition_of("one").await.expect("nobody registered it");
    assert_eq!(condition.code, "source_not_registered", "{condition:?}");
    assert_eq!((condition.file.as_deref(), condition.line), (Some("one/kustomization.yaml"), Some(3)));
    let hint = condition.hint.expect("what to do");
    let place = url.trim_end_matches(".git");
    assert!(hint.contains(&format!("metadata: {{name: shop}}, spec: {{url: {place}}}")), "{hint}");

    let repo = add_repo(&scene, "bases", &url, None).await;
    for target in ["one", "two"] {
        scene.tell(Stage::Bundle, scene.id(target).await).await;
    }
    settle(&scene).await;
    settle(&scene).await;
    assert_eq!((scene.condition_of("one").await, scene.condition_of("two").await), (None, None));
    let read = |at: &str, commit: &str| [("bases".to_owned(), at.to_owned(), commit.to_owned())];
    assert_eq!(sources_of(&scene, "one").await, read("name:v1", &first));
    assert_eq!(sources_of(&scene, "two").await, read("name:main", &first));
    let two = scene.id("two").await;
    let before = scene.bundles_of("two").await;

    let second = push(ANOTHER);
    scene.tell(Stage::Source, repo.as_uuid()).await;
    scene.reconcile(Stage::Source).await;
    assert_eq!(scene.reconcile(Stage::Bundle).await, [two], "a tag stays where it is");
    assert_eq!(sources_of(&scene, "two").await, read("name:main", &second));
    assert_ne!(scene.bundles_of("two").await, before);

    // Git takes a tag before a branch of the same name.
    bases.git(["tag", "main", &first], b"");
    scene.tell(Stage::Source, repo.as_uuid()).await;
    settle(&scene).await;
    assert_eq!(sources_of(&scene, "two").await, read("name:main", &first));
    assert_eq!(scene.bundles_of("two").await, before);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_remote_base_without_a_ref_is_at_the_default_branch_and_what_is_well_is_never_said_to_have_failed(
    pool: Pool,
) {
    let bases = Upstream::new();
    let push = |branch: &str, map: &str| {
        bases.push(branch, "A push", &[("shop/kustomization.yaml", "resources: [a.yaml]\n"), ("shop/a.yaml", map)])
    };
    push("main", ONE);
    let trunk = push("trunk", ANOTHER);
    bases.git(["symbolic-ref", "HEAD", "refs/heads/trunk"], b"");
    let url = http::start_serving(&bases).await;
    let scene = scene_with_engine(&pool, 1, &engine()).await;
    let repo = add_repo(&scene, "bases", &url, None).await;
    let (at_default, at_branch) =
        (overlay(&[format!("'{url}//shop'")]), overlay(&[format!("'{url}//shop?ref=trunk'")]));
    scene.push(&[("one/kustomization.yaml", &at_default), ("two/kustomization.yaml", &at_branch)]).await;
    settle(&scene).await;
    settle(&scene).await;

    assert_eq!((scene.condition_of("one").await, scene.condition_of("two").await), (None, None));
    for target in ["one", "two"] {
        assert_eq!(sources_of(&scene, target).await[0].2, trunk, "{target}");
    }
    let moved = push("trunk", ONE);
    scene.tell(Stage::Source, repo.as_uuid()).await;
    settle(&scene).await;
    assert_eq!(sources_of(&scene, "one").await[0].2, moved);
    assert_eq!(failures(&scene).await, Vec::<Value>::new());

    scene.push(&[("two/kustomization.yaml", &overlay(&[format!("'{url}//shop?ref=trunc'")]))]).await;
    settle(&scene).await;
    settle(&scene).await;
    let condition = scene.condition_of("two").await.expect("there is none such");
    assert_eq!((&*condition.code, condition.hint.as_deref()), ("branch_not_found", Some("did you mean `trunk`?")));
    assert_eq!(failures(&scene).await.len(), 1, "what is not there is said once");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_single_file_is_fetched_from_the_repo_of_the_project_and_a_rollback_brings_it_back(pool: Pool) {
    let text = Arc::new(Mutex::new(ONE.to_owned()));
    let served = text.clone();
    let answer = move || {
        let text = served.lock().expect("not poisoned").clone();
        async move { text }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/v1/install.yaml", listener.local_addr().expect("it is bound"));
    tokio::spawn(async move { axum::serve(listener, axum::Router::new().fallback(answer)).await });
    let scene = scene_with_engine(&pool, 1, &engine()).await;
    scene.push(&[("one/kustomization.yaml", &overlay(std::slice::from_ref(&url)))]).await;
    settle(&scene).await;
    let condition = scene.condition_of("one").await.expect("nobody registered it");
    assert_eq!((&*condition.code, condition.line), ("source_not_registered", Some(3)), "{condition:?}");
    let hint = condition.hint.expect("what to do");
    assert!(hint.contains(&format!("metadata: {{name: install-yaml}}, spec: {{url: {url}}}")), "{hint}");

    let repo = add_repo(&scene, "install", &url, None).await;
    scene.tell(Stage::Bundle, scene.id("one").await).await;
    settle(&scene).await;
    settle(&scene).await;
    assert_eq!(scene.condition_of("one").await, None);
    let read = async || sources_of(&scene, "one").await.remove(0);
    let (name, at, first) = read().await;
    assert_eq!((&*name, &*at), ("install", "name:HEAD"));
    finish(&scene, 1).await;
    let runs = async || scene.listing(scene.clusters[0]).await["one"].assignment.digest;
    let before = runs().await;
    scene.tell(Stage::Source, repo.as_uuid()).await;
    scene.reconcile(Stage::Source).await;
    assert!(scene.reconcile(Stage::Bundle).await.is_empty(), "the same file renders nothing");

    ANOTHER.clone_into(&mut text.lock().expect("not poisoned"));
    scene.tell(Stage::Source, repo.as_uuid()).await;
    settle(&scene).await;
    finish(&scene, 2).await;
    assert!(read().await.2 != first && runs().await != before);

    // Whatever the server has by now.
    assert_eq!(scene.roll_back().await, "done");
    settle(&scene).await;
    assert_eq!(runs().await, before);
}

/// What the audit log says of repos that failed.
async fn failures(scene: &Scene) -> Vec<Value> {
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let bodies = store::audit::list_bodies(&mut db).await.expect("the log can be read");
    let read = bodies.iter().map(|body| serde_json::from_slice::<Value>(body).expect("JSON"));
    read.filter(|entry| entry["action"] == "repo.failed").collect()
}
