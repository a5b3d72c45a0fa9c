//! The repos' bare mirrors: a cache that may be deleted at any time.
//!
//! They hold what private repos hold, so nobody but the hub's user may look into their folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bellwether_core::RepoId;
use bellwether_core::source::GitRef;
use tokio::sync::watch;

use super::git::{self, FetchBounds, FetchError, Head, Mirror, Reader, Remote};

/// What is git's in the folder ends so; everything else there is left alone.
const ENDING: &str = ".git";

pub(crate) struct Mirrors {
    folder: PathBuf,
    bounds: FetchBounds,
    /// Of all together.
    bytes_max: u64,
    open: Mutex<BTreeMap<RepoId, Arc<Slot>>>,
}

/// One repo's mirror. Fetches wait for each other; reads wait for no fetch.
pub(crate) struct Slot {
    folder: PathBuf,
    bounds: FetchBounds,
    mirror: Mutex<Option<Mirror>>,
    /// Of the mirror as the last fetch left it.
    reader: Mutex<Option<Reader>>,
    fetched: watch::Sender<()>,
    room: Mutex<Room>,
}

/// What a mirror has of the room for all, as it was found when they were counted last.
#[derive(Debug, Clone, Copy)]
enum Room {
    Enough,
    /// It has more than its share: the next fetch makes it anew.
    Short(Shortage),
    /// It was made anew since then.
    Renewed,
    /// It still has more than its share, or could not be made anew: nothing is fetched for so many counts.
    Spent(Shortage, u32),
}

#[derive(Debug, Clone, Copy)]
struct Shortage {
    bytes: u64,
    all: u64,
    max: u64,
}

/// Six hours: somebody may have made the repo smaller, and to find out costs as much as the first fetch.
const SPENT_COUNTS: u32 = 6;

impl Mirrors {
    /// Closes the folder to everybody else, also one that an earlier hub left open.
    pub(crate) fn open(folder: PathBuf, bounds: FetchBounds, bytes_max: u64) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700))?;
        Ok(Self { folder, bounds, bytes_max, open: Mutex::default() })
    }

    pub(crate) fn of(&self, repo: RepoId) -> Arc<Slot> {
        let slot = || {
            let (mirror, reader, fetched) = (Mutex::default(), Mutex::default(), watch::Sender::default());
            let room = Mutex::new(Room::Enough);
            Arc::new(Slot { folder: self.path(repo), bounds: self.bounds, mirror, reader, fetched, room })
        };
        lock(&self.open).entry(repo).or_insert_with(slot).clone()
    }

    /// Of a repo that is deleted. Blocks, also for a fetch that is under way.
    pub(crate) fn remove(&self, repo: RepoId) -> io::Result<()> {
        let slot = lock(&self.open).remove(&repo);
        let held = slot.as_ref().map(|slot| (lock(&slot.mirror), lock(&slot.reader)));
        if let Some((mut mirror, mut reader)) = held {
            (*mirror, *reader) = (None, None);
        }
        git::remove_mirror(&self.path(repo))
    }

    /// Repos that have a mirror here, whether they are still known or not. Blocks.
    pub(crate) fn list(&self) -> io::Result<BTreeSet<RepoId>> {
        let mut repos = BTreeSet::new();
        for entry in fs::read_dir(&self.folder)? {
            let name = entry?.file_name();
            let id =
                name.to_str().and_then(|name| name.strip_suffix(ENDING)).and_then(|id| uuid::Uuid::parse_str(id).ok());
            repos.extend(id.map(RepoId::new));
        }
        Ok(repos)
    }

    /// Counts what all have together, and says so. While that is more than there is room for, those with more than an even
    /// share are made anew, and what still has more is fetched no further for a while: a small repo never waits for a large one.
    /// Blocks.
    pub(crate) fn count(&self) -> io::Result<u64> {
        let sizes =
            self.list()?.into_iter().map(|repo| (repo, git::mirror_bytes(&self.path(repo)).unwrap_or_default()));
        let sizes: Vec<_> = sizes.collect();
        let all: u64 = sizes.iter().map(|(_, bytes)| bytes).sum();
        let share = self.bytes_max / (sizes.len() as u64).max(1);
        for (repo, bytes) in sizes {
            let slot = self.of(repo);
            let mut room = lock(&slot.room);
            let shortage = Shortage { bytes, all, max: self.bytes_max };
            *room = match *room {
                _ if all <= self.bytes_max || bytes <= share => Room::Enough,
                Room::Renewed => Room::Spent(shortage, SPENT_COUNTS),
                Room::Spent(_, counts) if counts > 1 => Room::Spent(shortage, counts - 1),
                Room::Enough | Room::Short(_) | Room::Spent(..) => Room::Short(shortage),
            };
        }
        Ok(all)
    }

    fn path(&self, repo: RepoId) -> PathBuf {
        self.folder.join(format!("{repo}{ENDING}"))
    }
}

/// What a fetch is for.
pub(crate) struct Wanted {
    pub(crate) refs: Vec<GitRef>,
    /// By their full names, refs and commits: whether they build on them is to be found out.
    pub(crate) bases: BTreeMap<String, String>,
    /// By their full names, refs and commits there that do not, and wait for somebody.
    pub(crate) waiting: BTreeMap<String, String>,
    /// Somebody says that there is something new.
    pub(crate) was_asked: bool,
}

impl Slot {
    /// Blocks: for `spawn_blocking`.
    pub(crate) fn fetch(&self, remote: &Remote, wanted: &Wanted, stop: &AtomicBool) -> Result<Vec<Head>, FetchError> {
        let room = *lock(&self.room);
        if let Room::Spent(Shortage { bytes, all, max }, _) = room {
            return Err(FetchError::MirrorsFull { bytes, all, max });
        }
        let (heads, is_still_short) = self.with(|mirror| {
            mirror.renew_soon(matches!(room, Room::Short(_)));
            mirror.expect_news(wanted.was_asked);
            mirror.ask_whether(&wanted.bases, &wanted.waiting);
            let heads = mirror.fetch(remote, &wanted.refs, stop)?;
            Ok((heads, mirror.is_to_shrink()))
        })?;
        if let Room::Short(shortage) = room {
            // What cannot be made anew would grow with each fetch; the network may be better at the next count.
            *lock(&self.room) = if is_still_short { Room::Spent(shortage, 1) } else { Room::Renewed };
        }
        self.fetched.send_replace(());
        Ok(heads)
    }

    /// Changes whenever a fetch from now on has ended well.
    pub(crate) fn fetched(&self) -> watch::Receiver<()> {
        self.fetched.subscribe()
    }

    /// Blocks, and so does what it reads: for `spawn_blocking`.
    pub(crate) fn reader(&self) -> Result<Reader, FetchError> {
        let reader = lock(&self.reader).clone();
        match reader {
            Some(reader) => Ok(reader),
            None => self.with(|mirror| Ok(mirror.reader())),
        }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Mirror) -> Result<T, FetchError>) -> Result<T, FetchError> {
        let mut slot = lock(&self.mirror);
        let mirror = match &mut *slot {
            Some(mirror) => mirror,
            none => none.insert(Mirror::open_or_create(&self.folder)?.with_bounds(self.bounds)),
        };
        let done = work(mirror);
        *lock(&self.reader) = Some(mirror.reader());
        done
    }
}

/// Whoever panicked with it left nothing half done that the next fetch would not repair.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::source::git::upstream::Upstream;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").permissions().mode() & 0o777
    }

    #[test]
    fn nobody_else_may_look_into_the_mirrors_even_if_they_once_could() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let repos = folder.path().join("repos");
        fs::create_dir(&repos).expect("a new folder");
        fs::set_permissions(&repos, fs::Permissions::from_mode(0o755)).expect("it is ours");

        let mirrors = Mirrors::open(repos.clone(), FetchBounds::default(), u64::MAX).expect("it can be used");
        let repo = RepoId::new(crate::process::clock::new_id());
        mirrors.of(repo).reader().expect("a new mirror");

        assert_eq!((mode(&repos), mode(&mirrors.path(repo))), (0o700, 0o700));
    }

    /// So many lines that do not compress well, others in each round.
    fn push(upstream: &Upstream, round: u32, lines: u32) {
        let line = |line: u32| bellwether_core::Digest::of(&[round, line].map(u32::to_be_bytes).concat()).to_string();
        let text: String = (0..lines).map(line).collect();
        upstream.push("main", "Large", &[("shop/a.yaml", &text)]);
    }

    #[test]
    fn mirrors_that_have_too_much_together_shrink_and_the_largest_stop_before_a_small_one_does() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mirrors =
            Mirrors::open(folder.path().join("repos"), FetchBounds::default(), 200_000).expect("it can be used");
        let ids = [(); 2].map(|()| RepoId::new(crate::process::clock::new_id()));
        let (large, small) = (Upstream::new(), Upstream::new());
        let main = || vec![GitRef::Branch("main".to_owned())];
        let fetch = |repo: RepoId, upstream: &Upstream| {
            let (bases, waiting) = (BTreeMap::new(), BTreeMap::new());
            let wanted = Wanted { refs: main(), bases, waiting, was_asked: false };
            mirrors.of(repo).fetch(&upstream.remote(), &wanted, &AtomicBool::new(false)).map(drop)
        };
        push(&small, 0, 10);
        fetch(ids[1], &small).expect("it is fetched");
        for round in 0..5 {
            push(&large, round, 1_600);
            fetch(ids[0], &large).expect("it is fetched");
        }

        assert!(mirrors.count().expect("they are counted") > 200_000);
        fetch(ids[0], &large).expect("it is fetched, and made anew");
        assert!(mirrors.count().expect("they are counted") < 100_000, "what is wanted has room");
        fetch(ids[0], &large).expect("it goes on");

        push(&large, 10, 8_000);
        fetch(ids[0], &large).expect("nobody has counted yet");
        mirrors.count().expect("they are counted");
        fetch(ids[0], &large).expect("it is made anew");
        mirrors.count().expect("they are counted");
        let error = fetch(ids[0], &large).expect_err("there is no room for it");
        assert_eq!(error.code(), "git_mirrors_full", "{error}");
        push(&small, 1, 10);
        fetch(ids[1], &small).expect("a small one goes on");

        push(&large, 11, 10);
        for _ in 0..30 {
            mirrors.count().expect("they are counted");
        }
        fetch(ids[0], &large).expect("it is small by now");
        assert!(mirrors.count().expect("they are counted") < 100_000);
        fetch(ids[0], &large).expect("it goes on");

        mirrors.remove(ids[0]).expect("somebody deletes it");
        assert!(mirrors.count().expect("they are counted") < 100_000);
    }

    #[test]
    fn a_mirror_that_could_not_be_made_anew_once_is_tried_again_at_the_next_count() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mirrors =
            Mirrors::open(folder.path().join("repos"), FetchBounds::default(), 100_000).expect("it can be used");
        let (repo, upstream) = (RepoId::new(crate::process::clock::new_id()), Upstream::new());
        let fetch = || {
            let (refs, bases, waiting) = (vec![GitRef::Branch("main".to_owned())], BTreeMap::new(), BTreeMap::new());
            let wanted = Wanted { refs, bases, waiting, was_asked: false };
            mirrors.of(repo).fetch(&upstream.remote(), &wanted, &AtomicBool::new(false)).map(drop)
        };
        for round in 0..5 {
            push(&upstream, round, 1_000);
            fetch().expect("it is fetched");
        }
        assert!(mirrors.count().expect("they are counted") > 100_000);
        let in_the_way = folder.path().join(format!("repos/{repo}.git.new"));
        fs::write(&in_the_way, "").expect("it is written");

        fetch().expect("what is new is here all the same");
        fs::remove_file(&in_the_way).expect("it is ours");
        mirrors.count().expect("they are counted");

        fetch().expect("it is tried again");
        assert!(mirrors.count().expect("they are counted") < 100_000);
    }

    #[test]
    fn a_mirror_goes_with_its_repo_also_when_this_hub_never_opened_it() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mirrors =
            Mirrors::open(folder.path().join("repos"), FetchBounds::default(), u64::MAX).expect("it can be used");
        let (opened, closed) =
            (RepoId::new(crate::process::clock::new_id()), RepoId::new(crate::process::clock::new_id()));
        mirrors.of(opened).reader().expect("a new mirror");
        fs::create_dir(mirrors.path(closed)).expect("a folder of an earlier run");
        assert_eq!(mirrors.list().expect("they are listed"), [opened, closed].into());

        for repo in [opened, closed, RepoId::new(crate::process::clock::new_id())] {
            mirrors.remove(repo).expect("it goes");
        }

        assert_eq!(mirrors.list().expect("they are listed"), BTreeSet::new());
    }
}
