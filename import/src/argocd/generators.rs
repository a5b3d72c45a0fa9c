//! The generators of an ApplicationSet: which sets of parameters there are.
//!
//! What only Argo CD's own clusters say stays open, as variables that Bellwether fills in for each cluster.

use bellwether_render::{Files, Found, Listing, yaml};
use serde_json::{Map, Value, json};

use super::fields::GENERATORS;
use super::template::{Language, UNKNOWN, as_text, fill, find_flat};
use crate::gather::find;
use crate::globs::{Glob, WildcardScope};
use crate::paths::{folder_of, is_within, join, last_of};
use crate::text::{as_name, mark};

/// Files and folders that a pattern is held against.
const PLACES_MAX: usize = 50_000;

/// One set of parameters.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Element {
    pub(crate) params: Map<String, Value>,
    /// `clusters:` of a target, if a cluster generator is among those that made it.
    pub(crate) clusters: Option<Value>,
    /// Over the template of the ApplicationSet.
    pub(crate) template: Option<Value>,
}

/// What could not be worked out, and why.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Unknown {
    pub(crate) field: String,
    pub(crate) why: String,
}

pub(crate) struct Generating<'a, F> {
    /// The files of a repository, if they are here.
    pub(crate) files: &'a dyn Fn(&str) -> Option<std::sync::Arc<F>>,
    pub(crate) language: Language,
    pub(crate) unknown: Vec<Unknown>,
    /// Generators that will not look again.
    pub(crate) fixed: Vec<String>,
}

impl<F: Files> Generating<'_, F> {
    pub(crate) fn all(&mut self, generators: &Value, field: &str) -> Vec<Element> {
        let generators = generators.as_array().into_iter().flatten().enumerate();
        generators.flat_map(|(index, generator)| self.one(generator, &format!("{field}[{index}]"))).collect()
    }

    fn one(&mut self, generator: &Value, field: &str) -> Vec<Element> {
        let mut elements = Vec::new();
        for (kind, settings) in generator.as_object().into_iter().flatten().filter(|(kind, _)| *kind != "selector") {
            let field = format!("{field}.{kind}");
            let known = GENERATORS.iter().find(|(known, _)| known == kind).map(|(_, fields)| *fields);
            for key in settings.as_object().into_iter().flatten().map(|(key, _)| key.as_str()) {
                if known.is_some_and(|known| !known.contains(&key)) {
                    self.lacks(&format!("{field}.{key}"), "it is not worked out here: see whether it matters");
                }
            }
            let mut made = match kind.as_str() {
                "list" => self.list(settings, &field),
                "clusters" => self.clusters(settings, &field),
                "git" => self.git(settings, &field),
                "matrix" => self.matrix(settings, &field),
                "merge" => self.merge(settings, &field),
                _ => {
                    self.lacks(&field, "it asks something that only Argo CD reaches: write a target, or a file for each, and a list generator until you have moved");
                    Vec::new()
                }
            };
            for element in &mut made {
                if let Some(template) = find(settings, &["template"]) {
                    element.template = Some(template.clone());
                }
            }
            elements.extend(made);
        }
        match find(generator, &["selector"]) {
            Some(selector) => elements.into_iter().filter(|element| is_selected(selector, element)).collect(),
            None => elements,
        }
    }

    fn lacks(&mut self, field: &str, why: &str) {
        self.unknown.push(Unknown { field: field.to_owned(), why: why.to_owned() });
    }

    fn list(&mut self, settings: &Value, field: &str) -> Vec<Element> {
        if find(settings, &["elementsYaml"]).is_some() {
            self.lacks(
                &format!("{field}.elementsYaml"),
                "it is made from another generator's values: write its elements down",
            );
        }
        let elements = settings["elements"].as_array().into_iter().flatten();
        let elements = elements.filter_map(Value::as_object);
        elements.map(|params| Element { params: params.clone(), ..Element::default() }).collect()
    }

    /// Every cluster that the selector selects, whichever they are.
    fn clusters(&mut self, settings: &Value, field: &str) -> Vec<Element> {
        let mut selector = find(settings, &["selector"]).cloned().unwrap_or_else(|| json!({}));
        if let Some(Value::Object(labels)) = selector.get_mut("matchLabels") {
            labels.retain(|key, _| !key.starts_with("argocd.argoproj.io/"));
            if labels.is_empty() {
                selector.as_object_mut().map(|selector| selector.remove("matchLabels"));
            }
        }
        let unknown = |what: &str| json!({ UNKNOWN: what });
        let Value::Object(mut params) = json!({
            "name": mark("cluster.name"),
            "nameNormalized": mark("cluster.name"),
            "server": mark(super::SERVER),
            "project": "default",
            "metadata": {"labels": unknown("cluster.labels"), "annotations": unknown(super::ANNOTATIONS)},
        }) else {
            return Vec::new();
        };
        self.add_values(settings, &mut params, field);
        vec![Element { params, clusters: Some(selector), template: None }]
    }

    /// `values:` of a generator, which may refer to what it gives.
    fn add_values(&mut self, settings: &Value, params: &mut Map<String, Value>, field: &str) {
        let Some(values) = find(settings, &["values"]) else { return };
        match fill(values, &Value::Object(params.clone()), self.language) {
            Ok(values) => {
                params.insert("values".to_owned(), values);
            }
            Err(why) => self.lacks(&format!("{field}.values"), &why),
        }
    }

    fn git(&mut self, settings: &Value, field: &str) -> Vec<Element> {
        let url = settings["repoURL"].as_str().unwrap_or_default();
        let Some(files) = (self.files)(url) else {
            self.lacks(
                field,
                &format!("the files of {url} are not here: import in a checkout of it, or name one with --checkout"),
            );
            return Vec::new();
        };
        self.fixed.push(field.to_owned());
        let prefix = settings["pathParamPrefix"].as_str().unwrap_or_default().to_owned();
        let mut elements = Vec::new();
        if let Some(rules) = find(settings, &["directories"]) {
            let mut folders = Vec::new();
            list(&*files, "", &mut folders, &mut Vec::new());
            for folder in folders.iter().filter(is_meant(rules, WildcardScope::Segment)) {
                let mut params = Map::new();
                self.add_path(&mut params, &prefix, folder, None);
                self.add_values(settings, &mut params, field);
                elements.push(Element { params, ..Element::default() });
            }
        }
        if let Some(rules) = find(settings, &["files"]) {
            let mut paths = Vec::new();
            list(&*files, "", &mut Vec::new(), &mut paths);
            for path in paths.iter().filter(is_meant(rules, WildcardScope::Path)) {
                for mut params in self.params_of(&*files, path, field) {
                    self.add_path(&mut params, &prefix, folder_of(path), Some(last_of(path)));
                    self.add_values(settings, &mut params, field);
                    elements.push(Element { params, ..Element::default() });
                }
            }
        }
        elements
    }

    /// A file of parameters: a map, or a list of them.
    fn params_of(&mut self, files: &F, path: &str, field: &str) -> Vec<Map<String, Value>> {
        let Ok(Found::File(bytes)) = files.read(path, yaml::FILE_BYTES_MAX) else {
            self.lacks(field, &format!("`{path}` cannot be read"));
            return Vec::new();
        };
        let documents = match yaml::read(path, &bytes) {
            Ok(documents) => documents,
            Err(error) => {
                self.lacks(field, &error.to_string());
                return Vec::new();
            }
        };
        match documents.first().map(yaml::Document::to_json) {
            Some(Value::Object(params)) => vec![params],
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_object).cloned().collect(),
            _ => Vec::new(),
        }
    }

    fn add_path(&self, params: &mut Map<String, Value>, prefix: &str, folder: &str, file: Option<&str>) {
        let base = last_of(folder);
        let segments: Vec<&str> = folder.split('/').filter(|part| !part.is_empty()).collect();
        if let Language::Go { .. } = self.language {
            let mut path = json!({
                "path": folder, "basename": base, "basenameNormalized": as_name(base), "segments": segments,
            });
            if let (Some(file), Some(path)) = (file, path.as_object_mut()) {
                path.insert("filename".to_owned(), json!(file));
                path.insert("filenameNormalized".to_owned(), json!(as_name(file)));
            }
            let target = if prefix.is_empty() {
                &mut *params
            } else {
                match params.entry(prefix).or_insert_with(|| json!({})) {
                    Value::Object(inner) => inner,
                    _ => return,
                }
            };
            target.insert("path".to_owned(), path);
            return;
        }
        let start = if prefix.is_empty() { "path".to_owned() } else { format!("{prefix}.path") };
        let mut add = |end: &str, value: &str| params.insert(format!("{start}{end}"), json!(value));
        add("", folder);
        add(".basename", base);
        add(".basenameNormalized", &as_name(base));
        if let Some(file) = file {
            add(".filename", file);
            add(".filenameNormalized", &as_name(file));
        }
        for (index, segment) in segments.iter().enumerate() {
            add(&format!("[{index}]"), segment);
        }
    }

    /// Every one of the first with every one of the second, which may refer to the first's parameters.
    fn matrix(&mut self, settings: &Value, field: &str) -> Vec<Element> {
        let Some([first, second]) = settings["generators"].as_array().and_then(|all| all.first_chunk::<2>()) else {
            self.lacks(field, "it has not two generators");
            return Vec::new();
        };
        let mut elements = Vec::new();
        for left in self.one(first, &format!("{field}.generators[0]")) {
            let at = format!("{field}.generators[1]");
            let second = match fill(second, &Value::Object(left.params.clone()), self.language) {
                Ok(second) => second,
                // It may be that of its own template, or of values that it gives itself.
                Err(_) => second.clone(),
            };
            for right in self.one(&second, &at) {
                let mut params = left.params.clone();
                crate::values::merge(&mut params, &right.params);
                elements.push(Element {
                    params,
                    clusters: both(left.clusters.clone(), right.clusters),
                    template: right.template.or_else(|| left.template.clone()),
                });
            }
        }
        elements
    }

    /// Those of the first, with what others say of the same keys.
    fn merge(&mut self, settings: &Value, field: &str) -> Vec<Element> {
        let keys: Vec<&str> =
            settings["mergeKeys"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let generators = settings["generators"].as_array().cloned().unwrap_or_default();
        let mut generators = generators.iter().enumerate();
        let Some((_, base)) = generators.next() else {
            self.lacks(field, "it has no generators");
            return Vec::new();
        };
        let mut elements = self.one(base, &format!("{field}.generators[0]"));
        for (index, generator) in generators {
            let at = format!("{field}.generators[{index}]");
            for over in self.one(generator, &at) {
                let value = |element: &Element, key: &str| find_flat(&Value::Object(element.params.clone()), key);
                let open = |element: &Element| {
                    keys.iter()
                        .any(|key| value(element, key).is_some_and(|value| crate::text::has_mark(&as_text(&value))))
                };
                if elements.iter().any(open) || open(&over) {
                    self.lacks(&at, "it goes by a value that only each cluster has: write it as `parameters` of the target for the clusters that it is for");
                    continue;
                }
                for element in &mut elements {
                    if keys.iter().all(|key| value(element, key) == value(&over, key)) {
                        crate::values::merge(&mut element.params, &over.params);
                    }
                }
            }
        }
        elements
    }
}

fn both(a: Option<Value>, b: Option<Value>) -> Option<Value> {
    match (a, b) {
        (Some(Value::Object(mut a)), Some(Value::Object(b))) => {
            for (key, value) in b {
                match (a.get_mut(&key), value) {
                    (Some(Value::Object(there)), Value::Object(more)) => there.extend(more),
                    (Some(Value::Array(there)), Value::Array(more)) => there.extend(more),
                    (_, value) => {
                        a.insert(key, value);
                    }
                }
            }
            Some(Value::Object(a))
        }
        (a, b) => a.or(b),
    }
}

/// Some pattern means it, and none that excludes does.
fn is_meant(rules: &Value, scope: WildcardScope) -> impl Fn(&&String) -> bool + use<> {
    let rules = rules.as_array().into_iter().flatten();
    let glob = |rule: &Value| Some((rule["exclude"] == true, Glob::new(rule["path"].as_str()?, scope)));
    let (out, into): (Vec<_>, Vec<_>) = rules.filter_map(glob).partition(|(is_excluded, _)| *is_excluded);
    let any = |globs: &[(bool, Glob)], path: &str| globs.iter().any(|(_, glob)| glob.matches(path));
    move |path: &&String| any(&into, path) && !any(&out, path)
}

/// Every folder and every file, in order. Hidden folders are none for Argo CD.
fn list<F: Files>(files: &F, folder: &str, folders: &mut Vec<String>, paths: &mut Vec<String>) {
    let Ok(Listing::Folder(entries)) = files.list(folder) else { return };
    for entry in entries {
        let path = join(folder, &entry.name);
        if folders.len() + paths.len() >= PLACES_MAX {
            return;
        }
        if !entry.is_folder {
            paths.push(path);
        } else if !entry.name.starts_with('.') && is_within(&path, folder) {
            folders.push(path.clone());
            list(files, &path, folders, paths);
        }
    }
}

/// By a Kubernetes selector over parameters in place of labels.
fn is_selected(selector: &Value, element: &Element) -> bool {
    let params = Value::Object(element.params.clone());
    let value = |key: &str| find_flat(&params, key).map(|value| as_text(&value));
    let labels = selector["matchLabels"].as_object().into_iter().flatten();
    let mut labels = labels.map(|(key, wanted)| value(key).as_deref() == wanted.as_str());
    let expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    let mut expressions = expressions.map(|one| {
        let found = one["key"].as_str().and_then(value);
        let values = || one["values"].as_array().into_iter().flatten().filter_map(Value::as_str);
        let is_listed = found.as_deref().is_some_and(|found| values().any(|value| value == found));
        match one["operator"].as_str() {
            Some("In") => is_listed,
            Some("NotIn") => !is_listed,
            Some("Exists") => found.is_some(),
            Some("DoesNotExist") => found.is_none(),
            _ => false,
        }
    });
    labels.all(|holds| holds) && expressions.all(|holds| holds)
}
