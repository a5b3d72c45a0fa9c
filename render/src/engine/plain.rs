//! Plain manifests: every YAML and JSON file under a path, its variables filled in.
//!
//! Files are parsed once and then rendered for each distinct set of values. It applies nothing and never writes a value
//! into an error.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bellwether_core::apply::PHASE_ANNOTATION;
use bellwether_core::bundle::OBJECTS_MAX;
use bellwether_core::hooks::{self, ARGO_HOOK, HELM_HOOK, Time};
use bellwether_core::parameters::Values;
use bellwether_core::render::{LEFT_OUT_MAX, LeftOutHook};
use bellwether_core::sealed::{Sealed, SealedError};
use serde_json::{Map, Value};

use super::fill::{Filling, Fills, template};
use super::variables::STEPS_MAX;
use crate::error::{Place, RenderError, SealedAs};
use crate::finish::{BundleLimit, Draft, Origin, Scopes};
use crate::ignore;
use crate::tree::{is_lfs_pointer, is_manifest};
use crate::yaml::{self, Content, Node, Text, TextStyle};
use crate::{Recipe, RenderedObject, SourceFile};

/// All files of one target: thrice what a bundle of as many objects as may be, of usual size, is made from.
pub const SOURCES_BYTES_MAX: usize = 64 * 1024 * 1024;

/// On an object: `disabled` leaves its `${…}` alone. The second is Flux's, so that its users need not change a file.
const SUBSTITUTE_ANNOTATIONS: [&str; 2] = ["bellwether.dev/substitute", "kustomize.toolkit.fluxcd.io/substitute"];

/// The objects of a target as written, or as an engine made them, lists unrolled.
#[derive(Clone, Default)]
pub struct Documents {
    sources: Vec<Source>,
    variables: BTreeSet<String>,
    left_out_hooks: BTreeSet<LeftOutHook>,
}

/// One object as written.
#[derive(Clone)]
struct Source {
    file: Arc<str>,
    root: Node,
    filled: Fills,
    /// What it is, if an engine made it.
    made: Option<Arc<str>>,
    /// It may have marks of [`OTHERS_MARK`].
    has_marks: bool,
    /// SOPS sealed it: all of it, as it is sent.
    sealed: Option<Arc<str>>,
}

/// In `${…}` that a chart has written for whoever runs what it deploys: between the two characters, where the engine has put a
/// kustomization over what the chart gave. What has none is the kustomization's, and filled in.
const OTHERS_MARK: &str = "$\u{f0a7}{";

impl Documents {
    /// Takes the files that end in `.yaml`, `.yml` and `.json`; their order does not matter.
    pub fn parse(files: &[SourceFile]) -> Result<Self, RenderError> {
        Self::read(files, Fills::All)
    }

    pub(crate) fn read(files: &[SourceFile], filled: Fills) -> Result<Self, RenderError> {
        let mut files: Vec<_> = files.iter().filter(|file| is_manifest(&file.path)).collect();
        files.sort_by(|a, b| a.path.cmp(&b.path));
        let bytes = files.iter().map(|file| file.bytes.len()).sum();
        if bytes > SOURCES_BYTES_MAX {
            return Err(RenderError::SourcesTooLarge { bytes, max: SOURCES_BYTES_MAX });
        }
        let mut documents = Self::default();
        let mut budget = yaml::Budget::default();
        for file in files {
            if is_lfs_pointer(&file.bytes) {
                return Err(RenderError::LfsPointer { file: file.path.clone() });
            }
            let name = Arc::from(file.path.as_str());
            let read = yaml::read_within(&file.path, &file.bytes, &mut budget);
            if ignore::is_of_another_tool(&file.path) && !read.as_ref().is_ok_and(|read| read.iter().all(is_object)) {
                continue;
            }
            let read = read?;
            let is_one_of_several = read.len() > 1;
            for document in read {
                let written = Written { file: &name, filled, made: None, find_sealed: None };
                if is_one_of_several && is_sealed(&document.root) {
                    return Err(written.sealed_with(&document.root, SealedAs::OneOfSeveral));
                }
                documents.add(written, document.root)?;
            }
        }
        documents.settle_hooks();
        Ok(documents)
    }

    /// What another tool's files below the same folder make.
    pub(crate) fn append(&mut self, others: Self) -> Result<(), RenderError> {
        if self.sources.len() + others.sources.len() > OBJECTS_MAX {
            return Err(RenderError::TooMany);
        }
        self.sources.extend(others.sources);
        self.variables.extend(others.variables);
        self.left_out_hooks.extend(others.left_out_hooks);
        self.settle_hooks();
        Ok(())
    }

    /// Where the first object is that another render of the same made otherwise, or did not make.
    pub(crate) fn first_difference(&self, other: &Self) -> Option<Place> {
        let pairs = self.sources.iter().zip(&other.sources);
        let differs = |(one, other): (&'_ Source, &'_ Source)| {
            (one.root.to_json() != other.root.to_json()).then(|| one.origin().start())
        };
        let length = self.sources.len().min(other.sources.len());
        let more = self.sources.get(length).or(other.sources.get(length));
        pairs.into_iter().find_map(differs).or_else(|| Some(more?.origin().start()))
    }

    /// Every variable that is referenced, also in defaults.
    pub fn variables(&self) -> &BTreeSet<String> {
        &self.variables
    }

    /// Hooks that are not applied.
    pub(crate) fn left_out_hooks(&self) -> &BTreeSet<LeftOutHook> {
        &self.left_out_hooks
    }

    /// The objects in order of their keys. Same documents, recipe and values: same bytes.
    pub fn render(&self, recipe: &Recipe, values: &Values) -> Result<Vec<RenderedObject>, RenderError> {
        let mut scopes = Scopes::default();
        let mut steps = STEPS_MAX;
        for source in self.sources.iter().filter(|source| source.may_define_kind()) {
            scopes.learn(&Value::Object(source.fill(values, &mut steps)?));
        }
        let mut seen = BTreeMap::new();
        let mut rendered = Vec::with_capacity(self.sources.len());
        let mut limit = BundleLimit::default();
        for source in &self.sources {
            let object = source.render(recipe, values, &scopes, &mut steps)?;
            limit.add(&object)?;
            let (group, kind, namespace, name) = object.key.identity();
            let identity = (group.to_owned(), kind.to_owned(), namespace.map(str::to_owned), name.to_owned());
            let here = source.origin().start();
            if let Some(first) = seen.insert(identity, here.clone()) {
                return Err(RenderError::Duplicate { key: Box::new(object.key), first, second: here });
            }
            rendered.push(object);
        }
        rendered.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(rendered)
    }

    /// Charts have hooks of one name for an installation and for an upgrade, and both in one render. A target has one object of a
    /// name: that of the installation is taken, or else the first.
    pub(super) fn settle_hooks(&mut self) {
        let (hooks, others): (Vec<_>, Vec<_>) = self.sources.iter().partition(|source| is_of_upgrades(&source.root));
        if hooks.is_empty() {
            return;
        }
        let mut taken: BTreeSet<_> = others.into_iter().filter_map(|source| written_name(&source.root)).collect();
        let sources = std::mem::take(&mut self.sources);
        for source in sources {
            let is_taken = |name| !taken.insert(name);
            if is_of_upgrades(&source.root) && written_name(&source.root).is_some_and(is_taken) {
                self.leave_out(&source.root);
            } else {
                self.sources.push(source);
            }
        }
    }

    /// A hook whose time never comes: whoever waits for it, or misses it, is told.
    fn leave_out(&mut self, root: &Node) {
        if self.left_out_hooks.len() >= LEFT_OUT_MAX {
            return;
        }
        let short = |text: &str| text.chars().filter(|character| !character.is_control()).take(80).collect::<String>();
        let text = |node: Option<&Node>| short(node.and_then(Node::text).unwrap_or("?"));
        let metadata = |field: &str| root.field("metadata")?.field(field);
        let annotation = |name: &str| metadata("annotations")?.field(name);
        let name = text(metadata("name").or_else(|| metadata("generateName")));
        let hook = text(annotation(ARGO_HOOK).or_else(|| annotation(HELM_HOOK)));
        self.left_out_hooks.insert(LeftOutHook { kind: text(root.field("kind")), name, hook });
    }

    pub(super) fn add(&mut self, written: Written<'_>, root: Node) -> Result<(), RenderError> {
        if is_sealed(&root) && is_list(&root) {
            return Err(written.sealed_with(&root, SealedError::Kind.into()));
        }
        objects_of(root).into_iter().try_for_each(|object| self.add_one(written, object))
    }

    fn add_one(&mut self, written: Written<'_>, root: Node) -> Result<(), RenderError> {
        // Who comes to say `Skip` of what runs has it pruned: so that is named, too.
        if let Some(Time::Skipped | Time::Never) = time(&root) {
            self.leave_out(&root);
            return Ok(());
        }
        let Written { file, .. } = written;
        let made = written.made.map(|_| named(&root));
        if root.entries().is_none() {
            let at = Origin { file, root: &root, made: made.as_ref() }.start();
            return Err(RenderError::NotAnObject { at, found: root.kind() });
        }
        if self.sources.len() == OBJECTS_MAX {
            return Err(RenderError::TooMany);
        }
        let sealed = is_sealed(&root).then(|| written.sealed_text(&root)).transpose()?;
        let filled = if may_be_filled(&root) { written.filled } else { Fills::Nothing };
        let has_marks = written.made == Some(Made::OverAChart);
        let source = Source { file: file.clone(), root, filled, made, has_marks, sealed };
        if filled != Fills::Nothing {
            source.collect_variables(&source.root, &mut self.variables)?;
        }
        self.sources.push(source);
        Ok(())
    }
}

/// When a hook is applied, unless it says so itself; `None`: with all that is none. So it is whoever made it: charts are
/// committed as plain files too, and Kustomize builds of them.
fn time(root: &Node) -> Option<Time> {
    let annotation = |name: &str| root.field("metadata")?.field("annotations")?.field(name)?.text();
    hooks::time(annotation).filter(|_| annotation(PHASE_ANNOTATION).is_none())
}

fn is_of_upgrades(root: &Node) -> bool {
    let annotation = |name: &str| root.field("metadata")?.field("annotations")?.field(name)?.text();
    annotation(PHASE_ANNOTATION).is_none() && hooks::is_of_upgrades(annotation)
}

/// What it is called, as it is written: group, kind, namespace and name. `None`: its name is made later, of its content.
fn written_name(root: &Node) -> Option<[String; 4]> {
    let text = |node: Option<&Node>| node.and_then(Node::text).unwrap_or_default().to_owned();
    let metadata = |field: &str| root.field("metadata")?.field(field);
    let api_version = text(root.field("apiVersion"));
    let group = api_version.split_once('/').map(|(group, _)| group.to_owned()).unwrap_or_default();
    let name = text(metadata("name"));
    (!name.is_empty()).then(|| [group, text(root.field("kind")), text(metadata("namespace")), name])
}

/// Whether it says that it is an object for an API server.
fn is_object(document: &yaml::Document) -> bool {
    ["apiVersion", "kind"].iter().all(|field| document.root.field(field).and_then(Node::text).is_some())
}

/// Where a document comes from.
#[derive(Clone, Copy)]
pub(super) struct Written<'f> {
    pub(super) file: &'f Arc<str>,
    /// Its variables are filled in, unless it says otherwise.
    pub(super) filled: Fills,
    /// An engine made it, so that its lines are nobody's.
    pub(super) made: Option<Made>,
    /// Of that: what it read, by the MAC of SOPS.
    pub(super) find_sealed: Option<&'f FindSealed<'f>>,
}

/// A document that an engine has read, and how many are in its file.
pub(crate) type FindSealed<'f> = dyn Fn(&str) -> Option<(Node, usize)> + 'f;

impl Written<'_> {
    /// All of a sealed document, in the order in which it was written.
    fn sealed_text(self, root: &Node) -> Result<Arc<str>, RenderError> {
        let refused = |why: SealedAs| self.sealed_with(root, why);
        let document = match self.made {
            None => root.to_ordered(),
            Some(_) => self.written_for(root).map_err(refused)?.to_ordered(),
        };
        let text = serde_json::to_string(&document).expect("a text in memory can be written");
        Sealed::of(document).map_err(|why| refused(why.into()))?;
        Ok(text.into())
    }

    /// Of a sealed document that an engine passed on: as it was written, if nothing of it but its labels and annotations is another by
    /// now. An engine sorts what it makes.
    fn written_for(self, made: &Node) -> Result<Node, SealedAs> {
        let find = self.find_sealed.ok_or(SealedAs::Made)?;
        let (written, documents) = mac_of(made).and_then(find).ok_or(SealedAs::Made)?;
        if documents > 1 {
            return Err(SealedAs::OneOfSeveral);
        }
        let metadata = |root: &Node, field: &str| root.field("metadata")?.field(field).map(Node::to_json);
        let namespace = metadata(&written, "namespace");
        if namespace.is_some() && namespace != metadata(made, "namespace") {
            return Err(SealedAs::Changed("metadata.namespace".to_owned()));
        }
        if metadata(&written, "name") != metadata(made, "name") {
            return Err(SealedAs::Changed("metadata.name".to_owned()));
        }
        let content = |root: &Node| {
            let mut fields = root.to_json();
            fields.as_object_mut().map(|fields| fields.remove("metadata"));
            fields
        };
        let (one, other) = (content(&written), content(made));
        if one == other {
            return Ok(written);
        }
        let fields = one.as_object().into_iter().chain(other.as_object()).flat_map(Map::keys);
        let changed = fields.into_iter().find(|field| one.get(field.as_str()) != other.get(field.as_str()));
        Err(SealedAs::Changed(changed.cloned().unwrap_or_default()))
    }

    fn sealed_with(self, root: &Node, why: SealedAs) -> RenderError {
        let made = self.made.map(|_| named(root));
        let at = Origin { file: self.file, root, made: made.as_ref() }.start();
        RenderError::Sealed { at, object: named(root), why }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Made {
    Whole,
    /// By Kustomize, of what Helm gave.
    OverAChart,
}

/// `Deployment web`, for whoever looks for it.
fn named(root: &Node) -> Arc<str> {
    let text = |node: Option<&Node>| node.and_then(Node::text).unwrap_or("?").chars().take(80).collect::<String>();
    let name = root.field("metadata").and_then(|metadata| metadata.field("name"));
    format!("{} {}", text(root.field("kind")), text(name)).into()
}

/// The objects of a document: itself; of a `List`, and as with kubectl of any other list of objects, such as
/// `ConfigMapList`, what it lists. API servers leave out what the items of such a list are, so an item that does not say it
/// is of the list's kind.
pub fn objects_of(root: Node) -> Vec<Node> {
    if !is_list(&root) {
        return vec![root];
    }
    let text = |field: &str| root.field(field).and_then(Node::text).unwrap_or_default().to_owned();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    let kind = kind.strip_suffix("List").unwrap_or_default();
    let Content::Map(entries) = root.content else { return Vec::new() };
    let items = entries.into_iter().find(|entry| &*entry.key == "items").map(|entry| entry.value.content);
    let Some(Content::List(items)) = items else { return Vec::new() };
    let known = |item: Node| {
        let says_something = ["apiVersion", "kind"].iter().any(|field| item.field(field).is_some());
        let is_complete = says_something || kind.is_empty() || api_version.is_empty();
        if is_complete { item } else { item.with_text("apiVersion", &api_version).with_text("kind", kind) }
    };
    items.into_iter().map(known).flat_map(objects_of).collect()
}

fn is_list(root: &Node) -> bool {
    let is_named_so = root.field("kind").and_then(Node::text).is_some_and(|kind| kind.ends_with("List"));
    let items = root.field("items").map(|items| &items.content);
    is_named_so && matches!(items, Some(Content::List(_) | Content::Null))
}

/// Not if an annotation or label says so, nor if the document is sealed by SOPS: its MAC covers every value.
fn may_be_filled(root: &Node) -> bool {
    let metadata = root.field("metadata");
    let maps = ["annotations", "labels"].into_iter().filter_map(|field| metadata?.field(field));
    let mut settings = maps.flat_map(|map| SUBSTITUTE_ANNOTATIONS.iter().filter_map(|key| map.field(key)));
    let is_disabled = settings.any(|setting| setting.text() == Some("disabled"));
    !is_disabled && root.field("sops").is_none()
}

/// By SOPS: an agent opens it, and nobody on the way changes it. A `SopsSecret` is opened in its cluster by a controller of its own.
pub fn is_sealed(root: &Node) -> bool {
    root.field("sops").is_some() && root.field("kind").and_then(Node::text) != Some("SopsSecret")
}

/// By which one of its documents is known: SOPS makes another each time.
pub(crate) fn mac_of(root: &Node) -> Option<&str> {
    root.field("sops")?.field("mac")?.text().filter(|mac| !mac.is_empty())
}

/// What keeps a document that SOPS sealed from being one that an agent opens.
pub fn sealed_error(root: &Node) -> Option<SealedError> {
    Sealed::of(root.to_ordered()).err()
}

fn without_marks(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(text.replace(OTHERS_MARK, "${")),
        Value::Array(items) => items.into_iter().map(without_marks).collect(),
        Value::Object(fields) => {
            fields.into_iter().map(|(key, value)| (key.replace(OTHERS_MARK, "${"), without_marks(value))).collect()
        }
        other => other,
    }
}

impl Source {
    fn render(
        &self,
        recipe: &Recipe,
        values: &Values,
        scopes: &Scopes,
        steps: &mut usize,
    ) -> Result<RenderedObject, RenderError> {
        let mut object = self.fill(values, steps)?;
        if self.sealed.is_some() {
            // What a key is needed for is not looked at.
            object.retain(|field, _| ["apiVersion", "kind", "metadata"].contains(&field.as_str()));
        }
        Draft { origin: self.origin(), object, sealed: self.sealed.as_deref() }.finish(recipe, scopes)
    }

    fn origin(&self) -> Origin<'_> {
        Origin { file: &self.file, root: &self.root, made: self.made.as_ref() }
    }

    fn may_define_kind(&self) -> bool {
        self.root.field("kind").and_then(Node::text) == Some("CustomResourceDefinition")
    }

    fn fill(&self, values: &Values, steps: &mut usize) -> Result<Map<String, Value>, RenderError> {
        let mut filling = Filling::new(self.origin(), values, self.filled, *steps);
        let mut filled = filling.value(&self.root)?;
        *steps = filling.steps_left();
        if self.has_marks {
            filled = without_marks(filled);
        }
        match filled {
            Value::Object(object) => Ok(object),
            _ => Err(RenderError::NotAnObject { at: self.origin().start(), found: self.root.kind() }),
        }
    }

    /// Also finds every reference that is malformed, so that rendering cannot.
    fn collect_variables(&self, node: &Node, names: &mut BTreeSet<String>) -> Result<(), RenderError> {
        match &node.content {
            Content::Text(text) => self.collect_names(text, node.line(), names),
            Content::List(items) => items.iter().try_for_each(|item| self.collect_variables(item, names)),
            Content::Map(entries) => entries.iter().try_for_each(|entry| {
                let key = Text { value: entry.key.clone(), style: TextStyle::Quoted };
                self.collect_names(&key, entry.line(), names)?;
                self.collect_variables(&entry.value, names)
            }),
            _ => Ok(()),
        }
    }

    fn collect_names(&self, text: &Text, line: u32, names: &mut BTreeSet<String>) -> Result<(), RenderError> {
        if let Some(template) = template(self.origin(), &text.value, text.style, line, self.filled)? {
            names.extend(template.names().into_iter().map(str::to_owned));
        }
        Ok(())
    }
}
