//! Secrets that SOPS sealed, in a real API server: opened with what only the cluster has, and told by nobody.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_core::Generation;
use bellwether_core::drift::Change;
use bellwether_core::report::{ObjectLine, Outcome, Report, Verdict};
use bellwether_core::sealed::{KEYS_SECRET, SEALED_ANNOTATION};
use serde_json::{Value, json};

use crate::fixture::Fixture;

/// What real `sops` wrote: see `agent/sops/tests/files/make.sh`.
const FIRST: &str = include_str!("../../sops/tests/files/anywhere.json");
const LATER: &str = include_str!("../../sops/tests/files/later.json");
const OF_SHOP: &str = include_str!("../../sops/tests/files/secret.json");
const ONE: &str = include_str!("../../sops/tests/files/one.agekey");
const TWO: &str = include_str!("../../sops/tests/files/two.agekey");

const PASSWORD: &str = "swordfish77";
const LATER_PASSWORD: &str = "hammerhead88";
const TOKEN: &str = "canary-token";

/// As a render makes it of such a document.
fn sealed(fixture: &Fixture, text: &str) -> Value {
    let mut object = fixture.object("v1", "Secret", "db", &json!({}));
    object["metadata"]["annotations"] = json!({SEALED_ANNOTATION: text});
    object
}

fn line(report: &Report) -> Option<&ObjectLine> {
    report.lines.iter().find(|line| line.key.kind == "Secret")
}

fn is_done(generation: i64) -> impl Fn(&Report) -> bool {
    move |report| report.generation == Generation::new(generation) && report.verdict == Verdict::Healthy
}

fn is_refused(generation: i64) -> impl Fn(&Report) -> bool {
    let is_it = move |report: &Report| report.generation == Generation::new(generation);
    move |report| is_it(report) && line(report).is_some_and(|line| line.outcome == Outcome::Rejected)
}

async fn put_key(fixture: &Fixture, name: &str, identity: &str) {
    let path = format!("/api/v1/namespaces/{}/secrets", fixture.home);
    let metadata = json!({"name": KEYS_SECRET});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {name: identity}});
    if name.ends_with("first.agekey") {
        fixture.post(&path, &secret).await;
    } else {
        fixture.merge(&format!("{path}/{KEYS_SECRET}"), "somebody", &json!({"stringData": {name: identity}})).await;
    }
}

/// None of what is sealed, in no spelling.
fn assert_tells_nothing(what: &str, text: &str) {
    for secret in [PASSWORD, LATER_PASSWORD, TOKEN] {
        let encoded = STANDARD.encode(secret);
        assert!(!text.contains(secret) && !text.contains(&encoded), "{what} tells {secret}");
    }
}

#[tokio::test]
async fn a_sealed_secret_is_opened_when_its_key_comes_and_nothing_tells_what_it_holds() {
    let mut fixture = fixture!();
    let (log, mut agent) = fixture.start_agent_process_with_log();
    let objects = |text: &str| [fixture.namespace_object(), sealed(&fixture, text), fixture.config_map("a", "1")];

    // Without a key the others are applied, and it is said what lacks.
    fixture.assign(1, &objects(FIRST));
    let report = fixture.report(is_refused(1)).await;
    let told = line(&report).expect("it is told");
    let recipient = ONE.lines().find_map(|line| line.strip_prefix("# public key: ")).expect("it is said");
    assert!(told.message.contains(recipient) && told.message.contains(KEYS_SECRET), "{}", told.message);
    assert!(told.hint.contains(".agekey"), "{}", told.hint);
    fixture.wait_for_value("a", "1").await;

    // It heals without another revision.
    put_key(&fixture, "first.agekey", ONE).await;
    fixture.report(is_done(1)).await;
    let secret = fixture.fetch("Secret", "db").await;
    let encoded = |text: &str| Value::from(STANDARD.encode(text));
    assert_eq!(secret["data"]["password"], encoded(PASSWORD));
    assert_eq!((&secret["data"]["token"], &secret["data"]["empty"]), (&encoded(TOKEN), &json!("")));
    assert_eq!(secret["metadata"]["labels"]["bellwether.dev/target"], fixture.target.as_uuid().simple().to_string());
    let metadata = &secret["metadata"];
    assert!(metadata["annotations"].get(SEALED_ANNOTATION).is_none() && secret.get("sops").is_none(), "{metadata}");

    // What somebody changes is put right, and told without a value.
    let path = format!("/api/v1/namespaces/{}/secrets/db", fixture.namespace);
    let theirs = STANDARD.encode("theirs");
    fixture.merge(&path, "kubectl-edit", &json!({"data": {"password": theirs}})).await;
    let drift = fixture.drifts(1).await.remove(0);
    assert_eq!((drift.change, drift.fields.as_slice()), (Change::Modified, &[".data.password".to_owned()][..]));
    assert!(drift.values.values.is_empty(), "{:?}", drift.values);
    fixture.wait_for_path(&path, |secret| secret["data"]["password"] == encoded(PASSWORD)).await;

    // Another key, as of a rotation: what was there stays until it is in the cluster, too.
    fixture.assign(2, &objects(LATER));
    fixture.report(is_refused(2)).await;
    assert_eq!(fixture.fetch("Secret", "db").await["data"]["password"], encoded(PASSWORD));
    put_key(&fixture, "second.agekey", TWO).await;
    fixture.report(is_done(2)).await;
    assert_eq!(fixture.fetch("Secret", "db").await["data"]["password"], encoded(LATER_PASSWORD));

    agent.kill().await.expect("ends");
    assert_tells_nothing("the log", &std::fs::read_to_string(log).expect("has a log"));
    assert_tells_nothing("a report", &format!("{:?}", fixture.hub.reports(fixture.target)));
    assert_tells_nothing("a drift", &format!("{:?}", fixture.hub.drifts()));
    let journal = fixture.journal_text().await;
    assert!(journal.contains("ENC[AES256_GCM,"), "it is there as it was sent");
    assert_tells_nothing("the journal", &journal);
}

#[tokio::test]
async fn a_sealed_secret_that_was_changed_or_is_another_is_refused_and_what_is_there_stays() {
    let mut fixture = fixture!();
    put_key(&fixture, "first.agekey", ONE).await;
    fixture.assign(1, &[fixture.namespace_object(), sealed(&fixture, FIRST)]);
    fixture.start_agent();
    fixture.report(is_done(1)).await;
    let before = fixture.fetch("Secret", "db").await;

    let relabelled = FIRST.replace("\"app\": \"shop\"", "\"app\": \"other\"");
    assert_ne!(relabelled, FIRST);
    for (generation, text, words) in
        [(2, relabelled.as_str(), "its MAC is another one"), (3, OF_SHOP, "another object")]
    {
        fixture.assign(generation, &[fixture.namespace_object(), sealed(&fixture, text)]);
        let report = fixture.report(is_refused(generation)).await;

        let told = &line(&report).expect("it is told").message;
        assert!(told.contains(words), "{told}");
        assert_eq!(fixture.fetch("Secret", "db").await["data"], before["data"]);
    }
}

#[tokio::test]
async fn a_key_of_one_namespace_opens_nothing_that_is_applied_into_another() {
    let mut fixture = fixture!();
    put_key(&fixture, "others_first.agekey", ONE).await;
    fixture.assign(1, &[fixture.namespace_object(), sealed(&fixture, FIRST)]);
    fixture.start_agent();
    let report = fixture.report(is_refused(1)).await;

    let told = &line(&report).expect("it is told").message;
    assert!(told.contains(&format!("opens in namespace {}", fixture.namespace)), "{told}");
    assert!(told.contains("1 identities, of which 1 are for other namespaces"), "{told}");

    put_key(&fixture, &format!("{}_second.agekey", fixture.namespace), ONE).await;
    fixture.report(is_done(1)).await;
}

#[tokio::test]
async fn who_refuses_a_sealed_secret_in_words_that_quote_it_is_not_quoted() {
    let mut fixture = fixture!();
    let gateway = fixture.put_gateway_before("secrets").await;
    put_key(&fixture, "first.agekey", ONE).await;
    let words = format!("the firewall dislikes {PASSWORD}, and {}", STANDARD.encode(TOKEN));
    gateway.refuse_saying(http::StatusCode::FORBIDDEN, &words, |method, uri| {
        *method == http::Method::PATCH && uri.path().ends_with("/secrets/db")
    });
    fixture.assign(1, &[fixture.namespace_object(), sealed(&fixture, FIRST)]);
    let (log, mut agent) = fixture.start_agent_process_with_log();

    fixture.report(|report| line(report).is_some_and(|line| line.message.contains("they are left out"))).await;

    agent.kill().await.expect("ends");
    assert_tells_nothing("the log", &std::fs::read_to_string(log).expect("has a log"));
    assert_tells_nothing("a report", &format!("{:?}", fixture.hub.reports(fixture.target)));
    assert_tells_nothing("the journal", &fixture.journal_text().await);
}

#[tokio::test]
async fn a_sealed_secret_that_did_not_change_costs_a_new_assignment_no_request_and_no_key() {
    let mut fixture = fixture!();
    let gateway = fixture.put_gateway_before("secrets").await;
    put_key(&fixture, "first.agekey", ONE).await;
    fixture.assign(1, &[fixture.namespace_object(), sealed(&fixture, FIRST), fixture.config_map("a", "1")]);
    fixture.start_agent();
    fixture.report(is_done(1)).await;

    gateway.follow_requests();
    fixture.assign(2, &[fixture.namespace_object(), sealed(&fixture, FIRST), fixture.config_map("a", "2")]);
    fixture.report(is_done(2)).await;

    let requests = gateway.followed().requests;
    let of_it = |request: &&String| request.contains(KEYS_SECRET) || request.ends_with(" db");
    assert_eq!(requests.iter().find(of_it), None, "{requests:?}");
}
