//! What whoever watches the demo sees: a bar on a terminal, plain lines elsewhere, always on standard error.

use std::fmt::Display;
use std::time::{Duration, Instant};

use bellwether_e2e::progress::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const STEADY: Duration = Duration::from_millis(120);

#[derive(Debug)]
pub struct Show {
    lines: Progress,
    bar: Option<ProgressBar>,
    begun: Instant,
    is_terminal: bool,
}

impl Show {
    pub fn begin() -> Self {
        let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        Self { lines: Progress::begin(), bar: None, begun: Instant::now(), is_terminal }
    }

    /// For parts that write lines by themselves.
    pub const fn lines(&self) -> Progress {
        self.lines
    }

    /// Begins a step of so many parts.
    pub fn step(&mut self, title: &str, parts: usize) {
        self.clear();
        if !self.is_terminal {
            return self.lines.say(format_args!("{title} …"));
        }
        let bar = ProgressBar::with_draw_target(u64::try_from(parts).ok(), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{elapsed:>6}    {spinner} {msg} {bar:24} {pos}/{len}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_message(title.to_owned());
        bar.enable_steady_tick(STEADY);
        self.bar = Some(bar);
    }

    /// One more part is done.
    pub fn advance(&self) {
        if let Some(bar) = &self.bar {
            bar.inc(1);
        }
    }

    /// Ends the step, with what came of it.
    pub fn done(&mut self, text: impl Display) {
        self.clear();
        self.lines.say(text);
    }

    pub fn seconds(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
