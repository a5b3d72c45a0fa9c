//! A rollout as it moves: bars on a terminal, lines elsewhere. And that something is waited for, on a terminal only.
//!
//! It shows what one document says and decides nothing. Lines are written only when something changed, so a log of a
//! rollout is as long as its story.

use std::fmt::Write as _;
use std::io::{self, IsTerminal as _};
use std::pin::pin;
use std::time::{Duration, Instant};

use bellwether_core::api::{RolloutDocument, WaveDocument};
use bellwether_core::rollout::WaveState;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use jiff::Timestamp;

use super::{Output, revision, short_commit, short_duration, visible, word};

const WAVE_TEMPLATE: &str = "  {prefix} {bar:24} {msg}";
const TEXT_TEMPLATE: &str = "{wide_msg}";
const WAIT_TEMPLATE: &str = "{spinner} {msg} ({elapsed})";

/// Before that, nothing is said: most waits are over by then.
const SILENT: Duration = Duration::from_millis(500);

/// Says on a terminal what is waited for, and for how long already; gone with it.
#[derive(Debug)]
pub(crate) struct Waiting {
    spinner: Option<ProgressBar>,
    began_at: Instant,
}

impl Waiting {
    pub(crate) fn start() -> Self {
        let shown =
            || ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style(WAIT_TEMPLATE));
        Self { spinner: io::stderr().is_terminal().then(shown), began_at: Instant::now() }
    }

    /// Waits for one thing.
    pub(crate) async fn during<T>(text: &str, work: impl Future<Output = T>) -> T {
        let waiting = Self::start();
        let mut work = pin!(work);
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(SILENT) => waiting.say(text),
        }
        work.await
    }

    pub(crate) fn say(&self, text: &str) {
        let Some(spinner) = self.spinner.as_ref().filter(|_| self.began_at.elapsed() >= SILENT) else { return };
        spinner.set_message(visible(text));
        spinner.enable_steady_tick(Duration::from_millis(100));
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(spinner) = &self.spinner {
            spinner.finish_and_clear();
        }
    }
}

/// One rollout on the screen.
#[derive(Debug)]
pub(crate) struct Progress<'a> {
    output: &'a Output,
    bars: Option<Bars>,
    lines: Vec<String>,
    last_note: String,
}

#[derive(Debug)]
struct Bars {
    all: MultiProgress,
    head: ProgressBar,
    waves: Vec<ProgressBar>,
    why: ProgressBar,
}

impl<'a> Progress<'a> {
    pub(crate) fn new(output: &'a Output) -> Self {
        let bars = io::stderr().is_terminal().then(Bars::new);
        Self { output, bars, lines: Vec::new(), last_note: String::new() }
    }

    pub(crate) fn show(&mut self, rollout: &RolloutDocument, now: Timestamp) -> anyhow::Result<()> {
        self.last_note.clear();
        if let Some(bars) = &mut self.bars {
            bars.show(rollout, now);
            return Ok(());
        }
        let lines = story(rollout);
        for line in lines.iter().filter(|line| !self.lines.contains(line)) {
            self.line(line)?;
        }
        self.lines = lines;
        Ok(())
    }

    /// Something about the watching itself; said once until the rollout is shown again.
    pub(crate) fn note(&mut self, text: &str) {
        if self.last_note == text {
            return;
        }
        text.clone_into(&mut self.last_note);
        match &self.bars {
            Some(bars) => bars.why.set_message(visible(text)),
            None => super::note(text),
        }
    }

    /// Leaves what is on the screen where it is, with the last word in full: bars cut it at the end of their line.
    pub(crate) fn finish(&self, last_word: &str) {
        let Some(bars) = &self.bars else { return };
        bars.head.abandon();
        bars.waves.iter().for_each(ProgressBar::abandon);
        bars.why.finish_and_clear();
        if !last_word.is_empty() {
            super::note(&visible(last_word));
        }
    }

    /// Where a document is wanted on standard output, the lines go to the other one.
    fn line(&self, line: &str) -> anyhow::Result<()> {
        if self.output.document_format()? == crate::args::Format::Table {
            // Who stops reading still waits for the verdict.
            return crate::failure::unless_unread(super::print(&visible(line)));
        }
        super::note(line);
        Ok(())
    }
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr());
        let text = || ProgressBar::new(1).with_style(style(TEXT_TEMPLATE));
        let head = all.add(text());
        let why = all.add(text());
        Self { all, head, waves: Vec::new(), why }
    }

    fn show(&mut self, rollout: &RolloutDocument, now: Timestamp) {
        let width = rollout.waves.iter().map(|wave| wave.name.chars().count()).max().unwrap_or_default();
        while self.waves.len() < rollout.waves.len() {
            let bar = ProgressBar::new(1).with_style(style(WAVE_TEMPLATE).progress_chars("█▉▊▋▌▍▎▏ "));
            self.waves.push(self.all.insert_before(&self.why, bar));
        }
        self.head.set_message(head(rollout));
        for (bar, wave) in self.waves.iter().zip(&rollout.waves) {
            bar.set_length(u64::from(wave.members));
            bar.set_position(u64::from(wave.healthy));
            bar.set_prefix(format!("{:width$}", visible(&wave.name)));
            bar.set_message(format!("{}{}", counts(wave), soak_left(wave, now)));
        }
        self.why.set_message(visible(&rollout.why));
    }
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the templates are constants")
}

/// `shop 1a2b3c4d → 5e6f7a8b: rolling`, or `… → 5e6f7a8b with env 2fee930e: rolling` where other repos count, too.
pub(crate) fn head(rollout: &RolloutDocument) -> String {
    let from = rollout.from_commit.as_deref().map_or("nothing", short_commit);
    let (to, state) = (revision(&rollout.to_commit, &rollout.sources), word(&rollout.state));
    format!("{} {} → {}: {}", rollout.target, visible(from), visible(&to), state.replace('_', " "))
}

/// `3/4 healthy, 1 in flight`, with only the counts that say something.
pub(crate) fn counts(wave: &WaveDocument) -> String {
    let mut text = format!("{}/{} healthy", wave.healthy, wave.members);
    let others = [
        (wave.in_flight, "in flight"),
        (wave.failed, "failed"),
        (wave.offline, "offline"),
        (wave.skipped, "skipped"),
        (wave.rolled_back, "rolled back"),
    ];
    for (count, name) in others.into_iter().filter(|&(count, _)| count > 0) {
        let _ = write!(text, ", {count} {name}");
    }
    text
}

fn soak_left(wave: &WaveDocument, now: Timestamp) -> String {
    match wave.soak_until {
        Some(until) if wave.state == WaveState::Soaking => {
            format!(", soaking, {} left", short_duration(until.duration_since(now)))
        }
        _ => String::new(),
    }
}

/// The rollout in lines that differ exactly when something happened.
fn story(rollout: &RolloutDocument) -> Vec<String> {
    let opened = |wave: &&WaveDocument| wave.state != WaveState::Waiting;
    let wave_line = |wave: &WaveDocument| {
        let soak = wave.soak_until.filter(|_| wave.state == WaveState::Soaking);
        let until = soak.map_or_else(String::new, |until| format!(" until {}", super::time(until)));
        format!("  wave {}: {}{until}, {}", wave.name, word(&wave.state), counts(wave))
    };
    let mut lines = vec![head(rollout)];
    lines.extend(rollout.waves.iter().filter(opened).map(wave_line));
    if !rollout.why.is_empty() {
        lines.push(format!("  {}", without_ages(&rollout.why)));
    }
    lines
}

/// Without `(9s left)` and `(3s ago)`, which are new every second: the times that they count from stand before them.
fn without_ages(text: &str) -> String {
    let mut parts = text.split(" (");
    let mut kept = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.split_once(')') {
            Some((age, rest)) if age.ends_with(" ago") || age.ends_with(" left") => kept.push_str(rest),
            _ => {
                kept.push_str(" (");
                kept.push_str(part);
            }
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rollout() -> RolloutDocument {
        let wave = |name: &str, state: &str, healthy: u32, failed: u32| {
            json!({
                "name": name, "state": state, "openedAt": null, "soakUntil": "2026-11-23T20:01:00Z", "members": 4,
                "waiting": 0, "inFlight": 4 - healthy - failed, "healthy": healthy, "failed": failed, "offline": 0,
                "skipped": 0, "rolledBack": 0,
            })
        };
        serde_json::from_value(json!({
            "id": "019a0000-0000-7000-8000-000000000000", "target": "shop", "state": "rolling_back",
            "why": "canary: c1 is degraded", "fromCommit": null, "toCommit": "0123456789abcdef", "startedAt": "2026-11-23T20:00:00Z",
            "endedAt": null, "waves": [wave("canary", "soaking", 3, 1), wave("eu", "open", 1, 0), wave("us", "waiting", 0, 0)],
        }))
        .expect("a rollout")
    }

    #[test]
    fn lines_tell_the_waves_that_have_opened() {
        insta::assert_snapshot!(story(&rollout()).join("\n"), @r"
        shop nothing → 01234567: rolling back
          wave canary: soaking until 2026-11-23T20:01:00Z, 3/4 healthy, 1 failed
          wave eu: open, 1/4 healthy, 3 in flight
          canary: c1 is degraded
        ");
    }

    #[test]
    fn time_that_passes_is_nothing_new() {
        let said = "rest: 1 in flight (c2: Replicas: 0/1); open since 2026-11-25T12:06:47Z (3s ago)";
        assert_eq!(without_ages(said), "rest: 1 in flight (c2: Replicas: 0/1); open since 2026-11-25T12:06:47Z");

        let soaks = "canary soaks until 2026-11-25T12:06:47Z (1m 9s left); open since 2026-11-25T12:06:36Z (0s ago)";
        let kept = "canary soaks until 2026-11-25T12:06:47Z; open since 2026-11-25T12:06:36Z";
        assert_eq!(without_ages(soaks), kept);
    }

    #[test]
    fn the_soak_counts_down() {
        let now = "2026-11-23T20:00:18Z".parse().expect("a time");

        assert_eq!(soak_left(&rollout().waves[0], now), ", soaking, 42s left");
        assert_eq!(soak_left(&rollout().waves[1], now), "");
    }
}
