//! The figures of a run once more, from the observers' files: what the API servers, Git's hook, the watcher and the audit
//! log wrote. With the run it shares how a line of such a file is read, what was done (`run.json`), and the percentiles;
//! how the figures come of them is written twice.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, bail, ensure};
use serde::Serialize;
use serde_json::Value;

use crate::evidence::{ApiRequest, Run, Waves, read_api_audit};
use crate::figures::{Figures, Spread, ms_between};
use crate::ground::{AGENT_USER, timestamp};
use crate::sample::NOTES_TEXT;
use crate::stamps::Stamp;

/// What can be counted from evidence.
#[derive(Debug, PartialEq, Serialize)]
pub struct Recounted {
    pub push_to_applied_ms: Option<Spread>,
    pub wave_order_held: Option<bool>,
    pub drift_ms: Option<Spread>,
    pub noop_requests: Option<usize>,
}

struct Evidence {
    run: Run,
    stamps: Vec<Stamp>,
    /// Commit → when `main` became it.
    updates: BTreeMap<String, u128>,
    audit: Vec<Value>,
    requests: BTreeMap<String, Vec<ApiRequest>>,
}

/// Counts again; another result than the run's is an error.
pub fn check(folder: &Path) -> Result<Recounted> {
    let evidence = read(folder)?;
    let recounted = Recounted {
        push_to_applied_ms: evidence.pushes()?,
        wave_order_held: evidence.run.waves.as_ref().map(|waves| evidence.wave_order(waves)).transpose()?,
        drift_ms: evidence.drift()?,
        noop_requests: evidence.noop_requests(),
    };
    let figures: Figures = serde_json::from_slice(&fs::read(folder.join("figures.json"))?)?;
    let claimed = Recounted {
        push_to_applied_ms: figures.push_to_applied_ms,
        wave_order_held: figures.wave_order_held,
        drift_ms: figures.drift_ms,
        noop_requests: figures.noop_requests,
    };
    let text = |one: &Recounted| serde_json::to_string(one).unwrap_or_default();
    ensure!(recounted == claimed, "the run claims {}, and its evidence says {}", text(&claimed), text(&recounted));
    Ok(recounted)
}

fn read(folder: &Path) -> Result<Evidence> {
    let text = |name: &str| fs::read_to_string(folder.join(name)).with_context(|| format!("no {name} in the evidence"));
    let stamps = text("watch.stamps")?;
    let stamps = stamps.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    let mut requests = BTreeMap::new();
    for entry in fs::read_dir(folder.join("api-audit"))? {
        let path = entry?.path();
        let cluster = path.file_stem().context("a log without a name")?.to_string_lossy().into_owned();
        requests.insert(cluster, read_api_audit(&path)?);
    }
    let run: Run = serde_json::from_str(&text("run.json")?)?;
    ensure!(requests.len() == run.clusters, "{} clusters, and {} audit logs", run.clusters, requests.len());
    Ok(Evidence {
        stamps: stamps.map(Stamp::parse).collect::<Result<_>>()?,
        updates: text("refs.stamps")?.lines().filter_map(update_of_main).collect(),
        audit: serde_json::from_str(&text("audit.json")?)?,
        requests,
        run,
    })
}

/// From `<unix ns> <old> <new> <ref>`.
fn update_of_main(line: &str) -> Option<(String, u128)> {
    let parts: Vec<&str> = line.split(' ').collect();
    let [unix_ns, _, new, "refs/heads/main"] = parts[..] else { return None };
    Some((new.to_owned(), unix_ns.parse().ok()?))
}

impl Evidence {
    /// The first time of a value in each cluster.
    fn arrivals(&self, value: &str) -> BTreeMap<&str, u128> {
        let mut arrivals: BTreeMap<&str, u128> = BTreeMap::new();
        for stamp in self.stamps.iter().filter(|stamp| stamp.value == value) {
            let first = arrivals.entry(&stamp.cluster).or_insert(stamp.unix_ns);
            *first = stamp.unix_ns.min(*first);
        }
        arrivals
    }

    fn pushes(&self) -> Result<Option<Spread>> {
        let mut samples = Vec::new();
        let mut before = BTreeSet::new();
        for push in &self.run.pushes {
            ensure!(before.insert(&push.value), "{} was pushed twice", push.value);
            let updated = *self.updates.get(&push.commit).with_context(|| format!("no update to {}", push.commit))?;
            let arrivals = self.arrivals(&push.value);
            ensure!(arrivals.len() == self.run.clusters, "{} came to {} clusters", push.value, arrivals.len());
            for (cluster, arrived) in &arrivals {
                self.ensure_written(cluster, updated, *arrived)?;
            }
            samples.push(arrivals.values().map(|&at| ms_between(updated, at)).fold(f64::MIN, f64::max));
        }
        Ok(Spread::of(&samples))
    }

    /// The API server itself says that the agent wrote between a push and what the watcher saw.
    fn ensure_written(&self, cluster: &str, updated: u128, arrived: u128) -> Result<()> {
        let log = self.requests.get(cluster).with_context(|| format!("no audit log of {cluster}"))?;
        let is_it = |one: &&ApiRequest| {
            one.user == AGENT_USER && one.verb == "patch" && one.resource == "configmaps" && one.name == "beat"
        };
        let mut writes = log.iter().filter(is_it).map(|one| one.received_unix_ns);
        if writes.any(|received| (updated..=arrived).contains(&received)) {
            return Ok(());
        }
        bail!("{cluster} showed a value that its API server got no request for")
    }

    fn wave_order(&self, waves: &Waves) -> Result<bool> {
        let arrivals = self.arrivals(&waves.value);
        let canary = *arrivals.get(waves.canary.as_str()).context("the canary never showed it")?;
        let is_it = |entry: &&Value| {
            entry["action"] == "rollout.wave.passed"
                && entry["rollout"] == waves.rollout.as_str()
                && entry["detail"]["place"] == 1
        };
        let passed = timestamp(&self.audit.iter().find(is_it).context("no wave passed")?["at"])?;
        let mut others = arrivals.iter().filter(|(cluster, _)| **cluster != waves.canary);
        Ok(arrivals.len() == self.run.clusters && others.all(|(_, &at)| at > canary && at > passed))
    }

    fn drift(&self) -> Result<Option<Spread>> {
        let mut samples = Vec::new();
        for edit in &self.run.edits {
            let here = || self.stamps.iter().filter(|stamp| stamp.cluster == edit.cluster);
            let shown = here().find(|stamp| stamp.value == edit.value).context("an edit that nobody saw")?;
            let restored = here().find(|stamp| stamp.unix_ns > shown.unix_ns && stamp.value == NOTES_TEXT);
            let log = self.requests.get(&edit.cluster).context("no audit log")?;
            let edits = log.iter().filter(|one| one.user == "admin" && one.verb == "patch" && one.name == edit.note);
            let edited = edits.map(|one| one.received_unix_ns).filter(|&at| at < shown.unix_ns).max();
            let restored = restored.context("an edit that stayed")?.unix_ns;
            samples.push(ms_between(edited.context("an edit that the API server does not know")?, restored));
        }
        Ok(Spread::of(&samples))
    }

    fn noop_requests(&self) -> Option<usize> {
        let window = self.run.noop?;
        let requests = self.requests.values().flatten();
        let counted = requests.filter(|one| {
            one.user == AGENT_USER
                && one.verb != "watch"
                && (window.from_unix_ns..=window.to_unix_ns).contains(&one.received_unix_ns)
        });
        Some(counted.count())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: u128 = 1_700_000_000_000_000_000;

    /// One cluster, one push, applied `late_ms` after it, and what the run claims of it.
    fn folder(late_ms: u128, claimed_ms: u64) -> Result<tempfile::TempDir> {
        let folder = tempfile::tempdir()?;
        let at = BASE + late_ms * 1_000_000;
        let time = jiff::Timestamp::from_nanosecond(i128::try_from(BASE)? + 1_000_000)?;
        let request = serde_json::json!({
            "stage": "ResponseComplete", "verb": "patch", "user": {"username": AGENT_USER},
            "objectRef": {"resource": "configmaps", "name": "beat"}, "requestReceivedTimestamp": time.to_string(),
        });
        let run = serde_json::json!({
            "clusters": 1, "pushes": [{"commit": "abc", "value": "v"}], "waves": null, "edits": [],
            "noop": {"from_unix_ns": BASE + 1, "to_unix_ns": BASE + 2_000_000},
        });
        let claimed = Spread { n: 1, p50: claimed_ms, p99: claimed_ms };
        let figures = Figures { push_to_applied_ms: Some(claimed), noop_requests: Some(1), ..Figures::default() };
        let write = |name: &str, text: String| fs::write(folder.path().join(name), text);
        fs::create_dir(folder.path().join("api-audit"))?;
        write("api-audit/c1.log", format!("{request}\n"))?;
        write("watch.stamps", format!("{at} c1 7 v\n"))?;
        write("refs.stamps", format!("{BASE} 000 abc refs/heads/main\n"))?;
        write("audit.json", "[]".to_owned())?;
        write("run.json", run.to_string())?;
        write("figures.json", serde_json::to_string(&figures)?)?;
        Ok(folder)
    }

    #[test]
    fn what_the_evidence_says_is_counted_again() -> Result<()> {
        let recounted = check(folder(70, 70)?.path())?;

        assert_eq!(recounted.push_to_applied_ms, Some(Spread { n: 1, p50: 70, p99: 70 }));
        assert_eq!(recounted.noop_requests, Some(1));
        Ok(())
    }

    #[test]
    fn a_claim_that_the_evidence_does_not_bear_fails() -> Result<()> {
        let refused = check(folder(70, 69)?.path()).expect_err("the claim is wrong");

        assert!(refused.to_string().contains("70"), "{refused:#}");
        Ok(())
    }
}
