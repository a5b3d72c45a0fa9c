//! A source that is a chart: its values from everywhere, and what Helm is asked.

use std::collections::BTreeMap;

use bellwether_render::{Files, Found};
use serde_json::{Map, Value, json};

use super::source::{FromGit, Moving, is_argo};
use super::{Application, Argo};
use crate::draft::{Draft, Theirs};
use crate::gather::find;
use crate::made::Asked;
use crate::paths::{join, normal};
use crate::report::Effect;
use crate::text::{as_template, has_mark, to_template, typed};
use crate::values::{merge, read_values, set_path};
use crate::view::Changes;

impl<F: Files> Argo<'_, F> {
    pub(super) fn chart(&mut self, moving: Moving<'_, F>, references: &BTreeMap<String, FromGit>) {
        let Moving { application, source, mut draft, files } = moving;
        let empty = json!({});
        let helm = find(source, &["helm"]).unwrap_or(&empty);
        let mut asked = Map::new();
        let name = self.release_name(application, helm, &draft);
        asked.insert("release".to_owned(), json!(name));
        if let Some(namespace) = helm["namespace"].as_str().filter(|namespace| !namespace.is_empty()) {
            draft.namespace = Some(namespace.to_owned());
        }
        if helm["skipCrds"] == true {
            asked.insert("includeCrds".to_owned(), json!(false));
        }
        // Argo CD asks no cluster while it renders, and templates see nothing.
        asked.insert("lookup".to_owned(), json!("empty"));
        for field in ["kubeVersion", "apiVersions"] {
            asked.extend(find(helm, &[field]).map(|value| (field.to_owned(), to_template(value))));
        }
        let may_lack = helm["ignoreMissingValueFiles"] == true;
        let mut paths = Vec::new();
        for file in helm["valueFiles"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            match self.values_file(application, file, &draft, references) {
                Some(path)
                    if may_lack
                        && !has_mark(&path)
                        && files.as_ref().is_some_and(|files| !is_file(&**files, &path)) =>
                {
                    self.say(application, Effect::Differs, "source.helm.ignoreMissingValueFiles", format!("`{path}` is not there and was left out: a file that is missing is an error here, so add it to `valuesFiles` when there is one"));
                }
                Some(path) => paths.push(as_template(&path)),
                None => {}
            }
        }
        if may_lack && files.is_none() {
            self.say(
                application,
                Effect::Todo,
                "source.helm.ignoreMissingValueFiles",
                "a file that is missing is an error here: take those that do not exist out of `valuesFiles`",
            );
        }
        if !paths.is_empty() {
            asked.insert("valuesFiles".to_owned(), json!(paths));
        }
        let values = self.values(application, helm, &draft, files.as_deref());
        if !values.is_empty() {
            asked.insert("values".to_owned(), to_template(&Value::Object(values)));
        }
        if files.is_some() {
            let asked = Asked {
                folder: draft.path.clone(),
                render: json!({"kind": "helm", "helm": asked}),
                name: name.clone(),
                namespace: draft.namespace.clone(),
                changes: Changes::default(),
            };
            draft.theirs = Ok(Theirs { asked: asked.clone(), ..Theirs::default() });
            if application.clusters.is_some() {
                draft.theirs = Err("what it says of its cluster is known in clusters only".to_owned());
            }
            draft.helm = asked.render["helm"].as_object().cloned();
            let is_open =
                draft.helm.as_ref().is_some_and(|helm| Value::Object(helm.clone()).to_string().contains("${cluster."));
            if !is_open
                && let Some(made) = self.made(application, &draft, &asked)
                && self.nested(application, &made)
            {
                let others = made.objects.iter().any(|object| !is_argo(object));
                if !others {
                    return;
                }
                self.say(application, Effect::None, "source.path", "the chart has Applications beside other objects: take them out of it, as nobody acts on them in a cluster without Argo CD");
            }
        } else {
            draft.helm = Some(asked);
        }
        self.collected.drafts.push(draft);
    }

    fn release_name(&mut self, application: &Application, helm: &Value, draft: &Draft) -> String {
        let own = application.value["metadata"]["name"].as_str().unwrap_or_default();
        let wanted = helm["releaseName"].as_str().filter(|name| !name.is_empty()).unwrap_or(own);
        if has_mark(wanted) {
            self.say(application, Effect::Differs, "source.helm.releaseName", format!("releases had their cluster in their names, and a target has one name for all: it is `{}` now, and objects that are named after the release are made anew under that name", draft.name));
            return crate::text::as_name(&draft.name);
        }
        wanted.to_owned()
    }

    /// From the repo's root on.
    fn values_file(
        &mut self,
        application: &Application,
        file: &str,
        draft: &Draft,
        references: &BTreeMap<String, FromGit>,
    ) -> Option<String> {
        if file.contains("://") {
            self.say(
                application,
                Effect::None,
                "source.helm.valueFiles",
                format!("`{file}` is fetched by nobody: commit it to the repo"),
            );
            return None;
        }
        if file.starts_with('$') {
            let (name, path) = file.split_once('/').unwrap_or((file, ""));
            let Some(reference) = references.get(name) else {
                self.say(
                    application,
                    Effect::None,
                    "source.helm.valueFiles",
                    format!("`{name}` is no source of the Application"),
                );
                return None;
            };
            if reference.repo != draft.repo || reference.reference != draft.reference {
                let sentence = format!(
                    "`{file}` is in repo `{}` and the chart is in `{}`: a target reads one repo, so write the values under `render.helm.values`, or commit the chart beside them",
                    reference.repo, draft.repo
                );
                self.say(application, Effect::None, "source.helm.valueFiles", sentence);
                return None;
            }
            return normal(path);
        }
        match file.strip_prefix('/') {
            Some(path) => normal(path),
            None => normal(&join(&draft.path, file)),
        }
    }

    /// Files' contents, inline values and parameters, each over the one before.
    fn values(
        &mut self,
        application: &Application,
        helm: &Value,
        draft: &Draft,
        files: Option<&F>,
    ) -> Map<String, Value> {
        let mut values = Map::new();
        if let Some(Value::Object(inline)) = find(helm, &["valuesObject"]) {
            merge(&mut values, inline);
        } else if let Some(text) = helm["values"].as_str().filter(|text| !text.trim().is_empty()) {
            match read_values(text) {
                Some(Value::Object(inline)) => merge(&mut values, &inline),
                _ => self.say(
                    application,
                    Effect::None,
                    "source.helm.values",
                    "it is no map of YAML: write it under `render.helm.values`",
                ),
            }
        }
        for one in helm["fileParameters"].as_array().into_iter().flatten() {
            let (name, path) = (one["name"].as_str().unwrap_or_default(), one["path"].as_str().unwrap_or_default());
            let path = normal(&join(&draft.path, path)).unwrap_or_default();
            let found = files.map(|files| files.read(&path, 1 << 20));
            match found {
                Some(Ok(Found::File(bytes))) => {
                    let text = String::from_utf8_lossy(&bytes).into_owned();
                    set_path(&mut values, name, Value::from(text));
                    self.say(
                        application,
                        Effect::Differs,
                        "source.helm.fileParameters",
                        format!("what `{path}` says now stands in `render.helm.values`: change it there"),
                    );
                }
                _ => self.say(
                    application,
                    Effect::None,
                    "source.helm.fileParameters",
                    format!("`{path}` is not among these files: write what it says under `render.helm.values`"),
                ),
            }
        }
        for one in helm["parameters"].as_array().into_iter().flatten() {
            let (name, value) = (one["name"].as_str().unwrap_or_default(), one["value"].as_str().unwrap_or_default());
            let value = if one["forceString"] == true { Value::from(value) } else { parameter(value) };
            set_path(&mut values, name, value);
        }
        if Value::Object(values.clone()).to_string().contains("ARGOCD_") {
            self.say(application, Effect::None, "source.helm", "variables of Argo CD's build (`$ARGOCD_…`) are not filled in: write the values, or `${cluster.name}` and parameters");
        }
        values
    }
}

fn is_file<F: Files>(files: &F, path: &str) -> bool {
    matches!(files.read(path, 1 << 22), Ok(Found::File(_) | Found::TooLarge))
}

/// As `--set` reads a value.
fn parameter(text: &str) -> Value {
    match text.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
        Some("") => json!([]),
        Some(items) => Value::Array(items.split(',').map(|item| typed(item.trim())).collect()),
        None if text == "null" => Value::Null,
        None => typed(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_read_as_helm_reads_them() {
        assert_eq!(parameter("{a,2}"), json!(["a", 2]));
        assert_eq!((parameter("1.10"), parameter("true")), (json!("1.10"), json!(true)));
    }
}
