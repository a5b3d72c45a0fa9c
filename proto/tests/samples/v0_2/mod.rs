//! As `v0_1`, and what an agent sees of its cluster.

use std::collections::BTreeMap;

use bellwether_core::apis::Apis;
use bellwether_core::session::{AgentMessage, HeartbeatPolicy, HubMessage, Profile, ProfileWanted, Want, Welcome};
use bellwether_core::{Digest, SessionNumber};

use super::v0_1;

pub(crate) fn from_agent() -> Vec<AgentMessage> {
    let mut messages = v0_1::from_agent();
    let Some(AgentMessage::Hello(hello)) = messages.first_mut() else { panic!("the first is a Hello") };
    hello.apis = Some(Digest::of(b"apps/v1\napps/v1/Deployment"));
    messages.push(AgentMessage::Profile(Profile {
        facts: BTreeMap::from([("kubernetes.minor".to_owned(), "1.37".to_owned())]),
        apis: Some(Apis::parse("apps/v1\napps/v1/Deployment").expect("names")),
        definitions: None,
    }));
    messages
}

pub(crate) fn from_hub() -> Vec<HubMessage> {
    let mut messages = v0_1::from_hub();
    messages.push(HubMessage::Welcome(Welcome {
        session: SessionNumber::new(2),
        want: Want::Unacked,
        heartbeat: HeartbeatPolicy::default(),
        profile: ProfileWanted::Now,
    }));
    messages
}
