//! Kustomizations that nobody has written: those that Flux and Argo CD make before they build, and overlays that take what a
//! target cannot say.

use std::collections::BTreeSet;

use bellwether_render::{CHART, Files, Found, KUSTOMIZATIONS, Listing, yaml};
use serde_json::{Map, Value, json};

use crate::paths::{join, relative};

const FILE_BYTES_MAX: usize = 1 << 20;

/// What a folder is to those who render it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Folder {
    Absent,
    /// With its kustomization, and where that is.
    Kustomize {
        file: String,
        content: Value,
    },
    Chart,
    Plain,
    Unreadable {
        why: String,
    },
}

pub(crate) fn look_at<F: Files>(files: &F, folder: &str) -> Folder {
    match files.list(folder) {
        Ok(Listing::Folder(_)) => {}
        Ok(_) => return Folder::Absent,
        Err(error) => return Folder::Unreadable { why: error.to_string() },
    }
    for name in KUSTOMIZATIONS {
        let file = join(folder, name);
        match files.read(&file, FILE_BYTES_MAX) {
            Ok(Found::File(bytes)) => {
                return match yaml::read(&file, &bytes) {
                    Ok(documents) => {
                        let content = documents.first().map_or_else(|| json!({}), yaml::Document::to_json);
                        Folder::Kustomize { file, content }
                    }
                    Err(error) => Folder::Unreadable { why: error.to_string() },
                };
            }
            Ok(_) => {}
            Err(error) => return Folder::Unreadable { why: error.to_string() },
        }
    }
    match files.read(&join(folder, CHART), FILE_BYTES_MAX) {
        Ok(Found::File(_)) => Folder::Chart,
        _ => Folder::Plain,
    }
}

/// What Flux lists where nobody wrote a kustomization: every file of YAML, and in place of a folder that has one, it.
pub(crate) fn listed_by_flux<F: Files>(files: &F, folder: &str) -> Vec<String> {
    let mut paths = BTreeSet::new();
    list(files, folder, folder, 0, &mut paths);
    paths.into_iter().collect()
}

fn list<F: Files>(files: &F, start: &str, folder: &str, depth: usize, paths: &mut BTreeSet<String>) {
    let Ok(Listing::Folder(entries)) = files.list(folder) else { return };
    let has_one = entries.iter().any(|entry| !entry.is_folder && KUSTOMIZATIONS.contains(&entry.name.as_str()));
    if has_one && folder != start {
        paths.insert(relative(start, folder));
        return;
    }
    for entry in entries {
        let path = join(folder, &entry.name);
        if entry.is_folder && depth < 64 {
            list(files, start, &path, depth + 1, paths);
        } else if path.ends_with(".yaml") || path.ends_with(".yml") {
            paths.insert(relative(start, &path));
        }
    }
}

/// What is asked besides what a folder's own kustomization says. Paths in it are those of the folder.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Additions {
    pub(crate) fields: Map<String, Value>,
    /// Labels and annotations on every object, and nowhere inside it.
    pub(crate) labels: Map<String, Value>,
    pub(crate) annotations: Map<String, Value>,
}

impl Additions {
    /// Every text of it made another.
    pub(crate) fn map(&mut self, map: &dyn Fn(&Value) -> Value) {
        for (_, value) in self.fields.iter_mut().chain(&mut self.labels).chain(&mut self.annotations) {
            *value = map(value);
        }
    }

    pub(crate) fn to_json(&self) -> Value {
        json!([self.fields, self.labels, self.annotations])
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty() && self.labels.is_empty() && self.annotations.is_empty()
    }

    /// With the older forms of patches in the one that Kustomize has now.
    pub(crate) fn with_patches(mut self) -> Self {
        let as_text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let mut take = |field: &str| match self.fields.remove(field) {
            Some(Value::Array(items)) => items,
            _ => Vec::new(),
        };
        let mut patches = take("patches");
        patches.extend(take("patchesStrategicMerge").iter().map(|patch| json!({"patch": as_text(patch)})));
        let operations = take("patchesJson6902");
        patches
            .extend(operations.iter().map(|one| json!({"target": one["target"], "patch": one["patch"].to_string()})));
        self.set("patches", Some(&Value::Array(patches)));
        self
    }

    pub(crate) fn set(&mut self, field: &str, value: Option<&Value>) {
        let is_empty = |value: &Value| match value {
            Value::Array(items) => items.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            Value::String(text) => text.is_empty(),
            other => other.is_null(),
        };
        if let Some(value) = value.filter(|value| !is_empty(value)) {
            self.fields.insert(field.to_owned(), value.clone());
        }
    }
}

/// The kustomization that is built in the end, as a controller writes it into its copy of the files.
pub(crate) fn merged(own: &Value, additions: &Additions) -> Value {
    let mut merged = own.as_object().cloned().unwrap_or_default();
    for (field, added) in &additions.fields {
        let value = match (merged.remove(field), added) {
            (Some(Value::Array(own)), Value::Array(added)) if field == "images" => {
                Value::Array(merge_named(own, added))
            }
            (Some(Value::Array(own)), Value::Array(added)) => Value::Array([own, added.clone()].concat()),
            (Some(Value::Object(mut own)), Value::Object(added)) => {
                own.extend(added.clone());
                Value::Object(own)
            }
            (_, added) => added.clone(),
        };
        merged.insert(field.clone(), value);
    }
    Value::Object(merged)
}

/// One of the same name is in place of the other.
fn merge_named(own: Vec<Value>, added: &[Value]) -> Vec<Value> {
    let is_replaced = |one: &Value| added.iter().any(|other| other["name"] == one["name"]);
    own.into_iter().filter(|one| !is_replaced(one)).chain(added.iter().cloned()).collect()
}

/// What an overlay is laid over.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Under {
    /// A folder with a kustomization.
    Folder,
    /// These files and folders of one without, from its own point of view.
    Listed(Vec<String>),
    /// What a chart gives.
    Chart,
}

/// A kustomization in a folder of its own. `without` are the objects that are left out: see [`is_removed`].
pub(crate) fn overlay(at: &str, folder: &str, under: &Under, additions: &Additions, without: &[&str]) -> Value {
    let mut overlay = Map::from_iter([
        ("apiVersion".to_owned(), json!("kustomize.config.k8s.io/v1beta1")),
        ("kind".to_owned(), json!("Kustomization")),
    ]);
    let resources = match under {
        Under::Folder => vec![relative(at, folder)],
        Under::Listed(paths) => paths.iter().map(|path| relative(at, &join(folder, path))).collect(),
        Under::Chart => Vec::new(),
    };
    if !resources.is_empty() {
        overlay.insert("resources".to_owned(), json!(resources));
    }
    overlay.extend(additions.fields.clone());
    if let Some(Value::Array(components)) = overlay.get_mut("components") {
        for component in components {
            if let Some(path) = component.as_str().and_then(|path| crate::paths::normal(&join(folder, path))) {
                *component = json!(relative(at, &path));
            }
        }
    }
    let mut patches: Vec<Value> = without.iter().map(|what| removal(what)).collect();
    if let Some(Value::Array(own)) = overlay.remove("patches") {
        patches.extend(own.into_iter().map(|mut patch| {
            let path = patch["path"].as_str().and_then(|path| crate::paths::normal(&join(folder, path)));
            if let Some(path) = path {
                patch["path"] = json!(relative(at, &path));
            }
            patch
        }));
    }
    let mut metadata = Map::new();
    for (field, texts) in [("labels", &additions.labels), ("annotations", &additions.annotations)] {
        if !texts.is_empty() {
            metadata.insert(field.to_owned(), Value::Object(texts.clone()));
        }
    }
    if !metadata.is_empty() {
        metadata.insert("name".to_owned(), json!("any"));
        let patch = json!({"apiVersion": "any", "kind": "any", "metadata": metadata});
        patches.push(json!({"target": {"name": ".*"}, "patch": patch.to_string()}));
    }
    if !patches.is_empty() {
        overlay.insert("patches".to_owned(), Value::Array(patches));
    }
    Value::Object(overlay)
}

/// Takes objects out: all of a group of APIs, or `GROUP/KIND|KIND`.
fn removal(what: &str) -> Value {
    let (group, kinds) = what.split_once('/').unwrap_or((what, ".*"));
    let patch = json!({"$patch": "delete", "apiVersion": "any", "kind": "any", "metadata": {"name": "any"}});
    json!({"target": {"group": group.replace('.', "\\."), "kind": kinds}, "patch": patch.to_string()})
}

/// Whether an object is one of those that are taken out.
pub(crate) fn is_removed(object: &Value, what: &str) -> bool {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    let group = version.split_once('/').map_or("", |(group, _)| group);
    match what.split_once('/') {
        Some((of, kinds)) => group == of && kinds.split('|').any(|kind| object["kind"] == kind),
        None => group == what,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_controller_adds_goes_over_or_behind_what_is_there() {
        let own = json!({"images": [{"name": "a", "newTag": "1"}, {"name": "b"}], "patches": [1], "namePrefix": "x-"});
        let mut additions = Additions::default();
        additions.set("images", Some(&json!([{"name": "a", "newTag": "2"}])));
        additions.set("patches", Some(&json!([2])));
        additions.set("namespace", Some(&json!("shop")));
        additions.set("nameSuffix", Some(&json!("")));

        let merged = merged(&own, &additions);

        assert_eq!(
            merged,
            json!({"images": [{"name": "b"}, {"name": "a", "newTag": "2"}], "patches": [1, 2], "namePrefix": "x-", "namespace": "shop"})
        );
    }

    #[test]
    fn an_overlay_names_paths_from_its_own_folder() {
        let mut additions = Additions::default();
        additions.set("components", Some(&json!(["../../components/eu"])));

        let overlay = overlay("bellwether/overlays/shop", "apps/shop", &Under::Folder, &additions, &[]);

        assert_eq!(overlay["resources"], json!(["../../../apps/shop"]));
        assert_eq!(overlay["components"], json!(["../../../components/eu"]));
    }
}
