//! Where the programs, databases and clusters of the tests are.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use url::Url;

use crate::controlplane::ApiServer;
use crate::options::programs_folder;

/// What all tests share.
#[derive(Debug, Clone)]
pub struct Env {
    pub database_url: Url,
    /// From cluster 1 on.
    pub kubeconfigs: Vec<PathBuf>,
    /// The folder of the programs under test.
    pub programs: PathBuf,
    /// Where the shared processes are written down.
    pub state: PathBuf,
}

impl Env {
    /// As `./dev test` exports it.
    ///
    /// # Panics
    /// When it is not there, with what to run.
    pub fn from_environment() -> Self {
        Self::read().unwrap_or_else(|error| {
            panic!("{error:#}; run `./dev test e2e NAME`, which starts what the end-to-end tests need")
        })
    }

    pub(super) fn read() -> Result<Self> {
        let variable = |name: &str| std::env::var(name).with_context(|| format!("{name} is not set"));
        let clusters: usize = variable("BELLWETHER_TEST_CLUSTERS")?.parse()?;
        let kubeconfig = |number| variable(&format!("KUBECONFIG_{number}")).map(PathBuf::from);
        Ok(Self {
            database_url: variable("DATABASE_URL")?.parse()?,
            kubeconfigs: (1..=clusters).map(kubeconfig).collect::<Result<_>>()?,
            programs: programs_folder()?,
            state: variable("BELLWETHER_TEST_STATE")?.into(),
        })
    }

    pub(super) fn kubeconfig(&self, cluster: usize) -> Result<&Path> {
        let found = cluster.checked_sub(1).and_then(|index| self.kubeconfigs.get(index));
        found.map(PathBuf::as_path).with_context(|| format!("there is no cluster {cluster}"))
    }

    /// The API server of a shared cluster, for tests that stop it.
    pub async fn api_server(&self, cluster: usize) -> Result<ApiServer> {
        ApiServer::find(&self.state, cluster, self.kubeconfig(cluster)?).await
    }
}
