//! Which cluster moves in which wave: decided once, from the fleet as it is, and then frozen.
//!
//! Every candidate is in exactly one wave. A wave with a selector that selects nothing stays: it holds the rollout,
//! because whoever wrote it wanted proof from it before going on. One that takes whoever is left is left out when nobody is.

use jiff::SignedDuration;

use super::HumanDuration;
use super::strategy::{Amount, FIRST, REST, Strategy, WaveSpec};
use crate::parameters::{ClusterFacts, Traits};
use crate::{ClusterId, Labels, Name};

/// Where a cluster stands among its like; an integer, those without one last.
pub const ORDER_LABEL: &str = "bellwether.dev/order";

/// A cluster that the target selects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    pub cluster: ClusterId,
    pub name: Name,
    pub labels: Labels,
    /// As far as somebody asked for them: no wave is chosen by these.
    pub traits: Traits,
    pub connected: bool,
}

impl Candidate {
    /// What it is rendered for.
    pub const fn facts(&self) -> ClusterFacts<'_> {
        ClusterFacts::new(&self.name, &self.labels).with(&self.traits)
    }
}

/// A wave as it will be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedWave {
    pub name: String,
    /// In the order in which they are assigned.
    pub members: Vec<ClusterId>,
    /// Members in flight at once; at least 1.
    pub concurrent_max: u32,
    /// Members that must be healthy for it to pass; at least 1, also where it has none.
    pub healthy_min: u32,
    pub soak: SignedDuration,
}

/// The waves of a rollout over these clusters, in order.
pub fn waves(candidates: &[Candidate], strategy: &Strategy) -> Vec<PlannedWave> {
    let mut left: Vec<&Candidate> = candidates.iter().collect();
    left.sort_by_key(|candidate| order(candidate));
    if strategy.waves.is_empty() {
        return first_then_rest(left);
    }
    let takes_nobody = |spec: &WaveSpec, wave: &PlannedWave| spec.clusters.is_none() && wave.members.is_empty();
    let planned = strategy.waves.iter().map(|spec| (spec, planned(spec, &take(spec, &mut left))));
    let mut waves: Vec<PlannedWave> =
        planned.filter(|(spec, wave)| !takes_nobody(spec, wave)).map(|(_, wave)| wave).collect();
    if !left.is_empty() {
        waves.push(rest(&left, Amount::Percent(100)));
    }
    waves
}

fn order(candidate: &Candidate) -> (bool, i64, &Name) {
    let number = candidate.labels.get(ORDER_LABEL).and_then(|text| text.parse().ok());
    (number.is_none(), number.unwrap_or_default(), &candidate.name)
}

/// Takes out of `left` what the wave selects, both in order.
fn take<'a>(spec: &WaveSpec, left: &mut Vec<&'a Candidate>) -> Vec<&'a Candidate> {
    let total = u32::try_from(left.len()).unwrap_or(u32::MAX);
    let count = spec.count.or_else(|| spec.percent.map(|percent| Amount::Percent(percent).at_least_one_of(total)));
    let mut free = count.map_or(usize::MAX, |count| count as usize);
    let selects =
        |candidate: &Candidate| spec.clusters.as_ref().is_none_or(|clusters| clusters.selects(&candidate.labels));
    let (taken, others) = left.drain(..).partition(|candidate| {
        let is_taken = free > 0 && selects(candidate);
        free -= usize::from(is_taken);
        is_taken
    });
    *left = others;
    taken
}

fn planned(spec: &WaveSpec, members: &[&Candidate]) -> PlannedWave {
    let total = u32::try_from(members.len()).unwrap_or(u32::MAX);
    PlannedWave {
        name: spec.name.to_string(),
        members: members.iter().map(|candidate| candidate.cluster).collect(),
        concurrent_max: spec.max_concurrent.at_least_one_of(total),
        healthy_min: spec.min_healthy.at_least_one_of(total),
        soak: spec.soak.duration(),
    }
}

/// The clusters that no wave took.
fn rest(members: &[&Candidate], max_concurrent: Amount) -> PlannedWave {
    let name = REST.parse().expect("a constant that is a name");
    planned(&WaveSpec { max_concurrent, ..WaveSpec::named(name) }, members)
}

/// Where no waves are written: one cluster that can answer goes first, or the first of all when none can.
fn first_then_rest(mut left: Vec<&Candidate>) -> Vec<PlannedWave> {
    if left.is_empty() {
        return Vec::new();
    }
    let first = left.remove(left.iter().position(|candidate| candidate.connected).unwrap_or_default());
    let name = FIRST.parse().expect("a constant that is a name");
    let spec = WaveSpec { soak: HumanDuration::from_secs(30), ..WaveSpec::named(name) };
    let mut waves = vec![planned(&spec, &[first])];
    if !left.is_empty() {
        waves.push(rest(&left, Amount::Percent(25)));
    }
    waves
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use uuid::Uuid;

    use super::*;

    /// `name`, `name!` when it is away, and then its labels.
    fn candidate(text: &str) -> Candidate {
        let mut words = text.split(' ');
        let name = words.next().expect("a name");
        let labels =
            words.filter_map(|label| label.split_once('=')).map(|(key, value)| (key.to_owned(), value.to_owned()));
        let name_only = name.trim_end_matches('!');
        Candidate {
            cluster: ClusterId::new(Uuid::from_u128(
                name_only.bytes().fold(0, |sum, byte| sum * 256 + u128::from(byte)),
            )),
            name: name_only.parse().expect("a name"),
            labels: labels.collect(),
            traits: Traits::default(),
            connected: !name.ends_with('!'),
        }
    }

    fn plan(fleet: &[&str], strategy: serde_json::Value) -> Vec<String> {
        let candidates: Vec<_> = fleet.iter().map(|text| candidate(text)).collect();
        let strategy: Strategy = serde_json::from_value(strategy).expect("a strategy");
        strategy.check().expect("a strategy that is accepted");
        let name_of = |cluster: &ClusterId| {
            candidates.iter().find(|candidate| candidate.cluster == *cluster).expect("a candidate").name.to_string()
        };
        waves(&candidates, &strategy)
            .iter()
            .map(|wave| {
                let members: Vec<_> = wave.members.iter().map(name_of).collect();
                format!(
                    "{}: {} ({} at once, {} healthy)",
                    wave.name,
                    members.join(" "),
                    wave.concurrent_max,
                    wave.healthy_min
                )
            })
            .collect()
    }

    #[test]
    fn a_cluster_belongs_to_the_first_wave_that_selects_it_and_the_rest_come_last() {
        let plan = plan(
            &["c1 ring=canary region=eu", "e1 region=eu", "e2 region=eu", "u1 region=us"],
            json!({"waves": [
                {"name": "canary", "clusters": {"matchLabels": {"ring": "canary"}}, "maxConcurrent": 1},
                {"name": "eu", "clusters": {"matchLabels": {"region": "eu"}}, "maxConcurrent": "25%", "minHealthy": "100%"},
            ]}),
        );

        assert_eq!(
            plan,
            [
                "canary: c1 (1 at once, 1 healthy)",
                "eu: e1 e2 (1 at once, 2 healthy)",
                "rest: u1 (1 at once, 1 healthy)",
            ]
        );
    }

    #[test]
    fn a_named_wave_that_selects_nothing_stays_and_an_empty_rest_does_not() {
        let waves =
            json!({"waves": [{"name": "canary", "clusters": {"matchLabels": {"ring": "canary"}}}, {"name": "all"}]});

        assert_eq!(plan(&["a"], waves), ["canary:  (1 at once, 1 healthy)", "all: a (1 at once, 1 healthy)"]);
        let waves = json!({"waves": [{"name": "canary", "count": 1}, {"name": "rest"}]});
        assert_eq!(plan(&["a"], waves), ["canary: a (1 at once, 1 healthy)"], "nobody is left");
    }

    #[test]
    fn the_order_label_comes_before_the_name_and_nonsense_in_it_comes_last() {
        let order = |name: &str, order: &str| format!("{name} {ORDER_LABEL}={order}");
        let fleet = [order("a", "x"), order("b", "10"), order("c", "-1"), "d".to_owned(), order("e", "9")];
        let fleet: Vec<&str> = fleet.iter().map(String::as_str).collect();

        assert_eq!(plan(&fleet, json!({"waves": [{"name": "all"}]})), ["all: c e b a d (5 at once, 1 healthy)"]);
    }

    #[test]
    fn counts_and_shares_are_of_those_that_are_left() {
        let fleet = ["a", "b", "c", "d", "e", "f", "g"];
        let waves = json!({"waves": [{"name": "one", "count": 1}, {"name": "some", "percent": 10}, {"name": "half", "percent": 50}]});

        assert_eq!(
            plan(&fleet, waves),
            [
                "one: a (1 at once, 1 healthy)",
                "some: b (1 at once, 1 healthy)",
                "half: c d e (3 at once, 1 healthy)",
                "rest: f g (2 at once, 1 healthy)",
            ]
        );
    }

    #[test]
    fn without_waves_one_connected_cluster_goes_first() {
        assert_eq!(
            plan(&["a!", "b", "c", "d", "e", "f"], json!({})),
            ["first: b (1 at once, 1 healthy)", "rest: a c d e f (2 at once, 1 healthy)",]
        );
        assert_eq!(
            plan(&["a!", "b!"], json!({})),
            ["first: a (1 at once, 1 healthy)", "rest: b (1 at once, 1 healthy)"]
        );
        assert_eq!(plan(&["a"], json!({})), ["first: a (1 at once, 1 healthy)"]);
        assert!(plan(&[], json!({})).is_empty());
    }
}
