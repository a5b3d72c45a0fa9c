//! The Secrets that the journal is kept in. Creates, reads and deletes them; decides nothing.
//!
//! Only what carries the seal of this agent's identity is the journal's: a Secret with its label alone is not.

use std::collections::{BTreeSet, VecDeque};
use std::ops::Range;
use std::time::Duration;

use bellwether_core::ObjectKey;
use bellwether_core::journal::{Entry, Head, Journal, LoadError, Loading, PART_BYTES_MAX, Part};
use bellwether_proto::compression;
use tokio::sync::watch;
use uuid::Uuid;

use super::{JournalError, Seal};
use crate::backoff::{Backoff, Jitter, chance};
use crate::executor::kubernetes::client::{Bytes, Cluster, ClusterError, Secret};

const PREFIX: &str = "bellwether-journal-";
/// To find them by.
const LABEL: (&str, &str) = ("bellwether.dev/journal", "v1");
const HEAD: &str = "head.json";
const BODY: &str = "entry.zst";
const SEAL: &str = "seal";

/// Of one entry, uncompressed. Several hundred full bundles: more is damage.
const ENTRY_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Of what is read at a start, so much is kept until it is needed once more, and what comes after is read again: most
/// journals are smaller.
const KEPT_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Between tries of a write. Nothing is acted on meanwhile, so it is not waited for long.
const RETRY: Backoff =
    Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(5), jitter: Jitter::Half };

/// After so many failures in a row (about a second) it is no hiccup that nobody needs to see.
const HICCUPS_MAX: u32 = 3;

#[derive(Clone)]
pub(crate) struct Store {
    cluster: Cluster,
    namespace: String,
    boot: Uuid,
    seal: Seal,
    trouble: watch::Sender<String>,
}

impl Store {
    pub(crate) fn new(cluster: Cluster, namespace: &str, boot: Uuid, seal: Seal) -> Self {
        Self { cluster, namespace: namespace.to_owned(), boot, seal, trouble: watch::Sender::default() }
    }

    /// Why nothing can be written, whenever it was tried in vain for a while.
    pub(super) fn trouble(&self) -> watch::Receiver<String> {
        self.trouble.subscribe()
    }

    /// One part at a time: all of them together are larger than what they tell, and than what an API server sends before
    /// a deadline.
    pub(crate) async fn load(&self) -> Result<Journal, JournalError> {
        let storage = |source| JournalError::Storage { namespace: self.namespace.clone(), source };
        let unreadable = |error: LoadError| self.unreadable(name(error.entry), error.to_string());
        let mut loading = Loading::new(|frame| compression::inflate_stream(frame, ENTRY_BYTES_MAX));
        let (mut ours, mut kept, mut bytes) = (Vec::new(), VecDeque::new(), 0);
        for name in self.list().await.map_err(storage)? {
            if let Some(part) = self.find_part(&name).await.map_err(storage)? {
                bytes += part.bytes.len();
                if bytes <= KEPT_BYTES_MAX {
                    kept.push_back(part.clone());
                }
                loading.take(part).map_err(unreadable)?;
                ours.push(name);
            } else {
                let namespace = &self.namespace;
                tracing::warn!(namespace, name, "a Secret has the journal's label and not its seal; it is ignored");
            }
        }
        loading.rewind().map_err(unreadable)?;
        for name in &ours {
            let part = match kept.pop_front() {
                Some(part) => part,
                None => self.find_part(name).await.and_then(|part| part.ok_or_else(changed)).map_err(storage)?,
            };
            loading.take(part).map_err(unreadable)?;
        }
        loading.finish().map_err(unreadable)
    }

    /// The names of the parts, in their order, and of whatever else has their label.
    async fn list(&self) -> Result<Vec<String>, ClusterError> {
        let selector = format!("{}={}", LABEL.0, LABEL.1);
        let mut names = self.cluster.list_secret_names(&self.namespace, &selector).await?;
        names.sort_unstable();
        Ok(names)
    }

    /// A part that was listed; `None` if it is not the journal's.
    async fn find_part(&self, name: &str) -> Result<Option<Part>, ClusterError> {
        let secret = self.cluster.read_secret(&self.namespace, name).await?;
        Ok(part(&secret.ok_or_else(changed)?, &self.seal))
    }

    fn unreadable(&self, name: String, problem: String) -> JournalError {
        JournalError::Unreadable { namespace: self.namespace.clone(), name, problem }
    }

    /// What the Secrets of an entry hold.
    pub(super) fn split(entry: &Entry) -> Vec<Vec<u8>> {
        let frame = compression::deflate_stream(|to| entry.write(to)).expect("writing into memory cannot fail");
        frame.chunks(PART_BYTES_MAX).map(<[u8]>::to_vec).collect()
    }

    /// Creates the parts, the last of which seals the entry, and makes sure that nobody else has written meanwhile.
    /// `last` is the newest part before these.
    pub(super) async fn write(self, parts: Vec<Vec<u8>>, first: u64, last: Option<u64>) -> Result<(), JournalError> {
        let head = Head { boot: self.boot, entry: first, parts: parts.len() as u64 };
        let ours = first..first + head.parts;
        for (number, bytes) in (first..).zip(parts) {
            let mut secret = Secret::new(&self.namespace, &name(number));
            secret.label(LABEL.0, LABEL.1);
            secret.set(HEAD, &serde_json::to_string(&head).expect("numbers serialize"));
            secret.data.insert(BODY.to_owned(), Bytes(bytes));
            seal(&mut secret, &self.seal);
            self.create(&secret).await?;
        }
        self.check_lock(ours, last).await
    }

    async fn create(&self, secret: &Secret) -> Result<(), JournalError> {
        let mut failures = 0;
        loop {
            match self.cluster.write_secret(secret).await {
                Ok(_) => return Ok(()),
                // It is there: an answer that was lost, or another agent.
                Err(ClusterError::Stale { .. }) => match self.read(secret.name()).await? {
                    Some(there) if there.data == secret.data => return Ok(()),
                    // Another agent of this cluster has the same identity, so this is none's.
                    Some(there) if part(&there, &self.seal).is_none() => self.take_away(there.name()).await?,
                    _ => return Err(self.contested(secret.name().to_owned())),
                },
                Err(error) => self.wait_after(&mut failures, error).await?,
            }
        }
    }

    async fn take_away(&self, name: &str) -> Result<(), JournalError> {
        tracing::warn!(namespace = %self.namespace, name, "a Secret without the journal's seal is in its way; it is deleted");
        let mut failures = 0;
        while let Err(error) = self.cluster.delete_secret(&self.namespace, name).await {
            self.wait_after(&mut failures, error).await?;
        }
        Ok(())
    }

    /// Old numbers are deleted from the lowest up, so while the number before ours stands, no number of ours was ever
    /// another's.
    async fn check_lock(&self, ours: Range<u64>, last: Option<u64>) -> Result<(), JournalError> {
        let Some(last) = last else { return self.check_first(ours).await };
        let name = name(last);
        let there = self.read(&name).await?;
        let is_ours = there.is_some_and(|there| part(&there, &self.seal).is_some());
        if is_ours { Ok(()) } else { Err(self.contested(name)) }
    }

    async fn check_first(&self, ours: Range<u64>) -> Result<(), JournalError> {
        let ours: BTreeSet<_> = ours.map(name).collect();
        let mut failures = 0;
        loop {
            match self.find_contested(&ours).await {
                Ok(None) => return Ok(()),
                Ok(Some(name)) => return Err(self.contested(name)),
                Err(error) => self.wait_after(&mut failures, error).await?,
            }
        }
    }

    /// A part of ours that is gone, or one that another process wrote.
    async fn find_contested(&self, ours: &BTreeSet<String>) -> Result<Option<String>, ClusterError> {
        let listed: BTreeSet<_> = self.list().await?.into_iter().collect();
        if let Some(gone) = ours.difference(&listed).next() {
            return Ok(Some(gone.clone()));
        }
        for name in listed.difference(ours) {
            let part = self.find_part(name).await?;
            if part.is_some_and(|part| part.head.boot != self.boot) {
                return Ok(Some(name.clone()));
            }
        }
        Ok(None)
    }

    async fn read(&self, name: &str) -> Result<Option<Secret>, JournalError> {
        let mut failures = 0;
        loop {
            match self.cluster.read_secret(&self.namespace, name).await {
                Ok(secret) => return Ok(secret),
                Err(error) => self.wait_after(&mut failures, error).await?,
            }
        }
    }

    /// Whether this part is there, whosever it is.
    pub(super) async fn has(&self, number: u64) -> Result<bool, ClusterError> {
        self.cluster.has_secret(&self.namespace, &name(number)).await
    }

    /// Whether another process has written this part.
    pub(super) async fn is_anothers(&self, number: u64) -> Result<bool, ClusterError> {
        let there = self.cluster.read_secret(&self.namespace, &name(number)).await?;
        let part = there.and_then(|secret| part(&secret, &self.seal));
        Ok(part.is_some_and(|part| part.head.boot != self.boot))
    }

    async fn wait_after(&self, failures: &mut u32, error: ClusterError) -> Result<(), JournalError> {
        *failures += 1;
        // A policy refuses by whatever code it likes, and may be changed.
        if *failures >= HICCUPS_MAX || matches!(error, ClusterError::Rejected { .. }) {
            self.trouble.send_replace(error.to_string());
        }
        tracing::warn!(%error, "the journal cannot be written; nothing new is applied");
        tokio::time::sleep(RETRY.wait(*failures, chance())).await;
        Ok(())
    }

    pub(super) fn contested_at(&self, number: u64) -> JournalError {
        self.contested(name(number))
    }

    /// The Secret of a part, as a line of a report names it.
    pub(super) fn key(&self, number: u64) -> ObjectKey {
        let (api_version, kind) = ("v1".to_owned(), "Secret".to_owned());
        ObjectKey { api_version, kind, namespace: Some(self.namespace.clone()), name: name(number) }
    }

    fn contested(&self, name: String) -> JournalError {
        JournalError::Contested { namespace: self.namespace.clone(), name }
    }

    /// Deletes parts from the lowest up. What is left when one cannot be deleted goes after a later start.
    pub(super) async fn clean(self, dead: Vec<u64>) -> Result<(), JournalError> {
        for number in dead {
            if let Err(error) = self.cluster.delete_secret(&self.namespace, &name(number)).await {
                tracing::info!(%error, "a dead part of the journal stays for now");
                break;
            }
        }
        Ok(())
    }
}

/// It was there a moment ago: somebody writes the journal while it is read.
fn changed() -> ClusterError {
    ClusterError::Stale { message: "a part of the journal went while it was read".to_owned() }
}

/// Fixed width, so that they are listed in order.
fn name(number: u64) -> String {
    format!("{PREFIX}{number:012}")
}

fn seal(secret: &mut Secret, seal: &Seal) {
    let tag = seal.tag(&sealed(secret));
    secret.data.insert(SEAL.to_owned(), Bytes(tag));
}

/// What the seal is over: a part is good under its own name only.
fn sealed(secret: &Secret) -> [&[u8]; 3] {
    let bytes = |key| secret.data.get(key).map_or(&[][..], |bytes: &Bytes| &bytes.0);
    [secret.name().as_bytes(), bytes(HEAD), bytes(BODY)]
}

/// `None` of what is not the journal's.
fn part(secret: &Secret, seal: &Seal) -> Option<Part> {
    if !seal.is_good(&sealed(secret), &secret.data.get(SEAL)?.0) {
        return None;
    }
    let number = secret.name().strip_prefix(PREFIX)?.parse().ok()?;
    let head = serde_json::from_str(secret.text(HEAD)?).ok()?;
    Some(Part { number, head, bytes: secret.data.get(BODY)?.0.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_is_read_back_from_its_secret() {
        let mut secret = Secret::new("home", &name(12));
        secret.set(HEAD, &serde_json::to_string(&Head { boot: Uuid::nil(), entry: 11, parts: 2 }).expect("serializes"));
        secret.data.insert(BODY.to_owned(), Bytes(vec![1, 2]));
        let ours = Seal::new(&[7; 32]);
        assert_eq!(part(&secret, &ours), None, "nobody has sealed it");
        seal(&mut secret, &ours);
        assert_eq!(part(&secret, &Seal::new(&[8; 32])), None, "another has");
        let mut moved = Secret::new("home", &name(13));
        moved.data.clone_from(&secret.data);
        assert_eq!(part(&moved, &ours), None, "it is good under its own name only");

        let part = part(&secret, &ours).expect("is a part");

        assert_eq!((part.number, part.head.entry, part.head.parts, part.bytes), (12, 11, 2, vec![1, 2]));
        assert_eq!(secret.name(), "bellwether-journal-000000000012");
    }
}
