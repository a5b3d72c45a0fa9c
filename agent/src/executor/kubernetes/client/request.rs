//! One request, one answer, one deadline.
//!
//! Requests are built here and not by kube's typed API for three reasons: a bundle's bytes are sent as they are, without
//! being parsed; the answer's `Retry-After` is seen; and kube logs a body that it cannot read, which may be a Secret's.

use std::time::Duration;

use bellwether_core::account::Account;
use http::{Method, StatusCode, header};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::{About, judge};
use super::{ClusterError, Live, Metadata};

/// The API server answers a read from memory or from one read of its store.
const READ_DEADLINE: Duration = Duration::from_secs(10);
/// A write may wait for admission webhooks, one after the other, for as long as the API server bounds it: 34 s. Whoever
/// gives up before cancels it, though a webhook that does not answer may be one that lets it pass.
const WRITE_DEADLINE: Duration = Duration::from_secs(40);

const JSON: &str = "application/json";
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const LIST_METADATA_ONLY: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
/// Everything at once, since Kubernetes 1.30 or 1.27; older API servers answer with their lists of groups.
const DISCOVERY: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,\
    application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
const MERGE_PATCH: &str = "application/merge-patch+json";
const IMPERSONATE_USER: &str = "impersonate-user";
const APPLY_PATCH: &str = "application/apply-patch+yaml";

pub(super) struct Requests {
    client: kube::Client,
    /// Whom they are made as; `None`: the agent itself.
    user: Option<http::HeaderValue>,
}

/// A list, as far as it is read. Of one of metadata that is empty, an API server says `null`.
#[derive(Deserialize)]
struct List<T> {
    items: Option<Vec<T>>,
}

/// The body of a success.
pub(super) struct Answer(Vec<u8>);

impl Requests {
    pub(super) fn new(client: kube::Client) -> Self {
        Self { client, user: None }
    }

    /// The same connections, asked as somebody else. No group is named: of a ServiceAccount API servers know them, and
    /// the agent needs no right to any.
    pub(super) fn acting_as(&self, account: &Account) -> Self {
        let user = http::HeaderValue::from_str(&account.user()).expect("names are plain");
        Self { client: self.client.clone(), user: Some(user) }
    }

    pub(super) fn client(&self) -> kube::Client {
        self.client.clone()
    }

    pub(super) async fn get(&self, path: &str) -> Result<Answer, ClusterError> {
        self.send(request(Method::GET, path, JSON), Vec::new()).await
    }

    pub(super) async fn get_metadata(&self, path: &str) -> Result<Answer, ClusterError> {
        self.send(request(Method::GET, path, METADATA_ONLY), Vec::new()).await
    }

    pub(super) async fn list_metadata(&self, path: &str) -> Result<Answer, ClusterError> {
        self.send(request(Method::GET, path, LIST_METADATA_ONLY), Vec::new()).await
    }

    pub(super) async fn get_discovery(&self, path: &str) -> Result<Answer, ClusterError> {
        self.send(request(Method::GET, path, DISCOVERY), Vec::new()).await
    }

    pub(super) async fn apply(&self, path: &str, body: Vec<u8>) -> Result<Answer, ClusterError> {
        self.send(request(Method::PATCH, path, JSON).header(header::CONTENT_TYPE, APPLY_PATCH), body).await
    }

    pub(super) async fn merge(&self, path: &str, body: Vec<u8>) -> Result<Answer, ClusterError> {
        self.send(request(Method::PATCH, path, METADATA_ONLY).header(header::CONTENT_TYPE, MERGE_PATCH), body).await
    }

    /// The same; the answer is the whole object.
    pub(super) async fn merge_in_full(&self, path: &str, body: Vec<u8>) -> Result<Answer, ClusterError> {
        self.send(request(Method::PATCH, path, JSON).header(header::CONTENT_TYPE, MERGE_PATCH), body).await
    }

    pub(super) async fn delete(&self, path: &str, options: Vec<u8>) -> Result<Answer, ClusterError> {
        self.send(request(Method::DELETE, path, JSON).header(header::CONTENT_TYPE, JSON), options).await
    }

    pub(super) async fn post(&self, path: &str, body: Vec<u8>) -> Result<Answer, ClusterError> {
        self.send(request(Method::POST, path, JSON).header(header::CONTENT_TYPE, JSON), body).await
    }

    pub(super) async fn put(&self, path: &str, body: Vec<u8>) -> Result<Answer, ClusterError> {
        self.send(request(Method::PUT, path, JSON).header(header::CONTENT_TYPE, JSON), body).await
    }

    async fn send(&self, mut request: http::request::Builder, body: Vec<u8>) -> Result<Answer, ClusterError> {
        if let Some(user) = &self.user {
            request = request.header(IMPERSONATE_USER, user.clone());
        }
        let impossible =
            |error| ClusterError::rejected("BadRequest", format!("no request can be made of this: {error}"));
        let request = request.body(body.into()).map_err(impossible)?;
        let is_read = request.method() == Method::GET;
        let about = about(request.uri().path());
        let deadline = if is_read { READ_DEADLINE } else { WRITE_DEADLINE };
        let exchange = async {
            let response = self.client.send(request).await.map_err(|error| unanswered(&error))?;
            let (parts, body) = response.into_parts();
            let body = body.collect_bytes().await.map_err(|error| unanswered(&error))?;
            Ok((parts.status, retry_after(&parts.headers), Vec::from(body)))
        };
        let (status, retry_after, body) =
            tokio::time::timeout(deadline, exchange).await.map_err(|_| late(deadline, is_read))??;
        if status.is_success() { Ok(Answer(body)) } else { Err(judge(status, retry_after, about, &body)) }
    }
}

fn request(method: Method, path: &str, accept: &str) -> http::request::Builder {
    http::Request::builder().method(method).uri(path).header(header::ACCEPT, accept)
}

fn about(path: &str) -> About {
    if path.starts_with("/api/v1/") && path.split('/').any(|part| part == "secrets") {
        About::Secrets
    } else {
        About::Others
    }
}

fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    headers.get(header::RETRY_AFTER)?.to_str().ok()?.parse().ok().map(Duration::from_secs)
}

fn late(deadline: Duration, is_read: bool) -> ClusterError {
    let why = if is_read { "" } else { ": admission webhooks can take that long" };
    ClusterError::retry(format!("the API server did not answer within {deadline:?}{why}"))
}

fn unanswered(error: &kube::Error) -> ClusterError {
    ClusterError::retry(format!("the API server cannot be reached: {}", crate::chain(error)))
}

impl Answer {
    pub(super) fn decode<T: DeserializeOwned>(&self) -> Result<T, ClusterError> {
        serde_json::from_slice(&self.0).map_err(|error| judge_unreadable(&error))
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(super) fn items<T: DeserializeOwned>(&self) -> Result<Vec<T>, ClusterError> {
        self.decode::<List<T>>().map(|list| list.items.unwrap_or_default())
    }

    pub(super) fn metadata(&self) -> Result<Metadata, ClusterError> {
        Metadata::of(&self.0).map_err(|error| judge_unreadable(&error))
    }

    pub(super) fn live(self, has_status: bool) -> Result<Live, ClusterError> {
        let metadata = self.metadata()?;
        Ok(Live { metadata, body: self.0, has_status })
    }
}

/// A success that makes no sense: something between us and the API server answered. Its words may be a body's, so they
/// are not repeated.
fn judge_unreadable(error: &serde_json::Error) -> ClusterError {
    let at = (error.line(), error.column());
    judge(StatusCode::BAD_GATEWAY, None, About::Others, format!("an answer cannot be read at {at:?}").as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_of_metadata_is_read_as_one() {
        let answer = Answer(br#"{"kind": "PartialObjectMetadataList", "items": null}"#.to_vec());

        assert_eq!(answer.items::<serde_json::Value>().ok(), Some(Vec::new()));
    }
}
