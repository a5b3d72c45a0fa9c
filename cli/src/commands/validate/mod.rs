//! `validate`: what is wrong with files, told without a hub and without a cluster.

mod kubeconform;
mod pretty;
mod progress;
mod render;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bellwether_render::yaml::{self, Node};
use bellwether_render::{Confinement, Engines};
use bellwether_validate::{
    Definitions, Finding, Found, FoundFolder, Object, Options, OwnDocument, Report, Schemas, Set, Severity, Skipped,
    Source, TargetReport, Version, find, is_own, json, junit, read_own, sarif,
};

use self::progress::Bar;
use self::render::{Asked, Rendering};
use crate::args::{Format, ValidateArgs};
use crate::failure::{Exit, Failure};
use crate::output::{Output, note, print};

/// Standard input, as it is named on the command line.
const STDIN: &str = "-";

/// All documents of Bellwether's are reported together.
const OWN: &str = "bellwether";

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
    let report = validate(arguments).map_err(|error| error.ending(Exit::Usage))?;
    show(output, format, &report)?;
    Ok(if report.count(Severity::Error) > 0 { Exit::Failed } else { Exit::Done })
}

fn show(output: &Output, format: Format, report: &Report) -> anyhow::Result<()> {
    match format {
        Format::Json => print(&serde_json::to_string_pretty(&json(report))?),
        Format::Junit => print(&junit(report)),
        Format::Sarif => print(&serde_json::to_string_pretty(&sarif(report))?),
        _ => {
            print(&pretty::text(report, output.style()))?;
            note(&pretty::summary(report));
            Ok(())
        }
    }
}

fn validate(arguments: &ValidateArgs) -> Result<Report, Failure> {
    let options = Options {
        strict_schemas: arguments.strict_schemas,
        namespaces: arguments.namespaces.iter().map(ToString::to_string).collect(),
    };
    let mut versions = arguments.versions.clone();
    versions.sort();
    versions.dedup();
    if versions.is_empty() {
        versions.push(Version::newest());
    }
    let schemas = versions.into_iter().map(Schemas::load).collect();
    let bar = Bar::new();
    let mut set = Set::new(options, schemas, definitions(&arguments.crds)?);
    let engines = Engines::new(arguments.engine.as_deref(), Confinement::AsThereIs);
    for (root, starts) in roots(arguments)? {
        Run { set: &mut set, engines: &engines, bar: &bar, place: Place::new(root)? }.folders(&starts, arguments)?;
    }
    if arguments.paths.iter().any(|path| path.as_os_str() == STDIN) {
        add_stdin(&mut set)?;
    }
    Ok(set.check(|done| bar.say("objects", done)))
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
        let root = path.canonicalize().map_err(|error| unread(error.to_string()))?;
        let (root, start) = match (root.is_dir(), root.parent(), root.file_name().and_then(|name| name.to_str())) {
            (false, Some(parent), Some(name)) => (parent.to_owned(), name.to_owned()),
            _ => (root, String::new()),
        };
        for file in find(&root, &[start], &[]).map_err(|error| unread(error.to_string()))?.files {
            let bytes = std::fs::read(root.join(&file)).map_err(|error| unread(error.to_string()))?;
            for document in yaml::read(&file, &bytes).map_err(|error| unread(error.to_string()))? {
                for item in items(document.root) {
                    definitions.learn(&item.to_json());
                }
            }
        }
    }
    Ok(definitions)
}

/// A root, and how its files are called.
#[derive(Debug)]
struct Place {
    root: PathBuf,
    here: PathBuf,
}

impl Place {
    fn new(root: PathBuf) -> Result<Self, Failure> {
        let here = std::env::current_dir().and_then(|here| here.canonicalize());
        let here = here.map_err(|error| Failure::new(format!("cannot tell where this was started: {error}")))?;
        Ok(Self { root, here })
    }

    /// From where this was started, if it lies below, else from the root on.
    fn shown(&self, path: &str) -> String {
        let whole = self.root.join(path);
        let shown = whole.strip_prefix(&self.here).or_else(|_| whole.strip_prefix(&self.root)).unwrap_or(&whole);
        if shown.as_os_str().is_empty() { ".".to_owned() } else { shown.display().to_string() }
    }

    fn read(&self, path: &str) -> Result<Vec<u8>, Failure> {
        let whole = self.root.join(path);
        std::fs::read(&whole).map_err(|error| Failure::new(format!("cannot read `{}`: {error}", self.shown(path))))
    }
}

/// One root's part of a run.
struct Run<'a> {
    set: &'a mut Set,
    engines: &'a Engines,
    bar: &'a Bar,
    place: Place,
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
    /// It is meant as objects, and cannot be read.
    Wrong(Box<Finding>),
    /// It is no YAML, and says nothing of an object.
    NoObject,
}

impl Run<'_> {
    fn folders(&mut self, starts: &[String], arguments: &ValidateArgs) -> Result<(), Failure> {
        let Found { folders, files, skipped } =
            find(&self.place.root, starts, &arguments.ignored).map_err(|error| Failure::new(error.to_string()))?;
        for one in skipped {
            self.set.add_skipped(Skipped { file: self.place.shown(&one.file), ..one });
        }
        let (mut written, mut unread) = (Vec::new(), Vec::new());
        for file in &files {
            match self.documents(file)? {
                Contents::Documents(documents) => written.extend(documents),
                contents => unread.push((file.as_str(), contents)),
            }
        }
        let (own, plain): (Vec<_>, Vec<_>) = written.into_iter().partition(|one| is_own(&one.root));
        let mut asked = self.own(&own);
        let has_target = |folder: &FoundFolder| asked.iter().any(|asked| asked.folder == folder.path());
        let others: Vec<_> = folders.iter().filter(|folder| !has_target(folder)).collect();
        for folder in others {
            asked.extend(Asked::of_folder(folder, &self.place.root));
        }
        let mut covered = Vec::new();
        for (index, one) in asked.iter().enumerate() {
            self.bar.say("folders rendered", index);
            covered.push(self.render(one)?);
        }
        let is_plain = |file: &str| !covered.iter().any(|covered| covered.has(file));
        // Who reads it says what is wrong with it, if it is more than text to them.
        for (file, contents) in unread.into_iter().filter(|(file, _)| is_plain(file)) {
            match contents {
                Contents::Wrong(finding) => self.set.add_finding(*finding),
                _ => self.skip(file, "no Kubernetes object"),
            }
        }
        self.plain(plain.into_iter().filter(|one| is_plain(&one.file)));
        Ok(())
    }

    fn documents(&self, file: &str) -> Result<Contents, Failure> {
        let bytes = self.place.read(file)?;
        match yaml::read(file, &bytes) {
            Ok(documents) => {
                let numbered = documents.into_iter().enumerate();
                let each = numbered
                    .flat_map(|(index, document)| items(document.root).into_iter().map(move |root| (index + 1, root)));
                let written = |(number, root)| Written { file: file.to_owned(), number, root: Arc::new(root) };
                Ok(Contents::Documents(each.map(written).collect()))
            }
            Err(error) if has_bytes(&bytes, b"apiVersion") => Ok(Contents::Wrong(Box::new(Finding {
                hint: error.problem.hint().map(Cow::into_owned),
                line: u32::try_from(error.at.line).ok(),
                ..self.finding(error.problem.code(), error.problem.to_string(), file, &folder_of(file))
            }))),
            Err(_) => Ok(Contents::NoObject),
        }
    }

    /// Bellwether's documents; the Targets among them whose folder is here are rendered.
    fn own(&mut self, own: &[Written]) -> Vec<Asked> {
        let mut asked = Vec::new();
        let mut cases = Vec::new();
        for one in own {
            let named = bellwether_validate::named(&one.root);
            cases.push((self.place.shown(&one.file), named.clone()));
            match read_own(&one.root) {
                Ok(OwnDocument::Target { name, spec }) => asked.extend(Asked::of_target(&self.place.root, name, *spec)),
                Ok(OwnDocument::Repo) => {}
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
        asked
    }

    /// Files of one folder go together: what lies in another may be for another cluster.
    fn plain(&mut self, written: impl Iterator<Item = Written>) {
        let mut folders: BTreeMap<String, Vec<Object>> = BTreeMap::new();
        for one in written {
            if !is_object(&one.root) {
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
            self.set.add_target(target, objects);
        }
    }

    fn render(&mut self, asked: &Asked) -> Result<render::Covered, Failure> {
        let Rendering { objects, findings, covered } = render::render(self.engines, &self.place, asked)?;
        for finding in findings {
            self.set.add_finding(finding);
        }
        let name = asked.shown(&self.place);
        self.set.add_target(TargetReport { name, kind: asked.kind, cases: Vec::new() }, objects);
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

fn add_stdin(set: &mut Set) -> Result<(), Failure> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new(format!("cannot read standard input: {error}")))?;
    let documents = yaml::read("stdin", &bytes)
        .map_err(|error| Failure::new(error.to_string()).maybe_hint(error.problem.hint()))?;
    let mut objects = Vec::new();
    for (index, document) in documents.into_iter().enumerate() {
        for root in items(document.root) {
            let source = Source { file: "stdin".to_owned(), document: Some(index + 1) };
            let written = Some(Arc::new(root.clone()));
            objects.push(Object { source, root, written, may_have_variables: true });
        }
    }
    set.add_target(TargetReport { name: "stdin".to_owned(), kind: "plain", cases: Vec::new() }, objects);
    Ok(())
}

/// Of a `List`, as kubectl takes it, what it lists.
fn items(root: Node) -> Vec<Node> {
    let is_list = root.field("kind").and_then(Node::text).is_some_and(|kind| kind.ends_with("List"));
    match root.field("items").map(|items| &items.content) {
        Some(yaml::Content::List(items)) if is_list => items.clone(),
        _ => vec![root],
    }
}

/// Whether it is meant as one: values files and what other tools keep have neither of both.
fn is_object(root: &Node) -> bool {
    root.field("apiVersion").is_some() || (root.field("kind").is_some() && root.field("metadata").is_some())
}

fn folder_of(file: &str) -> String {
    file.rsplit_once('/').map_or_else(String::new, |(folder, _)| folder.to_owned())
}

fn has_bytes(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}

/// A file that has a kustomization's name.
fn kustomization_of(root: &Path, folder: &str) -> Option<String> {
    let names = ["kustomization.yaml", "kustomization.yml", "Kustomization"];
    let paths = names.map(|name| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") });
    paths.into_iter().find(|path| root.join(path).is_file())
}
