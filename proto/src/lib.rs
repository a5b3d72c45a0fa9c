//! The wire: generated code, and the only conversions between it and the domain.
//!
//! Whatever comes from the other end is checked here once; behind this door only domain values are seen.

mod codec;
pub mod compression;
mod from_wire;
mod to_wire;
mod weight;

pub use from_wire::{WireError, agent_message, dry_run_from_bytes, hub_message};
pub use to_wire::{dry_run_to_bytes, to_wire_certificate};

/// Generated from `agent/v1/agent.proto`.
#[allow(clippy::pedantic, unreachable_pub)]
pub mod v1 {
    tonic::include_proto!("bellwether.agent.v1");
}

/// No message of the hub is larger: a manifest has 2.5 MiB at most.
pub const HUB_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Nor is one of an agent: the objects of a full bundle are 340 KB, as it asks for them; what it has accepted is 600 KB, of
/// 10,000 targets. The hub holds one for each cluster, in part or whole, and its agents may be anybody's.
pub const AGENT_BYTES_MAX: usize = 1024 * 1024;
