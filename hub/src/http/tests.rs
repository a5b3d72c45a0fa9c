//! The whole router, without a socket.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::{Method, Request, StatusCode};
use bellwether_core::api::Problem;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::router;
use crate::pki::seal;
use crate::ports::Peer;
use crate::process::clock;
use crate::store::{self, Pool};
use crate::{Hub, testing};

/// Every route under /api/v1, by hand: a route that is missing here fails `every_route_is_listed`.
pub(crate) const ROUTES: &[(&str, &str)] = &[
    ("GET", "/whoami"),
    ("GET", "/tokens"),
    ("POST", "/tokens"),
    ("DELETE", "/tokens/a"),
    ("GET", "/clusters"),
    ("POST", "/clusters"),
    ("GET", "/clusters/a"),
    ("DELETE", "/clusters/a"),
    ("GET", "/clusters/a/targets"),
    ("GET", "/clusters/a/apis"),
    ("PUT", "/clusters/a/labels"),
    ("PUT", "/clusters/a/annotations"),
    ("POST", "/clusters/a/revoke"),
    ("POST", "/clusters/a/reenroll"),
    ("GET", "/repos"),
    ("GET", "/repos/a"),
    ("PUT", "/repos/a"),
    ("DELETE", "/repos/a"),
    ("PUT", "/repos/a/credential"),
    ("POST", "/repos/a/credential"),
    ("DELETE", "/repos/a/credential"),
    ("POST", "/repos/a/webhook-secret"),
    ("POST", "/repos/a/refresh"),
    ("POST", "/repos/a/accept"),
    ("GET", "/targets"),
    ("GET", "/targets/a"),
    ("PUT", "/targets/a"),
    ("DELETE", "/targets/a"),
    ("GET", "/targets/a/render"),
    ("GET", "/targets/a/explain"),
    ("POST", "/targets/a/refresh"),
    ("POST", "/targets/a/rollback"),
    ("POST", "/targets/a/release"),
    ("GET", "/rollouts"),
    ("GET", "/rollouts/a"),
    ("GET", "/rollouts/a/members"),
    ("POST", "/rollouts/a/intents"),
    ("GET", "/status"),
    ("GET", "/drift"),
    ("GET", "/audit"),
    ("POST", "/audit/verify"),
];

pub(super) struct Api {
    router: Router,
    hub: Arc<Hub>,
    token: String,
    _folder: tempfile::TempDir,
}

pub(super) async fn api(pool: &Pool) -> Api {
    let (hub, folder) = testing::hub(pool).await;
    let token = testing::admin_token(&folder);
    Api { router: router(Arc::clone(&hub)), hub, token, _folder: folder }
}

impl Api {
    async fn call(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> (StatusCode, String) {
        let method = Method::from_bytes(method.as_bytes()).expect("is a method");
        let mut request = Request::builder().method(method).uri(path);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let address = "127.0.0.1:1".parse().expect("is an address");
        let request = request.extension(Peer(address)).body(Body::from(body.to_owned())).expect("is a request");
        let response = self.router.clone().oneshot(request).await.expect("the router always answers");
        let status = response.status();
        let bytes = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("the answer is small");
        (status, String::from_utf8_lossy(&bytes).into_owned())
    }

    pub(super) async fn ask(&self, method: &str, path: &str, body: &str) -> (StatusCode, String) {
        self.call(method, &format!("/api/v1{path}"), Some(&self.token), body).await
    }

    /// What a webhook of repo `apps` with a signature by this secret is answered.
    async fn hook(&self, secret: &str, body: &'static [u8]) -> StatusCode {
        let mut signature = seal::HmacSha256::new(secret.as_bytes());
        signature.update(body);
        let request =
            Request::post("/hooks/v1/apps").header("x-signature", format!("sha256={}", hex::encode(signature.bytes())));
        let peer = Peer("127.0.0.1:1".parse().expect("is an address"));
        let request = request.extension(peer).body(Body::from(body)).expect("is a request");
        self.router.clone().oneshot(request).await.expect("the router always answers").status()
    }

    async fn problem(&self, method: &str, path: &str, body: &str) -> (StatusCode, Problem) {
        let (status, text) = self.ask(method, path, body).await;
        (status, serde_json::from_str(&text).unwrap_or_else(|_| panic!("not a problem: {text}")))
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn no_route_of_the_api_answers_without_a_token(pool: Pool) {
    let api = api(&pool).await;

    for (method, path) in ROUTES {
        for token in [None, Some("bwt_wrong"), Some("")] {
            let (status, body) = api.call(method, &format!("/api/v1{path}"), token, "{}").await;
            assert_eq!(status, StatusCode::UNAUTHORIZED, "{method} {path}: {body}");
        }
    }
}

#[test]
fn every_route_is_listed() {
    let source = include_str!("mod.rs");
    let nested = source.split("let api = Router::new()").nth(1).and_then(|rest| rest.split(".fallback").next());
    let nested = nested.expect("the API's routes stand together");
    let methods =
        ["get(", "post(", "put(", "delete("].map(|method| nested.matches(method).count()).iter().sum::<usize>();

    assert_eq!(methods, ROUTES.len(), "a route was added or removed: list it in ROUTES");
}

#[test]
fn the_routes_that_need_no_token_are_few_and_named() {
    let source = include_str!("mod.rs");
    let outside = source.split(".nest(\"/api/v1\", api)").nth(1).expect("the API's routes are nested");
    let open: Vec<_> = outside.split(".route(\"").skip(1).filter_map(|route| route.split('"').next()).collect();

    assert_eq!(open, ["/hooks/v1/{repo}", "/livez", "/readyz", "/metrics"], "an open route answers strangers");
    assert_eq!(source.matches("Router::new()").count(), 2, "these two are all");
    assert_eq!(source.matches(".nest(").count(), 1);
    assert_eq!(source.matches(".merge(").count(), source.matches(".merge(change(").count(), "methods of one route");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn an_unknown_field_suggests_the_nearest(pool: Pool) {
    let api = api(&pool).await;

    let body =
        r#"{"apiVersion":"bellwether.dev/v1","kind":"Target","metadata":{"name":"a"},"spec":{"repo":"r","pth":"x"}}"#;
    let (status, problem) = api.problem("PUT", "/targets/a", body).await;

    assert_eq!((status, problem.code.as_str()), (StatusCode::BAD_REQUEST, "unknown_field"));
    assert_eq!(problem.hint.as_deref(), Some("did you mean `path`?"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_is_of_the_wrong_kind_is_told_with_its_field(pool: Pool) {
    let api = api(&pool).await;
    let target = |spec: Value| {
        json!({"apiVersion": "bellwether.dev/v1", "kind": "Target", "metadata": {"name": "a"}, "spec": spec})
            .to_string()
    };

    for (spec, told) in [
        (json!({"repo": "r", "ref": {"branch": "a", "tag": "b"}}), "`spec.ref`: `branch` and `tag` are both given"),
        (
            json!({"repo": "r", "ref": "main"}),
            "`spec.ref`: invalid type: string \"main\", expected a map with `branch`",
        ),
        (
            json!({"repo": "r", "rollout": {"waves": [{"name": "a"}, {"name": "b", "soak": 10}]}}),
            "`spec.rollout.waves[1].soak`: invalid type: integer `10`, expected a length of time with its unit",
        ),
        (
            json!({"repo": "r", "rollout": {"onFailure": "rolback"}}),
            "`spec.rollout.onFailure`: unknown variant `rolback`",
        ),
    ] {
        let (status, problem) = api.problem("PUT", "/targets/a", &target(spec)).await;
        assert_eq!((status, problem.code.as_str()), (StatusCode::BAD_REQUEST, "body_invalid"));
        assert!(problem.detail.starts_with(told), "{}", problem.detail);
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_prefix_of_actions_that_is_none_is_a_mistake_and_no_empty_list(pool: Pool) {
    let api = api(&pool).await;

    for prefix in ["rollout", "rollout.wave", "rollout.wave.opened"] {
        let (status, text) = api.ask("GET", &format!("/audit?action={prefix}"), "").await;
        assert_eq!(status, StatusCode::OK, "{text}");
    }
    let (_, problem) = api.problem("GET", "/audit?action=rolout", "").await;

    assert_eq!(problem.hint.as_deref(), Some("did you mean `rollout`?"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_repo_that_is_not_there_suggests_the_nearest(pool: Pool) {
    let api = api(&pool).await;
    let repo = r#"{"apiVersion":"bellwether.dev/v1","kind":"Repo","metadata":{"name":"apps"},"spec":{"url":"https://example.org/apps.git"}}"#;
    let (created, body) = api.ask("PUT", "/repos/apps", repo).await;
    assert_eq!(created, StatusCode::CREATED, "{body}");

    let body = r#"{"apiVersion":"bellwether.dev/v1","kind":"Target","metadata":{"name":"a"},"spec":{"repo":"aps"}}"#;
    let (status, problem) = api.problem("PUT", "/targets/a", body).await;

    assert_eq!((status, problem.code.as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "repo_not_found"));
    assert_eq!(problem.hint.as_deref(), Some("did you mean `apps`?"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn bad_input_is_refused_by_name(pool: Pool) {
    let api = api(&pool).await;
    let repo = |url: &str| {
        format!(
            r#"{{"apiVersion":"bellwether.dev/v1","kind":"Repo","metadata":{{"name":"a"}},"spec":{{"url":"{url}"}}}}"#
        )
    };

    for (method, path, body, code) in [
        ("PUT", "/repos/a", repo("ssh://-oProxyCommand=x/"), "repo_url_invalid"),
        ("PUT", "/repos/A", repo("https://example.org/a"), "name_invalid"),
        ("PUT", "/repos/b", repo("https://example.org/a"), "name_differs"),
        ("PUT", "/repos/a", "{".to_owned(), "body_invalid"),
        ("POST", "/clusters", r#"{"name":"a","labels":{"a b":"c"}}"#.to_owned(), "label_invalid"),
        ("POST", "/clusters", r#"{"name":"a","ttlSeconds":9999999}"#.to_owned(), "ttl_invalid"),
        ("POST", "/clusters", r#"{"name":"a","namespace":"kube-system"}"#.to_owned(), "namespace_shared"),
        ("GET", "/clusters?cursor=!", String::new(), "cursor_invalid"),
        ("GET", "/audit?actr=me", String::new(), "query_invalid"),
        ("GET", "/audit?action=rolout", String::new(), "query_invalid"),
        ("GET", "/rollouts/none", String::new(), "rollout_not_found"),
        ("GET", "/nothing", String::new(), "no_such_route"),
    ] {
        let (status, problem) = api.problem(method, path, &body).await;
        assert!(status.is_client_error(), "{method} {path}: {status}");
        assert_eq!(problem.code, code, "{method} {path}: {}", problem.detail);
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_cluster_is_registered_once_and_its_token_is_shown_once(pool: Pool) {
    let api = api(&pool).await;

    let (first, registered) = api.ask("POST", "/clusters", r#"{"name":"a","labels":{"ring":"canary"}}"#).await;
    let (second, problem) = api.problem("POST", "/clusters", r#"{"name":"a"}"#).await;
    let (_, shown) = api.ask("GET", "/clusters/a", "").await;

    assert_eq!(first, StatusCode::CREATED);
    assert!(registered.contains("bwj_"), "the answer holds the token");
    assert_eq!((second, problem.code.as_str()), (StatusCode::CONFLICT, "cluster_exists"));
    assert!(!shown.contains("bwj_"), "{shown}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_webhook_with_a_wrong_signature_wakes_nothing(pool: Pool) {
    let api = api(&pool).await;

    let (status, body) = api.call("POST", "/hooks/v1/none", None, "{}").await;

    assert_eq!(status, StatusCode::UNAUTHORIZED);
    assert!(body.contains("signature_invalid"), "{body}");
}

fn repo(url: &str, version: Option<i64>) -> String {
    let metadata = json!({"name": "apps", "version": version});
    json!({"apiVersion": "bellwether.dev/v1", "kind": "Repo", "metadata": metadata, "spec": {"url": url}}).to_string()
}

fn target(spec: &Value) -> String {
    json!({"apiVersion": "bellwether.dev/v1", "kind": "Target", "metadata": {"name": "shop"}, "spec": spec}).to_string()
}

impl Api {
    /// The details of the entries with this action, oldest first, whether they are sealed or on their way.
    async fn audited(&self, action: &str) -> Vec<Value> {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let bodies = store::audit::list_bodies(&mut db).await.expect("the log can be read");
        let entries = bodies.iter().map(|body| serde_json::from_slice::<Value>(body).expect("an entry is JSON"));
        entries.filter(|entry| entry["action"] == action).collect()
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_repo_that_moves_to_another_origin_loses_its_token(pool: Pool) {
    let api = api(&pool).await;
    api.ask("PUT", "/repos/apps", &repo("https://git.example.org/apps.git", None)).await;
    let (given, _) = api.ask("PUT", "/repos/apps/credential", r#"{"token":"hunter2"}"#).await;
    assert_eq!(given, StatusCode::NO_CONTENT);

    let (_, same_origin) = api.ask("PUT", "/repos/apps", &repo("https://git.example.org/other.git", None)).await;
    let (_, moved) = api.ask("PUT", "/repos/apps", &repo("https://evil.example.com/apps.git", None)).await;

    let read = |text: &str| serde_json::from_str::<Value>(text).expect("a document");
    assert_eq!(read(&same_origin)["repo"]["status"]["hasCredential"], true);
    assert_eq!(read(&moved)["repo"]["status"]["hasCredential"], false, "{moved}");
    assert_eq!(read(&moved)["credentialRemoved"], true);
    let entries = api.audited("repo.changed").await;
    assert_eq!(entries[1]["detail"]["before"]["url"], "https://git.example.org/other.git");
    assert_eq!(entries[1]["detail"]["after"]["url"], "https://evil.example.com/apps.git");
    assert_eq!(entries[1]["detail"]["credentialRemoved"], true);
}

/// As `ssh-keygen` makes it.
fn ssh_key(folder: &std::path::Path, name: &str, passphrase: &str) -> String {
    let file = folder.join(name);
    let mut command = std::process::Command::new("ssh-keygen");
    let made = command.args(["-q", "-t", "ed25519", "-N", passphrase, "-f"]).arg(&file).status();
    assert!(made.expect("ssh-keygen starts").success());
    std::fs::read_to_string(file).expect("a key")
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_repo_by_ssh_comes_with_the_keys_of_its_host(pool: Pool) {
    let api = api(&pool).await;
    let known = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
    let repo_of = |url: &str, known_hosts: Option<String>| {
        let mut document: Value = serde_json::from_str(&repo(url, None)).expect("a document");
        if let Some(known_hosts) = known_hosts {
            document["spec"]["knownHosts"] = known_hosts.into();
        }
        document.to_string()
    };
    let url = "git@git.example.org:apps.git";
    let refused = [
        (repo_of(url, None), "known_hosts_missing"),
        (repo_of(url, Some(format!("git.example.com {known}"))), "known_hosts_missing"),
        (repo_of(url, Some("git.example.org nonsense".to_owned())), "known_hosts_invalid"),
        (repo_of("https://git.example.org/apps.git", Some(format!("git.example.org {known}"))), "known_hosts_unused"),
        (repo_of("ssh://-oProxyCommand=x/a", None), "repo_url_invalid"),
    ];
    for (body, code) in refused {
        let (status, problem) = api.problem("PUT", "/repos/apps", &body).await;
        assert_eq!((status, problem.code.as_str()), (StatusCode::UNPROCESSABLE_ENTITY, code), "{body}");
        assert!(problem.hint.is_some_and(|hint| code != "known_hosts_missing" || hint.contains("ssh-keyscan")));
    }
    let (status, _) = api.ask("PUT", "/repos/apps", &repo_of(url, Some(format!("git.example.org {known}")))).await;
    assert_eq!(status, StatusCode::CREATED);

    let folder = tempfile::tempdir().expect("a folder");
    let give = async |key: &str| api.ask("PUT", "/repos/apps/credential", &json!({"sshKey": key}).to_string()).await;
    for (body, code) in [
        (json!({"token": "hunter2"}), "credential_invalid"),
        (json!({}), "credential_invalid"),
        (json!({"sshKey": "nonsense"}), "credential_invalid"),
        (json!({"sshKey": ssh_key(folder.path(), "locked", "secret")}), "credential_has_passphrase"),
    ] {
        let (status, problem) = api.problem("PUT", "/repos/apps/credential", &body.to_string()).await;
        assert_eq!((status, problem.code.as_str()), (StatusCode::UNPROCESSABLE_ENTITY, code));
    }
    let key = ssh_key(folder.path(), "open", "");
    assert_eq!(give(&key).await.0, StatusCode::NO_CONTENT);

    // Other keys of the host leave it, another host does not.
    let more = format!("git.example.org,git.example.com {known}\n");
    let (_, same) = api.ask("PUT", "/repos/apps", &repo_of("ssh://git@git.example.org/apps", Some(more.clone()))).await;
    let (_, moved) = api.ask("PUT", "/repos/apps", &repo_of("ssh://git@git.example.com/apps", Some(more))).await;
    let read = |text: &str| serde_json::from_str::<Value>(text).expect("a document");
    assert_eq!(read(&same)["repo"]["status"]["hasCredential"], true, "{same}");
    assert_eq!(read(&moved)["repo"]["status"]["hasCredential"], false, "{moved}");
    assert_eq!(read(&moved)["credentialRemoved"], true);

    // A key that is for one kind of server is not told to another.
    let secret = key.lines().nth(1).expect("the key's first line");
    let entries = api.audited("repo.changed").await;
    assert!(entries.iter().all(|entry| !entry.to_string().contains(secret)));
    assert!(entries[0]["detail"]["after"]["knownHosts"].as_str().is_some_and(|digest| digest.starts_with("sha256:")));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_a_repo_is_read_with_is_given_changed_and_taken_away_and_never_shown(pool: Pool) {
    let api = api(&pool).await;
    api.ask("PUT", "/repos/apps", &repo("https://git.example.org/acme/apps.git", None)).await;
    let (pem, _) = testing::rsa_key();
    let app =
        |id: &str, key: &str| json!({"githubApp": {"appId": id, "installationId": 7, "privateKey": key}}).to_string();
    let shown = async || {
        let (_, shown) = api.ask("GET", "/repos/apps", "").await;
        assert!(!shown.contains("PRIVATE KEY") && !shown.contains("hunter2"), "{shown}");
        let status = serde_json::from_str::<Value>(&shown).expect("a document")["status"].take();
        assert_eq!(status["hasCredential"] == true, !status["credential"].is_null());
        (status["credential"]["kind"].clone(), status["credential"]["public"].clone())
    };

    for (body, hint) in [
        (app("1 2", &pem), "Settings > General"),
        (app("12", "no key"), "a private key was generated"),
        (json!({"token": "a", "githubApp": {"appId": "1", "installationId": 7, "privateKey": pem}}).to_string(), ""),
        ("{}".to_owned(), ""),
    ] {
        let (status, problem) = api.problem("PUT", "/repos/apps/credential", &body).await;
        assert_eq!((status, problem.code.as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "credential_invalid"));
        let (said, given) = (problem.hint.unwrap_or_default(), problem.detail);
        assert!(said.contains(hint) && !given.contains("no key"), "{said} {given}");
    }
    // However it begins, it is what it was given as.
    let alike = json!({"token": app("12", &pem)}).to_string();
    for (body, kind, public) in [
        (r#"{"token":"hunter2"}"#.to_owned(), "token", Value::Null),
        (app("Iv23.a", &pem), "githubApp", json!("app Iv23.a, installation 7")),
        (alike, "token", Value::Null),
    ] {
        assert_eq!(api.ask("PUT", "/repos/apps/credential", &body).await.0, StatusCode::NO_CONTENT);
        assert_eq!(shown().await, (json!(kind), public));
    }
    for _ in 0..2 {
        assert_eq!(api.ask("DELETE", "/repos/apps/credential", "").await.0, StatusCode::NO_CONTENT);
        assert_eq!(shown().await, (Value::Null, Value::Null));
    }

    let entries = api.audited("repo.credential.changed").await;
    let told = entries.iter().map(|entry| (&entry["detail"]["credential"]["kind"], &entry["detail"]["removed"]));
    let (none, removed) = (Value::Null, json!(true));
    let kinds = [json!("token"), json!("githubApp"), json!("token")];
    assert!(told.eq(kinds.iter().map(|kind| (kind, &none)).chain([(&none, &removed)])), "once each: {entries:?}");
    let entries = serde_json::to_string(&entries).expect("text");
    assert!(!entries.contains("PRIVATE KEY") && !entries.contains("hunter2"), "{entries}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn an_app_reads_only_where_github_may_be(pool: Pool) {
    let api = api(&pool).await;
    let (pem, _) = testing::rsa_key();
    let app = json!({"githubApp": {"appId": "1", "installationId": 7, "privateKey": pem}}).to_string();
    for url in ["https://git.example.org/apps.git", "http://git.example.org/acme/apps", "oci://ghcr.io/acme/apps"] {
        api.ask("PUT", "/repos/apps", &repo(url, None)).await;
        let (status, problem) = api.problem("PUT", "/repos/apps/credential", &app).await;
        assert_eq!((status, problem.code.as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "credential_invalid"), "{url}");
        assert!(problem.detail.contains("https://HOST/OWNER/NAME"), "{}", problem.detail);
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_key_that_the_hub_makes_is_told_by_its_public_half_alone(pool: Pool) {
    let api = api(&pool).await;
    api.ask("PUT", "/repos/apps", &repo("https://git.example.org/apps.git", None)).await;
    let (status, problem) = api.problem("POST", "/repos/apps/credential", "").await;
    assert_eq!((status, problem.code.as_str()), (StatusCode::UNPROCESSABLE_ENTITY, "credential_invalid"));
    let mut document: Value = serde_json::from_str(&repo("git@git.example.org:apps.git", None)).expect("a document");
    document["spec"]["knownHosts"] =
        "git.example.org ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl".into();
    api.ask("PUT", "/repos/apps", &document.to_string()).await;

    let (status, first) = api.ask("POST", "/repos/apps/credential", "").await;
    let (_, second) = api.ask("POST", "/repos/apps/credential", "").await;

    assert_eq!(status, StatusCode::CREATED);
    let line = |text: &str| serde_json::from_str::<Value>(text).expect("an answer")["publicKey"].clone();
    assert_ne!(line(&first), line(&second), "each is a new one");
    assert!(!first.contains("PRIVATE KEY"), "{first}");
    let (_, shown) = api.ask("GET", "/repos/apps", "").await;
    let shown: Value = serde_json::from_str(&shown).expect("a document");
    assert_eq!(shown["status"]["credential"]["public"], line(&second));
    let entries = api.audited("repo.credential.changed").await;
    assert_eq!(entries.last().expect("it is told")["detail"]["credential"]["public"], line(&second));
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("made.pub");
    std::fs::write(&file, line(&second).as_str().expect("a line")).expect("it is written");
    let read = std::process::Command::new("ssh-keygen").arg("-lf").arg(&file).output().expect("ssh-keygen starts");
    assert!(String::from_utf8_lossy(&read.stdout).contains("bellwether-apps (ED25519)"), "{read:?}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_webhook_secret_ends_with_the_origin_it_was_for_and_whenever_an_admin_wants(pool: Pool) {
    let api = api(&pool).await;
    let secret_of = |text: &str| {
        let answer: Value = serde_json::from_str(text).expect("a document");
        answer["webhookSecret"].as_str().map(ToOwned::to_owned)
    };
    let signed = async |secret: &str| api.hook(secret, b"{}").await;
    let (_, added) = api.ask("PUT", "/repos/apps", &repo("https://git.example.org/apps.git", None)).await;
    let first = secret_of(&added).expect("it is new");
    assert_eq!(signed(&first).await, StatusCode::ACCEPTED);

    let (_, same) = api.ask("PUT", "/repos/apps", &repo("https://git.example.org/other.git", None)).await;
    assert_eq!(secret_of(&same), None);
    let (status, moved) = api.ask("PUT", "/repos/apps", &repo("https://new.example.com/apps.git", None)).await;
    assert_eq!(status, StatusCode::OK, "{moved}");
    let second = secret_of(&moved).expect("the former host knows the first");
    assert_eq!((signed(&first).await, signed(&second).await), (StatusCode::UNAUTHORIZED, StatusCode::ACCEPTED));

    let (status, renewed) = api.ask("POST", "/repos/apps/webhook-secret", "").await;
    assert_eq!(status, StatusCode::OK, "{renewed}");
    let third = secret_of(&renewed).expect("a new one");
    assert_eq!((signed(&second).await, signed(&third).await), (StatusCode::UNAUTHORIZED, StatusCode::ACCEPTED));
    assert_eq!(api.audited("repo.webhook.changed").await.len(), 1);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_write_on_top_of_an_older_version_is_refused(pool: Pool) {
    let api = api(&pool).await;
    api.ask("PUT", "/repos/apps", &repo("https://git.example.org/a.git", None)).await;
    let (_, changed) = api.ask("PUT", "/repos/apps", &repo("https://git.example.org/b.git", Some(1))).await;
    let changed: Value = serde_json::from_str(&changed).expect("a document");
    assert_eq!(changed["repo"]["metadata"]["version"], 2);

    for url in ["https://git.example.org/b.git", "https://git.example.org/c.git"] {
        let (status, problem) = api.problem("PUT", "/repos/apps", &repo(url, Some(1))).await;
        assert_eq!((status, problem.code.as_str()), (StatusCode::CONFLICT, "changed_meanwhile"), "{url}");
    }

    api.ask("POST", "/clusters", r#"{"name":"a"}"#).await;
    let (first, _) = api.ask("PUT", "/clusters/a/labels?version=1", r#"{"ring":"canary"}"#).await;
    let (second, problem) = api.problem("PUT", "/clusters/a/labels?version=1", r#"{"ring":"rest"}"#).await;
    assert_eq!(first, StatusCode::OK);
    assert_eq!((second, problem.code.as_str()), (StatusCode::CONFLICT, "changed_meanwhile"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_spec_that_was_read_before_a_deletion_is_not_written_after_it(pool: Pool) {
    let api = api(&pool).await;
    api.ask("PUT", "/repos/apps", &repo("https://git.example.org/a.git", None)).await;
    api.ask("PUT", "/targets/shop", &target(&json!({"repo": "apps"}))).await;
    let mut db = pool.acquire().await.expect("a connection");
    let shop = "shop".parse().expect("is a name");
    let seen = store::targets::find_by_name(&mut db, &shop).await.expect("it is read").expect("it is there");

    let (status, body) = api.ask("DELETE", "/targets/shop?mode=prune", "").await;
    assert_eq!(status, StatusCode::ACCEPTED, "{body}");
    let written = store::targets::mark_spec(&mut db, &seen, clock::now()).await;

    assert!(matches!(written, Err(store::StoreError::Stale { .. })), "{written:?}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_problem_names_its_cause(pool: Pool) {
    let api = api(&pool).await;
    api.ask("PUT", "/repos/apps", &repo("https://git.example.org/a.git", None)).await;
    api.ask("PUT", "/targets/shop", &target(&json!({"repo": "apps"}))).await;

    let (status, problem) = api.problem("POST", "/targets/shop/rollback", r#"{"reason":"a\u0000b"}"#).await;
    assert_eq!((status, problem.code.as_str()), (StatusCode::BAD_REQUEST, "text_invalid"));
    let long = json!({"reason": "x".repeat(5_000)}).to_string();
    let (status, problem) = api.problem("POST", "/targets/shop/rollback", &long).await;
    assert_eq!((status, problem.code.as_str()), (StatusCode::BAD_REQUEST, "text_invalid"));

    let strange = json!({format!("pa\u{202e}{}", "x".repeat(5_000)): 1}).to_string();
    let (_, problem) = api.problem("PUT", "/targets/shop", &strange).await;
    assert!(problem.detail.len() <= 1_024 && !problem.detail.contains('\u{202e}'), "{problem:?}");

    let mut holder = store::begin(&pool).await.expect("a transaction");
    store::execute_in(&mut holder, "lock table repos in access exclusive mode").await.expect("locked");
    let (status, problem) = api.problem("PUT", "/repos/apps", &repo("https://git.example.org/b.git", None)).await;
    assert_eq!((status, problem.code.as_str()), (StatusCode::SERVICE_UNAVAILABLE, "busy"));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn parameter_values_stand_in_no_audit_entry(pool: Pool) {
    let api = api(&pool).await;
    api.ask("PUT", "/repos/apps", &repo("https://git.example.org/a.git", None)).await;
    let values: serde_json::Map<_, _> =
        (0..60).map(|number| (format!("key{number}"), Value::String(format!("hunter2{}", "x".repeat(200))))).collect();
    let spec = json!({"repo": "apps", "path": "apps/shop", "parameters": [{"values": &values}]});

    let (status, body) = api.ask("PUT", "/targets/shop", &target(&spec)).await;

    assert_eq!(status, StatusCode::CREATED, "{body}");
    let entries = api.audited("target.added").await;
    let text = entries[0].to_string();
    assert!(!text.contains("hunter2"), "{text}");
    let digest = bellwether_core::object::digest_of(&values["key0"]).to_string();
    assert!(!text.contains(digest.trim_start_matches("sha256:")), "whoever guesses a value can see that it is right");
    assert_eq!(entries[0]["detail"]["spec"]["path"], "apps/shop", "{text}");
    assert!(text.contains("key59"), "names are told: {text}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn revoking_and_enrolling_again_leave_nothing_of_before(pool: Pool) {
    let api = api(&pool).await;
    let (_, registered) = api.ask("POST", "/clusters", r#"{"name":"a"}"#).await;
    let registered: Value = serde_json::from_str(&registered).expect("a document");
    let token = registered["token"].as_str().expect("a token").to_owned();
    let id = registered["cluster"]["metadata"]["id"].as_str().and_then(|id| id.parse().ok()).expect("an id");
    let cluster = bellwether_core::ClusterId::new(id);
    let now = clock::now();

    let mut db = api.hub.pool.acquire().await.expect("a connection");
    store::certificates::insert(&mut db, "aa", cluster, now, now + jiff::SignedDuration::from_hours(1), None)
        .await
        .expect("written");
    let (status, _) = api.ask("POST", "/clusters/a/reenroll", "").await;
    assert_eq!(status, StatusCode::CREATED);
    assert!(!store::certificates::mark_used(&mut db, "aa", cluster, now).await.expect("asked"), "it was good still");

    let (status, _) = api.ask("POST", "/clusters/a/revoke", "").await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (status, _) = api.ask("POST", "/clusters/a/reenroll", "").await;
    assert_eq!(status, StatusCode::CREATED);
    let mut change = store::begin(&pool).await.expect("a transaction");
    let found = store::clusters::lock_enrollment(&mut change, seal::hash_token(&token)).await.expect("asked");
    assert!(found.is_none(), "the earlier join token came back: {found:?}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn who_only_looks_sees_no_secrets_of_targets(pool: Pool) {
    let api = api(&pool).await;
    let (_, created) = api.ask("POST", "/tokens", r#"{"name":"wallboard"}"#).await;
    let created: Value = serde_json::from_str(&created).expect("a document");
    let viewer = created["secret"].as_str().expect("the token").to_owned();

    for path in ["render?cluster=a", "explain?cluster=a&parameter=b"] {
        let path = format!("/targets/a/{path}");
        let (status, body) = api.call("GET", &format!("/api/v1{path}"), Some(&viewer), "").await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{body}");
        let (status, body) = api.ask("GET", &path, "").await;
        assert_eq!(status, StatusCode::NOT_FOUND, "{body}");
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_token_is_shown_once_reads_as_its_role_says_and_ends_when_revoked(pool: Pool) {
    let api = api(&pool).await;
    let (status, created) = api.ask("POST", "/tokens", r#"{"name":"wallboard","ttlSeconds":600}"#).await;
    assert_eq!(status, StatusCode::CREATED, "{created}");
    let created: Value = serde_json::from_str(&created).expect("a document");
    let viewer = created["secret"].as_str().expect("the token").to_owned();
    let as_viewer = async |method, path| api.call(method, &format!("/api/v1{path}"), Some(&viewer), "{}").await.0;

    assert_eq!(as_viewer("GET", "/clusters").await, StatusCode::OK);
    for (method, path) in ROUTES.iter().filter(|(method, path)| *method != "GET" && *path != "/audit/verify") {
        assert_eq!(as_viewer(method, path).await, StatusCode::FORBIDDEN, "{method} {path}");
    }
    let (_, listed) = api.ask("GET", "/tokens", "").await;
    assert!(!listed.contains(&viewer) && listed.contains("lastUsedAt\":\""), "{listed}");
    assert_eq!(api.ask("DELETE", "/tokens/admin", "").await.0, StatusCode::CONFLICT, "one would be locked out");

    assert_eq!(api.ask("DELETE", "/tokens/wallboard", "").await.0, StatusCode::NO_CONTENT);
    assert_eq!(as_viewer("GET", "/clusters").await, StatusCode::UNAUTHORIZED);
    assert_eq!(api.audited("token.revoked").await.len(), 1);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn readiness_is_asked_of_the_database_once_in_a_while(pool: Pool) {
    let api = api(&pool).await;
    let mut held = Vec::new();
    for _ in 1..store::VITAL_CONNECTIONS_MAX {
        held.push(api.hub.vital.acquire().await.expect("a connection"));
    }
    assert_eq!(api.call("GET", "/readyz", None, "").await.0, StatusCode::OK);
    held.push(api.hub.vital.acquire().await.expect("the last one"));

    let all = async {
        for _ in 0..200 {
            assert_eq!(api.call("GET", "/readyz", None, "").await.0, StatusCode::OK);
        }
    };

    tokio::time::timeout(std::time::Duration::from_millis(900), all).await.expect("nobody waits for a connection");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn people_who_ask_for_much_and_stages_that_work_much_do_not_wait_for_each_other(pool: Pool) {
    let api = api(&pool).await;
    assert_eq!(api.ask("GET", "/clusters", "").await.0, StatusCode::OK);
    let mut held = Vec::new();

    for _ in 0..api.hub.requests.options().get_max_connections() {
        held.push(api.hub.requests.acquire().await.expect("a connection"));
    }
    let stage = tokio::time::timeout(std::time::Duration::from_secs(2), api.hub.pool.acquire()).await;
    let stage = stage.is_ok_and(|connection| connection.is_ok());
    held.clear();
    for _ in 0..api.hub.pool.options().get_max_connections() {
        held.push(api.hub.pool.acquire().await.expect("a connection"));
    }
    let page = api.ask("GET", "/clusters", "");
    let page = tokio::time::timeout(std::time::Duration::from_secs(2), page).await;

    assert!(stage, "it waits for nobody who asks");
    assert_eq!(page.expect("it waits for no stage").0, StatusCode::OK);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_webhook_without_the_right_signature_is_read_to_no_end_and_buffered_by_nobody(pool: Pool) {
    let api = api(&pool).await;
    let (_, created) = api.ask("PUT", "/repos/apps", &repo("https://git.example.org/a.git", None)).await;
    let created: Value = serde_json::from_str(&created).expect("a document");
    let secret = created["webhookSecret"].as_str().expect("shown once").to_owned();
    let post = async |path: &str, signature: Option<String>, body: Body| {
        let mut request = Request::builder().method("POST").uri(path);
        if let Some(signature) = signature {
            request = request.header("x-signature", format!("sha256={signature}"));
        }
        let address = "127.0.0.1:1".parse().expect("is an address");
        let request = request.extension(Peer(address)).body(body).expect("is a request");
        api.router.clone().oneshot(request).await.expect("answered").status()
    };
    let never = || Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, std::io::Error>>());
    let sign = |body: &[u8]| {
        let mut hashed = crate::pki::seal::HmacSha256::new(secret.as_bytes());
        hashed.update(body);
        hex::encode(hashed.bytes())
    };

    assert_eq!(post("/hooks/v1/apps", None, never()).await, StatusCode::UNAUTHORIZED, "no signature, nothing read");
    let wrong = "0".repeat(64);
    for path in ["/hooks/v1/apps", "/hooks/v1/none"] {
        assert_eq!(post(path, Some(wrong.clone()), Body::from("{}")).await, StatusCode::UNAUTHORIZED, "{path}");
    }
    let large = vec![b'x'; 26 << 20];
    assert_eq!(post("/hooks/v1/apps", Some(sign(&large)), Body::from(large)).await, StatusCode::PAYLOAD_TOO_LARGE);
    assert_eq!(post("/hooks/v1/apps", Some(sign(b"{}")), Body::from("{}")).await, StatusCode::ACCEPTED);
}

/// A function that makes targets of one repo, clusters that are there, and of each target a rollout over all of them.
const GROW: &str = "
    create function grow(targets int, clusters int) returns void language plpgsql as $$
    declare
        project uuid := (select project_id from projects limit 1);
        hub uuid := (select hub_id from hubs limit 1);
        bundle bytea := sha256('bundle');
        strategy jsonb := '{\"waves\": [{\"name\": \"all\"}]}';
    begin
        update hubs set lives_until = now() + interval '1 h';
        insert into bundles (digest, manifest, objects, used_at) values (bundle, '', 0, now()) on conflict do nothing;
        for n in 1 .. targets loop
            insert into repos (repo_id, project_id, name, spec, webhook_secret, created_at, updated_at)
            values (gen_random_uuid(), project, 'r' || n, '{\"url\": \"https://example.org/a.git\"}', '', now(), now())
            on conflict do nothing;
        end loop;
        insert into clusters (cluster_id, project_id, name, labels, namespace, created_at, updated_at)
        select gen_random_uuid(), project, 'c' || n, '{}', 'bellwether-system', now(), now()
          from generate_series(1, clusters) n
            on conflict do nothing;
        insert into sessions
               (cluster_id, session, hub_id, boot, since, caught_up_at, address, certificate_serial, agent_version, facts)
        select cluster_id, 1, hub, gen_random_uuid(), now(), now(), '', '', '1', '{}'
          from clusters
            on conflict do nothing;
        insert into targets (target_id, project_id, name, repo_id, ref, spec, created_at, updated_at)
        select gen_random_uuid(), project, 't' || n, r.repo_id, 'refs/heads/main', jsonb_build_object('repo', r.name),
               now(), now()
          from generate_series(1, targets) n
          join repos r on r.name = 'r' || n
            on conflict do nothing;
        insert into revisions (revision_id, repo_id, ref, commit_id, author, subject, seen_at, trace_id)
        select repo_id, repo_id, 'refs/heads/main', repeat('a', 40), '', '', now(), '' from repos on conflict do nothing;
        insert into renders (render_id, target_id, revision_id, target_version, inputs_digest, variables, created_at)
        select target_id, target_id, repo_id, 1, '', '{}', now() from targets on conflict do nothing;
        insert into wanted_renders (target_id, target_version, revision_id, render_id, recipe, since)
        select target_id, 1, repo_id, target_id, '', target_id from targets on conflict do nothing;
        insert into rollouts
               (rollout_id, target_id, render_id, from_render_id, kind, strategy, failures_max, state, state_since, reason,
                trace_id, created_at, updated_at)
        select target_id, target_id, target_id, target_id, 'revision', strategy, 0, 'rolling', now(), '', '', now(), now()
          from targets
            on conflict do nothing;
        insert into rollout_waves (rollout_id, wave, name, state, concurrent_max, healthy_min, soak_ms, opened_at)
        select rollout_id, 0, 'all', 'open', 1000, 1, 0, now() from rollouts on conflict do nothing;
        insert into rollout_clusters (rollout_id, cluster_id, wave, position, digest, state, reason)
        select rollout_id, cluster_id, 0, 1, bundle, 'assigned', '' from rollouts, clusters on conflict do nothing;
        insert into assignments
               (cluster_id, target_id, digest, generation, rollout_id, render_id, action, prunable, assigned_at)
        select cluster_id, target_id, bundle, 1, target_id, target_id, 'apply', '[]', now() from targets, clusters
            on conflict do nothing;
    end $$";

impl Api {
    async fn fetch(&self, path: &str) -> Value {
        let (status, body) = self.ask("GET", path, "").await;
        assert_eq!(status, StatusCode::OK, "{path}: {body}");
        serde_json::from_str(&body).expect("JSON")
    }

    /// How many statements an answer takes. Another test that begins or ends to listen at this moment makes this one deaf
    /// for a while, so it counts until it has counted the same twice.
    async fn statements(&self, path: &str) -> usize {
        let mut before = 0;
        for _ in 0..50 {
            match self.count_statements(path).await {
                count if count > 0 && count == before => return count,
                count => before = count,
            }
        }
        panic!("{path} takes another number of statements each time");
    }

    async fn count_statements(&self, path: &str) -> usize {
        let count = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&count);
        let writer = move || {
            counted.fetch_add(1, Ordering::Relaxed);
            std::io::sink()
        };
        let filter = tracing_subscriber::EnvFilter::new("off,sqlx::query=debug");
        let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        self.fetch(path).await;
        count.load(Ordering::Relaxed)
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_page_costs_as_many_statements_however_large_the_fleet_is(pool: Pool) {
    let api = api(&pool).await;
    store::execute_raw(&pool, GROW).await.expect("it is made");
    store::execute_raw(&pool, "select grow(1, 1)").await.expect("a small fleet");
    let id = api.fetch("/rollouts").await["items"][0]["id"].as_str().expect("an id").to_owned();
    let rollout = format!("/rollouts/{id}");
    let paths = ["/targets", "/targets/t1", "/clusters", "/clusters/c1", "/rollouts", &rollout, "/repos", "/status"];
    let mut few = Vec::new();
    for path in paths {
        few.push((path, api.statements(path).await));
    }

    store::execute_raw(&pool, "select grow(12, 9)").await.expect("a larger fleet");

    let mut many = Vec::new();
    for path in paths {
        many.push((path, api.statements(path).await));
    }
    assert!(few.iter().all(|(_, count)| (2..=14).contains(count)), "{few:?}");
    assert_eq!(few, many);
}

/// Follows `next` to the end, and puts the lists of the pages together.
async fn follow(api: &Api, path: &str, list: &str) -> Vec<Value> {
    let (mut all, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = api.fetch(&format!("{path}{cursor}")).await;
        all.extend(page[list].as_array().expect("a list").iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return all,
        }
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn pages_of_what_runs_where_show_everything_once_and_cut_nothing(pool: Pool) {
    let api = api(&pool).await;
    store::execute_raw(&pool, GROW).await.expect("it is made");
    store::execute_raw(&pool, "select grow(105, 3)").await.expect("more targets than a page has");

    let targets = follow(&api, "/status?limit=7", "targets").await;
    let rows = follow(&api, "/status?limit=7", "rows").await;
    let of_one = follow(&api, "/status?target=t9&limit=2", "rows").await;
    let listed = follow(&api, "/targets?limit=1000", "items").await;

    let names: BTreeSet<_> = targets.iter().map(|target| target["metadata"]["name"].to_string()).collect();
    assert_eq!((targets.len(), names.len(), listed.len()), (105, 105, 105));
    let places: BTreeSet<_> = rows.iter().map(|row| (row["target"].to_string(), row["cluster"].to_string())).collect();
    assert_eq!((rows.len(), places.len(), of_one.len()), (315, 315, 3));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn the_status_of_one_target_speaks_of_its_own_repo_and_of_no_other(pool: Pool) {
    const BOTH_FAIL: &str = "insert into repo_fetch_status (repo_id, checked_at, condition)
        select repo_id, now(), '{\"code\": \"git_unreachable\", \"message\": \"cannot reach it\"}' from repos";
    let api = api(&pool).await;
    store::execute_raw(&pool, GROW).await.expect("it is made");
    store::execute_raw(&pool, "select grow(2, 1)").await.expect("two targets of two repos");
    store::execute_raw(&pool, BOTH_FAIL).await.expect("it is written");
    let repos = async |path: &str| {
        let conditions = api.fetch(path).await["conditions"].as_array().expect("a list").clone();
        conditions.iter().map(|one| one["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };

    assert_eq!(repos("/status").await, ["r1", "r2"]);
    assert_eq!(repos("/status?target=t2").await, ["r2"]);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_helm_repository_may_be_a_whole_host_and_a_git_repository_may_not(pool: Pool) {
    let api = api(&pool).await;
    let document = |chart: &str| {
        format!(
            r#"{{"apiVersion": "bellwether.dev/v1", "kind": "Repo", "metadata": {{"name": "charts"}},
                 "spec": {{"url": "https://charts.example.com"{chart}}}}}"#
        )
    };

    let (status, refusal) = api.ask("PUT", "/repos/charts", &document("")).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{refusal}");
    assert!(refusal.contains("repo_url_invalid") && refusal.contains("--chart"), "{refusal}");
    let (status, created) = api.ask("PUT", "/repos/charts", &document(r#", "chart": "cert-manager""#)).await;
    assert_eq!(status, StatusCode::CREATED, "{created}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_document_says_where_its_list_goes_on(pool: Pool) {
    let api = api(&pool).await;
    store::execute_raw(&pool, GROW).await.expect("it is made");
    store::execute_raw(&pool, "select grow(1, 1005)").await.expect("more clusters than a page has");
    let id = api.fetch("/rollouts").await["items"][0]["id"].as_str().expect("an id").to_owned();

    let document = api.fetch(&format!("/rollouts/{id}")).await;

    let first = document["members"].as_array().expect("its members").len();
    let next = document["membersNext"].as_str().expect("there are more");
    let rest = api.fetch(&format!("/rollouts/{id}/members?cursor={next}")).await;
    assert_eq!((first, rest["items"].as_array().map(Vec::len)), (1_000, Some(5)));
    assert_eq!(rest["next"], Value::Null);
    let whole = api.fetch("/clusters/c1").await;
    assert_eq!(whole["status"]["targets"].as_array().map(Vec::len), Some(1));
    assert_eq!(whole["status"]["targetsNext"], Value::Null);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn those_who_read_leave_most_connections_to_decisions(pool: Pool) {
    let api = Arc::new(api(&pool).await);
    let (status, body) = api.ask("POST", "/tokens", r#"{"name":"wallboard"}"#).await;
    assert_eq!(status, StatusCode::CREATED, "{body}");
    let viewer = serde_json::from_str::<Value>(&body).expect("JSON")["secret"].as_str().expect("a token").to_owned();
    api.call("GET", "/api/v1/whoami", Some(&viewer), "").await;
    // What reads the log waits for it from now on, with its connection in hand.
    let mut holder = store::begin(&pool).await.expect("a transaction");
    store::lock_table(&mut holder, "audit_entries").await.expect("it is held");

    let mut asked = tokio::task::JoinSet::new();
    for number in 0..40 {
        let (api, token) = (api.clone(), if number % 4 == 0 { api.token.clone() } else { viewer.clone() });
        asked.spawn(async move {
            let (method, path) = if number % 2 == 0 { ("POST", "/audit/verify") } else { ("GET", "/audit") };
            api.call(method, &format!("/api/v1{path}"), Some(&token), "").await
        });
    }
    let reading = "select count(*) from pg_stat_activity
                    where datname = current_database() and wait_event_type = 'Lock'";
    let mut db = api.hub.pool.acquire().await.expect("a connection");
    let (mut held_most, mut answered) = (0, 0);
    while answered < 40 {
        held_most = held_most.max(store::ask_number(&mut db, reading).await.expect("it is read"));
        let next = tokio::time::timeout(std::time::Duration::from_millis(5), asked.join_next()).await;
        answered += usize::from(next.is_ok());
    }

    assert!(held_most > 0, "nobody read the log");
    // Beside those who read the log is one who checks it.
    let most = i64::from(store::REQUEST_CONNECTIONS_MAX) / 2 + 1;
    assert!(held_most <= most, "{held_most} of {}", store::REQUEST_CONNECTIONS_MAX);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn who_has_a_good_token_does_not_wait_for_those_who_guess(pool: Pool) {
    let api = Arc::new(api(&pool).await);
    api.ask("GET", "/whoami", "").await;
    let mut guessing = Vec::new();
    for number in 0..6 {
        guessing.push(api.hub.strangers.turn(Some([192, 0, 2, number].into())).await.expect("it is free"));
    }
    let mut guesses = tokio::task::JoinSet::new();
    for (method, path) in [("GET", "/status"), ("POST", "/audit/verify")].repeat(4) {
        let api = api.clone();
        guesses.spawn(async move { api.call(method, &format!("/api/v1{path}"), Some("bwt_guessed"), "").await });
    }
    tokio::task::yield_now().await;

    for (method, path) in [("GET", "/whoami"), ("GET", "/status"), ("POST", "/audit/verify")] {
        let answered = tokio::time::timeout(std::time::Duration::from_secs(1), api.ask(method, path, "")).await;
        assert!(answered.is_ok_and(|(status, _)| status == StatusCode::OK), "{method} {path} waits for strangers");
    }

    drop(guessing);
    while let Some(guess) = guesses.join_next().await {
        assert_eq!(guess.expect("no panic").0, StatusCode::UNAUTHORIZED);
    }
}

/// The API's port of this hub, open, and a client of it that takes so many bytes of each answer before it is asked for more.
async fn dial(
    api: &Api,
    window: u32,
) -> (hyper::client::conn::http2::SendRequest<String>, tokio_util::sync::DropGuard) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let stop = tokio_util::sync::CancellationToken::new();
    tokio::spawn(super::serve(api.hub.clone(), listener, stop.clone()));
    let mut roots = rustls::RootCertStore::empty();
    for root in api.hub.authority.roots() {
        roots.add(root.into()).expect("a root");
    }
    let mut config = rustls::ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let name = rustls::pki_types::ServerName::try_from(crate::pki::ca::HUB_NAME).expect("a name");
    let tcp = tokio::net::TcpStream::connect(address).await.expect("connected");
    let tls = tokio_rustls::TlsConnector::from(Arc::new(config)).connect(name, tcp).await.expect("it is the hub");
    let mut builder = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
    builder.initial_stream_window_size(window);
    let (client, connection) = builder.handshake(hyper_util::rt::TokioIo::new(tls)).await.expect("it speaks HTTP/2");
    tokio::spawn(connection);
    (client, stop.drop_guard())
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_token_whose_answers_nobody_takes_is_made_no_more_of_them(pool: Pool) {
    let api = api(&pool).await;
    api.ask("GET", "/whoami", "").await;
    let (mut client, _stop) = dial(&api, 1_000).await;
    let token = api.token.clone();
    #[expect(clippy::async_yields_async, reason = "who asks does not wait for the answer")]
    let mut ask = async || {
        client.ready().await.expect("it is open");
        let request = Request::get("https://hub/api/v1/tokens").header("authorization", format!("Bearer {token}"));
        client.send_request(request.body(String::new()).expect("is a request"))
    };
    for number in 0..20 {
        api.ask("POST", "/tokens", &json!({"name": format!("t{number}")}).to_string()).await;
    }

    let mut untaken = Vec::new();
    for _ in 0..4 {
        let answer = ask().await.await.expect("it is answered");
        assert_eq!(answer.status(), StatusCode::OK);
        untaken.push(answer);
    }
    let mut fifth = std::pin::pin!(ask().await);
    let early = tokio::time::timeout(std::time::Duration::from_secs(1), &mut fifth).await;
    assert!(early.is_err(), "a fifth answer lies in memory");

    let mut taken = 0;
    let mut body = untaken.remove(0).into_body();
    while let Some(frame) =
        std::future::poll_fn(|context| hyper::body::Body::poll_frame(std::pin::Pin::new(&mut body), context)).await
    {
        taken += frame.expect("it comes").data_ref().map_or(0, hyper::body::Bytes::len);
    }
    assert!(taken > 1_000, "{taken} bytes were no reason to wait");
    let fifth = tokio::time::timeout(std::time::Duration::from_secs(4), fifth).await;
    assert_eq!(fifth.expect("one was taken").expect("answered").status(), StatusCode::OK);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn of_tokens_only_their_hashes_are_stored(pool: Pool) {
    let api = api(&pool).await;
    let (_, created) = api.ask("POST", "/tokens", r#"{"name":"wallboard"}"#).await;
    let (status, registered) = api.ask("POST", "/clusters", r#"{"name":"c1"}"#).await;
    assert_eq!(status, StatusCode::CREATED, "{registered}");
    let of = |body: &str, field: &str| {
        let body: Value = serde_json::from_str(body).expect("JSON");
        body[field].as_str().expect("it is shown once").to_owned()
    };
    let shown = [api.token.trim().to_owned(), of(&created, "secret"), of(&registered, "token")];

    let everything = "select string_agg(query_to_xml(format('select * from %I.%I', schemaname, tablename),
                                                     true, false, '')::text, '')
                        from pg_tables where schemaname = 'public'";
    let mut db = pool.acquire().await.expect("a connection");
    store::ask_text(&mut db, "select set_config('xmlbinary', 'hex', false)").await.expect("it is set");
    let stored = store::ask_text(&mut db, everything).await.expect("an intruder can").to_lowercase();

    assert!(stored.contains("wallboard") && stored.contains(&hex::encode("wallboard")), "not all was read");
    for secret in shown {
        assert!(
            !stored.contains(&secret.to_lowercase()) && !stored.contains(&hex::encode(&secret)),
            "a token is stored"
        );
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn where_good_tokens_come_from_is_known_after_a_restart_and_of_no_other(pool: Pool) {
    let api = api(&pool).await;
    let known = async || {
        crate::pki::revocations::refresh_known(&api.hub).await.expect("the rows can be read");
        api.hub.trust.known_callers.load().iter().map(ToString::to_string).collect::<Vec<_>>()
    };

    api.call("GET", "/api/v1/whoami", Some("bwt_guessed"), "").await;
    assert!(known().await.is_empty());
    api.ask("GET", "/whoami", "").await;
    assert_eq!(known().await, ["127.0.0.1"]);
    store::execute_raw(&pool, "update api_tokens set expires_at = now() - interval '1 h'")
        .await
        .expect("it is written");
    assert!(known().await.is_empty());
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_commit_that_waits_at_several_refs_is_let_in_at_the_one_that_is_meant(pool: Pool) {
    let api = api(&pool).await;
    let (status, text) = api.ask("PUT", "/repos/apps", &repo("https://git.example.com/apps.git", None)).await;
    assert_eq!(status, StatusCode::CREATED, "{text}");
    let name = "apps".parse().expect("a name");
    let mut db = api.hub.pool.acquire().await.expect("a connection");
    let known = store::repos::find_by_name(&mut db, &name).await.expect("it is read").expect("it is there");
    let commit = "1234567890123456789012345678901234567890";
    for reference in ["refs/heads/dev", "refs/heads/prod"] {
        store::heads::mark_waiting(&mut db, known.id, reference, commit, clock::now()).await.expect("it waits");
    }
    let accepted = async |reference: &str| {
        let mut db = api.hub.pool.acquire().await.expect("a connection");
        store::heads::is_accepted(&mut db, known.id, reference, commit).await.expect("it is read")
    };

    let (_, problem) = api.problem("POST", "/repos/apps/accept", &json!({"commit": commit}).to_string()).await;
    assert_eq!(problem.code, "head_waits_at_several");
    assert!(!accepted("refs/heads/dev").await && !accepted("refs/heads/prod").await);
    let body = json!({"commit": commit, "ref": "refs/heads/dev"}).to_string();
    assert_eq!(api.ask("POST", "/repos/apps/accept", &body).await.0, StatusCode::ACCEPTED);

    assert!(accepted("refs/heads/dev").await && !accepted("refs/heads/prod").await);
    let body = json!({"commit": commit}).to_string();
    assert_eq!(api.ask("POST", "/repos/apps/accept", &body).await.0, StatusCode::ACCEPTED, "it waits at one only");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_forged_webhook_is_answered_before_it_stands_in_the_log(pool: Pool) {
    let api = api(&pool).await;
    api.ask("PUT", "/repos/apps", &repo("https://git.example.com/apps.git", None)).await;
    let mut holder = pool.begin().await.expect("a transaction");
    store::lock_table(&mut holder, "audit_outbox").await.expect("it is held");

    assert_eq!(api.hook("wrong", b"{}").await, StatusCode::UNAUTHORIZED);

    drop(holder);
    let written = async {
        while api.audited("webhook.refused").await.is_empty() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), written).await.expect("it is written");
}
