//! The steps of a dry run: as those of the first apply of a bundle that its target is not assigned, in no order, since none
//! changes anything. They are decided upon by what is known of the target now, and change nothing of that.

use std::collections::BTreeSet;

use uuid::Uuid;

use super::bodies::Body;
use super::metadata::Metadata;
use super::owned::LastApplied;
use super::owner::{Owner, is_applied_by_us};
use super::step::{Act, Step};
use super::targets::Targets;
use super::twins::find_twins;
use crate::account::ActsAs;
use crate::apply::is_applied_once;
use crate::dry_run::{DryRun, Fate, Tried, is_definition};
use crate::health::{self, Ending};
use crate::object::{Identity, is_secret_kind};
use crate::policy::{Ask, Standing, Verb};
use crate::{Digest, Generation, ObjectKey, TargetId};

impl Targets {
    /// One for each object of the manifest, in its order.
    pub fn steps_of_dry_run(&self, asked: &DryRun) -> Vec<Step> {
        let entries = asked.manifest.entries();
        let twins = find_twins(entries);
        let namespace = asked.namespace.clone().filter(|_| asked.options.create_namespace);
        let acts_as = ActsAs::named(asked.options.service_account.as_ref(), asked.namespace.as_ref());
        let steps = entries.iter().map(|entry| {
            let identity = Identity::of(&entry.key);
            let (last_applied, is_latest) = self.last_applied(asked.target, &identity, entry.digest);
            let step = Step {
                target: asked.target,
                generation: Generation::new(0),
                key: entry.key.clone(),
                act: Act::Apply { digest: entry.digest, inspect_first: true },
                last_applied,
                // By its body, which is not read here.
                is_applied_once: false,
                is_latest,
                may_have_ended: false,
                runs_again: false,
                twin: twins.get(&identity).cloned(),
                claims: Vec::new(),
                adopt: asked.options.adopt,
                replace: asked.options.replace,
                makes_namespace: namespace.clone(),
                acts_as: acts_as.clone(),
                project: asked.project.clone(),
            };
            Step { claims: self.claims_of(&step), ..step }
        });
        steps.collect()
    }

    /// Secrets that the target has applied and that the bundle has no more, each with the id of the one that was applied: what they
    /// hold may stand elsewhere.
    pub fn secrets_beside(&self, asked: &DryRun) -> Vec<(ObjectKey, Uuid)> {
        let Some(inventory) = self.inventory_of(asked.target) else { return Vec::new() };
        let named: BTreeSet<_> = asked.manifest.entries().iter().map(|entry| Identity::of(&entry.key)).collect();
        let secrets = inventory.keys().filter(|key| is_secret_kind(&key.kind));
        let beside = secrets.map(|key| (key, Identity::of(key))).filter(|(_, identity)| !named.contains(identity));
        let applied = beside.filter_map(|(key, identity)| Some((key.clone(), inventory.last_applied(&identity)?.uid)));
        applied.collect()
    }

    fn last_applied(&self, target: TargetId, identity: &Identity, digest: Digest) -> (Option<LastApplied>, bool) {
        let Some(inventory) = self.inventory_of(target) else { return (None, false) };
        (inventory.last_applied(identity).cloned(), inventory.holds(identity, digest))
    }
}

/// What the cluster's owner has against an object that is asked about: that it is asked, or that it would be applied.
pub fn objection(standing: &Standing, step: &Step, is_namespaced: bool) -> Option<Tried> {
    let (project, account) = (step.project.as_ref(), step.acts_as.account());
    let ask = |verb| Ask { verb, project, key: &step.key, is_namespaced, account };
    let unasked = standing.refusal(&ask(Verb::DryRun)).map(|refusal| Tried::unknown(refusal.message));
    unasked.or_else(|| Some(Tried::new(Fate::Refused, standing.refusal(&ask(Verb::Write))?.message)))
}

impl Step {
    /// As its body asks for it.
    #[must_use]
    pub fn with_manner_of(self, body: &Body) -> Self {
        Self { is_applied_once: is_applied_once(body.bytes()), ..self }
    }

    /// Whether what the object holds may be told: it is the one that this target applied. A label alone shows nobody anything, as
    /// whoever may write it could have somebody else's object told.
    pub fn may_tell(&self, owner: Owner, there: &Metadata) -> bool {
        matches!(owner, Owner::Us | Owner::UsUnlabelled | Owner::UsReplaced) && is_applied_by_us(there)
    }

    /// Of what is not there, though exactly this was applied: it has run, and is not made again. `None`: it would be made.
    pub fn has_gone(&self) -> Option<Tried> {
        let last = self.last_applied.as_ref().filter(|_| self.is_as_applied() && !self.runs_again)?;
        if !health::runs_once(self.key.group(), &self.key.kind) {
            return None;
        }
        match last.finished {
            Some(Ending::Failed) => None,
            Some(_) => Some(Tried::new(Fate::Unchanged, "it has run and is gone, and is not made again")),
            None if last.goes_by_itself() => Some(Tried::unknown("it is gone, and it is not known whether it has run")),
            None => None,
        }
    }

    /// Exactly this was applied last, so that it changes nothing.
    pub fn is_as_applied(&self) -> bool {
        self.last_applied.as_ref().is_some_and(|last| Some(last.digest) == self.act.digest())
    }
}

/// What comes with a bundle besides the object that is asked about.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Companions {
    /// Group and kind of those whose definition is new or another one.
    kinds: BTreeSet<(String, String)>,
    /// Groups with such a definition that was not sent along, so that its kind is not known.
    groups: BTreeSet<String>,
    namespaces: BTreeSet<String>,
}

impl Companions {
    /// Of all objects of the bundle, those too whose bodies had no room.
    pub fn of<'a>(all: impl IntoIterator<Item = (&'a Step, Option<&'a Body>)>) -> Self {
        let mut companions = Self::default();
        for (step, body) in all {
            companions.namespaces.extend(step.makes_namespace.iter().map(ToString::to_string));
            if (step.key.group(), step.key.kind.as_str()) == ("", "Namespace") {
                companions.namespaces.insert(step.key.name.clone());
            }
            if !is_definition(&step.key) || step.is_as_applied() {
                continue;
            }
            if let Some(body) = body {
                let object: serde_json::Value = serde_json::from_slice(body.bytes()).unwrap_or_default();
                let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
                companions.kinds.insert((text(&object["spec"]["group"]), text(&object["spec"]["names"]["kind"])));
            } else if let Some((_, group)) = step.key.name.split_once('.') {
                companions.groups.insert(group.to_owned());
            }
        }
        companions
    }

    /// What nobody can tell before the rest of the change is there; `None`: it may be asked.
    pub fn keeps_from_asking(&self, key: &ObjectKey) -> Option<Tried> {
        let kind = (key.group().to_owned(), key.kind.clone());
        let comes = self.kinds.contains(&kind) || self.groups.contains(key.group());
        comes.then(|| Tried::unknown("its definition comes with this change"))
    }

    /// Of what has no namespace yet: whether that comes with it.
    #[must_use]
    pub fn explain(&self, key: &ObjectKey, tried: Tried) -> Tried {
        match &key.namespace {
            Some(namespace) if tried.fate == Fate::NamespaceMissing && self.namespaces.contains(namespace) => {
                Tried::new(Fate::NamespaceMissing, format!("namespace {namespace} comes with this change"))
            }
            _ => tried,
        }
    }
}
