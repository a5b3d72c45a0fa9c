//! The API server, as the rest of the agent sees it. The only module that knows `kube`.
//!
//! Nothing here decides: it sends what it is told to, once, with a deadline, and says in [`ClusterError`] what came of
//! it. It retries nothing (the reconciler has the one retry policy) and forces nothing by itself.

mod assignments;
mod definitions;
mod discovery;
mod error;
mod evidence;
mod live;
mod liveness;
mod paths;
mod request;
mod secret;
pub(crate) mod watch;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bellwether_core::ObjectKey;
use bellwether_core::account::ActsAs;
use bellwether_core::apis::Apis;
use bellwether_core::object::TARGET_LABEL;
pub(crate) use bellwether_core::reconcile::ClusterError;
use bellwether_core::reconcile::{Cascade, Metadata};
use bellwether_core::session::UID_FACT;
use bellwether_core::takeover::as_applied;
use bellwether_core::yielded::Autoscaler;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use uuid::Uuid;

pub(crate) use assignments::{SeenAssignment, Unseen};
pub(crate) use definitions::Seen as SeenDefinition;
use discovery::{Discovery, Resource, Served};
use live::Sending;
pub(crate) use live::{Live, Onto};
use request::{Answer, Requests};
pub(crate) use secret::{Bytes, Secret};

/// Our name among the managers of an object's fields.
pub(crate) const FIELD_MANAGER: &str = bellwether_core::object::MANAGER;

/// Longer than an API server takes between two bookmarks, and than any deadline of a request.
const SILENCE_MAX: Duration = Duration::from_secs(90);

/// How an object is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Apply {
    /// A field that another manager owns with another value is an error, and nothing is changed.
    Plain,
    /// Such fields are taken over.
    Forced,
    /// Nothing is changed; the answer is what would be.
    DryRun,
    ForcedDryRun,
}

/// Cheap to clone: every clone is the same connection pool and the same discovery.
#[derive(Clone)]
pub(crate) struct Cluster {
    inner: Arc<Inner>,
    /// By which objects of targets are asked about and written, where that is done as somebody else.
    acting: Option<Arc<Requests>>,
}

struct Inner {
    requests: Requests,
    discovery: Discovery,
    /// Of watches: one at a time.
    lists: Arc<Semaphore>,
}

/// The agent was told nonsense, or is not where it thinks: trying again does not help.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("the kubeconfig {path} cannot be used")]
    Kubeconfig {
        path: String,
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    #[error("this process does not run in a pod that may talk to the API server")]
    NotInCluster(#[source] kube::config::InClusterError),
    #[error("no client can be made from the configuration of the API server")]
    Client(#[source] Box<kube::Error>),
}

impl ConnectError {
    pub(crate) fn hint(&self) -> Option<Cow<'static, str>> {
        Some(Cow::Borrowed(match self {
            Self::Kubeconfig { .. } => "check BELLWETHER_KUBECONFIG",
            Self::NotInCluster(_) => "outside of a cluster, say --kubeconfig FILE",
            Self::Client(_) => "check the certificates and the proxy in the kubeconfig",
        }))
    }
}

impl Cluster {
    /// Reads how to reach the API server; sends nothing yet.
    pub(crate) async fn connect(kubeconfig: Option<&Path>) -> Result<Self, ConnectError> {
        let mut config = match kubeconfig {
            Some(path) => read_kubeconfig(path).await?,
            None => kube::Config::incluster().map_err(ConnectError::NotInCluster)?,
        };
        // Up to 15 tries and 1,000 s of waits that a newer assignment could not interrupt.
        config.default_retry = false;
        // A connection on which nothing comes is dead, though nobody says so: a watch of the quietest kind gets a
        // bookmark every minute. Writes are given up before.
        config.read_timeout = Some(SILENCE_MAX);
        config.reset_reader_on_write = true;
        let client = kube::Client::try_from(config).map_err(|error| ConnectError::Client(Box::new(error)))?;
        let (requests, discovery) = (Requests::new(client), Discovery::default());
        Ok(Self { inner: Arc::new(Inner { requests, discovery, lists: Arc::new(Semaphore::new(1)) }), acting: None })
    }

    /// The same cluster, with all requests about single objects made as the ServiceAccount that they are made for, if there is one.
    /// What the cluster serves, watches, and the agent's own Secrets stay the agent's.
    pub(crate) fn acting_for(&self, acts_as: &ActsAs) -> Self {
        let Some(account) = acts_as.account() else { return self.clone() };
        Self { inner: Arc::clone(&self.inner), acting: Some(Arc::new(self.inner.requests.acting_as(account))) }
    }

    /// For objects of targets.
    fn objects(&self) -> &Requests {
        self.acting.as_deref().unwrap_or(&self.inner.requests)
    }

    /// What the hub shows of a cluster. The first request, so it also tells whether the API server answers.
    pub(crate) async fn fetch_facts(&self) -> Result<BTreeMap<String, String>, ClusterError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Version {
            git_version: String,
            #[serde(default)]
            platform: String,
        }
        let version: Version = self.inner.requests.get("/version").await?.decode()?;
        // What is rendered by it is the same for all patches of a minor version.
        let minor = minor_of(&version.git_version).map(|minor| ("kubernetes.minor".to_owned(), minor));
        let mut facts: BTreeMap<_, _> = minor.into_iter().collect();
        facts.insert("kubernetes.version".to_owned(), version.git_version);
        facts.insert("kubernetes.platform".to_owned(), version.platform);
        // As old as the cluster, and in each one another: what tells a cluster from a copy of it. An agent that may not
        // read it does without.
        match self.inner.requests.get_metadata("/api/v1/namespaces/kube-system").await.and_then(|it| it.metadata()) {
            Ok(namespace) => drop(facts.insert(UID_FACT.to_owned(), namespace.uid.to_string())),
            Err(ClusterError::Forbidden { .. } | ClusterError::NotFound) => {}
            Err(error) => return Err(error),
        }
        Ok(facts)
    }

    /// Names of all APIs that are served, as Helm has them. Of those whose servers do not answer, what was known before.
    pub(crate) async fn fetch_apis(&self, before: Option<&Apis>) -> Result<BTreeSet<String>, ClusterError> {
        discovery::fetch_names(&self.inner.requests, before).await
    }

    /// Server-side apply. `body` is the object as the bundle has it. Unless it may be applied onto anything, it is refused
    /// as stale where something else is there, and makes none.
    pub(crate) async fn apply(
        &self,
        key: &ObjectKey,
        body: &[u8],
        how: Apply,
        onto: Onto<'_>,
    ) -> Result<Live, ClusterError> {
        let resource = self.resource(key, Served::AsWritten).await?;
        let path = paths::object(key, &resource)?;
        let more = match how {
            Apply::Plain => "",
            Apply::Forced => "&force=true",
            Apply::DryRun => "&dryRun=All",
            Apply::ForcedDryRun => "&force=true&dryRun=All",
        };
        let query = format!("fieldManager={FIELD_MANAGER}&fieldValidation=Strict{more}");
        let sending = Sending { drops_namespace: !resource.namespaced && key.namespace.is_some(), onto };
        let answer = self.objects().apply(&format!("{path}?{query}"), sending.prepare(body)?).await;
        let live = self.checked(key, answer)?.live(resource.has_status)?;
        if is_definition(key) && matches!(how, Apply::Plain | Apply::Forced) {
            self.inner.discovery.expect_kind();
        }
        Ok(live)
    }

    /// Makes an object that is not there, and that asks to be applied once; where one is by now, that is left as it is, and the
    /// answer is that what was known is stale. It is managed as if it had been applied.
    pub(crate) async fn create(&self, key: &ObjectKey, body: &[u8]) -> Result<Live, ClusterError> {
        let resource = self.resource(key, Served::AsWritten).await?;
        let path = paths::collection(key, &resource)?;
        let query = format!("fieldManager={FIELD_MANAGER}&fieldValidation=Strict");
        let sending =
            Sending { drops_namespace: !resource.namespaced && key.namespace.is_some(), ..Sending::default() };
        let answer = self.objects().post(&format!("{path}?{query}"), sending.prepare(body)?).await;
        let made = self.checked(key, answer)?.live(resource.has_status)?;
        if is_definition(key) {
            self.inner.discovery.expect_kind();
        }
        self.manage_as_applied(key, made).await
    }

    /// Whether the API server would make the object, if none had its name: it validates and admits it, and makes none.
    pub(crate) async fn try_to_create(&self, key: &ObjectKey, body: &[u8]) -> Result<(), ClusterError> {
        let resource = self.resource(key, Served::AsWritten).await?;
        let path = paths::collection(key, &resource)?;
        let query = format!("fieldManager={FIELD_MANAGER}&fieldValidation=Strict&dryRun=All");
        let sending =
            Sending { drops_namespace: !resource.namespaced && key.namespace.is_some(), ..Sending::default() };
        let answer = self.objects().post(&format!("{path}?{query}"), sending.prepare(body)?).await;
        match self.checked(key, answer) {
            // What has the name is looked for last.
            Err(ClusterError::Stale { message }) if message.ends_with(" already exists") => Ok(()),
            answer => answer.map(drop),
        }
    }

    /// Of what was made by [`Cluster::create`], now or by one that came to no end; all else is answered as it was read. Its
    /// status may be written meanwhile: a definition's is, two or three times.
    pub(crate) async fn manage_as_applied(&self, key: &ObjectKey, there: Live) -> Result<Live, ClusterError> {
        const TRIES_MAX: u32 = 4;
        let (uid, mut there) = (there.metadata.uid, there);
        for _ in 0..TRIES_MAX {
            let Some(managers) = managers_as_applied(&there) else { return Ok(there) };
            match self.set_managers(key, &there.metadata.resource_version, &managers).await {
                Ok(_) | Err(ClusterError::Stale { .. }) => {}
                Err(error) => return Err(error),
            }
            let is_it = |now: &Live| now.metadata.uid == uid;
            there = self.read(key).await?.filter(is_it).ok_or_else(|| stale("another object has its name by now"))?;
        }
        Err(stale("it is written again and again"))
    }

    /// Groups that other API servers serve, which may not know all that this one does.
    pub(crate) async fn served_elsewhere(&self) -> Result<BTreeSet<String>, ClusterError> {
        evidence::served_elsewhere(&self.inner.requests).await
    }

    /// The whole object; `None` when it is not there.
    pub(crate) async fn read(&self, key: &ObjectKey) -> Result<Option<Live>, ClusterError> {
        let resource = self.resource(key, Served::Somehow).await?;
        let answer = self.checked(key, self.objects().get(&paths::object(key, &resource)?).await);
        absent_as_none(answer.and_then(|answer| answer.live(resource.has_status)))
    }

    /// The metadata of an object, and nothing else of it; `None` when it is not there.
    pub(crate) async fn find(&self, key: &ObjectKey) -> Result<Option<Metadata>, ClusterError> {
        let path = self.path(key).await?;
        let answer = self.checked(key, self.objects().get_metadata(&path).await);
        absent_as_none(answer.and_then(|answer| answer.metadata()))
    }

    /// Deletes the object with this uid, if nobody wrote it since that version, and leaves what it owns to the garbage
    /// collector. `None`: it is gone; otherwise its metadata, as far as it is known to be on its way out.
    pub(crate) async fn delete(
        &self,
        key: &ObjectKey,
        uid: Uuid,
        version: &str,
    ) -> Result<Option<Metadata>, ClusterError> {
        self.delete_by(key, uid, version, Cascade::Background).await
    }

    /// The same; what is deleted in the foreground is on its way out until what it owns is gone.
    pub(crate) async fn delete_by(
        &self,
        key: &ObjectKey,
        uid: Uuid,
        version: &str,
        cascade: Cascade,
    ) -> Result<Option<Metadata>, ClusterError> {
        #[derive(Deserialize)]
        struct Kind {
            kind: String,
        }
        let path = self.path(key).await?;
        let policy = match cascade {
            Cascade::Background => "Background",
            Cascade::Foreground => "Foreground",
        };
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy,
            "preconditions": {"uid": uid, "resourceVersion": version}});
        let answer = self.objects().delete(&path, options.to_string().into_bytes()).await;
        let answer = match self.checked(key, answer) {
            Ok(answer) => answer,
            Err(ClusterError::NotFound | ClusterError::NamespaceMissing { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        // A deletion that is done is answered by a Status, one that waits for finalizers by the object.
        if answer.decode::<Kind>()?.kind == "Status" { Ok(None) } else { answer.metadata().map(Some) }
    }

    /// Gives our label another value, or takes it off, on an object that was not written since that version. Whose it was
    /// stays written on it.
    pub(crate) async fn set_label(
        &self,
        key: &ObjectKey,
        version: &str,
        label: Option<&str>,
    ) -> Result<(), ClusterError> {
        let change = json!({"metadata": {"resourceVersion": version, "labels": {TARGET_LABEL: label}}});
        self.merge(key, &change).await.map(drop)
    }

    /// The Pods of a Job, as far as they are a few: of one that may be stuck.
    pub(crate) async fn pods_of_job(&self, job: &Value) -> Result<Vec<Value>, ClusterError> {
        let text = |field: &str| job["metadata"][field].as_str().unwrap_or_default();
        let path = paths::pods_of_job(text("namespace"), text("uid"))?;
        self.objects().get(&path).await?.items()
    }

    /// The autoscalers of a namespace. Whoever may not look, or finds no way there, does not know of any: that is an error.
    /// There are none where it is certain that nobody can make one.
    pub(crate) async fn autoscalers(&self, namespace: &str) -> Result<Vec<Autoscaler>, ClusterError> {
        let key = ObjectKey {
            api_version: "autoscaling/v2".to_owned(),
            kind: "HorizontalPodAutoscaler".to_owned(),
            namespace: Some(namespace.to_owned()),
            name: String::new(),
        };
        let resource = match self.resource(&key, Served::Somehow).await {
            Ok(resource) => resource,
            Err(error @ ClusterError::KindMissing { .. }) => {
                return if self.is_kind_gone(&key).await? { Ok(Vec::new()) } else { Err(error) };
            }
            Err(error) => return Err(error),
        };
        let answer = self.objects().get(&paths::collection(&key, &resource)?).await;
        self.checked(&key, answer)?.items()
    }

    /// Says who manages which fields of an object that was not written since that version. Changes no field; answers what is
    /// there then.
    pub(crate) async fn set_managers(
        &self,
        key: &ObjectKey,
        version: &str,
        managed_fields: &Value,
    ) -> Result<Metadata, ClusterError> {
        let change = json!({"metadata": {"resourceVersion": version, "managedFields": managed_fields}});
        self.merge(key, &change).await?.metadata()
    }

    async fn merge(&self, key: &ObjectKey, change: &Value) -> Result<Answer, ClusterError> {
        let path = format!("{}?fieldManager={FIELD_MANAGER}", self.path(key).await?);
        let answer = self.objects().merge(&path, change.to_string().into_bytes()).await;
        self.checked(key, answer)
    }

    pub(crate) async fn is_namespaced(&self, key: &ObjectKey) -> Result<bool, ClusterError> {
        Ok(self.resource(key, Served::Somehow).await?.namespaced)
    }

    /// Whether it is certain that there can be no object of this kind; a kind that is only not listed may come back.
    pub(crate) async fn is_kind_gone(&self, key: &ObjectKey) -> Result<bool, ClusterError> {
        self.inner.discovery.is_gone(&self.inner.requests, key).await
    }

    /// A Secret of the agent's own; `None` when it is not there.
    pub(crate) async fn read_secret(&self, namespace: &str, name: &str) -> Result<Option<Secret>, ClusterError> {
        match self.inner.requests.get(&paths::secret(namespace, Some(name))).await {
            Ok(answer) => answer.decode().map(Some),
            Err(ClusterError::NotFound) => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn has_secret(&self, namespace: &str, name: &str) -> Result<bool, ClusterError> {
        let metadata = self.inner.requests.get_metadata(&paths::secret(namespace, Some(name))).await;
        Ok(absent_as_none(metadata)?.is_some())
    }

    /// The names of the agent's own Secrets that the selector finds.
    pub(crate) async fn list_secret_names(&self, namespace: &str, selector: &str) -> Result<Vec<String>, ClusterError> {
        #[derive(Deserialize)]
        struct Item {
            metadata: Named,
        }
        #[derive(Deserialize)]
        struct Named {
            name: String,
        }
        let path = format!("{}?labelSelector={}", paths::secret(namespace, None), selector.replace('=', "%3D"));
        let items: Vec<Item> = self.inner.requests.list_metadata(&path).await?.items()?;
        Ok(items.into_iter().map(|item| item.metadata.name).collect())
    }

    /// A Secret that is not there is as good as deleted.
    pub(crate) async fn delete_secret(&self, namespace: &str, name: &str) -> Result<(), ClusterError> {
        match self.inner.requests.delete(&paths::secret(namespace, Some(name)), Vec::new()).await {
            Ok(_) | Err(ClusterError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Creates it, or replaces exactly the version that was read. Somebody else's write in between is an error.
    pub(crate) async fn write_secret(&self, secret: &Secret) -> Result<Secret, ClusterError> {
        let body = serde_json::to_vec(secret).expect("strings serialize");
        let namespace = secret.namespace();
        let answer = if secret.is_stored() {
            self.inner.requests.put(&paths::secret(namespace, Some(secret.name())), body).await?
        } else {
            self.inner.requests.post(&paths::secret(namespace, None), body).await?
        };
        answer.decode()
    }

    /// How the API server serves this kind. Asks it anew when the kind is not known.
    async fn resource(&self, key: &ObjectKey, served: Served) -> Result<Resource, ClusterError> {
        self.inner.discovery.resource(&self.inner.requests, key, served).await
    }

    /// Under which an object is read and deleted.
    async fn path(&self, key: &ObjectKey) -> Result<String, ClusterError> {
        paths::object(key, &self.resource(key, Served::Somehow).await?)
    }

    /// A path that is not there disproves what discovery said of its kind.
    fn checked<T>(&self, key: &ObjectKey, answer: Result<T, ClusterError>) -> Result<T, ClusterError> {
        answer.map_err(|error| match error {
            ClusterError::KindMissing { .. } => {
                self.inner.discovery.disprove(key);
                ClusterError::KindMissing { api_version: key.api_version.clone(), kind: key.kind.clone() }
            }
            error => error,
        })
    }
}

fn is_definition(key: &ObjectKey) -> bool {
    (key.group(), key.kind.as_str()) == ("apiextensions.k8s.io", "CustomResourceDefinition")
}

fn managers_as_applied(there: &Live) -> Option<Value> {
    // Of hardly any object: the others are not read for it.
    let mut managers = there.metadata.managed_fields.iter();
    managers.find(|entry| entry.manager == FIELD_MANAGER && entry.operation == "Update")?;
    let object: Value = serde_json::from_slice(&there.body).ok()?;
    as_applied(&object["metadata"]["managedFields"], FIELD_MANAGER)
}

fn stale(message: &str) -> ClusterError {
    ClusterError::Stale { message: message.to_owned() }
}

fn absent_as_none<T>(found: Result<T, ClusterError>) -> Result<Option<T>, ClusterError> {
    match found {
        // Neither is an object in a namespace that is not there.
        Err(ClusterError::NotFound | ClusterError::NamespaceMissing { .. }) => Ok(None),
        found => found.map(Some),
    }
}

/// `1.33` of `v1.33.2+k3s1`.
fn minor_of(version: &str) -> Option<String> {
    let mut parts = version.strip_prefix('v')?.split('.');
    let (major, minor) = (parts.next()?, parts.next()?);
    // `33+` is how some call a patched one.
    let minor = minor.trim_end_matches(|character: char| !character.is_ascii_digit());
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    (is_number(major) && is_number(minor)).then(|| format!("{major}.{minor}"))
}

async fn read_kubeconfig(path: &Path) -> Result<kube::Config, ConnectError> {
    let failed = |source| ConnectError::Kubeconfig { path: path.display().to_string(), source: Box::new(source) };
    let file = kube::config::Kubeconfig::read_from(path).map_err(failed)?;
    let names_proxy =
        file.clusters.iter().filter_map(|named| named.cluster.as_ref()).any(|cluster| cluster.proxy_url.is_some());
    let mut config = kube::Config::from_custom_kubeconfig(file, &kube::config::KubeConfigOptions::default())
        .await
        .map_err(failed)?;
    if !names_proxy {
        // kube takes HTTPS_PROXY here, and never NO_PROXY; that proxy is for the way to the hub.
        config.proxy_url = None;
    }
    Ok(config)
}

/// Selects what any target of ours owns.
pub(crate) const OWNED_SELECTOR: &str = TARGET_LABEL;
