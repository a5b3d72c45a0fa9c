//! What whoever watches the demo sees: a bar on a terminal, plain lines elsewhere, always on standard error.

use std::fmt::Display;
use std::time::{Duration, Instant};

use bellwether_e2e::progress::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

const STEADY: Duration = Duration::from_millis(120);
/// Between two lines about one step, where there is no terminal.
const LINE_PAUSE: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub struct Show {
    lines: Progress,
    bar: Option<ProgressBar>,
    begun: Instant,
    is_terminal: bool,
    /// Where there is no terminal: the step, its parts, and when it was last told of.
    step: Option<(String, usize, Instant)>,
}

impl Show {
    pub fn begin() -> Self {
        let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
        Self { lines: Progress::begin(), bar: None, begun: Instant::now(), is_terminal, step: None }
    }

    /// For parts that write lines by themselves.
    pub const fn lines(&self) -> Progress {
        self.lines
    }

    /// Begins a step of so many parts.
    pub fn step(&mut self, title: &str, parts: usize) {
        self.clear();
        if !self.is_terminal {
            self.step = Some((title.to_owned(), parts, Instant::now()));
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

    /// So many parts are done.
    pub fn reach(&mut self, done: usize) {
        if let Some(bar) = &self.bar {
            bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
        }
        if let Some((title, parts, told_at)) = &mut self.step
            && told_at.elapsed() >= LINE_PAUSE
        {
            *told_at = Instant::now();
            self.lines.say(format_args!("{title}: {done} of {parts}"));
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
        self.step = None;
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
