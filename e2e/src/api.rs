//! The hub's REST API, as a client of ours would speak it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use reqwest::{Certificate, Method};
use serde_json::Value;
use url::Url;

const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Debug, Clone)]
pub struct Api {
    pub url: Url,
    pub token: String,
    /// The file with the hub's root certificate.
    pub ca: PathBuf,
    http: reqwest::Client,
}

/// Whatever the hub answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Reply {
    pub status: u16,
    /// Null when the body was none.
    pub body: Value,
}

impl Api {
    /// Of a hub whose data folder we see: the first token stands there.
    pub fn of_hub(url: Url, data: &Path) -> Result<Self> {
        let ca = data.join("ca.pem");
        let pem = fs::read(&ca).with_context(|| format!("cannot read {}", ca.display()))?;
        let token = fs::read_to_string(data.join("admin-token")).context("the hub wrote no admin token")?;
        let http = reqwest::Client::builder()
            .tls_certs_only([Certificate::from_pem(&pem)?])
            .timeout(DEADLINE)
            .no_proxy()
            .build()?;
        Ok(Self { url, token: token.trim().to_owned(), ca, http })
    }

    /// The same installation, as another of its hubs serves it.
    #[must_use]
    pub fn at(&self, url: Url) -> Self {
        Self { url, ..self.clone() }
    }

    /// All figures that the hub tells.
    pub async fn metrics(&self) -> Result<String> {
        Ok(self.http.get(self.url.join("/metrics")?).send().await?.error_for_status()?.text().await?)
    }

    /// One of the figures that the hub tells, named with its label where it has one.
    pub async fn metric(&self, name: &str) -> Result<u64> {
        let text = self.metrics().await?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(line.with_context(|| format!("no {name} in:\n{text}"))?.trim().parse()?)
    }

    /// `path` from the root, such as `/api/v1/clusters`.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Reply> {
        let mut request = self.http.request(method, self.url.join(path)?).bearer_auth(&self.token);
        if let Some(body) = body {
            request = request.json(body);
        }
        reply(request).await
    }

    /// The body of a good answer.
    pub async fn fetch(&self, path: &str) -> Result<Value> {
        self.send(Method::GET, path, None).await?.good(path)
    }

    pub async fn post(&self, path: &str, body: &Value) -> Result<Value> {
        self.send(Method::POST, path, Some(body)).await?.good(path)
    }

    /// A webhook, signed or not; it needs no token.
    pub async fn send_webhook(&self, path: &str, body: &'static str, signature: &str) -> Result<Reply> {
        let request = self.http.post(self.url.join(path)?).header("x-signature", signature).body(body);
        reply(request).await
    }
}

impl Reply {
    fn good(self, path: &str) -> Result<Value> {
        if (200..300).contains(&self.status) {
            return Ok(self.body);
        }
        bail!("{path} was answered with {}: {}", self.status, self.body)
    }
}

async fn reply(request: reqwest::RequestBuilder) -> Result<Reply> {
    let response = request.send().await?;
    let status = response.status().as_u16();
    let text = response.text().await?;
    Ok(Reply { status, body: serde_json::from_str(&text).unwrap_or(Value::Null) })
}
