//! A message that a proxy of ours has stopped on its way, until the test says what becomes of it.

use anyhow::Result;
use tokio::sync::oneshot;

/// Dropped, the connection of the message ends on both sides.
#[derive(Debug)]
pub struct Held(oneshot::Sender<()>);

impl Held {
    /// With the test's word, for whoever holds the message. An error: it cuts the connection.
    pub(crate) fn pair() -> (Self, oneshot::Receiver<()>) {
        let (go, gone) = oneshot::channel();
        (Self(go), gone)
    }

    pub fn let_go(self) {
        // Its connection may have ended by itself.
        let _ = self.0.send(());
    }

    pub fn cut(self) {
        drop(self);
    }
}

/// Tells the test, and waits for its word. An error: it cuts the connection.
pub(crate) async fn wait_in(caught: oneshot::Sender<Held>) -> Result<()> {
    let (held, gone) = Held::pair();
    match caught.send(held) {
        Ok(()) => Ok(gone.await?),
        // Nobody waits for it any more.
        Err(_) => Ok(()),
    }
}
