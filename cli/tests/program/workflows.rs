//! What `docs/validate.md` gives people for their pipelines, read and run as it stands there.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use bellwether_render::yaml;
use serde_json::{Value, json};

use super::folder;

const GOOD: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {text: a}\n";

fn read(path: &str) -> String {
    fs::read_to_string(Path::new("..").join(path)).expect("it is there")
}

fn parse(text: &str) -> Value {
    yaml::read("docs/validate.md", text.as_bytes()).expect("it is YAML").remove(0).to_json()
}

/// The documents of the page, by the title of the chapter.
fn documents() -> Vec<(String, Value)> {
    let page = read("docs/validate.md");
    let chapters = page.split("\n### ").skip(1).map(|chapter| chapter.split_once('\n').expect("it has lines"));
    let documents = chapters.filter_map(|(title, text)| {
        let document = text.split("```yaml\n").nth(1)?.split("```").next()?;
        Some((title.to_owned(), parse(document)))
    });
    documents.collect()
}

fn of(title: &str) -> Value {
    documents().into_iter().find(|(found, _)| found == title).expect("it is there").1
}

/// As a runner does it, with the program in PATH.
fn sh(folder: &Path, script: &str, more: &[&str]) -> Output {
    let beside = Path::new(env!("CARGO_BIN_EXE_bellwether")).parent().expect("it is in a folder").display();
    let path = format!("{beside}:{}", std::env::var("PATH").unwrap_or_default());
    Command::new("sh")
        .args(more)
        .args(["-ec", script])
        .current_dir(folder)
        .env("PATH", path)
        .output()
        .expect("it starts")
}

#[test]
fn the_workflow_for_github_writes_what_it_uploads() {
    let workflow = of("GitHub Actions");
    let steps = workflow["jobs"]["validate"]["steps"].as_array().expect("steps").clone();
    let scripts: Vec<&str> = steps.iter().filter_map(|step| step["run"].as_str()).collect();
    let folder = folder(&[("apps/a.yaml", GOOD)]);

    for script in &scripts {
        assert!(sh(folder.path(), script, &["-n"]).status.success(), "no shell reads {script}");
    }
    let validate = scripts.iter().find(|script| script.starts_with("bellwether ")).expect("it runs the program");
    let output = sh(folder.path(), validate, &[]);

    assert!(output.status.success(), "{output:?}");
    let uploads = steps.iter().find(|step| step["uses"].as_str().is_some_and(|uses| uses.contains("upload-sarif")));
    let file = uploads.expect("it uploads")["with"]["sarif_file"].as_str().expect("a file");
    let written = fs::read(folder.path().join(file)).expect("it is written");
    assert_eq!(serde_json::from_slice::<Value>(&written).expect("JSON")["version"], "2.1.0");
    assert_eq!(workflow["permissions"]["security-events"], "write", "without it nothing may be uploaded");
}

#[test]
fn the_workflow_for_gitlab_writes_what_it_reports() {
    let job = of("GitLab CI")["validate"].clone();
    let script = job["script"][0].as_str().expect("a line").to_owned();
    let folder = folder(&[("apps/a.yaml", GOOD)]);

    let output = sh(folder.path(), &script, &[]);

    assert!(output.status.success(), "{output:?}");
    let file = job["artifacts"]["reports"]["junit"].as_str().expect("a file");
    let written = fs::read_to_string(folder.path().join(file)).expect("it is written");
    assert!(written.starts_with("<?xml"), "{written}");
}

#[test]
fn the_hook_for_pre_commit_is_there_and_takes_what_the_page_gives_it() {
    let hooks = parse(&read(".pre-commit-hooks.yaml"));
    let used = of("pre-commit")["repos"][0]["hooks"][0].clone();
    let hook = &hooks[0];
    let arguments = used["args"].as_array().expect("arguments");
    let arguments: Vec<&str> = arguments.iter().map(|argument| argument.as_str().expect("a text")).collect();
    let folder = folder(&[("apps/a.yaml", GOOD)]);

    let command = [&[hook["entry"].as_str().expect("a command")], &arguments[..]].concat().join(" ");
    let output = sh(folder.path(), &command, &[]);

    assert_eq!((&hook["id"], hook["pass_filenames"].clone()), (&used["id"], json!(false)));
    assert!(output.status.success(), "{output:?}");
}
