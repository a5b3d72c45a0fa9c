//! `bellwether-watch`: stamps when objects of clusters change, for whoever measures.
//!
//! It sees what the API servers say and nothing else: it has a kubeconfig of its own that may only read, and no crate of
//! the hub or the agent. A line is `<unix ns> <cluster> <resourceVersion> <value>`; the time is the event's arrival.
//! Of all objects of a kind each has to say something of its own, as a stamp names none. An object that was deleted has the value `deleted:NAMESPACE/NAME`, one without the watched field `-`.

use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, anyhow, bail};
use clap::Parser;
use futures_util::{StreamExt as _, TryStreamExt as _};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{ApiResource, DynamicObject, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use tokio::task::JoinSet;
use tokio::time::sleep;

const AFTER_FAILURE: Duration = Duration::from_millis(100);
/// The longest that a client may ask for; the API server ends the watch then, and the next goes on from there.
const WATCH_SECONDS: u32 = 294;

#[derive(Debug, Parser)]
#[command(name = "bellwether-watch", version)]
struct Arguments {
    /// A cluster to watch.
    #[arg(long = "cluster", value_name = "NAME=KUBECONFIG", required = true)]
    clusters: Vec<Place>,
    /// An object to watch in each: kind `configmap` (KEY of its data), `deployment` or `service` (KEY of its annotations); or
    /// all of the kind, as `KIND:*:KEY`.
    #[arg(long = "object", value_name = "KIND:NAMESPACE/NAME:KEY", required = true)]
    objects: Vec<Watched>,
    /// The file that stamps are added to.
    #[arg(long, value_name = "FILE")]
    stamps: PathBuf,
}

#[derive(Debug, Clone)]
struct Place {
    cluster: String,
    kubeconfig: PathBuf,
}

impl FromStr for Place {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (cluster, kubeconfig) = text.split_once('=').context("expected NAME=KUBECONFIG")?;
        Ok(Self { cluster: cluster.to_owned(), kubeconfig: kubeconfig.into() })
    }
}

#[derive(Debug, Clone)]
struct Watched {
    resource: ApiResource,
    /// Namespace and name; `None`: all of the kind.
    place: Option<(String, String)>,
    /// The fields that lead to the value.
    path: Vec<String>,
}

impl FromStr for Watched {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let parts: Vec<&str> = text.splitn(3, ':').collect();
        let [kind, place, key] = parts[..] else { bail!("expected KIND:NAMESPACE/NAME:KEY") };
        let place = match place {
            "*" => None,
            place => Some(place.split_once('/').context("expected NAMESPACE/NAME")?),
        };
        let (resource, fields): (_, &[&str]) = match kind {
            "configmap" => (ApiResource::erase::<ConfigMap>(&()), &["data"]),
            "deployment" => (ApiResource::erase::<Deployment>(&()), &["metadata", "annotations"]),
            "service" => (ApiResource::erase::<Service>(&()), &["metadata", "annotations"]),
            _ => bail!("`{kind}` is not watched; there are configmap, deployment and service"),
        };
        let path = fields.iter().copied().chain([key]).map(str::to_owned).collect();
        let place = place.map(|(namespace, name)| (namespace.to_owned(), name.to_owned()));
        Ok(Self { resource, place, path })
    }
}

impl Watched {
    fn api(&self, client: Client) -> Api<DynamicObject> {
        match &self.place {
            Some((namespace, _)) => Api::namespaced_with(client, namespace, &self.resource),
            None => Api::all_with(client, &self.resource),
        }
    }

    fn params(&self) -> WatchParams {
        let all = WatchParams::default().timeout(WATCH_SECONDS);
        match &self.place {
            Some((_, name)) => all.fields(&format!("metadata.name={name}")),
            None => all,
        }
    }

    fn value(&self, object: &DynamicObject) -> Result<String> {
        let whole = serde_json::to_value(object)?;
        let found = self.path.iter().try_fold(&whole, |value, field| value.get(field));
        let text = found.and_then(|value| value.as_str()).unwrap_or("-");
        Ok(text.replace(char::is_whitespace, "_"))
    }
}

/// Where stamps go; one write each, so that a reader sees whole lines.
#[derive(Debug, Clone)]
struct Stamps(Arc<Mutex<File>>);

impl Stamps {
    fn open(path: &Path) -> Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path);
        Ok(Self(Arc::new(Mutex::new(file.with_context(|| format!("cannot open {}", path.display()))?))))
    }

    fn add(&self, unix_ns: u128, cluster: &str, version: &str, value: &str) -> Result<()> {
        let mut file = self.0.lock().map_err(|_| anyhow!("another watch failed while it wrote"))?;
        Ok(file.write_all(format!("{unix_ns} {cluster} {version} {value}\n").as_bytes())?)
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let stamps = Stamps::open(&arguments.stamps)?;
    let mut watches = JoinSet::new();
    for place in &arguments.clusters {
        let client = client(&place.kubeconfig).await?;
        for object in &arguments.objects {
            let (client, object, stamps) = (client.clone(), object.clone(), stamps.clone());
            let cluster = place.cluster.clone();
            watches.spawn(async move { watch(client, &object, &cluster, &stamps).await });
        }
    }
    while let Some(ended) = watches.join_next().await {
        ended??;
    }
    Ok(())
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    // A watch is silent for as long as nothing happens.
    config.read_timeout = None;
    Ok(Client::try_from(config)?)
}

/// Ends only when a stamp cannot be written.
async fn watch(client: Client, object: &Watched, cluster: &str, stamps: &Stamps) -> Result<()> {
    let (api, asked) = (object.api(client), object.params());
    let mut version = "0".to_owned();
    loop {
        let Ok(events) = api.watch(&asked, &version).await else {
            sleep(AFTER_FAILURE).await;
            continue;
        };
        let mut events = events.into_stream().boxed();
        while let Some(event) = events.next().await {
            let arrived = SystemTime::now().duration_since(UNIX_EPOCH)?.as_nanos();
            let (changed, is_gone) = match event {
                Ok(WatchEvent::Added(changed) | WatchEvent::Modified(changed)) => (changed, false),
                Ok(WatchEvent::Deleted(changed)) => (changed, true),
                Ok(WatchEvent::Bookmark(_)) => continue,
                // Too old a version, most likely: what is there now is told again.
                Ok(WatchEvent::Error(_)) | Err(_) => {
                    "0".clone_into(&mut version);
                    sleep(AFTER_FAILURE).await;
                    break;
                }
            };
            let seen = changed.metadata.resource_version.clone().unwrap_or_default();
            let value = if is_gone { gone(&changed) } else { object.value(&changed)? };
            stamps.add(arrived, cluster, &seen, &value)?;
            version = seen;
        }
    }
}

fn gone(object: &DynamicObject) -> String {
    let part = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("deleted:{}/{}", part(&object.metadata.namespace), part(&object.metadata.name))
}
