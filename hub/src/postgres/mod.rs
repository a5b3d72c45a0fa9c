//! The private Postgres server, for a hub without `DATABASE_URL`.
//!
//! It lives in the hub's data folder, listens on a unix socket that only its owner reaches, and is a child of the hub:
//! the hub starts it first and stops it last. It makes an empty database and its superuser; roles, schema and data are
//! for `store`. It speaks no SQL of its own.
//!
//! **When the hub is killed**, the server stays, and does no harm: it has no port, and it ends within a minute when its
//! folder is removed. The next hub of that folder stops it and starts its own, instead of taking it over: so the server
//! is always a child whose end is noticed, runs with this hub's settings, and has dropped whatever locks the dead hub
//! held. A fast stop and a start take a third of a second. Two hubs on one folder are told apart from this by a lock on
//! a file, which the kernel drops with the process.

mod data_dir;
mod leftover;
mod programs;

use std::borrow::Cow;
use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use data_dir::DataDir;
use programs::Programs;

/// The database and its owner have one name; the socket's folder decides who may be that owner.
const DATABASE: &str = "bellwether";
/// The role that the hub runs as, which owns nothing.
const RUNNER: &str = "bellwether_hub";
/// Part of the socket's name only: nothing listens on a port.
const PORT: u16 = 5432;
/// Making a cluster takes a second; on a slow disk that syncs every file, a minute.
const CREATE_DEADLINE: Duration = Duration::from_mins(3);
/// A start is 0.2 s. After a crash the server first replays up to 1 GB of its log.
const START_DEADLINE: Duration = Duration::from_mins(3);
const STOP_DEADLINE: Duration = Duration::from_secs(10);
/// For the rougher kinds of stopping, which wait for nobody.
const KILL_DEADLINE: Duration = Duration::from_secs(5);
const POLL_EVERY: Duration = Duration::from_millis(10);

#[derive(Debug, Clone)]
pub(crate) struct ServerSettings {
    /// The hub's data folder; the server's is `postgres` in it.
    pub(crate) data: PathBuf,
    /// `BELLWETHER_POSTGRES_BIN`: the folder of the server's programs, instead of those found on this machine.
    pub(crate) programs: Option<PathBuf>,
    /// Loses data when the machine (not the process) crashes. For tests, which make and throw away many databases.
    pub(crate) unsafe_no_fsync: bool,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum PostgresError {
    #[error("no Postgres server of version {} or later is installed{}", programs::VERSION_MIN, found_note(.found))]
    NotInstalled { found: Vec<String> },
    #[error("{} has no usable Postgres server: {reason}", folder.display())]
    NotUsable { folder: PathBuf, reason: String },
    #[error("the data in {} was made by Postgres {made_by}, and no server of that version is installed", folder.display())]
    OtherVersion { folder: PathBuf, made_by: u32 },
    #[error("Postgres does not run as root, and there is no user `postgres` to run it as")]
    NoUser,
    #[error("the user that runs the hub has no name")]
    NoName,
    #[error("the user `postgres` cannot reach {}", folder.display())]
    OutOfReach { folder: PathBuf },
    #[error("another hub uses {}", folder.display())]
    InUse { folder: PathBuf },
    #[error("{} belongs to somebody else, or is open to others", folder.display())]
    NotOurs { folder: PathBuf },
    #[error("the path of the data folder is not text: {}", path.display())]
    NotText { path: PathBuf },
    #[error("there is no folder for the server's socket whose path is short and without a comma: {}", path.display())]
    PathUnsuited { path: PathBuf },
    #[error("cannot {what} {}", path.display())]
    Folder {
        what: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("cannot run {}", program.display())]
    Run {
        program: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("{} failed: {output}", program.display())]
    Failed { program: PathBuf, output: String },
    #[error("the server that an earlier hub left behind (process {process}) does not stop")]
    LeftoverStays { process: i32 },
    #[error("the private Postgres server ended ({status}); the end of {}:\n{tail}", log.display())]
    Ended { status: ExitStatus, log: PathBuf, tail: String },
    #[error("the private Postgres server is not ready after {} s; the end of {}:\n{tail}", START_DEADLINE.as_secs(), log.display())]
    NotReady { log: PathBuf, tail: String },
    #[error("the private Postgres server (process {process:?}) does not stop")]
    StaysOn {
        process: Option<u32>,
        #[source]
        source: Option<io::Error>,
    },
}

fn found_note(found: &[String]) -> String {
    if found.is_empty() { String::new() } else { format!(" (only {})", found.join(", ")) }
}

impl PostgresError {
    pub(crate) fn hint(&self) -> Option<Cow<'static, str>> {
        let text = match self {
            Self::NotInstalled { .. } | Self::NoUser => Some(
                "run `apt install postgresql` or `brew install postgresql`, or set DATABASE_URL to a server you have",
            ),
            Self::NoName => Some("run it as a user that /etc/passwd knows, or set DATABASE_URL to a server you have"),
            Self::NotUsable { .. } => Some(
                "BELLWETHER_POSTGRES_BIN is a folder with `postgres` and `initdb`, such as /usr/lib/postgresql/15/bin",
            ),
            Self::OtherVersion { .. } => {
                Some("install that version again; to move to a newer one, dump with it and restore into DATABASE_URL")
            }
            Self::OutOfReach { .. } => {
                Some("let others pass through that folder (`chmod o+x`), or choose a data folder elsewhere")
            }
            Self::InUse { .. } => Some("give each hub a data folder of its own, or one DATABASE_URL to all"),
            Self::NotOurs { .. } => Some("remove it, or set TMPDIR to a folder of your own"),
            Self::PathUnsuited { .. } => {
                Some("choose a data folder with a shorter path and no comma in it, or set TMPDIR to such a one")
            }
            _ => None,
        };
        text.map(Cow::Borrowed)
    }
}

/// A running server. Dropped without [`stop`](Self::stop), it is told to stop and not waited for.
#[derive(Debug)]
pub(crate) struct PrivateServer {
    child: Child,
    data_dir: DataDir,
}

impl PrivateServer {
    /// Starts the server of this data folder, which is made when it is not there.
    pub(crate) async fn start(settings: &ServerSettings) -> Result<Self, PostgresError> {
        let data_dir = DataDir::enter(&settings.data)?;
        let programs = Programs::find(settings.programs.as_deref(), data_dir.made_by()?, &data_dir).await?;
        leftover::end(&data_dir).await?;
        if !data_dir.has_cluster() {
            create_cluster(&data_dir, &programs, settings.unsafe_no_fsync).await?;
        }
        data_dir.write_access([DATABASE, RUNNER])?;
        data_dir.rotate_log()?;
        let child = launch(&data_dir, &programs, settings.unsafe_no_fsync)?;
        let mut server = Self { child, data_dir };
        server.wait_until_ready().await?;
        let folder = server.data_dir.folder().display();
        tracing::info!(%folder, version = programs.version, "started a private Postgres server");
        Ok(server)
    }

    /// The database as its owner, for sqlx and for libpq, so that it also works with `psql`.
    pub(crate) fn owner_url(&self) -> String {
        self.url_of(DATABASE)
    }

    /// The database as [`Self::runner`].
    pub(crate) fn url(&self) -> String {
        self.url_of(RUNNER)
    }

    /// The role that the hub is to run as. The access file lets it in; it is for `store` to make.
    pub(crate) const fn runner() -> &'static str {
        RUNNER
    }

    fn url_of(&self, role: &str) -> String {
        let socket = percent_encoded(self.data_dir.socket_folder());
        format!("postgres://{role}@localhost/{DATABASE}?host={socket}")
    }

    /// Waits until the server ends by itself, which it should not.
    pub(crate) async fn ended(&mut self) -> PostgresError {
        match self.child.wait().await {
            Ok(status) => self.end_of(status),
            Err(source) => PostgresError::StaysOn { process: self.child.id(), source: Some(source) },
        }
    }

    /// Ends all its connections, in order, and then the server; less gently when that takes too long.
    pub(crate) async fn stop(mut self) -> Result<(), PostgresError> {
        let gentler_first =
            [(Signal::SIGINT, STOP_DEADLINE), (Signal::SIGQUIT, KILL_DEADLINE), (Signal::SIGKILL, KILL_DEADLINE)];
        for (signal, deadline) in gentler_first {
            self.signal(signal);
            if let Ok(ended) = timeout(deadline, self.child.wait()).await {
                ended.map_err(|source| PostgresError::StaysOn { process: self.child.id(), source: Some(source) })?;
                self.data_dir.leave();
                return Ok(());
            }
            tracing::warn!(%signal, "the private Postgres server does not stop");
        }
        Err(PostgresError::StaysOn { process: self.child.id(), source: None })
    }

    async fn wait_until_ready(&mut self) -> Result<(), PostgresError> {
        let deadline = Instant::now() + START_DEADLINE;
        while Instant::now() < deadline {
            let ended = self.child.try_wait();
            if let Some(status) =
                ended.map_err(|source| PostgresError::StaysOn { process: self.child.id(), source: Some(source) })?
            {
                return Err(self.end_of(status));
            }
            if self.data_dir.is_ready(self.child.id()) {
                return Ok(());
            }
            sleep(POLL_EVERY).await;
        }
        Err(PostgresError::NotReady { log: self.data_dir.log(), tail: self.data_dir.log_tail() })
    }

    fn end_of(&self, status: ExitStatus) -> PostgresError {
        PostgresError::Ended { status, log: self.data_dir.log(), tail: self.data_dir.log_tail() }
    }

    fn signal(&self, signal: Signal) {
        // Without an id the child was waited for, and its number may be another process' by now.
        if let Some(process) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            // An error means that it ended meanwhile, which whoever waits will see.
            let _ = kill(Pid::from_raw(process), signal);
        }
    }
}

impl Drop for PrivateServer {
    fn drop(&mut self) {
        self.signal(Signal::SIGINT);
    }
}

/// Made under another name and renamed when it is complete: a hub killed in the middle starts anew, on an empty one.
async fn create_cluster(data_dir: &DataDir, programs: &Programs, no_fsync: bool) -> Result<(), PostgresError> {
    let unfinished = data_dir.new_cluster()?;
    let mut initdb = data_dir.command(&programs.initdb());
    initdb
        .arg("--pgdata")
        .arg(&unfinished)
        .args(["--encoding=UTF8", "--locale=C", "--no-instructions", "--data-checksums"])
        // What counts is in the files that each start names: see `DataDir::write_access`.
        .args(["--auth-local=reject", "--auth-host=reject"])
        .args(["--username", DATABASE])
        .args(no_fsync.then_some("--no-sync"));
    run(initdb, "").await?;

    // In single-user mode, so that nothing but the server's two programs is needed, and before anybody can connect.
    let mut single = data_dir.command(&programs.postgres());
    single.arg("--single").arg("-D").arg(&unfinished).args(["-c", "exit_on_error=on"]);
    single.args(no_fsync.then_some(["-c", "fsync=off"]).into_iter().flatten()).arg("template1");
    run(single, &format!("create database {DATABASE}\n")).await?;
    data_dir.adopt_cluster(&unfinished)
}

fn launch(data_dir: &DataDir, programs: &Programs, no_fsync: bool) -> Result<Child, PostgresError> {
    let log = data_dir.open_log()?;
    let copy =
        log.try_clone().map_err(|source| PostgresError::Folder { what: "open", path: data_dir.log(), source })?;
    let program = programs.postgres();
    let mut command = data_dir.command(&program);
    command.arg("-D").arg(data_dir.cluster());
    for (name, value) in server_options(data_dir, no_fsync) {
        command.arg("-c").arg(format!("{name}={value}"));
    }
    command
        .stdout(log)
        .stderr(copy)
        // Ctrl-C goes to the whole group, and the hub needs its database until it has stopped.
        .process_group(0)
        .spawn()
        .map_err(|source| PostgresError::Run { program, source })
}

/// Given on the command line, so that a data folder made by an older hub runs with the same.
fn server_options(data_dir: &DataDir, no_fsync: bool) -> Vec<(&'static str, String)> {
    // The option is a list of folders, each of which may be quoted.
    let socket_folder = format!("\"{}\"", data_dir.socket_folder().replace('"', "\"\""));
    let mut options = vec![
        ("listen_addresses", String::new()),
        ("port", PORT.to_string()),
        ("unix_socket_directories", socket_folder),
        ("unix_socket_permissions", "0700".to_owned()),
        ("hba_file", data_dir.access_file().display().to_string()),
        ("ident_file", data_dir.users_file().display().to_string()),
        // The hub's pools take some dozens; the rest is for people with psql and for a second hub in tests.
        ("max_connections", "100".to_owned()),
        ("shared_buffers", "32MB".to_owned()),
        ("synchronous_commit", "on".to_owned()),
        // Our queries are short, and the compiler would cost each connection 20 MB.
        ("jit", "off".to_owned()),
        ("timezone", "UTC".to_owned()),
        ("log_timezone", "UTC".to_owned()),
        ("log_line_prefix", "%m [%p] ".to_owned()),
    ];
    if no_fsync {
        options.extend([("fsync", "off".to_owned()), ("full_page_writes", "off".to_owned())]);
    }
    options
}

/// Runs a program to its end. What it printed is told only when it fails.
async fn run(mut command: Command, input: &str) -> Result<(), PostgresError> {
    let program = PathBuf::from(command.as_std().get_program());
    let failed = |source| PostgresError::Run { program: program.clone(), source };
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    // Whoever ends the hub's whole group must not end this in the middle: it would leave its shared memory behind. It
    // takes a second, and the hub ends after it.
    command.process_group(0);
    let mut child = command.spawn().map_err(failed)?;
    let mut stdin = child.stdin.take().expect("it was piped above");
    // A program that ends without reading tells why with its exit code.
    let _ = stdin.write_all(input.as_bytes()).await;
    drop(stdin);
    let output = timeout(CREATE_DEADLINE, child.wait_with_output())
        .await
        .map_err(|_| PostgresError::Failed { program: program.clone(), output: "it takes too long".to_owned() })?
        .map_err(failed)?;
    if output.status.success() {
        return Ok(());
    }
    let text = [output.stdout, output.stderr].concat();
    Err(PostgresError::Failed { program, output: data_dir::tail_of(&text) })
}

/// For the query of a URL: everything but letters, digits and `/-_.` as `%XX`. (libpq reads `+` as itself.)
fn percent_encoded(text: &str) -> String {
    use std::fmt::Write as _;
    text.bytes().fold(String::new(), |mut encoded, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' => encoded.push(char::from(byte)),
            _ => {
                let _ = write!(encoded, "%{byte:02X}");
            }
        }
        encoded
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;
    use tokio::io::AsyncReadExt as _;
    use tokio::net::UnixStream;

    fn settings(data: &std::path::Path) -> ServerSettings {
        ServerSettings { data: data.to_owned(), programs: None, unsafe_no_fsync: true }
    }

    /// `None` where no server is installed, said loudly: those who only build the hub need none.
    #[allow(clippy::print_stderr)]
    fn unless_missing(started: Result<PrivateServer, PostgresError>) -> Option<PrivateServer> {
        if let Err(error @ (PostgresError::NotInstalled { .. } | PostgresError::NoUser)) = &started {
            eprintln!("SKIPPED, nothing was tested: {error}; {}", error.hint().unwrap_or_default());
            return None;
        }
        Some(started.expect("started"))
    }

    /// What the server says first to somebody who wants into the database: `R` lets in.
    async fn first_answer(data_dir: &DataDir) -> u8 {
        let path = format!("{}/.s.PGSQL.{PORT}", data_dir.socket_folder());
        let mut stream = UnixStream::connect(path).await.expect("connects");
        let parameters = format!("user\0{DATABASE}\0database\0{DATABASE}\0\0");
        let length = u32::try_from(8 + parameters.len()).expect("short");
        let protocol_3 = 3_u32 << 16;
        let hello = [&length.to_be_bytes()[..], &protocol_3.to_be_bytes(), parameters.as_bytes()].concat();
        stream.write_all(&hello).await.expect("written");
        stream.read_u8().await.expect("answered")
    }

    #[tokio::test]
    async fn a_server_starts_stops_and_starts_again_with_what_it_had() {
        let data = tempfile::tempdir().expect("a folder");
        let Some(server) = unless_missing(PrivateServer::start(&settings(data.path())).await) else { return };
        assert_eq!(first_answer(&server.data_dir).await, b'R');
        let urls = [server.owner_url(), server.url()];
        assert!(urls[0].starts_with("postgres://bellwether@localhost/bellwether?host=/"), "{urls:?}");
        assert!(urls[1].starts_with("postgres://bellwether_hub@localhost/bellwether?host=/"), "{urls:?}");
        let second = PrivateServer::start(&settings(data.path())).await;
        assert!(matches!(second, Err(PostgresError::InUse { .. })), "{second:?}");
        let cluster = server.data_dir.cluster();
        assert_eq!(std::fs::metadata(&cluster).expect("there").permissions().mode() & 0o777, 0o700);
        server.stop().await.expect("stopped");
        assert!(!cluster.join("postmaster.pid").exists());

        std::fs::write(cluster.join("mark"), "").expect("written");
        let server = PrivateServer::start(&settings(data.path())).await.expect("started again");

        assert!(server.data_dir.cluster().join("mark").exists());
        server.stop().await.expect("stopped again");
    }

    /// Root's server runs as a user that other programs may run as, too.
    #[tokio::test]
    async fn the_servers_own_user_is_not_let_in_when_the_hub_is_another() {
        let data = tempfile::tempdir().expect("a folder");
        let Some(server) = unless_missing(PrivateServer::start(&settings(data.path())).await) else { return };
        let programs = Programs::find(None, None, &server.data_dir).await.expect("found");
        let psql = programs.initdb().with_file_name("psql");
        if nix::unistd::geteuid().is_root() && psql.exists() {
            let socket = server.data_dir.socket_folder().to_owned();
            let arguments = ["-h", &socket, "-U", DATABASE, "-d", DATABASE, "-c", "select 1"];

            let theirs = server.data_dir.command(&psql).args(arguments).output().await.expect("it runs");
            let ours = Command::new(&psql).args(arguments).output().await.expect("it runs");

            assert!(!theirs.status.success(), "{theirs:?}");
            assert!(ours.status.success(), "{ours:?}");
        }
        server.stop().await.expect("stopped");
    }

    #[tokio::test]
    async fn what_a_killed_hub_left_running_is_stopped_and_replaced() {
        let data = tempfile::tempdir().expect("a folder");
        let Some(server) = unless_missing(PrivateServer::start(&settings(data.path())).await) else { return };
        server.stop().await.expect("stopped");
        let data_dir = DataDir::enter(data.path()).expect("entered");
        data_dir.write_access([DATABASE, RUNNER]).expect("written");
        let programs = Programs::find(None, None, &data_dir).await.expect("found");
        // As a hub does that is killed right afterwards: nobody tells the server to stop, and the lock is gone.
        let mut left = launch(&data_dir, &programs, true).expect("launched");
        let process = left.id();
        while !data_dir.is_ready(process) {
            sleep(POLL_EVERY).await;
        }
        drop(data_dir);

        let server = PrivateServer::start(&settings(data.path())).await.expect("started");

        assert_ne!(server.child.id(), process);
        assert_eq!(first_answer(&server.data_dir).await, b'R');
        let ended = timeout(STOP_DEADLINE, left.wait()).await.expect("in time").expect("waited for");
        assert!(ended.success(), "a fast stop is an orderly one: {ended}");
        server.stop().await.expect("stopped");
    }

    #[tokio::test]
    async fn a_server_that_ends_by_itself_is_noticed() {
        let data = tempfile::tempdir().expect("a folder");
        let Some(mut server) = unless_missing(PrivateServer::start(&settings(data.path())).await) else { return };
        server.signal(Signal::SIGQUIT);

        let error = timeout(STOP_DEADLINE, server.ended()).await.expect("noticed");

        assert!(error.to_string().contains("immediate shutdown"), "{error}");
        drop(server);
        let again = PrivateServer::start(&settings(data.path())).await.expect("recovers");
        again.stop().await.expect("stopped");
    }

    #[tokio::test]
    async fn a_lock_file_with_the_number_of_another_process_keeps_nobody_out() {
        let data = tempfile::tempdir().expect("a folder");
        let Some(server) = unless_missing(PrivateServer::start(&settings(data.path())).await) else { return };
        let lock_file = server.data_dir.cluster().join("postmaster.pid");
        server.stop().await.expect("stopped");
        std::fs::write(lock_file, "1\n").expect("written");

        let server = PrivateServer::start(&settings(data.path())).await.expect("started");

        server.stop().await.expect("stopped");
    }

    #[tokio::test]
    async fn a_folder_without_the_programs_is_named_with_a_hint() {
        let data = tempfile::tempdir().expect("a folder");
        let programs = Some(data.path().to_owned());

        let started = PrivateServer::start(&ServerSettings { programs, ..settings(data.path()) }).await;

        let Err(error) = started else { panic!("started without programs") };
        if !matches!(error, PostgresError::NoUser) {
            assert!(error.to_string().contains("no `initdb`"), "{error}");
        }
        assert!(error.hint().is_some());
    }

    #[test]
    fn a_url_carries_any_path() {
        assert_eq!(percent_encoded("/a b/ü+&"), "/a%20b/%C3%BC%2B%26");
    }
}
