//! One agent's stream: the loop around [`HubSession`], which decides what is said.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use bellwether_core::session::hub::{Effect, HubSession};
use bellwether_core::session::{AgentMessage, DryRan, Hello, Listing, Profile, Violation};
use bellwether_core::{ClusterId, Digest, Name, ReportSequence, SessionNumber, TargetId};
use bellwether_proto::v1::{FromAgent, FromHub};
use bellwether_proto::{WireError, agent_message};
use futures_util::{Stream, StreamExt as _};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::arrivals::{Arrival, Greeted};
use super::caller::Caller;
use super::sessions::{Inbox, OpenStream};
use super::{dry_runs, greet, listing};
use crate::Hub;
use crate::process::clock;
use crate::process::rate::Rate;
use crate::record::queue::{AgentEvent, Incoming};
use crate::store::sessions;
use crate::store::work::Stage;
use crate::store::{self, StoreError};
use crate::work::change::Change;

/// Messages between the session and the stream: the session holds what waits, where newer replaces older.
const OUTBOUND_MAX: usize = 1;

#[derive(Debug, thiserror::Error)]
pub(super) enum BeginError {
    #[error("the certificate is revoked or not known")]
    Refused,
    #[error("too many streams of this cluster began; come again later")]
    TooOften,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Admits a caller and starts its session's task; answers with what is sent to it.
pub(super) async fn begin(
    hub: &Arc<Hub>,
    caller: Caller,
    inbound: impl Inbound,
    cut: CancellationToken,
) -> Result<ReceiverStream<Result<FromHub, Status>>, BeginError> {
    if !caller.may_call(&hub.calls) {
        return Err(BeginError::TooOften);
    }
    let turn = store::take_admission(&hub.stream_turns).await?;
    let mut db = hub.vital.acquire().await.map_err(StoreError::from)?;
    let number = sessions::admit(&mut db, &caller.serial, caller.cluster).await?.ok_or(BeginError::Refused)?;
    drop((db, turn));

    let (outbound_to, outbound) = mpsc::channel(OUTBOUND_MAX);
    let inbox = Arc::new(Inbox::default());
    hub.sessions.enter(
        caller.cluster,
        OpenStream { number, serial: caller.serial.clone(), inbox: inbox.clone(), cut: cut.clone() },
    );
    let place = Place { hub: hub.clone(), cluster: caller.cluster, number };
    let (recorded_to, recorded) = watch::channel(ReportSequence::default());
    let stream = AgentStream {
        hub: hub.clone(),
        session: HubSession::new(number, hub.config.heartbeat_policy(), clock::steady()),
        caller,
        place: Some(place),
        inbox,
        read_at: None,
        kept_back: Vec::new(),
        is_contested: false,
        cut,
        recorded_to,
        recorded,
    };
    hub.tasks.spawn(stream.run(inbound, outbound_to));
    Ok(ReceiverStream::new(outbound))
}

/// What an agent sends.
pub(super) trait Inbound: Stream<Item = Result<FromAgent, Status>> + Send + Unpin + 'static {}

impl<S: Stream<Item = Result<FromAgent, Status>> + Send + Unpin + 'static> Inbound for S {}

/// A stream's place among those of this hub. It is given up, and the end written, however the stream's task ends: a task
/// that breaks down says nothing more.
struct Place {
    hub: Arc<Hub>,
    cluster: ClusterId,
    number: SessionNumber,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.hub.sessions.leave(self.cluster, self.number, clock::now());
    }
}

struct AgentStream {
    hub: Arc<Hub>,
    caller: Caller,
    session: HubSession,
    /// Until it has ended.
    place: Option<Place>,
    inbox: Arc<Inbox>,
    /// When it began to read its rows by itself; `None`: not yet, as its agent has not said Hello.
    read_at: Option<Instant>,
    /// Targets that the agent is not told, as far as that was logged.
    kept_back: Vec<Name>,
    /// Another agent uses the same identity: which of them is the cluster, a person has to say.
    is_contested: bool,
    cut: CancellationToken,
    recorded_to: watch::Sender<ReportSequence>,
    recorded: watch::Receiver<ReportSequence>,
}

enum Happened<'a> {
    Received(Box<AgentMessage>),
    Writable(mpsc::Permit<'a, Result<FromHub, Status>>),
    Delivered,
    Recorded,
    Ticked,
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the agent closed it")]
    Closed,
    #[error("it was cut")]
    Cut,
    /// What was let in by a certificate does not outlast it: the revocation list holds only what has not ended.
    #[error("its certificate has ended")]
    Expired,
    #[error("the connection broke: {0}")]
    Broken(String),
    #[error("the agent sent what cannot be read")]
    Wire(#[from] WireError),
    #[error("the agent broke the protocol")]
    Violation(#[from] Violation),
    #[error("its rows could not be read or written")]
    Store(#[from] StoreError),
}

impl AgentStream {
    async fn run(mut self, inbound: impl Inbound, to_agent: mpsc::Sender<Result<FromHub, Status>>) {
        let ended = self.run_stream(inbound, &to_agent).await;
        self.lose_dry_runs().await;
        let cause = ended.err().map_or_else(String::new, |error| crate::chain(&error));
        tracing::info!(cluster.id = %self.caller.cluster, session = %self.session.number(), cause, "an agent's stream ended");
    }

    /// Whoever waits for what this agent was asked waits no longer.
    async fn lose_dry_runs(&mut self) {
        drop(self.place.take());
        let asked = self.inbox.take_dry_runs().into_iter().map(|asked| asked.id);
        let ids: Vec<_> = self.session.lose_dry_runs().into_iter().chain(asked).collect();
        if let Err(error) = dry_runs::lose(&self.hub, self.caller.cluster, ids).await {
            tracing::warn!(cluster.id = %self.caller.cluster, error = %crate::chain(&error), "cannot say that a dry run is lost");
        }
    }

    async fn run_stream(
        &mut self,
        mut inbound: impl Inbound,
        to_agent: &mpsc::Sender<Result<FromHub, Status>>,
    ) -> Result<(), Ended> {
        loop {
            let happened = self.next(&mut inbound, to_agent).await?;
            // In boxes of their own: a stream is kept for as long as its agent lives, and what the work needs would be
            // most of it.
            Box::pin(self.handle(happened)).await?;
            while let Some(effect) = self.session.take_effect() {
                Box::pin(self.carry_out(effect)).await?;
            }
        }
    }

    async fn next<'a>(
        &mut self,
        inbound: &mut impl Inbound,
        to_agent: &'a mpsc::Sender<Result<FromHub, Status>>,
    ) -> Result<Happened<'a>, Ended> {
        // Silence is counted by a clock that nobody sets; a certificate ends at a date.
        // What its cluster said lately, on this stream or another: it is not read while that is too much.
        let (now, reads_from) = (clock::steady(), self.hub.messages.open_from(&self.caller.cluster));
        let mut wake = until(self.session.next_wake(), now).min(until(self.caller.not_after, clock::now()));
        if reads_from > now {
            wake = wake.min(until(reads_from, now));
        }
        tokio::select! {
            () = self.cut.cancelled() => Err(Ended::Cut),
            message = inbound.next(), if reads_from <= now => match message {
                Some(Ok(message)) => Ok(Happened::Received(Box::new(agent_message(message)?))),
                None => Err(Ended::Closed),
                Some(Err(status)) => Err(Ended::Broken(innermost(&status))),
            },
            permit = to_agent.reserve(), if self.session.has_outbound() => {
                permit.map(Happened::Writable).map_err(|_| Ended::Closed)
            }
            () = self.inbox.came.notified() => Ok(Happened::Delivered),
            _ = self.recorded.changed() => Ok(Happened::Recorded),
            () = tokio::time::sleep(wake) => Ok(Happened::Ticked),
        }
    }

    async fn handle(&mut self, happened: Happened<'_>) -> Result<(), Ended> {
        let now = clock::steady();
        match happened {
            Happened::Received(message) => {
                self.hub.messages.take_many(self.caller.cluster, cost_of(&message));
                self.session.handle(*message, now)?;
            }
            Happened::Writable(permit) => {
                if let Some(message) = self.session.take_outbound(now) {
                    permit.send(Ok(message.into()));
                }
            }
            Happened::Delivered => self.take_delivery().await?,
            Happened::Recorded => {
                let sequence = *self.recorded.borrow_and_update();
                self.session.handle_recorded(sequence);
            }
            Happened::Ticked if clock::now() >= self.caller.not_after => return Err(Ended::Expired),
            Happened::Ticked => self.session.handle_tick(now)?,
        }
        Ok(())
    }

    async fn carry_out(&mut self, effect: Effect) -> Result<(), Ended> {
        match effect {
            Effect::Greeted(hello) => self.greet(hello).await,
            Effect::Seen(profile) => {
                let number = self.session.number();
                if let Some(missing) = greet::mark_profile(&self.hub, self.caller.cluster, number, profile).await? {
                    self.session.want(missing);
                }
                Ok(())
            }
            Effect::Define(packed) => {
                let number = self.session.number();
                Ok(greet::keep_definition(&self.hub, self.caller.cluster, number, packed).await?)
            }
            Effect::KeepDryRan(DryRan { id, answer }) => {
                Ok(dry_runs::keep(&self.hub, self.caller.cluster, id, &answer).await?)
            }
            Effect::RefuseDryRun(id, why) => {
                Ok(dry_runs::keep(&self.hub, self.caller.cluster, id, &dry_runs::refused(why)).await?)
            }
            Effect::Record(sequence, report) => self.pass_on(sequence, AgentEvent::Report(report)).await,
            Effect::RecordDrift(sequence, drift) => self.pass_on(sequence, AgentEvent::Drift(drift)).await,
            Effect::CaughtUp => Ok(greet::mark_caught_up(&self.hub, self.caller.cluster, self.session.number()).await?),
            Effect::LoadBundles(digests) => {
                let turn = store::take_turn(&self.hub.stream_turns).await;
                let mut db = self.hub.vital.acquire().await.map_err(StoreError::from)?;
                let digests = digests.into_iter().collect();
                let manifests = self.hub.content.load_readable(&mut db, &digests).await?;
                drop((db, turn));
                self.session.handle_bundles(&manifests);
                self.read_listing().await
            }
            Effect::Load(digests) => {
                let objects = match self.hub.content.find_objects(&digests) {
                    Some(objects) => objects,
                    None => {
                        let _turn = store::take_turn(&self.hub.stream_turns).await;
                        self.hub.content.load_objects(&self.hub.vital, &digests).await?
                    }
                };
                let stored: BTreeSet<_> = objects.iter().map(|(digest, _)| *digest).collect();
                let missing: BTreeSet<_> = digests.into_iter().filter(|digest| !stored.contains(digest)).collect();
                if !missing.is_empty() {
                    let concerned = self.session.handle_missing(&missing);
                    tell_of_missing(&self.hub, self.caller.cluster, &concerned, &missing).await?;
                }
                self.session.handle_objects(objects);
                Ok(())
            }
        }
    }

    /// A full queue stops this stream's reading: its agent waits, and nobody else.
    async fn pass_on(&mut self, sequence: ReportSequence, event: AgentEvent) -> Result<(), Ended> {
        let incoming = Incoming {
            cluster: self.caller.cluster,
            session: self.session.number(),
            sequence,
            event,
            recorded: self.recorded_to.clone(),
        };
        self.hub.report_queue.send(incoming).await.map_err(|_| Ended::Cut)
    }

    async fn greet(&mut self, hello: Hello) -> Result<(), Ended> {
        let arrival = Arrival { caller: self.caller.clone(), number: self.session.number(), hello };
        let Greeted { want, profile, is_contested, listing } =
            greet::greet(&self.hub, arrival).await?.ok_or(Ended::Cut)?;
        self.is_contested = is_contested;
        self.session.welcome(want, profile);
        self.read_at = Some(listing.as_ref().map_or_else(Instant::now, |(read_at, _)| *read_at));
        if let Some((_, listing)) = listing {
            self.handle_listing(listing);
        }
        Ok(())
    }

    /// Where targets are kept back from an agent that knows too little, whoever looks for why they wait finds it here.
    fn handle_listing(&mut self, listing: Listing) {
        let kept = self.session.handle_listing(listing);
        if !kept.is_empty() && kept != self.kept_back {
            let targets = kept.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            tracing::warn!(cluster.id = %self.caller.cluster, targets, hint = "update this cluster's agent", "targets with a sync.serviceAccount wait: the agent would apply them with its own rights");
        }
        self.kept_back = kept;
    }

    /// A connecting cluster's signals are dropped before everything is read: it sees what they announced.
    async fn read_listing(&mut self) -> Result<(), Ended> {
        self.read_at = Some(Instant::now());
        if self.is_contested {
            return Ok(());
        }
        let cluster = self.caller.cluster;
        let turn = store::take_turn(&self.hub.stream_turns).await;
        let mut db = self.hub.vital.acquire().await.map_err(StoreError::from)?;
        let mut listings = listing::load(&mut db, &self.hub.content, &[cluster]).await?;
        drop((db, turn));
        self.handle_listing(listings.remove(&cluster).unwrap_or_default());
        Ok(())
    }

    /// Before the Hello a delivery is of no use, since everything is read then. One that was begun before the stream's own
    /// reading may be the older of the two or the newer: then it is read again.
    async fn take_delivery(&mut self) -> Result<(), Ended> {
        if self.inbox.take_unheard() {
            self.session.hear_anew();
        }
        for asked in self.inbox.take_dry_runs() {
            // Of two agents with one identity nobody knows which is the cluster.
            if self.is_contested {
                dry_runs::lose(&self.hub, self.caller.cluster, [asked.id]).await?;
            } else {
                self.session.ask_dry_run(asked, clock::steady());
            }
        }
        let Some(delivery) = self.inbox.take() else { return Ok(()) };
        match self.read_at {
            None => Ok(()),
            _ if self.is_contested => Ok(()),
            Some(read_at) if delivery.began_at > read_at => {
                self.handle_listing(delivery.listing);
                Ok(())
            }
            Some(_) => self.read_listing().await,
        }
    }
}

/// Until a cluster is told again what it was not told for the lack of an object, if nobody repairs it before.
const MISSING_PAUSE: SignedDuration = SignedDuration::from_mins(5);

/// Whoever renders these targets makes their bundles whole, or says at them that it cannot be done: told once, whichever
/// clusters find it out.
async fn tell_of_missing(
    hub: &Hub,
    cluster: ClusterId,
    targets: &BTreeSet<TargetId>,
    missing: &BTreeSet<Digest>,
) -> Result<(), StoreError> {
    let (now, trace_id) = (clock::now(), clock::new_trace());
    let _turn = store::take_turn(&hub.stream_turns).await;
    let mut change = Change::begin(&hub.vital, &hub.signals).await?;
    let targets: Vec<_> = targets.iter().copied().collect();
    let news = store::lost::note(&mut change, &targets, &trace_id, now).await?;
    change.tell(Stage::Link, &[cluster.as_uuid()], now + MISSING_PAUSE, None).await?;
    change.commit().await?;
    for target in news {
        tracing::error!(
            cluster.id = %cluster,
            target.id = %target,
            object = missing.first().map(tracing::field::display),
            objects = missing.len(),
            trace.id = trace_id,
            "objects that a bundle names are not stored: its clusters are not told of it, and it is made anew"
        );
    }
    Ok(())
}

/// An agent that comes back with a thousand targets says all of them at once, several times over; what it says beyond
/// that waits in its own memory, as the window is small. At this rate the few messages that a window holds are read
/// within seconds, so that a heartbeat behind them comes before the deadline.
pub(crate) const SAID: Rate = Rate { at_once: 5_000, every: SignedDuration::from_millis(10) };
/// Looks at every object of the cluster's targets.
const NEED_COST: i32 = 100;
/// Is unpacked, looked at and packed anew, for milliseconds; and written, for each KiB of it.
const DEFINITION_COST: i32 = 10;

fn cost_of(message: &AgentMessage) -> i32 {
    match message {
        AgentMessage::Need(_) => NEED_COST,
        AgentMessage::DryRan(ran) => 1 + kib(ran.answer.len()),
        AgentMessage::Definition(packed) => DEFINITION_COST + kib(packed.bytes.len()),
        // A list of definitions is written name by name.
        AgentMessage::Profile(Profile { apis, definitions, .. }) => {
            let apis = apis.as_ref().map_or(0, |apis| apis.text().len());
            1 + kib(apis + definitions.as_ref().map_or(0, |list| list.text().len()))
        }
        _ => 1,
    }
}

fn kib(bytes: usize) -> i32 {
    i32::try_from(bytes / 1024).unwrap_or(i32::MAX / 2)
}

/// What broke, in the words of whoever saw it first: each error around it repeats them.
fn innermost(status: &Status) -> String {
    let mut error: &dyn std::error::Error = status;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn until(at: Timestamp, now: Timestamp) -> std::time::Duration {
    std::time::Duration::try_from(at.duration_since(now)).unwrap_or_default()
}
