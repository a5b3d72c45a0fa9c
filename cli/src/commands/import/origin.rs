//! What a checkout's own Git says of it: its remote `origin`, and the branch.

use std::path::Path;

#[derive(Debug, Default)]
pub(super) struct Origin {
    pub(super) url: Option<String>,
    pub(super) branch: Option<String>,
}

impl Origin {
    pub(super) fn of(root: &Path) -> Self {
        let read = |name: &str| std::fs::read_to_string(root.join(".git").join(name)).unwrap_or_default();
        let branch = read("HEAD").trim().strip_prefix("ref: refs/heads/").map(str::to_owned);
        Self { url: url_of(&read("config")), branch }
    }
}

/// Of what a hub could fetch from.
fn url_of(config: &str) -> Option<String> {
    let mut is_origin = false;
    for line in config.lines().map(str::trim) {
        if line.starts_with('[') {
            is_origin = line.replace(' ', "") == "[remote\"origin\"]";
        } else if let Some((key, value)) = line.split_once('=')
            && is_origin
            && key.trim() == "url"
        {
            return Some(value.trim().to_owned()).filter(|url| url.contains(':') && !url.starts_with("file:"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_remote_that_is_called_origin_is_taken() {
        let config = "[core]\n\tbare = false\n[remote \"upstream\"]\n\turl = https://a/b\n[remote \"origin\"]\n\tfetch = x\n\turl = git@host:a/c.git\n";

        assert_eq!(url_of(config).as_deref(), Some("git@host:a/c.git"));
        assert_eq!(url_of("[remote \"origin\"]\n\turl = ../bare\n"), None, "it is somewhere on this machine");
    }
}
