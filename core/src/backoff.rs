//! How long to wait before trying again: exponential, capped, with full jitter.
//!
//! Full jitter (anything between nothing and the cap of this try) is what spreads a fleet that lost its hub in the same
//! instant. Chance is an argument.

use std::time::Duration;

/// From which wait to which: twice as long after each failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    pub first: Duration,
    pub longest: Duration,
    pub jitter: Jitter,
}

/// How much of a wait is left to chance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Jitter {
    /// Nothing: for one that waits for nobody else's sake.
    None,
    /// Anything from nothing to the whole wait: for many that start together.
    Full,
    /// From half of the wait to the whole: for what should not be asked again at once.
    Half,
}

impl Backoff {
    /// The wait after that many failures, the first of which is 1, with nothing left to chance.
    pub fn whole(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        self.first.saturating_mul(1 << doublings).min(self.longest)
    }

    /// The wait after that many failures. `chance` is in `0.0..1.0`.
    pub fn wait(self, failures: u32, chance: f64) -> Duration {
        let whole = self.whole(failures);
        match self.jitter {
            Jitter::None => whole,
            Jitter::Full => whole.mul_f64(chance),
            Jitter::Half => whole.mul_f64(0.5 + chance / 2.0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff =
        Backoff { first: Duration::from_millis(100), longest: Duration::from_secs(15), jitter: Jitter::Full };

    #[test]
    fn waits_double_up_to_the_longest() {
        let longest_of = |failures| BACKOFF.wait(failures, 0.999_999_9).as_millis();

        assert_eq!([1, 2, 3, 8, 9, 1_000].map(longest_of), [99, 199, 399, 12_799, 14_999, 14_999]);
    }

    #[test]
    fn full_jitter_may_wait_not_at_all_and_half_jitter_never_less_than_half() {
        let half = Backoff { jitter: Jitter::Half, ..BACKOFF };

        assert_eq!(BACKOFF.wait(3, 0.0), Duration::ZERO);
        assert_eq!(half.wait(3, 0.0), Duration::from_millis(200));
    }
}
