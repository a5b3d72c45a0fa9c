//! Charts that leave something to chance, where their target has it frozen: who gets what, for how long, and where it lies.

use axum::http::StatusCode;
use bellwether_core::TargetId;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::engines::{engine, scene};
use super::scene::{Scene, finish};
use crate::store::frozen_seeds::FrozenSeed;
use crate::store::work::Stage;
use crate::store::{self, Pool};

const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: one, namespace: default}\n\
                      stringData: {password: {{ randAlphaNum 30 }}, id: {{ uuidv4 }}, at: {{ now | unixEpoch | quote }}}\n";
const CHART: [(&str, &str); 3] = [
    ("one/Chart.yaml", "apiVersion: v2\nname: one\nversion: 1.0.0\n"),
    ("one/templates/secret.yaml", SECRET),
    ("one/values.yaml", "replicas: 1\n"),
];
const BESIDE: [(&str, &str); 2] = [
    ("one/Chart.yaml", "apiVersion: v2\nname: one\nversion: 1.1.0\n"),
    (
        "one/templates/another.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: another, namespace: default}\ndata: {key: {{ sha256sum \"a\" }}}\n",
    ),
];

impl Scene {
    async fn freeze(&self, target: &str, volatile: Value) {
        let options = json!({"helm": {"release": "one", "volatile": volatile}});
        self.change_spec(target, |spec| {
            "one".clone_into(&mut spec.path);
            spec.render = serde_json::from_value(options).expect("options");
        })
        .await;
    }

    /// What the newest render of a target has for a cluster in its Secret.
    async fn secret_of(&self, target: &str, cluster: &str) -> Value {
        let asked = format!("/targets/{target}/render?cluster={cluster}&secrets=true");
        let (status, rendered) = self.ask("GET", &asked, "").await;
        assert_eq!(status, StatusCode::OK, "{rendered}");
        let mut objects = rendered["objects"].as_array().expect("objects").iter();
        let secret = objects.find(|object| object["body"]["kind"] == "Secret").expect("it has a Secret");
        secret["body"]["data"].clone()
    }

    async fn seed_of(&self, target: &str, generation: &str) -> FrozenSeed {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        let target = TargetId::new(self.id(target).await);
        let seed = store::frozen_seeds::find(&mut db, target, generation).await.expect("it is read");
        seed.expect("it was made")
    }

    async fn ask_number(&self, query: &'static str) -> i64 {
        let mut db = self.hub.pool.acquire().await.expect("a connection");
        store::ask_number(&mut db, query).await.expect("it is counted")
    }

    async fn render_both(&self) {
        for target in ["one", "two"] {
            self.tell(Stage::Bundle, self.id(target).await).await;
        }
        self.reconcile(Stage::Bundle).await;
    }
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_frozen_password_is_the_same_at_each_commit_and_another_for_another_target(pool: Pool) {
    let scene = scene(&pool, 2, &engine()).await;
    scene.push(&CHART).await;
    scene.freeze("one", json!("error")).await;
    scene.render_both().await;
    assert_eq!(scene.condition("one").await.as_deref(), Some("helm_volatile"), "nobody asked for it to be frozen");
    assert_eq!(scene.ask_number("select count(*) from frozen_seeds").await, 0);
    for target in ["one", "two"] {
        scene.freeze(target, json!("freeze")).await;
    }

    scene.render_both().await;

    assert_eq!((scene.condition("one").await, scene.condition("two").await), (None, None));
    let (first, other) = (scene.secret_of("one", "cluster-1").await, scene.secret_of("two", "cluster-1").await);
    assert_eq!(scene.secret_of("one", "cluster-2").await, first, "they share the bundle");
    for field in ["password", "id"] {
        assert_ne!(first[field], other[field]);
    }
    let bundles = scene.bundles_of("one").await;

    scene.push(&BESIDE).await;
    scene.reconcile(Stage::Bundle).await;

    assert_ne!(scene.bundles_of("one").await, bundles, "the commit changed something");
    assert_eq!(scene.secret_of("one", "cluster-1").await, first);
    assert_eq!(scene.secret_of("two", "cluster-1").await, other);
    assert_eq!(scene.ask_number("select count(*) from frozen_seeds").await, 2);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_is_frozen_follows_from_a_seed_that_lies_nowhere_but_sealed_for_its_target(pool: Pool) {
    let scene = scene(&pool, 1, &engine()).await;
    for target in ["one", "two"] {
        scene.freeze(target, json!("freeze")).await;
    }
    scene.push(&CHART).await;
    scene.reconcile(Stage::Bundle).await;
    let (one, two) = (scene.seed_of("one", "").await, scene.seed_of("two", "").await);
    let purpose = format!("frozen/{}/", scene.id("one").await);

    let opened = scene.hub.seal.open(&purpose, &one.sealed).expect("it is this target's");

    assert_eq!(opened.expose_secret().len(), 32);
    assert!(scene.hub.seal.open(&purpose, &two.sealed).is_err(), "and the other one is the other's");
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let found = store::list_tables_with(&mut db, opened.expose_secret()).await.expect("all are looked through");
    assert!(found.is_empty(), "it lies plain in {found:?}");
    let found = store::list_tables_with(&mut db, &one.sealed).await.expect("all are looked through");
    assert_eq!(found, ["frozen_seeds"], "what is there is found");
    drop(db);

    // Somebody who may write the table gives each the other's.
    let swap = "update frozen_seeds f set sealed = o.sealed from frozen_seeds o where o.target_id <> f.target_id";
    store::execute_raw(&scene.hub.pool, swap).await.expect("it is written");
    scene.push(&BESIDE).await;
    scene.reconcile(Stage::Bundle).await;

    assert_eq!(scene.condition("one").await.as_deref(), Some("frozen_unreadable"));
    assert_eq!(scene.seed_of("one", "").await.sealed, two.sealed, "nothing new takes its place by itself");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn another_word_makes_other_values_and_who_goes_back_gets_those_of_before(pool: Pool) {
    let scene = scene(&pool, 1, &engine()).await;
    scene.freeze("one", json!("freeze")).await;
    scene.push(&CHART).await;
    scene.render().await;
    finish(&scene, 1).await;
    let (first, before) = (scene.wanted().await, scene.runs(scene.clusters[0]).await.expect("it runs it"));
    let secret = scene.secret_of("one", "cluster-1").await;

    scene.freeze("one", json!({"freeze": 2})).await;
    scene.render().await;
    finish(&scene, 2).await;

    assert_eq!(scene.condition("one").await, None);
    let after = scene.runs(scene.clusters[0]).await.expect("it runs it");
    let changed = scene.secret_of("one", "cluster-1").await;
    assert!(after != before && changed["password"] != secret["password"] && changed["id"] != secret["id"]);

    assert_eq!(scene.roll_back_to(first).await, "done");
    assert_eq!(scene.runs(scene.clusters[0]).await, Some(before), "the earlier bundle");

    scene.freeze("one", json!("freeze")).await;
    scene.render().await;
    assert_eq!(scene.secret_of("one", "cluster-1").await, secret, "and the same is made of the same word");
    assert_eq!(scene.bundles_of("one").await, [before].into());
}

#[crate::store::database_test(migrations = "../migrations")]
async fn of_a_target_that_was_frozen_ever_anew_the_newest_hundred_are_kept(pool: Pool) {
    let scene = scene(&pool, 1, &engine()).await;
    let many = "insert into frozen_seeds select target_id, 'g' || n, '\\x00', now() - n * interval '1 minute' \
                  from targets, generate_series(1, 100) n";
    store::execute_raw(&scene.hub.pool, many).await.expect("they are written");
    scene.freeze("one", json!({"freeze": "new"})).await;

    scene.push(&CHART).await;
    scene.reconcile(Stage::Bundle).await;

    assert_eq!(scene.condition("one").await, None);
    let kept = "select count(*) from frozen_seeds f join targets t using (target_id) \
                 where t.name = 'one' and f.generation <> 'g100'";
    assert_eq!(scene.ask_number(kept).await, 100, "the new one, and all but the oldest");
    assert_eq!(scene.ask_number("select count(*) from frozen_seeds").await, 200, "the other target's are its own");
}
