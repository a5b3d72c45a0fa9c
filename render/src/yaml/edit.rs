//! Writes other values into a file and leaves all else of it as it is: comments, order, quotes.
//!
//! A value is found by its place in the parser's events and only its own text is replaced. Then the whole file is read again:
//! what comes out is either what was there with those values in it, or nothing is changed.

use std::collections::HashMap;

use granit_parser::ScalarStyle;
use serde_json::Value;

use super::split::{Part, split};
use super::tree::{NodeId, RawContent, ScalarPlace, Tree, parse, scalar_places};
use super::{Position, YamlError, read};

/// Another value of a field.
#[derive(Debug, Clone)]
pub struct Edit<'a> {
    /// As the API server names fields: `.spec.template.spec.containers[name="web"].image`.
    pub path: &'a str,
    /// As it is to be there now; what else is found was changed since.
    pub from: &'a Value,
    /// Neither a list nor a map.
    pub to: &'a Value,
}

/// Why a file is left as it is.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    #[error(transparent)]
    Unreadable(#[from] YamlError),
    #[error("there is no `{path}` in it")]
    Absent { path: String },
    #[error("`{path}` is {found} there, and not {expected}")]
    Other { path: String, found: String, expected: String },
    #[error("`{path}` is a list, a map, a block of text, or comes by an alias or a merge")]
    NoSingleValue { path: String },
    #[error("no text in its place is read as {to} and leaves all else as it is")]
    Unsure { to: String },
}

/// The file with other values in the one document that is meant; `None`: none of them is. Of several, the first.
pub fn edit(
    file: &str,
    text: &str,
    is_meant: impl Fn(&Value) -> bool,
    edits: &[Edit<'_>],
) -> Result<Option<String>, EditError> {
    let mut text = text.to_owned();
    let Some(place) = documents(file, &text)?.iter().position(&is_meant) else { return Ok(None) };
    for edit in edits {
        text = edit_one(file, &text, place, edit)?;
    }
    Ok(Some(text))
}

fn documents(file: &str, text: &str) -> Result<Vec<Value>, YamlError> {
    Ok(read(file, text.as_bytes())?.iter().map(super::Document::to_json).collect())
}

fn edit_one(file: &str, text: &str, place: usize, edit: &Edit<'_>) -> Result<String, EditError> {
    let path = || edit.path.to_owned();
    let mut expected = documents(file, text)?;
    let value = expected.get_mut(place).and_then(|document| value_at(document, edit.path));
    let Some(value) = value else { return Err(EditError::Absent { path: path() }) };
    if value != edit.from {
        let [found, expected] = [&*value, edit.from].map(Value::to_string);
        return Err(EditError::Other { path: path(), found, expected });
    }
    edit.to.clone_into(value);
    let no_single_value = || EditError::NoSingleValue { path: path() };
    let (start, part) = part_of(file, text, place)?.ok_or_else(no_single_value)?;
    let tree = parse(&part).map_err(|failure| failure.of(file))?;
    let places = scalar_places(&part);
    let found = tree.root().and_then(|root| scalar_at(&tree, &places, root, edit.path)).ok_or_else(no_single_value)?;
    let range = start + found.bytes.start..start + found.bytes.end;
    // What is JSON stays so, for whoever reads it as such.
    let style = if is_json(text) { ScalarStyle::DoubleQuoted } else { found.style };
    for written in spellings(edit.to, style) {
        let mut edited = text.to_owned();
        edited.replace_range(range.clone(), &written);
        if documents(file, &edited).is_ok_and(|read| read == expected) {
            return Ok(edited);
        }
    }
    Err(EditError::Unsure { to: edit.to.to_string() })
}

fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok()
}

/// The part of the file that holds its nth document, and where it starts.
fn part_of<'t>(file: &str, text: &'t str, place: usize) -> Result<Option<(usize, Part<'t>)>, YamlError> {
    let mut seen = 0;
    for part in split(text, 1) {
        let part = part.map_err(|failure| failure.of(file))?;
        let holds = documents(file, part.text)?.len();
        if seen + holds > place {
            let start = text.split_inclusive('\n').take(part.line - 1).map(str::len).sum();
            return Ok(Some((start, part)));
        }
        seen += holds;
    }
    Ok(None)
}

/// How a value may be written, the likest to what was there first. Which of them is read as that value is tried.
fn spellings(value: &Value, style: ScalarStyle) -> Vec<String> {
    let Value::String(text) = value else { return vec![value.to_string()] };
    let (plain, double) = (text.clone(), value.to_string());
    let single = format!("'{}'", text.replace('\'', "''"));
    match style {
        ScalarStyle::Plain if !text.is_empty() => vec![plain, double],
        ScalarStyle::SingleQuoted => vec![single, double],
        _ => vec![double],
    }
}

/// What follows in a path after this step.
fn after<'p>(path: &'p str, step: &str) -> Option<&'p str> {
    path.strip_prefix(step).filter(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn item_steps(name: Option<&str>, place: usize) -> [String; 2] {
    [format!("[name={}]", Value::from(name.unwrap_or_default())), format!("[{place}]")]
}

fn value_at<'v>(value: &'v mut Value, path: &str) -> Option<&'v mut Value> {
    if path.is_empty() {
        return Some(value);
    }
    match value {
        // A key may hold dots itself.
        Value::Object(fields) => fields.iter_mut().find_map(|(key, below)| {
            let rest = after(path, &format!(".{key}"))?;
            value_at(below, rest)
        }),
        Value::Array(items) => items.iter_mut().enumerate().find_map(|(place, item)| {
            let steps = item_steps(item["name"].as_str(), place);
            let rest = steps.iter().find_map(|step| after(path, step))?;
            value_at(item, rest)
        }),
        _ => None,
    }
}

/// As [`value_at`], in the tree of what is written.
fn scalar_at<'p>(
    tree: &Tree<'_>,
    places: &'p HashMap<Position, ScalarPlace>,
    node: NodeId,
    path: &str,
) -> Option<&'p ScalarPlace> {
    let text = |id: NodeId| match &tree.node(id).content {
        RawContent::Scalar(scalar) => Some(scalar.text.as_ref()),
        _ => None,
    };
    let node = tree.node(node);
    match &node.content {
        RawContent::Scalar(_) if path.is_empty() => places.get(&node.at),
        // The last of equal keys counts.
        RawContent::Map(pairs) => pairs.iter().rev().find_map(|(key, value)| {
            let rest = after(path, &format!(".{}", text(*key)?))?;
            scalar_at(tree, places, *value, rest)
        }),
        RawContent::List(items) => items.iter().enumerate().find_map(|(place, item)| {
            let name = match &tree.node(*item).content {
                RawContent::Map(pairs) => pairs.iter().rev().find(|(key, _)| text(*key) == Some("name")),
                _ => None,
            };
            let steps = item_steps(name.and_then(|(_, value)| text(*value)), place);
            let rest = steps.iter().find_map(|step| after(path, step))?;
            scalar_at(tree, places, *item, rest)
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FILE: &str = r#"# The shop.
apiVersion: v1
kind: ConfigMap
metadata: {name: other}
---
apiVersion: apps/v1   # stays
kind: Deployment
metadata:
  name: web
  annotations: {a.b/c: 'it''s', "d": "e"}
spec:
  replicas: 3 # by hand
  template:
    spec:
      containers:
      - {name: log, image: log:1, args: [a, "2"]}
      - name: web
        image: shop:1
        args: &args
        - --port=1
        - "2"
      - name: late
        args: *args
        command: |
          echo
"#;

    fn edited(edits: &[(&str, Value, Value)]) -> Result<Option<String>, EditError> {
        let edits: Vec<_> = edits.iter().map(|(path, from, to)| Edit { path, from, to }).collect();
        edit("web.yaml", FILE, |document| document["kind"] == "Deployment", &edits)
    }

    #[test]
    fn only_the_values_text_is_replaced_and_quoted_where_it_must_be() {
        let container = |name: &str| format!(".spec.template.spec.containers[name=\"{name}\"]");
        let (web, log) = (container("web"), container("log"));
        let cases: [(&str, Value, Value, &str, &str); 8] = [
            (".spec.replicas", json!(3), json!(5), "replicas: 3 #", "replicas: 5 #"),
            (&format!("{web}.image"), json!("shop:1"), json!("shop:2@sha256:ab"), "shop:1", "shop:2@sha256:ab"),
            (&format!("{web}.image"), json!("shop:1"), json!("12"), "image: shop:1", "image: \"12\""),
            (&format!("{web}.image"), json!("shop:1"), json!("a # b"), "image: shop:1", "image: \"a # b\""),
            (&format!("{log}.image"), json!("log:1"), json!("log, 2"), "image: log:1", "image: \"log, 2\""),
            (&format!("{log}.args[1]"), json!("2"), json!("3\n"), "[a, \"2\"]", "[a, \"3\\n\"]"),
            (".metadata.annotations.a.b/c", json!("it's"), json!("it's 2"), "'it''s'", "'it''s 2'"),
            (".spec.replicas", json!(3), json!(null), "replicas: 3 #", "replicas: null #"),
        ];
        for (path, from, to, before, after) in cases {
            let text = edited(&[(path, from, to)]).expect("it can be").expect("it is there");
            assert_eq!(text, FILE.replace(before, after), "{path}");
        }
    }

    #[test]
    fn what_is_json_stays_json() {
        let text = "{\"kind\": \"Widget\", \"spec\": {\"max\": 1}}";
        let edits = [Edit { path: ".spec.max", from: &json!(1), to: &json!("25%") }];

        let edited = edit("a.json", text, |_| true, &edits).expect("it can be").expect("it is there");
        assert_eq!(edited, text.replace('1', "\"25%\""));
    }

    #[test]
    fn several_values_are_written_at_once() {
        let image = ".spec.template.spec.containers[1].image";
        let text = edited(&[(".spec.replicas", json!(3), json!(5)), (image, json!("shop:1"), json!("shop:2"))]);

        let expected = FILE.replace("replicas: 3 #", "replicas: 5 #").replace("shop:1", "shop:2");
        assert_eq!(text.expect("they can be").expect("it is there"), expected);
    }

    #[test]
    fn what_is_no_single_text_of_the_file_or_was_changed_since_is_left() {
        let late = ".spec.template.spec.containers[name=\"late\"]";
        let says = |path: &str, from: Value| edited(&[(path, from, json!("x"))]).expect_err("it is left").to_string();

        assert_eq!(says(".spec.replicas", json!(4)), "`.spec.replicas` is 3 there, and not 4");
        assert_eq!(says(".spec.paused", json!(false)), "there is no `.spec.paused` in it");
        for (path, from) in [(format!("{late}.args[1]"), json!("2")), (format!("{late}.command"), json!("echo\n"))] {
            let told = says(&path, from);
            assert!(told.ends_with("comes by an alias or a merge"), "{told}");
        }
        let of_anchored = says(".spec.template.spec.containers[name=\"web\"].args[1]", json!("2"));
        assert!(of_anchored.starts_with("no text in its place"), "it would change what the alias takes: {of_anchored}");
        let none = edit("web.yaml", FILE, |document| document["kind"] == "Job", &[]);
        assert!(none.expect("it is read").is_none());
    }
}
