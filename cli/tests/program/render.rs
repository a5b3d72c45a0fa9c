//! `bellwether render` as a program: what it says of what it was told to set.

use std::path::Path;
use std::process::Output;

use super::{folder, needs_engine, run};

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: a}\ndata: {text: '${text}'}\n";
const CHART: &str = "apiVersion: v2\nname: shop\nversion: 1.0.0\n";

fn render(folder: &Path, arguments: &[&str]) -> Output {
    run("render", folder, arguments)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn what_is_set_and_nothing_refers_to_is_warned_about() {
    let folder = folder(&[("apps/a.yaml", MAP)]);

    let used = render(folder.path(), &["apps", "--set", "text=hello"]);
    let unused = render(folder.path(), &["apps", "--set", "text=hello", "--set", "image.tag=1.4.2"]);

    assert!(used.status.success() && text(&used.stdout).contains("text: hello"), "{used:?}");
    assert!(!text(&used.stderr).contains("warning"), "{used:?}");
    assert!(unused.status.success(), "{unused:?}");
    assert_eq!(text(&unused.stdout), text(&used.stdout));
    assert!(text(&unused.stderr).contains("warning: `--set image.tag=…` changes nothing"), "{unused:?}");
}

#[test]
fn values_of_a_chart_are_set_in_a_chart_and_nowhere_else() {
    needs_engine();
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: a}\ndata: {v: {{ .Values | toJson | quote }}}\n";
    let values = "image: {tag: old}\nports: [1, 2]\n";
    let folder = folder(&[
        ("apps/a.yaml", MAP),
        ("chart/Chart.yaml", CHART),
        ("chart/values.yaml", values),
        ("chart/templates/a.yaml", template),
    ]);

    let flags =
        ["--helm-set", "image.tag=1.5", "--helm-set", "ports[1]=80", "--helm-set-string", "size=3", "-o", "json"];
    let chart = render(folder.path(), &[&["chart"], &flags[..]].concat());
    let plain = render(folder.path(), &[&["apps"], &flags[..]].concat());

    assert!(chart.status.success(), "{chart:?}");
    let objects: serde_json::Value = serde_json::from_slice(&chart.stdout).expect("JSON");
    let given = objects["items"][0]["data"]["v"].as_str().expect("a text").to_owned();
    assert_eq!(given, r#"{"image":{"tag":"1.5"},"ports":[null,80],"size":"3"}"#);
    assert_eq!(plain.status.code(), Some(2), "{plain:?}");
    assert!(text(&plain.stderr).contains("--helm-set is for charts"), "{plain:?}");
}

#[test]
fn what_a_hub_has_frozen_is_shown_by_no_one_else_and_looked_at_all_the_same() {
    needs_engine();
    let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: a, namespace: a}\n\
                  stringData: {password: {{ randAlphaNum 20 }}, key: {{ genPrivateKey \"ed25519\" | quote }}}\n";
    let target = "apiVersion: bellwether.dev/v1\nkind: Target\nmetadata: {name: shop}\nspec:\n  repo: apps\n  path: chart\n\
                  \x20 render: {helm: {volatile: {freeze: 2}}}\n";
    let folder = folder(&[
        (".git/HEAD", "ref: refs/heads/main\n"),
        ("chart/Chart.yaml", CHART),
        ("chart/templates/a.yaml", secret),
        ("target.yaml", target),
    ]);

    let rendered = render(folder.path(), &["--target", "target.yaml", "--cluster", "eu-1"]);
    let validated = run("validate", folder.path(), &["target.yaml", "--repo", "apps"]);

    assert_eq!((rendered.status.code(), text(&rendered.stdout)), (Some(1), String::new()), "{rendered:?}");
    let said = text(&rendered.stderr);
    assert!(
        said.contains("only its hub knows what is frozen") && said.contains("render TARGET --cluster NAME"),
        "{said}"
    );
    assert!(validated.status.success() && text(&validated.stderr).contains("2 objects"), "{validated:?}");
}

#[test]
fn hooks_that_are_left_out_are_named_beside_what_is_printed() {
    let hook = "apiVersion: batch/v1\nkind: Job\nmetadata: {name: migrate, namespace: a, annotations: {helm.sh/hook: pre-rollback}}\n";
    let folder = folder(&[("apps/a.yaml", MAP), ("apps/b.yaml", hook)]);

    let output = render(folder.path(), &["apps", "-o", "objects"]);

    assert!(output.status.success() && !text(&output.stdout).contains("migrate"), "{output:?}");
    assert!(text(&output.stderr).contains("left out: Job migrate (pre-rollback)"), "{output:?}");
}

#[test]
fn what_becomes_of_definitions_is_said_by_a_flag() {
    needs_engine();
    let definition = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\nmetadata: {name: things.example.org}\nspec: {group: example.org}\n";
    let folder = folder(&[("chart/Chart.yaml", CHART), ("chart/crds/things.yaml", definition)]);
    let printed = |flags: &[&str]| {
        let output = render(folder.path(), &[&["chart"], flags].concat());
        assert!(output.status.success(), "{output:?}");
        text(&output.stdout)
    };

    assert!(printed(&[]).contains("bellwether.dev/apply: once"));
    assert!(printed(&["--crds", "upgrade"]).contains("things.example.org"));
    assert!(!printed(&["--crds", "upgrade"]).contains("bellwether.dev/apply"));
    assert!(!printed(&["--crds", "skip"]).contains("things.example.org"));
}

#[test]
fn a_chart_is_shown_the_apis_of_a_file() {
    needs_engine();
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: a}\n\
                    data: {monitors: '{{ .Capabilities.APIVersions.Has \"monitoring.coreos.com/v1\" }}'}\n";
    let folder = folder(&[
        ("chart/Chart.yaml", CHART),
        ("chart/templates/a.yaml", template),
        ("apis", "v1\nmonitoring.coreos.com/v1\napps/v1\n"),
        ("wrong", "NAME READY\n"),
    ]);

    let alone = render(folder.path(), &["chart"]);
    let with = render(folder.path(), &["chart", "--cluster-apis", "apis"]);
    let wrong = render(folder.path(), &["chart", "--cluster-apis", "wrong"]);

    assert!(text(&alone.stdout).contains("monitors: \"false\""), "{alone:?}");
    assert!(text(&with.stdout).contains("monitors: \"true\""), "{with:?}");
    assert_eq!(wrong.status.code(), Some(2), "{wrong:?}");
    assert!(text(&wrong.stderr).contains("line 1 is not the name of an API"), "{wrong:?}");
}

#[test]
fn where_a_value_comes_from_is_told_by_its_file_and_its_layer() {
    let target = "apiVersion: bellwether.dev/v1\nkind: Target\nmetadata: {name: shop}\nspec:\n  repo: r\n  path: apps\n\
                  \x20 render:\n    parameterFiles: [envs/common.yaml, 'envs/${cluster.labels.env}.yaml']\n\
                  \x20 parameters:\n  - clusters: {matchNames: [berlin]}\n    values: {text: named}\n\
                  \x20 - values: {text: all}\n  - clusters: {matchLabels: {env: prod}}\n    values: {text: selected}\n";
    let folder = folder(&[
        ("apps/a.yaml", MAP),
        ("t.yaml", target),
        ("envs/common.yaml", "text: common\n"),
        ("envs/prod.yaml", "text: prod\n"),
    ]);
    let asked = ["--target", "t.yaml", "--root", ".", "--cluster", "berlin", "--cluster-labels", "env=prod"];

    let told = render(folder.path(), &[&asked[..], &["--explain", "text"]].concat());
    let made = render(folder.path(), &asked);
    let over = render(folder.path(), &[&asked[..], &["--set", "text=flag", "--explain", "text"]].concat());

    let lines = [
        "\"common\"\tenvs/common.yaml, of render.parameterFiles",
        "\"prod\"\tenvs/prod.yaml, of render.parameterFiles",
        "\"all\"\tparameters[1], which is for all",
        "\"selected\"\tparameters[2], which selects the cluster",
        "\"named\"\tparameters[0], which names the cluster",
    ];
    assert_eq!(text(&told.stdout).lines().collect::<Vec<_>>(), lines, "{told:?}");
    assert!(text(&made.stdout).contains("text: named"), "{made:?}");
    assert_eq!(text(&over.stdout).lines().last(), Some("\"flag\"\t--set"), "{over:?}");
}

#[test]
fn a_setting_of_a_flag_is_over_all_that_the_target_sets() {
    needs_engine();
    let target = "apiVersion: bellwether.dev/v1\nkind: Target\nmetadata: {name: shop}\nspec:\n  repo: r\n  path: chart\n\
                  \x20 render: {helm: {set: ['a=1', 'b=1'], setString: ['b=2', 'c=2', 'image.tag=1.0,d=2']}}\n";
    let template = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a, namespace: a}\ndata: {v: {{ .Values | toJson | quote }}}\n";
    let folder = folder(&[("t.yaml", target), ("chart/Chart.yaml", CHART), ("chart/templates/a.yaml", template)]);

    let flags = ["--helm-set", "c=3,image.tag=2.0", "--helm-set-string", "a=4", "-o", "json"];
    let output = render(folder.path(), &[&["--target", "t.yaml", "--root", "."], &flags[..]].concat());

    let objects: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let given = objects["items"][0]["data"]["v"].as_str().expect("a text").to_owned();
    assert_eq!(given, r#"{"a":"4","b":"2","c":3,"d":"2","image":{"tag":"2.0"}}"#, "{output:?}");
}
