//! The state folder of a run: made, locked, and gone with every process of it, however the run ends.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, anyhow};
use bellwether_e2e::environment;
use nix::fcntl::{Flock, FlockArg};
use tokio::signal::unix::{SignalKind, signal};

/// How a run ended.
#[derive(Debug)]
pub enum Ended<T> {
    Done(T),
    /// By a signal; this is the exit code that tells of it.
    Interrupted(u8),
}

/// Runs something in a state folder, and leaves nothing of it.
pub async fn run_in<T>(state: Option<&Path>, work: impl AsyncFnOnce(&Path) -> Result<T>) -> Result<Ended<T>> {
    let ours = std::env::temp_dir().join(format!("bellwether-demo-{}", std::process::id()));
    let state = std::path::absolute(state.unwrap_or(&ours))?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    let mut lock = lock(&state)?;
    if state.join("processes").exists() {
        // Of a run that was killed. The lock goes with the folder.
        environment::down(&state).await?;
        lock = self::lock(&state)?;
    }
    let ended = tokio::select! {
        done = work(&state) => done.map(Ended::Done),
        _ = interrupt.recv() => Ok(Ended::Interrupted(130)),
        _ = terminate.recv() => Ok(Ended::Interrupted(143)),
        _ = hangup.recv() => Ok(Ended::Interrupted(129)),
    };
    environment::down(&state).await?;
    drop(lock);
    remove_parent(&state);
    ended
}

/// Makes the folder, for one run at a time.
fn lock(state: &Path) -> Result<Flock<File>> {
    // Root's Postgres is another user's, who passes through and sees nothing.
    environment::make_own_folder(state, 0o711)?;
    Flock::lock(File::open(state)?, FlockArg::LockExclusiveNonblock)
        .map_err(|(_, error)| anyhow!(error))
        .with_context(|| format!("{} is in use by another run", state.display()))
}

/// What `./dev` made for this checkout goes with the last that stood in it.
fn remove_parent(state: &Path) {
    let parent = state.parent().map(PathBuf::from).unwrap_or_default();
    let name = parent.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if name.starts_with("bellwether-") {
        // Refused while something else stands in it.
        let _ = fs::remove_dir(parent);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    #[test]
    fn a_run_takes_no_folder_that_others_could_have_filled() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let (open, mine, link) = (folder.path().join("open"), folder.path().join("mine"), folder.path().join("link"));
        for (path, mode) in [(&open, 0o777), (&mine, 0o711)] {
            fs::create_dir(path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        symlink(&mine, &link)?;

        for path in [&open, &link, &open.join("demo")] {
            assert!(lock(path).is_err(), "{}", path.display());
        }
        lock(&mine)?;
        lock(&folder.path().join("new/demo"))?;
        Ok(())
    }
}
