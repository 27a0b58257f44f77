//! Producers: numbers batches, appends them once, and answers in order.
//!
//! What a producer is told about a batch depends only on its numbers (`sequences.rs`) and on what is confirmed; what
//! is confirmed is a fold over the log (`table.rs`), so that a new owner comes to the same answers. A batch is refused
//! before it is appended or never.

mod publish;
mod sequences;
mod table;

use std::collections::{BTreeMap, VecDeque};

use types::{Epoch, Offset, Problem, ProducerEpoch, ProducerName, SequenceId, WallTime};

pub(crate) use sequences::{Recent, Sequences};
pub(crate) use table::{Named, ProducerTable};

use crate::{
    Config, Effect, OffsetRange, OpenProducer, ProducerIdentity, ProducerLimits, ProducerReady,
    ProducerStats, StreamId, Token, problems,
};

/// All producers of a shard, and the end of its message log.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Producers {
    epoch: Epoch,
    table: ProducerTable,
    streams: BTreeMap<StreamId, Stream>,
    /// Appended and not confirmed, in the order of the log.
    in_flight: VecDeque<InFlight>,
    in_flight_bytes: u64,
    next_token: u64,
    /// The first offset not given out.
    next_offset: Offset,
    /// The first offset not confirmed.
    confirmed_end: Offset,
    /// Bytes of the batches of the log, with those in flight.
    log_bytes: u64,
    next_unnamed: u64,
    hold: Option<Box<Problem>>,
    /// Bytes confirmed since the last snapshot.
    unsnapped_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Stream {
    who: Who,
    phase: Phase,
    /// Batches without a receipt, in the order they came.
    slots: VecDeque<Slot>,
    /// What of them is in flight.
    batches: u32,
    messages: u64,
    bytes: u64,
    /// The client is done: end the stream after the last receipt.
    is_finishing: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Who {
    Named(ProducerName),
    Unnamed { id: u64, sequences: Sequences },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Phase {
    /// Waits for its epoch to be durable, and for what older streams of the name have in flight.
    Opening {
        is_durable: bool,
    },
    Ready,
    /// A unary publish: gone with its receipt.
    Once,
}

/// A batch without a receipt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Slot {
    first: SequenceId,
    count: u32,
    wait: Wait,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Wait {
    /// Appended by this stream.
    New,
    /// Appended before.
    Repeat,
    /// Refused; waits only for its turn.
    Refused(Problem),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct InFlight {
    token: Token,
    stream: StreamId,
    name: Option<ProducerName>,
    first: SequenceId,
    count: u32,
    first_offset: Offset,
    bytes: u64,
    publish_time: WallTime,
    /// Bytes of the batches of the log up to this one.
    log_bytes: u64,
}

/// What the opening of a named stream needs to be durable.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct ProducerOpened {
    pub(crate) name: ProducerName,
    pub(crate) epoch: ProducerEpoch,
    pub(crate) since: ProducerEpoch,
    pub(crate) used: Offset,
}

impl Producers {
    pub(crate) fn new(epoch: Epoch, table: ProducerTable, next_offset: Offset) -> Self {
        Self {
            epoch,
            log_bytes: table.log_bytes,
            table,
            streams: BTreeMap::new(),
            in_flight: VecDeque::new(),
            in_flight_bytes: 0,
            next_token: 0,
            next_offset,
            confirmed_end: next_offset,
            next_unnamed: 0,
            hold: None,
            unsnapped_bytes: 0,
        }
    }

    pub(crate) const fn confirmed_end(&self) -> Offset {
        self.confirmed_end
    }

    pub(crate) const fn unconfirmed(&self) -> OffsetRange {
        OffsetRange::new(self.confirmed_end, self.next_offset)
    }

    /// What is confirmed, for a snapshot.
    pub(crate) const fn table(&self) -> &ProducerTable {
        &self.table
    }

    /// Whether a snapshot would save the next owner many headers.
    pub(crate) const fn wants_snapshot(&self, config: &Config) -> bool {
        self.unsnapped_bytes >= config.snapshot_every.get()
    }

    /// A snapshot was written.
    pub(crate) const fn snapped(&mut self) {
        self.unsnapped_bytes = 0;
    }

    pub(crate) fn hold(&mut self, problem: Option<Problem>) {
        self.hold = problem.map(Box::new);
    }

    pub(crate) fn has_stream(&self, stream: StreamId) -> bool {
        self.streams.contains_key(&stream)
    }

    /// Forgets all streams.
    pub(crate) fn take_streams(&mut self) -> impl Iterator<Item = StreamId> {
        std::mem::take(&mut self.streams).into_keys()
    }

    pub(crate) fn stats(&self) -> ProducerStats {
        ProducerStats {
            streams: self.streams.len(),
            names: self.table.names.len(),
            in_flight_batches: self.in_flight.len(),
            in_flight_bytes: self.in_flight_bytes,
        }
    }

    /// Begins a stream, of an owner that is certain to be it or not. Returns what must be durable before it is ready, for a
    /// producer with a name.
    pub(crate) fn open(
        &mut self,
        config: &Config,
        open: OpenProducer,
        is_certain: bool,
        effects: &mut Vec<Effect>,
    ) -> Option<ProducerOpened> {
        let stream = open.stream;
        let refusal = self.why_not_open(config, &open, is_certain);
        if let Some(problem) = refusal {
            effects.push(Effect::EndStream { stream, problem });
            return None;
        }
        let Some(name) = open.name else {
            let who = self.take_unnamed();
            self.streams.insert(stream, Stream::new(who, Phase::Ready));
            self.tell_ready(config, stream, effects);
            return None;
        };
        let epoch = self.table.take_epoch();
        let used = self.next_offset;
        let named = self.table.names.entry(name.clone());
        let named = named.or_insert_with(|| Named::new(epoch, used));
        named.epoch = epoch;
        named.used = used;
        let since = named.since;
        // The older stream hears it at once; what it has in flight is stored all the same, and the new one waits for it.
        if let Some(older) = named.stream.replace(stream) {
            self.streams.remove(&older);
            let problem = problems::fenced(&name, epoch);
            effects.push(Effect::EndStream {
                stream: older,
                problem,
            });
        }
        let phase = Phase::Opening { is_durable: false };
        let who = Who::Named(name.clone());
        self.streams.insert(stream, Stream::new(who, phase));
        Some(ProducerOpened {
            name,
            epoch,
            since,
            used,
        })
    }

    fn why_not_open(
        &mut self,
        config: &Config,
        open: &OpenProducer,
        is_certain: bool,
    ) -> Option<Problem> {
        assert!(
            !self.streams.contains_key(&open.stream),
            "stream numbers are never reused"
        );
        if self.streams.len() >= config.producers_max {
            return Some(problems::limit("producers_max", config.producers_max));
        }
        let known = open
            .name
            .as_ref()
            .is_some_and(|name| self.table.names.contains_key(name));
        if open.resume && !known {
            // A newer owner may know the name: only who is certain to be the owner may say that there is none.
            return Some(if open.name.is_some() && !is_certain {
                problems::uncertain().retry_after(config.read_retry)
            } else {
                problems::producer_unknown(open.name.as_ref())
            });
        }
        if open.name.is_some() && !known && !self.table.make_room(config.producer_names_max) {
            let max = config.producer_names_max;
            return Some(problems::limit("producer_names_max", max));
        }
        None
    }

    fn take_unnamed(&mut self) -> Who {
        let id = self.next_unnamed;
        self.next_unnamed += 1;
        Who::Unnamed {
            id,
            sequences: Sequences::default(),
        }
    }

    /// The opening of a stream is durable.
    pub(crate) fn opened(&mut self, config: &Config, stream: StreamId, effects: &mut Vec<Effect>) {
        let Some(state) = self.streams.get_mut(&stream) else {
            return; // It was closed, or a newer stream has the name.
        };
        state.phase = Phase::Opening { is_durable: true };
        self.tell_ready_if(config, stream, effects);
    }

    /// Tells a stream that it is ready once nothing of its name is in flight: only then its last number is known.
    fn tell_ready_if(&mut self, config: &Config, stream: StreamId, effects: &mut Vec<Effect>) {
        let Some(state) = self.streams.get(&stream) else {
            return;
        };
        let is_settled = self.sequences(&state.who).is_settled();
        if state.phase == (Phase::Opening { is_durable: true }) && is_settled {
            self.tell_ready(config, stream, effects);
        }
    }

    fn tell_ready(&mut self, config: &Config, stream: StreamId, effects: &mut Vec<Effect>) {
        let state = self.streams.get_mut(&stream).expect("the caller has it");
        state.phase = Phase::Ready;
        let who = &self.streams[&stream].who;
        let ready = ProducerReady {
            identity: self.identity(who),
            last_sequence: self.sequences(who).last(),
            limits: ProducerLimits {
                batches: config.producer_batches_max,
                messages: config.producer_messages_max,
                bytes: config.producer_bytes_max.get(),
            },
        };
        effects.push(Effect::ProducerReady { stream, ready });
        self.settle(stream, effects);
    }

    fn identity(&self, who: &Who) -> ProducerIdentity {
        match who {
            Who::Named(name) => ProducerIdentity::Named {
                name: name.clone(),
                epoch: self.table.names[name].epoch,
            },
            Who::Unnamed { id, .. } => ProducerIdentity::Unnamed { id: *id },
        }
    }

    fn sequences<'a>(&'a self, who: &'a Who) -> &'a Sequences {
        match who {
            Who::Named(name) => &self.table.names[name].sequences,
            Who::Unnamed { sequences, .. } => sequences,
        }
    }

    /// A stream broke.
    pub(crate) fn close(&mut self, stream: StreamId) {
        let Some(state) = self.streams.remove(&stream) else {
            return;
        };
        if let Who::Named(name) = state.who
            && let Some(named) = self.table.names.get_mut(&name)
        {
            named.stream = None;
        }
    }

    /// The client of a stream is done.
    pub(crate) fn finish(&mut self, stream: StreamId, effects: &mut Vec<Effect>) {
        if let Some(state) = self.streams.get_mut(&stream) {
            state.is_finishing = true;
            self.settle(stream, effects);
        }
    }
}

impl Stream {
    const fn new(who: Who, phase: Phase) -> Self {
        Self {
            who,
            phase,
            slots: VecDeque::new(),
            batches: 0,
            messages: 0,
            bytes: 0,
            is_finishing: false,
        }
    }
}
