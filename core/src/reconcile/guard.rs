//! What an agent does to no object, whoever tells it to: see [`crate::reserved`]; and what the cluster's owner lets it do: see
//! [`crate::policy`].

use serde_json::Value;

use super::bodies::Body;
use super::error::ClusterError;
use super::finding::{Answer, Finding};
use super::own_namespace::namespace_key;
use super::step::{Act, Step};
use crate::ObjectKey;
use crate::account::ActsAs;
use crate::policy::{self, Ask, Standing, Verb};
use crate::reserved::{is_of_an_agent, reserved_mark};

/// Asked before a step is carried out: the answer instead, or `None`: it may be. `home` is what the agent is installed in.
pub fn refusal(home: &str, step: &Step, body: Option<&Body>) -> Option<Answer> {
    if let Some(refused) = refused_account(home, &step.acts_as) {
        return Some(refused);
    }
    let is_of_the_agent = is_of_an_agent(&step.key, |namespace| namespace == home);
    match step.act {
        Act::Apply { .. } | Act::Correct { .. } if is_of_the_agent => {
            Some(refused("ObjectOfTheAgent", format!("{} belongs to the cluster's agent", step.key)))
        }
        Act::Apply { .. } | Act::Correct { .. } => {
            // An API server reads YAML too, in which we would see no mark.
            let Ok(object) = serde_json::from_slice(body?.bytes()) else {
                return Some(refused("BodyUnreadable", "the object is no JSON".to_owned()));
            };
            if !is_of(&step.key, &object) {
                return Some(refused(
                    "BodyDiffers",
                    "its body is of another name or kind than the bundle says".to_owned(),
                ));
            }
            let mark = reserved_mark(&object, &step.label())?;
            Some(refused("MetadataReserved", format!("{mark} is Bellwether's own")))
        }
        // Never this target's, whatever label it has.
        Act::Inspect | Act::Delete { .. } | Act::Orphan { .. } | Act::Give { .. } => {
            is_of_the_agent.then(|| Finding::Gone.into())
        }
    }
}

/// What is decided is decided by the key, and an object that is made has the name that its body says. Of a namespace the API
/// server sees to that.
fn is_of(key: &ObjectKey, object: &Value) -> bool {
    ObjectKey::of(object).is_some_and(|of| {
        (of.api_version, of.kind, of.name) == (key.api_version.clone(), key.kind.clone(), key.name.clone())
    })
}

/// Whoever acted as an account of the agent's namespace would be the agent.
fn refused_account(home: &str, acts_as: &ActsAs) -> Option<Answer> {
    match acts_as {
        ActsAs::Account(account) if account.namespace.as_str() == home => Some(refused(
            "AccountOfTheAgent",
            format!("ServiceAccount {account} is in the namespace of the cluster's agent"),
        )),
        ActsAs::Nobody => {
            let message = "a ServiceAccount is asked for, and it is not known of which namespace";
            Some(refused("AccountUnknown", message.to_owned()))
        }
        ActsAs::Account(_) | ActsAs::Agent => None,
    }
}

/// What the cluster's owner lets be done for a step.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Permit {
    /// Why it is not carried out.
    pub step: Option<policy::Refusal>,
    /// Why nothing is deleted on the way: one that cannot be changed, or the run before.
    pub delete: Option<policy::Refusal>,
    /// Why the target's own namespace is not made.
    pub namespace: Option<policy::Refusal>,
}

impl Permit {
    /// `is_namespaced` is what the API server says of the object's kind. What only looks whether an object is there may always.
    pub fn of(standing: &Standing, step: &Step, body: Option<&Body>, is_namespaced: bool) -> Self {
        let Some(verb) = verb(&step.act) else { return Self::default() };
        let (project, account) = (step.project.as_ref(), step.acts_as.account());
        let ask = |verb| Ask { verb, project, key: &step.key, is_namespaced, account };
        let namespace = step.makes_namespace.as_ref().map(|name| namespace_key(name.as_str()));
        let namespace = namespace.and_then(|key| {
            standing.refusal(&Ask { verb: Verb::Write, project, key: &key, is_namespaced: false, account })
        });
        let of_owned =
            || body.filter(|body| verb == Verb::Write && has_owner(body)).and(standing.refusal_of_owned(project));
        let refusal = standing.refusal(&ask(verb)).or_else(of_owned);
        Self { step: refusal, delete: standing.refusal(&ask(Verb::Delete)), namespace }
    }

    /// Whether it has to be known first if the object's kind has namespaces.
    pub fn asks_for_scope(standing: &Standing, step: &Step) -> bool {
        matches!(standing, Standing::Policy(_)) && verb(&step.act).is_some()
    }
}

/// `None`: it is only looked at.
fn verb(act: &Act) -> Option<Verb> {
    match act {
        Act::Apply { .. } | Act::Correct { writes: true, .. } | Act::Orphan { .. } | Act::Give { .. } => {
            Some(Verb::Write)
        }
        Act::Correct { writes: false, .. } => Some(Verb::DryRun),
        Act::Delete { .. } => Some(Verb::Delete),
        Act::Inspect => None,
    }
}

/// Then the garbage collector deletes it, without being asked to by this agent. One that cannot be read is refused anyway.
fn has_owner(body: &Body) -> bool {
    let object: Value = serde_json::from_slice(body.bytes()).unwrap_or_default();
    object
        .pointer("/metadata/ownerReferences")
        .is_some_and(|owners| owners.as_array().is_none_or(|all| !all.is_empty()))
}

fn refused(reason: &str, message: String) -> Answer {
    Finding::Failed(ClusterError::rejected(reason, message)).into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::account::Account;
    use crate::{Digest, TargetId};

    fn refused(body: &str) -> bool {
        let digest = Digest::of(body.as_bytes());
        let (api_version, kind) = ("v1".to_owned(), "Secret".to_owned());
        let key = ObjectKey { api_version, kind, namespace: Some("shop".to_owned()), name: "x".to_owned() };
        let step = Step::about(TargetId::new(Uuid::from_u128(7)), key, Act::Apply { digest, inspect_first: true });
        refusal("bellwether", &step, Some(&Body::from(Arc::<[u8]>::from(body.as_bytes())))).is_some()
    }

    #[test]
    fn a_body_of_another_name_or_kind_than_its_key_is_not_applied() {
        let body = |api_version: &str, kind: &str, name: &str| {
            serde_json::json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}}).to_string()
        };

        assert!(!refused(&body("v1", "Secret", "x")));
        for other in
            [body("v1", "Secret", "y"), body("v1", "ConfigMap", "x"), body("a/v1", "Secret", "x"), "{}".to_owned()]
        {
            assert!(refused(&other), "{other}");
        }
    }

    #[test]
    fn whoever_asks_for_an_account_of_nowhere_is_refused_and_not_taken_for_the_agent() {
        let (api_version, kind) = ("v1".to_owned(), "Secret".to_owned());
        let key = ObjectKey { api_version, kind, namespace: Some("shop".to_owned()), name: "x".to_owned() };
        let step = Step::about(TargetId::new(Uuid::from_u128(7)), key, Act::Inspect);
        let account = |namespace: &str| Account {
            namespace: namespace.parse().expect("a name"),
            name: "deployer".parse().expect("a name"),
        };
        let is_refused = |acts_as| refusal("bellwether", &Step { acts_as, ..step.clone() }, None).is_some();

        assert!(is_refused(ActsAs::Nobody) && is_refused(ActsAs::Account(account("bellwether"))));
        assert!(!is_refused(ActsAs::Agent) && !is_refused(ActsAs::Account(account("shop"))));
    }

    #[test]
    fn what_the_garbage_collector_would_delete_is_not_written_where_deletions_are_bound() {
        let (api_version, kind) = ("v1".to_owned(), "ConfigMap".to_owned());
        let key = ObjectKey { api_version, kind, namespace: Some("shop".to_owned()), name: "x".to_owned() };
        let is_refused = |policy: &str, owners: serde_json::Value| {
            let body = serde_json::json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x",
                "ownerReferences": owners}});
            let body = body.to_string();
            let act = Act::Apply { digest: Digest::of(body.as_bytes()), inspect_first: true };
            let step = Step::about(TargetId::new(Uuid::from_u128(7)), key.clone(), act);
            let policy = format!("apiVersion: bellwether.dev/v1\nkind: AgentPolicy\ndefault: allow\n{policy}\n");
            let standing = Standing::Policy(Box::new(serde_saphyr::from_str(&policy).expect("is a policy")));
            let permit = Permit::of(&standing, &step, Some(&Body::from(Arc::<[u8]>::from(body.as_bytes()))), true);
            permit.step.map(|refusal| refusal.message)
        };
        let owners = || serde_json::json!([{"apiVersion": "v1", "kind": "ConfigMap", "name": "y", "uid": "z"}]);

        for (policy, field) in [
            ("projects: [{name: default, prune: deny}]", "projects[0].prune "),
            ("projects: [{name: \"*\", pruneMaxPerHour: 3}]", "projects[0].pruneMaxPerHour "),
            ("pruneMaxPerHour: 3", "policy: pruneMaxPerHour "),
        ] {
            let refusal = is_refused(policy, owners()).unwrap_or_else(|| panic!("{policy}"));
            assert!(refusal.contains(field) && refusal.contains("metadata.ownerReferences"), "{refusal}");
            assert_eq!(is_refused(policy, serde_json::json!([])), None);
        }
        assert_eq!(is_refused("projects: [{name: default}]", owners()), None);
    }

    #[test]
    fn what_cannot_be_read_is_not_applied() {
        let body =
            |more: &str| format!(r#"{{"apiVersion": "v1", "kind": "Secret", "metadata": {{"name": "x"{more}}}}}"#);

        assert!(!refused(&body("")) && !refused(&body(r#", "namespace": "shop""#)));
        assert!(refused(&body(r#", "labels": {"bellwether.dev/journal": "v1"}"#)));
        assert!(refused("{metadata: {name: x, labels: {bellwether.dev/journal: v1}}}"), "an API server reads YAML");
    }
}
