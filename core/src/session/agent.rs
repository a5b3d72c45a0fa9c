//! The agent's end of the stream to the hub.
//!
//! One value lives as long as the agent's process; [`AgentSession::connect`] starts it anew on each connection. It takes
//! an assignment only when every object that it names is here and has its digest, and asks for those that are not; it
//! never takes an older generation than one it has; and it keeps each target's newest report until the hub says that it
//! is durable. Nothing is let go because it is not listed, but for a tombstone that was carried out and whose hub knows;
//! its generation is kept.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{
    Action, AgentMessage, Assignment, Desired, DryRan, Forgotten, HeartbeatPolicy, Hello, HubMessage, Listed, PROTOCOL,
    Packed, Piece, Profile, ProfileWanted, Violation, Want, Welcome, root,
};
use crate::apis::Apis;
use crate::definitions::Definitions;
use crate::drift::Drift;
use crate::dry_run::{AT_ONCE_MAX, DryRun, DryRuns};
use crate::object::OBJECT_BYTES_MAX;
use crate::report::Report;
use crate::{Digest, ReportSequence, SessionNumber, TargetId};

/// Bytes of objects that wait for the Desired that names them, and of those that were asked for: a full bundle. A hub
/// sends what is more in parts.
const ARRIVED_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Objects that one message asks for: those of a full bundle, a third of a megabyte.
const NEED_OBJECTS_MAX: usize = 10_000;

/// The least time between two reports: the hub stops reading a cluster that says more than 100 things a second, over
/// time.
const REPORT_PAUSE: SignedDuration = SignedDuration::from_millis(10);

/// Drifts kept for a hub that is away: at ~1 KiB each, a quarter of a megabyte.
const DRIFTS_MAX: usize = 256;

/// Uncompresses an object, if it is at most that many bytes; given by the surroundings, which know the format.
pub type Decompress = fn(&[u8], usize) -> Option<Vec<u8>>;

/// An assignment that the agent has accepted, with the bodies of its objects that are new to it: uncompressed, and each
/// with the digest that it stands under.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    pub assignment: Assignment,
    pub objects: BTreeMap<Digest, Arc<[u8]>>,
}

/// What changed in what the agent holds; told in this order.
#[expect(clippy::large_enum_variant, reason = "few are on their way at once, and nearly all are assignments")]
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Accepted(Accepted),
    /// A tombstone that was carried out, and that the hub holds no more: nobody asks about its target again.
    Ended(TargetId),
}

/// The agent's end, for as long as its process lives. It does nothing: it is told what came and the time, by one clock
/// that nobody sets back, and asked for what is to be sent ([`AgentSession::take_outbound`]).
///
/// What it keeps for the hub is bounded: one report for each target, and so many drifts. Changes are not: whoever feeds
/// it takes all of them before it gives it the next message, and writes them down before they are acted on.
#[derive(Debug)]
pub struct AgentSession {
    boot: Uuid,
    version: String,
    profile: Profile,
    dry_runs: DryRuns,
    decompress: Decompress,
    inventory: BTreeMap<TargetId, InventoryEntry>,
    /// Assigned, and not accepted before all of its objects are here.
    lacking: BTreeMap<TargetId, Lacking>,
    /// What the hub last listed; accepted targets that are not in it are kept, and shown as unlisted.
    listed: BTreeSet<TargetId>,
    forgotten: Forgotten,
    changes: VecDeque<Change>,
    reports: BTreeMap<TargetId, Waiting>,
    /// Drifts that no hub has durably, oldest first.
    drifts: VecDeque<PendingDrift>,
    acked: Option<(SessionNumber, ReportSequence)>,
    connection: Connection,
}

/// What is forgotten when the connection ends.
#[derive(Debug)]
struct Connection {
    outbound: VecDeque<AgentMessage>,
    session: Option<SessionNumber>,
    heartbeat: HeartbeatPolicy,
    profile: ProfileWanted,
    /// Something was seen since the Hello.
    has_seen: bool,
    /// Definitions that the hub waits for.
    wanted: BTreeSet<Digest>,
    /// It asked for these since [`AgentSession::take_wanted`] was asked.
    is_wanted_news: bool,
    /// The next one for it.
    definition: Option<Packed>,
    /// Dry runs that nobody has taken, and those that have no answer yet.
    dry_runs: VecDeque<DryRun>,
    dry_running: BTreeSet<Uuid>,
    sequence: ReportSequence,
    arriving: Option<Arriving>,
    arrived: Arrived,
    /// Objects that the hub was asked for and has not sent.
    asked: BTreeSet<Digest>,
    /// The hub was told, by a first heartbeat, that what was kept while it was away has all been sent.
    caught_up: bool,
    heard_at: Timestamp,
    heartbeat_at: Timestamp,
    report_at: Timestamp,
}

#[derive(Debug)]
struct InventoryEntry {
    listed: Listed,
    objects: BTreeSet<Digest>,
}

#[derive(Debug)]
struct Lacking {
    assignment: Assignment,
    /// Those of its objects that an earlier process wrote down with it.
    stored: BTreeSet<Digest>,
    /// Those that have come since.
    bodies: BTreeMap<Digest, Arc<[u8]>>,
    missing: BTreeSet<Digest>,
}

#[derive(Debug)]
struct Waiting {
    report: Report,
    /// Under which number it was last sent on this connection; `None`: not yet.
    sent: Option<ReportSequence>,
    /// A hub has it durably; kept for a hub that wants all.
    durable: bool,
}

/// A drift on its way, and under which number it was last sent on this connection.
#[derive(Debug)]
struct PendingDrift {
    drift: Drift,
    sent: Option<ReportSequence>,
}

/// Objects that came and that no Desired has named yet. Of too many, those that came first are let go: they were for a
/// Desired that never came, or they will be asked for.
#[derive(Debug, Default)]
struct Arrived {
    bodies: BTreeMap<Digest, Arc<[u8]>>,
    order: VecDeque<Digest>,
    bytes: usize,
}

#[derive(Debug)]
struct Arriving {
    digest: Digest,
    bytes_total: usize,
    bytes: Vec<u8>,
}

impl AgentSession {
    /// Of a process that has just started: `boot` was made for it, `version` and `facts` go into each Hello. Not
    /// connected: see [`AgentSession::connect`].
    pub fn new(
        boot: Uuid,
        version: String,
        facts: BTreeMap<String, String>,
        decompress: Decompress,
        now: Timestamp,
    ) -> Self {
        Self {
            boot,
            version,
            profile: Profile { facts, ..Profile::default() },
            dry_runs: DryRuns::default(),
            decompress,
            inventory: BTreeMap::new(),
            lacking: BTreeMap::new(),
            listed: BTreeSet::new(),
            forgotten: Forgotten::default(),
            changes: VecDeque::new(),
            reports: BTreeMap::new(),
            drifts: VecDeque::new(),
            acked: None,
            connection: Connection::new(now),
        }
    }

    /// Whether this agent answers to dry runs.
    #[must_use]
    pub fn with_dry_runs(mut self, dry_runs: DryRuns) -> Self {
        self.dry_runs = dry_runs;
        self
    }

    /// Starts with what an earlier process accepted and wrote down, as if the hub had listed it to this one. What the hub
    /// says meanwhile is found out by the root.
    #[must_use]
    pub fn resume<'a>(mut self, accepted: impl IntoIterator<Item = &'a Assignment>) -> Self {
        for assignment in accepted {
            self.listed.insert(assignment.target);
            self.inventory.insert(assignment.target, InventoryEntry::of(assignment));
        }
        self
    }

    /// The same of assignments whose objects the earlier process lost in part: those are asked for, and no others.
    #[must_use]
    pub fn resume_lacking(mut self, lacking: impl IntoIterator<Item = (Assignment, BTreeSet<Digest>)>) -> Self {
        for (assignment, missing) in lacking {
            let stored = assignment.objects().filter(|object| !missing.contains(object)).collect();
            self.listed.insert(assignment.target);
            let lacking = Lacking { assignment, stored, bodies: BTreeMap::new(), missing };
            self.lacking.insert(lacking.assignment.target, lacking);
        }
        self
    }

    /// And with what it let go.
    #[must_use]
    pub fn resume_forgotten(mut self, forgotten: Forgotten) -> Self {
        self.forgotten = forgotten;
        self
    }

    /// A new connection: says Hello, and forgets what was under way on the last one.
    pub fn connect(&mut self, now: Timestamp) {
        self.connection = Connection::new(now);
        for waiting in self.reports.values_mut() {
            waiting.sent = None;
        }
        for pending in &mut self.drifts {
            pending.sent = None;
        }
        let hello = Hello {
            protocol: PROTOCOL,
            version: self.version.clone(),
            boot: self.boot,
            root: self.root(),
            acked: self.acked,
            facts: self.profile.facts.clone(),
            apis: self.profile.apis.as_ref().map(Apis::digest),
            definitions: self.profile.definitions.as_ref().map(Definitions::digest),
            dry_runs: self.dry_runs,
            acts_as_accounts: true,
        };
        self.connection.outbound.push_back(AgentMessage::Hello(hello));
    }

    /// Of what the hub last listed.
    pub fn root(&self) -> Digest {
        root(self.assigned().filter(|listed| self.listed.contains(&listed.target)))
    }

    /// The newest that came of each target, accepted or not.
    fn assigned(&self) -> impl Iterator<Item = Listed> + '_ {
        let accepted = self
            .inventory
            .values()
            .map(|entry| entry.listed)
            .filter(|listed| !self.lacking.contains_key(&listed.target));
        accepted.chain(self.lacking.values().map(|lacking| lacking.assignment.listed()))
    }

    /// Targets that were accepted and that the hub did not list.
    pub fn unlisted(&self) -> impl Iterator<Item = TargetId> + '_ {
        self.inventory.keys().copied().filter(|target| !self.listed.contains(target))
    }

    /// When [`AgentSession::handle_tick`] or [`AgentSession::has_outbound`] has something new to say, if nothing comes
    /// before. What may be sent already is not waited for by the clock.
    pub fn next_wake(&self, now: Timestamp) -> Timestamp {
        let deadline = self.connection.heard_at + self.connection.heartbeat.deadline;
        if self.connection.session.is_none() {
            return deadline;
        }
        let next = deadline.min(self.connection.heartbeat_at);
        let is_held_back = self.connection.report_at > now && self.next_unsent().is_some();
        if is_held_back { next.min(self.connection.report_at) } else { next }
    }

    /// To be called when [`AgentSession::next_wake`] has come; earlier does no harm. Fails when the hub was silent for
    /// as long as the policy stands: the connection is to be ended, and made anew.
    pub fn handle_tick(&mut self, now: Timestamp) -> Result<(), Violation> {
        if now >= self.connection.heard_at + self.connection.heartbeat.deadline {
            return Err(Violation::Silent(self.connection.heartbeat.deadline));
        }
        if self.connection.session.is_some() && now >= self.connection.heartbeat_at {
            self.connection.heartbeat_at = now + self.connection.heartbeat.interval;
            // The first one says that nothing is left to be told. Until then what is told shows that this end lives.
            if self.connection.caught_up {
                self.connection.outbound.push_back(AgentMessage::Heartbeat);
            }
        }
        Ok(())
    }

    /// One message of the hub, in the order in which they came. Fails when it breaks the protocol, or brings an object
    /// that does not have its digest: the connection is to be ended. Everything that was accepted stays.
    pub fn handle(&mut self, message: HubMessage, now: Timestamp) -> Result<(), Violation> {
        self.connection.heard_at = now;
        match message {
            HubMessage::Welcome(_) if self.connection.session.is_some() => Err(Violation::Repeated),
            HubMessage::Welcome(welcome) => {
                self.handle_welcome(welcome, now);
                Ok(())
            }
            _ if self.connection.session.is_none() => Err(Violation::NoWelcome),
            HubMessage::Compare(theirs) => {
                if theirs != self.root() {
                    let inventory = self.assigned().collect();
                    self.connection.outbound.push_back(AgentMessage::Inventory(inventory));
                }
                Ok(())
            }
            HubMessage::Objects(pieces) => pieces.iter().try_for_each(|piece| self.handle_piece(piece)),
            HubMessage::Desired(desired) => {
                self.handle_desired(desired);
                Ok(())
            }
            HubMessage::Ack(sequence) => self.handle_ack(sequence),
            HubMessage::Wanted(definitions) => {
                self.connection.wanted = definitions.into_iter().collect();
                self.connection.is_wanted_news = true;
                Ok(())
            }
            HubMessage::DryRun(asked) => self.handle_dry_run(asked),
        }
    }

    /// A hub knows how many may go on at a time; of one that it has given up it may not wait for the answer.
    fn handle_dry_run(&mut self, asked: DryRun) -> Result<(), Violation> {
        if self.dry_runs != DryRuns::Taken || self.connection.dry_running.len() >= 4 * AT_ONCE_MAX {
            return Err(Violation::TooMuch);
        }
        self.connection.dry_running.insert(asked.id);
        self.connection.dry_runs.push_back(asked);
        Ok(())
    }

    /// The next dry run that the hub asked for: its answer is told with [`AgentSession::tell_dry_run`].
    pub fn take_dry_run(&mut self) -> Option<DryRun> {
        self.connection.dry_runs.pop_front()
    }

    /// One that was asked for on an earlier connection is let go.
    pub fn tell_dry_run(&mut self, ran: DryRan) {
        if self.connection.dry_running.remove(&ran.id) {
            self.connection.outbound.push_back(AgentMessage::DryRan(ran));
        }
    }

    fn handle_welcome(&mut self, welcome: Welcome, now: Timestamp) {
        self.connection.session = Some(welcome.session);
        self.connection.heartbeat = welcome.heartbeat;
        self.connection.heartbeat_at = now + welcome.heartbeat.interval;
        self.connection.report_at = now;
        self.connection.caught_up = false;
        self.connection.profile = welcome.profile;
        if welcome.profile == ProfileWanted::Now || self.connection.has_seen {
            self.tell_profile();
        }
        if welcome.want == Want::All {
            for waiting in self.reports.values_mut() {
                waiting.durable = false;
            }
        }
        self.ask();
    }

    /// What is seen of the cluster from now on. It is told to a hub that takes it, and stands in the next Hello.
    pub fn see(&mut self, profile: Profile) {
        if profile != self.profile {
            self.profile = profile;
            self.connection.has_seen = true;
            self.tell_profile();
        }
    }

    fn tell_profile(&mut self) {
        if self.connection.profile == ProfileWanted::Never {
            return;
        }
        let outbound = &mut self.connection.outbound;
        outbound.retain(|message| !matches!(message, AgentMessage::Profile(_)));
        outbound.push_back(AgentMessage::Profile(self.profile.clone()));
    }

    /// Definitions that the hub asked for since this was asked last: whoever has them gives one at a time to
    /// [`AgentSession::tell_definition`].
    pub fn take_wanted(&mut self) -> Option<BTreeSet<Digest>> {
        std::mem::take(&mut self.connection.is_wanted_news).then(|| self.connection.wanted.clone())
    }

    /// The one before is on its way, so that one at a time is in memory.
    pub const fn takes_definition(&self) -> bool {
        self.connection.definition.is_none()
    }

    /// One that nobody asked for on this connection is let go.
    pub fn tell_definition(&mut self, definition: Packed) {
        if self.connection.wanted.remove(&definition.digest) {
            self.connection.definition = Some(definition);
        }
    }

    fn handle_piece(&mut self, piece: &Piece) -> Result<(), Violation> {
        let arriving = match self.connection.arriving.take() {
            Some(arriving) if piece.offset > 0 && arriving.digest == piece.digest => arriving,
            _ if piece.offset == 0 => Arriving::start(piece),
            _ => return Err(Violation::Pieces(piece.digest)),
        };
        match arriving.with(piece)? {
            Progress::Partial(arriving) => self.connection.arriving = Some(arriving),
            Progress::Whole(digest, compressed) => self.handle_object(digest, &compressed)?,
        }
        Ok(())
    }

    fn handle_object(&mut self, digest: Digest, compressed: &[u8]) -> Result<(), Violation> {
        let body = (self.decompress)(compressed, OBJECT_BYTES_MAX).ok_or(Violation::Mismatch(digest))?;
        if Digest::of(&body) != digest {
            return Err(Violation::Mismatch(digest));
        }
        let body = Arc::from(body);
        if !self.connection.asked.remove(&digest) {
            self.connection.arrived.add(digest, body);
            return Ok(());
        }
        let waiting: usize = self.lacking.values().flat_map(|lacking| lacking.bodies.values()).map(|it| it.len()).sum();
        if waiting > ARRIVED_BYTES_MAX {
            return Err(Violation::TooMuch);
        }
        self.handle_lacked(digest, &body);
        Ok(())
    }

    fn handle_lacked(&mut self, digest: Digest, body: &Arc<[u8]>) {
        for lacking in self.lacking.values_mut() {
            if lacking.missing.remove(&digest) {
                lacking.bodies.insert(digest, Arc::clone(body));
            }
        }
        let whole = self.lacking.values().filter(|lacking| lacking.missing.is_empty());
        for target in whole.map(|lacking| lacking.assignment.target).collect::<Vec<_>>() {
            if let Some(lacking) = self.lacking.remove(&target) {
                // What another target had when this one came may have gone with that one's next assignment.
                self.take_in(lacking.assignment, lacking.stored, &lacking.bodies);
                self.ask();
            }
        }
    }

    /// Asks for what is missing and was not asked for on this connection.
    fn ask(&mut self) {
        let missing = self.lacking.values().flat_map(|lacking| lacking.missing.iter().copied());
        let wanted: BTreeSet<_> = missing.filter(|object| !self.connection.asked.contains(object)).collect();
        let wanted: Vec<_> = wanted.into_iter().collect();
        for request in wanted.chunks(NEED_OBJECTS_MAX) {
            self.connection.outbound.push_back(AgentMessage::Need(request.to_vec()));
        }
        self.connection.asked.extend(wanted);
    }

    fn handle_desired(&mut self, desired: Desired) {
        let mut bodies = std::mem::take(&mut self.connection.arrived).bodies;
        bodies.extend(self.lacking.values().flat_map(|lacking| lacking.bodies.clone()));
        if desired.complete {
            self.listed = desired.unchanged.into_iter().collect();
        }
        for assignment in desired.assignments {
            self.listed.insert(assignment.target);
            if self.is_newer(&assignment) {
                // What was said about an older generation is of no use to anybody.
                self.reports.remove(&assignment.target);
                let stored = self.lacking.remove(&assignment.target).map(|lacking| lacking.stored);
                self.take_in(assignment, stored.unwrap_or_default(), &bodies);
            }
        }
        self.end_tombstones();
        self.ask();
    }

    /// Than what is held of its target, or was before that was let go: a hub that was restored lists what it had.
    fn is_newer(&self, assignment: &Assignment) -> bool {
        match self.assigned().find(|listed| listed.target == assignment.target) {
            Some(known) => known.generation < assignment.generation,
            None => !self.forgotten.outdates(assignment.target, assignment.generation),
        }
    }

    /// Lets go of tombstones that were carried out, of which a hub has heard, and which it lists no more, but for their
    /// generations. Else each target that ever was would be kept for ever.
    fn end_tombstones(&mut self) {
        let is_told = |target: &TargetId| {
            self.reports.get(target).is_some_and(|waiting| waiting.durable && waiting.report.applied)
        };
        let ended = self.inventory.extract_if(.., |target, entry| {
            entry.listed.action != Action::Apply && !self.listed.contains(target) && is_told(target)
        });
        let ended: Vec<_> = ended.map(|(target, entry)| (target, entry.listed.generation)).collect();
        for (target, generation) in ended {
            self.forgotten.add(target, generation);
            self.reports.remove(&target);
            self.changes.push_back(Change::Ended(target));
        }
    }

    /// Accepts an assignment, or keeps it until its objects are here.
    fn take_in(&mut self, assignment: Assignment, stored: BTreeSet<Digest>, bodies: &BTreeMap<Digest, Arc<[u8]>>) {
        self.forgotten.remove(assignment.target);
        let own = |object: &Digest| stored.contains(object) || bodies.contains_key(object);
        let missing: BTreeSet<_> = assignment.objects().filter(|object| !own(object) && !self.has(object)).collect();
        let bodies =
            assignment.objects().filter_map(|object| Some((object, Arc::clone(bodies.get(&object)?)))).collect();
        if !missing.is_empty() {
            let lacking = Lacking { assignment, stored, bodies, missing };
            self.lacking.insert(lacking.assignment.target, lacking);
            return;
        }
        self.lacking.remove(&assignment.target);
        self.inventory.insert(assignment.target, InventoryEntry::of(&assignment));
        self.changes.push_back(Change::Accepted(Accepted { assignment, objects: bodies }));
    }

    /// Whether an object is written down with some target.
    fn has(&self, object: &Digest) -> bool {
        self.inventory.values().any(|entry| entry.objects.contains(object))
            || self.lacking.values().any(|lacking| lacking.stored.contains(object))
    }

    fn handle_ack(&mut self, sequence: ReportSequence) -> Result<(), Violation> {
        let Some(session) = self.connection.session else { return Ok(()) };
        if sequence > self.connection.sequence {
            return Err(Violation::Unsent(sequence));
        }
        if sequence == ReportSequence::default() {
            return Ok(());
        }
        self.acked = Some((session, sequence));
        for waiting in self.reports.values_mut() {
            waiting.durable |= waiting.sent.is_some_and(|sent| sent <= sequence);
        }
        self.drifts.retain(|pending| pending.sent.is_none_or(|sent| sent > sequence));
        self.end_tombstones();
        Ok(())
    }

    /// What changed and was not yet taken, oldest first.
    pub fn take_change(&mut self) -> Option<Change> {
        self.changes.pop_front()
    }

    /// The newest report of a target; it replaces one that waits. Reports of other generations than the accepted one,
    /// and repetitions, are dropped.
    pub fn report(&mut self, report: Report) {
        let current =
            self.inventory.get(&report.target).is_some_and(|entry| entry.listed.generation == report.generation);
        let said = self.reports.get(&report.target).is_some_and(|waiting| waiting.report == report);
        if current && !said {
            self.reports.insert(report.target, Waiting { report, sent: None, durable: false });
        }
    }

    /// A drift that was found; it is kept until a hub has it durably. Of too many, the oldest are forgotten: what they
    /// were about has been dealt with, and the objects' state is in the reports.
    pub fn tell_drift(&mut self, drift: Drift) {
        if self.drifts.len() == DRIFTS_MAX {
            self.drifts.pop_front();
        }
        self.drifts.push_back(PendingDrift { drift, sent: None });
    }

    /// [`AgentSession::take_outbound`] has something by now.
    pub fn has_outbound(&self, now: Timestamp) -> bool {
        !self.connection.outbound.is_empty()
            || !self.connection.caught_up && self.next_unsent().is_none()
            || self.may_report(now) && self.next_unsent().is_some()
            || self.connection.definition.is_some()
    }

    /// The next message, when there is room for one; a report that is not taken may still be replaced by a newer one.
    /// Reports and drifts are numbered here, in one count for each connection.
    pub fn take_outbound(&mut self, now: Timestamp) -> Option<AgentMessage> {
        if let Some(message) = self.connection.outbound.pop_front() {
            return Some(message);
        }
        let Some(unsent) = self.next_unsent() else {
            let says_so = !std::mem::replace(&mut self.connection.caught_up, true);
            return if says_so { Some(AgentMessage::Heartbeat) } else { self.take_definition() };
        };
        if !self.may_report(now) {
            return self.take_definition();
        }
        let sequence = ReportSequence::new(self.connection.sequence.get() + 1);
        self.connection.sequence = sequence;
        self.connection.report_at = now + REPORT_PAUSE;
        match unsent {
            Unsent::Report(target) => {
                let waiting = self.reports.get_mut(&target).expect("it was found there");
                waiting.sent = Some(sequence);
                Some(AgentMessage::Report(sequence, waiting.report.clone()))
            }
            Unsent::Drift(place) => {
                let pending = self.drifts.get_mut(place).expect("it was found there");
                pending.sent = Some(sequence);
                Some(AgentMessage::Drift(sequence, pending.drift.clone()))
            }
        }
    }

    /// Nobody waits for it: what is reported goes before.
    fn take_definition(&mut self) -> Option<AgentMessage> {
        self.connection.definition.take().map(AgentMessage::Definition)
    }

    fn may_report(&self, now: Timestamp) -> bool {
        self.connection.session.is_some() && now >= self.connection.report_at
    }

    /// Reports first: a rollout may wait for one.
    fn next_unsent(&self) -> Option<Unsent> {
        let waits = |waiting: &Waiting| waiting.sent.is_none() && !waiting.durable;
        let report = self.reports.iter().find(|(_, waiting)| waits(waiting)).map(|(&target, _)| Unsent::Report(target));
        report.or_else(|| self.drifts.iter().position(|pending| pending.sent.is_none()).map(Unsent::Drift))
    }
}

impl InventoryEntry {
    fn of(assignment: &Assignment) -> Self {
        Self { listed: assignment.listed(), objects: assignment.objects().collect() }
    }
}

impl Connection {
    fn new(now: Timestamp) -> Self {
        Self {
            outbound: VecDeque::new(),
            session: None,
            heartbeat: HeartbeatPolicy::default(),
            profile: ProfileWanted::Never,
            has_seen: false,
            wanted: BTreeSet::new(),
            is_wanted_news: false,
            definition: None,
            dry_runs: VecDeque::new(),
            dry_running: BTreeSet::new(),
            sequence: ReportSequence::default(),
            arriving: None,
            arrived: Arrived::default(),
            asked: BTreeSet::new(),
            caught_up: true,
            heard_at: now,
            heartbeat_at: now,
            report_at: now,
        }
    }
}

/// What waits to be told.
enum Unsent {
    Report(TargetId),
    /// The place among the drifts.
    Drift(usize),
}

enum Progress {
    Partial(Arriving),
    Whole(Digest, Vec<u8>),
}

impl Arrived {
    fn add(&mut self, digest: Digest, body: Arc<[u8]>) {
        self.bytes += body.len();
        if let Some(again) = self.bodies.insert(digest, body) {
            self.bytes -= again.len();
            return;
        }
        self.order.push_back(digest);
        while self.bytes > ARRIVED_BYTES_MAX
            && let Some(first) = self.order.pop_front()
        {
            self.bytes -= self.bodies.remove(&first).map_or(0, |body| body.len());
        }
    }
}

impl Arriving {
    fn start(piece: &Piece) -> Self {
        Self { digest: piece.digest, bytes_total: piece.bytes_total as usize, bytes: Vec::new() }
    }

    fn with(mut self, piece: &Piece) -> Result<Progress, Violation> {
        let fits = piece.offset as usize == self.bytes.len()
            && piece.bytes_total as usize == self.bytes_total
            && self.bytes_total <= OBJECT_BYTES_MAX
            && self.bytes.len() + piece.bytes.len() <= self.bytes_total
            && !piece.bytes.is_empty();
        if !fits {
            return Err(Violation::Pieces(piece.digest));
        }
        self.bytes.extend_from_slice(&piece.bytes);
        if self.bytes.len() < self.bytes_total {
            return Ok(Progress::Partial(self));
        }
        Ok(Progress::Whole(self.digest, self.bytes))
    }
}
