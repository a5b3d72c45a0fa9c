//! The server's folders, who owns them, and what runs in them.
//!
//! `DATA/postgres` holds the cluster, the socket's folder, the log and the lock. A hub that runs as root keeps that
//! folder itself and gives only the cluster and the socket's folder to the user that the server runs as: root writes
//! into no folder that somebody else could have put a link into.

use std::env;
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use bellwether_core::Digest;
use nix::unistd::{Uid, User, geteuid};
use tokio::process::Command;

use super::{PORT, PostgresError};

/// Debian's package makes this user.
const SERVER_USER: &str = "postgres";
/// Linux allows a socket's path 107 bytes, macOS 103.
const SOCKET_PATH_BYTES_MAX: usize = 103;
/// A quiet server writes some lines a day; one that cannot be reached for hours should not fill the disk.
const LOG_BYTES_MAX: u64 = 16 << 20;
/// Enough for the last ten lines.
const TAIL_BYTES_MAX: usize = 2048;

/// The folders of one hub, held by this process until it is dropped.
#[derive(Debug)]
pub(super) struct DataDir {
    folder: PathBuf,
    socket_folder: String,
    socket_is_elsewhere: bool,
    /// Set when this process is root.
    runner: Option<Runner>,
    _lock: File,
}

/// Whom the server runs as, when not as whoever the hub runs as.
#[derive(Debug, Clone, Copy)]
struct Runner {
    user: u32,
    group: u32,
}

impl DataDir {
    pub(super) fn enter(data: &Path) -> Result<Self, PostgresError> {
        let runner = find_runner()?;
        make_folder(data)?;
        let data = data.canonicalize().map_err(|source| folder_error("find", data, source))?;
        let folder = data.join("postgres");
        make_folder(&folder)?;
        if let Some(runner) = runner {
            runner.own_by_group(&folder)?;
            runner.open_way(&data)?;
        }
        let lock = lock(&folder)?;
        let (socket_folder, socket_is_elsewhere) = make_socket_folder(&folder, runner)?;
        Ok(Self { folder, socket_folder, socket_is_elsewhere, runner, _lock: lock })
    }

    pub(super) fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn socket_folder(&self) -> &str {
        &self.socket_folder
    }

    pub(super) fn cluster(&self) -> PathBuf {
        self.folder.join("cluster")
    }

    pub(super) fn has_cluster(&self) -> bool {
        self.cluster().exists()
    }

    /// The Postgres version whose data this is.
    pub(super) fn made_by(&self) -> Result<Option<u32>, PostgresError> {
        let path = self.cluster().join("PG_VERSION");
        match fs::read_to_string(&path) {
            Ok(text) => Ok(text.trim().parse().ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(folder_error("read", &path, source)),
        }
    }

    /// An empty folder of the server's, in which a cluster can be made.
    pub(super) fn new_cluster(&self) -> Result<PathBuf, PostgresError> {
        let unfinished = self.folder.join("cluster.new");
        match fs::remove_dir_all(&unfinished) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(folder_error("remove", &unfinished, error));
            }
            _ => {}
        }
        make_folder(&unfinished)?;
        give_to(&unfinished, self.runner)?;
        Ok(unfinished)
    }

    pub(super) fn adopt_cluster(&self, finished: &Path) -> Result<(), PostgresError> {
        fs::rename(finished, self.cluster())
            .and_then(|()| File::open(&self.folder)?.sync_all())
            .map_err(|source| folder_error("rename", finished, source))
    }

    /// The process that the cluster's lock file names, which may be long gone.
    pub(super) fn recorded_process(&self) -> Option<i32> {
        let text = fs::read_to_string(self.lock_file()).ok()?;
        text.lines().next()?.trim().parse::<i32>().ok().map(i32::abs)
    }

    pub(super) fn forget_process(&self) -> Result<(), PostgresError> {
        fs::remove_file(self.lock_file()).map_err(|source| folder_error("remove", &self.lock_file(), source))
    }

    /// Whether the server says that it takes connections: the eighth line of its lock file, as `pg_ctl` reads it.
    pub(super) fn is_ready(&self, process: Option<u32>) -> bool {
        let Ok(text) = fs::read_to_string(self.lock_file()) else { return false };
        let lines: Vec<_> = text.lines().map(str::trim).collect();
        lines.first().and_then(|line| line.parse().ok()) == process && lines.get(7) == Some(&"ready")
    }

    pub(super) fn access_file(&self) -> PathBuf {
        self.folder.join("access.conf")
    }

    pub(super) fn users_file(&self) -> PathBuf {
        self.folder.join("users.conf")
    }

    /// Says who is let in: whoever runs the hub, by what the kernel says of the other end of the socket. The server's own
    /// user is not, when it is another: programs of others may run as it.
    pub(super) fn write_access(&self, roles: [&str; 2]) -> Result<(), PostgresError> {
        let user = User::from_uid(geteuid()).ok().flatten().ok_or(PostgresError::NoName)?;
        let name = user.name.replace('"', "\"\"");
        let users = roles.map(|role| format!("hub \"{name}\" {role}\n")).concat();
        self.write_for_server(&self.access_file(), "local all all peer map=hub\n")?;
        self.write_for_server(&self.users_file(), &users)
    }

    fn write_for_server(&self, path: &Path, text: &str) -> Result<(), PostgresError> {
        use std::io::Write as _;
        let unfinished = path.with_extension("new");
        let write = || -> io::Result<()> {
            let mut file = OpenOptions::new().create(true).truncate(true).write(true).mode(0o600).open(&unfinished)?;
            // Whatever the umask of whoever started the hub leaves.
            file.set_permissions(Permissions::from_mode(0o640))?;
            file.write_all(text.as_bytes())?;
            if let Some(runner) = self.runner {
                chown(&unfinished, None, Some(runner.group))?;
            }
            fs::rename(&unfinished, path)
        };
        write().map_err(|source| folder_error("write", path, source))
    }

    pub(super) fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    pub(super) fn rotate_log(&self) -> Result<(), PostgresError> {
        let is_long = fs::metadata(self.log()).is_ok_and(|log| log.len() > LOG_BYTES_MAX);
        if is_long {
            fs::rename(self.log(), self.folder.join("server.log.1"))
                .map_err(|source| folder_error("rename", &self.log(), source))?;
        }
        Ok(())
    }

    pub(super) fn open_log(&self) -> Result<File, PostgresError> {
        OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(self.log())
            .map_err(|source| folder_error("open", &self.log(), source))
    }

    pub(super) fn log_tail(&self) -> String {
        let read = || -> io::Result<Vec<u8>> {
            let mut log = File::open(self.log())?;
            let length = log.metadata()?.len();
            log.seek(SeekFrom::Start(length.saturating_sub(TAIL_BYTES_MAX as u64)))?;
            let mut tail = Vec::new();
            log.take(TAIL_BYTES_MAX as u64).read_to_end(&mut tail)?;
            Ok(tail)
        };
        read().map_or_else(|error| format!("(cannot be read: {error})"), |tail| tail_of(&tail))
    }

    /// A command that runs in the data folder, as the server's user, without the hub's environment.
    pub(super) fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.folder).env_clear().envs(passed_on()).env("LC_ALL", "C").stdin(Stdio::null());
        if let Some(runner) = self.runner {
            // The standard library then also drops root's other groups.
            command.uid(runner.user).gid(runner.group);
        }
        command
    }

    /// After the server has stopped.
    pub(super) fn leave(&self) {
        if self.socket_is_elsewhere {
            // The next start takes the folder as it finds it.
            let _ = fs::remove_dir_all(&self.socket_folder);
        }
    }

    fn lock_file(&self) -> PathBuf {
        self.cluster().join("postmaster.pid")
    }
}

impl Runner {
    fn may_pass(self, folder: &fs::Metadata) -> bool {
        let bit = if folder.uid() == self.user {
            0o100
        } else if folder.gid() == self.group {
            0o010
        } else {
            0o001
        };
        folder.mode() & bit != 0
    }

    /// Lets the server's user, and nobody else, through a folder that stays ours.
    fn own_by_group(self, folder: &Path) -> Result<(), PostgresError> {
        chown(folder, None, Some(self.group))
            .and_then(|()| fs::set_permissions(folder, Permissions::from_mode(0o710)))
            .map_err(|source| folder_error("give", folder, source))
    }

    /// The data folder is opened for the server's user when it is shut to all groups; what is above is not ours.
    fn open_way(self, data: &Path) -> Result<(), PostgresError> {
        for folder in data.ancestors() {
            let found = fs::metadata(folder).map_err(|source| folder_error("find", folder, source))?;
            if self.may_pass(&found) {
                continue;
            }
            if folder != data || found.uid() != 0 || found.mode() & 0o070 != 0 {
                return Err(PostgresError::OutOfReach { folder: folder.to_owned() });
            }
            self.own_by_group(folder)?;
        }
        Ok(())
    }
}

fn find_runner() -> Result<Option<Runner>, PostgresError> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    let user = User::from_name(SERVER_USER).ok().flatten().ok_or(PostgresError::NoUser)?;
    Ok(Some(Runner { user: user.uid.as_raw(), group: user.gid.as_raw() }))
}

fn make_folder(path: &Path) -> Result<(), PostgresError> {
    DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(|source| folder_error("make", path, source))
}

fn give_to(folder: &Path, runner: Option<Runner>) -> Result<(), PostgresError> {
    let Some(runner) = runner else { return Ok(()) };
    chown(folder, Some(runner.user), Some(runner.group)).map_err(|source| folder_error("give", folder, source))
}

/// A lock that was given up may still be held for a moment: by a process that was just forked and has not yet closed
/// what it inherited.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: std::time::Duration = std::time::Duration::from_millis(25);

fn lock(folder: &Path) -> Result<File, PostgresError> {
    let path = folder.join("lock");
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(&path)
        .map_err(|source| folder_error("open", &path, source))?;
    for _ in 0..LOCK_TRIES {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => std::thread::sleep(LOCK_PAUSE),
            Err(TryLockError::Error(source)) => return Err(folder_error("lock", &path, source)),
        }
    }
    Err(PostgresError::InUse { folder: folder.to_owned() })
}

/// In the server's folder, or under the temporary folder when that path does not suit a socket.
fn make_socket_folder(folder: &Path, runner: Option<Runner>) -> Result<(String, bool), PostgresError> {
    let here = folder.join("socket");
    let elsewhere =
        env::temp_dir().join(format!("bellwether-{}", Digest::of(folder.as_os_str().as_encoded_bytes()).short()));
    let is_elsewhere = !suits_socket(&here);
    let chosen = if is_elsewhere { elsewhere } else { here };
    if !suits_socket(&chosen) {
        return Err(PostgresError::PathUnsuited { path: chosen });
    }
    make_own_folder(&chosen, runner)?;
    let text = chosen.to_str().ok_or_else(|| PostgresError::NotText { path: chosen.clone() })?;
    Ok((text.to_owned(), is_elsewhere))
}

/// libpq, and so psql, takes a comma for the border between two hosts.
fn suits_socket(socket_folder: &Path) -> bool {
    let path = socket_folder.join(format!(".s.PGSQL.{PORT}"));
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.len() <= SOCKET_PATH_BYTES_MAX && !bytes.contains(&b',')
}

/// Whoever owns the socket's folder can pose as the server, and in the temporary folder anybody may have been first.
fn make_own_folder(path: &Path, runner: Option<Runner>) -> Result<(), PostgresError> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => give_to(path, runner)?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(source) => return Err(folder_error("make", path, source)),
    }
    let found = fs::symlink_metadata(path).map_err(|source| folder_error("find", path, source))?;
    let owner = runner.map_or_else(geteuid, |runner| Uid::from_raw(runner.user));
    if found.is_dir() && found.uid() == owner.as_raw() && found.mode() & 0o777 == 0o700 {
        Ok(())
    } else {
        Err(PostgresError::NotOurs { folder: path.to_owned() })
    }
}

/// What of the hub's environment the server's programs see: where to find libraries, and none of its secrets.
fn passed_on() -> impl Iterator<Item = (&'static str, std::ffi::OsString)> {
    ["PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"].into_iter().filter_map(|name| Some((name, env::var_os(name)?)))
}

/// The end of what a program said.
pub(super) fn tail_of(output: &[u8]) -> String {
    let tail = &output[output.len().saturating_sub(TAIL_BYTES_MAX)..];
    String::from_utf8_lossy(tail).trim().to_owned()
}

fn folder_error(what: &'static str, path: &Path, source: io::Error) -> PostgresError {
    PostgresError::Folder { what, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A data folder that is not there yet, in one that root's servers may pass through.
    fn data_inside() -> (tempfile::TempDir, PathBuf) {
        let outer = tempfile::tempdir().expect("a folder");
        fs::set_permissions(outer.path(), Permissions::from_mode(0o711)).expect("set");
        let data = outer.path().join("data");
        (outer, data)
    }

    #[test]
    fn a_folder_is_entered_once_at_a_time() {
        let data = tempfile::tempdir().expect("a folder");
        let first = DataDir::enter(data.path()).expect("entered");

        let second = DataDir::enter(data.path());
        assert!(matches!(second, Err(PostgresError::InUse { .. })), "{second:?}");

        drop(first);
        DataDir::enter(data.path()).expect("entered again");
    }

    #[test]
    fn nobody_else_may_read_the_folders() {
        let (_outer, data) = data_inside();

        let data_dir = DataDir::enter(&data).expect("entered");

        let others = if data_dir.runner.is_some() { 0o067 } else { 0o077 };
        for folder in [&data, data_dir.folder()] {
            assert_eq!(fs::metadata(folder).expect("there").mode() & others, 0, "{}", folder.display());
        }
        assert_eq!(fs::metadata(data_dir.socket_folder()).expect("there").mode() & 0o777, 0o700);
    }

    #[test]
    fn a_path_that_does_not_suit_a_socket_has_it_elsewhere() {
        for name in ["d".repeat(90), "a,b".to_owned()] {
            let (_outer, data) = data_inside();

            let data_dir = DataDir::enter(&data.with_file_name(name)).expect("entered");

            assert!(data_dir.socket_is_elsewhere && suits_socket(Path::new(data_dir.socket_folder())));
            data_dir.leave();
            assert!(!Path::new(data_dir.socket_folder()).exists());
        }
    }

    #[test]
    fn a_socket_folder_that_others_may_enter_is_not_used() {
        let data = tempfile::tempdir().expect("a folder");
        let path = data.path().join("socket");
        fs::create_dir(&path).expect("made");
        fs::set_permissions(&path, Permissions::from_mode(0o777)).expect("set");
        let link = data.path().join("link");
        std::os::unix::fs::symlink(&path, &link).expect("linked");

        for path in [&path, &link] {
            assert!(matches!(make_own_folder(path, None), Err(PostgresError::NotOurs { .. })), "{}", path.display());
        }
    }

    #[test]
    fn only_the_bits_that_concern_the_servers_user_let_it_pass() {
        let folder = tempfile::tempdir().expect("a folder");
        let owner = fs::metadata(folder.path()).expect("there");
        let (user, group) = (owner.uid(), owner.gid());
        for (mode, runner, expected) in [
            (0o700, Runner { user, group }, true),
            (0o011, Runner { user, group }, false),
            (0o710, Runner { user: user + 1, group }, true),
            (0o701, Runner { user: user + 1, group }, false),
            (0o701, Runner { user: user + 1, group: group + 1 }, true),
            (0o710, Runner { user: user + 1, group: group + 1 }, false),
        ] {
            fs::set_permissions(folder.path(), Permissions::from_mode(mode)).expect("set");
            let found = fs::metadata(folder.path()).expect("there");
            assert_eq!(runner.may_pass(&found), expected, "{mode:o} {runner:?}");
        }
        fs::set_permissions(folder.path(), Permissions::from_mode(0o700)).expect("set");
    }
}
