//! Which CustomResourceDefinitions the cluster has, and what of each is told to the hub.
//!
//! One is read at a time, when it is new or changed and when the hub asks for it; what is kept of it is its name, its version
//! and a digest. So the hub learns of a change within seconds, and an agent needs no more memory in a cluster with many.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bellwether_core::Digest;
use bellwether_core::definitions::{DEFINITION_PACKED_BYTES_MAX, Definition, Definitions, is_name};
use bellwether_core::session::{Packed, Profile};
use bellwether_proto::compression;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::backoff::chance;
use crate::executor::kubernetes::client::{Cluster, ClusterError, SeenDefinition as Seen};

/// From the first change to what is told: whoever installs an operator makes dozens in a moment. Fleets that are given a
/// definition at once do not all bring it at once.
pub(crate) const PAUSE: Duration = Duration::from_secs(5);

/// An API server tells faster than definitions are read; it holds back what does not fit.
const SEEN_MAX: usize = 16;

/// Where things come from and go to.
pub(crate) struct Ports {
    pub(crate) to_link: watch::Sender<Profile>,
    /// What the hub does not have.
    pub(crate) wanted: watch::Receiver<BTreeSet<Digest>>,
    /// One at a time.
    pub(crate) to_hub: mpsc::Sender<Packed>,
}

/// Tells each change, and what the hub wants, until the stop.
pub(crate) async fn serve(cluster: Cluster, pause: Duration, ports: Ports, stop: CancellationToken) {
    let (seen_sender, seen) = mpsc::channel(SEEN_MAX);
    tokio::select! {
        () = stop.cancelled() => {}
        () = cluster.watch_definitions(seen_sender) => {}
        () = tell(&cluster, pause, ports, seen) => {}
    }
}

enum Event {
    Seen(Seen),
    Due,
    Wanted,
    /// What could not be read is tried again.
    Again,
    Writable(Digest),
}

async fn tell(cluster: &Cluster, pause: Duration, ports: Ports, mut seen: mpsc::Receiver<Seen>) {
    let Ports { to_link, mut wanted, to_hub } = ports;
    let (mut known, mut asked) = (Known::default(), BTreeSet::<Digest>::new());
    let mut failed = BTreeSet::<Digest>::new();
    let (mut due, mut again): (Option<Instant>, Option<Instant>) = (None, None);
    let later = || Some(Instant::now() + pause.mul_f64(1.0 + chance()));
    loop {
        let next = asked.first().copied();
        let event = tokio::select! {
            Some(seen) = seen.recv() => Event::Seen(seen),
            () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Event::Due,
            () = tokio::time::sleep_until(again.unwrap_or_else(Instant::now)), if again.is_some() => Event::Again,
            Ok(()) = wanted.changed() => Event::Wanted,
            Ok(_) = to_hub.reserve(), if next.is_some() => Event::Writable(next.unwrap_or_else(|| Digest::of(b""))),
            else => return,
        };
        match event {
            Event::Seen(event) => {
                if known.take(event) && due.is_none() {
                    due = later();
                }
            }
            Event::Due => {
                due = None;
                if known.read(cluster).await.is_err() {
                    due = later();
                } else if known.is_listed {
                    let all = known.definitions();
                    to_link.send_if_modified(|told| {
                        let is_new = told.definitions.as_ref() != Some(&all);
                        told.definitions = Some(all);
                        is_new
                    });
                }
            }
            Event::Again => {
                again = None;
                asked.append(&mut failed);
            }
            Event::Wanted => {
                asked.clone_from(&wanted.borrow_and_update());
                failed.clear();
            }
            Event::Writable(digest) => {
                asked.remove(&digest);
                match known.fetch(cluster, digest).await {
                    Ok(Some(packed)) => {
                        if to_hub.send(packed).await.is_err() {
                            return;
                        }
                    }
                    Ok(None) => {}
                    Err(error) => {
                        tracing::debug!(%error, %digest, "a definition that the hub wants cannot be read");
                        failed.insert(digest);
                        again = again.or_else(later);
                    }
                }
            }
        }
    }
}

/// The definitions of the cluster, as they were last read.
#[derive(Default)]
struct Known {
    by_name: BTreeMap<String, One>,
    /// Seen, and not read since.
    unread: BTreeSet<String>,
    /// Of a list that is being told: what it has not named.
    unnamed: BTreeSet<String>,
    is_listed: bool,
}

struct One {
    version: String,
    /// `None`: it is too large to be told, or was not read yet.
    digest: Option<Digest>,
}

impl Known {
    /// Whether there is something to tell.
    fn take(&mut self, seen: Seen) -> bool {
        match seen {
            Seen::Begins => {
                self.unnamed = self.by_name.keys().cloned().collect();
                false
            }
            Seen::Present { name, version } => {
                self.unnamed.remove(&name);
                let is_known = self.by_name.get(&name).is_some_and(|one| one.version == version);
                if !is_known && is_name(&name) {
                    self.unread.insert(name.clone());
                    self.by_name.insert(name, One { version, digest: None });
                    return true;
                }
                false
            }
            Seen::Gone { name } => self.forget(&name),
            Seen::Listed => {
                for name in std::mem::take(&mut self.unnamed) {
                    self.forget(&name);
                }
                self.is_listed = true;
                true
            }
        }
    }

    fn forget(&mut self, name: &str) -> bool {
        self.unread.remove(name);
        self.by_name.remove(name).is_some()
    }

    /// What is not read when an API server does not answer is read later.
    async fn read(&mut self, cluster: &Cluster) -> Result<(), ClusterError> {
        while let Some(name) = self.unread.first().cloned() {
            let told = cluster.fetch_definition(&name).await.inspect_err(|error| {
                tracing::debug!(%error, definition = name, "a definition cannot be read");
            })?;
            self.unread.remove(&name);
            let told = told.and_then(|object| pack(&name, &object));
            if let Some(one) = self.by_name.get_mut(&name) {
                one.digest = told.map(|packed| packed.digest);
            }
        }
        Ok(())
    }

    fn definitions(&self) -> Definitions {
        Definitions::new(self.by_name.iter().map(|(name, one)| (name.clone(), one.digest)))
    }

    /// One that has changed since is told by its new digest, and this one to nobody.
    async fn fetch(&self, cluster: &Cluster, digest: Digest) -> Result<Option<Packed>, ClusterError> {
        let named = self.by_name.iter().find(|(_, one)| one.digest == Some(digest));
        let Some((name, _)) = named else { return Ok(None) };
        let object = cluster.fetch_definition(name).await?;
        Ok(object.and_then(|object| pack(name, &object)).filter(|packed| packed.digest == digest))
    }
}

/// `None`: it is too large, or cannot be read.
fn pack(name: &str, object: &[u8]) -> Option<Packed> {
    let definition = Definition::of_object(object)
        .inspect_err(|error| tracing::warn!(%error, definition = name, "it is not told to the hub"))
        .ok()?;
    let bytes = compression::compress(definition.text().as_bytes());
    if bytes.len() > DEFINITION_PACKED_BYTES_MAX {
        tracing::warn!(definition = name, bytes = bytes.len(), "a definition is too large to be told to the hub");
        return None;
    }
    Some(Packed { digest: definition.digest(), bytes })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn present(name: &str, version: &str) -> Seen {
        Seen::Present { name: name.to_owned(), version: version.to_owned() }
    }

    #[test]
    fn a_status_that_changes_is_no_news_and_what_a_list_does_not_name_is_gone() {
        let mut known = Known::default();

        assert!(!known.take(Seen::Begins));
        assert!(known.take(present("a.io", "u/1")));
        assert!(known.take(present("b.io", "u/1")));
        assert!(!known.is_listed, "half of a list is not told");
        assert!(known.take(Seen::Listed));
        assert!(!known.take(present("a.io", "u/1")), "its status");
        assert!(known.take(present("a.io", "u/2")));
        assert!(!known.take(Seen::Gone { name: "c.io".to_owned() }));
        assert!(!known.take(present("../x", "u/1")), "no such name leads to a path");
        known.take(Seen::Begins);
        known.take(present("a.io", "u/2"));
        known.take(Seen::Listed);

        assert_eq!(known.by_name.keys().collect::<Vec<_>>(), ["a.io"]);
        assert_eq!(known.unread.iter().collect::<Vec<_>>(), ["a.io"]);
    }
}
