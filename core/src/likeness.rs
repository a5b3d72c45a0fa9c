//! What somebody probably meant who wrote something else.

/// A name that is less like what was written is no misspelling of it.
const LIKENESS_MIN: f64 = 0.75;

/// The known name that was probably meant; capitals do not count.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let written = written.to_lowercase();
    let likeness = |name: &str| strsim::jaro_winkler(&written, &name.to_lowercase());
    let best = known.into_iter().map(|name| (likeness(name), name)).max_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 >= LIKENESS_MIN).then_some(best.1)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_slip_is_known_and_another_word_is_none() {
        let known = ["replicas", "image", "Deployment"];

        assert_eq!(nearest("replcias", known), Some("replicas"));
        assert_eq!(nearest("deploiment", known), Some("Deployment"));
        assert_eq!(nearest("volume", known), None);
        assert_eq!(nearest("image", []), None);
    }
}
