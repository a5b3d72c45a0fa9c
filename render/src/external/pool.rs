//! The engines that run: at most one per core, each for one project, none for longer than it is used.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::error::EngineError;
use super::process::Process;
use super::wire::{Answer, Done, Question, Request};

/// What the program is called.
const NAME: &str = "bellwether-render-engine";

/// An engine is started in a moment, and holds 40 MB.
const IDLE_LONGEST: Duration = Duration::from_secs(60);

/// An engine gives up by itself after a minute, and says so; this is for one that does not.
const RENDER_LONGEST: Duration = Duration::from_secs(75);

/// Whether an engine may be used that lacks a layer of what shuts it in, as on another operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Confinement {
    Required,
    /// For who renders files of their own, or chose to.
    AsThereIs,
}

/// Engines of one program. A clone is the same engines.
#[derive(Clone)]
pub struct Engines {
    shared: Arc<Shared>,
}

struct Shared {
    /// `None`: there is none.
    program: Option<PathBuf>,
    confinement: Confinement,
    most: usize,
    times: Times,
    running: Mutex<Running>,
    left: Condvar,
}

/// How long an engine may do what.
#[derive(Clone, Copy)]
pub(super) struct Times {
    pub(super) render: Duration,
    pub(super) idle: Duration,
}

#[derive(Default)]
struct Running {
    /// All that were started and have not ended.
    count: usize,
    /// By the project that they were last used for.
    idle: BTreeMap<String, Vec<Process>>,
}

impl Engines {
    /// Starts none yet. Without a path the program is looked for beside this one, then in PATH.
    pub fn new(program: Option<&Path>, confinement: Confinement) -> Self {
        let most = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let times = Times { render: RENDER_LONGEST, idle: IDLE_LONGEST };
        Self::with(program.map(Path::to_owned).or_else(find), confinement, most, times)
    }

    pub(super) fn with(program: Option<PathBuf>, confinement: Confinement, most: usize, times: Times) -> Self {
        let (running, left) = (Mutex::default(), Condvar::new());
        Self { shared: Arc::new(Shared { program, confinement, most, times, running, left }) }
    }

    /// Others, of the same program, that render for no longer.
    #[must_use]
    pub fn with_longest(&self, render: Duration) -> Self {
        let Shared { program, confinement, most, times, .. } = &*self.shared;
        Self::with(program.clone(), *confinement, *most, Times { render, ..*times })
    }

    /// The program that is started.
    pub fn program(&self) -> Option<&Path> {
        self.shared.program.as_deref()
    }

    /// Waits for an engine, and for what it makes. One that had rendered before may have died of that: once more with a new
    /// one.
    pub(crate) fn render(
        &self,
        project: &str,
        request: &Request,
        answer: &mut dyn FnMut(Question) -> Option<Answer>,
    ) -> Result<String, EngineError> {
        let (mut process, is_new) = self.take(project)?;
        let mut made = process.render(request, self.shared.times.render, answer);
        if matches!(made, Err(EngineError::Died { .. })) && !is_new {
            drop(process);
            process = match self.start() {
                Ok(process) => process,
                Err(error) => {
                    self.shared.forget();
                    return Err(error);
                }
            };
            made = process.render(request, self.shared.times.render, answer);
        }
        match &made {
            Ok(_) | Err(EngineError::Failed { .. }) => self.shared.give_back(project, process),
            Err(_) => {
                drop(process);
                self.shared.forget();
            }
        }
        made.map(|Done { documents }| documents)
    }

    /// One that is free and was this project's, or a new one, for which one of another project may have to end. Says whether
    /// it is new.
    fn take(&self, project: &str) -> Result<(Process, bool), EngineError> {
        let mut running = self.shared.lock();
        loop {
            running.sweep();
            if let Some(process) = running.idle.get_mut(project).and_then(Vec::pop) {
                return Ok((process, false));
            }
            if running.count >= self.shared.most {
                running.end_one();
            }
            if running.count < self.shared.most {
                running.count += 1;
                drop(running);
                return self.start().map(|process| (process, true)).inspect_err(|_| self.shared.forget());
            }
            running = self.shared.left.wait(running).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn start(&self) -> Result<Process, EngineError> {
        let program = self.shared.program.as_deref().ok_or(EngineError::Missing { name: NAME.to_owned() })?;
        let process = Process::start(program)?;
        if !process.missing.is_empty() && self.shared.confinement == Confinement::Required {
            return Err(EngineError::Unconfined { layers: process.missing.clone() });
        }
        Ok(process)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn give_back(&self, project: &str, process: Process) {
        process.rest(self.times.idle);
        self.lock().idle.entry(project.to_owned()).or_default().push(process);
        self.left.notify_one();
    }

    /// One that was counted is no more.
    fn forget(&self) {
        self.lock().count -= 1;
        self.left.notify_one();
    }
}

impl Running {
    /// Those that rested for too long have ended.
    fn sweep(&mut self) {
        for processes in self.idle.values_mut() {
            let before = processes.len();
            processes.retain(|process| !process.has_ended());
            self.count -= before - processes.len();
        }
        self.idle.retain(|_, processes| !processes.is_empty());
    }

    /// A project's values are in the memory of what rendered them.
    fn end_one(&mut self) {
        if let Some(processes) = self.idle.values_mut().find(|processes| !processes.is_empty()) {
            processes.pop();
            self.count -= 1;
        }
    }
}

/// Beside the program that runs, or where programs are.
fn find() -> Option<PathBuf> {
    let own = std::env::current_exe().ok().and_then(|own| own.parent().map(Path::to_owned));
    let path = std::env::var_os("PATH").unwrap_or_default();
    // An empty or relative part of PATH would mean wherever this was started.
    let folders = own.into_iter().chain(std::env::split_paths(&path)).filter(|folder| folder.is_absolute());
    folders.map(|folder| folder.join(NAME)).find(|program| program.is_file())
}
