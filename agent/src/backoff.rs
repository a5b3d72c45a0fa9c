//! How long to wait before trying again, as [`bellwether_core::backoff`] decides it, and where its chance comes from.

pub(crate) use bellwether_core::backoff::{Backoff, Jitter};

/// A number in `0.0..1.0`. Good enough to spread waits; nothing secret is made from it.
pub(crate) fn chance() -> f64 {
    let (high, _) = crate::clock::random_id().as_u64_pair();
    // The low 12 bits of the high half hold the version and fewer random bits: the upper 32 are all random.
    f64::from(u32::try_from(high >> 32).unwrap_or_default()) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chance_stays_in_its_range_and_varies() {
        let chances: Vec<_> = (0..100).map(|_| chance()).collect();

        assert!(chances.iter().all(|chance| (0.0..1.0).contains(chance)));
        assert!(chances.iter().any(|&chance| chance < 0.5) && chances.iter().any(|&chance| chance > 0.5));
    }
}
