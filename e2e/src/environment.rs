//! A whole environment in the background of a state folder: started once, used by many, ended by whoever comes.
//!
//! `DIR/env` says what it offers, as shell commands; it is written last, so where it stands, everything runs.
//! Neighbours: `controlplane` and `postgres` (always there), `stack` (hub, agents and Git server, when asked for).

use std::collections::BTreeMap;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use anyhow::{Context as _, Result, bail};
use futures_util::future::{try_join, try_join_all};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};
use tokio::time::sleep;

use crate::controlplane::{Cluster, ControlPlanes, Programs};
use crate::pki::write_private;
use crate::postgres::Postgres;
use crate::process::ProcessTable;
use crate::progress::Progress;

use crate::options::{Options, programs_folder};

/// What `DIR/env` exports, by name.
type Exports = BTreeMap<String, String>;

/// Starts everything, and writes `DIR/env`. When it fails, what runs already is ended by [`down`].
pub async fn up(options: &Options) -> Result<()> {
    let progress = Progress::begin();
    let state = &options.state;
    let table = make_state_folder(state)?;
    let mut exports = Exports::new();
    if options.hub {
        let clusters = start_clusters(options, &table, progress).await?;
        export_clusters(&clusters, &mut exports);
        crate::stack::start(options, &table, &clusters, progress).await?.export(&mut exports);
    } else {
        let (postgres, clusters) =
            try_join(start_postgres(options, &table, progress), start_clusters(options, &table, progress)).await?;
        exports.insert("DATABASE_URL".to_owned(), postgres.url.to_string());
        exports.insert("BELLWETHER_TEST_DATABASE_TCP_URL".to_owned(), postgres.tcp_url.to_string());
        exports.insert("BELLWETHER_TEST_CLUSTERS".to_owned(), clusters.len().to_string());
        exports.insert("BELLWETHER_TEST_STATE".to_owned(), state.display().to_string());
        export_clusters(&clusters, &mut exports);
    }
    write_env(state, &exports)?;
    progress.say(format_args!("everything runs; {} says how to use it", state.join("env").display()));
    Ok(())
}

/// Makes a state folder that nothing runs in yet.
pub fn make_state_folder(state: &Path) -> Result<ProcessTable> {
    make_own_folder(state, 0o700)?;
    if state.join("processes").exists() {
        bail!("{} is in use; `bellwether-e2e-env down --state` ends it", state.display());
    }
    if Uid::effective().is_root() {
        // Postgres has a user of its own then, which passes through and sees nothing.
        fs::set_permissions(state, fs::Permissions::from_mode(0o711))?;
    }
    ProcessTable::open(state)
}

/// Makes a folder with those above it, or takes one that nobody else can have put anything into. Under the temporary folder
/// anybody may have been there first, and what stands in ours is run, obeyed and trusted.
pub fn make_own_folder(path: &Path, mode: u32) -> Result<()> {
    let parent = path.parent().with_context(|| format!("{} is no folder to work in", path.display()))?;
    if fs::symlink_metadata(parent).is_ok() {
        check_way(parent)?;
    } else {
        make_own_folder(parent, mode)?;
    }
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(error).with_context(|| format!("cannot make {}", path.display()))
        }
        _ => check_own(path),
    }
}

fn check_own(path: &Path) -> Result<()> {
    let found = fs::symlink_metadata(path).with_context(|| format!("cannot find {}", path.display()))?;
    if !found.is_dir() || found.uid() != Uid::effective().as_raw() || found.mode() & 0o022 != 0 {
        bail!("{} is not a folder that is yours and that only you can write to; remove it", path.display());
    }
    Ok(())
}

/// Whoever can rename what stands in a folder can put another in its place.
fn check_way(folder: &Path) -> Result<()> {
    for folder in fs::canonicalize(folder)?.ancestors() {
        let found = fs::metadata(folder)?;
        let is_trusted = found.uid() == 0 || found.uid() == Uid::effective().as_raw();
        let is_sticky = found.mode() & 0o1000 != 0;
        if !is_trusted || (found.mode() & 0o002 != 0 && !is_sticky) {
            bail!("others can change what stands in {}; name another folder", folder.display());
        }
    }
    Ok(())
}

async fn start_postgres(options: &Options, table: &ProcessTable, progress: Progress) -> Result<Postgres> {
    let postgres = Postgres::start(&options.state, table, options.durability).await?;
    progress.say("Postgres is ready");
    Ok(postgres)
}

pub async fn start_clusters(options: &Options, table: &ProcessTable, progress: Progress) -> Result<Vec<Cluster>> {
    let programs = Programs::from_environment()?;
    let bin = options.state.join("bin");
    fs::create_dir(&bin)?;
    // Alone in its folder: on the path, the other programs would be in the way of the user's own.
    symlink(programs.kubectl(), bin.join("kubectl"))?;
    let planes = ControlPlanes::start(&options.state, table, programs, options.durability, progress).await?;
    try_join_all((1..=options.clusters).map(|number| planes.start_cluster(number))).await
}

fn export_clusters(clusters: &[Cluster], exports: &mut Exports) {
    for cluster in clusters {
        exports.insert(format!("KUBECONFIG_{}", cluster.number), cluster.kubeconfig.display().to_string());
    }
}

fn write_env(state: &Path, exports: &Exports) -> Result<()> {
    let mut lines: Vec<_> =
        exports.iter().map(|(name, value)| format!("export {name}={}\n", shell_quoted(value))).collect();
    let [bin, programs] = [state.join("bin"), programs_folder()?].map(|path| shell_quoted(&path.display().to_string()));
    lines.push(format!("export PATH={bin}:{programs}:\"$PATH\"\n"));
    let unfinished = state.join("env.new");
    write_private(&unfinished, &lines.concat())?;
    fs::rename(unfinished, state.join("env"))?;
    Ok(())
}

fn shell_quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Ends everything and removes the folder, however far `up` came.
pub async fn down(state: &Path) -> Result<()> {
    if !state.exists() {
        return Ok(());
    }
    check_own(state)?;
    if !is_ours(state)? {
        bail!("{} holds no environment of ours, so it is left alone", state.display());
    }
    ProcessTable::open(state)?.stop_all().await?;
    end_leftovers(state).await;
    // Now that no agent puts it back.
    crate::borrowed::give_back(state).await?;
    // The last writes of what was killed may still come in.
    for _ in 0..50 {
        if fs::remove_dir_all(state).is_ok() {
            return Ok(());
        }
        sleep(Duration::from_millis(20)).await;
    }
    fs::remove_dir_all(state).with_context(|| format!("cannot remove {}", state.display()))
}

/// A mistyped folder must not be removed: ours is empty or has our table of processes.
fn is_ours(state: &Path) -> Result<bool> {
    Ok(state.join("processes").is_dir() || fs::read_dir(state)?.next().is_none())
}

/// A hub that was killed leaves its private Postgres server behind, which stands in no table of ours.
async fn end_leftovers(state: &Path) {
    let servers = || list_servers_within(state);
    for signal in [Signal::SIGQUIT, Signal::SIGKILL] {
        for process in servers() {
            // An error means that it ended meanwhile.
            let _ = kill(process, signal);
        }
        for _ in 0..100 {
            if servers().is_empty() {
                return;
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

/// Postgres servers whose data is in this folder.
fn list_servers_within(state: &Path) -> Vec<Pid> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_server = |path: &Path| {
        let Ok(line) = fs::read(path.join("cmdline")) else { return false };
        let mut words = line.split(|&byte| byte == 0).map(String::from_utf8_lossy);
        let is_postgres = words.next().is_some_and(|program| program.ends_with("/postgres"));
        is_postgres && words.any(|word| Path::new(word.as_ref()).starts_with(state))
    };
    processes
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .filter(|(_, path)| is_server(path))
        .map(|(process, _)| Pid::from_raw(process))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_folder_that_others_could_have_filled_is_neither_used_nor_obeyed() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let (open, mine) = (folder.path().join("open"), folder.path().join("mine"));
        for path in [&open, &mine] {
            fs::create_dir(path)?;
        }
        fs::set_permissions(&open, fs::Permissions::from_mode(0o777))?;
        fs::set_permissions(&mine, fs::Permissions::from_mode(0o700))?;
        let link = folder.path().join("link");
        symlink(&mine, &link)?;

        for path in [&open, &link, &open.join("below")] {
            assert!(make_state_folder(path).is_err(), "{}", path.display());
        }
        // Whoever could write there wrote down whom to end.
        fs::create_dir(open.join("processes"))?;
        assert!(down(&open).await.is_err() && open.exists());
        make_state_folder(&mine)?;
        make_state_folder(&folder.path().join("new/below"))?;
        Ok(())
    }

    #[test]
    fn what_a_shell_reads_is_what_was_written() -> Result<()> {
        let output =
            std::process::Command::new("sh").arg("-c").arg(format!("printf %s {}", shell_quoted("a'b $c"))).output()?;

        assert_eq!(output.stdout, b"a'b $c");
        Ok(())
    }

    #[tokio::test]
    async fn a_folder_that_is_not_ours_is_left_alone() -> Result<()> {
        let folder = tempfile::tempdir()?;
        fs::write(folder.path().join("thesis.txt"), "years of work")?;

        let refused = down(folder.path()).await;

        assert!(refused.is_err());
        assert!(folder.path().join("thesis.txt").exists());
        Ok(())
    }
}
