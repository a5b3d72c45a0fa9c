//! Holds the reader to kubectl: every case of the corpus against what `corpus/gen` wrote, which is what kubectl's own Go
//! code reads. After a change of cases: `cd render/corpus/gen && go run . ../cases > ../golden.json`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use bellwether_render::yaml;
use serde_json::{Number, Value};

/// Where the two differ, and why that is right. Accepting more is harmless: the value is the one that is written.
const ACCEPTED_BEYOND_KUBECTL: &[(&str, &str)] = &[
    ("anchor-with-colon.yaml", "`&a:` is an anchor `a:` in YAML 1.2, and not one on a null key"),
    ("block-tabs.yaml", "a tab as the first character of a block's text is text in YAML 1.2"),
    ("documents-end-marker-first.yaml", "a `...` that ends nothing"),
    ("flow-multiline-key.yaml", "a key may go over two lines in YAML 1.2"),
    ("indent-tab-before-key.yaml", "a tab before the first key indents nothing"),
    ("indent-tab-line.yaml", "a line of tabs is an empty line"),
    ("json-after-marker.json", "JSON's `\\/` is an escape in YAML 1.2"),
    ("json-documents.json", "JSON's surrogate pairs, in a document that kubectl reads as YAML"),
    ("line-separator-quoted-key.yaml", "U+2028 ends a line in YAML 1.1, and a key may not go over two"),
    ("quote-slash.yaml", "JSON's `\\/` is an escape in YAML 1.2"),
    ("quote-surrogates.yaml", "JSON's surrogate pairs"),
    ("utf16-le.yaml", "kubectl cuts lines at the byte 0A, in the middle of a character"),
    ("utf16.yaml", "as above"),
];

/// Refusing more is safe, too.
const REFUSED_BEYOND_KUBECTL: &[(&str, &str)] = &[
    ("block-at-root.yaml", "no object is a text, and YAML 1.1 and 1.2 differ in where the text ends"),
    ("block-at-root-folded.yaml", "as above"),
    ("block-at-root-unindented.yaml", "as above"),
    ("bom-late.yaml", "a mark that nobody sees would be part of a key"),
    ("comment-without-space.yaml", "YAML wants a space before a `#`; text and comment look alike without"),
    ("flow-colon-glued.yaml", "`{b:}` has the key `b:` in YAML 1.1 and `b` in YAML 1.2"),
    ("flow-question-glued.yaml", "`{?b: c}` has the key `b` in YAML 1.1 and `?b` in YAML 1.2"),
    ("json-not-utf8.json", "kubectl would put U+FFFD in place of the bytes, silently"),
    ("line-separator-in-comment.yaml", "U+2028 ends a comment in YAML 1.1 and not in YAML 1.2"),
    ("line-separator-spaces.yaml", "U+2028 folds lines in YAML 1.1 and not in YAML 1.2"),
    ("line-separator-block-indented.yaml", "U+2028 ends a line of a block in YAML 1.1 and not in YAML 1.2"),
    ("line-separator-quoted-folded.yaml", "U+2028 folds lines in YAML 1.1 and not in YAML 1.2"),
    ("utf16-odd.yaml", "half a character is damage"),
];

fn corpus() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

fn golden() -> BTreeMap<String, Value> {
    let text = fs::read(corpus().join("golden.json")).expect("the golden file is there");
    serde_json::from_slice(&text).expect("the golden file is JSON")
}

fn read(case: &str) -> Result<Vec<Value>, yaml::YamlError> {
    let bytes = fs::read(corpus().join("cases").join(case)).expect("the case is there");
    Ok(yaml::read(case, &bytes)?.iter().map(yaml::Document::to_json).collect())
}

/// Equal as JSON: 1e20 and 100000000000000000000 are one number.
fn is_same(ours: &Value, theirs: &Value) -> bool {
    match (ours, theirs) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| is_same(a, b)))
        }
        (Value::Number(a), Value::Number(b)) => {
            let is_float = |number: &Number| number.as_i64().is_none();
            a == b || (is_float(a) && is_float(b) && is_near(a.as_f64(), b.as_f64()))
        }
        _ => ours == theirs,
    }
}

/// To the last bit but one: serde_json reads the golden file's floats no better, unless a feature is on.
fn is_near(a: Option<f64>, b: Option<f64>) -> bool {
    a.zip(b).is_some_and(|(a, b)| (a - b).abs() <= f64::EPSILON * a.abs())
}

fn is_listed(list: &[(&str, &str)], case: &str) -> bool {
    list.iter().any(|&(listed, _)| listed == case)
}

#[test]
fn every_case_is_read_as_kubectl_reads_it() {
    let mut differences = Vec::new();
    for (case, expected) in golden() {
        let ours = read(&case);
        let documents = expected.get("documents").cloned().unwrap_or(Value::Array(Vec::new()));
        let difference = match (&ours, expected.get("error")) {
            (Err(_), Some(_)) => None,
            (Ok(_), Some(_)) if is_listed(ACCEPTED_BEYOND_KUBECTL, &case) => None,
            (Err(_), None) if is_listed(REFUSED_BEYOND_KUBECTL, &case) => None,
            (Ok(ours), None) if is_same(&Value::Array(ours.clone()), &documents) => None,
            (Ok(ours), None) => Some(format!("ours {ours:?}, theirs {documents}")),
            (Ok(ours), Some(error)) => Some(format!("ours {ours:?}, theirs {error}")),
            (Err(error), None) => Some(format!("ours {error}, theirs {documents}")),
        };
        differences.extend(difference.map(|difference| format!("{case}: {difference}")));
    }

    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
fn every_case_has_a_golden_outcome_and_every_listed_difference_is_one() {
    let golden = golden();
    let cases = fs::read_dir(corpus().join("cases")).expect("the cases are there");
    let cases: Vec<_> = cases.map(|entry| entry.expect("can be listed").file_name().into_string()).collect();

    assert_eq!(cases.len(), golden.len());
    assert!(cases.len() >= 60);
    for (case, _) in ACCEPTED_BEYOND_KUBECTL {
        assert!(golden[*case].get("error").is_some() && read(case).is_ok(), "{case} is no difference any more");
    }
    for (case, _) in REFUSED_BEYOND_KUBECTL {
        assert!(golden[*case].get("error").is_none() && read(case).is_err(), "{case} is no difference any more");
    }
}
