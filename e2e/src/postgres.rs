//! A Postgres server for tests, from the programs that the system has.
//!
//! One for a whole run; each test makes a database of its own in it. It listens on a unix socket, which only its owner
//! (and root) reaches and which asks for no password, and on loopback with one. Its folder is `postgres` in the state
//! folder; as root it runs as the user `postgres`, because it refuses root.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::sys::signal::Signal;
use sqlx::{AssertSqlSafe, Connection as _, PgConnection};
use tokio::process::Command;
use url::Url;
use uuid::Uuid;

use crate::options::Durability;
use crate::pki::write_private;
use crate::ports;
use crate::process::{Background, Launch, ProcessTable, Tier, User, wait_until_ready};

const SUPERUSER: &str = "bellwether";
/// Whom hubs run as: it owns nothing. Each server has it, once a database was made there.
const RUNNER: &str = "bellwether_runner";
/// The database that is always there, for making others.
const MAINTENANCE: &str = "postgres";
const START_DEADLINE: Duration = Duration::from_mins(1);
/// The kernel's bound for the path of a socket, without the zero at its end.
const SOCKET_BYTES_MAX: usize = 107;

/// A running server.
#[derive(Debug)]
pub struct Postgres {
    /// Of the maintenance database, by the socket.
    pub url: Url,
    /// The same by loopback, for a proxy to stand in between.
    pub tcp_url: Url,
    table: ProcessTable,
    process: Background,
}

impl Postgres {
    pub async fn start(state: &Path, table: &ProcessTable, durability: Durability) -> Result<Self> {
        Self::start_named("postgres", state, table, durability).await
    }

    /// The same, under another name in the table, beside others.
    pub async fn start_named(name: &str, state: &Path, table: &ProcessTable, durability: Durability) -> Result<Self> {
        let server = Server { name, state, bin: find_programs()?, user: user()? };
        let folder = make_folder(state, server.user)?;
        let password = Uuid::new_v4().simple().to_string();
        server.initialize(table, &password).await?;

        let mut refusal = String::new();
        for _ in 0..ports::STARTS {
            let port = ports::free()?;
            let url = socket_url(&folder, port)?;
            let process = table.start(&server.launch(durability, port))?;
            let ready = async || is_reachable(&url).await.then_some(());
            match wait_until_ready(&process, START_DEADLINE, ready).await {
                Ok(()) => {
                    let tcp_url =
                        format!("postgres://{SUPERUSER}:{password}@127.0.0.1:{port}/{MAINTENANCE}").parse()?;
                    return Ok(Self { url, tcp_url, table: table.clone(), process });
                }
                Err(error) if ports::was_taken(&error.to_string()) => refusal = error.to_string(),
                Err(error) => return Err(error),
            }
        }
        bail!("{refusal}")
    }

    /// Makes an empty database, and answers its URL.
    pub async fn create_database(&self, name: &str) -> Result<Url> {
        create_database(&self.url, name).await
    }

    /// As a crash: connections are cut, and what was not committed is gone.
    pub async fn stop_immediately(&self) -> Result<()> {
        self.process.signal(Signal::SIGQUIT);
        self.process.stop().await
    }

    /// Starts it again on its port, and waits until it answers. Does nothing when it runs.
    pub async fn start_again(&mut self) -> Result<()> {
        if !self.process.is_alive() {
            self.process = self.table.start(&self.process.launch)?;
        }
        wait_until_ready(&self.process, START_DEADLINE, async || is_reachable(&self.url).await.then_some(())).await
    }
}

/// Makes an empty database on the server of this URL, and answers its URL.
pub async fn create_database(server: &Url, name: &str) -> Result<Url> {
    run(server, &format!("create database {}", quoted(name)?)).await?;
    run(server, &make_runner()).await?;
    let mut url = server.clone();
    url.set_path(name);
    Ok(url)
}

/// The same database by the socket, as [`RUNNER`].
pub fn as_runner(database: &Url) -> Result<Url> {
    let mut url = database.clone();
    url.set_username(RUNNER).map_err(|()| anyhow!("{database} cannot have a user"))?;
    Ok(url)
}

/// Tests run side by side: another may have made it this very moment.
fn make_runner() -> String {
    format!(
        "do $$ begin create role {RUNNER} login; exception when duplicate_object or unique_violation then null; end $$"
    )
}

/// Drops a database, whoever is still connected to it.
pub async fn drop_database(server: &Url, name: &str) -> Result<()> {
    run(server, &format!("drop database if exists {} with (force)", quoted(name)?)).await.map(|_| ())
}

/// Answers how many rows it changed.
pub async fn run(server: &Url, statement: &str) -> Result<u64> {
    let mut connection = PgConnection::connect(server.as_str()).await?;
    let done = sqlx::raw_sql(AssertSqlSafe(statement)).execute(&mut connection).await;
    let rows = done.with_context(|| statement.to_owned())?.rows_affected();
    connection.close().await?;
    Ok(rows)
}

/// A transaction that holds what it has locked. It ends when this is dropped, and changes nothing.
#[derive(Debug)]
pub struct Locks(PgConnection);

impl Locks {
    pub(crate) async fn hold(database: &Url, statement: &str) -> Result<Self> {
        let mut connection = PgConnection::connect(database.as_str()).await?;
        let text = format!("begin; {statement}");
        sqlx::raw_sql(AssertSqlSafe(text)).execute(&mut connection).await.context("it cannot be locked")?;
        Ok(Self(connection))
    }

    pub async fn release(self) -> Result<()> {
        Ok(self.0.close().await?)
    }
}

/// The rows of a database, table by table, as `pg_dump` writes them.
pub async fn dump(database: &Url) -> Result<String> {
    let program = find_programs()?.join("pg_dump");
    let output = Command::new(program).args(["--data-only", "--dbname", database.as_str()]).output().await?;
    ensure!(output.status.success(), "pg_dump failed:\n{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn quoted(name: &str) -> Result<String> {
    let may_stand = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
    if name.is_empty() || !name.bytes().all(may_stand) {
        bail!("`{name}` is no name for a database of ours");
    }
    Ok(format!("\"{name}\""))
}

async fn is_reachable(url: &Url) -> bool {
    match PgConnection::connect(url.as_str()).await {
        Ok(connection) => connection.close().await.is_ok(),
        Err(_) => false,
    }
}

/// The newest of Debian's, else what is on the path.
fn find_programs() -> Result<PathBuf> {
    if let Some(folder) = std::env::var_os("BELLWETHER_POSTGRES_BIN") {
        return Ok(folder.into());
    }
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = versions
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin"))))
        .filter(|(_, bin)| bin.join("initdb").is_file())
        .max();
    let on_path = || {
        let path = std::env::var_os("PATH")?;
        std::env::split_paths(&path).find(|folder| folder.join("initdb").is_file())
    };
    newest.map(|(_, bin)| bin).or_else(on_path).context("no Postgres server is installed; run `./dev deps`")
}

/// `None` when we may run it ourselves.
fn user() -> Result<Option<User>> {
    if !nix::unistd::Uid::effective().is_root() {
        return Ok(None);
    }
    let user = nix::unistd::User::from_name("postgres")?
        .context("Postgres does not run as root, and there is no user `postgres` to run it as")?;
    Ok(Some(User { uid: user.uid.as_raw(), gid: user.gid.as_raw() }))
}

fn make_folder(state: &Path, user: Option<User>) -> Result<PathBuf> {
    let folder = state.join("postgres");
    fs::create_dir_all(&folder)?;
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
    if let Some(user) = user {
        chown(&folder, Some(user.uid), Some(user.gid))?;
    }
    Ok(folder)
}

/// What it is started from.
struct Server<'a> {
    /// Of its process and its log.
    name: &'a str,
    state: &'a Path,
    bin: PathBuf,
    user: Option<User>,
}

impl Server<'_> {
    /// In the background as all else, so that whoever ends a half-made environment ends this too.
    async fn initialize(&self, table: &ProcessTable, password: &str) -> Result<()> {
        let Self { name, state, bin, user } = self;
        let folder = state.join("postgres");
        let password_file = folder.join("password");
        write_private(&password_file, password)?;
        if let Some(user) = user {
            chown(&password_file, Some(user.uid), Some(user.gid))?;
        }
        let mut launch = Launch::new(&format!("{name}-initdb"), bin.join("initdb"), Tier::Preparation, state)
            .args([
                format!("--pgdata={}", folder.join("data").display()),
                format!("--pwfile={}", password_file.display()),
            ])
            .args([format!("--username={SUPERUSER}")])
            .args(["--auth-local=trust", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C"])
            // The server syncs what it writes; before its first start nothing is worth it.
            .args(["--no-sync", "--no-instructions"]);
        launch.folder.clone_from(&folder);
        launch.user = *user;
        table.run(&launch).await?;
        fs::remove_file(&password_file)?;
        Ok(())
    }

    fn launch(&self, durability: Durability, port: u16) -> Launch {
        let Self { name, state, bin, user } = self;
        let folder = state.join("postgres");
        let mut options = vec![
            format!("port={port}"),
            format!("unix_socket_directories={}", folder.display()),
            "listen_addresses=127.0.0.1".to_owned(),
            "unix_socket_permissions=0700".to_owned(),
            // Eight tests at once, with a hub or two each, of some dozen connections.
            "max_connections=300".to_owned(),
            // Our queries are short, and the compiler would cost each connection 20 MB.
            "jit=off".to_owned(),
            // In its folder, which is removed: what stands in /dev/shm outlives a server that is killed.
            "dynamic_shared_memory_type=mmap".to_owned(),
            "timezone=UTC".to_owned(),
        ];
        if durability == Durability::ForTests {
            options.extend(["fsync=off", "full_page_writes=off", "synchronous_commit=off"].map(str::to_owned));
        }
        let mut launch = Launch::new(name, bin.join("postgres"), Tier::Postgres, state)
            .args(["-D".to_owned(), folder.join("data").display().to_string()])
            .args(options.into_iter().flat_map(|option| ["-c".to_owned(), option]));
        launch.folder = folder;
        launch.user = *user;
        launch
    }
}

fn socket_url(folder: &Path, port: u16) -> Result<Url> {
    let socket = folder.join(format!(".s.PGSQL.{port}"));
    if socket.as_os_str().len() > SOCKET_BYTES_MAX {
        bail!("the path of a socket may not be as long as {}; set BELLWETHER_STATE to a shorter one", socket.display());
    }
    let mut url: Url = format!("postgres://{SUPERUSER}@localhost:{port}/{MAINTENANCE}").parse()?;
    url.query_pairs_mut().append_pair("host", folder.to_str().context("the state folder's path is not text")?);
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_end_its_statement() {
        assert!(quoted("bw_1").is_ok());
        for bad in ["", "a\"b", "a;b", "A"] {
            assert!(quoted(bad).is_err(), "{bad}");
        }
    }
}
