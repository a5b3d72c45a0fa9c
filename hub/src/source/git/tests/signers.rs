//! Keys of the real tools, and what the real `git` signs with them.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use super::upstream::Upstream;

/// A person with a key.
pub(crate) struct Signer {
    folder: TempDir,
    /// For `git -c`.
    settings: Vec<String>,
    /// What is given to a repo.
    pub(crate) public: String,
    /// What the hub calls the key.
    pub(crate) id: String,
}

pub(crate) fn run(program: &str, arguments: &[&str], input: &[u8]) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    child.stdin.take().expect("piped").write_all(input).expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

impl Signer {
    pub(crate) fn ssh(kind: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let file = folder.path().join("id");
        let path = file.to_str().expect("text");
        run("ssh-keygen", &[&["-q", "-N", "", "-C", "ada", "-f", path, "-t"], kind].concat(), b"");
        let public = std::fs::read_to_string(file.with_extension("pub")).expect("a public key");
        let shown = run("ssh-keygen", &["-l", "-f", path], b"");
        let id = format!("ssh:{}", shown.split(' ').nth(1).expect("a fingerprint"));
        let settings = vec!["gpg.format=ssh".to_owned(), format!("user.signingkey={path}")];
        Self { folder, settings, public, id }
    }

    /// A new keyring whose first key is made by `--quick-generate-key`.
    pub(crate) fn openpgp(kind: &str, usage: &str, time: &[&str], expires: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let program = folder.path().join("gpg");
        let script = format!("#!/bin/sh\nexec gpg --homedir {} --batch --quiet \"$@\"\n", folder.path().display());
        std::fs::write(&program, script).expect("a script");
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        std::fs::set_permissions(&program, mode).expect("it is ours");
        let settings = vec![format!("gpg.program={}", program.display())];
        let mut signer = Self { folder, settings, public: String::new(), id: String::new() };
        let key = ["--passphrase", "", "--quick-generate-key", "Ada <ada@example.com>", kind, usage, expires];
        signer.gpg(&[time, &key].concat());
        let listed = signer.gpg(&["--with-colons", "--list-keys"]);
        let fingerprint = listed.lines().find(|line| line.starts_with("fpr:")).expect("a fingerprint");
        let fingerprint = fingerprint.split(':').nth(9).expect("a fingerprint").to_owned();
        signer.settings.push(format!("user.signingkey={fingerprint}"));
        signer.id = format!("openpgp:{fingerprint}");
        signer.export();
        signer
    }

    pub(crate) fn fingerprint(&self) -> &str {
        self.id.strip_prefix("openpgp:").expect("a key of OpenPGP")
    }

    pub(crate) fn gpg(&self, arguments: &[&str]) -> String {
        run(self.program().to_str().expect("text"), arguments, b"")
    }

    pub(crate) fn export(&mut self) {
        self.public = self.gpg(&["--armor", "--export"]);
    }

    /// A person of OpenPGP whose key signs by parts alone.
    pub(crate) fn by_parts() -> Self {
        let mut signer = Self::openpgp("ed25519", "cert", &[], "never");
        signer.add_part();
        signer
    }

    /// It signs by this one from now on.
    pub(crate) fn add_part(&mut self) {
        self.gpg(&["--passphrase", "", "--quick-add-key", self.fingerprint(), "nistp256/ecdsa", "sign", "never"]);
        self.export();
    }

    /// Parts are counted from 1.
    pub(crate) fn revoke_part(&mut self, number: usize) {
        let said = format!("key {number}\nrevkey\ny\n0\n\ny\nsave\n");
        let folder = self.folder.path().to_str().expect("text");
        let asks = ["--no-tty", "--quiet", "--command-fd", "0", "--pinentry-mode", "loopback", "--passphrase", ""];
        let edit = ["--homedir", folder, "--edit-key", self.fingerprint()];
        run("gpg", &[&asks[..], &edit].concat(), said.as_bytes());
        self.export();
    }

    /// Parts as the hub calls them.
    pub(crate) fn parts(&self) -> Vec<String> {
        let shown = ["--list-options", "show-unusable-subkeys"];
        let listed = self.gpg(&[&shown[..], &["--with-colons", "--with-subkey-fingerprint", "--list-keys"]].concat());
        let all = listed.lines().filter(|line| line.starts_with("fpr:")).filter_map(|line| line.split(':').nth(9));
        all.skip(1).map(|part| format!("{}/{part}", self.id)).collect()
    }

    fn program(&self) -> PathBuf {
        self.folder.path().join("gpg")
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn git(&self, upstream: &Upstream, arguments: &[&str]) -> String {
        let settings = self.settings.iter().flat_map(|setting| ["-c", setting.as_str()]);
        upstream.git(settings.chain(arguments.iter().copied()), b"")
    }

    /// The newest commit of the branch is signed, as `git commit --amend -S` does.
    pub(crate) fn sign_head(&self, upstream: &Upstream, branch: &str) -> String {
        let tree = upstream.git(["rev-parse", &format!("{branch}^{{tree}}")], b"");
        let commit = self.git(upstream, &["commit-tree", &tree, "-S", "-m", "A signed push"]);
        upstream.git(["update-ref", &format!("refs/heads/{branch}"), &commit], b"");
        commit
    }

    /// `git tag -s`.
    pub(super) fn sign_tag(&self, upstream: &Upstream, name: &str, commit: &str) {
        self.git(upstream, &["tag", "-s", "-f", "-m", "A signed release", name, commit]);
    }
}

impl Drop for Signer {
    /// What `gpg` left running goes with its folder.
    fn drop(&mut self) {
        if self.program().exists() {
            let folder = self.folder.path();
            let _ = Command::new("gpgconf").arg("--homedir").arg(folder).args(["--kill", "all"]).status();
        }
    }
}
