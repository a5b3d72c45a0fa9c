//! Errors in one line, for people: in logs, in conditions, on a terminal.

use std::error::Error;

/// An error with all that caused it. Causes that are said already are left out: many libraries repeat theirs.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let words = source.to_string();
        if !text.contains(&words) {
            text.push_str(": ");
            text.push_str(&words);
        }
        next = source.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::chain;

    #[derive(Debug, thiserror::Error)]
    #[error("{words}")]
    struct Link {
        words: &'static str,
        source: Option<Box<Link>>,
    }

    fn link(words: &'static str, source: Option<Link>) -> Link {
        Link { words, source: source.map(Box::new) }
    }

    #[test]
    fn each_cause_is_said_once() {
        let root = link("connection refused", None);
        let repeats = link("error sending: connection refused", Some(root));
        let top = link("cannot fetch", Some(repeats));

        assert_eq!(chain(&top), "cannot fetch: error sending: connection refused");
    }
}
