//! What the cluster's owner allows this agent: reads the file that says so, at the start and whenever it changes.
//!
//! What is allowed by it decides [`bellwether_core::policy`]. A file that cannot be read allows nothing until it can: a broken
//! one must not open what the one before kept shut.

use std::fmt::Write as _;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bellwether_core::policy::{Ask, POLICY_BYTES_MAX, Policy, Standing, Verb, is_namespace};
use bellwether_core::{Digest, ObjectKey};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::config::{AskedKind, PolicyCheck};

/// Where it is mounted, if the cluster's owner has written one.
const MOUNTED: &str = "/etc/bellwether/policy.yaml";

/// Between two looks. A file that is mounted from a ConfigMap is a minute late by itself.
pub(crate) const PAUSE: Duration = Duration::from_secs(5);

/// Of why it cannot be read: some of its lines may stand in it.
const REASON_CHARS_MAX: usize = 300;

/// What the agent is told of it: how it stands, and of which bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Told {
    pub(crate) standing: Standing,
    digest: Option<Digest>,
}

impl Told {
    /// For the hub: a few words and the start of its digest, so that two clusters can be compared.
    pub(crate) fn fact(&self) -> Option<String> {
        let summary = self.standing.summary()?;
        let digest = self.digest.map(|digest| format!(" ({:.12})", digest.to_string())).unwrap_or_default();
        Some(format!("{summary}{digest}"))
    }

    /// What takes the place of what was read before. Whoever takes a policy away by a slip, or by a right on one ConfigMap, opens
    /// nothing: to go on without one takes a new process.
    fn after(self, before: &Self) -> Self {
        if self.standing != Standing::Unsaid || before.standing == Standing::Unsaid {
            return self;
        }
        let reason = "it was there, and is not any more; start the agent anew to go on without a policy";
        Self { standing: Standing::Unreadable(reason.to_owned()), digest: None }
    }
}

/// Where the policy is.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    /// It has to be there.
    Named(PathBuf),
    /// There may be none.
    Mounted(PathBuf),
}

impl Source {
    pub(crate) fn new(named: Option<PathBuf>) -> Self {
        named.map_or_else(|| Self::Mounted(PathBuf::from(MOUNTED)), Self::Named)
    }

    /// The file of a few kilobytes is read at once: nothing else runs meanwhile, and nothing else should.
    pub(crate) fn read(&self) -> Told {
        let (Self::Named(path) | Self::Mounted(path)) = self;
        let bytes = match read_bounded(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == ErrorKind::NotFound && matches!(self, Self::Mounted(_)) => {
                return absent(path);
            }
            Err(error) => return unreadable(path, &error.to_string(), None),
        };
        let digest = Some(Digest::of(&bytes));
        match parse(&bytes) {
            Ok(policy) => Told { standing: Standing::Policy(Box::new(policy)), digest },
            Err(reason) => unreadable(path, &reason, digest),
        }
    }
}

/// None, unless something else is mounted in its place: that is one under a wrong name. What Kubernetes itself puts there
/// begins with two dots.
fn absent(path: &Path) -> Told {
    let entries = match path.parent().map(std::fs::read_dir) {
        Some(Ok(entries)) => entries,
        Some(Err(error)) if error.kind() != ErrorKind::NotFound => return unreadable(path, &error.to_string(), None),
        _ => return Told::default(),
    };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    match names.filter(|name| !name.starts_with("..")).min() {
        Some(other) => unreadable(path, &format!("it is not there, and {other} is"), None),
        None => Told::default(),
    }
}

/// One that is too large is read so far as to be refused.
fn read_bounded(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(POLICY_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn unreadable(path: &Path, reason: &str, digest: Option<Digest>) -> Told {
    let reason: String = format!("{}: {reason}", path.display()).chars().take(REASON_CHARS_MAX).collect();
    Told { standing: Standing::Unreadable(reason), digest }
}

/// The document, or what is wrong with it, in one line with the place.
pub(crate) fn parse(bytes: &[u8]) -> Result<Policy, String> {
    if bytes.len() > POLICY_BYTES_MAX {
        return Err(format!("it has more than {POLICY_BYTES_MAX} bytes"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| "it is no text".to_owned())?;
    serde_saphyr::from_str(text).map_err(|error| {
        // The lines after the first show the place in the file.
        let error = error.to_string();
        error.lines().next().unwrap_or_default().trim().to_owned()
    })
}

/// What `policy check` says, and the code that it exits with.
pub fn check(asked: &PolicyCheck) -> (String, u8) {
    let policy = match read_bounded(&asked.file).map_err(|error| error.to_string()).and_then(|bytes| parse(&bytes)) {
        Ok(policy) => policy,
        Err(reason) => return (format!("{}: {reason}\n", asked.file.display()), 2),
    };
    let Some(AskedKind { api_version, kind }) = asked.kind.clone() else {
        return (format!("{}: {}\n", asked.file.display(), policy.summary()), 0);
    };
    let key = ObjectKey { api_version, kind, namespace: asked.namespace.clone(), name: asked.name.clone() };
    let account = asked.service_account.as_ref();
    // What is written of a namespace on one proves nothing.
    let is_namespaced = asked.namespace.is_some() && !is_namespace(&key);
    let (mut text, mut code) = (String::new(), 0);
    for (word, verb) in [("write", Verb::Write), ("dry run", Verb::DryRun), ("delete", Verb::Delete)] {
        let ask = Ask { verb, project: Some(&asked.project), key: &key, is_namespaced, account };
        let said = match policy.refusal(&ask) {
            None => "allowed".to_owned(),
            Some(refusal) => {
                code = 1;
                refusal.message
            }
        };
        let _ = writeln!(text, "{word}: {said}");
    }
    let place = if is_namespaced { "in a namespace" } else { "in no namespace" };
    let _ = writeln!(text, "asked as of an object {place}: whether its kind has namespaces, the cluster says");
    (text, code)
}

/// Tells each change, until the stop.
pub(crate) async fn serve(source: Source, every: Duration, told: watch::Sender<Arc<Told>>, stop: CancellationToken) {
    log(&told.borrow());
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(every) => {}
        }
        let now = source.read().after(&told.borrow());
        let has_changed = told.send_if_modified(|before| {
            let has_changed = **before != now;
            if has_changed {
                *before = Arc::new(now);
            }
            has_changed
        });
        if has_changed {
            log(&told.borrow());
        }
    }
}

fn log(told: &Told) {
    match &told.standing {
        Standing::Unsaid => tracing::info!("no policy: targets may do what the agent's rights allow"),
        Standing::Policy(policy) => tracing::info!(policy = policy.summary(), "a policy holds"),
        Standing::Unreadable(reason) => {
            tracing::error!(
                reason,
                hint = "correct the agent's policy",
                "the policy cannot be read: nothing is written"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use bellwether_core::account::Account;

    use super::*;

    const DENYING: &str = "apiVersion: bellwether.dev/v1\nkind: AgentPolicy\ndefault: deny\n";

    #[test]
    fn a_policy_that_is_named_has_to_be_there_and_one_that_is_mounted_may_be() {
        let folder = tempfile::tempdir().expect("makes a folder");
        let path = folder.path().join("policy.yaml");
        let (named, mounted) = (Source::Named(path.clone()), Source::Mounted(path.clone()));

        assert_eq!(mounted.read().standing, Standing::Unsaid);
        assert!(matches!(named.read().standing, Standing::Unreadable(_)));
        std::fs::write(&path, DENYING).expect("writes");
        assert!(matches!(named.read().standing, Standing::Policy(_)));
        assert!(mounted.read().fact().expect("is told").starts_with("0 projects, default deny ("));
        std::fs::write(&path, format!("{DENYING}project: []\n")).expect("writes");
        let Standing::Unreadable(reason) = mounted.read().standing else { panic!("it is broken") };
        assert!(reason.contains("project") && reason.contains("line 4") && !reason.contains('\n'), "{reason}");
        std::fs::write(&path, [0xff]).expect("writes");
        assert!(matches!(mounted.read().standing, Standing::Unreadable(_)));
        std::fs::create_dir(folder.path().join("dir")).expect("makes a folder");
        let folder = Source::Mounted(folder.path().join("dir"));
        assert!(matches!(folder.read().standing, Standing::Unreadable(_)), "what is there and no file is no policy");
    }

    #[test]
    fn a_policy_that_is_taken_away_or_lies_under_another_name_opens_nothing() {
        let folder = tempfile::tempdir().expect("makes a folder");
        let path = folder.path().join("policy.yaml");
        let mounted = Source::Mounted(path.clone());
        std::fs::create_dir(folder.path().join("..data")).expect("makes a folder");
        let at_start = mounted.read();
        assert_eq!(at_start.standing, Standing::Unsaid, "Kubernetes mounts so much of nothing");

        std::fs::write(&path, DENYING).expect("writes");
        let held = mounted.read().after(&at_start);
        assert!(matches!(held.standing, Standing::Policy(_)));
        std::fs::remove_file(&path).expect("removes");
        let gone = mounted.read().after(&held);
        assert!(matches!(gone.standing, Standing::Unreadable(_)));
        assert_eq!(mounted.read().after(&gone), gone, "as long as the process lives");
        std::fs::write(&path, DENYING).expect("writes");
        assert_eq!(mounted.read().after(&gone), held);

        std::fs::rename(&path, folder.path().join("policy.yml")).expect("renames");
        let Standing::Unreadable(reason) = mounted.read().standing else { panic!("it lies under another name") };
        assert!(reason.ends_with("policy.yaml: it is not there, and policy.yml is"), "{reason}");
    }

    #[test]
    fn a_check_says_what_would_be_allowed_and_its_code_whether_all_is() {
        let folder = tempfile::tempdir().expect("makes a folder");
        let file = folder.path().join("policy.yaml");
        let rule = "projects: [{name: shop, namespaces: [shop], prune: deny}]\n";
        std::fs::write(&file, format!("{DENYING}{rule}")).expect("writes");
        let kind = |kind: &str| Some(AskedKind { api_version: "v1".to_owned(), kind: kind.to_owned() });
        let project = "shop".parse().expect("is a name");
        let all =
            PolicyCheck { file, kind: None, project, namespace: None, name: String::new(), service_account: None };

        assert_eq!(check(&all).1, 0);
        let of_map = PolicyCheck { kind: kind("ConfigMap"), namespace: Some("shop".to_owned()), ..all };
        let (text, code) = check(&of_map);
        assert_eq!(code, 1);
        assert!(text.starts_with("write: allowed\ndry run: allowed\ndelete: refused"), "{text}");
        let elsewhere = PolicyCheck { namespace: Some("kube-system".to_owned()), ..of_map };
        assert!(check(&elsewhere).0.starts_with("write: refused by the cluster's policy: projects[0].namespaces"));
        let itself = PolicyCheck { kind: kind("Namespace"), ..elsewhere.clone() };
        assert!(check(&itself).0.starts_with("write: refused by the cluster's policy: projects[0].clusterScoped"));
        let account = Account { namespace: "kube-system".parse().expect("a name"), name: "x".parse().expect("a name") };
        let borrowed =
            PolicyCheck { namespace: Some("shop".to_owned()), service_account: Some(account), ..elsewhere.clone() };
        assert!(check(&borrowed).0.contains("that of the ServiceAccount kube-system/x"));
        let nowhere = PolicyCheck { file: folder.path().join("none"), ..elsewhere };
        assert_eq!(check(&nowhere).1, 2);
    }

    #[test]
    fn what_is_too_large_is_not_parsed() {
        let text = format!("{DENYING}#{}", "x".repeat(POLICY_BYTES_MAX));

        assert!(parse(text.as_bytes()).expect_err("is refused").contains("it has more than"));
    }
}
