//! The hub's end of one agent stream.
//!
//! It is told what the rows say ([`HubSession::handle_listing`]) as often as they change, finds what the agent lacks,
//! asks for those objects a few at a time, and sends them before the Desired that names them. What is too much for one
//! message is told in parts: each with its own objects before it, so that the agent takes in one part while the next
//! travels and never has to keep the objects of all. Of a complete Desired only the last part says so. A listing that
//! comes while objects still travel replaces what is not sent yet. An older generation never replaces a newer one.
//!
//! An agent that comes with another root than the rows' is asked what it holds, and is told the difference. What it says
//! only spares it objects: it is never sent one that its own assignments do not name.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::{
    Action, AgentMessage, Assignment, Desired, DryRan, FRAME_BYTES_MAX, HeartbeatPolicy, Hello, HubMessage, Listed,
    Listing, PROFILE_PAUSE, PROTOCOL, Packed, Piece, Profile, ProfileWanted, Violation, Want, Welcome, root,
};
use crate::bundle::Manifest;
use crate::drift::Drift;
use crate::dry_run::{AT_ONCE_MAX, DryRun, DryRuns, MARGIN, Unanswered};
use crate::report::Report;
use crate::{Digest, Generation, Name, ReportSequence, SessionNumber, TargetId};

/// Objects that one request to the store may name: with 1.5 MiB each at the very most, and a few KiB in practice.
const REQUEST_OBJECTS_MAX: usize = 64;

/// Of the assignments in one Desired, as they stand on the wire: far below what a message may have, as an assignment that
/// begins below it is not cut.
const PART_BYTES_MAX: usize = 512 * 1024;

/// Objects that a Desired of several assignments brings: they are few enough to be asked for at once.
const PART_OBJECTS_MAX: usize = REQUEST_OBJECTS_MAX;

/// Objects that an agent may be waiting for: four full bundles. An honest one asks for what a journal lost.
const NEEDED_MAX: usize = 40_000;

/// How often the roots are compared while a stream goes on. They can only differ by a fault, which nobody may notice for
/// so long.
const COMPARE_EVERY: SignedDuration = SignedDuration::from_hours(1);

/// What the session wants from its surroundings.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// The agent is known now: write down its facts, read its assignments, answer with
    /// [`HubSession::handle_listing`].
    Greeted(Hello),
    /// Write down what the agent has seen of its cluster, and answer with [`HubSession::want`].
    Seen(Profile),
    /// Keep this definition, if it is what its digest says.
    Define(Packed),
    /// Keep what came of a dry run.
    KeepDryRan(DryRan),
    /// The agent is not asked for this dry run.
    RefuseDryRun(Uuid, Unanswered),
    /// Record this report, then call [`HubSession::handle_recorded`].
    Record(ReportSequence, Report),
    /// Record this drift, then call [`HubSession::handle_recorded`].
    RecordDrift(ReportSequence, Drift),
    /// What the agent had kept to itself while it was away has arrived and is durable.
    CaughtUp,
    /// Read these objects, answer with [`HubSession::handle_objects`]; those that are not stored are told before, with
    /// [`HubSession::handle_missing`].
    Load(Vec<Digest>),
    /// The agent has said what it holds. Read these bundles, answer with [`HubSession::handle_bundles`]; then read its
    /// assignments, and answer with [`HubSession::handle_listing`].
    LoadBundles(Vec<Digest>),
}

/// One stream of one agent, from its first message to its end. It does nothing: it is told what came
/// ([`HubSession::handle`]) and the time, and asked, until there is none, for what is to be done
/// ([`HubSession::take_effect`]) and what is to be sent ([`HubSession::take_outbound`]).
///
/// All times are by one clock that nobody sets back; it need not be the date. An `Err` means that the agent broke the
/// protocol or is silent: the stream is to be ended, and the session dropped. What its effects recorded stays.
///
/// Beside the listing it keeps little, whatever the agent does or leaves undone: one Desired, the pieces of one request
/// to the store, one acknowledgement, and the names of the objects that the agent needs.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is something that the agent has said, in any combination")]
pub struct HubSession {
    number: SessionNumber,
    heartbeat: HeartbeatPolicy,
    greeted: bool,
    is_welcomed: bool,
    /// As the agent said: see [`Hello::acts_as_accounts`].
    acts_as_accounts: bool,
    knowledge: Knowledge,
    /// The agent may say what it holds.
    asked: bool,
    compare_at: Timestamp,
    /// What was listed to the agent, and the objects that it therefore holds.
    sent: BTreeMap<TargetId, Sent>,
    /// The newest listing, as far as it is not sent: what waits for objects.
    offer: Option<Offer>,
    /// Loaded pieces, in order.
    pieces: VecDeque<Loaded>,
    /// What the agent asked for and was not handled.
    needed: BTreeSet<Digest>,
    /// Of that, what is being read.
    repairing: BTreeSet<Digest>,
    /// What was sent because it was asked for: once in a session is enough.
    repaired: BTreeSet<Digest>,
    controls: VecDeque<HubMessage>,
    effects: VecDeque<Effect>,
    durable: Option<ReportSequence>,
    received: Option<ReportSequence>,
    caught_up: CatchUp,
    /// What the agent said last, as long as it is not passed on.
    profile: Option<Profile>,
    /// When it may be.
    profile_at: Timestamp,
    /// Definitions that the agent was asked for and has not sent.
    wanted: BTreeSet<Digest>,
    dry_runs: DryRuns,
    /// Dry runs that the agent is to be asked for, each until when.
    dry_asked: VecDeque<(Timestamp, DryRun)>,
    /// Those that it was asked for and has not answered, each until when.
    dry_running: BTreeMap<Uuid, Timestamp>,
    heard_at: Timestamp,
}

/// How far the agent is with what it kept to itself while it was away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CatchUp {
    /// Its first heartbeat has not come: it still sends.
    Sending,
    /// All has come; up to here it has to become durable.
    Until(Option<ReportSequence>),
    Done,
}

/// What is known of what the agent holds.
#[derive(Debug)]
enum Knowledge {
    /// The root that it came with.
    Root(Digest),
    /// It is being asked. The rows are read anew when it has answered.
    Asked,
    /// It has answered; the bundles that it named are being read.
    Said(Vec<Listed>),
    /// All that it said. The next listing is told whole, because it may hold what is not listed any more.
    Fresh,
    /// What was listed to it in this session.
    Known,
}

#[derive(Debug)]
struct Sent {
    listed: Listed,
    /// Of which the agent holds every object; `None` for a tombstone, and for a bundle that is not stored any more.
    manifest: Option<Manifest>,
    /// The rows say so, and not only the agent.
    is_ours: bool,
}

#[derive(Debug)]
struct Loaded {
    piece: Piece,
    /// The agent asked for it: no newer listing makes it needless.
    is_repair: bool,
}

/// What is to be told: all that is not sent yet.
#[derive(Debug)]
struct Offer {
    /// The last part says that all parts together are all.
    complete: bool,
    /// Of a complete one: listed as well, and held by the agent. The parts that were sent are among them.
    unchanged: BTreeSet<TargetId>,
    /// Sent together, when their objects are.
    part: Vec<Assignment>,
    /// Sent after that.
    rest: VecDeque<Assignment>,
    /// Objects of the part that still have to be loaded and sent.
    missing: VecDeque<Digest>,
    /// Asked for and not answered.
    loading: BTreeSet<Digest>,
}

impl HubSession {
    /// For a stream that has just begun: silence counts from `now`. The number is this stream's own, and greater than
    /// those of all before.
    pub fn new(number: SessionNumber, heartbeat: HeartbeatPolicy, now: Timestamp) -> Self {
        Self {
            number,
            heartbeat,
            greeted: false,
            is_welcomed: false,
            acts_as_accounts: false,
            knowledge: Knowledge::Root(nothing()),
            asked: false,
            compare_at: first_comparison(number, now),
            sent: BTreeMap::new(),
            offer: None,
            pieces: VecDeque::new(),
            needed: BTreeSet::new(),
            repairing: BTreeSet::new(),
            repaired: BTreeSet::new(),
            controls: VecDeque::new(),
            effects: VecDeque::new(),
            durable: None,
            received: None,
            caught_up: CatchUp::Sending,
            profile: None,
            profile_at: now,
            wanted: BTreeSet::new(),
            dry_runs: DryRuns::default(),
            dry_asked: VecDeque::new(),
            dry_running: BTreeMap::new(),
            heard_at: now,
        }
    }

    /// This stream's.
    pub fn number(&self) -> SessionNumber {
        self.number
    }

    /// When [`HubSession::handle_tick`] has something to say, if nothing comes before.
    pub fn next_wake(&self) -> Timestamp {
        let dry = self.dry_running.values().copied().chain(self.dry_asked.iter().map(|(until, _)| *until - MARGIN));
        let next = self.compare_at.min(self.heard_at + self.heartbeat.deadline);
        let next = dry.fold(next, Timestamp::min);
        if self.profile.is_some() { next.min(self.profile_at) } else { next }
    }

    /// To be called when [`HubSession::next_wake`] has come; earlier does no harm. Fails when the agent was silent for
    /// as long as the policy stands.
    pub fn handle_tick(&mut self, now: Timestamp) -> Result<(), Violation> {
        if now >= self.heard_at + self.heartbeat.deadline {
            return Err(Violation::Silent(self.heartbeat.deadline));
        }
        self.pass_profile_on(now);
        self.forget_dry_runs(now);
        if now >= self.compare_at {
            self.compare_at = now + COMPARE_EVERY;
            // While something is on its way they differ by right.
            if matches!(self.knowledge, Knowledge::Known) && self.offer.is_none() {
                self.compare(root(self.sent.values().map(|sent| sent.listed)));
            }
        }
        Ok(())
    }

    /// Nobody waits for these any more, or there is no time left to ask.
    fn forget_dry_runs(&mut self, now: Timestamp) {
        self.dry_running.retain(|_, until| *until > now);
        while let Some((_, asked)) = self.dry_asked.pop_front_if(|(until, _)| *until - MARGIN <= now) {
            self.effects.push_back(Effect::RefuseDryRun(asked.id, Unanswered::Busy));
        }
    }

    /// Those that have no answer when the stream ends, and get none by it any more.
    pub fn lose_dry_runs(&mut self) -> Vec<Uuid> {
        let asked = std::mem::take(&mut self.dry_asked).into_iter().map(|(_, asked)| asked.id);
        asked.chain(std::mem::take(&mut self.dry_running).into_keys()).collect()
    }

    /// Asks the agent what would become of a bundle, once it has said that it answers to that, and no more at a time than it
    /// takes. What came of it comes as [`Effect::KeepDryRan`], and nothing after its deadline.
    pub fn ask_dry_run(&mut self, asked: DryRun, now: Timestamp) {
        self.forget_dry_runs(now);
        self.dry_asked.push_back((now + asked.deadline, asked));
        self.refuse_dry_runs();
    }

    /// Of an agent that does not answer none is asked; before its Hello that is not known.
    fn refuse_dry_runs(&mut self) {
        let why = match self.dry_runs {
            _ if !self.greeted => return,
            DryRuns::Taken => return,
            DryRuns::Off => Unanswered::Off,
            DryRuns::Unknown => Unanswered::Unsupported,
        };
        let refused = self.dry_asked.drain(..).map(|(_, asked)| Effect::RefuseDryRun(asked.id, why));
        self.effects.extend(refused);
    }

    fn may_ask_dry_run(&self) -> bool {
        self.is_welcomed
            && self.dry_runs == DryRuns::Taken
            && !self.dry_asked.is_empty()
            && self.dry_running.len() < AT_ONCE_MAX
    }

    /// With the time that is left to it: it may have waited for others.
    fn take_dry_run(&mut self, now: Timestamp) -> Option<HubMessage> {
        self.forget_dry_runs(now);
        let (until, asked) = if self.may_ask_dry_run() { self.dry_asked.pop_front()? } else { return None };
        self.dry_running.insert(asked.id, until);
        Some(HubMessage::DryRun(DryRun { deadline: until.duration_since(now) - MARGIN, ..asked }))
    }

    /// It costs rows and renders, so an agent that says another one each second is not followed.
    fn pass_profile_on(&mut self, now: Timestamp) {
        if now >= self.profile_at
            && let Some(profile) = self.profile.take()
        {
            self.profile_at = now + PROFILE_PAUSE;
            self.effects.push_back(Effect::Seen(profile));
        }
    }

    fn compare(&mut self, ours: Digest) {
        self.asked = true;
        self.controls.push_back(HubMessage::Compare(ours));
    }

    /// One message of the agent, in the order in which they came. Fails when it may not come now: before the Hello, a
    /// second Hello, an inventory that nobody asked for, more needed objects than an agent can lack.
    pub fn handle(&mut self, message: AgentMessage, now: Timestamp) -> Result<(), Violation> {
        self.heard_at = now;
        match message {
            AgentMessage::Hello(_) if self.greeted => Err(Violation::Repeated),
            AgentMessage::Hello(hello) => self.handle_hello(hello),
            _ if !self.greeted => Err(Violation::NoHello),
            AgentMessage::Profile(profile) => {
                self.profile = Some(profile);
                self.pass_profile_on(now);
                Ok(())
            }
            AgentMessage::Inventory(listed) => self.handle_inventory(listed),
            AgentMessage::Need(objects) => self.handle_need(objects),
            AgentMessage::Definition(definition) => {
                // What is not wanted any more may have been on its way.
                if self.wanted.remove(&definition.digest) {
                    self.effects.push_back(Effect::Define(definition));
                }
                Ok(())
            }
            AgentMessage::DryRan(ran) => {
                // One that came too late is nobody's any more.
                if self.dry_running.remove(&ran.id).is_some() {
                    self.effects.push_back(Effect::KeepDryRan(ran));
                }
                Ok(())
            }
            AgentMessage::Report(sequence, report) => {
                self.received = self.received.max(Some(sequence));
                self.effects.push_back(Effect::Record(sequence, report));
                Ok(())
            }
            AgentMessage::Drift(sequence, drift) => {
                self.received = self.received.max(Some(sequence));
                self.effects.push_back(Effect::RecordDrift(sequence, drift));
                Ok(())
            }
            AgentMessage::Heartbeat => {
                self.acknowledge(self.durable.unwrap_or_default());
                if self.caught_up == CatchUp::Sending {
                    self.caught_up = CatchUp::Until(self.received);
                    self.notice_catch_up();
                }
                Ok(())
            }
        }
    }

    /// One waits at most: an agent that sends heartbeats and does not read would otherwise fill the hub's memory.
    fn acknowledge(&mut self, durable: ReportSequence) {
        self.controls.retain(|control| !matches!(control, HubMessage::Ack(_)));
        self.controls.push_back(HubMessage::Ack(durable));
    }

    fn handle_hello(&mut self, hello: Hello) -> Result<(), Violation> {
        if hello.protocol != PROTOCOL {
            return Err(Violation::Protocol { theirs: hello.protocol });
        }
        self.greeted = true;
        self.dry_runs = hello.dry_runs;
        self.refuse_dry_runs();
        self.acts_as_accounts = hello.acts_as_accounts;
        self.knowledge = Knowledge::Root(hello.root);
        self.effects.push_back(Effect::Greeted(hello));
        Ok(())
    }

    /// Answers the Hello: to be called once after [`Effect::Greeted`], when the agent's past is known.
    pub fn welcome(&mut self, want: Want, profile: ProfileWanted) {
        self.is_welcomed = true;
        let welcome = Welcome { session: self.number, want, heartbeat: self.heartbeat, profile };
        self.controls.push_back(HubMessage::Welcome(welcome));
    }

    /// Asks for definitions that a [`Profile`] has named and that are not stored, in the place of those before. What was asked for
    /// and did not come is asked for again: its agent may have let it go.
    pub fn want(&mut self, definitions: BTreeSet<Digest>) {
        if !definitions.is_empty() || !self.wanted.is_empty() {
            self.controls.retain(|control| !matches!(control, HubMessage::Wanted(_)));
            self.controls.push_back(HubMessage::Wanted(definitions.iter().copied().collect()));
            self.wanted = definitions;
        }
    }

    /// What the rows say now: all assignments of this cluster. To be called after [`Effect::Greeted`], after
    /// [`HubSession::handle_bundles`], and whenever the rows may have changed; while the agent is being asked what it
    /// holds, it is ignored.
    ///
    /// Generations that are older than what was sent are ignored: two readers of the rows may overtake each other.
    ///
    /// What an agent would apply with more rights than it is to have is kept back: it goes on with what it has of that target.
    /// Answers with these targets.
    pub fn handle_listing(&mut self, listing: impl Into<Listing>) -> Vec<Name> {
        let Listing { assignments, mut unreadable } = listing.into();
        let is_told = |one: &Assignment| self.acts_as_accounts || one.options.service_account.is_none();
        let (listing, kept): (Vec<_>, Vec<_>) = assignments.into_iter().partition(is_told);
        unreadable.extend(kept.iter().map(|one| one.target));
        self.list(listing, &unreadable);
        kept.into_iter().map(|one| one.name).collect()
    }

    fn list(&mut self, listing: Vec<Assignment>, unreadable: &BTreeSet<TargetId>) {
        let complete = match self.knowledge {
            Knowledge::Asked | Knowledge::Said(_) => return,
            Knowledge::Root(theirs) => {
                let ours = root(listing.iter().map(Assignment::listed));
                if theirs == ours {
                    self.sent = listing.iter().map(|assignment| (assignment.target, Sent::of(assignment))).collect();
                    self.knowledge = Knowledge::Known;
                    return self.advance();
                }
                if theirs != nothing() {
                    self.knowledge = Knowledge::Asked;
                    return self.compare(ours);
                }
                true
            }
            Knowledge::Fresh => true,
            Knowledge::Known => self.offer.as_ref().is_some_and(|offer| offer.complete),
        };
        self.knowledge = Knowledge::Known;
        self.tell(listing, unreadable, complete);
    }

    fn tell(&mut self, listing: Vec<Assignment>, unreadable: &BTreeSet<TargetId>, complete: bool) {
        let (assignments, known): (Vec<_>, Vec<_>) = listing.into_iter().partition(|one| self.is_new(one));
        let mut unchanged = BTreeSet::new();
        if complete {
            for assignment in &known {
                self.confirm(assignment);
            }
            unchanged = known.iter().map(|assignment| assignment.target).collect();
            unchanged.extend(unreadable.iter().filter(|target| self.sent.contains_key(target)));
            let named: BTreeSet<_> =
                assignments.iter().map(|one| one.target).chain(unchanged.iter().copied()).collect();
            self.sent.retain(|target, _| named.contains(target));
        }
        if assignments.is_empty() && !complete {
            self.offer = None;
            self.pieces.retain(|loaded| loaded.is_repair);
        } else {
            self.offer_now(complete, unchanged, assignments);
        }
        self.advance();
    }

    fn is_new(&self, assignment: &Assignment) -> bool {
        self.sent.get(&assignment.target).is_none_or(|sent| assignment.generation > sent.listed.generation)
    }

    /// What the agent says that it holds is what the rows say.
    fn confirm(&mut self, assignment: &Assignment) {
        if let Some(sent) = self.sent.get_mut(&assignment.target)
            && sent.listed == assignment.listed()
        {
            *sent = Sent::of(assignment);
        }
    }

    /// Replaces what is not sent yet. A part whose objects are on their way goes on if it is still wanted: otherwise a
    /// target that changes often would keep a large one from ever arriving.
    fn offer_now(&mut self, complete: bool, unchanged: BTreeSet<TargetId>, assignments: Vec<Assignment>) {
        let is_wanted =
            |begun: &Offer| !begun.part.is_empty() && begun.part.iter().all(|one| assignments.contains(one));
        if let Some(begun) = self.offer.take().filter(is_wanted) {
            let rest = assignments.into_iter().filter(|one| !begun.part.contains(one)).collect();
            self.offer = Some(Offer { complete, unchanged, rest, ..begun });
            return;
        }
        // A half-sent object is finished by nobody: the agent forgets pieces when another object begins.
        self.pieces.retain(|loaded| loaded.is_repair);
        let rest = assignments.into();
        let (part, missing, loading) = (Vec::new(), VecDeque::new(), BTreeSet::new());
        let mut offer = Offer { complete, unchanged, part, rest, missing, loading };
        offer.begin_part(&self.sent);
        self.offer = Some(offer);
    }

    fn handle_inventory(&mut self, listed: Vec<Listed>) -> Result<(), Violation> {
        if !std::mem::take(&mut self.asked) {
            return Err(Violation::Unasked);
        }
        self.offer = None;
        self.pieces.retain(|loaded| loaded.is_repair);
        let applied = listed.iter().filter(|one| one.action == Action::Apply).map(|one| one.digest);
        let digests: BTreeSet<_> = applied.collect();
        self.knowledge = Knowledge::Said(listed);
        self.effects.push_back(Effect::LoadBundles(digests.into_iter().collect()));
        Ok(())
    }

    /// Answers [`Effect::LoadBundles`] with those of the bundles that are stored. What the agent holds of others is
    /// sent again.
    pub fn handle_bundles(&mut self, manifests: &BTreeMap<Digest, Manifest>) {
        let Knowledge::Said(listed) = &self.knowledge else { return };
        let manifest =
            |listed: &Listed| manifests.get(&listed.digest).filter(|_| listed.action == Action::Apply).cloned();
        let sent = listed.iter().map(|&listed| Sent { listed, manifest: manifest(&listed), is_ours: false });
        self.sent = sent.map(|sent| (sent.listed.target, sent)).collect();
        self.knowledge = Knowledge::Fresh;
    }

    fn handle_need(&mut self, objects: Vec<Digest>) -> Result<(), Violation> {
        self.needed.extend(objects);
        if self.needed.len() > NEEDED_MAX {
            return Err(Violation::TooMuch);
        }
        self.advance();
        Ok(())
    }

    /// Answers [`Effect::Load`] with those that are stored, compressed. What nobody waits for any more is dropped; what
    /// is asked for and never answered holds up its Desired.
    pub fn handle_objects(&mut self, bodies: impl IntoIterator<Item = (Digest, impl AsRef<[u8]>)>) {
        for (digest, body) in bodies {
            let is_repair = self.repairing.remove(&digest);
            let is_offered = self.offer.as_mut().is_some_and(|offer| offer.loading.remove(&digest));
            if is_repair || is_offered {
                self.pieces.extend(cut(digest, body.as_ref()).map(|piece| Loaded { piece, is_repair }));
            }
        }
    }

    /// Of the objects that were asked for, these are not stored. What names one of them is not told for now; what the agent
    /// has of its target stays. Answers with the targets that are concerned.
    pub fn handle_missing(&mut self, missing: &BTreeSet<Digest>) -> BTreeSet<TargetId> {
        self.repairing.retain(|object| !missing.contains(object));
        let lacks = |sent: &&Sent| sent.is_ours && sent.objects().any(|object| missing.contains(&object));
        let mut concerned: BTreeSet<_> = self.sent.values().filter(lacks).map(|sent| sent.listed.target).collect();
        if let Some(mut offer) = self.offer.take() {
            concerned.extend(offer.withhold(missing, &self.sent));
            self.offer = Some(offer).filter(|offer| offer.complete || !offer.part.is_empty());
        }
        self.advance();
        concerned
    }

    /// Everything up to this report is committed.
    pub fn handle_recorded(&mut self, sequence: ReportSequence) {
        if self.durable < Some(sequence) {
            self.durable = Some(sequence);
            self.acknowledge(sequence);
            self.notice_catch_up();
        }
    }

    /// For a while nobody could tell whether the agent was there: it counts again from its next heartbeat on.
    pub fn hear_anew(&mut self) {
        self.caught_up = CatchUp::Sending;
    }

    fn notice_catch_up(&mut self) {
        if matches!(self.caught_up, CatchUp::Until(last) if last <= self.durable) {
            self.caught_up = CatchUp::Done;
            self.effects.push_back(Effect::CaughtUp);
        }
    }

    /// The next thing to do, oldest first.
    pub fn take_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    /// [`HubSession::take_outbound`] has something.
    pub fn has_outbound(&self) -> bool {
        !self.controls.is_empty()
            || !self.pieces.is_empty()
            || self.offer.as_ref().is_some_and(Offer::is_ready)
            || self.may_ask_dry_run()
    }

    /// The next message, when there is room for one: what is not taken may still be replaced by something newer.
    /// Control messages first, then objects, then the Desired that they were for; dry runs when nothing else waits.
    pub fn take_outbound(&mut self, now: Timestamp) -> Option<HubMessage> {
        if let Some(control) = self.controls.pop_front() {
            return Some(control);
        }
        if let Some(frame) = self.take_frame() {
            self.advance();
            return Some(HubMessage::Objects(frame));
        }
        let Some(mut offer) = self.offer.take_if(|offer| offer.is_ready()) else { return self.take_dry_run(now) };
        let assignments = std::mem::take(&mut offer.part);
        for assignment in &assignments {
            self.sent.insert(assignment.target, Sent::of(assignment));
        }
        let complete = offer.complete && offer.rest.is_empty();
        let unchanged = if complete { offer.unchanged.iter().copied().collect() } else { Vec::new() };
        if !offer.rest.is_empty() {
            offer.unchanged.extend(assignments.iter().map(|one| one.target));
            offer.begin_part(&self.sent);
            self.offer = Some(offer);
        }
        self.advance();
        Some(HubMessage::Desired(Desired { complete, assignments, unchanged }))
    }

    /// The generation that the agent was last told of for this target.
    pub fn sent_generation(&self, target: TargetId) -> Option<Generation> {
        self.sent.get(&target).map(|sent| sent.listed.generation)
    }

    fn take_frame(&mut self) -> Option<Vec<Piece>> {
        let mut frame = vec![self.pieces.pop_front()?.piece];
        let mut bytes = frame[0].bytes.len();
        while let Some(next) = self.pieces.front() {
            bytes += next.piece.bytes.len();
            if bytes > FRAME_BYTES_MAX {
                break;
            }
            frame.extend(self.pieces.pop_front().map(|loaded| loaded.piece));
        }
        Some(frame)
    }

    /// Asks for more objects when all that were loaded are on their way; those of a Desired first.
    fn advance(&mut self) {
        if !self.pieces.is_empty() {
            return;
        }
        if let Some(offer) = self.offer.as_mut().filter(|offer| !offer.is_ready()) {
            if offer.loading.is_empty() {
                let count = offer.missing.len().min(REQUEST_OBJECTS_MAX);
                let request: Vec<_> = offer.missing.drain(..count).collect();
                offer.loading = request.iter().copied().collect();
                self.effects.push_back(Effect::Load(request));
            }
        } else if self.repairing.is_empty() && matches!(self.knowledge, Knowledge::Known) {
            self.repair();
        }
    }

    /// Asks for objects that the agent misses, one target's after the other's: what is whole need not be kept. What a
    /// Desired on its way names is its own when that has been sent; what
    /// none names is another's, and is never sent.
    fn repair(&mut self) {
        let ours = self.sent.values().filter(|sent| sent.is_ours).flat_map(Sent::objects);
        let own = ours.filter(|object| self.needed.contains(object) && !self.repaired.contains(object));
        let request: BTreeSet<_> = own.take(REQUEST_OBJECTS_MAX).collect();
        if request.is_empty() {
            if self.offer.is_none() {
                self.needed.clear();
            }
            return;
        }
        for object in &request {
            self.needed.remove(object);
        }
        self.repaired.extend(&request);
        self.effects.push_back(Effect::Load(request.iter().copied().collect()));
        self.repairing = request;
    }
}

impl Sent {
    fn of(assignment: &Assignment) -> Self {
        let manifest = (assignment.action == Action::Apply).then(|| assignment.manifest.clone());
        Self { listed: assignment.listed(), manifest, is_ours: true }
    }

    fn objects(&self) -> impl Iterator<Item = Digest> + '_ {
        self.manifest.iter().flat_map(Manifest::entries).map(|entry| entry.digest)
    }
}

impl Offer {
    /// The next assignments, as many as are told at once, and the objects that none of those sent has brought.
    fn begin_part(&mut self, sent: &BTreeMap<TargetId, Sent>) {
        let held: BTreeSet<_> = sent.values().flat_map(Sent::objects).collect();
        let mut missing = BTreeSet::new();
        let mut bytes = 0;
        while let Some(next) = self.rest.front() {
            let new: Vec<_> = next.objects().filter(|object| !held.contains(object)).collect();
            let fits = bytes + next.wire_bytes() <= PART_BYTES_MAX && missing.len() + new.len() <= PART_OBJECTS_MAX;
            if !fits && !self.part.is_empty() {
                break;
            }
            bytes += next.wire_bytes();
            missing.extend(new);
            self.part.extend(self.rest.pop_front());
        }
        self.missing = missing.into_iter().collect();
    }

    /// Takes those out of the part whose objects are not stored, and goes on to the next part when none is left.
    fn withhold(&mut self, missing: &BTreeSet<Digest>, sent: &BTreeMap<TargetId, Sent>) -> BTreeSet<TargetId> {
        let lacks = |one: &Assignment| one.objects().any(|object| missing.contains(&object));
        let (withheld, part): (Vec<_>, Vec<_>) = std::mem::take(&mut self.part).into_iter().partition(lacks);
        let withheld: BTreeSet<_> = withheld.into_iter().map(|one| one.target).collect();
        self.unchanged.extend(withheld.iter().filter(|target| sent.contains_key(target)));
        let named: BTreeSet<_> = part.iter().flat_map(Assignment::objects).collect();
        self.missing.retain(|object| named.contains(object));
        self.loading.retain(|object| named.contains(object));
        self.part = part;
        if self.part.is_empty() {
            self.begin_part(sent);
        }
        withheld
    }

    /// Called when no piece waits: every object is on its way.
    fn is_ready(&self) -> bool {
        self.missing.is_empty() && self.loading.is_empty()
    }
}

/// The root of an agent that holds nothing: it need not be asked.
fn nothing() -> Digest {
    root([])
}

/// At any second of the second half hour: streams that began together have numbers that follow each other.
fn first_comparison(number: SessionNumber, now: Timestamp) -> Timestamp {
    let half = COMPARE_EVERY.as_secs() / 2;
    now + SignedDuration::from_secs(half + number.get().rem_euclid(half))
}

fn cut(digest: Digest, body: &[u8]) -> impl Iterator<Item = Piece> + '_ {
    let bytes_total = u32::try_from(body.len()).expect("an object is smaller than 1.5 MiB");
    let offsets = (0..bytes_total).step_by(FRAME_BYTES_MAX);
    body.chunks(FRAME_BYTES_MAX).zip(offsets).map(move |(bytes, offset)| Piece {
        digest,
        bytes_total,
        offset,
        bytes: bytes.to_vec(),
    })
}
