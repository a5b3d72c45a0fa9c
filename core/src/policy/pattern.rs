//! Patterns of names, and of kinds. A `*` stands for any characters, also for none; all else for itself.

use serde::Deserialize;

use crate::ObjectKey;

/// Longer than any name of Kubernetes, and short enough to be compared with each object.
const PATTERN_CHARS_MAX: usize = 253;

/// The group without a name, of `v1`, as a pattern has it.
pub(super) const CORE_GROUP: &str = "core";

/// Of names of projects, namespaces or ServiceAccounts.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Pattern(String);

/// `GROUP/KIND`. Always with a group: whoever denies an Ingress means all that are called so, and whoever allows a Service
/// only Kubernetes' own.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct KindPattern {
    group: String,
    kind: String,
}

impl TryFrom<String> for Pattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let may_stand = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-.*".contains(&byte);
        let fits = (1..=PATTERN_CHARS_MAX).contains(&text.len()) && text.bytes().all(may_stand);
        if fits { Ok(Self(text)) } else { Err(format!("`{}` is no pattern of names, such as `team-*`", short(&text))) }
    }
}

impl TryFrom<String> for KindPattern {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (of_group, of_kind) = (b"-.*".as_slice(), b"*".as_slice());
        let fits = |part: &str, more: &[u8]| {
            (1..=PATTERN_CHARS_MAX).contains(&part.len())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || more.contains(&byte))
        };
        let is_version =
            |group: &str| group.strip_prefix('v').is_some_and(|rest| rest.starts_with(|it: char| it.is_ascii_digit()));
        let parts = text.split_once('/').filter(|(group, kind)| fits(group, of_group) && fits(kind, of_kind));
        let parts = parts.filter(|(group, _)| !is_version(group));
        // A word of some other case would allow or deny nothing.
        let lower = |part: &str| part.to_ascii_lowercase();
        parts.map(|(group, kind)| Self { group: lower(group), kind: lower(kind) }).ok_or_else(|| {
            format!(
                "`{}` is no pattern of kinds: it is GROUP/KIND, such as `apps/Deployment`, `{CORE_GROUP}/Secret` or \
                 `rbac.authorization.k8s.io/*`",
                short(&text)
            )
        })
    }
}

impl Pattern {
    pub(super) fn covers(&self, name: &str) -> bool {
        covers(self.0.as_bytes(), name.as_bytes())
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl KindPattern {
    pub(super) fn covers(&self, key: &ObjectKey) -> bool {
        let group = if key.group().is_empty() { CORE_GROUP.to_owned() } else { key.group().to_ascii_lowercase() };
        covers(self.group.as_bytes(), group.as_bytes())
            && covers(self.kind.as_bytes(), key.kind.to_ascii_lowercase().as_bytes())
    }
}

/// Goes back to the last `*` alone, as one before it can take nothing that this one cannot: at most as many steps as there
/// are characters, times each other.
fn covers(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while read < text.len() {
        if pattern.get(at) == Some(&b'*') {
            star = Some((at, read));
            at += 1;
        } else if pattern.get(at) == text.get(read) {
            (at, read) = (at + 1, read + 1);
        } else if let Some((star_at, taken)) = star {
            star = Some((star_at, taken + 1));
            (at, read) = (star_at + 1, taken + 1);
        } else {
            return false;
        }
    }
    pattern.get(at..).is_some_and(|rest| rest.iter().all(|&byte| byte == b'*'))
}

fn short(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// As it is defined, and as slow as it likes.
    fn by_definition(pattern: &[u8], text: &[u8]) -> bool {
        match pattern.split_first() {
            None => text.is_empty(),
            Some((b'*', rest)) => (0..=text.len()).any(|taken| by_definition(rest, &text[taken..])),
            Some((byte, rest)) => text.first() == Some(byte) && by_definition(rest, &text[1..]),
        }
    }

    proptest! {
        #[test]
        fn a_star_stands_for_any_characters_and_all_else_for_itself(pattern in "[ab*]{0,8}", text in "[ab]{0,10}") {
            prop_assert_eq!(covers(pattern.as_bytes(), text.as_bytes()), by_definition(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn a_pattern_without_a_star_covers_itself_alone(name in "[a-z0-9-]{1,20}", other in "[a-z0-9-]{1,20}") {
            let pattern = Pattern::try_from(name.clone()).expect("a pattern");
            prop_assert!(pattern.covers(&name));
            prop_assert_eq!(pattern.covers(&other), name == other);
        }

        #[test]
        fn no_text_breaks_the_reader(text in "\\PC{0,300}") {
            let _ = Pattern::try_from(text.clone());
            let _ = KindPattern::try_from(text);
        }
    }

    fn key(api_version: &str, kind: &str) -> ObjectKey {
        ObjectKey { api_version: api_version.to_owned(), kind: kind.to_owned(), namespace: None, name: "a".to_owned() }
    }

    #[test]
    fn a_kind_is_named_with_its_group_and_in_any_case() {
        let covers = |pattern: &str, api_version: &str, kind: &str| {
            KindPattern::try_from(pattern.to_owned()).expect(pattern).covers(&key(api_version, kind))
        };

        assert!(covers("rbac.authorization.k8s.io/*", "rbac.authorization.k8s.io/v1", "Role"));
        assert!(covers("core/secret", "v1", "Secret") && !covers("core/Secret", "a.example.org/v1", "Secret"));
        assert!(covers("*/Ingress", "networking.k8s.io/v1", "Ingress") && covers("*/*", "v1", "Pod"));
        assert!(!covers("apps/Deploy", "apps/v1", "Deployment"));
        for wrong in ["Secret", "*", "core/", "/Secret", "core/Secret/x", "core/Sec ret", "v1/Secret", ""] {
            let refusal = KindPattern::try_from(wrong.to_owned()).expect_err(wrong);
            assert!(refusal.contains("GROUP/KIND"), "{refusal}");
        }
    }

    #[test]
    fn a_long_pattern_of_stars_is_compared_quickly_and_a_longer_one_refused() {
        let pattern = Pattern::try_from(format!("{}b", "*a".repeat(100))).expect("a pattern");

        assert!(!pattern.covers(&"a".repeat(253)));
        for wrong in ["", "Team", "a/b", "[ab]", "a?", "ä", &"a".repeat(254)] {
            assert!(Pattern::try_from(wrong.to_owned()).is_err(), "{wrong}");
        }
    }
}
