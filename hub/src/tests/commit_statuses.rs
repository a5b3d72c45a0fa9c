//! What the host of a repo is told of its commits: by an https server that has the routes of GitHub, GitLab and Gitea as they
//! are documented, and keeps what it hears.

use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use bellwether_core::repo::{CommitStatuses, CredentialKind, GitHost, RepoSpec};
use bellwether_core::{TargetId, Version};
use serde_json::{Value, json};

use super::scene::{ANOTHER, ONE, Scene, finish};
use crate::process::clock;
use crate::source::credential_purpose;
use crate::store::repos::Credential;
use crate::store::work::Stage;
use crate::store::{self, Pool};
use crate::testing;

const TOKEN: &str = "t0ken";

/// A host: what it was sent, and what it answers.
#[derive(Default)]
struct Host {
    heard: Mutex<Vec<(String, String, Value)>>,
    /// To what is sent to a path with this in it.
    answer: Mutex<Option<(String, StatusCode, &'static str)>>,
}

async fn hear(
    State(host): State<Arc<Host>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> (StatusCode, &'static str) {
    assert_eq!(method, Method::POST);
    if let Some((of, status, text)) = &*host.answer.lock().expect("no panic")
        && uri.path().contains(of)
    {
        return (*status, text);
    }
    let authorization = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let said = serde_json::from_slice(&body).expect("JSON");
    host.heard.lock().expect("no panic").push((uri.path().to_owned(), authorization.to_owned(), said));
    (StatusCode::CREATED, "{}")
}

/// A repo at such a host, with a token, of which target `one` follows `main`.
struct Told {
    scene: Scene,
    host: Arc<Host>,
    repo: store::repos::Repo,
}

impl Told {
    async fn new(pool: &Pool, provider: GitHost) -> Self {
        let scene = Scene::new(pool, 1).await;
        scene.push(&[("one/a.yaml", ONE)]).await;
        let host = Arc::<Host>::default();
        let (url, ca) = testing::serve_tls(Router::new().fallback(hear).with_state(Arc::clone(&host))).await;
        let mut db = pool.acquire().await.expect("a connection");
        let mut repo = store::repos::find(&mut db, scene.repo).await.expect("read").expect("it is there");
        repo.spec.url = format!("{url}/acme/shop.git");
        repo.spec.ca = Some(ca);
        repo.spec.commit_status = Some(CommitStatuses { provider, context: "prod".to_owned() });
        store::repos::mark_spec(&mut db, repo.id, Version::new(1), &repo.spec, clock::now()).await.expect("written");
        let told = Self { scene, host, repo };
        told.give(TOKEN).await;
        told
    }

    async fn give(&self, token: &str) {
        let (spec, hub) = (&self.repo.spec, &self.scene.hub);
        let purpose = credential_purpose(Some(CredentialKind::Token), self.repo.id, &spec.url, spec.ca.as_deref());
        let sealed = hub.seal.seal(&purpose, token.as_bytes());
        let credential = Credential { kind: Some(CredentialKind::Token), sealed };
        let mut db = hub.pool.acquire().await.expect("a connection");
        store::repos::mark_credential(&mut db, self.repo.id, &credential, None, clock::now()).await.expect("stored");
    }

    /// What the host hears of all that waits to be told, whenever that is due.
    async fn heard(&self) -> Vec<(String, String, Value)> {
        let at_once = "update work set due_at = now() - interval '1 second' where stage = 'commit_status'";
        store::execute_raw(&self.scene.hub.pool, at_once).await.expect("written");
        self.scene.reconcile(Stage::CommitStatus).await;
        std::mem::take(&mut self.host.heard.lock().expect("no panic"))
    }

    async fn roll_out(&self) {
        self.scene.reconcile(Stage::Bundle).await;
        self.scene.reconcile(Stage::Rollout).await;
    }

    async fn commit(&self) -> String {
        let mut db = self.scene.hub.pool.acquire().await.expect("a connection");
        let (head, _) =
            store::revisions::find_head(&mut db, self.scene.repo, "refs/heads/main").await.expect("it is read");
        head.expect("it was pushed").commit
    }

    /// Pushes to the repo as it is on this disk; its host knows it by another URL.
    async fn push(&self, content: &str) {
        let spec = testing::repo(&self.scene.hub.project, "apps", &self.scene.upstream.url()).spec;
        self.mark(&spec).await;
        let mut db = self.scene.hub.pool.acquire().await.expect("a connection");
        store::repos::delete_credential(&mut db, self.repo.id).await.expect("that is for the host");
        self.scene.push(&[("one/a.yaml", content)]).await;
        self.scene.reconcile(Stage::Bundle).await;
        self.mark(&self.repo.spec).await;
        self.give(TOKEN).await;
    }

    async fn mark(&self, spec: &RepoSpec) {
        let mut db = self.scene.hub.pool.acquire().await.expect("a connection");
        let at = store::repos::find(&mut db, self.repo.id).await.expect("read").expect("it is there").version;
        store::repos::mark_spec(&mut db, self.repo.id, at, spec, clock::now()).await.expect("written");
    }

    fn answer(&self, of: &str, status: StatusCode, text: &'static str) {
        *self.host.answer.lock().expect("no panic") = Some((of.to_owned(), status, text));
    }

    fn take(&self) {
        *self.host.answer.lock().expect("no panic") = None;
    }

    async fn shown(&self) -> store::commit_statuses::Shown {
        let target = TargetId::new(self.scene.id("one").await);
        let mut db = self.scene.hub.pool.acquire().await.expect("a connection");
        store::commit_statuses::list_shown(&mut db, &[target]).await.expect("read").pop().expect("it was tried")
    }
}

fn states(heard: &[(String, String, Value)]) -> Vec<&str> {
    heard.iter().map(|(_, _, said)| said["state"].as_str().expect("a state")).collect()
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_host_is_told_how_a_commit_goes_and_each_thing_once(pool: Pool) {
    let told = Told::new(&pool, GitHost::Github).await;
    told.roll_out().await;

    let begun = told.heard().await;
    let commit = told.commit().await;
    let [(path, authorization, said)] = &begun[..] else { panic!("{begun:?}") };
    assert_eq!(*path, format!("/api/v3/repos/acme/shop/statuses/{commit}"));
    assert_eq!(authorization, &format!("Bearer {TOKEN}"));
    let wanted = json!({"state": "pending", "description": "is being rolled out to 1 cluster", "context": "prod/one"});
    assert_eq!(*said, wanted);
    told.scene.tell(Stage::CommitStatus, told.scene.id("one").await).await;
    assert_eq!(told.heard().await, [], "the host knows it");

    finish(&told.scene, 1).await;
    let done = told.heard().await;
    assert_eq!(states(&done), ["success"]);
    assert_eq!(done[0].2["description"], "done (1 cluster)");
    let shown = told.shown().await;
    assert_eq!((shown.commit, shown.error), (commit, None));
    assert!(shown.told_at.is_some());
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_was_overtaken_before_it_was_told_is_not_told(pool: Pool) {
    let told = Told::new(&pool, GitHost::Gitlab).await;
    told.roll_out().await;
    finish(&told.scene, 1).await;

    let heard = told.heard().await;

    assert_eq!(states(&heard), ["success"]);
    assert_eq!(heard[0].0, format!("/api/v4/projects/acme%2Fshop/statuses/{}", told.commit().await));
    assert_eq!(heard[0].2["name"], "prod/one");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_commit_whose_place_another_took_is_told_as_that(pool: Pool) {
    let told = Told::new(&pool, GitHost::Gitea).await;
    told.roll_out().await;
    assert_eq!(states(&told.heard().await), ["pending"]);
    let superseded =
        "update rollouts set state = 'superseded', reason = 'a newer one took its place', ended_at = now()";
    store::execute_raw(&pool, superseded).await.expect("written");
    told.scene.tell(Stage::CommitStatus, told.scene.id("one").await).await;

    let heard = told.heard().await;

    assert_eq!(heard[0].0, format!("/api/v1/repos/acme/shop/statuses/{}", told.commit().await));
    let wanted =
        json!({"state": "error", "description": "superseded: a newer one took its place", "context": "prod/one"});
    assert_eq!(heard[0].2, wanted);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_a_host_does_not_take_is_said_and_told_with_another_token(pool: Pool) {
    let told = Told::new(&pool, GitHost::Github).await;
    told.answer("/", StatusCode::FORBIDDEN, r#"{"message": "Resource not accessible by t0ken"}"#);
    told.roll_out().await;

    assert_eq!(told.heard().await, []);
    let shown = told.shown().await;
    let error = shown.error.expect("it failed");
    assert!(error.ends_with("(HTTP status 403): Resource not accessible by …"), "{error}");
    assert_eq!((shown.state, shown.told_at), (None, None), "the host knows nothing");
    let mut db = pool.acquire().await.expect("a connection");
    let waits = "select count(*) from work where stage = 'commit_status' and is_timer and due_at > now()";
    assert_eq!(store::ask_number(&mut db, waits).await.expect("read"), 1, "it is tried again later");

    told.take();
    told.give("another").await;
    let heard = told.heard().await;
    assert_eq!((states(&heard), heard[0].1.as_str()), (vec!["pending"], "Bearer another"));
    assert_eq!(told.shown().await.error, None);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_repo_whose_host_is_not_to_be_told_costs_nothing(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.push(&[("one/a.yaml", ONE)]).await;

    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;

    let mut db = pool.acquire().await.expect("a connection");
    let told = "select count(*) from work where stage = 'commit_status'";
    assert_eq!(store::ask_number(&mut db, told).await.expect("read"), 0);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_commit_that_came_back_has_one_word_and_is_told_it_once(pool: Pool) {
    let told = Told::new(&pool, GitHost::Github).await;
    for content in [ANOTHER, ONE, ANOTHER] {
        told.roll_out().await;
        told.push(content).await;
    }
    // As if the branch had been set back: the first commit is seen a second time.
    let back = "update revisions set commit_id = (select commit_id from revisions order by revision_id limit 1)
                 where revision_id = (select max(revision_id::text)::uuid from revisions)";
    store::execute_raw(&pool, back).await.expect("written");
    told.roll_out().await;
    // The first one's, and then that of the commit that waited for its end.
    finish(&told.scene, 1).await;
    finish(&told.scene, 2).await;

    let heard = told.heard().await;
    let commit = commit_of(&pool).await;
    let of_it: Vec<_> = heard.iter().filter(|(path, _, _)| path.ends_with(&commit)).collect();
    assert_eq!(of_it.len(), 1, "{heard:?}");
    assert_eq!(of_it[0].2["state"], "success");
    for _ in 0..2 {
        told.scene.tell(Stage::CommitStatus, told.scene.id("one").await).await;
        assert_eq!(told.heard().await, []);
    }
}

async fn commit_of(pool: &Pool) -> String {
    let mut db = pool.acquire().await.expect("a connection");
    store::ask_text(&mut db, "select commit_id from revisions order by revision_id desc limit 1").await.expect("read")
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_commit_that_the_host_does_not_know_keeps_no_other_untold(pool: Pool) {
    let told = Told::new(&pool, GitHost::Github).await;
    told.roll_out().await;
    told.answer(&told.commit().await, StatusCode::UNPROCESSABLE_ENTITY, r#"{"message": "No commit found for SHA"}"#);
    assert_eq!(told.heard().await, []);

    finish(&told.scene, 1).await;
    told.push(ANOTHER).await;
    told.roll_out().await;

    let heard = told.heard().await;
    assert!(heard[0].0.ends_with(&told.commit().await), "{heard:?}");
    assert_eq!(states(&heard), ["pending"]);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_status_whose_answer_was_lost_is_told_again(pool: Pool) {
    let told = Told::new(&pool, GitHost::Github).await;
    told.roll_out().await;
    assert_eq!(states(&told.heard().await), ["pending"]);
    told.answer("/", StatusCode::BAD_GATEWAY, "{}");
    finish(&told.scene, 1).await;
    assert_eq!(told.heard().await, []);
    assert_eq!(told.shown().await.state, None, "nobody knows what the host has");

    told.take();
    let back = "update rollouts set state = 'rolling', ended_at = null";
    store::execute_raw(&pool, back).await.expect("a person retries it");
    told.scene.tell(Stage::CommitStatus, told.scene.id("one").await).await;

    assert_eq!(states(&told.heard().await), ["pending"], "it may have heard of a success");
}
