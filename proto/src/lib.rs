//! The wire: generated code, and the only conversions between it and the domain.
//!
//! Whatever comes from the other end is checked here once; behind this door only domain values are seen.

mod codec;
pub mod compression;
mod from_wire;
mod to_wire;

pub use from_wire::{WireError, agent_message, hub_message};
pub use to_wire::to_wire_certificate;

/// Generated from `agent/v1/agent.proto`.
#[allow(clippy::pedantic, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("bellwether.agent.v1");
}

/// No message is larger, in either direction.
pub const MESSAGE_BYTES_MAX: usize = 4 * 1024 * 1024;
