//! From text to objects: what a person writes, and what comes out.

use bellwether_core::Digest;
use bellwether_core::object::OBJECT_BYTES_MAX;
use bellwether_core::parameters::{ClusterFacts, ParameterSet, Parameters, Values};
use serde_json::{Value, json};

use super::*;

fn file(path: &str, text: &str) -> SourceFile {
    SourceFile { path: path.to_owned(), bytes: text.as_bytes().to_vec() }
}

fn parse(text: &str) -> Result<Documents, RenderError> {
    Documents::parse(&[file("a.yaml", text)])
}

fn recipe() -> Recipe {
    let target = serde_json::from_value(json!("0193f0a0-0000-7000-8000-00000000000a")).expect("is an id");
    Recipe {
        marks: Some(Marks { target, owner: "main/shop/web".to_owned() }),
        namespace: Some("shop".to_owned()),
        agents: BTreeSet::new(),
    }
}

fn values(values: Value) -> Values {
    let name = "berlin".parse().expect("is a name");
    let labels = [("region", "eu"), ("replicas", "3"), ("zip", "01234"), ("release", "1.10")];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned())).into();
    let values = serde_json::from_value(values).expect("is a map");
    let sets = [ParameterSet { clusters: None, values }];
    Parameters::resolve(&sets, ClusterFacts::new(&name, &labels))
}

fn render_with(text: &str, parameters: Value) -> Result<Vec<RenderedObject>, RenderError> {
    parse(text)?.render(&recipe(), &values(parameters))
}

fn render(text: &str) -> Result<Vec<RenderedObject>, RenderError> {
    render_with(text, json!({}))
}

fn body(object: &RenderedObject) -> Value {
    serde_json::from_slice(&object.body).expect("is JSON")
}

fn only(text: &str, parameters: Value) -> Value {
    let objects = render_with(text, parameters).expect("renders");
    assert_eq!(objects.len(), 1);
    body(&objects[0])
}

fn refusal(text: &str) -> RenderError {
    render(text).expect_err("is refused")
}

/// A ConfigMap with these lines under `data:`.
fn config(data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\ndata:\n{data}")
}

#[test]
fn an_object_is_completed_and_stripped() {
    let object = only(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, uid: u, resourceVersion: '1', generation: 2,\n  \
         managedFields: [], creationTimestamp: null, selfLink: /x, finalizers: [f]}\ndata: {k: v}\nstatus: {x: 1}\n",
        json!({}),
    );

    assert_eq!(
        object,
        json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {
                "name": "a",
                "namespace": "shop",
                "finalizers": ["f"],
                "labels": {"bellwether.dev/target": "0193f0a000007000800000000000000a"},
                "annotations": {"bellwether.dev/owner": "main/shop/web"},
            },
            "data": {"k": "v"},
        })
    );
}

#[test]
fn labels_are_added_to_the_object_and_not_to_its_template() {
    let object = only(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: a, labels: {app: a}}\n\
         spec: {template: {metadata: {labels: {app: a}, creationTimestamp: null}}}\n",
        json!({}),
    );

    assert_eq!(object["metadata"]["labels"]["app"], "a");
    let template = &object["spec"]["template"]["metadata"];
    assert_eq!(template, &json!({"labels": {"app": "a"}, "creationTimestamp": null}));
}

#[test]
fn the_same_files_in_any_order_give_the_same_bytes() {
    let (a, b) = (
        file("a.yaml", &config("  k: a\n")),
        file("b.json", r#"{"kind":"Secret","apiVersion":"v1","metadata":{"name":"b"}}"#),
    );
    let again =
        [file("b.json", &String::from_utf8_lossy(&b.bytes)), file("a.yaml", &String::from_utf8_lossy(&a.bytes))];
    let render = |files: &[SourceFile]| {
        Documents::parse(files).expect("parses").render(&recipe(), &values(json!({}))).expect("renders")
    };

    let objects = render(&[a, b]);

    assert_eq!(objects, render(&again));
    assert_eq!(
        objects.iter().map(|object| object.key.to_string()).collect::<Vec<_>>(),
        ["ConfigMap shop/a", "Secret shop/b"]
    );
    assert!(objects.iter().all(|object| object.digest == Digest::of(&object.body)));
}

#[test]
fn only_manifests_are_taken_and_nothing_may_come_out() {
    let files = [file("README.md", "# ${x}"), file("a.yaml", "# nothing\n---\n"), file("yaml", "x"), file("b.yml", "")];

    let documents = Documents::parse(&files).expect("parses");

    assert_eq!(documents.render(&recipe(), &Values::default()), Ok(vec![]));
}

#[test]
fn lists_are_unrolled_however_deep() {
    let item = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}});
    let inner = json!({"apiVersion": "v1", "kind": "ConfigMapList", "items": [item("b")]});
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [item("a"), inner]});

    let objects = render(&list.to_string()).expect("renders");

    assert_eq!(objects.iter().map(|object| object.key.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(render("apiVersion: v1\nkind: List\nitems: []\n"), Ok(vec![]));
}

#[test]
fn items_of_a_typed_list_are_of_its_kind() {
    let bare = json!({"metadata": {"name": "a"}});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "b"}});
    let list = |kind: &str| json!({"apiVersion": "v1", "kind": kind, "items": [bare, secret]}).to_string();

    let objects = render(&list("ConfigMapList")).expect("renders");

    let keys: Vec<_> = objects.iter().map(|object| object.key.to_string()).collect();
    assert_eq!(keys, ["ConfigMap shop/a", "Secret shop/b"]);
    assert_eq!(render(&list("List")).expect_err("a List is of no kind").code(), "object_without_api_version");
}

#[test]
fn what_is_no_object_is_refused_with_a_code_and_a_line() {
    for (text, code, line) in [
        ("- a\n", "object_invalid", 1),
        ("# c\nhello\n", "object_invalid", 2),
        ("kind: A\nmetadata: {name: a}\n", "object_without_api_version", 1),
        ("\n---\n\napiVersion: v1\nmetadata: {name: a}\n", "object_without_kind", 4),
        ("apiVersion: v1\nkind: A\n", "object_without_name", 1),
        ("apiVersion: v1\nkind: A\nmetadata:\n", "object_without_name", 1),
        ("apiVersion: v1\nkind: A\nmetadata: {name: ''}\n", "object_without_name", 1),
        ("apiVersion: v1\nkind: A\nmetadata: []\n", "field_type_wrong", 3),
        ("apiVersion: v1\nkind: A\nmetadata:\n  name: 12\n", "field_type_wrong", 4),
        ("apiVersion: 1\nkind: A\nmetadata: {name: a}\n", "field_type_wrong", 1),
        ("apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  namespace: 1\n", "field_type_wrong", 5),
        ("apiVersion: v1\nkind: A\nmetadata:\n  generateName: a-\n", "object_name_generated", 4),
        ("apiVersion: v1\nkind: A\nmetadata:\n  name: ../a\n", "object_name_invalid", 4),
        ("apiVersion: a/b/c\nkind: A\nmetadata: {name: a}\n", "object_name_invalid", 1),
        ("apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  namespace: a/b\n", "object_name_invalid", 5),
        (
            "apiVersion: v1\nkind: A\nmetadata:\n  name: a\n  annotations:\n    bellwether.dev/phase: first\n",
            "object_phase_invalid",
            6,
        ),
        (
            "apiVersion: v1\nkind: A\nmetadata:\n  name: a\n  annotations:\n    bellwether.dev/apply: onec\n",
            "object_apply_invalid",
            6,
        ),
        (
            "apiVersion: v1\nkind: A\nmetadata:\n  name: a\n  annotations:\n    bellwether.dev/replace: always\n",
            "object_replace_invalid",
            6,
        ),
        ("a: 1\nb: [\n", "yaml_invalid", 2),
    ] {
        let error = refusal(text);
        assert_eq!((error.code(), error.file(), error.line()), (code, Some("a.yaml"), Some(line)), "{text}: {error}");
        assert!(error.hint().is_some());
    }
}

#[test]
fn a_hook_that_is_to_have_another_name_each_time_has_one_for_each_content() {
    let job = |hook: &str, image: &str| {
        format!(
            "apiVersion: batch/v1\nkind: Job\nmetadata:\n  generateName: migrate-\n  annotations: {{{hook}}}\nspec: {{image: {image}}}\n"
        )
    };
    let key = |text: &str| render(text).expect("renders").remove(0).key.name;
    let (argos, helms) = ("argocd.argoproj.io/hook: PreSync", "helm.sh/hook: pre-install");

    let names = [job(argos, "one"), job(argos, "two"), job(helms, "one")].map(|text| key(&text));

    assert_eq!(names[0], key(&job(argos, "one")), "what did not change is not made again");
    assert!(names.iter().all(|name| name.len() == 18 && name.starts_with("migrate-")), "{names:?}");
    assert!(names[0] != names[1] && names[0] != names[2]);
    let object = render(&job(argos, "one")).expect("renders").remove(0);
    assert!(!String::from_utf8_lossy(&object.body).contains("generateName"));
    let long = job(argos, "one").replace("migrate-", &"a".repeat(100));
    assert_eq!(key(&long).len(), 63);
    let name_for = |target: Option<&str>| {
        let target = target.map(|target| serde_json::from_value(json!(target)).expect("is an id"));
        let marks = target.map(|target| Marks { target, owner: "main/shop/web".to_owned() });
        let documents = parse(&job(argos, "one")).expect("it is read");
        let mut objects = documents.render(&Recipe { marks, ..recipe() }, &values(json!({}))).expect("it renders");
        objects.remove(0).key.name
    };
    let (one, other) = ("0193f0a0-0000-7000-8000-00000000000a", "0193f0a0-0000-7000-8000-00000000000b");
    assert_eq!(names[0], name_for(Some(one)));
    assert_ne!(name_for(Some(one)), name_for(Some(other)), "two targets may have the same hook in one namespace");
    assert_eq!(name_for(None), name_for(None));
    assert_eq!(refusal(&job("a: b", "one")).code(), "object_name_generated", "it is no hook");
    let twice = format!("{0}---\n{0}", job(argos, "one"));
    assert_eq!(refusal(&twice).code(), "object_duplicate");
}

#[test]
fn a_hook_of_upgrades_is_marked_and_may_be_committed_as_it_was_printed() {
    let hook = |more: &str| {
        format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a, annotations: {{helm.sh/hook: pre-upgrade{more}}}}}\n"
        )
    };
    let mark =
        |text: &str| body(&render(text).expect("renders")[0])["metadata"]["annotations"]["bellwether.dev/hook"].clone();

    assert_eq!(mark(&hook("")), "upgrade");
    assert_eq!(mark(&hook(", bellwether.dev/hook: upgrade")), "upgrade");
    assert_eq!(mark(&hook(", bellwether.dev/phase: '1'")), Value::Null, "it says itself when it is applied");
    assert_eq!(mark(&hook("").replace("pre-upgrade", "'pre-upgrade,post-install'")), Value::Null);
    assert_eq!(refusal(&hook(", bellwether.dev/hook: soon")).code(), "metadata_reserved");
}

#[test]
fn labels_and_annotations_that_are_no_strings_are_refused_where_they_stand() {
    for value in ["yes", "1", "[a]", "{a: b}"] {
        let text =
            format!("apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  labels:\n    app: a\n    on-call: {value}\n");
        let error = refusal(&text);
        assert_eq!((error.code(), error.line()), ("field_type_wrong", Some(7)), "{error}");
        assert!(error.to_string().contains("metadata.labels.on-call"), "{error}");
    }
    assert!(render("apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  annotations:\n").is_ok());
}

#[test]
fn the_same_object_in_two_files_is_refused_naming_both() {
    let one = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: a}\n";
    let other = "# c\napiVersion: networking.k8s.io/v1beta1\nkind: Ingress\nmetadata: {name: a, namespace: shop}\n";

    let documents = Documents::parse(&[file("b.yaml", other), file("a.yaml", one)]).expect("parses");
    let error = documents.render(&recipe(), &values(json!({}))).expect_err("is refused");

    assert_eq!(error.code(), "object_duplicate");
    assert_eq!(error.to_string(), "Ingress shop/a stands twice: at a.yaml:1 and at b.yaml:2");
}

#[test]
fn an_object_that_etcd_would_refuse_is_refused() {
    let error = refusal(&config(&format!("  k: {}\n", "x".repeat(OBJECT_BYTES_MAX))));

    assert_eq!((error.code(), error.line()), ("object_too_large", Some(1)));
}

#[test]
fn namespaces_are_defaulted_for_what_has_one() {
    let namespace = |api_version: &str, kind: &str, metadata: &str| {
        let object = only(&format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{{metadata}}}\n"), json!({}));
        object["metadata"].get("namespace").cloned()
    };

    assert_eq!(namespace("v1", "Pod", "name: a"), Some(json!("shop")));
    assert_eq!(namespace("v1", "Pod", "name: a, namespace: ''"), Some(json!("shop")));
    assert_eq!(namespace("v1", "Pod", "name: a, namespace: other"), Some(json!("other")));
    assert_eq!(namespace("v1", "Namespace", "name: a"), None);
    assert_eq!(namespace("rbac.authorization.k8s.io/v1", "ClusterRole", "name: 'a:b', namespace: x"), None);
    assert_eq!(namespace("example.org/v1", "ClusterRole", "name: a"), Some(json!("shop")), "the agent corrects it");
}

#[test]
fn a_definition_among_the_documents_says_whether_its_kind_has_a_namespace() {
    let text = "apiVersion: example.org/v1\nkind: Fleet\nmetadata: {name: a}\n---\n\
                apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: fleets.example.org}\n\
                spec: {group: example.org, scope: Cluster, names: {kind: Fleet}}\n";

    let objects = render(text).expect("renders");

    assert!(objects.iter().all(|object| object.key.namespace.is_none()));
}

#[test]
fn an_object_that_needs_a_namespace_and_finds_none_is_refused() {
    let nowhere = Recipe { namespace: None, ..recipe() };
    let render = |kind: &str| {
        let text = format!("apiVersion: {kind}\nmetadata: {{name: a}}\n");
        parse(&text).expect("parses").render(&nowhere, &Values::default())
    };

    let error = render("v1\nkind: Pod").expect_err("is refused");

    assert_eq!(error.code(), "namespace_missing");
    assert_eq!(render("example.org/v1\nkind: Fleet").map(|objects| objects.len()), Ok(1), "it may need none");
}

#[test]
fn string_data_of_a_secret_becomes_data() {
    let text =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: {a: QQ==, b: Qg==}\nstringData: {b: ü, c: ''}\n";

    let object = only(text, json!({}));

    assert_eq!(object["data"], json!({"a": "QQ==", "b": "w7w=", "c": ""}));
    assert_eq!(object.get("stringData"), None);
    let error = refusal("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\nstringData:\n  pin: 1234\n");
    assert_eq!((error.code(), error.line()), ("field_type_wrong", Some(5)));
    assert!(!error.to_string().contains("1234"), "a secret does not stand in an error");
}

#[test]
fn a_whole_plain_reference_takes_the_type_of_its_value_and_every_other_stays_a_string() {
    let parameters = json!({"n": 4, "t": "0777", "b": true, "y": "yes", "s": "a: b", "e": "", "f": 1.5,
        "release": "1.10", "commit": "12e4567"});
    for (written, expected) in [
        ("${n}", json!(4)),
        ("${t}", json!("0777")),
        ("${b}", json!(true)),
        ("${y}", json!("yes")),
        ("${release}", json!("1.10")),
        ("${commit}", json!("12e4567")),
        ("${x:-${n}}", json!(4)),
        ("${x:-${t}}", json!("0777")),
        ("${x:-1.5}", json!(1.5)),
        ("${x:-true}", json!(true)),
        ("${x:-no}", json!("no")),
        ("${x:-.inf}", json!(".inf")),
        ("${cluster.labels.replicas}", json!(3)),
        ("${cluster.labels.zip}", json!("01234")),
        ("${cluster.labels.release}", json!("1.10")),
        ("${f}", json!(1.5)),
        ("${s}", json!("a: b")),
        ("${e}", json!("")),
        ("${x:-2}", json!(2)),
        ("${x:-null}", json!("null")),
        ("\"${n}\"", json!("4")),
        ("'${b}'", json!("true")),
        ("!!str ${n}", json!("4")),
        ("${n}${n}", json!("44")),
        ("1${n}", json!("14")),
        ("|-\n    ${n}", json!("4")),
        ("[\"${n}\", {k: '${b}'}]", json!(["4", {"k": "true"}])),
        ("${cluster.labels.region}", json!("eu")),
        ("$${n}", json!("${n}")),
        ("$(n) $n ${1}", json!("$(n) $n ${1}")),
    ] {
        let object = only(&config(&format!("  k: {written}\n")), parameters.clone());
        assert_eq!(object["data"]["k"], expected, "{written}");
    }
}

#[test]
fn values_add_neither_keys_nor_documents() {
    let hostile = "x\n---\napiVersion: v1\nkind: Pod\nmetadata: {name: b}\n";
    let text = config("  a: ${v}\n  \"${v}\": 1\n");

    let object = only(&text, json!({"v": hostile}));

    assert_eq!(object["data"], json!({"a": hostile, hostile: 1}));
    let error = render_with(&config("  a: 1\n  ${v}: 2\n"), json!({"v": "a"})).expect_err("is refused");
    assert_eq!((error.code(), error.line()), ("variable_repeats_key", Some(7)));
}

#[test]
fn a_key_stays_a_string_whatever_its_value() {
    let object = only(&config("  ${n}: ${n}\n"), json!({"n": 1}));

    assert_eq!(object["data"], json!({"1": 1}));
}

#[test]
fn an_unset_variable_is_named_with_file_line_and_the_nearest_known_name() {
    let text = config("  a: ok\n  script: |\n    one\n    two ${replcas}\n");

    let documents = parse(&text).expect("parses");
    let values = values(json!({"replicas": 1})).restricted_to(documents.variables());
    let error = documents.render(&recipe(), &values).expect_err("is refused");

    assert_eq!(error.code(), "variable_unset");
    assert_eq!(error.to_string(), "a.yaml:9: variable `replcas` has no value and no default");
    let hint = "did you mean `replicas`? else set `replcas` in the target's parameters";
    assert_eq!(error.hint().as_deref(), Some(hint));
}

#[test]
fn a_malformed_reference_is_found_before_any_cluster_is_rendered() {
    let error = parse(&config("  a: ok\n  b: '${v^^^}'\n")).err().expect("is refused");

    assert_eq!((error.code(), error.line()), ("variable_malformed", Some(7)));
}

#[test]
fn an_object_may_keep_its_references() {
    for (field, key) in [
        ("annotations", "bellwether.dev/substitute"),
        ("annotations", "kustomize.toolkit.fluxcd.io/substitute"),
        ("labels", "kustomize.toolkit.fluxcd.io/substitute"),
    ] {
        let text = format!(
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  {field}: {{{key}: disabled}}\ndata: {{a: '${{x}} $${{y}} ${{z^^}}'}}\n"
        );
        let documents = parse(&text).expect("parses");
        assert!(documents.variables().is_empty());
        assert_eq!(only(&text, json!({}))["data"]["a"], "${x} $${y} ${z^^}");
    }
}

#[test]
fn variables_are_all_names_in_keys_values_and_defaults() {
    let documents = parse(&config("  ${a}: ${b:-${c}}\n  d: '$${e} $f ${cluster.name}'\n")).expect("parses");

    assert_eq!(documents.variables().iter().collect::<Vec<_>>(), ["a", "b", "c", "cluster.name"]);
}

#[test]
fn a_long_value_that_is_referred_to_very_often_is_refused_early() {
    let text = config(&format!("  k: '{}'\n", "${v}".repeat(2000)));

    let error = render_with(&text, json!({"v": "x".repeat(60_000)})).expect_err("is refused");

    assert_eq!(error.code(), "object_too_large");
}

#[test]
fn no_reference_of_a_long_text_makes_more_than_an_object_may_be() {
    // Filled in before it is measured, this would be 100 GB.
    let text = config(&format!("  k: '{}'\n", "${v}".repeat(300_000)));
    let longer = config(&format!("  k: '{}'\n", "${v}".repeat(500_000)));

    for text in [text, longer] {
        let error = render_with(&text, json!({"v": "x".repeat(60_000)})).expect_err("is refused");
        assert_eq!(error.code(), "object_too_large");
    }
}

#[test]
fn where_texts_belong_a_null_is_the_empty_text_that_an_api_server_keeps() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: a, labels: {l: }, annotations: {foo: , n: ~}}\ndata: {p: }\nstringData: {q: }\n";

    let object = only(secret, json!({}));

    assert_eq!(object["data"], json!({"p": "", "q": ""}));
    assert_eq!(
        (&object["metadata"]["labels"]["l"], &object["metadata"]["annotations"]["foo"]),
        (&json!(""), &json!(""))
    );
}

#[test]
fn values_of_a_secret_must_be_text_and_stand_in_no_error() {
    let secret = |field: &str, value: &str| {
        format!("apiVersion: v1\nkind: Secret\nmetadata: {{name: login}}\n{field}:\n  ok: QQ==\n  pin: {value}\n")
    };
    let values = [
        ("73519264", "field_type_wrong"),
        ("[opensesame88]", "field_type_wrong"),
        ("{a: opensesame88}", "field_type_wrong"),
        ("true", "field_type_wrong"),
        ("${number}", "field_type_wrong"),
        ("opensesame88!", "field_not_base64"),
        ("${text}", "field_not_base64"),
    ];
    for (value, code) in values {
        let error = render_with(&secret("data", value), json!({"number": 73_519_264, "text": "opensesame88!"}));
        let error = error.expect_err("is refused");
        assert_eq!((error.code(), error.line()), (code, Some(6)), "{value}: {error}");
        let said = format!("{error} {error:?} {:?}", error.hint());
        assert!(said.contains("data.pin"), "{said}");
        assert!(!said.contains("opensesame88") && !said.contains("73519264"), "{said}");
    }
    assert!(render(&secret("data", "\"QU\\nI=\"")).is_ok(), "an API server passes over line ends");
    let error = refusal("apiVersion: v1\nkind: Secret\nmetadata: {name: a}\ndata: opensesame88\n");
    assert_eq!((error.code(), error.line()), ("field_type_wrong", Some(4)));
}

#[test]
fn what_is_bellwethers_own_cannot_be_written() {
    for (metadata, field) in [
        ("labels: {bellwether.dev/target: x}", "metadata.labels.bellwether.dev/target"),
        ("labels: {bellwether.dev/journal: v1}", "metadata.labels.bellwether.dev/journal"),
        ("annotations: {bellwether.dev/owner: x}", "metadata.annotations.bellwether.dev/owner"),
        ("labels: {\"bellwether.dev/${n}\": x}", "metadata.labels.bellwether.dev/journal"),
    ] {
        let text = format!("apiVersion: v1\nkind: Secret\nmetadata:\n  name: a\n  {metadata}\n");
        let error = render_with(&text, json!({"n": "journal"})).expect_err("is refused");
        assert_eq!((error.code(), error.line()), ("metadata_reserved", Some(5)), "{error}");
        assert!(error.to_string().contains(field), "{error}");
    }
    let text = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: a\n  labels: {bellwether.dev/substitute: disabled, demo.bellwether.dev/x: z}\n  \
                annotations: {bellwether.dev/phase: '2'}\n";
    assert_eq!(render(text).map(|objects| objects.len()), Ok(1), "these are for people");
}

#[test]
fn what_an_agent_was_installed_with_is_no_targets() {
    let recipe = Recipe { agents: ["system".to_owned()].into(), ..recipe() };
    let refused = |kind: &str, metadata: &str| {
        let text = format!("apiVersion: {kind}\nmetadata: {{{metadata}}}\n");
        let rendered = parse(&text).expect("parses").render(&recipe, &Values::default());
        rendered.err().map(|error| (error.code(), error.line()))
    };
    let code = Some(("object_of_the_agent", Some(1)));

    assert_eq!(refused("v1\nkind: Secret", "name: a, namespace: system"), code);
    assert_eq!(refused("example.org/v1\nkind: Sealed", "name: a, namespace: system"), code);
    assert_eq!(refused("v1\nkind: Namespace", "name: system"), code);
    assert_eq!(refused("rbac.authorization.k8s.io/v1\nkind: ClusterRole", "name: bellwether-agent-system"), code);
    assert_eq!(refused("v1\nkind: Secret", "name: system"), None);
    assert_eq!(refused("rbac.authorization.k8s.io/v1\nkind: ClusterRole", "name: bellwether-agent-other"), None);
}

#[test]
fn a_pointer_to_a_large_file_is_refused_for_what_it_is() {
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 12345\n";

    let error = refusal(pointer);

    assert_eq!((error.code(), error.file()), ("file_lfs_pointer", Some("a.yaml")));
    assert!(error.hint().is_some());
}

#[test]
fn what_sops_sealed_is_refused_and_not_applied_in_cipher() {
    let sealed = "apiVersion: v1\nkind: Secret\nmetadata: {name: pw}\ndata: {a: 'ENC[AES256_GCM,data:x]'}\nsops: {mac: 'ENC[x]'}\n";

    let error = refusal(&format!("{}---\n{sealed}", config("  a: b\n")));

    assert_eq!((error.code(), error.file(), error.line()), ("object_sealed", Some("a.yaml"), Some(8)));
    assert!(error.to_string().contains("Secret pw is sealed by SOPS"), "{error}");
    assert!(error.hint().expect("it has one").contains("`.bellwetherignore`"));
    let listed = format!("apiVersion: v1\nkind: List\nitems:\n- {}", sealed.trim_end().replace('\n', "\n  "));
    assert_eq!(refusal(&listed).code(), "object_sealed");
    let opened = "apiVersion: isindir.github.com/v1alpha3\nkind: SopsSecret\nmetadata: {name: pw}\nspec: {a: '${x}'}\nsops: {mac: x}\n";
    assert!(String::from_utf8_lossy(&render(opened).expect("its controller opens it")[0].body).contains("${x}"));
}

#[test]
fn a_function_of_a_variable_cannot_add_what_is_not_there() {
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '${who%%-*}'}\ndata:\n  a: ${who//-/${break}}\n  length: '${#who}'\n";

    let objects = render_with(text, json!({"who": "x-y", "break": "\n  b: c\n---\nkind: Secret\n"})).expect("renders");

    let object: Value = serde_json::from_slice(&objects[0].body).expect("is JSON");
    assert_eq!((objects.len(), &object["metadata"]["name"]), (1, &json!("x")));
    assert_eq!(object["data"], json!({"a": "x\n  b: c\n---\nkind: Secret\ny", "length": "3"}));
}

#[test]
fn what_a_function_cannot_do_is_told_by_file_line_and_variable() {
    let error =
        render_with(&config("  a: b\n  c: '${word:0:5}'\n"), json!({"word": "stra\u{df}e"})).expect_err("is refused");

    assert_eq!((error.code(), error.line()), ("variable_misused", Some(7)));
    assert!(error.to_string().contains("`word`") && !error.to_string().contains("stra"), "{error}");
    let unset = render_with(&config("  a: '${none^^}'\n"), json!({})).expect_err("is refused");
    assert_eq!((unset.code(), unset.line()), ("variable_unset", Some(6)));
}

#[test]
fn debug_output_of_an_object_has_no_body() {
    let objects = render(&config("  k: hush\n")).expect("renders");

    assert!(!format!("{objects:?}").contains("hush"));
}
