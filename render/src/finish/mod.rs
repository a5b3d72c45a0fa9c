//! What every object goes through, whatever engine made it: checked, marked as its target's, put into a namespace, bounded.
//!
//! There is no API server to ask: what cannot be known of a kind is left to the agent. Errors name fields, never values.

mod limits;
mod namespace;
mod ownership;
mod scopes;
mod secret;

use std::sync::Arc;

use bellwether_core::apply::{APPLY_ANNOTATION, ONCE, PHASE_ANNOTATION, is_phase};
use bellwether_core::hooks::{self, HOOK_ANNOTATION, UPGRADE};
use bellwether_core::object::canonical_json;
use bellwether_core::replace::{self, REPLACE_ANNOTATION};
use bellwether_core::sealed::SEALED_ANNOTATION;
use bellwether_core::{Digest, ObjectKey};
use serde_json::{Map, Value};

pub(crate) use self::limits::BundleLimit;
pub(crate) use self::scopes::Scopes;
use crate::error::{Place, RenderError};
use crate::yaml::Node;
use crate::{Recipe, RenderedObject};

/// Where an object was written: what errors point to.
#[derive(Clone, Copy)]
pub(crate) struct Origin<'s> {
    pub(crate) file: &'s Arc<str>,
    pub(crate) root: &'s Node,
    /// What it is, if an engine made it.
    pub(crate) made: Option<&'s Arc<str>>,
}

impl Origin<'_> {
    pub(crate) fn start(self) -> Place {
        self.place(self.root.line())
    }

    pub(crate) fn place(self, line: u32) -> Place {
        match self.made {
            Some(object) => Place::Object { file: self.file.clone(), object: object.clone() },
            None => Place::Line { file: self.file.clone(), line },
        }
    }

    /// Of the field at a path, or of the nearest one around it.
    pub(crate) fn place_of(self, path: &[&str]) -> Place {
        let mut node = self.root;
        for field in path {
            let Some(inner) = node.field(field) else { break };
            node = inner;
        }
        self.place(node.line())
    }
}

/// An object with its values, before it is checked and completed.
pub(crate) struct Draft<'s> {
    pub(crate) origin: Origin<'s>,
    pub(crate) object: Map<String, Value>,
    /// What SOPS sealed of it, which it is laid over: see [`bellwether_core::sealed`].
    pub(crate) sealed: Option<&'s str>,
}

impl Draft<'_> {
    pub(crate) fn finish(mut self, recipe: &Recipe, scopes: &Scopes) -> Result<RenderedObject, RenderError> {
        self.name_hook(recipe);
        self.check_key()?;
        self.object.remove("status");
        self.complete_metadata(recipe)?;
        self.mark_hook();
        self.check_phase()?;
        self.check_apply()?;
        self.check_replace()?;
        self.complete_secret()?;
        let key = self.place_in_namespace(recipe, scopes)?;
        self.check_not_the_agents(&key, recipe)?;
        self.lay_on_sealed();
        limits::sealed(self.origin, key, &Value::Object(self.object))
    }

    /// A hook that has each run under another name has another one for each content: what did not change does not run again.
    /// Targets that have the same hook in one namespace have each its own.
    fn name_hook(&mut self, recipe: &Recipe) {
        let object = Value::Object(std::mem::take(&mut self.object));
        let metadata = &object["metadata"];
        let is_named = metadata["name"].as_str().is_some_and(|name| !name.is_empty());
        let prefix = metadata["generateName"].as_str().filter(|prefix| !prefix.is_empty() && !is_named);
        let is_hook = hooks::time(hooks::annotations_of(&object)).is_some();
        let name = prefix.filter(|_| is_hook).map(|prefix| generated_name(prefix, &object, recipe));
        if let Value::Object(object) = object {
            self.object = object;
        }
        if let (Some(name), Some(metadata)) = (name, self.object.get_mut("metadata").and_then(Value::as_object_mut)) {
            metadata.remove("generateName");
            metadata.insert("name".to_owned(), Value::String(name));
        }
    }

    fn lay_on_sealed(&mut self) {
        let Some(text) = self.sealed else { return };
        let annotations = self.metadata().entry("annotations").or_insert_with(|| Value::Object(Map::new()));
        if let Some(annotations) = annotations.as_object_mut() {
            annotations.insert(SEALED_ANNOTATION.to_owned(), text.into());
        }
    }

    /// Whether it is an installation or an upgrade is known in the cluster: there its agent has to see which hooks are of the one
    /// alone, and an agent that knows no such hooks has to refuse them.
    fn mark_hook(&mut self) {
        let Some(annotations) = self.metadata().get_mut("annotations").and_then(Value::as_object_mut) else { return };
        let annotation = |name: &str| annotations.get(name)?.as_str();
        if annotation(PHASE_ANNOTATION).is_none() && hooks::is_of_upgrades(annotation) {
            annotations.insert(HOOK_ANNOTATION.to_owned(), Value::String(UPGRADE.to_owned()));
        }
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
            return Err(RenderError::GeneratedName { at: self.origin.place_of(&["metadata", "generateName"]) });
        }
        let path = ["metadata", "name"];
        let name = self.required_text(metadata.get("name"), &path, "metadata.name")?;
        if !is_path_segment(name) {
            return Err(self.not_a_segment("metadata.name", &path, name));
        }
        Ok(())
    }

    /// One that is mistyped would be applied with all the others, which is just what its author did not want.
    fn check_phase(&self) -> Result<(), RenderError> {
        let text = self.object["metadata"]["annotations"][PHASE_ANNOTATION].as_str();
        if text.is_none_or(is_phase) {
            return Ok(());
        }
        Err(RenderError::PhaseInvalid { at: self.origin.place_of(&["metadata", "annotations", PHASE_ANNOTATION]) })
    }

    /// One that is mistyped would be changed and pruned as all others are.
    fn check_apply(&self) -> Result<(), RenderError> {
        let text = self.object["metadata"]["annotations"][APPLY_ANNOTATION].as_str();
        if text.is_none_or(|text| text == ONCE) {
            return Ok(());
        }
        Err(RenderError::ApplyInvalid { at: self.origin.place_of(&["metadata", "annotations", APPLY_ANNOTATION]) })
    }

    /// One that is mistyped would be replaced, or left, as the target says of all.
    fn check_replace(&self) -> Result<(), RenderError> {
        let text = self.object["metadata"]["annotations"][REPLACE_ANNOTATION].as_str();
        if text.is_none_or(replace::is_word) {
            return Ok(());
        }
        Err(RenderError::ReplaceInvalid { at: self.origin.place_of(&["metadata", "annotations", REPLACE_ANNOTATION]) })
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
        RenderError::WithoutField { at: self.origin.start(), field }
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
        RenderError::WrongType { at: self.origin.place_of(path), field: path.join("."), found, wanted }
    }

    fn not_a_segment(&self, field: &'static str, path: &[&str], text: &str) -> RenderError {
        RenderError::NotAPathSegment { at: self.origin.place_of(path), field, text: text.chars().take(80).collect() }
    }
}

/// As long as names that API servers make; Jobs take no longer ones.
const GENERATED_NAME_MAX: usize = 63;

/// Hexadecimal digits of a digest, so that two contents of one hook have two names.
const GENERATED_DIGITS: usize = 10;

fn generated_name(prefix: &str, object: &Value, recipe: &Recipe) -> String {
    let mut content = canonical_json(object);
    if let Some(marks) = &recipe.marks {
        content.extend_from_slice(marks.target.as_uuid().as_bytes());
    }
    let digest = Digest::of(&content).to_string();
    let digits = digest.trim_start_matches("sha256:");
    let prefix: String = prefix.chars().take(GENERATED_NAME_MAX - GENERATED_DIGITS).collect();
    format!("{prefix}{}", &digits[..GENERATED_DIGITS])
}

/// An API server keeps an empty text where a map of texts has a null.
fn empty_for_null(value: &mut Value) {
    if value.is_null() {
        *value = Value::String(String::new());
    }
}

/// Whether a text can stand in a request's path as it is. Manifests are hostile input, and agents ask for objects by
/// these texts; whether a name is good for its kind, the API server says.
fn is_path_segment(text: &str) -> bool {
    let may_stand = |c: char| !c.is_control() && !c.is_whitespace() && !"/\\%?#".contains(c);
    (1..=253).contains(&text.len()) && text != "." && text != ".." && text.chars().all(may_stand)
}
