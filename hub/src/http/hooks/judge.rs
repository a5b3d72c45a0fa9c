//! Whether a push is worth a fetch. Same facts, same answer; the fetch decides what there is.

use std::collections::BTreeMap;

use bellwether_core::source::{HEAD, is_full_name, may_mean, name_in};

use super::told::{Now, Push};
use crate::store::webhooks::Followed;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Fetch {
        /// Where refs that targets follow are said to be; `None`: gone.
        expected: BTreeMap<String, Option<String>>,
    },
    /// No target follows what was pushed.
    Unfollowed,
    /// It is known to be there.
    Known {
        /// Whatever else was expected of these refs is overtaken.
        overtaken: Vec<String>,
    },
}

pub(super) fn judge(pushes: &[Push], followed: &[Followed]) -> Verdict {
    let pairs = || {
        let of = |push| followed.iter().filter(move |one| concerns(push, one)).map(move |one| (push, one));
        pushes.iter().flat_map(of)
    };
    if pairs().next().is_none() {
        return Verdict::Unfollowed;
    }
    if !pairs().any(|(push, one)| is_news(push, one)) {
        let overtaken = pairs().filter(|(_, one)| one.is_expected).map(|(_, one)| one.reference.clone());
        return Verdict::Known { overtaken: overtaken.collect() };
    }
    let expected = pairs().filter(|(push, one)| may_mean(&one.reference, &push.reference) && is_news(push, one));
    let expected = expected.filter_map(|(push, one)| match &push.now {
        Now::At(commit) => Some((one.reference.clone(), Some(commit.clone()))),
        Now::Gone => Some((one.reference.clone(), None)),
        Now::Somewhere => None,
    });
    Verdict::Fetch { expected: expected.collect() }
}

/// Whether what follows a ref may see something of a push. A commit can come with any, as long as it was not seen; any
/// branch may be the default one; and what else is no name of a ref is a choice among tags.
fn concerns(push: &Push, followed: &Followed) -> bool {
    let name = followed.reference.as_str();
    if may_mean(name, &push.reference) {
        return true;
    }
    if let Some(name) = name_in(name) {
        return name == HEAD && push.reference.starts_with("refs/heads/");
    }
    let is_commit = name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let is_choice = !is_commit && !is_full_name(name);
    (is_commit && followed.head.is_none() && push.now != Now::Gone)
        || (is_choice && push.reference.starts_with("refs/tags/"))
}

fn is_news(push: &Push, followed: &Followed) -> bool {
    if !may_mean(&followed.reference, &push.reference) {
        return true;
    }
    match &push.now {
        Now::At(commit) => followed.has_condition || followed.head.as_ref() != Some(commit),
        Now::Gone => !followed.has_condition,
        Now::Somewhere => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn follows(reference: &str, head: Option<&str>) -> Followed {
        let head = head.map(ToOwned::to_owned);
        Followed { reference: reference.to_owned(), head, has_condition: false, is_expected: false }
    }

    fn push(reference: &str, now: Now) -> Push {
        Push { reference: reference.to_owned(), now }
    }

    fn at(commit: &str) -> Now {
        Now::At(commit.to_owned())
    }

    fn expects(pairs: &[(&str, Option<&str>)]) -> Verdict {
        let owned = |(name, commit): &(&str, Option<&str>)| ((*name).to_owned(), commit.map(ToOwned::to_owned));
        Verdict::Fetch { expected: pairs.iter().map(owned).collect() }
    }

    #[test]
    fn what_a_push_means_depends_on_what_is_followed_and_seen() {
        let main = || follows("refs/heads/main", Some(A));
        let named = |name: &str| follows(&format!("name:{name}"), Some(A));
        let gone = || Followed { has_condition: true, ..main() };
        let known = || Verdict::Known { overtaken: Vec::new() };
        let tag = "refs/tags/v1";
        for (name, pushed, followed, expected) in [
            ("another branch", push("refs/heads/dev", at(B)), main(), Verdict::Unfollowed),
            ("a branch whose name begins so", push("refs/heads/main/2", at(B)), main(), Verdict::Unfollowed),
            ("a tag of the same name", push("refs/tags/main", at(B)), main(), Verdict::Unfollowed),
            ("news", push("refs/heads/main", at(B)), main(), expects(&[("refs/heads/main", Some(B))])),
            ("what was seen", push("refs/heads/main", at(A)), main(), known()),
            ("a deletion", push("refs/heads/main", Now::Gone), main(), expects(&[("refs/heads/main", None)])),
            ("a deletion that was seen", push("refs/heads/main", Now::Gone), gone(), known()),
            ("a branch that is back", push("refs/heads/main", at(A)), gone(), expects(&[("refs/heads/main", Some(A))])),
            ("a commit that is not told", push(tag, Now::Somewhere), follows(tag, Some(A)), expects(&[])),
            ("a commit that is missing", push("refs/heads/dev", at(B)), follows(A, None), expects(&[])),
            ("a commit that is there", push("refs/heads/dev", at(B)), follows(A, Some(A)), Verdict::Unfollowed),
            ("a branch by its name", push("refs/heads/main", at(B)), named("main"), expects(&[("name:main", Some(B))])),
            ("a tag of that name", push("refs/tags/main", at(B)), named("main"), expects(&[("name:main", Some(B))])),
            ("what was seen by that name", push("refs/heads/main", at(A)), named("main"), known()),
            ("another name", push("refs/tags/v1", at(B)), named("main"), Verdict::Unfollowed),
            ("what may be the default branch", push("refs/heads/dev", at(B)), named("HEAD"), expects(&[])),
            ("what is no branch", push("refs/tags/v1", at(B)), named("HEAD"), Verdict::Unfollowed),
            ("a choice among tags", push("refs/tags/v1.2.3", at(B)), follows("tags ^1.2", Some(A)), expects(&[])),
            (
                "a branch for those",
                push("refs/heads/v1.2.3", at(B)),
                follows("tags ^1.2", Some(A)),
                Verdict::Unfollowed,
            ),
        ] {
            assert_eq!(judge(&[pushed], &[followed]), expected, "{name}");
        }
    }

    #[test]
    fn one_ref_of_many_is_enough_and_what_is_overtaken_is_named() {
        let main = Followed { is_expected: true, ..follows("refs/heads/main", Some(A)) };
        let (seen, news) = (push("refs/heads/main", at(A)), push("refs/heads/prod", at(B)));
        let prod = follows("refs/heads/prod", None);

        assert_eq!(judge(&[seen.clone(), news], &[main.clone(), prod]), expects(&[("refs/heads/prod", Some(B))]),);
        assert_eq!(judge(&[seen], &[main]), Verdict::Known { overtaken: vec!["refs/heads/main".to_owned()] });
        assert_eq!(judge(&[], &[]), Verdict::Unfollowed);
    }
}
