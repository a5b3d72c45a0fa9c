//! Ends the server that a killed hub left behind in this folder.
//!
//! The lock on the folder is held by now, so no living hub uses that server. A lock file may outlive its process, and
//! after a reboot, or in a container, the number in it is soon somebody else's: only a process that is visibly a server
//! of this very cluster is sent a signal.

use std::fs;
use std::path::Path;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{Instant, sleep};

use super::data_dir::DataDir;
use super::{KILL_DEADLINE, POLL_EVERY, PostgresError, STOP_DEADLINE};

pub(super) async fn end(data_dir: &DataDir) -> Result<(), PostgresError> {
    let Some(process) = data_dir.recorded_process() else { return Ok(()) };
    if !is_server_of(process, &data_dir.cluster()) {
        // Postgres would believe it as long as any process has that number. It does not need the file to notice
        // orphans of the old server: it looks for their shared memory by the folder as well.
        return data_dir.forget_process();
    }
    tracing::warn!(process, "stopping the private Postgres server that an earlier hub left behind");
    for (signal, deadline) in [(Signal::SIGINT, STOP_DEADLINE), (Signal::SIGQUIT, KILL_DEADLINE)] {
        // An error means that it ended meanwhile.
        let _ = kill(Pid::from_raw(process), signal);
        let deadline = Instant::now() + deadline;
        while Instant::now() < deadline {
            if !is_server_of(process, &data_dir.cluster()) {
                return Ok(());
            }
            sleep(POLL_EVERY).await;
        }
    }
    Err(PostgresError::LeftoverStays { process })
}

/// The command line is what every system shows of another user's process, and what no server changes of its own.
fn is_server_of(process: i32, cluster: &Path) -> bool {
    let line = if cfg!(target_os = "linux") {
        fs::read(format!("/proc/{process}/cmdline")).unwrap_or_default()
    } else {
        let ps = Command::new("ps").args(["-ww", "-o", "command=", "-p", &process.to_string()]).output();
        ps.map(|output| output.stdout).unwrap_or_default()
    };
    names_server_of(&line, cluster)
}

/// `postgres -D CLUSTER …`, with zeros or blanks between the words.
fn names_server_of(line: &[u8], cluster: &Path) -> bool {
    let cluster = cluster.as_os_str().as_encoded_bytes();
    let ends_word = |byte: Option<&u8>| matches!(byte, None | Some(0 | b' ' | b'\n'));
    [&b"postgres\0-D\0"[..], b"postgres -D "].iter().any(|start| {
        let found = line.windows(start.len()).position(|words| words == *start);
        found.and_then(|at| line[at + start.len()..].strip_prefix(cluster)).is_some_and(|rest| ends_word(rest.first()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_server_of_this_cluster_is_taken_for_one() {
        let cluster = Path::new("/data/postgres/cluster");
        for (line, expected) in [
            ("/usr/lib/postgresql/15/bin/postgres\0-D\0/data/postgres/cluster\0-c\0port=5432\0", true),
            ("/opt/homebrew/bin/postgres -D /data/postgres/cluster -c port=5432\n", true),
            ("postgres\0-D\0/data/postgres/cluster.new\0", false),
            ("postgres\0-D\0/other/data/postgres/cluster\0", false),
            ("vim\0/data/postgres/cluster\0", false),
            ("", false),
        ] {
            assert_eq!(names_server_of(line.as_bytes(), cluster), expected, "{line}");
        }
    }

    #[test]
    fn this_process_is_no_server() {
        let me = i32::try_from(std::process::id()).expect("a process id");

        assert!(!is_server_of(me, Path::new("/data/postgres/cluster")));
    }
}
