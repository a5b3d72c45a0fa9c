//! Repos, their credentials and webhook secrets, through the whole router.

use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::http::testing::{api, repo};
use crate::process::clock;
use crate::store::{self, Pool};
use crate::testing;

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

#[crate::store::database_test(migrations = "../migrations")]
async fn what_changes_of_a_repo_stands_in_the_log_as_it_was_and_as_it_is(pool: Pool) {
    let api = api(&pool).await;
    let spec = |more: Value| {
        let mut document: Value = serde_json::from_str(&repo("https://git.example.org/apps.git", None)).expect("JSON");
        document["spec"].as_object_mut().expect("a spec").extend(more.as_object().expect("fields").clone());
        document.to_string()
    };
    let key = rcgen::KeyPair::generate().expect("a key");
    let ca = rcgen::CertificateParams::new([]).expect("valid names").self_signed(&key).expect("a certificate").pem();
    api.ask("PUT", "/repos/apps", &spec(json!({"pollSeconds": 60}))).await;

    let (changed, answer) = api.ask("PUT", "/repos/apps", &spec(json!({"pollSeconds": 300, "ca": ca}))).await;

    assert_eq!(changed, StatusCode::OK, "{answer}");
    let entry = api.audited("repo.changed").await.remove(0);
    let of = |side: &str| (entry["detail"][side]["pollSeconds"].clone(), entry["detail"][side]["ca"].clone());
    let digest = bellwether_core::Digest::of(ca.trim().as_bytes());
    assert_eq!(of("before"), (json!(60), Value::Null));
    assert_eq!(of("after"), (json!(300), json!(digest)));
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
async fn a_commit_that_waits_at_several_refs_is_let_in_at_the_one_that_is_meant(pool: Pool) {
    let api = api(&pool).await;
    let (status, text) = api.ask("PUT", "/repos/apps", &repo("https://git.example.com/apps.git", None)).await;
    assert_eq!(status, StatusCode::CREATED, "{text}");
    let name = "apps".parse().expect("a name");
    let mut db = api.hub.pool.acquire().await.expect("a connection");
    let known =
        store::repos::find_by_name(&mut db, api.hub.project.id, &name).await.expect("it is read").expect("it is there");
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
async fn a_url_with_a_password_in_an_odd_place_is_repeated_to_nobody(pool: Pool) {
    let api = api(&pool).await;
    let lines = testing::Lines::default();
    let writer = lines.clone();
    let subscriber =
        tracing_subscriber::fmt().with_max_level(tracing::Level::DEBUG).with_writer(move || writer.clone()).finish();
    let guard = tracing::subscriber::set_default(subscriber);
    let urls = [
        "https://ada:hunter2@git.example.org:port/apps.git",
        "https://ada%3Ahunter2@git.example.org/apps.git",
        "https://git.example.org/apps.git?access_token=hunter2",
        "https://git.example.org/apps.git#hunter2",
        "ssh://git:hunter2@git.example.org/apps.git",
        "git:hunter2@git.example.org:apps.git",
        "hunter2:x-oauth-basic@git.example.org/apps.git",
        "oci://ada:hunter2@git.example.org/apps",
    ];

    for url in urls {
        let (status, answer) = api.ask("PUT", "/repos/apps", &repo(url, None)).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{url}: {answer}");
        assert!(!answer.contains("hunter2"), "{url}: {answer}");
    }

    drop(guard);
    let logged = lines.text();
    assert!(!logged.contains("hunter2"), "{logged}");
    let mut db = pool.acquire().await.expect("a connection");
    let bodies = store::audit::list_bodies(&mut db).await.expect("the log can be read");
    assert!(bodies.iter().all(|body| !String::from_utf8_lossy(body).contains("hunter2")));
}
