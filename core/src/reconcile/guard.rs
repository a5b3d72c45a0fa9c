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
            let object = serde_json::from_slice(body?.bytes()).ok()?;
            let mark = reserved_mark(&object, &step.label())?;
            Some(refused("MetadataReserved", format!("{mark} is Bellwether's own")))
        }
        // Never this target's, whatever label it has.
        Act::Inspect | Act::Delete { .. } | Act::Orphan { .. } => is_of_the_agent.then(|| Finding::Gone.into()),
    }
}

fn refused(reason: &str, message: String) -> Answer {
    Finding::Failed(ClusterError::Rejected { reason: reason.to_owned(), message }).into()
}
