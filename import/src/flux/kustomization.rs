//! A Kustomization: the folder that it builds, and the target that deploys it.

use std::collections::{BTreeMap, BTreeSet};

use bellwether_render::Files;
use serde_json::{Value, json};

use super::values::Variables;
use super::{DEPTH_MAX, Flux, GROUPS, Inherited, KUSTOMIZE, fields, is};
use crate::audit::audit;
use crate::check::group_of;
use crate::draft::{Draft, OverlayDraft, Theirs, how_to_label, selector};
use crate::flux::sources::Origin;
use crate::gather::{Object, find};
use crate::kustomization::{Additions, Folder, Under, listed_by_flux, look_at, merged};
use crate::made::{Given, NotMade, RenderRequest, render};
use crate::paths::join;
use crate::report::{Entry, Remark};
use crate::text::{fill, has_mark, mark, marked, typed};
use crate::view::Changes;

/// What a Kustomization asks for as a kustomization does.
const IN_OVERLAYS: [&str; 7] =
    ["namePrefix", "nameSuffix", "patches", "patchesStrategicMerge", "patchesJson6902", "images", "components"];

/// What a Kustomization makes of its folder.
#[derive(Debug, Clone, Default)]
pub(crate) struct Built {
    /// With marks in place of variables, or with their values where marks do not render.
    pub(crate) objects: Vec<Value>,
    pub(crate) inputs: BTreeSet<String>,
    pub(crate) failure: Option<String>,
    /// Variables that nothing gives a value which was read, nor a default.
    unset: BTreeSet<String>,
    /// What is to be said of text that is a variable here.
    taken: Option<String>,
    /// How it was asked for.
    asked: Option<RenderRequest>,
    /// What Flux lists where there is no kustomization.
    resources: Vec<String>,
}

impl<F: Files> Flux<'_, F> {
    pub(super) fn kustomization(&mut self, object: &Object, inherited: &Inherited) {
        let mut entry = object.entry();
        entry.remarks.extend(audit(object.spec(), fields::KUSTOMIZATION));
        let from = self.source_of(object, &object.spec()["sourceRef"], inherited);
        let variables = self.variables(object, inherited, &mut entry);
        let built = self.build(object, inherited);
        let Some(index) = self.tell_for(entry, object, inherited) else { return };
        let settled = built.objects.iter().map(|value| settled(value, &variables));
        let own: Vec<Object> = settled.map(|value| self.placed(&value, object, &built)).collect();
        let inherited = Inherited {
            scope: own,
            values: variables.values.clone(),
            is_open: variables.is_open,
            ancestors: [inherited.ancestors.clone(), vec![identity(object)]].concat(),
            root: inherited.root.clone().or_else(|| Some(object.file.clone())),
        };
        match from {
            Ok(from) => self.target(object, index, &from, &variables, &built, &inherited),
            Err(why) => self.collected.report[index].add(Remark::none("spec.sourceRef", why)),
        }
        self.children(&inherited);
    }

    fn children(&mut self, inherited: &Inherited) {
        for child in inherited.scope.clone() {
            if !GROUPS.contains(&child.group()) {
                continue;
            }
            if !is(&child, KUSTOMIZE, "Kustomization") {
                self.object(&child, inherited);
            } else if inherited.ancestors.len() < DEPTH_MAX && !inherited.ancestors.contains(&identity(&child)) {
                self.kustomization(&child, inherited);
            }
        }
    }

    /// An object of a build: where it was written, if that can be told.
    fn placed(&self, value: &Value, parent: &Object, built: &Built) -> Object {
        let made = Object { file: parent.file.clone(), line: parent.line, value: value.clone() };
        let is_it = |raw: &&Object| {
            raw.group() == made.group()
                && raw.kind() == made.kind()
                && raw.name() == made.name()
                && super::covers(&built.inputs, &raw.file)
        };
        let mut written: Vec<&Object> = self.raw.iter().filter(is_it).collect();
        // A patch is read later than what it patches, and says less.
        written.sort_by_key(|raw| std::cmp::Reverse(raw.value.to_string().len()));
        match written.first() {
            Some(raw) => Object { file: raw.file.clone(), line: raw.line, ..made },
            None => made,
        }
    }

    fn target(
        &mut self,
        object: &Object,
        index: usize,
        from: &Origin,
        variables: &Variables,
        built: &Built,
        inherited: &Inherited,
    ) {
        let mut entry = self.collected.report[index].clone();
        let mut draft = Draft::new(object.name(), index);
        entry.remarks.extend(from.remark("spec.sourceRef"));
        draft.repo.clone_from(&from.repo);
        draft.reference = from.reference.clone();
        match from.paths.find(object.text(&["spec", "path"]).unwrap_or_default()) {
            Some(path) => draft.path = path,
            None => {
                entry.add(Remark::none("spec.path", "it leads to nothing in the repo: correct it"));
                self.collected.report[index] = entry;
                return;
            }
        }
        let (theirs_own, others): (Vec<&Value>, Vec<&Value>) =
            built.objects.iter().partition(|object| GROUPS.contains(&group_of(object)));
        let is_known = built.failure.is_none() && built.asked.is_some();
        if is_known && others.is_empty() && !theirs_own.is_empty() {
            entry.add(Remark::note("", "it deploys nothing but objects of Flux: each of them is moved by itself"));
            self.collected.report[index] = entry;
            return;
        }
        self.settle(object, &mut draft, inherited, &mut entry);
        if object.spec()["prune"] != json!(true) {
            draft.sync.insert("prune".to_owned(), json!("never"));
            entry.add(Remark::note(
                "spec.prune",
                "`sync.prune: never`: what is taken out of the repo stays in the cluster",
            ));
        }
        draft.namespace = built.asked.as_ref().and_then(|asked| asked.namespace.clone());
        if draft.namespace.is_some() {
            entry.add(Remark::note(
                "spec.targetNamespace",
                "some objects name no namespace, and there is none for them: `namespace: default` is what they got",
            ));
        }
        let groups: BTreeSet<&str> = theirs_own.iter().map(|object| group_of(object)).collect();
        let without: Vec<&'static str> = GROUPS.into_iter().filter(|group| groups.contains(group)).collect();
        if !without.is_empty() {
            entry.add(Remark::note(
                "spec.path",
                "the overlay leaves Flux's own objects out, which are moved by themselves",
            ));
        }
        if let Some(taken) = &built.taken {
            entry.add(Remark::differs("spec.path", taken));
        }
        parameters(&mut draft, variables, built, &others, &mut entry);
        overlay(object, &mut draft, built, &without, &mut entry);
        if let Some(failure) = &built.failure {
            entry.add(Remark::none("spec.path", format!("it does not render here: {failure}")));
        } else if built.asked.is_none() {
            entry.add(Remark::todo("spec.path", draft.not_looked_into()));
        }
        draft.theirs = theirs(object, &draft, variables, built, without);
        self.collected.report[index] = entry;
        self.collected.drafts.push(draft);
    }

    /// Clusters, and whether it is deployed at all.
    pub(super) fn settle(&self, object: &Object, draft: &mut Draft, inherited: &Inherited, entry: &mut Entry) {
        let file = inherited.root.as_deref().unwrap_or(&object.file);
        let (mut labels, cluster) = self.clusters(file);
        let release = (object.kind() == "HelmRelease").then(|| "release".to_owned());
        draft.apart = vec![release, cluster, object.namespace().map(str::to_owned)];
        if self.options.cluster_labels.is_none() {
            let how = how_to_label(&labels);
            entry.add(Remark::todo("", format!("it is for clusters with the label `cluster={}`: give it to them with {how}, or say with --cluster-labels which label they have", labels["cluster"])));
        }
        if object.spec()["suspend"] == json!(true) {
            labels.insert("import.bellwether.dev/suspended".to_owned(), "true".to_owned());
            entry.add(Remark::differs("spec.suspend", "a target cannot be suspended: it selects no cluster until `import.bellwether.dev/suspended` is taken out of its `clusters`"));
        }
        draft.clusters = selector(&labels);
        let without_values = object.spec().as_object().into_iter().flatten().filter(|(field, _)| *field != "values");
        for (field, _) in without_values.filter(|(_, value)| has_mark(&value.to_string())) {
            let sentence = "it has a variable whose value is not among these files: write the value into the target";
            entry.add(Remark::none(&format!("spec.{field}"), sentence));
        }
    }

    /// Builds a folder as Flux does, once.
    pub(super) fn build(&mut self, object: &Object, inherited: &Inherited) -> Built {
        let key = format!("{}:{} {}", object.file, object.line, object.value);
        if let Some(built) = self.built.get(&key) {
            return built.clone();
        }
        let built = self.build_anew(object, inherited);
        self.built.insert(key, built.clone());
        built
    }

    fn build_anew(&mut self, object: &Object, inherited: &Inherited) -> Built {
        let mut built = Built::default();
        let Ok(from) = self.source_of(object, &object.spec()["sourceRef"], inherited) else { return built };
        let Some(path) = from.paths.find(object.text(&["spec", "path"]).unwrap_or_default()) else { return built };
        let own = from.is_own.then(|| from.repo.clone());
        let Some(files) = self.workspace.checkout(&from.repo, own.as_deref()) else { return built };
        let additions = additions(object);
        let (file, content) = match look_at(&*files, &path) {
            Folder::Absent => return built,
            Folder::Unreadable { why } => return Built { failure: Some(why), ..built },
            Folder::Kustomize { file, content } => (file, content),
            Folder::Chart | Folder::Plain => {
                built.resources = listed_by_flux(&*files, &path);
                (join(&path, "kustomization.yaml"), json!({"resources": built.resources}))
            }
        };
        if from.is_own && self.collected.own.is_none() {
            self.collected.own = Some(from.repo.clone());
        }
        let mut asked = RenderRequest {
            repo: from.repo.clone(),
            changes: Changes::with(&file, &merged(&content, &additions)),
            folder: path,
            render: json!({"kind": "kustomize"}),
            name: "flux".to_owned(),
            namespace: None,
        };
        let variables = self.variables(object, inherited, &mut object.entry());
        let render = |asked: &RenderRequest, given: &Given<'_>| render(self.workspace, own.as_deref(), asked, given);
        let with = |asked: &RenderRequest| match &variables.values {
            None => render(asked, &Given::Nothing),
            Some(values) => {
                let is_known = |name: &str| variables.is_open || values.contains_key(name);
                let marked = |name: &str| is_known(name).then(|| Value::from(mark(name)));
                let given = |name: &str| values.get(name).map(|value| typed(value));
                let alone = || render(asked, &Given::Flux(&given));
                let mut made = render(asked, &Given::Flux(&marked)).or_else(|_| alone())?;
                if variables.is_open {
                    made.unset = alone().map(|alone| alone.unset).unwrap_or_default();
                }
                Ok(made)
            }
        };
        let mut made = with(&asked);
        if made.is_err() {
            // What names no namespace is applied to the one that a client has without being told.
            let placed = RenderRequest { namespace: Some("default".to_owned()), ..asked.clone() };
            if let Ok(again) = with(&placed) {
                (made, asked) = (Ok(again), placed);
            }
        }
        match made {
            Ok(made) => {
                built.taken = made.taken_for_the_clusters().filter(|_| variables.values.is_none());
                built.objects = made.objects;
                built.unset = made.unset;
                built.inputs = made.inputs;
            }
            Err(NotMade::NotHere { .. }) => return built,
            Err(NotMade::Failed(failure)) => built.failure = Some(failure),
        }
        built.asked = Some(asked);
        built
    }
}

/// With what is known of variables put in, but for values of a chart: of a target, only those may have any.
fn settled(object: &Value, variables: &Variables) -> Value {
    let value = |name: &str| {
        let known = variables.values.as_ref().and_then(|values| values.get(name).cloned());
        Some(known.unwrap_or_else(|| mark(name)))
    };
    let mut settled = fill(object, &value);
    if object["kind"] == "HelmRelease"
        && let Some(values) = find(object, &["spec", "values"])
    {
        settled["spec"]["values"] = values.clone();
    }
    settled
}

fn parameters(draft: &mut Draft, variables: &Variables, built: &Built, objects: &[&Value], entry: &mut Entry) {
    let Some(values) = &variables.values else { return };
    let parameters = draft.parameters.get_or_insert_default();
    parameters.extend(values.iter().map(|(name, value)| (name.clone(), typed(value))));
    if variables.is_open {
        // Flux has the others for the objects that it moves by themselves.
        let used: BTreeSet<String> = objects.iter().flat_map(|object| marked(object)).collect();
        let (lacking, with_default): (Vec<&String>, Vec<&String>) =
            used.iter().filter(|name| !values.contains_key(*name)).partition(|name| built.unset.contains(*name));
        tell_of_open(&lacking, &with_default, entry);
        return;
    }
    for name in &built.unset {
        parameters.insert(name.clone(), json!(""));
        let sentence = format!(
            "nothing gives `{name}` a value, which is an empty text in Flux and an error here: so it is empty under `parameters`"
        );
        entry.add(Remark::note("spec.postBuild", sentence));
    }
}

/// Variables that may have a value where nobody looks.
fn tell_of_open(lacking: &[&String], with_default: &[&String], entry: &mut Entry) {
    let list = |names: &[&String]| names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let mut sentences = Vec::new();
    if !lacking.is_empty() {
        let names = list(lacking);
        sentences.push(format!("nothing that was read gives {names} a value: write it under `parameters` of the target, which does not render without"));
    }
    if !with_default.is_empty() {
        sentences.push(format!("{} has its default now, unless `parameters` says otherwise", list(with_default)));
    }
    if !sentences.is_empty() {
        entry.add(Remark::todo("spec.postBuild", sentences.join("; ")));
    }
}

fn overlay(object: &Object, draft: &mut Draft, built: &Built, without: &[&'static str], entry: &mut Entry) {
    let additions = additions(object);
    for field in IN_OVERLAYS {
        if find(object.spec(), &[field]).is_some() {
            entry.add(Remark::note(&format!("spec.{field}"), "it stands in the overlay that is the target's path"));
        }
    }
    if find(object.spec(), &["targetNamespace"]).is_some() {
        entry.add(Remark::note("spec.targetNamespace", "the overlay writes it over every object's namespace; `namespace` of a target would only be for those that name none"));
    }
    if find(object.spec(), &["commonMetadata"]).is_some() {
        entry.add(Remark::note("spec.commonMetadata", "a patch of the overlay writes it on every object"));
    }
    if additions.is_empty() && without.is_empty() {
        return;
    }
    if !built.resources.is_empty() {
        entry.add(Remark::note(
            "spec.path",
            "the folder has no kustomization: the overlay lists its files, as Flux does; a new one has to be added there",
        ));
    }
    let under = if built.resources.is_empty() { Under::Folder } else { Under::Listed(built.resources.clone()) };
    draft.overlay = Some(OverlayDraft { under, additions, without: without.to_vec(), home: None });
}

fn identity(object: &Object) -> String {
    let path = object.text(&["spec", "path"]).and_then(crate::paths::normal).unwrap_or_default();
    format!("{}/{} {path}", object.namespace().unwrap_or_default(), object.name())
}

/// What it asks for besides what the folder says.
fn additions(object: &Object) -> Additions {
    let spec = object.spec();
    let mut additions = Additions::default();
    additions.set("namespace", find(spec, &["targetNamespace"]));
    for field in IN_OVERLAYS {
        additions.set(field, find(spec, &[field]));
    }
    let mut additions = additions.with_patches();
    let texts = |field: &str| find(spec, &["commonMetadata", field]).and_then(Value::as_object).cloned();
    additions.labels = texts("labels").unwrap_or_default();
    additions.annotations = texts("annotations").unwrap_or_default();
    additions
}

fn theirs(
    object: &Object,
    draft: &Draft,
    variables: &Variables,
    built: &Built,
    without: Vec<&'static str>,
) -> Result<Theirs, String> {
    if variables.is_open {
        return Err("values of variables are not among these files".to_owned());
    }
    let asked = built.asked.clone().ok_or_else(|| format!("`{}` is not among these files", draft.path))?;
    let Additions { labels, annotations, .. } = additions(object);
    let values: Option<BTreeMap<String, String>> = variables.values.clone();
    Ok(Theirs { asked, values, without, labels, annotations })
}
