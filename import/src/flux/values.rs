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
        let mut values = Map::new();
        let mut settings = Settings::default();
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
            if !target.is_empty() {
                set(&mut settings, target, found, from["literal"] == true);
            } else if let Some(Value::Object(read)) = read_values(found) {
                merge(&mut values, &read);
            }
            entry.add(Remark::note(
                &field,
                format!("what {kind} `{name}` says now stands in `render.helm` of the target: change it there"),
            ));
        }
        if let Some(Value::Object(inline)) = find(object.spec(), &["values"]) {
            merge(&mut values, inline);
        }
        (values, settings)
    }
}

/// As Flux tells Helm: what stands in quotation marks is a text, and what is literal is one as a whole.
fn set(settings: &mut Settings, path: &str, text: &str, is_literal: bool) {
    let is_quoted = |quote: char| text.starts_with(quote) && text.ends_with(quote);
    if is_literal {
        settings.texts.push((path.replace('\\', "\\\\").replace(',', "\\,"), whole(text)));
    } else if is_quoted('\'') || is_quoted('"') {
        settings.texts.push((path.to_owned(), text.trim_matches(['\'', '"']).to_owned()));
    } else {
        settings.typed.push((path.to_owned(), text.to_owned()));
    }
}
