//! A hub as an agent sees it: real certificates, the real wire and the real session; its rows are a list in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use bellwether_core::Digest;
use bellwether_core::definitions::{DEFINITION_BYTES_MAX, Definition, Definitions};
use bellwether_core::drift::Drift;
use bellwether_core::dry_run::{ANSWER_BYTES_MAX, DryRun, DryRunAnswer};
use bellwether_core::report::Report;
use bellwether_core::session::hub::{Effect, HubSession};
use bellwether_core::session::{Assignment, DryRan, HeartbeatPolicy, Profile, ProfileWanted, Want, root};
use bellwether_core::{SessionNumber, TargetId};
use bellwether_proto::v1::agents_server::{Agents, AgentsServer};
use bellwether_proto::{agent_message, compression, v1};
use futures_util::Stream;
use jiff::Timestamp;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, ExtendedKeyUsagePurpose,
    IsCa, KeyPair,
};
use rustls::RootCertStore;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::{ServerConfig, WebPkiClientVerifier};
use tokio::io::DuplexStream;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};
use uuid::Uuid;

pub(crate) const TOKEN: &str = "bwj_test";

/// Bytes between the TLS stream and tonic; tonic does not know TLS streams without a feature that only tests would use.
const PIPE_BYTES: usize = 64 * 1024;

pub(crate) struct Hub {
    pub(crate) address: SocketAddr,
    pub(crate) fingerprint: String,
    state: Arc<State>,
    /// Ends with the hub, and everything in it.
    _tasks: JoinSet<()>,
}

struct State {
    authority: Authority,
    rows: Mutex<Rows>,
    changed: watch::Sender<u64>,
    /// Streams of a smaller number end.
    cut: watch::Sender<i64>,
}

#[derive(Default)]
struct Rows {
    assignments: BTreeMap<TargetId, Assignment>,
    objects: BTreeMap<Digest, Vec<u8>>,
    reports: Vec<Report>,
    drifts: Vec<Drift>,
    facts: BTreeMap<String, String>,
    profiles: Vec<Profile>,
    definitions: BTreeMap<Digest, Definition>,
    /// Of the agents that came, as they said hello.
    roots: Vec<Digest>,
    /// The keys of the enrolments, as they came.
    enrolled: Vec<Vec<u8>>,
    /// Answers to enrolments that are still to be lost.
    losses: usize,
    sessions: i64,
    /// Takes no sessions.
    is_away: bool,
    /// The processes that were here.
    boots: BTreeSet<Uuid>,
    /// Processes that are not heard.
    shut_out: BTreeSet<Uuid>,
    /// Objects that were sent, over all sessions.
    loaded: usize,
    /// What agents are to be asked, and what they answered.
    dry_asked: Vec<DryRun>,
    dry_ran: BTreeMap<Uuid, DryRunAnswer>,
}

struct Authority {
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let params = || {
            let mut params = CertificateParams::default();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params
        };
        let key = || KeyPair::generate().expect("makes a key");
        let root = CertifiedIssuer::self_signed(params(), key()).expect("makes a root");
        let intermediate = CertifiedIssuer::signed_by(params(), key(), &root).expect("makes an intermediate");
        Self { root, intermediate }
    }

    fn server_config(&self) -> ServerConfig {
        let mut params = CertificateParams::new(["bellwether-hub".to_owned()]).expect("is a name");
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().expect("makes a key");
        let leaf = params.signed_by(&key, &self.intermediate).expect("makes a leaf");
        let mut roots = RootCertStore::empty();
        roots.add(self.root.der().clone()).expect("is a root");
        let verifier =
            WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated().build().expect("has a root");
        let chain = vec![leaf.der().clone(), self.intermediate.der().clone(), self.root.der().clone()];
        let key = PrivateKeyDer::try_from(key.serialize_der()).expect("is a key");
        let mut config = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
            .with_client_cert_verifier(verifier)
            .with_single_cert(chain, key)
            .expect("the key fits");
        config.alpn_protocols = vec![b"h2".to_vec()];
        config
    }

    fn sign(&self, csr: &[u8]) -> (Vec<u8>, v1::Certificate) {
        let mut csr = CertificateSigningRequestParams::from_der(&csr.to_vec().into()).expect("is a request");
        csr.params = CertificateParams::default();
        csr.params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let leaf = csr.signed_by(&self.intermediate).expect("makes a leaf");
        let chain = vec![leaf.der().to_vec(), self.intermediate.der().to_vec()];
        let key = rcgen::PublicKeyData::der_bytes(&csr.public_key).to_vec();
        (key, v1::Certificate { chain, roots: vec![self.root.der().to_vec()] })
    }
}

impl Hub {
    pub(crate) async fn start() -> Self {
        let authority = Authority::new();
        let fingerprint = Digest::of(authority.root.der()).to_string().replace("sha256:", "");
        let acceptor = TlsAcceptor::from(Arc::new(authority.server_config()));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("has an address");
        let state = Arc::new(State {
            authority,
            rows: Mutex::default(),
            changed: watch::Sender::new(0),
            cut: watch::Sender::new(0),
        });
        let (connections, incoming) = mpsc::channel(1);
        let service = AgentsServer::new(Service { state: Arc::clone(&state) });
        let mut tasks = JoinSet::new();
        tasks.spawn(accept(listener, acceptor, connections));
        tasks.spawn(async move {
            let server = tonic::transport::Server::builder().add_service(service);
            server.serve_with_incoming(ReceiverStream::new(incoming)).await.expect("serves");
        });
        Self { address, fingerprint, state, _tasks: tasks }
    }

    pub(crate) fn assign(&self, assignment: Assignment, objects: &[Vec<u8>]) {
        let mut rows = self.state.rows();
        rows.objects.extend(objects.iter().map(|body| (Digest::of(body), compression::compress(body))));
        rows.assignments.insert(assignment.target, assignment);
        drop(rows);
        self.state.changed.send_modify(|count| *count += 1);
    }

    /// Asks the agent what would become of a bundle.
    pub(crate) fn ask_dry_run(&self, asked: DryRun) {
        self.state.rows().dry_asked.push(asked);
        self.state.changed.send_modify(|count| *count += 1);
    }

    pub(crate) fn dry_ran(&self, id: Uuid) -> Option<DryRunAnswer> {
        self.state.rows().dry_ran.get(&id).cloned()
    }

    /// As a hub does once a tombstone was carried out.
    pub(crate) fn forget(&self, target: TargetId) {
        self.state.rows().assignments.remove(&target);
    }

    /// Of what is assigned.
    pub(crate) fn listed_root(&self) -> Digest {
        root(listing(&self.state).iter().map(Assignment::listed))
    }

    /// Of what agents held when they came.
    pub(crate) fn roots(&self) -> Vec<Digest> {
        self.state.rows().roots.clone()
    }

    pub(crate) fn lose_answers(&self, count: usize) {
        self.state.rows().losses = count;
    }

    pub(crate) fn enrolled(&self) -> Vec<Vec<u8>> {
        self.state.rows().enrolled.clone()
    }

    /// What the agent has said of its cluster since it came.
    /// Of the definitions that it was told.
    pub(crate) fn definition(&self, digest: Digest) -> Option<Definition> {
        self.state.rows().definitions.get(&digest).cloned()
    }

    pub(crate) fn definition_count(&self) -> usize {
        self.state.rows().definitions.len()
    }

    pub(crate) fn profiles(&self) -> Vec<Profile> {
        self.state.rows().profiles.clone()
    }

    pub(crate) fn facts(&self) -> BTreeMap<String, String> {
        self.state.rows().facts.clone()
    }

    pub(crate) fn sessions(&self) -> i64 {
        self.state.rows().sessions
    }

    pub(crate) fn reports(&self, target: TargetId) -> Vec<Report> {
        self.state.rows().reports.iter().filter(|report| report.target == target).cloned().collect()
    }

    pub(crate) fn drifts(&self) -> Vec<Drift> {
        self.state.rows().drifts.clone()
    }

    pub(crate) fn loaded(&self) -> usize {
        self.state.rows().loaded
    }

    pub(crate) fn go_away(&self) {
        self.state.rows().is_away = true;
        self.cut_sessions();
    }

    pub(crate) fn come_back(&self) {
        self.state.rows().is_away = false;
    }

    /// Whoever was here is not heard any more.
    pub(crate) fn shut_out(&self) {
        let mut rows = self.state.rows();
        let boots = rows.boots.clone();
        rows.shut_out = boots;
        drop(rows);
        self.cut_sessions();
    }

    /// Ends all streams, as a hub that goes away does.
    pub(crate) fn cut_sessions(&self) {
        self.state.cut.send_replace(self.sessions() + 1);
    }
}

impl State {
    fn rows(&self) -> std::sync::MutexGuard<'_, Rows> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    connections: mpsc::Sender<std::io::Result<DuplexStream>>,
) {
    let mut pipes = JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        let (ours, theirs) = tokio::io::duplex(PIPE_BYTES);
        pipes.spawn(pipe(acceptor.clone(), tcp, ours));
        if connections.send(Ok(theirs)).await.is_err() {
            return;
        }
    }
}

async fn pipe(acceptor: TlsAcceptor, tcp: TcpStream, mut plain: DuplexStream) {
    if let Ok(mut tls) = acceptor.accept(tcp).await {
        let _ = tokio::io::copy_bidirectional(&mut tls, &mut plain).await;
    }
}

struct Service {
    state: Arc<State>,
}

type HubStream = Pin<Box<dyn Stream<Item = Result<v1::FromHub, Status>> + Send>>;

#[tonic::async_trait]
impl Agents for Service {
    type SessionStream = HubStream;

    async fn enroll(&self, request: Request<v1::EnrollRequest>) -> Result<Response<v1::Certificate>, Status> {
        let request = request.into_inner();
        if request.token != TOKEN {
            return Err(Status::permission_denied("the token is not known"));
        }
        let (key, certificate) = self.state.authority.sign(&request.csr);
        let mut rows = self.state.rows();
        rows.enrolled.push(key);
        if rows.losses > 0 {
            rows.losses -= 1;
            return Err(Status::unavailable("the answer is lost"));
        }
        Ok(Response::new(certificate))
    }

    async fn renew(&self, _: Request<v1::RenewRequest>) -> Result<Response<v1::Certificate>, Status> {
        Err(Status::unimplemented("nobody renews here"))
    }

    async fn session(&self, request: Request<tonic::Streaming<v1::FromAgent>>) -> Result<Response<HubStream>, Status> {
        if self.state.rows().is_away {
            return Err(Status::unavailable("away"));
        }
        let (sender, receiver) = mpsc::channel(4);
        let state = Arc::clone(&self.state);
        tokio::spawn(async move {
            if let Err(status) = run_stream(&state, request.into_inner(), &sender).await {
                let _ = sender.send(Err(status)).await;
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

async fn run_stream(
    state: &State,
    mut inbound: tonic::Streaming<v1::FromAgent>,
    outbound: &mpsc::Sender<Result<v1::FromHub, Status>>,
) -> Result<(), Status> {
    let number = {
        let mut rows = state.rows();
        rows.sessions += 1;
        rows.sessions
    };
    let mut session = HubSession::new(SessionNumber::new(number), HeartbeatPolicy::default(), Timestamp::now());
    let mut changed = state.changed.subscribe();
    let mut cut = state.cut.subscribe();
    let mut greeted = false;
    loop {
        if let Some(effect) = session.take_effect() {
            if let Effect::Greeted(hello) = &effect {
                let mut rows = state.rows();
                rows.boots.insert(hello.boot);
                if rows.shut_out.contains(&hello.boot) {
                    return Err(Status::unavailable("not heard"));
                }
                greeted = true;
            }
            carry_out(state, &mut session, effect);
            continue;
        }
        // What is taken may bring a new effect: more objects to load.
        if let Some(message) = session.take_outbound(Timestamp::now()) {
            outbound.send(Ok(message.into())).await.map_err(|_| Status::cancelled("the agent is gone"))?;
            continue;
        }
        let wake = session.next_wake().duration_since(Timestamp::now());
        tokio::select! {
            () = tokio::time::sleep(wake.try_into().unwrap_or_default()) => {
                session.handle_tick(Timestamp::now()).map_err(|error| Status::aborted(error.to_string()))?;
            }
            message = inbound.message() => {
                let message = message?.ok_or_else(|| Status::cancelled("the agent is gone"))?;
                let message = agent_message(message).map_err(|error| Status::invalid_argument(error.to_string()))?;
                session.handle(message, Timestamp::now()).map_err(|error| Status::aborted(error.to_string()))?;
            }
            Ok(()) = changed.changed(), if greeted => {
                session.handle_listing(listing(state));
                for asked in std::mem::take(&mut state.rows().dry_asked) {
                    session.ask_dry_run(asked, Timestamp::now());
                }
            }
            Ok(_) = cut.wait_for(|&below| number < below) => return Err(Status::unavailable("going away")),
        }
    }
}

fn carry_out(state: &State, session: &mut HubSession, effect: Effect) {
    match effect {
        Effect::Greeted(hello) => {
            let mut rows = state.rows();
            rows.facts = hello.facts;
            rows.roots.push(hello.root);
            drop(rows);
            session.welcome(if hello.acked.is_some() { Want::Unacked } else { Want::All }, ProfileWanted::Now);
            session.handle_listing(listing(state));
        }
        Effect::Record(sequence, report) => {
            state.rows().reports.push(report);
            session.handle_recorded(sequence);
        }
        Effect::RecordDrift(sequence, drift) => {
            state.rows().drifts.push(drift);
            session.handle_recorded(sequence);
        }
        Effect::Seen(profile) => {
            let mut rows = state.rows();
            let digests = profile.definitions.iter().flat_map(Definitions::digests);
            session.want(digests.filter(|digest| !rows.definitions.contains_key(digest)).collect());
            rows.profiles.push(profile);
        }
        Effect::Define(packed) => {
            let text = compression::decompress(&packed.bytes, DEFINITION_BYTES_MAX).expect("it was packed");
            let text = String::from_utf8(text).expect("is text");
            let definition = Definition::parse(text).expect("is a definition");
            assert_eq!(definition.digest(), packed.digest);
            state.rows().definitions.insert(packed.digest, definition);
        }
        Effect::KeepDryRan(DryRan { id, answer }) => {
            let answer = compression::decompress(&answer, ANSWER_BYTES_MAX).expect("it was packed");
            let answer = serde_json::from_slice(&answer).expect("is an answer");
            state.rows().dry_ran.insert(id, answer);
        }
        Effect::RefuseDryRun(id, why) => {
            state.rows().dry_ran.insert(id, DryRunAnswer::Unanswered(why));
        }
        Effect::CaughtUp => {}
        Effect::LoadBundles(digests) => {
            let rows = state.rows();
            let stored = rows.assignments.values().map(|assignment| &assignment.manifest);
            let named = stored.filter(|manifest| digests.contains(&manifest.digest()));
            let manifests = named.map(|manifest| (manifest.digest(), manifest.clone())).collect();
            drop(rows);
            session.handle_bundles(&manifests);
            session.handle_listing(listing(state));
        }
        Effect::Load(digests) => {
            let mut rows = state.rows();
            rows.loaded += digests.len();
            let bodies: Vec<_> = digests.into_iter().map(|digest| (digest, rows.objects[&digest].clone())).collect();
            drop(rows);
            session.handle_objects(bodies);
        }
    }
}

fn listing(state: &State) -> Vec<Assignment> {
    state.rows().assignments.values().cloned().collect()
}
