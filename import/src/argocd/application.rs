//! An Application: what it says of all its sources together.

use std::collections::BTreeMap;

use bellwether_core::Labels;
use bellwether_render::Files;
use serde_json::{Value, json};

use super::fields;
use super::source::FromGit;
use super::{ANNOTATIONS, Application, Argo, SERVER};
use crate::audit::{audit, audit_metadata};
use crate::draft::{Draft, how_to_label, named_cluster, namespace, selector};
use crate::gather::find;
use crate::report::{Effect, Remark};
use crate::text::{fill_text, has_mark};

/// Applications in Applications: nobody has so many.
pub(crate) const DEPTH_MAX: usize = 8;

/// What Argo CD calls the cluster that it runs in.
const IN_CLUSTER: &str = "https://kubernetes.default.svc";

impl<F: Files> Argo<'_, F> {
    pub(super) fn application(&mut self, application: &Application) {
        let spec = &application.value["spec"];
        self.audit(application, spec);
        let name = self.name_of(application);
        let mut draft = Draft::new(&name, application.entry);
        draft.apart = vec![application.value["metadata"]["namespace"].as_str().map(str::to_owned)];
        self.destination(application, &mut draft);
        self.sync(application, &mut draft);
        let sources: Vec<Value> = match find(spec, &["sources"]).and_then(Value::as_array) {
            Some(sources) if !sources.is_empty() => sources.clone(),
            _ => find(spec, &["source"]).cloned().into_iter().collect(),
        };
        let mut references: BTreeMap<String, FromGit> = BTreeMap::new();
        for source in &sources {
            let is_open =
                ["repoURL", "targetRevision"].iter().any(|field| source[field].as_str().is_some_and(has_mark));
            if is_open && source["ref"].is_string() {
                self.say(application, Effect::None, "sources", "the repo with files of values is another for each cluster: a target has one for all, and chooses files of it by `${cluster.…}` in their paths");
            } else if let Some(name) = source["ref"].as_str().filter(|name| !name.is_empty()) {
                let reference = self.reference(application, source);
                references.insert(format!("${name}"), reference);
            }
        }
        let deploys =
            |source: &&Value| source["path"].is_string() || source["chart"].is_string() || source["ref"].is_null();
        let with_content: Vec<&Value> = sources.iter().filter(deploys).collect();
        if with_content.len() > 1 {
            self.say(application, Effect::Differs, "sources", "each source with manifests is a target of its own, which goes its own way through the clusters; an object of two of them is refused to the second");
        }
        for (index, source) in with_content.iter().enumerate() {
            let mut draft = draft.clone();
            if with_content.len() > 1 {
                let part = source["chart"].as_str().or_else(|| source["path"].as_str()).map(crate::paths::last_of);
                draft.name = format!("{name}-{}", part.filter(|part| !part.is_empty()).unwrap_or(&index.to_string()));
            }
            self.source(application, source, &references, draft);
        }
    }

    /// A remark on a field of its spec.
    pub(super) fn say(&mut self, application: &Application, effect: Effect, field: &str, sentence: impl Into<String>) {
        let field = format!("{}.{field}", application.spec);
        self.remark(application.entry, Remark::new(effect, &field, sentence));
    }

    fn audit(&mut self, application: &Application, spec: &Value) {
        let mut remarks = audit(spec, fields::APPLICATION);
        let sources = spec["sources"].as_array().into_iter().flatten();
        for source in sources.chain(find(spec, &["source"])) {
            for remark in audit(source, fields::SOURCE) {
                let field = remark.field.replacen("spec", "spec.source", 1);
                remarks.push(Remark { field, ..remark });
            }
        }
        for remark in remarks {
            let field = remark.field.replacen("spec", application.spec, 1);
            self.remark(application.entry, Remark { field, ..remark });
        }
        if application.spec != "spec" {
            for remark in audit_metadata(&application.value["metadata"], "spec.template.metadata") {
                self.remark(application.entry, remark);
            }
        }
    }

    /// A target is for all clusters, so its name has none in it.
    fn name_of(&mut self, application: &Application) -> String {
        let name = application.value["metadata"]["name"].as_str().unwrap_or_default();
        if !has_mark(name) {
            return name.to_owned();
        }
        let without = fill_text(name, &|_| Some(String::new()));
        let without = without.trim_matches(['-', '.']).replace("--", "-");
        let own = self.collected.report[application.entry].name.clone();
        let name = if without.is_empty() { own } else { without };
        let sentence = format!("one target `{name}` is for all the clusters, in place of an Application for each");
        self.remark(application.entry, Remark::note("spec.template.metadata.name", sentence));
        name
    }

    fn destination(&mut self, application: &Application, draft: &mut Draft) {
        let destination = &application.value["spec"]["destination"];
        let text = |field: &str| destination[field].as_str().filter(|text| !text.is_empty());
        if let Some(wanted) = text("namespace") {
            if has_mark(wanted) {
                self.say(
                    application,
                    Effect::None,
                    "destination.namespace",
                    "it is another for each cluster: write it into the manifests as `${…}`",
                );
            } else {
                let entry = &mut self.collected.report[application.entry];
                draft.namespace =
                    namespace(Some(wanted), &format!("{}.destination.namespace", application.spec), entry);
            }
        }
        if let Some(clusters) = &application.clusters {
            draft.clusters = clusters.clone();
            let what = if *clusters == json!({}) {
                "every cluster of the hub".to_owned()
            } else {
                format!("clusters by `{clusters}`")
            };
            self.say(application, Effect::Todo, "destination", format!("the target selects {what}: give clusters the labels here that their Secrets have in Argo CD, with `bellwether cluster label`"));
            return;
        }
        let cluster = text("name").or_else(|| text("server")).unwrap_or(IN_CLUSTER);
        let is_in_cluster = cluster == "in-cluster" || cluster.trim_end_matches('/') == IN_CLUSTER;
        let stated = self
            .options
            .destinations
            .get(cluster)
            .or_else(|| self.options.cluster_labels.as_ref().filter(|_| is_in_cluster));
        let labels: Labels = match stated {
            Some(labels) => labels.clone(),
            None => named_cluster(if is_in_cluster { "in-cluster" } else { cluster }),
        };
        draft.clusters = selector(&labels);
        if stated.is_none() {
            let how = how_to_label(&labels);
            self.say(application, Effect::Todo, "destination", format!("`{cluster}` is the cluster with the label `cluster={}`: give it to it with {how}, or say with --destination which labels it has", labels["cluster"]));
        }
    }

    fn sync(&mut self, application: &Application, draft: &mut Draft) {
        let spec = &application.value["spec"];
        let automated = find(spec, &["syncPolicy", "automated"]).filter(|automated| automated["enabled"] != false);
        match automated {
            None => {
                self.say(application, Effect::Differs, "syncPolicy.automated", "it was synchronised by hand; a target is rolled out with each commit: name a tag or a commit in its `ref`, and change that to roll out");
                draft.sync.insert("prune".to_owned(), json!("never"));
                draft.sync.insert("drift".to_owned(), json!("warn"));
            }
            Some(automated) => {
                if automated["prune"] != true {
                    draft.sync.insert("prune".to_owned(), json!("never"));
                    self.say(
                        application,
                        Effect::Note,
                        "syncPolicy.automated.prune",
                        "`sync.prune: never`: what is taken out of the repo stays in the cluster",
                    );
                }
                if automated["selfHeal"] != true {
                    draft.sync.insert("drift".to_owned(), json!("warn"));
                    self.say(
                        application,
                        Effect::Note,
                        "syncPolicy.automated.selfHeal",
                        "`sync.drift: warn`: what others change is told, and stays until the next revision",
                    );
                }
                if automated["allowEmpty"] == true {
                    self.say(
                        application,
                        Effect::Differs,
                        "syncPolicy.automated.allowEmpty",
                        "a folder without objects is an error: delete the target",
                    );
                }
            }
        }
        for option in find(spec, &["syncPolicy", "syncOptions"]).and_then(Value::as_array).into_iter().flatten() {
            let option = option.as_str().unwrap_or_default();
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let field = format!("syncPolicy.syncOptions.{name}");
            match fields::SYNC_OPTIONS.iter().find(|(known, ..)| *known == name) {
                Some(_) if value == "false" && name != "Prune" && name != "Delete" && name != "Validate" => {
                    self.say(application, Effect::Note, &field, "nothing to do: it is not asked for");
                }
                Some((_, effect, sentence)) => {
                    if name == "Prune" && value == "false" {
                        draft.sync.insert("prune".to_owned(), json!("never"));
                    }
                    self.say(application, *effect, &field, *sentence);
                }
                None => self.say(application, Effect::None, &field, "it is not known here: look it up in its own docs"),
            }
        }
    }

    /// Texts that name what no target can say of a cluster.
    pub(super) fn mind_marks(&mut self, application: &Application, field: &str, value: &Value) {
        let text = value.to_string();
        if text.contains(&crate::text::mark(SERVER)) || text.contains(&format!("{SERVER}.")) {
            self.say(application, Effect::None, field, "the address of a cluster's API is not known to a target: give clusters a label for it, and write `${cluster.labels.…}`");
        }
        if text.contains(&format!("{ANNOTATIONS}.")) {
            self.say(
                application,
                Effect::Todo,
                field,
                "give the clusters these annotations: bellwether cluster annotate",
            );
        }
    }
}
