//! A server that opens channels itself.

use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::time::Duration;

use russh::keys::PrivateKey;
use russh::keys::ssh_key::Algorithm;
use russh::server::{self, Auth, Session};
use secrecy::SecretString;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;

use super::upstream::{Local, branch, remote};
use crate::source::git::Remote;

/// Lets everybody in, and tells whether its channel was taken.
struct Opener(Sender<bool>);

impl server::Handler for Opener {
    type Error = russh::Error;

    async fn auth_publickey(&mut self, _: &str, _: server::VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        Ok(Auth::Accept)
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), russh::Error> {
        let (handle, told) = (session.handle(), self.0.clone());
        tokio::spawn(async move { told.send(handle.channel_open_agent().await.is_ok()) });
        Ok(())
    }
}

fn new_key() -> PrivateKey {
    PrivateKey::random(&mut russh::keys::key::safe_rng(), Algorithm::Ed25519).expect("a key")
}

#[test]
fn no_channel_that_a_server_opens_is_taken() {
    let runtime = Runtime::new().expect("a runtime");
    let host_key = new_key();
    let known_hosts = host_key.public_key().to_openssh().expect("a public key");
    let config = Arc::new(server::Config { keys: vec![host_key], ..server::Config::default() });
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a port");
    let address = listener.local_addr().expect("an address");
    let (told, taken) = mpsc::channel();
    runtime.spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let running = server::run_stream(config.clone(), stream, Opener(told.clone())).await;
            tokio::spawn(async move { running.expect("a session").await });
        }
    });
    let key = new_key().to_openssh(russh::keys::ssh_key::LineEnding::LF).expect("a private key");
    let remote = Remote {
        credential: Some(SecretString::from(key.to_string())),
        known_hosts: Some(format!("[127.0.0.1]:{} {known_hosts}", address.port())),
        ..remote(&format!("ssh://git@{address}/shop.git"))
    };
    let _guard = runtime.enter();

    let fetched = Local::new().fetch(&remote, &[branch("main")]);

    assert!(fetched.is_err(), "it is no Git server");
    assert!(!taken.recv_timeout(Duration::from_secs(30)).expect("it opened one"));
}
