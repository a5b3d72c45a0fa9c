//! The Secrets that the journal is kept in. Creates, reads and deletes them; decides nothing.

use std::time::Duration;

use bellwether_core::journal::{Entry, Head, Journal, PART_BYTES_MAX, Part};
use bellwether_proto::zip;
use uuid::Uuid;

use super::JournalError;
use crate::backoff::{Backoff, Jitter, chance};
use crate::cluster::{Bytes, Cluster, ClusterError, Secret};

const PREFIX: &str = "bellwether-journal-";
/// To find them by.
const LABEL: (&str, &str) = ("bellwether.dev/journal", "v1");
const HEAD: &str = "head.json";
const BODY: &str = "entry.zst";

/// Of one entry, uncompressed. Several hundred full bundles: more is damage.
const ENTRY_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// Between tries of a write. Nothing is acted on meanwhile, so it is not waited for long.
const RETRY: Backoff =
    Backoff { first: Duration::from_millis(200), longest: Duration::from_secs(5), jitter: Jitter::Half };

#[derive(Clone)]
pub(crate) struct Store {
    cluster: Cluster,
    namespace: String,
    boot: Uuid,
}

impl Store {
    pub(crate) fn new(cluster: Cluster, namespace: &str, boot: Uuid) -> Self {
        Self { cluster, namespace: namespace.to_owned(), boot }
    }

    pub(crate) async fn load(&self) -> Result<Journal, JournalError> {
        let selector = format!("{}={}", LABEL.0, LABEL.1);
        let secrets = self.cluster.list_secrets(&self.namespace, &selector).await;
        let secrets = secrets.map_err(|source| JournalError::Storage { namespace: self.namespace.clone(), source })?;
        let parts = secrets.iter().map(|secret| {
            part(secret)
                .ok_or_else(|| self.unreadable(secret.name().to_owned(), "it is no part of a journal".to_owned()))
        });
        let parts = parts.collect::<Result<_, _>>()?;
        Journal::load(parts, |frame| zip::inflate(frame, ENTRY_BYTES_MAX))
            .map_err(|error| self.unreadable(name(error.entry), error.to_string()))
    }

    fn unreadable(&self, name: String, problem: String) -> JournalError {
        JournalError::Unreadable { namespace: self.namespace.clone(), name, problem }
    }

    /// What the Secrets of an entry hold.
    pub(super) fn split(entry: &Entry) -> Vec<Vec<u8>> {
        zip::deflate(&entry.encode()).chunks(PART_BYTES_MAX).map(<[u8]>::to_vec).collect()
    }

    /// Creates the parts, the last of which seals the entry, and makes sure that nobody else has written meanwhile.
    /// `last` is the newest part before these.
    pub(super) async fn write(self, parts: Vec<Vec<u8>>, first: u64, last: Option<u64>) -> Result<(), JournalError> {
        let head = Head { boot: self.boot, entry: first, parts: parts.len() as u64 };
        for (number, bytes) in (first..).zip(parts) {
            let mut secret = Secret::new(&self.namespace, &name(number));
            secret.label(LABEL.0, LABEL.1);
            secret.set(HEAD, &serde_json::to_string(&head).expect("numbers serialize"));
            secret.data.insert(BODY.to_owned(), Bytes(bytes));
            self.create(&secret).await?;
        }
        self.check_lock(first, last).await
    }

    async fn create(&self, secret: &Secret) -> Result<(), JournalError> {
        let mut failures = 0;
        loop {
            match self.cluster.write_secret(secret).await {
                Ok(_) => return Ok(()),
                // It is there: an answer that was lost, or another agent.
                Err(ClusterError::Stale { .. }) => match self.read(secret.name()).await? {
                    Some(there) if there.data == secret.data => return Ok(()),
                    _ => return Err(self.contested(secret.name().to_owned())),
                },
                Err(error) => self.wait_after(&mut failures, error).await?,
            }
        }
    }

    /// Old numbers are deleted from the lowest up, so while the number before ours stands, no number of ours was ever
    /// another's.
    async fn check_lock(&self, first: u64, last: Option<u64>) -> Result<(), JournalError> {
        let Some(last) = last else { return self.check_first(first).await };
        let name = name(last);
        if self.read(&name).await?.is_some() { Ok(()) } else { Err(self.contested(name)) }
    }

    async fn check_first(&self, first: u64) -> Result<(), JournalError> {
        let selector = format!("{}={}", LABEL.0, LABEL.1);
        let mut failures = 0;
        let secrets = loop {
            match self.cluster.list_secrets(&self.namespace, &selector).await {
                Ok(secrets) => break secrets,
                Err(error) => self.wait_after(&mut failures, error).await?,
            }
        };
        let is_ours = |secret: &&Secret| part(secret).is_some_and(|part| part.head.boot == self.boot);
        match secrets.iter().find(|secret| !is_ours(secret)) {
            None if !secrets.is_empty() => Ok(()),
            None => Err(self.contested(name(first))),
            Some(secret) => Err(self.contested(secret.name().to_owned())),
        }
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

    async fn wait_after(&self, failures: &mut u32, error: ClusterError) -> Result<(), JournalError> {
        if matches!(error, ClusterError::Rejected { .. }) {
            return Err(JournalError::Storage { namespace: self.namespace.clone(), source: error });
        }
        *failures += 1;
        tracing::warn!(%error, "the journal cannot be written; nothing new is applied");
        tokio::time::sleep(RETRY.wait(*failures, chance())).await;
        Ok(())
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

/// Fixed width, so that they are listed in order.
fn name(number: u64) -> String {
    format!("{PREFIX}{number:012}")
}

fn part(secret: &Secret) -> Option<Part> {
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

        let part = part(&secret).expect("is a part");

        assert_eq!((part.number, part.head.entry, part.head.parts, part.bytes), (12, 11, 2, vec![1, 2]));
        assert_eq!(secret.name(), "bellwether-journal-000000000012");
    }
}
