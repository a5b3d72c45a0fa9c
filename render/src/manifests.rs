//! One target at one commit: from its files to its objects, whatever engine they are for.
//!
//! What a folder is, is found in it, unless the target says so. Plain files and what Kustomize builds are read once and
//! filled in for each cluster, but for kustomizations whose charts look at it; Helm is asked for each set of values. All that was
//! read on the way is told.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bellwether_core::parameters::Values;
use bellwether_core::render::{LeftOutHook, RenderKind, RenderOptions, RepoFile};
use serde_json::Value;

use crate::engine::chart::{Chart, seen_of, variable_of};
use crate::engine::fill::Fills;
use crate::engine::made::{Maker, below};
use crate::engine::parameters;
use crate::engine::plain::Documents;
use crate::error::{Failure, Place, RenderError};
use crate::external::wire::{Answer, Done, Frozen, Question, Request, Settings, SourceAsked};
use crate::external::{EngineError, Engines};
use crate::files::{Files, Read, Recorder};
use crate::tree::Inputs;
use crate::{CHART, Recipe, RenderedObject, SourceFile};

/// In the order in which Kustomize looks for them.
pub const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

/// Of the names of all functions that there are.
const FUNCTIONS_CHARACTERS_MAX: usize = 200;

const CHARTS: [&str; 1] = [CHART];

/// What a target says of its render.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Relative to the repo's root, with `/`.
    pub folder: String,
    pub options: RenderOptions,
    /// The target's name: a release has it that is given no other.
    pub name: String,
    pub namespace: Option<String>,
    /// Somebody gives the target parameters. Without, `${…}` is nobody's but what it says of the cluster.
    pub has_parameters: bool,
    /// An engine renders for one after the other only after it was started anew.
    pub project: String,
}

/// What a target's files make, before any cluster's values are in it.
pub struct Manifests<F> {
    engines: Engines,
    project: String,
    files: Recorder<F>,
    /// Files with parameters.
    parameter_files: Vec<RepoFile>,
    filled: Fills,
    content: Content,
    /// More are found where a kustomization is laid over a chart: which one may be chosen by values.
    variables: Mutex<BTreeSet<String>>,
    /// Hooks that are not applied, of all that was made.
    left_out_hooks: Mutex<BTreeSet<LeftOutHook>>,
    /// Of the engine that made something of it.
    versions: OnceLock<Arc<str>>,
}

enum Content {
    Documents(Built),
    Chart(Box<Chart>),
}

/// What is not a chart, before any cluster's values are in it.
#[derive(Default)]
struct Built {
    /// The same for every cluster.
    documents: Documents,
    /// Kustomizations with charts that look at their cluster.
    by_cluster: Vec<Kustomization>,
}

struct Kustomization {
    folder: String,
    file: String,
}

impl Built {
    fn append(&mut self, others: Self) -> Result<(), RenderError> {
        self.by_cluster.extend(others.by_cluster);
        self.documents.append(others.documents)
    }
}

impl<F: Files> Manifests<F> {
    /// Reads what can be read before there are values.
    pub fn open(engines: Engines, files: F, plan: Plan) -> Result<Self, Failure<F::Error>> {
        let Plan { folder, options, name, namespace, has_parameters, project } = plan;
        let (files, content) = (Recorder::new(files), Content::Documents(Built::default()));
        let parameter_files = options.parameter_files.clone();
        let (variables, versions) = (Mutex::new(parameters::variables_of(&parameter_files)?), OnceLock::new());
        let filled = if has_parameters || !parameter_files.is_empty() { Fills::All } else { Fills::ClustersOwn };
        let left_out_hooks = Mutex::default();
        let mut manifests =
            Self { engines, project, files, parameter_files, filled, content, variables, left_out_hooks, versions };
        for source in options.sources() {
            manifests.files.find_source(&source, Place::Field { path: Arc::from("render") })?;
        }
        let chart = |options| Chart::new(&folder, options, &name, namespace.as_deref(), filled);
        manifests.content = match manifests.kind_of(&folder, options.stated_kind())? {
            Kind::Plain => Content::Documents(manifests.read_plain(&folder, options.kind)?),
            Kind::Kustomize { file } => Content::Documents(manifests.build(&folder, &file)?),
            Kind::Helm => Content::Chart(Box::new(chart(options)?)),
        };
        match &manifests.content {
            Content::Documents(built) => manifests.note(&built.documents),
            Content::Chart(chart) => manifests.know(chart.variables()),
        }
        Ok(manifests)
    }

    /// Sets values of a chart over all that the target sets; without a chart, nothing.
    pub fn set_over(&mut self, settings: Settings) -> Result<(), RenderError> {
        if let Content::Chart(chart) = &mut self.content {
            chart.set_over(settings)?;
            self.variables.get_mut().unwrap_or_else(PoisonError::into_inner).extend(chart.variables().iter().cloned());
        }
        Ok(())
    }

    /// What a chart makes by itself follows from this, where the target freezes it; it cannot be rendered without.
    pub fn freeze_with(&mut self, frozen: Frozen) {
        if let Content::Chart(chart) = &mut self.content {
            chart.freeze_with(frozen);
        }
    }

    /// Every variable that is referenced, also in defaults: clusters that have the same values of these get the same. A render
    /// may find more of them, and what was made before is to be looked at anew then.
    pub fn variables(&self) -> BTreeSet<String> {
        self.lock().clone()
    }

    /// What earlier renders of the same files have found.
    pub fn know<'v>(&self, variables: impl IntoIterator<Item = &'v String>) {
        self.lock().extend(variables.into_iter().cloned());
    }

    /// Hooks of Helm that are not applied, as far as anything was made.
    pub fn left_out_hooks(&self) -> BTreeSet<LeftOutHook> {
        self.left_out_hooks.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn note(&self, documents: &Documents) {
        self.know(documents.variables());
        let mut left_out_hooks = self.left_out_hooks.lock().unwrap_or_else(PoisonError::into_inner);
        left_out_hooks.extend(documents.left_out_hooks().iter().cloned());
    }

    fn lock(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.variables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All that was read until now.
    pub fn inputs(&self) -> Inputs {
        self.files.inputs()
    }

    /// Of the engine that was asked, if one was: another may make something else of the same.
    pub fn engine(&self) -> Option<Arc<str>> {
        self.versions.get().cloned()
    }

    /// The objects in order of their keys. Same files, plan, recipe and values: same bytes. The values are all that a cluster
    /// has: which of them are used may turn out here.
    pub fn render(&self, recipe: &Recipe, values: &Values) -> Result<Vec<RenderedObject>, Failure<F::Error>> {
        let values = &values.over(self.read_parameters(values)?);
        match &self.content {
            Content::Documents(built) if built.by_cluster.is_empty() => {
                Ok(built.documents.render(recipe, values).map_err(|error| self.with_line(error))?)
            }
            Content::Documents(built) => {
                let mut documents = built.documents.clone();
                for Kustomization { folder, file } in &built.by_cluster {
                    let request = Request::kustomize(folder, Some(seen_of(values)));
                    documents.append(self.make_for(&request, &Maker::Kustomize { file }, variables_of)?)?;
                }
                Ok(documents.render(recipe, values).map_err(|error| self.with_line(error))?)
            }
            Content::Chart(chart) => {
                let request = chart.request(values)?;
                let is_read = |path: &str| self.files.has_read(path);
                let maker = chart.maker(&request, &is_read);
                let documents = self.make_for(&request, &maker, |looked_at| chart.variables_of(looked_at))?;
                Ok(documents.render(recipe, values)?)
            }
        }
    }

    /// For one cluster. What it turns out to depend on is known from then on.
    fn make_for(
        &self,
        request: &Request,
        maker: &Maker<'_>,
        variables_of: impl FnOnce(&[String]) -> BTreeSet<String>,
    ) -> Result<Documents, Failure<F::Error>> {
        let mut looked_at = Vec::new();
        let made = self.make(request, maker, &mut looked_at);
        // Also of one that failed: for another cluster it may not.
        self.know(&variables_of(&looked_at));
        let documents = made?;
        self.note(&documents);
        Ok(documents)
    }

    /// What the files of parameters have for these values, of which they are chosen.
    fn read_parameters(&self, values: &Values) -> Result<BTreeMap<String, Value>, Failure<F::Error>> {
        let mut read = BTreeMap::new();
        for path in parameters::paths(&self.parameter_files, values)? {
            let Read::File(bytes) = self.files.read(&path)? else {
                return Err(RenderError::ParameterFileMissing { file: path }.into());
            };
            read.extend(parameters::read(&path, &bytes)?);
        }
        Ok(read)
    }

    fn kind_of(&self, folder: &str, stated: RenderKind) -> Result<Kind, Failure<F::Error>> {
        let kustomization = |found: Option<String>| found.unwrap_or_else(|| below(folder, KUSTOMIZATIONS[0]));
        Ok(match stated {
            RenderKind::Plain => Kind::Plain,
            RenderKind::Helm => Kind::Helm,
            RenderKind::Kustomize => Kind::Kustomize { file: kustomization(self.find(folder, &KUSTOMIZATIONS)?) },
            RenderKind::Auto => match self.find(folder, &KUSTOMIZATIONS)? {
                Some(file) => Kind::Kustomize { file },
                None if self.find(folder, &CHARTS)?.is_some() => Kind::Helm,
                None => Kind::Plain,
            },
        })
    }

    /// The first of these that is a file of the folder.
    fn find(&self, folder: &str, names: &[&str]) -> Result<Option<String>, Failure<F::Error>> {
        for name in names {
            let path = below(folder, name);
            if let Read::File(_) = self.files.read(&path)? {
                return Ok(Some(path));
            }
        }
        Ok(None)
    }

    /// Every manifest below. A folder that has a kustomization is what Kustomize builds of it, unless all is said to be plain.
    fn read_plain(&self, folder: &str, stated: RenderKind) -> Result<Built, Failure<F::Error>> {
        let mut files = self.files.manifests(folder)?;
        let is_kustomization = |file: &SourceFile| KUSTOMIZATIONS.contains(&name_of(&file.path));
        if stated == RenderKind::Plain {
            files.retain(|file| !is_kustomization(file));
            return Ok(Built { documents: read_manifests(&files, self.filled)?, by_cluster: Vec::new() });
        }
        let mut built: Vec<(String, String)> = Vec::new();
        let is_within = |path: &str, folder: &str| path.strip_prefix(folder).is_some_and(|rest| rest.starts_with('/'));
        let mut kustomizations: Vec<_> = files.iter().filter(|file| is_kustomization(file)).collect();
        kustomizations.sort_by_key(|file| file.path.split('/').count());
        for file in kustomizations {
            let at = file.path.rsplit_once('/').map_or("", |(at, _)| at);
            if !built.iter().any(|(outer, _)| outer == at || is_within(at, outer)) {
                built.push((at.to_owned(), file.path.clone()));
            }
        }
        files.retain(|file| !built.iter().any(|(outer, _)| is_within(&file.path, outer)));
        let mut all = Built { documents: read_manifests(&files, self.filled)?, by_cluster: Vec::new() };
        for (at, file) in built {
            all.append(self.build(&at, &file)?)?;
        }
        Ok(all)
    }

    /// Once for all clusters, and where a chart in it turns out to look at its cluster, again for each.
    fn build(&self, folder: &str, file: &str) -> Result<Built, Failure<F::Error>> {
        let mut looked_at = Vec::new();
        let made = self.make(&Request::kustomize(folder, None), &Maker::Kustomize { file }, &mut looked_at);
        let made = made.map_err(|failure| match failure {
            Failure::Render(error) => Failure::Render(self.with_line(error)),
            other => other,
        });
        if looked_at.is_empty() {
            return Ok(Built { documents: made?, by_cluster: Vec::new() });
        }
        self.know(&variables_of(&looked_at));
        match made {
            // For whoever wants to know before there is a cluster; what is left out shows with what one gets.
            Ok(documents) => self.know(documents.variables()),
            // It may not fail for a cluster.
            Err(Failure::Render(_)) => {}
            Err(error) => return Err(error),
        }
        let seeing = Kustomization { folder: folder.to_owned(), file: file.to_owned() };
        Ok(Built { documents: Documents::default(), by_cluster: vec![seeing] })
    }

    /// Nobody wrote the lines of what Kustomize built, but somebody wrote the variables in them.
    fn with_line(&self, error: RenderError) -> RenderError {
        error.written_at(|name| self.files.find_line(|line| refers_to(line, name)))
    }

    /// What may be something else each time is made twice: clusters that are to have the same would get what differs, and
    /// every commit would be a change.
    fn make(
        &self,
        request: &Request,
        maker: &Maker<'_>,
        looked_at: &mut Vec<String>,
    ) -> Result<Documents, Failure<F::Error>> {
        let first = self.ask(request, looked_at)?;
        let sealed = OnceCell::new();
        let find_sealed = |mac: &str| sealed.get_or_init(|| self.files.list_sealed()).get(mac).cloned();
        let made = Documents::made(&first.documents, maker, self.filled, &find_sealed)?;
        if first.volatile.is_empty() {
            return Ok(made);
        }
        let again = self.ask(&Request { again: true, ..request.clone() }, looked_at)?;
        if again.documents != first.documents
            && let Some(at) =
                made.first_difference(&Documents::made(&again.documents, maker, self.filled, &find_sealed)?)
        {
            let functions = first.volatile.join(", ").chars().take(FUNCTIONS_CHARACTERS_MAX).collect();
            return Err(RenderError::Volatile { at, functions }.into());
        }
        Ok(made)
    }

    fn find_source(&self, asked: SourceAsked) -> Result<String, Failure<F::Error>> {
        let at = asked.place();
        match asked.source() {
            Some(source) => self.files.find_source(&source, at),
            None => Err(RenderError::SourceInvalid { at }.into()),
        }
    }

    /// What an engine must not read, or cannot, is an error whatever it makes of that.
    fn ask(&self, request: &Request, looked_at: &mut Vec<String>) -> Result<Done, Failure<F::Error>> {
        let mut failure = None;
        self.files.begin_render();
        let made = self.engines.render(&self.project, request, &mut |question| {
            let answer = match question {
                Question::Read(path) => self.files.read(&path).map(Answer::from),
                Question::List(path) => self.files.list(&path).map(|listing| Answer::from(&*listing)),
                Question::Source(asked) => self.find_source(asked).map(Answer::Source),
            };
            answer.map_or_else(
                |error| {
                    // An engine ends by what it is refused. One that asks for more and more may not.
                    let refused = (!error.is_over_limit()).then(|| Answer::Refused(error.to_string()));
                    failure.get_or_insert(error);
                    refused
                },
                Some,
            )
        });
        match (failure, made) {
            (Some(error), _) => Err(error),
            (None, Err(error)) => {
                if let EngineError::Failed { before, .. } = &error {
                    looked_at.extend(before.looked_at.iter().cloned());
                }
                let hidden = request.helm.as_ref().map(|helm| helm.hidden.as_slice()).unwrap_or_default();
                Err(RenderError::from(error.hiding(hidden)).into())
            }
            (None, Ok(made)) => {
                looked_at.extend(made.done.looked_at.iter().cloned());
                self.versions.get_or_init(|| made.versions);
                Ok(made.done)
            }
        }
    }
}

/// Whether a line has a reference to a variable, outside of a comment, that gives it no default.
fn refers_to(line: &str, name: &str) -> bool {
    let mark = format!("${{{name}");
    let goes_on = |rest: &str| {
        let is_of_a_name = rest.starts_with(|next: char| next.is_alphanumeric() || "_.-=".contains(next));
        is_of_a_name || rest.starts_with(":-") || rest.starts_with(":=")
    };
    let is_meant = |(at, _): (usize, &str)| !line[..at].ends_with('$') && !goes_on(&line[at + mark.len()..]);
    !line.trim_start().starts_with('#') && line.match_indices(&mark).any(is_meant)
}

/// Which files of parameters have a value for this one, the weakest first.
pub fn values_in_files<F: Files>(
    files: F,
    parameter_files: &[RepoFile],
    values: &Values,
    parameter: &str,
) -> Result<Vec<(String, Value)>, Failure<F::Error>> {
    let files = Recorder::new(files);
    for source in parameter_files.iter().filter_map(RepoFile::source) {
        files.find_source(&source, Place::Field { path: Arc::from("render") })?;
    }
    let mut found = Vec::new();
    for path in parameters::paths(parameter_files, values)? {
        let Read::File(bytes) = files.read(&path)? else {
            return Err(RenderError::ParameterFileMissing { file: path }.into());
        };
        let value = parameters::read(&path, &bytes)?.remove(parameter);
        found.extend(value.map(|value| (path, value)));
    }
    Ok(found)
}

/// Of a cluster, what stands for what was looked at.
fn variables_of(looked_at: &[String]) -> BTreeSet<String> {
    looked_at.iter().filter_map(|at| variable_of(at)).collect()
}

/// Of those that no kustomization has.
fn read_manifests(files: &[SourceFile], filled: Fills) -> Result<Documents, RenderError> {
    match files.iter().find(|file| name_of(&file.path) == CHART) {
        Some(chart) => Err(RenderError::ChartBelow { file: chart.path.clone() }),
        None => Documents::read(files, filled),
    }
}

fn name_of(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

enum Kind {
    Plain,
    Kustomize { file: String },
    Helm,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_refers_to_a_variable_that_it_gives_no_default() {
        for line in ["a: ${x}", "a: '${y}${x}'", "a: ${x^^}", "a: ${x:0:3} # why", "a: ${x"] {
            assert!(refers_to(line, "x"), "{line}");
        }
        for line in ["a: ${xy}", "a: ${x.y}", "a: ${x:-1}", "a: ${x=1}", "a: $${x}", "# a: ${x}", "a: x", "a: $x"] {
            assert!(!refers_to(line, "x"), "{line}");
        }
    }
}
