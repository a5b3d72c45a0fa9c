//! Texts on their way between those who substitute variables.
//!
//! Where Flux fills something in later, a variable travels as a mark that no file has, so that a `${` that was meant as it
//! is can be told from one that was meant as a variable.

use std::collections::BTreeSet;

use bellwether_render::{Fills, literal};
use serde_json::Value;

const BEGIN: char = '\u{E0B0}';
const END: char = '\u{E0B1}';

/// A variable, as it stands while nobody knows its value.
pub(crate) fn mark(name: &str) -> String {
    format!("{BEGIN}{name}{END}")
}

pub(crate) fn has_mark(text: &str) -> bool {
    text.contains(BEGIN)
}

/// As a target has it where so much is filled in: a `${` that is none of ours stays one, and marks are references.
pub(crate) fn as_template(text: &str, fills: Fills) -> String {
    shown(&literal(text, fills))
}

/// The same of every text of a value.
pub(crate) fn to_template(value: &Value, fills: Fills) -> Value {
    map_texts(value, &|text| Value::from(as_template(text, fills)))
}

/// The variables that texts of a value have marks of.
pub(crate) fn marked(value: &Value) -> BTreeSet<String> {
    let text = value.to_string();
    let names = text.split(BEGIN).skip(1).filter_map(|piece| piece.split_once(END));
    names.map(|(name, _)| name.to_owned()).collect()
}

/// As people read it.
pub(crate) fn shown(text: &str) -> String {
    text.replace(BEGIN, "${").replace(END, "}")
}

/// With values in place of the marks. A text that is nothing but a mark has the type that YAML gives its value.
pub(crate) fn fill(value: &Value, find: &dyn Fn(&str) -> Option<String>) -> Value {
    map_texts(value, &|text| {
        let filled = fill_text(text, find);
        let is_one = text.starts_with(BEGIN) && text.find(END) == Some(text.len() - END.len_utf8());
        if is_one { typed(&filled) } else { Value::from(filled) }
    })
}

pub(crate) fn fill_text(text: &str, find: &dyn Fn(&str) -> Option<String>) -> String {
    let mut pieces = text.split(BEGIN);
    let mut filled = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let (name, rest) = piece.split_once(END).unwrap_or((piece, ""));
        filled.push_str(&find(name).unwrap_or_default());
        filled.push_str(rest);
    }
    filled
}

/// A number or a boolean if it is written exactly as one is: `1.10` and `007` are what somebody calls something.
pub(crate) fn typed(text: &str) -> Value {
    let value = serde_json::from_str::<Value>(text).ok().filter(|value| value.is_boolean() || value.is_number());
    value.filter(|value| *text == *value.to_string()).unwrap_or_else(|| Value::from(text))
}

fn map_texts(value: &Value, map: &dyn Fn(&str) -> Value) -> Value {
    match value {
        Value::String(text) => map(text),
        Value::Array(items) => Value::Array(items.iter().map(|item| map_texts(item, map)).collect()),
        Value::Object(fields) => {
            Value::Object(fields.iter().map(|(key, value)| (key.clone(), map_texts(value, map))).collect())
        }
        other => other.clone(),
    }
}

/// A name of Bellwether's that comes as near as may be: lower-case letters, digits and `-`, at most 63 of them.
pub(crate) fn as_name(text: &str) -> String {
    let mut name = String::new();
    for character in text.chars().flat_map(char::to_lowercase) {
        match character {
            'a'..='z' | '0'..='9' => name.push(character),
            _ if !name.ends_with('-') => name.push('-'),
            _ => {}
        }
    }
    let name: String = name.trim_matches('-').chars().take(63).collect();
    let name = name.trim_matches('-');
    if name.is_empty() { "unnamed".to_owned() } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_text_that_was_meant_as_it_is_stays_and_a_variable_is_one() {
        let value = json!({"a": format!("x{}y${{z}}", mark("v")), "b": mark("n"), "c": "${q}"});

        assert_eq!(to_template(&value, Fills::All), json!({"a": "x${v}y$${z}", "b": "${n}", "c": "$${q}"}));
        assert_eq!(to_template(&value, Fills::ClustersOwn), json!({"a": "x${v}y${z}", "b": "${n}", "c": "${q}"}));
        assert_eq!(marked(&value), ["n", "v"].map(str::to_owned).into());
        let find = |name: &str| Some(if name == "n" { "3".to_owned() } else { "V".to_owned() });
        assert_eq!(fill(&value, &find), json!({"a": "xVy${z}", "b": 3, "c": "${q}"}));
    }

    #[test]
    fn names_are_made_from_whatever_somebody_called_something() {
        for (text, wanted) in [("Shop_EU", "shop-eu"), ("a.b/c", "a-b-c"), ("-x-", "x"), ("..", "unnamed")] {
            assert_eq!(as_name(text), wanted);
        }
    }
}
