//! A source that is a chart: its values from everywhere, and what Helm is asked.

use std::collections::BTreeMap;
use std::sync::Arc;

use bellwether_render::{Files, Fills, Found};
use serde_json::{Map, Value, json};

use super::source::{FromGit, Moving, is_argo};
use super::{Application, Argo};
use crate::draft::{Draft, Theirs};
use crate::gather::find;
use crate::made::RenderRequest;
use crate::paths::{join, normal};
use crate::report::Effect;
use crate::text::{as_template, has_mark, to_template};
use crate::values::{Settings, read_values, whole};
use crate::view::Changes;

/// A file that Helm gets.
struct HelmFile {
    /// Where it is, if that is not the chart's own repo.
    from: Option<FromGit>,
    path: String,
}

impl HelmFile {
    /// As a target names it.
    fn to_json(&self) -> Value {
        let path = as_template(&self.path, Fills::All);
        match &self.from {
            None => json!(path),
            Some(FromGit { repo, reference, .. }) => json!({"repo": repo, "ref": reference, "path": path}),
        }
    }
}

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
        // Argo CD applies them as all else.
        let crds = if helm["skipCrds"] == true { "skip" } else { "upgrade" };
        asked.insert("crds".to_owned(), json!(crds));
        // Argo CD asks no cluster while it renders, and templates see nothing.
        asked.insert("lookup".to_owned(), json!("empty"));
        for field in ["kubeVersion", "apiVersions"] {
            asked.extend(find(helm, &[field]).map(|value| (field.to_owned(), to_template(value, Fills::All))));
        }
        let paths = self.values_files(application, helm, &draft, files.as_ref(), references);
        if !paths.is_empty() {
            asked.insert("valuesFiles".to_owned(), json!(paths));
        }
        let values = Value::Object(self.values(application, helm));
        let settings = self.settings(application, helm, &draft, files.as_ref(), references);
        self.look_for_variables(application, &json!([values, settings.values()]));
        let mut theirs = asked.clone();
        // Of what it has no parameters for nothing is filled in, but for what says something of the cluster.
        settings.add_to(&mut theirs, |value| as_template(value, Fills::ClustersOwn));
        settings.add_to(&mut asked, |value| as_template(value, draft.fills()));
        if values != json!({}) {
            asked.insert("values".to_owned(), to_template(&values, draft.fills()));
        }
        if files.is_some() {
            let theirs = RenderRequest {
                repo: draft.repo.clone(),
                folder: draft.path.clone(),
                render: json!({"kind": "helm", "helm": theirs}),
                name: name.clone(),
                namespace: draft.namespace.clone(),
                changes: Changes::default(),
            };
            let theirs = theirs.with_values(&values);
            draft.theirs = Ok(Theirs { asked: theirs.clone(), ..Theirs::default() });
            if application.clusters.is_some() {
                draft.theirs = Err("what it says of its cluster is known in clusters only".to_owned());
            }
            let is_open =
                application.clusters.is_some() && Value::Object(asked.clone()).to_string().contains("${cluster.");
            draft.helm = Some(asked);
            if !is_open
                && let Some(made) = self.made(application, &theirs)
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

    fn values_files(
        &mut self,
        application: &Application,
        helm: &Value,
        draft: &Draft,
        files: Option<&Arc<F>>,
        references: &BTreeMap<String, FromGit>,
    ) -> Vec<Value> {
        let may_lack = helm["ignoreMissingValueFiles"] == true;
        let mut paths = Vec::new();
        let mut is_open = false;
        for file in helm["valueFiles"].as_array().into_iter().flatten().filter_map(Value::as_str) {
            let Some(file) = self.helm_file(application, "valueFiles", file, draft, references) else { continue };
            let there = self.files_with(&file, files);
            is_open |= there.is_none();
            if may_lack && !has_mark(&file.path) && there.is_some_and(|there| !is_file(&*there, &file.path)) {
                self.say(application, Effect::Differs, "source.helm.ignoreMissingValueFiles", format!("`{}` is not there and was left out: a file that is missing is an error here, so add it to `valuesFiles` when there is one", file.path));
            } else {
                paths.push(file.to_json());
            }
        }
        if may_lack && is_open {
            self.say(
                application,
                Effect::Todo,
                "source.helm.ignoreMissingValueFiles",
                "a file that is missing is an error here: take those that do not exist out of `valuesFiles`",
            );
        }
        paths
    }

    /// What a path leads to: from the chart's folder on, from the repo's root on, or in another source.
    fn helm_file(
        &mut self,
        application: &Application,
        field: &str,
        file: &str,
        draft: &Draft,
        references: &BTreeMap<String, FromGit>,
    ) -> Option<HelmFile> {
        let (name, path) = file.split_once('/').unwrap_or((file, ""));
        let found = if file.contains("://") {
            Err(format!("`{file}` is fetched by nobody: commit it to the repo"))
        } else if !file.starts_with('$') {
            let path = file.strip_prefix('/').map_or_else(|| join(&draft.path, file), str::to_owned);
            Ok((None, normal(&path)))
        } else {
            let from = references.get(name).ok_or_else(|| format!("`{name}` is no source of the Application"));
            let is_same = |from: &&FromGit| from.repo == draft.repo && from.reference == draft.reference;
            from.map(|from| (Some(from).filter(|from| !is_same(from)).cloned(), normal(path)))
        };
        match found {
            Ok((from, Some(path))) => {
                let is_own = from.as_ref().is_some_and(|from| from.is_own) && is_file(&*self.workspace.files, &path);
                if is_own && self.collected.own.is_none() {
                    self.collected.own = from.as_ref().map(|from| from.repo.clone());
                }
                Some(HelmFile { from, path })
            }
            Ok((_, None)) => {
                self.say(
                    application,
                    Effect::None,
                    &format!("source.helm.{field}"),
                    format!("`{file}` leads out of the repo: correct it"),
                );
                None
            }
            Err(why) => {
                self.say(application, Effect::None, &format!("source.helm.{field}"), why);
                None
            }
        }
    }

    /// The files that one is among, if they are here.
    fn files_with(&self, file: &HelmFile, of_chart: Option<&Arc<F>>) -> Option<Arc<F>> {
        match &file.from {
            None => of_chart.cloned(),
            Some(from) => self.workspace.checkout(&from.repo, self.collected.own.as_deref()),
        }
    }

    fn values(&mut self, application: &Application, helm: &Value) -> Map<String, Value> {
        if let Some(Value::Object(inline)) = find(helm, &["valuesObject"]) {
            return inline.clone();
        }
        let Some(text) = helm["values"].as_str().filter(|text| !text.trim().is_empty()) else { return Map::new() };
        if let Some(Value::Object(inline)) = read_values(text) {
            return inline;
        }
        self.say(
            application,
            Effect::None,
            "source.helm.values",
            "it is no map of YAML: write it under `render.helm.values`",
        );
        Map::new()
    }

    /// Parameters, and files' contents over them.
    fn settings(
        &mut self,
        application: &Application,
        helm: &Value,
        draft: &Draft,
        files: Option<&Arc<F>>,
        references: &BTreeMap<String, FromGit>,
    ) -> Settings {
        let mut settings = Settings::default();
        for one in helm["parameters"].as_array().into_iter().flatten() {
            let (name, value) = (one["name"].as_str().unwrap_or_default(), one["value"].as_str().unwrap_or_default());
            let of_its_type = if one["forceString"] == true { &mut settings.texts } else { &mut settings.typed };
            let expanded = expand(value);
            if expanded != value.replace("$$", "$") && !value.contains(BUILD_VARIABLE) {
                let sentence = format!(
                    "Argo CD takes a `$` in the value of `{name}` for a variable of its build, and has none: `$$` is a `$`"
                );
                self.say(application, Effect::Note, "source.helm.parameters", sentence);
            }
            of_its_type.push((name.to_owned(), parameter(&expanded)));
        }
        for one in helm["fileParameters"].as_array().into_iter().flatten() {
            let (name, path) = (one["name"].as_str().unwrap_or_default(), one["path"].as_str().unwrap_or_default());
            let Some(file) = self.helm_file(application, "fileParameters", path, draft, references) else { continue };
            let found = self.files_with(&file, files).map(|files| files.read(&file.path, 1 << 20));
            let path = file.path;
            match found {
                Some(Ok(Found::File(bytes))) => {
                    settings.texts.push((name.to_owned(), whole(&String::from_utf8_lossy(&bytes))));
                    self.say(
                        application,
                        Effect::Differs,
                        "source.helm.fileParameters",
                        format!("what `{path}` says now stands in `render.helm.setString`: change it there"),
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
        settings
    }

    fn look_for_variables(&mut self, application: &Application, given: &Value) {
        if given.to_string().contains(BUILD_VARIABLE) {
            self.say(application, Effect::None, "source.helm", "variables of Argo CD's build (`$ARGOCD_…`) are not filled in: write the values, or `${cluster.name}` and parameters");
        }
    }
}

fn is_file<F: Files>(files: &F, path: &str) -> bool {
    matches!(files.read(path, 1 << 22), Ok(Found::File(_) | Found::TooLarge))
}

/// What variables that Argo CD sets for a build begin with.
const BUILD_VARIABLE: &str = "ARGOCD_";

/// As Argo CD expands a parameter's value, by the rules of Go's `os.Expand`: `$$` is a `$`, and of a variable that it does not
/// set nothing is left. Those that it sets are left as they are.
fn expand(text: &str) -> String {
    let (mut expanded, mut rest) = (String::with_capacity(text.len()), text);
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        let (name, length) = variable(after);
        match name {
            None if length == 0 => expanded.push('$'),
            Some("$") => expanded.push('$'),
            Some(name) if name.starts_with(BUILD_VARIABLE) => expanded.push_str(&rest[at..=at + length]),
            Some(_) | None => {}
        }
        rest = &after[length..];
    }
    expanded + rest
}

/// The name of a variable after a `$`, and how long what names it is. Without a name that is eaten.
fn variable(after: &str) -> (Option<&str>, usize) {
    let is_special = |byte: u8| b"*#$@!?-0123456789".contains(&byte);
    match after.as_bytes() {
        [b'{', ..] => match after.find('}') {
            None => (None, 1),
            Some(1) => (None, 2),
            Some(end) => (Some(&after[1..end]), end + 1),
        },
        [first, ..] if is_special(*first) => (Some(&after[..1]), 1),
        bytes => {
            let length = bytes.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
            (Some(&after[..length]).filter(|name| !name.is_empty()), length)
        }
    }
}

/// As Argo CD gives it to `--set`: a `,` begins another name in a list alone.
fn parameter(text: &str) -> String {
    if text.starts_with('{') && text.ends_with('}') {
        return text.to_owned();
    }
    let mut cleaned = String::with_capacity(text.len());
    for character in text.chars() {
        if character == ',' && !cleaned.ends_with('\\') {
            cleaned.push('\\');
        }
        cleaned.push(character);
    }
    cleaned
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_expanded_as_argo_cd_expands_them() {
        for (text, expanded) in [
            ("$$2a$$10$$abc", "$2a$10$abc"),
            ("p$w0rd", "p"),
            ("${HOME}/x", "/x"),
            ("a$", "a$"),
            ("a$.b", "a$.b"),
            ("a${", "a"),
            ("a${}b", "ab"),
            ("a$1b", "ab"),
            ("ü$ü", "ü$ü"),
            ("$ARGOCD_APP_NAME-${ARGOCD_APP_REVISION}", "$ARGOCD_APP_NAME-${ARGOCD_APP_REVISION}"),
        ] {
            assert_eq!(expand(text), expanded, "{text}");
        }
    }

    #[test]
    fn parameters_are_given_to_helm_as_argo_cd_gives_them() {
        for (text, given) in [("{a,2}", "{a,2}"), ("a,b", r"a\,b"), (r"a\,b", r"a\,b"), (",", r"\,"), ("1.10", "1.10")]
        {
            assert_eq!(parameter(text), given);
        }
    }
}
