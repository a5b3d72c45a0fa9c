//! The CustomResourceDefinitions of a cluster, as its agent has seen them: what `validate` holds custom resources against.
//!
//! Of a definition only what an object is held against is told, without its descriptions, which are most of its bytes. A
//! cluster's are a list of names and digests, itself known by a digest, so that many clusters with the same are stored
//! once. An agent is not trusted, so what it says is bounded and checked before it is one.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::sync::Arc;

use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::Digest;

/// Of one cluster: twice what one with all the providers of a large cloud has. What is more is counted.
pub const DEFINITIONS_MAX: usize = 2_000;
/// Of a list: as many with names of 190 bytes.
pub const DEFINITIONS_BYTES_MAX: usize = 512 * 1024;
/// Of one definition, without its descriptions: what an API server stores with them.
pub const DEFINITION_BYTES_MAX: usize = 1536 * 1024;
/// Of one as it travels and is stored: a message with it stays below what an agent may send. The largest that are known
/// have 60 KiB.
pub const DEFINITION_PACKED_BYTES_MAX: usize = 512 * 1024;
/// Braces and brackets in each other: readers of JSON stop at 128.
const DEPTH_MAX: usize = 100;
/// Schemas in each other that are looked at for descriptions: two braces each.
const SCHEMA_DEPTH_MAX: usize = DEPTH_MAX / 2;
const NAME_BYTES_MAX: usize = 253;
/// In the place of a digest.
const NOT_TOLD: &str = "-";

/// Names with digests, in order, one a line; `-` in the place of one that is too large, and `+N` in the first line where
/// N more are not named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definitions {
    text: Arc<str>,
    digest: Digest,
}

/// What is no list of definitions.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
pub enum InvalidDefinitions {
    #[error("more than {DEFINITIONS_MAX} definitions, or more than {DEFINITIONS_BYTES_MAX} bytes of them")]
    TooMany,
    #[error("line {line} is not the name of a definition with its digest, or does not come after the one before")]
    Line {
        /// From 1.
        line: usize,
    },
}

impl Definitions {
    /// Of names in any order, each with the digest of what is told of it. What is too much is counted.
    pub fn new(all: impl IntoIterator<Item = (String, Option<Digest>)>) -> Self {
        let mut all: Vec<_> = all.into_iter().collect();
        all.sort_unstable();
        all.dedup_by(|a, b| a.0 == b.0);
        let (mut lines, mut named, mut more) = (String::new(), 0, 0);
        for (name, digest) in all {
            let line = format!("{name} {}\n", digest.as_ref().map_or_else(|| NOT_TOLD.to_owned(), Digest::to_string));
            // The first line has room in what is left.
            let fits = named < DEFINITIONS_MAX && lines.len() + line.len() <= DEFINITIONS_BYTES_MAX - 32;
            if fits && is_name(&name) {
                lines.push_str(&line);
                named += 1;
            } else {
                more += 1;
            }
        }
        let mut text = if more == 0 { String::new() } else { format!("+{more}\n") };
        let _ = text.write_str(&lines);
        Self::of(text)
    }

    /// Of a text as [`Definitions::text`] is one.
    pub fn parse(text: &str) -> Result<Self, InvalidDefinitions> {
        if text.len() > DEFINITIONS_BYTES_MAX || text.lines().count() > DEFINITIONS_MAX + 1 {
            return Err(InvalidDefinitions::TooMany);
        }
        let mut before = "";
        for (line, written) in (1..).zip(text.split_inclusive('\n')) {
            let wrong = InvalidDefinitions::Line { line };
            let written = written.strip_suffix('\n').ok_or(wrong)?;
            if line == 1 && count_of(written).is_some() {
                continue;
            }
            let (name, _) = entry(written).ok_or(wrong)?;
            if name <= before {
                return Err(wrong);
            }
            before = name;
        }
        Ok(Self::of(text.to_owned()))
    }

    fn of(text: String) -> Self {
        Self { digest: Digest::of(text.as_bytes()), text: text.into() }
    }

    /// As it rests and travels.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Of the text.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Name and digest of each; without one it is too large to be told.
    pub fn entries(&self) -> impl Iterator<Item = (&str, Option<Digest>)> {
        self.text.lines().filter_map(entry)
    }

    /// Of those that can be told.
    pub fn digests(&self) -> impl Iterator<Item = Digest> {
        self.entries().filter_map(|(_, digest)| digest)
    }

    /// How many more there are than are named.
    pub fn more(&self) -> u64 {
        self.text.lines().next().and_then(count_of).unwrap_or_default()
    }
}

fn count_of(line: &str) -> Option<u64> {
    let digits = line.strip_prefix('+')?;
    digits.parse().ok().filter(|count: &u64| *count > 0 && count.to_string() == digits)
}

fn entry(line: &str) -> Option<(&str, Option<Digest>)> {
    let (name, digest) = line.split_once(' ')?;
    let digest = if digest == NOT_TOLD { None } else { Some(digest.parse().ok()?) };
    is_name(name).then_some((name, digest))
}

/// As Kubernetes names them: `widgets.example.org`.
pub fn is_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b".-".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len())
        && name.bytes().all(is_inner)
        && name.starts_with(|first: char| first.is_ascii_alphanumeric())
}

/// What is told of one definition: JSON of a CustomResourceDefinition, with the fields below and no others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Definition {
    text: Arc<str>,
    digest: Digest,
}

/// What cannot be told, or is none. Its words are not repeated.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
pub enum InvalidDefinition {
    #[error("a definition has more than {DEFINITION_BYTES_MAX} bytes without its descriptions")]
    TooLarge,
    #[error("a definition is nested more than {DEPTH_MAX} deep")]
    TooDeep,
    #[error("something is no CustomResourceDefinition")]
    Unreadable,
}

impl Definition {
    /// Of the object that an API server has. No tree is made of it.
    pub fn of_object(object: &[u8]) -> Result<Self, InvalidDefinition> {
        let mut read: Object<'_> = serde_json::from_slice(object).map_err(|_| InvalidDefinition::Unreadable)?;
        "CustomResourceDefinition".clone_into(&mut read.kind);
        "apiextensions.k8s.io/v1".clone_into(&mut read.api_version);
        for version in &mut read.spec.versions {
            if let Some(schema) = &mut version.schema {
                let mut without = String::new();
                write_schema(&schema.open_api, 0, &mut without).ok_or(InvalidDefinition::Unreadable)?;
                let without = RawValue::from_string(without).map_err(|_| InvalidDefinition::Unreadable)?;
                schema.open_api = Cow::Owned(without);
            }
        }
        Self::parse(serde_json::to_string(&read).map_err(|_| InvalidDefinition::Unreadable)?)
    }

    /// Of a text as [`Definition::text`] is one. What a later version says beside it is not looked at.
    pub fn parse(text: String) -> Result<Self, InvalidDefinition> {
        if text.len() > DEFINITION_BYTES_MAX {
            return Err(InvalidDefinition::TooLarge);
        }
        if depth(&text) > DEPTH_MAX {
            return Err(InvalidDefinition::TooDeep);
        }
        let read: Object<'_> = serde_json::from_str(&text).map_err(|_| InvalidDefinition::Unreadable)?;
        let is_one = read.kind == "CustomResourceDefinition" && is_name(&read.metadata.name);
        if !is_one {
            return Err(InvalidDefinition::Unreadable);
        }
        Ok(Self { digest: Digest::of(text.as_bytes()), text: text.into() })
    }

    /// The CustomResourceDefinition as JSON, without what nobody is shown.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Of the text.
    pub const fn digest(&self) -> Digest {
        self.digest
    }
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Object<'a> {
    /// The API server says them in lists only.
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    metadata: Metadata,
    #[serde(borrow)]
    spec: Spec<'a>,
}

#[derive(Deserialize, Serialize)]
struct Metadata {
    name: String,
}

#[derive(Deserialize, Serialize)]
struct Spec<'a> {
    group: String,
    names: Names,
    scope: String,
    #[serde(borrow)]
    versions: Vec<Version<'a>>,
}

#[derive(Deserialize, Serialize)]
struct Names {
    plural: String,
    kind: String,
}

#[derive(Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Version<'a> {
    name: String,
    served: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    deprecated: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    deprecation_warning: Option<String>,
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    schema: Option<Schema<'a>>,
}

#[derive(Deserialize, Serialize)]
struct Schema<'a> {
    /// As it was written.
    #[serde(borrow, rename = "openAPIV3Schema")]
    open_api: Cow<'a, RawValue>,
}

/// An object's fields in their order, each as it was written.
struct Fields<'a>(Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Fields<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Vec<(Cow<'de, str>, &'de RawValue)>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(Key(name)) = map.next_key()? {
                    fields.push((name, map.next_value()?));
                }
                Ok(fields)
            }
        }
        deserializer.deserialize_map(Reader).map(Self)
    }
}

/// Borrowed where nothing in it is escaped.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// A schema without what is said for people. `None`: it is no JSON.
fn write_schema(schema: &RawValue, depth: usize, to: &mut String) -> Option<()> {
    if depth > SCHEMA_DEPTH_MAX || !schema.get().starts_with('{') {
        to.push_str(schema.get());
        return Some(());
    }
    let Fields(fields) = serde_json::from_str(schema.get()).ok()?;
    let is_for_people = |name: &str| matches!(name, "description" | "title" | "example" | "externalDocs");
    let fields = fields.into_iter().filter(|(name, _)| !is_for_people(name));
    write_fields(fields, to, |name, value, to| match name {
        "properties" | "patternProperties" | "definitions" | "dependencies" if value.get().starts_with('{') => {
            let Fields(schemas) = serde_json::from_str(value.get()).ok()?;
            write_fields(schemas.into_iter(), to, |_, schema, to| write_schema(schema, depth + 1, to))
        }
        "items" | "allOf" | "anyOf" | "oneOf" if value.get().starts_with('[') => {
            let schemas: Vec<&RawValue> = serde_json::from_str(value.get()).ok()?;
            to.push('[');
            for (place, schema) in schemas.into_iter().enumerate() {
                to.push_str(if place == 0 { "" } else { "," });
                write_schema(schema, depth + 1, to)?;
            }
            to.push(']');
            Some(())
        }
        "items" | "additionalProperties" | "additionalItems" | "not" => write_schema(value, depth + 1, to),
        _ => {
            to.push_str(value.get());
            Some(())
        }
    })
}

fn write_fields<'a>(
    fields: impl Iterator<Item = (Cow<'a, str>, &'a RawValue)>,
    to: &mut String,
    write: impl Fn(&str, &RawValue, &mut String) -> Option<()>,
) -> Option<()> {
    to.push('{');
    for (place, (name, value)) in fields.enumerate() {
        to.push_str(if place == 0 { "" } else { "," });
        to.push_str(&serde_json::to_string(&name).ok()?);
        to.push(':');
        write(&name, value, to)?;
    }
    to.push('}');
    Some(())
}

/// How many braces and brackets stand in each other, in what may be JSON.
fn depth(text: &str) -> usize {
    let (mut deepest, mut depth, mut is_text, mut is_escaped) = (0, 0_usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            b'{' | b'[' if !is_text => depth += 1,
            b'}' | b']' if !is_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn object(schema: &Value) -> Value {
        json!({
            "metadata": {"name": "widgets.example.org", "uid": "1", "managedFields": [{"manager": "kubectl"}]},
            "spec": {"group": "example.org", "scope": "Namespaced", "conversion": {"strategy": "None"},
                "names": {"plural": "widgets", "kind": "Widget", "shortNames": ["w"]},
                "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema},
                    "additionalPrinterColumns": [{"name": "Age"}]}]},
            "status": {"acceptedNames": {"kind": "Widget"}},
        })
    }

    fn told(schema: &Value) -> Result<Definition, InvalidDefinition> {
        Definition::of_object(object(schema).to_string().as_bytes())
    }

    #[test]
    fn of_a_definition_its_schema_is_told_without_descriptions_and_nothing_that_a_cluster_adds() {
        let schema = json!({"type": "object", "description": "of a widget", "properties": {
            // A field that is called so stays.
            "description": {"type": "string", "description": "what \"it\" is"},
            "items": {"type": "array", "items": {"type": "object", "title": "t", "properties": {
                "a\"b": {"anyOf": [{"type": "integer", "description": "x"}, {"type": "string"}], "default": {"description": 1}}}}},
            "more": {"additionalProperties": {"not": {"description": "y", "enum": ["description"]}}},
            "any": {"additionalProperties": true, "x-kubernetes-validations": [{"rule": "self.description != ''"}]},
        }});

        let told = told(&schema).expect("it is one");

        let expected = json!({"type": "object", "properties": {
            "description": {"type": "string"},
            "items": {"type": "array", "items": {"type": "object", "properties": {
                "a\"b": {"anyOf": [{"type": "integer"}, {"type": "string"}], "default": {"description": 1}}}}},
            "more": {"additionalProperties": {"not": {"enum": ["description"]}}},
            "any": {"additionalProperties": true, "x-kubernetes-validations": [{"rule": "self.description != ''"}]},
        }});
        let whole = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "widgets.example.org"},
            "spec": {"group": "example.org", "scope": "Namespaced", "names": {"plural": "widgets", "kind": "Widget"},
                "versions": [{"name": "v1", "served": true, "schema": {"openAPIV3Schema": expected}}]}});
        assert_eq!(serde_json::from_str::<Value>(told.text()).expect("JSON"), whole);
        assert_eq!(Definition::parse(told.text().to_owned()), Ok(told));
    }

    #[test]
    fn what_is_no_definition_or_too_large_or_too_deep_is_not_told() {
        let deep = |levels: usize| (0..levels).fold(json!({"type": "string"}), |inner, _| json!({"items": inner}));
        assert!(told(&deep(80)).is_ok());
        assert_eq!(told(&deep(120)), Err(InvalidDefinition::TooDeep));
        assert_eq!(told(&json!({"enum": ["x".repeat(DEFINITION_BYTES_MAX)]})), Err(InvalidDefinition::TooLarge));
        for text in ["", "{}", "[]", "\u{1b}[2J", r#"{"metadata": {"name": "../x"}, "spec": {}}"#] {
            assert_eq!(Definition::of_object(text.as_bytes()), Err(InvalidDefinition::Unreadable), "{text:?}");
        }
        let mut escaped = object(&json!({}));
        escaped["metadata"]["name"] = json!("a\n[31m");
        assert_eq!(Definition::of_object(escaped.to_string().as_bytes()), Err(InvalidDefinition::Unreadable));
    }

    #[test]
    fn a_list_is_the_same_in_whatever_order_it_was_seen_and_counts_what_it_leaves_out() {
        let (a, b) = (("a.io".to_owned(), Some(Digest::of(b"a"))), ("b.io".to_owned(), None));
        let one = Definitions::new([b.clone(), a.clone()]);
        assert_eq!(one, Definitions::new([a.clone(), b.clone()]));
        assert_eq!(Definitions::parse(one.text()).as_ref(), Ok(&one));
        assert_eq!(one.entries().collect::<Vec<_>>(), [("a.io", Some(Digest::of(b"a"))), ("b.io", None)]);
        assert_eq!((one.more(), Definitions::new([]).entries().count()), (0, 0));

        let name = |number: usize| format!("{}{number:0>5}.io", "x".repeat(200));
        let many = Definitions::new((0..DEFINITIONS_MAX + 7).map(|number| (name(number), Some(Digest::of(b"a")))));
        assert_eq!(many.entries().count() as u64 + many.more(), DEFINITIONS_MAX as u64 + 7);
        assert!(many.more() >= 7 && many.text().len() <= DEFINITIONS_BYTES_MAX);
        assert_eq!(Definitions::parse(many.text()), Ok(many));
    }

    #[test]
    fn what_is_no_list_of_definitions_is_refused() {
        let digest = Digest::of(b"a");
        for text in
            ["a.io -", "a.io\n", "a.io x\n", "b.io -\na.io -\n", "a.io -\na.io -\n", "+0\n", "+01\n", "A.io -\n"]
        {
            assert!(Definitions::parse(text).is_err(), "{text:?}");
        }
        for text in [format!("../a {digest}\n"), "\u{1b}[2J -\n".to_owned(), "a.io -\n+3\n".to_owned(), "\n".to_owned()]
        {
            assert!(Definitions::parse(&text).is_err(), "{text:?}");
        }
        let many: Vec<_> = (0..DEFINITIONS_MAX + 2).map(|number| format!("{number:0>5}.io -\n")).collect();
        assert_eq!(Definitions::parse(&many.concat()), Err(InvalidDefinitions::TooMany));
    }
}
