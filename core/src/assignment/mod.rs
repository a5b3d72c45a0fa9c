//! What the people of a cluster see and may do there without the hub: an object for each target, and one for the agent.
//!
//! Decides; asks nobody. What is shown is the very verdict that the hub is told ([`crate::report::Report`]), and when it was
//! so. What people write on such an object is one annotation, by which the agent keeps its hands off
//! ([`SUSPEND_ANNOTATION`]); all else of it is the agent's own, is written anew when somebody changes it, and is never read
//! to decide what is applied.
//!
//! | module | decides |
//! |---|---|
//! | `board` | which object is to be written next; whose it is; which targets are suspended |
//! | `notes` | what is told as an event, and how often |
//! | `standing` | what an object says: its fields and conditions |
//! | `suspension` | what an annotation asks for, and until when |
//!
//! Nothing is written unless it changed, and of one object at most once in [`PAUSE`]: a write for each answer of a target of
//! four objects would cost a third of the rate at which objects are applied.

mod board;
mod notes;
mod standing;
mod suspension;

pub use board::{Board, Holds, Seen, Write, Written};
pub use notes::{Note, Reason};
pub use standing::Shown;
pub use suspension::Suspension;

use jiff::SignedDuration;

/// By a person: nothing is applied, put right, pruned or run. `until=2h reason=INC-42`, `true`, or a time.
pub const SUSPEND_ANNOTATION: &str = "bellwether.dev/suspend";

/// The group and version of the objects. All of them are written anew by each agent that starts, so none of an older version
/// is ever to be converted, and a later one may say something else: `v1alpha1`.
pub const API_VERSION: &str = "bellwether.dev/v1alpha1";
/// Their kind.
pub const KIND: &str = "Assignment";
/// The name of their definition.
pub const DEFINITION: &str = "assignments.bellwether.dev";

/// Between two writes of one object.
pub const PAUSE: SignedDuration = SignedDuration::from_secs(2);

/// Bytes of a suspension that are kept, shown and told: who writes more has pasted something.
pub const SUSPENSION_BYTES_MAX: usize = 256;
