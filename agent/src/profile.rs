//! Polls the cluster now and then, and says what it has seen: its version, and which APIs it serves.
//!
//! What is there is believed at once. What is gone is believed once it was gone twice in a row: an API server that starts
//! publishes its kinds one by one, and a cluster that seems to lose them for a moment would be rendered for as if it had.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bellwether_core::apis::Apis;
use bellwether_core::policy::FACT;
use bellwether_core::session::Profile;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::backoff::chance;
use crate::executor::kubernetes::client::{Cluster, ClusterError};
use crate::policy::Told;

/// Sends each change, until the stop.
pub(crate) async fn serve(
    (cluster, mut policy): (Cluster, watch::Receiver<Arc<Told>>),
    facts: BTreeMap<String, String>,
    every: Duration,
    to_link: watch::Sender<Profile>,
    stop: CancellationToken,
) {
    let mut polled = Polled { seen: Profile { facts, ..Profile::default() }, doubt: None };
    loop {
        match poll(&cluster, &polled).await {
            Ok((mut facts, apis)) => {
                let told = policy.borrow_and_update().fact();
                facts.extend(told.map(|told| (FACT.to_owned(), told)));
                polled.take_in(facts, apis);
                to_link.send_if_modified(|told| {
                    let Profile { facts, apis, .. } = &polled.seen;
                    let is_new = (&told.facts, &told.apis) != (facts, apis);
                    if is_new {
                        told.facts.clone_from(facts);
                        told.apis.clone_from(apis);
                    }
                    is_new
                });
            }
            Err(error) => tracing::debug!(%error, "could not poll what the cluster serves"),
        }
        // Fleets do not poll all at once.
        let pause = every.mul_f64(0.8 + 0.4 * chance());
        tokio::select! {
            () = stop.cancelled() => return,
            Ok(()) = policy.changed() => {}
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn poll(cluster: &Cluster, polled: &Polled) -> Result<(BTreeMap<String, String>, Option<Apis>), ClusterError> {
    let facts = cluster.fetch_facts().await?;
    let names = cluster.fetch_apis(polled.seen.apis.as_ref()).await?;
    let apis = Apis::new(names)
        .inspect_err(|error| tracing::warn!(%error, "what the cluster serves cannot be told to the hub"));
    Ok((facts, apis.ok()))
}

struct Polled {
    seen: Profile,
    /// What was seen last, and lacks something that was there before.
    doubt: Option<Apis>,
}

impl Polled {
    fn take_in(&mut self, facts: BTreeMap<String, String>, apis: Option<Apis>) {
        self.seen.facts = facts;
        let Some(apis) = apis else { return };
        let lacks = self.seen.apis.as_ref().is_some_and(|before| before.names().any(|name| !apis.has(name)));
        if lacks && self.doubt.as_ref() != Some(&apis) {
            self.doubt = Some(apis);
        } else {
            (self.seen.apis, self.doubt) = (Some(apis), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apis(names: &[&str]) -> Apis {
        Apis::new(names.iter().map(|&name| name.to_owned())).expect("names")
    }

    #[test]
    fn what_comes_is_seen_at_once_and_what_goes_only_when_it_is_gone_twice() {
        let mut polled = Polled { seen: Profile::default(), doubt: None };
        let mut poll = |names: &[&str]| {
            polled.take_in(BTreeMap::new(), Some(apis(names)));
            polled.seen.apis.clone()
        };

        assert_eq!(poll(&["a/v1", "v1"]), Some(apis(&["a/v1", "v1"])));
        assert_eq!(poll(&["v1"]), Some(apis(&["a/v1", "v1"])), "it may come back");
        assert_eq!(poll(&["a/v1", "b/v1", "v1"]), Some(apis(&["a/v1", "b/v1", "v1"])));
        assert_eq!(poll(&["v1"]), Some(apis(&["a/v1", "b/v1", "v1"])));
        assert_eq!(poll(&["b/v1"]), Some(apis(&["a/v1", "b/v1", "v1"])), "another doubt");
        assert_eq!(poll(&["b/v1"]), Some(apis(&["b/v1"])));
    }
}
