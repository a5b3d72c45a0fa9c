//! What the agent does to no object, whoever tells it to: see [`bellwether_core::reserved`].

use bellwether_core::reserved::{is_of_an_agent, reserved_mark};

use super::bodies::Body;
use super::step::{Act, Answer, Finding, Step};
use crate::executor::kubernetes::client::ClusterError;

/// `None`: it may be carried out. `home` is what the agent is installed in.
pub(super) fn refusal(home: &str, step: &Step, body: Option<&Body>) -> Option<Answer> {
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
