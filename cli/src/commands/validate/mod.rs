//! `validate`: what is wrong with files, told without a hub and without a cluster.

mod by_label;
mod clusters;
mod kubeconform;
mod origin;
mod pretty;
mod progress;
mod render;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use bellwether_core::target::TargetSpec;
use bellwether_render::yaml::{self, Node, YamlError};
use bellwether_render::{Confinement, Engines, KUSTOMIZATIONS, ignore, objects_of};
use bellwether_validate::{
    Definitions, Finding, Found, FoundFolder, Object, Options, OwnDocument, Part, Report, Schemas, Set, Severity,
    Skipped, Source, TargetReport, Version, find, find_manifests, is_own, json, junit, read_file, read_own,
    read_within, sarif,
};

use self::clusters::AskedCluster;
use self::progress::Bar;
use self::render::{Covered, RenderRequest, Rendering};
use super::Context;
use crate::args::{Format, ValidateArgs, engine};
use crate::failure::{Exit, Failure, unless_unread};
use crate::output::{Output, note, print};

/// Standard input, as it is named on the command line.
const STDIN: &str = "-";

/// All documents of Bellwether's are reported together.
const OWN: &str = "bellwether";

/// With what the hub knows of the clusters that are named.
pub(super) async fn for_clusters(context: &Context, arguments: &ValidateArgs) -> anyhow::Result<Exit> {
    let as_usage = |error: anyhow::Error| match error.downcast::<Failure>() {
        Ok(failure) => failure.ending(Exit::Usage).into(),
        Err(other) => other,
    };
    if arguments.kubeconform_compat.is_some() {
        return run(&context.output, arguments);
    }
    let asked = clusters::ask(context, arguments).await.map_err(as_usage)?;
    let names: Vec<_> = asked.iter().map(|cluster| cluster.name().clone()).collect();
    let format = context.output.report_format()?;
    let bar = Bar::new();
    let mut set = gather(arguments, format, asked, &bar).map_err(|error| error.ending(Exit::Usage))?;
    let told = clusters::ask_told(context, &names, &set.undefined_groups()).await.map_err(as_usage)?;
    for one in told {
        set.add_told(one);
    }
    judge(&context.output, format, set, &bar)
}

pub(super) fn run(output: &Output, arguments: &ValidateArgs) -> anyhow::Result<Exit> {
    if let Some(theirs) = &arguments.kubeconform_compat {
        if !arguments.paths.is_empty() {
            return Err(Failure::usage("`--kubeconform-compat` stands before all else")
                .hint("write `bellwether validate --kubeconform-compat` and then what kubeconform takes")
                .into());
        }
        return kubeconform::run(theirs);
    }
    let format = output.report_format()?;
    let bar = Bar::new();
    let set = gather(arguments, format, Vec::new(), &bar).map_err(|error| error.ending(Exit::Usage))?;
    judge(output, format, set, &bar)
}

fn judge(output: &Output, format: Format, set: Set, bar: &Bar) -> anyhow::Result<Exit> {
    let report = set.check(|done| bar.say("objects", done));
    unless_unread(show(output, format, &report))?;
    Ok(if report.count(Severity::Error) > 0 { Exit::Failed } else { Exit::Done })
}

fn show(output: &Output, format: Format, report: &Report) -> anyhow::Result<()> {
    match format {
        Format::Json => print(&serde_json::to_string_pretty(&json(report))?),
        Format::Junit => print(&junit(report)),
        Format::Sarif => print(&serde_json::to_string_pretty(&sarif(report))?),
        _ => {
            print(&pretty::text(report, output.style(), jiff::Timestamp::now()))?;
            note(&pretty::summary(report));
            Ok(())
        }
    }
}

/// All the objects, rendered.
fn gather(arguments: &ValidateArgs, format: Format, clusters: Vec<AskedCluster>, bar: &Bar) -> Result<Set, Failure> {
    let of_clusters: Vec<_> = clusters.iter().filter_map(|cluster| cluster.version).collect();
    let options = Options {
        served: clusters.into_iter().filter_map(|cluster| cluster.served).collect(),
        strict_schemas: arguments.strict_schemas,
        namespaces: arguments.namespaces.iter().map(ToString::to_string).collect(),
    };
    let mut versions = arguments.versions.clone();
    versions.extend(of_clusters);
    versions.sort();
    versions.dedup();
    if versions.is_empty() {
        versions.push(Version::newest());
    }
    let schemas = versions.iter().copied().map(Schemas::load).collect();
    let mut set = Set::new(options, schemas, definitions(&arguments.crds)?);
    let engines = Engines::new(engine(arguments.engine.as_ref()).as_deref(), Confinement::AsThereIs);
    let roots = roots(arguments)?;
    if format == Format::Sarif && roots.len() > 1 {
        return Err(Failure::new("SARIF names files from the root of one repo on, and these are in several")
            .hint("validate each repo by itself"));
    }
    for (root, starts) in roots {
        let names = if format == Format::Sarif { Names::FromRoot } else { Names::FromHere };
        let place = Place::new(root, names)?;
        Run { set: &mut set, engines: &engines, bar, place, versions: &versions }.folders(&starts, arguments)?;
    }
    if arguments.paths.iter().any(|path| path.as_os_str() == STDIN) {
        let place = Place::new(PathBuf::new(), Names::Stdin)?;
        Run { set: &mut set, engines: &engines, bar, place, versions: &versions }.stdin()?;
    }
    Ok(set)
}

/// What lies below each root, as paths from it on.
fn roots(arguments: &ValidateArgs) -> Result<BTreeMap<PathBuf, Vec<String>>, Failure> {
    let here = [PathBuf::from(".")];
    let paths = if arguments.paths.is_empty() { &here[..] } else { &arguments.paths };
    let mut roots: BTreeMap<PathBuf, Vec<String>> = BTreeMap::new();
    for path in paths.iter().filter(|path| path.as_os_str() != STDIN) {
        let start =
            path.canonicalize().map_err(|error| Failure::new(format!("cannot read `{}`: {error}", path.display())))?;
        let folder = if start.is_dir() { start.as_path() } else { start.parent().unwrap_or(&start) };
        let root = super::render::root_of(arguments.root.as_deref(), folder)
            .map_err(|error| Failure::new(format!("{error:#}")))?;
        let below = super::render::below(&root, &start)?;
        roots.entry(root).or_default().push(below);
    }
    Ok(roots)
}

fn definitions(paths: &[PathBuf]) -> Result<Definitions, Failure> {
    let mut definitions = Definitions::default();
    for path in paths {
        let unread = |error: String| Failure::new(format!("cannot read `{}`: {error}", path.display()));
        let files = if path.is_dir() {
            find_manifests(path).map_err(|error| unread(error.to_string()))?
        } else {
            vec![path.clone()]
        };
        let mut is_good = false;
        for file in files {
            let bytes = read_file(&file).map_err(|error| unread(error.to_string()))?;
            match yaml::read(&file.display().to_string(), &bytes) {
                Ok(documents) => {
                    for object in documents.into_iter().flat_map(|document| objects_of(document.root)) {
                        is_good |= definitions.learn(&object.to_json());
                    }
                }
                Err(error) if says(&bytes, "CustomResourceDefinition") => return Err(unread(error.to_string())),
                // A chart's template, or another tool's file: none of these.
                Err(_) => {}
            }
        }
        if !is_good {
            return Err(Failure::new(format!("`{}` holds no CustomResourceDefinition", path.display()))
                .hint("`--crds` is a file or a folder with some; links are not followed"));
        }
    }
    Ok(definitions)
}

/// A root, and how its files are called.
#[derive(Debug)]
struct Place {
    root: PathBuf,
    here: PathBuf,
    names: Names,
}

/// What files are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Names {
    /// By the way to them from where this was started.
    FromHere,
    FromRoot,
    /// There is only one.
    Stdin,
}

impl Place {
    fn new(root: PathBuf, names: Names) -> Result<Self, Failure> {
        let here = std::env::current_dir().and_then(|here| here.canonicalize());
        let here = here.map_err(|error| Failure::new(format!("cannot tell where this was started: {error}")))?;
        Ok(Self { root, here, names })
    }

    fn shown(&self, path: &str) -> String {
        let shown = match self.names {
            Names::FromHere => relative(&self.root.join(path), &self.here),
            Names::FromRoot => PathBuf::from(path),
            Names::Stdin => return "stdin".to_owned(),
        };
        if shown.as_os_str().is_empty() { ".".to_owned() } else { shown.display().to_string() }
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Failure> {
        read_file(&self.root.join(path))
            .map_err(|error| Failure::new(format!("cannot read `{}`: {error}", self.shown(path))))
    }
}

/// The way from one to the other.
fn relative(path: &Path, from: &Path) -> PathBuf {
    let (mut path, mut from) = (path.components().peekable(), from.components().peekable());
    while path.peek().is_some() && path.peek() == from.peek() {
        path.next();
        from.next();
    }
    from.map(|_| Component::ParentDir).chain(path).collect()
}

/// One root's part of a run.
struct Run<'a> {
    set: &'a mut Set,
    engines: &'a Engines,
    bar: &'a Bar,
    place: Place,
    /// Of Kubernetes, that are asked for.
    versions: &'a [Version],
}

/// What is known of the repo that is looked at.
struct Repo {
    /// `None` when nobody can say.
    name: Option<String>,
}

/// A document of a file.
#[derive(Clone)]
struct Written {
    file: String,
    number: usize,
    root: Arc<Node>,
}

/// What a file that is named so has in it.
enum Contents {
    Documents(Vec<Written>),
    /// It cannot be read, and may be meant as objects.
    Wrong(Box<Finding>),
    /// It cannot be read, and is a template or another tool's.
    NoObject,
}

impl Run<'_> {
    fn folders(&mut self, starts: &[String], arguments: &ValidateArgs) -> Result<(), Failure> {
        let found =
            find(&self.place.root, starts, &arguments.ignored).map_err(|error| Failure::new(error.to_string()))?;
        let Found { folders, included, components, files, skipped } = found;
        if folders.is_empty() && files.is_empty() && included.is_empty() && components.is_empty() {
            for start in starts {
                self.skip(start, "nothing that could be deployed is there");
            }
        }
        for one in skipped {
            self.set.add_skipped(Skipped { file: self.place.shown(&one.file), ..one });
        }
        let is_named = |file: &str| starts.iter().any(|start| start == file);
        let (mut written, mut unread) = (Vec::new(), Vec::new());
        for file in &files {
            let bytes = self.place.read(file)?;
            match self.documents(file, &bytes, is_named(file)) {
                Contents::Documents(documents) => written.extend(documents),
                contents => unread.push((file.as_str(), contents)),
            }
        }
        let (own, plain): (Vec<_>, Vec<_>) = written.into_iter().partition(|one| is_own(&one.root));
        let mut asked = self.own(&own, arguments);
        let has_target = |folder: &FoundFolder| asked.iter().any(|asked| asked.folder == folder.path());
        let others: Vec<_> = folders.iter().filter(|folder| !has_target(folder)).collect();
        for folder in others {
            asked.extend(RenderRequest::of_folder(folder, &self.place.root));
        }
        let mut covered = Vec::new();
        for (index, one) in asked.iter().enumerate() {
            self.bar.say("folders rendered", index);
            covered.push(self.render(one)?);
        }
        self.left_over(included, components, &mut covered)?;
        let is_plain = |file: &str| !covered.iter().any(|covered| covered.has(file));
        // Who reads it says what is wrong with it, if it is more than text to them.
        for (file, contents) in unread.into_iter().filter(|(file, _)| is_plain(file)) {
            match contents {
                Contents::Wrong(finding) => self.set.add_finding(*finding),
                _ => self.skip(file, "no Kubernetes object"),
            }
        }
        self.plain(plain.into_iter().filter(|one| is_plain(&one.file)), is_named);
        Ok(())
    }

    /// What others include, and nothing that was rendered did read: they include each other, or what includes them failed.
    fn left_over(
        &mut self,
        included: Vec<String>,
        components: Vec<String>,
        covered: &mut Vec<Covered>,
    ) -> Result<(), Failure> {
        let root = self.place.root.clone();
        let is_read = |folder: &str, covered: &[Covered]| {
            kustomization_of(&root, folder).is_none_or(|file| covered.iter().any(|covered| covered.has(&file)))
        };
        for folder in included {
            if !is_read(&folder, covered) {
                for asked in RenderRequest::of_folder(&FoundFolder::Kustomization(folder), &root) {
                    covered.push(self.render(&asked)?);
                }
            }
        }
        for folder in components {
            if !is_read(&folder, covered) {
                self.skip(&folder, "a component, which is built as part of others");
                covered.push(Covered::below(folder));
            }
        }
        Ok(())
    }

    /// Named in a report as a file; it has no folder that anything could be in.
    fn stdin(&mut self) -> Result<(), Failure> {
        let bytes = read_within(std::io::stdin())
            .map_err(|error| Failure::new(format!("cannot read standard input: {error}")))?;
        match self.documents("stdin", &bytes, true) {
            Contents::Documents(documents) if documents.is_empty() => {
                return Err(Failure::new("standard input holds nothing")
                    .hint("what stands before the pipe may have failed: `set -o pipefail` ends a script then"));
            }
            Contents::Documents(documents) => {
                let (own, plain): (Vec<_>, Vec<_>) = documents.into_iter().partition(|one| is_own(&one.root));
                for (one, document) in self.own_documents(&own) {
                    if let OwnDocument::Target { name, .. } = document {
                        self.skip(&one.file, &format!("Target `{name}`: standard input has no folders"));
                    }
                }
                self.plain(plain.into_iter(), |_| true);
            }
            Contents::Wrong(finding) => self.set.add_finding(*finding),
            Contents::NoObject => self.skip("stdin", "no Kubernetes object"),
        }
        Ok(())
    }

    fn documents(&self, file: &str, bytes: &[u8], is_named: bool) -> Contents {
        match yaml::read(file, bytes) {
            Ok(documents) => {
                let numbered = documents.into_iter().enumerate();
                let each = numbered.flat_map(|(index, document)| {
                    objects_of(document.root).into_iter().map(move |root| (index + 1, root))
                });
                let written = |(number, root)| Written { file: file.to_owned(), number, root: Arc::new(root) };
                Contents::Documents(each.map(written).collect())
            }
            Err(error) => match severity_of(file, bytes, is_named) {
                Some(severity) => Contents::Wrong(Box::new(self.unreadable(&error, severity, file))),
                None => Contents::NoObject,
            },
        }
    }

    fn unreadable(&self, error: &YamlError, severity: Severity, file: &str) -> Finding {
        Finding {
            severity,
            hint: error.problem.hint().map(Cow::into_owned),
            line: u32::try_from(error.at.line).ok(),
            ..self.finding(error.problem.code(), error.problem.to_string(), file, &folder_of(file))
        }
    }

    /// Bellwether's documents; the Targets among them whose folder is here are rendered.
    fn own(&mut self, own: &[Written], arguments: &ValidateArgs) -> Vec<RenderRequest> {
        let read = self.own_documents(own);
        let repo = Repo { name: arguments.repo.as_ref().map(ToString::to_string).or_else(|| self.repo_of(&read)) };
        let mut asked = Vec::new();
        for (one, document) in read {
            let OwnDocument::Target { name, spec } = document else { continue };
            match repo.has(&self.place.root, &spec) {
                Ok(()) if !spec.render.sources().is_empty() => {
                    self.skip(&one.file, &format!("Target `{name}`: it is rendered from other repos, too"));
                }
                Ok(()) => asked.extend(RenderRequest::of_target(&name, &spec, &self.place.root)),
                Err(reason) => self.skip(&one.file, &format!("Target `{name}`: {reason}")),
            }
        }
        asked
    }

    /// Those that are right; what is wrong with the others is told.
    fn own_documents<'w>(&mut self, own: &'w [Written]) -> Vec<(&'w Written, OwnDocument)> {
        let mut read = Vec::new();
        let mut cases = Vec::new();
        for one in own {
            let named = bellwether_validate::named(&one.root);
            cases.push((self.place.shown(&one.file), named.clone()));
            match read_own(&one.root) {
                Ok(document) => read.push((one, document)),
                Err(problem) => {
                    let finding = Finding {
                        hint: problem.hint,
                        line: Some(problem.line),
                        document: Some(one.number),
                        object: Some(named),
                        field: Some(problem.path).filter(|path| !path.is_empty()),
                        target: OWN.to_owned(),
                        ..self.finding(problem.code, problem.message, &one.file, "")
                    };
                    self.set.add_finding(finding);
                }
            }
        }
        if !cases.is_empty() {
            let target = TargetReport { name: OWN.to_owned(), kind: OWN, cases };
            self.set.add_report(target);
        }
        read
    }

    /// The one that is named where this was cloned from, else the only one that is named at all.
    fn repo_of(&self, read: &[(&Written, OwnDocument)]) -> Option<String> {
        let origin = origin::of(&self.place.root);
        let mut names = BTreeSet::new();
        for (_, document) in read {
            match document {
                OwnDocument::Repo { name, url } => {
                    if origin.as_ref().is_some_and(|origin| origin::is_same(origin, url)) {
                        return Some(name.clone());
                    }
                    names.insert(name.as_str());
                }
                OwnDocument::Target { spec, .. } => drop(names.insert(spec.repo.as_str())),
            }
        }
        names.first().filter(|_| names.len() == 1).map(|&name| name.to_owned())
    }

    /// Files of one folder go together: what lies in another may be for another cluster.
    fn plain(&mut self, written: impl Iterator<Item = Written>, is_named: impl Fn(&str) -> bool) {
        let mut folders: BTreeMap<String, Vec<Object>> = BTreeMap::new();
        for one in written {
            if !is_object(&one.root) && !is_named(&one.file) {
                self.skip(&one.file, "no Kubernetes object");
                continue;
            }
            let source = Source { file: self.place.shown(&one.file), document: Some(one.number) };
            let root = (*one.root).clone();
            let object = Object { source, root, written: Some(one.root), may_have_variables: true };
            folders.entry(folder_of(&one.file)).or_default().push(object);
        }
        for (folder, objects) in folders {
            let target = TargetReport { name: self.place.shown(&folder), kind: "plain", cases: Vec::new() };
            self.set.add(Part { target, objects, versions: Vec::new() });
        }
    }

    /// For each version of Kubernetes that is asked for, if the first turns out to count: a chart may ask which it is.
    fn render(&mut self, asked: &RenderRequest) -> Result<Covered, Failure> {
        let mut covered = Covered::default();
        let mut made: Vec<(Vec<Version>, Rendering)> = Vec::new();
        for version in self.versions.iter().copied() {
            let mut rendering = render::render(self.engines, &self.place, asked, version)?;
            covered.extend(std::mem::take(&mut rendering.covered));
            if let Some(reason) = rendering.elsewhere.take() {
                self.skip(&render::file_of(&self.place, asked), &reason);
                return Ok(covered);
            }
            let minds_version = rendering.minds_version;
            match made.iter_mut().find(|(_, known)| known.is_same(&rendering)) {
                Some((versions, _)) => versions.push(version),
                None => made.push((vec![version], rendering)),
            }
            if !minds_version {
                break;
            }
        }
        let differ = made.len() > 1;
        for (versions, Rendering { objects, findings, .. }) in made {
            let versions = if differ { versions } else { Vec::new() };
            let named: Vec<_> = versions.iter().map(ToString::to_string).collect();
            let suffix = if differ { format!(" (Kubernetes {})", named.join(", ")) } else { String::new() };
            let name = format!("{}{suffix}", asked.shown(&self.place));
            for finding in findings {
                self.set.add_finding(Finding { versions: named.clone(), target: name.clone(), ..finding });
            }
            let target = TargetReport { name, kind: asked.kind, cases: Vec::new() };
            self.set.add(Part { target, objects, versions });
        }
        Ok(covered)
    }

    fn skip(&mut self, file: &str, reason: &str) {
        let file = self.place.shown(file);
        self.set.add_skipped(Skipped { file, object: None, reason: reason.to_owned() });
    }

    fn finding(&self, code: &str, message: String, file: &str, target: &str) -> Finding {
        Finding {
            severity: Severity::Error,
            code: code.to_owned(),
            message,
            hint: None,
            file: self.place.shown(file),
            line: None,
            document: None,
            object: None,
            field: None,
            versions: Vec::new(),
            target: self.place.shown(target),
        }
    }
}

impl Repo {
    /// Whether a target's folder is to be found here, else why it is not.
    fn has(&self, root: &Path, spec: &TargetSpec) -> Result<(), String> {
        let repo = spec.repo.as_str();
        match self.name.as_deref() {
            None => return Err(format!("nobody says whether this is its repo `{repo}`: `--repo` does")),
            Some(name) if name != repo => return Err(format!("it is of repo `{repo}`, and this is `{name}`")),
            Some(_) => {}
        }
        if root.join(&spec.path).is_dir() { Ok(()) } else { Err(format!("there is no folder `{}`", spec.path)) }
    }
}

/// How bad it is that a file cannot be read; `None` for what is a template, or another tool's by its name.
fn severity_of(file: &str, bytes: &[u8], is_named: bool) -> Option<Severity> {
    if is_named || says(bytes, "apiVersion") || says_kind(bytes) {
        Some(Severity::Error)
    } else if ignore::is_of_another_tool(file) || says(bytes, "{{") {
        None
    } else {
        Some(Severity::Warning)
    }
}

/// Whether it is meant as one: values files and what other tools keep have neither of both.
fn is_object(root: &Node) -> bool {
    root.field("apiVersion").is_some() || root.field("kind").is_some()
}

fn folder_of(file: &str) -> String {
    file.rsplit_once('/').map_or_else(String::new, |(folder, _)| folder.to_owned())
}

fn says(bytes: &[u8], wanted: &str) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted.as_bytes())
}

/// At the beginning of a line, as far as that can be told of a file that cannot be read.
fn says_kind(bytes: &[u8]) -> bool {
    let begins_so = |line: &[u8]| {
        let line = line.trim_ascii_start();
        let line = line.strip_prefix(b"\"").unwrap_or(line);
        let rest = line.strip_prefix(b"kind").map(|rest| rest.strip_prefix(b"\"").unwrap_or(rest));
        rest.is_some_and(|rest| rest.trim_ascii_start().starts_with(b":"))
    };
    bytes.split(|byte| *byte == b'\n').any(begins_so)
}

/// A file that has a kustomization's name.
fn kustomization_of(root: &Path, folder: &str) -> Option<String> {
    let paths = KUSTOMIZATIONS.map(|name| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") });
    paths.into_iter().find(|path| root.join(path).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_told_from_where_a_person_is() {
        for (path, here, expected) in [
            ("/repo/a/x.yaml", "/repo/a", "x.yaml"),
            ("/repo/b/x.yaml", "/repo/a", "../b/x.yaml"),
            ("/repo/b/x.yaml", "/repo/a/c", "../../b/x.yaml"),
            ("/repo", "/repo/a", ".."),
            ("/repo/a", "/repo/a", ""),
        ] {
            assert_eq!(relative(Path::new(path), Path::new(here)), Path::new(expected));
        }
    }
}
