//! `bellwether validate` as a program: its exit codes and what it prints where.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

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

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for (path, text) in files {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().expect("it has one")).expect("a folder");
        fs::write(path, text).expect("a file");
    }
    folder
}

fn validate(folder: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
    command.arg("validate").args(arguments).current_dir(folder).output().expect("it starts")
}

fn json(folder: &Path, arguments: &[&str]) -> (i32, Value) {
    let output = validate(folder, &[&["-o", "json"], arguments].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    let json = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    (output.status.code().expect("it ended by itself"), json)
}

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
