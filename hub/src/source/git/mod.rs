//! Git: mirrors of repos, what is new in them, and the files of a commit. The only place that knows gix.
//!
//! A mirror is a bare repository in a cache folder that may be deleted at any time. It has no work tree, takes no
//! configuration from the host, runs no hook and no filter, and fetches no submodule and no LFS object. It keeps the
//! commits it once fetched, each without its history, so that an earlier revision can be rendered again.
//!
//! Everything here blocks: callers are in `spawn_blocking`. A fetch that fails changes nothing of what can be read.

mod budget;
mod descent;
mod error;
mod files;
mod lacking;
mod read;
mod scan;
mod session;
mod ssh;
#[cfg(test)]
mod tests;
mod unpack;
mod url;
mod wire;
mod write;

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bellwether_core::report::is_obeyed;
use bellwether_core::source;
use bellwether_core::source::GitRef;
use bellwether_core::version_range::VersionRange;
use bellwether_render::LeaveOut;
use gix::ObjectId;
use gix::bstr::ByteSlice;
use gix::objs::Kind;
use gix::protocol::handshake::Ref;
use gix::protocol::transport::Protocol;
use gix::protocol::transport::client::blocking_io::{Transport, file, http};
use jiff::Timestamp;
use secrecy::{ExposeSecret as _, SecretString};

pub(crate) use self::error::{FetchError, ReadError, RefError};
pub(crate) use self::files::CommitFiles;
pub(crate) use self::read::Folder;
pub(crate) use self::ssh::{InvalidKey, KnownHosts, SshKey};
#[cfg(test)]
pub(crate) use self::tests::upstream;
pub(crate) use self::url::{InvalidUrl, RepoUrl, UrlPolicy};

pub(super) use self::budget::Budget;
pub(crate) use self::budget::FetchBounds;
use self::error::Cause;
pub(super) use self::error::nearest;
use self::lacking::Lacking;
use self::scan::READ_BYTES_MAX;
use self::session::Session;
use self::unpack::Stored;
use self::wire::Wire;
pub(super) use self::wire::describe_status;
pub(super) use self::write::{Made, write_commit, write_file};
use super::oci::{self, Registry};
use crate::egress::Destination;

/// The only way to name objects that servers and clients agree on today.
const HASH: gix::hash::Kind = gix::hash::Kind::Sha1;

const TAGS: &str = "refs/tags/";

/// Names looked through for a suggestion.
const SUGGESTIONS_MAX: usize = 10_000;

/// Commits offered as "have": enough for the branches of a repo, few enough for one small request.
const TIPS_MAX: usize = 16;

/// A thousand lines, read once at start.
const TIPS_BYTES_MAX: u64 = 41_000;

/// A mirror beyond these is made anew: single objects and packs that Git would pack, too.
const LOOSE_MAX: usize = 5_000;
const PACKS_MAX: usize = 20;

/// For lists and logs; commits may hold books.
const LINE_CHARACTERS_MAX: usize = 200;

/// Where a repo is, and how it is reached.
#[derive(Debug, Clone)]
pub(crate) struct Remote {
    pub(crate) url: RepoUrl,
    /// Trusted instead of the system's certificates.
    pub(crate) ca_pem: Option<String>,
    /// By ssh: which keys hosts have, as lines of a `known_hosts` file.
    pub(crate) known_hosts: Option<String>,
    /// The URL is a Helm repository's, and this is meant of it.
    pub(crate) chart: Option<String>,
    /// Of an artifact only what one of these keys (PEM) signed is taken, if there are any.
    pub(crate) cosign_keys: Vec<String>,
    /// A token; by ssh the private key.
    pub(crate) credential: Option<SecretString>,
    /// Its name may lead to an address inside the hub's network.
    pub(crate) may_be_private: bool,
}

impl Remote {
    pub(super) fn is(&self, other: &Self) -> bool {
        let credential = |remote: &Self| remote.credential.as_ref().map(|text| text.expose_secret().to_owned());
        self.url == other.url
            && self.ca_pem == other.ca_pem
            && self.known_hosts == other.known_hosts
            && self.chart == other.chart
            && self.cosign_keys == other.cosign_keys
            && self.may_be_private == other.may_be_private
            && credential(self) == credential(other)
    }

    /// One of the hosts that it is fetched from.
    pub(super) fn destination<'a>(&'a self, host: &'a str, is_loopback: bool) -> Destination<'a> {
        Destination { host, is_loopback, may_be_private: self.may_be_private, ca_pem: self.ca_pem.as_deref() }
    }
}

/// What is worth keeping between fetches.
#[derive(Debug)]
enum Connection {
    Http(wire::Connection),
    Ssh(ssh::Connection),
}

impl Connection {
    fn serves(&self, remote: &Remote) -> bool {
        match self {
            Self::Http(connection) => connection.serves(remote),
            Self::Ssh(connection) => connection.serves(remote),
        }
    }
}

/// A ref that was asked for, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) reference: GitRef,
    /// Of a range of versions the tag that is the newest in it.
    pub(crate) tag: Option<String>,
    /// The commit that it was asked about and is known to build on.
    pub(crate) builds_on: Option<String>,
    pub(crate) outcome: Result<Commit, RefError>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Commit {
    pub(crate) id: String,
    pub(crate) tree: String,
    /// `Name <email>`.
    pub(crate) author: String,
    /// The first line of the message.
    pub(crate) subject: String,
    pub(crate) committed_at: Timestamp,
}

/// A repo's local copy. One at a time per folder.
#[derive(Debug)]
pub(crate) struct Mirror {
    folder: PathBuf,
    repo: gix::ThreadSafeRepository,
    bounds: FetchBounds,
    connection: Option<Connection>,
    registry: Option<Registry>,
    /// The newest commits that are here, latest last.
    tips: Vec<ObjectId>,
    /// A reader found damage: the next fetch begins anew.
    damaged: Arc<AtomicBool>,
    lacking: Arc<Lacking>,
    refused: Option<Refused>,
    /// Somebody says that a ref has moved.
    expects_news: bool,
    /// By their full names, refs and the commits that they are to build on.
    bases: BTreeMap<String, ObjectId>,
    /// Something was stored since it was last found small enough.
    has_grown: bool,
}

/// Commits whose pack was too large: it is not sent again while the same ones are wanted.
#[derive(Debug)]
struct Refused {
    wants: Vec<ObjectId>,
    what: String,
    max: u64,
}

/// Reads what a mirror held when this was made, while the mirror fetches.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    repo: gix::ThreadSafeRepository,
    damaged: Arc<AtomicBool>,
    lacking: Arc<Lacking>,
}

impl Mirror {
    /// Opens the mirror in `folder`. What is torn or not a mirror at all is removed and made anew.
    pub(crate) fn open_or_create(folder: &Path) -> Result<Self, FetchError> {
        let repo = match open(folder) {
            Ok(repo) => repo,
            Err(reason) => create(folder, &reason.to_string())?,
        };
        let tips = read_tips(folder, &repo.to_thread_local());
        let folder = folder.to_owned();
        Ok(Self {
            folder,
            repo,
            bounds: FetchBounds::default(),
            connection: None,
            registry: None,
            tips,
            damaged: Arc::default(),
            lacking: Arc::default(),
            refused: None,
            expects_news: false,
            bases: BTreeMap::new(),
            has_grown: true,
        })
    }

    pub(crate) fn with_bounds(self, bounds: FetchBounds) -> Self {
        Self { bounds, ..self }
    }

    /// Whether the next fetches are likely to find something: then branches are asked for by name, where the server lets us,
    /// and what they lead to comes with the answer. For what finds nothing a listing costs the server less.
    pub(crate) const fn expect_news(&mut self, expects_news: bool) {
        self.expects_news = expects_news;
    }

    /// Whether these refs, by their full names, build on commits is looked for by the next fetches, wherever they lead
    /// somewhere else.
    pub(crate) fn ask_whether(&mut self, builds_on: &BTreeMap<String, String>) {
        let bases = builds_on.iter();
        self.bases = bases
            .filter_map(|(name, commit)| Some((name.clone(), ObjectId::from_hex(commit.as_bytes()).ok()?)))
            .collect();
    }

    /// Finds where the `wanted` refs are, and fetches the commits that are not here yet.
    ///
    /// One answer per ref, in the same order. Without any it still asks, so that a repo that is not there is noticed.
    pub(crate) fn fetch(
        &mut self,
        remote: &Remote,
        wanted: &[GitRef],
        stop: &AtomicBool,
    ) -> Result<Vec<Head>, FetchError> {
        if self.damaged.swap(false, Ordering::Relaxed) {
            self.begin_anew("a reader found damage")?;
        }
        let budget = Budget::new(self.bounds, stop);
        let kept = self.connection.as_ref().is_some_and(|connection| connection.serves(remote));
        let mut fetched = self.fetch_once(remote, wanted, &budget);
        if kept && fetched.as_ref().is_err_and(FetchError::may_come_from_a_kept_connection) {
            fetched = self.fetch_once(remote, wanted, &budget);
        }
        let is_not_stored = matches!(fetched, Err(FetchError::Mirror { .. } | FetchError::Protocol { .. }));
        if is_not_stored && !self.tips.is_empty() {
            // What is sent builds on the commits we say to have; one of them may be damaged.
            self.tips.clear();
            fetched = self.fetch_once(remote, wanted, &budget);
        }
        if let Err(FetchError::Damaged { source }) = &fetched {
            self.begin_anew(&source.to_string())?;
            fetched = self.fetch_once(remote, wanted, &budget);
        }
        let Fetched { heads, tips, stored } = fetched?;
        if stored == Some(Stored::Pack) {
            // See `options`.
            self.repo = open(&self.folder).map_err(mirror)?;
        }
        self.remember(&tips)?;
        match stored {
            Some(_) => self.has_grown = true,
            // Nobody waits for what nothing was found for.
            None if std::mem::take(&mut self.has_grown) && self.is_worn() => {
                if let Err(error) = self.renew(remote, wanted, stop) {
                    tracing::warn!(folder = %self.folder.display(), error = %crate::chain(&error), "cannot renew a mirror");
                }
            }
            None => {}
        }
        Ok(heads)
    }

    fn is_worn(&self) -> bool {
        let size = measure(&self.folder.join("objects")).unwrap_or_default();
        size.loose > LOOSE_MAX || size.packs > PACKS_MAX || size.bytes > self.bounds.pack_bytes_max.saturating_mul(2)
    }

    /// Fetches the commits that are wanted into a new mirror and puts it in the place of this one. Earlier commits go:
    /// what was rendered from them is kept elsewhere. Readers go on in the new one.
    fn renew(&mut self, remote: &Remote, wanted: &[GitRef], stop: &AtomicBool) -> Result<(), FetchError> {
        let (new, old) = (beside(&self.folder, "new"), beside(&self.folder, "old"));
        for folder in [&new, &old] {
            remove(folder).map_err(mirror)?;
        }
        Self::open_or_create(&new)?.with_bounds(self.bounds).fetch(remote, wanted, stop)?;
        fs::rename(&self.folder, &old).and_then(|()| fs::rename(&new, &self.folder)).map_err(mirror)?;
        let Self { repo, tips, .. } = Self::open_or_create(&self.folder)?;
        (self.repo, self.tips) = (repo, tips);
        remove(&old).map_err(mirror)
    }

    pub(crate) fn reader(&self) -> Reader {
        Reader { repo: self.repo.clone(), damaged: self.damaged.clone(), lacking: self.lacking.clone() }
    }

    fn begin_anew(&mut self, reason: &str) -> Result<(), FetchError> {
        self.tips.clear();
        self.lacking.clear();
        self.repo = create(&self.folder, reason)?;
        Ok(())
    }

    fn fetch_once(&mut self, remote: &Remote, wanted: &[GitRef], budget: &Budget<'_>) -> Result<Fetched, FetchError> {
        let repo = self.repo.to_thread_local();
        if remote.chart.is_some() || remote.url.artifact().is_some() {
            return self.fetch_artifacts(remote, wanted, &repo, budget);
        }
        let expects_news = self.expects_news;
        let scratch = beside(&self.folder, "history");
        let here = Here {
            repo: &repo,
            tips: &self.tips,
            lacking: &self.lacking,
            refused: &mut self.refused,
            expects_news,
            bases: &self.bases,
            scratch: &scratch,
        };
        if let Some(folder) = remote.url.local_folder() {
            let connect = || {
                let Ok(transport) = file::connect(folder.as_str(), Protocol::V2, false);
                transport
            };
            return run_fetch(connect, wanted, here, budget);
        }
        // It is put back only when all went well; after a failure the next fetch connects again.
        let kept = self.connection.take().filter(|connection| connection.serves(remote));
        let connection = match kept {
            Some(connection) => connection,
            None if remote.url.ssh().is_some() => Connection::Ssh(ssh::Connection::open(remote, budget)?),
            None => Connection::Http(wire::Connection::open(remote)?),
        };
        let fetched = match &connection {
            Connection::Http(connection) => {
                let wire = Wire::new(connection, budget)?;
                let failure = wire.failure();
                let url = gix::url::parse(remote.url.as_str()).map_err(protocol)?;
                let connect = || http::Transport::new_http(wire.clone(), url.clone(), Protocol::V2, false);
                run_fetch(connect, wanted, here, budget).map_err(|error| failure.take().unwrap_or(error))
            }
            Connection::Ssh(connection) => {
                let talk = ssh::Talk::new(connection, budget);
                let failure = talk.failure();
                run_fetch(|| talk.begin(), wanted, here, budget).map_err(|error| failure.take().unwrap_or(error))
            }
        };
        if fetched.is_ok() {
            self.connection = Some(connection);
        }
        fetched
    }

    /// What a registry has becomes commits as well, each a function of its artifact.
    fn fetch_artifacts(
        &mut self,
        remote: &Remote,
        wanted: &[GitRef],
        repo: &gix::Repository,
        budget: &Budget<'_>,
    ) -> Result<Fetched, FetchError> {
        let mut registry = match self.registry.take().filter(|registry| registry.serves(remote)) {
            Some(registry) => registry,
            None => Registry::open(remote, &self.folder)?,
        };
        let fetched = oci::fetch(&mut registry, wanted, self.expects_news, repo, budget)?;
        self.registry = Some(registry);
        let stored = fetched.has_grown.then_some(Stored::Loose);
        let outcomes = wanted.iter().zip(fetched.found).map(|(reference, found)| {
            let outcome = match found.commit {
                Ok(commit) => Ok(read_commit(commit, repo)?),
                Err(error) => Err(error),
            };
            // An artifact has no history that it could build on.
            Ok(Head { reference: reference.clone(), tag: found.tag, builds_on: None, outcome })
        });
        Ok(Fetched { heads: outcomes.collect::<Result<_, FetchError>>()?, tips: Vec::new(), stored })
    }

    fn remember(&mut self, found: &[ObjectId]) -> Result<(), FetchError> {
        if found.iter().all(|tip| self.tips.contains(tip)) {
            return Ok(());
        }
        self.tips.retain(|tip| !found.contains(tip));
        self.tips.extend(found);
        let excess = self.tips.len().saturating_sub(TIPS_MAX);
        self.tips.drain(..excess);
        write_tips(&self.folder, &self.tips, found).map_err(mirror)
    }
}

impl Reader {
    /// The manifests below `path` (the empty path is the root) in a commit that was fetched, without those that are left
    /// out by their paths below it.
    pub(crate) fn read_folder(&self, commit: &str, path: &str, leave_out: &LeaveOut<'_>) -> Result<Folder, ReadError> {
        self.note_damage(read::read_folder(&self.repo.to_thread_local(), commit, path, &self.lacking, leave_out))
    }

    /// The id of that folder's tree; it changes exactly when something in the folder does.
    #[cfg(test)]
    pub(crate) fn tree_of(&self, commit: &str, path: &str) -> Result<String, ReadError> {
        self.note_damage(read::find_tree(&self.repo.to_thread_local(), commit, path)).map(|tree| tree.to_string())
    }

    /// All of a commit, for whoever does not know before what is needed of it.
    pub(crate) fn files(&self, commit: &str) -> CommitFiles {
        CommitFiles::new(self.clone(), commit.to_owned())
    }

    /// What a render read of a commit, as it is there: equal digests, equal objects.
    pub(crate) fn digest_of(&self, commit: &str, paths: &BTreeSet<String>) -> Result<String, ReadError> {
        let digest = read::digest_of(&self.repo.to_thread_local(), commit, paths);
        self.note_damage(digest).map(|digest| digest.to_string())
    }

    /// Of what renders read, that which is the same in two commits.
    pub(crate) fn list_unmoved(
        &self,
        old: &str,
        new: &str,
        paths: &BTreeSet<String>,
    ) -> Result<BTreeSet<String>, ReadError> {
        self.note_damage(read::list_unmoved(&self.repo.to_thread_local(), old, new, paths))
    }

    fn note_damage<T>(&self, result: Result<T, ReadError>) -> Result<T, ReadError> {
        if matches!(result, Err(ReadError::Damaged { .. })) {
            self.damaged.store(true, Ordering::Relaxed);
        }
        result
    }
}

/// What one fetch brought.
struct Fetched {
    heads: Vec<Head>,
    tips: Vec<ObjectId>,
    stored: Option<Stored>,
}

/// Where each wanted ref leads, before anything is fetched.
enum Found {
    Commit(ObjectId),
    /// A tag, of all that are in a range of versions.
    Newest {
        tag: String,
        id: ObjectId,
    },
    /// No tag is in that range; the nearest to it.
    NoneInRange {
        range: String,
        nearest: Vec<String>,
    },
    Missing,
    Invalid,
}

/// What a fetch builds on.
struct Here<'a> {
    repo: &'a gix::Repository,
    tips: &'a [ObjectId],
    lacking: &'a Lacking,
    refused: &'a mut Option<Refused>,
    expects_news: bool,
    bases: &'a BTreeMap<String, ObjectId>,
    /// Where a history may be for as long as it is looked at.
    scratch: &'a Path,
}

/// `connect` begins a conversation. One that ended in an error is not gone on with: a process at the other end is gone
/// by then, and over HTTP a new one costs nothing.
fn run_fetch<T: Transport>(
    connect: impl Fn() -> T,
    wanted: &[GitRef],
    here: Here<'_>,
    budget: &Budget<'_>,
) -> Result<Fetched, FetchError> {
    let Here { repo, tips, lacking, refused, expects_news, bases, scratch } = here;
    let mut session = Session::open(connect(), budget)?;
    // Of what was too large before nothing is asked for before it is known to be something else.
    let asks_by_name = expects_news && !tips.is_empty() && refused.is_none();
    let named = if asks_by_name { fetch_named(&mut session, wanted, tips, repo)? } else { Named::Unanswered };
    let (mut found, mut stored) = match named {
        Named::Found(found, stored) => (found, Some(stored)),
        not_found => {
            if matches!(not_found, Named::Refused) {
                session = Session::open(connect(), budget)?;
            }
            let found = locate(&mut session, wanted)?;
            let stored = fetch_missing(&mut session, &list_missing(&found, wanted, repo), tips, repo, refused)?;
            (found, stored)
        }
    };
    for (found, reference) in found.iter_mut().zip(wanted) {
        // Pinned commits go one by one: a server refuses the whole request for one that it does not have.
        let (Found::Commit(id), GitRef::Commit(_)) = (&*found, reference) else { continue };
        if !repo.has_object(*id) {
            match Session::open(connect(), budget)?.receive(&[*id], tips, repo) {
                Ok(done) => stored = Some(done).max(stored),
                Err(error) if session::is_not_our_ref(&error) => *found = Found::Missing,
                Err(error) => return Err(error),
            }
        }
    }
    session.close();
    stored = fetch_lacking(&connect, lacking, repo, budget)?.max(stored);
    let listing = OnceCell::new();
    let suggest = &|prefix: &str, wanted: &str| {
        // A suggestion is worth one listing, however many refs are missing, and no failure.
        let list = || {
            let prefixes = ["refs/heads/".to_owned(), TAGS.to_owned()];
            let listed = Session::open(connect(), budget).and_then(|mut session| session.list(prefixes));
            listed.unwrap_or_default()
        };
        nearest_ref(listing.get_or_init(list), prefix, wanted)
    };
    let outcomes = found.iter().zip(wanted).map(|(found, reference)| {
        let outcome = describe(found, reference, repo, suggest)?;
        let tag = if let Found::Newest { tag, .. } = found { Some(tag.clone()) } else { None };
        Ok(Head { reference: reference.clone(), tag, builds_on: None, outcome })
    });
    let mut heads: Vec<Head> = outcomes.collect::<Result<_, FetchError>>()?;
    for head in &mut heads {
        let Some(base) = bases.get(&source::full_name(&head.reference)) else { continue };
        let Ok(new) = head.outcome.as_ref().map(|commit| ObjectId::from_hex(commit.id.as_bytes())) else { continue };
        let open = || Session::open(connect(), budget);
        if descent::builds_on(new.map_err(protocol)?, *base, repo, scratch, open)? {
            head.builds_on = Some(base.to_string());
        }
    }
    let tips = heads.iter().filter_map(|head| ObjectId::from_hex(head.outcome.as_ref().ok()?.id.as_bytes()).ok());
    Ok(Fetched { tips: tips.collect(), heads, stored })
}

/// What came of asking for branches by name.
enum Named {
    Found(Vec<Found>, Stored),
    /// One of them is not there, or what they lead to is too much: a listing tells. The conversation is over.
    Refused,
    /// They were not asked for.
    Unanswered,
}

/// One round trip instead of two. Only branches: a tag's name leads to the tag, and not to its commit.
fn fetch_named<T: Transport>(
    session: &mut Session<'_, T>,
    wanted: &[GitRef],
    tips: &[ObjectId],
    repo: &gix::Repository,
) -> Result<Named, FetchError> {
    let is_branch = |reference: &GitRef| matches!(reference, GitRef::Branch(_)) && source::is_valid(reference);
    if wanted.is_empty() || !wanted.iter().all(is_branch) || !session.takes_names() {
        return Ok(Named::Unanswered);
    }
    let names: Vec<String> = wanted.iter().map(source::full_name).collect();
    match session.receive_named(&names, tips, repo) {
        Ok((ids, stored)) => Ok(Named::Found(ids.into_iter().map(Found::Commit).collect(), stored)),
        Err(FetchError::Refused { .. } | FetchError::TooLarge { .. }) => Ok(Named::Refused),
        Err(error) => Err(error),
    }
}

/// One listing for all branches and tags, and of all tags only where versions are compared; a commit is where it says. It is asked for even if there is none of them:
/// that the server answers is half of what a fetch is for.
fn locate<T: Transport>(session: &mut Session<'_, T>, wanted: &[GitRef]) -> Result<Vec<Found>, FetchError> {
    let is_listed = |reference: &&GitRef| {
        !matches!(reference, GitRef::Commit(_) | GitRef::Digest(_)) && source::is_valid(reference)
    };
    let prefix = |reference: &GitRef| match reference {
        GitRef::Semver(_) => TAGS.to_owned(),
        named => source::full_name(named),
    };
    let mut names: Vec<String> = wanted.iter().filter(is_listed).map(prefix).collect();
    names.dedup();
    if names.is_empty() {
        // Without a prefix a server lists everything.
        names.push("HEAD".to_owned());
    }
    let refs = session.list(names)?;
    let targets: HashMap<&[u8], ObjectId> = refs.iter().filter_map(target).collect();
    let find = |reference: &GitRef| match reference {
        reference if !source::is_valid(reference) => Found::Invalid,
        GitRef::Commit(id) => ObjectId::from_hex(id.as_bytes()).map_or(Found::Invalid, Found::Commit),
        GitRef::Semver(range) => find_newest(range, &targets),
        GitRef::Digest(_) => Found::Missing,
        listed => targets.get(source::full_name(listed).as_bytes()).map_or(Found::Missing, |id| Found::Commit(*id)),
    };
    Ok(wanted.iter().map(find).collect())
}

fn find_newest(range: &str, targets: &HashMap<&[u8], ObjectId>) -> Found {
    let Some(parsed) = VersionRange::parse(range) else { return Found::Invalid };
    let tags = targets.iter().filter_map(|(name, id)| Some((name.strip_prefix(TAGS.as_bytes())?.to_str().ok()?, *id)));
    let tags: BTreeMap<&str, ObjectId> = tags.collect();
    match parsed.newest(tags.keys().copied()) {
        Some(tag) => Found::Newest { tag: tag.to_owned(), id: tags[tag] },
        None => {
            let nearest = parsed.nearest(tags.keys().copied());
            let nearest = nearest.into_iter().map(|tag| tidy(tag.as_bytes())).collect();
            Found::NoneInRange { range: range.to_owned(), nearest }
        }
    }
}

/// A ref's full name, and what it leads to when tags and symbolic refs are followed.
fn target(listed: &Ref) -> Option<(&[u8], ObjectId)> {
    match listed {
        Ref::Direct { full_ref_name, object }
        | Ref::Peeled { full_ref_name, object, .. }
        | Ref::Symbolic { full_ref_name, object, .. } => Some((full_ref_name.as_bytes(), *object)),
        Ref::Unborn { .. } => None,
    }
}

/// Commits at branches and tags that are not here.
fn list_missing(found: &[Found], wanted: &[GitRef], repo: &gix::Repository) -> Vec<ObjectId> {
    let named = found.iter().zip(wanted).filter_map(|(found, reference)| match (found, reference) {
        (Found::Commit(id), GitRef::Branch(_) | GitRef::Tag(_)) | (Found::Newest { id, .. }, _) => Some(*id),
        _ => None,
    });
    let mut wants: Vec<ObjectId> = named.filter(|id| !repo.has_object(id)).collect();
    wants.sort_unstable();
    wants.dedup();
    wants
}

fn fetch_missing<T: Transport>(
    session: &mut Session<'_, T>,
    wants: &[ObjectId],
    tips: &[ObjectId],
    repo: &gix::Repository,
    refused: &mut Option<Refused>,
) -> Result<Option<Stored>, FetchError> {
    if wants.is_empty() {
        return Ok(None);
    }
    if let Some(Refused { what, max, .. }) = refused.as_ref().filter(|refused| refused.wants == wants) {
        return Err(FetchError::TooLarge { what: what.clone(), max: *max });
    }
    let received = session.receive(wants, tips, repo);
    if let Err(FetchError::TooLarge { what, max }) = &received {
        *refused = Some(Refused { wants: wants.to_vec(), what: what.clone(), max: *max });
    }
    received.map(Some)
}

/// All at once, or one by one if that is too much: then only those that are too large stay away.
fn fetch_lacking<T: Transport>(
    connect: &impl Fn() -> T,
    lacking: &Lacking,
    repo: &gix::Repository,
    budget: &Budget<'_>,
) -> Result<Option<Stored>, FetchError> {
    let wants = lacking.list_wanted();
    if wants.is_empty() {
        return Ok(None);
    }
    let receive = |wants: &[ObjectId]| {
        let received = Session::open(connect(), budget)?.receive_files(wants, repo);
        match received {
            // What a commit names and the server does not have was lost here, or is of a commit that is gone.
            Err(error) if session::is_not_our_ref(&error) => Err(damaged(error)),
            other => other,
        }
    };
    let mut stored = match receive(&wants) {
        Err(FetchError::TooLarge { .. }) => None,
        received => {
            lacking.mark_here(&wants);
            return received.map(Some);
        }
    };
    for id in wants {
        match receive(&[id]) {
            Err(FetchError::TooLarge { .. }) => lacking.mark_too_large(id),
            received => {
                stored = Some(received?).max(stored);
                lacking.mark_here(&[id]);
            }
        }
    }
    Ok(stored)
}

fn describe(
    found: &Found,
    reference: &GitRef,
    repo: &gix::Repository,
    suggest: impl Fn(&str, &str) -> Option<String>,
) -> Result<Result<Commit, RefError>, FetchError> {
    Ok(match (found, reference) {
        (Found::Commit(id) | Found::Newest { id, .. }, _)
            if repo.find_header(*id).map_err(damaged)?.kind() == Kind::Commit =>
        {
            Ok(read_commit(*id, repo)?)
        }
        (Found::Newest { tag, .. }, _) => Err(RefError::NotACommit { reference: format!("{TAGS}{tag}") }),
        (Found::Commit(_), _) => Err(RefError::NotACommit { reference: source::full_name(reference) }),
        (Found::NoneInRange { range, nearest }, _) => {
            Err(RefError::NoVersion { range: range.clone(), nearest: nearest.clone() })
        }
        (Found::Invalid, _) => Err(RefError::Invalid { reference: tidy(source::full_name(reference).as_bytes()) }),
        (Found::Missing, GitRef::Branch(branch)) => {
            Err(RefError::NoSuchBranch { branch: branch.clone(), nearest: suggest("refs/heads/", branch) })
        }
        (Found::Missing, GitRef::Tag(tag)) => {
            Err(RefError::NoSuchTag { tag: tag.clone(), nearest: suggest(TAGS, tag) })
        }
        (Found::Missing, GitRef::Commit(commit)) => Err(RefError::NoSuchCommit { commit: commit.clone() }),
        (Found::Missing, GitRef::Semver(range)) => {
            Err(RefError::NoVersion { range: range.clone(), nearest: Vec::new() })
        }
        (Found::Missing, GitRef::Digest(_)) => Err(RefError::OfRegistry),
    })
}

fn nearest_ref(listed: &[Ref], prefix: &str, wanted: &str) -> Option<String> {
    let names = listed.iter().filter_map(target);
    let names = names.filter_map(|(name, _)| name.strip_prefix(prefix.as_bytes())?.to_str().ok());
    nearest(wanted, names.take(SUGGESTIONS_MAX))
}

fn read_commit(id: ObjectId, repo: &gix::Repository) -> Result<Commit, FetchError> {
    let bytes = read::load(repo, id, Kind::Commit, read::COMMIT_BYTES_MAX);
    let bytes = bytes.map_err(damaged)?;
    let commit = gix::objs::CommitRef::from_bytes(&bytes, HASH).map_err(protocol)?;
    let author = commit.author().map_err(protocol)?;
    let seconds = commit.time().map_err(protocol)?.seconds;
    let name = tidy(author.name);
    Ok(Commit {
        id: id.to_string(),
        tree: commit.tree().to_string(),
        // Of what is made here from an artifact, no address is known.
        author: if author.email.is_empty() { name } else { format!("{name} <{}>", tidy(author.email)) },
        subject: tidy(commit.message().title),
        // A commit may claim any time, even one that no calendar has.
        committed_at: Timestamp::from_second(seconds).unwrap_or(Timestamp::UNIX_EPOCH),
    })
}

/// One short line of somebody else's text, safe to print.
fn tidy(text: &[u8]) -> String {
    let text = text.to_str_lossy();
    let line = text.trim().chars().filter(|character| !is_obeyed(*character));
    line.take(LINE_CHARACTERS_MAX).collect()
}

fn options() -> gix::open::Options {
    // The store counts its packs when it is opened, and takes no more than there is then room for; one fetch may bring
    // several.
    let slots = gix::odb::store::init::Slots::AsNeededByDiskState { multiplier: 2.0, minimum: 256 };
    gix::open::Options::isolated()
        .open_path_as_is(true)
        .strict_config(true)
        .config_overrides([format!("gitoxide.objects.allocLimit={READ_BYTES_MAX}")])
        .object_store_slots(slots)
}

fn open(folder: &Path) -> Result<gix::ThreadSafeRepository, Cause> {
    sweep(folder)?;
    check_packs(&folder.join("objects/pack"))?;
    let repo = gix::ThreadSafeRepository::open_opts(folder, options())?;
    if !repo.to_thread_local().is_bare() {
        return Err("it is not bare".into());
    }
    Ok(repo)
}

/// Where a mirror is made anew, and where the one before it is until it is removed.
fn beside(folder: &Path, ending: &str) -> PathBuf {
    let mut path = folder.as_os_str().to_owned();
    path.push(".");
    path.push(ending);
    path.into()
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A mirror, and what a renewal that was cut off left beside it.
pub(crate) fn remove_mirror(folder: &Path) -> io::Result<()> {
    remove(folder)?;
    remove(&beside(folder, "new"))?;
    remove(&beside(folder, "history"))?;
    remove(&beside(folder, "old"))
}

#[derive(Debug, Default)]
struct Size {
    loose: usize,
    packs: usize,
    bytes: u64,
}

fn measure(objects: &Path) -> io::Result<Size> {
    let mut size = Size::default();
    for folder in fs::read_dir(objects)? {
        let folder = folder?;
        let is_of_packs = folder.file_name() == "pack";
        if !folder.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(folder.path())? {
            let file = file?;
            size.bytes += file.metadata()?.len();
            if !is_of_packs {
                size.loose += 1;
            } else if file.path().extension().is_some_and(|end| end == "pack") {
                size.packs += 1;
            }
        }
    }
    Ok(size)
}

fn create(folder: &Path, reason: &str) -> Result<gix::ThreadSafeRepository, FetchError> {
    if folder.exists() {
        tracing::warn!(folder = %folder.display(), reason, "a mirror is made anew");
    }
    let removed = if folder.is_dir() { fs::remove_dir_all(folder) } else { fs::remove_file(folder) };
    match removed {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(mirror(error)),
        _ => make_private(folder).map_err(mirror)?,
    }
    let bare = gix::create::Kind::Bare;
    gix::ThreadSafeRepository::init_opts(folder, bare, gix::create::Options::default(), options()).map_err(mirror)
}

/// What a private repo holds is for nobody else on this machine.
fn make_private(folder: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

/// What a killed hub left half-written.
fn sweep(folder: &Path) -> io::Result<()> {
    for folder in [folder.join("objects"), folder.join("objects/pack")] {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            if entry.file_name().as_encoded_bytes().starts_with(b".tmp") {
                fs::remove_file(entry.path())?;
            }
        }
    }
    Ok(())
}

/// After a crash a pack may be shorter than its index says. Both end with the sum over the pack; damage in the middle is
/// found when the object there is read.
fn check_packs(folder: &Path) -> Result<(), Cause> {
    let sum_bytes = HASH.len_in_bytes();
    for entry in fs::read_dir(folder)? {
        let index = entry?.path();
        if index.extension().is_some_and(|extension| extension == "idx") {
            let pack_end = read_end(&index.with_extension("pack"), sum_bytes)?;
            let index_end = read_end(&index, 2 * sum_bytes)?;
            if pack_end != index_end[..sum_bytes] {
                return Err(format!("{} does not belong to its pack", index.display()).into());
            }
        }
    }
    Ok(())
}

fn read_end(file: &Path, bytes: usize) -> io::Result<Vec<u8>> {
    use std::io::{Read, Seek, SeekFrom};

    let mut file = fs::File::open(file)?;
    let mut end = vec![0; bytes];
    file.seek(SeekFrom::End(-(i64::try_from(bytes).map_err(io::Error::other)?)))?;
    file.read_exact(&mut end)?;
    Ok(end)
}

/// Without them the first fetch after a restart would bring everything again. They are a hint, so anything unreadable
/// is left out.
fn read_tips(folder: &Path, repo: &gix::Repository) -> Vec<ObjectId> {
    let text = fs::read(tips_file(folder)).unwrap_or_default();
    let ids = text.split(|byte| *byte == b'\n').filter_map(|line| ObjectId::from_hex(line).ok());
    let mut tips: Vec<ObjectId> = Vec::new();
    for id in ids.rev() {
        if tips.len() < TIPS_MAX && !tips.contains(&id) && repo.has_object(id) {
            tips.insert(0, id);
        }
    }
    tips
}

/// One line more, and from time to time a new file: replacing the file with every push would wait for the disk.
fn write_tips(folder: &Path, tips: &[ObjectId], new: &[ObjectId]) -> io::Result<()> {
    let list = |tips: &[ObjectId]| tips.iter().fold(String::new(), |text, tip| text + &tip.to_string() + "\n");
    let mut file = fs::File::options().create(true).append(true).open(tips_file(folder))?;
    if file.metadata()?.len() < TIPS_BYTES_MAX {
        file.write_all(list(new).as_bytes())
    } else {
        fs::write(tips_file(folder), list(tips))
    }
}

fn tips_file(folder: &Path) -> PathBuf {
    folder.join("bellwether-tips")
}

fn protocol(source: impl Into<Cause>) -> FetchError {
    FetchError::Protocol { source: source.into() }
}

fn damaged(source: impl Into<Cause>) -> FetchError {
    FetchError::Damaged { source: source.into() }
}

fn mirror(source: impl Into<Cause>) -> FetchError {
    FetchError::Mirror { source: source.into() }
}
