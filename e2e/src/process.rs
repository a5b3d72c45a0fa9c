//! Processes: what is to run, started either in the background of a state folder or as a child of a test.
//!
//! A background process has a session of its own and is written down in the state folder the moment it exists, so that
//! whoever comes later can end it. It is only ever signalled after its start time was compared: its number may be
//! another process' by now. A child of a test dies with the thread that started it, however that ends.
//! Neighbours: `controlplane`, `postgres`, `hub` and `agent` say what to run; `environment` and `scene` run it.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

const POLL_EVERY: Duration = Duration::from_millis(20);
/// After SIGKILL a process is gone as soon as the kernel has freed its memory.
const KILL_DEADLINE: Duration = Duration::from_secs(5);
/// Of a log, in a message.
const TAIL_BYTES: u64 = 8_000;

/// What is to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Launch {
    pub name: String,
    pub program: PathBuf,
    pub args: Vec<String>,
    /// Added to the environment.
    pub env: BTreeMap<String, String>,
    /// It runs in this folder.
    pub folder: PathBuf,
    /// Its standard output and error are added to this file.
    pub log: PathBuf,
    pub user: Option<User>,
    pub tier: Tier,
}

/// Whom it runs as, when that is not ourselves.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct User {
    pub uid: u32,
    pub gid: u32,
}

/// What depends on what: a tier is stopped when those after it are gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// What makes something for those that follow, and ends by itself.
    Preparation,
    Etcd,
    Postgres,
    ApiServer,
    Controllers,
    Hub,
    Agents,
}

impl Tier {
    /// How it is asked to stop, and how long it may take before it is killed.
    const fn stopping(self) -> (Signal, Duration) {
        match self {
            // Its connections are cut, in order; without one left that is immediate.
            Self::Postgres => (Signal::SIGINT, Duration::from_secs(5)),
            // A hub stops its own Postgres server; killed, it would leave it behind.
            Self::Hub => (Signal::SIGTERM, Duration::from_secs(20)),
            // An API server waits for its watches, which end by nobody's will.
            Self::ApiServer | Self::Controllers | Self::Etcd | Self::Preparation | Self::Agents => {
                (Signal::SIGTERM, Duration::from_secs(2))
            }
        }
    }
}

impl Launch {
    pub fn new(name: &str, program: impl Into<PathBuf>, tier: Tier, state: &Path) -> Self {
        Self {
            name: name.to_owned(),
            program: program.into(),
            args: Vec::new(),
            env: BTreeMap::new(),
            folder: state.to_owned(),
            log: state.join(format!("{name}.log")),
            user: None,
            tier,
        }
    }

    #[must_use]
    pub fn args<I: IntoIterator<Item: Into<String>>>(mut self, args: I) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    #[must_use]
    pub fn env(mut self, key: &str, value: impl Into<String>) -> Self {
        self.env.insert(key.to_owned(), value.into());
        self
    }

    /// The command, run by another program that becomes it.
    fn command(&self, wrapper: &[&str]) -> Result<Command> {
        if !self.program.is_file() {
            bail!("there is no {}", self.program.display());
        }
        let log = self.open_log()?;
        let mut command = Command::new(wrapper[0]);
        command
            .args(&wrapper[1..])
            .arg(&self.program)
            .args(&self.args)
            .current_dir(&self.folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log);
        // What a shell says to hubs and agents of its own, such as which database, is not for these.
        for (name, _) in std::env::vars_os().filter(|(name, _)| is_setting(&name.to_string_lossy())) {
            command.env_remove(name);
        }
        command.envs(&self.env);
        if let Some(user) = self.user {
            command.uid(user.uid).gid(user.gid);
        }
        Ok(command)
    }

    fn open_log(&self) -> Result<File> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&self.log)
            .with_context(|| format!("cannot open {}", self.log.display()))
    }

    fn log_bytes(&self) -> u64 {
        fs::metadata(&self.log).map_or(0, |metadata| metadata.len())
    }

    /// A child that is killed when it is dropped, and when the thread that starts it ends.
    pub fn start_child(&self) -> Result<Child> {
        // The kernel's own word: a test that is killed runs no destructor.
        let mut command = self.command(&["setpriv", "--pdeathsig", "KILL"])?;
        // Ctrl-C is for the test, which then ends its children.
        command.process_group(0);
        let log_start = self.log_bytes();
        let mut command = tokio::process::Command::from(command);
        let process = command.kill_on_drop(true).spawn().with_context(|| format!("cannot start {}", self.name))?;
        Ok(Child { process, launch: self.clone(), log_start })
    }
}

/// Where Postgres' programs are is the machine's, and the same for all.
fn is_setting(name: &str) -> bool {
    name == "DATABASE_URL" || (name.starts_with("BELLWETHER_") && name != "BELLWETHER_POSTGRES_BIN")
}

/// A process of a test.
#[derive(Debug)]
pub struct Child {
    process: tokio::process::Child,
    launch: Launch,
    log_start: u64,
}

impl Child {
    pub fn is_alive(&mut self) -> bool {
        matches!(self.process.try_wait(), Ok(None))
    }

    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// What it wrote since it was started.
    pub fn log(&self) -> String {
        log_from(&self.launch.log, self.log_start)
    }

    /// Ends it as a crash of its machine would, and waits until it is gone.
    pub async fn kill9(&mut self) -> Result<()> {
        self.process.kill().await.with_context(|| format!("cannot kill {}", self.launch.name))
    }

    /// Asks it to stop, and waits until it is gone.
    pub async fn stop(&mut self) -> Result<()> {
        let (signal, patience) = self.launch.tier.stopping();
        if let Some(id) = self.process.id() {
            // An error means that it ended meanwhile.
            let _ = kill(Pid::from_raw(i32::try_from(id)?), signal);
        }
        if tokio::time::timeout(patience, self.process.wait()).await.is_err() {
            self.kill9().await?;
        }
        Ok(())
    }

    /// Stops it where it is, as a machine does that has no time for it, and waits until it stands.
    pub async fn pause(&self) -> Result<()> {
        self.signal(Signal::SIGSTOP)?;
        let id = self.id().context("it has ended")?;
        let deadline = Instant::now() + KILL_DEADLINE;
        while state_of(id).context("it has ended")? != 'T' {
            if Instant::now() > deadline {
                bail!("{} does not stand", self.launch.name);
            }
            sleep(POLL_EVERY).await;
        }
        Ok(())
    }

    /// Lets it go on after [`Self::pause`].
    pub fn go_on(&self) -> Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let id = self.id().with_context(|| format!("{} has ended", self.launch.name))?;
        Ok(kill(Pid::from_raw(i32::try_from(id)?), signal)?)
    }

    /// Starts it again, as it was started; killed before if it still runs.
    pub async fn restart(&mut self) -> Result<()> {
        if self.is_alive() {
            self.kill9().await?;
        }
        *self = self.launch.start_child()?;
        Ok(())
    }
}

/// The background processes of a state folder.
#[derive(Debug, Clone)]
pub struct ProcessTable {
    folder: PathBuf,
}

/// A background process as it was written down. Number and start time together never come again.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Background {
    pub launch: Launch,
    pub pid: i32,
    started: u64,
    log_start: u64,
}

impl ProcessTable {
    pub fn open(state: &Path) -> Result<Self> {
        let folder = state.join("processes");
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(Self { folder })
    }

    /// Starts it and writes it down. It takes no `await`, so nothing can come between the two but a kill.
    pub fn start(&self, launch: &Launch) -> Result<Background> {
        self.spawn(launch).map(|(background, _)| background)
    }

    /// Runs it to its end, which has to be a good one.
    pub async fn run(&self, launch: &Launch) -> Result<()> {
        let (background, mut child) = self.spawn(launch)?;
        loop {
            if let Some(status) = child.try_wait()? {
                if status.success() {
                    return Ok(());
                }
                bail!("{} failed ({status}):\n{}", launch.name, background.log());
            }
            sleep(POLL_EVERY).await;
        }
    }

    fn spawn(&self, launch: &Launch) -> Result<(Background, std::process::Child)> {
        let log_start = launch.log_bytes();
        let mut child =
            launch.command(&["setsid"])?.spawn().with_context(|| format!("cannot start {}", launch.name))?;
        let pid = i32::try_from(child.id())?;
        let Some(started) = started_at(pid) else {
            bail!("{} ended at once ({}):\n{}", launch.name, child.wait()?, log_from(&launch.log, log_start));
        };
        let background = Background { launch: launch.clone(), pid, started, log_start };
        let path = self.path(&launch.name);
        let unfinished = path.with_extension("new");
        fs::write(&unfinished, serde_json::to_vec_pretty(&background)?)?;
        fs::rename(&unfinished, path)?;
        Ok((background, child))
    }

    pub fn find(&self, name: &str) -> Result<Background> {
        let path = self.path(name);
        let text = fs::read(&path).with_context(|| format!("there is no process `{name}`: no {}", path.display()))?;
        Ok(serde_json::from_slice(&text)?)
    }

    pub fn list(&self) -> Result<Vec<Background>> {
        let mut all = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let background: Background = serde_json::from_slice(&fs::read(&path)?)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                all.push(background);
            }
        }
        Ok(all)
    }

    /// Ends all of them, tier by tier.
    pub async fn stop_all(&self) -> Result<()> {
        let mut tiers: BTreeMap<Tier, Vec<Background>> = BTreeMap::new();
        for background in self.list()? {
            tiers.entry(background.launch.tier).or_default().push(background);
        }
        for tier in tiers.into_values().rev() {
            let ends = futures_util::future::join_all(tier.iter().map(Background::stop)).await;
            ends.into_iter().collect::<Result<Vec<()>>>()?;
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }
}

impl Background {
    pub fn is_alive(&self) -> bool {
        started_at(self.pid) == Some(self.started)
    }

    /// What it wrote since it was started.
    pub fn log(&self) -> String {
        log_from(&self.launch.log, self.log_start)
    }

    pub fn signal(&self, signal: Signal) {
        if self.is_alive() {
            let process = Pid::from_raw(self.pid);
            // With its children, once it leads its group. An error of both means that it ended meanwhile.
            let _ = killpg(process, signal).or_else(|_| kill(process, signal));
        }
    }

    pub async fn stop(&self) -> Result<()> {
        let (signal, patience) = self.launch.tier.stopping();
        for (signal, patience) in [(signal, patience), (Signal::SIGKILL, KILL_DEADLINE)] {
            self.signal(signal);
            if self.ended_within(patience).await {
                return Ok(());
            }
        }
        bail!("{} (process {}) does not end", self.launch.name, self.pid)
    }

    async fn ended_within(&self, patience: Duration) -> bool {
        let deadline = Instant::now() + patience;
        while self.is_alive() {
            if Instant::now() > deadline {
                return false;
            }
            sleep(POLL_EVERY).await;
        }
        true
    }
}

/// Waits until `ready` says so. An end of the process is told with what it wrote.
pub async fn wait_until_ready<T>(
    process: &Background,
    patience: Duration,
    mut ready: impl AsyncFnMut() -> Option<T>,
) -> Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ready().await {
            return Ok(answer);
        }
        if !process.is_alive() {
            bail!("{} ended:\n{}", process.launch.name, process.log());
        }
        if Instant::now() > deadline {
            bail!("{} is not ready after {} s:\n{}", process.launch.name, patience.as_secs(), process.log());
        }
        sleep(POLL_EVERY).await;
    }
}

/// When a process began, in ticks since the machine did; `None` when it is gone, or dead and not yet waited for.
fn started_at(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name is in parentheses and may hold some itself.
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let is_dead = matches!(fields.next()?, "Z" | "X");
    // The state is field 3, the start time field 22.
    let started = fields.nth(18)?.parse().ok()?;
    (!is_dead).then_some(started)
}

/// What it does, as a letter: `T` when it stands.
fn state_of(id: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

fn log_from(path: &Path, start: u64) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(path)?;
        let from = file.metadata()?.len().saturating_sub(TAIL_BYTES).max(start);
        file.seek(SeekFrom::Start(from))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    read().unwrap_or_else(|error| format!("(cannot read {}: {error})", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(state: &Path) -> Launch {
        Launch::new("sleeper", "/bin/sleep", Tier::Agents, state).args(["300"])
    }

    #[tokio::test]
    async fn a_background_process_is_found_again_and_ended() -> Result<()> {
        let state = tempfile::tempdir()?;
        let begun = ProcessTable::open(state.path())?.start(&sleeper(state.path()))?;

        let table = ProcessTable::open(state.path())?;
        let found = table.find("sleeper")?;
        table.stop_all().await?;

        assert_eq!(found.pid, begun.pid);
        assert!(!begun.is_alive());
        Ok(())
    }

    #[tokio::test]
    async fn a_child_that_was_paused_stands_until_it_is_let_go_on() -> Result<()> {
        let state = tempfile::tempdir()?;
        let mut child = sleeper(state.path()).start_child()?;
        let id = child.id().context("it runs")?;

        child.pause().await?;
        assert_eq!(state_of(id), Some('T'));
        assert!(child.is_alive());
        child.go_on()?;

        while state_of(id) == Some('T') {
            sleep(POLL_EVERY).await;
        }
        child.kill9().await
    }

    #[tokio::test]
    async fn a_number_that_went_to_another_process_is_left_alone() -> Result<()> {
        let state = tempfile::tempdir()?;
        let table = ProcessTable::open(state.path())?;
        let ours = table.start(&sleeper(state.path()))?;
        let foreign = Background { started: ours.started + 1, ..ours.clone() };

        foreign.stop().await?;

        assert!(ours.is_alive());
        ours.stop().await
    }

    #[tokio::test]
    async fn a_process_that_ends_is_told_with_what_it_wrote() -> Result<()> {
        let state = tempfile::tempdir()?;
        let launch =
            Launch::new("talker", "/bin/sh", Tier::Agents, state.path()).args(["-c", "sleep 0.2; echo no such luck"]);
        let process = ProcessTable::open(state.path())?.start(&launch)?;

        let refused = wait_until_ready(&process, Duration::from_secs(10), async || None::<()>).await;

        let text = refused.expect_err("it ended").to_string();
        assert!(text.contains("talker ended") && text.contains("no such luck"), "{text}");
        Ok(())
    }
}
