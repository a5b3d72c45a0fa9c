//! All the objects of a run, and what is wrong with each and with all together.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bellwether_core::apis::Apis;
use bellwether_core::nearest;
use bellwether_core::sealed::SEALED_ANNOTATION;
use bellwether_render::yaml::{Content, Node};
use bellwether_render::{is_sealed, sealed_error};

use crate::custom::{Definitions, Known};
use crate::fields::Checker;
use crate::lifecycle::Lives;
use crate::names;
use crate::path::{Problem, Trail, has_variable, line_of};
use crate::report::{Finding, Named, Report, Severity, Skipped, TargetReport};
use crate::rules;
use crate::schema::{Schemas, Version, split};
use crate::told::{LiveDefinition, ToldSchema, named as named_clusters};

/// In every cluster from its beginning.
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// Groups that are Kubernetes' own: a kind in one of them has a schema in its version, or is not there.
const OWN_GROUPS: [&str; 6] = ["", "apps", "autoscaling", "batch", "extensions", "policy"];

/// What is asked of a run.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// A custom resource without a schema is an error.
    pub strict_schemas: bool,
    /// Namespaces that are there already.
    pub namespaces: BTreeSet<String>,
    /// What clusters serve that it is for.
    pub served: Vec<Served>,
}

/// What a cluster serves, by its name.
#[derive(Debug, Clone)]
pub struct Served {
    pub cluster: String,
    pub apis: Apis,
}

/// Where an object was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// As people name it.
    pub file: String,
    /// From 1, of those in the file.
    pub document: Option<usize>,
}

/// One object of a target.
#[derive(Debug, Clone)]
pub struct Object {
    pub source: Source,
    /// As it is applied.
    pub root: Node,
    /// As people wrote it, for its lines; `None` when an engine made it, and nobody wrote them.
    pub written: Option<Arc<Node>>,
    /// `${…}` are filled in later.
    pub may_have_variables: bool,
}

impl Object {
    fn text(&self, path: &[&str]) -> Option<&str> {
        text_at(&self.root, path)
    }

    fn named(&self) -> Named {
        named(&self.root)
    }

    fn line(&self, path: &str) -> Option<u32> {
        self.written.as_ref().map(|written| line_of(written, path))
    }
}

/// Not an empty one.
fn text_at<'n>(root: &'n Node, path: &[&str]) -> Option<&'n str> {
    path.iter().try_fold(root, |node, field| node.field(field))?.text().filter(|text| !text.is_empty())
}

/// As it says what it is; what it does not say is empty.
pub fn named(root: &Node) -> Named {
    let text = |path: &[&str]| text_at(root, path).unwrap_or_default().to_owned();
    Named {
        api_version: text(&["apiVersion"]),
        kind: text(&["kind"]),
        namespace: text_at(root, &["metadata", "namespace"]).map(ToOwned::to_owned),
        name: text(&["metadata", "name"]),
    }
}

/// What was rendered, or read together.
#[derive(Debug, Default)]
pub struct Part {
    pub target: TargetReport,
    pub objects: Vec<Object>,
    /// Of Kubernetes, for which the objects are; empty for all that are asked for.
    pub versions: Vec<Version>,
}

impl Part {
    fn is_for(&self, version: Version) -> bool {
        self.versions.is_empty() || self.versions.contains(&version)
    }
}

/// The objects of a run.
#[derive(Debug)]
pub struct Set {
    options: Options,
    versions: Vec<Schemas>,
    definitions: Definitions,
    told: Vec<LiveDefinition>,
    lives: Lives,
    parts: Vec<Part>,
    report: Report,
}

impl Set {
    /// Further definitions than those of the objects are in `definitions`.
    pub fn new(options: Options, versions: Vec<Schemas>, definitions: Definitions) -> Self {
        let report = Report {
            versions: versions.iter().map(|schemas| schemas.version().to_string()).collect(),
            ..Report::default()
        };
        Self { options, versions, definitions, told: Vec::new(), lives: Lives::load(), parts: Vec::new(), report }
    }

    pub fn add(&mut self, part: Part) {
        for object in &part.objects {
            if object.text(&["kind"]) == Some("CustomResourceDefinition") {
                self.definitions.learn(&object.root.to_json());
            }
        }
        let cases = part.objects.iter().map(|object| (object.source.file.clone(), object.named())).collect();
        let target = TargetReport { cases, ..part.target };
        let objects = part.objects.into_iter().map(|object| self.set_sealed_aside(&target, object)).collect();
        self.parts.push(Part { target, objects, ..part });
    }

    /// The groups of custom resources that nothing here defines: what is to be asked of clusters.
    pub fn undefined_groups(&self) -> BTreeSet<String> {
        let objects = self.parts.iter().flat_map(|part| &part.objects).map(Object::named);
        let undefined = objects.filter(|Named { api_version, kind, .. }| {
            !is_own_group(api_version)
                && matches!(self.definitions.find(api_version, kind), Known::Nothing)
                && !self.versions.iter().any(|version| version.kind(api_version, kind).is_some())
        });
        undefined.map(|named| split(&named.api_version).0.to_owned()).collect()
    }

    pub fn add_told(&mut self, told: LiveDefinition) {
        self.told.push(told);
    }

    /// What has been looked at already.
    pub fn add_report(&mut self, target: TargetReport) {
        self.report.targets.push(target);
    }

    /// What was found before there were objects, as when they cannot be rendered.
    pub fn add_finding(&mut self, finding: Finding) {
        self.report.findings.push(finding);
    }

    /// What is none of ours, and so is not looked at.
    pub fn add_skipped(&mut self, skipped: Skipped) {
        self.report.skipped.push(skipped);
    }

    /// `progress` is told the number of objects that are done.
    pub fn check(mut self, mut progress: impl FnMut(usize)) -> Report {
        let parts = std::mem::take(&mut self.parts);
        let created = parts.iter().flat_map(|part| &part.objects);
        let created = created.filter(|object| object.text(&["kind"]) == Some("Namespace"));
        let names = created.filter_map(|object| object.text(&["metadata", "name"]).map(ToOwned::to_owned));
        let namespaces: BTreeSet<_> = names
            .chain(NAMESPACES.map(ToOwned::to_owned))
            .chain(std::mem::take(&mut self.options.namespaces))
            .collect();
        let mut done = 0;
        for part in parts {
            for object in &part.objects {
                self.check_object(&part, object);
                self.check_served(&part.target, object);
                done += 1;
                progress(done);
            }
            self.check_twins(&part.target, &part.objects);
            self.check_namespaces(&part.target, &part.objects, &namespaces);
            self.report.targets.push(part.target);
        }
        self.report.sort();
        self.report
    }

    fn check_object(&mut self, part: &Part, object: &Object) {
        let mut merged: BTreeMap<(Severity, Problem), Vec<String>> = BTreeMap::new();
        let mut skipped = false;
        let mut told = BTreeSet::new();
        let mut add = |version: &Schemas, severity, problem| {
            merged.entry((severity, problem)).or_default().push(version.version().to_string());
        };
        for version in self.versions.iter().filter(|schemas| part.is_for(schemas.version())) {
            let mut judge =
                Judge { set: self, version, object, found: Vec::new(), is_skipped: false, told: Vec::new() };
            judge.judge();
            skipped |= judge.is_skipped;
            told.extend(judge.told);
            judge.found.into_iter().for_each(|(severity, problem)| add(version, severity, problem));
        }
        self.report.told.extend(told);
        let all = self.versions.len();
        for ((severity, problem), versions) in merged {
            let versions = if versions.len() == all { Vec::new() } else { versions };
            let finding = finding(&part.target, object, severity, problem, versions);
            self.report.findings.push(finding);
        }
        if skipped {
            self.report.skipped.push(Skipped {
                file: object.source.file.clone(),
                object: Some(object.named()),
                reason: "no schema".to_owned(),
            });
        }
    }

    /// What SOPS sealed of an object is not looked at: whether an agent could open it, is.
    fn set_sealed_aside(&mut self, target: &TargetReport, object: Object) -> Object {
        let is_overlay = object.text(&["metadata", "annotations", SEALED_ANNOTATION]).is_some();
        if !is_overlay && !is_sealed(&object.root) {
            return object;
        }
        if let Some(error) = sealed_error(&object.root).filter(|_| !is_overlay) {
            let problem = Problem {
                path: "sops".to_owned(),
                code: "object_sealed",
                message: format!("no agent could open it: {error}"),
                hint: Some(error.way_out().to_owned()),
                line: 0,
            };
            self.report.findings.push(finding(target, &object, Severity::Error, problem, Vec::new()));
        }
        let (file, reason) = (object.source.file.clone(), "sealed by SOPS".to_owned());
        self.report.skipped.push(Skipped { file, object: Some(object.named()), reason });
        let mut root = object.root;
        if let Content::Map(fields) = &mut root.content {
            fields.retain(|field| !["data", "stringData", "sops"].contains(&&*field.key));
        }
        Object { root, ..object }
    }

    /// A kind that clusters do not serve, unless its definition comes with it.
    fn check_served(&mut self, target: &TargetReport, object: &Object) {
        let Named { api_version, kind, .. } = object.named();
        let name = format!("{api_version}/{kind}");
        let is_one = !api_version.is_empty() && !kind.is_empty() && !has_variable(&name);
        if !is_one || !matches!(self.definitions.find(&api_version, &kind), Known::Nothing) {
            return;
        }
        let lacking = self.options.served.iter().filter(|served| !served.apis.has(&name));
        let lacking: Vec<_> = lacking.map(|served| served.cluster.as_str()).collect();
        if lacking.is_empty() {
            return;
        }
        let problem = Problem {
            path: String::new(),
            code: "api_not_served",
            message: format!("{api_version} {kind} is not served by {}", named_clusters(&lacking)),
            hint: Some("install what brings that kind there first, or name its definition with `--crds`".to_owned()),
            line: 0,
        };
        self.report.findings.push(finding(target, object, Severity::Error, problem, Vec::new()));
    }

    fn check_twins(&mut self, target: &TargetReport, objects: &[Object]) {
        let mut seen: BTreeMap<(String, Named), &Object> = BTreeMap::new();
        for object in objects {
            let mut named = object.named();
            if named.name.is_empty() || named.kind.is_empty() {
                continue;
            }
            let group = split(&named.api_version).0.to_owned();
            named.api_version.clear();
            named.namespace.get_or_insert_with(|| "default".to_owned());
            if let Some(first) = seen.insert((group, named), object) {
                let at = match first.line("") {
                    Some(line) => format!("{}:{line}", first.source.file),
                    None => first.source.file.clone(),
                };
                let problem = Problem {
                    path: String::new(),
                    code: "object_duplicate",
                    message: format!("stands twice in {}, first at {at}", target.name),
                    hint: Some("remove one, or rename it".to_owned()),
                    line: 0,
                };
                let finding = finding(target, object, Severity::Error, problem, Vec::new());
                self.report.findings.push(finding);
            }
        }
    }

    fn check_namespaces(&mut self, target: &TargetReport, objects: &[Object], known: &BTreeSet<String>) {
        let mut told = BTreeSet::new();
        for object in objects {
            let Some(namespace) = object.text(&["metadata", "namespace"]) else { continue };
            let is_nobodys = has_variable(namespace) || !names::is_dns_label(namespace);
            if known.contains(namespace) || is_nobodys || !told.insert(namespace) {
                continue;
            }
            let problem = Problem {
                path: "metadata.namespace".to_owned(),
                code: "namespace_unknown",
                message: format!("is `{namespace}`, which nothing here creates"),
                hint: Some(format!("add a Namespace, or say with `--namespace {namespace}` that it is there")),
                line: 0,
            };
            let finding = finding(target, object, Severity::Warning, problem, Vec::new());
            self.report.findings.push(finding);
        }
    }
}

fn finding(
    target: &TargetReport,
    object: &Object,
    severity: Severity,
    problem: Problem,
    versions: Vec<String>,
) -> Finding {
    Finding {
        severity,
        code: problem.code.to_owned(),
        message: problem.message,
        hint: problem.hint,
        file: object.source.file.clone(),
        line: object.line(&problem.path),
        document: object.source.document,
        object: Some(object.named()),
        field: Some(problem.path).filter(|path| !path.is_empty()),
        versions,
        target: target.name.clone(),
    }
}

/// One object in one version.
struct Judge<'a> {
    set: &'a Set,
    version: &'a Schemas,
    object: &'a Object,
    found: Vec<(Severity, Problem)>,
    is_skipped: bool,
    /// Schemas of clusters that it was held against.
    told: Vec<ToldSchema>,
}

impl Judge<'_> {
    fn judge(&mut self) {
        let Some((api_version, kind)) = self.check_names() else { return };
        let mut checker = Checker::new(self.version, self.object.may_have_variables);
        let mut trail = Trail::default();
        if let Some(known) = self.version.kind(&api_version, &kind) {
            checker.object(&mut trail, &self.object.root, self.version.fields(known.fields));
            rules::check(&mut trail, &self.object.root, &api_version, &kind);
            self.warn_of_end(&api_version, &kind);
        } else {
            self.judge_custom(&mut trail, &mut checker, &api_version, &kind);
        }
        let problems = trail.into_problems().into_iter();
        // The line is that of what is applied, which nobody wrote; the place is found again by the path.
        self.found.extend(problems.map(|problem| (Severity::Error, Problem { line: 0, ..problem })));
    }

    fn judge_custom(&mut self, trail: &mut Trail, checker: &mut Checker<'_>, api_version: &str, kind: &str) {
        match self.set.definitions.find(api_version, kind) {
            Known::Version { deprecated, schema } => {
                if let Some(why) = deprecated {
                    let message = format!("{api_version} {kind} is deprecated");
                    self.tell(
                        Severity::Warning,
                        "api_deprecated",
                        message,
                        Some(why.to_owned()).filter(|why| !why.is_empty()),
                    );
                }
                match schema {
                    Some(schema) => self.set.definitions.check(trail, &self.object.root, schema, checker),
                    None => self.skip(api_version, kind),
                }
            }
            Known::OtherVersions(served) => {
                let message = format!("{api_version} {kind} is not served by its CustomResourceDefinition");
                let hint = (!served.is_empty()).then(|| format!("it serves {}", served.join(", ")));
                self.tell(Severity::Error, "api_unknown", message, hint);
            }
            Known::Nothing if is_own_group(api_version) => self.judge_gone(api_version, kind),
            Known::Nothing => {
                checker.metadata(trail, &self.object.root);
                if !self.judge_told(checker.may_have_variables(), api_version, kind) {
                    self.skip(api_version, kind);
                }
            }
        }
    }

    /// By the definitions of clusters, each of which may be another. False: none has a schema.
    fn judge_told(&mut self, may_have_variables: bool, api_version: &str, kind: &str) -> bool {
        let set = self.set;
        let mut is_judged = false;
        for told in &set.told {
            match told.find(api_version, kind) {
                Some(Known::Version { schema: Some(schema), .. }) => {
                    is_judged = true;
                    self.told.extend(told.schemas(api_version, kind));
                    let mut trail = Trail::default();
                    told.definitions().check_schema(&mut trail, &self.object.root, schema, may_have_variables);
                    self.found.extend(trail.into_problems().into_iter().map(|problem| {
                        let message = format!("{}, as {} defines it", problem.message, told.names());
                        (Severity::Error, Problem { line: 0, message, ..problem })
                    }));
                }
                Some(Known::OtherVersions(served)) => {
                    is_judged = true;
                    let message = format!(
                        "{api_version} {kind} is not served by its CustomResourceDefinition of {}",
                        told.names()
                    );
                    let hint = (!served.is_empty()).then(|| format!("it serves {}", served.join(", ")));
                    self.tell(Severity::Error, "api_unknown", message, hint);
                }
                Some(Known::Version { .. } | Known::Nothing) | None => {}
            }
        }
        is_judged
    }

    /// A kind in a group of Kubernetes, which this version of it does not have.
    fn judge_gone(&mut self, api_version: &str, kind: &str) {
        let version = self.version.version();
        if let Some(life) = self.set.lives.find(api_version, kind).filter(|life| life.is_removed_in(version)) {
            let message = format!("{api_version} {kind} was removed in Kubernetes 1.{}", life.removed);
            let hint = self.set.lives.hint(life, version);
            self.tell(Severity::Error, "api_removed", message, hint);
            return;
        }
        let (group, _) = split(api_version);
        let others = self.version.kinds().filter(|&(of_group, _, of_kind)| of_group == group && of_kind == kind);
        let others: Vec<_> = others.map(|(_, version, _)| version).collect();
        let hint = if let Some(newest) = others.last() {
            Some(format!("use {}", joined(group, newest)))
        } else {
            let kinds = self.version.kinds().map(|(_, _, kind)| kind);
            nearest(kind, kinds).map(|nearest| match self.version.kinds().find(|of| of.2 == nearest) {
                Some((group, version, kind)) => format!("did you mean {} {kind}?", joined(group, version)),
                None => format!("did you mean {nearest}?"),
            })
        };
        self.tell(
            Severity::Error,
            "api_unknown",
            format!("{api_version} {kind} is no API of Kubernetes' in this version"),
            hint,
        );
    }

    fn warn_of_end(&mut self, api_version: &str, kind: &str) {
        let version = self.version.version();
        let Some(life) = self.set.lives.find(api_version, kind).filter(|life| life.is_deprecated_in(version)) else {
            return;
        };
        let removed = match life.removed {
            0 => String::new(),
            removed => format!(", and goes with 1.{removed}"),
        };
        let message = format!("{api_version} {kind} is deprecated since Kubernetes 1.{}{removed}", life.deprecated);
        let hint = self.set.lives.hint(life, version);
        self.tell(Severity::Warning, "api_deprecated", message, hint);
    }

    fn skip(&mut self, api_version: &str, kind: &str) {
        if self.set.options.strict_schemas {
            let message = format!("there is no schema for {api_version} {kind}");
            let hint = "name a folder with its CustomResourceDefinition by `--crds`".to_owned();
            self.tell(Severity::Error, "schema_missing", message, Some(hint));
        } else {
            self.is_skipped = true;
        }
    }

    fn tell(&mut self, severity: Severity, code: &'static str, message: String, hint: Option<String>) {
        self.found.push((severity, Problem { path: String::new(), code, message, hint, line: 0 }));
    }

    fn field(&mut self, path: &str, code: &'static str, message: String) {
        let problem = Problem { path: path.to_owned(), code, message, hint: None, line: 0 };
        self.found.push((Severity::Error, problem));
    }

    /// What it is, if that can be told; and whether it could be stored under its name.
    fn check_names(&mut self) -> Option<(String, String)> {
        let object = self.object;
        let mut text = |field: &'static str| {
            let found = object.text(&[field]).map(ToOwned::to_owned);
            if found.is_none() {
                let (code, what) = match object.root.field(field).map(|node| &node.content) {
                    None | Some(Content::Null | Content::Text(_)) => ("field_missing", "is required, and missing"),
                    Some(_) => ("field_type_wrong", "is not a string"),
                };
                self.field(field, code, what.to_owned());
            }
            found
        };
        let (api_version, kind) = (text("apiVersion"), text("kind"));
        let (api_version, kind) = (api_version?, kind?);
        match (object.text(&["metadata", "name"]), object.text(&["metadata", "generateName"])) {
            (Some(name), _) => self.check_name(&api_version, &kind, name),
            // It is named by its content.
            (None, Some(_)) if self.is_hook() => {}
            (None, Some(_)) => {
                let message = "would make a new object with every apply".to_owned();
                self.field("metadata.generateName", "object_name_generated", message);
            }
            (None, None) if object.root.field("metadata").and_then(|of| of.field("name")).is_none_or(is_empty) => {
                self.field("metadata.name", "field_missing", "is required, and missing".to_owned());
            }
            (None, None) => {}
        }
        self.check_namespace();
        Some((api_version, kind))
    }

    fn is_hook(&self) -> bool {
        let object = self.object;
        bellwether_core::hooks::time(|name| object.text(&["metadata", "annotations", name])).is_some()
    }

    fn check_name(&mut self, api_version: &str, kind: &str, name: &str) {
        if self.object.may_have_variables && has_variable(name) {
            return;
        }
        let is_known = self.version.kind(api_version, kind).is_some()
            || !matches!(self.set.definitions.find(api_version, kind), Known::Nothing);
        if let Err(message) = names::check_name(api_version, kind, name, is_known) {
            self.field("metadata.name", "object_name_invalid", message.to_owned());
        }
    }

    fn check_namespace(&mut self) {
        let Some(namespace) = self.object.text(&["metadata", "namespace"]) else { return };
        let is_unknown = self.object.may_have_variables && has_variable(namespace);
        if !is_unknown && !names::is_dns_label(namespace) {
            self.field("metadata.namespace", "object_name_invalid", names::LABEL.to_owned());
        }
    }
}

fn is_empty(node: &Node) -> bool {
    node.content == Content::Null || node.text() == Some("")
}

fn joined(group: &str, version: &str) -> String {
    if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") }
}

/// The names of further groups end in `.k8s.io`, and so do those of projects beside Kubernetes, whose kinds are custom.
fn is_own_group(api_version: &str) -> bool {
    let (group, _) = split(api_version);
    OWN_GROUPS.contains(&group) || bellwether_core::object::is_built_in_group(group)
}

#[cfg(test)]
mod tests {
    use bellwether_render::yaml;

    use super::*;

    /// What is said of these objects for clusters that serve so much.
    fn found(served: &[(&str, &str)], text: &str) -> Vec<String> {
        let served = served
            .iter()
            .map(|(cluster, apis)| Served { cluster: (*cluster).to_owned(), apis: Apis::parse(apis).expect("names") });
        let options = Options { served: served.collect(), ..Options::default() };
        let mut set = Set::new(options, vec![Schemas::load(Version::newest())], Definitions::default());
        let documents = yaml::read("a.yaml", text.as_bytes()).expect("is YAML");
        let source = Source { file: "a.yaml".to_owned(), document: None };
        let object = |root| Object { source: source.clone(), root, written: None, may_have_variables: false };
        let objects = documents.into_iter().map(|document| object(document.root)).collect();
        set.add(Part { objects, ..Part::default() });
        let findings = set.check(|_| {}).findings.into_iter();
        findings.map(|finding| format!("{}: {}", finding.code, finding.message)).collect()
    }

    #[test]
    fn a_kind_that_a_cluster_does_not_serve_is_told_unless_its_definition_comes_with_it() {
        let monitor =
            "{apiVersion: monitoring.coreos.com/v1, kind: ServiceMonitor, metadata: {name: a, namespace: default}}";
        let plain = "apps/v1\napps/v1/Deployment\nv1\nv1/ConfigMap";
        let monitored = "monitoring.coreos.com/v1\nmonitoring.coreos.com/v1/ServiceMonitor\nv1\nv1/ConfigMap";
        let names: Vec<_> = (1..8).map(|number| format!("c{number}")).collect();
        let many: Vec<_> = names.iter().map(|name| (name.as_str(), plain)).collect();

        assert!(found(&[], monitor).is_empty(), "nobody said which cluster");
        assert!(found(&[("eu", monitored)], monitor).is_empty());
        assert_eq!(
            found(&[("eu", plain), ("us", monitored)], monitor),
            ["api_not_served: monitoring.coreos.com/v1 ServiceMonitor is not served by eu"]
        );
        assert_eq!(
            found(&many, monitor),
            ["api_not_served: monitoring.coreos.com/v1 ServiceMonitor is not served by c1, c2, c3, c4, c5 and 2 more"]
        );
        let definition = "{apiVersion: apiextensions.k8s.io/v1, kind: CustomResourceDefinition, \
             metadata: {name: servicemonitors.monitoring.coreos.com}, spec: {group: monitoring.coreos.com, scope: Namespaced, \
             names: {plural: servicemonitors, kind: ServiceMonitor}, versions: [{name: v1, served: true, storage: true, \
             schema: {openAPIV3Schema: {type: object}}}]}}";
        let with_definition = "apiextensions.k8s.io/v1\napiextensions.k8s.io/v1/CustomResourceDefinition\nv1";
        assert!(found(&[("eu", with_definition)], &format!("{definition}\n---\n{monitor}")).is_empty());
        assert!(
            found(&[("eu", plain)], "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, namespace: default}}")
                .is_empty()
        );
    }

    const WIDGET: &str =
        "{apiVersion: example.org/v1, kind: Widget, metadata: {name: a, namespace: default}, spec: {size: 1}}";

    fn definition(kind: &str) -> serde_json::Value {
        serde_json::json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
            "metadata": {"name": "widgets.example.org"}, "spec": {"group": "example.org", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"}, "versions": [{"name": "v1", "served": true, "storage": true,
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object",
            "properties": {"size": {"type": kind}}}}}}}]}})
    }

    /// What is said of a widget by these definitions of clusters, and against which schemas it was held.
    fn told(told: &[(&str, &str)], text: &str) -> (Vec<String>, Vec<String>, usize) {
        let mut set =
            Set::new(Options::default(), Version::carried().map(Schemas::load).collect(), Definitions::default());
        let documents = yaml::read("a.yaml", text.as_bytes()).expect("is YAML");
        let source = Source { file: "a.yaml".to_owned(), document: None };
        let object = |root| Object { source: source.clone(), root, written: None, may_have_variables: false };
        let objects = documents.into_iter().map(|document| object(document.root)).collect();
        set.add(Part { objects, ..Part::default() });
        for (cluster, kind) in told {
            let at = "2026-11-25T12:00:00Z".parse().expect("a time");
            let clusters = BTreeSet::from([((*cluster).to_owned(), at)]);
            set.add_told(LiveDefinition::new(clusters, &definition(kind)).expect("is one"));
        }
        let report = set.check(|_| {});
        let findings = report.findings.iter().map(|finding| format!("{}: {}", finding.code, finding.sentence()));
        let schemas = report.told.iter().map(|one| format!("{} {} of {}", one.api_version, one.kind, one.cluster));
        (findings.collect(), schemas.collect(), report.skipped.len())
    }

    #[test]
    fn a_kind_that_nothing_here_defines_is_held_against_what_each_cluster_has_told_of_it() {
        let (findings, schemas, skipped) = told(&[], WIDGET);
        assert_eq!((findings.len(), schemas.len(), skipped), (0, 0, 1), "it is not known, and not wrong");

        let (findings, schemas, skipped) = told(&[("eu", "integer"), ("us", "string")], WIDGET);
        assert_eq!(findings.len(), 1, "{findings:?}");
        assert!(
            findings[0].starts_with("field_type_wrong: spec.size ") && findings[0].ends_with(", as us defines it"),
            "{findings:?}"
        );
        assert_eq!(schemas, ["example.org/v1 Widget of eu", "example.org/v1 Widget of us"]);
        assert_eq!(skipped, 0);

        let newer = WIDGET.replace("example.org/v1", "example.org/v2");
        let (findings, ..) = told(&[("eu", "integer")], &newer);
        assert_eq!(
            findings,
            ["api_unknown: example.org/v2 Widget is not served by its CustomResourceDefinition of eu"]
        );
    }

    #[test]
    fn what_is_defined_here_counts_before_what_clusters_have_and_is_not_asked_for() {
        let text = format!("{}\n---\n{WIDGET}", definition("integer"));

        let (findings, schemas, skipped) = told(&[("us", "string")], &text);

        assert_eq!((findings, schemas.len(), skipped), (Vec::new(), 0, 0));
    }
}
