//! Values of charts: read and merged as Helm does, and what it is told to set over them.

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

/// What Helm is told to set over all values: names as `--set` reads them, and what they are set to. Helm says of which type
/// that is, and what the name means where files have a list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) typed: Vec<(String, String)>,
    /// Over the others, and always text.
    pub(crate) texts: Vec<(String, String)>,
}

impl Settings {
    /// With each value as `change` makes it: names have no variables.
    pub(crate) fn add_to(&self, helm: &mut Map<String, Value>, change: impl Fn(&str) -> String) {
        for (field, settings) in [("set", &self.typed), ("setString", &self.texts)] {
            if !settings.is_empty() {
                let lines = settings.iter().map(|(name, value)| Value::from(format!("{name}={}", change(value))));
                helm.insert(field.to_owned(), lines.collect());
            }
        }
    }

    pub(crate) fn values(&self) -> Value {
        self.typed.iter().chain(&self.texts).map(|(_, value)| Value::from(value.as_str())).collect()
    }
}

/// A text as a setting has it that is to be that text: it begins no list, and ends nowhere.
pub(crate) fn whole(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace(',', "\\,");
    if escaped.starts_with('{') { format!("\\{escaped}") } else { escaped }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_are_merged_as_helm_does() {
        let mut values =
            json!({"image": {"tag": "1", "name": "a"}, "list": [1, 2]}).as_object().cloned().expect("a map");

        merge(&mut values, json!({"image": {"tag": "2"}, "list": [3]}).as_object().expect("a map"));

        assert_eq!(Value::Object(values), json!({"image": {"tag": "2", "name": "a"}, "list": [3]}));
    }

    #[test]
    fn a_text_that_is_to_stay_whole_is_escaped_where_it_would_end_or_be_a_list() {
        for (text, written) in [("a,b", r"a\,b"), ("{a}", r"\{a}"), (r"a\", r"a\\"), ("a{b}=c", "a{b}=c")] {
            assert_eq!(whole(text), written);
        }
    }
}
