//! Writes histories: one handle, shared by all threads of a run.
#![expect(
    clippy::disallowed_methods,
    reason = "a run's history is written by the test program itself, on the real clock and the real disk"
)]

use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use super::format::{Event, Guarantees, VERSION};

/// The environment variable that names the file a run writes its history to.
pub(crate) const HISTORY_ENV: &str = "LEDGERLINE_HISTORY";

/// Bytes gathered before the file is written.
const BUFFER_BYTES: usize = 1 << 20;

/// Where a run writes its history. Cheap to clone; all clones write the same history, in the order of the calls.
///
/// A line is put into words outside the lock, so that many threads disturb each other only while bytes are copied. An
/// error of the disk is kept and returned by [`HistoryWriter::finish`]: a run is not stopped by its witness.
#[derive(Clone)]
pub struct HistoryWriter {
    shared: Arc<Shared>,
}

struct Shared {
    clock: Box<dyn Fn() -> u64 + Send + Sync>,
    sink: Mutex<Sink>,
}

struct Sink {
    out: Output,
    failure: Option<io::Error>,
}

enum Output {
    File(BufWriter<File>),
    Memory(Vec<u8>),
}

impl HistoryWriter {
    /// Writes to the file at `path`, replacing what was there.
    ///
    /// # Errors
    ///
    /// Those of creating the file.
    pub fn create(path: &Path, promises: Guarantees) -> io::Result<Self> {
        let file = BufWriter::with_capacity(BUFFER_BYTES, File::create(path)?);
        Ok(Self::start(Output::File(file), promises, real_clock()))
    }

    /// Gathers the history in memory; [`HistoryWriter::finish`] returns it.
    pub fn in_memory(promises: Guarantees) -> Self {
        Self::start(Output::Memory(Vec::new()), promises, real_clock())
    }

    /// Gathers the history of a simulated run in memory: its times are those of `clock`, in nanoseconds.
    pub fn simulated(
        promises: Guarantees,
        clock: impl Fn() -> u64 + Send + Sync + 'static,
    ) -> Self {
        Self::start(Output::Memory(Vec::new()), promises, Box::new(clock))
    }

    /// Writes to the file that `LEDGERLINE_HISTORY` names, or in memory when it names none.
    ///
    /// # Errors
    ///
    /// Those of creating the file.
    pub fn from_env(promises: Guarantees) -> io::Result<Self> {
        match std::env::var(HISTORY_ENV) {
            Ok(path) if !path.is_empty() => Self::create(Path::new(&path), promises),
            _ => Ok(Self::in_memory(promises)),
        }
    }

    fn start(out: Output, promises: Guarantees, clock: Box<dyn Fn() -> u64 + Send + Sync>) -> Self {
        let sink = Sink { out, failure: None };
        let writer = Self {
            shared: Arc::new(Shared {
                clock,
                sink: Mutex::new(sink),
            }),
        };
        writer.record(&Event::Meta {
            v: VERSION,
            g: promises,
        });
        writer
    }

    /// The `t` of what happens now: nanoseconds since this history began, or those of a simulated run's clock.
    pub fn now(&self) -> u64 {
        (self.shared.clock)()
    }

    /// Writes one event. Call it before an invocation and after an answer.
    #[expect(
        clippy::missing_panics_doc,
        reason = "plain values have a JSON form, so there is no panic to describe"
    )]
    pub fn record(&self, event: &Event<'_>) {
        let mut line = Vec::with_capacity(160);
        serde_json::to_writer(&mut line, event).expect("an event of plain values has a JSON form");
        line.push(b'\n');
        let mut sink = self.lock();
        let written = match &mut sink.out {
            Output::File(file) => file.write_all(&line),
            Output::Memory(bytes) => bytes.write_all(&line),
        };
        if let Err(error) = written {
            sink.failure.get_or_insert(error);
        }
    }

    /// Hands what was gathered to the operating system, so that it outlives this process.
    ///
    /// # Errors
    ///
    /// The first error since the history began.
    pub fn flush(&self) -> io::Result<()> {
        let mut sink = self.lock();
        if let Some(failure) = sink.failure.take() {
            return Err(failure);
        }
        match &mut sink.out {
            Output::File(file) => file.flush(),
            Output::Memory(_) => Ok(()),
        }
    }

    /// Ends the history. Returns its bytes when it was gathered in memory, nothing when it is in a file.
    ///
    /// Call it once, when every thread has stopped writing: what comes after the end is not part of the history.
    ///
    /// # Errors
    ///
    /// The first error since the history began: the file is not whole.
    pub fn finish(&self) -> io::Result<Vec<u8>> {
        self.record(&Event::End);
        self.flush()?;
        let mut sink = self.lock();
        Ok(match &mut sink.out {
            Output::File(_) => Vec::new(),
            Output::Memory(bytes) => std::mem::take(bytes),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Sink> {
        // A thread that panicked in here left whole lines or a cut last one; both are allowed.
        self.shared
            .sink
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nanoseconds since now.
fn real_clock() -> Box<dyn Fn() -> u64 + Send + Sync> {
    let begun = Instant::now();
    Box::new(move || u64::try_from(begun.elapsed().as_nanos()).unwrap_or(u64::MAX))
}

impl fmt::Debug for HistoryWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HistoryWriter").finish_non_exhaustive()
    }
}
