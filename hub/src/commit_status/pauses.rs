//! Who is left alone for a while, by this hub: hosts that are away or ask for it, and tokens that are not taken. Kept in memory: a
//! hub that starts asks once.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bellwether_core::Digest;
use bellwether_core::backoff::{Backoff, Jitter};
use jiff::Timestamp;

use super::after;
use crate::source::git::RepoUrl;
use crate::store::repos::{Credential, Repo};

/// GitHub wants a minute at least when it does not say how long.
const BACKOFF: Backoff =
    Backoff { first: Duration::from_mins(1), longest: Duration::from_hours(1), jitter: Jitter::None };

/// The host and the token of a repo. Another token is another party.
pub(super) struct Parties {
    pub(super) host: String,
    pub(super) token: String,
}

impl Parties {
    pub(super) fn of(repo: &Repo, credential: Option<&Credential>) -> Self {
        let sealed = credential.map(|credential| Digest::of(&credential.sealed).to_string());
        Self { host: RepoUrl::origin_of(&repo.spec.url), token: format!("{}/{}", repo.id, sealed.unwrap_or_default()) }
    }
}

#[derive(Default)]
pub(super) struct Pauses(Mutex<BTreeMap<String, Pause>>);

struct Pause {
    times: u32,
    until: Timestamp,
}

impl Pauses {
    /// How long one of these is left alone.
    pub(super) fn until(&self, parties: &Parties, now: Timestamp) -> Option<Timestamp> {
        let pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = |party: &String| pauses.get(party).map(|pause| pause.until).filter(|until| *until > now);
        of(&parties.host).max(of(&parties.token))
    }

    /// Each time longer, or as long as it asks for, and an hour at most; says until when.
    pub(super) fn begin(&self, party: &str, wait: Option<Duration>, now: Timestamp) -> Timestamp {
        let mut pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Of what was not asked for a day, such as a token that was replaced, nothing is known any more.
        let day = Duration::from_hours(24);
        pauses.retain(|_, pause| after(pause.until, day) > now);
        let times = pauses.get(party).map_or(1, |pause| pause.times.saturating_add(1));
        let pause = wait.unwrap_or_default().max(BACKOFF.whole(times)).min(BACKOFF.longest);
        let until = after(now, pause);
        pauses.insert(party.to_owned(), Pause { times, until });
        until
    }

    /// They answer again.
    pub(super) fn end(&self, parties: &Parties) {
        let mut pauses = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pauses.remove(&parties.host);
        pauses.remove(&parties.token);
    }
}
