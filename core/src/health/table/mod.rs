//! The kinds whose status kstatus does not understand, or takes for well too soon: a row each.
//!
//! A row goes by what the kind's API documents of its status, and errs to the side of waiting: *healthy* only by the word for
//! it, *failed* only where the controller says that this is the end, and *degraded* where it says that something is wrong and
//! goes on trying. Whoever adds one adds what it says of a few objects to `vectors`, which ask for it.

mod cloud;
mod data;
mod delivery;
mod kubernetes;
mod platform;

use super::rule::Ask::Is;
use super::rule::Clause::{Degraded, Healthy, Progressing};
use super::rule::{Clause, Row};

/// In this order: the first row of a kind counts, so a family's special kinds stand before the family.
pub(super) const TABLES: [&[Row]; 5] = [kubernetes::ROWS, delivery::ROWS, platform::ROWS, data::ROWS, cloud::ROWS];

pub(super) fn find(group: &str, kind: &str) -> Option<&'static Row> {
    TABLES.into_iter().flatten().find(|row| row.is_of(group, kind))
}

/// Its condition `Ready` is true. kstatus says so too, but takes one without that condition for well.
const READY: &[Clause] = &[Healthy("", &[Is("Ready", "True")])];

/// The same of controllers that say `False` only where something is wrong, and `Unknown` while they work.
const READY_OR_WRONG: &[Clause] = &[Degraded("", &[Is("Ready", "False")]), Healthy("", &[Is("Ready", "True")])];

/// The three conditions of an operator.
const OPERATOR: &[Clause] = &[
    Degraded("", &[Is("Degraded", "True")]),
    Progressing("", &[Is("Progressing", "True")]),
    Healthy("", &[Is("Available", "True")]),
];

/// What runs once, and says so by one of two conditions.
const SUCCEEDED: &[Clause] =
    &[Healthy("", &[Is("Succeeded", "True")]), Clause::Failed("", &[Is("Succeeded", "False")])];
