//! What is nearly a webhook's body: whatever it is, it is read to an end, and gives no more than it has.

use proptest::prelude::*;

use super::claim::{Claim, Host, Proof};
use super::told::{Now, WebhookEvent, delivery_in, read};
use crate::testing::mutation::mutated;

const HOSTS: [(Host, Option<&str>); 12] = [
    (Host::GitHub, Some("push")),
    (Host::GitHub, Some("create")),
    (Host::Gitea, Some("delete")),
    (Host::Gitea, None),
    (Host::GitLab, Some("Push Hook")),
    (Host::GitLab, Some("System Hook")),
    (Host::Bitbucket, Some("repo:push")),
    (Host::Bitbucket, Some("repo:refs_changed")),
    (Host::Bitbucket, None),
    (Host::AzureDevOps, None),
    (Host::Generic, None),
    (Host::GitHub, None),
];

/// A push as each host says it; every one is given to every host.
const BODIES: &[&[u8]] = &[
    br#"{"ref":"refs/heads/main","before":"0000000000000000000000000000000000000000","after":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","head_commit":{"id":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"}}"#,
    br#"{"ref":"v1","ref_type":"tag","sha":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","pusher_type":"user"}"#,
    br#"{"object_kind":"tag_push","ref":"refs/tags/v1","after":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","checkout_sha":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"}"#,
    br#"{"event_name":"repository_update","changes":[{"after":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","ref":"refs/heads/main"},{"ref":"refs/heads/a"}]}"#,
    br#"{"push":{"changes":[{"new":{"type":"branch","name":"main","target":{"hash":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}},"old":null},{"new":null,"old":{"type":"tag","name":"v1"}}]}}"#,
    br#"{"changes":[{"refId":"refs/heads/main","toHash":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","type":"UPDATE"}],"refLimitExceeded":false}"#,
    br#"{"id":"03c164c2-8912-4d5e-8009-3707d5f83734","eventType":"git.push","resource":{"refUpdates":[{"name":"refs/heads/main","newObjectId":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}]}}"#,
    b"payload=%7B%22ref%22%3A%22refs%2Fheads%2Fmain%22%7D&a=b",
    br#"{"ref":"refs/heads/main","commit":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"}"#,
];

const PIECES: &[&[u8]] = &[
    b"null",
    b"[",
    b"{",
    b"}",
    b"]",
    b"[[[[[[[[",
    b"{\"ref\":",
    b"\"refs/heads/\"",
    b"refs/",
    b"\\u0000",
    b"\\ud800",
    b"\xff",
    b"1e999",
    b"-1",
    b"true",
    b",",
    b":",
    b"\"",
    b"%",
    b"%ff",
    b"&payload=",
    b"\"changes\":",
    b"\"push\":",
    b"\"tag\"",
    b"0000",
];

proptest! {
    #[test]
    fn a_changed_body_gives_no_more_than_it_has_whoever_sends_it(
        body in mutated(BODIES.iter().map(|body| body.to_vec()).collect(), PIECES),
        is_form in any::<bool>(),
    ) {
        for (host, event) in HOSTS {
            let claim = Claim {
                host,
                event: event.map(ToOwned::to_owned),
                delivery: None,
                is_form,
                proof: Proof::Signed(Vec::new()),
            };

            let told = read(&claim, Some(&body));
            let _ = delivery_in(&claim, Some(&body));

            prop_assert_eq!(&told, &read(&claim, Some(&body)), "the same body says the same");
            if let WebhookEvent::Pushed(pushes) = told {
                prop_assert!(!pushes.is_empty() && pushes.len() <= body.len());
                // A short name becomes a full one.
                let most = body.len() + pushes.len() * "refs/heads/".len();
                prop_assert!(pushes.iter().map(|push| push.reference.len()).sum::<usize>() <= most);
                for push in pushes {
                    if let Now::At(commit) = push.now {
                        let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
                        prop_assert!(matches!(commit.len(), 40 | 64) && commit.bytes().all(is_digit));
                    }
                }
            }
        }
    }
}

#[test]
fn a_body_that_nests_without_end_is_unclear() {
    for (host, event) in HOSTS {
        for piece in ["[", "{\"changes\":", "{\"push\":", "{\"resource\":", "{\"a\":["] {
            let claim = Claim {
                host,
                event: event.map(ToOwned::to_owned),
                delivery: None,
                is_form: false,
                proof: Proof::Signed(Vec::new()),
            };
            assert_eq!(
                read(&claim, Some(piece.repeat(100_000).as_bytes())),
                WebhookEvent::Unclear,
                "{host:?}: {piece}"
            );
        }
    }
}
