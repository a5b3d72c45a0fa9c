//! Values that stand in other objects: variables of a Kustomization and values of a HelmRelease.

use std::collections::BTreeMap;

use bellwether_render::Files;
use serde_json::{Map, Value};

use super::{Flux, Inherited};
use crate::gather::{Object, find};
use crate::report::{Entry, Remark};
use crate::values::{Settings, merge, read_values, whole};

/// What is known of a Kustomization's variables.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Variables {
    /// `None` where nothing is substituted.
    pub(crate) values: Option<BTreeMap<String, String>>,
    /// Some come from what only the cluster has.
    pub(crate) is_open: bool,
}

impl<F: Files> Flux<'_, F> {
    /// Later ones over earlier ones, and those that stand in the Kustomization over all.
    pub(super) fn variables(&self, object: &Object, inherited: &Inherited, entry: &mut Entry) -> Variables {
        let Some(post_build) = find(object.spec(), &["postBuild"]) else { return Variables::default() };
        let mut variables = Variables { values: Some(BTreeMap::new()), is_open: false };
        let values = variables.values.get_or_insert_default();
        for (index, from) in post_build["substituteFrom"].as_array().into_iter().flatten().enumerate() {
            let field = format!("spec.postBuild.substituteFrom[{index}]");
            let (kind, name) = (from["kind"].as_str().unwrap_or_default(), from["name"].as_str().unwrap_or_default());
            match self.data_of(kind, name, object, inherited) {
                Some(data) => {
                    let texts =
                        data.iter().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.replace('\n', ""))));
                    values.extend(texts);
                    entry.add(Remark::note(
                        &field,
                        format!("what {kind} `{name}` says now stands in `parameters` of the target: change it there"),
                    ));
                }
                None => {
                    variables.is_open = true;
                    entry.add(Remark::none(&field, format!("{kind} `{name}` is read by no hub: write its values under `parameters` of the target; secrets do not belong there")));
                }
            }
        }
        for (name, value) in post_build["substitute"].as_object().into_iter().flatten() {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            values.insert(name.clone(), text.replace('\n', ""));
        }
        // Flux substitutes nothing then, not even by an empty text.
        if values.is_empty() && !variables.is_open {
            variables.values = None;
        }
        variables
    }

    /// Of a ConfigMap that is among the files. Secrets are not looked into.
    fn data_of(&self, kind: &str, name: &str, from: &Object, inherited: &Inherited) -> Option<Map<String, Value>> {
        if kind != "ConfigMap" {
            return None;
        }
        let map = self.find(("", kind), name, from.namespace(), from, &inherited.scope)?;
        map.value["data"].as_object().cloned()
    }

    /// A release's values, merged as Flux merges them, and what is set over all of them.
    pub(super) fn release_values(
        &self,
        object: &Object,
        inherited: &Inherited,
        entry: &mut Entry,
    ) -> (Map<String, Value>, Settings) {
        let mut steps = Vec::new();
        for (index, from) in object.spec()["valuesFrom"].as_array().into_iter().flatten().enumerate() {
            let field = format!("spec.valuesFrom[{index}]");
            let text = |field: &str| from[field].as_str().unwrap_or_default();
            let (kind, name) = (text("kind"), text("name"));
            let key = Some(text("valuesKey")).filter(|key| !key.is_empty()).unwrap_or("values.yaml");
            let data = self.data_of(kind, name, object, inherited);
            let Some(found) = data.as_ref().and_then(|data| data.get(key)).and_then(Value::as_str) else {
                let sentence = format!(
                    "`{key}` of {kind} `{name}` is read by no hub: write its values under `render.helm.values`, or into a file that `valuesFiles` names; secrets do not belong there"
                );
                entry.add(Remark::none(&field, sentence));
                continue;
            };
            let target = text("targetPath");
            let step = match (target, read_values(found)) {
                ("", Some(Value::Object(read))) => Step::File(read),
                ("", _) => Step::File(Map::new()),
                _ => Step::Set(Setting::read(&field, target, found, from["literal"] == true)),
            };
            let note = format!("what {kind} `{name}` says now stands in `render.helm` of the target: change it there");
            steps.push((step, Remark::note(&field, note)));
        }
        let inline = find(object.spec(), &["values"]).and_then(Value::as_object).cloned().unwrap_or_default();
        in_order(&steps, &inline, entry)
    }
}

/// An entry of `valuesFrom`, in whose order Flux goes: what a path sets is over what is before it, and a file over what is
/// before that. In a target what is set is over all files.
enum Step {
    File(Map<String, Value>),
    Set(Setting),
}

struct Setting {
    field: String,
    path: String,
    text: String,
    is_text: bool,
}

impl Setting {
    /// As Flux tells Helm: what stands in quotation marks is a text, and what is literal is one as a whole.
    fn read(field: &str, path: &str, text: &str, is_literal: bool) -> Self {
        let is_quoted = |quote: char| text.starts_with(quote) && text.ends_with(quote);
        let (path, text, is_text) = if is_literal {
            (path.replace('\\', "\\\\").replace(',', "\\,"), whole(text), true)
        } else if is_quoted('\'') || is_quoted('"') {
            (path.to_owned(), text.trim_matches(['\'', '"']).to_owned(), true)
        } else {
            (path.to_owned(), text.to_owned(), false)
        };
        Self { field: format!("{field}.targetPath"), path, text, is_text }
    }

    /// Helm reads `1,other=2` as two of them.
    fn is_several(&self) -> bool {
        let is_list = self.text.starts_with('{') && self.text.ends_with('}');
        !is_list && self.text.replace("\\,", "").contains(',')
    }

    /// The names on the way to what it sets, if it is one value that is reached by names alone.
    fn names(&self) -> Option<Vec<&str>> {
        let is_by_names = !self.is_several() && !self.path.contains(['[', '\\', ',', '=', '{']);
        is_by_names.then(|| self.path.split('.').collect())
    }

    /// One sets what the other sets, or a part of it.
    fn meets(&self, other: &Self) -> bool {
        let is_in = |path: &str, above: &str| {
            path.strip_prefix(above).is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
        };
        is_in(&self.path, &other.path) || is_in(&other.path, &self.path)
    }

    /// What values have where it sets something, or in the way to it.
    fn found_in<'v>(&self, values: &'v Map<String, Value>) -> Option<&'v Value> {
        match self.names() {
            Some(names) => value_at(values, &names),
            None if self.is_several() => values.values().next(),
            None => values.get(self.root()),
        }
    }

    /// Under which of the values of a chart it is.
    fn root(&self) -> &str {
        self.path.split(['.', '[']).next().unwrap_or_default()
    }
}

/// What is in the way of a setting.
enum Later {
    Nothing,
    /// Goes over it as a whole.
    Over(&'static str),
    /// May go over it, or not.
    Either(&'static str),
}

fn in_order(
    steps: &[(Step, Remark)],
    inline: &Map<String, Value>,
    entry: &mut Entry,
) -> (Map<String, Value>, Settings) {
    let (mut values, mut settings) = (Map::new(), Settings::default());
    for (index, (step, taken)) in steps.iter().enumerate() {
        let setting = match step {
            Step::File(file) => {
                merge(&mut values, file);
                entry.add(taken.clone());
                continue;
            }
            Step::Set(setting) => setting,
        };
        match later(setting, &steps[index + 1..], inline) {
            Later::Over(what) => {
                entry.add(Remark::note(&setting.field, format!("it is left out, as {what} is over it in Flux")));
                continue;
            }
            Later::Either(what) => entry.add(Remark::differs(
                &setting.field,
                format!(
                    "it is over everything here, and {what} may be over it in Flux, by the order in which it reads them: \
                     set it where it is to have its value, and nowhere else"
                ),
            )),
            Later::Nothing => {}
        }
        entry.add(taken.clone());
        let lines = if setting.is_text { &mut settings.texts } else { &mut settings.typed };
        lines.push((setting.path.clone(), setting.text.clone()));
    }
    merge(&mut values, inline);
    (values, settings)
}

fn later(setting: &Setting, after: &[(Step, Remark)], inline: &Map<String, Value>) -> Later {
    const FILE: &str = "a later file of `valuesFrom`";
    const PATH: &str = "a later path of `valuesFrom`";
    const INLINE: &str = "`spec.values`";
    let mut files = Map::new();
    let mut others = Vec::new();
    for (step, _) in after {
        match step {
            Step::File(file) => merge(&mut files, file),
            Step::Set(other) => others.push(other),
        }
    }
    let names = setting.names();
    let is_at_top = names.as_ref().is_some_and(|names| names.len() == 1);
    // Flux may write into these, and lays them over all in the end: then what is set first wins.
    let is_written = !is_at_top && inline.contains_key(setting.root());
    match (setting.found_in(&files), setting.found_in(inline)) {
        (_, Some(value)) if is_at_top && !value.is_object() => return Later::Over(INLINE),
        (_, Some(_)) => return Later::Either(INLINE),
        (Some(value), None) if names.is_some() && !is_written && !value.is_object() => return Later::Over(FILE),
        (Some(_), None) => return Later::Either(FILE),
        (None, None) => {}
    }
    // Else only a text that comes before what is none is in another order here.
    let is_in_way = |other: &&Setting| setting.meets(other) && (is_written || setting.is_text && !other.is_text);
    match others.into_iter().find(is_in_way) {
        Some(other) if other.path == setting.path && !is_written && names.is_some() && other.names().is_some() => {
            Later::Over(PATH)
        }
        Some(_) => Later::Either(PATH),
        None => Later::Nothing,
    }
}

/// At the end of these names, or in the way to it.
fn value_at<'v>(values: &'v Map<String, Value>, names: &[&str]) -> Option<&'v Value> {
    let (name, rest) = names.split_first()?;
    match values.get(*name)? {
        Value::Object(below) if !rest.is_empty() => value_at(below, rest),
        value => Some(value),
    }
}
