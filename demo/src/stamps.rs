//! The watcher's stamps, read as they come.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use tokio::time::{Instant, sleep};

const POLL_EVERY: Duration = Duration::from_millis(10);

/// A cluster's API server showed this value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    pub unix_ns: u128,
    pub cluster: String,
    pub version: String,
    pub value: String,
}

impl Stamp {
    pub fn parse(line: &str) -> Result<Self> {
        let parts: Vec<&str> = line.split(' ').collect();
        let [unix_ns, cluster, version, value] = parts[..] else { bail!("no stamp: `{line}`") };
        let unix_ns = unix_ns.parse()?;
        Ok(Self { unix_ns, cluster: cluster.to_owned(), version: version.to_owned(), value: value.to_owned() })
    }
}

/// The file of a watcher that is running.
#[derive(Debug)]
pub struct Stamps {
    path: PathBuf,
    offset: u64,
    rest: String,
    pub seen: Vec<Stamp>,
}

impl Stamps {
    pub fn of(path: &Path) -> Self {
        Self { path: path.to_owned(), offset: 0, rest: String::new(), seen: Vec::new() }
    }

    /// Reads what was added.
    pub fn read(&mut self) -> Result<()> {
        let Ok(mut file) = File::open(&self.path) else { return Ok(()) };
        file.seek(SeekFrom::Start(self.offset))?;
        let mut added = String::new();
        self.offset += u64::try_from(file.read_to_string(&mut added)?)?;
        self.rest.push_str(&added);
        let Some(end) = self.rest.rfind('\n') else { return Ok(()) };
        let rest = self.rest.split_off(end + 1);
        for line in std::mem::replace(&mut self.rest, rest).lines() {
            self.seen.push(Stamp::parse(line)?);
        }
        Ok(())
    }

    /// How many there are by now: what comes is counted from here.
    pub fn count(&mut self) -> Result<usize> {
        self.read()?;
        Ok(self.seen.len())
    }

    /// Hands on every stamp from one on, also those to come, until that is enough. Answers whether it was.
    pub async fn follow(
        &mut self,
        from: usize,
        patience: Duration,
        mut is_enough: impl FnMut(&Stamp) -> bool,
    ) -> Result<bool> {
        let deadline = Instant::now() + patience;
        let mut next = from;
        loop {
            self.read()?;
            while let Some(stamp) = self.seen.get(next) {
                next += 1;
                if is_enough(stamp) {
                    return Ok(true);
                }
            }
            if Instant::now() > deadline {
                return Ok(false);
            }
            sleep(POLL_EVERY).await;
        }
    }

    /// When each cluster first showed a value, from a stamp on.
    pub fn first(&self, value: &str, from: usize) -> BTreeMap<String, u128> {
        let mut first = BTreeMap::new();
        for stamp in self.seen.iter().skip(from).filter(|stamp| stamp.value == value) {
            first.entry(stamp.cluster.clone()).or_insert(stamp.unix_ns);
        }
        first
    }

    /// Waits until so many clusters showed a value, counting from a stamp on.
    pub async fn wait_for(
        &mut self,
        value: &str,
        clusters: usize,
        from: usize,
        patience: Duration,
    ) -> Result<BTreeMap<String, u128>> {
        let found = self.find_within(value, clusters, from, patience).await?;
        found.with_context(|| format!("`{value}` was not seen in {clusters} clusters within {patience:?}"))
    }

    /// The same; `None` when it does not come.
    pub async fn find_within(
        &mut self,
        value: &str,
        clusters: usize,
        from: usize,
        patience: Duration,
    ) -> Result<Option<BTreeMap<String, u128>>> {
        let deadline = Instant::now() + patience;
        loop {
            self.read()?;
            let first = self.first(value, from);
            if first.len() >= clusters {
                return Ok(Some(first));
            }
            if Instant::now() > deadline {
                return Ok(None);
            }
            sleep(POLL_EVERY).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_a_line_waits_for_its_other_half() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("stamps");
        let mut stamps = Stamps::of(&path);

        std::fs::write(&path, "5 c1 10 a\n7 c")?;
        stamps.read()?;
        let before = stamps.seen.len();
        std::fs::write(&path, "5 c1 10 a\n7 c2 11 a\n9 c1 12 a\n")?;
        stamps.read()?;

        assert_eq!(before, 1);
        assert_eq!(stamps.first("a", 0), BTreeMap::from([("c1".to_owned(), 5), ("c2".to_owned(), 7)]));
        Ok(())
    }
}
