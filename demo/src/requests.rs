//! What an agent asks its API server for, counted from that server's audit log while it grows.
//!
//! The log is written before an answer goes out, so whatever was answered stands in it. A watch counts when it begins, all
//! else when it ends.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use tokio::time::{Instant, sleep};

use crate::ground::{AGENT_USER, now_unix_ns};

/// An agent writes what it learned at most once in five seconds: who has been silent for longer has nothing left to ask.
const QUIET: Duration = Duration::from_secs(6);
const POLL_EVERY: Duration = Duration::from_millis(300);
const WATCH: &str = "watch";

/// What was asked for in a while, by verb and resource.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub(crate) kinds: BTreeMap<String, usize>,
    /// When the API server got the last that is no watch.
    pub(crate) last_unix_ns: Option<u128>,
}

impl Asked {
    /// Without watches.
    pub(crate) fn total(&self) -> usize {
        self.kinds.iter().filter(|(kind, _)| !is_watch(kind)).map(|(_, count)| count).sum()
    }

    pub(crate) fn watches(&self) -> usize {
        self.kinds.iter().filter(|(kind, _)| is_watch(kind)).map(|(_, count)| count).sum()
    }

    fn add(&mut self, other: Self) {
        for (kind, count) in other.kinds {
            *self.kinds.entry(kind).or_default() += count;
        }
        self.last_unix_ns = self.last_unix_ns.max(other.last_unix_ns);
    }

    fn note(&mut self, line: &str) -> Result<()> {
        // Most lines are about others, and reading one takes longer than looking for a name in it.
        if !line.contains(AGENT_USER) {
            return Ok(());
        }
        let event: Event = serde_json::from_str(line).context("a line of the audit log cannot be read")?;
        let is_watch = event.verb == WATCH;
        let counts = if is_watch { event.stage == "ResponseStarted" } else { event.stage != "ResponseStarted" };
        if event.user.username != AGENT_USER || !counts {
            return Ok(());
        }
        let received: jiff::Timestamp = event.request_received_timestamp.parse()?;
        *self.kinds.entry(event.kind()).or_default() += 1;
        if !is_watch {
            self.last_unix_ns = self.last_unix_ns.max(Some(u128::try_from(received.as_nanosecond())?));
        }
        Ok(())
    }
}

fn is_watch(kind: &str) -> bool {
    kind.starts_with(WATCH)
}

/// As the API server writes it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    stage: String,
    verb: String,
    user: User,
    #[serde(rename = "requestURI")]
    uri: String,
    object_ref: Option<ObjectRef>,
    request_received_timestamp: String,
}

#[derive(Debug, Deserialize)]
struct User {
    username: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ObjectRef {
    resource: String,
}

impl Event {
    fn kind(&self) -> String {
        let path = self.uri.split('?').next().unwrap_or_default();
        let resource = self.object_ref.as_ref().map_or(path, |object| &object.resource);
        format!("{} {resource}", self.verb)
    }
}

/// A log that is being written.
#[derive(Debug)]
pub(crate) struct Requests {
    path: PathBuf,
    file: File,
    rest: String,
}

impl Requests {
    pub(crate) fn of(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { path: path.to_owned(), file, rest: String::new() })
    }

    /// What was asked for since the last time.
    pub(crate) fn take(&mut self) -> Result<Asked> {
        let mut asked = Asked::default();
        loop {
            // At 100 MB the server puts the log aside and begins another: what is in the old one is read to its end first.
            let ours = self.file.metadata()?.ino();
            let is_put_aside = fs::metadata(&self.path).is_ok_and(|found| found.ino() != ours);
            self.file.read_to_string(&mut self.rest)?;
            if let Some(end) = self.rest.rfind('\n') {
                let rest = self.rest.split_off(end + 1);
                for line in std::mem::replace(&mut self.rest, rest).lines() {
                    asked.note(line)?;
                }
            }
            if !is_put_aside {
                return Ok(asked);
            }
            *self = Self::of(&self.path)?;
        }
    }

    /// The same, once nothing was asked for a while.
    pub(crate) async fn take_when_quiet(&mut self, patience: Duration) -> Result<Asked> {
        let deadline = Instant::now() + patience;
        let mut asked = Asked::default();
        let begun = now_unix_ns()?;
        loop {
            asked.add(self.take()?);
            let last = asked.last_unix_ns.unwrap_or(begun).max(begun);
            if now_unix_ns()? > last + QUIET.as_nanos() {
                return Ok(asked);
            }
            ensure!(Instant::now() < deadline, "the agent goes on asking its API server: {:?}", asked.kinds);
            sleep(POLL_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn line(user: &str, stage: &str, verb: &str) -> String {
        format!(
            r#"{{"stage":"{stage}","verb":"{verb}","user":{{"username":"{user}"}},"requestURI":"/api/v1/configmaps?x=1","objectRef":{{"resource":"configmaps"}},"requestReceivedTimestamp":"2026-11-29T00:00:00.000001Z"}}"#
        ) + "\n"
    }

    #[test]
    fn a_request_counts_once_in_whichever_log_it_stands_and_a_watch_when_it_begins() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("audit.log");
        let mut log = File::create(&path)?;
        let mut requests = Requests::of(&path)?;

        write!(log, "{}", line(AGENT_USER, "ResponseStarted", "get"))?;
        write!(log, "{}{}", line(AGENT_USER, "ResponseComplete", "get"), line("admin", "ResponseComplete", "get"))?;
        let first = requests.take()?;
        write!(log, "{}", line(AGENT_USER, "ResponseComplete", "patch"))?;
        fs::rename(&path, folder.path().join("audit-old.log"))?;
        let watch = line(AGENT_USER, "ResponseStarted", WATCH) + &line(AGENT_USER, "ResponseComplete", WATCH);
        fs::write(&path, watch + r#"{"stage":"#)?;
        let second = requests.take()?;

        assert_eq!(first.kinds, BTreeMap::from([("get configmaps".to_owned(), 1)]));
        assert_eq!((second.total(), second.watches(), second.kinds.len()), (1, 1, 2));
        assert!(second.last_unix_ns.is_some());
        Ok(())
    }
}
