//! Patterns of paths as Argo CD has them: `*`, `?`, `[a-z]`, `{a,b}`.

use regex::Regex;

/// How far a `*` reaches, which is another thing in each place where Argo CD has patterns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WildcardScope {
    /// Up to the next `/`.
    Segment,
    /// Over any number of them.
    Path,
}

/// A pattern for a whole path; one that says nothing matches nothing.
pub(crate) struct Glob(Option<Regex>);

impl Glob {
    pub(crate) fn new(pattern: &str, scope: WildcardScope) -> Self {
        Self(Regex::new(&regex_of(pattern.trim_start_matches("./").trim_matches('/'), scope)).ok())
    }

    pub(crate) fn matches(&self, path: &str) -> bool {
        self.0.as_ref().is_some_and(|regex| regex.is_match(path))
    }
}

fn regex_of(pattern: &str, scope: WildcardScope) -> String {
    let any = if scope == WildcardScope::Segment { "[^/]" } else { "." };
    let (mut regex, mut rest, mut depth) = ("^".to_owned(), pattern, 0_usize);
    while let Some(character) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("**/") {
            regex.push_str("(?:.*/)?");
            rest = after;
            continue;
        }
        rest = &rest[character.len_utf8()..];
        match character {
            '*' if rest.starts_with('*') => {
                regex.push_str(".*");
                rest = rest.trim_start_matches('*');
            }
            '*' => {
                regex.push_str(any);
                regex.push('*');
            }
            '?' => regex.push_str(any),
            '[' if rest.contains(']') => {
                let (class, after) = rest.split_once(']').unwrap_or((rest, ""));
                let (not, class) = match class.strip_prefix(['!', '^']) {
                    Some(class) => ("^", class),
                    None => ("", class),
                };
                let class = class.replace('\\', "\\\\").replace('[', "\\[").replace("&&", "&\\&").replace("~~", "~\\~");
                regex.extend(["[", not, &class, "]"]);
                rest = after;
            }
            '{' => {
                depth += 1;
                regex.push_str("(?:");
            }
            '}' if depth > 0 => {
                depth -= 1;
                regex.push(')');
            }
            ',' if depth > 0 => regex.push('|'),
            other => regex.push_str(&regex::escape(other.encode_utf8(&mut [0; 4]))),
        }
    }
    regex + "$"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_those_of_argo_cd() {
        for (pattern, scope, path, wanted) in [
            ("apps/*", WildcardScope::Segment, "apps/shop", true),
            ("apps/*", WildcardScope::Segment, "apps/shop/base", false),
            ("apps/*", WildcardScope::Path, "apps/shop/base", true),
            ("apps/**/config.json", WildcardScope::Path, "apps/a/b/config.json", true),
            ("apps/**/config.json", WildcardScope::Path, "apps/config.json", true),
            ("*", WildcardScope::Segment, "apps", true),
            ("a/exclude-?elm", WildcardScope::Segment, "a/exclude-helm", true),
            ("a/[a-c]x", WildcardScope::Segment, "a/bx", true),
            ("a/[^a-c]x", WildcardScope::Segment, "a/bx", false),
            ("{a,b}/x.yaml", WildcardScope::Path, "b/x.yaml", true),
            ("*.json", WildcardScope::Path, "a.yaml", false),
            ("a+b.(c", WildcardScope::Segment, "a+b.(c", true),
            ("a[", WildcardScope::Segment, "a[", true),
            ("{a", WildcardScope::Segment, "a", false),
        ] {
            assert_eq!(Glob::new(pattern, scope).matches(path), wanted, "{pattern} {path}");
        }
    }
}
