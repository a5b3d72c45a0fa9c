//! A hub for tests: real Postgres, real keys, no ports that anybody calls.

#[path = "../../../proto/tests/mutation/mod.rs"]
pub(crate) mod mutation;

use std::sync::Arc;

use clap::Parser as _;

use crate::boot::setup;
use crate::store::Pool;
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
