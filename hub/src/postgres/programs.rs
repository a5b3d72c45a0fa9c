//! Finds the Postgres server's programs on this machine.
//!
//! Only `postgres` and `initdb` are needed. Debian keeps them out of PATH, one folder per version.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::time::timeout;

use super::PostgresError;
use super::data_dir::DataDir;

/// The oldest version that the hub is tested with.
pub(super) const VERSION_MIN: u32 = 15;
/// Asking for the version reads one file; a disk that just woke up takes seconds.
const VERSION_DEADLINE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Programs {
    folder: PathBuf,
    pub(super) version: u32,
}

impl Programs {
    /// Those in the given folder, or the newest installed; for a cluster that is there already, those that made it.
    pub(super) async fn find(
        given: Option<&Path>,
        made_by: Option<u32>,
        data_dir: &DataDir,
    ) -> Result<Self, PostgresError> {
        if let Some(folder) = given {
            let only = probe(folder, data_dir).await?;
            return choose(vec![only], made_by, data_dir.folder());
        }
        let mut found = Vec::new();
        for folder in candidates() {
            match probe(&folder, data_dir).await {
                Ok(programs) => found.push(programs),
                Err(error) => tracing::debug!(%error, "not a Postgres installation to use"),
            }
        }
        choose(found, made_by, data_dir.folder())
    }

    pub(super) fn postgres(&self) -> PathBuf {
        self.folder.join("postgres")
    }

    pub(super) fn initdb(&self) -> PathBuf {
        self.folder.join("initdb")
    }
}

fn choose(found: Vec<Programs>, made_by: Option<u32>, folder: &Path) -> Result<Programs, PostgresError> {
    if found.iter().all(|programs| programs.version < VERSION_MIN) {
        let found = found.iter().map(|programs| format!("{} in {}", programs.version, programs.folder.display()));
        return Err(PostgresError::NotInstalled { found: found.collect() });
    }
    let fitting = found.into_iter().filter(|programs| programs.version == made_by.unwrap_or(programs.version));
    fitting
        .max_by_key(|programs| programs.version)
        .ok_or_else(|| PostgresError::OtherVersion { folder: folder.to_owned(), made_by: made_by.unwrap_or_default() })
}

/// Where packages put them, then PATH. A folder that is there twice, by a link, is looked at once.
fn candidates() -> BTreeSet<PathBuf> {
    let debian = folders_in("/usr/lib/postgresql").into_iter().map(|folder| folder.join("bin"));
    let homebrew = ["/opt/homebrew/opt", "/usr/local/opt", "/home/linuxbrew/.linuxbrew/opt"]
        .into_iter()
        .flat_map(folders_in)
        .filter(|folder| {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            name == "postgresql" || name.starts_with("postgresql@")
        })
        .map(|folder| folder.join("bin"));
    let path = env::var_os("PATH").unwrap_or_default();
    debian
        .chain(homebrew)
        .chain(env::split_paths(&path))
        // Of a link in PATH only the program's own folder has all of them.
        .filter_map(|folder| folder.join("initdb").canonicalize().ok()?.parent().map(Path::to_owned))
        .collect()
}

fn folders_in(path: &str) -> Vec<PathBuf> {
    fs::read_dir(path).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

async fn probe(folder: &Path, data_dir: &DataDir) -> Result<Programs, PostgresError> {
    let unusable = |reason: &str| PostgresError::NotUsable { folder: folder.to_owned(), reason: reason.to_owned() };
    let programs = Programs { folder: folder.to_owned(), version: 0 };
    if !programs.initdb().is_file() {
        return Err(unusable("it has no `initdb`"));
    }
    // As the server's user, who has to be able to run it.
    let mut asked = data_dir.command(&programs.postgres());
    asked.arg("--version").stdout(Stdio::piped()).stderr(Stdio::null()).kill_on_drop(true);
    let output = timeout(VERSION_DEADLINE, asked.output())
        .await
        .map_err(|_| unusable("`postgres --version` does not answer"))?
        .map_err(|source| PostgresError::Run { program: programs.postgres(), source })?;
    let version = parse_version(&String::from_utf8_lossy(&output.stdout));
    let version = version.ok_or_else(|| unusable("`postgres --version` does not tell its version"))?;
    Ok(Programs { version, ..programs })
}

/// The major version of, say, `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)` or `… 19devel`.
fn parse_version(line: &str) -> Option<u32> {
    let number = line.split_once("(PostgreSQL)")?.1.trim_start();
    let end = number.find(|char: char| !char.is_ascii_digit()).unwrap_or(number.len());
    number[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn installed(versions: &[u32]) -> Vec<Programs> {
        versions.iter().map(|&version| Programs { folder: format!("/pg/{version}").into(), version }).collect()
    }

    #[test]
    fn the_major_version_is_read_from_what_postgres_says() {
        for (line, version) in [
            ("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)\n", Some(15)),
            ("postgres (PostgreSQL) 19devel", Some(19)),
            ("postgres (PostgreSQL) 18", Some(18)),
            ("initdb 15", None),
            ("", None),
        ] {
            assert_eq!(parse_version(line), version, "{line}");
        }
    }

    #[test]
    fn a_new_cluster_gets_the_newest_version_and_an_old_one_its_own() {
        let folder = Path::new("/data/postgres");

        let newest = choose(installed(&[15, 18, 17]), None, folder).expect("found");
        let same = choose(installed(&[15, 18, 17]), Some(17), folder).expect("found");
        let other = choose(installed(&[15, 18]), Some(17), folder);

        assert_eq!((newest.version, same.version), (18, 17));
        assert!(matches!(other, Err(PostgresError::OtherVersion { made_by: 17, .. })), "{other:?}");
    }

    #[test]
    fn what_is_too_old_is_named_and_the_way_to_a_newer_one_hinted_at() {
        let error = choose(installed(&[13, 14]), None, Path::new("/data")).expect_err("too old");

        let text = error.to_string();
        assert!(text.contains("15 or later") && text.contains("14 in /pg/14"), "{text}");
        assert!(error.hint().is_some_and(|hint| hint.contains("apt install postgresql")));
    }
}
