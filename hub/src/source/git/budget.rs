//! How long and how much one fetch may take. Everything that waits or grows asks here.

use std::cell::Cell;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::error::FetchError;

/// How often a stop is checked for while a server is silent.
pub(super) const TICK: Duration = Duration::from_millis(50);

/// The refs of a big repo fill a few MiB; more is an attack or a mistake.
pub(super) const LISTING_BYTES_MAX: u64 = 16 << 20;

/// Text becomes a fifth or less when it is compressed.
const INFLATED_BY: u64 = 8;

/// The bounds of a fetch; the defaults suit a repo of manifests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FetchBounds {
    /// A server may be silent for so long.
    pub(crate) stall: Duration,
    /// Of the whole fetch, however steadily it trickles: a fetch holds one of few slots.
    pub(crate) deadline: Duration,
    /// As it travels, compressed.
    pub(crate) pack_bytes_max: u64,
}

impl Default for FetchBounds {
    fn default() -> Self {
        Self { stall: Duration::from_secs(30), deadline: Duration::from_mins(15), pack_bytes_max: 1 << 30 }
    }
}

/// What is left of the bounds while a fetch runs.
#[derive(Debug)]
pub(in crate::source) struct Budget<'a> {
    bounds: FetchBounds,
    ends: Cell<Instant>,
    /// When something last came, or was last asked for.
    moved_at: Cell<Instant>,
    stop: &'a AtomicBool,
    pack_bytes_max: Cell<u64>,
    /// Of the answer that is being read now.
    bytes_max: Cell<u64>,
    bytes_left: Cell<u64>,
}

impl<'a> Budget<'a> {
    /// After how long a server's silence is the end.
    pub(super) const fn stall(&self) -> Duration {
        self.bounds.stall
    }

    pub(in crate::source) fn new(bounds: FetchBounds, stop: &'a AtomicBool) -> Self {
        Self {
            bounds,
            ends: Cell::new(Instant::now() + bounds.deadline),
            pack_bytes_max: Cell::new(bounds.pack_bytes_max),
            moved_at: Cell::new(Instant::now()),
            stop,
            bytes_max: Cell::new(LISTING_BYTES_MAX),
            bytes_left: Cell::new(LISTING_BYTES_MAX),
        }
    }

    pub(super) fn allow_listing(&self) {
        self.allow(LISTING_BYTES_MAX);
    }

    pub(super) fn allow_pack(&self) {
        self.allow(self.pack_bytes_max.get());
    }

    /// Of all objects of a pack.
    pub(super) fn inflated_bytes_max(&self) -> u64 {
        self.pack_bytes_max.get().saturating_mul(INFLATED_BY)
    }

    /// For `work`, which the fetch can do without, narrower bounds.
    pub(super) fn narrowed<T>(&self, deadline: Duration, pack_bytes_max: u64, work: impl FnOnce() -> T) -> T {
        let (ends, bytes_max) = (self.ends.get(), self.pack_bytes_max.get());
        self.ends.set(ends.min(Instant::now() + deadline));
        self.pack_bytes_max.set(bytes_max.min(pack_bytes_max));
        let done = work();
        self.ends.set(ends);
        self.pack_bytes_max.set(bytes_max);
        done
    }

    fn begin_wait(&self) {
        self.moved_at.set(Instant::now());
    }

    pub(in crate::source) fn allow(&self, bytes_max: u64) {
        self.bytes_max.set(bytes_max);
        self.bytes_left.set(bytes_max);
    }

    pub(in crate::source) fn charge(&self, bytes: usize) -> Result<(), FetchError> {
        match self.bytes_left.get().checked_sub(bytes as u64) {
            Some(left) => {
                self.bytes_left.set(left);
                Ok(())
            }
            None => {
                let max = self.bytes_max.get();
                Err(FetchError::TooLarge { what: format!("an answer has more than {max} bytes"), max })
            }
        }
    }

    pub(in crate::source) fn check(&self) -> Result<(), FetchError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(FetchError::Stopped);
        }
        if Instant::now() >= self.ends.get() {
            return Err(FetchError::Deadline { deadline: self.bounds.deadline });
        }
        Ok(())
    }

    /// The same while a server is waited for.
    fn check_wait(&self) -> Result<(), FetchError> {
        self.check()?;
        if self.moved_at.get().elapsed() >= self.bounds.stall {
            return Err(FetchError::Stalled { stall: self.bounds.stall });
        }
        Ok(())
    }

    /// Waits for a server. Its silence counts from now on.
    pub(in crate::source) fn wait<T>(&self, runtime: &Handle, work: impl Future<Output = T>) -> Result<T, FetchError> {
        let mut work = pin!(work);
        self.begin_wait();
        runtime.block_on(async {
            loop {
                self.check_wait()?;
                let tick = TICK.min(self.time_left());
                if let Ok(done) = tokio::time::timeout(tick, work.as_mut()).await {
                    return Ok(done);
                }
            }
        })
    }

    fn time_left(&self) -> Duration {
        let stalled = self.moved_at.get() + self.bounds.stall;
        self.ends.get().min(stalled).saturating_duration_since(Instant::now())
    }

    /// Runs `work` with a flag that rises when the time is over or the caller stops: for code that computes for long
    /// and looks at such a flag.
    pub(super) fn watch<T>(&self, work: impl FnOnce(&AtomicBool) -> T) -> T {
        /// Short against a stop's patience, long against a core's.
        const POLL_EVERY: Duration = Duration::from_millis(20);
        let (raised, done) = (AtomicBool::new(false), AtomicBool::new(false));
        let (stop, ends) = (self.stop, self.ends.get());
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| {
                while !done.load(Ordering::Acquire) {
                    if stop.load(Ordering::Relaxed) || Instant::now() >= ends {
                        raised.store(true, Ordering::Relaxed);
                        return;
                    }
                    std::thread::park_timeout(POLL_EVERY);
                }
            });
            let result = work(&raised);
            done.store(true, Ordering::Release);
            watcher.thread().unpark();
            result
        })
    }
}
