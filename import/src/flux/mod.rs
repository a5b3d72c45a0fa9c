//! What Flux keeps: sources, Kustomizations and HelmReleases.
//!
//! A Kustomization deploys a folder, and in the folder may be more of Flux's objects, changed by overlays. So each folder is
//! built as Flux builds it, and what comes out is taken in place of the files that it came from.

mod fields;
mod kustomization;
mod release;
mod sources;
mod values;

use std::collections::{BTreeMap, BTreeSet};

use bellwether_core::Labels;
use bellwether_render::Files;

use crate::draft::{Collected, Import, finish, named_cluster};
use crate::gather::{Gathered, Object, STDIN};
use crate::paths::{folder_of, last_of, shared};
use crate::report::{Entry, Remark};
use crate::{Options, Workspace};

use self::kustomization::Built;
pub(crate) use self::sources::chart_ref;

pub(crate) const KUSTOMIZE: &str = "kustomize.toolkit.fluxcd.io";
pub(crate) const HELM: &str = "helm.toolkit.fluxcd.io";
pub(crate) const SOURCE: &str = "source.toolkit.fluxcd.io";

/// All groups of APIs that only Flux understands.
pub(crate) const GROUPS: [&str; 7] = [
    KUSTOMIZE,
    HELM,
    SOURCE,
    "source.extensions.fluxcd.io",
    "notification.toolkit.fluxcd.io",
    "image.toolkit.fluxcd.io",
    "fluxcd.controlplane.io",
];

/// Kustomizations in Kustomizations: nobody has so many.
const DEPTH_MAX: usize = 16;

/// Bellwether's files for what was gathered.
pub fn import<F: Files>(workspace: &Workspace<F>, gathered: Gathered, options: &Options) -> Import {
    let Gathered { objects, unread, .. } = gathered;
    let collected = Collected { unread, ..Collected::default() };
    let mut flux = Flux { workspace, options, raw: objects, collected, told: BTreeSet::new(), built: BTreeMap::new() };
    flux.run();
    finish(options, flux.collected)
}

pub(crate) struct Flux<'a, F> {
    workspace: &'a Workspace<F>,
    options: &'a Options,
    /// As files have them.
    raw: Vec<Object>,
    collected: Collected,
    /// Which objects the report has, and where in it.
    told: BTreeSet<String>,
    built: BTreeMap<String, Built>,
}

/// What an object inherits from the Kustomization that deploys it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Inherited {
    /// Flux's objects and ConfigMaps that are deployed together with it.
    pub(crate) scope: Vec<Object>,
    /// Values of variables, as they are written in a target; `None` where nothing is substituted.
    pub(crate) values: Option<BTreeMap<String, String>>,
    /// Those of variables that are not known here.
    pub(crate) is_open: bool,
    /// Of the Kustomizations above, what they are called.
    ancestors: Vec<String>,
    /// The file of the topmost.
    root: Option<String>,
}

impl<F: Files> Flux<'_, F> {
    fn run(&mut self) {
        let raw = self.raw.clone();
        let units: Vec<&Object> = raw.iter().filter(|object| is(object, KUSTOMIZE, "Kustomization")).collect();
        let none = Inherited::default();
        let inputs: Vec<BTreeSet<String>> = units.iter().map(|unit| self.build(unit, &none).inputs).collect();
        // What another Kustomization builds comes out of that one; one that builds itself is a root all the same.
        let is_built = |object: &Object| {
            let of_others = units.iter().zip(&inputs).filter(|(unit, _)| !std::ptr::eq(**unit, object));
            let mut above = of_others.filter(|(_, inputs)| covers(inputs, &object.file));
            above.any(|(unit, _)| !is_below(&units, &inputs, unit, object))
        };
        let roots: Vec<&&Object> = units.iter().filter(|unit| !is_built(unit)).collect();
        for root in roots {
            let inherited = Inherited { root: Some(root.file.clone()), ..Inherited::default() };
            self.kustomization(root, &inherited);
        }
        let left: Vec<&Object> = raw
            .iter()
            .filter(|object| is_flux(object) && !is(object, KUSTOMIZE, "Kustomization"))
            .filter(|object| !inputs.iter().any(|inputs| covers(inputs, &object.file)))
            .collect();
        for object in left {
            self.object(object, &none);
        }
        self.tell_of_the_rest(&raw, &inputs);
    }

    /// One of Flux's, but no Kustomization.
    fn object(&mut self, object: &Object, inherited: &Inherited) {
        match (object.group(), object.kind()) {
            (HELM, "HelmRelease") => self.release(object, inherited),
            (SOURCE, "GitRepository" | "OCIRepository" | "HelmRepository" | "Bucket") => {
                self.source(object);
            }
            _ => self.other(object),
        }
    }

    /// What is deployed by nobody that was read.
    fn tell_of_the_rest(&mut self, raw: &[Object], inputs: &[BTreeSet<String>]) {
        let is_left = |object: &&Object| {
            !is_flux(object)
                && object.file != STDIN
                && !["kustomize.config.k8s.io", "bellwether.dev"].contains(&object.group())
                && !inputs.iter().any(|inputs| covers(inputs, &object.file))
        };
        // Where nothing is Flux's, it is no folder of it.
        let has_flux = raw.iter().any(is_flux);
        let left: Vec<&Object> = raw.iter().filter(is_left).filter(|_| has_flux).collect();
        for object in left {
            let sentence = "no Kustomization that was read deploys it: write a target for its folder if it is deployed";
            self.tell(Entry { remarks: vec![Remark::none("", sentence)], ..object.entry() });
        }
    }

    /// Adds to the report, once.
    fn tell(&mut self, entry: Entry) -> Option<usize> {
        self.tell_apart(entry, "")
    }

    /// What several clusters deploy, each in its own way, is told for each of them.
    fn tell_for(&mut self, entry: Entry, object: &Object, inherited: &Inherited) -> Option<usize> {
        let cluster = cluster_of(inherited.root.as_deref().unwrap_or(&object.file));
        let cluster = cluster.filter(|_| self.options.cluster_labels.is_none());
        self.tell_apart(entry, &format!("{cluster:?} {}", object.value))
    }

    fn tell_apart(&mut self, entry: Entry, apart: &str) -> Option<usize> {
        let key = format!("{} {:?} {} {} {} {apart}", entry.kind, entry.namespace, entry.name, entry.file, entry.line);
        self.told.insert(key).then(|| {
            self.collected.report.push(entry);
            self.collected.report.len() - 1
        })
    }

    /// An object by its kind and name: among those that are deployed together, else the one whose file is nearest.
    fn find(
        &self,
        (group, kind): (&str, &str),
        name: &str,
        namespace: Option<&str>,
        from: &Object,
        scope: &[Object],
    ) -> Option<Object> {
        let is_meant = |object: &&Object| {
            object.group() == group
                && object.kind() == kind
                && object.name() == name
                && (namespace.is_none() || object.namespace().is_none() || object.namespace() == namespace)
        };
        let here = scope.iter().find(is_meant);
        let near = || self.raw.iter().filter(is_meant).max_by_key(|object| shared(&object.file, &from.file));
        here.or_else(near).cloned()
    }

    /// The clusters that what a file says is for, and what they were called.
    fn clusters(&self, file: &str) -> (Labels, Option<String>) {
        let name = cluster_of(file);
        match (&self.options.cluster_labels, name) {
            (Some(labels), _) => (labels.clone(), None),
            (None, Some(name)) => (named_cluster(&name), Some(name)),
            (None, None) => (named_cluster("flux"), None),
        }
    }
}

/// Of two that build each other the first in order is above.
fn is_below(units: &[&Object], inputs: &[BTreeSet<String>], unit: &Object, object: &Object) -> bool {
    let place = |wanted: &Object| units.iter().position(|unit| std::ptr::eq(*unit, wanted));
    let (Some(unit_at), Some(object_at)) = (place(unit), place(object)) else { return false };
    covers(&inputs[object_at], &unit.file) && object_at < unit_at
}

pub(crate) fn is(object: &Object, group: &str, kind: &str) -> bool {
    object.group() == group && object.kind() == kind
}

fn is_flux(object: &Object) -> bool {
    GROUPS.contains(&object.group())
}

/// Whether a render read a file, alone or with its folder.
fn covers(inputs: &BTreeSet<String>, file: &str) -> bool {
    let mut path = file;
    loop {
        if inputs.contains(path) {
            return true;
        }
        if path.is_empty() {
            return false;
        }
        path = folder_of(path);
    }
}

/// `clusters/NAME/…`, as Flux's own examples have it; else the folder of the file.
fn cluster_of(file: &str) -> Option<String> {
    let folder = folder_of(file);
    let mut parts = folder.split('/').skip_while(|part| !["clusters", "cluster"].contains(part)).skip(1);
    let last = || Some(last_of(folder)).filter(|last| !["", "flux-system", "clusters", "cluster"].contains(last));
    parts.next().or_else(last).map(str::to_owned)
}
