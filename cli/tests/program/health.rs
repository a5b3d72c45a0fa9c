//! `bellwether health` as a program: its exit codes and what it prints where.

use std::io::Write as _;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{folder, run};

const MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: web, namespace: shop}\n";
const CANARY: &str = "apiVersion: flagger.app/v1beta1
kind: Canary
metadata: {name: web, namespace: shop, generation: 3}
status:
  phase: Progressing
  canaryWeight: 20
";
const CERTIFICATE: &str = "apiVersion: cert-manager.io/v1
kind: CertificateRequest
metadata: {name: web-1, namespace: shop, generation: 1}
status:
  conditions:
  - {type: Ready, status: 'False', reason: Denied, message: the policy allows no wildcard}
";

#[test]
fn the_exit_code_is_the_worst_verdict() {
    let of = |files: &[(&str, &str)], arguments: &[&str]| {
        let folder = folder(files);
        let output = run("health", folder.path(), arguments);
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };

    let (code, stdout, stderr) = of(&[("a.yaml", MAP)], &["-f", "a.yaml"]);
    assert_eq!((code, stderr.as_str()), (Some(0), "1 healthy\n"), "{stdout}");
    assert_eq!(stdout, "OBJECT              VERDICT  MESSAGE\nConfigMap shop/web  healthy  there\n");

    let (code, stdout, stderr) = of(&[("a.yaml", &format!("{MAP}---\n{CANARY}"))], &["-f", "a.yaml"]);
    assert_eq!((code, stderr.as_str()), (Some(3), "1 progressing, 1 healthy\n"), "{stdout}");
    assert!(stdout.contains("Canary shop/web     progressing  phase: Progressing"), "{stdout}");

    let files = [("a.yaml", CANARY), ("b.yaml", CERTIFICATE)];
    let (code, stdout, _) = of(&files, &["-f", "a.yaml", "-f", "b.yaml"]);
    assert_eq!(code, Some(1), "{stdout}");
    assert!(stdout.contains("failed       Ready is False: Denied: the policy allows no wildcard"), "{stdout}");

    let (code, stdout, _) = of(&[("a.yaml", CANARY)], &["-f", "a.yaml", "--kstatus-compat"]);
    assert_eq!(code, Some(0), "kstatus knows no phases: {stdout}");
}

#[test]
fn what_cannot_be_read_or_is_no_object_is_no_verdict() {
    for (text, says) in [
        ("a: [", "a.yaml"),
        ("- 1\n", "a.yaml:1: this is no object of a cluster"),
        ("apiVersion: v1\nkind: Pod\nmetadata: {}\n", "no object of a cluster"),
        ("# nothing\n", "there is no object to judge"),
        ("apiVersion: v1\nkind: Pod\nkind: Pod\nmetadata: {name: a}\n", "`kind` stands twice"),
    ] {
        let folder = folder(&[("a.yaml", text)]);
        let output = run("health", folder.path(), &["-f", "a.yaml"]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}: {stderr}");
        assert!(stderr.contains(says) && output.stdout.is_empty(), "{text}: {stderr}");
    }
    let folder = folder(&[]);
    assert_eq!(run("health", folder.path(), &["-f", "none.yaml"]).status.code(), Some(2));
}

#[test]
fn a_list_from_standard_input_is_judged_object_by_object() {
    let items: Vec<Value> = vec![
        json!({"apiVersion": "v1", "kind": "Service",
               "metadata": {"name": "web", "annotations": {"bellwether.dev/health": "address"}},
               "spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.7"}, "status": {"loadBalancer": {}}}),
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "web"}}),
    ];
    let list = json!({"apiVersion": "v1", "kind": "List", "items": items}).to_string();
    let mut command = Command::new(env!("CARGO_BIN_EXE_bellwether"));
    let command = command.args(["health", "-f", "-", "-o", "json"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    child.stdin.take().expect("it has one").write_all(list.as_bytes()).expect("it reads");

    let output = child.wait_with_output().expect("it ends");

    let document: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(output.status.code(), Some(3), "{document}");
    let told = json!([document["verdict"], document["objects"][0]["verdict"], document["objects"][1]["verdict"]]);
    assert_eq!(told, json!(["progressing", "progressing", "healthy"]));
    assert_eq!(document["objects"][0]["message"], "its load balancer has no address yet");
    assert_eq!(document["objects"][0]["file"], "stdin");
}
