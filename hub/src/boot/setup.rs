//! Everything that has to be there before a hub can serve: its database, its keys, its ports, its first token.

use std::borrow::Cow;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use bellwether_core::ProjectId;
use bellwether_core::access::Role;
use jiff::SignedDuration;
use secrecy::ExposeSecret as _;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::Hub;
use crate::access::token::{self, NewToken};
use crate::bundle::told::ToldRenders;
use crate::http::hooks::BODIES_KEPT;
use crate::http::readiness::Readiness;
use crate::http::reads::Reads;
use crate::link::{self, sessions::Sessions};
use crate::pki::ca::{Authority, CaError, StoredKey};
use crate::pki::pem;
use crate::pki::seal::{Seal, SealError, SealKey};
use crate::pki::trust::{Trust, TrustError};
use crate::postgres::{PostgresError, PrivateServer, ServerSettings};
use crate::process::clock;
use crate::process::config::Config;
use crate::process::files::write_private;
use crate::process::metrics::Metrics;
use crate::process::rate::{Buckets, Rate};
use crate::process::rate_limiter::RateLimiter;
use crate::process::turns::Turns;
use crate::record::queue::{self, Incoming};
use crate::source::github::AppTokens;
use crate::source::mirrors::Mirrors;
use crate::store::content::Content;
use crate::store::projects::{self, Project};
use crate::store::{self, Pool, StoreError};
use crate::work::actors;
use crate::work::change::Change;
use crate::work::signals::Signals;
use crate::worker::heartbeat::promise::Heartbeat;

/// Who the first token is for.
const ADMIN: &str = "admin";
/// Of one address. Agents that hold a good token are never counted; who guesses 256 bits needs more tries than this.
const JOIN_TRIES: Rate = Rate { at_once: 20, every: SignedDuration::from_secs(6) };
/// A first failure, a recovery and the next at once; then one each minute.
const TURNS: Rate = Rate { at_once: 5, every: SignedDuration::from_secs(60) };
/// An honest agent renews twice in a certificate's life; it may lose some answers.
const RENEWALS_AT_ONCE: i32 = 5;
const RENEWALS_PER_LIFE: i32 = 20;
/// Of one cluster, by its join tokens: an agent that loses the answer comes again.
const ENROLMENTS: Rate = Rate { at_once: 5, every: SignedDuration::from_secs(60) };
/// More than people and programs use at a time.
const KNOWN_TOKENS_MAX: usize = 1_000;
/// Most of the API's pool (joins have the stages'), each for a moment: whoever is known asks beside them.
const STRANGERS_AT_ONCE: usize = 6;
/// However many one network sends, others are next but one.
const STRANGERS_OF_ONE_NETWORK: usize = 2;

#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("a setting cannot be used: {0}")]
    Setting(String),
    #[error("cannot use {}", path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("cannot listen on {address}")]
    Listen { address: String, source: io::Error },
    #[error("the private Postgres does not run")]
    Postgres(#[source] Box<dyn std::error::Error + Send + Sync>, Option<Cow<'static, str>>),
    #[error("the database cannot be used")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("the seal key cannot be used")]
    Seal(#[source] Box<dyn std::error::Error + Send + Sync>, Option<Cow<'static, str>>),
    #[error("the hub's own authority cannot be used")]
    Authority(#[source] Box<dyn std::error::Error + Send + Sync>),
    #[error("a part of the hub ended by itself: {0}")]
    PartEnded(&'static str),
}

impl SetupError {
    pub(crate) fn hint(&self) -> Option<Cow<'static, str>> {
        let text = match self {
            Self::Postgres(_, hint) | Self::Seal(_, hint) => return hint.clone(),
            Self::Store(_) => "check DATABASE_URL, and that the server is Postgres 15 or later",
            Self::Listen { .. } => "is another hub running? choose another port with --listen-api, --listen-agents",
            Self::Folder { .. } => "choose another folder with --data",
            _ => return None,
        };
        Some(Cow::Borrowed(text))
    }
}

impl From<PostgresError> for SetupError {
    fn from(error: PostgresError) -> Self {
        let hint = error.hint();
        Self::Postgres(Box::new(error), hint)
    }
}

impl From<StoreError> for SetupError {
    fn from(error: StoreError) -> Self {
        Self::Store(Box::new(error))
    }
}

impl From<SealError> for SetupError {
    fn from(error: SealError) -> Self {
        let hint = error.hint();
        Self::Seal(Box::new(error), hint)
    }
}

impl From<CaError> for SetupError {
    fn from(error: CaError) -> Self {
        Self::Authority(Box::new(error))
    }
}

impl From<TrustError> for SetupError {
    fn from(error: TrustError) -> Self {
        Self::Authority(Box::new(error))
    }
}

/// Says on standard error why the hub does not run, and what to do.
pub(crate) fn say_failure(error: &dyn std::error::Error, hint: Option<&str>) -> ExitCode {
    use io::Write as _;
    let mut out = io::stderr().lock();
    let _ = writeln!(out, "error: {}", crate::chain(error));
    if let Some(hint) = hint {
        let _ = writeln!(out, "hint: {hint}");
    }
    ExitCode::FAILURE
}

pub(crate) struct Listeners {
    pub(crate) api: TcpListener,
    pub(crate) agents: TcpListener,
}

type Built = (Arc<Hub>, Listeners, mpsc::Receiver<Incoming>, Option<PrivateServer>);

#[expect(clippy::too_many_lines, reason = "half of it is the list of the parts of a hub")]
pub(crate) async fn build(config: Config) -> Result<Built, SetupError> {
    config.check().map_err(SetupError::Setting)?;
    make_folder(&config.data)?;
    let seal = load_seal(&config)?;
    tracing::info!(key = %seal.key_id(), "loaded the seal key");
    let (database, server) = find_database(&config).await?;
    let owner = own_database(&database).await?;
    let pool = store::connect(&database.url).await?;

    let signals = Signals::default();
    let id = new_hub_id(&pool).await?;
    let vital = store::connect_vital(&database.url).await?;
    let requests = store::connect_requests(&database.url).await?;
    let (installation, project) = ensure_installation(&pool).await?;
    let authority = load_authority(&pool, &seal, installation).await?;
    ensure_admin_token(&pool, &signals, &config.data).await?;
    if let Err(error) = store::audit::ensure_partitions(&owner, clock::now()).await {
        // Entries have a place without it, and the sweep tries again.
        tracing::warn!(error = %crate::chain(&error), "could not make this month's part of the audit log");
    }

    let listeners = Listeners { api: listen(config.listen_api).await?, agents: listen(config.listen_agents).await? };
    let trust = Trust::new(&authority, &config.names)?;
    let agents_address = agents_address(&config, &listeners);
    announce(&config.data, &authority, &listeners, &agents_address)?;

    let (report_queue, reports) = mpsc::channel(queue::BATCH_MAX);
    let heartbeat = Heartbeat::new(config.heartbeat(), config.grace());
    let mut db = vital.acquire().await.map_err(StoreError::from)?;
    store::installation::mark_hub_heartbeat(&mut db, id, heartbeat.promise()).await?;
    drop(db);
    let engines = config.engines();
    if engines.program().is_none() {
        tracing::warn!("no bellwether-render-engine: targets of Kustomize and Helm do not render");
    }
    let hub = Hub {
        id,
        installation,
        project,
        pool,
        owner,
        requests,
        vital,
        signals,
        seal,
        authority,
        trust,
        mirrors: Arc::new(open_mirrors(&config)?),
        engines,
        content: Content::default(),
        sessions: Sessions::default(),
        arrivals: link::arrivals::Arrivals::default(),
        report_queue,
        metrics: Metrics::default(),
        forged_webhooks: RateLimiter::default(),
        app_tokens: AppTokens::default(),
        webhook_bodies: tokio::sync::Semaphore::new(BODIES_KEPT),
        refused_enrolments: RateLimiter::default(),
        dropped_events: RateLimiter::default(),
        foreign_reports: RateLimiter::default(),
        join_tries: Buckets::new(JOIN_TRIES),
        told_renders: ToldRenders::new(),
        began_to_fail: Buckets::new(TURNS),
        suspensions: Buckets::new(TURNS),
        enrolments: Buckets::new(ENROLMENTS),
        calls: Buckets::new(link::CALLS),
        messages: Buckets::new(link::SAID),
        renewals: Buckets::new(Rate {
            at_once: RENEWALS_AT_ONCE,
            every: SignedDuration::try_from(config.certificate_lifetime()).unwrap_or(SignedDuration::MAX)
                / RENEWALS_PER_LIFE,
        }),
        stream_turns: tokio::sync::Semaphore::new(store::STREAM_TURNS_MAX),
        strangers: Turns::new(STRANGERS_AT_ONCE, STRANGERS_OF_ONE_NETWORK),
        known_tokens: quick_cache::sync::Cache::new(KNOWN_TOKENS_MAX),
        readiness: Readiness::default(),
        reads: Reads::default(),
        tasks: TaskTracker::new(),
        heartbeat,
        agents_address,
        config,
    };
    Ok((Arc::new(hub), listeners, reports, server))
}

fn make_folder(path: &Path) -> Result<(), SetupError> {
    let failed = |source| SetupError::Folder { path: path.to_owned(), source };
    let is_new = !path.exists();
    std::fs::create_dir_all(path).map_err(failed)?;
    if is_new {
        // Another user's private Postgres has to pass through; what is in it is each closed by itself.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o711)).map_err(failed)?;
    }
    Ok(())
}

fn open_mirrors(config: &Config) -> Result<Mirrors, SetupError> {
    let path = config.data.join("repos");
    let opened = Mirrors::open(path.clone(), config.fetch_bounds(), config.mirrors_bytes_max());
    opened.map_err(|source| SetupError::Folder { path, source })
}

fn load_seal(config: &Config) -> Result<Seal, SealError> {
    match (&config.seal_key_file, &config.seal_key) {
        (Some(file), _) => Seal::load(&SealKey::File(file.clone())),
        (None, Some(value)) => Seal::load(&SealKey::Value(value.clone())),
        (None, None) => Seal::load_or_create(&config.data.join("seal-key")),
    }
}

/// Where the database is, for each of its two roles.
struct Database {
    /// For all that the hub does while it runs.
    url: String,
    /// For migrations, rights and the audit log's months; `None`: the first role has to do.
    owner_url: Option<String>,
    /// The first role's name, when it is for the owner to make.
    runner: Option<&'static str>,
}

async fn find_database(config: &Config) -> Result<(Database, Option<PrivateServer>), SetupError> {
    if let Some(url) = config.database_url.clone() {
        return Ok((Database { url, owner_url: config.database_admin_url.clone(), runner: None }, None));
    }
    let settings = ServerSettings {
        data: config.data.clone(),
        programs: config.postgres_bin.clone(),
        unsafe_no_fsync: config.unsafe_no_fsync,
    };
    tracing::info!("no DATABASE_URL: starting a private Postgres in {}", config.data.join("postgres").display());
    let server = PrivateServer::start(&settings).await?;
    let (url, owner_url) = (server.url(), Some(server.owner_url()));
    Ok((Database { url, owner_url, runner: Some(PrivateServer::runner()) }, Some(server)))
}

/// Brings the schema up to date, as its owner, and gives the role that the hub runs as what it needs, and no more.
async fn own_database(database: &Database) -> Result<Pool, StoreError> {
    let owner = store::connect_owner(database.owner_url.as_ref().unwrap_or(&database.url)).await?;
    store::migrate(&owner).await?;
    if let Some(role) = database.runner {
        store::roles::ensure(&owner, role).await?;
    }
    if database.owner_url.is_some() {
        let runner = store::roles::find_name(&database.url).await?;
        store::roles::grant(&owner, &runner).await?;
        if store::roles::is_owner(&owner, &runner).await? {
            tracing::warn!(role = runner, "the role of DATABASE_URL owns the tables too: it may rewrite the audit log");
        }
    } else {
        tracing::warn!("no DATABASE_ADMIN_URL: the hub's one role of the database may rewrite the audit log");
    }
    Ok(owner)
}

/// After all that was rendered before: so a hub tells what was made before it began.
async fn new_hub_id(pool: &Pool) -> Result<Uuid, SetupError> {
    let mut db = pool.acquire().await.map_err(StoreError::from)?;
    Ok(clock::new_id_after(store::renders::find_newest_of_all(&mut db).await?))
}

async fn ensure_installation(pool: &Pool) -> Result<(Uuid, Project), SetupError> {
    let now = clock::now();
    let mut db = store::begin(pool).await?;
    let installation = store::installation::ensure(&mut db, clock::new_id(), now).await?;
    let name = projects::DEFAULT.parse().expect("`default` is a name");
    let project = projects::ensure(&mut db, ProjectId::new(clock::new_id()), name, now).await?;
    db.commit().await.map_err(StoreError::from)?;
    Ok((installation, project))
}

/// The installation's authority: made by its first hub, restored by all others.
async fn load_authority(pool: &Pool, seal: &Seal, installation: Uuid) -> Result<Authority, SetupError> {
    let now = clock::now();
    let mut db = store::begin(pool).await?;
    let stored = store::keys::lock_all(&mut db).await?;
    if !stored.is_empty() {
        let keys = stored.iter().map(|key| open_key(seal, key)).collect::<Result<Vec<_>, _>>()?;
        return Ok(Authority::restore(&keys)?);
    }
    let (authority, keys) = Authority::create(now, installation)?;
    for key in keys {
        let sealed = seal.seal(&purpose(key.name), key.private_key.expose_secret());
        let row = store::keys::SealedKey { name: key.name.to_owned(), certificate: Some(key.certificate), sealed };
        store::keys::insert(&mut db, &row, now).await?;
    }
    db.commit().await.map_err(StoreError::from)?;
    Ok(authority)
}

fn purpose(key: &str) -> String {
    format!("key/{key}")
}

fn open_key(seal: &Seal, stored: &store::keys::SealedKey) -> Result<StoredKey, SetupError> {
    let name = match stored.name.as_str() {
        "root" => "root",
        "intermediate" => "intermediate",
        _ => return Err(StoreError::Unreadable { table: "keys", column: "name" }.into()),
    };
    let private_key = seal.open(&purpose(name), &stored.sealed)?;
    let certificate = stored.certificate.clone().unwrap_or_default();
    Ok(StoredKey { name, certificate, private_key })
}

/// The first start writes a token that may do everything into a file that only its owner can read.
async fn ensure_admin_token(pool: &Pool, signals: &Signals, data: &Path) -> Result<(), SetupError> {
    let mut change = Change::begin(pool, signals).await?;
    if store::tokens::count(&mut change).await? > 0 {
        return Ok(());
    }
    let name = ADMIN.parse().expect("`admin` is a name");
    let new = NewToken { name, role: Role::Admin, created_by: None, expires_at: None };
    let secret = match token::create(&mut change, new, actors::hub()).await {
        Ok((_, secret)) => secret,
        // Another hub was first.
        Err(StoreError::NameTaken) => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    let path = data.join("admin-token");
    write_private(&path, secret.expose_secret()).map_err(|source| SetupError::Folder { path: path.clone(), source })?;
    change.commit().await?;
    tracing::info!("wrote the first admin token to {}", path.display());
    Ok(())
}

async fn listen(address: std::net::SocketAddr) -> Result<TcpListener, SetupError> {
    TcpListener::bind(address).await.map_err(|source| SetupError::Listen { address: address.to_string(), source })
}

fn agents_address(config: &Config, listeners: &Listeners) -> String {
    let listened =
        || listeners.agents.local_addr().map_or_else(|_| config.listen_agents.to_string(), |at| at.to_string());
    config.public_agents_address.clone().unwrap_or_else(listened)
}

/// Writes where the hub is and whom to trust, for scripts on this machine.
fn announce(data: &Path, authority: &Authority, listeners: &Listeners, agents: &str) -> Result<(), SetupError> {
    let failed = |path: &Path, source| SetupError::Folder { path: path.to_owned(), source };
    let ca = data.join("ca.pem");
    std::fs::write(&ca, pem::certificates(&authority.roots())).map_err(|source| failed(&ca, source))?;
    let api = listeners.api.local_addr().map_err(|source| failed(data, source))?;
    let endpoints = serde_json::json!({
        "api": format!("https://{api}"),
        "agents": agents,
        "caFingerprint": authority.fingerprint(),
    });
    let path = data.join("endpoints.json");
    let unfinished = data.join("endpoints.json.new");
    std::fs::write(&unfinished, endpoints.to_string()).map_err(|source| failed(&unfinished, source))?;
    // Whoever waits for the file finds it whole.
    std::fs::rename(&unfinished, &path).map_err(|source| failed(&path, source))?;
    tracing::info!(api = %format!("https://{api}"), agents, "the hub listens");
    Ok(())
}
