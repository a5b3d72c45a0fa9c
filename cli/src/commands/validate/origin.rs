//! Where a repo was cloned from, as Git wrote it down.

use std::path::{Path, PathBuf};

/// Some remotes and branches.
const CONFIG_BYTES_MAX: usize = 1 << 20;

/// The URL of `origin`.
pub(super) fn of(root: &Path) -> Option<String> {
    let config = std::fs::read_to_string(folder_of(root)?.join("config")).ok()?;
    url_of(config.get(..config.len().min(CONFIG_BYTES_MAX))?)
}

/// A worktree has a file in its place.
fn folder_of(root: &Path) -> Option<PathBuf> {
    let git = root.join(".git");
    if git.is_dir() {
        return Some(git);
    }
    let text = std::fs::read_to_string(&git).ok()?;
    let folder = root.join(text.trim().strip_prefix("gitdir:")?.trim());
    let shared = std::fs::read_to_string(folder.join("commondir")).ok();
    Some(shared.map_or_else(|| folder.clone(), |shared| folder.join(shared.trim())))
}

fn url_of(config: &str) -> Option<String> {
    let lines = config.lines().map(str::trim).skip_while(|line| *line != r#"[remote "origin"]"#).skip(1);
    let mut fields = lines.take_while(|line| !line.starts_with('['));
    fields.find_map(|line| {
        let (name, value) = line.split_once('=')?;
        (name.trim() == "url").then(|| value.trim().to_owned())
    })
}

/// Whether both lead to one repo: CI clones by another protocol than a hub, and as somebody else.
pub(super) fn is_same(one: &str, other: &str) -> bool {
    place_of(one) == place_of(other)
}

/// `git@host:path` and `https://user@host/path.git` as `host/path`.
fn place_of(url: &str) -> String {
    let place = match url.split_once("://") {
        Some((_, rest)) => rest.to_owned(),
        None => url.replacen(':', "/", 1),
    };
    let (host, path) = place.split_once('/').unwrap_or((&place, ""));
    let host = host.rsplit('@').next().unwrap_or(host);
    let host = host.split(':').next().unwrap_or(host).to_lowercase();
    format!("{host}/{}", path.trim_matches('/').trim_end_matches(".git"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repo_is_known_by_where_it_is_and_not_by_how_it_is_reached() {
        let config = "[core]\n\tbare = false\n[remote \"origin\"]\n\turl = git@git.example.org:team/apps.git\n\tfetch = a\n[remote \"x\"]\n\turl = b\n";
        let origin = url_of(config).expect("it is there");

        for same in [
            "https://git.example.org/team/apps.git",
            "ssh://git@git.example.org:22/team/apps",
            "https://t:x@Git.Example.org/team/apps/",
        ] {
            assert!(is_same(&origin, same), "{same}");
        }
        assert!(!is_same(&origin, "https://git.example.org/team/other"));
        assert_eq!(url_of("[remote \"x\"]\nurl = b\n"), None);
    }
}
