//! Whose an object is that was found under a name of ours. Decides; asks nobody.
//!
//! A name tells nothing, and a label can be copied. What is certain is the uid of an object that we applied, as we
//! recorded it, and our entry among its managers, which only an apply of ours makes.

use uuid::Uuid;

use super::bodies::Body;
use super::metadata::{ManagedFields, Metadata};
use super::removal::is_protected;
use super::step::{Step, label_of};
use crate::ObjectKey;
use crate::drift::Change;
use crate::object::{MANAGER, OWNER_ANNOTATION, TARGET_LABEL};
use crate::session::Adopt;
use crate::takeover::is_persons;

/// Kubernetes' own, which applies the rules of a ClusterRole that is made of others.
const AGGREGATION: &str = "clusterrole-aggregation-controller";

/// What an object is to this target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Us,
    /// The one that we applied; somebody took our label off it or gave it a value that is nobody's.
    UsUnlabelled,
    /// Ours in another life: it came back under our label and our name, from a backup as a rule.
    UsReplaced,
    /// Left by a target that is no more, and ours to have.
    Left,
    /// No target's, and the target may have it: it is taken from whoever applied it.
    Adopted,
    Stranger,
}

impl Owner {
    /// What is there under the name of a step's object.
    pub fn of(there: &Metadata, step: &Step) -> Self {
        match (is_ours(there, &step.label()), step.last_uid()) {
            (true, Some(uid)) if uid != there.uid => Self::UsReplaced,
            (true, _) => Self::Us,
            (false, Some(uid)) if uid == there.uid && !is_given_away(there, step) => Self::UsUnlabelled,
            (false, _) => Self::Stranger,
        }
    }

    /// `body` is what would be applied: its owner is who it is for. What a target left when it went is without a label, has
    /// the owner that it had, and our entry among its managers. A target of the same name may have it; of what is never
    /// deleted, such as a namespace that several share, any of the project.
    #[must_use]
    pub fn or_left(self, there: &Metadata, step: &Step, body: &Body) -> Self {
        if self != Self::Stranger || !is_left(there, step) {
            return self;
        }
        let wanted = Metadata::of(body.bytes()).unwrap_or_default();
        let owners = [&wanted, there].map(|it| it.annotations.get(OWNER_ANNOTATION).map(String::as_str));
        let [Some(ours), Some(theirs)] = owners else { return self };
        let project = |owner: &str| owner.rsplit_once('/').map(|(project, _)| project.to_owned());
        let is_shared = is_protected(&step.key) && project(ours).is_some() && project(ours) == project(theirs);
        if ours == theirs || is_shared { Self::Left } else { self }
    }

    /// What is no target's is this one's, as far as the target asks for that.
    #[must_use]
    pub fn or_adopted(self, there: &Metadata, step: &Step) -> Self {
        let may_have = match step.adopt {
            Adopt::Never => false,
            Adopt::IfUnowned => is_no_targets(there, step) && is_unowned(there),
            Adopt::Always => is_no_targets(there, step),
        };
        if self == Self::Stranger && may_have { Self::Adopted } else { self }
    }

    /// It may be applied and put right.
    pub fn may_write(self) -> bool {
        self != Self::Stranger
    }

    /// What was done to an object of ours that is found like this.
    pub(super) fn change(self) -> Change {
        match self {
            Self::Us => Change::Modified,
            Self::UsUnlabelled => Change::Unlabelled,
            Self::UsReplaced | Self::Left | Self::Adopted | Self::Stranger => Change::Replaced,
        }
    }
}

/// Whether a target may delete it: it carries the label, and was applied by us. Who copies an object of ours copies the
/// label too, and neither the uid nor our entry.
pub(super) fn may_delete(there: &Metadata, label: &str, applied: Option<Uuid>) -> bool {
    is_ours(there, label) && (applied == Some(there.uid) || is_applied_by_us(there))
}

/// It carries the label of a target that has it in its bundle: whoever gave it away and forgot that must not take it back.
/// Any other label is somebody's mistake.
fn is_given_away(there: &Metadata, step: &Step) -> bool {
    let live = ObjectKey { namespace: there.namespace.clone(), ..step.key.clone() };
    step.claims.iter().any(|claim| is_ours(there, &label_of(claim.by)) && claim.key.is_at(&live))
}

/// A target let go of it, and no other tool has it since, nor does anybody else apply it.
fn is_left(there: &Metadata, step: &Step) -> bool {
    let is_others = |entry: &ManagedFields| {
        let applies = entry.operation == "Apply" || entry.manager == "kubectl-client-side-apply";
        applies && entry.manager != MANAGER && entry.manager != AGGREGATION && entry.subresource.is_empty()
    };
    is_without_target(there, step)
        && is_applied_by_us(there)
        && other_tool(there).is_none()
        && !there.managed_fields.iter().any(is_others)
}

/// No target has it: of one that still is, somebody may only have taken the label off.
fn is_without_target(there: &Metadata, step: &Step) -> bool {
    let is_of_another = step.claims.iter().any(|claim| claim.last_uid == Some(there.uid));
    !is_of_another && !there.labels.contains_key(TARGET_LABEL)
}

/// Nor is it made and unmade by what it belongs to.
fn is_no_targets(there: &Metadata, step: &Step) -> bool {
    is_without_target(there, step) && !there.owner_references.iter().any(|owner| owner.controller)
}

/// Without marks of other tools and of targets, and applied by nobody but people.
fn is_unowned(there: &Metadata) -> bool {
    let is_marked = there.annotations.get(OWNER_ANNOTATION).is_some_and(|owner| !owner.is_empty());
    let is_others = |entry: &ManagedFields| {
        // By its client-side apply Argo CD sets no mark but a label that others set, too.
        let applies = entry.operation == "Apply" || entry.manager.starts_with("argocd-");
        let is_free = entry.manager == MANAGER || entry.manager == AGGREGATION || is_persons(&entry.manager);
        applies && entry.subresource.is_empty() && !is_free
    };
    !is_marked && other_tool(there).is_none() && !there.managed_fields.iter().any(is_others)
}

pub(super) fn is_applied_by_us(there: &Metadata) -> bool {
    let is_ours =
        |entry: &ManagedFields| entry.manager == MANAGER && entry.operation == "Apply" && entry.subresource.is_empty();
    there.managed_fields.iter().any(is_ours)
}

/// Whether the object that is there is this target's.
pub fn is_ours(metadata: &Metadata, label: &str) -> bool {
    metadata.labels.get(TARGET_LABEL).is_some_and(|value| value == label)
}

/// Whose what a step found seems to be, and what to do about it.
pub fn owner_hint(metadata: &Metadata, step: &Step) -> String {
    let former = metadata.annotations.get(OWNER_ANNOTATION).filter(|_| is_left(metadata, step));
    if let Some(former) = former {
        // A namespace may have been made for one that still is.
        let why = if step.key.kind == "Namespace" { "left by it, or made for it" } else { "which was deleted" };
        let whose = if step.key.kind == "Namespace" { "of" } else { "left by" };
        return format!(
            "{whose} {former}, {why}: take it out of the target, or write this one into its annotation {OWNER_ANNOTATION}"
        );
    }
    let owner = owner_of(metadata).map_or_else(|| "it".to_owned(), |owner| format!("{owner}; it"));
    let hint = format!("{owner} stays as it is: take it out of the target, or delete it in the cluster");
    if let Some(asked) = adopting(metadata, step) {
        return format!("{hint}; or let the target have it by sync.adopt: {asked}");
    }
    if metadata.labels.contains_key(TARGET_LABEL) {
        return format!("{hint}; if that target is no more, take the label {TARGET_LABEL} off it");
    }
    hint
}

/// What a target is to say to have it.
fn adopting(there: &Metadata, step: &Step) -> Option<&'static str> {
    let may_have = |adopt| Owner::Stranger.or_adopted(there, &Step { adopt, ..step.clone() }) == Owner::Adopted;
    let asked = [(Adopt::IfUnowned, "ifUnowned"), (Adopt::Always, "always")];
    asked.into_iter().find(|(adopt, _)| may_have(*adopt)).map(|(_, word)| word)
}

fn owner_of(metadata: &Metadata) -> Option<String> {
    if let Some(owner) = metadata.annotations.get(OWNER_ANNOTATION).filter(|value| !value.is_empty()) {
        return Some(format!("owned by {owner}"));
    }
    if let Some(owner) = other_tool(metadata) {
        return Some(owner);
    }
    let writers = metadata.managed_fields.iter().filter(|entry| entry.subresource.is_empty());
    let mut managers: Vec<_> = writers.map(|entry| entry.manager.as_str()).filter(|&name| name != MANAGER).collect();
    managers.sort_unstable();
    managers.dedup();
    (!managers.is_empty()).then(|| format!("written by {}", managers.join(", ")))
}

/// Whose marks it has that are not ours.
fn other_tool(metadata: &Metadata) -> Option<String> {
    let annotation = |name: &str| metadata.annotations.get(name).filter(|value| !value.is_empty());
    if let Some(release) = annotation("meta.helm.sh/release-name") {
        return Some(format!("owned by the Helm release {release}"));
    }
    if let Some(name) = metadata.labels.get("kustomize.toolkit.fluxcd.io/name") {
        return Some(format!("owned by the Flux Kustomization {name}"));
    }
    if let Some(name) = metadata.labels.get("helm.toolkit.fluxcd.io/name") {
        return Some(format!("owned by the Flux HelmRelease {name}"));
    }
    if let Some(tracking) = annotation("argocd.argoproj.io/tracking-id") {
        return Some(format!("owned by Argo CD as {tracking}"));
    }
    let others = [
        (&metadata.labels, "kapp.k14s.io/app", "an app of kapp"),
        (&metadata.labels, "olm.owner", "an operator's lifecycle manager"),
        (&metadata.annotations, "objectset.rio.cattle.io/id", "an object set of Rancher"),
    ];
    if let Some((_, _, what)) = others.into_iter().find(|(marks, name, _)| marks.contains_key(*name)) {
        return Some(format!("owned by {what}"));
    }
    let owner = metadata.owner_references.iter().find(|owner| owner.controller)?;
    Some(format!("controlled by {} {}", owner.kind, owner.name))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::claims::Claim;
    use super::super::metadata::OwnerReference;
    use super::super::owned::LastApplied;
    use super::super::step::Act;
    use super::*;
    use crate::{Digest, Generation, TargetId};

    fn there(label: &str, uid: u128, manager: &str) -> Metadata {
        let (manager, operation) = (manager.to_owned(), "Apply".to_owned());
        Metadata {
            uid: Uuid::from_u128(uid),
            labels: BTreeMap::from([(TARGET_LABEL.to_owned(), label.to_owned())]),
            managed_fields: vec![ManagedFields { manager, operation, ..ManagedFields::default() }],
            ..Metadata::default()
        }
    }

    const OURS: TargetId = TargetId::new(Uuid::from_u128(7));
    const THEIRS: TargetId = TargetId::new(Uuid::from_u128(8));

    fn step(kind: &str, applied: Option<u128>) -> Step {
        let (api_version, name) = ("v1".to_owned(), "x".to_owned());
        let key = ObjectKey { api_version, kind: kind.to_owned(), namespace: None, name };
        let last_applied = applied.map(|uid| LastApplied {
            uid: Uuid::from_u128(uid),
            digest: Digest::of(b""),
            body: None,
            finished: None,
            generation: Generation::new(1),
        });
        Step { last_applied, ..Step::about(OURS, key, Act::Inspect) }
    }

    fn claim(namespace: Option<&str>, last_uid: Option<u128>) -> Claim {
        let key = ObjectKey { namespace: namespace.map(str::to_owned), ..step("ConfigMap", None).key };
        Claim { by: THEIRS, key, last_uid: last_uid.map(Uuid::from_u128) }
    }

    #[test]
    fn a_name_that_was_ours_is_not_an_object_that_is_ours() {
        let ours = label_of(OURS);
        let owner = |label: &str, uid, applied| Owner::of(&there(label, uid, "x"), &step("ConfigMap", applied));

        assert_eq!(owner(&ours, 1, Some(1)), Owner::Us);
        assert_eq!(owner(&ours, 1, None), Owner::Us);
        assert_eq!(owner(&ours, 2, Some(1)), Owner::UsReplaced);
        assert_eq!(owner("theirs", 1, Some(1)), Owner::UsUnlabelled);
        assert_eq!([owner("theirs", 2, Some(1)), owner("theirs", 1, None)], [Owner::Stranger; 2]);
    }

    #[test]
    fn a_label_is_believed_where_its_target_has_the_object_and_is_vandalism_elsewhere() {
        let theirs = label_of(THEIRS);
        let owner = |label: &str, claims: Vec<Claim>| {
            Owner::of(&there(label, 1, "x"), &Step { claims, ..step("ConfigMap", Some(1)) })
        };

        assert_eq!(owner(&theirs, vec![]), Owner::UsUnlabelled, "it has nothing of that name");
        assert_eq!(owner(&theirs, vec![claim(None, None)]), Owner::Stranger, "it was given away");
        assert_eq!(owner("", vec![claim(None, None)]), Owner::UsUnlabelled, "it was not, though another wants it");
        let namespaced = Metadata { namespace: Some("shop".to_owned()), ..there(&theirs, 1, "x") };
        let owner = |namespace: &str| {
            let claims = vec![claim(Some(namespace), None)];
            Owner::of(&namespaced, &Step { claims, ..step("ConfigMap", Some(1)) })
        };
        assert_eq!((owner("shop"), owner("team")), (Owner::Stranger, Owner::UsUnlabelled));
    }

    #[test]
    fn what_a_target_left_is_its_own_when_it_is_made_again_and_nobody_elses() {
        let body = |owner: &str| {
            let body = serde_json::json!({"metadata": {"annotations": {OWNER_ANNOTATION: owner}}}).to_string();
            Body::from(std::sync::Arc::<[u8]>::from(body.as_bytes()))
        };
        let mut left = there("before", 1, MANAGER);
        left.annotations.insert(OWNER_ANNOTATION.to_owned(), "main/default/shop".to_owned());
        let of = |kind: &str, there: &Metadata, by: &str| {
            let step = step(kind, None);
            Owner::of(there, &step).or_left(there, &step, &body(by))
        };
        let owner = |there: &Metadata, by: &str| of("ConfigMap", there, by);

        assert_eq!(owner(&left, "main/default/shop"), Owner::Stranger, "the one before may be there still");
        left.labels.clear();
        assert_eq!(owner(&left, "main/default/shop"), Owner::Left);
        assert_eq!(owner(&left, "main/default/other"), Owner::Stranger);
        for (last_uid, expected) in [(Some(1), Owner::Stranger), (Some(2), Owner::Left), (None, Owner::Left)] {
            let step = Step { claims: vec![claim(None, last_uid)], ..step("Namespace", None) };
            let owner = Owner::of(&left, &step).or_left(&left, &step, &body("main/default/other"));
            assert_eq!(owner, expected, "a target that still is has not left what it applied");
        }
        assert_eq!(of("Namespace", &left, "main/default/other"), Owner::Left, "it is never deleted");
        assert_eq!(of("Namespace", &left, "main/team/other"), Owner::Stranger);
        let mut helms = left.clone();
        helms.annotations.insert("meta.helm.sh/release-name".to_owned(), "web".to_owned());
        assert_eq!(owner(&helms, "main/default/shop"), Owner::Stranger, "another tool has it since");
        let hint = owner_hint(&left, &step("ConfigMap", None));
        assert!(hint.starts_with("left by main/default/shop"), "{hint}");
        for (manager, operation) in [("kubectl", "Apply"), ("kubectl-client-side-apply", "Update")] {
            let (manager, operation) = (manager.to_owned(), operation.to_owned());
            let mut adopted = left.clone();
            adopted.managed_fields.push(ManagedFields { manager, operation, ..ManagedFields::default() });
            assert_eq!(owner(&adopted, "main/default/shop"), Owner::Stranger, "somebody applies it since");
        }
        left.managed_fields[0].manager = "somebody".to_owned();
        assert_eq!(owner(&left, "main/default/shop"), Owner::Stranger, "a copy");
        left.annotations.clear();
        assert_eq!(owner(&left, ""), Owner::Stranger);
    }

    #[test]
    fn what_is_no_targets_is_adopted_as_far_as_the_target_asks_for_it() {
        let adopted = |there: &Metadata, claims: &[Claim]| {
            [Adopt::Never, Adopt::IfUnowned, Adopt::Always].map(|adopt| {
                let step = Step { adopt, claims: claims.to_vec(), ..step("ConfigMap", None) };
                Owner::of(there, &step).or_adopted(there, &step) == Owner::Adopted
            })
        };
        let of = |manager: &str| Metadata { labels: BTreeMap::new(), ..there("", 1, manager) };

        assert_eq!(adopted(&of("kubectl"), &[]), [false, true, true]);
        assert_eq!(adopted(&Metadata::default(), &[]), [false, true, true], "nobody manages it");
        assert_eq!(adopted(&of("kustomize-controller"), &[]), [false, false, true], "somebody else applies it");
        let updated = |manager: &str| {
            let mut there = of(manager);
            there.managed_fields[0].operation = "Update".to_owned();
            there
        };
        assert_eq!(adopted(&updated("argocd-controller"), &[]), [false, false, true], "it has no mark of its own");
        assert_eq!(adopted(&of("clusterrole-aggregation-controller"), &[]), [false, true, true]);
        let mut helms = updated("helm");
        assert_eq!(adopted(&helms, &[]), [false, true, true], "a definition of a chart has no marks");
        helms.annotations.insert("meta.helm.sh/release-name".to_owned(), "web".to_owned());
        assert_eq!(adopted(&helms, &[]), [false, false, true]);
        let mut left = of(MANAGER);
        left.annotations.insert(OWNER_ANNOTATION.to_owned(), "main/default/other".to_owned());
        assert_eq!(adopted(&left, &[]), [false, false, true], "a target that is no more left it");
        assert_eq!(adopted(&left, &[claim(None, Some(1))]), [false; 3], "one that still is has it");
        assert_eq!(adopted(&there(&label_of(THEIRS), 1, "kubectl"), &[]), [false; 3]);
        let of_a_set = OwnerReference { controller: true, ..OwnerReference::default() };
        let controlled = Metadata { owner_references: vec![of_a_set], ..of("kubectl") };
        assert_eq!(adopted(&controlled, &[]), [false; 3], "its controller would make it again");
    }

    #[test]
    fn the_hint_says_what_to_ask_for_where_that_helps() {
        let hint = |there: &Metadata| owner_hint(there, &step("ConfigMap", None));
        let mut flux = Metadata::default();
        assert!(hint(&flux).ends_with("sync.adopt: ifUnowned"), "{}", hint(&flux));
        flux.labels.insert("kustomize.toolkit.fluxcd.io/name".to_owned(), "apps".to_owned());
        assert!(hint(&flux).ends_with("sync.adopt: always"), "{}", hint(&flux));
        assert!(!hint(&there(&label_of(THEIRS), 1, "x")).contains("adopt"), "that would not help");
    }

    #[test]
    fn only_what_we_applied_may_be_deleted() {
        let may =
            |label: &str, uid, manager: &str| may_delete(&there(label, uid, manager), "ours", Some(Uuid::from_u128(1)));

        assert!(may("ours", 1, "somebody"), "we recorded it");
        assert!(may("ours", 2, MANAGER), "we made it again and did not come to record it");
        assert!(!may("ours", 2, "somebody"), "a copy");
        assert!(!may("theirs", 1, MANAGER), "somebody took it away from us");
    }

    #[test]
    fn the_hint_tells_whose_it_is() {
        let annotated = |name: &str, value: &str| Metadata {
            annotations: BTreeMap::from([(name.to_owned(), value.to_owned())]),
            ..Metadata::default()
        };
        let entry = |manager: &str| ManagedFields { manager: manager.to_owned(), ..ManagedFields::default() };
        let written = Metadata { managed_fields: vec![entry("kubectl"), entry("kubectl")], ..Metadata::default() };
        let cases = [
            (annotated(OWNER_ANNOTATION, "main/default/shop"), "owned by main/default/shop; it stays"),
            (annotated("meta.helm.sh/release-name", "web"), "owned by the Helm release web; it stays"),
            (written, "written by kubectl; it stays"),
            (Metadata::default(), "it stays"),
        ];
        for (metadata, start) in cases {
            let hint = owner_hint(&metadata, &step("ConfigMap", None));
            assert!(hint.starts_with(start), "{hint}");
        }
    }
}
