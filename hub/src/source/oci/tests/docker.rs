//! The real registry: Debian's `docker-registry`, on a port and in a folder of its own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::{Client, StatusCode};
use tempfile::TempDir;

use super::artifact::{Artifact, MANIFEST};
use super::fake::Identity;

/// `pull` and `secret`, as `htpasswd -B` writes them.
const ACCOUNTS: &str = "pull:$2a$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n";

pub(crate) struct DockerRegistry {
    child: Child,
    address: String,
    is_private: bool,
    pub(crate) ca_pem: Option<String>,
    client: Client,
    _folder: TempDir,
}

impl Drop for DockerRegistry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl DockerRegistry {
    /// Anybody may read and write.
    pub(crate) async fn start() -> Self {
        Self::start_with(None).await
    }

    /// By https, for whoever knows the password.
    pub(crate) async fn start_private() -> Self {
        Self::start_with(Some(Identity::new())).await
    }

    async fn start_with(identity: Option<Identity>) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("a file");
            path.display().to_string()
        };
        // The port is free when it is looked for, and the registry cannot be told to look itself.
        let address = {
            let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
            listener.local_addr().expect("an address").to_string()
        };
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\nhttp:\n  addr: {address}\n",
            folder.path().join("data").display(),
        );
        if let Some(identity) = &identity {
            let (certificate, key) = (write("cert.pem", &identity.certificate), write("key.pem", &identity.key));
            let accounts = write("accounts", ACCOUNTS);
            let tls = format!("  tls: {{certificate: {certificate}, key: {key}}}\n");
            let accounts = format!("auth: {{htpasswd: {{realm: a registry, path: {accounts}}}}}\n");
            config = [config, tls, accounts].concat();
        }
        let config = write("config.yml", &config);
        let child = Command::new("docker-registry")
            .args(["serve", &config])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("`./dev deps` installs docker-registry");
        let ca_pem = identity.map(|identity| identity.ca);
        let mut builder = Client::builder().no_proxy();
        if let Some(pem) = &ca_pem {
            let authority = reqwest::Certificate::from_pem(pem.as_bytes()).expect("a certificate");
            builder = builder.tls_certs_only([authority]);
        }
        let client = builder.build().expect("a client");
        let registry = Self { child, address, is_private: ca_pem.is_some(), ca_pem, client, _folder: folder };
        registry.await_it().await;
        registry
    }

    async fn await_it(&self) {
        let begun = Instant::now();
        while self.client.get(self.url("/v2/")).send().await.is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "the registry does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", if self.is_private { "https" } else { "http" }, self.address)
    }

    /// As a repo has it.
    pub(crate) fn repo_url(&self, name: &str) -> String {
        format!("{}://{}/{name}", if self.is_private { "oci" } else { "oci+http" }, self.address)
    }

    /// Says its digest.
    pub(crate) async fn push(&self, name: &str, tag: &str, artifact: &Artifact) -> String {
        for (digest, bytes) in &artifact.blobs {
            self.push_blob(name, digest, bytes).await;
        }
        let request = self.client.put(self.url(&format!("/v2/{name}/manifests/{tag}")));
        let request = request.header("content-type", MANIFEST).body(artifact.manifest.clone());
        let answer = self.send(request).await;
        let status = answer.status();
        let said = answer.text().await.unwrap_or_default();
        assert_eq!(status, StatusCode::CREATED, "{said}");
        artifact.digest()
    }

    async fn push_blob(&self, name: &str, digest: &str, bytes: &[u8]) {
        let begun = self.send(self.client.post(self.url(&format!("/v2/{name}/blobs/uploads/")))).await;
        assert_eq!(begun.status(), StatusCode::ACCEPTED);
        let location = begun.headers()["location"].to_str().expect("text").to_owned();
        let request = self.client.put(format!("{location}&digest={digest}")).body(bytes.to_vec());
        assert_eq!(self.send(request).await.status(), StatusCode::CREATED);
    }

    async fn send(&self, request: reqwest::RequestBuilder) -> reqwest::Response {
        let request = if self.is_private { request.basic_auth("pull", Some("secret")) } else { request };
        request.send().await.expect("the registry answers")
    }
}
