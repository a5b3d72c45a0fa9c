//! A hub for tests: real Postgres, real keys, no ports that anybody calls.

#[path = "../../../proto/tests/mutation/mod.rs"]
pub(crate) mod mutation;

use std::sync::{Arc, Mutex};

use bellwether_core::repo::{ForcePush, RepoSpec};
use bellwether_core::{RepoId, Version};
use clap::Parser as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::boot::setup;
use crate::process::clock;
use crate::store::Pool;
use crate::store::projects::Project;
use crate::store::repos::Repo;
use crate::{Config, Hub};

/// A hub on the test's own database, and the folder that it keeps its files in.
pub(crate) async fn hub(pool: &Pool) -> (Arc<Hub>, tempfile::TempDir) {
    hub_with(pool, &[]).await
}

/// Another one on the same database, with a folder of its own.
pub(crate) async fn hub_beside(pool: &Pool, first: &tempfile::TempDir) -> (Arc<Hub>, tempfile::TempDir) {
    let seal_key = first.path().join("seal-key");
    hub_with(pool, &["--seal-key-file", &seal_key.to_string_lossy()]).await
}

/// One with other settings.
pub(crate) async fn hub_with(pool: &Pool, more: &[&str]) -> (Arc<Hub>, tempfile::TempDir) {
    // The first test of a process installs it.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let data = folder.path().to_string_lossy().into_owned();
    let url = crate::store::url_of(pool);
    let arguments = ["bellwether-hub", "--data", &data, "--database-url", &url];
    let ports = ["--listen-api", "127.0.0.1:0", "--listen-agents", "127.0.0.1:0", "--insecure-git"];
    let all = arguments.into_iter().chain(ports).chain(more.iter().copied());
    let config = Config::try_parse_from(all).expect("the settings are good");
    let (hub, _, _, _) = setup::build(config).await.expect("the hub can be set up");
    (hub, folder)
}

pub(crate) fn admin_token(folder: &tempfile::TempDir) -> String {
    std::fs::read_to_string(folder.path().join("admin-token")).expect("the first start wrote it")
}

/// A repo at a URL, with nothing else said of it.
pub(crate) fn repo(project: &Project, name: &str, url: &str) -> Repo {
    let spec = RepoSpec {
        url: url.to_owned(),
        ca: None,
        chart: None,
        cosign_keys: Vec::new(),
        verify: None,
        known_hosts: None,
        force_push: ForcePush::Allow,
        poll_seconds: None,
        commit_status: None,
    };
    Repo {
        id: RepoId::new(clock::new_id()),
        project: project.clone(),
        name: name.parse().expect("a name"),
        spec,
        webhook_secret: Vec::new(),
        version: Version::new(1),
        created_at: clock::now(),
    }
}

/// Serves https on a port of its own; where that is, and whom to trust there.
pub(crate) async fn serve_tls(router: axum::Router) -> (String, String) {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::new([]).expect("valid names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca_pem = params.self_signed(&key).expect("a certificate").pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("valid names");
    let certificate = params.signed_by(&key, &issuer).expect("a certificate").der().clone();
    let config = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
        .expect("a pair");
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("https://{}", listener.local_addr().expect("an address"));
    let service = TowerToHyperService::new(router);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (service, acceptor) = (service.clone(), acceptor.clone());
            tokio::spawn(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    (url, ca_pem)
}

/// A log that is kept, for what must or must not stand in it.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("not poisoned").clone()).expect("text")
    }
}

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().expect("not poisoned").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// A key as GitHub gives it to an app (PKCS #1 in PEM form), made by the real `ssh-keygen`; and the bytes of its public half.
pub(crate) fn rsa_key() -> (String, Vec<u8>) {
    use base64::Engine as _;
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let file = folder.path().join("app.pem");
    let run = |arguments: &[&str]| {
        let output = std::process::Command::new("ssh-keygen").args(arguments).arg("-f").arg(&file).output();
        let output = output.expect("ssh-keygen starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).expect("text")
    };
    run(&["-q", "-t", "rsa", "-b", "2048", "-m", "PEM", "-N", ""]);
    let public = run(&["-e", "-m", "PEM"]);
    let lines: String = public.lines().filter(|line| !line.starts_with('-')).collect();
    let public = base64::engine::general_purpose::STANDARD.decode(lines).expect("base64");
    (std::fs::read_to_string(&file).expect("a key"), public)
}
