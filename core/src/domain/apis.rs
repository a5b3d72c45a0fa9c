//! Which APIs a cluster serves, as its agent has seen them: what charts ask for as capabilities.
//!
//! A set is its text: names in order, one a line. It is compared and stored by its digest, since a fleet has few of them.
//! An agent is not trusted, so what it says is bounded and checked before it is one.

use std::cmp::Ordering;
use std::sync::Arc;

use crate::Digest;

/// Of one cluster: many times what one with all the operators of a catalogue has.
pub const APIS_MAX: usize = 10_000;
/// Of all its names: as many of 50 bytes.
pub const APIS_BYTES_MAX: usize = 512 * 1024;
/// Of a group, a version and a kind.
const NAME_BYTES_MAX: usize = 253 + 1 + 63 + 1 + 63;

/// The names of groups with their versions (`apps/v1`), and of kinds in these (`apps/v1/Deployment`), as Helm has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Apis {
    text: Arc<str>,
    digest: Digest,
}

/// What no cluster serves.
#[derive(Debug, Clone, Copy, thiserror::Error, PartialEq, Eq)]
pub enum InvalidApis {
    #[error("more than {APIS_MAX} APIs, or more than {APIS_BYTES_MAX} bytes of them")]
    TooMany,
    #[error("line {line} is not the name of an API")]
    Name {
        /// From 1.
        line: usize,
    },
    #[error("line {line} does not come after the one before")]
    Order {
        /// From 1.
        line: usize,
    },
}

impl Apis {
    /// Of names in any order.
    pub fn new(names: impl IntoIterator<Item = String>) -> Result<Self, InvalidApis> {
        let mut names: Vec<_> = names.into_iter().collect();
        names.sort_unstable();
        names.dedup();
        Self::parse(&names.join("\n"))
    }

    /// Of a text as [`Apis::text`] is one.
    pub fn parse(text: &str) -> Result<Self, InvalidApis> {
        if text.len() > APIS_BYTES_MAX {
            return Err(InvalidApis::TooMany);
        }
        let mut before = "";
        for (line, name) in (1..).zip(text.lines()) {
            if line > APIS_MAX {
                return Err(InvalidApis::TooMany);
            }
            if !is_name(name) {
                return Err(InvalidApis::Name { line });
            }
            if name <= before {
                return Err(InvalidApis::Order { line });
            }
            before = name;
        }
        let is_joined = !text.ends_with('\n') && !text.contains('\r');
        if !is_joined {
            return Err(InvalidApis::Name { line: text.lines().count() });
        }
        Ok(Self { text: text.into(), digest: Digest::of(text.as_bytes()) })
    }

    /// In order, one a line, as they rest and travel.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Of the text.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// In order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.text.lines()
    }

    /// Whether the cluster serves this one.
    pub fn has(&self, name: &str) -> bool {
        let (text, mut low, mut high) = (&*self.text, 0, self.text.len());
        while low < high {
            // The line that the middle is in. Every byte is a character.
            let middle = usize::midpoint(low, high);
            let start = text[low..middle].rfind('\n').map_or(low, |at| low + at + 1);
            let end = text[middle..high].find('\n').map_or(high, |at| middle + at);
            match text[start..end].cmp(name) {
                Ordering::Equal => return true,
                Ordering::Less => low = end + 1,
                Ordering::Greater => high = start,
            }
        }
        false
    }
}

/// Whether it may be the name of one API.
pub fn is_name(name: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._-/".contains(&byte);
    (1..=NAME_BYTES_MAX).contains(&name.len()) && name.bytes().all(is_inner) && name.split('/').count() <= 3
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apis(names: &[&str]) -> Result<Apis, InvalidApis> {
        Apis::new(names.iter().map(|&name| name.to_owned()))
    }

    #[test]
    fn a_set_is_the_same_in_whatever_order_it_was_seen() {
        let (one, other) = (apis(&["v1", "apps/v1", "v1"]), apis(&["apps/v1", "v1"]));

        let one = one.expect("names");
        assert_eq!(Ok(&one), other.as_ref());
        assert_eq!(Apis::parse(one.text()).as_ref(), Ok(&one));
        assert!(one.has("apps/v1") && !one.has("apps") && !one.has("apps/v1/Deployment"));
        assert!(!apis(&[]).expect("none").has(""), "of nothing there is nothing");
    }

    #[test]
    fn each_name_of_a_set_is_found_in_it_and_no_other() {
        let names: Vec<_> = (0..200).map(|number| format!("g{number}.io/v{}", "1".repeat(number % 7 + 1))).collect();
        let all = Apis::new(names.clone()).expect("names");

        assert!(names.iter().all(|name| all.has(name)));
        let others = names.iter().flat_map(|name| [format!("{name}1x"), name[1..].to_owned(), format!("{name}/")]);
        assert!(others.into_iter().all(|name| !all.has(&name)));
        assert!(!all.has("") && !all.has("\n") && !all.has("zz"));
    }

    #[test]
    fn what_no_cluster_serves_is_refused() {
        for text in ["v1\napps/v1", "v1\nv1", "v1\n", "\nv1", "a\r\nb", "a b", "${x}", "a/b/c/d", "ä", "\u{1b}[2J"] {
            assert!(Apis::parse(text).is_err(), "{text:?}");
        }
        assert!(apis(&[&"x".repeat(NAME_BYTES_MAX + 1)]).is_err());
        let many = |count: usize| Apis::new((0..count).map(|number| number.to_string()));
        assert!(many(APIS_MAX).is_ok());
        assert_eq!(many(APIS_MAX + 1), Err(InvalidApis::TooMany));
        let long = |count: usize| Apis::new((0..count).map(|number| format!("{number:0>300}")));
        assert_eq!(long(APIS_BYTES_MAX / 300), Err(InvalidApis::TooMany));
    }
}
