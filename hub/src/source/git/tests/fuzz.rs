//! What is nearly right: packs, stored whole or refused, whatever their sum says; URLs, known hosts and keys.

use std::sync::LazyLock;

use proptest::prelude::*;

use super::packs::{Pack, seal_again, unpack_into};
use super::upstream::Local;
use crate::source::git::{KnownHosts, RepoUrl, SshKey, UrlPolicy};
use crate::testing::mutation::mutated;

/// Heads of entries, and lengths that go on.
const PIECES: &[&[u8]] =
    &[b"\x30\x78\x01", b"\x60\x01", b"\x70", b"\xff\xff\xff\x7f", b"\x80\x80\x80\x80\x01", b"\x78\x9c", b"PACK"];

/// All cases share a mirror: what one of them stored must not help another to less than a whole object.
static MIRROR: LazyLock<Local> = LazyLock::new(Local::new);

const URLS: &[&[u8]] = &[
    b"ssh://git@git.example.com:2222/team/apps.git",
    b"git@git.example.com:team/apps.git",
    b"ssh://git@[2606:50c0::1]/~ada/a%20b",
    b"https://git.example.com/apps.git",
];

const URL_PIECES: &[&[u8]] = &[
    b"@", b":", b"//", b"/", b"-o", b"%0a", b"%2d", b"%", b"[", b"]", b"]:", b"@[", b"~", b"'", b"::", b"\\", b"0x7f.1",
];

const KNOWN_HOSTS: &[&[u8]] = &[
    b"git.example.com,[git.example.com]:2222 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl\n",
    b"@revoked * ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl a comment\n",
    b"|1|c2FsdA==|c2FsdHNhbHRzYWx0c2FsdHNhbHQ= ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl\n",
];

const LINE_PIECES: &[&[u8]] =
    &[b"*", b"?", b"!", b",", b"|1|", b"|", b"@", b" ", b"\n", b"#", b"==", b"ssh-rsa", b"AAAA"];

fn owned(samples: &[&[u8]]) -> Vec<Vec<u8>> {
    samples.iter().map(|sample| sample.to_vec()).collect()
}

fn packs() -> Vec<Vec<u8>> {
    vec![
        Pack::of_zeros(40).finish(),
        Pack::of_zeros(3_000).with_deltas(3).finish(),
        Pack::of_zeros(10).with_deltas(120).finish(),
    ]
}

proptest! {
    #[test]
    fn a_changed_pack_is_stored_or_refused_and_its_objects_are_what_their_names_say(
        bytes in mutated(packs(), PIECES),
        is_sealed in any::<bool>(),
    ) {
        // With a right sum at its end, what is inside is looked at too.
        let pack = if is_sealed { seal_again(bytes) } else { bytes };
        if let Err(error) = unpack_into(&MIRROR, &pack) {
            prop_assert!(["git_protocol", "git_too_large", "git_timeout"].contains(&error.code()), "{}: {error}", error.code());
        }
    }

    /// Whatever is let through names a host and nothing that a program takes for an option.
    #[test]
    fn a_changed_url_is_plain_or_refused(bytes in mutated(owned(URLS), URL_PIECES)) {
        let text = String::from_utf8_lossy(&bytes);
        let policy = UrlPolicy { insecure: true, private: true };
        let Ok(url) = RepoUrl::parse(&text, policy) else { return Ok(()) };
        prop_assert!(RepoUrl::parse(url.as_str(), policy).is_ok(), "{text} is stored as {url}");
        if let Some(place) = url.ssh() {
            let host = place.host.to_string();
            prop_assert!(!host.is_empty() && !host.starts_with('-') && !host.contains(['/', '@', '%']), "{text}: {host}");
            prop_assert!(!place.user.starts_with('-') && !place.path.starts_with('-'), "{text}");
            prop_assert!(!place.path.contains(['\n', '\0']), "{text}");
        }
    }

    #[test]
    fn changed_known_hosts_are_read_or_refused(bytes in mutated(owned(KNOWN_HOSTS), LINE_PIECES)) {
        let policy = UrlPolicy { insecure: false, private: true };
        let url = RepoUrl::parse("git@git.example.com:a", policy).expect("a URL");
        if let Ok(known) = KnownHosts::parse(&String::from_utf8_lossy(&bytes)) {
            let _ = known.has(url.ssh().expect("ssh"));
        }
        let _ = SshKey::parse(&String::from_utf8_lossy(&bytes));
    }
}
