//! What carries assignments out, a folder for each kind of place. There is one: Kubernetes.
//!
//! This page is the seam between the generic agent (link, journal, session) and an executor. An executor is one task,
//! `serve`, that owns all that is known of its targets. It is given
//!
//! - the inventory of the process before: each assignment that the journal holds, with the bodies of its objects, with what
//!   the target had before, and with what was applied and is still ours;
//! - through [`Ports`], every newer assignment in the same form. It is written down when it comes, so it may be acted on.
//!   Newer replaces older, and an absence says nothing: a target goes only by a tombstone, [`Action::Delete`] or
//!   [`Action::Orphan`]. When that was carried out and nobody asks about it again, it has ended and may be forgotten;
//! - dry runs: what would become of a bundle that nobody assigned. Nothing of it is written down, nor acted on;
//! - the stop, after which it begins nothing.
//!
//! It gives, through [`Ports`] too,
//!
//! - reports: how each target stands, about exactly the generation and digest that it was given; the first of an assignment
//!   at once, as it is the acknowledgement;
//! - drifts: what somebody else changed, and what was done about it;
//! - inventory updates: what it applied and what is gone, so that the next process knows what is ours.
//!
//! It never waits for the hub: what the link and the journal have not taken stays in its [`Outbox`], where newer replaces
//! older. An end that nobody asked for is an error, and ends the agent. What it does next it does not decide itself:
//! that is `core`'s, for Kubernetes [`bellwether_core::reconcile`].
//!
//! These types are the whole interface: one executor needs no trait, and a second one will show whether two do.
//!
//! [`Action::Delete`]: bellwether_core::session::Action::Delete
//! [`Action::Orphan`]: bellwether_core::session::Action::Orphan

pub(crate) mod kubernetes;
mod outbox;

use bellwether_core::TargetId;
use bellwether_core::assignment::Holds;
use bellwether_core::drift::Drift;
use bellwether_core::dry_run::DryRun;
use bellwether_core::journal::{InventoryUpdate, Journalled};
use bellwether_core::report::Report;
use bellwether_core::session::DryRan;
use tokio::sync::{mpsc, watch};

use kubernetes::assignments::Told;
use outbox::Outbox;

/// The ways between an executor and the rest of the agent.
pub(crate) struct Ports {
    pub(crate) written: mpsc::Receiver<Written>,
    /// Each until when.
    pub(crate) dry_runs: mpsc::Receiver<(tokio::time::Instant, DryRun)>,
    pub(crate) updates: mpsc::Sender<InventoryUpdate>,
    pub(crate) to_hub: mpsc::Sender<Outbound>,
    /// What is shown where it runs.
    pub(crate) shown: mpsc::Sender<Told>,
    /// Who is suspended there; before that is known, nothing is begun.
    pub(crate) holds: watch::Receiver<Option<Holds>>,
}

/// What the journal has written down.
#[expect(clippy::large_enum_variant, reason = "few are on their way at once, and nearly all are assignments")]
#[derive(Debug)]
pub(crate) enum Written {
    Assigned(Journalled),
    Ended(TargetId),
    /// All that was learned of a target, up to the update of that number.
    Learned(TargetId, u64),
}

/// What the hub is told.
#[derive(Debug, PartialEq)]
pub(crate) enum Outbound {
    Report(Report),
    Drift(Drift),
    DryRan(DryRan),
}
