//! A client that applies objects and does nothing else: the floor that an agent is measured against.
//!
//! Server-side apply over kept connections, with bodies built before.

use std::path::Path;

use anyhow::{Context as _, Result};
use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use bellwether_e2e::controlplane;

/// As many as an agent has on their way.
pub(crate) const AT_ONCE: usize = 8;
/// Its own field manager: it is a client like any other.
pub(crate) const FLOOR: &str = "floor";

/// An object, and where it goes.
#[derive(Debug)]
pub(crate) struct Prepared {
    resource: ApiResource,
    namespace: String,
    name: String,
    body: Value,
}

impl Prepared {
    pub(crate) fn of(body: Value) -> Result<Self> {
        let text = |value: &Value| value.as_str().map(str::to_owned).context("an object lacks its kind or its place");
        let metadata = &body["metadata"];
        let resource = resource(&text(&body["kind"])?);
        Ok(Self { resource, namespace: text(&metadata["namespace"])?, name: text(&metadata["name"])?, body })
    }

    pub(crate) fn api(&self, client: Client) -> Api<DynamicObject> {
        Api::namespaced_with(client, &self.namespace, &self.resource)
    }
}

fn resource(kind: &str) -> ApiResource {
    match kind {
        "Deployment" => ApiResource::erase::<Deployment>(&()),
        "Service" => ApiResource::erase::<Service>(&()),
        _ => ApiResource::erase::<ConfigMap>(&()),
    }
}

#[derive(Clone)]
pub(crate) struct BareClient {
    client: Client,
}

impl BareClient {
    pub(crate) async fn of(kubeconfig: &Path) -> Result<Self> {
        Ok(Self { client: controlplane::client_of_watches(kubeconfig).await? })
    }

    pub(crate) async fn apply(&self, object: &Prepared) -> Result<()> {
        let asked = PatchParams::apply(FLOOR).force();
        object.api(self.client.clone()).patch(&object.name, &asked, &Patch::Apply(&object.body)).await?;
        Ok(())
    }

    pub(crate) async fn apply_all(&self, objects: &[Prepared]) -> Result<()> {
        stream::iter(objects).map(Ok).try_for_each_concurrent(AT_ONCE, async |object| self.apply(object).await).await
    }

    /// Changes something in an object, as somebody would who is nobody's tool.
    pub(crate) async fn edit(&self, object: &Prepared, change: &Value) -> Result<()> {
        object.api(self.client.clone()).patch(&object.name, &PatchParams::default(), &Patch::Merge(change)).await?;
        Ok(())
    }
}

/// Nothing runs of it, and whoever looks at it finds it healthy.
pub(crate) fn deployment(metadata: &Value) -> Value {
    let labels = json!({"app": "five"});
    let container = json!({"name": "five", "image": "registry.example.org/five:1"});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
    let spec = json!({"replicas": 0, "selector": {"matchLabels": labels}, "template": template});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": spec})
}

pub(crate) fn service(metadata: &Value) -> Value {
    let spec = json!({"selector": {"app": "five"}, "ports": [{"port": 80}]});
    json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
}
