//! Files that are meant to hurt: each is refused for what it is, and none takes long.

#![allow(clippy::format_collect)] // Short texts, and easier to read.

use std::collections::BTreeSet;

use bellwether_core::Labels;
use bellwether_core::parameters::{ClusterFacts, ParameterSet, Parameters};
use bellwether_render::yaml::{self, FILE_BYTES_MAX, Problem};
use bellwether_render::{Documents, Marks, Recipe, SourceFile};

fn refusal(text: &str) -> Problem {
    yaml::read("hostile.yaml", text.as_bytes()).expect_err("is refused").problem
}

#[test]
fn a_file_over_the_bound_is_not_read_at_all() {
    let bytes = vec![0xFF; FILE_BYTES_MAX + 1];

    let error = yaml::read("hostile.yaml", &bytes).expect_err("is refused");

    assert_eq!(error.problem, Problem::FileTooLarge { bytes: FILE_BYTES_MAX + 1 });
}

#[test]
fn nesting_is_bounded_in_every_notation() {
    let depth = 100_000;
    for open in ["[", "{", "- ", "? ", "{\"a\":", "[{a: "] {
        assert_eq!(refusal(&open.repeat(depth)), Problem::TooDeep, "{open}");
    }
    let steps: String = (0..300).map(|indent| format!("{}a:\n", " ".repeat(indent))).collect();
    assert_eq!(refusal(&steps), Problem::TooDeep);
}

#[test]
fn what_is_read_can_be_read_again_as_json() {
    let text = format!("{}1{}", "[".repeat(yaml::DEPTH_MAX), "]".repeat(yaml::DEPTH_MAX));

    let documents = yaml::read("deep.yaml", text.as_bytes()).expect("is not too deep");

    let json = documents[0].to_json().to_string();
    assert!(serde_json::from_str::<serde_json::Value>(&json).is_ok());
    assert_eq!(refusal(&format!("[{text}]")), Problem::TooDeep);
}

#[test]
fn aliases_are_bounded_by_nodes_and_by_text_and_by_depth() {
    let bomb = |levels: u8| {
        let level = |level: u8| {
            let (name, inner) = (char::from(b'b' + level), char::from(b'a' + level));
            format!("{name}: &{name} [{}]\n", format!("*{inner},").repeat(9))
        };
        format!("a: &a [x,x,x,x,x,x,x,x,x]\n{}", (0..levels).map(level).collect::<String>())
    };
    let long = format!("a: &a {}\nb: [{}]\n", "x".repeat(1_000_000), "*a,".repeat(90));
    let deep: String = (0..150).map(|level| format!("a{}: &a{} [*a{level}]\n", level + 1, level + 1)).collect();

    assert_eq!(refusal(&bomb(9)), Problem::TooManyAliases);
    assert_eq!(refusal(&long), Problem::TooManyAliases);
    assert_eq!(refusal(&format!("a0: &a0 x\n{deep}")), Problem::TooDeep);
    assert_eq!(refusal("a: &a {b: *a}\n"), Problem::AliasOfItself);
}

#[test]
fn nodes_and_documents_are_counted() {
    for text in ["k: 1\n".repeat(300_000), format!("{{\"a\":[{}1]}}", "1,".repeat(500_000))] {
        assert_eq!(refusal(&text), Problem::TooManyNodes);
    }
    for text in ["---\na: 1\n".repeat(20_000), "---\n".repeat(1_000_000), "{}".repeat(20_000)] {
        assert_eq!(refusal(&text), Problem::TooManyDocuments);
    }
}

#[test]
fn many_keys_of_one_map_are_no_quadratic_work() {
    let text: String = (0..100_000).map(|index| format!("k{}: {index}\n", index % 50_000)).collect();

    let documents = yaml::read("keys.yaml", text.as_bytes()).expect("can be read");

    assert_eq!(documents[0].to_json()["k7"], 50_007, "the last of equal keys wins");
}

#[test]
fn errors_name_line_and_column_in_the_file_and_hold_no_value() {
    for (text, place) in [
        ("a: 1\n---\n\nb: [hush\nc: 1\n", "5:2"),
        ("a: 1\n---\nb: !!int hush\n", "3:10"),
        ("a: 1\n--- hush\n", "2:4"),
        ("a: \"\u{1}hush\"\n", "1:5"),
        ("{\n \"a\": hush\"\n", "2:7"),
    ] {
        let error = yaml::read("a.yaml", text.as_bytes()).expect_err("is refused").to_string();
        assert!(error.starts_with(&format!("a.yaml:{place}: ")), "{error}");
        assert!(!error.contains("hush"), "{error}");
    }
}

fn files(count: usize, text: &str) -> Vec<SourceFile> {
    let file = |number| SourceFile { path: format!("{number}.yaml"), bytes: text.as_bytes().to_vec() };
    (0..count).map(file).collect()
}

#[test]
fn many_small_files_of_aliases_are_bounded_together() {
    let list = format!("a: &a [{}]\nb: [{}]\n", "x,".repeat(500), "*a,".repeat(90));
    let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(40_000), "*a,".repeat(90));

    for (text, code) in [(list, "sources_too_large"), (text, "sources_too_large")] {
        assert!(yaml::read("one.yaml", text.as_bytes()).is_ok(), "one alone is no attack");
        let error = Documents::parse(&files(300, &text)).err().expect("is refused");
        assert_eq!(error.code(), code);
    }
}

#[test]
fn what_comes_out_is_bounded_over_all_objects() {
    let data = "${v}".repeat(25);
    let object = |number| {
        let text = format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a{number}}}\ndata: {{k: '{data}'}}\n");
        SourceFile { path: format!("{number}.yaml"), bytes: text.into_bytes() }
    };
    let value = serde_json::Value::from("x".repeat(60_000));
    let set = ParameterSet { clusters: None, values: [("v".to_owned(), value)].into() };
    let name = "berlin".parse().expect("is a name");
    let values = Parameters::resolve(&[set], ClusterFacts::new(&name, &Labels::new()));
    let target = serde_json::from_value(serde_json::json!("0193f0a0-0000-7000-8000-00000000000a")).expect("is an id");
    let recipe = Recipe {
        marks: Some(Marks { target, owner: "main/shop/web".to_owned() }),
        namespace: Some("shop".to_owned()),
        agents: BTreeSet::new(),
    };
    let render = |count| {
        let files: Vec<_> = (0..count).map(object).collect();
        Documents::parse(&files).expect("parses").render(&recipe, &values)
    };

    let error = render(45).expect_err("is refused");

    assert!(render(44).is_ok());
    assert_eq!(error.code(), "bundle_too_large");
}
