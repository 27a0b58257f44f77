//! What happens in a run, in order: the nodes' log lines, the faults, every byte on the wire. It is kept as a digest that
//! two runs of a seed must share, and as lines for people who ask for them.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write as _};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span::Attributes;
use tracing::{Event, Id, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Lines that are kept for the report of a failure.
const RECENT: usize = 40;
/// Most characters of a line.
const LINE_MAX: usize = 600;

/// What of a run is kept as lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Detail {
    /// Only the last few log lines, for the report of a failure.
    #[default]
    Recent,
    /// Every log line and fault.
    Logs,
    /// Also every read and write of a connection.
    Network,
}

/// The trace of one run. Clones are the same trace.
#[derive(Clone, Default)]
pub struct Trace {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    detail: Detail,
    digest: Digest,
    /// Log lines, faults, reads and writes so far.
    events: u64,
    lines: Vec<String>,
    recent: VecDeque<String>,
    /// How often each message was logged.
    said: BTreeMap<String, u64>,
}

/// What a run leaves of its trace.
#[derive(Debug, Clone, Default)]
pub struct Traced {
    /// Log lines, faults, reads and writes.
    pub events: u64,
    /// The digest of all of them and of the history.
    pub digest: u64,
    /// The lines that were asked for.
    pub lines: Vec<String>,
    /// The last log lines and faults.
    pub recent: Vec<String>,
    /// How often each message was logged.
    pub said: BTreeMap<String, u64>,
}

impl Trace {
    /// An empty trace.
    pub fn new(detail: Detail) -> Self {
        let inner = Inner {
            detail,
            ..Inner::default()
        };
        Self {
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing that may panic runs under the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line.
    pub fn line(&self, at: Duration, text: &str) {
        let mut inner = self.lock();
        let line = stamped(at, text);
        inner.digest.add(line.as_bytes());
        inner.events += 1;
        if inner.detail >= Detail::Logs {
            inner.lines.push(line.clone());
        }
        if inner.recent.len() >= RECENT {
            inner.recent.pop_front();
        }
        inner.recent.push_back(line);
    }

    /// Adds what went through a connection.
    pub(super) fn bytes(&self, verb: &str, ends: &str, bytes: &[u8]) {
        let at = turmoil::sim_elapsed().unwrap_or_default();
        let mut inner = self.lock();
        inner.events += 1;
        inner.digest.add(&at.as_nanos().to_le_bytes());
        inner.digest.add(ends.as_bytes());
        inner.digest.add(verb.as_bytes());
        inner.digest.add(bytes);
        if inner.detail >= Detail::Network {
            let mut digest = Digest::default();
            digest.add(bytes);
            let text = format!(
                "{ends} {verb} {} bytes {:016x}",
                bytes.len(),
                digest.value()
            );
            inner.lines.push(stamped(at, &text));
        }
    }

    /// Ends the trace, with what else of the run is to be the same.
    pub(super) fn finish(&self, history: &[u8]) -> Traced {
        let mut inner = self.lock();
        inner.digest.add(history);
        let inner = std::mem::take(&mut *inner);
        Traced {
            events: inner.events,
            digest: inner.digest.value(),
            lines: inner.lines,
            recent: inner.recent.into(),
            said: inner.said,
        }
    }
}

impl fmt::Debug for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Trace").finish_non_exhaustive()
    }
}

fn stamped(at: Duration, text: &str) -> String {
    let mut line = format!("{:>4}.{:06} {text}", at.as_secs(), at.subsec_micros());
    if let Some((cut, _)) = line.char_indices().nth(LINE_MAX) {
        line.truncate(cut);
    }
    line
}

/// A digest of everything that was added, in order.
#[derive(Debug, Clone, Copy, Default)]
struct Digest(u64);

impl Digest {
    fn add(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.word(u64::from_le_bytes(word));
        }
        self.word(bytes.len() as u64);
    }

    fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ word)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .rotate_left(29);
    }

    const fn value(self) -> u64 {
        self.0
    }
}

/// Writes what the nodes log into the trace, with the simulated time and the machine.
#[derive(Debug)]
pub(super) struct Logs(pub(super) Trace);

/// The machine that turmoil's span names.
struct Machine(String);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Logs {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        if attributes.metadata().name() != "node" {
            return;
        }
        let mut words = Words::default();
        attributes.record(&mut words);
        if let (Some(span), Some(name)) = (context.span(id), words.name) {
            span.extensions_mut().insert(Machine(name));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        if event.metadata().target().starts_with("turmoil") {
            return;
        }
        let scope = context.event_scope(event).into_iter().flatten();
        let machine = scope
            .filter_map(|span| Some(span.extensions().get::<Machine>()?.0.clone()))
            .last()
            .unwrap_or_default();
        let mut words = Words::default();
        event.record(&mut words);
        let level = event.metadata().level();
        let text = format!("{machine:<9} {level:<5} {}{}", words.message, words.rest);
        let at = turmoil::sim_elapsed().unwrap_or_default();
        self.0.line(at, &text);
        *self.0.lock().said.entry(words.message).or_default() += 1;
    }
}

/// The fields of an event.
#[derive(Default)]
struct Words {
    message: String,
    name: Option<String>,
    rest: String,
}

impl Visit for Words {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "name" {
            self.name = Some(value.to_owned());
        }
        self.record_debug(field, &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        // Writing to a text cannot fail.
        let _ = if field.name() == "message" {
            write!(self.message, "{value:?}")
        } else {
            write!(self.rest, " {}={value:?}", field.name())
        };
    }
}
