//! Repos by what they are fetched from: two sources of one address are one Repo.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::text::as_name;

#[derive(Debug, Default)]
pub(crate) struct Repos {
    by_url: BTreeMap<String, Repo>,
}

#[derive(Debug)]
struct Repo {
    name: String,
    url: String,
    /// Of a Helm repository.
    chart: Option<String>,
    poll_seconds: Option<u64>,
}

impl Repos {
    /// Its name, which is made from the address.
    pub(crate) fn ensure(&mut self, url: &str, poll_seconds: Option<u64>) -> String {
        let url = &without_password(url);
        let key = same(url);
        if let Some(repo) = self.by_url.get_mut(&key) {
            repo.poll_seconds = match (repo.poll_seconds, poll_seconds) {
                (Some(a), Some(b)) => Some(a.min(b)),
                (a, b) => a.or(b),
            };
            return repo.name.clone();
        }
        let name = self.free_name(key.rsplit(['/', ':']).next().unwrap_or_default());
        self.by_url.insert(key, Repo { name: name.clone(), url: url.to_owned(), chart: None, poll_seconds });
        name
    }

    /// Of a chart in a Helm repository, which is a Repo of its own.
    pub(crate) fn ensure_chart(&mut self, url: &str, chart: &str) -> String {
        let url = without_password(url);
        let key = format!("{} {chart}", same(&url));
        if let Some(repo) = self.by_url.get(&key) {
            return repo.name.clone();
        }
        let name = self.free_name(chart);
        let chart = Some(chart.to_owned());
        self.by_url.insert(key, Repo { name: name.clone(), url, chart, poll_seconds: None });
        name
    }

    fn free_name(&self, wanted: &str) -> String {
        let wanted = as_name(wanted);
        let mut name = wanted.clone();
        for number in 2.. {
            if self.by_url.values().all(|repo| repo.name != name) {
                break;
            }
            name = format!("{wanted}-{number}");
        }
        name
    }

    /// Name and spec, in order of the names.
    pub(crate) fn documents(&self) -> Vec<(String, Value)> {
        let spec = |repo: &Repo| {
            let mut spec = Map::from_iter([("url".to_owned(), json!(repo.url))]);
            if let Some(chart) = &repo.chart {
                spec.insert("chart".to_owned(), json!(chart));
            }
            // What is asked more seldom than once a minute is no burden, and a commit is seen sooner.
            if let Some(seconds) = repo.poll_seconds.filter(|seconds| *seconds < 60) {
                spec.insert("pollSeconds".to_owned(), json!(seconds.max(5)));
            }
            (repo.name.clone(), Value::Object(spec))
        };
        let mut documents: Vec<_> = self.by_url.values().map(spec).collect();
        documents.sort_by(|a, b| a.0.cmp(&b.0));
        documents
    }
}

/// What two ways of writing one address have in common.
pub(crate) fn same(url: &str) -> String {
    let url = url.trim().trim_end_matches('/');
    url.strip_suffix(".git").unwrap_or(url).to_owned()
}

/// Some keep one in an address of `https`, and it is not for a file in Git.
fn without_password(url: &str) -> String {
    let Some((scheme @ ("http" | "https"), rest)) = url.split_once("://") else { return url.to_owned() };
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    if path.is_empty() { format!("{scheme}://{host}") } else { format!("{scheme}://{host}/{path}") }
}

/// Whether two addresses are of one repository, however it is reached.
pub(crate) fn is_one_place(a: &str, b: &str) -> bool {
    place(a) == place(b)
}

/// Host and path.
fn place(url: &str) -> String {
    let url = same(url);
    let (scheme, rest) = url.split_once("://").map_or(("", url.as_str()), |(scheme, rest)| (scheme, rest));
    let rest = rest.split_once('@').map_or(rest, |(_, rest)| rest);
    let (host, path) = match rest.split_once(':') {
        // `user@host:path`
        Some((host, path)) if scheme.is_empty() => (host, path),
        _ => rest.split_once('/').unwrap_or((rest, "")),
    };
    let host = host.split(':').next().unwrap_or_default().to_lowercase();
    format!("{host}/{}", path.trim_matches('/').to_lowercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_is_one_repo_and_two_have_two_names() {
        let mut repos = Repos::default();

        assert_eq!(repos.ensure("https://git.example.org/a/fleet.git", Some(30)), "fleet");
        assert_eq!(repos.ensure("https://git.example.org/a/fleet/", Some(300)), "fleet");
        assert_eq!(
            repos.ensure("https://me:secret@git.example.org/a/fleet", None),
            "fleet",
            "its password is not kept"
        );
        assert_eq!(repos.ensure("ssh://git@git.example.org/b/fleet", None), "fleet-2");

        let documents = repos.documents();
        assert_eq!(documents[0].1, json!({"url": "https://git.example.org/a/fleet.git", "pollSeconds": 30}));
        assert_eq!(documents.len(), 2);
        assert_eq!(repos.ensure_chart("https://charts.example.org/", "fleet"), "fleet-3");
        assert_eq!(repos.ensure_chart("https://charts.example.org", "fleet"), "fleet-3");
        assert_eq!(repos.documents()[2].1, json!({"url": "https://charts.example.org", "chart": "fleet"}));
    }

    #[test]
    fn a_repository_is_one_however_it_is_reached() {
        for other in ["https://github.com/a/b.git", "git@github.com:a/b", "ssh://git@github.com:22/a/b.git"] {
            assert!(is_one_place("https://github.com/A/b", other), "{other}");
        }
        assert!(!is_one_place("https://github.com/a/b", "https://github.com/a/c"));
    }
}
