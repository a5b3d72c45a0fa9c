//! Both ends together, without a network: a connection is two queues that the test moves, cuts and repeats.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::agent::{Accepted, AgentSession, Change};
use super::hub::{Effect, HubSession};
use super::{
    Action, AgentMessage, Assignment, Desired, DryRan, FRAME_BYTES_MAX, HeartbeatPolicy, Hello, HubMessage, Listing,
    PROFILE_PAUSE, Packed, Piece, Profile, ProfileWanted, SyncOptions, Violation, Want, root,
};
use crate::apis::Apis;
use crate::bundle::{Entry, Manifest};
use crate::drift::{self, Drift, Response};
use crate::dry_run::{DryRun, DryRuns, MARGIN, Unanswered};
use crate::report::{Counts, Report, Verdict};
use crate::{Digest, Generation, ObjectKey, ReportSequence, SessionNumber, TargetId};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("is a time")
}

fn target(number: u128) -> TargetId {
    TargetId::new(Uuid::from_u128(number))
}

#[test]
fn only_an_agent_whose_reports_are_all_known_is_not_asked_for_them_again() {
    assert_eq!(Want::assess(true, Some(true)), Want::Unacked);
    assert_eq!(Want::assess(true, None), Want::Unacked, "nothing was acknowledged that could be missing");
    assert_eq!(Want::assess(true, Some(false)), Want::All, "rows that are older than what was acknowledged");
    assert_eq!(Want::assess(false, Some(true)), Want::All, "a new process knows nothing of them");
}

/// The tests do not compress.
fn decompress(bytes: &[u8], bytes_max: usize) -> Option<Vec<u8>> {
    (bytes.len() <= bytes_max).then(|| bytes.to_vec())
}

/// What the hub's store holds, and what it lists.
#[derive(Default, Clone)]
struct Store {
    objects: BTreeMap<Digest, Vec<u8>>,
    listing: Vec<Assignment>,
    /// Listed too, and cannot be read.
    unreadable: BTreeSet<TargetId>,
    /// What was ever listed.
    bundles: BTreeMap<Digest, Manifest>,
}

impl Store {
    fn assign(&mut self, number: u128, generation: i64, bodies: &[&str]) {
        let entries = bodies.iter().enumerate().map(|(index, body)| {
            let digest = Digest::of(body.as_bytes());
            self.objects.insert(digest, body.as_bytes().to_vec());
            let key = ObjectKey {
                api_version: "v1".to_owned(),
                kind: "ConfigMap".to_owned(),
                namespace: Some("shop".to_owned()),
                name: format!("c{index}"),
            };
            Entry { key, digest }
        });
        let assignment = Assignment {
            target: target(number),
            name: format!("t{number}").parse().expect("is a name"),
            generation: Generation::new(generation),
            action: Action::Apply,
            manifest: Manifest::new(entries.collect()).expect("is a manifest"),
            prunable: Vec::new(),
            namespace: None,
            project: None,
            options: SyncOptions::default(),
            retried: Generation::default(),
            trace: None,
        };
        self.bundles.insert(assignment.manifest.digest(), assignment.manifest.clone());
        self.listing.retain(|one| one.target != assignment.target);
        self.listing.push(assignment);
    }

    fn listing(&self) -> Listing {
        Listing { assignments: self.listing.clone(), unreadable: self.unreadable.clone() }
    }

    fn bury(&mut self, number: u128, generation: i64, action: Action) {
        self.assign(number, generation, &[]);
        self.listing.last_mut().expect("it was just listed").action = action;
    }

    fn root(&self) -> Digest {
        root(self.listing.iter().map(Assignment::listed))
    }
}

fn new_agent() -> AgentSession {
    AgentSession::new(Uuid::from_u128(7), "1".to_owned(), BTreeMap::new(), decompress, at(0))
}

/// One connection: both ends, what the hub was asked to record, and how many objects travelled.
struct Wire<'a> {
    agent: &'a mut AgentSession,
    hub: HubSession,
    store: &'a Store,
    recorded: Vec<(ReportSequence, Report)>,
    drifts: Vec<Drift>,
    travelled: usize,
    /// Assignments that were told.
    told: usize,
    /// The bytes of the manifests in the largest Desired.
    largest: usize,
    /// The hub takes no notice of what the agent asks for.
    is_deaf: bool,
    /// The agent is of a version that knows no accounts.
    is_old: bool,
    caught_up: bool,
    /// What the agent said of its cluster.
    seen: Vec<Profile>,
    defined: Vec<Packed>,
    /// What came of dry runs.
    dry_ran: Vec<Effect>,
    /// Targets of which an object was not stored.
    concerned: BTreeSet<TargetId>,
}

impl<'a> Wire<'a> {
    fn connect(agent: &'a mut AgentSession, store: &'a Store, number: i64) -> Self {
        agent.connect(at(0));
        let hub = HubSession::new(SessionNumber::new(number), HeartbeatPolicy::default(), at(0));
        Self {
            agent,
            hub,
            store,
            recorded: Vec::new(),
            drifts: Vec::new(),
            travelled: 0,
            told: 0,
            largest: 0,
            is_deaf: false,
            is_old: false,
            caught_up: false,
            seen: Vec::new(),
            defined: Vec::new(),
            dry_ran: Vec::new(),
            concerned: BTreeSet::new(),
        }
    }

    /// Moves messages until none is left, or the next would be the so-manieth from the hub.
    fn run(&mut self, hub_messages_max: usize) -> Result<(), Violation> {
        let mut from_hub = 0;
        loop {
            let mut moved = false;
            // A second apart, so that no pause between reports holds anything up.
            let now = at(1);
            while let Some(message) = self.agent.take_outbound(now) {
                moved = true;
                if self.is_deaf && matches!(message, AgentMessage::Need(_)) {
                    continue;
                }
                let message = match message {
                    AgentMessage::Hello(hello) if self.is_old => {
                        AgentMessage::Hello(Hello { acts_as_accounts: false, ..hello })
                    }
                    other => other,
                };
                self.hub.handle(message, now)?;
                self.carry_out();
            }
            while from_hub < hub_messages_max
                && let Some(message) = self.hub.take_outbound(now)
            {
                moved = true;
                from_hub += 1;
                if let HubMessage::Objects(pieces) = &message {
                    self.travelled += pieces.iter().filter(|piece| piece.offset == 0).count();
                }
                if let HubMessage::Desired(desired) = &message {
                    self.told += desired.assignments.len();
                    let bytes = desired.assignments.iter().map(|one| one.manifest.encode().len()).sum();
                    self.largest = self.largest.max(bytes);
                }
                self.agent.handle(message, now)?;
                self.carry_out();
            }
            if !moved {
                return Ok(());
            }
        }
    }

    fn carry_out(&mut self) {
        while let Some(effect) = self.hub.take_effect() {
            match effect {
                Effect::Greeted(_) => {
                    self.hub.welcome(Want::Unacked, ProfileWanted::WhenChanged);
                    self.hub.handle_listing(self.store.listing());
                }
                Effect::LoadBundles(_) => {
                    self.hub.handle_bundles(&self.store.bundles);
                    self.hub.handle_listing(self.store.listing());
                }
                Effect::Load(digests) => {
                    let (stored, missing): (BTreeSet<_>, _) =
                        digests.into_iter().partition(|digest| self.store.objects.contains_key(digest));
                    if !missing.is_empty() {
                        self.concerned.extend(self.hub.handle_missing(&missing));
                    }
                    self.hub.handle_objects(stored.iter().map(|digest| (*digest, self.store.objects[digest].clone())));
                }
                Effect::Record(sequence, report) => {
                    self.recorded.push((sequence, report));
                    self.hub.handle_recorded(sequence);
                }
                Effect::RecordDrift(sequence, drift) => {
                    self.drifts.push(drift);
                    self.hub.handle_recorded(sequence);
                }
                Effect::CaughtUp => self.caught_up = true,
                Effect::Seen(profile) => self.seen.push(profile),
                Effect::Define(packed) => self.defined.push(packed),
                ran @ (Effect::KeepDryRan(_) | Effect::RefuseDryRun(..)) => self.dry_ran.push(ran),
            }
        }
    }
}

fn accepted(agent: &mut AgentSession) -> Vec<Accepted> {
    let changes = std::iter::from_fn(|| agent.take_change());
    changes.filter_map(|change| if let Change::Accepted(accepted) = change { Some(accepted) } else { None }).collect()
}

fn ended(agent: &mut AgentSession) -> Vec<TargetId> {
    let changes = std::iter::from_fn(|| agent.take_change());
    changes.filter_map(|change| if let Change::Ended(target) = change { Some(target) } else { None }).collect()
}

fn report(number: u128, generation: i64, digest: Digest) -> Report {
    Report {
        target: target(number),
        generation: Generation::new(generation),
        digest,
        applied: true,
        verdict: Verdict::Healthy,
        objects: Counts::default(),
        lines: Vec::new(),
        suspended: None,
    }
}

#[test]
fn a_new_agent_gets_everything_with_its_objects() {
    let mut store = Store::default();
    store.assign(1, 1, &["a", "b"]);
    let mut agent = new_agent();

    Wire::connect(&mut agent, &store, 1).run(usize::MAX).expect("the protocol is kept");

    let accepted = accepted(&mut agent);
    assert_eq!(accepted.len(), 1);
    assert_eq!(accepted[0].objects.len(), 2);
}

#[test]
fn an_agent_that_comes_back_with_the_same_root_is_told_nothing() {
    let mut store = Store::default();
    store.assign(1, 1, &["a"]);
    let mut agent = new_agent();
    Wire::connect(&mut agent, &store, 1).run(usize::MAX).expect("the protocol is kept");
    accepted(&mut agent);

    let mut again = Wire::connect(&mut agent, &store, 2);
    again.run(usize::MAX).expect("the protocol is kept");

    assert_eq!(again.travelled, 0);
    assert!(accepted(&mut agent).is_empty());
}

#[test]
fn within_a_session_only_what_differs_travels() {
    let mut store = Store::default();
    store.assign(1, 1, &["a", "b"]);
    store.assign(2, 2, &["c"]);
    let before = store.clone();
    let mut agent = new_agent();
    store.assign(1, 3, &["a", "changed"]);

    let mut wire = Wire::connect(&mut agent, &before, 1);
    wire.run(usize::MAX).expect("the protocol is kept");
    wire.store = &store;
    wire.travelled = 0;
    wire.hub.handle_listing(store.listing.clone());
    wire.carry_out();
    wire.run(usize::MAX).expect("the protocol is kept");

    assert_eq!(wire.travelled, 1, "only the changed object");
    let generations: Vec<_> = accepted(&mut agent).iter().map(|one| one.assignment.generation.get()).collect();
    assert_eq!(generations, [1, 2, 3]);
}

#[test]
fn a_connection_that_drops_at_any_message_loses_nothing() {
    let mut store = Store::default();
    let large = "x".repeat(3 * FRAME_BYTES_MAX);
    store.assign(1, 1, &[&large, "b"]);
    store.assign(2, 2, &["c"]);

    for messages in 0..12 {
        let mut agent = new_agent();
        Wire::connect(&mut agent, &store, 1).run(messages).expect("the protocol is kept");
        Wire::connect(&mut agent, &store, 2).run(usize::MAX).expect("the protocol is kept");

        let accepted = accepted(&mut agent);
        assert_eq!(accepted.len(), 2, "cut after {messages} messages");
        assert_eq!(agent.root(), store.root(), "after {messages}");
    }
}

#[test]
fn more_objects_than_one_request_holds_all_arrive() {
    let mut store = Store::default();
    let bodies: Vec<_> = (0..200).map(|number| format!("body {number}")).collect();
    store.assign(1, 1, &bodies.iter().map(String::as_str).collect::<Vec<_>>());
    let mut agent = new_agent();

    Wire::connect(&mut agent, &store, 1).run(usize::MAX).expect("the protocol is kept");

    assert_eq!(accepted(&mut agent)[0].objects.len(), 200);
}

/// So many bodies that no other number's are like them.
fn bodies(number: u128, count: usize, bytes: usize) -> Vec<String> {
    (0..count).map(|index| format!("{number} {index} {}", "x".repeat(bytes))).collect()
}

fn assign_many(store: &mut Store, number: u128, generation: i64, count: usize, bytes: usize) {
    let bodies = bodies(number, count, bytes);
    store.assign(number, generation, &bodies.iter().map(String::as_str).collect::<Vec<_>>());
}

#[test]
fn what_does_not_fit_one_message_is_told_in_parts() {
    let mut store = Store::default();
    for number in 1..4 {
        assign_many(&mut store, number, 1, 9_000, 0);
    }
    let mut agent = new_agent();

    let mut wire = Wire::connect(&mut agent, &store, 1);
    wire.run(usize::MAX).expect("the protocol is kept");

    let all: usize = store.listing.iter().map(|one| one.manifest.encode().len()).sum();
    assert!(all > 4 * 1024 * 1024 && wire.largest < 2 * 1024 * 1024, "{all}, {}", wire.largest);
    assert_eq!(wire.told, 3);
    assert_eq!(accepted(&mut agent).len(), 3);
    assert_eq!(agent.root(), store.root());
}

#[test]
fn more_objects_than_an_agent_keeps_at_once_arrive_target_by_target() {
    let mut store = Store::default();
    for number in 1..4 {
        assign_many(&mut store, number, 1, 25, 1024 * 1024);
    }
    let mut agent = new_agent();

    Wire::connect(&mut agent, &store, 1).run(usize::MAX).expect("75 MiB are no violation");

    let objects: Vec<_> = accepted(&mut agent).iter().map(|one| one.objects.len()).collect();
    assert_eq!(objects, [25, 25, 25]);
}

#[test]
fn many_small_assignments_are_told_together() {
    let mut store = Store::default();
    for number in 1..=40 {
        store.assign(number, 1, &[&format!("object of {number}")]);
    }
    let mut agent = new_agent();

    let mut wire = Wire::connect(&mut agent, &store, 1);
    let first = std::iter::from_fn(|| wire.agent.take_outbound(at(1))).next().expect("a Hello");
    wire.hub.handle(first, at(1)).expect("it is allowed");
    wire.carry_out();
    let told = std::iter::from_fn(|| {
        let message = wire.hub.take_outbound(at(1));
        wire.carry_out();
        message
    });
    let desired: Vec<_> = told.filter(|message| matches!(message, HubMessage::Desired(_))).collect();

    assert_eq!(desired.len(), 1);
}

#[test]
fn a_connection_that_drops_between_two_parts_loses_nothing_and_lists_all_at_last() {
    let mut store = Store::default();
    for number in 1..4 {
        assign_many(&mut store, number, 1, 70, 0);
    }
    let mut gone = store.clone();
    assign_many(&mut gone, 9, 1, 1, 0);

    for messages in 0..12 {
        let mut agent = new_agent();
        // It comes with a target that is listed no more.
        Wire::connect(&mut agent, &gone, 1).run(usize::MAX).expect("the protocol is kept");
        accepted(&mut agent);
        let mut next = store.clone();
        for number in 1..4 {
            assign_many(&mut next, number, 2, 71, 1);
        }
        Wire::connect(&mut agent, &next, 2).run(messages).expect("the protocol is kept");
        Wire::connect(&mut agent, &next, 3).run(usize::MAX).expect("the protocol is kept");

        assert_eq!(accepted(&mut agent).len(), 3, "cut after {messages}");
        assert_eq!(agent.root(), next.root(), "after {messages}");
        assert_eq!(agent.unlisted().collect::<Vec<_>>(), [target(9)], "after {messages}");
    }
}

#[test]
fn a_target_that_changes_often_does_not_keep_a_large_one_from_arriving() {
    let mut store = Store::default();
    assign_many(&mut store, 1, 1, 200, 1_000);
    store.assign(2, 1, &["small"]);
    let mut agent = new_agent();
    let versions: Vec<_> = (2..40)
        .map(|generation| {
            store.assign(2, generation, &[&format!("small {generation}")]);
            store.clone()
        })
        .collect();

    let mut wire = Wire::connect(&mut agent, &versions[0], 1);
    for version in &versions {
        wire.store = version;
        wire.hub.handle_listing(version.listing.clone());
        wire.carry_out();
        // A few messages only, before it changes again.
        wire.run(2).expect("the protocol is kept");
    }

    assert!(accepted(&mut agent).iter().any(|one| one.assignment.target == target(1)));
}

#[test]
fn of_objects_that_no_desired_names_only_the_newest_are_kept() {
    let store = Store::default();
    let mut agent = new_agent();
    let mut wire = Wire::connect(&mut agent, &store, 1);
    wire.run(usize::MAX).expect("the protocol is kept");
    let bodies = bodies(1, 70, 1024 * 1024);
    for body in &bodies {
        let digest = Digest::of(body.as_bytes());
        let bytes_total = u32::try_from(body.len()).expect("is small");
        for (offset, bytes) in (0..).step_by(FRAME_BYTES_MAX).zip(body.as_bytes().chunks(FRAME_BYTES_MAX)) {
            let piece = Piece { digest, bytes_total, offset, bytes: bytes.to_vec() };
            wire.agent.handle(HubMessage::Objects(vec![piece]), at(2)).expect("it is allowed");
        }
    }

    let mut named = Store::default();
    named.assign(1, 1, &[&bodies[0], &bodies[69]]);
    let desired = Desired { complete: true, assignments: named.listing, unchanged: Vec::new() };
    wire.agent.handle(HubMessage::Desired(desired), at(2)).expect("it is allowed");

    assert_eq!(
        wire.agent.take_outbound(at(2)),
        Some(AgentMessage::Need(vec![Digest::of(bodies[0].as_bytes())])),
        "the first is asked for again"
    );
}

#[test]
fn a_newer_listing_takes_the_place_of_one_whose_objects_still_travel() {
    let mut store = Store::default();
    let large = "x".repeat(5 * FRAME_BYTES_MAX);
    store.assign(1, 1, &[&large]);
    let old = store.clone();
    store.assign(1, 2, &["small"]);
    let mut agent = new_agent();

    let mut wire = Wire::connect(&mut agent, &old, 1);
    wire.run(2).expect("the protocol is kept");
    wire.store = &store;
    wire.hub.handle_listing(store.listing.clone());
    wire.carry_out();
    wire.run(usize::MAX).expect("the protocol is kept");

    let generations: Vec<_> = accepted(&mut agent).iter().map(|one| one.assignment.generation.get()).collect();
    assert_eq!(generations, [2], "the older one was never whole");
}

#[test]
fn an_older_generation_never_replaces_a_newer_one() {
    let mut store = Store::default();
    store.assign(1, 5, &["new"]);
    let mut old = Store::default();
    old.assign(1, 4, &["old"]);
    let mut agent = new_agent();
    Wire::connect(&mut agent, &store, 1).run(usize::MAX).expect("the protocol is kept");
    accepted(&mut agent);

    Wire::connect(&mut agent, &old, 2).run(usize::MAX).expect("the protocol is kept");

    assert!(accepted(&mut agent).is_empty());
}

#[test]
fn what_is_no_longer_listed_is_kept_and_shown() {
    let mut store = Store::default();
    store.assign(1, 1, &["a"]);
    let mut agent = new_agent();
    Wire::connect(&mut agent, &store, 1).run(usize::MAX).expect("the protocol is kept");
    accepted(&mut agent);

    Wire::connect(&mut agent, &Store::default(), 2).run(usize::MAX).expect("the protocol is kept");

    assert!(accepted(&mut agent).is_empty(), "absence never means delete");
    assert_eq!(agent.unlisted().collect::<Vec<_>>(), [target(1)]);
}

#[test]
fn what_cannot_be_read_is_neither_told_nor_taken_away() {
    let mut store = Store::default();
    store.assign(1, 1, &["a"]);
    store.assign(2, 1, &["b"]);
    let mut agent = new_agent();
    Wire::connect(&mut agent, &store, 1).run(usize::MAX).expect("the protocol is kept");
    accepted(&mut agent);
    let mut newer = store.clone();
    newer.assign(2, 2, &["c"]);
    newer.listing.retain(|one| one.target != target(1));
    newer.unreadable = [target(1)].into();

    Wire::connect(&mut agent, &newer, 2).run(usize::MAX).expect("the protocol is kept");

    let now: Vec<_> = accepted(&mut agent).iter().map(|one| one.assignment.target).collect();
    assert_eq!(now, [target(2)], "its neighbour goes on");
    assert!(agent.unlisted().next().is_none(), "it is still the cluster's");
}

#[test]
fn a_tombstone_is_let_go_when_it_was_carried_out_and_the_hub_holds_it_no_more() {
    let mut store = Store::default();
    store.assign(1, 1, &["a"]);
    store.bury(2, 2, Action::Delete);
    store.bury(3, 3, Action::Orphan);
    let nothing = Manifest::new(Vec::new()).expect("is a manifest").digest();
    let mut agent = new_agent();
    Wire::connect(&mut agent, &store, 1).run(usize::MAX).expect("the protocol is kept");
    accepted(&mut agent);
    agent.report(report(2, 2, nothing));
    agent.report(Report { applied: false, ..report(3, 3, nothing) });
    Wire::connect(&mut agent, &store, 2).run(usize::MAX).expect("the protocol is kept");
    assert_eq!(ended(&mut agent), [], "the hub still lists them");

    store.listing.retain(|one| one.action == Action::Apply);
    Wire::connect(&mut agent, &store, 3).run(usize::MAX).expect("the protocol is kept");

    assert_eq!(ended(&mut agent), [target(2)]);
    assert_eq!(agent.unlisted().collect::<Vec<_>>(), [target(3)], "it is not carried out");
    agent.report(report(3, 3, nothing));
    Wire::connect(&mut agent, &store, 4).run(usize::MAX).expect("the protocol is kept");
    assert_eq!(ended(&mut agent), [target(3)]);
    assert_eq!(agent.unlisted().count(), 0);
}

#[test]
fn a_new_process_lets_go_of_a_tombstone_when_it_has_said_once_more_that_it_was_carried_out() {
    let mut store = Store::default();
    store.bury(1, 1, Action::Delete);
    let assignment = store.listing[0].clone();
    let mut agent = new_agent().resume([&assignment]);

    Wire::connect(&mut agent, &Store::default(), 1).run(usize::MAX).expect("the protocol is kept");
    assert_eq!(ended(&mut agent), []);
    agent.report(report(1, 1, assignment.manifest.digest()));
    Wire::connect(&mut agent, &Store::default(), 2).run(usize::MAX).expect("the protocol is kept");

    assert_eq!(ended(&mut agent), [target(1)]);
}

#[test]
fn what_was_deleted_and_forgotten_does_not_come_back_with_rows_from_before() {
    let mut store = Store::default();
    store.assign(1, 5, &["a"]);
    let mut backup = store.clone();
    let mut agent = new_agent();
    Wire::connect(&mut agent, &store, 1).run(usize::MAX).expect("the protocol is kept");
    store.bury(1, 9, Action::Delete);
    Wire::connect(&mut agent, &store, 2).run(usize::MAX).expect("the protocol is kept");
    agent.report(report(1, 9, store.listing[0].manifest.digest()));
    Wire::connect(&mut agent, &Store::default(), 3).run(usize::MAX).expect("the protocol is kept");
    assert_eq!(ended(&mut agent), [target(1)]);

    // What another target was given before that may come after it.
    backup.assign(2, 4, &["b"]);
    Wire::connect(&mut agent, &backup, 4).run(usize::MAX).expect("the protocol is kept");
    let taken: Vec<_> = accepted(&mut agent).iter().map(|one| one.assignment.target).collect();
    assert_eq!(taken, [target(2)], "the first is older than its tombstone");

    backup.assign(1, 10, &["a"]);
    Wire::connect(&mut agent, &backup, 5).run(usize::MAX).expect("the protocol is kept");
    let taken: Vec<_> = accepted(&mut agent).iter().map(|one| one.assignment.target).collect();
    assert_eq!(taken, [target(1)], "somebody wants it again");
}

#[test]
fn a_target_whose_object_is_not_stored_waits_alone_and_keeps_what_it_has() {
    let mut before = Store::default();
    before.assign(1, 1, &["a"]);
    let mut agent = new_agent();
    Wire::connect(&mut agent, &before, 1).run(usize::MAX).expect("the protocol is kept");
    assert_eq!(accepted(&mut agent).len(), 1);
    let mut store = before.clone();
    store.assign(1, 2, &["lost", "b"]);
    store.assign(2, 3, &["c"]);
    store.assign(3, 4, &["lost"]);
    let mut lacking = store.clone();
    lacking.objects.remove(&Digest::of(b"lost"));
    let taken = |agent: &mut AgentSession| {
        let accepted = accepted(agent);
        accepted.iter().map(|one| (one.assignment.target, one.assignment.generation.get())).collect::<Vec<_>>()
    };

    let mut wire = Wire::connect(&mut agent, &lacking, 2);
    wire.run(usize::MAX).expect("the protocol is kept");
    assert_eq!(wire.concerned, [target(1), target(3)].into());
    assert_eq!(taken(wire.agent), [(target(2), 3)]);
    assert!(wire.agent.unlisted().next().is_none(), "what it has of the others is the cluster's still");

    // It was made whole, and the rows are read anew.
    wire.store = &store;
    wire.hub.handle_listing(store.listing());
    wire.carry_out();
    wire.run(usize::MAX).expect("the protocol is kept");
    let mut now = taken(wire.agent);
    now.sort_unstable();
    assert_eq!(now, [(target(1), 2), (target(3), 4)]);
}

#[test]
fn an_object_that_an_agent_asks_for_and_that_is_not_stored_holds_up_nothing() {
    let mut store = Store::default();
    store.assign(1, 1, &["lost", "a"]);
    let mut agent = new_agent();
    Wire::connect(&mut agent, &store, 1).run(usize::MAX).expect("the protocol is kept");
    accepted(&mut agent);
    let mut lacking = store.clone();
    lacking.objects.remove(&Digest::of(b"lost"));
    lacking.assign(2, 2, &["b"]);

    let mut wire = Wire::connect(&mut agent, &lacking, 2);
    wire.run(usize::MAX).expect("the protocol is kept");
    wire.hub.handle(AgentMessage::Need(vec![Digest::of(b"lost")]), at(1)).expect("it may ask");
    wire.carry_out();
    wire.run(usize::MAX).expect("the protocol is kept");

    assert_eq!(wire.concerned, [target(1)].into());
    assert_eq!(accepted(wire.agent).len(), 1);
}

#[test]
fn a_report_that_was_not_acknowledged_is_sent_again_and_one_that_was_is_not() {
    let mut store = Store::default();
    store.assign(1, 1, &["a"]);
    let digest = store.listing[0].manifest.digest();
    let mut agent = new_agent();
    Wire::connect(&mut agent, &store, 1).run(usize::MAX).expect("the protocol is kept");
    agent.report(report(1, 1, digest));

    // The hub takes its messages and says nothing.
    let mut mute = Wire::connect(&mut agent, &store, 2);
    mute.run(1).expect("the protocol is kept");
    assert_eq!(mute.recorded.len(), 1);
    let mut second = Wire::connect(&mut agent, &store, 3);
    second.run(usize::MAX).expect("the protocol is kept");
    assert_eq!(second.recorded.len(), 1, "it was never acknowledged");
    assert!(second.caught_up);
    let mut third = Wire::connect(&mut agent, &store, 4);
    third.run(usize::MAX).expect("the protocol is kept");
    assert!(third.recorded.is_empty());
}

#[test]
fn a_drift_is_told_once_and_kept_while_no_hub_has_it() {
    let store = Store::default();
    let mut agent = new_agent();
    let object =
        ObjectKey { api_version: "v1".to_owned(), kind: "ConfigMap".to_owned(), namespace: None, name: "a".to_owned() };
    agent.tell_drift(Drift {
        id: Uuid::from_u128(1),
        target: target(1),
        object,
        found_at: at(0),
        change: drift::Change::Deleted,
        response: Response::Corrected,
        manager: None,
        operation: None,
        fields: Vec::new(),
        values: crate::drift::ChangedValues::default(),
    });

    // The hub takes its messages and says nothing.
    let mut mute = Wire::connect(&mut agent, &store, 1);
    mute.run(1).expect("the protocol is kept");
    assert_eq!(mute.drifts.len(), 1);
    let mut second = Wire::connect(&mut agent, &store, 2);
    second.run(usize::MAX).expect("the protocol is kept");
    assert_eq!(second.drifts.len(), 1, "it was never acknowledged");
    let mut third = Wire::connect(&mut agent, &store, 3);
    third.run(usize::MAX).expect("the protocol is kept");
    assert!(third.drifts.is_empty());
}

#[test]
fn a_report_about_another_generation_than_the_accepted_one_is_not_sent() {
    let mut store = Store::default();
    store.assign(1, 2, &["a"]);
    let mut agent = new_agent();
    let mut wire = Wire::connect(&mut agent, &store, 1);
    wire.run(usize::MAX).expect("the protocol is kept");

    wire.agent.report(report(1, 1, store.listing[0].manifest.digest()));
    wire.run(usize::MAX).expect("the protocol is kept");

    assert!(wire.recorded.is_empty());
}

#[test]
fn an_object_whose_bytes_do_not_have_its_digest_ends_the_connection() {
    let store = Store::default();
    let mut agent = new_agent();
    let mut wire = Wire::connect(&mut agent, &store, 1);
    wire.run(usize::MAX).expect("the protocol is kept");

    let digest = Digest::of(b"good");
    let piece = Piece { digest, bytes_total: 4, offset: 0, bytes: b"evil".to_vec() };
    let refused = wire.agent.handle(HubMessage::Objects(vec![piece]), at(2));

    assert_eq!(refused, Err(Violation::Mismatch(digest)));
}

/// An agent process whose journal still holds what the store lists, but for these bodies.
fn restarted(store: &Store, lost: &[&str]) -> AgentSession {
    let lost: BTreeSet<_> = lost.iter().map(|body| Digest::of(body.as_bytes())).collect();
    let missing = |one: &Assignment| one.objects().filter(|object| lost.contains(object)).collect::<BTreeSet<_>>();
    let (lacking, whole): (Vec<_>, Vec<_>) = store.listing.iter().partition(|one| !missing(one).is_empty());
    let lacking = lacking.into_iter().map(|one| (one.clone(), missing(one)));
    new_agent().resume(whole).resume_lacking(lacking)
}

#[test]
fn a_body_that_the_journal_lost_is_asked_for_and_nothing_else_travels() {
    let mut store = Store::default();
    store.assign(1, 1, &["a", "b"]);
    store.assign(2, 2, &["c"]);
    let mut agent = restarted(&store, &["b"]);

    let mut wire = Wire::connect(&mut agent, &store, 1);
    wire.run(usize::MAX).expect("the protocol is kept");

    assert_eq!((wire.travelled, wire.told), (1, 0));
    let accepted = accepted(&mut agent);
    assert_eq!(accepted.len(), 1);
    assert_eq!(accepted[0].assignment, store.listing[0]);
    assert_eq!(accepted[0].objects.keys().collect::<Vec<_>>(), [&Digest::of(b"b")]);
}

#[test]
fn a_body_that_was_lost_is_asked_for_again_on_the_next_connection() {
    let mut store = Store::default();
    store.assign(1, 1, &["a", "b"]);
    store.assign(2, 2, &["c"]);
    let mut agent = restarted(&store, &["b"]);
    let mut newer = store.clone();
    newer.assign(2, 3, &["d"]);

    let mut deaf = Wire::connect(&mut agent, &store, 1);
    deaf.is_deaf = true;
    deaf.run(usize::MAX).expect("the protocol is kept");
    deaf.store = &newer;
    deaf.hub.handle_listing(newer.listing.clone());
    deaf.carry_out();
    deaf.run(usize::MAX).expect("the protocol is kept");
    let generations: Vec<_> = accepted(&mut agent).iter().map(|one| one.assignment.generation.get()).collect();
    assert_eq!(generations, [3], "the other target goes on");
    Wire::connect(&mut agent, &newer, 2).run(usize::MAX).expect("the protocol is kept");

    assert_eq!(accepted(&mut agent)[0].assignment, store.listing[0]);
}

#[test]
fn a_newer_assignment_takes_the_place_of_one_that_lacks_a_body() {
    let mut store = Store::default();
    store.assign(1, 1, &["a", "b"]);
    let mut agent = restarted(&store, &["b"]);
    let mut newer = store.clone();
    newer.assign(1, 2, &["a", "b", "c"]);

    let mut wire = Wire::connect(&mut agent, &newer, 1);
    wire.run(usize::MAX).expect("the protocol is kept");

    let travelled = wire.travelled;
    let accepted = accepted(&mut agent);
    assert_eq!(accepted.len(), 1);
    assert_eq!(accepted[0].assignment, newer.listing[0]);
    assert_eq!(accepted[0].objects.len(), 2, "the lost one and the new one");
    assert_eq!(travelled, 2);
    assert_eq!(agent.root(), newer.root());
}

#[test]
fn a_desired_state_that_names_an_object_that_never_came_waits_for_it() {
    let mut store = Store::default();
    store.assign(1, 1, &["a"]);
    let empty = Store::default();
    let mut agent = new_agent();
    let mut wire = Wire::connect(&mut agent, &empty, 1);
    wire.run(usize::MAX).expect("the protocol is kept");

    let desired = Desired { complete: false, assignments: store.listing.clone(), unchanged: Vec::new() };
    wire.agent.handle(HubMessage::Desired(desired), at(2)).expect("it is allowed");

    assert!(accepted(wire.agent).is_empty());
    assert_eq!(wire.agent.take_outbound(at(2)), Some(AgentMessage::Need(vec![Digest::of(b"a")])));
}

#[test]
fn an_object_that_only_another_cluster_is_assigned_is_never_sent() {
    let mut store = Store::default();
    store.assign(1, 1, &["a"]);
    let mut others = Store::default();
    others.assign(9, 1, &["secret"]);
    store.bundles.extend(others.bundles.clone());
    let mut agent = restarted(&others, &["secret"]);

    // It even says that the bundle is its own.
    let mut wire = Wire::connect(&mut agent, &store, 1);
    wire.run(usize::MAX).expect("the protocol is kept");

    assert_eq!(wire.travelled, 1, "its own");
    let accepted = accepted(&mut agent);
    assert_eq!(accepted.len(), 1);
    assert_eq!(accepted[0].assignment.target, target(1));
}

#[test]
fn an_object_is_sent_once_in_a_session_however_often_it_is_asked_for() {
    let mut store = Store::default();
    store.assign(1, 1, &["a"]);
    let mut agent = restarted(&store, &["a"]);
    let mut wire = Wire::connect(&mut agent, &store, 1);
    wire.run(usize::MAX).expect("the protocol is kept");

    wire.hub.handle(AgentMessage::Need(vec![Digest::of(b"a")]), at(2)).expect("it is allowed");

    assert_eq!(wire.hub.take_effect(), None);
    let flood = (0..50_000_u32).map(|number| Digest::of(&number.to_be_bytes())).collect();
    assert_eq!(wire.hub.handle(AgentMessage::Need(flood), at(2)), Err(Violation::TooMuch));
}

#[test]
fn an_agent_that_comes_back_to_other_rows_is_told_only_the_difference() {
    let mut store = Store::default();
    store.assign(1, 1, &["a", "b"]);
    store.assign(2, 2, &["c"]);
    store.assign(3, 3, &["d"]);
    let mut agent = new_agent();
    Wire::connect(&mut agent, &store, 1).run(usize::MAX).expect("the protocol is kept");
    accepted(&mut agent);
    store.assign(1, 4, &["a", "changed"]);
    store.listing.retain(|one| one.target != target(3));

    let mut again = Wire::connect(&mut agent, &store, 2);
    again.run(usize::MAX).expect("the protocol is kept");

    assert_eq!((again.told, again.travelled), (1, 1));
    let generations: Vec<_> = accepted(&mut agent).iter().map(|one| one.assignment.generation.get()).collect();
    assert_eq!(generations, [4]);
    assert_eq!(agent.unlisted().collect::<Vec<_>>(), [target(3)]);
    assert_eq!(agent.root(), store.root());
}

#[test]
fn roots_that_differ_while_a_stream_goes_on_are_repaired_within_the_hour() {
    let mut store = Store::default();
    store.assign(1, 1, &["a"]);
    let mut agent = new_agent();
    let mut wire = Wire::connect(&mut agent, &store, 1);
    wire.run(usize::MAX).expect("the protocol is kept");
    // By a fault the agent holds what the rows do not say.
    let mut fault = store.clone();
    fault.assign(2, 2, &[]);
    let desired = Desired { complete: false, assignments: fault.listing.clone(), unchanged: Vec::new() };
    wire.agent.handle(HubMessage::Desired(desired), at(2)).expect("it is allowed");

    let late = at(3600);
    wire.hub.handle(AgentMessage::Heartbeat, late).expect("it is allowed");
    wire.hub.handle_tick(late).expect("it sends a heartbeat");
    wire.run(usize::MAX).expect("the protocol is kept");

    assert_eq!(wire.told, 1, "only at first");
    assert_eq!(agent.unlisted().collect::<Vec<_>>(), [target(2)]);
    assert_eq!(agent.root(), store.root());
}

#[test]
fn equal_roots_are_compared_without_an_answer() {
    let mut store = Store::default();
    store.assign(1, 1, &["a"]);
    let mut agent = new_agent();
    let mut wire = Wire::connect(&mut agent, &store, 1);
    wire.run(usize::MAX).expect("the protocol is kept");

    wire.agent.handle(HubMessage::Compare(store.root()), at(2)).expect("it is allowed");

    assert_eq!(wire.agent.take_outbound(at(2)), None);
}

#[test]
fn an_agent_that_still_tells_when_its_heartbeat_is_due_has_not_caught_up() {
    let mut store = Store::default();
    store.assign(1, 1, &["a"]);
    store.assign(2, 2, &["b"]);
    let mut agent = new_agent();
    Wire::connect(&mut agent, &store, 1).run(usize::MAX).expect("the protocol is kept");
    for listed in &store.listing {
        let generation = listed.generation.get();
        agent.report(report(u128::try_from(generation).expect("it is small"), generation, listed.manifest.digest()));
    }

    let mut wire = Wire::connect(&mut agent, &store, 2);
    wire.run(0).expect("the protocol is kept");
    let welcome = wire.hub.take_outbound(at(1)).expect("it answers");
    wire.agent.handle(welcome, at(1)).expect("it is allowed");
    let first = wire.agent.take_outbound(at(1)).expect("it tells");
    wire.hub.handle(first, at(1)).expect("it is allowed");
    wire.agent.handle_tick(at(16)).expect("a heartbeat is due");
    let second = wire.agent.take_outbound(at(16)).expect("it tells");
    assert!(matches!(second, AgentMessage::Report(..)), "a heartbeat would say that nothing is left: {second:?}");
    wire.hub.handle(second, at(16)).expect("it is allowed");
    wire.carry_out();
    assert!(!wire.caught_up);
    wire.run(usize::MAX).expect("the protocol is kept");

    assert_eq!((wire.recorded.len(), wire.caught_up), (2, true));
}

#[test]
fn what_nobody_asked_for_is_not_said() {
    let store = Store::default();
    let mut agent = new_agent();
    let mut wire = Wire::connect(&mut agent, &store, 1);
    wire.run(usize::MAX).expect("the protocol is kept");

    assert_eq!(wire.hub.handle(AgentMessage::Inventory(Vec::new()), at(2)), Err(Violation::Unasked));
}

#[test]
fn either_end_gives_up_a_silent_other() {
    let mut agent = new_agent();
    agent.connect(at(0));
    let mut hub = HubSession::new(SessionNumber::new(1), HeartbeatPolicy::default(), at(0));
    let deadline = SignedDuration::from_secs(25);

    assert_eq!(hub.handle_tick(at(24)), Ok(()));
    assert_eq!(hub.handle_tick(at(25)), Err(Violation::Silent(deadline)));
    assert_eq!(agent.handle_tick(at(25)), Err(Violation::Silent(deadline)));
}

#[test]
fn nothing_is_said_before_the_hello() {
    let mut hub = HubSession::new(SessionNumber::new(1), HeartbeatPolicy::default(), at(0));

    assert_eq!(hub.handle(AgentMessage::Heartbeat, at(0)), Err(Violation::NoHello));
}

#[test]
fn an_agent_that_is_to_be_heard_anew_counts_again_from_its_next_heartbeat_on() {
    let store = Store::default();
    let mut agent = new_agent();
    let mut wire = Wire::connect(&mut agent, &store, 1);
    wire.run(usize::MAX).expect("the protocol is kept");
    wire.hub.handle(AgentMessage::Heartbeat, at(1)).expect("it is allowed");
    wire.carry_out();
    assert!(wire.caught_up);

    wire.caught_up = false;
    wire.hub.hear_anew();
    wire.carry_out();
    assert!(!wire.caught_up);
    wire.hub.handle(AgentMessage::Heartbeat, at(2)).expect("it is allowed");
    wire.carry_out();

    assert!(wire.caught_up);
}

fn profile(facts: &str, apis: &str) -> Profile {
    let facts = BTreeMap::from([("kubernetes.minor".to_owned(), facts.to_owned())]);
    Profile { facts, apis: Some(Apis::parse(apis).expect("names")), definitions: None }
}

#[test]
fn what_an_agent_sees_is_told_when_it_changes_and_an_agent_that_says_too_much_is_not_followed() {
    let store = Store::default();
    let mut agent = new_agent();
    agent.see(profile("1.33", "v1"));
    let mut wire = Wire::connect(&mut agent, &store, 1);
    wire.run(usize::MAX).expect("nothing is wrong");
    assert!(wire.seen.is_empty(), "the Hello has said it");

    wire.agent.see(profile("1.34", "v1"));
    wire.run(usize::MAX).expect("nothing is wrong");
    for minor in ["1.35", "1.36"] {
        wire.agent.see(profile(minor, "v1"));
        wire.run(usize::MAX).expect("nothing is wrong");
    }
    assert_eq!(wire.seen, [profile("1.34", "v1")]);
    let later = wire.hub.next_wake();
    assert!(later <= at(1) + PROFILE_PAUSE, "it is not forgotten");
    wire.hub.handle_tick(at(1) + PROFILE_PAUSE).expect("it is not silent yet");
    wire.carry_out();
    assert_eq!(wire.seen, [profile("1.34", "v1"), profile("1.36", "v1")]);
}

fn dry_run(number: u128) -> DryRun {
    DryRun {
        id: Uuid::from_u128(number),
        target: target(1),
        manifest: Manifest::new(Vec::new()).expect("is a manifest"),
        objects: Vec::new(),
        namespace: None,
        project: None,
        options: SyncOptions::default(),
        deadline: SignedDuration::from_secs(30),
    }
}

fn dry_ran(number: u128) -> DryRan {
    DryRan { id: Uuid::from_u128(number), answer: b"answer".to_vec() }
}

#[test]
fn an_agent_that_says_so_is_asked_for_two_dry_runs_at_a_time_and_the_next_when_one_has_an_answer() {
    let store = Store::default();
    let mut agent = new_agent().with_dry_runs(DryRuns::Taken);
    let mut wire = Wire::connect(&mut agent, &store, 1);
    for number in 1..=3 {
        wire.hub.ask_dry_run(dry_run(number), at(0));
    }

    wire.run(usize::MAX).expect("the protocol is kept");

    let asked: Vec<_> = std::iter::from_fn(|| wire.agent.take_dry_run()).collect();
    assert_eq!(ids(&asked), [1, 2]);
    let left = SignedDuration::from_secs(29) - MARGIN;
    assert!(asked.iter().all(|one| one.deadline == left), "so that what was found out arrives in time");
    wire.agent.tell_dry_run(dry_ran(2));
    // Of another connection.
    wire.agent.tell_dry_run(dry_ran(9));
    wire.run(usize::MAX).expect("the protocol is kept");
    assert_eq!(wire.dry_ran, [Effect::KeepDryRan(dry_ran(2))]);
    assert_eq!(wire.agent.take_dry_run().map(|asked| asked.id), Some(dry_run(3).id));
    assert_eq!(wire.hub.lose_dry_runs(), [dry_run(1).id, dry_run(3).id], "with its stream");
}

#[test]
fn a_dry_run_that_others_leave_no_time_is_refused_and_not_begun() {
    let store = Store::default();
    let mut agent = new_agent().with_dry_runs(DryRuns::Taken);
    let mut wire = Wire::connect(&mut agent, &store, 1);
    for number in 1..=3 {
        wire.hub.ask_dry_run(dry_run(number), at(0));
    }
    wire.run(usize::MAX).expect("the protocol is kept");
    wire.hub.handle(AgentMessage::Heartbeat, at(26)).expect("the protocol is kept");

    wire.hub.handle_tick(at(27)).expect("the agent was heard");
    wire.agent.tell_dry_run(dry_ran(1));
    wire.run(usize::MAX).expect("the protocol is kept");

    let refused = Effect::RefuseDryRun(dry_run(3).id, Unanswered::Busy);
    assert_eq!(wire.dry_ran, [refused, Effect::KeepDryRan(dry_ran(1))]);
}

fn ids(asked: &[DryRun]) -> Vec<u128> {
    asked.iter().map(|one| one.id.as_u128()).collect()
}

#[test]
fn an_answer_that_comes_after_its_deadline_is_nobodys_and_makes_room_for_the_next() {
    let store = Store::default();
    let mut agent = new_agent().with_dry_runs(DryRuns::Taken);
    let mut wire = Wire::connect(&mut agent, &store, 1);
    for number in 1..=2 {
        wire.hub.ask_dry_run(dry_run(number), at(0));
    }
    wire.run(usize::MAX).expect("the protocol is kept");
    assert!(wire.hub.next_wake() <= at(30));
    // A heartbeat shows that it lives.
    wire.hub.handle(AgentMessage::Heartbeat, at(29)).expect("the protocol is kept");

    wire.hub.handle_tick(at(31)).expect("the agent was heard");
    wire.hub.ask_dry_run(dry_run(3), at(31));
    wire.agent.tell_dry_run(dry_ran(1));
    wire.run(usize::MAX).expect("the protocol is kept");

    assert_eq!(wire.dry_ran, []);
    let asked: Vec<_> = std::iter::from_fn(|| wire.agent.take_dry_run()).collect();
    assert_eq!(ids(&asked), [1, 2, 3]);
}

#[test]
fn an_agent_that_takes_no_dry_run_is_asked_for_none_and_the_hub_says_why() {
    for (dry_runs, why) in [(DryRuns::Unknown, Unanswered::Unsupported), (DryRuns::Off, Unanswered::Off)] {
        let store = Store::default();
        let mut agent = new_agent().with_dry_runs(dry_runs);
        let mut wire = Wire::connect(&mut agent, &store, 1);
        // Before its Hello it is not known.
        wire.hub.ask_dry_run(dry_run(1), at(0));
        wire.run(usize::MAX).expect("the protocol is kept");
        wire.hub.ask_dry_run(dry_run(2), at(1));
        wire.run(usize::MAX).expect("the protocol is kept");

        let refused = |number| Effect::RefuseDryRun(Uuid::from_u128(number), why);
        assert_eq!(wire.dry_ran, [refused(1)]);
        assert_eq!(wire.hub.take_effect(), Some(refused(2)));
        assert_eq!(wire.agent.take_dry_run(), None);
    }
}

fn packed(text: &str) -> Packed {
    Packed { digest: Digest::of(text.as_bytes()), bytes: text.as_bytes().to_vec() }
}

#[test]
fn definitions_are_sent_as_far_as_the_hub_asks_for_them_one_at_a_time_and_after_what_is_reported() {
    let mut store = Store::default();
    store.assign(1, 1, &["a"]);
    let mut agent = new_agent();
    let mut wire = Wire::connect(&mut agent, &store, 1);
    wire.run(usize::MAX).expect("nothing is wrong");
    let manifest = accepted(wire.agent)[0].assignment.manifest.digest();
    assert_eq!(wire.agent.take_wanted(), None, "nobody asked");
    wire.agent.tell_definition(packed("a"));
    wire.run(usize::MAX).expect("nothing is wrong");
    assert!(wire.defined.is_empty(), "nobody asked");

    wire.hub.want(BTreeSet::from([packed("a").digest, packed("b").digest]));
    wire.run(usize::MAX).expect("nothing is wrong");
    assert_eq!(wire.agent.take_wanted(), Some(BTreeSet::from([packed("a").digest, packed("b").digest])));
    assert_eq!(wire.agent.take_wanted(), None, "it was told");
    assert!(wire.agent.takes_definition());
    wire.agent.tell_definition(packed("a"));
    assert!(!wire.agent.takes_definition(), "one waits");
    wire.agent.report(report(1, 1, manifest));
    let first = wire.agent.take_outbound(at(2)).expect("something waits");
    assert!(matches!(first, AgentMessage::Report(..)), "{first:?}");
    wire.hub.handle(first, at(2)).expect("nothing is wrong");
    wire.carry_out();
    wire.run(usize::MAX).expect("nothing is wrong");
    assert_eq!(wire.defined, [packed("a")]);

    wire.hub.want(BTreeSet::from([packed("b").digest]));
    wire.run(usize::MAX).expect("nothing is wrong");
    assert_eq!(wire.agent.take_wanted(), Some(BTreeSet::from([packed("b").digest])), "it did not come");

    wire.hub.want(BTreeSet::new());
    wire.agent.tell_definition(packed("b"));
    wire.run(usize::MAX).expect("what was on its way is no fault");
    assert_eq!(wire.defined, [packed("a")], "and what is not wanted any more is let go");
}

#[test]
fn what_an_agent_was_asked_for_on_one_connection_is_sent_on_no_other() {
    let store = Store::default();
    let mut agent = new_agent();
    let mut wire = Wire::connect(&mut agent, &store, 1);
    wire.run(usize::MAX).expect("nothing is wrong");
    wire.hub.want(BTreeSet::from([packed("a").digest]));
    wire.run(usize::MAX).expect("nothing is wrong");

    let mut wire = Wire::connect(&mut agent, &store, 2);
    wire.run(usize::MAX).expect("nothing is wrong");
    wire.agent.tell_definition(packed("a"));
    wire.run(usize::MAX).expect("nothing is wrong");

    assert!(wire.defined.is_empty());
}

#[test]
fn a_hub_of_an_earlier_version_is_told_nothing_that_it_does_not_know() {
    let mut agent = new_agent();
    agent.connect(at(0));
    let welcome = |profile| {
        let (session, want, heartbeat) = (SessionNumber::new(1), Want::Unacked, HeartbeatPolicy::default());
        HubMessage::Welcome(super::Welcome { session, want, heartbeat, profile })
    };
    let says = |agent: &mut AgentSession| {
        let mut said = Vec::new();
        while let Some(message) = agent.take_outbound(at(1)) {
            said.push(message);
        }
        said.iter().any(|message| matches!(message, AgentMessage::Profile(_)))
    };
    agent.handle(welcome(ProfileWanted::Never), at(0)).expect("it is greeted");
    agent.see(profile("1.34", "v1"));
    assert!(!says(&mut agent));

    agent.connect(at(2));
    agent.handle(welcome(ProfileWanted::WhenChanged), at(2)).expect("it is greeted");
    assert!(!says(&mut agent), "the Hello has said it");
    agent.connect(at(3));
    agent.handle(welcome(ProfileWanted::Now), at(3)).expect("it is greeted");
    assert!(says(&mut agent));
}

#[test]
fn an_agent_that_knows_no_accounts_is_not_assigned_what_one_asks_for_and_keeps_what_it_has() {
    let (mut store, mut agent) = (Store::default(), new_agent());
    store.assign(1, 1, &["a"]);
    store.assign(2, 2, &["b"]);
    Wire::connect(&mut agent, &store, 1).run(usize::MAX).expect("runs");
    let before = store.root();
    store.assign(1, 3, &["c"]);
    let of_account = store.listing.last_mut().expect("it was just listed");
    of_account.options.service_account = Some("deployer".parse().expect("is a name"));

    let mut wire = Wire::connect(&mut agent, &store, 2);
    wire.is_old = true;
    wire.run(usize::MAX).expect("runs");
    assert_eq!((wire.told, wire.hub.handle_listing(store.listing())), (0, vec!["t1".parse().expect("is a name")]));
    assert_eq!(agent.root(), before, "it goes on with what it has");

    let mut wire = Wire::connect(&mut agent, &store, 3);
    wire.run(usize::MAX).expect("runs");
    assert_eq!(wire.told, 1);
    assert_eq!(agent.root(), store.root());
}
