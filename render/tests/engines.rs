//! Kustomize and Helm by their real engine: what comes out, what it read, and what bad input gets.
//!
//! `./dev test` builds the engine and names it in `BELLWETHER_RENDER_ENGINE`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use bellwether_core::parameters::{ClusterFacts, ParameterSet, Parameters, Values};
use bellwether_render::{
    Confinement, Engines, Failure, Files, Found, Listed, Listing, Manifests, Marks, Plan, Recipe, RenderedObject,
    SourceFile,
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

    fn manifests(&self, folder: &str) -> Result<Vec<SourceFile>, Link> {
        let files = self.0.iter().filter(|(path, _)| folder.is_empty() || path.starts_with(&format!("{folder}/")));
        Ok(files.map(|(path, text)| SourceFile { path: path.clone(), bytes: text.clone().into_bytes() }).collect())
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
    Parameters::resolve(&sets, ClusterFacts { name: &"berlin".parse().expect("a name"), labels: &labels })
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
        Err(Failure::Files(error)) => panic!("{error}"),
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
fn a_release_and_its_definitions_are_as_the_target_says() {
    let options = json!({"helm": {"release": "other", "includeCrds": false}});

    let objects = bodies(&render(&chart(), "charts/shop", options, json!({})).expect("it renders"));

    assert_eq!(objects.keys().collect::<Vec<_>>(), ["ConfigMap web/other-settings"]);
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
    assert_eq!(refused(&tree, "charts/shop", json!({"kind": "plain"})).code(), "yaml_invalid");
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
        "resources: ['https://169.254.169.254/latest/meta-data']\n",
        "resources: ['git::ssh://internal/repo']\n",
        "resources: ['github.com/example/repo//base?ref=v1']\n",
        "helmCharts: [{name: a, repo: 'https://charts.example.org'}]\n",
    ] {
        let tree = Tree::of(&[("a/kustomization.yaml", kustomization)]);
        let error = refused(&tree, "a", json!({}));
        assert_eq!(error.code(), "kustomize_unsupported", "{error}");
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
