//! One engine that runs: a child without environment, files or friends, and a thread that ends it when its time is up.

use std::io::{BufReader, Read as _};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::error::EngineError;
use super::wire::{self, Answer, Done, Question, Request, Said, Tell, Unread};

/// It starts in 20 ms; a machine that swaps takes longer.
const START_LONGEST: Duration = Duration::from_secs(20);

/// Of what a crash says the beginning is what tells.
const LAST_WORDS_BYTES_MAX: u64 = 2_000;

/// They were written before it ended.
const LAST_WORDS_LONGEST: Duration = Duration::from_secs(1);

/// An engine. It ends with this.
pub(super) struct Process {
    to: ChildStdin,
    from: BufReader<ChildStdout>,
    life: Arc<Life>,
    /// Layers that it could not shut itself in with.
    pub(super) missing: Vec<String>,
    pub(super) versions: Arc<str>,
}

/// When it is to end, and what it said then. Shared with the thread that ends it.
struct Life {
    state: Mutex<State>,
    changed: Condvar,
}

struct State {
    /// `None`: at once.
    until: Option<Instant>,
    /// Somebody waits for what it says.
    is_awaited: bool,
    /// It was ended while somebody waited, because its time was up.
    was_late: bool,
    /// It has ended, and how.
    ended: Option<String>,
}

impl Process {
    pub(super) fn start(program: &Path) -> Result<Self, EngineError> {
        let not_started = |reason: String| EngineError::NotStarted { reason };
        let mut child = Command::new(program)
            .env_clear()
            .process_group(0)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| not_started(error.to_string()))?;
        let (Some(to), Some(from), Some(errors)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
        else {
            return Err(not_started("it has no pipes".to_owned()));
        };
        let state =
            State { until: Some(Instant::now() + START_LONGEST), is_awaited: true, was_late: false, ended: None };
        let life = Arc::new(Life { state: Mutex::new(state), changed: Condvar::new() });
        let kept = life.clone();
        let keeper = thread::Builder::new().name("render engine".to_owned());
        keeper.spawn(move || kept.keep(child, errors)).map_err(|error| not_started(error.to_string()))?;
        let mut process = Self { to, from: BufReader::new(from), life, missing: Vec::new(), versions: Arc::from("") };
        match wire::read(&mut process.from) {
            Ok(Said::Hello(hello)) => {
                if hello.engine != wire::ENGINE {
                    let reason =
                        format!("it is engine {}, and this program needs engine {}", hello.engine, wire::ENGINE);
                    return Err(not_started(reason));
                }
                process.versions = hello.versions().into();
                process.missing = hello.missing;
            }
            Ok(_) => return Err(not_started("it does not say hello".to_owned())),
            Err(unread) => return Err(not_started(process.explain(unread, START_LONGEST).to_string())),
        }
        Ok(process)
    }

    /// Without an answer it is at an end. After an error that is not [`EngineError::Failed`] it cannot be asked again.
    pub(super) fn render(
        &mut self,
        request: &Request,
        longest: Duration,
        answer: &mut dyn FnMut(Question) -> Option<Answer>,
    ) -> Result<Done, EngineError> {
        self.life.await_until(Instant::now() + longest, true);
        self.tell(&Tell::Render(request), longest)?;
        loop {
            let question = match wire::read(&mut self.from) {
                Ok(Said::Read(path)) => Question::Read(path),
                Ok(Said::List(path)) => Question::List(path),
                Ok(Said::Source(asked)) => Question::Source(asked),
                Ok(Said::Done(done)) => return Ok(done),
                Ok(Said::Failed(complaint)) => return Err(complaint.into()),
                Ok(Said::Hello(_)) => return Err(EngineError::Protocol { reason: "it says hello again".to_owned() }),
                Err(unread) => return Err(self.explain(unread, longest)),
            };
            let Some(answer) = answer(question) else { return Err(EngineError::Stopped) };
            if let Err(error) = self.tell(&answer, longest) {
                return Err(self.last_complaint().unwrap_or(error));
            }
        }
    }

    /// One that gives up while it is told something has written why before it ended.
    fn last_complaint(&mut self) -> Option<EngineError> {
        loop {
            match wire::read(&mut self.from) {
                Ok(Said::Failed(complaint)) => return Some(complaint.into()),
                Ok(Said::Read(_) | Said::List(_)) => {}
                Ok(_) | Err(_) => return None,
            }
        }
    }

    fn tell(&mut self, message: &impl serde::Serialize, longest: Duration) -> Result<(), EngineError> {
        wire::write(&mut self.to, message).map_err(|_| self.explain(Unread::Ended, longest))
    }

    /// It may wait so long to be asked again.
    pub(super) fn rest(&self, longest: Duration) {
        self.life.await_until(Instant::now() + longest, false);
        self.life.changed.notify_all();
    }

    pub(super) fn has_ended(&self) -> bool {
        let state = self.life.lock();
        state.ended.is_some() || state.until.is_none_or(|until| until <= Instant::now())
    }

    fn explain(&self, unread: Unread, longest: Duration) -> EngineError {
        match unread {
            Unread::TooMuch => EngineError::TooMuch { max: wire::FRAME_BYTES_MAX },
            Unread::NotUnderstood(reason) => EngineError::Protocol { reason },
            Unread::Ended => {
                let (was_late, reason) = self.life.await_end();
                if was_late { EngineError::TooLong { longest } } else { EngineError::Died { reason } }
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.life.end();
    }
}

impl Life {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn await_until(&self, until: Instant, is_awaited: bool) {
        let mut state = self.lock();
        (state.until, state.is_awaited) = (Some(until), is_awaited);
    }

    fn end(&self) {
        self.lock().until = None;
        self.changed.notify_all();
    }

    /// Whoever does not read or write any more is ended too: its pipes are closed, and it may still compute.
    fn await_end(&self) -> (bool, String) {
        let mut state = self.lock();
        if !state.was_late {
            state.until = None;
            self.changed.notify_all();
        }
        while state.ended.is_none() {
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        (state.was_late, state.ended.clone().unwrap_or_default())
    }

    /// Until its time is up; nothing is left of it then.
    fn keep(&self, mut child: Child, errors: ChildStderr) {
        let (send, words) = mpsc::channel();
        let reader = thread::Builder::new().name("render engine's last words".to_owned());
        let reader = reader.spawn(move || last_words(errors, &send));
        let mut state = self.lock();
        while let Some(until) = state.until {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                // One that rested is another's to start anew, though it may have been asked at this moment.
                state.was_late = state.is_awaited;
                break;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        drop(state);
        // With all that it may have started, which would hold its pipes. Of what has ended by itself this changes nothing,
        // and how it did is still told.
        if let Some(group) = i32::try_from(child.id()).ok().map(Pid::from_raw) {
            let _ = killpg(group, Signal::SIGKILL);
        }
        let _ = child.kill();
        let status = child.wait().map_or_else(|error| error.to_string(), |status| status.to_string());
        drop(reader);
        let words = words.recv_timeout(LAST_WORDS_LONGEST).unwrap_or_default();
        let mut state = self.lock();
        state.ended = Some(if words.is_empty() { status } else { format!("{status}: {words}") });
        self.changed.notify_all();
    }
}

/// Reads all of it, so that nobody waits to write it, and keeps the first line.
fn last_words(mut errors: ChildStderr, send: &mpsc::Sender<String>) {
    let mut words = Vec::new();
    let _ = errors.by_ref().take(LAST_WORDS_BYTES_MAX).read_to_end(&mut words);
    let words = String::from_utf8_lossy(&words);
    let line = words.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let _ = send.send(line.chars().filter(|character| !character.is_control()).take(200).collect());
    let _ = std::io::copy(&mut errors, &mut std::io::sink());
}
