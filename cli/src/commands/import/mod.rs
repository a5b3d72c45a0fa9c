//! `import`: the files of other tools become Bellwether's.

mod origin;
mod pretty;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bellwether_core::Labels;
use bellwether_import::{Checked, Effect, Gathered, Import, Options, Workspace, check, gather, gather_text};
use bellwether_render::{Confinement, Engines, ignore};
use serde_json::{Value, json};

use self::origin::Origin;
use super::render::{below, root_of};
use crate::args::{ArgocdArgs, Format, ImportArgs, ImportCommand};
use crate::failure::{Exit, Failure};
use crate::folder::RepoFolders;
use crate::output::{Output, note, print, yaml};

/// Standard input, as it is named on the command line.
const STDIN: &str = "-";

/// In a repository that is not the one to write into.
const OVERLAYS: &str = "bellwether/overlays";

/// What is to be committed to other repositories. No file of it is one of the repository that it lies in.
const OTHERS: &str = "other-repos";

pub(super) fn run(output: &Output, command: &ImportCommand) -> anyhow::Result<Exit> {
    let (arguments, destinations) = match command {
        ImportCommand::Flux(arguments) => (arguments, BTreeMap::new()),
        ImportCommand::Argocd(ArgocdArgs { common, destinations }) => {
            (common, destinations.iter().map(|one| (one.name.clone(), one.labels.clone())).collect())
        }
    };
    let format = output.document_format()?;
    let place = Place::find(arguments).map_err(|error| error.ending(Exit::Usage))?;
    let options = place.options(arguments, destinations);
    let gathered = place.gather().map_err(|error| error.ending(Exit::Usage))?;
    let workspace = place.workspace(arguments).map_err(|error| error.ending(Exit::Usage))?;
    let chart = gathered.charts.first().cloned();
    let import = match command {
        ImportCommand::Flux(_) => bellwether_import::flux(&workspace, gathered, &options),
        ImportCommand::Argocd(_) => bellwether_import::argocd(&workspace, gathered, &options),
    };
    let checked = if arguments.check { check(&workspace, &import) } else { Vec::new() };
    if let Some(into) = &arguments.into {
        write(into, &options, &import, arguments.overwrite).map_err(|error| error.ending(Exit::Usage))?;
    }
    show(output, format, arguments, &import, &checked)?;
    if let Some(into) = arguments.into.as_ref().filter(|_| has_others(&import)) {
        let folder = into.join(OTHERS);
        note(&format!("overlays for other repos are in `{}`, each as it is to lie in its repo", folder.display()));
    }
    if import.report.is_empty() {
        note(&nothing_found(command, chart.as_deref()));
    }
    let lacks = import.report.iter().flat_map(|entry| &entry.remarks).any(|remark| remark.effect == Effect::None);
    let fails = (arguments.strict && (lacks || !import.unread.is_empty())) || checked.iter().any(Checked::differs);
    Ok(if fails { Exit::Failed } else { Exit::Done })
}

fn nothing_found(command: &ImportCommand, chart: Option<&str>) -> String {
    let (tool, name) = match command {
        ImportCommand::Flux(_) => ("Flux", "flux"),
        ImportCommand::Argocd(_) => ("Argo CD", "argocd"),
    };
    let hint = chart.map(|chart| format!("\nhint: `{chart}` is a chart, whose templates are no objects yet: `bellwether render {chart} | bellwether import {name} -`"));
    format!("nothing of {tool} was found{}", hint.unwrap_or_default())
}

fn show(
    output: &Output,
    format: Format,
    arguments: &ImportArgs,
    import: &Import,
    checked: &[Checked],
) -> anyhow::Result<()> {
    let json = || {
        json!({
            "documents": import.documents.iter().map(bellwether_import::Written::to_json).collect::<Vec<_>>(),
            "overlays": import.overlays.iter().map(|one| json!({"repo": one.repo, "path": one.path, "target": one.target, "content": one.content})).collect::<Vec<_>>(),
            "report": import.report,
            "unread": import.unread,
            "checked": checked,
        })
    };
    match format {
        Format::Json => print(&serde_json::to_string_pretty(&json())?),
        Format::Yaml => print(&yaml::text(&json())?),
        _ if arguments.into.is_some() => {
            print(&pretty::report(import, checked, output.style()))?;
            note(&pretty::summary(import, checked));
            Ok(())
        }
        _ => {
            let documents = import.documents.iter().map(|one| yaml::text(&one.to_json()));
            print(&documents.collect::<Result<Vec<_>, _>>()?.join("---\n"))?;
            note(&pretty::report(import, checked, crate::output::Style::default()));
            if !import.overlays.is_empty() {
                note("the overlays are written with `--into DIR`, or shown with `-o json`");
            }
            note(&pretty::summary(import, checked));
            Ok(())
        }
    }
}

/// Where the repository is that is read, and what its own Git says of it.
struct Place {
    root: PathBuf,
    starts: Vec<String>,
    reads_stdin: bool,
    origin: Origin,
}

impl Place {
    fn find(arguments: &ImportArgs) -> Result<Self, Failure> {
        let mut root: Option<PathBuf> = None;
        let mut starts = Vec::new();
        for path in arguments.paths.iter().filter(|path| path.as_os_str() != STDIN) {
            let start = path
                .canonicalize()
                .map_err(|error| Failure::new(format!("cannot read `{}`: {error}", path.display())))?;
            let folder = if start.is_dir() { start.as_path() } else { start.parent().unwrap_or(&start) };
            let its_root =
                root_of(arguments.root.as_deref(), folder).map_err(|error| Failure::new(error.to_string()))?;
            if root.as_ref().is_some_and(|root| *root != its_root) {
                return Err(Failure::usage("the folders are of several repositories")
                    .hint("import one after the other, or name a folder above them with --root"));
            }
            starts.push(below(&its_root, &start)?);
            root = Some(its_root);
        }
        let here = || std::env::current_dir().and_then(|here| here.canonicalize());
        let root = match root {
            Some(root) => root,
            None => {
                let here =
                    here().map_err(|error| Failure::new(format!("cannot tell where this was started: {error}")))?;
                root_of(arguments.root.as_deref(), &here).map_err(|error| Failure::new(error.to_string()))?
            }
        };
        let reads_stdin = arguments.paths.iter().any(|path| path.as_os_str() == STDIN);
        let origin = Origin::of(&root);
        Ok(Self { root, starts, reads_stdin, origin })
    }

    fn options(&self, arguments: &ImportArgs, destinations: BTreeMap<String, Labels>) -> Options {
        let labels: Labels = arguments.labels.iter().map(|one| (one.key.clone(), one.value.clone())).collect();
        Options {
            cluster_labels: Some(labels).filter(|labels| !labels.is_empty()),
            destinations,
            prefix: arguments.prefix.as_ref().map(ToString::to_string),
            url: arguments.repo_url.clone().or_else(|| self.origin.url.clone()),
            branch: arguments.branch.clone().or_else(|| self.origin.branch.clone()),
            overlays: self.overlays(arguments.into.as_deref()),
        }
    }

    /// Where the overlays are when what is written is committed as it lies.
    fn overlays(&self, into: Option<&Path>) -> String {
        let folder =
            into.and_then(|into| std::path::absolute(into).ok()).and_then(|into| below(&self.root, &into).ok());
        let is_plain = |folder: &String| !folder.split('/').any(|part| part == "..");
        match folder.filter(is_plain) {
            Some(folder) if folder.is_empty() => "overlays".to_owned(),
            Some(folder) => format!("{folder}/overlays"),
            None => OVERLAYS.to_owned(),
        }
    }

    fn gather(&self) -> Result<Gathered, Failure> {
        let mut gathered = gather(&RepoFolders::new(self.root.clone(), BTreeMap::new()), &self.starts)?;
        if self.reads_stdin {
            let mut bytes = Vec::new();
            std::io::stdin()
                .read_to_end(&mut bytes)
                .map_err(|error| Failure::new(format!("cannot read standard input: {error}")))?;
            let more = gather_text(&bytes);
            if let Some(unread) = more.unread.first() {
                return Err(Failure::new(format!("standard input: {}", unread.why)));
            }
            gathered.objects.extend(more.objects);
        }
        Ok(gathered)
    }

    fn workspace(&self, arguments: &ImportArgs) -> Result<Workspace<RepoFolders>, Failure> {
        let mut others = BTreeMap::new();
        for checkout in &arguments.checkouts {
            let folder = checkout
                .folder
                .canonicalize()
                .map_err(|error| Failure::new(format!("cannot read `{}`: {error}", checkout.folder.display())))?;
            others.insert(checkout.repo.clone(), Arc::new(RepoFolders::new(folder, BTreeMap::new())));
        }
        Ok(Workspace {
            files: Arc::new(RepoFolders::new(self.root.clone(), BTreeMap::new())),
            others,
            engines: Engines::new(arguments.engine.as_deref(), Confinement::AsThereIs),
        })
    }
}

fn has_others(import: &Import) -> bool {
    import.overlays.iter().any(|overlay| !import.is_own(&overlay.repo))
}

/// With the line that leaves them out, if it is not there.
fn with_others_left_out(lines: &str) -> Option<String> {
    let line = format!("/{OTHERS}/");
    let end = if lines.is_empty() || lines.ends_with('\n') { "" } else { "\n" };
    (!lines.lines().any(|one| one == line)).then(|| format!("{lines}{end}{line}\n"))
}

/// All of it or, if something else is there, nothing.
fn write(into: &Path, options: &Options, import: &Import, may_overwrite: bool) -> Result<(), Failure> {
    let mut files: Vec<(PathBuf, String)> = Vec::new();
    let mut ignored = None;
    let text = |value: &Value| yaml::text(value).map_err(|error| Failure::new(error.to_string()));
    for document in &import.documents {
        let folder = if document.kind == "Repo" { "repos" } else { "targets" };
        files.push((into.join(folder).join(format!("{}.yaml", document.name)), text(&document.to_json())?));
    }
    for overlay in &import.overlays {
        let below = overlay.path.strip_prefix(&options.overlays).unwrap_or(&overlay.path).trim_start_matches('/');
        let file = if import.is_own(&overlay.repo) {
            into.join("overlays").join(below)
        } else {
            into.join(OTHERS).join(&overlay.repo).join(&overlay.path)
        };
        files.push((file, text(&overlay.content)?));
    }
    if has_others(import) {
        let file = into.join(ignore::FILE);
        let there = std::fs::read_to_string(&file).unwrap_or_default();
        if let Some(text) = with_others_left_out(&there) {
            // What others wrote there stays.
            ignored = Some((file, text));
        }
    }
    for (path, text) in files.iter().filter(|_| !may_overwrite) {
        if std::fs::read_to_string(path).is_ok_and(|there| there != *text) {
            return Err(Failure::new(format!("`{}` is there, and says something else", path.display()))
                .hint("`--overwrite` writes over it"));
        }
    }
    files.extend(ignored);
    for (path, text) in &files {
        let failed = |error: std::io::Error| Failure::new(format!("cannot write `{}`: {error}", path.display()));
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(failed)?;
        }
        std::fs::write(path, text).map_err(failed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use bellwether_import::OverlayFile;

    use super::*;

    #[test]
    fn what_is_for_another_repo_is_nothing_of_the_one_that_it_is_written_into() {
        let folder = tempfile::tempdir().expect("a folder");
        let into = folder.path().join("bellwether");
        std::fs::create_dir(&into).expect("a folder");
        std::fs::write(into.join(ignore::FILE), "/notes.yaml").expect("a file");
        let mut import = Import::default();
        let path = "bellwether/overlays/web/kustomization.yaml".to_owned();
        let (repo, target) = ("other".to_owned(), "web".to_owned());
        import.overlays.push(OverlayFile { repo, path, target, content: json!({"resources": ["../../../deploy"]}) });
        let options = Options { overlays: "bellwether/overlays".to_owned(), ..Options::default() };

        for _ in 0..2 {
            write(&into, &options, &import, false).expect("it is written");
        }

        let written = into.join("other-repos/other/bellwether/overlays/web/kustomization.yaml");
        assert!(written.is_file() && !into.join("overlays").exists());
        let ignored = std::fs::read_to_string(into.join(ignore::FILE)).expect("it is there");
        assert_eq!(ignored, "/notes.yaml\n/other-repos/\n");
        let found = bellwether_validate::find(folder.path(), &[String::new()], &[]).expect("it is read");
        assert!(found.folders.is_empty(), "{found:?}");
    }
}
