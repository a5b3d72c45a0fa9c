//! The agent's connection to the hub: one at a time, made anew for as long as the agent lives.
//!
//! It carries; what is said is decided by [`AgentSession`], which outlives connections. Nothing here waits for the
//! cluster, and nothing in the cluster waits for this. The only module that knows `tonic`.

mod connect;
mod enroll;
mod failure;
mod renew;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bellwether_core::Digest;
use bellwether_core::dry_run::{AT_ONCE_MAX, DryRun, DryRunAnswer, Unanswered};
use bellwether_core::session::agent::{AgentSession, Change};
use bellwether_core::session::{DryRan, Packed, Profile};
use bellwether_proto::compression::compress;
use bellwether_proto::v1::agents_client::AgentsClient;
use bellwether_proto::{AGENT_BYTES_MAX, HUB_BYTES_MAX, hub_message, v1};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Streaming;
use tonic::transport::Channel;
use uuid::Uuid;

use crate::backoff::{Backoff, Jitter, chance};
use crate::clock::Clock;
use crate::config::HubAddress;
use crate::executor::Outbound;
use crate::identity::{Identity, Live};
pub(crate) use connect::stream;
pub(crate) use enroll::{EnrollError, enroll};
pub(crate) use failure::LinkError;
pub(crate) use renew::renew;

/// A fleet that lost its hub in one instant comes back within it: anything between nothing and the wait.
pub(crate) const RECONNECT: Backoff =
    Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(15), jitter: Jitter::Full };

/// A session that lasted so long was a good one: what ended it is a new trouble, and not the old one still.
const GOOD_SESSION: SignedDuration = SignedDuration::from_secs(30);

/// What waits, waits in the session, where newer replaces older; this is only what the connection writes next.
const OUTBOUND_MAX: usize = 1;

pub(crate) struct Link {
    pub(crate) hub: HubAddress,
    pub(crate) identity: Arc<Identity>,
    pub(crate) session: AgentSession,
    pub(crate) clock: Clock,
    pub(crate) changes: mpsc::Sender<Change>,
    pub(crate) to_hub: mpsc::Receiver<Outbound>,
    pub(crate) profile: watch::Receiver<Profile>,
    /// Definitions that the hub does not have, and where they come from.
    pub(crate) wanted: watch::Sender<BTreeSet<Digest>>,
    pub(crate) definitions: mpsc::Receiver<Packed>,
    /// Each until when, counted from when it came.
    pub(crate) dry_runs: mpsc::Sender<(tokio::time::Instant, DryRun)>,
    /// Whether there is a stream, for whoever wants to see it.
    pub(crate) presence: watch::Sender<bool>,
}

/// The reconciler takes an assignment in microseconds, and there a newer one replaces an older one. This bound is only
/// so that a hub that sends faster is slowed down instead of queued.
pub(crate) const CHANGES_MAX: usize = 16;

/// As many as go on at a time: whoever asks for more is told so.
pub(crate) const DRY_RUNS_MAX: usize = AT_ONCE_MAX;

/// What waits longer waits in the reconciler, where a newer report replaces an older one.
pub(crate) const OUTBOUND_REPORTS_MAX: usize = 16;

enum Event<'a> {
    Received(Option<v1::FromHub>),
    Writable(mpsc::Permit<'a, v1::FromAgent>),
    Takable(mpsc::Permit<'a, Change>),
    Outbound(Outbound),
    Renewed,
    Seen,
    Defined(Packed),
    Ticked,
}

/// Runs until the stop.
pub(crate) async fn serve(mut link: Link, stop: CancellationToken) {
    let mut failures = 0;
    while !stop.is_cancelled() {
        let began = link.clock.now();
        let ended = tokio::select! {
            () = stop.cancelled() => return,
            ended = link.connect_and_run() => ended,
        };
        link.presence.send_replace(false);
        link.wanted.send_replace(BTreeSet::new());
        // The hub knows a session by its certificate, and ends it with that.
        let Err(reason) = ended else {
            failures = 0;
            continue;
        };
        let lasted = link.clock.now().duration_since(began);
        failures = if lasted > GOOD_SESSION { 1 } else { failures + 1 };
        let wait = RECONNECT.wait(failures, chance());
        tracing::warn!(
            hub = %link.hub,
            %reason,
            hint = reason.hint().as_deref(),
            lasted = %format_args!("{lasted:#}"),
            wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
            "not connected"
        );
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
    }
}

impl Link {
    /// One connection, from its beginning to its end; it only ends well to be made anew with a renewed certificate.
    async fn connect_and_run(&mut self) -> Result<(), LinkError> {
        let mut certificates = self.identity.subscribe();
        let tls = certificates.borrow_and_update().tls();
        let (outbound, messages) = mpsc::channel(OUTBOUND_MAX);
        let now = self.clock.now();
        self.session.see(self.profile.borrow_and_update().clone());
        self.session.connect(now);
        // The Hello goes with the request, so that the hub's first word needs no second way around.
        if let Some(hello) = self.session.take_outbound(now) {
            let _ = outbound.try_send(hello.into());
        }
        let opened = connect::within_deadline(async {
            let channel = connect::channel(&self.hub, tls).await?;
            let opened = client(channel).session(ReceiverStream::new(messages)).await;
            opened.map(tonic::Response::into_inner).map_err(LinkError::from)
        });
        self.run_stream(opened.await?, outbound, certificates).await
    }

    async fn run_stream(
        &mut self,
        mut inbound: Streaming<v1::FromHub>,
        outbound: mpsc::Sender<v1::FromAgent>,
        mut certificates: watch::Receiver<Arc<Live>>,
    ) -> Result<(), LinkError> {
        let Self { session, clock, changes, to_hub, profile, wanted, definitions, dry_runs, presence, .. } = self;
        presence.send_replace(true);
        tracing::info!(hub = %self.hub, certificate_until = %self.identity.live().not_after(), "connected");
        let mut handing: Option<Change> = None;
        loop {
            handing = handing.or_else(|| session.take_change());
            let now = clock.now();
            let has_outbound = session.has_outbound(now);
            let wake = session.next_wake(now);
            let event = tokio::select! {
                // Nothing is read while an assignment waits to be taken: the hub is slowed down, not queued.
                message = inbound.message(), if handing.is_none() => match message {
                    Ok(message) => Event::Received(message),
                    Err(status) => return Err(status.into()),
                },
                slot = outbound.reserve(), if has_outbound => match slot {
                    Ok(slot) => Event::Writable(slot),
                    Err(_) => return Err(LinkError::Ended),
                },
                Ok(slot) = changes.reserve(), if handing.is_some() => Event::Takable(slot),
                Some(to_hub) = to_hub.recv() => Event::Outbound(to_hub),
                Ok(()) = certificates.changed() => Event::Renewed,
                Ok(()) = profile.changed() => Event::Seen,
                Some(definition) = definitions.recv(), if session.takes_definition() => Event::Defined(definition),
                () = clock.sleep_until(wake) => Event::Ticked,
            };
            match event {
                Event::Received(message) => {
                    handle_received(session, message, clock.now())?;
                    if let Some(definitions) = session.take_wanted() {
                        wanted.send_replace(definitions);
                    }
                    while let Some(asked) = session.take_dry_run() {
                        let until =
                            tokio::time::Instant::now() + Duration::try_from(asked.deadline).unwrap_or_default();
                        if let Err(refused) = dry_runs.try_send((until, asked)) {
                            session.tell_dry_run(busy(refused.into_inner().1.id));
                        }
                    }
                }
                Event::Writable(slot) => {
                    if let Some(message) = session.take_outbound(clock.now()) {
                        slot.send(message.into());
                    }
                }
                Event::Takable(slot) => {
                    if let Some(taken) = handing.take() {
                        slot.send(taken);
                    }
                }
                Event::Outbound(Outbound::Report(report)) => session.report(report),
                Event::Outbound(Outbound::Drift(drift)) => session.tell_drift(drift),
                Event::Outbound(Outbound::DryRan(ran)) => session.tell_dry_run(ran),
                Event::Renewed => return Ok(()),
                Event::Seen => session.see(profile.borrow_and_update().clone()),
                Event::Defined(definition) => session.tell_definition(definition),
                Event::Ticked => session.handle_tick(clock.now()).map_err(LinkError::Violation)?,
            }
        }
    }
}

fn handle_received(session: &mut AgentSession, message: Option<v1::FromHub>, now: Timestamp) -> Result<(), LinkError> {
    let message = hub_message(message.ok_or(LinkError::Ended)?)?;
    session.handle(message, now).map_err(LinkError::Violation)
}

fn busy(id: Uuid) -> DryRan {
    DryRan { id, answer: DryRunAnswer::Unanswered(Unanswered::Busy).encode(compress) }
}

fn client(channel: Channel) -> AgentsClient<Channel> {
    AgentsClient::new(channel).max_decoding_message_size(HUB_BYTES_MAX).max_encoding_message_size(AGENT_BYTES_MAX)
}
