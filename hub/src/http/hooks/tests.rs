//! Webhooks over HTTP, in the shapes in which Git hosts send them, with Postgres and a Git server that counts.

use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, Request, StatusCode, Uri};
use axum::response::Response;
use axum::{Extension, Router};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bellwether_core::RepoId;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use crate::pki::seal::HmacSha256;
use crate::ports::Peer;
use crate::process::clock;
use crate::source::Source;
use crate::source::git::upstream::Upstream;
use crate::store::work::{self, Stage};
use crate::store::{self, Pool};
use crate::worker::stage::Detached as _;
use crate::{Hub, testing};

const ZERO: &str = "0000000000000000000000000000000000000000";
const NOWHERE: &str = "1234567890123456789012345678901234567890";

/// A hub behind HTTP, with a repo at a Git server; target `shop` follows its branch `main`.
struct Scene {
    hub: Arc<Hub>,
    router: Router,
    http: reqwest::Client,
    url: String,
    secret: String,
    repo: RepoId,
    upstream: Upstream,
    /// Requests that the Git server was sent.
    asked: Arc<AtomicUsize>,
    folder: tempfile::TempDir,
}

/// What a host sends.
#[derive(Clone)]
struct Sent {
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Scene {
    async fn new(pool: &Pool) -> Self {
        let (hub, folder) = testing::hub(pool).await;
        let peer = Extension(Peer("127.0.0.1:1".parse().expect("an address")));
        let router = crate::http::router(Arc::clone(&hub)).layer(peer);
        let url = serve(router.clone()).await;
        let upstream = Upstream::new();
        upstream.push("main", "One", &[("shop/a.yaml", "a: 1")]);
        let (git_url, asked) = serve_git(&upstream).await;
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        let (secret, repo) = (String::new(), RepoId::new(clock::new_id()));
        let mut scene = Self { hub, router, http, url, secret, repo, upstream, asked, folder };
        let created = scene.put("Repo", "apps", json!({"url": git_url})).await;
        scene.put("Target", "shop", json!({"repo": "apps", "path": "shop"})).await;
        created["webhookSecret"].as_str().expect("it is new").clone_into(&mut scene.secret);
        let repo = created["repo"]["metadata"]["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
        scene.repo = RepoId::new(repo);
        scene.fetch_what_is_due(clock::now()).await;
        scene
    }

    async fn put(&self, kind: &str, name: &str, spec: Value) -> Value {
        let body = json!({"apiVersion": "bellwether.dev/v1", "kind": kind, "metadata": {"name": name}, "spec": spec});
        let address = format!("{}/api/v1/{}s/{name}", self.url, kind.to_lowercase());
        let request = self.http.put(address).bearer_auth(testing::admin_token(&self.folder)).json(&body);
        let answer = request.send().await.expect("answered");
        assert!(answer.status().is_success(), "{}", answer.status());
        answer.json().await.expect("a document")
    }

    async fn send(&self, sent: &Sent) -> (u16, String) {
        self.send_to("apps", sent).await
    }

    async fn send_to(&self, repo: &str, sent: &Sent) -> (u16, String) {
        let mut request = self.http.post(format!("{}/hooks/v1/{repo}", self.url)).body(sent.body.clone());
        for (name, value) in &sent.headers {
            request = request.header(*name, value);
        }
        let answer = request.send().await.expect("answered");
        (answer.status().as_u16(), answer.text().await.expect("a text"))
    }

    /// How often the Git server was asked for that.
    async fn fetch_what_is_due(&self, by: Timestamp) -> usize {
        let before = self.asked.load(Ordering::Relaxed);
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let due = work::list_due(&mut db, Stage::Source, by, &[], 16).await.expect("what is due");
        drop(db);
        for due in due {
            Source.reconcile(&self.hub, &due).await.expect("it is reconciled");
        }
        self.asked.load(Ordering::Relaxed) - before
    }

    async fn fetch(&self) -> usize {
        self.fetch_what_is_due(clock::now()).await
    }

    /// Seconds until the next fetch.
    async fn pause(&self) -> f64 {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let next = work::find_next(&mut db, Stage::Source, &[]).await.expect("it is read").expect("a timer");
        next.duration_since(clock::now()).as_secs_f64()
    }

    /// The last commit seen at `main`, and what is wrong with it.
    async fn head(&self) -> (String, Option<String>) {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let (head, condition) =
            store::revisions::find_head(&mut db, self.repo, "refs/heads/main").await.expect("it is read");
        (head.expect("one was seen").commit, condition.map(|condition| condition.code))
    }

    fn push(&self, text: &str) -> String {
        self.upstream.push("main", text, &[("shop/a.yaml", text)])
    }

    fn delete_main(&self) {
        let folder = self.upstream.url().replace("file://", "");
        let status = std::process::Command::new("git")
            .arg("-C")
            .arg(folder)
            .args(["update-ref", "-d", "refs/heads/main"])
            .status();
        assert!(status.expect("git runs").success());
    }
}

async fn serve(router: Router) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, router).await });
    url
}

/// Git's own server behind HTTP.
async fn serve_git(upstream: &Upstream) -> (String, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let (count, root) = (Arc::clone(&asked), upstream.url().replace("file://", "").replace("/shop.git", ""));
    let answer = move |method: axum::http::Method, uri: Uri, headers: HeaderMap, body: Bytes| {
        count.fetch_add(1, Ordering::Relaxed);
        answer_as_git(root.clone(), (method, uri, headers), body)
    };
    let url = serve(Router::new().fallback(answer)).await;
    (format!("{url}/shop.git"), asked)
}

async fn answer_as_git(
    root: String,
    (method, uri, headers): (axum::http::Method, Uri, HeaderMap),
    body: Bytes,
) -> Response {
    let header = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    let mut child = tokio::process::Command::new("git")
        .arg("http-backend")
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .envs([("GIT_PROJECT_ROOT", root.as_str()), ("GIT_HTTP_EXPORT_ALL", "1"), ("PATH_INFO", uri.path())])
        .envs([("GIT_PROTOCOL", header("git-protocol")), ("CONTENT_TYPE", header("content-type"))])
        .envs([("QUERY_STRING", uri.query().unwrap_or_default()), ("REQUEST_METHOD", method.as_str())])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("git starts");
    child.stdin.take().expect("piped").write_all(&body).await.expect("git reads");
    let output = child.wait_with_output().await.expect("git ends").stdout;
    let end = output.windows(4).position(|bytes| bytes == b"\r\n\r\n").expect("headers");
    let mut response = Response::builder();
    for line in String::from_utf8_lossy(&output[..end]).lines() {
        let (name, value) = line.split_once(": ").expect("a header");
        response = if name == "Status" { response.status(&value[..3]) } else { response.header(name, value) };
    }
    response.body(Body::from(output[end + 4..].to_vec())).expect("a response")
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let mut hashed = HmacSha256::new(key);
    for part in parts {
        hashed.update(part);
    }
    hashed.bytes()
}

fn hex_of(secret: &str, body: &[u8]) -> String {
    hex::encode(hmac(secret.as_bytes(), &[body]))
}

fn id() -> String {
    clock::new_id().to_string()
}

/// A push of one ref, as a host tells it.
type Shape = fn(&str, &str, &str) -> Sent;

const SHAPES: [(&str, Shape); 11] = [
    ("github", github),
    ("github, as a form", github_form),
    ("gitlab, with a token", gitlab),
    ("gitlab, signed", gitlab_signed),
    ("gitea", gitea),
    ("forgejo", forgejo),
    ("bitbucket cloud", bitbucket_cloud),
    ("bitbucket data center", bitbucket_server),
    ("bitbucket data center, with a password", bitbucket_server_basic),
    ("azure devops", azure),
    ("generic", generic),
];

fn github_body(reference: &str, after: &str) -> Value {
    let commit = json!({"id": after, "tree_id": NOWHERE, "distinct": true, "message": "Change the shop",
        "timestamp": "2026-11-28T12:00:00+01:00", "url": format!("https://github.example.org/acme/apps/commit/{after}"),
        "author": {"name": "Ada", "email": "ada@example.org", "username": "ada"},
        "committer": {"name": "GitHub", "email": "noreply@github.example.org", "username": "web-flow"},
        "added": [], "removed": [], "modified": ["shop/a.yaml"]});
    let (is_gone, commit) = if after == ZERO { (true, Value::Null) } else { (false, commit) };
    json!({"ref": reference, "before": NOWHERE, "after": after,
        "repository": {"id": 35_129_377, "node_id": "MDEw", "name": "apps", "full_name": "acme/apps", "private": true,
            "owner": {"name": "acme", "login": "acme", "id": 6_752_317}, "default_branch": "main",
            "clone_url": "https://github.example.org/acme/apps.git", "pushed_at": 1_764_327_600},
        "pusher": {"name": "ada", "email": "ada@example.org"}, "sender": {"login": "ada", "id": 6_752_317},
        "created": false, "deleted": is_gone, "forced": false, "base_ref": null,
        "compare": "https://github.example.org/acme/apps/compare/1234...abcd", "commits": [commit], "head_commit": commit})
}

fn github_headers(secret: &str, event: &str, body: &[u8]) -> Vec<(&'static str, String)> {
    vec![
        ("user-agent", "GitHub-Hookshot/044aadd".to_owned()),
        ("content-type", "application/json".to_owned()),
        ("x-github-delivery", id()),
        ("x-github-event", event.to_owned()),
        ("x-github-hook-id", "292430182".to_owned()),
        ("x-hub-signature", format!("sha1={}", "0".repeat(40))),
        ("x-hub-signature-256", format!("sha256={}", hex_of(secret, body))),
    ]
}

fn github(secret: &str, reference: &str, after: &str) -> Sent {
    let body = github_body(reference, after).to_string().into_bytes();
    Sent { headers: github_headers(secret, "push", &body), body }
}

fn github_form(secret: &str, reference: &str, after: &str) -> Sent {
    let payload = github_body(reference, after).to_string();
    let body =
        url::form_urlencoded::Serializer::new(String::new()).append_pair("payload", &payload).finish().into_bytes();
    let mut headers = github_headers(secret, "push", &body);
    headers[1].1 = "application/x-www-form-urlencoded".to_owned();
    Sent { headers, body }
}

fn gitlab_body(reference: &str, after: &str) -> Vec<u8> {
    let checkout = if after == ZERO { Value::Null } else { json!(after) };
    json!({"object_kind": "push", "event_name": "push", "before": NOWHERE, "after": after, "ref": reference,
        "ref_protected": true, "checkout_sha": checkout, "message": null, "user_id": 4, "user_name": "Ada",
        "user_username": "ada", "project_id": 15,
        "project": {"id": 15, "name": "Apps", "path_with_namespace": "acme/apps", "default_branch": "main",
            "git_http_url": "https://gitlab.example.org/acme/apps.git"},
        "commits": [], "total_commits_count": 1, "push_options": {},
        "repository": {"name": "Apps", "git_http_url": "https://gitlab.example.org/acme/apps.git", "visibility_level": 0}})
    .to_string()
    .into_bytes()
}

fn gitlab(secret: &str, reference: &str, after: &str) -> Sent {
    let headers = vec![
        ("user-agent", "GitLab/18.2.1".to_owned()),
        ("content-type", "application/json".to_owned()),
        ("idempotency-key", id()),
        ("x-gitlab-event", "Push Hook".to_owned()),
        ("x-gitlab-event-uuid", id()),
        ("x-gitlab-instance", "https://gitlab.example.org".to_owned()),
        ("x-gitlab-token", secret.to_owned()),
        ("x-gitlab-webhook-uuid", id()),
    ];
    Sent { headers, body: gitlab_body(reference, after) }
}

fn gitlab_signed(secret: &str, reference: &str, after: &str) -> Sent {
    let body = gitlab_body(reference, after);
    let key = URL_SAFE_NO_PAD.decode(secret.trim_start_matches("bww_")).unwrap_or_else(|_| secret.as_bytes().to_vec());
    let (id, time) = (id(), clock::now().as_second().to_string());
    let signature = STANDARD.encode(hmac(&key, &[format!("{id}.{time}.").as_bytes(), &body]));
    let headers = vec![
        ("content-type", "application/json".to_owned()),
        ("idempotency-key", id.clone()),
        ("webhook-id", id),
        ("webhook-timestamp", time),
        ("webhook-signature", format!("v1,{signature}")),
        ("x-gitlab-event", "Push Hook".to_owned()),
    ];
    Sent { headers, body }
}

fn gitea_body(reference: &str, after: &str) -> Vec<u8> {
    json!({"ref": reference, "before": NOWHERE, "after": after,
        "compare_url": "https://git.example.org/acme/apps/compare/1234...abcd", "total_commits": 1,
        "commits": [{"id": after, "message": "Change the shop\n", "timestamp": "2026-11-28T12:00:00+01:00",
            "author": {"name": "Ada", "email": "ada@example.org", "username": "ada"}, "verification": null,
            "added": [], "removed": [], "modified": ["shop/a.yaml"]}],
        "repository": {"id": 140, "owner": {"id": 1, "login": "acme"}, "name": "apps", "full_name": "acme/apps",
            "clone_url": "https://git.example.org/acme/apps.git", "default_branch": "main"},
        "pusher": {"id": 1, "login": "ada"}, "sender": {"id": 1, "login": "ada"}})
    .to_string()
    .into_bytes()
}

/// With the headers of GitHub and Gogs, which it sends too.
fn gitea(secret: &str, reference: &str, after: &str) -> Sent {
    let body = gitea_body(reference, after);
    let (signature, delivery) = (hex_of(secret, &body), id());
    let headers = vec![
        ("content-type", "application/json".to_owned()),
        ("x-gitea-delivery", delivery.clone()),
        ("x-gitea-event", "push".to_owned()),
        ("x-gitea-event-type", "push".to_owned()),
        ("x-gitea-signature", signature.clone()),
        ("x-github-delivery", delivery.clone()),
        ("x-github-event", "push".to_owned()),
        ("x-gogs-delivery", delivery),
        ("x-gogs-signature", signature.clone()),
        ("x-hub-signature-256", format!("sha256={signature}")),
    ];
    Sent { headers, body }
}

fn forgejo(secret: &str, reference: &str, after: &str) -> Sent {
    let mut sent = gitea(secret, reference, after);
    let find = |name: &str| sent.headers.iter().find(|one| one.0 == name).map(|one| one.1.clone()).unwrap_or_default();
    let (signature, delivery) = (find("x-gitea-signature"), find("x-gitea-delivery"));
    sent.headers.extend([
        ("x-forgejo-delivery", delivery),
        ("x-forgejo-event", "push".to_owned()),
        ("x-forgejo-signature", signature),
    ]);
    sent
}

fn bitbucket_cloud(secret: &str, reference: &str, after: &str) -> Sent {
    let name = reference.replace("refs/heads/", "");
    let at = |hash: &str| {
        json!({"type": "branch", "name": name, "target": {"type": "commit", "hash": hash,
        "author": {"type": "author", "raw": "Ada <ada@example.org>"}, "message": "Change the shop\n"}})
    };
    let new = if after == ZERO { Value::Null } else { at(after) };
    let change = json!({"forced": false, "old": at(NOWHERE), "new": new, "created": false, "closed": after == ZERO,
        "commits": [], "truncated": false, "links": {"html": {"href": "https://bitbucket.example.org/acme/apps"}}});
    let body = json!({"actor": {"type": "user", "nickname": "ada"}, "push": {"changes": [change]},
        "repository": {"type": "repository", "full_name": "acme/apps", "uuid": "{b7f2}", "is_private": true}});
    let body = body.to_string().into_bytes();
    let headers = vec![
        ("user-agent", "Bitbucket-Webhooks/2.0".to_owned()),
        ("content-type", "application/json".to_owned()),
        ("x-event-key", "repo:push".to_owned()),
        ("x-hook-uuid", id()),
        ("x-request-uuid", id()),
        ("x-attempt-number", "1".to_owned()),
        ("x-hub-signature", format!("sha256={}", hex_of(secret, &body))),
    ];
    Sent { headers, body }
}

fn bitbucket_server(secret: &str, reference: &str, after: &str) -> Sent {
    let kind = if after == ZERO { "DELETE" } else { "UPDATE" };
    let display = reference.replace("refs/heads/", "");
    let body = json!({"eventKey": "repo:refs_changed", "date": "2026-11-28T12:00:00+0100",
        "actor": {"name": "ada", "id": 2, "type": "NORMAL"},
        "repository": {"slug": "apps", "id": 84, "scmId": "git", "project": {"key": "ACME", "id": 84}},
        "changes": [{"ref": {"id": reference, "displayId": display, "type": "BRANCH"}, "refId": reference,
            "fromHash": NOWHERE, "toHash": after, "type": kind}]});
    let body = body.to_string().into_bytes();
    let headers = vec![
        ("content-type", "application/json; charset=utf-8".to_owned()),
        ("x-event-key", "repo:refs_changed".to_owned()),
        ("x-request-id", id()),
        ("x-hub-signature", format!("sha256={}", hex_of(secret, &body))),
    ];
    Sent { headers, body }
}

fn basic(secret: &str) -> (&'static str, String) {
    ("authorization", format!("Basic {}", STANDARD.encode(format!("bellwether:{secret}"))))
}

fn bitbucket_server_basic(secret: &str, reference: &str, after: &str) -> Sent {
    let mut sent = bitbucket_server(secret, reference, after);
    sent.headers.pop();
    sent.headers.push(basic(secret));
    sent
}

fn azure(secret: &str, reference: &str, after: &str) -> Sent {
    let body = json!({"subscriptionId": NOWHERE[..8], "notificationId": 3, "id": id(), "eventType": "git.push",
        "publisherId": "tfs", "message": null, "detailedMessage": null,
        "resource": {"commits": [{"commitId": after, "comment": "Change the shop"}],
            "refUpdates": [{"name": reference, "oldObjectId": NOWHERE, "newObjectId": after}],
            "repository": {"id": "278d5cd2", "name": "apps", "defaultBranch": "refs/heads/main",
                "remoteUrl": "https://dev.azure.example.org/acme/_git/apps"},
            "pushedBy": {"displayName": "Ada"}, "pushId": 14, "date": "2026-11-28T11:00:00Z"},
        "resourceVersion": "1.0", "resourceContainers": {}, "createdDate": "2026-11-28T11:00:01Z"});
    let headers = vec![("content-type", "application/json; charset=utf-8".to_owned()), basic(secret)];
    Sent { headers, body: body.to_string().into_bytes() }
}

fn generic(secret: &str, reference: &str, after: &str) -> Sent {
    let body = json!({"ref": reference, "commit": after}).to_string().into_bytes();
    let signature = format!("sha256={}", hex_of(secret, &body));
    // As curl says of any body.
    Sent {
        headers: vec![("x-signature", signature), ("content-type", "application/x-www-form-urlencoded".to_owned())],
        body,
    }
}

/// What a script sends that says nothing.
fn empty(secret: &str) -> Sent {
    Sent { headers: vec![("x-signature", format!("sha256={}", hex_of(secret, b"{}")))], body: b"{}".to_vec() }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_push_is_fetched_once_whichever_host_tells_of_it(pool: Pool) {
    let scene = Scene::new(&pool).await;

    for (host, shape) in SHAPES {
        let commit = scene.push(host);
        let sent = shape(&scene.secret, "refs/heads/main", &commit);

        assert_eq!(scene.send(&sent).await.0, 202, "{host}");
        assert!(scene.fetch().await > 0, "{host}");
        assert_eq!(scene.head().await, (commit, None), "{host}");
        assert!(scene.pause().await > 50.0, "{host}: it was found, so nothing is looked for again");
        for sent in [sent, shape(&scene.secret, "refs/heads/main", &scene.head().await.0)] {
            let (status, text) = scene.send(&sent).await;
            assert_eq!((status, text.contains("known already")), (200, true), "{host}: {text}");
        }
        assert_eq!(scene.fetch().await, 0, "{host}: redelivered, and told anew");
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_push_of_what_no_target_follows_wakes_nothing(pool: Pool) {
    let scene = Scene::new(&pool).await;
    let poll = scene.pause().await;

    for (host, shape) in SHAPES {
        for reference in ["refs/heads/feature/x", "refs/heads/mains", "refs/heads/shop"] {
            let (status, text) = scene.send(&shape(&scene.secret, reference, NOWHERE)).await;
            assert_eq!((status, text.contains("no target follows")), (200, true), "{host}: {text}");
        }
    }

    assert_eq!(scene.fetch().await, 0);
    assert!(scene.pause().await > poll - 30.0, "nor is it fetched sooner");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_push_of_what_a_target_of_another_repo_reads_is_fetched(pool: Pool) {
    let scene = Scene::new(&pool).await;
    scene.put("Repo", "charts", json!({"url": "https://git.example.org/charts.git"})).await;
    let values = json!({"repo": "apps", "ref": {"branch": "values"}, "path": "values.yaml"});
    scene.put("Target", "other", json!({"repo": "charts", "render": {"parameterFiles": [values]}})).await;
    let commit = scene.upstream.push("values", "Values", &[("values.yaml", "a: 1")]);

    let (status, text) = scene.send(&github(&scene.secret, "refs/heads/values", &commit)).await;

    assert_eq!(status, 202, "{text}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn each_host_is_believed_by_its_own_rule_only_and_strangers_learn_no_names(pool: Pool) {
    let scene = Scene::new(&pool).await;
    let another = format!("bww_{}", URL_SAFE_NO_PAD.encode([7; 32]));

    for (host, shape) in SHAPES {
        let good = shape(&scene.secret, "refs/heads/main", NOWHERE);
        let forged = shape(&another, "refs/heads/main", NOWHERE);
        let here = scene.send(&forged).await;
        assert_eq!((here.0, here.1.contains("signature_invalid")), (401, true), "{host}: {}", here.1);
        assert_eq!(scene.send_to("none", &forged).await, here, "{host}");
        assert_eq!(scene.send_to("none", &good).await, here, "{host}");
        let shows_secret =
            good.headers.iter().any(|(_, value)| value.contains(&scene.secret) || value.starts_with("Basic"));
        if !shows_secret {
            let mut changed = good.clone();
            changed.body.push(b' ');
            assert_eq!(scene.send(&changed).await, here, "{host}");
        }
        let unsigned =
            |one: &&(&str, String)| !["signature", "token", "authorization"].iter().any(|word| one.0.contains(word));
        let bare = Sent { headers: good.headers.iter().filter(unsigned).cloned().collect(), body: good.body.clone() };
        assert_eq!(scene.send(&bare).await, here, "{host}: without its proof");
        // Another host's proof under this one's name.
        let (name, value) = generic(&scene.secret, "refs/heads/main", NOWHERE).headers.remove(0);
        let mixed = Sent {
            headers: forged.headers.iter().cloned().chain([(name, value)]).collect(),
            body: forged.body.clone(),
        };
        assert_eq!(scene.send(&mixed).await.0, 401, "{host}");
    }

    assert_eq!(scene.fetch().await, 0);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_webhook_is_not_for_a_repo_of_another_project_that_is_called_the_same(pool: Pool) {
    let scene = Scene::new(&pool).await;
    let mut db = pool.acquire().await.expect("a connection");
    let (id, name) = (bellwether_core::ProjectId::new(clock::new_id()), "other".parse().expect("a name"));
    let project = store::projects::ensure(&mut db, id, name, clock::now()).await.expect("it is written");
    let own = store::repos::find(&mut db, scene.repo).await.expect("it is read").expect("it is there");
    let id = RepoId::new(clock::new_id());
    let secret = "of the other project";
    let webhook_secret = scene.hub.seal.seal(&super::webhook_purpose(id), secret.as_bytes());
    store::repos::insert(&mut db, &store::repos::Repo { id, project, webhook_secret, ..own })
        .await
        .expect("it is free");
    let commit = scene.push("Two");

    let (status, _) = scene.send(&github(secret, "refs/heads/main", &commit)).await;
    assert_eq!(status, 401, "the other project's secret opens nothing here");
    let (status, answer) = scene.send(&github(&scene.secret, "refs/heads/main", &commit)).await;
    assert_eq!(status, 202, "{answer}");

    let due = work::list_due(&mut db, Stage::Source, clock::now(), &[], 16).await.expect("what is due");
    assert_eq!(due.into_iter().map(|due| due.key).collect::<Vec<_>>(), [scene.repo.as_uuid()]);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_ping_is_answered_and_fetches_nothing(pool: Pool) {
    let scene = Scene::new(&pool).await;
    let body =
        json!({"zen": "Keep it logically awesome.", "hook_id": 292_430_182, "hook": {"type": "Repository", "id": 1}});
    let body = body.to_string().into_bytes();
    let of = |secret: &str, event: &str| Sent { headers: github_headers(secret, event, &body), body: body.clone() };
    let test = |secret: Option<&str>| {
        let body = br#"{"test": true}"#.to_vec();
        let mut headers = vec![("x-event-key", "diagnostics:ping".to_owned())];
        headers.extend(secret.map(|secret| ("x-hub-signature", format!("sha256={}", hex_of(secret, &body)))));
        Sent { headers, body }
    };

    assert_eq!(scene.send(&of(&scene.secret, "ping")).await.0, 200);
    assert_eq!(scene.send(&of("another", "ping")).await.0, 401);
    assert_eq!(scene.send(&of(&scene.secret, "issues")).await.0, 200);
    assert_eq!(scene.send(&test(Some(&scene.secret))).await.0, 200);
    assert_eq!(scene.send(&test(Some("another"))).await.0, 401);
    // Data Center does not sign this one, and its people see only whether it was answered.
    let heard = scene.send(&test(None)).await;
    assert_eq!(heard.0, 200);
    assert_eq!(scene.send_to("none", &test(None)).await, heard);

    assert_eq!(scene.fetch().await, 0);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn an_old_webhook_that_is_sent_again_fetches_nothing(pool: Pool) {
    let scene = Scene::new(&pool).await;
    for (host, shape) in SHAPES.into_iter().filter(|(host, _)| *host != "generic") {
        let old = shape(&scene.secret, "refs/heads/main", &scene.push(host));
        assert_eq!(scene.send(&old).await.0, 202, "{host}");
        assert!(scene.fetch().await > 0, "{host}");
        let newer = shape(&scene.secret, "refs/heads/main", &scene.push(&format!("{host}, again")));
        assert_eq!(scene.send(&newer).await.0, 202, "{host}");
        assert!(scene.fetch().await > 0, "{host}");

        let (status, text) = scene.send(&old).await;

        assert_eq!((status, text.contains("came before")), (200, true), "{host}: {text}");
        assert_eq!(scene.fetch().await, 0, "{host}");
    }

    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let later = clock::now() + SignedDuration::from_hours(24);
    for (before, deleted) in [(later - SignedDuration::from_hours(48), 0), (later, 15), (later, 5), (later, 0)] {
        assert_eq!(store::webhooks::delete_deliveries(&mut db, before, 15).await.expect("they go"), deleted);
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_deleted_branch_is_told_at_once_and_looked_for_no_more(pool: Pool) {
    let scene = Scene::new(&pool).await;
    for (host, shape) in SHAPES {
        let commit = scene.push(host);
        scene.send(&shape(&scene.secret, "refs/heads/main", &commit)).await;
        scene.fetch().await;
        assert_eq!(scene.head().await, (commit.clone(), None), "{host}");
        scene.delete_main();

        assert_eq!(scene.send(&shape(&scene.secret, "refs/heads/main", ZERO)).await.0, 202, "{host}");
        assert!(scene.fetch().await > 0, "{host}");

        assert_eq!(
            scene.head().await,
            (commit, Some("branch_not_found".to_owned())),
            "{host}: the last good one stays"
        );
        assert!(scene.pause().await > 50.0, "{host}");
        assert_eq!(scene.send(&shape(&scene.secret, "refs/heads/main", ZERO)).await.0, 200, "{host}");
        assert_eq!(scene.fetch().await, 0, "{host}");
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_webhook_before_its_commit_can_be_seen_is_not_content_with_another_one(pool: Pool) {
    let scene = Scene::new(&pool).await;
    let first = scene.push("an earlier push, of which no webhook came");
    // What the host says is where the branch will be; its copies are behind.
    let behind = github(&scene.secret, "refs/heads/main", NOWHERE);

    assert_eq!(scene.send(&behind).await.0, 202);
    assert!(scene.fetch().await > 0);

    assert_eq!(scene.head().await, (first, None), "the fetch decides what there is");
    let again = scene.pause().await;
    assert!((0.5..3.0).contains(&again), "{again}");
    // The next webhook, of what is there, overtakes it.
    let second = scene.push("a later push");
    assert_eq!(scene.send(&github(&scene.secret, "refs/heads/main", &second)).await.0, 202);
    scene.fetch().await;
    assert_eq!(scene.head().await, (second, None));
    assert!(scene.pause().await > 50.0, "{}", scene.pause().await);

    // A commit that never comes is given up.
    assert_eq!(scene.send(&behind_of(&scene)).await.0, 202);
    let mut by = clock::now();
    for _ in 0..5 {
        scene.fetch_what_is_due(by).await;
        by += SignedDuration::from_secs(20);
    }
    assert!(scene.pause().await > 20.0, "{}", scene.pause().await);
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    assert!(store::webhooks::list_expected(&mut db, scene.repo).await.expect("they are read").is_empty());
}

fn behind_of(scene: &Scene) -> Sent {
    github(&scene.secret, "refs/heads/main", &NOWHERE.replace('1', "2"))
}

#[crate::store::database_test(migrations = "../migrations")]
async fn one_webhook_a_thousand_times_is_one_fetch(pool: Pool) {
    let scene = Scene::new(&pool).await;
    let (sent, commit) = (empty(&scene.secret), scene.push("new"));

    for _ in 0..1_000 {
        assert_eq!(scene.send(&sent).await.0, 202);
    }

    // The refs, and what is new at one.
    assert!((1..=2).contains(&scene.fetch().await));
    assert_eq!(scene.head().await, (commit, None));
    assert_eq!(scene.fetch().await, 0);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_is_too_large_to_be_kept_is_fetched_for_all_the_same(pool: Pool) {
    let scene = Scene::new(&pool).await;
    let mut body = github_body("refs/heads/other", NOWHERE);
    body["commits"] = (0..4_000).map(|_| body["head_commit"].clone()).collect();
    let body = body.to_string().into_bytes();
    assert!(body.len() > super::KEPT_BYTES_MAX * 4);
    let large = Sent { headers: github_headers(&scene.secret, "push", &body), body };

    assert_eq!(scene.send(&large).await.0, 202);
    assert!(scene.fetch().await > 0);

    // The same where all places are taken, whatever it says.
    let places = scene.hub.webhook_bodies.try_acquire_many(u32::try_from(super::BODIES_KEPT).expect("few"));
    let _places = places.expect("all are free");
    assert_eq!(scene.send(&github(&scene.secret, "refs/heads/other", NOWHERE)).await.0, 202);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn of_a_forged_webhook_that_would_show_the_secret_nothing_is_read(pool: Pool) {
    let scene = Scene::new(&pool).await;

    for shape in [gitlab as Shape, azure, bitbucket_server_basic] {
        let mut request = Request::post("/hooks/v1/apps");
        for (name, value) in shape("another", "refs/heads/main", NOWHERE).headers {
            request = request.header(name, value);
        }
        let never = Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
        let answer = scene.router.clone().oneshot(request.body(never).expect("a request"));
        let answer =
            tokio::time::timeout(std::time::Duration::from_secs(5), answer).await.expect("nothing is waited for");
        assert_eq!(answer.expect("answered").status(), StatusCode::UNAUTHORIZED);
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_webhook_whose_fetch_failed_is_tried_again_soon_and_heard_when_it_is_sent_again(pool: Pool) {
    let scene = Scene::new(&pool).await;
    let (_, shape) = SHAPES[0];
    let commit = scene.push("a: 2");
    let sent = shape(&scene.secret, "refs/heads/main", &commit);
    let folder = scene.upstream.url().replace("file://", "");
    std::fs::rename(&folder, format!("{folder}.away")).expect("it is moved");

    assert_eq!(scene.send(&sent).await.0, 202);
    scene.fetch().await;

    assert!(scene.pause().await <= 10.0);
    std::fs::rename(format!("{folder}.away"), &folder).expect("it is moved back");
    assert_eq!(scene.send(&sent).await.0, 202, "nothing came of it before");
    scene.fetch().await;
    assert_eq!(scene.head().await, (commit, None));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_is_found_beside_what_was_said_has_a_trace_of_its_own(pool: Pool) {
    let scene = Scene::new(&pool).await;
    let spec = json!({"repo": "apps", "path": "shop", "ref": {"branch": "prod"}});
    let body = json!({"apiVersion": "bellwether.dev/v1", "kind": "Target", "metadata": {"name": "prod"}, "spec": spec});
    let request = scene.http.put(format!("{}/api/v1/targets/prod", scene.url)).json(&body);
    let answer = request.bearer_auth(testing::admin_token(&scene.folder)).send().await.expect("answered");
    assert!(answer.status().is_success());
    scene.upstream.push("prod", "One", &[("shop/a.yaml", "a: 1")]);
    scene.fetch().await;
    let (_, shape) = SHAPES[0];
    assert_eq!(scene.send(&shape(&scene.secret, "refs/heads/main", NOWHERE)).await.0, 202);
    scene.fetch().await;
    let waits = async || {
        let mut db = scene.hub.pool.acquire().await.expect("a connection");
        let (_, schedule) = store::repos::find_access(&mut db, scene.repo).await.expect("it is read");
        schedule.again.expect("it is looked for again").trace_id
    };
    let said = waits().await;

    let prod = scene.upstream.push("prod", "Two", &[("shop/a.yaml", "a: 2")]);
    scene.fetch_what_is_due(clock::now() + SignedDuration::from_secs(3)).await;

    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let (head, _) = store::revisions::find_head(&mut db, scene.repo, "refs/heads/prod").await.expect("it is read");
    let head = head.expect("it was seen");
    assert_eq!(head.commit, prod);
    assert_ne!(head.trace_id, said);
    assert_eq!(waits().await, said, "what was said is looked for all the same");
}
