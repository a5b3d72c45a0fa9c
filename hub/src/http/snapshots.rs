//! What every route answers, status and body, when it does what is asked and when it refuses; over a real Postgres.
//!
//! The snapshots are the API's contract in a form that a review sees: `snapshots/*.snap`, written anew by
//! `INSTA_UPDATE=always cargo test --workspace --lib --locked -- http::snapshots`. Ids, times and secrets are put aside.

use std::fmt::Write as _;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::testing::{Api, api};
use super::tests::ROUTES;
use crate::store::Pool;

/// Routes whose success needs a rollout, which the end-to-end tests have: here they are only refused.
const REFUSED_ONLY: &[(&str, &str)] = &[
    ("GET", "/rollouts/a"),
    ("GET", "/drift/a"),
    ("GET", "/rollouts/a/members"),
    ("POST", "/rollouts/a/intents"),
    ("GET", "/targets/a/render"),
    ("GET", "/targets/a/explain"),
    // Needs a repo that can be fetched.
    ("POST", "/targets/a/plan"),
    ("POST", "/targets/a/rollback"),
    ("POST", "/targets/a/release"),
    ("POST", "/repos/a/accept"),
    // Needs a repo by ssh, and answers something else each time.
    ("POST", "/repos/a/credential"),
    // Needs an agent that tells it.
    ("GET", "/clusters/a/definitions/a"),
];

/// A conversation with the API, as it is written down.
struct Transcript<'a> {
    api: &'a Api,
    text: String,
    /// Routes, as they stand in `ROUTES`, that have answered with success, and with a refusal.
    succeeded: Vec<(String, String)>,
    refused: Vec<(String, String)>,
}

impl<'a> Transcript<'a> {
    fn of(api: &'a Api) -> Self {
        Self { api, text: String::new(), succeeded: Vec::new(), refused: Vec::new() }
    }

    async fn ask(&mut self, method: &str, path: &str, body: &str) -> Value {
        let (status, answer) = self.api.ask(method, path, body).await;
        let value = serde_json::from_str(&answer).unwrap_or(Value::String(answer));
        let request = if body.is_empty() { String::new() } else { format!(" {body}") };
        let shown = if value == "" { String::new() } else { format!("{:#}\n", without_chance(value.clone())) };
        write!(self.text, "{method} {path}{request}\n{status}\n{shown}\n").expect("it is memory");
        let route = (method.to_owned(), route_of(path));
        let answered = if status.is_success() { &mut self.succeeded } else { &mut self.refused };
        answered.push(route);
        assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR, "{}", self.text);
        value
    }
}

/// The path with `a` where the name or id is.
fn route_of(path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    let parts = path.split('/').enumerate();
    let parts = parts.map(|(place, part)| if place == 2 && part != "verify" { "a" } else { part });
    parts.collect::<Vec<_>>().join("/")
}

fn without_chance(value: Value) -> Value {
    match value {
        Value::Object(map) => map.into_iter().map(|(key, value)| (key, without_chance(value))).collect(),
        Value::Array(all) => all.into_iter().map(without_chance).collect(),
        Value::String(text) => Value::String(shown(text)),
        other => other,
    }
}

fn shown(text: String) -> String {
    let is_secret = |prefix: &str| text.contains(prefix);
    let is_hex = text.len() >= 40 && text.chars().all(|one| one.is_ascii_hexdigit());
    let is_trace = text.len() == 32 && text.chars().all(|one| one.is_ascii_hexdigit());
    if text.parse::<uuid::Uuid>().is_ok() || is_trace {
        "<id>".to_owned()
    } else if text.parse::<jiff::Timestamp>().is_ok() {
        "<time>".to_owned()
    } else if text.parse::<std::net::SocketAddr>().is_ok() {
        "<address>".to_owned()
    } else if text.starts_with("apiVersion:") || text.starts_with("# Installs") {
        "<manifest>".to_owned()
    } else if is_secret("bwj_") || is_secret("bwt_") || is_secret("bww_") || is_hex {
        "<secret or digest>".to_owned()
    } else {
        text
    }
}

fn repo(url: &str) -> String {
    json!({"apiVersion": "bellwether.dev/v1", "kind": "Repo", "metadata": {"name": "apps"}, "spec": {"url": url}})
        .to_string()
}

fn target(spec: &Value) -> String {
    json!({"apiVersion": "bellwether.dev/v1", "kind": "Target", "metadata": {"name": "shop"}, "spec": spec}).to_string()
}

#[crate::store::database_test(migrations = "../migrations")]
async fn every_route_answers_as_it_did(pool: Pool) {
    let api = api(&pool).await;
    let mut all = (Vec::new(), Vec::new());
    let mut take = |name: &str, transcript: Transcript<'_>| {
        insta::assert_snapshot!(name, transcript.text);
        all.0.extend(transcript.succeeded);
        all.1.extend(transcript.refused);
    };

    let mut say = Transcript::of(&api);
    say.ask("POST", "/clusters", r#"{"name":"berlin","labels":{"ring":"canary"}}"#).await;
    say.ask("POST", "/clusters", r#"{"name":"berlin"}"#).await;
    say.ask("POST", "/clusters", r#"{"name":"Berlin"}"#).await;
    say.ask("GET", "/clusters", "").await;
    say.ask("GET", "/clusters?limit=0", "").await;
    say.ask("GET", "/clusters/berlin", "").await;
    say.ask("GET", "/clusters/berlim", "").await;
    say.ask("GET", "/clusters/berlin/targets", "").await;
    say.ask("GET", "/clusters/none/targets", "").await;
    say.ask("PUT", "/clusters/berlin/labels?version=1", r#"{"ring":"stable"}"#).await;
    say.ask("PUT", "/clusters/berlin/labels?version=1", r#"{"ring":"rest"}"#).await;
    say.ask("PUT", "/clusters/berlin/annotations", r#"{"contact":"Ann"}"#).await;
    say.ask("PUT", "/clusters/berlin/annotations?version=1", r#"{"contact":"Ben"}"#).await;
    say.ask("GET", "/clusters/berlin/apis", "").await;
    say.ask("GET", "/clusters/berlin/rbac", "").await;
    say.ask("GET", "/clusters/none/apis", "").await;
    say.ask("GET", "/clusters/berlin/definitions", "").await;
    say.ask("GET", "/clusters/berlin/definitions/a", "").await;
    say.ask("POST", "/clusters/berlin/reenroll", "").await;
    say.ask("POST", "/clusters/none/reenroll", "").await;
    say.ask("POST", "/clusters/berlin/revoke", "").await;
    say.ask("POST", "/clusters/none/revoke", "").await;
    say.ask("DELETE", "/clusters/berlin", "").await;
    say.ask("DELETE", "/clusters/berlin", "").await;
    take("clusters", say);

    let mut say = Transcript::of(&api);
    say.ask("PUT", "/repos/apps", &repo("https://git.example.org/apps.git")).await;
    say.ask("PUT", "/repos/apps", &repo("https://git.example.org/other.git")).await;
    say.ask("PUT", "/repos/apps", &repo("ssh://git.example.org/apps.git")).await;
    say.ask("GET", "/repos", "").await;
    say.ask("GET", "/repos?cursor=!", "").await;
    say.ask("GET", "/repos/apps", "").await;
    say.ask("GET", "/repos/aps", "").await;
    say.ask("PUT", "/repos/apps/credential", r#"{"token":"hunter2"}"#).await;
    say.ask("PUT", "/repos/aps/credential", r#"{"token":"hunter2"}"#).await;
    say.ask("POST", "/repos/apps/credential", "").await;
    say.ask("POST", "/repos/apps/webhook-secret", "").await;
    say.ask("POST", "/repos/aps/webhook-secret", "").await;
    say.ask("POST", "/repos/apps/refresh", "").await;
    say.ask("POST", "/repos/aps/refresh", "").await;
    say.ask("DELETE", "/repos/apps/credential", "").await;
    say.ask("DELETE", "/repos/aps/credential", "").await;
    say.ask("POST", "/repos/apps/accept", r#"{"commit":"1f0b7f9c2a6d4e8b9c3a5d7e1f0b7f9c2a6d4e8b"}"#).await;
    take("repos", say);

    let mut say = Transcript::of(&api);
    let sync = json!({"createNamespace": true, "replace": "immutable"});
    let shop = json!({"repo": "apps", "path": "shop", "namespace": "shop", "sync": sync});
    say.ask("PUT", "/targets/shop", &target(&shop)).await;
    say.ask("PUT", "/targets/shop", &target(&json!({"repo": "apps", "sync": sync}))).await;
    say.ask("PUT", "/targets/shop", &target(&json!({"repo": "aps"}))).await;
    say.ask("PUT", "/targets/shop", &target(&json!({"repo": "apps", "pth": "shop"}))).await;
    say.ask("GET", "/targets", "").await;
    say.ask("GET", "/targets?lmit=1", "").await;
    say.ask("GET", "/targets/shop", "").await;
    say.ask("GET", "/targets/shpo", "").await;
    say.ask("GET", "/targets/shop/render?cluster=none", "").await;
    say.ask("GET", "/targets/shop/explain?cluster=none&parameter=size", "").await;
    say.ask("POST", "/targets/none/plan", "{}").await;
    say.ask("POST", "/targets/shop/plan", r#"{"reff":{"branch":"main"}}"#).await;
    say.ask("POST", "/targets/shop/refresh", "").await;
    say.ask("POST", "/targets/none/refresh", "").await;
    say.ask("POST", "/targets/shop/rollback", r#"{"to":"0123","reason":"because"}"#).await;
    say.ask("POST", "/targets/shop/release", "{}").await;
    say.ask("POST", "/targets/none/release", "{}").await;
    say.ask("GET", "/status", "").await;
    say.ask("GET", "/status?target=none", "").await;
    say.ask("GET", "/status?targt=shop", "").await;
    say.ask("DELETE", "/repos/apps", "").await;
    say.ask("DELETE", "/targets/shop?mode=burn", "").await;
    say.ask("DELETE", "/targets/shop?mode=orphan", "").await;
    say.ask("DELETE", "/repos/aps", "").await;
    say.ask("PUT", "/repos/spare", &repo("https://git.example.org/spare.git").replace("apps", "spare")).await;
    say.ask("DELETE", "/repos/spare", "").await;
    take("targets", say);

    let mut say = Transcript::of(&api);
    let nobody = "0193f0a0-0000-7000-8000-00000000000a";
    say.ask("GET", "/rollouts", "").await;
    say.ask("GET", "/rollouts?state=strange", "").await;
    say.ask("GET", &format!("/rollouts/{nobody}"), "").await;
    say.ask("GET", &format!("/rollouts/{nobody}/members"), "").await;
    say.ask("POST", &format!("/rollouts/{nobody}/intents"), r#"{"intent":{"verb":"pause"}}"#).await;
    say.ask("POST", "/rollouts/none/intents", r#"{"intent":{"verb":"pause"}}"#).await;
    say.ask("GET", "/drift", "").await;
    say.ask("GET", "/drift?since=yesterday", "").await;
    say.ask("GET", &format!("/drift/{nobody}"), "").await;
    take("rollouts", say);

    let mut say = Transcript::of(&api);
    say.ask("GET", "/whoami", "").await;
    say.ask("POST", "/tokens", r#"{"name":"wallboard","ttlSeconds":600}"#).await;
    say.ask("POST", "/tokens", r#"{"name":"wallboard","ttlSeconds":600}"#).await;
    say.ask("GET", "/tokens", "").await;
    say.ask("DELETE", "/tokens/wallboard", "").await;
    say.ask("DELETE", "/tokens/wallboard", "").await;
    say.ask("DELETE", "/tokens/admin", "").await;
    say.ask("GET", "/audit?action=token.created", "").await;
    say.ask("GET", "/audit?actr=me", "").await;
    say.ask("POST", "/audit/verify", "").await;
    say.ask("GET", "/nothing", "").await;
    say.ask("PATCH", "/repos/apps", "").await;
    take("others", say);

    let is_in = |list: &[(String, String)], route: &(&str, &str)| {
        list.iter().any(|(method, path)| (method.as_str(), path.as_str()) == *route)
    };
    let silent: Vec<_> = ROUTES
        .iter()
        .filter(|route| !is_in(if REFUSED_ONLY.contains(route) { &all.1 } else { &all.0 }, route))
        .collect();
    assert!(silent.is_empty(), "no answer of these is written down: {silent:?}");
}
