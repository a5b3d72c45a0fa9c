//! Where things come from: each source is a Repo, or a part of what a Repo is.

use bellwether_render::Files;
use jiff::SignedDuration;
use serde_json::{Value, json};

use super::fields;
use super::{Flux, Inherited, SOURCE};
use crate::audit::audit;
use crate::gather::{Object, find};
use crate::paths::normal;
use crate::report::Remark;
use crate::repos::is_one_place;

/// A commit of a Repo, and how paths of it are to be read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Origin {
    pub(crate) repo: String,
    pub(crate) reference: Value,
    /// It is the repository that is read.
    pub(crate) is_own: bool,
    pub(crate) paths: Paths,
    /// It is not among the files, and taken for the repository that is read.
    pub(crate) is_assumed: bool,
}

impl Origin {
    /// What is to be said of where it was found.
    pub(crate) fn remark(&self, field: &str) -> Option<Remark> {
        self.is_assumed.then(|| {
            Remark::todo(
                field,
                format!(
                    "this source is not among the files: it is taken for the repository that was read, Repo `{}`",
                    self.repo
                ),
            )
        })
    }
}

/// How a path of a source becomes one of the repo.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Paths {
    AsTheyAre,
    /// Of an artifact that is put together: folders of it, and those of the repo that they are copies of.
    Copied(Vec<(String, String)>),
}

impl Paths {
    pub(crate) fn find(&self, path: &str) -> Option<String> {
        let path = normal(path)?;
        match self {
            Self::AsTheyAre => Some(path),
            Self::Copied(copies) => copies.iter().find_map(|(to, from)| {
                let rest = if to.is_empty() { Some(path.as_str()) } else { path.strip_prefix(to.as_str()) };
                rest.filter(|rest| to.is_empty() || rest.is_empty() || rest.starts_with('/'))
                    .and_then(|rest| normal(&format!("{from}/{rest}")))
            }),
        }
    }
}

impl<F: Files> Flux<'_, F> {
    /// Tells of a source, and what it is.
    pub(super) fn source(&mut self, object: &Object) -> Option<Origin> {
        let mut entry = object.entry();
        let spec = object.spec();
        let url = object.text(&["spec", "url"]).unwrap_or_default().to_owned();
        let from = match object.kind() {
            "GitRepository" => {
                entry.remarks.extend(audit(spec, fields::GIT));
                if url.starts_with("ssh://") || url.starts_with("git@") {
                    entry.add(Remark::todo(
                        "spec.url",
                        "give the Repo the host's keys (`knownHosts`) and its private key: see docs/sources.md",
                    ));
                }
                Some(self.git(object, &url))
            }
            "OCIRepository" => {
                entry.remarks.extend(audit(spec, fields::OCI));
                let reference = artifact_ref(spec);
                if let Some(filter) = find(spec, &["ref", "semverFilter"]) {
                    entry.add(Remark::none(
                        "spec.ref.semverFilter",
                        format!("tags are not filtered by `{filter}`: narrow the range"),
                    ));
                }
                Some(Origin {
                    repo: self.ensure(&url, object),
                    reference,
                    is_own: false,
                    paths: Paths::AsTheyAre,
                    is_assumed: false,
                })
            }
            "HelmRepository" => {
                entry.remarks.extend(audit(spec, fields::HELM_REPOSITORY));
                entry.add(Remark::note(
                    "spec.url",
                    "each chart of it that a HelmRelease names is a source of its own: see there",
                ));
                None
            }
            kind => {
                let what = if kind == "Bucket" { "a bucket" } else { "this" };
                entry.add(Remark::none("", format!("{what} is no source here: push its files to Git, or as an artifact to a registry, and write a Repo for it")));
                None
            }
        };
        if find(spec, &["suspend"]) == Some(&json!(true)) {
            entry.add(Remark::none(
                "spec.suspend",
                "a Repo cannot be suspended: it is fetched as soon as a target names it",
            ));
        }
        if let Some(from) = &from {
            entry.became("Repo", &from.repo);
        }
        self.tell(entry);
        from
    }

    fn ensure(&mut self, url: &str, object: &Object) -> String {
        let interval = object.text(&["spec", "interval"]).and_then(|text| text.parse::<SignedDuration>().ok());
        let interval = interval.and_then(|interval| u64::try_from(interval.as_secs()).ok());
        self.collected.repos.ensure(url, interval)
    }

    fn git(&mut self, object: &Object, url: &str) -> Origin {
        let repo = self.ensure(url, object);
        let is_own = match (&self.options.url, &self.collected.own) {
            (Some(own), _) => is_one_place(own, url),
            (None, Some(own)) => *own == repo,
            // Nothing says otherwise: a folder of it is looked for here.
            (None, None) => true,
        };
        if is_own && self.options.url.is_some() {
            self.collected.own = Some(repo.clone());
        }
        Origin { repo, reference: git_ref(object.spec()), is_own, paths: Paths::AsTheyAre, is_assumed: false }
    }

    /// The source that an object names.
    pub(super) fn source_of(
        &mut self,
        from: &Object,
        reference: &Value,
        inherited: &Inherited,
    ) -> Result<Origin, String> {
        let text = |field: &str| reference[field].as_str().filter(|text| !text.is_empty());
        let (kind, name) = (text("kind").unwrap_or("GitRepository"), text("name").unwrap_or_default());
        let namespace = text("namespace").or_else(|| from.namespace());
        if kind == "ExternalArtifact" {
            return self.artifact(from, name, inherited);
        }
        match self.find((SOURCE, kind), name, namespace, from, &inherited.scope) {
            Some(source) => {
                let found = self.source(&source);
                found.ok_or_else(|| format!("{kind} `{name}` is no source that a target can have"))
            }
            None if kind == "GitRepository" => Ok(self.unknown(name)),
            None => Err(format!("{kind} `{name}` is not among the files: read the folder that has it, too")),
        }
    }

    /// What `flux bootstrap` wrote into the cluster only: the repository itself.
    fn unknown(&mut self, name: &str) -> Origin {
        let repo = match &self.options.url {
            Some(url) => self.collected.repos.ensure(url, None),
            None => crate::text::as_name(name),
        };
        self.collected.own = Some(repo.clone());
        let branch = self.options.branch.as_deref().unwrap_or("main");
        Origin { repo, reference: json!({ "branch": branch }), is_own: true, paths: Paths::AsTheyAre, is_assumed: true }
    }

    /// One that an ArtifactGenerator puts together from folders of one repository.
    fn artifact(&mut self, from: &Object, name: &str, inherited: &Inherited) -> Result<Origin, String> {
        let group = "source.extensions.fluxcd.io";
        let makes_it = |object: &&Object| {
            let artifacts = object.spec()["artifacts"].as_array().into_iter().flatten();
            object.group() == group && artifacts.into_iter().any(|artifact| artifact["name"] == name)
        };
        let near = self.raw.iter().filter(makes_it).max_by_key(|object| crate::paths::shared(&object.file, &from.file));
        let generator = inherited.scope.iter().find(makes_it).or(near).cloned();
        let generator = generator.ok_or_else(|| format!("nothing that was read makes ExternalArtifact `{name}`"))?;
        let artifacts = generator.spec()["artifacts"].as_array().cloned().unwrap_or_default();
        let copies = artifacts.iter().find(|artifact| artifact["name"] == name).map(|artifact| &artifact["copy"]);
        let sources = generator.spec()["sources"].as_array().cloned().unwrap_or_default();
        let mut folders = Vec::new();
        let mut aliases: Vec<String> = Vec::new();
        for copy in copies.and_then(Value::as_array).into_iter().flatten() {
            let text = |field: &str| copy[field].as_str().unwrap_or_default();
            let (alias, path) = text("from").trim_start_matches('@').split_once('/').unwrap_or_default();
            let to = text("to").trim_start_matches("@artifact").trim_matches('/');
            let path = path.trim_end_matches("**").trim_matches('/');
            aliases.push(alias.to_owned());
            folders.push((to.to_owned(), path.to_owned()));
        }
        aliases.dedup();
        let [alias] = aliases.as_slice() else {
            return Err(format!(
                "ExternalArtifact `{name}` is put together from several sources: make a target for each"
            ));
        };
        let source = sources.iter().find(|source| source["alias"] == **alias).cloned().unwrap_or_default();
        let found = self.source_of(&generator, &source, inherited)?;
        // The longest first: it says more.
        folders.sort_by_key(|(to, _)| std::cmp::Reverse(to.len()));
        Ok(Origin { paths: Paths::Copied(folders), ..found })
    }

    /// Flux's other objects, which move nothing.
    pub(super) fn other(&mut self, object: &Object) {
        let mut entry = object.entry();
        let sentence = match object.kind() {
            "Receiver" => {
                "the hub takes webhooks of Git hosts itself: `bellwether repo show NAME` says where to send them"
            }
            "Alert" | "Provider" => {
                "nobody is notified by the hub yet: watch `bellwether status`, the metrics, or the audit log"
            }
            "ImageRepository" | "ImagePolicy" | "ImageUpdateAutomation" => {
                "images are not updated in Git: keep Flux's image controllers, or Renovate, for it; both write commits that are rolled out"
            }
            "HelmChart" => "a chart is named by the target itself",
            "ArtifactGenerator" | "ExternalArtifact" => {
                "nothing to do: a target reads folders of a repo as they are, and only what it reads starts a rollout"
            }
            "FluxInstance" | "FluxReport" => "remove it last, when nothing is deployed by Flux any more",
            _ => "there is nothing like it here",
        };
        let is_moved = ["HelmChart", "ArtifactGenerator", "ExternalArtifact", "Receiver"].contains(&object.kind());
        entry.add(if is_moved { Remark::note("", sentence) } else { Remark::none("", sentence) });
        self.tell(entry);
    }
}

/// Flux's own order of precedence.
fn git_ref(spec: &Value) -> Value {
    let text = |field: &str| find(spec, &["ref", field]).and_then(Value::as_str).filter(|text| !text.is_empty());
    if let Some(commit) = text("commit") {
        return json!({ "commit": commit });
    }
    if let Some(name) = text("name") {
        return match (name.strip_prefix("refs/heads/"), name.strip_prefix("refs/tags/")) {
            (Some(branch), _) => json!({ "branch": branch }),
            (_, Some(tag)) => json!({ "tag": tag }),
            // Such as a pull request's, which no target can name.
            _ => json!({ "branch": name }),
        };
    }
    if let Some(range) = text("semver") {
        return json!({ "semver": range });
    }
    if let Some(tag) = text("tag") {
        return json!({ "tag": tag });
    }
    json!({ "branch": text("branch").unwrap_or("master") })
}

fn artifact_ref(spec: &Value) -> Value {
    let text = |field: &str| find(spec, &["ref", field]).and_then(Value::as_str).filter(|text| !text.is_empty());
    match (text("digest"), text("semver"), text("tag")) {
        (Some(digest), ..) => json!({ "digest": digest }),
        (_, Some(range), _) => json!({ "semver": range }),
        (_, _, tag) => json!({ "tag": tag.unwrap_or("latest") }),
    }
}

/// One version, or a range of them.
pub(crate) fn chart_ref(version: Option<&str>) -> Value {
    let version = version.map_or("*", str::trim);
    let is_one = version.split(['-', '+']).next().is_some_and(|numbers| {
        let parts: Vec<&str> = numbers.trim_start_matches('v').split('.').collect();
        parts.len() == 3 && parts.iter().all(|part| part.parse::<u64>().is_ok())
    });
    if is_one && !version.contains(' ') { json!({ "tag": version }) } else { json!({ "semver": version }) }
}
