//! Which keys hosts have: the lines of a `known_hosts` file that a repo brings along. Nothing is learned by connecting.

use aws_lc_rs::hmac;
use russh::keys::ssh_key::known_hosts::{Entry, HostPatterns, Marker};
use russh::keys::{Algorithm, HashAlg, PublicKey};
use url::Host;

use crate::source::git::url::{SSH_PORT, SshPlace};

/// The keys of a few hosts take some lines; a whole machine's file is not one repo's.
const BYTES_MAX: usize = 64 << 10;

#[derive(Debug, Clone)]
pub(crate) struct KnownHosts(Vec<Entry>);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidKnownHosts {
    #[error("known hosts of more than {BYTES_MAX} bytes")]
    TooLong,
    #[error("line {line} of the known hosts is none: `HOST KEY-TYPE KEY`")]
    NotALine { line: usize },
    #[error("line {line} of the known hosts names an authority, and those are not followed")]
    Authority { line: usize },
}

/// What a host's key is, by what is known.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Known,
    /// The host has others, of these fingerprints.
    Changed(Vec<String>),
    Revoked,
    /// Nothing is known of the host.
    UnknownHost,
}

impl KnownHosts {
    pub(crate) const HINT: &'static str = "give lines as `ssh-keyscan HOST` prints them, for the repo's own host";

    pub(crate) fn parse(text: &str) -> Result<Self, InvalidKnownHosts> {
        if text.len() > BYTES_MAX {
            return Err(InvalidKnownHosts::TooLong);
        }
        let mut entries = Vec::new();
        for (line, text) in (1..).zip(text.lines().map(str::trim)) {
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let entry: Entry = text.parse().map_err(|_| InvalidKnownHosts::NotALine { line })?;
            if entry.marker() == Some(&Marker::CertAuthority) {
                return Err(InvalidKnownHosts::Authority { line });
            }
            entries.push(entry);
        }
        Ok(Self(entries))
    }

    /// Whether it says what key the host has.
    pub(crate) fn has(&self, place: &SshPlace) -> bool {
        self.keys(place).next().is_some()
    }

    fn keys<'a>(&'a self, place: &SshPlace) -> impl Iterator<Item = &'a PublicKey> {
        self.of(place).filter(|entry| entry.marker().is_none()).map(Entry::public_key)
    }

    fn of<'a>(&'a self, place: &SshPlace) -> impl Iterator<Item = &'a Entry> {
        let name = name_of(place);
        self.0.iter().filter(move |entry| matches(entry.host_patterns(), &name))
    }

    /// Those of the host's keys first, so that it shows one of them if it still has one.
    pub(super) fn prefer(&self, place: &SshPlace, algorithms: &[Algorithm]) -> Vec<Algorithm> {
        // An RSA key signs in several ways.
        let kind = |algorithm: &Algorithm| match algorithm {
            Algorithm::Rsa { .. } => Algorithm::Rsa { hash: None },
            other => other.clone(),
        };
        let known: Vec<Algorithm> = self.keys(place).map(|key| kind(&key.algorithm())).collect();
        let (mut first, others): (Vec<_>, Vec<_>) =
            algorithms.iter().cloned().partition(|algorithm| known.contains(&kind(algorithm)));
        first.extend(others);
        first
    }

    pub(super) fn judge(&self, place: &SshPlace, shown: &PublicKey) -> Verdict {
        let is_shown = |key: &PublicKey| key.key_data() == shown.key_data();
        let is_revoked = |entry: &Entry| entry.marker() == Some(&Marker::Revoked) && is_shown(entry.public_key());
        if self.of(place).any(is_revoked) {
            return Verdict::Revoked;
        }
        let known: Vec<&PublicKey> = self.keys(place).collect();
        match &known[..] {
            [] => Verdict::UnknownHost,
            known if known.iter().any(|key| is_shown(key)) => Verdict::Known,
            known => Verdict::Changed(known.iter().map(|key| fingerprint(key)).collect()),
        }
    }
}

/// As `ssh-keygen -l` prints it.
pub(super) fn fingerprint(key: &PublicKey) -> String {
    format!("{} {}", key.algorithm(), key.fingerprint(HashAlg::Sha256))
}

/// How such files name a host.
pub(super) fn name_of(place: &SshPlace) -> String {
    let host = match &place.host {
        Host::Ipv6(address) => address.to_string(),
        host => host.to_string(),
    };
    if place.port == SSH_PORT { host } else { format!("[{host}]:{}", place.port) }
}

fn matches(patterns: &HostPatterns, name: &str) -> bool {
    match patterns {
        HostPatterns::HashedName { salt, hash } => {
            // How OpenSSH hides names; nothing depends on its strength here.
            let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, salt);
            hmac::sign(&key, name.as_bytes()).as_ref() == hash
        }
        HostPatterns::Patterns(patterns) => {
            let is_excluded = patterns.iter().filter_map(|pattern| pattern.strip_prefix('!'));
            let is_included = patterns.iter().filter(|pattern| !pattern.starts_with('!'));
            !is_excluded.into_iter().any(|pattern| is_like(pattern, name))
                && is_included.into_iter().any(|pattern| is_like(pattern, name))
        }
    }
}

/// `*` stands for any characters, `?` for one.
fn is_like(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.to_lowercase(), name.to_lowercase());
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut star) = ((0, 0), None);
    while at.1 < name.len() {
        match pattern.get(at.0) {
            Some(b'*') => {
                star = Some(at);
                at.0 += 1;
            }
            Some(byte) if *byte == b'?' || *byte == name[at.1] => at = (at.0 + 1, at.1 + 1),
            _ => match star {
                Some((before, from)) => {
                    star = Some((before, from + 1));
                    at = (before + 1, from + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at.0..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::git::{RepoUrl, UrlPolicy};

    const FIRST: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl";
    const SECOND: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIIxJBkxLsbGpb3fVAg6rAyXEm1vMjP+1XCdHRYJLmLUX";

    fn judge(known: &str, url: &str) -> Verdict {
        let url = RepoUrl::parse(url, UrlPolicy { insecure: false, private: true }).expect("a URL");
        let known = KnownHosts::parse(known).expect("known hosts");
        known.judge(url.ssh().expect("ssh"), &PublicKey::from_openssh(FIRST).expect("a key"))
    }

    #[test]
    fn a_key_is_known_for_its_host_and_port_only() {
        let cases = [
            ("git.example.com", "git@git.example.com:a", true),
            ("other.example.com,GIT.example.com", "git@git.example.com:a", true),
            ("*.example.com", "git@git.example.com:a", true),
            ("git.?xample.com", "git@git.example.com:a", true),
            ("*.example.com,!git.example.com", "git@git.example.com:a", false),
            ("example.com", "git@git.example.com:a", false),
            ("git.example.com", "ssh://git@git.example.com:2222/a", false),
            ("[git.example.com]:2222", "ssh://git@git.example.com:2222/a", true),
            ("[git.example.com]:2222", "git@git.example.com:a", false),
            ("2606:50c0::1", "git@[2606:50c0::1]:a", true),
        ];

        for (patterns, url, is_known) in cases {
            let expected = if is_known { Verdict::Known } else { Verdict::UnknownHost };
            assert_eq!(judge(&format!("{patterns} {FIRST} a comment\n"), url), expected, "{patterns} {url}");
        }
    }

    #[test]
    fn a_hashed_name_is_found() {
        // By `ssh-keygen -H`, of `git.example.com`.
        let salt = "c2FsdHNhbHRzYWx0c2FsdHNhbHQ=";
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, b"saltsaltsaltsaltsalt");
        let hash = hmac::sign(&key, b"git.example.com");
        let line = {
            use base64::Engine as _;
            let hash = base64::engine::general_purpose::STANDARD.encode(hash.as_ref());
            format!("|1|{salt}|{hash} {FIRST}\n")
        };

        assert_eq!(judge(&line, "git@git.example.com:a"), Verdict::Known);
        assert_eq!(judge(&line, "git@git.example.org:a"), Verdict::UnknownHost);
    }

    #[test]
    fn another_key_is_a_change_and_a_revoked_one_is_never_known() {
        let host = "git.example.com";

        let changed = judge(&format!("{host} {SECOND}\n"), "git@git.example.com:a");
        assert!(matches!(&changed, Verdict::Changed(known) if known[0].contains("SHA256:")), "{changed:?}");
        let both = format!("# two\n\n{host} {SECOND}\n{host} {FIRST}\n");
        assert_eq!(judge(&both, "git@git.example.com:a"), Verdict::Known);
        let revoked = format!("{both}@revoked * {FIRST}\n");
        assert_eq!(judge(&revoked, "git@git.example.com:a"), Verdict::Revoked);
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        let parse = |text: &str| KnownHosts::parse(text).map(|_| ());

        assert_eq!(parse(&format!("a {FIRST}\nnonsense\n")), Err(InvalidKnownHosts::NotALine { line: 2 }));
        assert_eq!(parse(&format!("@cert-authority * {FIRST}")), Err(InvalidKnownHosts::Authority { line: 1 }));
        assert_eq!(parse(&"#".repeat(BYTES_MAX + 1)), Err(InvalidKnownHosts::TooLong));
    }
}
