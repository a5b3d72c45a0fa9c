//! As `v0_2`, and the definitions of a cluster.

use std::collections::BTreeMap;

use bellwether_core::Digest;
use bellwether_core::definitions::Definitions;
use bellwether_core::session::{AgentMessage, HubMessage, Packed, Profile};

use super::v0_2;

fn definitions() -> Definitions {
    let told = ("widgets.example.org".to_owned(), Some(Digest::of(b"widget")));
    Definitions::new([told, ("huge.example.org".to_owned(), None)])
}

pub(crate) fn from_agent() -> Vec<AgentMessage> {
    let mut messages = v0_2::from_agent();
    let Some(AgentMessage::Hello(hello)) = messages.first_mut() else { panic!("the first is a Hello") };
    hello.definitions = Some(definitions().digest());
    messages.push(AgentMessage::Profile(Profile {
        facts: BTreeMap::from([("kubernetes.minor".to_owned(), "1.37".to_owned())]),
        apis: None,
        definitions: Some(definitions()),
    }));
    messages.push(AgentMessage::Definition(Packed { digest: Digest::of(b"widget"), bytes: b"packed".to_vec() }));
    messages
}

pub(crate) fn from_hub() -> Vec<HubMessage> {
    let mut messages = v0_2::from_hub();
    messages.push(HubMessage::Wanted(vec![Digest::of(b"widget")]));
    messages
}
