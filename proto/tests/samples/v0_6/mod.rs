//! As `v0_5`, an agent that says what would become of a bundle, a target that somebody of the cluster has suspended, and one of a
//! project whose agent acts as a ServiceAccount.

use std::collections::BTreeSet;

use bellwether_core::Digest;
use bellwether_core::bundle::{Entry, Manifest};
use bellwether_core::dry_run::{DryRun, DryRuns};
use bellwether_core::report::Suspended;
use bellwether_core::session::{Adopt, AgentMessage, DryRan, HubMessage, Replace, SyncOptions};
use jiff::SignedDuration;
use uuid::Uuid;

use super::v0_5;

pub(crate) fn from_agent() -> Vec<AgentMessage> {
    let mut messages = v0_5::from_agent();
    for message in &mut messages {
        if let AgentMessage::Hello(hello) = message {
            hello.dry_runs = DryRuns::Taken;
            hello.acts_as_accounts = true;
        }
    }
    let report = messages.iter_mut().find_map(|message| match message {
        AgentMessage::Report(_, report) => Some(report),
        _ => None,
    });
    let at = |text: &str| text.parse().expect("is a time");
    report.expect("one is reported").suspended = Some(Suspended {
        since: at("2026-11-29T10:00:00Z"),
        until: Some(at("2026-11-29T12:00:00Z")),
        reason: "INC-42".to_owned(),
        by: "kubectl-annotate".to_owned(),
    });
    messages.push(AgentMessage::DryRan(DryRan { id: Uuid::from_u128(8), answer: b"answer".to_vec() }));
    messages
}

pub(crate) fn from_hub() -> Vec<HubMessage> {
    let mut messages = v0_5::from_hub();
    let desired = messages.iter_mut().find_map(|message| match message {
        HubMessage::Desired(desired) => desired.assignments.first_mut(),
        _ => None,
    });
    let assignment = desired.expect("one is assigned");
    assignment.project = Some("tills".parse().expect("is a name"));
    assignment.options.service_account = Some("deployer".parse().expect("is a name"));
    let entries: BTreeSet<_> = assignment.manifest.entries().iter().map(|entry| entry.key.clone()).collect();
    let entries = entries.into_iter().map(|key| Entry { key, digest: Digest::of(b"another") }).collect();
    let asked = DryRun {
        id: Uuid::from_u128(8),
        target: assignment.target,
        manifest: Manifest::new(entries).expect("is one"),
        objects: vec![b"packed".to_vec()],
        namespace: assignment.namespace.clone(),
        project: assignment.project.clone(),
        options: SyncOptions {
            adopt: Adopt::IfUnowned,
            replace: Replace::Immutable,
            create_namespace: true,
            service_account: assignment.options.service_account.clone(),
            ..SyncOptions::default()
        },
        deadline: SignedDuration::from_secs(30),
    };
    messages.push(HubMessage::DryRun(asked));
    messages
}
