//! The hub's end of one agent stream.
//!
//! It is told what the rows say ([`HubSession::handle_listing`]) as often as they change, finds what the agent lacks,
//! asks for those objects a few at a time, and sends them before the Desired that names them. A listing that comes while
//! objects still travel replaces the one they were for. An older generation never replaces a newer one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::Timestamp;

use super::{
    AgentMessage, Assignment, Desired, FRAME_BYTES_MAX, Hello, HubMessage, Listed, PROTOCOL, Pace, Piece, Violation,
    Want, Welcome, root,
};
use crate::drift::Drift;
use crate::report::Report;
use crate::{Digest, Generation, Serial, SessionNumber, TargetId};

/// Objects that one request to the store may name: with 1.5 MiB each at the very most, and a few KiB in practice.
const REQUEST_OBJECTS_MAX: usize = 64;

/// What the session wants from its surroundings.
#[derive(Debug, PartialEq, Eq)]
pub enum Effect {
    /// The agent is known now: write down its facts, read its assignments, answer with
    /// [`HubSession::handle_listing`].
    Greeted(Hello),
    /// Record this report, then call [`HubSession::handle_recorded`].
    Record(Serial, Report),
    /// Record this drift, then call [`HubSession::handle_recorded`].
    RecordDrift(Serial, Drift),
    /// What the agent had kept to itself while it was away has arrived and is durable.
    CaughtUp,
    /// Read these objects, answer with [`HubSession::handle_objects`].
    Load(Vec<Digest>),
}

#[derive(Debug)]
pub struct HubSession {
    number: SessionNumber,
    pace: Pace,
    greeted: bool,
    /// The root that the agent came with; `None` once a listing was compared to it.
    agent_root: Option<Digest>,
    /// What was listed to the agent, and the objects that it therefore holds.
    sent: BTreeMap<TargetId, Sent>,
    /// The newest listing, as far as it is not sent: what waits for objects.
    offer: Option<Offer>,
    /// Loaded pieces, in order.
    pieces: VecDeque<Piece>,
    controls: VecDeque<HubMessage>,
    effects: VecDeque<Effect>,
    durable: Option<Serial>,
    received: Option<Serial>,
    caught_up: CatchUp,
    heard_at: Timestamp,
}

/// How far the agent is with what it kept to itself while it was away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum CatchUp {
    /// Its first beat has not come: it still sends.
    Sending,
    /// All has come; up to here it has to become durable.
    Until(Option<Serial>),
    Done,
}

#[derive(Debug)]
struct Sent {
    listed: Listed,
    objects: BTreeSet<Digest>,
}

#[derive(Debug)]
struct Offer {
    desired: Desired,
    /// Objects that still have to be loaded and sent.
    missing: VecDeque<Digest>,
    /// Asked for and not answered.
    loading: BTreeSet<Digest>,
}

impl HubSession {
    pub fn new(number: SessionNumber, pace: Pace, now: Timestamp) -> Self {
        Self {
            number,
            pace,
            greeted: false,
            agent_root: None,
            sent: BTreeMap::new(),
            offer: None,
            pieces: VecDeque::new(),
            controls: VecDeque::new(),
            effects: VecDeque::new(),
            durable: None,
            received: None,
            caught_up: CatchUp::Sending,
            heard_at: now,
        }
    }

    pub fn number(&self) -> SessionNumber {
        self.number
    }

    /// When [`HubSession::handle_tick`] has something to say, if nothing comes before.
    pub fn next_wake(&self) -> Timestamp {
        self.heard_at + self.pace.deadline
    }

    pub fn handle_tick(&mut self, now: Timestamp) -> Result<(), Violation> {
        if now >= self.next_wake() { Err(Violation::Silent(self.pace.deadline)) } else { Ok(()) }
    }

    pub fn handle(&mut self, message: AgentMessage, now: Timestamp) -> Result<(), Violation> {
        self.heard_at = now;
        match message {
            AgentMessage::Hello(_) if self.greeted => Err(Violation::Repeated),
            AgentMessage::Hello(hello) => self.handle_hello(hello),
            _ if !self.greeted => Err(Violation::NoHello),
            AgentMessage::Report(serial, report) => {
                self.received = self.received.max(Some(serial));
                self.effects.push_back(Effect::Record(serial, report));
                Ok(())
            }
            AgentMessage::Drift(serial, drift) => {
                self.received = self.received.max(Some(serial));
                self.effects.push_back(Effect::RecordDrift(serial, drift));
                Ok(())
            }
            AgentMessage::Beat => {
                self.controls.push_back(HubMessage::Ack(self.durable.unwrap_or_default()));
                if self.caught_up == CatchUp::Sending {
                    self.caught_up = CatchUp::Until(self.received);
                    self.notice_catch_up();
                }
                Ok(())
            }
        }
    }

    fn handle_hello(&mut self, hello: Hello) -> Result<(), Violation> {
        if hello.protocol != PROTOCOL {
            return Err(Violation::Protocol { theirs: hello.protocol });
        }
        self.greeted = true;
        self.agent_root = Some(hello.root);
        self.effects.push_back(Effect::Greeted(hello));
        Ok(())
    }

    /// Answers the Hello. Called once, by the surroundings, when the agent's past is known.
    pub fn welcome(&mut self, want: Want) {
        let welcome = Welcome { session: self.number, want, pace: self.pace };
        self.controls.push_back(HubMessage::Welcome(welcome));
    }

    /// What the rows say now: all assignments of this cluster.
    ///
    /// Generations that are older than what was sent are ignored: two readers of the rows may overtake each other.
    pub fn handle_listing(&mut self, listing: Vec<Assignment>) {
        let complete = match self.agent_root.take() {
            Some(theirs) if theirs == root(listing.iter().map(Assignment::listed)) => {
                self.sent = listing.iter().map(|assignment| (assignment.target, Sent::of(assignment))).collect();
                return;
            }
            Some(_) => true,
            None => self.offer.as_ref().is_some_and(|offer| offer.desired.complete),
        };
        let assignments: Vec<_> =
            listing.into_iter().filter(|assignment| complete || self.is_news(assignment)).collect();
        if self.offer.as_ref().is_some_and(|offer| offer.desired.assignments == assignments) {
            // It is on its way already.
            return;
        }
        if assignments.is_empty() && !complete {
            self.offer = None;
            self.pieces.clear();
            return;
        }
        self.offer_now(Desired { complete, assignments });
    }

    fn is_news(&self, assignment: &Assignment) -> bool {
        self.sent.get(&assignment.target).is_none_or(|sent| assignment.generation > sent.listed.generation)
    }

    fn offer_now(&mut self, desired: Desired) {
        // A half-sent object is finished by nobody: the agent forgets pieces when another object begins.
        self.pieces.clear();
        let held: BTreeSet<_> = self.sent.values().flat_map(|sent| sent.objects.iter().copied()).collect();
        let wanted: BTreeSet<_> = desired.assignments.iter().flat_map(objects_of).collect();
        let missing = wanted.difference(&held).copied().collect();
        self.offer = Some(Offer { desired, missing, loading: BTreeSet::new() });
        self.advance();
    }

    /// Objects that were asked for, compressed. What nobody waits for any more is dropped.
    pub fn handle_objects(&mut self, bodies: Vec<(Digest, Vec<u8>)>) {
        let Some(offer) = &mut self.offer else { return };
        for (digest, body) in bodies {
            if offer.loading.remove(&digest) {
                self.pieces.extend(cut(digest, &body));
            }
        }
    }

    /// Everything up to this report is committed.
    pub fn handle_recorded(&mut self, serial: Serial) {
        if self.durable < Some(serial) {
            self.durable = Some(serial);
            self.controls.push_back(HubMessage::Ack(serial));
            self.notice_catch_up();
        }
    }

    fn notice_catch_up(&mut self) {
        if matches!(self.caught_up, CatchUp::Until(last) if last <= self.durable) {
            self.caught_up = CatchUp::Done;
            self.effects.push_back(Effect::CaughtUp);
        }
    }

    pub fn take_effect(&mut self) -> Option<Effect> {
        self.effects.pop_front()
    }

    pub fn has_outbound(&self) -> bool {
        !self.controls.is_empty() || !self.pieces.is_empty() || self.offer.as_ref().is_some_and(Offer::is_ready)
    }

    pub fn take_outbound(&mut self) -> Option<HubMessage> {
        if let Some(control) = self.controls.pop_front() {
            return Some(control);
        }
        if let Some(frame) = self.take_frame() {
            self.advance();
            return Some(HubMessage::Objects(frame));
        }
        let ready = self.offer.take_if(|offer| offer.is_ready())?;
        for assignment in &ready.desired.assignments {
            self.sent.insert(assignment.target, Sent::of(assignment));
        }
        Some(HubMessage::Desired(ready.desired))
    }

    /// The generation that the agent was last told of for this target.
    pub fn sent_generation(&self, target: TargetId) -> Option<Generation> {
        self.sent.get(&target).map(|sent| sent.listed.generation)
    }

    fn take_frame(&mut self) -> Option<Vec<Piece>> {
        let mut frame = vec![self.pieces.pop_front()?];
        let mut bytes = frame[0].bytes.len();
        while let Some(next) = self.pieces.front() {
            bytes += next.bytes.len();
            if bytes > FRAME_BYTES_MAX {
                break;
            }
            frame.extend(self.pieces.pop_front());
        }
        Some(frame)
    }

    /// Asks for more objects when all that were loaded are on their way.
    fn advance(&mut self) {
        let Some(offer) = &mut self.offer else { return };
        if !self.pieces.is_empty() || !offer.loading.is_empty() || offer.missing.is_empty() {
            return;
        }
        let count = offer.missing.len().min(REQUEST_OBJECTS_MAX);
        let request: Vec<_> = offer.missing.drain(..count).collect();
        offer.loading = request.iter().copied().collect();
        self.effects.push_back(Effect::Load(request));
    }
}

impl Sent {
    fn of(assignment: &Assignment) -> Self {
        Self { listed: assignment.listed(), objects: objects_of(assignment).collect() }
    }
}

impl Offer {
    /// Called when no piece waits: every object is on its way.
    fn is_ready(&self) -> bool {
        self.missing.is_empty() && self.loading.is_empty()
    }
}

fn objects_of(assignment: &Assignment) -> impl Iterator<Item = Digest> + '_ {
    assignment.manifest.entries().iter().map(|entry| entry.digest)
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
