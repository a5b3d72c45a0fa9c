//! Signatures by the real `gpg` and `ssh-keygen`, made by the real `git`.

use bellwether_core::signature::{Verified, Verify, VerifyMode};
use bellwether_core::source::GitRef;

use super::signers::{Signer, run};
use super::upstream::{Local, Upstream, branch, tag};
use crate::source::git::{Head, InvalidVerifyKey, RefError, Remote, Verifier};

fn remote(upstream: &Upstream, mode: VerifyMode, signers: &[&Signer]) -> Remote {
    let keys = signers.iter().map(|signer| signer.public.clone()).collect();
    Remote { verify: Some(Verify { mode, keys }), ..upstream.remote() }
}

fn fetch(remote: &Remote, wanted: GitRef) -> Head {
    Local::new().fetch(remote, &[wanted]).expect("the server answers").remove(0)
}

/// Why it is by none of the keys. It is told where it leads all the same.
fn refusal(remote: &Remote, wanted: GitRef) -> RefError {
    let head = fetch(remote, wanted);
    assert!(head.outcome.is_ok(), "{head:?}");
    head.verified.expect("somebody asks").expect_err("it is refused")
}

fn upstream() -> Upstream {
    let upstream = Upstream::new();
    upstream.push("main", "A push", &[("shop/a.yaml", "a")]);
    upstream
}

fn ada() -> Signer {
    Signer::openpgp("ed25519", "sign", &[], "never")
}

#[test]
fn a_commit_is_verified_by_the_key_that_signed_it_of_whatever_kind_it_is() {
    let signers = [
        ada(),
        Signer::openpgp("rsa2048", "sign", &[], "never"),
        Signer::openpgp("nistp384", "sign", &[], "never"),
        Signer::by_parts(),
        Signer::ssh(&["ed25519"]),
        Signer::ssh(&["ecdsa", "-b", "521"]),
        Signer::ssh(&["rsa", "-b", "2048"]),
    ];
    let all: Vec<&Signer> = signers.iter().collect();
    for signer in &signers {
        let upstream = upstream();
        let commit = signer.sign_head(&upstream, "main");

        let head = fetch(&remote(&upstream, VerifyMode::Commit, &all), branch("main"));

        assert_eq!(head.outcome.expect("it is there").id, commit);
        let part = signer.id.starts_with("openpgp").then(|| signer.parts().pop()).flatten();
        let verified = Verified { commit: Some(part.unwrap_or_else(|| signer.id.clone())), ..Verified::default() };
        assert_eq!(verified.to_string(), signer.id);
        assert_eq!(head.verified, Some(Ok(verified)));
    }
}

#[test]
fn a_part_that_was_revoked_is_none_of_those_that_count() {
    let mut signer = Signer::by_parts();
    let ids = |signer: &Signer| {
        let keys = vec![signer.public.clone()];
        Verifier::read(&Verify { mode: VerifyMode::Commit, keys }).expect("a key").ids()
    };
    let first = signer.parts();
    assert_eq!(ids(&signer).into_iter().collect::<Vec<_>>(), first);

    signer.revoke_part(1);
    signer.add_part();

    let parts = signer.parts();
    assert_eq!((parts.len(), &parts[0]), (2, &first[0]));
    assert_eq!(ids(&signer).into_iter().collect::<Vec<_>>(), parts[1..]);
}

#[test]
fn a_tag_that_nobody_would_write_concerns_its_ref_alone() {
    let (upstream, signer, mut local) = (upstream(), Signer::ssh(&["ed25519"]), Local::new());
    let remote = remote(&upstream, VerifyMode::Tag, &[&signer]);
    let before = upstream.git(["rev-parse", "main"], b"");
    signer.sign_tag(&upstream, "v1.0.0", &before);
    local.fetch(&remote, &[tag("v1.0.0")]).expect("it is fetched");
    upstream.push("main", "Another push", &[("shop/a.yaml", "b")]);
    let book = "x".repeat(1200 << 10);
    upstream.git(["tag", "-a", "-F", "-", "v1.99.0", "main"], book.as_bytes());

    let wanted = [branch("main"), tag("v1.0.0"), GitRef::Semver("^1".to_owned())];
    let heads = local.fetch(&remote, &wanted).expect("nothing is damaged");

    assert!(heads.iter().all(|head| head.outcome.is_ok()), "{heads:?}");
    assert!(matches!(heads[1].verified, Some(Ok(_))), "{heads:?}");
    let refused = heads[2].verified.clone().expect("somebody asks").expect_err("nobody reads a book for a signature");
    assert_eq!(refused.code(), "revision_unsigned");
    assert_eq!(local.files(&before, "shop"), [("a.yaml".to_owned(), "a".to_owned())], "the mirror is the earlier one");
}

#[test]
fn what_nobody_signed_or_somebody_else_is_told_as_that_and_where_it_leads_all_the_same() {
    let (upstream, openpgp, ssh) = (upstream(), ada(), Signer::ssh(&["ed25519"]));
    let (of_openpgp, of_ssh) =
        (remote(&upstream, VerifyMode::Commit, &[&openpgp]), remote(&upstream, VerifyMode::Commit, &[&ssh]));

    assert_eq!(refusal(&of_ssh, branch("main")).code(), "revision_unsigned");
    openpgp.sign_head(&upstream, "main");
    let error = refusal(&of_ssh, branch("main"));
    assert_eq!(error.code(), "revision_signed_by_others");
    assert!(error.to_string().contains(&openpgp.id), "{error}");
    ssh.sign_head(&upstream, "main");
    let error = refusal(&of_openpgp, branch("main"));
    assert_eq!(error.code(), "revision_signed_by_others");
    assert!(error.to_string().contains(&ssh.id), "{error}");
    assert_eq!(fetch(&upstream.remote(), branch("main")).verified, None);
}

/// A commit as somebody wrote it, whatever Git thinks of that.
fn write(upstream: &Upstream, commit: &str) {
    let id = upstream.git(["hash-object", "-t", "commit", "-w", "--stdin"], commit.as_bytes());
    upstream.git(["update-ref", "refs/heads/main", &id], b"");
}

#[test]
fn a_signature_counts_for_nothing_else_than_what_was_signed() {
    for signer in [ada(), Signer::ssh(&["ed25519"])] {
        let upstream = upstream();
        let remote = remote(&upstream, VerifyMode::Commit, &[&signer]);
        let signed = signer.sign_head(&upstream, "main");
        let commit = upstream.git(["cat-file", "commit", &signed], b"");

        write(&upstream, &format!("{commit}, and more\n"));

        let error = refusal(&remote, branch("main"));
        assert_eq!(error.code(), "revision_signature_bad");
        assert!(error.to_string().contains(&signer.id), "{error}");
    }
}

#[test]
fn what_ssh_signed_for_something_else_is_no_signature_of_a_commit() {
    let (upstream, signer) = (upstream(), Signer::ssh(&["ed25519"]));
    let commit = upstream.git(["cat-file", "commit", "main"], b"") + "\n";
    let key = signer.file("id");
    let signature =
        run("ssh-keygen", &["-Y", "sign", "-n", "file", "-f", key.to_str().expect("text")], commit.as_bytes());
    let (header, message) = commit.split_once("\n\n").expect("a commit");

    write(&upstream, &format!("{header}\ngpgsig {}\n\n{message}", signature.trim().replace('\n', "\n ")));

    let error = refusal(&remote(&upstream, VerifyMode::Commit, &[&signer]), branch("main"));
    assert_eq!(error.code(), "revision_signature_bad");
}

#[test]
fn a_tag_is_verified_by_its_signature_and_only_for_the_name_that_it_was_signed_for() {
    for signer in [ada(), Signer::ssh(&["ed25519"])] {
        let upstream = upstream();
        let commit = upstream.git(["rev-parse", "main"], b"");
        let remote = remote(&upstream, VerifyMode::Tag, &[&signer]);
        signer.sign_tag(&upstream, "v1.0.0", &commit);

        for wanted in [tag("v1.0.0"), GitRef::Semver("1.x".to_owned())] {
            let head = fetch(&remote, wanted);
            assert_eq!(head.outcome.expect("it is there").id, commit);
            let verified = Verified { tag: Some(signer.id.clone()), ..Verified::default() };
            assert_eq!(head.verified, Some(Ok(verified)));
        }
        assert_eq!(refusal(&remote, branch("main")).code(), "revision_has_no_tag");
        upstream.git(["tag", "light", &commit], b"");
        assert_eq!(refusal(&remote, tag("light")).code(), "revision_unsigned");
        upstream.git(["tag", "-a", "-m", "Unsigned", "heavy", &commit], b"");
        assert_eq!(refusal(&remote, tag("heavy")).code(), "revision_unsigned");
        let object = upstream.git(["rev-parse", "refs/tags/v1.0.0"], b"");
        upstream.git(["update-ref", "refs/tags/v1.1.0", &object], b"");
        assert_eq!(refusal(&remote, tag("v1.1.0")).code(), "revision_tag_renamed");
        assert_eq!(refusal(&remote, GitRef::Semver("1.x".to_owned())).code(), "revision_tag_renamed");
    }
}

#[test]
fn a_tag_and_its_commit_may_have_to_be_signed_both() {
    let (upstream, signer) = (upstream(), Signer::ssh(&["ed25519"]));
    let remote = remote(&upstream, VerifyMode::TagAndCommit, &[&signer]);
    let unsigned = upstream.git(["rev-parse", "main"], b"");
    signer.sign_tag(&upstream, "v1", &unsigned);
    assert_eq!(refusal(&remote, tag("v1")).code(), "revision_unsigned");
    let head = signer.sign_head(&upstream, "main");
    upstream.git(["tag", "-f", "v1", &head], b"");
    assert_eq!(refusal(&remote, tag("v1")).code(), "revision_unsigned");

    signer.sign_tag(&upstream, "v1", &head);

    let id = Some(signer.id.clone());
    let verified = Verified { commit: id.clone(), tag: id, artifact: None };
    assert_eq!(fetch(&remote, tag("v1")).verified, Some(Ok(verified)));
}

#[test]
fn a_tag_whose_commit_was_here_before_is_fetched_when_it_has_to_be_signed() {
    let (upstream, signer, mut local) = (upstream(), Signer::ssh(&["ed25519"]), Local::new());
    let commit = upstream.git(["rev-parse", "main"], b"");
    signer.sign_tag(&upstream, "v1", &commit);
    local.fetch_one(&upstream.remote(), tag("v1")).expect("it is there");

    let heads = local.fetch(&remote(&upstream, VerifyMode::Tag, &[&signer]), &[tag("v1")]).expect("it is fetched");

    assert!(matches!(heads[0].verified, Some(Ok(_))), "{heads:?}");
}

#[test]
fn a_key_signs_nothing_after_its_end_and_what_it_signed_before_stays_good() {
    let upstream = upstream();
    let in_2020 = ["--faked-system-time", "20200101T000000"];
    let mut signer = Signer::openpgp("ed25519", "sign", &in_2020, "1y");
    let ended = signer.public.clone();
    signer.gpg(&["--quick-set-expire", signer.fingerprint(), "0"]);
    signer.export();
    signer.sign_head(&upstream, "main");
    let of_now = remote(&upstream, VerifyMode::Commit, &[&signer]);
    assert!(matches!(fetch(&of_now, branch("main")).verified, Some(Ok(_))));

    let keys = vec![ended];
    let of_before = Remote { verify: Some(Verify { mode: VerifyMode::Commit, keys }), ..upstream.remote() };

    let error = refusal(&of_before, branch("main"));
    assert_eq!(error.code(), "revision_signature_bad");
    assert!(error.to_string().ends_with("was made when the key was not valid"), "{error}");
}

fn invalid(keys: &[&str]) -> InvalidVerifyKey {
    let keys = keys.iter().map(|key| (*key).to_owned()).collect();
    Verifier::read(&Verify { mode: VerifyMode::Commit, keys }).expect_err("it is refused")
}

#[test]
fn keys_that_cannot_be_used_are_refused_for_what_they_are() {
    let mut signer = ada();
    let revocation = signer.file(&format!("openpgp-revocs.d/{}.rev", signer.fingerprint()));
    let revocation = std::fs::read_to_string(revocation).expect("it was written").replace(":-----BEGIN", "-----BEGIN");
    let file = signer.file("revocation");
    std::fs::write(&file, revocation).expect("a file");
    signer.gpg(&["--import", file.to_str().expect("text")]);
    signer.export();
    let reason = |error| match error {
        InvalidVerifyKey::Unusable { fingerprint, reason } => (fingerprint, reason),
        other => panic!("{other}"),
    };
    assert_eq!(reason(invalid(&[&signer.public])), (signer.fingerprint().to_owned(), "is revoked"));
    let certifier = Signer::openpgp("ed25519", "cert", &[], "never");
    assert_eq!(reason(invalid(&[&certifier.public])).1, "has no part that may sign");

    let ssh = Signer::ssh(&["ed25519"]);
    let private = std::fs::read_to_string(ssh.file("id")).expect("a key");
    assert_eq!(invalid(&[&private]), InvalidVerifyKey::Private);
    assert_eq!(invalid(&["certainly no key"]), InvalidVerifyKey::Unknown);
    assert_eq!(invalid(&[&format!("{}no key", ssh.public)]), InvalidVerifyKey::Ssh { line: 2 });
    let nothing = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nAAAA\n-----END PGP PUBLIC KEY BLOCK-----\n";
    assert_eq!(invalid(&[nothing]), InvalidVerifyKey::OpenPgp);
    assert_eq!(invalid(&[]), InvalidVerifyKey::Empty);
    assert_eq!(invalid(&["\n# nothing\n"]), InvalidVerifyKey::Empty);
}
