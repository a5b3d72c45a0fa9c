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

/// What no project is called: an engine that is only asked who it is renders for none.
const NOBODYS: &str = "";

/// An engine is started in a moment, and holds 40 MB.
const IDLE_LONGEST: Duration = Duration::from_mins(1);

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
    /// Of the program, as the engine that was started last said.
    versions: Mutex<Option<Arc<str>>>,
}

/// What an engine made, and which one.
pub(crate) struct Made {
    pub(crate) done: Done,
    pub(crate) versions: Arc<str>,
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
        let (running, left, versions) = (Mutex::default(), Condvar::new(), Mutex::default());
        Self { shared: Arc::new(Shared { program, confinement, most, times, running, left, versions }) }
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
    ) -> Result<Made, EngineError> {
        let (turn, idle) = self.take(project);
        let is_new = idle.is_none();
        let mut process = idle.map_or_else(|| self.start(), Ok)?;
        let mut made = process.render(request, self.shared.times.render, answer);
        if matches!(made, Err(EngineError::Died { .. })) && !is_new {
            process = self.start()?;
            made = process.render(request, self.shared.times.render, answer);
        }
        let versions = process.versions.clone();
        if matches!(made, Ok(_) | Err(EngineError::Failed { .. })) {
            turn.give_back(project, process);
        }
        made.map(|done| Made { done, versions })
    }

    /// Of the engine, of Helm and of Kustomize. Starts an engine if none has said it yet.
    pub fn versions(&self) -> Result<Arc<str>, EngineError> {
        if let Some(known) = self.shared.versions().clone() {
            return Ok(known);
        }
        let (_turn, idle) = self.take(NOBODYS);
        let process = idle.map_or_else(|| self.start(), Ok)?;
        Ok(process.versions.clone())
    }

    /// Waits for the right to run an engine, and takes one that was this project's and is free. For a new one, one of another
    /// project may have to end.
    fn take(&self, project: &str) -> (Turn, Option<Process>) {
        let mut running = self.shared.lock();
        loop {
            running.sweep();
            let idle = running.idle.get_mut(project).and_then(Vec::pop);
            if idle.is_none() && running.count >= self.shared.most {
                running.end_one();
            }
            if idle.is_some() || running.count < self.shared.most {
                running.count += usize::from(idle.is_none());
                return (Turn { shared: Some(self.shared.clone()) }, idle);
            }
            running = self.shared.left.wait(running).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn start(&self) -> Result<Process, EngineError> {
        let program = self.shared.program.as_deref().ok_or(EngineError::Missing { name: NAME.to_owned() })?;
        let process = Process::start(program)?;
        *self.shared.versions() = Some(process.versions.clone());
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

    fn versions(&self) -> MutexGuard<'_, Option<Arc<str>>> {
        self.versions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to run one engine, which ends however a render ends.
struct Turn {
    /// `None`: the engine waits for its project's next render.
    shared: Option<Arc<Shared>>,
}

impl Turn {
    fn give_back(mut self, project: &str, process: Process) {
        if let Some(shared) = self.shared.take() {
            process.rest(shared.times.idle);
            shared.lock().idle.entry(project.to_owned()).or_default().push(process);
            shared.left.notify_one();
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.lock().count -= 1;
            shared.left.notify_one();
        }
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
