//! A cluster's keys for what SOPS sealed: read from a Secret beside the agent when something is to be opened.
//!
//! What is opened is in memory while its step is carried out, and nowhere else: not in the journal, which has the object as the
//! bundle has it, and not in an answer. `bellwether_sops` opens; this reads the keys, and says what a failure means.

use std::sync::Arc;
use std::time::Duration;

use bellwether_core::ObjectKey;
use bellwether_core::reconcile::{Body, ClusterError, NO_KEY_REASON, SEALED_REASON};
use bellwether_core::sealed::{self, KEYS_SECRET, SEALED_ANNOTATION, SealedError};
use bellwether_sops::{Keys, OpenError, open};
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::client::Cluster;

/// For so long keys that were read count, and that they could not be read: a bundle of a thousand sealed Secrets is one read, and
/// whoever puts another key into the cluster waits no longer for it than for the next try.
const READ_COUNTS: Duration = Duration::from_secs(2);

pub(super) struct Keyring {
    cluster: Cluster,
    home: Arc<str>,
    read: Mutex<Option<Read>>,
}

/// What came of reading the keys, and when.
type Read = (Instant, Result<Arc<Keys>, ClusterError>);

impl Keyring {
    pub(super) fn new(cluster: Cluster, home: Arc<str>) -> Self {
        Self { cluster, home, read: Mutex::new(None) }
    }

    /// What is to be applied of a body: itself, unless it is sealed. The keys are those of the namespace that the API server is asked to
    /// apply it into, which refuses a body that says another.
    pub(super) async fn open(&self, key: &ObjectKey, body: Body) -> Result<Body, ClusterError> {
        if !is_sealed(&body) {
            return Ok(body);
        }
        let keys = self.keys().await?;
        let namespace = key.namespace.clone().unwrap_or_default();
        // Of most it takes a millisecond, of the largest a hundred.
        let opened = tokio::task::spawn_blocking(move || {
            let object = serde_json::from_slice(body.bytes()).map_err(|_| SealedError::Unreadable)?;
            let opened = open(&object, &keys, &namespace)?;
            Ok::<_, OpenError>(opened.map_or(body, |opened| Arc::<[u8]>::from(opened).into()))
        });
        let opened = opened.await.map_err(|_| ClusterError::retry("what opens sealed objects broke down"))?;
        opened.map_err(|error| self.refused(&error))
    }

    fn refused(&self, error: &OpenError) -> ClusterError {
        if let OpenError::NoKey { held, .. } = error {
            let message = format!("{error}: the Secret {}/{KEYS_SECRET} has {held}", self.home);
            return ClusterError::rejected(NO_KEY_REASON, message);
        }
        ClusterError::rejected(SEALED_REASON, error.to_string())
    }

    /// One at a time: whoever comes meanwhile takes what that one found.
    async fn keys(&self) -> Result<Arc<Keys>, ClusterError> {
        let mut read = self.read.lock().await;
        if let Some((at, keys)) = read.as_ref()
            && at.elapsed() < READ_COUNTS
        {
            return keys.clone();
        }
        let secret = self.cluster.read_secret(&self.home, KEYS_SECRET).await;
        let keys = secret.map_err(|error| self.unread(&error)).map(|secret| {
            let entries = secret.iter().flat_map(|secret| &secret.data).map(|(name, bytes)| (name.as_str(), &*bytes.0));
            Arc::new(Keys::read(entries))
        });
        *read = Some((Instant::now(), keys.clone()));
        keys
    }

    /// That is no fault of the object.
    fn unread(&self, error: &ClusterError) -> ClusterError {
        let message = format!("the keys in the Secret {}/{KEYS_SECRET} cannot be read: {error}", self.home);
        match error {
            ClusterError::Forbidden { .. } => ClusterError::Forbidden { message },
            ClusterError::Retry { after, .. } => ClusterError::Retry { after: *after, message },
            _ => ClusterError::retry(message),
        }
    }
}

/// Whether it is an overlay. Others may have the words somewhere, and few do, so that few are read for it.
pub(super) fn is_sealed(body: &Body) -> bool {
    let has_words = std::str::from_utf8(body.bytes()).is_ok_and(|text| text.contains(SEALED_ANNOTATION));
    has_words && serde_json::from_slice(body.bytes()).is_ok_and(|object| sealed::text_of(&object).is_some())
}
