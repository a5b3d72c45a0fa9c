//! How a hub is run: one struct, parsed once.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bellwether_core::session::HeartbeatPolicy;
use bellwether_render::{Confinement, Engines};
use clap::Parser;
use jiff::SignedDuration;
use secrecy::SecretString;

use crate::source::git::{FetchBounds, UrlPolicy};

/// The Bellwether hub: fetches Git, renders, and rolls changes out over a fleet of Kubernetes clusters.
#[derive(Debug, Parser)]
#[command(name = "bellwether-hub", version)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own on the command line")]
pub struct Config {
    /// Where the hub keeps its files: mirrors of repos, the first admin token, its private Postgres
    #[arg(long, env = "BELLWETHER_DATA", default_value = "/var/lib/bellwether", value_name = "DIR")]
    pub(crate) data: PathBuf,

    /// Postgres 15 or later, as postgres://USER@HOST/DATABASE; without it the hub starts a private one in its data folder
    #[arg(long, env = "DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,

    /// The same database as its owner: migrations run as that role, and the other one may then only add to the audit log
    #[arg(long, env = "DATABASE_ADMIN_URL", value_name = "URL", hide_env_values = true, requires = "database_url")]
    pub(crate) database_admin_url: Option<String>,

    /// The folder of the Postgres programs for the private server, such as /usr/lib/postgresql/15/bin
    #[arg(long, env = "BELLWETHER_POSTGRES_BIN", value_name = "DIR")]
    pub(crate) postgres_bin: Option<PathBuf>,

    /// The private Postgres forgets its last writes when the machine crashes; for tests
    #[arg(long, hide = true)]
    pub(crate) unsafe_no_fsync: bool,

    /// Where the REST API listens
    #[arg(long, env = "BELLWETHER_LISTEN_API", default_value = "127.0.0.1:8443", value_name = "ADDRESS:PORT")]
    pub(crate) listen_api: SocketAddr,

    /// Where agents connect
    #[arg(long, env = "BELLWETHER_LISTEN_AGENTS", default_value = "127.0.0.1:8444", value_name = "ADDRESS:PORT")]
    pub(crate) listen_agents: SocketAddr,

    /// What agents are told to connect to, when it is not the address that the hub listens on
    #[arg(long, env = "BELLWETHER_PUBLIC_AGENTS_ADDRESS", value_name = "HOST:PORT")]
    pub(crate) public_agents_address: Option<String>,

    /// Another name of the API in its certificate, besides localhost; may be repeated
    #[arg(long = "name", env = "BELLWETHER_NAMES", value_delimiter = ',', value_name = "HOST")]
    pub(crate) names: Vec<String>,

    /// The file with the key that seals secrets at rest: 64 hexadecimal digits; made in the data folder when left out
    #[arg(long, env = "BELLWETHER_SEAL_KEY_FILE", value_name = "FILE")]
    pub(crate) seal_key_file: Option<PathBuf>,

    /// That key itself; prefer the file
    #[arg(long, env = "BELLWETHER_SEAL_KEY", value_name = "HEX", hide_env_values = true)]
    pub(crate) seal_key: Option<SecretString>,

    /// The agents' image in install manifests
    #[arg(long, env = "BELLWETHER_AGENT_IMAGE", default_value = concat!("bellwether-agent:", env!("CARGO_PKG_VERSION")))]
    pub(crate) agent_image: String,

    /// Allow repos over plain http and from files; for tests and demos
    #[arg(long, env = "BELLWETHER_INSECURE_GIT")]
    pub(crate) insecure_git: bool,

    /// Allow repos at addresses inside a private network, such as 10.0.0.7 or localhost; so does --insecure-git
    #[arg(long, env = "BELLWETHER_GIT_ALLOW_PRIVATE")]
    pub(crate) git_allow_private: bool,

    /// Seconds that a Git server may be silent for
    #[arg(long, env = "BELLWETHER_GIT_STALL_SECONDS", default_value = "30", value_name = "SECONDS",
          value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub(crate) git_stall_seconds: u32,

    /// Seconds that a fetch may take in all, however steadily something comes
    #[arg(long, env = "BELLWETHER_GIT_FETCH_SECONDS", default_value = "900", value_name = "SECONDS",
          value_parser = clap::value_parser!(u32).range(1..=86_400))]
    pub(crate) git_fetch_seconds: u32,

    /// MiB that a fetch may bring, compressed
    #[arg(long, env = "BELLWETHER_GIT_PACK_MIB_MAX", default_value = "1024", value_name = "MIB",
          value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub(crate) git_pack_mib_max: u32,

    /// MiB that the mirrors of all repos may have together, about: they are counted once an hour
    #[arg(long, env = "BELLWETHER_GIT_MIRRORS_MIB_MAX", default_value = "65536", value_name = "MIB",
          value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) git_mirrors_mib_max: u32,

    /// The program that renders Kustomize and Helm; when left out, it is looked for beside this one and in PATH
    #[arg(long, env = "BELLWETHER_RENDER_ENGINE", value_name = "FILE")]
    pub(crate) render_engine: Option<PathBuf>,

    /// Let that program run without a layer that shuts it in, where the system has none; charts are other people's programs
    #[arg(long, env = "BELLWETHER_ALLOW_UNCONFINED_RENDER")]
    pub(crate) allow_unconfined_render: bool,

    /// How logs are written
    #[arg(long, env = "BELLWETHER_LOG_FORMAT", value_enum, default_value = "pretty")]
    pub(crate) log_format: LogFormat,

    /// What is logged, such as info or bellwether_hub=debug
    #[arg(long, env = "BELLWETHER_LOG", default_value = "info", value_name = "FILTER")]
    pub(crate) log: String,

    /// Milliseconds between two heartbeats of an agent
    #[arg(long, default_value = "15000", value_parser = clap::value_parser!(u32).range(100..=60_000))]
    pub(crate) heartbeat_ms: u32,

    /// Milliseconds between two heartbeats of the hub; one that misses three holds no streams for the others
    #[arg(long, default_value = "5000", value_parser = clap::value_parser!(u32).range(50..=20_000))]
    pub(crate) hub_heartbeat_ms: u32,

    /// Milliseconds of silence after which a stream ends
    #[arg(long, default_value = "25000", value_parser = clap::value_parser!(u32).range(200..=300_000))]
    pub(crate) deadline_ms: u32,

    /// Milliseconds without a stream after which a cluster is offline for rollouts
    #[arg(long, default_value = "60000")]
    pub(crate) offline_after_ms: u32,

    /// Milliseconds after the hub's start, or after a time without its database, before which no cluster is offline
    #[arg(long, default_value = "60000")]
    pub(crate) grace_ms: u32,

    /// Seconds that an agent's certificate is good for; agents renew it when half of them are over
    #[arg(long, default_value = "604800", value_parser = clap::value_parser!(u32).range(10..=31_536_000))]
    pub(crate) certificate_seconds: u32,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
pub enum LogFormat {
    Pretty,
    Json,
}

impl Config {
    pub(crate) fn url_policy(&self) -> UrlPolicy {
        UrlPolicy { insecure: self.insecure_git, private: self.git_allow_private || self.insecure_git }
    }

    pub(crate) fn mirrors_bytes_max(&self) -> u64 {
        u64::from(self.git_mirrors_mib_max) << 20
    }

    pub(crate) fn fetch_bounds(&self) -> FetchBounds {
        FetchBounds {
            stall: Duration::from_secs(self.git_stall_seconds.into()),
            deadline: Duration::from_secs(self.git_fetch_seconds.into()),
            pack_bytes_max: u64::from(self.git_pack_mib_max) << 20,
        }
    }

    pub(crate) fn engines(&self) -> Engines {
        let confinement = if self.allow_unconfined_render { Confinement::AsThereIs } else { Confinement::Required };
        Engines::new(self.render_engine.as_deref(), confinement)
    }

    pub(crate) fn heartbeat_policy(&self) -> HeartbeatPolicy {
        HeartbeatPolicy { interval: millis(self.heartbeat_ms), deadline: millis(self.deadline_ms) }
    }

    pub(crate) fn offline_after(&self) -> SignedDuration {
        millis(self.offline_after_ms)
    }

    pub(crate) fn grace(&self) -> std::time::Duration {
        std::time::Duration::from_millis(self.grace_ms.into())
    }

    pub(crate) fn heartbeat(&self) -> std::time::Duration {
        std::time::Duration::from_millis(self.hub_heartbeat_ms.into())
    }

    pub(crate) fn certificate_lifetime(&self) -> Duration {
        Duration::from_secs(self.certificate_seconds.into())
    }

    /// Says what is wrong with settings that only together make sense.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self.deadline_ms <= self.heartbeat_ms {
            return Err(format!(
                "--deadline-ms {} must be more than --heartbeat-ms {}",
                self.deadline_ms, self.heartbeat_ms
            ));
        }
        Ok(())
    }
}

fn millis(number: u32) -> SignedDuration {
    SignedDuration::from_millis(number.into())
}
