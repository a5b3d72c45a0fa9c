//! One target at one commit: from its files to its objects, whatever engine they are for.
//!
//! What a folder is, is found in it, unless the target says so. Plain files and what Kustomize builds are read once and
//! filled in for each cluster; Helm is asked for each set of values. All that was read on the way is told.

use std::collections::BTreeSet;

use bellwether_core::parameters::Values;
use bellwether_core::render::{HelmOptions, RenderKind, RenderOptions};

use crate::engine::chart::Chart;
use crate::engine::made::{Maker, below};
use crate::engine::plain::Documents;
use crate::error::Failure;
use crate::external::wire::{Answer, Question, Request};
use crate::external::{EngineError, Engines};
use crate::files::{Files, Read, Recorder};
use crate::tree::Inputs;
use crate::{Recipe, RenderedObject};

/// In the order in which Kustomize looks for them.
const KUSTOMIZATIONS: [&str; 3] = ["kustomization.yaml", "kustomization.yml", "Kustomization"];

const CHARTS: [&str; 1] = ["Chart.yaml"];

/// What a target says of its render.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Relative to the repo's root, with `/`.
    pub folder: String,
    pub options: RenderOptions,
    /// The target's name: a release has it that is given no other.
    pub name: String,
    pub namespace: Option<String>,
    /// An engine renders for one after the other only after it was started anew.
    pub project: String,
}

/// What a target's files make, before any cluster's values are in it.
pub struct Manifests<F> {
    engines: Engines,
    project: String,
    files: Recorder<F>,
    content: Content,
}

enum Content {
    Documents(Documents),
    Chart(Chart),
}

impl<F: Files> Manifests<F> {
    /// Reads what can be read before there are values.
    pub fn open(engines: Engines, files: F, plan: Plan) -> Result<Self, Failure<F::Error>> {
        let Plan { folder, options, name, namespace, project } = plan;
        let mut manifests =
            Self { engines, project, files: Recorder::new(files), content: Content::Documents(Documents::default()) };
        let helm = |options: RenderOptions| options.helm.unwrap_or_default();
        let chart = |options: HelmOptions| Chart::new(&folder, options, &name, namespace.as_deref());
        manifests.content = match manifests.kind_of(&folder, options.stated_kind())? {
            Kind::Plain => Content::Documents(Documents::parse(&manifests.files.manifests(&folder)?)?),
            Kind::Kustomize { file } => Content::Documents(manifests.build(&folder, &file)?),
            Kind::Helm => Content::Chart(chart(helm(options))?),
        };
        Ok(manifests)
    }

    /// Every variable that is referenced, also in defaults: clusters that have the same values of these get the same.
    pub fn variables(&self) -> &BTreeSet<String> {
        match &self.content {
            Content::Documents(documents) => documents.variables(),
            Content::Chart(chart) => chart.variables(),
        }
    }

    /// All that was read until now.
    pub fn inputs(&self) -> Inputs {
        self.files.inputs()
    }

    /// The objects in order of their keys. Same files, plan, recipe and values: same bytes.
    pub fn render(&self, recipe: &Recipe, values: &Values) -> Result<Vec<RenderedObject>, Failure<F::Error>> {
        match &self.content {
            Content::Documents(documents) => Ok(documents.render(recipe, values)?),
            Content::Chart(chart) => {
                let stream = self.ask(&chart.request(values)?)?;
                let documents = Documents::made(&stream, &Maker::Helm { folder: chart.folder() })?;
                Ok(documents.render(recipe, values)?)
            }
        }
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

    fn build(&self, folder: &str, file: &str) -> Result<Documents, Failure<F::Error>> {
        let stream = self.ask(&Request { kind: "kustomize", path: folder.to_owned(), helm: None })?;
        Ok(Documents::made(&stream, &Maker::Kustomize { file })?)
    }

    /// What an engine must not read, or cannot, is an error whatever it makes of that.
    fn ask(&self, request: &Request) -> Result<String, Failure<F::Error>> {
        let mut failure = None;
        self.files.begin_render();
        let made = self.engines.render(&self.project, request, &mut |question| {
            let answer = match question {
                Question::Read(path) => self.files.read(&path).map(Answer::from),
                Question::List(path) => self.files.list(&path).map(|listing| Answer::from(&*listing)),
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
            (None, made) => Ok(made.map_err(|error: EngineError| crate::RenderError::from(error))?),
        }
    }
}

enum Kind {
    Plain,
    Kustomize { file: String },
    Helm,
}
