//! Lengths of time as people write them: `30s`, `10m`, `1h30m`.
//!
//! One strict form, so that a file and what is read back from it are the same text. It knows nothing of calendars: a
//! day is 24 hours.

use std::fmt;
use std::str::FromStr;

use jiff::SignedDuration;
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A length of time, never negative and at most [`HumanDuration::MAX`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct HumanDuration(SignedDuration);

/// Why a text is no length of time. It is shown with at most 40 characters.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum InvalidDuration {
    #[error("`{0}` is not a length of time such as `30s`, `10m` or `1h30m` (units: d, h, m, s, ms, the larger first)")]
    Form(String),
    #[error("`{0}` is longer than a year")]
    TooLong(String),
}

/// Milliseconds of each unit, the larger first.
const UNITS: [(&str, i64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl HumanDuration {
    /// A year: what is longer is a mistake in a file, and sums of times never overflow below it.
    pub const MAX: Self = Self(SignedDuration::from_hours(24 * 366));
    /// `0s`.
    pub const ZERO: Self = Self(SignedDuration::ZERO);

    /// At most [`HumanDuration::MAX`]: what is longer is that.
    pub const fn from_secs(seconds: u32) -> Self {
        let duration = SignedDuration::from_secs(seconds as i64);
        if duration.as_secs() > Self::MAX.0.as_secs() { Self::MAX } else { Self(duration) }
    }

    /// Of any duration: a negative one is nothing, one that is too long is the longest.
    pub fn clamped(duration: SignedDuration) -> Self {
        Self(duration.clamp(SignedDuration::ZERO, Self::MAX.0))
    }

    /// To reckon with.
    pub const fn duration(self) -> SignedDuration {
        self.0
    }

    /// No time at all.
    pub const fn is_zero(self) -> bool {
        self.0.is_zero()
    }
}

impl FromStr for HumanDuration {
    type Err = InvalidDuration;

    fn from_str(text: &str) -> Result<Self, InvalidDuration> {
        let shown = || text.chars().take(40).collect();
        let parts = parts(text).ok_or_else(|| InvalidDuration::Form(shown()))?;
        let total = parts.iter().try_fold(0_i64, |sum, &(number, unit)| sum.checked_add(number.checked_mul(unit)?));
        let duration = total.map(SignedDuration::from_millis).filter(|&duration| duration <= Self::MAX.0);
        duration.map(Self).ok_or_else(|| InvalidDuration::TooLong(shown()))
    }
}

/// Numbers with their units in milliseconds; `None` unless each unit is there once at most, the larger first.
fn parts(text: &str) -> Option<Vec<(i64, i64)>> {
    let mut parts: Vec<(i64, i64)> = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|character: char| !character.is_ascii_digit())?;
        let letters = rest[digits..].find(|character: char| character.is_ascii_digit()).unwrap_or(rest.len() - digits);
        let (number, name) = (&rest[..digits], &rest[digits..digits + letters]);
        let &(_, unit) = UNITS.iter().find(|&&(unit, _)| unit == name)?;
        if parts.last().is_some_and(|&(_, before)| before <= unit) || number.len() > 12 {
            return None;
        }
        parts.push((number.parse().ok()?, unit));
        rest = &rest[digits + letters..];
    }
    (!parts.is_empty()).then_some(parts)
}

impl fmt::Display for HumanDuration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut left = i64::try_from(self.0.as_millis()).unwrap_or(i64::MAX);
        if left == 0 {
            return f.write_str("0s");
        }
        for (name, unit) in UNITS {
            if left >= unit {
                write!(f, "{}{name}", left / unit)?;
                left %= unit;
            }
        }
        Ok(())
    }
}

impl Serialize for HumanDuration {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for HumanDuration {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl Visitor<'_> for Text {
            type Value = HumanDuration;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("a length of time with its unit, such as `30s`")
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<HumanDuration, E> {
                text.parse().map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_back() {
        for text in ["0s", "30s", "10m", "1h30m", "250ms", "1d", "1d2h3m4s5ms"] {
            assert_eq!(text.parse::<HumanDuration>().expect(text).to_string(), text);
        }
        assert_eq!("90s".parse::<HumanDuration>().expect("a duration").to_string(), "1m30s");
    }

    #[test]
    fn a_sloppy_length_of_time_is_refused() {
        for text in ["", "10", "m", "-1s", "1.5h", "10 m", "10m10m", "1s1m", "1w", "10M", "1h30", "ü", "0000000000000s"]
        {
            assert!(matches!(text.parse::<HumanDuration>(), Err(InvalidDuration::Form(_))), "{text}");
        }
        assert!(matches!("999999999999d".parse::<HumanDuration>(), Err(InvalidDuration::TooLong(_))));
    }
}
