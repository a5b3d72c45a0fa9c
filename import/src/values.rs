//! Values of charts: read, merged and set as Helm does.

use bellwether_render::yaml;
use serde_json::{Map, Value};

pub(crate) fn read_values(text: &str) -> Option<Value> {
    let documents = yaml::read("values", text.as_bytes()).ok()?;
    documents.first().map(yaml::Document::to_json)
}

/// Maps key by key, everything else as a whole, as Helm merges values.
pub(crate) fn merge(under: &mut Map<String, Value>, over: &Map<String, Value>) {
    for (key, value) in over {
        match (under.get_mut(key), value) {
            (Some(Value::Object(under)), Value::Object(over)) => merge(under, over),
            _ => {
                under.insert(key.clone(), value.clone());
            }
        }
    }
}

/// As `--set` understands a path: `a.b`, `a\.b` and `a[0].b`.
pub(crate) fn set_path(values: &mut Map<String, Value>, path: &str, value: Value) {
    let mut root = Value::Object(std::mem::take(values));
    let mut place = &mut root;
    for step in steps(path) {
        place = match step {
            Step::Key(key) => {
                if !place.is_object() {
                    *place = Value::Object(Map::new());
                }
                let Value::Object(fields) = place else { return };
                fields.entry(key).or_insert(Value::Null)
            }
            Step::Index(index) => {
                if !place.is_array() {
                    *place = Value::Array(Vec::new());
                }
                let Value::Array(items) = place else { return };
                while items.len() <= index {
                    items.push(Value::Null);
                }
                &mut items[index]
            }
        };
    }
    *place = value;
    if let Value::Object(root) = root {
        *values = root;
    }
}

enum Step {
    Key(String),
    Index(usize),
}

fn steps(path: &str) -> Vec<Step> {
    /// Lists longer than that are not made by a path.
    const INDEX_MAX: usize = 1_000;
    let mut steps = Vec::new();
    let mut key = String::new();
    let mut characters = path.chars();
    let end = |key: &mut String, steps: &mut Vec<Step>| {
        if !key.is_empty() {
            steps.push(Step::Key(std::mem::take(key)));
        }
    };
    while let Some(character) = characters.next() {
        match character {
            '\\' => key.extend(characters.next()),
            '.' => end(&mut key, &mut steps),
            '[' => {
                end(&mut key, &mut steps);
                let index: String = characters.by_ref().take_while(|&c| c != ']').collect();
                steps.push(Step::Index(index.parse::<usize>().unwrap_or_default().min(INDEX_MAX)));
            }
            other => key.push(other),
        }
    }
    end(&mut key, &mut steps);
    steps
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_merged_and_set_as_helm_does() {
        let mut values =
            json!({"image": {"tag": "1", "name": "a"}, "list": [1, 2]}).as_object().cloned().expect("a map");

        merge(&mut values, json!({"image": {"tag": "2"}, "list": [3]}).as_object().expect("a map"));
        set_path(&mut values, "image.pull\\.policy", json!("Always"));
        set_path(&mut values, "hosts[1].name", json!("b"));

        assert_eq!(
            Value::Object(values),
            json!({
                "image": {"tag": "2", "name": "a", "pull.policy": "Always"}, "list": [3], "hosts": [null, {"name": "b"}],
            })
        );
    }
}
