//! The stage with Postgres: when it fetches again, and what goes with a repo.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bellwether_core::repo::{ForcePush, RepoSpec};
use bellwether_core::{RepoId, TargetId, Version};
use jiff::{SignedDuration, Timestamp};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::git::upstream::Upstream;
use super::{Source, credential_purpose, fetch, load, record, sweep_mirrors};
use crate::Hub;
use crate::process::clock;
use crate::store::repos::{Credential, Repo};
use crate::store::targets::Target;
use crate::store::work::{self, Stage};
use crate::store::{self, Pool};
use crate::work::change::Change;
use crate::worker::stage::Detached as _;

struct Scene {
    hub: Arc<Hub>,
    repo: Repo,
    _folder: TempDir,
}

impl Scene {
    async fn new(pool: &Pool, url: String, poll_seconds: Option<u32>) -> Self {
        let (hub, folder) = crate::testing::hub(pool).await;
        let mut repo = crate::testing::repo(&hub.project, "apps", &url);
        repo.spec.poll_seconds = poll_seconds;
        let mut db = hub.pool.acquire().await.expect("a connection");
        store::repos::insert(&mut db, &repo).await.expect("a new repo");
        drop(db);
        Self { hub, repo, _folder: folder }
    }

    async fn tell(&self, trace_id: Option<&str>) {
        let mut change = Change::begin(&self.hub.pool, &self.hub.signals).await.expect("a transaction");
        let key = self.repo.id.as_uuid();
        change.tell(Stage::Source, &[key], clock::now(), trace_id).await.expect("it is told");
        change.commit().await.expect("it commits");
    }

    /// All that is due by then.
    async fn reconcile(&self, by: Timestamp) {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let due = work::list_due(&mut db, Stage::Source, by, &[], 16).await.expect("what is due");
        drop(db);
        for due in due {
            Source.reconcile(&self.hub, &due).await.expect("it is reconciled");
        }
    }

    /// What a webhook does.
    async fn hook(&self) {
        self.tell(Some("a trace")).await;
        self.reconcile(clock::now()).await;
    }

    /// Seconds until the timer.
    async fn pause(&self) -> f64 {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let next = work::find_next(&mut db, Stage::Source, &[]).await.expect("it is read").expect("a timer");
        next.duration_since(clock::now()).as_secs_f64()
    }

    async fn status(&self) -> store::repos::FetchStatus {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        store::repos::find_fetch_status(&mut db, self.repo.id).await.expect("it is read")
    }

    async fn head(&self) -> store::revisions::Revision {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let (head, _) =
            store::revisions::find_head(&mut db, self.repo.id, "refs/heads/main").await.expect("it is read");
        head.expect("one was seen")
    }

    async fn revisions(&self) -> usize {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let heads = store::revisions::list_heads(&mut db, &[self.repo.id]).await.expect("they are read");
        heads.get(&self.repo.id).map_or(0, Vec::len)
    }
}

/// A server that answers everything with the same, and how often it did.
async fn answer(text: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, asked) = (listener.local_addr().expect("an address"), Arc::new(AtomicUsize::new(0)));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            count.fetch_add(1, Ordering::Relaxed);
            let _ = stream.write_all(text.as_bytes()).await;
        }
    });
    (address, asked)
}

const LIMITED: &str =
    "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 600\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

#[crate::store::database_test(migrations = "../migrations")]
async fn a_server_that_asks_for_a_pause_has_it_until_a_person_insists(pool: Pool) {
    let (address, asked) = answer(LIMITED).await;
    let scene = Scene::new(&pool, format!("http://{address}/shop.git"), Some(5)).await;

    scene.hook().await;
    assert_eq!(scene.status().await.condition.map(|condition| condition.code).as_deref(), Some("git_limited"));
    let told = asked.load(Ordering::Relaxed);
    for _ in 0..3 {
        scene.hook().await;
        scene.tell(None).await;
        scene.reconcile(clock::now()).await;
    }

    assert_eq!(asked.load(Ordering::Relaxed), told, "webhooks wait too");
    assert!(scene.pause().await > 590.0, "{}", scene.pause().await);
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    store::repos::end_pauses(&mut db, scene.repo.id).await.expect("it is written");
    drop(db);
    scene.hook().await;
    assert_eq!(asked.load(Ordering::Relaxed), told + 1, "a person asks once");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn each_failure_makes_the_pause_longer_and_a_success_makes_it_short_again(pool: Pool) {
    let upstream = Upstream::new();
    upstream.push("main", "One", &[("a.yaml", "a: 1")]);
    let scene = Scene::new(&pool, format!("{}/nothing", upstream.url()), Some(5)).await;

    scene.hook().await;
    let first = scene.pause().await;
    scene.reconcile(clock::now() + SignedDuration::from_secs(30)).await;
    assert!(first < 6.0, "{first}");
    // It came before its time, as nobody asked for it.
    assert!(scene.pause().await < 6.0);
    for _ in 0..3 {
        store::execute_raw(&pool, "update repo_fetch_status set retry_at = now()").await.expect("its time has come");
        scene.reconcile(clock::now() + SignedDuration::from_mins(2)).await;
    }
    assert!(scene.pause().await > 39.0, "{}", scene.pause().await);
    scene.hook().await;
    assert!(scene.pause().await < 6.0, "somebody waits: {}", scene.pause().await);

    let spec = RepoSpec { url: upstream.url(), ..scene.repo.spec.clone() };
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    store::repos::mark_spec(&mut db, scene.repo.id, scene.repo.version, &spec, clock::now()).await.expect("changed");
    drop(db);
    scene.hook().await;
    assert!(scene.pause().await < 6.0, "{}", scene.pause().await);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_webhook_that_comes_before_its_ref_is_not_lost(pool: Pool) {
    let upstream = Upstream::new();
    let scene = Scene::new(&pool, upstream.url(), None).await;
    scene.reconcile(clock::now()).await;
    scene.tell(None).await;
    scene.reconcile(clock::now()).await;
    let poll = scene.pause().await;
    assert!(poll > 50.0, "{poll}");

    scene.hook().await;

    let again = scene.pause().await;
    assert!((0.5..3.0).contains(&again), "{again}");
    scene.reconcile(clock::now() + SignedDuration::from_secs(3)).await;
    let later = scene.pause().await;
    assert!((3.0..6.0).contains(&later), "{later}");
    upstream.push("main", "One", &[("a.yaml", "a: 1")]);
    scene.reconcile(clock::now() + SignedDuration::from_secs(6)).await;
    assert_eq!(scene.revisions().await, 1);
    assert!(scene.pause().await > 50.0, "what is found ends it");
    assert_eq!(scene.head().await.trace_id, "a trace", "and belongs to whom it was looked for");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_webhook_for_nothing_does_not_put_the_poll_off(pool: Pool) {
    let upstream = Upstream::new();
    upstream.push("main", "One", &[("a.yaml", "a: 1")]);
    let scene = Scene::new(&pool, upstream.url(), Some(5)).await;
    scene.hook().await;
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let (_, before) = store::repos::find_access(&mut db, scene.repo.id).await.expect("it is read");

    scene.hook().await;

    let (_, after) = store::repos::find_access(&mut db, scene.repo.id).await.expect("it is read");
    assert_eq!((after.poll_at, after.again.map(|again| again.times)), (before.poll_at, Some(1)));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn the_mirror_of_a_deleted_repo_goes_also_from_hubs_that_were_not_told(pool: Pool) {
    let upstream = Upstream::new();
    upstream.push("main", "One", &[("a.yaml", "a: 1")]);
    let scene = Scene::new(&pool, upstream.url(), None).await;
    let mirrors = || scene.hub.mirrors.list().expect("they are listed");
    scene.hook().await;
    sweep_mirrors(&scene.hub).await.expect("it sweeps");
    assert_eq!(mirrors(), [scene.repo.id].into(), "it is in use");
    scene.hub.mirrors.of(RepoId::new(clock::new_id())).reader().expect("a mirror of a repo that nobody knows");
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    store::repos::delete(&mut db, scene.repo.id).await.expect("it goes");
    drop(db);

    scene.hook().await;
    assert!(!mirrors().contains(&scene.repo.id));
    sweep_mirrors(&scene.hub).await.expect("it sweeps");
    assert!(mirrors().is_empty());
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_token_opens_only_for_the_host_and_authority_that_it_was_given_for(pool: Pool) {
    let (address, asked) = answer(LIMITED).await;
    let scene = Scene::new(&pool, format!("https://{address}/shop.git"), None).await;
    let purpose = credential_purpose(None, scene.repo.id, "https://git.example.com/shop.git", None);
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let sealed = Credential { kind: None, sealed: scene.hub.seal.seal(&purpose, b"secret") };
    store::repos::mark_credential(&mut db, scene.repo.id, &sealed, None, clock::now()).await.expect("it is stored");
    drop(db);

    scene.hook().await;

    let condition = scene.status().await.condition.expect("it fails");
    assert_eq!((condition.code.as_str(), asked.load(Ordering::Relaxed)), ("credential_unreadable", 0));
    let of = |url, ca| credential_purpose(None, scene.repo.id, url, ca);
    assert_eq!(of("https://git.example.com:443/other.git", None), purpose, "another path of the same host");
    for (url, ca) in [
        ("https://git.example.com:8443/shop.git", None),
        ("http://git.example.com/shop.git", None),
        ("https://git.example.org/shop.git", None),
        ("https://git.example.com/shop.git", Some("an authority")),
    ] {
        assert_ne!(of(url, ca), purpose, "{url}");
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_a_fetch_found_at_an_address_that_the_repo_has_left_is_not_written(pool: Pool) {
    let upstream = Upstream::new();
    upstream.push("main", "A push", &[("a.yaml", "a: 1")]);
    let scene = Scene::new(&pool, upstream.url(), None).await;
    scene.tell(None).await;
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let item = work::list_due(&mut db, Stage::Source, clock::now(), &[], 1).await.expect("what is due").remove(0);
    let known = load(&scene.hub, scene.repo.id).await.expect("it is read").expect("it is there");
    let before = known.before();

    // It takes minutes at times; meanwhile somebody moves the repo.
    let fetched = fetch(&scene.hub, known, false).await;
    let elsewhere = RepoSpec { url: "https://git.example.com/apps".to_owned(), ..scene.repo.spec.clone() };
    let (repo, now) = (&scene.repo, clock::now());
    store::repos::mark_spec(&mut db, repo.id, repo.version, &elsewhere, now).await.expect("it is written");
    record(&scene.hub, &item, &before, fetched).await.expect("it is no error");
    let left = work::list_due(&mut db, Stage::Source, clock::now(), &[], 1).await.expect("what is due");

    assert_eq!(scene.revisions().await, 0);
    assert_eq!(left.len(), 1, "it is fetched where it is now");

    // A token that was taken away says nothing about the one that is there.
    let known = load(&scene.hub, scene.repo.id).await.expect("it is read").expect("it is there");
    let before = known.before();
    let other = Credential { kind: None, sealed: b"sealed".to_vec() };
    store::repos::mark_credential(&mut db, scene.repo.id, &other, None, clock::now()).await.expect("it is written");
    let refused = Err(super::RepoError::Url(super::git::InvalidUrl::TooLong));
    record(&scene.hub, &left[0], &before, refused).await.expect("it is no error");
    assert!(scene.status().await.condition.is_none());
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_range_of_versions_moves_to_newer_tags_and_a_tag_that_was_moved_is_told(pool: Pool) {
    let upstream = Upstream::new();
    let release = |tag: &str, subject: &str| {
        let commit = upstream.push("main", subject, &[("app/a.yaml", subject)]);
        upstream.git(["tag", "--force", tag, "main"], b"");
        commit
    };
    let first = release("v1.0.0", "One");
    let scene = Scene::new(&pool, upstream.url(), None).await;
    let reference = "semver:^1".to_owned();
    let spec = serde_json::json!({"repo": "apps", "path": "app", "ref": {"semver": "^1"}});
    let target = Target {
        id: TargetId::new(clock::new_id()),
        project: scene.hub.project.clone(),
        name: "app".parse().expect("a name"),
        repo: scene.repo.id,
        reference: reference.clone(),
        spec: serde_json::from_value(spec).expect("a spec"),
        version: Version::new(1),
        created_at: clock::now(),
        deletion: None,
    };
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    store::targets::insert(&mut db, &target).await.expect("a new target");
    let head = async || {
        scene.hook().await;
        let mut db = scene.hub.pool.acquire().await.expect("a connection");
        let (head, _) = store::revisions::find_head(&mut db, scene.repo.id, &reference).await.expect("it is read");
        let head = head.expect("one was seen");
        (head.tag.expect("it is a tag's"), head.commit)
    };

    assert_eq!(head().await, ("v1.0.0".to_owned(), first.clone()));
    let second = release("v1.1.0", "Two");
    assert_eq!(head().await, ("v1.1.0".to_owned(), second.clone()));
    upstream.git(["tag", "v1.2.0", &second], b"");
    assert_eq!(head().await, ("v1.2.0".to_owned(), second.clone()), "the same commit under another name");
    let moved = release("v1.2.0", "Three");
    assert_eq!(head().await, ("v1.2.0".to_owned(), moved));

    let bodies = store::audit::list_bodies(&mut db).await.expect("the log can be read");
    let entries = bodies.iter().map(|body| serde_json::from_slice::<serde_json::Value>(body).expect("JSON"));
    let details: Vec<_> =
        entries.filter(|entry| entry["action"] == "revision.seen").map(|entry| entry["detail"].clone()).collect();
    let told: Vec<_> = details.iter().map(|detail| (detail["tag"].as_str(), detail["movedFrom"].as_str())).collect();
    assert_eq!(
        told,
        [
            (Some("v1.0.0"), None),
            (Some("v1.1.0"), None),
            (Some("v1.2.0"), None),
            (Some("v1.2.0"), Some(second.as_str())),
        ]
    );
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_branch_that_was_forced_waits_until_somebody_accepts_exactly_that_commit(pool: Pool) {
    let upstream = Upstream::new();
    upstream.push("main", "One", &[("app/a.yaml", "a: 1")]);
    let scene = Scene::new(&pool, upstream.url(), None).await;
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let spec = RepoSpec { force_push: ForcePush::Block, ..scene.repo.spec.clone() };
    store::repos::mark_spec(&mut db, scene.repo.id, Version::new(1), &spec, clock::now()).await.expect("it is changed");
    let spec = serde_json::json!({"repo": "apps", "path": "app"});
    let target = Target {
        id: TargetId::new(clock::new_id()),
        project: scene.hub.project.clone(),
        name: "app".parse().expect("a name"),
        repo: scene.repo.id,
        reference: "refs/heads/main".to_owned(),
        spec: serde_json::from_value(spec).expect("a spec"),
        version: Version::new(1),
        created_at: clock::now(),
        deletion: None,
    };
    store::targets::insert(&mut db, &target).await.expect("a new target");
    let seen = async || {
        scene.hook().await;
        let mut db = scene.hub.pool.acquire().await.expect("a connection");
        let (head, condition) =
            store::revisions::find_head(&mut db, scene.repo.id, "refs/heads/main").await.expect("it is read");
        (head.expect("one was seen").commit, condition.map(|condition| (condition.code, condition.hint)))
    };
    let forced = |file: &str| {
        let blob = upstream.blob(file.as_bytes());
        upstream.push_tree("main", &upstream.tree(&[("100644", b"a.yaml", &blob)]))
    };
    let accept = async |commit: &str| {
        let mut db = scene.hub.pool.acquire().await.expect("a connection");
        store::heads::mark_accepted(&mut db, scene.repo.id, commit, None, clock::now()).await.expect("it is written")
    };
    seen().await;
    let good = upstream.push("main", "Two", &[("app/a.yaml", "a: 2")]);
    assert_eq!(seen().await, (good.clone(), None), "what builds on it goes on");

    let first = forced("a: 3");
    let (head, condition) = seen().await;
    let (code, hint) = condition.expect("it is told");
    assert_eq!((head, code.as_str()), (good.clone(), "head_rewritten"));
    assert!(hint.expect("a hint").contains(&format!("bellwether repo accept apps {first} --ref refs/heads/main")));
    assert_eq!(accept(&good).await, [""; 0], "it does not wait");
    assert_eq!(accept(&first).await, ["refs/heads/main"]);

    // Another one came meanwhile: it was not meant.
    let second = forced("a: 4");
    assert_eq!(seen().await.0, good);
    assert_eq!(accept(&second).await, ["refs/heads/main"]);
    assert_eq!(seen().await, (second, None));

    // What was let in once is not let in again later.
    forced("a: 5");
    seen().await;
    upstream.git(["update-ref", "refs/heads/main", &first], b"");
    assert_eq!(seen().await.1.expect("it waits").0, "head_rewritten");
}
