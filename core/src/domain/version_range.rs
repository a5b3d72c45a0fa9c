//! Which of a repo's tags a range of versions means.
//!
//! Decides from names alone; it knows no repository. Ranges are written as Flux and npm users write them: `>=1.2 <2`, `1.2.x`,
//! `^1.4`, `~1.4.2`, `1.2 - 1.4`, `>=1 <2 || >=3`. A version before a release (`2.0.0-rc.1`) is taken only where the range
//! itself names one.

use std::cmp::Ordering;

use semver::{BuildMetadata, Prerelease, Version};

/// A range is a line that a person wrote.
const LENGTH_MAX: usize = 200;

/// Versions are in it when they are in one of its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VersionRange(Vec<Span>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Span {
    from: Version,
    /// The first that is beyond it.
    to: Option<Version>,
    /// Versions before a release are in it too.
    with_prereleases: bool,
}

/// `1`, `1.2`, `1.2.3`, `1.2.3-rc.1`, and with `x` or `*` for what is left open.
struct Partial {
    major: Option<u64>,
    minor: Option<u64>,
    patch: Option<u64>,
    pre: Prerelease,
}

/// Whether a text is one version, and no range.
pub fn is_version(text: &str) -> bool {
    Version::parse(text.strip_prefix('v').unwrap_or(text)).is_ok()
}

impl VersionRange {
    /// Nothing, when it is no range.
    pub fn parse(text: &str) -> Option<Self> {
        if text.len() > LENGTH_MAX || text.chars().any(char::is_control) {
            return None;
        }
        let spans: Option<Vec<Span>> = text.split("||").map(parse_span).collect();
        spans
            .filter(|spans| spans.iter().all(|span| span.to.as_ref().is_none_or(|to| precedes(&span.from, to))))
            .map(Self)
    }

    fn has(&self, version: &Version) -> bool {
        self.0.iter().any(|span| span.has(version))
    }

    /// The newest version's tag; of two tags for one version the one whose name is the greater, so that every hub says the same.
    pub fn newest<'a>(&self, tags: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
        let versions = tags.into_iter().filter_map(|tag| Some((version_of(tag)?, tag)));
        let newest = versions.filter(|(version, _)| self.has(version)).max_by(order);
        newest.map(|(_, tag)| tag)
    }

    /// What a person may have meant who finds nothing in it: the last tag below it, the first above it, and one before a
    /// release that is left out only for that.
    pub fn nearest<'a>(&self, tags: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
        let mut versions: Vec<_> = tags.into_iter().filter_map(|tag| Some((version_of(tag)?, tag))).collect();
        versions.sort_by(order);
        let wide = Self(self.0.iter().map(Span::with_prereleases).collect());
        let (within, without): (Vec<_>, Vec<_>) = versions.iter().partition(|(version, _)| wide.has(version));
        let is_below = |version: &Version| wide.0.iter().all(|span| precedes(version, &span.from));
        let (below, above): (Vec<_>, Vec<_>) = without.into_iter().partition(|(version, _)| is_below(version));
        [below.last(), within.last(), above.first()].into_iter().flatten().map(|(_, tag)| *tag).collect()
    }
}

impl Span {
    fn has(&self, version: &Version) -> bool {
        let is_after = !precedes(version, &self.from);
        let is_before = self.to.as_ref().is_none_or(|to| precedes(version, to));
        is_after && is_before && (version.pre.is_empty() || self.with_prereleases)
    }

    /// The same, and what comes before the releases in it.
    fn with_prereleases(&self) -> Self {
        let Version { major, minor, patch, ref pre, .. } = self.from;
        let from = if pre.is_empty() { first(major, minor, patch) } else { self.from.clone() };
        Self { from, to: self.to.clone(), with_prereleases: true }
    }

    /// What is in both.
    fn and(self, other: Self) -> Self {
        let from = if precedes(&self.from, &other.from) { other.from } else { self.from };
        let to = match (self.to, other.to) {
            (Some(left), Some(right)) => Some(if precedes(&left, &right) { left } else { right }),
            (left, right) => left.or(right),
        };
        Self { from, to, with_prereleases: self.with_prereleases || other.with_prereleases }
    }
}

/// `v1.2.3` and `1.2.3`; what leaves something open is a name that moves, and no version.
fn version_of(tag: &str) -> Option<Version> {
    Version::parse(tag.strip_prefix('v').unwrap_or(tag)).ok()
}

/// What a registry's tag means as a version: no tag may hold the plus sign that begins what was built, so Helm writes another
/// one.
pub fn of_registry(tag: &str) -> String {
    tag.replacen('_', "+", 1)
}

/// Whether a tag's version comes after another's; what is no version never does. No version of Git's tags has a `_`, so
/// those of registries are read by the same rule.
pub fn is_newer(tag: &str, than: &str) -> bool {
    matches!((version_of(&of_registry(tag)), version_of(&of_registry(than))), (Some(tag), Some(than)) if precedes(&than, &tag))
}

/// By version alone, whatever was built.
fn precedes(left: &Version, right: &Version) -> bool {
    left.cmp_precedence(right) == Ordering::Less
}

fn order(left: &(Version, &str), right: &(Version, &str)) -> Ordering {
    left.0.cmp_precedence(&right.0).then_with(|| left.1.cmp(right.1))
}

fn parse_span(text: &str) -> Option<Span> {
    if let Some((low, high)) = text.split_once(" - ") {
        let low = Partial::parse(low.trim())?;
        let high = Partial::parse(high.trim())?;
        return Some(low.at_least().and(high.at_most()));
    }
    // An operator may stand away from its version.
    let mut rest = text.replace(',', " ");
    for operator in [">=", "<=", ">", "<", "=", "^", "~"] {
        while rest.contains(&format!("{operator} ")) {
            rest = rest.replace(&format!("{operator} "), operator);
        }
    }
    let spans: Option<Vec<Span>> = rest.split_whitespace().map(parse_comparator).collect();
    spans?.into_iter().reduce(Span::and)
}

fn parse_comparator(text: &str) -> Option<Span> {
    let start = text.find(|character: char| !"<>=^~".contains(character))?;
    let (operator, version) = text.split_at(start);
    let version = Partial::parse(version)?;
    match operator {
        "" | "=" => Some(version.at_least().and(version.at_most())),
        ">=" => Some(version.at_least()),
        "<=" => Some(version.at_most()),
        ">" => version.above(),
        "<" => Some(version.below()),
        "~" => Some(version.at_least().and(version.before(version.next_minor()))),
        "^" => Some(version.at_least().and(version.before(version.next_incompatible()))),
        _ => None,
    }
}

impl Partial {
    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('v').unwrap_or(text);
        let (numbers, pre) = match text.split_once('-') {
            Some((numbers, pre)) if !pre.is_empty() => (numbers, Prerelease::new(pre).ok()?),
            Some(_) => return None,
            None => (text, Prerelease::EMPTY),
        };
        let parts: Vec<&str> = numbers.split('.').collect();
        let part = |at: usize| match parts.get(at) {
            None | Some(&("x" | "X" | "*")) => Some(None),
            Some(digits) => {
                digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten().map(Some)
            }
        };
        let [major, minor, patch] = [part(0)?, part(1)?, part(2)?];
        // After what is open nothing can be fixed, and only a whole version has something before it.
        let is_sound = (major.is_some() || minor.is_none()) && (minor.is_some() || patch.is_none());
        let is_whole = patch.is_some() || pre.is_empty();
        (parts.len() <= 3 && is_sound && is_whole).then_some(Self { major, minor, patch, pre })
    }

    fn lowest(&self) -> Version {
        Version {
            major: self.major.unwrap_or(0),
            minor: self.minor.unwrap_or(0),
            patch: self.patch.unwrap_or(0),
            pre: self.pre.clone(),
            build: BuildMetadata::EMPTY,
        }
    }

    fn names_prerelease(&self) -> bool {
        !self.pre.is_empty()
    }

    fn at_least(&self) -> Span {
        Span { from: self.lowest(), to: None, with_prereleases: self.names_prerelease() }
    }

    fn before(&self, to: Option<Version>) -> Span {
        Span { from: first(0, 0, 0), to, with_prereleases: self.names_prerelease() }
    }

    fn at_most(&self) -> Span {
        self.before(self.after())
    }

    fn above(&self) -> Option<Span> {
        // Above everything is nothing.
        Some(Span { from: self.after()?, to: None, with_prereleases: self.names_prerelease() })
    }

    /// The versions before a release belong to it: `<2` has no `2.0.0-rc.1`.
    fn below(&self) -> Span {
        let lowest = self.lowest();
        let to = if self.names_prerelease() { lowest } else { first(lowest.major, lowest.minor, lowest.patch) };
        self.before(Some(to))
    }

    /// The first version beyond all that it stands for; none beyond everything.
    fn after(&self) -> Option<Version> {
        match (self.major, self.minor, self.patch) {
            (None, ..) => None,
            (Some(major), None, _) => Some(first(major.checked_add(1)?, 0, 0)),
            (Some(major), Some(minor), None) => Some(first(major, minor.checked_add(1)?, 0)),
            // Right behind a version comes what begins with it and goes on.
            (Some(_), Some(_), Some(_)) if self.names_prerelease() => {
                let pre = Prerelease::new(&format!("{}.0", self.pre)).ok()?;
                Some(Version { pre, ..self.lowest() })
            }
            (Some(major), Some(minor), Some(patch)) => Some(first(major, minor, patch.checked_add(1)?)),
        }
    }

    fn next_minor(&self) -> Option<Version> {
        match (self.major, self.minor) {
            (Some(major), Some(minor)) => Some(first(major, minor.checked_add(1)?, 0)),
            (Some(major), None) => Some(first(major.checked_add(1)?, 0, 0)),
            (None, _) => None,
        }
    }

    /// The first number that is not nothing says what is compatible.
    fn next_incompatible(&self) -> Option<Version> {
        match (self.major, self.minor, self.patch) {
            (None, ..) => None,
            (Some(0), Some(0), Some(patch)) => Some(first(0, 0, patch.checked_add(1)?)),
            (Some(0), Some(minor), _) => Some(first(0, minor.checked_add(1)?, 0)),
            (Some(major), ..) => Some(first(major.checked_add(1)?, 0, 0)),
        }
    }
}

/// Of a version, the first that comes before its release.
fn first(major: u64, minor: u64, patch: u64) -> Version {
    let pre = Prerelease::new("0").expect("a number is one");
    Version { major, minor, patch, pre, build: BuildMetadata::EMPTY }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TAGS: [&str; 14] = [
        "v0.3.1",
        "v0.3.9",
        "0.4.0",
        "1.0.0",
        "v1.2.0",
        "v1.2.5",
        "v1.4.0-rc.1",
        "v1.10.0",
        "v2.0.0-rc.1",
        "v2.0.0",
        "v3.0.0-beta.2",
        "v3",
        "latest",
        "release-2026",
    ];

    fn newest(range: &str) -> Option<&'static str> {
        VersionRange::parse(range).unwrap_or_else(|| panic!("{range} is a range")).newest(TAGS)
    }

    #[test]
    fn a_tag_of_a_registry_is_the_version_that_it_stands_for() {
        assert!(is_newer("1.2.4_b5", "1.2.3_b4") && is_newer("v1.10.0", "v1.9.0"));
        assert!(!is_newer("1.2.3_b6", "1.2.4_b5") && !is_newer("latest", "1.0.0"));
    }

    #[test]
    fn a_range_means_the_newest_version_in_it() {
        let cases = [
            (">=1.2 <2", Some("v1.10.0")),
            (">= 1.2, < 2", Some("v1.10.0")),
            ("1.2.x", Some("v1.2.5")),
            ("1.2", Some("v1.2.5")),
            ("1.2.0", Some("v1.2.0")),
            ("=v1.2.0", Some("v1.2.0")),
            ("1", Some("v1.10.0")),
            ("*", Some("v2.0.0")),
            ("^1.2", Some("v1.10.0")),
            ("~1.2.1", Some("v1.2.5")),
            ("^0.3.1", Some("v0.3.9")),
            ("^0", Some("0.4.0")),
            (">1.2", Some("v2.0.0")),
            (">1.2.0 <=1.2.5", Some("v1.2.5")),
            ("<1.2.5", Some("v1.2.0")),
            ("1.0 - 1.2", Some("v1.2.5")),
            ("<1 || >=1.2 <1.3", Some("v1.2.5")),
            (">=4", None),
            ("1.3.x", None),
        ];

        for (range, expected) in cases {
            assert_eq!(newest(range), expected, "{range}");
        }
    }

    #[test]
    fn versions_before_a_release_are_taken_only_where_the_range_names_one() {
        let cases = [
            (">=3", None),
            (">=3.0.0-0", Some("v3.0.0-beta.2")),
            (">=3.0.0-beta.3", None),
            ("3.0.0-beta.2", Some("v3.0.0-beta.2")),
            ("~1.4.0-0", Some("v1.4.0-rc.1")),
            // What comes before 2.0.0 is not below it.
            (">=1.4.0-0 <2", Some("v1.10.0")),
            ("<2.0.0-rc.2 >=1.11", Some("v2.0.0-rc.1")),
        ];

        for (range, expected) in cases {
            assert_eq!(newest(range), expected, "{range}");
        }
    }

    #[test]
    fn a_range_without_a_match_names_its_neighbours() {
        let nearest = |range: &str| VersionRange::parse(range).expect("a range").nearest(TAGS);

        assert_eq!(nearest("1.3.x"), ["v1.2.5", "v1.4.0-rc.1"]);
        assert_eq!(nearest(">=3"), ["v2.0.0", "v3.0.0-beta.2"]);
        assert_eq!(nearest("<0.1"), ["v0.3.1"]);
        assert_eq!(VersionRange::parse("1").expect("a range").nearest(["latest"]), [""; 0]);
    }

    #[test]
    fn what_is_no_range_is_none() {
        for text in [
            "",
            " ",
            "main",
            "v",
            ">=",
            ">=1.2 <",
            "1.2.3.4",
            "1.x.3",
            "x.1",
            ">>1",
            "!=1.2",
            "01.a",
            "1.2-",
            "1.2-rc.1",
            ">=2 <1",
            "1 ||",
            "--output=x",
            "1.2\n",
            "99999999999999999999999",
        ] {
            assert_eq!(VersionRange::parse(text), None, "{text}");
        }
        assert_eq!(VersionRange::parse(&">=1 ".repeat(100)), None);
    }
}
