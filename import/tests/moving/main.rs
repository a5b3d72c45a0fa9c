//! Moving in from Flux and from Argo CD, with the real engines: what is written, what is said, and that both sides deploy
//! the same.
//!
//! `./dev test` builds the engine and names it in `BELLWETHER_RENDER_ENGINE`.

mod fields;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;

use bellwether_core::Labels;
use bellwether_core::api::{WrittenRepo, WrittenTarget};
use bellwether_core::render::Source;
use bellwether_import::{Checked, Effect, Entry, Import, Options, Workspace, argocd, check, flux, gather, gather_text};
use bellwether_render::{
    Confinement, Engines, Files, Found, LeaveOut, Listed, Listing, SourceFile, is_named_for_render,
};
use serde_json::{Value, json};

const URL: &str = "https://git.example.org/fleet.git";

/// Files in memory.
#[derive(Clone, Default)]
struct Tree(BTreeMap<String, String>);

impl Tree {
    fn of(files: &[(&str, &str)]) -> Self {
        Self(files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect())
    }

    fn has_folder(&self, path: &str) -> bool {
        path.is_empty() || self.0.keys().any(|file| file.strip_prefix(path).is_some_and(|rest| rest.starts_with('/')))
    }
}

impl Files for Tree {
    type Error = Infallible;

    fn read(&self, path: &str, bytes_max: usize) -> Result<Found, Infallible> {
        Ok(match self.0.get(path) {
            Some(text) if text.len() > bytes_max => Found::TooLarge,
            Some(text) => Found::File(text.clone().into_bytes()),
            None if self.has_folder(path) => Found::Folder,
            None => Found::Absent,
        })
    }

    fn list(&self, path: &str) -> Result<Listing, Infallible> {
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

    fn manifests(&self, folder: &str, leave_out: &LeaveOut<'_>) -> Result<Vec<SourceFile>, Infallible> {
        let is_one = |path: &str| is_named_for_render(path) && !leave_out(path, false);
        let files = self.0.iter().filter(|(path, _)| folder.is_empty() || path.starts_with(&format!("{folder}/")));
        let files = files.filter(|(path, _)| is_one(path));
        Ok(files.map(|(path, text)| SourceFile { path: path.clone(), bytes: text.clone().into_bytes() }).collect())
    }

    fn find_source(&self, _: &Source) -> Result<(), Infallible> {
        Ok(())
    }
}

struct Moved {
    workspace: Workspace<Tree>,
    import: Import,
}

#[derive(Clone, Copy)]
enum Tool {
    Flux,
    Argo,
}

fn moved(tool: Tool, files: &[(&str, &str)], options: Options) -> Moved {
    moved_beside(tool, files, &[], options)
}

/// With checkouts of other repositories, by their names as Repos.
fn moved_beside(tool: Tool, files: &[(&str, &str)], others: &[(&str, &[(&str, &str)])], options: Options) -> Moved {
    let engine = std::env::var("BELLWETHER_RENDER_ENGINE").expect("`./dev test` names the engine");
    let engines = Engines::new(Some(Path::new(&engine)), Confinement::AsThereIs);
    let files = Arc::new(Tree::of(files));
    let gathered = gather(&*files, &[String::new()]).expect("files in memory are read");
    let others = others.iter().map(|(repo, files)| ((*repo).to_owned(), Arc::new(Tree::of(files)))).collect();
    let workspace = Workspace { files, others, engines };
    let options = Options { url: Some(URL.to_owned()), overlays: "bellwether/overlays".to_owned(), ..options };
    let import = match tool {
        Tool::Flux => flux(&workspace, gathered, &options),
        Tool::Argo => argocd(&workspace, gathered, &options),
    };
    for document in &import.documents {
        let spec = document.spec.clone();
        match document.kind {
            "Repo" => drop(serde_json::from_value::<WrittenRepo>(spec).expect("a Repo")),
            _ => drop(serde_json::from_value::<WrittenTarget>(spec).expect("a Target")),
        }
    }
    Moved { workspace, import }
}

fn production() -> Options {
    let labels = Labels::from([("env".to_owned(), "production".to_owned())]);
    Options { cluster_labels: Some(labels), ..Options::default() }
}

impl Moved {
    fn target(&self, name: &str) -> &Value {
        let found = self.import.documents.iter().find(|one| one.kind == "Target" && one.name == name);
        &found.unwrap_or_else(|| panic!("no target {name} in {:?}", self.targets())).spec
    }

    fn targets(&self) -> Vec<&str> {
        self.import.documents.iter().filter(|one| one.kind == "Target").map(|one| one.name.as_str()).collect()
    }

    fn entry(&self, name: &str) -> &Entry {
        let found = self.import.report.iter().find(|entry| entry.name == name && !entry.kind.ends_with("Repository"));
        found.unwrap_or_else(|| panic!("nothing is said of {name}"))
    }

    fn says(&self, name: &str, field: &str) -> Effect {
        let remarks = &self.entry(name).remarks;
        let found = remarks.iter().find(|remark| remark.field == field);
        found.unwrap_or_else(|| panic!("nothing is said of {field}: {remarks:#?}")).effect
    }

    /// Every target deploys what its manifest says, and so many objects.
    fn assert_same(&self, objects: &[(&str, usize)]) {
        let checked = check(&self.workspace, &self.import);
        let told: Vec<_> = checked.iter().map(|one| (one.target.as_str(), one.objects)).collect();
        assert!(checked.iter().all(|one| !one.differs() && one.unchecked.is_none()), "{checked:#?}");
        assert_eq!(told, objects);
    }

    fn checked(&self) -> Vec<Checked> {
        check(&self.workspace, &self.import)
    }
}

const GIT: &str = "
apiVersion: source.toolkit.fluxcd.io/v1
kind: GitRepository
metadata: {name: flux-system, namespace: flux-system}
spec: {interval: 30s, url: 'https://git.example.org/fleet.git', ref: {branch: main}}
";

fn kustomization(name: &str, path: &str, more: &str) -> String {
    format!(
        "---\napiVersion: kustomize.toolkit.fluxcd.io/v1\nkind: Kustomization\nmetadata: {{name: {name}, namespace: flux-system}}\n\
         spec:\n  interval: 10m\n  path: {path}\n  prune: true\n  sourceRef: {{kind: GitRepository, name: flux-system}}\n{more}"
    )
}

const DEPLOYMENT: &str = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  replicas: ${replicas:=2}
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: 'example.org/web:${tag}'}]}
";

const CONFIG: &str = "
apiVersion: v1
kind: ConfigMap
metadata: {name: config}
data: {shell: 'echo $HOME'}
";

#[test]
fn a_kustomization_becomes_a_target_that_deploys_the_same() {
    let sync = kustomization("apps", "./apps/shop", "  postBuild: {substitute: {tag: '1.10', replicas: '3'}}\n");
    let files = [("clusters/prod/sync.yaml", &*format!("{GIT}{sync}")), ("apps/shop/web.yaml", DEPLOYMENT)];

    let moved = moved(Tool::Flux, &files, production());

    assert_eq!(
        *moved.target("apps"),
        json!({
            "repo": "fleet", "ref": {"branch": "main"}, "path": "apps/shop",
            "clusters": {"matchLabels": {"env": "production"}},
            "parameters": [{"values": {"tag": "1.10", "replicas": 3}}],
        })
    );
    let repo = &moved.import.documents[0];
    assert_eq!(repo.spec, json!({"url": URL, "pollSeconds": 30}));
    assert_eq!(moved.says("apps", "spec.interval"), Effect::Note);
    moved.assert_same(&[("apps", 1)]);
}

#[test]
fn what_a_target_cannot_say_stands_in_an_overlay() {
    let more = "  targetNamespace: shop
  namePrefix: x-
  commonMetadata: {labels: {team: a}, annotations: {b: c}}
  images: [{name: example.org/web, newTag: '2'}]
  postBuild: {substitute: {tag: v1}}
  patches:
    - patch: |
        - {op: replace, path: /spec/replicas, value: 7}
      target: {kind: Deployment}
";
    let sync = kustomization("apps", "./apps/shop", more);
    let files = [
        ("clusters/prod/sync.yaml", &*format!("{GIT}{sync}")),
        ("apps/shop/kustomization.yaml", "resources: [web.yaml, config.yaml]\n"),
        ("apps/shop/web.yaml", DEPLOYMENT),
        ("apps/shop/config.yaml", CONFIG),
    ];

    let moved = moved(Tool::Flux, &files, production());

    assert_eq!(moved.target("apps")["path"], "bellwether/overlays/apps");
    assert_eq!(moved.import.overlays[0].content["resources"], json!(["../../../apps/shop"]));
    assert_eq!(moved.says("apps", "spec.patches"), Effect::Note);
    assert_eq!(moved.says("apps", ""), Effect::Todo, "somebody has to commit it");
    moved.assert_same(&[("apps", 2)]);
}

#[test]
fn a_folder_without_a_kustomization_is_built_as_flux_builds_it() {
    let sync = kustomization("apps", "./apps", "");
    let files = [
        ("clusters/prod/sync.yaml", &*format!("{GIT}{sync}")),
        ("apps/config.yaml", CONFIG),
        ("apps/inner/kustomization.yaml", "namePrefix: inner-\nresources: [config.yaml]\n"),
        ("apps/inner/config.yaml", CONFIG),
    ];
    let namespaced: Vec<(&str, String)> = files
        .iter()
        .map(|(path, text)| (*path, text.replace("{name: config}", "{name: config, namespace: a}")))
        .collect();
    let files: Vec<(&str, &str)> = namespaced.iter().map(|(path, text)| (*path, text.as_str())).collect();

    let moved = moved(Tool::Flux, &files, production());

    assert!(moved.import.overlays.is_empty());
    moved.assert_same(&[("apps", 2)]);
}

#[test]
fn fields_without_a_counterpart_are_told_one_by_one() {
    let more = "  dependsOn: [{name: infra}]
  wait: true
  suspend: true
  force: true
  healthChecks: [{apiVersion: apps/v1, kind: Deployment, name: web, namespace: shop}]
  serviceAccountName: apps
  decryption: {provider: sops}
  later: {field: 1}
  postBuild: {substituteFrom: [{kind: Secret, name: secrets}], substitute: {tag: a}}
";
    let sync = kustomization("apps", "./apps/shop", more).replace("prune: true", "prune: false");
    let files = [("clusters/prod/sync.yaml", &*format!("{GIT}{sync}")), ("apps/shop/web.yaml", DEPLOYMENT)];

    let moved = moved(Tool::Flux, &files, production());

    for field in ["dependsOn", "serviceAccountName", "decryption", "later", "postBuild.substituteFrom[0]"] {
        assert_eq!(moved.says("apps", &format!("spec.{field}")), Effect::None, "{field}");
    }
    for field in ["force", "wait", "suspend", "healthChecks"] {
        assert_eq!(moved.says("apps", &format!("spec.{field}")), Effect::Differs, "{field}");
    }
    let target = moved.target("apps");
    assert_eq!(target["sync"], json!({"prune": "never"}));
    assert_eq!(target["clusters"]["matchLabels"]["import.bellwether.dev/suspended"], "true", "it selects no cluster");
    assert!(moved.checked()[0].unchecked.is_some(), "nobody knows the secret's values");
}

#[test]
fn variables_stay_as_they_are_where_flux_fills_none_in() {
    let sync = kustomization("apps", "./apps/shop", "  postBuild: {}\n");
    let config = CONFIG.replace("echo $HOME", "echo ${HOME}").replace("{name: config}", "{name: config, namespace: a}");
    let files = [("clusters/prod/sync.yaml", &*format!("{GIT}{sync}")), ("apps/shop/config.yaml", &*config)];

    let moved = moved(Tool::Flux, &files, production());

    assert_eq!(moved.target("apps").get("parameters"), None);
    moved.assert_same(&[("apps", 1)]);
}

#[test]
fn a_variable_that_nothing_gives_a_value_is_empty_as_in_flux() {
    let sync = kustomization("apps", "./apps/shop", "  postBuild: {substitute: {tag: v1}}\n");
    let web = DEPLOYMENT.replace("${tag}", "${tag}${suffix}");
    let files = [("clusters/prod/sync.yaml", &*format!("{GIT}{sync}")), ("apps/shop/web.yaml", &*web)];

    let moved = moved(Tool::Flux, &files, production());

    assert_eq!(moved.target("apps")["parameters"], json!([{"values": {"tag": "v1", "suffix": ""}}]));
    assert_eq!(moved.says("apps", "spec.postBuild"), Effect::Note);
    moved.assert_same(&[("apps", 1)]);
}

const CHART: [(&str, &str); 3] = [
    ("charts/shop/Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\n"),
    ("charts/shop/values.yaml", "replicas: 1\nhost: none\nscript: ''\nsize: small\n"),
    (
        "charts/shop/templates/config.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}', namespace: '{{ .Release.Namespace }}'}\n\
         data:\n  replicas: {{ .Values.replicas | quote }}\n  kind: {{ kindOf .Values.replicas }}\n  host: {{ .Values.host }}\n  script: {{ .Values.script | quote }}\n  size: {{ .Values.size }}\n",
    ),
];

fn release(more: &str) -> String {
    format!(
        "---\napiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {{name: shop, namespace: shop}}\nspec:\n  interval: 1h\n\
         \x20 chart: {{spec: {{chart: ./charts/shop, sourceRef: {{kind: GitRepository, name: flux-system, namespace: flux-system}}}}}}\n{more}"
    )
}

#[test]
fn a_release_that_an_overlay_patches_is_taken_as_it_is_built_and_its_objects_are_no_ones_else() {
    let sync =
        kustomization("apps", "./apps/production", "  postBuild: {substitute: {domain: example.org, count: '5'}}\n");
    let base = release("  values: {host: base, script: '$${HOME}'}\n");
    let patch = "apiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: shop, namespace: shop}\nspec:\n  values: {host: 'shop.${domain}', replicas: '${count}'}\n";
    let mut files = vec![
        ("clusters/prod/sync.yaml", format!("{GIT}{sync}")),
        ("apps/base/kustomization.yaml", "resources: [namespace.yaml, release.yaml]\n".to_owned()),
        ("apps/base/namespace.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n".to_owned()),
        ("apps/base/release.yaml", base),
        ("apps/production/kustomization.yaml", "resources: [../base]\npatches: [{path: values.yaml}]\n".to_owned()),
        ("apps/production/values.yaml", patch.to_owned()),
    ];
    files.extend(CHART.map(|(path, text)| (path, text.to_owned())));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();

    let moved = moved(Tool::Flux, &files, production());

    assert_eq!(moved.targets(), ["apps", "shop"]);
    let helm = &moved.target("shop")["render"]["helm"];
    assert_eq!(helm["values"], json!({"host": "shop.${domain}", "replicas": "${count}", "script": "$${HOME}"}));
    assert_eq!(moved.target("shop")["parameters"], json!([{"values": {"domain": "example.org", "count": 5}}]));
    assert_eq!(moved.target("shop")["namespace"], "shop");
    assert_eq!(moved.entry("shop").file, "apps/base/release.yaml");
    assert!(moved.import.report.iter().filter(|entry| entry.kind == "HelmRelease").count() == 1, "the patch is none");
    moved.assert_same(&[("apps", 1), ("shop", 1)]);
}

#[test]
fn values_of_a_config_map_are_under_those_of_the_release_and_paths_are_over_files_before_them() {
    let more = "  releaseName: web
  targetNamespace: front
  install: {crds: Skip, createNamespace: true, remediation: {retries: 3}}
  driftDetection: {mode: warn}
  valuesFrom:
    - {kind: ConfigMap, name: values}
    - {kind: ConfigMap, name: values, valuesKey: size, targetPath: size}
  values: {host: inline}
  test: {enable: true}
";
    let map = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: values, namespace: shop}\ndata:\n  size: big\n  values.yaml: |\n    host: map\n    replicas: 4\n    size: middle\n";
    let mut files = vec![("shop.yaml", format!("{GIT}{}{map}", release(more)))];
    files.extend(CHART.map(|(path, text)| (path, text.to_owned())));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();

    let moved = moved(Tool::Flux, &files, production());

    assert_eq!(
        moved.target("shop")["render"]["helm"],
        json!({"release": "web", "crds": "skip", "values": {"host": "inline", "replicas": 4, "size": "middle"}, "set": ["size=big"]})
    );
    assert_eq!(moved.target("shop")["sync"], json!({"drift": "warn"}));
    assert_eq!(moved.target("shop")["namespace"], "front");
    assert_eq!(moved.says("shop", "spec.test"), Effect::None);
    for field in ["install.createNamespace", "install.remediation"] {
        assert_eq!(moved.says("shop", &format!("spec.{field}")), Effect::Differs, "{field}");
    }
    moved.assert_same(&[("shop", 1)]);
}

/// What Flux's own code gives for these (its `ChartValuesFromReferences`, over Helm's parser).
#[test]
fn what_a_path_of_a_release_sets_is_under_what_flux_reads_after_it() {
    let map = "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: m, namespace: shop}\ndata:\n  size: big\n  \
               quoted: '\"1\"'\n  list: '{a,b}'\n  pairs: '1,b=2'\n  values.yaml: 'size: middle'\n  deep: 'host: {a: 1}'\n";
    let moved_by = |more: &str| {
        let mut files = vec![("shop.yaml", format!("{GIT}{}{map}", release(more)))];
        files.extend(SHOWING.map(|(path, text)| (path, text.to_owned())));
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        moved(Tool::Flux, &files, production())
    };
    let path = |key: &str, path: &str| format!("{{kind: ConfigMap, name: m, valuesKey: {key}, targetPath: {path}}}");
    let file = |key: &str| format!("{{kind: ConfigMap, name: m, valuesKey: {key}}}");
    let from = |entries: &[String]| format!("  valuesFrom: [{}]\n", entries.join(", "));

    for (more, values, set, set_string) in [
        (from(&[path("size", "size"), file("values.yaml")]), json!({"size": "middle"}), json!(null), json!(null)),
        (
            from(&[path("size", "size")]) + "  values: {size: inline}\n",
            json!({"size": "inline"}),
            json!(null),
            json!(null),
        ),
        (from(&[path("quoted", "a"), path("size", "a")]), json!(null), json!(["a=big"]), json!(null)),
        (from(&[path("size", "a"), path("quoted", "a")]), json!(null), json!(["a=big"]), json!(["a=1"])),
        (from(&[path("size", "host.b"), file("deep")]), json!({"host": {"a": 1}}), json!(["host.b=big"]), json!(null)),
        (
            from(&[path("list", "l")]) + "  values: {size: inline}\n",
            json!({"size": "inline"}),
            json!(["l={a,b}"]),
            json!(null),
        ),
    ] {
        let moved = moved_by(&more);
        let helm = &moved.target("shop")["render"]["helm"];
        assert_eq!((&helm["values"], &helm["set"], &helm["setString"]), (&values, &set, &set_string), "{more}");
        moved.assert_same(&[("shop", 1)]);
    }
    // Here it goes by which map of the two Flux happens to write into.
    for (more, field) in [
        (from(&[path("size", "host.b")]) + "  values: {host: {b: inline}}\n", "spec.valuesFrom[0].targetPath"),
        (from(&[file("deep"), path("size", "'list[0]'")]) + "  values: {list: [1]}\n", "spec.valuesFrom[1].targetPath"),
        (from(&[path("quoted", "a.b"), path("size", "a")]), "spec.valuesFrom[0].targetPath"),
        (from(&[path("pairs", "a")]) + "  values: {b: inline}\n", "spec.valuesFrom[0].targetPath"),
    ] {
        let moved = moved_by(&more);
        assert_eq!(moved.says("shop", field), Effect::Differs, "{more}");
        let unchecked = moved.checked()[0].unchecked.clone();
        assert!(unchecked.is_some_and(|why| why.contains("order")), "it is not called the same: {more}");
    }
}

#[test]
fn what_becomes_of_definitions_is_as_flux_has_it() {
    for (written, expected, effect) in [
        ("", Value::Null, None),
        ("  install: {crds: Create}\n  upgrade: {crds: Create}\n", Value::Null, None),
        ("  install: {crds: CreateReplace}\n", Value::Null, Some(Effect::Differs)),
        ("  upgrade: {crds: CreateReplace}\n", json!("upgrade"), None),
        ("  install: {crds: Skip}\n", json!("skip"), None),
        ("  install: {skipCRDs: true}\n  upgrade: {crds: Skip}\n", json!("skip"), None),
        ("  install: {crds: Skip}\n  upgrade: {crds: CreateReplace}\n", json!("upgrade"), Some(Effect::Differs)),
    ] {
        let mut files = vec![("shop.yaml", format!("{GIT}{}", release(written)))];
        files.extend(CHART.map(|(path, text)| (path, text.to_owned())));
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();

        let moved = moved(Tool::Flux, &files, production());

        assert_eq!(moved.target("shop")["render"]["helm"]["crds"], expected, "{written}");
        let remarks = moved.entry("shop").remarks.iter().filter(|remark| remark.field == "spec.install.crds");
        assert_eq!(remarks.map(|remark| remark.effect).next(), effect, "{written}");
    }
}

#[test]
fn kustomizations_in_kustomizations_are_found_once_and_one_that_builds_itself_ends() {
    let root = kustomization("flux-system", "./clusters/prod", "");
    let files = [
        ("clusters/prod/flux-system/gotk-sync.yaml", &*format!("{GIT}{root}")),
        ("clusters/prod/apps.yaml", &*kustomization("apps", "./apps/shop", "")),
        ("apps/shop/config.yaml", &*CONFIG.replace("{name: config}", "{name: config, namespace: a}")),
    ];

    let moved = moved(Tool::Flux, &files, Options::default());

    assert_eq!(moved.targets(), ["apps"]);
    assert_eq!(moved.target("apps")["clusters"], json!({"matchLabels": {"cluster": "prod"}}));
    assert_eq!(moved.says("flux-system", ""), Effect::Note, "it deploys nothing but Flux's objects");
    assert_eq!(moved.entry("apps").file, "clusters/prod/apps.yaml");
}

#[test]
fn folders_for_two_clusters_become_targets_with_two_names_and_two_labels() {
    let sync = format!("{GIT}{}", kustomization("apps", "./apps/shop", ""));
    let config = CONFIG.replace("{name: config}", "{name: config, namespace: a}");
    let files =
        [("clusters/eu/sync.yaml", &*sync), ("clusters/us/sync.yaml", &*sync), ("apps/shop/config.yaml", &*config)];

    let moved = moved(Tool::Flux, &files, Options::default());

    assert_eq!(moved.targets(), ["apps-eu", "apps-us"]);
    assert_eq!(moved.target("apps-us")["clusters"], json!({"matchLabels": {"cluster": "us"}}));
    moved.assert_same(&[("apps-eu", 1), ("apps-us", 1)]);
}

#[test]
fn what_kubectl_printed_is_read_and_sources_that_are_no_counterpart_are_told() {
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "Bucket", "metadata": {"name": "b", "namespace": "f"}, "spec": {"endpoint": "x"}},
        {"apiVersion": "source.toolkit.fluxcd.io/v1", "kind": "HelmRepository", "metadata": {"name": "h", "namespace": "f"}, "spec": {"url": "https://charts.example.org"}},
        {"apiVersion": "helm.toolkit.fluxcd.io/v2", "kind": "HelmRelease", "metadata": {"name": "podinfo", "namespace": "f"},
         "spec": {"chart": {"spec": {"chart": "podinfo", "version": "6.x", "sourceRef": {"kind": "HelmRepository", "name": "h"}}}}},
        {"apiVersion": "kustomize.toolkit.fluxcd.io/v1", "kind": "Kustomization", "metadata": {"name": "k", "namespace": "f"},
         "spec": {"path": "./x", "prune": true, "sourceRef": {"kind": "Bucket", "name": "b"}}, "status": {"conditions": []}},
    ]});
    let workspace = moved(Tool::Flux, &[], Options::default()).workspace;

    let options = Options { overlays: "o".to_owned(), url: Some(URL.to_owned()), ..Options::default() };
    let import = flux(&workspace, gather_text(list.to_string().as_bytes()), &options);
    let moved = Moved { workspace, import };

    assert_eq!(moved.says("k", "spec.sourceRef"), Effect::None);
    assert_eq!(moved.says("b", ""), Effect::None);
    let repo = &moved.import.documents[0];
    assert_eq!(repo.spec, json!({"url": "https://charts.example.org", "chart": "podinfo"}));
    assert_eq!(moved.target("podinfo")["ref"], json!({"semver": "6.x"}));
    assert!(moved.checked()[0].unchecked.is_some(), "its files are not here");
}

#[test]
fn objects_that_nobody_who_was_read_deploys_are_told() {
    let mut files = vec![("shop.yaml", format!("{GIT}{}", release(""))), ("config.yaml", CONFIG.to_owned())];
    files.extend(CHART.map(|(path, text)| (path, text.to_owned())));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();

    let moved = moved(Tool::Flux, &files, production());

    assert_eq!(moved.says("config", ""), Effect::None, "a Kustomization may be in the cluster only");
    // What `kubectl` printed beside Flux's own is in the cluster, and not in the repository.
    let options = Options { overlays: "o".to_owned(), url: Some(URL.to_owned()), ..Options::default() };
    let printed = flux(&moved.workspace, gather_text(format!("{GIT}---{CONFIG}").as_bytes()), &options);
    assert!(printed.report.iter().all(|entry| entry.name != "config"), "{:#?}", printed.report);
}

#[test]
fn what_two_clusters_have_in_common_becomes_a_target_for_each() {
    let above = |cluster: &str| format!("{GIT}{}", kustomization(cluster, "./common", ""));
    let common = kustomization("shop", "./apps/shop", "  targetNamespace: shop\n");
    let mut files = vec![
        ("clusters/eu/sync.yaml", above("eu")),
        ("clusters/us/sync.yaml", above("us")),
        ("common/shop.yaml", common),
        ("common/release.yaml", release("")),
        ("apps/shop/config.yaml", CONFIG.to_owned()),
    ];
    files.extend(CHART.map(|(path, text)| (path, text.to_owned())));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();

    let moved = moved(Tool::Flux, &files, Options::default());

    assert_eq!(moved.targets(), ["shop-eu", "shop-release-eu", "shop-release-us", "shop-us"]);
    assert_eq!(moved.target("shop-us")["clusters"], json!({"matchLabels": {"cluster": "us"}}));
    moved.assert_same(&[("shop-eu", 1), ("shop-release-eu", 1), ("shop-release-us", 1), ("shop-us", 1)]);
}

#[test]
fn a_variable_in_a_version_has_its_value_since_a_ref_can_have_none() {
    let source = "---\napiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmRepository\nmetadata: {name: charts, namespace: shop}\nspec: {url: 'https://charts.example.org'}\n";
    let release = "---\napiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\nmetadata: {name: shop, namespace: shop}\nspec:\n  chart: {spec: {chart: shop, version: '${version}', sourceRef: {kind: HelmRepository, name: charts}}}\n  values: {host: '${host}'}\n";
    let sync = kustomization("apps", "./apps", "  postBuild: {substitute: {version: '1.2.3', host: example.org}}\n");
    let apps = format!("{source}{release}");
    let files = [("clusters/prod/sync.yaml", &*format!("{GIT}{sync}")), ("apps/shop.yaml", &*apps)];

    let moved = moved(Tool::Flux, &files, production());

    assert_eq!(moved.target("shop")["ref"], json!({"tag": "1.2.3"}));
    assert_eq!(moved.target("shop")["render"]["helm"]["values"], json!({"host": "${host}"}));
    assert_eq!(moved.target("shop")["parameters"], json!([{"values": {"host": "example.org"}}]));
}

#[test]
fn what_is_patched_after_a_chart_is_rendered_stands_in_a_kustomization_over_it() {
    let more = "  commonMetadata: {labels: {team: a}}
  postRenderers:
    - kustomize:
        patches:
          - patch: |
              - {op: add, path: /data/extra, value: 'echo ${HOME}'}
            target: {kind: ConfigMap}
";
    let mut files = vec![("shop.yaml", format!("{GIT}{}", release(more)))];
    files.extend(CHART.map(|(path, text)| (path, text.to_owned())));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();

    let moved = moved(Tool::Flux, &files, production());

    assert_eq!(moved.target("shop")["path"], "charts/shop");
    assert_eq!(moved.target("shop")["render"]["kustomize"], "bellwether/overlays/shop");
    assert_eq!(moved.import.overlays[0].content.get("resources"), None, "the chart is its only one");
    assert_eq!(moved.says("shop", "spec.postRenderers"), Effect::Note);
    moved.assert_same(&[("shop", 1)]);
}

/// A release of a chart that is in no Git repository.
fn release_of_a_helm_repository(more: &str) -> String {
    format!(
        "---\napiVersion: source.toolkit.fluxcd.io/v1\nkind: HelmRepository\nmetadata: {{name: charts, namespace: shop}}\n\
         spec: {{url: 'https://charts.example.org'}}\n---\napiVersion: helm.toolkit.fluxcd.io/v2\nkind: HelmRelease\n\
         metadata: {{name: web, namespace: shop}}\nspec:\n  chart: {{spec: {{chart: shop, version: 1.0.0, sourceRef: {{kind: HelmRepository, name: charts}}}}}}\n\
         \x20 driftDetection: {{mode: enabled}}\n{more}"
    )
}

#[test]
fn what_is_patched_after_a_chart_of_a_helm_repository_stands_in_the_repo_that_was_read() {
    let more = "  commonMetadata: {labels: {team: a}}
  postRenderers:
    - kustomize:
        patches:
          - patch: |
              - {op: add, path: /data/extra, value: more}
            target: {kind: ConfigMap}
";
    let chart: Vec<(&str, &str)> =
        CHART.iter().map(|(path, text)| (path.trim_start_matches("charts/shop/"), *text)).collect();
    let overlay = json!({"repo": "fleet", "ref": {"branch": "main"}, "path": "bellwether/overlays/web"});
    let release = release_of_a_helm_repository(more);
    for source in [GIT, ""] {
        let files = [("web.yaml", &*format!("{source}{release}"))];

        let moved = moved_beside(Tool::Flux, &files, &[("shop", &chart)], production());

        assert_eq!(moved.target("web")["repo"], "shop");
        assert_eq!(moved.target("web")["render"]["kustomize"], overlay);
        let names: Vec<_> = moved.import.documents.iter().map(|one| (one.kind, one.name.as_str())).collect();
        assert!(names.contains(&("Repo", "fleet")), "somebody has to know where it is: {names:?}");
        assert_eq!(
            (moved.import.overlays[0].repo.as_str(), moved.says("web", "spec.postRenderers")),
            ("fleet", Effect::Note)
        );
        assert!(moved.import.is_own("fleet"), "it is written where the others are");
        moved.assert_same(&[("web", 1)]);
    }
}

#[test]
fn a_target_without_parameters_has_what_looks_like_a_variable_as_flux_has_it() {
    let release = release("  values: {script: 'echo ${HOME} $${X} ${cluster.name} ${'}\n");
    let mut files = vec![("shop.yaml", format!("{GIT}{release}"))];
    files.extend(CHART.map(|(path, text)| (path, text.to_owned())));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();

    let moved = moved(Tool::Flux, &files, production());

    assert_eq!(
        moved.target("shop")["render"]["helm"]["values"],
        json!({"script": "echo ${HOME} $${X} $${cluster.name} ${"})
    );
    assert_eq!(moved.target("shop").get("parameters"), None);
    moved.assert_same(&[("shop", 1)]);
}

#[test]
fn what_the_files_call_as_bellwether_calls_the_cluster_is_told() {
    let config = CONFIG
        .replace("echo $HOME", "${cluster.name} ${HOME}")
        .replace("{name: config}", "{name: config, namespace: a}");
    let sync = format!("{GIT}{}", kustomization("apps", "./apps", ""));
    let application = application("web", "    path: apps\n", AUTOMATED);
    let files = [("sync.yaml", &*sync), ("web.yaml", &*application), ("apps/config.yaml", &*config)];

    for (tool, name, field) in [(Tool::Flux, "apps", "spec.path"), (Tool::Argo, "web", "spec.source.path")] {
        let moved = moved(tool, &files, production());

        assert_eq!(moved.says(name, field), Effect::Differs);
        let told = moved.entry(name).remarks.iter().find(|remark| remark.field == field).expect("it is told");
        assert!(told.sentence.contains("`${cluster.name}`") && !told.sentence.contains("HOME"), "{}", told.sentence);
    }
}

#[test]
fn what_is_laid_over_a_chart_keeps_its_own_variables_where_the_target_has_parameters() {
    let more = "  values: {host: '${host}'}
  postRenderers:
    - kustomize:
        patches:
          - patch: |
              - {op: add, path: /data/extra, value: 'echo $${HOME} ${host}'}
            target: {kind: ConfigMap}
";
    let sync = kustomization("apps", "./apps", "  postBuild: {substitute: {host: example.org}}\n");
    let mut files = vec![("clusters/prod/sync.yaml", format!("{GIT}{sync}")), ("apps/shop.yaml", release(more))];
    files.extend(CHART.map(|(path, text)| (path, text.to_owned())));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();

    let moved = moved(Tool::Flux, &files, production());

    assert_eq!(moved.target("shop")["parameters"], json!([{"values": {"host": "example.org"}}]));
    moved.assert_same(&[("shop", 1)]);
}

#[test]
fn what_only_a_secret_gives_is_named_and_nothing_is_deployed_without_it() {
    let sync = kustomization("apps", "./apps", "  postBuild: {substituteFrom: [{kind: Secret, name: secrets}]}\n");
    let config = CONFIG
        .replace("echo $HOME", "${domain} ${size:=2}")
        .replace("{name: config}", "{name: config, namespace: shop}");
    let mut files = vec![
        ("clusters/prod/sync.yaml", format!("{GIT}{sync}")),
        ("apps/shop.yaml", release("  values: {host: '${host}'}\n")),
        ("apps/config.yaml", config),
    ];
    files.extend(CHART.map(|(path, text)| (path, text.to_owned())));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();

    let moved = moved(Tool::Flux, &files, production());

    let sentence = |name: &str, field: &str| {
        let entry = moved.entry(name);
        let found = entry.remarks.iter().find(|one| one.field == field && one.effect == Effect::Todo);
        found.unwrap_or_else(|| panic!("nothing is to be done about {field}: {:#?}", entry.remarks)).sentence.clone()
    };
    let of_the_folder = sentence("apps", "spec.postBuild");
    assert!(of_the_folder.contains("`domain`") && !of_the_folder.contains("`host`"), "{of_the_folder}");
    assert!(of_the_folder.contains("`size`"), "a default may have been another value: {of_the_folder}");
    assert!(sentence("shop", "spec.values").contains("`host`"));
    // What nobody fills in would be deployed as it is written.
    for target in ["apps", "shop"] {
        assert_eq!(moved.target(target)["parameters"], json!([{"values": {}}]), "{target}");
    }
}

#[test]
fn tests_of_a_chart_that_are_off_are_not_missed() {
    let with = |test: &str| {
        let mut files = vec![("shop.yaml", format!("{GIT}{}", release(test)))];
        files.extend(CHART.map(|(path, text)| (path, text.to_owned())));
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        moved(Tool::Flux, &files, production())
    };

    assert_eq!(with("  test: {enable: true}\n").says("shop", "spec.test"), Effect::None);
    assert_eq!(with("  test: {enable: false, timeout: 1m}\n").says("shop", "spec.test"), Effect::Note);
}

#[test]
fn a_charts_own_values_are_spoken_of_and_compared_where_flux_leaves_them_out() {
    let with = |listed: &str| {
        let chart = format!("{{spec: {{chart: ./charts/shop, {listed}sourceRef");
        let release = release("").replace("{spec: {chart: ./charts/shop, sourceRef", &chart);
        let mut files =
            vec![("shop.yaml", format!("{GIT}{release}")), ("charts/shop/values-eu.yaml", "size: eu\n".to_owned())];
        files.extend(CHART.map(|(path, text)| (path, text.to_owned())));
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        moved(Tool::Flux, &files, production())
    };
    let speaks =
        |moved: &Moved| moved.entry("shop").remarks.iter().any(|remark| remark.field == "spec.chart.spec.valuesFiles");

    let all = with("valuesFiles: [./charts/shop/values.yaml, ./charts/shop/values-eu.yaml], ");
    assert_eq!(
        all.target("shop")["render"]["helm"]["valuesFiles"],
        json!(["charts/shop/values.yaml", "charts/shop/values-eu.yaml"])
    );
    assert!(!speaks(&all), "it is as in Flux: {:#?}", all.entry("shop").remarks);
    all.assert_same(&[("shop", 1)]);

    let one = with("valuesFiles: [./charts/shop/values-eu.yaml], ");
    assert_eq!(one.says("shop", "spec.chart.spec.valuesFiles"), Effect::Differs);
    assert!(one.checked()[0].differs(), "in Flux `host` has no value: {:#?}", one.checked());
}

#[test]
fn a_target_that_deploys_nothing_is_not_said_to_be_the_same() {
    let application = application("none", "    path: none\n", AUTOMATED);
    let files = [("app.yaml", &*application), ("none/a.jsonnet", "{}"), ("none/README.md", "")];

    let moved = moved(Tool::Argo, &files, Options::default());

    assert_eq!(moved.says("none", "spec.source.path"), Effect::None);
    assert!(moved.checked()[0].differs(), "{:#?}", moved.checked());
}

#[test]
fn an_error_names_no_file_that_nobody_wrote() {
    let sync = kustomization("apps", "./apps", "  postBuild: {substitute: {tag: v1}}\n");
    let config = CONFIG.replace("echo $HOME", "${tag:+y}");
    let files = [("clusters/prod/sync.yaml", &*format!("{GIT}{sync}")), ("apps/config.yaml", &*config)];

    let moved = moved(Tool::Flux, &files, production());

    let entry = moved.entry("apps");
    let told = entry.remarks.iter().find(|remark| remark.field == "spec.path" && remark.effect == Effect::None);
    let told = &told.unwrap_or_else(|| panic!("it does not render: {entry:#?}")).sentence;
    assert!(told.contains("apps/config.yaml:5 (ConfigMap config)"), "{told}");
    assert!(!told.contains("kustomization.yaml"), "{told}");
    let checked = moved.checked();
    let failure = checked[0].failure.as_deref().unwrap_or_default();
    assert!(!failure.contains("kustomization.yaml"), "{failure}");
}

#[test]
fn what_is_part_of_a_chart_is_no_object_yet() {
    let object = |name: &str| kustomization(name, "./x", "");
    let below = ["templates", "charts", "crds", "ci", "files", "docs"];
    let mut files = Tree::of(&CHART);
    for folder in below {
        files.0.insert(format!("charts/shop/{folder}/a.yaml"), object(folder));
    }
    files.0.insert("charts/shop/values-eu.yaml".to_owned(), object("values"));
    files.0.insert("charts/shop/sync.yaml".to_owned(), object("sync"));

    let gathered = gather(&files, &[String::new()]).expect("files in memory are read");

    let names: Vec<&str> =
        gathered.objects.iter().map(|object| object.value["metadata"]["name"].as_str().expect("a name")).collect();
    assert_eq!(names, ["docs", "sync"]);
    assert!(gathered.unread.is_empty(), "{:?}", gathered.unread);
    assert_eq!(gathered.charts, ["charts/shop"]);
}

fn application(name: &str, source: &str, more: &str) -> String {
    format!(
        "---\napiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {{name: {name}, namespace: argocd}}\nspec:\n  project: default\n\
         \x20 destination: {{name: eu-1, namespace: shop}}\n  source:\n    repoURL: {URL}\n    targetRevision: main\n{source}{more}"
    )
}

const AUTOMATED: &str = "  syncPolicy: {automated: {prune: true, selfHeal: true}}\n";

#[test]
fn an_application_with_a_chart_becomes_a_target_that_deploys_the_same() {
    let source = "    path: charts/shop
    helm:
      valueFiles: [values-eu.yaml, /envs/eu.yaml]
      values: |
        script: 'echo ${HOME}'
        host: inline
      parameters: [{name: host, value: set}, {name: replicas, value: '6'}, {name: size, value: '1', forceString: true}]
";
    let mut files = vec![
        ("apps/shop.yaml", application("shop", source, AUTOMATED)),
        ("charts/shop/values-eu.yaml", "size: eu\nreplicas: 3\n".to_owned()),
        ("envs/eu.yaml", "replicas: 4\n".to_owned()),
    ];
    files.extend(CHART.map(|(path, text)| (path, text.to_owned())));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();

    let moved = moved(Tool::Argo, &files, Options::default());

    assert_eq!(
        *moved.target("shop"),
        json!({
            "repo": "fleet", "ref": {"branch": "main"}, "path": "charts/shop", "namespace": "shop",
            "clusters": {"matchLabels": {"cluster": "eu-1"}},
            "render": {"helm": {
                "release": "shop", "crds": "upgrade", "lookup": "empty", "valuesFiles": ["charts/shop/values-eu.yaml", "envs/eu.yaml"],
                "values": {"script": "echo ${HOME}", "host": "inline"},
                "set": ["host=set", "replicas=6"], "setString": ["size=1"],
            }},
        })
    );
    assert_eq!(moved.says("shop", "spec.destination"), Effect::Todo, "the cluster needs the label");
    moved.assert_same(&[("shop", 1)]);
}

/// Shows all values, with their types.
const SHOWING: [(&str, &str); 3] = [
    ("charts/shop/Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\n"),
    ("charts/shop/values.yaml", "hosts: [{name: a, port: 1}, {name: b, port: 2}]\ngone: here\n"),
    (
        "charts/shop/templates/config.yaml",
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: shop}\ndata: {values: {{ .Values | toJson | quote }}}\n",
    ),
];

#[test]
fn parameters_of_argo_cd_change_items_of_lists_and_have_the_types_that_helm_gives_them() {
    let source = "    path: charts/shop
    helm:
      fileParameters: [{name: script, path: run.sh}]
      parameters:
        - {name: 'hosts[1].port', value: '8080'}
        - {name: version, value: '1.5'}
        - {name: 'on', value: 'True'}
        - {name: gone, value: 'NULL'}
        - {name: list, value: '{a,2.5,true}'}
        - {name: words, value: 'a,b=$${HOME}'}
        - {name: text, value: 'True', forceString: true}
";
    let mut files = vec![
        ("apps/shop.yaml", application("shop", source, AUTOMATED)),
        ("charts/shop/run.sh", "{a,\\b}\n".to_owned()),
    ];
    files.extend(SHOWING.map(|(path, text)| (path, text.to_owned())));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();

    let mut moved = moved(Tool::Argo, &files, Options::default());

    let helm = &moved.target("shop")["render"]["helm"];
    assert_eq!(
        helm["set"],
        json!([
            "hosts[1].port=8080",
            "version=1.5",
            "on=True",
            "gone=NULL",
            "list={a,2.5,true}",
            "words=a\\,b=${HOME}"
        ])
    );
    assert_eq!(helm["setString"], json!(["text=True", "script=\\{a\\,\\\\b}\n"]));
    moved.assert_same(&[("shop", 1)]);
    // What those parameters come to, as values. So a check that sees no difference has seen the same.
    write_values(
        &mut moved.import,
        json!({
            "hosts": [null, {"port": 8080}], "version": "1.5", "on": true, "gone": null,
            "list": ["a", "2.5", true], "words": "a,b=${HOME}", "text": "True", "script": "{a,\\b}\n",
        }),
    );
    moved.assert_same(&[("shop", 1)]);
    // As they were worked out before there was `set`.
    write_values(&mut moved.import, json!({"hosts": [null, {"port": 8080}], "version": 1.5, "on": "True"}));
    assert_eq!(moved.checked()[0].differences.len(), 1, "what is worked out wrongly is seen");
}

/// In place of what is set.
fn write_values(import: &mut Import, values: Value) {
    let target = import.documents.iter_mut().find(|one| one.kind == "Target").expect("it is there");
    let helm = target.spec["render"]["helm"].as_object_mut().expect("it is for Helm");
    helm.remove("set");
    helm.remove("setString");
    helm.insert("values".to_owned(), values);
}

#[test]
fn paths_of_a_release_change_items_of_lists_and_have_the_types_that_helm_gives_them() {
    let from = |key: &str, path: &str, more: &str| {
        format!("    - {{kind: ConfigMap, name: values, valuesKey: {key}, targetPath: '{path}'{more}}}\n")
    };
    let more = [
        "  valuesFrom:\n".to_owned(),
        from("port", "hosts[1].port", ""),
        from("version", "version", ""),
        from("enabled", "on", ""),
        from("nothing", "gone", ""),
        from("quoted", "text", ""),
        from("whole", "words", ", literal: true"),
    ];
    let data =
        "  port: '8080'\n  version: '1.5'\n  enabled: 'True'\n  nothing: 'NULL'\n  quoted: '\"1\"'\n  whole: '{a,1}'\n";
    let map =
        format!("---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: values, namespace: shop}}\ndata:\n{data}");
    let mut files = vec![("shop.yaml", format!("{GIT}{}{map}", release(&more.concat())))];
    files.extend(SHOWING.map(|(path, text)| (path, text.to_owned())));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();

    let mut moved = moved(Tool::Flux, &files, production());

    let helm = &moved.target("shop")["render"]["helm"];
    assert_eq!(helm["set"], json!(["hosts[1].port=8080", "version=1.5", "on=True", "gone=NULL"]));
    assert_eq!(helm["setString"], json!(["text=1", "words=\\{a\\,1}"]));
    moved.assert_same(&[("shop", 1)]);
    write_values(
        &mut moved.import,
        json!({
            "hosts": [null, {"port": 8080}], "version": "1.5", "on": true, "gone": null,
            "text": "1", "words": "{a,1}",
        }),
    );
    moved.assert_same(&[("shop", 1)]);
}

#[test]
fn a_directory_is_what_argo_cd_reads_of_it_and_sync_by_hand_is_told() {
    let files = [
        (
            "app.yaml",
            &*application(
                "plain",
                "    path: plain\n    directory: {exclude: 'skip*'}\n",
                "  ignoreDifferences: [{kind: A}]\n  syncPolicy: {syncOptions: [CreateNamespace=true, ServerSideApply=true, Odd=1]}\n",
            ),
        ),
        ("plain/a.yaml", CONFIG),
        ("plain/b.jsonnet", "{}"),
        ("plain/skip.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: skipped}\n"),
        ("plain/deep/b.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: deep}\n"),
    ];

    let moved = moved(Tool::Argo, &files, Options::default());

    assert_eq!(moved.import.overlays[0].content["resources"], json!(["../../../plain/a.yaml"]));
    assert_eq!(moved.target("plain")["sync"], json!({"prune": "never", "drift": "warn"}));
    for (field, effect) in [
        ("syncPolicy.automated", Effect::Differs),
        ("ignoreDifferences", Effect::None),
        ("source.directory.jsonnet", Effect::None),
        ("syncPolicy.syncOptions.CreateNamespace", Effect::Differs),
        ("syncPolicy.syncOptions.ServerSideApply", Effect::Note),
        ("syncPolicy.syncOptions.Odd", Effect::None),
    ] {
        assert_eq!(moved.says("plain", &format!("spec.{field}")), effect, "{field}");
    }
    moved.assert_same(&[("plain", 1)]);
}

#[test]
fn kustomize_options_of_an_application_stand_in_an_overlay() {
    let source = "    path: overlay
    kustomize:
      namePrefix: x-
      images: ['example.org/web=mirror.example.org/web:3']
      replicas: [{name: web, count: '4'}]
      commonLabels: {team: a}
      commonAnnotations: {b: c}
";
    let web = DEPLOYMENT.replace("${replicas:=2}", "2").replace("${tag}", "1");
    let files = [
        ("app.yaml", &*application("web", source, AUTOMATED)),
        ("overlay/kustomization.yaml", "resources: [web.yaml]\n"),
        ("overlay/web.yaml", &*web),
    ];

    let moved = moved(Tool::Argo, &files, Options::default());

    assert_eq!(moved.target("web")["path"], "bellwether/overlays/web");
    moved.assert_same(&[("web", 1)]);
}

#[test]
fn applications_of_an_application_are_moved_and_left_out_of_it() {
    let child = application("child", "    path: child\n", AUTOMATED);
    let files = [
        ("root.yaml", &*application("root", "    path: apps\n", AUTOMATED)),
        ("apps/child.yaml", &*child),
        ("apps/config.yaml", CONFIG),
        ("child/config.yaml", CONFIG),
    ];

    let moved = moved(Tool::Argo, &files, Options::default());

    assert_eq!(moved.targets(), ["child", "root"]);
    moved.assert_same(&[("child", 1), ("root", 1)]);
}

fn set(generators: &str, go: bool, template: &str) -> String {
    format!(
        "apiVersion: argoproj.io/v1alpha1\nkind: ApplicationSet\nmetadata: {{name: set, namespace: argocd}}\nspec:\n\
         \x20 goTemplate: {go}\n  goTemplateOptions: [missingkey=error]\n  generators:\n{generators}  template:\n{template}"
    )
}

fn template(name: &str, path: &str, destination: &str, more: &str) -> String {
    format!(
        "    metadata: {{name: '{name}'}}\n    spec:\n      project: default\n      destination: {{{destination}}}\n\
         \x20     source:\n        repoURL: {URL}\n        targetRevision: main\n        path: '{path}'\n{more}\
         \x20     syncPolicy: {{automated: {{prune: true, selfHeal: true}}}}\n"
    )
}

#[test]
fn a_list_and_its_clusters_become_a_target_each() {
    let generators = "  - list:\n      elements:\n      - {cluster: dev, server: 'https://10.0.0.1'}\n      - {cluster: prod, server: 'https://10.0.0.2'}\n";
    let set = set(
        generators,
        false,
        &template("{{cluster}}-shop", "shop/{{cluster}}", "server: '{{server}}', namespace: shop", ""),
    );
    let files = [("set.yaml", &*set), ("shop/dev/a.yaml", CONFIG), ("shop/prod/a.yaml", CONFIG)];
    let labels = Labels::from([("env".to_owned(), "prod".to_owned())]);
    let options =
        Options { destinations: BTreeMap::from([("https://10.0.0.2".to_owned(), labels)]), ..Options::default() };

    let moved = moved(Tool::Argo, &files, options);

    assert_eq!(moved.targets(), ["dev-shop", "prod-shop"]);
    assert_eq!(moved.target("dev-shop")["clusters"], json!({"matchLabels": {"cluster": "10-0-0-1"}}));
    assert_eq!(moved.target("prod-shop")["clusters"], json!({"matchLabels": {"env": "prod"}}));
    moved.assert_same(&[("dev-shop", 1), ("prod-shop", 1)]);
}

#[test]
fn a_cluster_generator_becomes_one_target_for_all_its_clusters() {
    let generators = "  - clusters:\n      selector:\n        matchLabels: {argocd.argoproj.io/secret-type: cluster, env: prod}\n      values: {size: '{{.metadata.labels.size}}'}\n";
    let more = "        helm:\n          valueFiles: ['{{.metadata.labels.region}}.yaml']\n          valuesObject: {host: '{{.name}}.example.org', size: '{{.values.size}}', script: '${HOME}'}\n";
    let set = set(
        generators,
        true,
        &template("{{.name}}-shop", "charts/shop", "server: '{{.server}}', namespace: shop", more),
    );
    let mut files = vec![("set.yaml", set)];
    files.extend(CHART.map(|(path, text)| (path, text.to_owned())));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();

    let moved = moved(Tool::Argo, &files, Options::default());

    assert_eq!(moved.targets(), ["shop"]);
    let target = moved.target("shop");
    assert_eq!(target["clusters"], json!({"matchLabels": {"env": "prod"}}));
    assert_eq!(
        target["render"]["helm"],
        json!({
            "release": "shop", "crds": "upgrade", "lookup": "empty", "valuesFiles": ["charts/shop/${cluster.labels.region}.yaml"],
            "values": {"host": "${cluster.name}.example.org", "size": "${cluster.labels.size}", "script": "${HOME}"},
        })
    );
    assert_eq!(moved.says("set", "spec.template.spec.source.helm.releaseName"), Effect::Differs);
}

#[test]
fn folders_and_files_of_the_repository_generate_targets() {
    let folders = "  - git:\n      repoURL: https://git.example.org/fleet.git\n      directories: [{path: addons/*}, {path: addons/no, exclude: true}]\n";
    let folders = set(
        folders,
        true,
        &template(
            "{{.path.basename}}",
            "{{.path.path}}",
            "server: 'https://kubernetes.default.svc', namespace: '{{.path.basename}}'",
            "",
        ),
    );
    let paths =
        "  - git:\n      repoURL: https://git.example.org/fleet.git\n      files: [{path: 'config/**/app.json'}]\n";
    let paths = set(
        paths,
        false,
        &template("{{app.name}}-{{path.basename}}", "addons/{{app.name}}", "name: '{{cluster}}', namespace: x", ""),
    )
    .replace("name: set,", "name: paths,");
    let files = [
        ("folders.yaml", &*folders),
        ("paths.yaml", &*paths),
        ("addons/a/c.yaml", CONFIG),
        ("addons/b/c.yaml", CONFIG),
        ("addons/no/c.yaml", CONFIG),
        ("config/eu/app.json", "{\"app\": {\"name\": \"a\"}, \"cluster\": \"eu-1\"}"),
    ];

    let moved = moved(Tool::Argo, &files, production());

    assert_eq!(moved.targets(), ["a", "a-eu", "b"]);
    assert_eq!(moved.target("a")["clusters"], json!({"matchLabels": {"env": "production"}}), "where Argo CD runs");
    assert_eq!(moved.target("a-eu")["clusters"], json!({"matchLabels": {"cluster": "eu-1"}}));
    assert_eq!(moved.says("set", "spec.generators[0].git"), Effect::Differs);
    moved.assert_same(&[("a", 1), ("a-eu", 1), ("b", 1)]);
}

#[test]
fn matrix_and_merge_combine_what_their_generators_give() {
    let matrix = "  - matrix:
      generators:
      - git: {repoURL: 'https://git.example.org/fleet.git', directories: [{path: addons/*}]}
      - clusters: {selector: {matchLabels: {env: prod}}}
";
    let matrix = set(
        matrix,
        true,
        &template("{{.path.basename}}-{{.name}}", "{{.path.path}}", "server: '{{.server}}', namespace: x", ""),
    );
    let merge = "  - merge:
      mergeKeys: [cluster]
      generators:
      - list: {elements: [{cluster: a, path: addons/a}, {cluster: b, path: addons/a}]}
      - list: {elements: [{cluster: b, path: addons/b}]}
";
    let merge = set(merge, false, &template("m-{{cluster}}", "{{path}}", "name: '{{cluster}}', namespace: x", ""))
        .replace("name: set,", "name: merge,");
    let files =
        [("matrix.yaml", &*matrix), ("merge.yaml", &*merge), ("addons/a/c.yaml", CONFIG), ("addons/b/c.yaml", CONFIG)];

    let moved = moved(Tool::Argo, &files, Options::default());

    assert_eq!(moved.targets(), ["a", "b", "m-a", "m-b"]);
    assert_eq!(moved.target("a")["clusters"], json!({"matchLabels": {"env": "prod"}}));
    assert_eq!(moved.target("m-b")["path"], "addons/b");
    moved.assert_same(&[("a", 1), ("b", 1), ("m-a", 1), ("m-b", 1)]);
}

#[test]
fn generators_that_ask_elsewhere_and_projects_are_told() {
    let pulls =
        set("  - pullRequest: {github: {owner: a, repo: b}}\n", true, &template("{{.branch}}", "x", "name: a", ""));
    let project = "apiVersion: argoproj.io/v1alpha1\nkind: AppProject\nmetadata: {name: team, namespace: argocd}\nspec: {syncWindows: [{kind: deny}]}\n";
    let odd = set("  - list: {elements: [{a: 1}]}\n", true, &template("{{ if .a }}x{{ end }}", "x", "name: a", ""))
        .replace("name: set,", "name: odd,");
    let files = [("pulls.yaml", &*pulls), ("project.yaml", project), ("odd.yaml", &*odd)];

    let moved = moved(Tool::Argo, &files, Options::default());

    assert!(moved.targets().is_empty());
    assert_eq!(moved.says("set", "spec.generators[0].pullRequest"), Effect::None);
    assert_eq!(moved.says("team", "spec.syncWindows"), Effect::None);
    assert_eq!(moved.says("odd", "spec.template"), Effect::None);
}

#[test]
fn values_of_another_source_are_paths_when_they_are_in_the_charts_own_repo() {
    let app = format!(
        "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {{name: shop, namespace: argocd}}\nspec:\n  destination: {{name: eu, namespace: shop}}\n{AUTOMATED}\
         \x20 sources:\n  - {{repoURL: {URL}, targetRevision: main, ref: values}}\n\
         \x20 - {{repoURL: {URL}, targetRevision: main, path: charts/shop, helm: {{valueFiles: [$values/envs/eu.yaml]}}}}\n\
         \x20 - {{repoURL: 'https://git.example.org/other.git', targetRevision: v1.0.0, path: x, helm: {{valueFiles: [$values/envs/eu.yaml]}}}}\n"
    );
    let mut files = vec![("app.yaml", app), ("envs/eu.yaml", "size: eu\n".to_owned())];
    files.extend(CHART.map(|(path, text)| (path, text.to_owned())));
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();

    let moved = moved(Tool::Argo, &files, Options::default());

    assert_eq!(moved.targets(), ["shop-shop", "shop-x"]);
    assert_eq!(moved.target("shop-shop")["render"]["helm"]["valuesFiles"], json!(["envs/eu.yaml"]));
    assert_eq!(moved.target("shop-x")["ref"], json!({"tag": "v1.0.0"}));
    assert_eq!(
        moved.target("shop-x")["render"]["helm"]["valuesFiles"],
        json!([{"repo": "fleet", "ref": {"branch": "main"}, "path": "envs/eu.yaml"}])
    );
    assert_eq!(moved.says("shop", "spec.sources"), Effect::Differs);
}

/// A chart of a Helm repository, whose values are in Git.
fn chart_with_values(revision: &str, files: &str) -> String {
    format!(
        "apiVersion: argoproj.io/v1alpha1\nkind: Application\nmetadata: {{name: web, namespace: argocd}}\nspec:\n  destination: {{name: eu, namespace: shop}}\n{AUTOMATED}\
         \x20 sources:\n  - {{repoURL: 'https://charts.example.org', chart: shop, targetRevision: 1.0.0, helm: {{valueFiles: {files}, ignoreMissingValueFiles: true}}}}\n\
         \x20 - {{repoURL: 'https://git.example.org/values.git', targetRevision: {revision}, ref: values}}\n"
    )
}

#[test]
fn values_in_another_repo_than_the_chart_are_files_of_that_repo() {
    let application = chart_with_values("v1.0", "[$values/envs/eu.yaml, $values/envs/none.yaml]");
    let chart = CHART.map(|(path, text)| (path.trim_start_matches("charts/shop/"), text));
    let values = [("envs/eu.yaml", "size: eu\nscript: 'echo ${HOME}'\n")];
    let files = [("app.yaml", &*application)];
    let others: [(&str, &[(&str, &str)]); 2] = [("shop", &chart), ("values", &values)];

    let both = moved_beside(Tool::Argo, &files, &others, Options::default());

    assert_eq!(
        both.target("web")["render"]["helm"]["valuesFiles"],
        json!([{"repo": "values", "ref": {"tag": "v1.0"}, "path": "envs/eu.yaml"}])
    );
    assert_eq!(both.says("web", "spec.source.helm.ignoreMissingValueFiles"), Effect::Differs);
    let remarks = &both.entry("web").remarks;
    assert!(remarks.iter().all(|remark| remark.effect != Effect::None), "{remarks:#?}");
    both.assert_same(&[("web", 1)]);

    let chart_alone = moved_beside(Tool::Argo, &files, &others[..1], Options::default());

    let checked = chart_alone.checked();
    let why = checked[0].unchecked.as_deref().unwrap_or_default();
    assert!(why.contains("--checkout values=DIR"), "{checked:#?}");
    assert_eq!(
        chart_alone.target("web")["render"]["helm"]["valuesFiles"][1]["path"],
        "envs/none.yaml",
        "nobody can tell whether it is there"
    );
    let remarks = &chart_alone.entry("web").remarks;
    assert!(remarks.iter().all(|remark| remark.effect != Effect::None), "{remarks:#?}");
}

#[test]
fn values_in_the_repository_that_is_read_are_files_of_it_for_a_chart_from_elsewhere() {
    let application =
        chart_with_values("main", "[$values/envs/eu.yaml, $values/envs/none.yaml]").replace("values.git", "fleet.git");
    let chart = CHART.map(|(path, text)| (path.trim_start_matches("charts/shop/"), text));
    let files = [("app.yaml", &*application), ("envs/eu.yaml", "size: eu\n")];
    let others: [(&str, &[(&str, &str)]); 1] = [("shop", &chart)];

    let moved = moved_beside(Tool::Argo, &files, &others, Options::default());

    assert_eq!(moved.says("web", "spec.source.helm.ignoreMissingValueFiles"), Effect::Differs);
    assert_eq!(
        moved.target("web")["render"]["helm"]["valuesFiles"],
        json!([{"repo": "fleet", "ref": {"branch": "main"}, "path": "envs/eu.yaml"}])
    );
    moved.assert_same(&[("web", 1)]);
}

#[test]
fn objects_of_one_kind_and_name_in_two_groups_are_both_compared() {
    let gateways = |port: u16| {
        let of = |group: &str, port: u16| {
            format!(
                "---\napiVersion: {group}/v1\nkind: Gateway\nmetadata: {{name: web, namespace: a}}\nspec: {{port: {port}}}\n"
            )
        };
        of("gateway.networking.k8s.io", port) + &of("networking.istio.io", 80)
    };
    let sync = kustomization("apps", "./apps", "");
    let files = [
        ("clusters/prod/sync.yaml", &*format!("{GIT}{sync}")),
        ("apps/web.yaml", &*gateways(1)),
        ("other/web.yaml", &*gateways(2)),
    ];
    let mut moved = moved(Tool::Flux, &files, production());
    moved.assert_same(&[("apps", 2)]);

    let target = moved.import.documents.iter_mut().find(|one| one.kind == "Target").expect("it is there");
    target.spec["path"] = json!("other");

    let checked = moved.checked();
    let told: Vec<_> = checked[0].differences.iter().map(|one| (one.object.as_str(), one.field.as_str())).collect();
    assert_eq!(told, [("Gateway a/web (gateway.networking.k8s.io)", "spec.port")], "and which of them it is");
}

#[test]
fn what_is_written_is_the_same_each_time_and_a_change_of_the_target_is_found() {
    let sync = kustomization("apps", "./apps/shop", "  postBuild: {substitute: {tag: v1}}\n");
    let files = [("clusters/prod/sync.yaml", &*format!("{GIT}{sync}")), ("apps/shop/web.yaml", DEPLOYMENT)];
    let first = moved(Tool::Flux, &files, production());
    let mut second = moved(Tool::Flux, &files, production());
    assert_eq!(first.import.documents, second.import.documents);
    assert_eq!(first.import.report, second.import.report);

    let target = second.import.documents.iter_mut().find(|one| one.kind == "Target").expect("it is there");
    target.spec["parameters"][0]["values"]["replicas"] = json!(9);

    let checked = second.checked();
    assert_eq!(checked[0].differences.len(), 1, "{checked:#?}");
    assert_eq!(
        (checked[0].differences[0].object.as_str(), checked[0].differences[0].field.as_str()),
        ("Deployment shop/web", "spec.replicas")
    );
}
