//! What stands behind a flag, as it is typed: labels, moments, rollouts, addresses.

use std::path::PathBuf;
use std::str::FromStr;

use bellwether_core::access::Role;
use bellwether_core::labels::{check_annotations, check_labels};
use bellwether_core::render::sides;
use bellwether_core::rollout::HumanDuration;
use bellwether_core::{Labels, Name};
use clap::ValueEnum as _;
use clap::builder::TypedValueParser as _;
use jiff::Timestamp;
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use super::Format;

/// Which file holds the token of which repo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TokenFile {
    pub(crate) repo: Name,
    pub(crate) path: PathBuf,
}

impl FromStr for TokenFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let pair = text.split_once('=').filter(|(_, path)| !path.is_empty());
        let (repo, path) =
            pair.ok_or_else(|| format!("`{text}` is not of the form NAME=FILE, such as `apps=git-token`"))?;
        let repo = repo.parse().map_err(|error: <Name as FromStr>::Err| error.to_string())?;
        Ok(Self { repo, path: path.into() })
    }
}

/// A label as it is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Label {
    pub(crate) key: String,
    pub(crate) value: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LabelChange {
    Set(Label),
    Remove(String),
}

/// Which rollout: by its id, or the newest of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RolloutChoice {
    Id(Uuid),
    NewestOf(Name),
}

impl FromStr for RolloutChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(id) = text.parse() {
            return Ok(Self::Id(id));
        }
        text.parse().map(Self::NewestOf).map_err(|_| format!("`{text}` is neither a target's name nor a rollout's id"))
    }
}

/// A moment, as it was typed: how long ago, or when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Since {
    Ago(HumanDuration),
    At(Timestamp),
}

impl Since {
    pub(crate) fn moment(self, now: Timestamp) -> Timestamp {
        match self {
            // Later than the oldest time there is by far: a span is at most a year.
            Self::Ago(span) => now - span.duration(),
            Self::At(at) => at,
        }
    }
}

impl FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(span) = text.parse() {
            return Ok(Self::Ago(span));
        }
        text.parse().map(Self::At).map_err(|_| {
            format!("`{text}` is neither a length of time such as `1h` nor a time such as `2026-11-23T20:00:00Z`")
        })
    }
}

pub(super) fn parse_label(text: &str) -> Result<Label, String> {
    let Some((key, value)) = text.split_once('=') else {
        return Err(format!("`{text}` is not of the form KEY=VALUE, such as `env=prod`"));
    };
    let label = Label { key: key.to_owned(), value: value.to_owned() };
    let labels = Labels::from([(label.key.clone(), label.value.clone())]);
    check_labels(&labels).map_err(|error| error.to_string())?;
    Ok(label)
}

pub(super) fn parse_annotation(text: &str) -> Result<Label, String> {
    let Some((key, value)) = text.split_once('=') else {
        return Err(format!("`{text}` is not of the form KEY=VALUE, such as `contact=Ann`"));
    };
    let annotation = Label { key: key.to_owned(), value: value.to_owned() };
    check_annotations(&[(annotation.key.clone(), annotation.value.clone())].into())
        .map_err(|error| error.to_string())?;
    Ok(annotation)
}

/// What is a boolean, a number or a string in JSON is that; everything else is text.
pub(super) fn parse_parameter(text: &str) -> Result<(String, Value), String> {
    let Some((name, value)) = text.split_once('=') else {
        return Err(format!("`{text}` is not of the form NAME=VALUE, such as `replicas=3`"));
    };
    let json = serde_json::from_str::<Value>(value).ok();
    let typed = json.filter(|json| match json {
        // `1.10` and `007` are what somebody calls something.
        Value::Number(number) => number.to_string() == value,
        other => other.is_string() || other.is_boolean(),
    });
    Ok((name.to_owned(), typed.unwrap_or_else(|| Value::from(value))))
}

/// As `helm --set` reads it, which has a value at least.
pub(super) fn parse_setting(text: &str) -> Result<String, String> {
    let is_one = sides(text).is_some();
    is_one
        .then(|| text.to_owned())
        .ok_or_else(|| format!("`{text}` is not of the form NAME=VALUE, such as `image.tag=1.4`"))
}

pub(super) fn parse_label_change(text: &str) -> Result<LabelChange, String> {
    if text.contains('=') {
        return parse_label(text).map(LabelChange::Set);
    }
    parse_removal(text, "a label")
}

pub(super) fn parse_annotation_change(text: &str) -> Result<LabelChange, String> {
    if text.contains('=') {
        return parse_annotation(text).map(LabelChange::Set);
    }
    parse_removal(text, "an annotation")
}

fn parse_removal(text: &str, noun: &str) -> Result<LabelChange, String> {
    match text.strip_suffix('-') {
        Some(key) if !key.is_empty() => Ok(LabelChange::Remove(key.to_owned())),
        _ => Err(format!("`{text}` neither sets {noun} (`key=value`) nor removes one (`key-`)")),
    }
}

pub(super) fn parse_limit(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|&limit| limit > 0).ok_or_else(|| "a number from 1".to_owned())
}

pub(super) fn parse_ttl(text: &str) -> Result<HumanDuration, String> {
    let ttl: HumanDuration = text.parse().map_err(|error: <HumanDuration as FromStr>::Err| error.to_string())?;
    if ttl.duration().as_secs() < 1 {
        return Err("a token that expires at once is of no use: write at least `1s`".to_owned());
    }
    Ok(ttl)
}

pub(super) fn parse_role(text: &str) -> Result<Role, String> {
    text.parse()
}

pub(super) fn parse_commit(text: &str) -> Result<String, String> {
    let is_commit = (7..=40).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_commit { Ok(text.to_owned()) } else { Err(format!("`{text}` is not a commit: 7 to 40 hexadecimal digits")) }
}

/// The token must not travel in the clear, except inside this machine.
/// `-o` of a command that prints other forms than most; it is the global flag, with other words.
pub(super) fn output_of(known: &'static [&'static str], help: &'static str) -> clap::Arg {
    let format = |text: String| Format::from_str(&text, false).expect("each of them is one");
    let parser = clap::builder::PossibleValuesParser::new(known).map(format);
    clap::Arg::new("output").short('o').long("output").value_name("FORMAT").value_parser(parser).help(help)
}

/// The program that renders: as it is named, or by the environment, in which an empty name is none.
pub(crate) fn engine(stated: Option<&PathBuf>) -> Option<PathBuf> {
    let from_environment = || std::env::var_os("BELLWETHER_RENDER_ENGINE").filter(|path| !path.is_empty());
    stated.cloned().or_else(|| from_environment().map(PathBuf::from))
}

pub(crate) fn parse_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("{error}; write it as `https://host:port`"))?;
    if url.host().is_none() || url.cannot_be_a_base() {
        return Err("it names no host; write it as `https://host:port`".to_owned());
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => Err("the token would travel in the clear; write `https://`".to_owned()),
        other => Err(format!("`{other}` is not https")),
    }
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_follow_the_rules_of_kubernetes() {
        let label = Label { key: "env".to_owned(), value: "prod".to_owned() };

        assert_eq!(parse_label("env=prod"), Ok(label.clone()));
        assert_eq!(parse_label_change("env=prod"), Ok(LabelChange::Set(label)));
        assert_eq!(parse_label_change("example.org/ring-"), Ok(LabelChange::Remove("example.org/ring".to_owned())));
        for bad in ["env", "=prod", "a b=c", "env=${x}", "env=a b"] {
            assert!(parse_label(bad).is_err(), "{bad}");
        }
        for bad in ["-", "env", ""] {
            assert!(parse_label_change(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_moment_is_a_length_of_time_or_a_time() {
        let now: Timestamp = "2026-11-23T20:00:00Z".parse().expect("a time");

        let hour_ago = "1h".parse::<Since>().expect("a moment").moment(now);
        let given = "2026-11-01T00:00:00Z".parse::<Since>().expect("a moment").moment(now);

        assert_eq!(hour_ago.to_string(), "2026-11-23T19:00:00Z");
        assert_eq!(given.to_string(), "2026-11-01T00:00:00Z");
        assert!("yesterday".parse::<Since>().is_err());
    }

    #[test]
    fn a_rollout_is_named_by_its_id_or_by_its_target() {
        let id = "019a0000-0000-7000-8000-000000000000";

        assert!(matches!(id.parse(), Ok(RolloutChoice::Id(_))));
        assert!(matches!("shop".parse(), Ok(RolloutChoice::NewestOf(_))));
        assert!("Shop!".parse::<RolloutChoice>().is_err());
    }

    #[test]
    fn a_token_never_travels_in_the_clear() {
        for good in ["https://hub.example.org:8443", "https://[::1]:1", "http://127.0.0.1:80", "http://localhost"] {
            assert!(parse_url(good).is_ok(), "{good}");
        }
        for bad in ["http://hub.example.org", "hub:8443", "ftp://hub", "https://", ""] {
            assert!(parse_url(bad).is_err(), "{bad}");
        }
    }
}
