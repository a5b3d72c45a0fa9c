//! How a target's changes cross its fleet.
//!
//! What is left out is safe: one cluster first, then a quarter at a time, and a stop at the first failure. A frozen
//! strategy is part of its rollout's row, where fields of a later version are ignored; what people write under `rollout:`
//! is `api::WrittenStrategy`. [`waves`](super::waves) turns it into clusters.

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::HumanDuration;
use crate::labels::InvalidLabel;
use crate::{LabelSelector, Name};

/// A rollout is watched by people: more steps than this nobody follows, and each costs a row and a reconcile.
pub const WAVES_MAX: usize = 20;
/// The wave of the clusters that no named wave takes.
pub(super) const REST: &str = "rest";
/// The first wave where no waves are written.
pub(super) const FIRST: &str = "first";

/// How a target's changes cross its fleet, as rows hold it; what is left out is as in the default. Whether it makes
/// sense is for [`Strategy::check`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Strategy {
    /// In order. A cluster belongs to the first that selects it; those left form a last one. None written: one
    /// connected cluster alone with a soak of 30 s, then the rest at 25 %.
    pub waves: Vec<WaveSpec>,
    /// Clusters of the whole rollout that may fail before it stops.
    pub failure_budget: Amount,
    /// Per cluster: not healthy by then counts as failed.
    pub deadline: HumanDuration,
    pub on_failure: OnFailure,
    pub offline: Offline,
}

/// One wave. Without `clusters`, `count` and `percent` it takes all that are left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaveSpec {
    pub name: Name,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters: Option<LabelSelector>,
    /// So many of those that are left.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u32>,
    /// So many percent of those that are left, rounded up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u32>,
    /// Clusters of the wave in flight at once.
    #[serde(default = "Amount::all")]
    pub max_concurrent: Amount,
    /// Healthy for this long before the next wave opens.
    #[serde(default)]
    pub soak: HumanDuration,
    /// Clusters of the wave that must be healthy for it to pass.
    #[serde(default = "Amount::one")]
    pub min_healthy: Amount,
}

/// What happens when more clusters failed than the budget allows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum OnFailure {
    /// Nothing more is assigned until a person decides.
    #[default]
    Pause,
    /// Every cluster that this rollout assigned gets what it ran before.
    Rollback,
    /// The rollout goes on to its end, which says how many failed.
    Continue,
}

/// What happens to a cluster that is disconnected for too long when it is to be decided about.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Offline {
    /// It neither blocks nor counts, and catches up when it is back.
    #[default]
    Skip,
    /// Its wave waits for it.
    Wait,
    /// It counts as failed.
    Fail,
}

/// A number of clusters, or a share of them: `3` or `"25%"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Amount {
    Count(u32),
    Percent(u32),
}

impl Amount {
    pub(crate) const fn all() -> Self {
        Self::Percent(100)
    }

    pub(crate) const fn one() -> Self {
        Self::Count(1)
    }

    /// Of `total`, rounded up, and at least 1.
    pub fn at_least_one_of(self, total: u32) -> u32 {
        match self {
            Self::Count(count) => count.max(1),
            Self::Percent(percent) => share(total, percent, 99).max(1),
        }
    }

    /// Of `total`, rounded down.
    pub fn at_most_of(self, total: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => share(total, percent, 0),
        }
    }

    const fn is_zero(self) -> bool {
        matches!(self, Self::Count(0) | Self::Percent(0))
    }
}

fn share(total: u32, percent: u32, round: u64) -> u32 {
    let share = (u64::from(total) * u64::from(percent) + round) / 100;
    u32::try_from(share).unwrap_or(u32::MAX)
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => count.fmt(f),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

impl Serialize for Amount {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Count(count) => serializer.serialize_u32(*count),
            Self::Percent(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Amount {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AmountVisitor;

        impl serde::de::Visitor<'_> for AmountVisitor {
            type Value = Amount;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of clusters such as 3, or a share of them such as \"25%\"")
            }

            fn visit_u64<E: serde::de::Error>(self, count: u64) -> Result<Amount, E> {
                let refuse = |_| E::invalid_value(serde::de::Unexpected::Unsigned(count), &self);
                u32::try_from(count).map(Amount::Count).map_err(refuse)
            }

            fn visit_i64<E: serde::de::Error>(self, count: i64) -> Result<Amount, E> {
                let refuse = |_| E::invalid_value(serde::de::Unexpected::Signed(count), &self);
                u32::try_from(count).map(Amount::Count).map_err(refuse)
            }

            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Amount, E> {
                let refuse = || E::invalid_value(serde::de::Unexpected::Str(text), &self);
                let (number, amount): (&str, fn(u32) -> Amount) = match text.strip_suffix('%') {
                    Some(number) => (number, Amount::Percent),
                    None => (text, Amount::Count),
                };
                let digits_only = number.bytes().all(|byte| byte.is_ascii_digit());
                let number = number.parse().ok().filter(|_| digits_only).ok_or_else(refuse)?;
                Ok(amount(number))
            }
        }

        deserializer.deserialize_any(AmountVisitor)
    }
}

impl Default for Strategy {
    fn default() -> Self {
        Self {
            waves: Vec::new(),
            failure_budget: Amount::Count(0),
            deadline: HumanDuration::from_secs(600),
            on_failure: OnFailure::Pause,
            offline: Offline::Skip,
        }
    }
}

/// Why a strategy is refused, and what to write instead.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum StrategyError {
    #[error("{0} waves are more than {WAVES_MAX}: let one wave take several clusters by `maxConcurrent`")]
    TooManyWaves(usize),
    #[error("two waves are called `{0}`: give each a name of its own")]
    SameName(Name),
    #[error("wave `{0}` has more than one of `clusters`, `count` and `percent`: keep one of them")]
    SeveralSelections(Name),
    #[error(
        "wave `{wave}` can never get a cluster, because `{taker}` before it takes all that are left: move `{taker}` to the end"
    )]
    Unreachable { wave: Name, taker: Name },
    #[error("`{field}` of wave `{wave}` is 0: write at least 1, or leave it out")]
    Zero { wave: Name, field: &'static str },
    #[error("`{field}` is {percent}%: write at most 100%")]
    OverAll { field: String, percent: u32 },
    #[error(
        "wave `{REST}` is the one that takes what no other wave does: give it no `clusters`, `count` or `percent`, or another name"
    )]
    RestSelects,
    #[error("`deadline` is 0: write how long a cluster may take to become healthy, such as `10m`")]
    NoDeadline,
    #[error("wave `{wave}` selects by labels that cannot be")]
    Selector { wave: Name, source: InvalidLabel },
}

impl Strategy {
    /// Refuses what could not mean anything, or could never end.
    pub fn check(&self) -> Result<(), StrategyError> {
        if self.waves.len() > WAVES_MAX {
            return Err(StrategyError::TooManyWaves(self.waves.len()));
        }
        if self.deadline.is_zero() {
            return Err(StrategyError::NoDeadline);
        }
        check_percent("failureBudget", self.failure_budget)?;
        self.waves.iter().try_for_each(WaveSpec::check)?;
        self.check_order()
    }

    fn check_order(&self) -> Result<(), StrategyError> {
        let mut names = BTreeSet::new();
        let mut taker: Option<&Name> = None;
        for wave in &self.waves {
            if !names.insert(&wave.name) {
                return Err(StrategyError::SameName(wave.name.clone()));
            }
            if let Some(taker) = taker {
                return Err(StrategyError::Unreachable { wave: wave.name.clone(), taker: taker.clone() });
            }
            taker = wave.takes_all_left().then_some(&wave.name);
        }
        Ok(())
    }

    /// Members of a wave that must be healthy, of so many that are left: a share is of those, a number stays.
    pub fn healthy_min(&self, wave: &str, planned: u32, left: u32) -> u32 {
        let spec = self.waves.iter().find(|spec| spec.name.as_str() == wave);
        match spec.map(|spec| spec.min_healthy) {
            Some(share @ Amount::Percent(_)) => share.at_least_one_of(left).min(planned),
            _ => planned,
        }
    }

    /// Clusters that may fail, of so many.
    pub fn failures_max(&self, members: u32) -> u32 {
        self.failure_budget.at_most_of(members)
    }
}

impl WaveSpec {
    /// A wave that takes all clusters that are left, all at once, without a soak.
    pub fn named(name: Name) -> Self {
        Self {
            name,
            clusters: None,
            count: None,
            percent: None,
            max_concurrent: Amount::all(),
            soak: HumanDuration::ZERO,
            min_healthy: Amount::one(),
        }
    }

    pub(super) const fn takes_all_left(&self) -> bool {
        self.clusters.is_none() && self.count.is_none() && self.percent.is_none()
    }

    fn check(&self) -> Result<(), StrategyError> {
        let selections = [self.clusters.is_some(), self.count.is_some(), self.percent.is_some()];
        if selections.into_iter().filter(|&is_there| is_there).count() > 1 {
            return Err(StrategyError::SeveralSelections(self.name.clone()));
        }
        if self.name.as_str() == REST && !self.takes_all_left() {
            return Err(StrategyError::RestSelects);
        }
        let amounts = [
            ("count", self.count.map(Amount::Count)),
            ("percent", self.percent.map(Amount::Percent)),
            ("maxConcurrent", Some(self.max_concurrent)),
            ("minHealthy", Some(self.min_healthy)),
        ];
        for (field, amount) in amounts.into_iter().filter_map(|(field, amount)| Some((field, amount?))) {
            if amount.is_zero() {
                return Err(StrategyError::Zero { wave: self.name.clone(), field });
            }
            check_percent(&format!("{field} of wave {}", self.name), amount)?;
        }
        let Some(selector) = &self.clusters else { return Ok(()) };
        selector.check().map_err(|source| StrategyError::Selector { wave: self.name.clone(), source })
    }
}

fn check_percent(field: &str, amount: Amount) -> Result<(), StrategyError> {
    match amount {
        Amount::Percent(percent) if percent > 100 => Err(StrategyError::OverAll { field: field.to_owned(), percent }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn strategy(value: serde_json::Value) -> Strategy {
        serde_json::from_value(value).expect("a strategy")
    }

    #[test]
    fn what_is_left_out_is_safe() {
        let strategy = strategy(json!({}));

        assert_eq!(strategy, Strategy::default());
        assert_eq!(
            (strategy.failures_max(100), strategy.on_failure, strategy.offline),
            (0, OnFailure::Pause, Offline::Skip)
        );
        assert_eq!(strategy.deadline.to_string(), "10m");
    }

    #[test]
    fn a_written_strategy_is_read_back_from_its_own_text() {
        let written = json!({
            "waves": [
                {"name": "canary", "clusters": {"matchLabels": {"ring": "canary"}}, "maxConcurrent": 1, "soak": "10m"},
                {"name": "some", "percent": 10, "minHealthy": "50%"},
                {"name": "eu", "count": 3, "maxConcurrent": "25%"},
            ],
            "failureBudget": "5%", "deadline": "1h30m", "onFailure": "rollback", "offline": "wait",
        });
        let strategy = strategy(written);
        let again = serde_json::to_value(&strategy).expect("JSON");

        assert_eq!(strategy.check(), Ok(()));
        assert_eq!(serde_json::from_value::<Strategy>(again).expect("a strategy"), strategy);
    }

    #[test]
    fn shares_round_towards_caution() {
        let quarter = Amount::Percent(25);

        assert_eq!([0, 1, 4, 5, 10].map(|total| quarter.at_least_one_of(total)), [1, 1, 1, 2, 3]);
        assert_eq!([0, 1, 4, 5, 10].map(|total| quarter.at_most_of(total)), [0, 0, 1, 1, 2]);
    }

    #[test]
    fn what_could_not_mean_anything_is_refused_with_what_to_do() {
        let many: Vec<_> = (0..21).map(|number| json!({"name": format!("w{number}"), "count": 1})).collect();
        let cases = [
            (json!({"waves": many}), "21 waves"),
            (json!({"waves": [{"name": "a", "count": 1}, {"name": "a"}]}), "name of its own"),
            (json!({"waves": [{"name": "a", "count": 1, "percent": 5}]}), "keep one of them"),
            (json!({"waves": [{"name": "a", "clusters": {}, "percent": 5}]}), "keep one of them"),
            (json!({"waves": [{"name": "all"}, {"name": "b", "count": 1}]}), "move `all` to the end"),
            (json!({"waves": [{"name": "a", "count": 0}]}), "at least 1"),
            (json!({"waves": [{"name": "a", "maxConcurrent": "0%"}]}), "at least 1"),
            (json!({"waves": [{"name": "a", "minHealthy": 0}]}), "at least 1"),
            (json!({"waves": [{"name": "a", "percent": 101}]}), "at most 100%"),
            (json!({"failureBudget": "101%"}), "at most 100%"),
            (json!({"deadline": "0s"}), "such as `10m`"),
            (json!({"waves": [{"name": "rest", "count": 1}]}), "another name"),
            (json!({"waves": [{"name": "a", "clusters": {"matchLabels": {"a b": "c"}}}]}), "cannot be"),
        ];
        for (written, advice) in cases {
            let refusal = strategy(written.clone()).check().expect_err("refused").to_string();
            assert!(refusal.contains(advice), "{written}: {refusal}");
        }
    }
}
