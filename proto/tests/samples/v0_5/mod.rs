//! As `v0_4`, and a target whose namespace is made, and whose objects are replaced where they cannot change.

use bellwether_core::session::{AgentMessage, HubMessage, Replace};

use super::v0_4;

pub(crate) fn from_agent() -> Vec<AgentMessage> {
    v0_4::from_agent()
}

pub(crate) fn from_hub() -> Vec<HubMessage> {
    let mut messages = v0_4::from_hub();
    let desired = messages.iter_mut().find_map(|message| match message {
        HubMessage::Desired(desired) => desired.assignments.first_mut(),
        _ => None,
    });
    let assignment = desired.expect("one is assigned");
    assignment.namespace = Some("shop".parse().expect("is a name"));
    (assignment.options.create_namespace, assignment.options.replace) = (true, Replace::Immutable);
    messages
}
