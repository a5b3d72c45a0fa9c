//! `bellwether validate` as a program: its exit codes and what it prints where.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use super::{folder, needs_engine, run};

const WEB: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      containers:
      - name: web
        image: web:1
";

fn validate(folder: &Path, arguments: &[&str]) -> Output {
    run("validate", folder, arguments)
}

fn json(folder: &Path, arguments: &[&str]) -> (i32, Value) {
    let output = validate(folder, &[&["-o", "json"], arguments].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.status.code().expect("it ended by itself"), json)
}

fn piped(folder: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
    let command = command.arg("validate").args(arguments).current_dir(folder);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    child.stdin.take().expect("it has one").write_all(input.as_bytes()).expect("it reads");
    child.wait_with_output().expect("it ends")
}

/// What was not looked at, and why.
fn skipped(report: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let each = report["skipped"].as_array().expect("a list").iter();
    each.map(|of| format!("{}: {}", text(&of["file"]), text(&of["reason"]))).collect()
}

const CONFIG_MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n";
const WRONG_MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\ndta: {}\n";
const TARGET: &str = "apiVersion: bellwether.dev/v1\nkind: Target\nmetadata: {name: shop}\nspec:\n  repo: apps\n";

/// `FILE:LINE CODE FIELD` of each finding.
fn findings(report: &Value) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let each = report["findings"].as_array().expect("a list").iter();
    each.map(|of| format!("{}:{} {} {}", text(&of["file"]), of["line"], text(&of["code"]), text(&of["field"])))
        .collect()
}

#[test]
fn the_exit_code_says_whether_something_is_wrong() {
    let right = folder(&[("web.yaml", WEB)]);
    let output = validate(right.path(), &[]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    let summary = String::from_utf8_lossy(&output.stderr);
    assert_eq!(summary, "1 target, 1 object, Kubernetes 1.37: 0 errors, 0 warnings, 0 skipped\n");

    let wrong = folder(&[("apps/web.yaml", &format!("{WEB}        imagePulPolicy: Always\n"))]);
    let output = validate(wrong.path(), &["apps"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(
        text,
        "apps/web.yaml:12: error: Deployment web: spec.template.spec.containers[0].imagePulPolicy is no known field\n  \
         hint: did you mean `imagePullPolicy`?\n"
    );

    for arguments in [&["absent"][..], &["--kubernetes-version", "1.2"], &["-o", "yaml"], &["--flag"]] {
        let output = validate(wrong.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{output:?}");
    }
}

#[test]
fn each_version_is_held_against_its_own_schemas() {
    let map = |kind: &str| {
        format!("apiVersion: storage.k8s.io/v1\nkind: {kind}\nmetadata: {{name: fast}}\ndriverName: a.b\n")
    };
    let files = [
        ("a/a.yaml", map("VolumeAttributesClass")),
        ("b/b.yaml", "apiVersion: batch/v1beta1\nkind: CronJob\nmetadata: {name: night}\n".to_owned()),
        ("c/c.yaml", "apiVersion: apps/v1\nkind: Deploiment\nmetadata: {name: web}\n".to_owned()),
        ("d/d.yaml", "apiVersion: v1\nkind: Endpoints\nmetadata: {name: web}\n".to_owned()),
    ];
    let folder = folder(&files.each_ref().map(|(path, text)| (*path, text.as_str())));

    let (code, report) = json(folder.path(), &["--kubernetes-version", "1.31", "--kubernetes-version", "1.37"]);

    assert_eq!(code, 1);
    let told: Vec<_> = report["findings"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|finding| {
            let text = |key: &str| finding[key].as_str().unwrap_or("-").to_owned();
            format!("{} {} {} {}", text("file"), text("code"), finding["versions"], text("hint"))
        })
        .collect();
    assert_eq!(
        told,
        [
            "a/a.yaml api_unknown [\"1.31\"] use storage.k8s.io/v1beta1",
            "b/b.yaml api_removed null use batch/v1 CronJob",
            "c/c.yaml api_unknown null did you mean apps/v1 Deployment?",
            "d/d.yaml api_deprecated [\"1.37\"] use discovery.k8s.io/v1 EndpointSlice",
        ]
    );
}

#[test]
fn custom_resources_are_held_against_their_definitions() {
    const DEFINITION: &str = "apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.org}
spec:
  group: example.org
  scope: Namespaced
  names: {kind: Widget, plural: widgets}
  versions:
  - name: v1
    served: true
    storage: true
    schema:
      openAPIV3Schema:
        type: object
        required: [spec]
        properties:
          spec:
            type: object
            required: [size]
            properties:
              size: {type: integer, maximum: 3}
";
    let widget =
        "apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: a, lables: {}}\nspec: {size: 4, colour: red}\n";
    let folder = folder(&[("crds/widget.yaml", DEFINITION), ("apps/a.yaml", widget)]);

    let (code, report) = json(folder.path(), &["apps"]);
    assert_eq!(code, 1, "its metadata are known without a definition");
    assert_eq!(findings(&report), ["apps/a.yaml:3 field_unknown metadata.lables"]);
    assert_eq!(report["skipped"][0]["object"]["kind"], "Widget");

    let (_, report) = json(folder.path(), &["apps", "--strict-schemas"]);
    assert!(findings(&report).contains(&"apps/a.yaml:1 schema_missing -".to_owned()), "{report}");

    let expected = [
        "apps/a.yaml:3 field_unknown metadata.lables",
        "apps/a.yaml:4 field_unknown spec.colour",
        "apps/a.yaml:4 value_out_of_range spec.size",
    ];
    let (_, report) = json(folder.path(), &["apps", "--crds", "crds"]);
    assert_eq!(findings(&report), expected);
    let (_, report) = json(folder.path(), &[]);
    assert_eq!(findings(&report), expected, "a definition of the set is as good");
}

#[test]
fn twins_and_unknown_namespaces_are_told() {
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: shop}\n";
    let folder = folder(&[("eu/a.yaml", map), ("eu/b.yaml", map), ("us/a.yaml", map)]);

    let (code, report) = json(folder.path(), &[]);
    assert_eq!(code, 1);
    assert_eq!(
        findings(&report),
        [
            "eu/a.yaml:3 namespace_unknown metadata.namespace",
            "eu/b.yaml:1 object_duplicate -",
            "us/a.yaml:3 namespace_unknown metadata.namespace",
        ]
    );

    let (code, report) = json(folder.path(), &["us", "-n", "shop"]);
    assert_eq!((code, findings(&report).len()), (0, 0));
}

#[test]
fn what_is_no_object_is_skipped_and_what_is_none_but_should_be_is_told() {
    let folder = folder(&[
        ("values.yaml", "replicas: 2\n"),
        ("package.json", "{\"name\": \"x\", // comment\n}"),
        ("broken/broken.yaml", "apiVersion: v1\nkind: [\n"),
        ("broken/nameless.yaml", "apiVersion: v1\nkind: ConfigMap\ndata: {}\n"),
        ("left/out.yaml", "apiVersion: [\n"),
    ]);

    let (code, report) = json(folder.path(), &["--ignore", "^left/"]);

    assert_eq!(code, 1);
    let found = findings(&report);
    assert!(found[0].starts_with("broken/broken.yaml:") && found[0].ends_with(" yaml_invalid -"), "{found:?}");
    assert_eq!(found[1..], ["broken/nameless.yaml:1 field_missing metadata.name"]);
    let skipped: Vec<_> = report["skipped"].as_array().expect("a list").iter().map(|one| &one["file"]).collect();
    assert_eq!(skipped, ["package.json", "values.yaml"]);
}

#[test]
fn what_sops_sealed_is_told() {
    let sealed = "apiVersion: v1\nkind: Secret\nmetadata: {name: pw}\ndata: {a: YQ==}\nsops: {mac: x}\n";
    let target = format!("{TARGET}  path: manifests\n");
    let folder = folder(&[("alone/pw.yaml", sealed), ("manifests/pw.yaml", sealed), ("shop.yaml", &target)]);

    let (code, report) = json(folder.path(), &[]);

    let found = findings(&report);
    let told = |file: &str| found.iter().any(|line| line.starts_with(file) && line.contains(" object_sealed "));
    assert!(code == 1 && told("alone/pw.yaml:") && told("manifests/pw.yaml:"), "{found:?}");
}

#[test]
fn what_an_agent_opens_is_named_and_what_it_holds_is_not_looked_at() {
    let sealed = include_str!("../../../agent/sops/tests/files/secret.yaml");
    let target = format!("{TARGET}  path: manifests\n");
    let folder = folder(&[("alone/db.yaml", sealed), ("manifests/db.yaml", sealed), ("shop.yaml", &target)]);

    let (code, report) = json(folder.path(), &["--namespace", "shop"]);

    assert_eq!((code, findings(&report)), (0, Vec::new()), "{report:#}");
    let skipped = report["skipped"].as_array().expect("a list").iter();
    let skipped: Vec<_> = skipped.map(|one| format!("{} {}", one["file"], one["reason"])).collect();
    assert_eq!(skipped, [r#""alone/db.yaml" "sealed by SOPS""#, r#""manifests/db.yaml" "sealed by SOPS""#]);
}

#[test]
fn a_target_is_rendered_with_its_parameters() {
    let target = "apiVersion: bellwether.dev/v1\nkind: Target\nmetadata: {name: shop}\nspec:\n  repo: apps\n  path: apps/shop\n  \
                  parameters:\n  - values: {replicas: two}\n  - clusters: {matchLabels: {env: prod}}\n    values: {image: a}\n";
    let web =
        WEB.replace("spec:\n  selector", "spec:\n  replicas: ${replicas}\n  selector").replace("web:1", "${image}");
    let folder = folder(&[("targets/shop.yaml", target), ("apps/shop/web.yaml", &web)]);

    let (code, report) = json(folder.path(), &[]);
    assert_eq!((code, findings(&report)), (1, vec!["apps/shop/web.yaml:5 field_type_wrong spec.replicas".to_owned()]));

    fs::write(folder.path().join("targets/shop.yaml"), target.replace("image: a", "imag: a")).expect("a file");
    let (_, report) = json(folder.path(), &[]);
    assert_eq!(findings(&report), ["apps/shop/web.yaml:12 variable_unset -"]);

    fs::write(folder.path().join("targets/shop.yaml"), target.replace("path:", "pth:")).expect("a file");
    let (_, report) = json(folder.path(), &[]);
    assert_eq!(findings(&report), ["targets/shop.yaml:6 document_invalid spec.pth"]);
}

#[test]
fn kubeconform_is_answered_as_it_answers() {
    let folder = folder(&[
        ("a/web.yaml", &WEB.replace("image:", "imag:")),
        ("a/widget.yaml", "apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: w}\n"),
        (
            "a/map.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: s}\ndata: 1\n",
        ),
    ]);
    let run = |arguments: &[&str]| {
        let output = validate(folder.path(), &[&["--kubeconform-compat"], arguments].concat());
        (output.status.code().expect("it ended"), String::from_utf8_lossy(&output.stdout).into_owned())
    };

    let (code, text) = run(&["-summary", "-ignore-missing-schemas", "-skip", "Secret", "a"]);
    assert_eq!(code, 0);
    assert_eq!(text, "Summary: 4 resources found in 3 files - Valid: 2, Invalid: 0, Errors: 0, Skipped: 2\n");

    let (code, text) = run(&["-strict", "-output=json", "-summary", "-verbose", "-n", "8", "a/"]);
    assert_eq!(code, 1);
    let report: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(report["summary"].to_string(), r#"{"errors":1,"invalid":2,"skipped":0,"valid":1}"#);
    let web = report["resources"].as_array().expect("a list").iter().find(|one| one["name"] == "web").expect("it");
    assert_eq!(web["filename"], "a/web.yaml");
    assert_eq!(
        (&web["kind"], &web["version"], &web["status"]),
        (&"Deployment".into(), &"apps/v1".into(), &"statusInvalid".into())
    );
    assert_eq!(web["validationErrors"][0]["path"], "/spec/template/spec/containers/0/imag");

    let (code, text) = run(&["-output", "tap", "-reject", "v1/Secret", "-kubernetes-version", "1.33.0", "a/map.yaml"]);
    assert_eq!(code, 1);
    assert_eq!(
        text,
        "TAP version 13\nok 1 - a/map.yaml (v1/ConfigMap//m)\nnot ok 2 - a/map.yaml: prohibited resource kind Secret\n1..2\n"
    );

    let (code, text) = run(&["-output", "junit", "-ignore-filename-pattern", "map|web", "a"]);
    assert_eq!(code, 1);
    assert!(
        text.starts_with("<testsuites name=\"kubeconform\"") && text.contains("could not find schema for Widget"),
        "{text}"
    );

    fs::create_dir(folder.path().join("schemas")).expect("a folder");
    let schema = r#"{"type": "object", "required": ["spec"]}"#;
    fs::write(folder.path().join("schemas/widget_v1.json"), schema).expect("a file");
    let location = "schemas/{{ .ResourceKind }}_{{.ResourceAPIVersion}}.json";
    let (code, text) = run(&["-schema-location", "default", "-schema-location", location, "a/widget.yaml"]);
    assert_eq!(code, 1);
    assert_eq!(
        text,
        "a/widget.yaml - Widget w is invalid: problem validating schema. Check JSON formatting: at '/spec': is required, and missing\n"
    );

    assert_eq!(run(&["-schema-location", "https://example.org", "a"]).0, 1);
    assert_eq!(run(&["-unknown"]).0, 1, "it has one code for all");
}

#[test]
fn overlays_and_charts_are_rendered_and_their_bases_are_not_looked_at_twice() {
    let engine = std::env::var_os("BELLWETHER_RENDER_ENGINE");
    assert!(engine.is_some(), "`./dev test` builds the engine and names it");
    let patch = "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: web}\nspec: {replicas: two}\n";
    let folder = folder(&[
        ("base/kustomization.yaml", "resources: [web.yaml]\n"),
        ("base/web.yaml", WEB),
        ("overlays/eu/kustomization.yaml", "resources: [../../base]\npatches: [{path: patches/web.yaml}]\n"),
        ("overlays/eu/patches/web.yaml", patch),
        ("overlays/us/kustomization.yaml", "resources: [../../bas]\n"),
        ("chart/Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\n"),
        ("chart/values.yaml", "data: {a: 1}\n"),
        ("chart/ci/one-values.yaml", "data: {a: one}\n"),
        ("chart/ci/two-values.yaml", "data: {b: 2}\n"),
        (
            "chart/templates/map.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {{ toJson .Values.data }}\n",
        ),
    ]);

    let (code, report) = json(folder.path(), &[]);

    assert_eq!(code, 1);
    let targets: Vec<_> = report["targets"].as_array().expect("a list").iter().map(|one| &one["name"]).collect();
    assert_eq!(
        targets,
        ["overlays/eu", "overlays/us", "chart (chart/ci/one-values.yaml)", "chart (chart/ci/two-values.yaml)"],
        "{report}"
    );
    let found = findings(&report);
    // The base has the object's place; the patch has only a part of it.
    assert!(found.iter().any(|found| found.ends_with("field_type_wrong spec.replicas")), "{found:?}");
    assert!(found.iter().any(|found| found.starts_with("overlays/us/kustomization.yaml")), "{found:?}");
    assert!(found.iter().any(|found| found == "chart/templates/map.yaml:null field_type_wrong data.a"), "{found:?}");
}

#[test]
fn a_target_leads_to_nothing_outside_of_its_repo() {
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: outer}\ndata: {p: aHVudGVyMg==}\nx: 1\n";
    let folder = folder(&[("outside/secret.yaml", secret), ("repo/.git/config", "")]);
    let (repo, outside) = (folder.path().join("repo"), folder.path().join("outside"));
    for path in ["../outside", "../outside/secret.yaml", outside.to_str().expect("it is text")] {
        fs::write(repo.join("t.yaml"), format!("{TARGET}  path: {path}\n  namespace: x\n")).expect("a file");

        let (code, report) = json(&repo, &[]);
        assert_eq!((code, findings(&report)), (1, vec!["t.yaml:6 path_invalid spec.path".to_owned()]), "{path}");
        let mut render = Command::new(env!("CARGO_BIN_EXE_bellwether"));
        let output = render.args(["render", "--target", "t.yaml"]).current_dir(&repo).output().expect("it starts");
        assert_eq!((output.status.code(), output.stdout.len()), (Some(1), 0), "{path}: {output:?}");
        assert!(String::from_utf8_lossy(&output.stderr).contains("does not lead into the repo"), "{output:?}");
    }
}

#[test]
fn what_no_render_reads_is_looked_at() {
    needs_engine();
    let folder = folder(&[
        ("beside/kustomization.yaml", "resources: [a.yaml]\n"),
        ("beside/a.yaml", CONFIG_MAP),
        ("beside/b.yaml", WRONG_MAP),
        ("beside/target.yaml", &format!("{TARGET}  pth: x\n")),
        ("one/kustomization.yaml", "resources: [../two]\n"),
        ("two/kustomization.yaml", "resources: [../one]\n"),
        ("Chart.yaml", "apiVersion: v2\nname: shop\nversion: 1.0.0\n"),
        ("values.yaml", "a: 1\n"),
        ("templates/map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, x: {{ .Values.a }}}\n"),
        ("clusters/prod.yaml", WRONG_MAP),
        ("deep/parts/kustomization.yaml", "kind: Component\n"),
    ]);

    let (code, report) = json(folder.path(), &[]);

    assert_eq!(code, 1);
    let found = findings(&report);
    for expected in [
        "beside/b.yaml:4 field_unknown dta",
        "beside/target.yaml:6 document_invalid spec.pth",
        "clusters/prod.yaml:4 field_unknown dta",
        "templates/map.yaml:null field_unknown metadata.x",
    ] {
        assert!(found.iter().any(|found| found == expected), "{expected}: {found:?}");
    }
    assert!(found.iter().any(|found| found.starts_with("one/kustomization.yaml")), "a cycle: {found:?}");
    assert_eq!(skipped(&report), ["deep/parts: a component, which is built as part of others"]);
}

#[test]
fn a_target_that_is_not_rendered_is_named() {
    let folder =
        folder(&[("targets/shop.yaml", &format!("{TARGET}  path: apps/shpo\n")), ("apps/shop/a.yaml", CONFIG_MAP)]);
    let (code, report) = json(folder.path(), &[]);
    assert_eq!(
        (code, skipped(&report)),
        (0, vec!["targets/shop.yaml: Target `shop`: there is no folder `apps/shpo`".to_owned()])
    );

    let root = tempfile::tempdir().expect("a folder");
    let inner = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '${nme}'}\n";
    fs::create_dir(root.path().join("all")).expect("a folder");
    fs::write(root.path().join("all/a.yaml"), inner).expect("a file");
    fs::write(root.path().join("a.yaml"), inner).expect("a file");
    fs::create_dir(root.path().join(".targets")).expect("a folder");
    let target = format!("{TARGET}  parameters:\n  - values: {{name: b}}\n");
    fs::write(root.path().join(".targets/t.yaml"), target).expect("a file");
    let (code, report) = json(root.path(), &[".targets/t.yaml"]);
    assert_eq!(
        (code, findings(&report)),
        (1, vec!["a.yaml:3 variable_unset -".to_owned()]),
        "the root is a folder, too"
    );
}

#[test]
fn an_error_of_a_render_has_its_place_once_and_says_where_the_object_was_written() {
    needs_engine();
    let web = WEB.replace("web:1", "web:${unset}");
    let target = |path: &str| format!("{TARGET}  path: {path}\n  parameters:\n  - values: {{a: 1}}\n");
    let folder = folder(&[
        ("base/kustomization.yaml", "resources: [web.yaml]\n"),
        ("base/web.yaml", &web),
        ("overlay/kustomization.yaml", "resources: [../base]\n"),
        ("plain/web.yaml", &web),
        ("hub/overlay.yaml", &target("overlay")),
        ("hub/plain.yaml", &target("plain").replace("{name: shop}", "{name: plain}")),
    ]);

    let output = validate(folder.path(), &["--repo", "apps", "hub"]);

    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let unset = "variable `unset` has no value and no default";
    assert!(text.contains(&format!("base/web.yaml:11: error: Deployment web: {unset}\n")), "{text}");
    assert!(text.contains(&format!("plain/web.yaml:11: error: {unset}\n")), "{text}");
}

#[test]
fn targets_of_another_repo_are_not_rendered_from_this_one() {
    let repo = "apiVersion: bellwether.dev/v1\nkind: Repo\nmetadata: {name: this}\nspec: {url: https://git.example.org/team/this.git}\n";
    let target = TARGET.replace("repo: apps", "repo: other") + "  path: deploy\n  parameters:\n  - values: {a: 1}\n";
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '${nope}'}\n";
    let folder = folder(&[("hub/repo.yaml", repo), ("hub/t.yaml", &target), ("deploy/a.yaml", map)]);

    let (code, report) = json(folder.path(), &[]);
    let reason = "hub/t.yaml: Target `shop`: nobody says whether this is its repo `other`: `--repo` does";
    assert_eq!((code, findings(&report), skipped(&report)), (0, vec![], vec![reason.to_owned()]));

    let of_this = vec!["hub/t.yaml: Target `shop`: it is of repo `other`, and this is `this`".to_owned()];
    assert_eq!(skipped(&json(folder.path(), &["--repo", "this"]).1), of_this);
    assert_eq!(findings(&json(folder.path(), &["--repo", "other"]).1), ["deploy/a.yaml:3 variable_unset -"]);

    fs::create_dir(folder.path().join(".git")).expect("a folder");
    let config = "[remote \"origin\"]\n\turl = git@git.example.org:team/this\n";
    fs::write(folder.path().join(".git/config"), config).expect("a file");
    assert_eq!(skipped(&json(folder.path(), &[]).1), of_this);
}

#[test]
fn nothing_at_all_is_told() {
    let empty = folder(&[("README.md", "")]);

    let (code, report) = json(empty.path(), &[]);
    assert_eq!((code, skipped(&report)), (0, vec![".: nothing that could be deployed is there".to_owned()]));

    let output = piped(empty.path(), &["-"], "");
    assert_eq!(output.status.code(), Some(2), "`helm template` before the pipe may have failed: {output:?}");
}

#[test]
fn what_is_broken_is_wrong_however_broken_it_is() {
    let large = format!("kind: ConfigMap\ndata: {{a: {}}}\n", "x".repeat(9 << 20));
    let folder = folder(&[
        ("a/broken.yaml", "apiversion: v1\nkind: ConfigMap\n  metadata: [\n"),
        ("b/large.yaml", &large),
        ("c/kind.yaml", "{kind: Deployment, spec: {}}\n"),
        ("d/list.yaml", "apiVersion: v1\nkind: ConfigMapList\nitems: [{metadata: {name: a}, dta: {}}]\n"),
        ("e/words.yaml", "a: b: c\n"),
        ("f/template.yaml", "{{ if .x }}\na: b: c\n"),
        ("f/values.yaml", "replicas: 2\n"),
    ]);

    let (code, report) = json(folder.path(), &[]);

    assert_eq!(code, 1);
    let found = findings(&report);
    for expected in
        ["a/broken.yaml:", "b/large.yaml:", "c/kind.yaml:1 field_missing apiVersion", "d/list.yaml:3 field_unknown dta"]
    {
        assert!(found.iter().any(|found| found.starts_with(expected)), "{expected}: {found:?}");
    }
    let of_words = report["findings"].as_array().expect("a list").iter().find(|of| of["file"] == "e/words.yaml");
    assert_eq!(of_words.map(|of| &of["severity"]), Some(&Value::from("warning")), "it may be nobody's");
    assert_eq!(skipped(&report), ["f/template.yaml: no Kubernetes object", "f/values.yaml: no Kubernetes object"]);

    for named in ["e/words.yaml", "f/template.yaml", "f/values.yaml"] {
        let (code, report) = json(folder.path(), &[named]);
        assert_eq!((code, skipped(&report).len()), (1, 0), "who names it means it: {named}");
    }
}

#[test]
fn what_a_hub_leaves_out_is_left_out() {
    let folder = folder(&[
        (".bellwetherignore", "/apps/tpl.yaml\n"),
        ("apps/tpl.yaml", "apiVersion: {{ x }}\n"),
        ("apps/a.yaml", CONFIG_MAP),
    ]);

    let (code, report) = json(folder.path(), &[]);

    assert_eq!((code, findings(&report)), (0, vec![]));
    assert_eq!(skipped(&report), [".: 1 left out by .bellwetherignore"]);
}

#[test]
fn a_chart_is_rendered_for_each_version_that_is_asked_for() {
    needs_engine();
    let template = "{{- if semverCompare \">=1.35-0\" .Capabilities.KubeVersion.Version }}\napiVersion: networking.k8s.io/v1\n\
                    {{- else }}\napiVersion: networking.k8s.io/v1beta1\n{{- end }}\nkind: IngressClass\nmetadata: {name: a}\n";
    let chart = "apiVersion: v2\nname: shop\nversion: 1.0.0\n";
    let folder = folder(&[("chart/Chart.yaml", chart), ("chart/templates/a.yaml", template)]);
    let told = |report: &Value| -> Vec<String> {
        let each = report["findings"].as_array().expect("a list").iter();
        each.map(|of| format!("{} {}", of["code"], of["versions"])).collect()
    };

    assert_eq!(json(folder.path(), &["--kubernetes-version", "1.36,1.37"]).0, 0);
    let (code, report) = json(folder.path(), &["--kubernetes-version", "1.31"]);
    assert_eq!((code, told(&report)), (1, vec!["\"api_removed\" null".to_owned()]));
    let (_, report) = json(folder.path(), &["--kubernetes-version", "1.31,1.32,1.37"]);
    assert_eq!(told(&report), ["\"api_removed\" [\"1.31\",\"1.32\"]"]);
    let names: Vec<_> = report["targets"].as_array().expect("a list").iter().map(|target| &target["name"]).collect();
    assert_eq!(names, ["chart (Kubernetes 1.31, 1.32)", "chart (Kubernetes 1.37)"]);

    fs::write(folder.path().join("chart/Chart.yaml"), format!("{chart}kubeVersion: '>=1.36-0'\n")).expect("a file");
    let (code, report) = json(folder.path(), &["--kubernetes-version", "1.31,1.37"]);
    assert_eq!((code, told(&report).len()), (1, 1), "{report}");
    assert_eq!(report["findings"][0]["versions"], serde_json::json!(["1.31"]));
}

#[test]
fn a_chart_in_a_kustomization_is_built_for_each_version_that_is_asked_for() {
    needs_engine();
    let template = "{{- if semverCompare \">=1.35-0\" .Capabilities.KubeVersion.Version }}\napiVersion: networking.k8s.io/v1\n\
                    {{- else }}\napiVersion: networking.k8s.io/v1beta1\n{{- end }}\nkind: IngressClass\nmetadata: {name: a}\n";
    let chart = "apiVersion: v2\nname: shop\nversion: 1.0.0\n";
    let with = |chart: &str| format!("helmGlobals: {{chartHome: ../shared}}\nhelmCharts: [{chart}]\n");
    let folder = folder(&[
        ("shared/shop/Chart.yaml", chart),
        ("shared/shop/values.yaml", ""),
        ("shared/shop/templates/a.yaml", template),
        ("seeing/kustomization.yaml", &with("{name: shop}")),
        ("stating/kustomization.yaml", &with("{name: shop, kubeVersion: v1.36.0}")),
        ("targeted/kustomization.yaml", &with("{name: shop, releaseName: r}")),
        ("target.yaml", &format!("{TARGET}  path: targeted\n")),
        ("without/kustomization.yaml", "resources: [a.yaml]\n"),
        ("without/a.yaml", CONFIG_MAP),
    ]);
    let folders = ["seeing", "stating", "target.yaml", "without", "--repo", "apps"];

    let (code, report) = json(folder.path(), &[&folders[..], &["--kubernetes-version", "1.31,1.32,1.37"]].concat());

    let each = report["findings"].as_array().expect("a list").iter();
    let told: Vec<_> = each.map(|of| format!("{} {} {}", of["target"], of["code"], of["versions"])).collect();
    let removed = |of: &str| format!("\"{of} (Kubernetes 1.31, 1.32)\" \"api_removed\" [\"1.31\",\"1.32\"]");
    assert_eq!((code, told), (1, vec![removed("seeing"), removed("targeted (shop)")]), "{report}");
    let names: Vec<_> = report["targets"].as_array().expect("a list").iter().map(|of| of["name"].as_str()).collect();
    let expected = [
        "bellwether",
        "targeted (shop) (Kubernetes 1.31, 1.32)",
        "targeted (shop) (Kubernetes 1.37)",
        "seeing (Kubernetes 1.31, 1.32)",
        "seeing (Kubernetes 1.37)",
        "stating",
        "without",
    ];
    assert_eq!(names, expected.map(Some), "{report}");

    // The first that is asked for does not fit, and the other one does.
    let chart = format!("{chart}kubeVersion: '>=1.36-0'\n");
    fs::write(folder.path().join("shared/shop/Chart.yaml"), chart).expect("a file");
    let (code, report) = json(folder.path(), &["seeing", "--kubernetes-version", "1.31,1.37"]);
    assert_eq!((code, report["findings"].as_array().map(Vec::len)), (1, Some(1)), "{report}");
    assert_eq!(report["findings"][0]["versions"], serde_json::json!(["1.31"]), "{report}");
}

#[test]
fn a_target_that_names_the_version_of_its_cluster_is_rendered_for_each_that_is_asked_for() {
    let map = format!("{CONFIG_MAP}data: {{version: '${{cluster.facts.kubernetes.minor}}'}}\n");
    let folder = folder(&[("app/a.yaml", &map), ("target.yaml", &format!("{TARGET}  path: app\n"))]);
    let asked = ["target.yaml", "--repo", "apps", "--kubernetes-version", "1.31,1.37"];

    let (code, report) = json(folder.path(), &asked);

    let names: Vec<_> = report["targets"].as_array().expect("a list").iter().map(|of| of["name"].as_str()).collect();
    let expected = ["bellwether", "app (shop) (Kubernetes 1.31)", "app (shop) (Kubernetes 1.37)"];
    assert_eq!((code, names), (0, expected.map(Some).to_vec()), "{report}");
}

#[test]
fn who_reads_the_first_line_only_does_not_change_the_verdict() {
    let folder = tempfile::tempdir().expect("a folder");
    for number in 0..1_500 {
        fs::write(folder.path().join(format!("{number}.yaml")), WRONG_MAP).expect("a file");
    }
    for arguments in [&["."][..], &["--kubeconform-compat", "-strict", "."]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
        let command = command.arg("validate").args(arguments).current_dir(folder.path());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().expect("it starts");
        drop(child.stdout.take());

        assert_eq!(child.wait().expect("it ends").code(), Some(1), "{arguments:?}");
    }
}

#[test]
fn standard_input_is_judged_as_a_file_is() {
    let empty = folder(&[]);
    let own = format!("{TARGET}  pth: apps\n---\n{CONFIG_MAP}");

    let output = piped(empty.path(), &["-o", "json", "-"], &own);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(
        (output.status.code(), findings(&report)),
        (Some(1), vec!["stdin:6 document_invalid spec.pth".to_owned()])
    );

    let output = piped(empty.path(), &["-o", "json", "-"], TARGET);
    let report: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(skipped(&report), ["stdin: Target `shop`: standard input has no folders"]);

    let output = piped(empty.path(), &["-o", "junit", "-"], "a: b: c\n");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).contains("<failure"), "{output:?}");
}

#[test]
fn definitions_are_found_wherever_they_lie_below_the_folder() {
    let definition = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: widgets.example.org}\nspec:\n  \
                      group: example.org\n  scope: Namespaced\n  names: {kind: Widget, plural: widgets}\n  versions:\n  - {name: v1, served: true, \
                      storage: true, schema: {openAPIV3Schema: {type: object, properties: {size: {type: integer}}}}}\n";
    let folder = folder(&[
        ("crds/bases/w.yaml", definition),
        ("crds/kustomization.yaml", "resources: [bases/w.yaml]\n"),
        ("none/a.yaml", CONFIG_MAP),
        ("a.yaml", "apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: a}\nsze: 1\n"),
    ]);

    let (code, report) = json(folder.path(), &["a.yaml", "--crds", "crds"]);
    assert_eq!((code, findings(&report)), (1, vec!["a.yaml:4 field_unknown sze".to_owned()]));

    let output = validate(folder.path(), &["a.yaml", "--crds", "none"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}

#[test]
fn what_is_no_file_is_not_waited_for() {
    let folder = folder(&[("a.yaml", CONFIG_MAP)]);
    let made = Command::new("mkfifo").arg(folder.path().join("pipe.yaml")).status().expect("it starts");
    assert!(made.success());

    let (code, report) = json(folder.path(), &[]);
    assert_eq!((code, skipped(&report)), (0, vec!["pipe.yaml: neither a file nor a folder".to_owned()]));
    let output = validate(folder.path(), &["--kubeconform-compat", "pipe.yaml"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
}

#[test]
fn files_are_named_from_where_a_person_is_and_to_code_scanning_from_the_root() {
    let folder = folder(&[(".git/config", ""), ("a/x.yaml", WRONG_MAP), ("b/x.yaml", WRONG_MAP)]);

    let (_, report) = json(&folder.path().join("a"), &[".", "../b"]);
    assert_eq!(findings(&report), ["../b/x.yaml:4 field_unknown dta", "x.yaml:4 field_unknown dta"]);

    let output = validate(&folder.path().join("a"), &["-o", "sarif", "."]);
    let sarif: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let place = &sarif["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"];
    assert_eq!(place["uri"], "a/x.yaml");
}

#[test]
fn text_of_a_file_writes_no_lines_of_its_own() {
    let map = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: \"a\\n::error file=ok.yaml::forged\\u009b\"}\n";
    let folder = folder(&[("a.yaml", map)]);

    let output = validate(folder.path(), &["a.yaml"]);
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("forged") && !text.lines().any(|line| line.starts_with("::")), "{text}");

    for format in ["tap", "text"] {
        let output = validate(folder.path(), &["--kubeconform-compat", "-verbose", "-output", format, "a.yaml"]);
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("forged") && !text.contains('\u{9b}'), "{text}");
        assert!(!text.lines().any(|line| line.starts_with("::")), "{text}");
    }
}

#[test]
fn a_schema_that_cannot_be_used_is_not_as_good_as_none() {
    let widget = "apiVersion: example.org/v1\nkind: Widget\nmetadata: {name: a}\nspec: {size: big}\nextra: 1\n";
    let folder = folder(&[("a.yaml", widget)]);
    let run = |schema: &str, arguments: &[&str]| {
        fs::create_dir_all(folder.path().join("http-schemas")).expect("a folder");
        fs::write(folder.path().join("http-schemas/widget.json"), schema).expect("a file");
        let fixed = ["--kubeconform-compat", "-schema-location", "http-schemas/{{ .ResourceKind }}.json"];
        let output = validate(folder.path(), &[&fixed[..], arguments, &["a.yaml"]].concat());
        (output.status.code().expect("it ended"), String::from_utf8_lossy(&output.stdout).into_owned())
    };

    let (code, text) = run(r##"{"properties": {"spec": {"$ref": "#/definitions/s"}}}"##, &["-ignore-missing-schemas"]);
    assert!(code == 1 && text.contains("$ref"), "{text}");
    let (code, text) = run("{", &["-ignore-missing-schemas"]);
    assert!(code == 1 && text.contains("cannot use schema"), "{text}");
    let closed =
        r#"{"properties": {"apiVersion": {}, "kind": {}, "metadata": {}, "spec": {}}, "additionalProperties": false}"#;
    let (code, text) = run(closed, &[]);
    assert!(code == 1 && text.contains("/extra"), "what a schema of one's own forbids needs no `-strict`: {text}");

    for flag in ["-h", "-v"] {
        let output = validate(folder.path(), &["--kubeconform-compat", flag]);
        assert_eq!((output.status.code(), output.stdout.is_empty()), (Some(0), false), "{output:?}");
    }
}

#[test]
fn an_empty_variable_is_not_set() {
    let folder = folder(&[("a.yaml", CONFIG_MAP)]);
    for (arguments, expected) in [(&["validate", "a.yaml"][..], 0), (&["version"], 0), (&["whoami"], 2)] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
        let command = command.args(arguments).current_dir(folder.path()).env_remove("BELLWETHER_TOKEN");
        let variables = ["BELLWETHER_URL", "BELLWETHER_CA", "BELLWETHER_RENDER_ENGINE"].map(|name| (name, ""));
        let output = command.envs(variables).output().expect("it starts");
        assert_eq!(output.status.code(), Some(expected), "{arguments:?}: {output:?}");
    }
}

#[test]
fn what_an_api_server_refuses_of_lists_and_names_is_told() {
    let pod = "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec:\n  containers:\n  - {name: a, image: a, env: [{name: A}, {name: A}]}\n";
    let folder = folder(&[
        ("a.yaml", pod),
        ("b.yaml", "apiVersion: v1\nkind: Service\nmetadata: {name: my.service}\nspec: {ports: [{port: 80}]}\n"),
        ("c.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: Foo_Bar}\n"),
        ("d.yaml", "apiVersion: user.openshift.io/v1\nkind: Identity\nmetadata: {name: 'htpasswd:alice'}\n"),
    ]);

    let (_, report) = json(folder.path(), &[]);

    assert_eq!(
        findings(&report),
        [
            "a.yaml:6 value_twice spec.containers[0].env[1]",
            "b.yaml:3 object_name_invalid metadata.name",
            "c.yaml:3 object_name_invalid metadata.namespace",
        ]
    );
}

#[test]
fn values_have_the_formats_that_an_api_server_knows() {
    let property = |name: &str, schema: &str| format!("                {name}: {schema}\n");
    let properties = [
        property("wait", "{type: string, format: duration}"),
        property("step", "{type: number, multipleOf: 0.1}"),
        property("link", "{type: string, format: uri}"),
        property("id", "{type: string, format: uuid}"),
        property("net", "{type: string, format: cidr}"),
        property("size", "{type: integer, format: int32}"),
        property(
            "list",
            "{type: array, x-kubernetes-list-type: map, x-kubernetes-list-map-keys: [name], items: {type: object, properties: {name: {type: string}}}}",
        ),
    ];
    let definition = format!(
        "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {{name: widgets.example.org}}\nspec:\n  \
         group: example.org\n  scope: Namespaced\n  names: {{kind: Widget, plural: widgets}}\n  versions:\n  - name: v1\n    served: true\n    \
         storage: true\n    schema:\n      openAPIV3Schema:\n        type: object\n        properties:\n          spec:\n            type: object\n            \
         properties:\n{}",
        properties.concat()
    );
    let widget =
        |spec: &str| format!("apiVersion: example.org/v1\nkind: Widget\nmetadata: {{name: a}}\nspec: {spec}\n");
    let good = "{wait: 1 day, step: 0.3, link: 'https://a.example', id: 3d8b5c0e-6f5e-4b7e-9a51-1b2c3d4e5f60, net: 10.0.0.0/8, size: 1}";
    let bad = "{wait: soon, step: 0.35, link: nonsense, id: nonsense, net: nonsense, size: 4294967296, list: [{name: a}, {name: a}]}";
    let lease = "apiVersion: coordination.k8s.io/v1\nkind: Lease\nmetadata: {name: a}\nspec: {renewTime: '2026-11-28T10:00:00+01:00[Europe/Paris]'}\n";
    let folder = folder(&[
        ("crds/w.yaml", &definition),
        ("good/w.yaml", &widget(good)),
        ("bad/w.yaml", &widget(bad)),
        ("bad/lease.yaml", lease),
    ]);

    assert_eq!(json(folder.path(), &["good", "--crds", "crds"]).0, 0);
    let (_, report) = json(folder.path(), &["bad", "--crds", "crds"]);
    let fields: Vec<_> = report["findings"].as_array().expect("a list").iter().map(|of| &of["field"]).collect();
    let expected =
        ["spec.renewTime", "spec.id", "spec.link", "spec.list[1]", "spec.net", "spec.size", "spec.step", "spec.wait"];
    assert_eq!(fields, expected, "{report}");
}

#[test]
fn what_needs_a_chart_or_a_base_of_another_place_is_left_out_and_says_so() {
    let chart = "apiVersion: v2\nname: shop\nversion: 1.0.0\ndependencies:\n\
                 - {name: db, version: ~1.2, repository: 'https://charts.example.org'}\n";
    let folder = folder(&[
        ("chart/Chart.yaml", chart),
        ("chart/templates/map.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Release.Name }}}\n"),
        ("eu/kustomization.yaml", "resources: ['https://git.example.org/team/bases//shop?ref=v1']\n"),
        ("us/kustomization.yaml", "resources: ['https://files.example.org/v1/install.yaml']\n"),
    ]);

    let (code, report) = json(folder.path(), &[]);

    assert_eq!(code, 0, "{report}");
    assert_eq!(
        skipped(&report),
        [
            "chart/Chart.yaml: chart `db` ~1.2 of https://charts.example.org is needed, and no hub is asked for it",
            "eu/kustomization.yaml: the base https://git.example.org/team/bases at `v1` is needed, and no hub is asked for it",
            "us/kustomization.yaml: the file https://files.example.org/v1/install.yaml is needed, and no hub is asked for it",
        ]
    );
}
