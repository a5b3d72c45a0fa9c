//! How far it is, on a terminal, once it takes longer than a second.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const SILENT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Bar {
    bar: Option<ProgressBar>,
    began_at: Instant,
}

impl Bar {
    pub(super) fn new() -> Self {
        let style =
            ProgressStyle::with_template("{spinner} {pos} {msg} ({elapsed})").expect("the template is a constant");
        let shown = || ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style);
        Self { bar: io::stderr().is_terminal().then(shown), began_at: Instant::now() }
    }

    pub(super) fn say(&self, what: &'static str, done: usize) {
        let Some(bar) = self.bar.as_ref().filter(|_| self.began_at.elapsed() >= SILENT) else { return };
        bar.set_message(what);
        bar.set_position(done as u64);
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}
