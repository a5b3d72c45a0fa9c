//! Looks at the cluster now and then, and says what it has seen: its version, and which APIs it serves.
//!
//! What is there is believed at once. What is gone is believed once it was gone twice in a row: an API server that starts
//! publishes its kinds one by one, and a cluster that seems to lose them for a moment would be rendered for as if it had.

use std::collections::BTreeMap;
use std::time::Duration;

use bellwether_core::apis::Apis;
use bellwether_core::session::Sight;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::backoff::chance;
use crate::executor::kubernetes::client::{Cluster, ClusterError};

/// Sends each change, until the stop.
pub(crate) async fn serve(
    cluster: Cluster,
    facts: BTreeMap<String, String>,
    every: Duration,
    to_link: watch::Sender<Sight>,
    stop: CancellationToken,
) {
    let mut eye = Eye { seen: Sight { facts, ..Sight::default() }, doubt: None };
    loop {
        match look(&cluster, &eye).await {
            Ok((facts, apis)) => {
                eye.take_in(facts, apis);
                to_link.send_if_modified(|told| {
                    let Sight { facts, apis, .. } = &eye.seen;
                    let is_new = (&told.facts, &told.apis) != (facts, apis);
                    if is_new {
                        told.facts.clone_from(facts);
                        told.apis.clone_from(apis);
                    }
                    is_new
                });
            }
            Err(error) => tracing::debug!(%error, "could not look at what the cluster serves"),
        }
        // Fleets do not look all at once.
        let pause = every.mul_f64(0.8 + 0.4 * chance());
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(pause) => {}
        }
    }
}

async fn look(cluster: &Cluster, eye: &Eye) -> Result<(BTreeMap<String, String>, Option<Apis>), ClusterError> {
    let facts = cluster.fetch_facts().await?;
    let names = cluster.fetch_apis(eye.seen.apis.as_ref()).await?;
    let apis = Apis::new(names)
        .inspect_err(|error| tracing::warn!(%error, "what the cluster serves cannot be told to the hub"));
    Ok((facts, apis.ok()))
}

struct Eye {
    seen: Sight,
    /// What was seen last, and lacks something that was there before.
    doubt: Option<Apis>,
}

impl Eye {
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
        let mut eye = Eye { seen: Sight::default(), doubt: None };
        let mut look = |names: &[&str]| {
            eye.take_in(BTreeMap::new(), Some(apis(names)));
            eye.seen.apis.clone()
        };

        assert_eq!(look(&["a/v1", "v1"]), Some(apis(&["a/v1", "v1"])));
        assert_eq!(look(&["v1"]), Some(apis(&["a/v1", "v1"])), "it may come back");
        assert_eq!(look(&["a/v1", "b/v1", "v1"]), Some(apis(&["a/v1", "b/v1", "v1"])));
        assert_eq!(look(&["v1"]), Some(apis(&["a/v1", "b/v1", "v1"])));
        assert_eq!(look(&["b/v1"]), Some(apis(&["a/v1", "b/v1", "v1"])), "another doubt");
        assert_eq!(look(&["b/v1"]), Some(apis(&["b/v1"])));
    }
}
