//! Who acts, as the audit log names them.

use bellwether_core::Name;
use bellwether_core::audit::{Actor, ActorKind};

pub(crate) fn hub() -> Actor {
    Actor { kind: ActorKind::Hub, name: "hub".to_owned() }
}

pub(crate) fn agent(cluster: &Name) -> Actor {
    Actor { kind: ActorKind::Agent, name: cluster.to_string() }
}

pub(crate) fn token(name: &str) -> Actor {
    Actor { kind: ActorKind::Token, name: name.to_owned() }
}

pub(crate) fn anonymous() -> Actor {
    Actor { kind: ActorKind::Anonymous, name: "anonymous".to_owned() }
}
