//! Lists whose items are told apart: as a set, or by some of their fields. An API server refuses the same twice.

use std::collections::BTreeSet;

use bellwether_render::yaml::{Content, Node};
use serde_json::Value;

use crate::path::{Trail, has_variable};

/// Each item is another.
pub(crate) fn check_set(trail: &mut Trail, items: &[Node]) {
    let mut seen = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let is_known = !item.text().is_some_and(has_variable);
        if is_known && !seen.insert(item.to_json().to_string()) {
            trail.within_item(index, |trail| trail.problem("value_twice", item.line(), "stands twice in the list"));
        }
    }
}

/// Each item has other values of these fields; `default` is what one has that is left out.
pub(crate) fn check_keys(trail: &mut Trail, items: &[Node], keys: &[String], default: impl Fn(&str) -> Option<Value>) {
    let mut seen = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        // Of other lists a null item is as good as an empty one.
        if item.content == Content::Null {
            let message = "is null, and has no field that tells it apart";
            trail.within_item(index, |trail| trail.problem("field_type_wrong", item.line(), message));
        }
        let value = |key: &String| match item.field(key) {
            Some(node) if node.text().is_some_and(has_variable) => None,
            Some(node) if node.content != Content::Null => Some(node.to_json()),
            _ => default(key),
        };
        // What has none is told by its schema, and what is filled in later nobody knows.
        let Some(values) = keys.iter().map(value).collect::<Option<Vec<_>>>() else { continue };
        if item.entries().is_some() && !seen.insert(Value::from(values.clone()).to_string()) {
            let named = keys.iter().zip(&values).map(|(key, value)| format!("{key} {value}")).collect::<Vec<_>>();
            let message = format!("stands twice in the list: {}", named.join(", "));
            trail.within_item(index, |trail| trail.problem("value_twice", item.line(), message));
        }
    }
}
