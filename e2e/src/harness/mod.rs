//! What an end-to-end test stands on: a scene of its own on clusters that all tests share.
//!
//! A scene has its own database, hub, Git server, namespaces, and agents, so that tests run beside each other; all of it
//! is gone when the test ends, however it ends. The clusters, their etcd and Postgres are the run's. Who stops a server of
//! a cluster uses the third, alone: [`Scene::run_alone_on_third`].
//! Neighbours: `environment` starts what is shared and says where it is.

mod cli;
mod env;
mod hub;
mod scene;
mod wait;

use sha2::{Digest as _, Sha256};

pub use cli::CliOutput;
pub use env::Env;
pub use hub::Hub;
pub use scene::{FAST_HEARTBEAT_FLAGS, HEARTBEAT_FLAGS, REPO, Scene, SceneOptions};
pub use wait::{PATIENCE, eventually};

/// Written out, so that the hub's is checked against another than itself.
pub fn hmac_sha256(key: &[u8], message: &[u8]) -> Vec<u8> {
    const BLOCK_BYTES: usize = 64;
    let mut block = if key.len() > BLOCK_BYTES { Sha256::digest(key).to_vec() } else { key.to_vec() };
    block.resize(BLOCK_BYTES, 0);
    let padded = |pad: u8| block.iter().map(|byte| byte ^ pad).collect::<Vec<_>>();
    let inner = Sha256::digest([padded(0x36).as_slice(), message].concat());
    Sha256::digest([padded(0x5c).as_slice(), inner.as_slice()].concat()).to_vec()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use anyhow::{Result, bail};

    use super::*;

    /// RFC 4231, case 2.
    #[test]
    fn a_signature_is_an_hmac() {
        let signature = hmac_sha256(b"Jefe", b"what do ya want for nothing?");

        assert_eq!(hex::encode(signature), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }

    #[tokio::test]
    async fn what_never_comes_is_told_with_what_was_seen_last() {
        let refused =
            eventually(Duration::from_millis(120), "it rains", async || bail!("the sun shines") as Result<()>).await;

        let text = refused.expect_err("it never comes").to_string();
        assert!(text.contains("it rains") && text.contains("the sun shines"), "{text}");
    }
}
