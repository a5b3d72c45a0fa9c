//! With OpenSSH's server, and with `git` behind it.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bellwether_core::source::GitRef;
use secrecy::SecretString;
use tempfile::TempDir;
use tokio::runtime::Runtime;

use super::upstream::{Local, Upstream, branch, remote, tag};
use crate::source::git::budget::FetchBounds;
use crate::source::git::{FetchError, InvalidKey, RefError, Remote, SshKey};

/// One of it for each connection, as inetd would start it: it needs no port of its own, and none is left behind.
struct Sshd {
    address: SocketAddr,
    folder: TempDir,
    runtime: Runtime,
    connections: Arc<AtomicUsize>,
    children: Arc<Mutex<Vec<std::process::Child>>>,
}

const HOST_KEYS: [&str; 3] = ["ed25519", "ecdsa", "rsa"];

impl Sshd {
    fn start() -> Self {
        Self::start_with("AcceptEnv GIT_PROTOCOL")
    }

    fn start_with(more: &str) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        for kind in HOST_KEYS {
            new_key(&folder.path().join(format!("host_{kind}")), kind, &[]);
        }
        // Where the server of a system puts it, which may not run here.
        let _ = fs::create_dir("/run/sshd");
        let sshd = Self {
            address: SocketAddr::from(([127, 0, 0, 1], 0)),
            runtime: Runtime::new().expect("a runtime"),
            connections: Arc::default(),
            children: Arc::default(),
            folder,
        };
        sshd.serve(&HOST_KEYS, more)
    }

    fn serve(mut self, host_keys: &[&str], more: &str) -> Self {
        self.configure(host_keys, more);
        fs::write(self.path("authorized_keys"), "").expect("a file");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        self.address = listener.local_addr().expect("an address");
        let (connections, children, config) = (self.connections.clone(), self.children.clone(), self.path("config"));
        // It ends with the test's process.
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                connections.fetch_add(1, Ordering::SeqCst);
                let output = stream.try_clone().expect("a second descriptor");
                let child = Command::new("/usr/sbin/sshd")
                    .args(["-i", "-e", "-f"])
                    .arg(&config)
                    .stdin(Stdio::from(OwnedFd::from(stream)))
                    .stdout(Stdio::from(OwnedFd::from(output)))
                    .stderr(Stdio::null())
                    .spawn()
                    .expect("sshd starts; `./dev doctor` says how to get it");
                children.lock().expect("not poisoned").push(child);
            }
        });
        self
    }

    fn configure(&self, host_keys: &[&str], more: &str) {
        let mut config = format!(
            "AuthorizedKeysFile {}\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             PermitRootLogin yes\n{more}\n",
            self.path("authorized_keys").display()
        );
        for kind in host_keys {
            config.extend(["HostKey ", &self.path(&format!("host_{kind}")).display().to_string(), "\n"]);
        }
        fs::write(self.path("config"), config).expect("a file");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A key that the server lets in.
    fn let_in(&self, kind: &str, options: &[&str]) -> SecretString {
        let file = self.path(&format!("user_{kind}_{}", options.join("")));
        let key = new_key(&file, kind, options);
        let public = fs::read_to_string(with_pub(&file)).expect("a public key");
        let known = fs::read_to_string(self.path("authorized_keys")).expect("a file");
        fs::write(self.path("authorized_keys"), known + &public).expect("a file");
        key
    }

    /// What `ssh-keyscan` would print of it.
    fn known_hosts(&self, kind: &str) -> String {
        let key = fs::read_to_string(with_pub(&self.path(&format!("host_{kind}")))).expect("a public key");
        format!("[127.0.0.1]:{} {key}", self.address.port())
    }

    fn remote(&self, upstream: &Upstream, key: SecretString) -> Remote {
        let user = Command::new("id").arg("-un").output().expect("a user").stdout;
        let user = String::from_utf8(user).expect("text");
        let url = format!("ssh://{}@{}{}", user.trim(), self.address, upstream.folder().display());
        Remote { credential: Some(key), known_hosts: Some(self.known_hosts("ed25519")), ..remote(&url) }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// As a restarted server does.
    fn cut_all(&self) {
        for mut child in self.children.lock().expect("not poisoned").drain(..) {
            child.kill().expect("it ends");
            child.wait().expect("it has ended");
        }
    }
}

impl Drop for Sshd {
    fn drop(&mut self) {
        self.cut_all();
    }
}

fn with_pub(file: &Path) -> PathBuf {
    file.with_file_name(format!("{}.pub", file.file_name().expect("a name").display()))
}

fn new_key(file: &Path, kind: &str, options: &[&str]) -> SecretString {
    let mut arguments = vec!["-q", "-t", kind];
    if !options.contains(&"-N") {
        arguments.extend(["-N", ""]);
    }
    arguments.extend(options);
    let done = Command::new("ssh-keygen").args(arguments).arg("-f").arg(file).status().expect("ssh-keygen starts");
    assert!(done.success(), "ssh-keygen failed");
    SecretString::from(fs::read_to_string(file).expect("a key"))
}

fn failure(local: &mut Local, remote: &Remote) -> FetchError {
    local.fetch(remote, &[branch("main")]).expect_err("it is refused")
}

#[test]
fn a_key_that_the_hub_made_lets_it_in_once_the_host_has_its_public_half() {
    let (sshd, upstream) = (Sshd::start(), Upstream::new());
    upstream.push("main", "A push", &[("a.yaml", "a: 1")]);
    let (key, public) = SshKey::make("bellwether-apps");
    let remote = sshd.remote(&upstream, key);
    let _entered = sshd.runtime.enter();

    assert_eq!(failure(&mut Local::new(), &remote).code(), "git_unauthorized");
    fs::write(sshd.path("authorized_keys"), format!("{public}\n")).expect("a file");

    Local::new().fetch_main(&remote);
    assert!(public.starts_with("ssh-ed25519 ") && public.ends_with(" bellwether-apps"), "{public}");
}

#[test]
fn every_kind_of_key_is_let_in_and_fetches() {
    let upstream = Upstream::new();
    let commit = upstream.push("main", "First", &[("shop/a.yaml", "a: 1\n")]);
    upstream.git(["tag", "-a", "-m", "One", "v1", "main"], b"");
    let sshd = Sshd::start();
    let _entered = sshd.runtime.enter();
    let kinds: [(&str, &[&str]); 7] = [
        ("ed25519", &[]),
        ("ecdsa", &["-b256"]),
        ("ecdsa", &["-b384"]),
        ("ecdsa", &["-b521"]),
        ("ecdsa", &["-mPEM"]),
        ("rsa", &["-b3072"]),
        ("rsa", &["-mPEM"]),
    ];

    for (kind, options) in kinds {
        let remote = sshd.remote(&upstream, sshd.let_in(kind, options));
        let mut local = Local::new();
        assert_eq!(local.fetch_main(&remote).id, commit, "{kind} {options:?}");
        assert_eq!(local.fetch_one(&remote, tag("v1")).expect("a tag").id, commit);
        assert_eq!(local.fetch_one(&remote, GitRef::Commit(commit.clone())).expect("a commit").id, commit);
        assert_eq!(local.files(&commit, "shop"), [("a.yaml".to_owned(), "a: 1\n".to_owned())]);
    }
}

#[test]
fn whichever_of_a_hosts_keys_is_known_is_the_one_it_is_asked_for() {
    let upstream = Upstream::new();
    upstream.push("main", "First", &[("a.yaml", "a: 1\n")]);
    let sshd = Sshd::start();
    let _entered = sshd.runtime.enter();
    let key = sshd.let_in("ed25519", &[]);

    for kind in HOST_KEYS {
        let remote = Remote { known_hosts: Some(sshd.known_hosts(kind)), ..sshd.remote(&upstream, key.clone()) };
        Local::new().fetch_main(&remote);
    }
}

#[test]
fn a_host_with_another_key_than_the_known_one_is_refused_with_both_fingerprints() {
    let upstream = Upstream::new();
    upstream.push("main", "First", &[("a.yaml", "a: 1\n")]);
    let sshd = Sshd::start();
    let _entered = sshd.runtime.enter();
    let remote = sshd.remote(&upstream, sshd.let_in("ed25519", &[]));
    let mut local = Local::new();
    local.fetch_main(&remote);

    sshd.cut_all();
    for file in [sshd.path("host_ed25519"), with_pub(&sshd.path("host_ed25519"))] {
        fs::remove_file(file).expect("it is there");
    }
    new_key(&sshd.path("host_ed25519"), "ed25519", &[]);
    let error = failure(&mut local, &remote);
    assert_eq!(error.code(), "git_host_key_changed");
    let text = format!("{error} {}", error.hint().expect("a hint"));
    assert_eq!(text.matches("SHA256:").count(), 2, "{text}");

    // Without a key of the known kind, it is no better.
    sshd.configure(&["rsa"], "AcceptEnv GIT_PROTOCOL");
    assert_eq!(failure(&mut local, &remote).code(), "git_host_key_changed");

    let known_hosts = Some(sshd.known_hosts("rsa"));
    local.fetch_main(&Remote { known_hosts, ..remote });
}

#[test]
fn a_host_that_is_not_known_is_not_even_connected_to() {
    let upstream = Upstream::new();
    let sshd = Sshd::start();
    let _entered = sshd.runtime.enter();
    let remote = sshd.remote(&upstream, sshd.let_in("ed25519", &[]));
    let elsewhere = sshd.known_hosts("ed25519").replace("127.0.0.1", "127.0.0.2");

    for known_hosts in [None, Some(elsewhere)] {
        let error = failure(&mut Local::new(), &Remote { known_hosts, ..remote.clone() });
        assert_eq!(error.code(), "git_host_unknown");
        let hint = error.hint().expect("a hint");
        assert!(hint.contains(&format!("ssh-keyscan -p {} 127.0.0.1", sshd.address.port())), "{hint}");
    }
    assert_eq!(sshd.connections(), 0);
}

#[test]
fn a_key_that_the_host_does_not_know_and_no_key_at_all_are_told() {
    let upstream = Upstream::new();
    let sshd = Sshd::start();
    let _entered = sshd.runtime.enter();
    let stranger = new_key(&sshd.path("stranger"), "ed25519", &[]);
    let remote = sshd.remote(&upstream, stranger);

    let error = failure(&mut Local::new(), &remote);
    assert_eq!(error.code(), "git_unauthorized");
    assert!(error.to_string().contains("SHA256:"), "{error}");

    let error = failure(&mut Local::new(), &Remote { credential: None, ..remote });
    assert_eq!(error.code(), "git_unauthorized");
    assert!(error.hint().expect("a hint").contains("--ssh-key-file"));
}

#[test]
fn a_key_with_a_passphrase_is_refused_whatever_its_form() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let cases: [(&str, &[&str]); 3] = [("ed25519", &[]), ("rsa", &["-mPEM"]), ("ecdsa", &["-mPKCS8"])];

    for (at, (kind, form)) in cases.into_iter().enumerate() {
        let file = folder.path().join(at.to_string());
        let options: Vec<&str> = ["-N", "secret"].into_iter().chain(form.iter().copied()).collect();
        new_key(&file, kind, &options);
        let parse = |file: &Path| SshKey::parse(&fs::read_to_string(file).expect("a key")).map(|_| ());
        assert_eq!(parse(&file), Err(InvalidKey::HasPassphrase), "{kind} {form:?}");
        assert_eq!(parse(&with_pub(&file)), Err(InvalidKey::Public));
    }
    assert_eq!(SshKey::parse("nonsense").map(|_| ()), Err(InvalidKey::NotAKey));
    let torn = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n-----END OPENSSH PRIVATE KEY-----\n";
    assert_eq!(SshKey::parse(torn).map(|_| ()), Err(InvalidKey::NotAKey));
}

#[test]
fn a_connection_is_kept_between_fetches_and_made_anew_when_it_was_cut() {
    let upstream = Upstream::new();
    let first = upstream.push("main", "First", &[("a.yaml", "a: 1\n")]);
    let sshd = Sshd::start();
    let _entered = sshd.runtime.enter();
    let remote = sshd.remote(&upstream, sshd.let_in("ed25519", &[]));
    let mut local = Local::new();

    assert_eq!(local.fetch_main(&remote).id, first);
    let second = upstream.push("main", "Second", &[("a.yaml", "a: 2\n")]);
    // More than a server has sessions for at once.
    for _ in 0..15 {
        assert_eq!(local.fetch_main(&remote).id, second);
    }
    assert_eq!(sshd.connections(), 1);

    sshd.cut_all();
    let third = upstream.push("main", "Third", &[("a.yaml", "a: 3\n")]);
    assert_eq!(local.fetch_main(&remote).id, third);
    assert_eq!(sshd.connections(), 2);
}

#[test]
fn what_is_not_there_is_told_and_nothing_else_suffers() {
    let upstream = Upstream::new();
    let commit = upstream.push("main", "First", &[("a.yaml", "a: 1\n")]);
    let sshd = Sshd::start();
    let _entered = sshd.runtime.enter();
    let remote = sshd.remote(&upstream, sshd.let_in("ed25519", &[]));
    let mut local = Local::new();

    let absent = GitRef::Commit("1234567890123456789012345678901234567890".to_owned());
    let heads = local.fetch(&remote, &[branch("main"), branch("mian"), absent]).expect("the server answers");
    assert_eq!(heads[0].outcome.as_ref().expect("it is there").id, commit);
    assert!(matches!(&heads[1].outcome, Err(RefError::NoSuchBranch { nearest: Some(near), .. }) if near == "main"));
    assert!(matches!(heads[2].outcome, Err(RefError::NoSuchCommit { .. })));

    let nowhere = upstream.folder().with_file_name("nowhere.git");
    let url = remote.url.as_str().replace(&*upstream.folder().to_string_lossy(), &nowhere.to_string_lossy());
    let there = super::upstream::remote(&url);
    let error = failure(&mut Local::new(), &Remote { url: there.url, ..remote });
    assert_eq!(error.code(), "git_repo_not_found");
}

#[test]
fn a_server_that_speaks_an_old_protocol_is_told_with_what_helps() {
    let upstream = Upstream::new();
    upstream.push("main", "First", &[("a.yaml", "a: 1\n")]);
    let sshd = Sshd::start_with("");
    let _entered = sshd.runtime.enter();
    let remote = sshd.remote(&upstream, sshd.let_in("ed25519", &[]));

    let error = failure(&mut Local::new(), &remote);
    assert_eq!(error.code(), "git_unsupported");
    assert!(error.hint().expect("a hint").contains("AcceptEnv GIT_PROTOCOL"));
}

#[test]
fn the_bounds_of_a_fetch_hold_for_ssh() {
    let upstream = Upstream::new();
    // What does not compress.
    let words: Vec<_> = (0..60_000_u32).map(|seed| format!("{:x}", seed.wrapping_mul(2_654_435_761))).collect();
    let noise = words.concat();
    upstream.push("main", "Large", &[("a.yaml", &noise)]);
    let sshd = Sshd::start();
    let _entered = sshd.runtime.enter();
    let remote = sshd.remote(&upstream, sshd.let_in("ed25519", &[]));

    let bounds = FetchBounds { pack_bytes_max: 10_000, ..FetchBounds::default() };
    let Local { folder, mirror } = Local::new();
    let mut local = Local { folder, mirror: mirror.with_bounds(bounds) };
    assert_eq!(failure(&mut local, &remote).code(), "git_too_large");

    // Nobody answers at all.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("an address").port();
    let url = super::upstream::remote(&format!("ssh://git@127.0.0.1:{port}/a")).url;
    let known = sshd.known_hosts("ed25519").replace(&sshd.address.port().to_string(), &port.to_string());
    let bounds = FetchBounds { stall: Duration::from_millis(300), ..FetchBounds::default() };
    let Local { folder, mirror } = Local::new();
    let mut local = Local { folder, mirror: mirror.with_bounds(bounds) };
    let began = Instant::now();
    let error = failure(&mut local, &Remote { url, known_hosts: Some(known), ..remote });
    assert_eq!(error.code(), "git_deadline");
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn a_name_that_leads_inside_is_not_connected_to() {
    let upstream = Upstream::new();
    let sshd = Sshd::start();
    let _entered = sshd.runtime.enter();
    let inside = sshd.remote(&upstream, sshd.let_in("ed25519", &[]));
    let url = inside.url.as_str().replace("127.0.0.1", "localhost");
    let known = sshd.known_hosts("ed25519").replace("127.0.0.1", "localhost");
    let named = Remote { url: remote(&url).url, known_hosts: Some(known), ..inside };

    let error = failure(&mut Local::new(), &Remote { may_be_private: false, ..named.clone() });
    assert_eq!(error.code(), "git_private_address");
    assert_eq!(sshd.connections(), 0);
    assert!(Local::new().fetch(&named, &[branch("main")]).is_ok(), "it is only the address");
}
