//! As `v0_3`, and a target that may have what others made.

use bellwether_core::session::{Adopt, AgentMessage, HubMessage};

use super::v0_3;

pub(crate) fn from_agent() -> Vec<AgentMessage> {
    v0_3::from_agent()
}

pub(crate) fn from_hub() -> Vec<HubMessage> {
    let mut messages = v0_3::from_hub();
    let desired = messages.iter_mut().find_map(|message| match message {
        HubMessage::Desired(desired) => desired.assignments.first_mut(),
        _ => None,
    });
    desired.expect("one is assigned").options.adopt = Adopt::Always;
    messages
}
