//! What a cluster is installed with: the manifest that `deploy/agent` holds, filled in for one cluster.
//!
//! Pure text. Every value lands inside a double-quoted YAML scalar and is escaped for it, so no value can add a field.
//! Neighbours: `http` (registers clusters and answers with this), `ca` (the fingerprint), `seal` (the token).

use bellwether_core::Name;
use secrecy::{ExposeSecret as _, SecretString};

const TEMPLATE: &str = include_str!("../../../deploy/agent/manifest.yaml");

/// Between two objects. No value can hold one: line breaks are escaped.
const BETWEEN: &str = "\n---\n";

/// What lets an agent join that is installed already.
const AGAIN: [&str; 3] = ["Namespace", "Secret", "Deployment"];

/// What the manifest of one cluster's agent differs in.
#[derive(Debug)]
pub(crate) struct Install<'a> {
    pub(crate) namespace: &'a Name,
    pub(crate) cluster: &'a Name,
    /// Where the agent finds the hub, as host:port.
    pub(crate) hub: &'a str,
    /// Of the hub's root certificate.
    pub(crate) fingerprint: &'a str,
    pub(crate) token: &'a SecretString,
    pub(crate) image: &'a str,
}

impl Install<'_> {
    fn value(&self, placeholder: &str) -> Option<&str> {
        match placeholder {
            "namespace" => Some(self.namespace.as_str()),
            "cluster" => Some(self.cluster.as_str()),
            "hub" => Some(self.hub),
            "fingerprint" => Some(self.fingerprint),
            "token" => Some(self.token.expose_secret()),
            "image" => Some(self.image),
            _ => None,
        }
    }
}

/// The manifest, for `kubectl apply -f -`. It holds the join token, so it is a secret itself.
pub(crate) fn manifest(install: &Install<'_>) -> String {
    // One pass over the template: a value that looks like a placeholder stays a value.
    let mut parts = TEMPLATE.split("${");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (placeholder, rest) = part.split_once('}').expect("every placeholder of the template is closed");
        let value = install.value(placeholder).expect("the template has no other placeholders");
        text.push_str(&escaped(value));
        text.push_str(rest);
    }
    text
}

/// What an agent that is installed already joins with anew. Accounts and roles are left as they are: they may have been narrowed,
/// and nobody who asks for a token expects to give back what he took away.
pub(crate) fn manifest_again(install: &Install<'_>) -> String {
    let whole = manifest(install);
    let is_kept =
        |object: &&str| object.lines().any(|line| line.strip_prefix("kind: ").is_some_and(|it| AGAIN.contains(&it)));
    whole.split(BETWEEN).filter(is_kept).collect::<Vec<_>>().join(BETWEEN)
}

/// For the inside of a double-quoted YAML scalar: whatever is not plain ASCII is written as its number.
fn escaped(value: &str) -> String {
    use std::fmt::Write as _;
    value.chars().fold(String::with_capacity(value.len()), |mut text, char| {
        match char {
            '"' | '\\' => text.extend(['\\', char]),
            ' '..='~' => text.push(char),
            _ => {
                let _ = write!(text, "\\U{:08x}", u32::from(char));
            }
        }
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made_by(make: fn(&Install<'_>) -> String, hub: &str, token: &str) -> String {
        make(&Install {
            namespace: &"bellwether-system".parse().expect("a name"),
            cluster: &"prod-eu-1".parse().expect("a name"),
            hub,
            fingerprint: &"ab".repeat(32),
            token: &token.into(),
            image: "registry.example.org/bellwether/agent:0.1.0",
        })
    }

    fn manifest_with(hub: &str, token: &str) -> String {
        made_by(manifest, hub, token)
    }

    #[test]
    fn joining_again_gives_nobody_a_right() {
        let text = made_by(manifest_again, "hub.example.org:8444", "bwj_abc");

        let kinds: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("kind: ")).collect();
        assert_eq!(kinds, AGAIN);
        assert!(text.contains("bwj_abc") && text.contains("--hub=hub.example.org:8444"), "{text}");
        assert!(text.ends_with('\n') && !text.contains("rbac.authorization.k8s.io"), "{text}");
    }

    #[test]
    fn every_placeholder_is_filled() {
        let text = manifest_with("hub.example.org:8444", "bwj_abc");

        assert!(!text.contains("${"));
        for value in ["bellwether-system", "prod-eu-1", "--hub=hub.example.org:8444", "bwj_abc", &"ab".repeat(32)] {
            assert!(text.contains(value), "{value}");
        }
    }

    #[test]
    fn every_placeholder_stands_inside_double_quotes() {
        for line in TEMPLATE.lines().filter(|line| line.contains("${")) {
            let outside: String = line.split('"').step_by(2).collect();

            assert!(!outside.contains("${"), "{line}");
            assert_eq!(line.matches('"').count() % 2, 0, "{line}");
        }
    }

    #[test]
    fn a_hostile_value_adds_no_line_and_is_not_filled_in_again() {
        let plain = manifest_with("hub:1", "t");

        let hostile = manifest_with("hub:1\"\n  hostNetwork: true #", "${cluster}\u{2028}\\");

        assert_eq!(hostile.lines().count(), plain.lines().count());
        assert!(hostile.contains(r#"--hub=hub:1\"\U0000000a  hostNetwork"#));
        assert!(hostile.contains(r"${cluster}"));
    }
}
