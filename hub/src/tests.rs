//! Pushes through the stages of one hub, with real Git and Postgres and without agents: what each wakes and writes, and
//! what is swept in the end.

mod artifacts;
mod audit_of_routes;
mod broken_renders;
mod clocks;
mod commit_statuses;
mod documents;
mod dropped_reports;
mod dry_runs;
mod endings;
mod engines;
mod facts;
mod frozen;
mod growth;
mod kept_content;
mod later_versions;
mod lost_objects;
mod members;
mod mirrors_behind;
mod plans;
mod presence;
mod projects;
mod pushes;
mod renders;
mod reports;
mod retention;
mod rollouts;
mod scene;
mod shown_renders;
mod signatures;
mod sources;
mod targets;
