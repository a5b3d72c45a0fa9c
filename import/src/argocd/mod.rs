//! What Argo CD keeps: Applications, ApplicationSets and AppProjects.
//!
//! An Application is a target for each source that has manifests. An ApplicationSet is worked out as its controller would,
//! from the files that are here; what only the clusters themselves say stays open: one target for all of them.

mod application;
mod chart;
mod fields;
mod generators;
mod source;
mod template;

use std::collections::BTreeSet;
use std::sync::Arc;

use bellwether_render::Files;
use serde_json::{Value, json};

use self::generators::{Element, Generating};
use self::template::{Language, fill};
use crate::audit::audit;
use crate::draft::{Collected, Import, finish};
use crate::gather::{Gathered, Object};
use crate::report::{Entry, Remark};
use crate::repos::is_one_place;
use crate::{Options, Workspace};

pub(crate) const GROUP: &str = "argoproj.io";

/// Its other kinds, such as Rollouts and Workflows, are deployed like everything else.
pub(crate) const KINDS: [&str; 3] = ["Application", "ApplicationSet", "AppProject"];

/// Those, as overlays leave them out.
pub(crate) const LEFT_OUT: &str = "argoproj.io/Application|ApplicationSet|AppProject";

/// What a cluster generator says of a cluster, and Bellwether does not know.
pub(crate) const SERVER: &str = "cluster.server";
pub(crate) const ANNOTATIONS: &str = "cluster.annotations";

/// Bellwether's files for what was gathered.
pub fn import<F: Files>(workspace: &Workspace<F>, gathered: Gathered, options: &Options) -> Import {
    let collected = Collected { unread: gathered.unread, ..Collected::default() };
    let raw: Vec<Object> = gathered.objects.into_iter().filter(is_argo).collect();
    let mut argo = Argo { workspace, options, raw: raw.clone(), collected, told: BTreeSet::new() };
    for object in &raw {
        argo.object(object, 0);
    }
    finish(options, argo.collected)
}

pub(crate) struct Argo<'a, F> {
    workspace: &'a Workspace<F>,
    options: &'a Options,
    /// As files have them.
    raw: Vec<Object>,
    collected: Collected,
    told: BTreeSet<String>,
}

/// One Application, written down or made by a set.
#[derive(Debug, Clone)]
pub(crate) struct Application {
    pub(crate) value: Value,
    /// Of a set with a cluster generator, which clusters it is for.
    pub(crate) clusters: Option<Value>,
    /// Where it stands in the report.
    pub(crate) entry: usize,
    /// How deep in Applications that deploy Applications.
    pub(crate) depth: usize,
    /// Of the field, in the report.
    pub(crate) spec: &'static str,
}

impl<F: Files> Argo<'_, F> {
    pub(crate) fn object(&mut self, object: &Object, depth: usize) {
        match object.kind() {
            "Application" => {
                let Some(entry) = self.tell(object.entry()) else { return };
                let value = object.value.clone();
                self.application(&Application { value, clusters: None, entry, depth, spec: "spec" });
            }
            "ApplicationSet" => self.set(object, depth),
            _ => self.project(object),
        }
    }

    fn tell(&mut self, entry: Entry) -> Option<usize> {
        let key = format!("{} {:?} {} {} {}", entry.kind, entry.namespace, entry.name, entry.file, entry.line);
        self.told.insert(key).then(|| {
            self.collected.report.push(entry);
            self.collected.report.len() - 1
        })
    }

    pub(crate) fn remark(&mut self, entry: usize, remark: Remark) {
        self.collected.report[entry].add(remark);
    }

    fn project(&mut self, object: &Object) {
        let mut entry = object.entry();
        entry.add(Remark::none("", "who may deploy what where is not said by a file: tokens are of a role (`bellwether token create`), and an agent's own rights say what it may apply in its cluster"));
        entry.remarks.extend(audit(object.spec(), fields::PROJECT));
        self.tell(entry);
    }

    fn set(&mut self, object: &Object, depth: usize) {
        let spec = object.spec();
        let mut entry = object.entry();
        entry.remarks.extend(audit(spec, fields::SET));
        let is_go = spec["goTemplate"] == true;
        let is_strict =
            spec["goTemplateOptions"].as_array().into_iter().flatten().any(|option| option == "missingkey=error");
        let language = if is_go { Language::Go { is_strict } } else { Language::Fast };
        let Some(index) = self.tell(entry) else { return };
        let files = |url: &str| self.files_of(url);
        let mut generating = Generating { files: &files, language, unknown: Vec::new(), fixed: Vec::new() };
        let elements = generating.all(&spec["generators"], "spec.generators");
        let Generating { unknown, fixed, .. } = generating;
        for one in unknown {
            self.remark(index, Remark::none(&one.field, one.why));
        }
        for field in fixed {
            self.remark(
                index,
                Remark::differs(
                    &field,
                    "what is in the repo now has become targets: who adds a folder or a file writes a target for it",
                ),
            );
        }
        if elements.is_empty() {
            self.remark(index, Remark::note("spec.generators", "they give no Application"));
        }
        for element in elements {
            match made(spec, &element, language) {
                Ok(value) => {
                    let application = Application {
                        value,
                        clusters: element.clusters,
                        entry: index,
                        depth,
                        spec: "spec.template.spec",
                    };
                    self.application(&application);
                }
                Err(why) => self.remark(
                    index,
                    Remark::none("spec.template", format!("an Application could not be worked out: {why}")),
                ),
            }
        }
    }

    /// The files of a repository, if they are here.
    fn files_of(&self, url: &str) -> Option<Arc<F>> {
        if self.is_own(url) {
            return Some(self.workspace.files.clone());
        }
        let name = crate::text::as_name(crate::repos::same(url).rsplit(['/', ':']).next().unwrap_or_default());
        self.workspace.others.get(&name).cloned()
    }

    /// Without an address of our own, every repository is taken for the one that is read: what is not there is told.
    fn is_own(&self, url: &str) -> bool {
        self.options.url.as_deref().is_none_or(|own| is_one_place(own, url))
    }
}

fn is_argo(object: &Object) -> bool {
    object.group() == GROUP && KINDS.contains(&object.kind())
}

/// The Application of one set of parameters.
fn made(spec: &Value, element: &Element, language: Language) -> Result<Value, String> {
    let mut template = spec["template"].clone();
    if let (Some(Value::Object(over)), Value::Object(under)) = (&element.template, &mut template) {
        crate::values::merge(under, over);
    }
    let params = Value::Object(element.params.clone());
    let filled = fill(&template, &params, language)?;
    Ok(json!({"metadata": filled["metadata"], "spec": filled["spec"]}))
}
