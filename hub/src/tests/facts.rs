//! What clusters are rendered for besides their names and labels: annotations that people write, and facts that agents say.

use std::collections::BTreeMap;

use axum::http::StatusCode;
use bellwether_core::apis::Apis;
use bellwether_core::session::Profile;
use jiff::SignedDuration;
use serde_json::json;

use super::engines::{engine, scene as scene_with_engine};
use super::scene::{ONE, Scene, finish, say, shown};
use crate::process::clock;
use crate::store::work::{self, Stage};
use crate::store::{self, Pool};

fn config(value: &str) -> String {
    format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: one, namespace: default}}, data: {{value: \"{value}\"}}}}"
    )
}

/// What of target `one` a cluster is to get.
async fn value_of(scene: &Scene, cluster: &str) -> serde_json::Value {
    let (status, rendered) = scene.ask("GET", &format!("/targets/one/render?cluster={cluster}"), "").await;
    assert_eq!(status, StatusCode::OK, "{rendered}");
    rendered["objects"][0]["body"]["data"]["value"].clone()
}

async fn settle(scene: &Scene, time: i64) {
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;
    finish(scene, time).await;
}

async fn rollouts_of(scene: &Scene) -> i64 {
    scene.counts().await["rollouts"]
}

#[crate::store::database_test(migrations = "../migrations")]
async fn an_annotation_gives_its_cluster_what_it_says_and_concerns_who_reads_it(pool: Pool) {
    let scene = Scene::new(&pool, 2).await;
    let (status, _) = scene.ask("PUT", "/clusters/cluster-1/annotations", r#"{"a.io/contact": "Ann: \"x\"\n"}"#).await;
    assert_eq!(status, StatusCode::OK);
    scene.push(&[("one/a.yaml", &config("${cluster.annotations.a.io/contact:-nobody}")), ("two/a.yaml", ONE)]).await;
    settle(&scene, 1).await;
    assert_eq!(value_of(&scene, "cluster-1").await, "Ann: \"x\"\n");
    assert_eq!(value_of(&scene, "cluster-2").await, "nobody");

    let (status, shown) = scene.ask("PUT", "/clusters/cluster-2/annotations", r#"{"a.io/contact": "Bob"}"#).await;

    assert_eq!((status, &shown["annotations"]["a.io/contact"]), (StatusCode::OK, &json!("Bob")));
    assert_eq!(scene.reconcile(Stage::Bundle).await, [scene.id("one").await], "and nobody else");
    assert_eq!(value_of(&scene, "cluster-2").await, "Bob");
    let entries = scene.entries().await;
    let entry = entries.iter().rfind(|entry| entry["action"] == "cluster.annotated").expect("it stands in the log");
    assert_eq!(entry["detail"]["after"], json!({"a.io/contact": "Bob"}));
    let (status, refused) = scene.ask("PUT", "/clusters/cluster-2/annotations", r#"{"a": "\u001b[2J"}"#).await;
    assert_eq!((status, &refused["code"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("annotation_invalid")));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_fact_that_is_not_known_yet_is_told_by_name_and_comes_with_the_agents_word(pool: Pool) {
    let scene = Scene::new(&pool, 2).await;
    say(&scene, 0, json!({"kubernetes.minor": "1.33"})).await;
    scene.push(&[("one/a.yaml", &config("${cluster.facts.kubernetes.minor}"))]).await;
    scene.reconcile(Stage::Bundle).await;

    assert_eq!(value_of(&scene, "cluster-1").await, "1.33", "of one nothing is kept back because of another");
    assert_eq!(scene.condition("one").await.as_deref(), Some("fact_unknown"));
    let (status, refused) = scene.ask("GET", "/targets/one/render?cluster=cluster-2", "").await;
    assert_eq!((status, &refused["code"]), (StatusCode::CONFLICT, &json!("not_rendered")));
    let detail = refused["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("the fact `kubernetes.minor` of cluster cluster-2 is not known yet"), "{detail}");

    say(&scene, 1, json!({"kubernetes.minor": "1.32"})).await;
    scene.reconcile(Stage::Bundle).await;

    assert_eq!(scene.condition("one").await, None);
    assert_eq!(value_of(&scene, "cluster-2").await, "1.32");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn only_targets_that_read_a_fact_are_rendered_when_it_changes(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    say(&scene, 0, json!({"kubernetes.minor": "1.33", "kubernetes.version": "v1.33.1"})).await;
    scene.push(&[("one/a.yaml", &config("${cluster.facts.kubernetes.minor}")), ("two/a.yaml", ONE)]).await;
    settle(&scene, 1).await;
    let (renders, rollouts) = (scene.counts().await["renders"], rollouts_of(&scene).await);

    say(&scene, 0, json!({"kubernetes.minor": "1.33", "kubernetes.version": "v1.33.2"})).await;
    assert!(scene.reconcile(Stage::Bundle).await.is_empty(), "nobody reads the patch version");

    say(&scene, 0, json!({"kubernetes.minor": "1.34", "kubernetes.version": "v1.34.0"})).await;
    assert_eq!(scene.reconcile(Stage::Bundle).await, [scene.id("one").await]);
    assert_eq!(value_of(&scene, "cluster-1").await, "1.34");
    assert_eq!(scene.counts().await["renders"], renders, "a variant more of the same render");
    scene.reconcile(Stage::Rollout).await;
    assert_eq!(rollouts_of(&scene).await, rollouts + 1);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_fact_that_changes_no_byte_begins_no_rollout(pool: Pool) {
    let scene = Scene::new(&pool, 2).await;
    for number in 0..2 {
        say(&scene, number, json!({"kubernetes.version": "v1.33.1"})).await;
    }
    // It reads the version, and makes the same of it.
    let manifest = "# ${cluster.facts.kubernetes.version}\n".to_owned() + ONE;
    let parameters = json!([{"values": {"unused": "x"}}]);
    scene.change_spec("one", |spec| spec.parameters = serde_json::from_value(parameters).expect("sets")).await;
    let reads = config("${size:-1${cluster.facts.kubernetes.version:-}}");
    scene
        .change_spec("one", |spec| spec.parameters[0].values.insert("size".to_owned(), json!("2")).map_or((), drop))
        .await;
    scene.push(&[("one/a.yaml", &reads), ("two/a.yaml", &manifest)]).await;
    settle(&scene, 1).await;
    let rollouts = rollouts_of(&scene).await;

    say(&scene, 0, json!({"kubernetes.version": "v1.33.2"})).await;
    assert_eq!(scene.reconcile(Stage::Bundle).await, [scene.id("one").await], "it is rendered for it");
    scene.reconcile(Stage::Rollout).await;

    assert_eq!(rollouts_of(&scene).await, rollouts);
    assert_eq!(value_of(&scene, "cluster-1").await, "2");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn clusters_whose_facts_change_at_once_go_by_the_targets_own_waves(pool: Pool) {
    let waves = json!({"waves": [{"name": "canary", "count": 1}]});
    let scene = Scene::with(&pool, 4, &[], &waves).await;
    for number in 0..4 {
        say(&scene, number, json!({"kubernetes.minor": "1.33"})).await;
    }
    scene.push(&[("one/a.yaml", &config("${cluster.facts.kubernetes.minor}"))]).await;
    for time in 1..8 {
        settle(&scene, time).await;
    }
    let before = scene.listings().await;
    assert!(before.iter().all(|digest| digest.is_some() && *digest == before[0]), "all of them have it: {before:?}");

    for number in 0..4 {
        say(&scene, number, json!({"kubernetes.minor": "1.34"})).await;
    }
    scene.reconcile(Stage::Bundle).await;
    scene.decide("one").await;

    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let row = shown(&mut db, bellwether_core::TargetId::new(scene.id("one").await)).await;
    assert_eq!(row.kind.as_str(), "cluster_change");
    let after = scene.listings().await;
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    assert_eq!(moved, 1, "the canary, and nobody else before it is healthy");
    finish(&scene, 9).await;
    scene.reconcile(Stage::Rollout).await;
    let now = scene.listings().await;
    assert!(after.iter().zip(&now).any(|(before, after)| before != after), "then the others");
    drop(db);
    let renders = store::count_rows(&mut scene.hub.pool.acquire().await.expect("a connection"), &["renders"]).await;
    assert_eq!(renders.expect("counted")["renders"], 1);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_a_cluster_gets_and_where_a_parameter_comes_from_is_shown_as_it_is(pool: Pool) {
    let scene = Scene::new(&pool, 2).await;
    let spec = json!({"parameterFiles": ["params/${cluster.name}.yaml"]});
    let sets = json!([
        {"values": {"value": "for all"}},
        {"clusters": {"matchLabels": {"env": "prod"}}, "values": {"value": "for prod"}},
    ]);
    scene
        .change_spec("one", |target| {
            target.render = serde_json::from_value(spec).expect("options");
            target.parameters = serde_json::from_value(sets).expect("sets");
        })
        .await;
    super::scene::label(&scene, 0, json!({"env": "prod"})).await;
    scene
        .push(&[
            ("one/a.yaml", &config("${value}")),
            ("params/cluster-1.yaml", "value: from a file"),
            ("params/cluster-2.yaml", "other: 1"),
        ])
        .await;
    settle(&scene, 1).await;

    let (status, shown) = scene.ask("GET", "/targets/one/render?cluster=cluster-1", "").await;
    assert_eq!(status, StatusCode::OK, "{shown}");
    let listed = &scene.listing(scene.clusters[0]).await["one"];
    assert_eq!(shown["digest"], json!(listed.assignment.digest), "it is what the cluster is to run");
    assert_eq!(shown["runs"], shown["digest"]);
    assert_eq!(shown["objects"][0]["body"]["data"]["value"], "for prod");
    let (_, told) = scene.ask("GET", "/targets/one/explain?cluster=cluster-1&parameter=value", "").await;
    let layers = json!([
        {"value": "from a file", "file": "params/cluster-1.yaml"},
        {"value": "for all", "set": 1},
        {"value": "for prod", "set": 2, "selected": true},
    ]);
    assert_eq!(told["layers"], layers);
    let (_, told) = scene.ask("GET", "/targets/one/explain?cluster=cluster-1&parameter=cluster.labels.env", "").await;
    assert_eq!(told["layers"], json!([{"value": "prod", "selected": true}]));

    scene
        .change_spec("two", |target| {
            target.clusters = serde_json::from_value(json!({"matchLabels": {"env": "prod"}})).expect("a selector");
        })
        .await;
    let (status, refused) = scene.ask("GET", "/targets/two/render?cluster=cluster-2", "").await;
    assert_eq!((status, &refused["code"]), (StatusCode::CONFLICT, &json!("cluster_not_selected")));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_is_given_to_a_cluster_by_its_name_is_over_all_and_waits_for_who_joins_under_it(pool: Pool) {
    let mut scene = Scene::new(&pool, 1).await;
    let sets = json!([
        {"clusters": {"matchNames": ["cluster-2"]}, "values": {"value": "its own"}},
        {"clusters": {"matchLabels": {}}, "values": {"value": "selected"}},
    ]);
    scene.change_spec("one", |target| target.parameters = serde_json::from_value(sets).expect("sets")).await;
    scene.push(&[("one/a.yaml", &config("${value}")), ("two/a.yaml", ONE)]).await;
    settle(&scene, 1).await;
    assert_eq!(value_of(&scene, "cluster-1").await, "selected");

    scene.join().await;
    scene.tell(Stage::Bundle, scene.id("one").await).await;
    settle(&scene, 2).await;

    assert_eq!(value_of(&scene, "cluster-2").await, "its own");
    let (_, told) = scene.ask("GET", "/targets/one/explain?cluster=cluster-2&parameter=value", "").await;
    let layers = json!([
        {"value": "selected", "set": 2, "selected": true},
        {"value": "its own", "set": 1, "selected": true, "named": true},
    ]);
    assert_eq!(told["layers"], layers);
}

/// The agent of a cluster says its version and what it serves.
async fn see(scene: &Scene, number: usize, version: &str, apis: &str) {
    let facts = BTreeMap::from([("kubernetes.version".to_owned(), version.to_owned())]);
    let profile = Profile { facts, apis: Some(Apis::parse(apis).expect("names")), definitions: None };
    crate::link::tests::see(&scene.hub, scene.clusters[number], profile).await;
}

const PLAIN: &str = "apps/v1\nv1";
const MONITORED: &str = "apps/v1\nmonitoring.coreos.com/v1\nv1";

fn chart(value: &str) -> [(&'static str, String); 3] {
    let template = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: one, namespace: default}}\ndata: {{value: \"{value}\"}}\n"
    );
    [
        ("one/Chart.yaml", "apiVersion: v2\nname: one\nversion: 1.0.0\n".to_owned()),
        ("one/templates/a.yaml", template),
        ("two/a.yaml", ONE.to_owned()),
    ]
}

async fn push(scene: &Scene, files: &[(&str, String)]) {
    let files: Vec<_> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    scene.push(&files).await;
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_chart_sees_its_own_cluster_and_clusters_that_answer_alike_share_what_it_makes(pool: Pool) {
    let scene = scene_with_engine(&pool, 4, &engine()).await;
    for (number, apis) in [(0, PLAIN), (1, MONITORED), (2, "apps/v1\nother.io/v1\nv1")] {
        see(&scene, number, "v1.32.3", apis).await;
    }
    // The agent of the last one is of a version that does not look.
    push(&scene, &chart(r#"{{ .Capabilities.APIVersions.Has "monitoring.coreos.com/v1" }}"#)).await;
    scene.reconcile(Stage::Bundle).await;

    assert_eq!(scene.condition("one").await, None);
    assert_eq!(value_of(&scene, "cluster-2").await, "true");
    for other in ["cluster-1", "cluster-3", "cluster-4"] {
        assert_eq!(value_of(&scene, other).await, "false", "{other}");
    }
    let render = scene.wanted_of("one").await.render;
    assert_eq!(render.variables, ["cluster.apis.monitoring.coreos.com/v1"], "it has looked at nothing else");
    assert_eq!(render.variants.len(), 3, "yes, no, and not known");

    see(&scene, 0, "v1.33.0", PLAIN).await;
    see(&scene, 2, "v1.32.3", "apps/v1\nother.io/v1\nother.io/v2\nv1").await;
    assert!(scene.reconcile(Stage::Bundle).await.is_empty(), "nobody asks for the version, or for other.io");
    see(&scene, 0, "v1.33.0", MONITORED).await;
    assert_eq!(scene.reconcile(Stage::Bundle).await, [scene.id("one").await]);
    assert_eq!(value_of(&scene, "cluster-1").await, "true");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_chart_of_a_kustomization_sees_its_own_cluster_and_is_rendered_anew_when_that_is_upgraded(pool: Pool) {
    let scene = scene_with_engine(&pool, 3, &engine()).await;
    for (number, version) in [(0, "v1.32.3"), (1, "v1.33.1"), (2, "v1.33.1")] {
        see(&scene, number, version, PLAIN).await;
    }
    let [chart, template, two] = chart("{{ .Capabilities.KubeVersion.Version }}");
    let kustomization = "helmCharts: [{name: app, releaseName: one}]\n".to_owned();
    let files = [
        ("one/kustomization.yaml", kustomization),
        ("one/charts/app/Chart.yaml", chart.1.replace("name: one", "name: app")),
        ("one/charts/app/values.yaml", String::new()),
        ("one/charts/app/templates/a.yaml", template.1),
        two,
    ];
    push(&scene, &files).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Bundle).await;

    assert_eq!(scene.condition("one").await, None);
    for (cluster, version) in [("cluster-1", "v1.32.3"), ("cluster-2", "v1.33.1"), ("cluster-3", "v1.33.1")] {
        assert_eq!(value_of(&scene, cluster).await, version, "{cluster}");
    }
    let render = scene.wanted_of("one").await.render;
    assert_eq!((render.variables, render.variants.len()), (vec!["cluster.facts.kubernetes.version".to_owned()], 2));

    see(&scene, 1, "v1.33.1", MONITORED).await;
    assert!(scene.reconcile(Stage::Bundle).await.is_empty(), "nobody asks what it serves");
    see(&scene, 0, "v1.34.0", PLAIN).await;
    assert_eq!(scene.reconcile(Stage::Bundle).await, [scene.id("one").await]);
    assert_eq!(value_of(&scene, "cluster-1").await, "v1.34.0");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_chart_that_one_cluster_is_too_old_for_goes_to_the_others(pool: Pool) {
    let scene = scene_with_engine(&pool, 2, &engine()).await;
    see(&scene, 0, "v1.32.3", PLAIN).await;
    see(&scene, 1, "v1.33.1+k3s1", PLAIN).await;
    let [_, template, two] = chart("{{ .Capabilities.KubeVersion.Version }}");
    let needs = "apiVersion: v2\nname: one\nversion: 1.0.0\nkubeVersion: '>=1.33.0-0'\n".to_owned();
    push(&scene, &[("one/Chart.yaml", needs), template, two]).await;
    scene.reconcile(Stage::Bundle).await;

    assert_eq!(value_of(&scene, "cluster-2").await, "v1.33.1+k3s1");
    let condition = scene.condition_of("one").await.expect("one cannot have it");
    assert!(condition.message.contains("not for cluster-1") && condition.message.contains("v1.32.3"), "{condition:?}");

    see(&scene, 0, "v1.33.0", PLAIN).await;
    scene.reconcile(Stage::Bundle).await;
    assert_eq!(scene.condition("one").await, None);
    assert_eq!(value_of(&scene, "cluster-1").await, "v1.33.0");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_a_target_says_of_its_cluster_is_stronger_and_asks_no_cluster(pool: Pool) {
    let scene = scene_with_engine(&pool, 2, &engine()).await;
    see(&scene, 0, "v1.32.3", PLAIN).await;
    see(&scene, 1, "v1.33.1", MONITORED).await;
    let options = json!({"helm": {"kubeVersion": "1.30", "apiVersions": ["a.io/v1"]}});
    scene.change_spec("one", |spec| spec.render = serde_json::from_value(options).expect("options")).await;
    let value = r#"{{ .Capabilities.KubeVersion.Minor }} {{ .Capabilities.APIVersions.Has "a.io/v1" }} {{ .Capabilities.APIVersions.Has "batch/v1" }}"#;
    push(&scene, &chart(value)).await;
    scene.reconcile(Stage::Bundle).await;

    assert_eq!(value_of(&scene, "cluster-1").await, "30 true true", "what Helm has built in, and what is said");
    let render = scene.wanted_of("one").await.render;
    assert_eq!((render.variants.len(), render.variables.len()), (1, 0));
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_chart_that_comes_to_look_at_more_is_no_other_revision(pool: Pool) {
    let scene = scene_with_engine(&pool, 2, &engine()).await;
    for number in 0..2 {
        see(&scene, number, "v1.32.3", PLAIN).await;
    }
    let asks = r#".Capabilities.APIVersions.Has "monitoring.coreos.com/v1""#;
    push(&scene, &chart(&format!("{{{{ if {asks} }}}}{{{{ .Capabilities.KubeVersion.Minor }}}}{{{{ end }}}}"))).await;
    settle(&scene, 1).await;
    let before = scene.wanted_of("one").await;
    assert_eq!(before.render.variables.len(), 1);

    see(&scene, 1, "v1.32.3", MONITORED).await;
    scene.reconcile(Stage::Bundle).await;

    let after = scene.wanted_of("one").await;
    assert_eq!((after.since, after.render.variables.len()), (before.since, 2), "who was set aside stays so");
    assert_eq!((value_of(&scene, "cluster-1").await, value_of(&scene, "cluster-2").await), (json!(""), json!("32")));
    scene.decide("one").await;
    let mut db = scene.hub.pool.acquire().await.expect("a connection");
    let row = shown(&mut db, bellwether_core::TargetId::new(scene.id("one").await)).await;
    assert_eq!(row.kind.as_str(), "cluster_change");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn an_agent_that_says_something_new_again_and_again_is_rendered_for_so_often_and_the_others_go_on(pool: Pool) {
    let scene = Scene::new(&pool, 2).await;
    for number in 0..2 {
        say(&scene, number, json!({"kubernetes.minor": "1.33"})).await;
    }
    scene.push(&[("one/a.yaml", &config("${cluster.facts.kubernetes.minor}"))]).await;
    settle(&scene, 1).await;
    let running = scene.listings().await;
    scene.hub.told_renders.spend("cluster-1", 500);

    say(&scene, 0, json!({"kubernetes.minor": "1.34"})).await;
    say(&scene, 1, json!({"kubernetes.minor": "1.35"})).await;
    scene.reconcile(Stage::Bundle).await;
    scene.reconcile(Stage::Rollout).await;

    assert_eq!(scene.condition("one").await.as_deref(), Some("cluster_changes_too_often"));
    let (_, shown) = scene.ask("GET", "/targets/one", "").await;
    let text = shown.to_string();
    assert!(text.contains("not for cluster-1: too much was rendered lately for what its agent says of it"), "{text}");
    assert_eq!(value_of(&scene, "cluster-2").await, "1.35");
    let listings = scene.listings().await;
    assert_eq!((listings[0], listings[1] == running[1]), (running[0], false), "what runs goes on");

    // What another has made is there, and costs nothing.
    say(&scene, 0, json!({"kubernetes.minor": "1.35"})).await;
    scene.reconcile(Stage::Bundle).await;
    assert_eq!(scene.condition("one").await, None);
    assert_eq!(value_of(&scene, "cluster-1").await, "1.35");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_cluster_that_waits_is_told_and_tried_again_though_another_fails(pool: Pool) {
    let scene = Scene::new(&pool, 3).await;
    for number in 1..3 {
        say(&scene, number, json!({"kubernetes.minor": "1.33"})).await;
    }
    scene.push(&[("one/a.yaml", &config("${cluster.facts.kubernetes.minor}"))]).await;
    settle(&scene, 1).await;
    assert_eq!(scene.condition("one").await.as_deref(), Some("fact_unknown"), "the agent of the first says none");
    scene.hub.told_renders.spend("cluster-2", 500);

    say(&scene, 1, json!({"kubernetes.minor": "1.34"})).await;
    for _ in 0..3 {
        scene.reconcile(Stage::Bundle).await;
        scene.tell(Stage::Bundle, scene.id("one").await).await;
    }
    scene.reconcile(Stage::Bundle).await;

    let condition = scene.condition_of("one").await.expect("two clusters have nothing");
    assert_eq!(condition.code, "fact_unknown");
    let waits = "not for cluster-2: too much was rendered lately for what its agent says of it";
    assert!(condition.message.contains("not for cluster-1: ") && condition.message.contains(waits), "{condition:?}");
    let within_the_hour = clock::now() + SignedDuration::from_hours(1);
    let mut db = pool.acquire().await.expect("a connection");
    let due = work::list_due(&mut db, Stage::Bundle, within_the_hour, &[], 16).await.expect("what is due");
    let one = scene.id("one").await;
    let again = due.into_iter().find(|item| item.key == one).map(|item| item.rows.len());
    assert_eq!(again, Some(1), "once, however often it was found to wait");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn a_cluster_is_charged_for_what_its_agent_says_and_not_for_commits(pool: Pool) {
    let scene = Scene::new(&pool, 2).await;
    say(&scene, 1, json!({"kubernetes.minor": "1.33"})).await;
    scene.push(&[("one/a.yaml", &config("${cluster.facts.kubernetes.minor}"))]).await;
    settle(&scene, 1).await;
    // Two are left.
    scene.hub.told_renders.spend("cluster-1", 498);

    for push in 0..5 {
        scene.push(&[("README.md", &push.to_string())]).await;
        scene.reconcile(Stage::Bundle).await;
        assert_eq!(scene.condition("one").await.as_deref(), Some("fact_unknown"), "after {push} pushes");
    }
    say(&scene, 0, json!({"kubernetes.minor": "1.34"})).await;
    scene.reconcile(Stage::Bundle).await;

    assert_eq!(scene.condition("one").await, None);
    assert_eq!(value_of(&scene, "cluster-1").await, "1.34");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn for_a_cluster_that_waits_nothing_is_read_and_no_render_begins(pool: Pool) {
    let scene = Scene::new(&pool, 1).await;
    say(&scene, 0, json!({"kubernetes.minor": "1.33"})).await;
    scene.push(&[("one/a.yaml", &config("${cluster.facts.kubernetes.minor}"))]).await;
    settle(&scene, 1).await;
    scene.hub.told_renders.spend("cluster-1", 500);
    // Whoever begins is told that it must not.
    scene.die_of_rendering("one").await;

    say(&scene, 0, json!({"kubernetes.minor": "1.34"})).await;
    scene.reconcile(Stage::Bundle).await;

    assert_eq!(scene.condition("one").await.as_deref(), Some("cluster_changes_too_often"));
    let mut db = pool.acquire().await.expect("a connection");
    let deaths = store::ask_number(&mut db, "select count(*) from render_begins").await.expect("it is read");
    assert_eq!(deaths, 3, "nobody knows better yet");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_no_cluster_has_the_values_for_goes_also_when_each_commit_is_a_render_of_its_own(pool: Pool) {
    let scene = Scene::new(&pool, 3).await;
    for number in 0..2 {
        say(&scene, number, json!({"kubernetes.minor": "1.0"})).await;
    }
    scene.push(&[("one/a.yaml", &config("${cluster.facts.kubernetes.minor}"))]).await;
    settle(&scene, 1).await;
    assert_eq!(scene.condition("one").await.as_deref(), Some("fact_unknown"), "so each commit is looked at");

    for minor in 1..=104 {
        say(&scene, 0, json!({"kubernetes.minor": format!("1.{minor}")})).await;
        if minor > 100 {
            scene.push(&[("README.md", &minor.to_string())]).await;
        }
        scene.reconcile(Stage::Bundle).await;
    }

    let variants = scene.wanted_of("one").await.render.variants.len();
    assert!(variants < 50, "{variants} of them");
    assert_eq!(value_of(&scene, "cluster-2").await, "1.0");
}

#[crate::store::database_test(migrations = "../migrations")]
async fn what_was_rendered_for_facts_that_no_cluster_has_any_more_does_not_pile_up(pool: Pool) {
    let scene = Scene::new(&pool, 2).await;
    for number in 0..2 {
        say(&scene, number, json!({"kubernetes.minor": "1.0"})).await;
    }
    scene.push(&[("one/a.yaml", &config("${cluster.facts.kubernetes.minor}"))]).await;
    settle(&scene, 1).await;
    let (renders, rollouts) = (scene.counts().await["renders"], rollouts_of(&scene).await);
    let running = scene.listings().await;

    for minor in 1..=105 {
        say(&scene, 0, json!({"kubernetes.minor": format!("1.{minor}")})).await;
        scene.reconcile(Stage::Bundle).await;
    }

    let mut db = pool.acquire().await.expect("a connection");
    let variants = store::ask_number(&mut db, "select count(*) from render_variants").await.expect("it is read");
    assert!(variants <= 100, "{variants} of them");
    assert_eq!(scene.counts().await["renders"], renders);
    assert_eq!(value_of(&scene, "cluster-2").await, "1.0");
    scene.decide("one").await;
    let after = scene.listings().await;
    assert_eq!((after[1], after[0] == running[0]), (running[1], false), "the other goes on with what it has");
    assert_eq!(rollouts_of(&scene).await, rollouts + 1);
}

#[crate::store::database_test(migrations = "../migrations")]
async fn clusters_that_each_read_of_another_api_are_rendered_for_once_each(pool: Pool) {
    const CLUSTERS: usize = 8;
    let scene = scene_with_engine(&pool, 8, &engine()).await;
    for number in 0..CLUSTERS {
        see(&scene, number, "v1.33.1", &format!("apps/v1\nof{}.io/v1\nv1", number + 1)).await;
    }
    let options = json!({"helm": {"values": {"name": "${cluster.name}"}}});
    scene.change_spec("one", |spec| spec.render = serde_json::from_value(options).expect("options")).await;
    let ask = |number| {
        format!(
            "{{{{ if eq .Values.name `cluster-{number}` }}}}{{{{ .Capabilities.APIVersions.Has `of{number}.io/v1` }}}}{{{{ end }}}}"
        )
    };
    let before = scene.hub.metrics.variants.get();

    push(&scene, &chart(&(1..=CLUSTERS).map(ask).collect::<String>())).await;
    scene.reconcile(Stage::Bundle).await;

    // One more is of target `two`, and one was made before it was known that APIs are read.
    assert_eq!(scene.hub.metrics.variants.get() - before, CLUSTERS as u64 + 2);
    assert_eq!(scene.condition("one").await, None);
    let render = scene.wanted_of("one").await.render;
    assert_eq!((render.variants.len(), render.variables.len()), (CLUSTERS, CLUSTERS + 1));
    for number in 1..=CLUSTERS {
        assert_eq!(value_of(&scene, &format!("cluster-{number}")).await, "true");
    }
}
