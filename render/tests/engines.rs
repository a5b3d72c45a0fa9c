//! Kustomize and Helm by their real engine: what comes out, what it read, and what bad input gets.
//!
//! `./dev test` builds the engine and names it in `BELLWETHER_RENDER_ENGINE`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use bellwether_core::apis::Apis;
use bellwether_core::parameters::{ClusterFacts, ParameterSet, Parameters, Traits, Values};
use bellwether_core::render::Source;
use bellwether_core::{Digest, Name};
use bellwether_render::{
    Confinement, Engines, Failure, Files, Found, Frozen, LeaveOut, Listed, Listing, MadeBy, Manifests, Marks, Plan,
    Recipe, RenderedObject, SEED_BYTES, SourceFile, VERSION, is_named_for_render, made_by,
};
use serde_json::{Value, json};

/// Files in memory; one whose text is [`LINK`] is a link.
#[derive(Clone, Default)]
struct Tree(BTreeMap<String, String>);

const LINK: &str = "-> /etc/passwd";

#[derive(Debug, thiserror::Error)]
#[error("`{0}` is a symbolic link")]
struct Link(String);

impl Tree {
    fn of(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
    }

    fn has_folder(&self, path: &str) -> bool {
        path.is_empty() || self.0.keys().any(|file| file.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
    }
}

impl Files for Tree {
    type Error = Link;

    fn read(&self, path: &str, bytes_max: usize) -> Result<Found, Link> {
        Ok(match self.0.get(path) {
            Some(text) if text == LINK => return Err(Link(path.to_owned())),
            Some(text) if text.len() > bytes_max => Found::TooLarge,
            Some(text) => Found::File(text.clone().into_bytes()),
            None if self.has_folder(path) => Found::Folder,
            None => Found::Absent,
        })
    }

    fn list(&self, path: &str) -> Result<Listing, Link> {
        if self.0.contains_key(path) {
            return Ok(Listing::NotAFolder);
        }
        if !self.has_folder(path) {
            return Ok(Listing::Absent);
        }
        let above = if path.is_empty() { String::new() } else { format!("{path}/") };
        let below = self.0.keys().filter_map(|file| file.strip_prefix(&above));
        let names: BTreeMap<_, _> =
            below.map(|rest| rest.split_once('/').map_or((rest, false), |(folder, _)| (folder, true))).collect();
        let listed = names.into_iter().map(|(name, is_folder)| Listed { name: name.to_owned(), is_folder });
        Ok(Listing::Folder(listed.collect()))
    }

    fn manifests(&self, folder: &str, leave_out: &LeaveOut<'_>) -> Result<Vec<SourceFile>, Link> {
        let files = self.0.iter().filter(|(path, _)| folder.is_empty() || path.starts_with(&format!("{folder}/")));
        let files = files.filter(|(path, _)| is_named_for_render(path) && !leave_out(path, false));
        Ok(files.map(|(path, text)| SourceFile { path: path.clone(), bytes: text.clone().into_bytes() }).collect())
    }

    /// Those that are there lie below their mounts.
    fn find_source(&self, source: &Source) -> Result<(), Link> {
        let mount = source.mount();
        if self.has_folder(&mount) { Ok(()) } else { Err(Link(mount)) }
    }
}

fn engines() -> Engines {
    let program = std::env::var_os("BELLWETHER_RENDER_ENGINE");
    let program = program.expect("BELLWETHER_RENDER_ENGINE names the engine; `./dev test unit` builds it and sets it");
    Engines::new(Some(Path::new(&program)), Confinement::AsThereIs)
}

fn plan(folder: &str, render: Value) -> Plan {
    Plan {
        folder: folder.to_owned(),
        options: serde_json::from_value(render).expect("options"),
        name: "shop".to_owned(),
        namespace: Some("web".to_owned()),
        has_parameters: true,
        project: "default".to_owned(),
    }
}

fn recipe() -> Recipe {
    let target = serde_json::from_value(json!("0193f0a0-0000-7000-8000-00000000000a")).expect("is an id");
    let marks = Some(Marks { target, owner: "main/default/shop".to_owned() });
    Recipe { marks, namespace: Some("web".to_owned()), agents: BTreeSet::new() }
}

fn values(values: Value) -> Values {
    let labels = [("env".to_owned(), "prod".to_owned()), ("shard".to_owned(), "3".to_owned())].into();
    let sets = [ParameterSet { clusters: None, values: serde_json::from_value(values).expect("values") }];
    Parameters::resolve(&sets, ClusterFacts::new(&"berlin".parse().expect("a name"), &labels))
}

fn open(tree: &Tree, plan: Plan) -> Result<Manifests<Tree>, Failure<Link>> {
    Manifests::open(engines(), tree.clone(), plan)
}

fn render(tree: &Tree, folder: &str, options: Value, parameters: Value) -> Result<Vec<RenderedObject>, Failure<Link>> {
    open(tree, plan(folder, options))?.render(&recipe(), &values(parameters))
}

fn bodies(objects: &[RenderedObject]) -> BTreeMap<String, Value> {
    let body = |object: &RenderedObject| serde_json::from_slice(&object.body).expect("is JSON");
    objects.iter().map(|object| (object.key.to_string(), body(object))).collect()
}

fn refused(tree: &Tree, folder: &str, options: Value) -> bellwether_render::RenderError {
    match render(tree, folder, options, json!({})) {
        Err(Failure::Render(error)) => error,
        Err(error) => panic!("{error}"),
        Ok(objects) => panic!("{:?}", bodies(&objects)),
    }
}

const DEPLOYMENT: &str = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: 1, \
                          selector: {matchLabels: {app: web}}, template: {metadata: {labels: {app: web}}, \
                          spec: {containers: [{name: web, image: 'web:1'}]}}}\n";

fn overlay() -> Tree {
    Tree::of(&[
        ("apps/base/kustomization.yaml", "resources: [web.yaml]\n"),
        ("apps/base/web.yaml", DEPLOYMENT),
        ("apps/base/README.md", "# read me"),
        ("apps/base/other.yaml", DEPLOYMENT),
        (
            "apps/eu/kustomization.yaml",
            "resources: [../base]\nnamePrefix: eu-\nimages: [{name: web, newTag: '2'}]\n\
             configMapGenerator: [{name: settings, literals: ['region=${region}']}]\n",
        ),
        ("apps/us/kustomization.yaml", "resources: [../base]\n"),
    ])
}

#[test]
fn an_overlay_is_built_and_filled_in_for_each_cluster() {
    let manifests = open(&overlay(), plan("apps/eu", json!({}))).expect("it is built");
    assert_eq!(manifests.variables().iter().collect::<Vec<_>>(), ["region"]);

    let render =
        |region: &str| bodies(&manifests.render(&recipe(), &values(json!({"region": region}))).expect("it renders"));

    let (eu, us) = (render("eu"), render("us"));
    let web = &eu["Deployment web/eu-web"];
    assert_eq!(web["spec"]["template"]["spec"]["containers"][0]["image"], "web:2");
    assert_eq!(web["metadata"]["labels"]["bellwether.dev/target"], "0193f0a000007000800000000000000a");
    assert_eq!(web, &us["Deployment web/eu-web"]);
    let settings = |objects: &BTreeMap<String, Value>| {
        let (name, object) = objects.iter().find(|(name, _)| name.contains("settings-")).expect("it has a hash");
        (name.clone(), object["data"]["region"].clone())
    };
    assert_eq!(settings(&eu).0, settings(&us).0, "it is built once");
    assert_eq!((settings(&eu).1, settings(&us).1), (json!("eu"), json!("us")));
}

#[test]
fn an_overlay_depends_on_what_it_read_and_on_nothing_else() {
    let manifests = open(&overlay(), plan("apps/eu", json!({}))).expect("it is built");

    let inputs = manifests.inputs().paths();

    for read in ["apps/eu/kustomization.yaml", "apps/base/kustomization.yaml", "apps/base/web.yaml"] {
        assert!(inputs.contains(read), "{read} is not among {inputs:?}");
    }
    let is_other = |input: &&String| {
        let whole = ["", "apps", "apps/eu", "apps/base"].contains(&input.as_str());
        whole || input.contains("README") || input.contains("other") || input.contains("apps/us")
    };
    let others: Vec<_> = inputs.iter().filter(is_other).collect();
    assert!(others.is_empty(), "{others:?}");
}

#[test]
fn a_base_that_is_looked_for_and_is_not_there_is_an_input_and_an_error_with_its_place() {
    let mut tree = overlay();
    tree.0.insert("apps/eu/kustomization.yaml".to_owned(), "# eu\nresources:\n- ../bsae\n".to_owned());

    let error = refused(&tree, "apps/eu", json!({}));

    assert_eq!(
        (error.code(), error.file(), error.line()),
        ("kustomize_failed", Some("apps/eu/kustomization.yaml"), Some(3))
    );
    assert!(error.to_string().contains("bsae"), "{error}");
}

#[test]
fn a_quoted_reference_stays_text_in_what_kustomize_builds() {
    let object = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: a\n  annotations: {shard: '${cluster.labels.shard}'}\n\
                  data:\n  text: \"${n}\"\nlist: [\"${n}\", '${n}']\nnumber: ${n}\n";
    let tree = Tree::of(&[("a/kustomization.yaml", "resources: [a.yaml]\n"), ("a/a.yaml", object)]);

    let objects = bodies(&render(&tree, "a", json!({}), json!({"n": 4})).expect("it renders"));

    let made = &objects["ConfigMap web/a"];
    assert_eq!((&made["data"]["text"], &made["list"], &made["number"]), (&json!("4"), &json!(["4", "4"]), &json!(4)));
    assert_eq!(made["metadata"]["annotations"]["shard"], "3");
}

fn chart() -> Tree {
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ .Release.Name }}-settings\n\
                    data:\n  tag: {{ .Values.image.tag | quote }}\n  replicas: {{ .Values.replicas | quote }}\n  \
                    env: {{ .Values.env | default \"none\" }}\n  namespace: {{ .Release.Namespace }}\n  shell: '${HOME}'\n";
    let test = "apiVersion: v1\nkind: Pod\nmetadata:\n  name: test\n  annotations: {helm.sh/hook: test}\n";
    let definition = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: things.example.org}\n\
                      spec: {group: example.org, scope: Cluster, names: {kind: Thing, plural: things}, versions: []}\n";
    Tree::of(&[
        ("charts/shop/Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\n"),
        ("charts/shop/values.yaml", "image: {tag: '0'}\nreplicas: 1\n"),
        ("charts/shop/templates/settings.yaml", template),
        ("charts/shop/templates/test.yaml", test),
        ("charts/shop/crds/things.yaml", definition),
        ("envs/prod.yaml", "env: prod\nreplicas: 5\n"),
        ("envs/dev.yaml", "env: dev\n"),
    ])
}

#[test]
fn a_chart_gets_values_of_files_and_parameters_and_what_it_makes_is_left_as_it_is() {
    let options = json!({"helm": {
        "valuesFiles": ["envs/${cluster.labels.env}.yaml"], "values": {"image": {"tag": "${tag}"}},
    }});

    let objects = bodies(&render(&chart(), "charts/shop", options, json!({"tag": "1.10"})).expect("it renders"));

    assert_eq!(
        objects["ConfigMap web/shop-settings"]["data"],
        json!({"tag": "1.10", "replicas": "5", "env": "prod", "namespace": "web", "shell": "${HOME}"})
    );
    assert_eq!(
        objects.keys().collect::<Vec<_>>(),
        ["ConfigMap web/shop-settings", "CustomResourceDefinition things.example.org"]
    );
}

#[test]
fn hooks_of_a_chart_that_are_not_applied_are_known_by_their_names_once_it_is_rendered() {
    let mut tree = chart();
    let hook = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: '{{ .Release.Name }}-migrate', annotations: {helm.sh/hook: pre-rollback}}\n";
    tree.0.insert("charts/shop/templates/migrate.yaml".to_owned(), hook.to_owned());
    let manifests = open(&tree, plan("charts/shop", json!({}))).expect("it is opened");

    manifests.render(&recipe(), &values(json!({}))).expect("it renders");

    let left_out_hooks: Vec<_> = manifests.left_out_hooks().iter().map(ToString::to_string).collect();
    assert_eq!(left_out_hooks, ["Job shop-migrate (pre-rollback)", "Pod test (test)"]);
}

#[test]
fn a_release_and_its_definitions_are_as_the_target_says() {
    let options = json!({"helm": {"release": "other", "crds": "skip"}});

    let objects = bodies(&render(&chart(), "charts/shop", options, json!({})).expect("it renders"));

    assert_eq!(objects.keys().collect::<Vec<_>>(), ["ConfigMap web/other-settings"]);
}

#[test]
fn definitions_of_a_chart_are_applied_once_unless_they_are_to_be_upgraded_also_below_a_kustomization() {
    let mut tree = chart();
    tree.0.insert("over/kustomization.yaml".to_owned(), "commonAnnotations: {by: over}\n".to_owned());
    let annotations = |helm: Value, more: Value| {
        let mut options = json!({"helm": helm});
        options.as_object_mut().expect("options").extend(more.as_object().expect("fields").clone());
        let mut objects = bodies(&render(&tree, "charts/shop", options, json!({})).expect("it renders"));
        let of = |object: &mut Value| object["metadata"]["annotations"]["bellwether.dev/apply"].take();
        let name = "CustomResourceDefinition things.example.org";
        let others = objects.iter_mut().filter(|(key, _)| *key != name).map(|(_, object)| of(object));
        assert!(others.collect::<Vec<_>>().iter().all(Value::is_null), "only definitions");
        of(objects.get_mut(name).expect("it is there"))
    };

    assert_eq!(annotations(json!({}), json!({})), "once");
    assert_eq!(annotations(json!({"crds": "install"}), json!({"kustomize": "over"})), "once");
    assert_eq!(annotations(json!({"crds": "upgrade"}), json!({})), Value::Null);
    assert_eq!(annotations(json!({"includeCrds": true}), json!({"kustomize": "over"})), Value::Null);
}

#[test]
fn a_chart_depends_on_the_files_of_values_that_were_chosen() {
    let options = json!({"helm": {"valuesFiles": ["envs/${cluster.labels.env}.yaml"]}});
    let manifests = open(&chart(), plan("charts/shop", options)).expect("it is opened");
    manifests.render(&recipe(), &values(json!({}))).expect("it renders");

    let inputs = manifests.inputs().paths();

    for read in ["charts/shop/Chart.yaml", "charts/shop/templates/settings.yaml", "envs/prod.yaml"] {
        assert!(inputs.contains(read), "{read} is not among {inputs:?}");
    }
    assert!(
        !inputs.iter().any(|input| input.contains("envs/dev") || input == "envs" || input.is_empty()),
        "{inputs:?}"
    );
}

#[test]
fn a_template_that_fails_says_why_and_where() {
    let mut tree = chart();
    let template = "# a\n{{ fail \"set image.tag\" }}\n".to_owned();
    tree.0.insert("charts/shop/templates/settings.yaml".to_owned(), template);

    let error = refused(&tree, "charts/shop", json!({}));

    assert_eq!(error.code(), "helm_failed");
    assert!(error.to_string().contains("set image.tag"), "{error}");
    assert_eq!((error.file(), error.line()), (Some("charts/shop/templates/settings.yaml"), Some(2)));
}

#[test]
fn the_folder_says_what_it_is_unless_the_target_does() {
    let mut tree = chart();
    tree.0.insert("charts/shop/kustomization.yaml".to_owned(), "resources: [crds/things.yaml]\n".to_owned());
    let kinds = |options: Value| render(&tree, "charts/shop", options, json!({})).map(|objects| objects.len());

    assert_eq!(kinds(json!({})).expect("it is Kustomize's"), 1);
    assert_eq!(kinds(json!({"kind": "helm"})).expect("it is Helm's"), 2);
    assert_eq!(refused(&tree, "charts/shop", json!({"kind": "plain"})).code(), "chart_in_folder");
    assert_eq!(
        refused(&Tree::of(&[("a/a.yaml", DEPLOYMENT)]), "a", json!({"kind": "kustomize"})).code(),
        "kustomize_failed"
    );
    assert_eq!(refused(&Tree::of(&[("a/a.yaml", DEPLOYMENT)]), "a", json!({"kind": "helm"})).code(), "helm_failed");
}

#[test]
fn the_same_files_and_values_are_the_same_bytes() {
    let once = || render(&chart(), "charts/shop", json!({}), json!({})).expect("it renders");

    assert_eq!(once(), once());
}

#[test]
fn a_link_is_never_read_whoever_names_it() {
    let mut overlay = overlay();
    overlay.0.insert("apps/base/web.yaml".to_owned(), LINK.to_owned());
    let mut chart = chart();
    chart.0.insert("envs/prod.yaml".to_owned(), LINK.to_owned());
    let options = json!({"helm": {"valuesFiles": ["envs/prod.yaml"]}});

    for (tree, folder, options) in [(overlay, "apps/eu", json!({})), (chart, "charts/shop", options)] {
        let failure = render(&tree, folder, options, json!({})).expect_err("it is refused");
        assert!(matches!(failure, Failure::Files(Link(_))), "{failure}");
    }
}

#[test]
fn nothing_above_the_root_is_asked_for() {
    for path in ["../../..", "../../../etc", "/etc", "../../../../../../proc/self/environ"] {
        let kustomization = format!("resources: ['{path}']\n");
        let tree = Tree::of(&[("apps/eu/kustomization.yaml", &kustomization)]);
        let error = refused(&tree, "apps/eu", json!({}));
        assert!(["outside_repository", "kustomize_failed"].contains(&error.code()), "{error}");
    }
    let mut tree = chart();
    let template = "a: {{ .Files.Get \"../../envs/prod.yaml\" | quote }}\nb: {{ env \"PATH\" }}\n".to_owned();
    tree.0.insert("charts/shop/templates/settings.yaml".to_owned(), template);
    assert_eq!(refused(&tree, "charts/shop", json!({})).code(), "helm_failed");
}

#[test]
fn what_is_not_in_the_repo_is_not_fetched_or_run() {
    for kustomization in [
        "resources: ['file:///etc//passwd']\n",
        "resources: ['git::ssh://internal/repo']\n",
        "helmCharts: [{name: a}]\n",
    ] {
        let tree = Tree::of(&[("a/kustomization.yaml", kustomization)]);
        let error = refused(&tree, "a", json!({}));
        assert_eq!(error.code(), "kustomize_unsupported", "{error}");
    }
    for remote in [
        "https://169.254.169.254/latest/meta-data",
        "https://169.254.169.254/latest/meta-data.yaml",
        "git::ssh://internal/a/repo",
        "github.com/example/repo//base?ref=v1",
    ] {
        let text = format!("resources: ['{remote}']\n");
        let made = render(&Tree::of(&[("a/kustomization.yaml", &text)]), "a", json!({}), json!({}));
        assert!(matches!(made, Err(Failure::Source { .. })), "{remote}");
    }
    let plugin = "apiVersion: example.org/v1\nkind: Exec\nmetadata:\n  name: a\n  annotations:\n    \
                  config.kubernetes.io/function: |\n      exec: {path: /bin/sh}\n";
    let tree = Tree::of(&[("a/kustomization.yaml", "generators: [plugin.yaml]\n"), ("a/plugin.yaml", plugin)]);
    let error = refused(&tree, "a", json!({}));
    assert!(error.code().starts_with("kustomize_"), "{error}");
}

#[test]
fn a_template_that_never_ends_and_one_that_writes_for_ever_are_stopped_and_the_next_render_goes_on() {
    let endless = "{{- range until 2000000000 }}{{ end }}";
    let large = "a: {{ repeat 400000000 \"xxxxxxxxxx\" }}";
    let recursive = "{{- define \"a\" }}{{ include \"a\" . }}{{ end }}{{ include \"a\" . }}";
    let engines = engines().with_longest(Duration::from_secs(10));
    for template in [endless, large, recursive] {
        let mut tree = chart();
        tree.0.insert("charts/shop/templates/settings.yaml".to_owned(), template.to_owned());
        let manifests = Manifests::open(engines.clone(), tree, plan("charts/shop", json!({}))).expect("it is opened");
        let failure = manifests.render(&recipe(), &values(json!({}))).expect_err("it is stopped");
        let Failure::Render(error) = failure else { panic!("{failure}") };
        assert!(["over_limit", "engine_died", "helm_failed"].contains(&error.code()), "{error}");
    }

    let manifests = Manifests::open(engines, chart(), plan("charts/shop", json!({}))).expect("it is opened");
    assert!(manifests.render(&recipe(), &values(json!({}))).is_ok());
}

#[test]
fn bases_that_name_each_other_end() {
    let tree =
        Tree::of(&[("a/kustomization.yaml", "resources: [../b]\n"), ("b/kustomization.yaml", "resources: [../a]\n")]);

    assert_eq!(refused(&tree, "a", json!({})).code(), "kustomize_failed");
}

#[test]
fn more_than_a_target_may_have_is_not_read() {
    let mut files = vec![("a/kustomization.yaml".to_owned(), String::new())];
    let large = "x".repeat(20 << 20);
    let mut names = Vec::new();
    for number in 0..4 {
        files.push((format!("a/{number}.txt"), large.clone()));
        names.push(format!("{number}.txt"));
    }
    files[0].1 = format!("configMapGenerator: [{{name: a, files: [{}]}}]\n", names.join(", "));

    let error = refused(&Tree(files.into_iter().collect()), "a", json!({}));

    assert_eq!((error.code(), error.file()), ("sources_too_large", Some("a/3.txt")));
}

const MAP: &str = "{apiVersion: v1, kind: ConfigMap, metadata: {name: map}}\n";

#[test]
fn what_is_no_manifest_by_its_name_or_by_a_line_is_left_out_of_a_plain_folder() {
    let tree = |ignored: &str| {
        Tree::of(&[
            ("apps/.bellwetherignore", ignored),
            ("apps/shop/map.yaml", MAP),
            ("apps/shop/.github/workflows/ci.yaml", "on: push\n"),
            ("apps/shop/values-prod.yaml", "replicas: 2\n"),
            ("apps/shop/docker-compose.yml", "services: {}\n"),
            ("apps/shop/ci/pipeline.yaml", "stages: [build]\n"),
        ])
    };

    let error = refused(&tree("# none\n"), "apps/shop", json!({}));
    assert_eq!((error.code(), error.file()), ("object_without_api_version", Some("apps/shop/ci/pipeline.yaml")));
    let hint = error.hint().expect("it says what to do");
    assert!(hint.contains("write `/apps/shop/ci/pipeline.yaml` into `.bellwetherignore`"), "{hint}");

    for line in ["/shop/ci/pipeline.yaml", "ci/", "pipeline.*"] {
        let objects = render(&tree(line), "apps/shop", json!({}), json!({})).expect(line);
        assert_eq!(bodies(&objects).keys().collect::<Vec<_>>(), ["ConfigMap web/map"], "{line}");
    }
}

#[test]
fn an_object_in_a_file_that_is_named_as_another_tools_is_none_the_less_applied() {
    let tree = Tree::of(&[("shop/values.yaml", MAP)]);

    assert_eq!(render(&tree, "shop", json!({}), json!({})).expect("it renders").len(), 1);
}

#[test]
fn a_line_that_was_not_there_is_an_input_of_a_plain_folder() {
    let tree = Tree::of(&[("apps/shop/map.yaml", MAP)]);

    let inputs = open(&tree, plan("apps/shop", json!({}))).expect("it is read").inputs().paths();

    for file in [".bellwetherignore", "apps/.bellwetherignore", "apps/shop"] {
        assert!(inputs.contains(file), "{inputs:?}");
    }
}

#[test]
fn a_folder_below_plain_manifests_that_has_a_kustomization_is_what_kustomize_builds() {
    let tree = Tree::of(&[
        ("clusters/eu/apps.yaml", MAP),
        ("clusters/eu/system/kustomization.yaml", "namePrefix: eu-\nresources: [web.yaml, deep]\n"),
        ("clusters/eu/system/web.yaml", DEPLOYMENT),
        ("clusters/eu/system/patch.yaml", "- op: none\n"),
        ("clusters/eu/system/deep/kustomization.yaml", "resources: [../../../../base/map.yaml]\nnameSuffix: -deep\n"),
        ("base/map.yaml", MAP),
    ]);

    let objects = render(&tree, "clusters/eu", json!({}), json!({})).expect("it renders");
    let keys = bodies(&objects);
    assert_eq!(
        keys.keys().collect::<Vec<_>>(),
        ["ConfigMap web/eu-map-deep", "ConfigMap web/map", "Deployment web/eu-web"]
    );
    let inputs = open(&tree, plan("clusters/eu", json!({}))).expect("it is read").inputs().paths();
    assert!(inputs.contains("base/map.yaml"), "{inputs:?}");

    let error = refused(&tree, "clusters/eu", json!({"kind": "plain"}));
    assert_eq!(error.file(), Some("clusters/eu/system/patch.yaml"), "nothing is built where all is said to be plain");
}

#[test]
fn what_sops_sealed_and_a_kustomization_lists_is_sent_as_it_was_written_or_refused() {
    let sealed = include_str!("../../agent/sops/tests/files/secret.yaml");
    let anywhere = sealed.replace("    namespace: shop\n", "");
    let tree = |more: &str, text: &str| {
        let kustomization = format!("resources: [db.yaml]\n{more}");
        Tree::of(&[("a/kustomization.yaml", &kustomization), ("a/db.yaml", text)])
    };
    let plain = Tree::of(&[("a/db.yaml", sealed)]);
    let only = |tree: &Tree| {
        let objects = bodies(&render(tree, "a", json!({}), json!({})).expect("it renders"));
        objects.into_values().next().expect("there is one")
    };
    let text = |object: &Value| object["metadata"]["annotations"]["bellwether.dev/sealed"].clone();

    let labelled = "namespace: shop\ncommonAnnotations: {team: a}\nlabels: [{pairs: {env: prod}}]\n";
    let object = only(&tree(labelled, sealed));
    assert_eq!(text(&object), text(&only(&plain)), "in the order of the file");
    let metadata = &object["metadata"];
    assert_eq!((&metadata["labels"]["env"], &metadata["annotations"]["team"]), (&json!("prod"), &json!("a")));
    let moved = only(&tree("namespace: other\n", &anywhere));
    assert_eq!(moved["metadata"]["namespace"], "other", "it says none itself");

    let patch = "patches:\n- target: {kind: Secret}\n  patch: '[{\"op\": \"replace\", \"path\": \"/stringData/url\", \"value\": \"x\"}]'\n";
    for (more, field) in
        [("namespace: other\n", "metadata.namespace"), ("namePrefix: eu-\n", "metadata.name"), (patch, "stringData")]
    {
        let error = refused(&tree(more, sealed), "a", json!({}));
        assert_eq!((error.code(), error.file()), ("object_sealed", Some("a/kustomization.yaml")), "{error}");
        assert!(error.to_string().contains(&format!("Kustomize changes `{field}`")), "{error}");
    }
    let several = format!("{sealed}---\n{MAP}");
    assert!(refused(&tree("", &several), "a", json!({})).to_string().contains("one of several"));
    let chart =
        Tree::of(&[("a/Chart.yaml", "apiVersion: v2\nname: a\nversion: 1.0.0\n"), ("a/templates/db.yaml", sealed)]);
    assert!(refused(&chart, "a", json!({})).to_string().contains("Helm made it"));
}

#[test]
fn a_chart_below_plain_manifests_is_not_left_out_silently() {
    let tree =
        Tree::of(&[("shop/map.yaml", MAP), ("shop/db/Chart.yaml", "name: db\n"), ("shop/db/templates/a.yaml", "{{")]);

    let error = refused(&tree, "shop", json!({}));

    assert_eq!((error.code(), error.file()), ("chart_in_folder", Some("shop/db/Chart.yaml")));
    assert!(error.hint().is_some_and(|hint| hint.contains("write `/shop/db/` into")), "{error:?}");
}

fn chart_of(template: &str) -> Tree {
    Tree::of(&[
        ("charts/shop/Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\n"),
        ("charts/shop/templates/a.yaml", template),
        ("over/kustomization.yaml", "namePrefix: eu-\nresources: [map.yaml]\n"),
        ("over/map.yaml", MAP),
    ])
}

#[test]
fn a_chart_that_makes_a_password_of_its_own_is_refused_and_one_that_sorts_what_has_no_order_is_not() {
    let template =
        "apiVersion: v1\nkind: Secret\nmetadata: {name: web}\nstringData: {password: {{ randAlphaNum 20 }}}\n";
    let error = refused(&chart_of(template), "charts/shop", json!({}));
    assert_eq!((error.code(), error.file()), ("helm_volatile", Some("charts/shop/templates/a.yaml")));
    let said = error.to_string();
    assert!(said.contains("a.yaml (Secret web) is another each time") && said.ends_with("randAlphaNum"), "{said}");

    let sorted =
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ keys (dict \"a\" 1 \"b\" 2) | sortAlpha | first }}}\n";
    assert_eq!(render(&chart_of(sorted), "charts/shop", json!({}), json!({})).expect("it renders").len(), 1);
}

#[test]
fn what_is_frozen_is_rendered_with_its_seed_and_without_one_it_is_refused() {
    let template = "apiVersion: v1\nkind: Secret\nmetadata: {name: web}\n\
                    stringData: {password: {{ randAlphaNum 20 }}, at: {{ now | unixEpoch | quote }}}\n";
    let (tree, options) = (chart_of(template), json!({"helm": {"volatile": {"freeze": 2}}}));
    let at = "2026-05-04T03:02:01.5Z";
    let frozen = |seed: u8, options: &Value| {
        let mut manifests = open(&tree, plan("charts/shop", options.clone())).expect("it is read");
        manifests.freeze_with(Frozen::new(&[seed; SEED_BYTES], at));
        manifests.render(&recipe(), &values(json!({}))).expect("it renders")
    };

    let first = frozen(1, &options);

    assert_eq!(first, frozen(1, &options));
    let over = json!({"helm": {"volatile": "freeze"}, "kustomize": "over"});
    let data = |objects: &[RenderedObject]| {
        let mut secrets = bodies(objects).into_iter().filter(|(key, _)| key.starts_with("Secret"));
        secrets.next().expect("it has one").1["data"].clone()
    };
    assert_eq!(data(&first), data(&frozen(1, &over)), "whatever is laid over it");
    assert_ne!(data(&first)["password"], data(&frozen(2, &options))["password"]);
    assert_eq!(data(&first)["at"], "MTc3Nzg2MzcyMQ==", "it is the time that was said");
    let error = refused(&tree, "charts/shop", options);
    assert_eq!((error.code(), error.hint().is_some()), ("helm_frozen", true), "{error}");
    assert!(!format!("{:?}", Frozen::new(&[1; SEED_BYTES], at)).contains("AQEB"), "a seed is never shown");

    let refuse = |template: &str| {
        let plan = plan("charts/shop", json!({"helm": {"volatile": "freeze"}}));
        let mut manifests = open(&chart_of(template), plan).expect("it is read");
        manifests.freeze_with(Frozen::new(&[1; SEED_BYTES], at));
        match manifests.render(&recipe(), &values(json!({}))) {
            Err(Failure::Render(error)) => error,
            _ => panic!("it is refused"),
        }
    };
    let error = refuse("a: b\nc: {{ encryptAES \"a\" \"b\" }}\n");
    assert_eq!(
        (error.code(), error.file(), error.line()),
        ("helm_volatile", Some("charts/shop/templates/a.yaml"), Some(2)),
        "{error}"
    );
    let error = refuse("a: {{ fail (printf \"it is %s\" (b64enc (randAlphaNum 20))) }}\n");
    assert!(error.to_string().contains("it is …\n"), "what is frozen is told to nobody: {error}");
}

#[test]
fn a_chart_is_told_the_cluster_that_its_target_says_and_finds_nothing_where_that_is_asked_for() {
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata:\n  minor: {{ .Capabilities.KubeVersion.Minor | quote }}\n\
                    \x20 has: {{ .Capabilities.APIVersions.Has \"example.org/v1\" | quote }}\n\
                    \x20 found: {{ lookup \"v1\" \"Secret\" \"x\" \"y\" | toJson | quote }}\n";
    assert_eq!(refused(&chart_of(template), "charts/shop", json!({})).code(), "helm_lookup");

    let options = json!({"helm": {"lookup": "empty", "kubeVersion": "1.${minor}", "apiVersions": ["${cluster.labels.env}/v1", "example.org/v1"]}});
    let manifests = open(&chart_of(template), plan("charts/shop", options.clone())).expect("it is read");
    assert_eq!(manifests.variables().iter().collect::<Vec<_>>(), ["cluster.labels.env", "minor"]);
    let objects = render(&chart_of(template), "charts/shop", options, json!({"minor": 29})).expect("it renders");
    let data = &bodies(&objects)["ConfigMap web/a"]["data"];
    assert_eq!(data, &json!({"minor": "29", "has": "true", "found": "{}"}));

    let error = refused(&chart_of(template), "charts/shop", json!({"helm": {"lookup": "empty", "kubeVersion": "new"}}));
    assert_eq!(error.code(), "helm_failed");
}

#[test]
fn settings_go_over_values_by_helms_rules_and_a_parameter_in_one_sets_nothing_else() {
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {v: {{ .Values | toJson | quote }}}\n";
    let options = json!({"helm": {
        "values": {"hosts": [{"name": "a", "port": 1}, {"name": "b", "port": 2}], "both": "inline"},
        "set": ["hosts[1].port=8080", "version=1.5,on=True,none=NULL", "tag=${tag},list={${tag},c}", "both=1"],
        "setString": ["both=${n}", "off=False"],
    }});

    let objects = render(&chart_of(template), "charts/shop", options, json!({"tag": "x,admin=true}", "n": 3}));

    let objects = objects.expect("it renders");
    let values = bodies(&objects)["ConfigMap web/a"]["data"]["v"].as_str().map(str::to_owned).expect("a text");
    let values: Value = serde_json::from_str(&values).expect("JSON");
    for (field, expected) in [
        ("hosts", json!([{"name": "a", "port": 1}, {"name": "b", "port": 8080}])),
        ("version", json!("1.5")),
        ("on", json!(true)),
        ("tag", json!("x,admin=true}")),
        ("list", json!(["x,admin=true}", "c"])),
        ("both", json!("3")),
        ("off", json!("False")),
    ] {
        assert_eq!(values[field], expected, "{field} of {values}");
    }
    assert_eq!(values.get("admin"), None);
}

#[test]
fn a_setting_that_helm_cannot_read_is_told_without_what_a_parameter_gave() {
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
    let options = json!({"helm": {"set": ["a[x]=${password}"]}});

    let error = render(&chart_of(template), "charts/shop", options, json!({"password": "hunter2,b={"}));

    let error = error.expect_err("it is refused").to_string();
    assert!(error.contains("a[x]") && !error.contains("hunter2"), "{error}");
}

#[test]
fn a_kustomization_is_laid_over_what_a_chart_gives() {
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\ndata: {text: '${left}', set: {{ .Values.set }}}\n";
    let options = json!({"kustomize": "over", "helm": {"release": "web", "values": {"set": "${set}"}}});

    let objects = render(&chart_of(template), "charts/shop", options, json!({"set": "this"})).expect("it renders");

    let bodies = bodies(&objects);
    assert_eq!(bodies.keys().collect::<Vec<_>>(), ["ConfigMap web/eu-map", "ConfigMap web/eu-web"]);
    assert_eq!(bodies["ConfigMap web/eu-web"]["data"], json!({"text": "${left}", "set": "this"}));
    let error = refused(&chart_of(template), "charts/shop", json!({"kustomize": "nowhere"}));
    assert_eq!(error.code(), "kustomize_failed");
}

#[test]
fn a_kustomization_of_another_repo_is_laid_over_a_chart_and_leads_nowhere_else() {
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {text: '${left}'}\n";
    let over = "namePrefix: eu-\nresources: [../more]\ncommonAnnotations: {cluster: \"${cluster.name}\"}\n";
    let mut tree = chart_of(template);
    for above in ["lay/", "env@main:/"] {
        tree.0.insert(format!("{above}over/prod/kustomization.yaml"), over.to_owned());
        tree.0.insert(format!("{above}over/more/kustomization.yaml"), "resources: [map.yaml]\n".to_owned());
        tree.0.insert(format!("{above}over/more/map.yaml"), MAP.to_owned());
    }
    tree.0.insert("env@main:/kustomization.yaml".to_owned(), "nameSuffix: -root\n".to_owned());
    let there = |path: &str| json!({"kustomize": {"repo": "env", "path": path}, "helm": {}});
    let of = |options: Value| {
        let objects = render(&tree, "charts/shop", options, json!({})).unwrap_or_else(|error| panic!("{error}"));
        objects.into_iter().map(|object| (object.key, object.body)).collect::<Vec<_>>()
    };

    let beside = of(json!({"kustomize": "lay/over/${cluster.labels.env}", "helm": {}}));
    assert_eq!(of(there("over/${cluster.labels.env}")), beside);
    assert_eq!(beside.len(), 2);
    let of_root: Vec<_> = of(there("")).into_iter().map(|(key, _)| key.name).collect();
    assert_eq!(of_root, ["web-root"], "its root is a folder, too");

    let manifests = open(&tree, plan("charts/shop", there("over/${cluster.labels.env}"))).expect("it is opened");
    assert!(manifests.variables().contains("cluster.labels.env"), "clusters that choose another folder are others");
    manifests.render(&recipe(), &values(json!({}))).expect("it renders");
    let inputs = manifests.inputs().paths();
    assert!(inputs.contains("env@main:/over/more/map.yaml"), "{inputs:?}");
    assert!(!inputs.iter().any(|path| path.contains("lay/") || path.starts_with("env@main:/kust")), "{inputs:?}");

    for outside in ["../../../charts/shop/templates", "../../../over"] {
        let mut tree = tree.clone();
        let leads_out = format!("resources: [{outside}]\n");
        tree.0.insert("env@main:/over/prod/kustomization.yaml".to_owned(), leads_out);
        let error = refused(&tree, "charts/shop", there("over/prod"));
        let file = Some("env@main:/over/prod/kustomization.yaml");
        assert_eq!((error.code(), error.file()), ("outside_repository", file), "{error}");
    }
    let missing = refused(&tree, "charts/shop", there("over/dev"));
    assert_eq!(missing.code(), "kustomize_failed", "{missing}");
}

#[test]
fn charts_of_a_kustomization_see_the_cluster_and_what_sees_none_is_built_once() {
    let chart = |template: &str| {
        [
            ("charts/app/Chart.yaml", "apiVersion: v2\nname: app\nversion: 1.0.0\n".to_owned()),
            ("charts/app/values.yaml", String::new()),
            (
                "charts/app/templates/a.yaml",
                format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata: {{v: \"{template}\"}}\n"),
            ),
        ]
    };
    let tree = |fields: &str, template: &str| {
        let kustomization = format!("helmCharts: [{{name: app, releaseName: r{fields}}}]\n");
        let mut tree = Tree::of(&[("eu/kustomization.yaml", &kustomization), ("plain/map.yaml", MAP)]);
        for (name, text) in chart(template) {
            tree.0.insert(format!("eu/{name}"), text.clone());
            tree.0.insert(format!("plain/eu/{name}"), text);
        }
        tree.0.insert("plain/eu/kustomization.yaml".to_owned(), kustomization);
        tree
    };
    let seen = |version: &str, served: &[&str]| {
        let (name, none): (Name, _) = ("berlin".parse().expect("a name"), BTreeMap::new());
        let facts = BTreeMap::from([("kubernetes.version".to_owned(), version.to_owned())]);
        let apis = Apis::parse(&served.join("\n")).expect("names");
        let traits = Traits { facts, apis: Some(apis), ..Traits::default() };
        Parameters::resolve(&[], ClusterFacts::new(&name, &none).with(&traits))
    };
    let value = |manifests: &Manifests<Tree>, values: &Values| {
        let objects = bodies(&manifests.render(&recipe(), values).unwrap_or_else(|error| panic!("{error}")));
        objects["ConfigMap web/a"]["data"]["v"].as_str().map(str::to_owned).expect("a text")
    };
    let asks = r"{{ .Capabilities.KubeVersion.Minor }} {{ .Capabilities.APIVersions.Has `a.io/v1` }}";
    let (old, new) = (seen("v1.31.4", &["v1"]), seen("v1.33.0", &["a.io/v1", "v1"]));

    for folder in ["eu", "plain"] {
        let manifests = open(&tree("", asks), plan(folder, json!({}))).expect("it is opened");
        let looked_at = ["cluster.apis.a.io/v1", "cluster.facts.kubernetes.version"];
        assert_eq!(manifests.variables().iter().collect::<Vec<_>>(), looked_at, "{folder}");
        assert_eq!(
            (value(&manifests, &old), value(&manifests, &new)),
            ("31 false".into(), "33 true".into()),
            "{folder}"
        );
    }
    let said = ", kubeVersion: 1.30.0, apiVersions: [a.io/v1]";
    let manifests = open(&tree(said, asks), plan("eu", json!({}))).expect("it is opened");
    assert!(
        manifests.variables().is_empty(),
        "the kustomization says what the cluster is: {:?}",
        manifests.variables()
    );
    assert_eq!((value(&manifests, &old), value(&manifests, &new)), ("30 true".into(), "30 true".into()));

    let needs = "{{ if ne .Capabilities.KubeVersion.Minor `33` }}{{ fail `not for it` }}{{ end }}well";
    let manifests = open(&tree("", needs), plan("eu", json!({}))).expect("another cluster may have it");
    assert_eq!(value(&manifests, &new), "well");
    let failed = manifests.render(&recipe(), &old).map(drop).expect_err("it is another");
    assert!(failed.to_string().contains("not for it"), "{failed}");
}

#[test]
fn a_hook_that_no_cluster_would_have_is_not_said_to_be_left_out() {
    let template = "\
        {{ if not (.Capabilities.APIVersions.Has `a.io/v1`) }}\n\
        apiVersion: v1\nkind: Pod\nmetadata: {name: old, annotations: {helm.sh/hook: pre-delete}}\n---\n\
        {{ end }}\n\
        apiVersion: v1\nkind: Pod\nmetadata: {name: any, annotations: {helm.sh/hook: pre-delete}}\n---\n\
        apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {v: '${x}'}\n";
    let tree = Tree::of(&[
        ("eu/kustomization.yaml", "helmCharts: [{name: app, releaseName: r}]\n"),
        ("eu/charts/app/Chart.yaml", "apiVersion: v2\nname: app\nversion: 1.0.0\n"),
        ("eu/charts/app/values.yaml", ""),
        ("eu/charts/app/templates/a.yaml", template),
    ]);
    let (name, none): (Name, _) = ("berlin".parse().expect("a name"), BTreeMap::new());
    let apis = Apis::parse("a.io/v1\nv1").expect("names");
    let sets = [ParameterSet { clusters: None, values: [("x".to_owned(), json!("1"))].into() }];
    let traits = Traits { apis: Some(apis), ..Traits::default() };
    let values = Parameters::resolve(&sets, ClusterFacts::new(&name, &none).with(&traits));

    let manifests = open(&tree, plan("eu", json!({}))).expect("it is opened");
    let objects = manifests.render(&recipe(), &values).expect("it renders");

    assert_eq!(objects.len(), 1);
    let left_out: Vec<_> = manifests.left_out_hooks().iter().map(ToString::to_string).collect();
    assert_eq!(left_out, ["Pod any (pre-delete)"]);
    assert_eq!(manifests.variables().iter().collect::<Vec<_>>(), ["cluster.apis.a.io/v1", "x"]);
}

#[test]
fn a_kustomization_has_a_chart_of_the_repo_by_our_own_helm() {
    let tree = Tree::of(&[
        (
            "apps/eu/kustomization.yaml",
            "namePrefix: eu-\nhelmCharts: [{name: shop, releaseName: web, valuesInline: {set: '${set}'}}]\n",
        ),
        ("apps/eu/charts/shop/Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\n"),
        ("apps/eu/charts/shop/values.yaml", "set: none\n"),
        (
            "apps/eu/charts/shop/templates/a.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\ndata: {set: {{ .Values.set | quote }}}\n",
        ),
    ]);

    let manifests = open(&tree, plan("apps/eu", json!({}))).expect("it is built");

    let objects = manifests.render(&recipe(), &values(json!({"set": "this"}))).expect("it renders");
    assert_eq!(bodies(&objects)["ConfigMap web/eu-web"]["data"], json!({"set": "this"}));
    assert!(manifests.inputs().paths().contains("apps/eu/charts/shop/values.yaml"));
    assert!(
        !manifests.inputs().paths().iter().any(|path| path.contains(".git/")),
        "what is only there for the render is none"
    );
    assert!(manifests.engine().is_some_and(|engine| engine.contains("helm v4")), "an upgrade is another input");
}

#[test]
fn a_remote_base_is_as_if_it_were_a_folder_and_leads_nowhere_else() {
    let source = Source::Git { url: "https://github.com/org/bases".to_owned(), reference: "v1.0".to_owned() };
    let mount = source.mount();
    let overlay = |base: &str| format!("namePrefix: eu-\nresources:\n- {base}\n");
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: map}\ndata: {a: '${x}'}\n";
    let remote = |above: &str| {
        Tree::of(&[
            ("apps/eu/kustomization.yaml", &overlay("https://github.com/org/bases//shop/base?ref=v1.0")),
            (&format!("{mount}/shop/base/kustomization.yaml"), &format!("resources: [../map.yaml, {above}]\n")),
            (&format!("{mount}/shop/map.yaml"), map),
            (&format!("{mount}/more/kustomization.yaml"), "namePrefix: more-\nresources: [map.yaml]\n"),
            (&format!("{mount}/more/map.yaml"), map),
            ("secret.yaml", map),
        ])
    };
    let local = Tree::of(&[
        ("apps/eu/kustomization.yaml", &overlay("../../bases/shop/base")),
        ("bases/shop/base/kustomization.yaml", "resources: [../map.yaml, ../../more]\n"),
        ("bases/shop/map.yaml", map),
        ("bases/more/kustomization.yaml", "namePrefix: more-\nresources: [map.yaml]\n"),
        ("bases/more/map.yaml", map),
    ]);
    let of = |tree: &Tree| {
        let objects = render(tree, "apps/eu", json!({}), json!({"x": 1})).unwrap_or_else(|error| panic!("{error}"));
        objects.iter().map(|object| (object.key.to_string(), object.digest)).collect::<Vec<_>>()
    };

    assert_eq!(of(&remote("../../more")), of(&local));
    let error = refused(&remote("../../../secret.yaml"), "apps/eu", json!({}));
    assert_eq!(error.code(), "outside_repository", "{error}");
}

#[test]
fn a_variable_without_a_value_in_what_kustomize_built_is_told_by_its_line() {
    let base =
        "# ${size} is given below\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: map}\ndata:\n  size: ${size}\n";
    let tree = Tree::of(&[
        ("apps/eu/kustomization.yaml", "namePrefix: eu-\nresources: [../../base]\n"),
        ("base/kustomization.yaml", "resources: [map.yaml]\n"),
        ("base/map.yaml", base),
    ]);

    let unset = refused(&tree, "apps/eu", json!({}));

    assert_eq!((unset.file(), unset.line()), (Some("base/map.yaml"), Some(6)));
    assert_eq!(unset.to_string(), "base/map.yaml:6 (ConfigMap eu-map): variable `size` has no value and no default");
    let malformed = Tree::of(&[
        ("a/kustomization.yaml", "resources: [map.yaml]\n"),
        ("a/map.yaml", &base.replace("size: ${size}", "size: ${size^^^}")),
    ]);
    let malformed = refused(&malformed, "a", json!({}));
    assert_eq!((malformed.file(), malformed.line()), (Some("a/map.yaml"), Some(6)), "{malformed}");
}

#[test]
fn a_single_file_at_a_url_is_as_if_it_were_in_the_repo() {
    let url = "https://files.example.org/v1/install.yaml";
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: map}\ndata: {a: '${x}'}\n";
    let overlay = |file: &str| format!("namePrefix: eu-\nresources:\n- {file}\n");
    let remote = Tree::of(&[
        ("apps/eu/kustomization.yaml", &overlay(url)),
        (&format!("{}/install.yaml", Source::File { url: url.to_owned() }.mount()), map),
    ]);
    let local = Tree::of(&[("apps/eu/kustomization.yaml", &overlay("install.yaml")), ("apps/eu/install.yaml", map)]);
    let of = |tree: &Tree| {
        let objects = render(tree, "apps/eu", json!({}), json!({"x": 1})).unwrap_or_else(|error| panic!("{error}"));
        objects.iter().map(|object| (object.key.to_string(), object.digest)).collect::<Vec<_>>()
    };

    assert_eq!(of(&remote), of(&local));
    let error =
        refused(&Tree::of(&[("a/kustomization.yaml", &overlay("https://example.org/a.yaml?b=c"))]), "a", json!({}));
    assert_eq!((error.code(), error.line()), ("kustomize_unsupported", Some(3)), "{error}");
}

const UMBRELLA: &str = "apiVersion: v2\nname: shop\nversion: 1.0.0\ndependencies:\n\
                        - {name: cache, version: 1.x.x, alias: fast, repository: 'https://charts.example.org'}\n\
                        - {name: cache, version: 1.x.x, alias: slow, repository: 'https://charts.example.org'}\n\
                        - {name: db, version: 2.0.1, repository: 'oci://registry.example.org/charts', condition: db.on}\n\
                        - {name: common, version: '*', repository: 'file://../common'}\n";

/// As `helm dependency update` writes it: its digest is of what Chart.yaml says, and of what it says itself.
fn lock(cache: &str) -> String {
    let (charts, registry) = ("https://charts.example.org", "oci://registry.example.org/charts");
    let wanted = format!(
        r#"{{"name":"cache","version":"1.x.x","repository":"{charts}","alias":"fast"}},{{"name":"cache","version":"1.x.x","repository":"{charts}","alias":"slow"}},{{"name":"db","version":"2.0.1","repository":"{registry}","condition":"db.on"}},{{"name":"common","version":"*","repository":"file://../common"}}"#
    );
    let locked = format!(
        r#"{{"name":"cache","version":"{cache}","repository":"{charts}"}},{{"name":"db","version":"2.0.1","repository":"{registry}"}}"#
    );
    let digest = Digest::of(format!("[[{wanted}],[{locked}]]").as_bytes());
    format!("dependencies: [{locked}]\ndigest: {digest}\ngenerated: '2026-01-01T00:00:00Z'\n")
}

/// The files of a chart, with one template that says what it is called.
fn dependency(at: &str, name: &str, version: &str) -> Vec<(String, String)> {
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}-{{ .Chart.Name }}'}\n\
                    data: {size: '{{ .Values.size }}', version: '{{ .Chart.Version }}'}\n";
    vec![
        (format!("{at}/Chart.yaml"), format!("apiVersion: v2\nname: {name}\nversion: {version}\n")),
        (format!("{at}/values.yaml"), "size: small\n".to_owned()),
        (format!("{at}/templates/a.yaml"), template.to_owned()),
    ]
}

fn umbrella(cache: &str, db: &str, common: &str) -> Tree {
    let mut files = dependency("charts/shop", "shop", "1.0.0");
    UMBRELLA.clone_into(&mut files[0].1);
    "fast: {size: fast}\ndb: {on: true}\nsize: none\n".clone_into(&mut files[1].1);
    files.extend(dependency(cache, "cache", "1.4.0"));
    files.extend(dependency(db, "db", "2.0.1"));
    files.extend(dependency(common, "common", "0.1.0"));
    Tree(files.into_iter().collect())
}

#[test]
fn dependencies_that_are_elsewhere_are_as_if_they_were_in_the_folder_of_charts() {
    let source = |repository: &str, name: &str, versions: &str| Source::Chart {
        repository: repository.to_owned(),
        name: name.to_owned(),
        versions: versions.to_owned(),
    };
    let cache = source("https://charts.example.org", "cache", "1.x.x").mount();
    let db = source("oci://registry.example.org/charts", "db", "2.0.1").mount();
    let options = || json!({"helm": {"release": "web"}});

    let vendored = umbrella("charts/shop/charts/cache", "charts/shop/charts/db", "charts/shop/charts/common");
    let vendored = render(&vendored, "charts/shop", options(), json!({})).expect("it renders");
    let tree = umbrella(&cache, &db, "charts/common");
    let elsewhere = open(&tree, plan("charts/shop", options())).expect("it opens");
    let objects = elsewhere.render(&recipe(), &values(json!({}))).expect("it renders");

    let keys: Vec<_> = vendored.iter().map(|object| object.key.to_string()).collect();
    assert_eq!(keys.len(), 5, "{keys:?}");
    let of =
        |objects: &[RenderedObject]| objects.iter().map(|one| (one.key.to_string(), one.digest)).collect::<Vec<_>>();
    assert_eq!(of(&objects), of(&vendored));
    let inputs = elsewhere.inputs().paths();
    assert!(inputs.contains(&format!("{cache}/Chart.yaml")), "{inputs:?}");

    let mut locked = umbrella(&source("https://charts.example.org", "cache", "1.4.0").mount(), &db, "charts/common");
    let lock = lock("1.4.0");
    locked.0.insert("charts/shop/Chart.lock".to_owned(), lock.clone());
    assert_eq!(of(&render(&locked, "charts/shop", options(), json!({})).expect("it renders")), of(&vendored));

    for other in [lock.replace("1.4.0", "1.4.1"), self::lock("2.4.0")] {
        locked.0.insert("charts/shop/Chart.lock".to_owned(), other);
        let error = refused(&locked, "charts/shop", options());
        assert_eq!((error.code(), error.file()), ("helm_dependency", Some("charts/shop/Chart.lock")), "{error}");
    }
    let Err(Failure::Source { at, error }) =
        render(&umbrella("no", &db, "charts/common"), "charts/shop", options(), json!({}))
    else {
        panic!("it is nowhere");
    };
    assert_eq!((at.file(), at.line()), (Some("charts/shop/Chart.yaml"), Some(5)), "{error}");
}

#[test]
fn parameters_may_be_in_files_that_a_cluster_chooses_and_the_spec_is_over_them() {
    let object = "{apiVersion: v1, kind: ConfigMap, metadata: {name: map}, data: {a: '${a}', b: '${b}', c: '${c}'}}\n";
    let tree = Tree::of(&[
        ("shop/map.yaml", object),
        ("envs/common.yaml", "a: common\nb: common\nc: 1\n"),
        ("envs/prod.yaml", "b: prod\n"),
        ("envs/bad.yaml", "a: [1]\n"),
    ]);
    let options = |files: Value| json!({"parameterFiles": files});
    let files = options(json!(["envs/common.yaml", "envs/${cluster.labels.env}.yaml"]));

    let manifests = open(&tree, plan("shop", files.clone())).expect("it is read");
    assert!(manifests.variables().contains("cluster.labels.env"), "clusters that choose another file are others");
    let objects = manifests.render(&recipe(), &values(json!({"a": "spec"}))).expect("it renders");
    assert_eq!(bodies(&objects)["ConfigMap web/map"]["data"], json!({"a": "spec", "b": "prod", "c": "1"}));
    assert!(manifests.inputs().paths().contains("envs/prod.yaml"));

    let missing = refused(&tree, "shop", options(json!(["envs/none.yaml"])));
    assert_eq!((missing.code(), missing.file()), ("parameter_file_missing", Some("envs/none.yaml")));
    let bad = refused(&tree, "shop", options(json!(["envs/bad.yaml"])));
    assert_eq!(bad.to_string(), "`envs/bad.yaml`: the value of `a` is a list, not a string, number or boolean");
}

#[test]
fn no_value_of_a_target_stands_in_what_is_said_of_an_error() {
    let schema = r#"{"type": "object", "properties": {"pw": {"type": "string", "pattern": "^[a-z]+$"}}}"#;
    let mut tree = chart_of("a: {{ fail (printf \"bad %s\" .Values.pw) }}\n");
    let options = || json!({"helm": {"values": {"pw": "${pw}"}}});
    let told = |tree: &Tree| match render(tree, "charts/shop", options(), json!({"pw": "hunter2-SECRET"})) {
        Err(Failure::Render(error)) => format!("{} {error} {error:?} {:?}", error.code(), error.hint()),
        _ => panic!("it is refused"),
    };

    let failed = told(&tree);
    assert!(failed.starts_with("helm_failed bad …") && !failed.contains("hunter2"), "{failed}");
    tree.0.insert("charts/shop/values.schema.json".to_owned(), schema.to_owned());
    let unfit = told(&tree);
    assert!(unfit.starts_with("helm_schema") && unfit.contains("/pw") && !unfit.contains("hunter2"), "{unfit}");
}

#[test]
fn a_target_without_parameters_leaves_what_is_not_the_clusters_own_as_it_is() {
    let object = "{apiVersion: v1, kind: ConfigMap, metadata: {name: map, labels: {at: 'x-${cluster.name}'}}, data: {run.sh: 'exit ${CODE:-0}; ${ARGS[@]}'}}\n";
    let tree = Tree::of(&[
        ("plain/map.yaml", object),
        (
            "over/kustomization.yaml",
            "configMapGenerator: [{name: map, files: [run.sh], options: {disableNameSuffixHash: true, labels: {at: 'x-${cluster.name}'}}}]\n",
        ),
        ("over/run.sh", "exit ${CODE:-0}; ${ARGS[@]}"),
    ]);

    for folder in ["plain", "over"] {
        let plan = Plan { has_parameters: false, ..plan(folder, json!({})) };
        let manifests = open(&tree, plan).expect("it is read");
        assert_eq!(manifests.variables().iter().collect::<Vec<_>>(), ["cluster.name"], "{folder}");
        let objects = manifests.render(&recipe(), &values(json!({}))).expect("it renders");
        let map = &bodies(&objects)["ConfigMap web/map"];
        assert_eq!(map["data"]["run.sh"], "exit ${CODE:-0}; ${ARGS[@]}", "{folder}");
        assert_eq!(map["metadata"]["labels"]["at"], "x-berlin", "{folder}");
        assert_eq!(
            refused(&tree, folder, json!({})).code(),
            "variable_malformed",
            "with parameters it is another's mistake"
        );
    }
}

const HOOKS: &str = "\
apiVersion: v1\nkind: ConfigMap\nmetadata: {name: before, annotations: {helm.sh/hook: pre-install}}\n---\n\
apiVersion: v1\nkind: ConfigMap\nmetadata: {name: uninstall, annotations: {helm.sh/hook: pre-delete}}\n---\n\
apiVersion: v1\nkind: ConfigMap\nmetadata: {name: upgrade, annotations: {helm.sh/hook: post-upgrade}}\n---\n\
apiVersion: v1\nkind: ConfigMap\nmetadata: {name: tested, annotations: {helm.sh/hook: test}}\n---\n\
apiVersion: v1\nkind: ConfigMap\nmetadata: {name: meant, annotations: {helm.sh/hook: pre-upgrade, bellwether.dev/phase: '5'}}\n---\n\
apiVersion: v1\nkind: List\nitems: [{apiVersion: v1, kind: ConfigMap, metadata: {name: listed, annotations: {helm.sh/hook: pre-rollback}}}]\n";

#[test]
fn hooks_of_a_deletion_a_rollback_and_a_test_are_left_out_and_those_of_an_upgrade_carried_whoever_made_them() {
    let chart = [
        ("Chart.yaml", "apiVersion: v2\nname: app\nversion: 1.0.0\n"),
        ("values.yaml", ""),
        ("templates/a.yaml", HOOKS),
    ];
    let mut tree = Tree::of(&[
        ("plain/all.yaml", HOOKS),
        ("built/kustomization.yaml", "resources: [all.yaml]\n"),
        ("built/all.yaml", HOOKS),
        ("inflated/kustomization.yaml", "helmCharts: [{name: app, releaseName: r}]\n"),
        ("over/kustomization.yaml", "commonAnnotations: {a: b}\n"),
    ]);
    for (name, text) in chart {
        tree.0.insert(format!("inflated/charts/app/{name}"), text.to_owned());
        tree.0.insert(format!("chart/{name}"), text.to_owned());
    }

    let over = json!({"kustomize": "over", "helm": {}});
    for (folder, options) in
        [("plain", json!({})), ("built", json!({})), ("inflated", json!({})), ("chart", json!({})), ("chart", over)]
    {
        let objects = bodies(&render(&tree, folder, options, json!({})).expect("it renders"));
        assert_eq!(
            objects.keys().collect::<Vec<_>>(),
            ["ConfigMap web/before", "ConfigMap web/meant", "ConfigMap web/upgrade"],
            "{folder}"
        );
        let mark = |name: &str| {
            objects[&format!("ConfigMap web/{name}")]["metadata"]["annotations"]["bellwether.dev/hook"].clone()
        };
        assert_eq!((mark("upgrade"), mark("meant")), (json!("upgrade"), Value::Null), "{folder}");
    }
}

/// Of each time that Argo CD has.
const ARGOS_HOOKS: &str = "\
apiVersion: batch/v1\nkind: Job\nmetadata: {name: before, annotations: {argocd.argoproj.io/hook: PreSync}}\n---\n\
apiVersion: batch/v1\nkind: Job\nmetadata: {name: amid, annotations: {argocd.argoproj.io/hook: 'Sync,SyncFail'}}\n---\n\
apiVersion: batch/v1\nkind: Job\nmetadata: {name: after, annotations: {argocd.argoproj.io/hook: PostSync}}\n---\n\
apiVersion: batch/v1\nkind: Job\nmetadata: {name: failed, annotations: {argocd.argoproj.io/hook: SyncFail}}\n---\n\
apiVersion: batch/v1\nkind: Job\nmetadata: {name: gone, annotations: {argocd.argoproj.io/hook: PostDelete}}\n---\n\
apiVersion: batch/v1\nkind: Job\nmetadata: {name: typo, annotations: {argocd.argoproj.io/hook: PresSync}}\n---\n\
apiVersion: v1\nkind: ConfigMap\nmetadata: {name: skipped, annotations: {argocd.argoproj.io/hook: Skip}}\n";

#[test]
fn hooks_of_argo_cd_are_carried_where_a_target_has_their_time_and_else_named_whoever_made_them() {
    let tree = Tree::of(&[
        ("plain/all.yaml", ARGOS_HOOKS),
        ("built/kustomization.yaml", "resources: [all.yaml]\n"),
        ("built/all.yaml", ARGOS_HOOKS),
        ("chart/Chart.yaml", "apiVersion: v2\nname: app\nversion: 1.0.0\n"),
        ("chart/values.yaml", ""),
        ("chart/templates/a.yaml", ARGOS_HOOKS),
    ]);

    for folder in ["plain", "built", "chart"] {
        let manifests = open(&tree, plan(folder, json!({}))).expect("it is opened");
        let objects = bodies(&manifests.render(&recipe(), &values(json!({}))).expect("it renders"));

        let applied = ["Job web/after", "Job web/amid", "Job web/before"];
        assert_eq!(objects.keys().collect::<Vec<_>>(), applied, "{folder}");
        let left_out: Vec<_> = manifests.left_out_hooks().iter().map(ToString::to_string).collect();
        let expected =
            ["ConfigMap skipped (Skip)", "Job failed (SyncFail)", "Job gone (PostDelete)", "Job typo (PresSync)"];
        assert_eq!(left_out, expected, "{folder}");
    }
}

#[test]
fn a_chart_that_takes_the_clock_is_refused_each_time_and_what_has_no_order_is_the_same_each_time() {
    let map = |data: &str| {
        format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata: {{d: {{{{ {data} | quote }}}}}}\n")
    };
    for data in ["now | unixEpoch", "now | date \"2006-01-02\"", "htmlDateInZone \"\" \"UTC\""] {
        for _ in 0..5 {
            let error = refused(&chart_of(&map(data)), "charts/shop", json!({}));
            assert_eq!(error.code(), "helm_volatile", "{data}: {error}");
        }
    }
    let sorted = chart_of(&map("keys (dict \"a\" 1 \"b\" 2 \"c\" 3) | join \",\""));
    let once = || render(&sorted, "charts/shop", json!({}), json!({})).expect("it renders");
    let first = once();
    assert!((0..10).all(|_| once() == first));
}

#[test]
fn a_value_is_hidden_in_every_form_and_a_word_of_the_target_is_not() {
    let tree = chart_of("a: {{ fail (printf \"bad %s %q\" (b64enc .Values.pw) .Values.pem) }}\n");
    let options = json!({"helm": {"values": {"pw": "${pw}", "pem": "${pem}", "name": "shop", "t": "template"}}});
    let parameters = json!({"pw": "hunter2hunter2", "pem": "aaaa\nbbbb\"c"});

    let error = match render(&tree, "charts/shop", options, parameters) {
        Err(Failure::Render(error)) => error.to_string(),
        _ => panic!("it is refused"),
    };

    assert_eq!(error, "bad … \"…\"\nin the template shop/templates/a.yaml:1");
}

#[test]
fn lists_of_what_to_leave_out_that_would_take_for_hours_are_refused_at_once() {
    let mut tree = Tree::default();
    let deep = "d/".repeat(20);
    for number in 0..100 {
        tree.0.insert(format!("app/{deep}{number}.yaml"), MAP.replace("map", &format!("map-{number}")));
    }
    let lines = "*b\n".repeat(900);
    tree.0.insert(".bellwetherignore".to_owned(), "*b\n".repeat(21_000));
    tree.0.insert("app/.bellwetherignore".to_owned(), lines);

    let began = std::time::Instant::now();
    let error = refused(&tree, "app", json!({}));

    assert_eq!(error.code(), "ignore_file_invalid");
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[test]
fn a_chart_that_a_kustomization_below_a_plain_folder_has_is_that_kustomizations() {
    let mut tree = Tree::of(&[
        ("pl/ns.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n"),
        ("pl/shop/kustomization.yaml", "helmCharts: [{name: app, releaseName: r}]\n"),
        ("pl/shop/charts/app/Chart.yaml", "apiVersion: v2\nname: app\nversion: 1.0.0\n"),
        ("pl/shop/charts/app/values.yaml", ""),
        ("pl/shop/charts/app/templates/a.yaml", MAP),
    ]);
    assert_eq!(render(&tree, "pl", json!({}), json!({})).expect("it renders").len(), 2);

    assert_eq!(refused(&tree, "pl", json!({"kind": "plain"})).code(), "chart_in_folder", "nobody builds it then");
    tree.0.insert("pl/other/Chart.yaml".to_owned(), "apiVersion: v2\nname: app\nversion: 1.0.0\n".to_owned());
    assert_eq!(refused(&tree, "pl", json!({})).code(), "chart_in_folder");
}

#[test]
fn values_of_a_target_without_parameters_keep_every_text_that_is_not_the_clusters() {
    let tree = chart_of(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {{ toYaml .Values.texts | nindent 2 }}\n",
    );
    let texts =
        json!({"cmd": "echo ${HOME}", "otel": "${env:MY_POD_IP}:4317", "host": "${cluster.name} ${HOME} $${y}"});
    let plan = Plan { has_parameters: false, ..plan("charts/shop", json!({"helm": {"values": {"texts": texts}}})) };

    let objects = open(&tree, plan).expect("it is read").render(&recipe(), &values(json!({}))).expect("it renders");

    assert_eq!(
        bodies(&objects)["ConfigMap web/a"]["data"],
        json!({"cmd": "echo ${HOME}", "otel": "${env:MY_POD_IP}:4317", "host": "berlin ${HOME} $${y}"})
    );
}

#[test]
fn in_a_text_that_names_the_cluster_another_variable_of_a_target_without_parameters_stays() {
    let tree = Tree::of(&[(
        "mix/a.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {t: 'x ${cluster.name} ${HOME} $${y}'}\n",
    )]);
    let plan = Plan { has_parameters: false, ..plan("mix", json!({})) };

    let objects = open(&tree, plan).expect("it is read").render(&recipe(), &values(json!({}))).expect("it renders");

    assert_eq!(bodies(&objects)["ConfigMap web/a"]["data"]["t"], "x berlin ${HOME} $${y}");
}

#[test]
fn what_a_kustomization_over_a_chart_says_is_filled_in_and_what_the_chart_gave_is_not() {
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web}\ndata: {a: 'echo ${HOME} $${x}', \"k${y}\": \"\\x24{cluster.name}\"}\n";
    let mut tree = chart_of(template);
    let over = "resources: [map.yaml]\ncommonAnnotations: {cluster: \"${cluster.name}\", zone: \"${zone}\", shell: \"$${HOME}\"}\n";
    tree.0.insert("over/kustomization.yaml".to_owned(), over.to_owned());
    let options = json!({"kustomize": "over", "helm": {}});
    let manifests = open(&tree, plan("charts/shop", options.clone())).expect("it is opened");

    let objects = bodies(&manifests.render(&recipe(), &values(json!({"zone": "eu"}))).expect("it renders"));

    let web = &objects["ConfigMap web/web"];
    assert_eq!(web["data"], json!({"a": "echo ${HOME} $${x}", "k${y}": "${cluster.name}"}));
    for name in ["web", "map"] {
        let annotations = &objects[&format!("ConfigMap web/{name}")]["metadata"]["annotations"];
        assert_eq!(
            (&annotations["cluster"], &annotations["zone"], &annotations["shell"]),
            (&json!("berlin"), &json!("eu"), &json!("${HOME}")),
            "{name}"
        );
    }
    assert!(manifests.variables().contains("zone"), "clusters that differ in it get something else");
    let unset = refused(&tree, "charts/shop", options);
    assert_eq!((unset.code(), unset.file()), ("variable_unset", Some("over/kustomization.yaml")));
}

/// What all of these make, and the version that made it.
const RECORDED: (u32, &str) = (4, "sha256:0c291fe3f8c51e2f16cb7a006ae34213ca61b21e9bdb9740de9410086ebdc7ca");

#[test]
fn other_bytes_of_the_same_files_are_another_version() {
    let hooks = Tree::of(&[("a/all.yaml", HOOKS)]);
    let mixed = "apiVersion: v1\nkind: Secret\nmetadata: {name: s, labels: {n: }, creationTimestamp: null}\nstringData: {a: 'x ${n} $${y}', b: }\n---\n\
                 apiVersion: v1\nkind: List\nitems: [{apiVersion: rbac.authorization.k8s.io/v1, kind: ClusterRole, metadata: {name: c, namespace: x}, rules: []}]\n---\n\
                 apiVersion: example.org/v1\nkind: Thing\nmetadata: {name: t}\nspec:\n  n: ${n}\n  more: {f: 1e3, o: 0o17, l: 017, y: yes, d: 2001-01-01, big: 12345678901234567890}\nstatus: {a: b}\n";
    let plain = Tree::of(&[("a/mixed.yaml", mixed), ("a/.hidden.yaml", "no"), ("a/values.yaml", "no: object")]);
    let values_of_chart =
        json!({"helm": {"valuesFiles": ["envs/${cluster.labels.env}.yaml"], "values": {"image": {"tag": "${n}"}}}});
    let over = json!({"kustomize": "over", "helm": {"values": {"set": "${n}"}}});
    let mut made = String::new();
    for (tree, folder, options) in [
        (&hooks, "a", json!({})),
        (&plain, "a", json!({})),
        (&overlay(), "apps/eu", json!({})),
        (&chart(), "charts/shop", values_of_chart),
        (&chart_of(&MAP.replace("{name: map}", "{name: web}")), "charts/shop", over),
    ] {
        let objects = render(tree, folder, options, json!({"n": 4, "region": "eu"})).expect("it renders");
        for object in objects {
            writeln!(made, "{} {}", object.key, String::from_utf8_lossy(&object.body)).expect("a text takes it");
        }
    }

    let digest = Digest::of(made.as_bytes()).to_string();
    assert_eq!(
        (VERSION, digest.as_str()),
        RECORDED,
        "what comes out is other than what was recorded: raise `VERSION` in render/src/lib.rs and write both here, so that \
         hubs make anew what the version before made\n{made}"
    );
}

#[test]
fn what_made_a_render_is_read_back() {
    for (engine, expected) in [(None, None), (Some("engine 1, helm v4"), Some("engine 1, helm v4"))] {
        let text = made_by(engine);
        assert_eq!(MadeBy::read(&text), MadeBy { version: VERSION, engine: expected });
    }
    assert_eq!(MadeBy::read("engine 0.2.0, helm v4"), MadeBy { version: 0, engine: None });
    assert_eq!(MadeBy::read(""), MadeBy { version: 0, engine: None });
}
