//! Reconciling: how one cluster becomes what was assigned to it, and stays so.
//!
//! [`Targets`] decides and does nothing: it is told what happened ([`Event`]) and what time it is, and asked for what is
//! to be done ([`Step`]) and for what is to be said ([`crate::report::Report`], [`EventOutcome`]). An executor carries
//! the steps out and answers each ([`Answer`]). Chance is an argument too, so the same events give the same steps.
//!
//! | module | decides |
//! |---|---|
//! | `targets` | whose turn it is; what targets share: `bodies`, `claims` |
//! | `target` | when a target begins anew, and whether it may remove anything |
//! | `phases` | what of an assignment may be applied by now |
//! | `choose` | which step is next |
//! | `record` | what an answer changes: `judge` says what a failure means, `retries` when it is tried again |
//! | `observe` | what a watch changes; `recheck_queue` when a doubtful object is asked about |
//! | `drifted` | which drifts are told |
//! | `hooks` | which hooks are deleted once they have run, and what runs with them |
//! | `inventory` | what is ours: `owned` one object of it, `owner` whose an object is, `twins` two names of one |
//! | `removals` | what goes, when, in which order, and what stays; `removal` one object of it |
//! | `standing` | how each object stands, and when that is said; `evidence` what an old failure says, `status` the report |
//! | `replacement` | what is deleted and made anew, since it cannot be changed; `own_namespace` what is made for objects to be in |
//! | `guard` | what is never done |
//! | `dry_run` | what is asked of a bundle that is not assigned, and what of the answers may be told |
//!
//! What must never happen: two requests for one object at once; an apply to what is not the target's; a deletion of what no
//! plan names, of what another target has, or before the new objects are in place.

mod bodies;
mod choose;
mod claims;
mod drifted;
mod dry_run;
mod error;
mod event;
mod evidence;
mod finding;
mod guard;
mod hooks;
mod inventory;
mod judge;
mod metadata;
mod observe;
mod own_namespace;
mod owned;
mod owner;
mod phases;
mod recheck_queue;
mod record;
mod removal;
mod removals;
mod replacement;
mod retries;
#[cfg(test)]
mod scenarios;
mod standing;
mod status;
mod step;
mod target;
mod targets;
mod twins;

pub use bodies::Body;
pub use claims::Claim;
pub use drifted::Drifted;
pub use dry_run::{Companions, objection};
pub use error::{ClusterError, Contested, NO_KEY_REASON, SEALED_REASON, UNFIT_REASON};
pub use event::{Condition, Event, Freshness, Kind, ObjectEvent, ObjectState, WatchEvent};
pub use finding::{Answer, Finding, Found};
pub use guard::{Permit, refusal};
pub use metadata::{ManagedFields, Metadata, OwnerReference};
pub use own_namespace::is_made_namespace;
pub use owned::LastApplied;
pub use owner::{Owner, is_ours, owner_hint};
pub(crate) use removal::is_protected;
pub use replacement::{Cascade, Refusal, Replacement};
pub use step::{Act, Step, label_of};
pub use targets::{EventOutcome, Targets};
