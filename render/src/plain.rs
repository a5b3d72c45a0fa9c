//! Plain manifests: every YAML and JSON file under a path, its variables filled in, made ready to apply.
//!
//! Files are parsed once and then rendered for each distinct set of values. The renderer has no API server to ask: what it
//! cannot know of a kind, it leaves to the agent. It applies nothing and never writes a value into an error.
//! Neighbours: `yaml` reads, `variables` fills in, `scopes` knows which kinds have a namespace.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bellwether_core::bundle::OBJECTS_MAX;
use bellwether_core::object::{OBJECT_BYTES_MAX, OWNER_ANNOTATION, TARGET_LABEL, canonical_json};
use bellwether_core::parameters::Values;
use bellwether_core::{Digest, Name, ObjectKey, TargetId};
use serde_json::{Map, Value};

use crate::error::{Place, RenderError};
use crate::scopes::{Scope, Scopes};
use crate::variables::{Template, nearest};
use crate::yaml::{self, Content, Entry, Node, Text, TextStyle, plain_content};

/// All files of one target: thrice what a bundle of as many objects as may be, of usual size, is made from.
pub const SOURCES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// On an object: `disabled` leaves its `${…}` alone. The second is Flux's, so that its users need not change a file.
const SUBSTITUTE_ANNOTATIONS: [&str; 2] = ["bellwether.dev/substitute", "kustomize.toolkit.fluxcd.io/substitute"];

/// What an API server writes into metadata, and nobody else may.
const SERVER_SET: [&str; 6] =
    ["creationTimestamp", "generation", "managedFields", "resourceVersion", "selfLink", "uid"];

#[derive(Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Relative to the repo's root, with `/`.
    pub path: String,
    pub bytes: Vec<u8>,
}

/// Without the bytes: they may be a Secret's.
impl std::fmt::Debug for SourceFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({} bytes)", self.path, self.bytes.len())
    }
}

/// What a target adds to its objects.
#[derive(Debug, Clone)]
pub struct Recipe {
    pub target: TargetId,
    /// `installation/project/target`.
    pub owner: String,
    /// For objects that need a namespace and name none.
    pub namespace: Option<String>,
}

#[derive(Clone, PartialEq, Eq)]
pub struct RenderedObject {
    pub key: ObjectKey,
    /// Canonical JSON.
    pub body: Vec<u8>,
    pub digest: Digest,
}

/// Without the body, which may be a Secret's.
impl fmt::Debug for RenderedObject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RenderedObject").field("key", &self.key).field("digest", &self.digest).finish_non_exhaustive()
    }
}

/// The objects of a target as written, lists unrolled.
#[derive(Clone)]
pub struct Documents {
    sources: Vec<Source>,
    variables: BTreeSet<String>,
}

/// One object as written.
#[derive(Clone)]
struct Source {
    file: Arc<str>,
    root: Node,
    is_filled: bool,
}

impl Documents {
    /// Takes the files that end in `.yaml`, `.yml` and `.json`; their order does not matter.
    pub fn parse(files: &[SourceFile]) -> Result<Self, RenderError> {
        let mut files: Vec<_> = files.iter().filter(|file| is_manifest(&file.path)).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let bytes = files.iter().map(|file| file.bytes.len()).sum();
        if bytes > SOURCES_BYTES_MAX {
            return Err(RenderError::SourcesTooLarge { bytes, max: SOURCES_BYTES_MAX });
        }
        let mut documents = Self { sources: Vec::new(), variables: BTreeSet::new() };
        for file in files {
            let name = Arc::from(file.path.as_str());
            for document in yaml::read(&file.path, &file.bytes)? {
                documents.add(&name, document.root)?;
            }
        }
        Ok(documents)
    }

    /// Every variable that is referenced, also in defaults.
    pub fn variables(&self) -> &BTreeSet<String> {
        &self.variables
    }

    /// The objects in order of their keys. Same documents, recipe and values: same bytes.
    pub fn render(&self, recipe: &Recipe, values: &Values) -> Result<Vec<RenderedObject>, RenderError> {
        let mut scopes = Scopes::default();
        for source in self.sources.iter().filter(|source| source.may_define_kind()) {
            scopes.learn(&Value::Object(source.fill(values)?));
        }
        let mut seen = BTreeMap::new();
        let mut rendered = Vec::with_capacity(self.sources.len());
        for source in &self.sources {
            let object = source.render(recipe, values, &scopes)?;
            let (group, kind, namespace, name) = object.key.identity();
            let identity = (group.to_owned(), kind.to_owned(), namespace.map(str::to_owned), name.to_owned());
            let here = source.place(source.root.line());
            if let Some(first) = seen.insert(identity, here.clone()) {
                return Err(RenderError::Duplicate { key: Box::new(object.key), first, second: here });
            }
            rendered.push(object);
        }
        rendered.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(rendered)
    }

    fn add(&mut self, file: &Arc<str>, root: Node) -> Result<(), RenderError> {
        if is_list(&root) {
            return self.add_items(file, root);
        }
        if root.entries().is_none() {
            let at = Place { file: file.clone(), line: root.line() };
            return Err(RenderError::NotAnObject { at, found: root.kind() });
        }
        if self.sources.len() == OBJECTS_MAX {
            return Err(RenderError::TooMany);
        }
        let is_filled = may_be_filled(&root);
        let source = Source { file: file.clone(), root, is_filled };
        if is_filled {
            source.collect_variables(&source.root, &mut self.variables)?;
        }
        self.sources.push(source);
        Ok(())
    }

    fn add_items(&mut self, file: &Arc<str>, list: Node) -> Result<(), RenderError> {
        let Content::Map(entries) = list.content else {
            return Ok(());
        };
        let items = entries.into_iter().find(|entry| &*entry.key == "items").map(|entry| entry.value.content);
        let Some(Content::List(items)) = items else {
            return Ok(());
        };
        items.into_iter().try_for_each(|item| self.add(file, item))
    }
}

fn is_manifest(path: &str) -> bool {
    let extension = Path::new(path).extension().and_then(|extension| extension.to_str());
    matches!(extension, Some("yaml" | "yml" | "json"))
}

/// `List`, and as with kubectl any other list of objects, such as `ConfigMapList`.
fn is_list(root: &Node) -> bool {
    let is_named_so = root.field("kind").and_then(Node::text).is_some_and(|kind| kind.ends_with("List"));
    let items = root.field("items").map(|items| &items.content);
    is_named_so && matches!(items, Some(Content::List(_) | Content::Null))
}

/// Not if an annotation or label says so, nor if the document is sealed by SOPS: its MAC covers every value.
fn may_be_filled(root: &Node) -> bool {
    let metadata = root.field("metadata");
    let maps = ["annotations", "labels"].into_iter().filter_map(|field| metadata?.field(field));
    let mut settings = maps.flat_map(|map| SUBSTITUTE_ANNOTATIONS.iter().filter_map(|key| map.field(key)));
    let is_disabled = settings.any(|setting| setting.text() == Some("disabled"));
    !is_disabled && root.field("sops").is_none()
}

impl Source {
    fn render(&self, recipe: &Recipe, values: &Values, scopes: &Scopes) -> Result<RenderedObject, RenderError> {
        let object = Draft { source: self, object: self.fill(values)? };
        let (key, object) = object.finish(recipe, scopes)?;
        let body = canonical_json(&object);
        if body.len() > OBJECT_BYTES_MAX {
            let at = self.place(self.root.line());
            return Err(RenderError::TooLarge { at, key: key.to_string() });
        }
        let digest = Digest::of(&body);
        Ok(RenderedObject { key, body, digest })
    }

    fn may_define_kind(&self) -> bool {
        self.root.field("kind").and_then(Node::text) == Some("CustomResourceDefinition")
    }

    fn fill(&self, values: &Values) -> Result<Map<String, Value>, RenderError> {
        let mut filling = Filling { source: self, values, bytes: 0 };
        match filling.value(&self.root)? {
            Value::Object(object) => Ok(object),
            _ => Err(RenderError::NotAnObject { at: self.place(self.root.line()), found: self.root.kind() }),
        }
    }

    /// Also finds every reference that is malformed, so that rendering cannot.
    fn collect_variables(&self, node: &Node, names: &mut BTreeSet<String>) -> Result<(), RenderError> {
        match &node.content {
            Content::Text(text) => self.collect_names(text, node.line(), names),
            Content::List(items) => items.iter().try_for_each(|item| self.collect_variables(item, names)),
            Content::Map(entries) => entries.iter().try_for_each(|entry| {
                let key = Text { value: entry.key.clone(), style: TextStyle::Quoted };
                self.collect_names(&key, entry.line(), names)?;
                self.collect_variables(&entry.value, names)
            }),
            _ => Ok(()),
        }
    }

    fn collect_names(&self, text: &Text, line: u32, names: &mut BTreeSet<String>) -> Result<(), RenderError> {
        if let Some(template) = self.template(&text.value, text.style, line)? {
            names.extend(template.names().into_iter().map(str::to_owned));
        }
        Ok(())
    }

    fn template<'t>(&self, text: &'t str, style: TextStyle, line: u32) -> Result<Option<Template<'t>>, RenderError> {
        Template::parse(text).map_err(|malformed| RenderError::VariableMalformed {
            at: self.place(line_in(text, style, line, malformed.offset)),
            name: malformed.name.to_owned(),
        })
    }

    fn place(&self, line: u32) -> Place {
        Place { file: self.file.clone(), line }
    }

    /// Of the field at a path, or of the nearest one around it.
    fn place_of(&self, path: &[&str]) -> Place {
        let mut node = &self.root;
        for field in path {
            let Some(inner) = node.field(field) else { break };
            node = inner;
        }
        self.place(node.line())
    }
}

/// The line of an offset. In quotes and folded blocks a line of the text is not a line of the file.
fn line_in(text: &str, style: TextStyle, line: u32, offset: usize) -> u32 {
    let before = text.get(..offset).unwrap_or_default();
    let rows = if style == TextStyle::Literal { before.matches('\n').count() } else { 0 };
    u32::try_from(rows).map_or(line, |rows| line.saturating_add(rows))
}

/// One object on its way from what is written to JSON.
struct Filling<'s> {
    source: &'s Source,
    values: &'s Values,
    /// Filled in so far: a short file may refer to a long value very often.
    bytes: usize,
}

impl Filling<'_> {
    fn value(&mut self, node: &Node) -> Result<Value, RenderError> {
        if !self.source.is_filled {
            return Ok(node.to_json());
        }
        match &node.content {
            Content::Text(text) => self.text(text, node.line()),
            Content::List(items) => {
                let items = items.iter().map(|item| self.value(item));
                Ok(Value::Array(items.collect::<Result<_, _>>()?))
            }
            Content::Map(entries) => self.map(entries),
            _ => Ok(node.to_json()),
        }
    }

    /// Keys with variables come last, so that an error names the one that repeats another.
    fn map(&mut self, entries: &[Entry]) -> Result<Value, RenderError> {
        let mut fields = Map::new();
        let (filled, plain): (Vec<_>, Vec<_>) = entries.iter().partition(|entry| entry.key.contains("${"));
        for entry in plain.into_iter().chain(filled) {
            let key = self.filled(&entry.key, TextStyle::Quoted, entry.line())?;
            let key = key.map_or_else(|| entry.key.to_string(), |(key, _)| key);
            if fields.insert(key, self.value(&entry.value)?).is_some() {
                let at = self.source.place(entry.line());
                return Err(RenderError::VariableRepeatsKey { at, key: entry.key.to_string() });
            }
        }
        Ok(Value::Object(fields))
    }

    /// A plain scalar that is nothing but a reference takes the type that its value would have there.
    fn text(&mut self, text: &Text, line: u32) -> Result<Value, RenderError> {
        let Some((filled, is_one_reference)) = self.filled(&text.value, text.style, line)? else {
            return Ok(Value::from(&*text.value));
        };
        if !is_one_reference || text.style != TextStyle::Plain {
            return Ok(Value::String(filled));
        }
        match plain_content(&filled) {
            Ok(Content::Bool(flag)) => Ok(Value::Bool(flag)),
            Ok(Content::Number(number)) => Ok(Value::Number(number)),
            // Null too: an empty value is an empty text, and does not remove the field.
            Ok(_) => Ok(Value::String(filled)),
            Err(_) => {
                let (at, text) = (self.source.place(line), text.value.to_string());
                Err(RenderError::VariableOutOfRange { at, text })
            }
        }
    }

    /// `None` if there is nothing to fill in; else also whether the text is one reference.
    fn filled(&mut self, text: &str, style: TextStyle, line: u32) -> Result<Option<(String, bool)>, RenderError> {
        let Some(template) = self.source.template(text, style, line)? else {
            return Ok(None);
        };
        let filled = template.fill(self.values).map_err(|unset| RenderError::VariableUnset {
            at: self.source.place(line_in(text, style, line, unset.offset)),
            name: unset.name.to_owned(),
            nearest: nearest(unset.name, self.values.names()).map(str::to_owned),
        })?;
        self.bytes += filled.len();
        if self.bytes > OBJECT_BYTES_MAX {
            return Err(RenderError::TooLarge { at: self.source.place(line), key: "an object".to_owned() });
        }
        Ok(Some((filled, template.is_one_reference())))
    }
}

/// An object with its values, before it is checked and completed.
struct Draft<'s> {
    source: &'s Source,
    object: Map<String, Value>,
}

impl Draft<'_> {
    fn finish(mut self, recipe: &Recipe, scopes: &Scopes) -> Result<(ObjectKey, Value), RenderError> {
        self.check_key()?;
        self.object.remove("status");
        self.complete_metadata(recipe)?;
        self.encode_secret()?;
        let key = self.place_in_namespace(recipe, scopes)?;
        Ok((key, Value::Object(self.object)))
    }

    fn check_key(&mut self) -> Result<(), RenderError> {
        for field in ["apiVersion", "kind"] {
            let text = self.required_text(self.object.get(field), &[field], field)?;
            if text.split('/').count() > 2 || !text.split('/').all(is_path_segment) {
                return Err(self.not_a_segment(field, &[field], text));
            }
        }
        let metadata = match self.object.get("metadata") {
            None | Some(Value::Null) => return Err(self.without("metadata.name")),
            Some(Value::Object(metadata)) => metadata,
            Some(other) => return Err(self.wrong_type(&["metadata"], other, "a map")),
        };
        if metadata.get("generateName").is_some_and(|name| !name.is_null() && name != "") {
            return Err(RenderError::GeneratedName { at: self.source.place_of(&["metadata", "generateName"]) });
        }
        let path = ["metadata", "name"];
        let name = self.required_text(metadata.get("name"), &path, "metadata.name")?;
        if !is_path_segment(name) {
            return Err(self.not_a_segment("metadata.name", &path, name));
        }
        Ok(())
    }

    fn complete_metadata(&mut self, recipe: &Recipe) -> Result<(), RenderError> {
        let target = recipe.target.as_uuid().simple().to_string();
        for field in SERVER_SET {
            self.metadata().remove(field);
        }
        self.complete_texts("labels", TARGET_LABEL, target)?;
        self.complete_texts("annotations", OWNER_ANNOTATION, recipe.owner.clone())
    }

    /// Adds to `metadata.labels` or `metadata.annotations`, of which every value must be a string.
    fn complete_texts(&mut self, field: &str, key: &str, value: String) -> Result<(), RenderError> {
        let mut texts = match self.metadata().remove(field) {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(texts)) => texts,
            Some(other) => return Err(self.wrong_type(&["metadata", field], &other, "a map")),
        };
        if let Some((name, other)) = texts.iter().find(|(_, value)| !value.is_string()) {
            return Err(self.wrong_type(&["metadata", field, name], other, "a string"));
        }
        texts.insert(key.to_owned(), Value::String(value));
        self.metadata().insert(field.to_owned(), Value::Object(texts));
        Ok(())
    }

    /// What the API server would do with `stringData` on writing; done here so that drift can be seen.
    fn encode_secret(&mut self) -> Result<(), RenderError> {
        if self.object["kind"] != "Secret" || self.object["apiVersion"] != "v1" {
            return Ok(());
        }
        let texts = match self.object.remove("stringData") {
            None | Some(Value::Null) => return Ok(()),
            Some(Value::Object(texts)) => texts,
            Some(other) => return Err(self.wrong_type(&["stringData"], &other, "a map")),
        };
        let mut data = match self.object.remove("data") {
            None | Some(Value::Null) => Map::new(),
            Some(Value::Object(data)) => data,
            Some(other) => return Err(self.wrong_type(&["data"], &other, "a map")),
        };
        for (key, value) in texts {
            let Value::String(text) = &value else {
                return Err(self.wrong_type(&["stringData", &key], &value, "a string"));
            };
            data.insert(key, Value::String(STANDARD.encode(text)));
        }
        self.object.insert("data".to_owned(), Value::Object(data));
        Ok(())
    }

    fn place_in_namespace(&mut self, recipe: &Recipe, scopes: &Scopes) -> Result<ObjectKey, RenderError> {
        let path = ["metadata", "namespace"];
        let written = match self.metadata().remove("namespace") {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text).filter(|text| !text.is_empty()),
            Some(other) => return Err(self.wrong_type(&path, &other, "a string")),
        };
        if let Some(written) = written.as_ref().filter(|written| written.parse::<Name>().is_err()) {
            return Err(self.not_a_segment("metadata.namespace", &path, written));
        }
        let mut key = self.key();
        let scope = scopes.of(&key);
        key.namespace = match scope {
            // An API server passes over a namespace here; so the same object is not written twice.
            Scope::Cluster => None,
            Scope::Namespaced | Scope::Unknown => written.or_else(|| recipe.namespace.clone()),
        };
        if let Some(namespace) = &key.namespace {
            self.metadata().insert("namespace".to_owned(), Value::from(namespace.as_str()));
        } else if scope == Scope::Namespaced {
            let at = self.source.place(self.source.root.line());
            return Err(RenderError::NamespaceMissing { at, key: Box::new(key) });
        }
        Ok(key)
    }

    fn metadata(&mut self) -> &mut Map<String, Value> {
        let metadata = self.object.get_mut("metadata").and_then(Value::as_object_mut);
        metadata.expect("the key was checked before, and with it that metadata is a map")
    }

    fn key(&self) -> ObjectKey {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        ObjectKey {
            api_version: text(&self.object["apiVersion"]),
            kind: text(&self.object["kind"]),
            namespace: None,
            name: text(&self.object["metadata"]["name"]),
        }
    }

    fn required_text<'v>(
        &self,
        value: Option<&'v Value>,
        path: &[&str],
        field: &'static str,
    ) -> Result<&'v str, RenderError> {
        match value {
            None | Some(Value::Null) => Err(self.without(field)),
            Some(Value::String(text)) if text.is_empty() => Err(self.without(field)),
            Some(Value::String(text)) => Ok(text),
            Some(other) => Err(self.wrong_type(path, other, "a string")),
        }
    }

    fn without(&self, field: &'static str) -> RenderError {
        RenderError::WithoutField { at: self.source.place(self.source.root.line()), field }
    }

    fn wrong_type(&self, path: &[&str], value: &Value, wanted: &'static str) -> RenderError {
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "a boolean",
            Value::Number(_) => "a number",
            Value::String(_) => "a string",
            Value::Array(_) => "a list",
            Value::Object(_) => "a map",
        };
        RenderError::WrongType { at: self.source.place_of(path), field: path.join("."), found, wanted }
    }

    fn not_a_segment(&self, field: &'static str, path: &[&str], text: &str) -> RenderError {
        RenderError::NotAPathSegment { at: self.source.place_of(path), field, text: text.chars().take(80).collect() }
    }
}

/// Whether a text can stand in a request's path as it is. Manifests are hostile input, and agents ask for objects by
/// these texts; whether a name is good for its kind, the API server says.
fn is_path_segment(text: &str) -> bool {
    let may_stand = |c: char| !c.is_control() && !c.is_whitespace() && !"/\\%?#".contains(c);
    (1..=253).contains(&text.len()) && text != "." && text != ".." && text.chars().all(may_stand)
}

#[cfg(test)]
mod tests;
