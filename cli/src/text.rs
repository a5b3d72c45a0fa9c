//! Values as people read them.

use bellwether_core::api::SourceCommit;
use bellwether_core::report::is_obeyed;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

/// The text without what a terminal would obey; line ends stay.
pub(crate) fn visible(text: &str) -> String {
    text.chars().map(|character| if is_obeyed(character) && character != '\n' { ' ' } else { character }).collect()
}

/// The same in one line: what a file names itself begins no line of a log.
pub(crate) fn visible_line(text: &str) -> String {
    visible(text).replace('\n', " ")
}

/// How long ago, in its largest unit: `5s`, `12m`, `3h`, `9d`.
pub(crate) fn age(then: Timestamp, now: Timestamp) -> String {
    short_duration(now.duration_since(then))
}

pub(crate) fn short_duration(duration: SignedDuration) -> String {
    let seconds = duration.as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7_200 => format!("{}m", seconds / 60),
        7_200..172_800 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// A time as people read it, to the second.
pub(crate) fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// The first digits of a commit, as Git shows them.
pub(crate) fn short_commit(commit: &str) -> &str {
    commit.get(..8).unwrap_or(commit)
}

/// A commit, with those of other repos that it was rendered with: `0922e9ca with env 2fee930e`.
pub(crate) fn revision(commit: &str, sources: &[SourceCommit]) -> String {
    let others: Vec<_> =
        sources.iter().map(|source| format!("{} {}", source.repo, short_commit(&source.commit))).collect();
    let commit = short_commit(commit);
    if others.is_empty() { commit.to_owned() } else { format!("{commit} with {}", others.join(", ")) }
}

/// The word that stands for an enum's variant in the API, so that no other name for it is ever printed.
pub(crate) fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(Value::String(text)) => text,
        _ => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_in_their_largest_unit() {
        let shown: Vec<_> = [-5, 0, 119, 120, 7_199, 7_200, 172_799, 172_800]
            .map(|seconds| short_duration(SignedDuration::from_secs(seconds)))
            .into();

        assert_eq!(shown, ["0s", "0s", "119s", "2m", "119m", "2h", "47h", "2d"]);
    }

    #[test]
    fn nothing_from_elsewhere_moves_the_cursor() {
        assert_eq!(visible("a\u{1b}[2Jb\r\nc\u{9b}x"), "a [2Jb \nc x");
    }

    #[test]
    fn nothing_from_elsewhere_turns_the_order_of_what_is_read() {
        assert_eq!(visible("main\u{202e}gpj.exe\u{2069}"), "main gpj.exe ");
    }
}
