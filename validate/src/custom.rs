//! The kinds that CustomResourceDefinitions define.

use std::collections::BTreeMap;

use bellwether_render::yaml::Node;
use serde_json::{Map, Value};

use crate::fields::Checker;
use crate::path::Trail;
use crate::schema::split;
use crate::structural::{Structural, Unknown};

/// The definitions of a run: of its own objects, and of folders that were named.
#[derive(Debug)]
pub struct Definitions {
    /// By group and kind.
    kinds: BTreeMap<(String, String), BTreeMap<String, Version>>,
    /// What people wrote may have variables, what Helm made has none.
    written: Structural,
    made: Structural,
}

#[derive(Debug)]
struct Version {
    is_served: bool,
    /// Why it should not be used any more; empty where nothing is said.
    deprecated: Option<String>,
    /// A definition may have none, before `v1`.
    schema: Option<Value>,
}

/// What is known of a kind and version.
pub(crate) enum Known<'d> {
    /// No definition of the kind.
    Nothing,
    /// The kind is defined, the version is not, or not served.
    OtherVersions(Vec<&'d str>),
    Version {
        deprecated: Option<&'d str>,
        schema: Option<&'d Value>,
    },
}

impl Default for Definitions {
    fn default() -> Self {
        let structural = |may_have_variables| Structural::new(Unknown::Refused, may_have_variables);
        Self { kinds: BTreeMap::new(), written: structural(true), made: structural(false) }
    }
}

impl Definitions {
    /// Learns from a CustomResourceDefinition; of other objects it says that they are none.
    pub fn learn(&mut self, object: &Value) -> bool {
        let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str);
        let is_definition = text("/kind") == Some("CustomResourceDefinition")
            && text("/apiVersion").is_some_and(|version| version.starts_with("apiextensions.k8s.io/"));
        let (true, Some(group), Some(kind)) = (is_definition, text("/spec/group"), text("/spec/names/kind")) else {
            return false;
        };
        let known = self.kinds.entry((group.to_owned(), kind.to_owned())).or_default();
        let shared = object.pointer("/spec/validation/openAPIV3Schema");
        for version in object.pointer("/spec/versions").and_then(Value::as_array).into_iter().flatten() {
            let Some(name) = version.get("name").and_then(Value::as_str) else { continue };
            let warning = version.get("deprecationWarning").and_then(Value::as_str).unwrap_or_default();
            let is_deprecated = version.get("deprecated") == Some(&Value::Bool(true));
            let of = Version {
                is_served: version.get("served") == Some(&Value::Bool(true)),
                deprecated: is_deprecated.then(|| warning.to_owned()),
                schema: version.pointer("/schema/openAPIV3Schema").or(shared).map(prepared),
            };
            known.insert(name.to_owned(), of);
        }
        true
    }

    pub(crate) fn find(&self, api_version: &str, kind: &str) -> Known<'_> {
        let (group, version) = split(api_version);
        let Some(versions) = self.kinds.get(&(group.to_owned(), kind.to_owned())) else {
            return Known::Nothing;
        };
        match versions.get(version) {
            Some(of) if of.is_served => {
                Known::Version { deprecated: of.deprecated.as_deref(), schema: of.schema.as_ref() }
            }
            _ => {
                let served = versions.iter().filter(|(_, of)| of.is_served).map(|(name, _)| name.as_str());
                Known::OtherVersions(served.collect())
            }
        }
    }

    /// A custom resource: its metadata are as everywhere, the rest is as its schema says.
    pub(crate) fn check(&self, trail: &mut Trail, root: &Node, schema: &Value, checker: &mut Checker<'_>) {
        checker.metadata(trail, root);
        self.check_schema(trail, root, schema, checker.may_have_variables());
    }

    /// The rest alone.
    pub(crate) fn check_schema(&self, trail: &mut Trail, root: &Node, schema: &Value, may_have_variables: bool) {
        let structural = if may_have_variables { &self.written } else { &self.made };
        structural.node(trail, root, schema, 0);
    }
}

/// With what every object has, which a schema need not name.
fn prepared(schema: &Value) -> Value {
    let mut schema = schema.clone();
    let Some(fields) = schema.as_object_mut() else { return schema };
    let properties = fields.entry("properties").or_insert_with(|| Value::Object(Map::new()));
    if let Some(properties) = properties.as_object_mut() {
        for field in ["apiVersion", "kind", "metadata"] {
            properties.insert(field.to_owned(), Value::Bool(true));
        }
        if let Some(Value::Object(status)) = properties.get_mut("status") {
            // The server sets it aside, so that nothing of it is missing.
            status.remove("required");
        }
    }
    schema
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_version_that_is_not_served_is_told_apart_from_an_unknown_kind() {
        let mut definitions = Definitions::default();
        definitions.learn(
            &json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "spec": {
            "group": "a.example", "names": {"kind": "Widget"}, "versions": [
                {"name": "v1", "served": true, "deprecated": true, "schema": {"openAPIV3Schema": {"type": "object"}}},
                {"name": "v0", "served": false}]}}),
        );
        definitions.learn(&json!({"apiVersion": "v1", "kind": "ConfigMap"}));

        assert!(matches!(definitions.find("a.example/v1", "Other"), Known::Nothing));
        assert!(matches!(definitions.find("b.example/v1", "Widget"), Known::Nothing));
        assert!(matches!(definitions.find("a.example/v0", "Widget"), Known::OtherVersions(of) if of == ["v1"]));
        assert!(matches!(
            definitions.find("a.example/v1", "Widget"),
            Known::Version { deprecated: Some(""), schema: Some(_) }
        ));
    }
}
