//! An object against a schema that somebody wrote: of a CustomResourceDefinition, or a JSON schema in a folder.
//!
//! Expressions (`x-kubernetes-validations`) are not evaluated: they are an API server's.

use std::cell::RefCell;
use std::collections::BTreeMap;

use bellwether_render::yaml::{Content, Node};
use regex::Regex;
use serde_json::{Map, Value};

use crate::fields::unknown;
use crate::formats::has_format;
use crate::lists;
use crate::path::{Trail, has_variable};

/// Alternatives within alternatives: a schema that nests them deeper is not followed further.
const DEPTH_MAX: usize = 100;

/// How large one compiled pattern may be: that of a long list of alternatives is a tenth of it.
const PATTERN_BYTES_MAX: usize = 1 << 20;

/// What an unknown field is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// An error, unless the schema keeps such fields: a CustomResourceDefinition's rule.
    Refused,
    /// Allowed, unless the schema forbids them: JSON schema's rule.
    Allowed,
}

/// Checks objects, and keeps the patterns that it compiled.
#[derive(Debug)]
pub struct Structural {
    unknown: Unknown,
    /// What people wrote and variables are filled into, later.
    may_have_variables: bool,
    patterns: RefCell<BTreeMap<String, Option<Regex>>>,
}

impl Structural {
    pub(crate) fn new(unknown: Unknown, may_have_variables: bool) -> Self {
        Self { unknown, may_have_variables, patterns: RefCell::default() }
    }

    /// For JSON schemas, such as kubeconform's.
    pub fn json_schema() -> Self {
        Self::new(Unknown::Allowed, false)
    }

    /// A keyword of a JSON schema that is not asked here, so that what it says would not be known.
    pub fn unknown_keyword(schema: &Value) -> Option<String> {
        unknown_keyword(schema, 0)
    }

    /// What a JSON schema says is wrong.
    pub fn check(&self, root: &Node, schema: &Value) -> Vec<crate::Problem> {
        let mut trail = Trail::default();
        self.node(&mut trail, root, schema, 0);
        trail.into_problems()
    }

    pub(crate) fn node(&self, trail: &mut Trail, node: &Node, schema: &Value, depth: usize) {
        let Some(schema) = schema.as_object() else {
            return;
        };
        if depth > DEPTH_MAX || node.text().is_some_and(|text| self.may_have_variables && has_variable(text)) {
            return;
        }
        if node.content == Content::Null && self.may_be_null(schema) {
            return;
        }
        if !check_type(trail, node, schema) {
            return;
        }
        self.check_values(trail, node, schema);
        match &node.content {
            Content::Map(_) => self.map(trail, node, schema, depth),
            Content::List(items) => self.list(trail, node, items, schema, depth),
            _ => {}
        }
        self.alternatives(trail, node, schema, depth);
    }

    /// A null where there is a default is replaced by it.
    fn may_be_null(&self, schema: &Map<String, Value>) -> bool {
        let is_nullable = is_true(schema, "nullable") || schema.contains_key("default");
        self.unknown == Unknown::Refused && (is_nullable || is_true(schema, "x-kubernetes-preserve-unknown-fields"))
    }

    fn map(&self, trail: &mut Trail, node: &Node, schema: &Map<String, Value>, depth: usize) {
        let nothing = Map::new();
        let properties = schema.get("properties").and_then(Value::as_object).unwrap_or(&nothing);
        let patterns = schema.get("patternProperties").and_then(Value::as_object).unwrap_or(&nothing);
        let additional = schema.get("additionalProperties");
        let is_object = is_true(schema, "x-kubernetes-embedded-resource");
        for entry in node.entries().unwrap_or_default() {
            let key = &*entry.key;
            let mut is_named = false;
            for (_, property) in patterns.iter().filter(|(pattern, _)| self.matches(key, pattern) == Some(true)) {
                is_named = true;
                trail.within(key, |trail| self.node(trail, &entry.value, property, depth + 1));
            }
            if let Some(property) = properties.get(key) {
                trail.within(key, |trail| self.node(trail, &entry.value, property, depth + 1));
            } else if let Some(values @ Value::Object(_)) = additional.filter(|_| !is_named) {
                trail.within(key, |trail| self.node(trail, &entry.value, values, depth + 1));
            } else if !(is_named || is_object && ["apiVersion", "kind", "metadata"].contains(&key))
                && self.refuses(schema, additional)
            {
                unknown(trail, key, entry.line(), properties.keys().map(String::as_str));
            }
        }
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        for name in required.filter_map(Value::as_str) {
            let has_default = properties.get(name).is_some_and(|property| property.get("default").is_some());
            if node.field(name).is_none() && !(has_default && self.unknown == Unknown::Refused) {
                trail.within(name, |trail| trail.problem("field_missing", node.line(), "is required, and missing"));
            }
        }
        count(
            trail,
            node,
            node.entries().unwrap_or_default().len(),
            schema,
            ["minProperties", "maxProperties"],
            "keys",
        );
    }

    fn refuses(&self, schema: &Map<String, Value>, additional: Option<&Value>) -> bool {
        match (self.unknown, additional) {
            (_, Some(Value::Bool(allowed))) => !allowed,
            (Unknown::Allowed, _) => false,
            (Unknown::Refused, _) => {
                // Alternatives hold no properties of their own in a structural schema, so these are all.
                !is_true(schema, "x-kubernetes-preserve-unknown-fields")
            }
        }
    }

    fn list(&self, trail: &mut Trail, node: &Node, items: &[Node], schema: &Map<String, Value>, depth: usize) {
        if let Some(of_each @ Value::Object(_)) = schema.get("items") {
            for (index, item) in items.iter().enumerate() {
                trail.within_item(index, |trail| self.node(trail, item, of_each, depth + 1));
            }
        }
        count(trail, node, items.len(), schema, ["minItems", "maxItems"], "items");
        let list_type = schema.get("x-kubernetes-list-type").and_then(Value::as_str);
        if is_true(schema, "uniqueItems") || list_type == Some("set") {
            lists::check_set(trail, items);
        } else if list_type == Some("map") {
            let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array).into_iter().flatten();
            let keys: Vec<_> = keys.filter_map(Value::as_str).map(ToOwned::to_owned).collect();
            let properties = schema.get("items").and_then(|items| items.get("properties"));
            lists::check_keys(trail, items, &keys, |key| properties?.get(key)?.get("default").cloned());
        }
    }

    fn check_values(&self, trail: &mut Trail, node: &Node, schema: &Map<String, Value>) {
        if let Some(Value::Array(values)) = schema.get("enum")
            && !values.contains(&node.to_json())
        {
            let known = values.iter().take(20).map(|value| format!("`{}`", shown(value))).collect::<Vec<_>>();
            trail.problem("value_unknown", node.line(), format!("is none of {}", known.join(", ")));
        }
        if let Some(value) = schema.get("const")
            && *value != node.to_json()
        {
            trail.problem("value_unknown", node.line(), format!("is not `{}`", shown(value)));
        }
        match &node.content {
            Content::Number(number) => {
                check_number(trail, node, number.as_f64().unwrap_or(f64::NAN), schema);
                check_bits(trail, node, number, schema);
            }
            Content::Text(text) => self.check_text(trail, node, &text.value, schema),
            _ => {}
        }
    }

    fn check_text(&self, trail: &mut Trail, node: &Node, text: &str, schema: &Map<String, Value>) {
        count(trail, node, text.chars().count(), schema, ["minLength", "maxLength"], "characters");
        if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
            && self.matches(text, pattern) == Some(false)
        {
            trail.problem("value_malformed", node.line(), format!("does not match `{pattern}`"));
        }
        if let Some(format) = schema.get("format").and_then(Value::as_str)
            && !has_format(text, format)
        {
            trail.problem("value_malformed", node.line(), format!("has not the format `{format}`"));
        }
    }

    /// `None` for a pattern that cannot be compiled.
    fn matches(&self, text: &str, pattern: &str) -> Option<bool> {
        let mut patterns = self.patterns.borrow_mut();
        let compile = || regex::RegexBuilder::new(pattern).size_limit(PATTERN_BYTES_MAX).build().ok();
        let compiled = patterns.entry(pattern.to_owned()).or_insert_with(compile);
        compiled.as_ref().map(|compiled| compiled.is_match(text))
    }

    fn alternatives(&self, trail: &mut Trail, node: &Node, schema: &Map<String, Value>, depth: usize) {
        let each = |key: &str| schema.get(key).and_then(Value::as_array).map(Vec::as_slice);
        for one in each("allOf").unwrap_or_default() {
            self.inner(trail, node, one, depth + 1);
        }
        let fits = |one: &Value| {
            let mut trail = Trail::default();
            self.inner(&mut trail, node, one, depth + 1);
            trail.into_problems().is_empty()
        };
        if let Some(some) = each("anyOf")
            && !is_true(schema, "x-kubernetes-int-or-string")
            && !some.iter().any(fits)
        {
            trail.problem("value_malformed", node.line(), "fits none of the alternatives (`anyOf`) of its schema");
        }
        if let Some(one) = each("oneOf") {
            let number = one.iter().filter(|one| fits(one)).count();
            if number != 1 {
                let message = format!("fits {number} of the alternatives (`oneOf`) of its schema, not one");
                trail.problem("value_malformed", node.line(), message);
            }
        }
        if let Some(not) = schema.get("not")
            && fits(not)
        {
            trail.problem("value_malformed", node.line(), "is what its schema excludes (`not`)");
        }
    }

    /// In an alternative, what it does not name is no unknown field.
    fn inner(&self, trail: &mut Trail, node: &Node, schema: &Value, depth: usize) {
        let inner = Self { unknown: Unknown::Allowed, patterns: RefCell::new(self.patterns.take()), ..*self };
        inner.node(trail, node, schema, depth);
        self.patterns.replace(inner.patterns.into_inner());
    }
}

/// Of those that are asked, the ones that hold further schemas: by name, one, or a list.
const BY_NAME: [&str; 2] = ["properties", "patternProperties"];
const ONE: [&str; 3] = ["additionalProperties", "items", "not"];
const SEVERAL: [&str; 3] = ["allOf", "anyOf", "oneOf"];
const PLAIN: [&str; 20] = [
    "type",
    "enum",
    "const",
    "format",
    "pattern",
    "required",
    "nullable",
    "uniqueItems",
    "multipleOf",
    "minimum",
    "maximum",
    "exclusiveMinimum",
    "exclusiveMaximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "default",
];
/// That say nothing of what is valid. Definitions matter where one refers to them, which is not known.
const ANNOTATIONS: [&str; 13] = [
    "$schema",
    "$id",
    "id",
    "$comment",
    "title",
    "description",
    "example",
    "examples",
    "deprecated",
    "readOnly",
    "writeOnly",
    "definitions",
    "$defs",
];

fn unknown_keyword(schema: &Value, depth: usize) -> Option<String> {
    let fields = schema.as_object().filter(|_| depth <= DEPTH_MAX)?;
    fields.iter().find_map(|(keyword, value)| {
        let is_known = |known: &[&str]| known.contains(&keyword.as_str());
        if is_known(&BY_NAME) {
            value.as_object()?.values().find_map(|schema| unknown_keyword(schema, depth + 1))
        } else if keyword == "items" && value.is_array() {
            Some("items: [...]".to_owned())
        } else if is_known(&ONE) {
            unknown_keyword(value, depth + 1)
        } else if is_known(&SEVERAL) {
            value.as_array()?.iter().find_map(|schema| unknown_keyword(schema, depth + 1))
        } else {
            let is_silent = is_known(&PLAIN) || is_known(&ANNOTATIONS) || keyword.starts_with("x-");
            (!is_silent).then(|| keyword.clone())
        }
    })
}

fn is_true(schema: &Map<String, Value>, key: &str) -> bool {
    schema.get(key) == Some(&Value::Bool(true))
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

/// Whether the rest of the schema can be asked.
fn check_type(trail: &mut Trail, node: &Node, schema: &Map<String, Value>) -> bool {
    if is_true(schema, "x-kubernetes-int-or-string") {
        let is_either = match &node.content {
            Content::Text(_) => true,
            Content::Number(number) => number.is_i64(),
            _ => false,
        };
        if !is_either {
            trail.wrong_type(node, "a string or a whole number");
        }
        return is_either;
    }
    let wanted = match schema.get("type") {
        Some(Value::String(one)) => vec![one.as_str()],
        Some(Value::Array(several)) => several.iter().filter_map(Value::as_str).collect(),
        _ => return true,
    };
    let is_one = wanted.iter().any(|wanted| has_type(node, wanted));
    if !is_one {
        let wanted = wanted.iter().map(|wanted| called(wanted)).collect::<Vec<_>>().join(" or ");
        let hint = match (&node.content, wanted.as_str()) {
            (Content::Number(_) | Content::Bool(_), "a string") => Some("put it in quotes".to_owned()),
            (Content::Text(_), "a number" | "a whole number" | "a boolean") => {
                Some("write it without quotes".to_owned())
            }
            _ => None,
        };
        let message = format!("is {}, not {wanted}", node.kind());
        trail.problem_with_hint("field_type_wrong", node.line(), message, hint);
    }
    is_one
}

fn has_type(node: &Node, wanted: &str) -> bool {
    match (&node.content, wanted) {
        (Content::Null, "null")
        | (Content::Bool(_), "boolean")
        | (Content::Number(_), "number")
        | (Content::Text(_), "string")
        | (Content::List(_), "array")
        | (Content::Map(_), "object") => true,
        (Content::Number(number), "integer") => number.is_i64() || number.is_u64(),
        _ => false,
    }
}

fn called(wanted: &str) -> &str {
    match wanted {
        "boolean" => "a boolean",
        "number" => "a number",
        "integer" => "a whole number",
        "string" => "a string",
        "array" => "a list",
        "object" => "a map",
        other => other,
    }
}

fn count(trail: &mut Trail, node: &Node, number: usize, schema: &Map<String, Value>, keys: [&str; 2], of: &str) {
    let limit = |key: &str| schema.get(key).and_then(Value::as_u64).and_then(|limit| usize::try_from(limit).ok());
    if let Some(least) = limit(keys[0]).filter(|&least| number < least) {
        trail.problem("value_out_of_range", node.line(), format!("has {number} {of}, fewer than {least}"));
    }
    if let Some(most) = limit(keys[1]).filter(|&most| number > most) {
        trail.problem("value_out_of_range", node.line(), format!("has {number} {of}, more than {most}"));
    }
}

fn check_number(trail: &mut Trail, node: &Node, number: f64, schema: &Map<String, Value>) {
    let limit = |key: &str| schema.get(key).and_then(Value::as_f64);
    // Draft 4, as Kubernetes has it, says by a flag whether a limit is excluded; later drafts give it a key of its own.
    let least = limit("minimum")
        .filter(|&least| if is_true(schema, "exclusiveMinimum") { number <= least } else { number < least });
    let most = limit("maximum")
        .filter(|&most| if is_true(schema, "exclusiveMaximum") { number >= most } else { number > most });
    let least = least.or_else(|| limit("exclusiveMinimum").filter(|&least| number <= least));
    let most = most.or_else(|| limit("exclusiveMaximum").filter(|&most| number >= most));
    if let Some(least) = least {
        trail.problem("value_out_of_range", node.line(), format!("is too small for its limit {least}"));
    }
    if let Some(most) = most {
        trail.problem("value_out_of_range", node.line(), format!("is too large for its limit {most}"));
    }
    if let Some(step) = limit("multipleOf")
        && step > 0.0
        && !is_multiple(number, step)
    {
        trail.problem("value_out_of_range", node.line(), format!("is no multiple of {step}"));
    }
}

/// A tenth is not exactly a tenth: as near as Go's reader of OpenAPI wants it.
fn is_multiple(number: f64, step: f64) -> bool {
    let times = if step < 1.0 { 1.0 / step * number } else { number / step };
    (times - times.round()).abs() < 1e-9 * times.abs().max(1.0)
}

/// Formats of numbers are how many bits they have.
fn check_bits(trail: &mut Trail, node: &Node, number: &serde_json::Number, schema: &Map<String, Value>) {
    let is_too_large = schema.get("format").is_some_and(|format| format == "int32")
        && number.as_i64().is_none_or(|number| i32::try_from(number).is_err());
    if is_too_large {
        trail.problem("value_malformed", node.line(), "is no whole number of 32 bits");
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(unknown: Unknown, text: &str, schema: &Value) -> Vec<String> {
        let documents = bellwether_render::yaml::read("a.yaml", text.as_bytes()).expect("it is read");
        let mut trail = Trail::default();
        Structural::new(unknown, unknown == Unknown::Refused).node(&mut trail, &documents[0].root, schema, 0);
        trail.into_problems().into_iter().map(|problem| format!("{} {}", problem.path, problem.message)).collect()
    }

    #[test]
    fn values_are_held_against_what_the_schema_says_of_them() {
        let schema = json!({"type": "object", "required": ["a", "d"], "properties": {
            "a": {"type": "integer", "minimum": 1, "maximum": 3},
            "b": {"type": "string", "pattern": "^x", "maxLength": 2},
            "c": {"type": "array", "maxItems": 1, "items": {"type": "string", "enum": ["on", "off"]}},
            "d": {"type": "string", "default": "x"},
            "e": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
            "f": {"type": "string", "nullable": true},
            "g": {"oneOf": [{"required": ["x"]}, {"required": ["y"]}], "type": "object",
                  "properties": {"x": {"type": "boolean"}, "y": {"type": "boolean"}}},
        }});
        let refused = |text: &str| check(Unknown::Refused, text, &schema);

        assert_eq!(refused("{a: 1, b: x, c: [\"on\"], e: 5, f: null, g: {x: true}}"), [""; 0]);
        assert_eq!(refused("{a: 4}"), ["a is too large for its limit 3"]);
        assert_eq!(refused("{a: 1.5}"), ["a is a number, not a whole number"]);
        assert_eq!(refused("{a: 1, b: ab}"), ["b does not match `^x`"]);
        assert_eq!(refused("{a: 1, b: xyz}"), ["b has 3 characters, more than 2"]);
        assert_eq!(refused("{a: 1, c: [up]}"), ["c[0] is none of `on`, `off`"]);
        assert_eq!(refused("{a: 1, e: true}"), ["e is a boolean, not a string or a whole number"]);
        assert_eq!(refused("{a: 1, b: null}"), ["b is null, not a string"]);
        assert_eq!(refused("{a: 1, g: {}}"), ["g fits 0 of the alternatives (`oneOf`) of its schema, not one"]);
        assert_eq!(refused("{b: x}"), ["a is required, and missing"], "the other has a default");
        assert_eq!(refused("{a: 1, h: 1}"), ["h is no known field"]);
    }

    #[test]
    fn unknown_fields_are_refused_by_one_rule_and_allowed_by_the_other() {
        let schema = json!({"type": "object", "properties": {"a": {"type": "object",
            "x-kubernetes-preserve-unknown-fields": true, "properties": {"b": {"type": "object"}}}}});

        assert_eq!(check(Unknown::Refused, "{a: {x: 1, b: {w: 1}}}", &schema), ["a.b.w is no known field"]);
        assert_eq!(check(Unknown::Allowed, "{z: 1, a: {b: {w: 1}}}", &schema), [""; 0]);
        let closed = json!({"type": ["object", "null"], "additionalProperties": false, "properties": {"a": {}}});
        assert_eq!(check(Unknown::Allowed, "{a: 1, b: 2}", &closed), ["b is no known field"]);
    }

    #[test]
    fn the_same_stands_in_a_list_once() {
        let keyed = json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name", "kind"],
            "items": {"type": "object", "properties": {"name": {"type": "string"}, "kind": {"type": "string", "default": "a"}}}});
        let check = |text: &str| check(Unknown::Refused, text, &keyed);

        assert_eq!(check("[{name: x}, {name: z}, {name: x, kind: b}, {kind: c}, {kind: c}]"), [""; 0]);
        assert_eq!(check("[{name: '${x}'}, {name: '${x}'}]"), [""; 0], "they may be others");
        assert_eq!(check("[{name: x}, {name: x, kind: a}]"), ["[1] stands twice in the list: name \"x\", kind \"a\""]);
    }

    #[test]
    fn many_items_of_a_set_are_told_apart_quickly() {
        let set = json!({"type": "array", "x-kubernetes-list-type": "set"});
        let items: Vec<_> = (0..60_000).map(|number| format!("a-text-that-is-not-short-{number}")).collect();
        let began_at = std::time::Instant::now();

        assert_eq!(check(Unknown::Refused, &format!("[{}]", items.join(", ")), &set), [""; 0]);
        assert!(began_at.elapsed() < std::time::Duration::from_secs(30));
    }

    #[test]
    fn numbers_are_held_against_their_format_and_step() {
        let step = json!({"type": "number", "multipleOf": 0.1});
        assert_eq!(check(Unknown::Refused, "0.3", &step), [""; 0]);
        assert_eq!(check(Unknown::Refused, "0.35", &step).len(), 1);

        let narrow = json!({"type": "integer", "format": "int32"});
        assert_eq!(check(Unknown::Refused, "2147483647", &narrow), [""; 0]);
        assert_eq!(check(Unknown::Refused, "4294967296", &narrow), [" is no whole number of 32 bits"]);
    }

    #[test]
    fn keys_may_be_named_by_a_pattern() {
        let schema =
            json!({"type": "object", "patternProperties": {"^x-": {"type": "string"}}, "additionalProperties": false});
        let check = |text: &str| check(Unknown::Allowed, text, &schema);

        assert_eq!(check("{x-a: q}"), [""; 0]);
        assert_eq!(check("{x-a: 1}"), ["x-a is a number, not a string"]);
        assert_eq!(check("{z: q}"), ["z is no known field"]);
    }

    #[test]
    fn a_keyword_that_is_not_asked_is_told() {
        for (schema, expected) in [
            (json!({"type": "object", "properties": {"if": {"type": "string", "x-a": 1}}, "title": "a"}), None),
            (json!({"properties": {"spec": {"$ref": "#/definitions/s"}}}), Some("$ref")),
            (json!({"anyOf": [{"if": {}}]}), Some("if")),
            (json!({"items": [{"type": "string"}]}), Some("items: [...]")),
        ] {
            assert_eq!(Structural::unknown_keyword(&schema).as_deref(), expected, "{schema}");
        }
    }
}
