//! What is going on, for whoever waits: one line each, with the time since the beginning, on standard error.

use std::fmt::Display;
use std::io::Write as _;
use std::time::Instant;

#[derive(Debug, Clone, Copy)]
pub struct Progress {
    begun: Instant,
}

impl Progress {
    pub fn begin() -> Self {
        Self { begun: Instant::now() }
    }

    pub fn say(self, text: impl Display) {
        let seconds = self.begun.elapsed().as_secs_f64();
        // Nobody has to read it: a closed pipe must not end what is going on.
        let _ = writeln!(std::io::stderr().lock(), "{seconds:6.1} s  {text}");
    }
}
