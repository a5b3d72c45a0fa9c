//! What an agent does to no object, whoever tells it to: see [`crate::reserved`].

use super::bodies::Body;
use super::error::ClusterError;
use super::finding::{Answer, Finding};
use super::step::{Act, Step};
use crate::reserved::{is_of_an_agent, reserved_mark};

/// Asked before a step is carried out: the answer instead, or `None`: it may be. `home` is what the agent is installed in.
pub fn refusal(home: &str, step: &Step, body: Option<&Body>) -> Option<Answer> {
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
            let mark = reserved_mark(&object, &step.label())?;
            Some(refused("MetadataReserved", format!("{mark} is Bellwether's own")))
        }
        // Never this target's, whatever label it has.
        Act::Inspect | Act::Delete { .. } | Act::Orphan { .. } | Act::Give { .. } => {
            is_of_the_agent.then(|| Finding::Gone.into())
        }
    }
}

fn refused(reason: &str, message: String) -> Answer {
    Finding::Failed(ClusterError::rejected(reason, message)).into()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::{Digest, ObjectKey, TargetId};

    fn refused(body: &str) -> bool {
        let digest = Digest::of(body.as_bytes());
        let (api_version, kind) = ("v1".to_owned(), "Secret".to_owned());
        let key = ObjectKey { api_version, kind, namespace: Some("shop".to_owned()), name: "x".to_owned() };
        let step = Step::about(TargetId::new(Uuid::from_u128(7)), key, Act::Apply { digest, inspect_first: true });
        refusal("bellwether", &step, Some(&Body::from(Arc::<[u8]>::from(body.as_bytes())))).is_some()
    }

    #[test]
    fn what_cannot_be_read_is_not_applied() {
        assert!(!refused(r#"{"metadata": {"name": "x"}}"#));
        assert!(refused(r#"{"metadata": {"name": "x", "labels": {"bellwether.dev/journal": "v1"}}}"#));
        assert!(refused("{metadata: {name: x, labels: {bellwether.dev/journal: v1}}}"), "an API server reads YAML");
    }
}
