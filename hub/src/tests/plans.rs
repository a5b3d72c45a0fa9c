//! What would change where, before it is merged: told to people, and given to nobody.

use std::sync::Arc;
use std::time::Duration;

use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_core::repo::ForcePush;
use bellwether_core::session::Prune;
use serde_json::{Value, json};

use super::engines;
use super::scene::{ANOTHER, ONE, Scene, finish, label};
use crate::source::git::signers::Signer;
use crate::store::work::Stage;
use crate::store::{self, Pool};

fn map(name: &str, data: &str) -> String {
    format!("{{apiVersion: v1, kind: ConfigMap, metadata: {{name: {name}, namespace: default}}, data: {{{data}}}}}")
}

impl Scene {
    /// From a push to healthy clusters.
    async fn deployed(pool: &Pool, clusters: i64, files: &[(&str, &str)]) -> Self {
        let scene = Self::new(pool, clusters).await;
        scene.roll_out(files, 1).await;
        scene
    }

    /// Onto a branch that begins where `main` is, and that no target follows.
    fn propose(&self, files: &[(&str, &str)]) -> String {
        self.upstream.git(["branch", "--force", "feature", "main"], b"");
        self.upstream.push("feature", "A proposal", files)
    }

    /// No cluster is asked: there is no agent here that would answer.
    async fn plan(&self, mut asked: Value) -> Value {
        asked["dryRun"] = json!("none");
        let (status, plan) = self.ask("POST", "/targets/one/plan", &asked.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{plan}");
        plan
    }

    async fn plan_feature(&self) -> Value {
        self.plan(json!({"ref": {"branch": "feature"}})).await
    }
}

fn codes(conditions: &Value) -> Vec<&str> {
    conditions.as_array().into_iter().flatten().filter_map(|one| one["code"].as_str()).collect()
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_branch_is_planned_and_changes_nothing_until_it_is_merged_when_exactly_that_arrives(pool: Pool) {
    let (before, after) = (map("one", "a: x, b: same"), map("one", "a: z, b: same"));
    let scene = Scene::deployed(&pool, 2, &[("one/a.yaml", &before), ("one/b.yaml", ANOTHER)]).await;
    let commit = scene.propose(&[("one/a.yaml", &after), ("one/c.yaml", &map("new", "c: d"))]);
    let (rows, runs, entries) = (scene.counts().await, scene.listings().await, scene.entries().await.len());

    let plan = scene.plan_feature().await;

    assert_eq!((scene.counts().await, scene.listings().await), (rows, runs), "nothing is written");
    let new = scene.entries().await.split_off(entries);
    assert_eq!(new.len(), 1, "{new:?}");
    assert_eq!((&new[0]["action"], &new[0]["commit"]), (&json!("target.planned"), &json!(commit)));
    assert_eq!((&plan["comparedWith"], &plan["head"]["commit"]), (&json!("assigned"), &json!(commit)));
    assert_eq!((&plan["differs"], &plan["holds"], &plan["unplanned"]), (&json!(true), &Value::Null, &Value::Null));
    let group = &plan["groups"][0];
    assert_eq!(
        (plan["groups"].as_array().map(Vec::len), &group["clusters"]),
        (Some(1), &json!(["cluster-1", "cluster-2"]))
    );
    let counts = json!({"created": 1, "changed": 1, "moved": 0, "pruned": 0, "left": 0, "unchanged": 1});
    assert_eq!(group["counts"], counts);
    let changed = &group["objects"][1];
    assert_eq!((&changed["name"], changed["fields"].as_array().map(Vec::len)), (&json!("one"), Some(1)));
    assert_eq!((&changed["fields"][0]["pointer"], &changed["fields"][0]["after"]), (&json!("/data/a"), &json!("z")));
    assert_eq!(plan["waves"][0]["clusters"], json!(["cluster-1", "cluster-2"]));
    assert_eq!(plan["base"][0]["clusters"], 2);

    scene.roll_out(&[("one/a.yaml", &after), ("one/c.yaml", &map("new", "c: d"))], 2).await;

    let (_, rendered) = scene.ask("GET", "/targets/one/render?cluster=cluster-1", "").await;
    assert_eq!(rendered["runs"], rendered["digest"]);
    let values: Vec<_> =
        rendered["objects"].as_array().expect("objects").iter().map(|one| &one["body"]["data"]).collect();
    assert!(values.contains(&&json!({"a": "z", "b": "same"})) && values.contains(&&json!({"c": "d"})), "{rendered}");
    let plan = scene.plan_feature().await;
    assert_eq!((&plan["differs"], &plan["waves"]), (&json!(false), &json!([])), "{plan}");
    assert_eq!(plan["groups"][0]["counts"]["unchanged"], 3);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_goes_moves_and_is_assigned_nowhere_yet_is_planned_as_such(pool: Pool) {
    let mut scene = Scene::deployed(&pool, 1, &[("one/a.yaml", ONE), ("one/b.yaml", ANOTHER)]).await;
    scene.join().await;
    let moved = ONE.replace("namespace: default", "namespace: elsewhere");
    scene.propose(&[("one/a.yaml", &moved), ("one/b.yaml", "")]);

    let plan = scene.plan_feature().await;

    let told = |group: &Value| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let objects = group["objects"].as_array().expect("objects").iter();
        objects.map(|object| (text(&object["name"]), text(&object["change"]))).collect()
    };
    let of = |cluster: &str| {
        let groups = plan["groups"].as_array().expect("groups").iter();
        groups.clone().find(|group| group["clusters"] == json!([cluster])).expect("a group")
    };
    let pairs = |pairs: &[(&str, &str)]| -> Vec<(String, String)> {
        pairs.iter().map(|(name, change)| ((*name).to_owned(), (*change).to_owned())).collect()
    };
    assert_eq!(told(of("cluster-1")), pairs(&[("another", "pruned"), ("one", "moved")]));
    assert_eq!((told(of("cluster-2")), &of("cluster-2")["firstInstall"]), (pairs(&[("one", "created")]), &json!(true)));
    assert_eq!(of("cluster-1")["objects"][1]["fromNamespace"], "default");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_secrets_hold_is_planned_as_changed_and_told_nowhere(pool: Pool) {
    let secret = |password: &str| {
        let metadata =
            "{name: db, namespace: default, annotations: {kubectl.kubernetes.io/last-applied-configuration: aged-x}}";
        format!(
            "{{apiVersion: v1, kind: Secret, metadata: {metadata}, stringData: {{password: {password}, user: shop-user}}}}"
        )
    };
    let deployment = |password: &str, checksum: &str| {
        format!(
            "{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: web, namespace: default}}, spec: {{template: \
             {{metadata: {{annotations: {{checksum/secret: \"{checksum}\"}}}}, spec: {{containers: [{{name: web, image: a, \
             env: [{{name: URL, value: \"db://{password}@host\"}}]}}]}}}}}}}}"
        )
    };
    let files = |password: &str, checksum: &str| [secret(password), deployment(password, checksum)];
    let [one, two] = files("hunter2-before", "5e1f00d5e1f00d");
    let scene = Scene::deployed(&pool, 1, &[("one/a.yaml", &one), ("one/b.yaml", &two)]).await;
    let [one, two] = files("hunter2-after", "77aa77aa77aa77");
    scene.propose(&[("one/a.yaml", &one.replace("aged-x", "aged-y")), ("one/b.yaml", &two)]);

    let plan = scene.plan_feature().await;

    let text = plan.to_string();
    // In base64: aHVudGVyMi1…
    for told in ["hunter2", "aHVudGVy", "5e1f00d5e1f00d", "77aa77aa77aa77", "aged-", "sha256:"] {
        assert!(!text.contains(told), "{told}: {text}");
    }
    let objects = plan["groups"][0]["objects"].as_array().expect("objects");
    let pointers = |object: &Value| -> Vec<String> {
        let fields = object["fields"].as_array().expect("fields").iter();
        fields.map(|field| field["pointer"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let secret = objects.iter().find(|object| object["kind"] == "Secret").expect("the Secret");
    let changed = ["/data/password", "/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration"];
    assert_eq!(pointers(secret), changed, "the user is the same");
    assert!(secret["fields"].as_array().is_some_and(|fields| fields.iter().all(|field| field["hidden"] == true)));
    let web = objects.iter().find(|object| object["kind"] == "Deployment").expect("the Deployment");
    assert_eq!((&web["restarts"], pointers(web).len()), (&json!(true), 2));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_nobody_signed_is_planned_and_said_not_to_roll_out(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    let ada = Signer::ssh(&["ed25519"]);
    scene.trust(&[&ada]).await;
    scene.upstream.push("main", "A push", &[("one/a.yaml", ONE)]);
    ada.sign_head(&scene.upstream, "main");
    scene.tell(Stage::Source, scene.repo.as_uuid()).await;
    for stage in [Stage::Source, Stage::Bundle, Stage::Rollout] {
        scene.reconcile(stage).await;
    }
    finish(&scene, 1).await;
    scene.propose(&[("one/a.yaml", &map("one", "a: x"))]);

    let plan = scene.plan_feature().await;
    assert_eq!(
        (codes(&plan["holds"]), &plan["groups"][0]["counts"]["changed"]),
        (vec!["revision_unsigned"], &json!(1))
    );
    ada.sign_head(&scene.upstream, "feature");
    let plan = scene.plan_feature().await;
    assert_eq!((&plan["holds"], &plan["head"]["verifiedBy"]), (&Value::Null, &json!(ada.id)));

    assert_eq!(scene.listings().await.len(), 1);
    let (_, condition) = scene.ask("GET", "/targets/one", "").await;
    assert_eq!(condition["status"]["condition"], Value::Null, "what is planned is no revision");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_branch_that_was_rewritten_is_planned_and_said_to_wait(pool: Pool) {
    let scene = Scene::deployed(&pool, 1, &[("one/a.yaml", ONE)]).await;
    scene.change_repo(|spec| spec.force_push = ForcePush::Block).await;
    let tree = scene.upstream.git(["rev-parse", "main^{tree}"], b"");
    scene.upstream.push_tree("main", &tree);

    let plan = scene.plan(json!({})).await;

    assert_eq!((codes(&plan["holds"]), &plan["differs"]), (vec!["head_rewritten"], &json!(false)), "{plan}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn clusters_that_cannot_be_rendered_for_are_told_with_the_reason_and_the_others_are_planned(pool: Pool) {
    let scene = Scene::deployed(&pool, 2, &[("one/a.yaml", ONE)]).await;
    label(&scene, 0, json!({"region": "eu"})).await;
    scene.propose(&[("one/a.yaml", &map("one", "a: \"${cluster.labels.region}\""))]);

    let plan = scene.plan_feature().await;

    assert_eq!(
        (plan["groups"].as_array().map(Vec::len), &plan["groups"][0]["clusters"]),
        (Some(1), &json!(["cluster-1"]))
    );
    let unplanned = &plan["unplanned"][0];
    let condition = &unplanned["condition"];
    assert_eq!((&unplanned["clusters"], &condition["code"]), (&json!(["cluster-2"]), &json!("variable_unset")));
    assert_eq!((&condition["file"], &plan["waves"][0]["clusters"]), (&json!("one/a.yaml"), &json!(["cluster-1"])));
    scene.propose(&[("one/a.yaml", "{")]);
    let plan = scene.plan_feature().await;
    assert_eq!((&plan["unplanned"][0]["clusters"], &plan["groups"]), (&json!(["cluster-1", "cluster-2"]), &json!([])));
    assert_eq!(scene.condition("one").await, None, "nothing is wrong with what the target follows");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn another_spec_is_planned_with_its_own_clusters_and_waves_and_is_not_stored(pool: Pool) {
    let scene = Scene::deployed(&pool, 3, &[("one/a.yaml", ONE)]).await;
    for number in [0, 1] {
        label(&scene, number, json!({"ring": format!("r{number}")})).await;
    }
    let (_, before) = scene.ask("GET", "/targets/one", "").await;
    let wave = |ring: &str| json!({"name": ring, "clusters": {"matchLabels": {"ring": ring}}});
    let selector = json!({"matchExpressions": [{"key": "ring", "operator": "In", "values": ["r0", "r1"]}]});
    let spec = json!({"repo": "apps", "path": "one", "namespace": "shop", "clusters": selector,
        "parameters": [{"values": {"password": "hunter2"}}], "rollout": {"waves": [wave("r1"), wave("r0")]}});
    scene.propose(&[("one/a.yaml", "{apiVersion: v1, kind: ConfigMap, metadata: {name: one}}")]);

    let plan = scene.plan(json!({"ref": {"branch": "feature"}, "spec": spec})).await;

    assert_eq!(plan["specChanges"], json!(["clusters", "namespace", "parameters", "rollout"]));
    assert_eq!(
        (&plan["unselected"], &plan["groups"][0]["objects"][0]["change"]),
        (&json!(["cluster-3"]), &json!("moved"))
    );
    let waves: Vec<_> = plan["waves"].as_array().expect("waves").iter().map(|wave| &wave["clusters"]).collect();
    assert_eq!(waves, [&json!(["cluster-2"]), &json!(["cluster-1"])]);
    let (_, after) = scene.ask("GET", "/targets/one", "").await;
    assert_eq!(before["spec"], after["spec"]);
    let entries = scene.entries().await;
    let entry = entries.iter().find(|entry| entry["action"] == "target.planned").expect("an entry");
    assert_eq!(entry["detail"]["spec"]["namespace"], "shop");
    assert!(!entry.to_string().contains("hunter2"), "{entry}");

    let (status, problem) = scene.ask("POST", "/targets/one/plan", r#"{"spec": {"repo": "nope"}}"#).await;
    assert_eq!((status, &problem["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("repo_not_found")));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn of_what_is_stored_no_more_it_is_not_said_what_would_change(pool: Pool) {
    let scene = Scene::deployed(&pool, 1, &[("one/a.yaml", ONE)]).await;
    scene.propose(&[("one/a.yaml", &map("one", "a: x"))]);
    // Another hub, which has nothing in memory.
    let (hub, _folder) = crate::testing::hub_beside(&pool, &scene.folder).await;
    let scene = Scene { hub, ..scene };
    store::execute_raw(&pool, "delete from objects").await.expect("an intruder can");

    let plan = scene.plan_feature().await;
    let object = &plan["groups"][0]["objects"][0];
    assert_eq!((&object["change"], &object["fields"]), (&json!("changed"), &json!([])), "{plan}");
    assert!(object["note"].as_str().is_some_and(|note| note.contains("not compared")), "{object}");

    let torn = "update bundles set manifest = ''::bytea";
    store::execute_raw(&pool, torn).await.expect("an intruder can");
    let (hub, _folder) = crate::testing::hub_beside(&pool, &scene.folder).await;
    let scene = Scene { hub, ..scene };
    let plan = scene.plan_feature().await;
    assert_eq!((&plan["groups"], &plan["unplanned"][0]["condition"]["code"]), (&json!([]), &json!("content_missing")));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_keeps_a_target_back_is_said_beside_its_plan(pool: Pool) {
    let scene = Scene::deployed(&pool, 1, &[("one/a.yaml", ONE)]).await;
    scene.propose(&[("one/a.yaml", "")]);
    store::execute_raw(&pool, "update target_states set held = true").await.expect("it is held");

    let plan = scene.plan_feature().await;

    assert_eq!(codes(&plan["holds"]), ["target_held", "renders_to_nothing"], "{plan}");
    assert_eq!(plan["groups"][0]["counts"]["pruned"], 1);
    store::execute_raw(&pool, "update target_states set held = false").await.expect("it is not");
    scene.push(&[("one/a.yaml", &map("one", "a: x"))]).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    let plan = scene.plan_feature().await;
    assert_eq!(codes(&plan["holds"])[0], "rollout_under_way", "{plan}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_ref_that_cannot_be_had_is_told_and_nothing_is_planned(pool: Pool) {
    let scene = Scene::deployed(&pool, 1, &[("one/a.yaml", ONE)]).await;
    scene.propose(&[]);

    let (status, problem) = scene.ask("POST", "/targets/one/plan", r#"{"ref": {"branch": "featur"}}"#).await;

    assert_eq!((status, &problem["code"]), (StatusCode::CONFLICT, &json!("plan_head_missing")));
    assert_eq!(problem["hint"], "did you mean `feature`?");
    // The same repo's branches only: what a host keeps elsewhere is nobody's to plan.
    let (status, _) = scene.ask("POST", "/targets/one/plan", r#"{"ref": {"branch": "../pull/1/head"}}"#).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(scene.entries().await.iter().filter(|entry| entry["action"] == "target.planned").count(), 0);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_branch_that_nobody_merged_is_not_given_what_is_frozen_for_the_target(pool: Pool) {
    let scene = engines::scene(&pool, 1, &engines::engine()).await;
    let options = json!({"helm": {"release": "one", "volatile": "freeze"}});
    scene.change_spec("one", |spec| spec.render = serde_json::from_value(options).expect("options")).await;
    let template = |kind: &str, field: &str, password: &str| {
        let metadata = "{name: one, namespace: default}";
        format!(
            "apiVersion: v1\nkind: {kind}\nmetadata: {metadata}\n{field}: {{password: \"x{{{{ {password} }}}}\"}}\n"
        )
    };
    let chart = ("one/Chart.yaml", "apiVersion: v2\nname: one\nversion: 1.0.0\n");
    let secret = template("Secret", "stringData", "randAlphaNum 30");
    scene.roll_out(&[chart, ("one/templates/a.yaml", &secret)], 1).await;
    let (_, rendered) = scene.ask("GET", "/targets/one/render?cluster=cluster-1&secrets=true", "").await;
    let password = rendered["objects"][0]["body"]["data"]["password"].as_str().expect("a password");
    let password = String::from_utf8(STANDARD.decode(password).expect("base64")).expect("text");
    let plan = scene.plan(json!({})).await;
    assert_eq!((&plan["differs"], &plan["notes"]), (&json!(false), &Value::Null), "what is followed has it: {plan}");
    // A part of it is no text that the Secret holds.
    let printed = template("ConfigMap", "data", "randAlphaNum 30 | trunc 12");
    scene.propose(&[("one/templates/a.yaml", &printed)]);

    let plan = scene.plan_feature().await;

    assert!(!plan.to_string().contains(&password[..13]), "{plan}");
    assert!(plan["notes"][0].as_str().is_some_and(|note| note.contains("leaves to chance")), "{plan}");
    scene.push(&[("one/templates/a.yaml", &printed)]).await;
    let plan = scene.plan_feature().await;
    assert_eq!(plan["notes"].as_array().map_or(0, Vec::len), 1, "it is another commit: {plan}");
    let plan = scene.plan(json!({})).await;
    assert_eq!(plan["notes"], Value::Null, "somebody merged it: {plan}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_plan_keeps_its_turn_until_its_work_ends_though_nobody_waits_for_it(pool: Pool) {
    let scene = Scene::deployed(&pool, 1, &[("one/a.yaml", ONE)]).await;
    let plans = Arc::clone(&scene.hub.reads.plans);
    let mut others = store::begin(&pool).await.expect("a transaction");
    store::lock_table(&mut others, "targets").await.expect("it is locked");
    let is_taken = async {
        while plans.available_permits() == 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };

    tokio::select! {
        (status, plan) = scene.ask("POST", "/targets/one/plan", "{}") => panic!("{status}: {plan}"),
        () = is_taken => {}
    }

    assert_eq!(plans.available_permits(), 1, "it goes on");
    drop(others);
    let all = tokio::time::timeout(Duration::from_secs(30), plans.acquire_many(2)).await;
    assert!(all.is_ok_and(|all| all.is_ok()), "its turn is over once it has ended");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_stayed_because_nothing_was_deleted_is_planned_to_go_once_something_is(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    scene.change_spec("one", |spec| spec.sync.prune = Prune::Never).await;
    scene.roll_out(&[("one/a.yaml", ONE), ("one/b.yaml", ANOTHER)], 1).await;
    scene.roll_out(&[("one/b.yaml", "")], 2).await;
    let (_, shown) = scene.ask("GET", "/targets/one", "").await;
    let mut spec = shown["spec"].clone();
    spec["sync"] = json!({"prune": "afterHealthy"});

    let (as_it_is, plan) = (scene.plan(json!({})).await, scene.plan(json!({"spec": spec})).await);

    assert_eq!(as_it_is["differs"], json!(false), "{as_it_is}");
    let object = &plan["groups"][0]["objects"][0];
    assert_eq!((&object["name"], &object["change"]), (&json!("another"), &json!("pruned")), "{plan}");
    assert_eq!((&plan["specChanges"], &plan["waves"]), (&json!(["sync"]), &json!([])));
    assert!(plan["notes"][0].as_str().is_some_and(|note| note.contains("without waves")), "{plan}");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_was_given_up_is_said_to_have_stopped_and_newer_content_is_not(pool: Pool) {
    let scene = Scene::deployed(&pool, 1, &[("one/a.yaml", ONE)]).await;
    scene.propose(&[("one/a.yaml", &map("one", "a: x"))]);
    assert_eq!(codes(&scene.plan(json!({})).await["holds"]), Vec::<&str>::new(), "it was done");
    store::execute_raw(&pool, "update rollouts set state = 'failed'").await.expect("it was given up");

    let (same, newer) = (scene.plan(json!({})).await, scene.plan_feature().await);

    assert_eq!(codes(&same["holds"]), ["rollout_stopped"], "{same}");
    assert_eq!(newer["holds"], Value::Null, "{newer}");
}
