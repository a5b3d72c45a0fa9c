//! One source of an Application: a folder, an overlay or a chart (see `chart`), and the target that deploys it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bellwether_render::{Files, Fills, Listed, Listing};
use serde_json::{Map, Value, json};

use super::application::DEPTH_MAX;
use super::{Application, Argo, GROUP, KINDS, LEFT_OUT};
use crate::draft::{Draft, OverlayDraft, Theirs};
use crate::flux::chart_ref;
use crate::gather::{Object, find};
use crate::globs::{Glob, WildcardScope};
use crate::kustomization::{Additions, Folder, Under, look_at, merged};
use crate::made::{Given, Made, NotMade, RenderRequest, render};
use crate::paths::{folder_of, last_of, normal};
use crate::report::Effect;
use crate::text::{has_mark, to_template};
use crate::view::Changes;

/// A commit of a repo.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct FromGit {
    pub(crate) repo: String,
    pub(crate) reference: Value,
    pub(crate) is_own: bool,
}

/// A source on its way to a target.
pub(super) struct Moving<'a, F> {
    pub(super) application: &'a Application,
    pub(super) source: &'a Value,
    pub(super) draft: Draft,
    pub(super) files: Option<Arc<F>>,
}

impl<F: Files> Argo<'_, F> {
    /// Which commit of which repo a source in Git is.
    pub(super) fn reference(&mut self, application: &Application, source: &Value) -> FromGit {
        let url = source["repoURL"].as_str().unwrap_or_default();
        let repo = self.collected.repos.ensure(url, None);
        let is_own = self.is_own(url);
        if is_own && self.options.url.is_some() {
            self.collected.own = Some(repo.clone());
        }
        let revision = source["targetRevision"].as_str().unwrap_or_default();
        let branch = self.options.branch.as_deref().filter(|_| is_own).unwrap_or("main");
        if revision.is_empty() || revision == "HEAD" {
            self.say(application, Effect::Todo, "source.targetRevision", format!("`HEAD` is whatever branch the host shows first, and a target names one: `{branch}` stands there, correct it if it is another"));
            return FromGit { repo, reference: json!({ "branch": branch }), is_own };
        }
        FromGit { repo, reference: git_ref(revision), is_own }
    }

    pub(super) fn source(
        &mut self,
        application: &Application,
        source: &Value,
        references: &BTreeMap<String, FromGit>,
        mut draft: Draft,
    ) {
        self.mind_marks(application, "source", source);
        for field in ["repoURL", "path", "targetRevision", "chart"] {
            if source[field].as_str().is_some_and(has_mark) {
                self.say(application, Effect::None, &format!("source.{field}"), "it is another for each cluster, and that of a target is one for all: write a target for each, or choose by cluster in `valuesFiles` and `parameters`");
                return;
            }
        }
        if find(source, &["plugin"]).is_some() || find(source, &["directory", "jsonnet"]).is_some() {
            return;
        }
        let url = source["repoURL"].as_str().unwrap_or_default();
        let chart = source["chart"].as_str().filter(|chart| !chart.is_empty());
        let revision = source["targetRevision"].as_str().filter(|revision| !revision.is_empty());
        if let Some(chart) = chart {
            self.packed(application, source, references, draft, (url, chart, revision));
            return;
        }
        let reference = if url.starts_with("oci://") {
            let repo = self.collected.repos.ensure(url, None);
            FromGit { repo, reference: json!({ "tag": revision.unwrap_or("latest") }), is_own: false }
        } else {
            self.reference(application, source)
        };
        self.collected.report[application.entry].became("Repo", &reference.repo);
        draft.repo.clone_from(&reference.repo);
        draft.reference = reference.reference.clone();
        let Some(path) = normal(source["path"].as_str().unwrap_or_default()) else {
            self.say(application, Effect::None, "source.path", "it leads out of the repo: correct it");
            return;
        };
        draft.path = path;
        let own = reference.is_own.then(|| reference.repo.clone());
        let files = self.workspace.checkout(&reference.repo, own.as_deref());
        let folder = files.as_ref().map_or(Folder::Absent, |files| look_at(&**files, &draft.path));
        if folder == Folder::Absent {
            draft.theirs = Err(format!("`{}` is not among these files", draft.path));
        } else if reference.is_own && self.collected.own.is_none() {
            self.collected.own = Some(reference.repo.clone());
        }
        let files = files.filter(|_| folder != Folder::Absent);
        let moving = Moving { application, source, draft, files };
        let says = |field: &str| find(source, &[field]).is_some();
        match folder {
            Folder::Unreadable { why } => self.say(application, Effect::None, "source.path", why),
            _ if says("helm") => self.chart(moving, references),
            Folder::Chart if !says("directory") && !says("kustomize") => self.chart(moving, references),
            Folder::Kustomize { file, content } if !says("directory") => self.overlay(moving, &file, &content),
            Folder::Absent if says("kustomize") => self.overlay(moving, "", &Value::Null),
            folder => self.directory(moving, folder == Folder::Chart),
        }
    }

    /// A chart of a registry or of a Helm repository.
    fn packed(
        &mut self,
        application: &Application,
        source: &Value,
        references: &BTreeMap<String, FromGit>,
        mut draft: Draft,
        (url, chart, revision): (&str, &str, Option<&str>),
    ) {
        draft.repo = if url.starts_with("http://") || url.starts_with("https://") {
            self.collected.repos.ensure_chart(url, chart)
        } else {
            let registry = url.trim_start_matches("oci://").trim_end_matches('/');
            self.collected.repos.ensure(&format!("oci://{registry}/{chart}"), None)
        };
        draft.reference = chart_ref(revision);
        self.collected.report[application.entry].became("Repo", &draft.repo);
        let files = self.workspace.checkout(&draft.repo, None);
        self.chart(Moving { application, source, draft, files }, references);
    }

    fn overlay(&mut self, moving: Moving<'_, F>, file: &str, content: &Value) {
        let Moving { application, source, mut draft, files } = moving;
        let empty = json!({});
        let kustomize = to_template(find(source, &["kustomize"]).unwrap_or(&empty), Fills::ClustersOwn);
        let additions = additions(&kustomize);
        if !additions.is_empty() {
            self.say(
                application,
                Effect::Note,
                "source.kustomize",
                "it stands in the overlay that is the target's path",
            );
        }
        let mut without = Vec::new();
        if files.is_some() {
            let asked = RenderRequest {
                repo: draft.repo.clone(),
                folder: draft.path.clone(),
                render: json!({"kind": "kustomize"}),
                name: draft.name.clone(),
                namespace: draft.namespace.clone(),
                changes: Changes::with(file, &merged(content, &additions)),
            };
            draft.theirs = Ok(Theirs { asked: asked.clone(), ..Theirs::default() });
            if let Some(made) = self.made(application, &asked)
                && self.nested(application, &made)
            {
                if made.objects.iter().all(is_argo) {
                    return;
                }
                without.push(LEFT_OUT);
                drop_argo(&mut draft);
            }
        }
        if !additions.is_empty() || !without.is_empty() {
            draft.overlay = Some(OverlayDraft { under: Under::Folder, additions, without, home: None });
        }
        self.collected.drafts.push(draft);
    }

    #[expect(clippy::too_many_lines, reason = "each part is about another field of it")]
    fn directory(&mut self, moving: Moving<'_, F>, has_chart: bool) {
        let Moving { application, source, mut draft, files } = moving;
        let is_deep = find(source, &["directory", "recurse"]) == Some(&json!(true));
        let pattern = |field: &str| {
            let pattern =
                find(source, &["directory", field]).and_then(Value::as_str).filter(|text| !text.is_empty())?;
            Some(Glob::new(pattern, WildcardScope::Path))
        };
        let (include, exclude) = (pattern("include"), pattern("exclude"));
        let Some(files) = files else {
            if !is_deep {
                self.say(
                    application,
                    Effect::Differs,
                    "source.directory.recurse",
                    "a target reads folders below as well: see whether there are any",
                );
            }
            for (field, pattern) in [("include", include), ("exclude", exclude)] {
                if pattern.is_some() {
                    self.say(application, Effect::None, &format!("source.directory.{field}"), "every manifest of the folder is deployed: keep others elsewhere, or list what is deployed in a kustomization");
                }
            }
            self.say(application, Effect::Todo, "source.path", draft.not_looked_into());
            self.collected.drafts.push(draft);
            return;
        };
        let is_hidden = |path: &str, _: bool| last_of(path).starts_with('.');
        let all: BTreeSet<String> = match files.manifests(&draft.path, &is_hidden) {
            Ok(found) => found.into_iter().map(|file| file.path).collect(),
            Err(error) => {
                self.say(application, Effect::None, "source.path", error.to_string());
                self.collected.drafts.push(draft);
                return;
            }
        };
        let is_taken = |path: &&String| {
            let below = path[draft.path.len()..].trim_start_matches('/');
            (is_deep || folder_of(path) == draft.path)
                && include.as_ref().is_none_or(|pattern| pattern.matches(below))
                && !exclude.as_ref().is_some_and(|pattern| pattern.matches(below))
        };
        let taken: BTreeSet<String> = all.iter().filter(is_taken).cloned().collect();
        let asked = RenderRequest {
            repo: draft.repo.clone(),
            folder: draft.path.clone(),
            render: json!({"kind": "plain"}),
            name: draft.name.clone(),
            namespace: draft.namespace.clone(),
            changes: Changes { only: Some(taken.clone()), ..Changes::default() },
        };
        draft.theirs = Ok(Theirs { asked: asked.clone(), ..Theirs::default() });
        if taken == all {
            for field in ["include", "exclude"].iter().filter(|field| find(source, &["directory", field]).is_some()) {
                self.say(application, Effect::Differs, &format!("source.directory.{field}"), "every manifest below is deployed, as now: what is to be left out later, write into a `.bellwetherignore`");
            }
            let sentence = if is_deep {
                "nothing to do: folders are read with what is below them"
            } else {
                "there are no manifests in folders below now: if there will be, write `*/` into a `.bellwetherignore`"
            };
            self.say(application, Effect::Note, "source.directory.recurse", sentence);
        } else {
            self.say(
                application,
                Effect::Note,
                "source.directory",
                "the overlay lists the files that are deployed; a new file has to be added there",
            );
        }
        if has_jsonnet(&*files, &draft.path) {
            self.say(application, Effect::None, "source.directory.jsonnet", "there are files of Jsonnet, which is not rendered: commit what they make, or render them in CI and push it as an artifact");
        }
        let mut without = Vec::new();
        if let Some(made) = self.made(application, &asked) {
            if made.objects.is_empty() {
                self.say(
                    application,
                    Effect::None,
                    "source.path",
                    "there are no objects in it, which a target refuses",
                );
            }
            if self.nested(application, &made) {
                if made.objects.iter().all(is_argo) {
                    return;
                }
                without.push(LEFT_OUT);
                drop_argo(&mut draft);
            }
        }
        if taken != all || !without.is_empty() {
            let below = |path: &String| path[draft.path.len()..].trim_start_matches('/').to_owned();
            let under = Under::Listed(taken.iter().map(below).collect());
            draft.overlay = Some(OverlayDraft { under, additions: Additions::default(), without, home: None });
        } else if has_chart || draft_is_kustomize(&*files, &draft.path) {
            draft.kind = Some("plain");
        }
        self.collected.drafts.push(draft);
    }

    /// What it deploys now, and what is to be said of that.
    pub(super) fn made(&mut self, application: &Application, asked: &RenderRequest) -> Option<Made> {
        let own = self.collected.own.clone();
        let made = match render(self.workspace, own.as_deref(), asked, &Given::Nothing) {
            Ok(made) => made,
            Err(NotMade::NotHere { repo }) => {
                let sentence = format!(
                    "nobody looked into what it deploys: `--checkout {repo}=DIR` names a checkout of repo `{repo}`, which it reads files of"
                );
                self.say(application, Effect::Note, "source.path", sentence);
                return None;
            }
            Err(NotMade::Failed(why)) => {
                self.say(application, Effect::None, "source.path", format!("it does not render here: {why}"));
                return None;
            }
        };
        if let Some(taken) = made.taken_for_the_clusters().filter(|_| application.clusters.is_none()) {
            self.say(application, Effect::Differs, "source.path", taken);
        }
        let annotation = |object: &Value, name: &str| {
            object["metadata"]["annotations"][format!("argocd.argoproj.io/{name}")].as_str().map(str::to_owned)
        };
        for (name, effect, sentence) in [
            (
                "hook",
                Effect::Differs,
                "each has its time, and runs when it changes, not at each sync; `SyncFail`, `PreDelete` and `PostDelete` are left out, and named",
            ),
            ("hook-delete-policy", Effect::Note, "nothing to do: it is understood"),
            (
                "sync-options",
                Effect::Differs,
                "`Prune=false` and `Delete=false` are understood, other options are not looked at",
            ),
            (
                "compare-options",
                Effect::None,
                "single fields are not left out: leave what another controller owns out of the manifests",
            ),
            (
                "sync-wave",
                Effect::Note,
                "nothing to do: it is read as the phase of an object, within the phase of its kind",
            ),
        ] {
            let count = made.objects.iter().filter(|object| annotation(object, name).is_some()).count();
            if count > 0 {
                self.say(
                    application,
                    effect,
                    &format!("source.path ({name})"),
                    format!("{count} objects have `argocd.argoproj.io/{name}`: {sentence}"),
                );
            }
        }
        Some(made)
    }

    /// Applications that it deploys.
    pub(super) fn nested(&mut self, application: &Application, made: &Made) -> bool {
        let nested: Vec<&Value> = made.objects.iter().filter(|object| is_argo(object)).collect();
        if nested.is_empty() {
            return false;
        }
        self.say(
            application,
            Effect::Note,
            "source.path",
            format!("{} objects of Argo CD in it are moved by themselves", nested.len()),
        );
        if application.depth < DEPTH_MAX {
            let (file, line) = {
                let entry = &self.collected.report[application.entry];
                (entry.file.clone(), entry.line)
            };
            for value in nested {
                let made = Object { file: file.clone(), line, value: value.clone() };
                let is_it = |raw: &&Object| {
                    raw.kind() == made.kind() && raw.name() == made.name() && raw.namespace() == made.namespace()
                };
                let written = self.raw.iter().find(is_it).cloned();
                match written {
                    // It has its own line of the report, and is moved as its file says.
                    Some(written) if written.value["spec"] == made.value["spec"] => {
                        self.object(&written, application.depth + 1);
                    }
                    Some(written) => {
                        let sentence = format!(
                            "`{}` says something else in {} than what is deployed of it: import what is deployed, by `kubectl get -o yaml`",
                            made.name(),
                            written.file
                        );
                        self.say(application, Effect::None, "source.path", sentence);
                    }
                    None => self.object(&made, application.depth + 1),
                }
            }
        }
        true
    }
}

fn drop_argo(draft: &mut Draft) {
    if let Ok(theirs) = &mut draft.theirs {
        theirs.without.push(LEFT_OUT);
    }
}

fn has_jsonnet<F: Files>(files: &F, path: &str) -> bool {
    let is_one = |entry: &Listed| entry.name.ends_with(".jsonnet");
    matches!(files.list(path), Ok(Listing::Folder(entries)) if entries.iter().any(is_one))
}

fn draft_is_kustomize<F: Files>(files: &F, path: &str) -> bool {
    matches!(look_at(files, path), Folder::Kustomize { .. })
}

pub(super) fn is_argo(object: &Value) -> bool {
    crate::check::group_of(object) == GROUP && object["kind"].as_str().is_some_and(|kind| KINDS.contains(&kind))
}

/// A branch, a tag, a range or a commit: Argo CD does not say which.
fn git_ref(revision: &str) -> Value {
    let is_hex = revision.len() == 40 && revision.bytes().all(|byte| byte.is_ascii_hexdigit());
    let numbers = revision.trim_start_matches('v');
    let is_version = numbers.split(['-', '+']).next().is_some_and(|numbers| {
        let parts: Vec<&str> = numbers.split('.').collect();
        parts.len() >= 2 && parts.iter().all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
    });
    let is_range = revision.contains(['*', '^', '~', '>', '<', '=', ' '])
        || (numbers.ends_with(".x") && numbers.starts_with(|c: char| c.is_ascii_digit()));
    match (revision.strip_prefix("refs/heads/"), revision.strip_prefix("refs/tags/")) {
        (Some(branch), _) => json!({ "branch": branch }),
        (_, Some(tag)) => json!({ "tag": tag }),
        _ if is_hex => json!({ "commit": revision }),
        _ if is_range => json!({ "semver": revision }),
        _ if is_version => json!({ "tag": revision }),
        _ => json!({ "branch": revision }),
    }
}

fn additions(kustomize: &Value) -> Additions {
    let mut additions = Additions::default();
    for field in ["namePrefix", "nameSuffix", "namespace", "patches", "components", "commonAnnotations"] {
        additions.set(field, find(kustomize, &[field]));
    }
    let images = kustomize["images"].as_array().into_iter().flatten().filter_map(Value::as_str).map(image);
    additions.set("images", Some(&Value::Array(images.collect())));
    let replicas = kustomize["replicas"].as_array().into_iter().flatten().map(|one| {
        let count = one["count"].as_i64().or_else(|| one["count"].as_str().and_then(|count| count.parse().ok()));
        json!({"name": one["name"], "count": count.unwrap_or_default()})
    });
    additions.set("replicas", Some(&Value::Array(replicas.collect())));
    match find(kustomize, &["commonLabels"]) {
        Some(pairs) if kustomize["labelWithoutSelector"] == true => {
            let with_templates = kustomize["labelIncludeTemplates"] == true;
            let labels = json!([{"pairs": pairs, "includeSelectors": false, "includeTemplates": with_templates}]);
            additions.set("labels", Some(&labels));
        }
        labels => additions.set("commonLabels", labels),
    }
    additions
}

/// `name=new:tag@digest`, each part but the name as it may be.
fn image(text: &str) -> Value {
    let (name, new) = match text.split_once('=') {
        Some((name, new)) => (Some(name), new),
        None => (None, text),
    };
    let (new, digest) = new.split_once('@').map_or((new, None), |(new, digest)| (new, Some(digest)));
    let colon = new.rfind(':').filter(|colon| !new[*colon..].contains('/'));
    let (new, tag) = colon.map_or((new, None), |colon| (&new[..colon], Some(&new[colon + 1..])));
    let mut image = Map::from_iter([("name".to_owned(), json!(name.unwrap_or(new)))]);
    if name.is_some_and(|name| name != new) {
        image.insert("newName".to_owned(), json!(new));
    }
    image.extend(tag.map(|tag| ("newTag".to_owned(), json!(tag))));
    image.extend(digest.map(|digest| ("digest".to_owned(), json!(digest))));
    Value::Object(image)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn revisions_and_images_are_read_as_argo_cd_reads_them() {
        assert_eq!(git_ref("main"), json!({"branch": "main"}));
        assert_eq!(git_ref("v1.2.3"), json!({"tag": "v1.2.3"}));
        assert_eq!(git_ref("1.2.*"), json!({"semver": "1.2.*"}));
        assert_eq!(git_ref("release-1.x"), json!({"branch": "release-1.x"}));
        assert_eq!(git_ref(&"a".repeat(40)), json!({"commit": "a".repeat(40)}));
        assert_eq!(
            image("nginx=reg:5000/nginx:1.2"),
            json!({"name": "nginx", "newName": "reg:5000/nginx", "newTag": "1.2"})
        );
        assert_eq!(image("reg:5000/nginx@sha256:00"), json!({"name": "reg:5000/nginx", "digest": "sha256:00"}));
    }
}
