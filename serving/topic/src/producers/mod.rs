//! Producers: numbers batches, appends them once, and answers in order.
//!
//! What a producer is told about a batch depends only on its numbers (`sequences.rs`) and on what is confirmed; what
//! is confirmed is a fold over the log (`table.rs`), so that a new owner comes to the same answers. A batch is refused
//! before it is appended or never.

mod sequences;
mod table;

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use types::chain::LogKind;
use types::{
    Epoch, Offset, Payload, Problem, ProducerEpoch, ProducerName, Reason, SequenceId, WallTime,
};

pub(crate) use sequences::{Recent, Sequences};
pub(crate) use table::{Named, ProducerTable};

use crate::{
    Append, Config, Effect, EntryHeader, OpenProducer, Position, ProducerIdentity, ProducerLimits,
    ProducerReady, ProducerStats, Publish, Receipt, Stored, StreamId, Token, problems,
};
use sequences::Verdict;

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
    next_unnamed: u64,
    hold: Option<Problem>,
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
        self.hold = problem;
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

    /// Begins a stream. Returns what must be durable before it is ready, for a producer with a name.
    pub(crate) fn open(
        &mut self,
        config: &Config,
        open: OpenProducer,
        effects: &mut Vec<Effect>,
    ) -> Option<ProducerOpened> {
        let stream = open.stream;
        let refusal = self.why_not_open(config, &open);
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

    fn why_not_open(&mut self, config: &Config, open: &OpenProducer) -> Option<Problem> {
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
            return Some(problems::producer_unknown(open.name.as_ref()));
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

    /// A unary publish: a stream of one batch.
    pub(crate) fn publish_once(
        &mut self,
        config: &Config,
        wall: WallTime,
        publish: Publish,
        effects: &mut Vec<Effect>,
    ) {
        let stream = publish.stream;
        if self.streams.len() >= config.producers_max {
            let problem = problems::limit("producers_max", config.producers_max);
            let receipt = refused(&publish, problem);
            effects.push(Effect::Receipt { stream, receipt });
            return;
        }
        let who = self.take_unnamed();
        self.streams.insert(stream, Stream::new(who, Phase::Once));
        self.publish(config, wall, publish, effects);
    }

    /// Takes a batch: appends it, waits for it, or refuses it.
    pub(crate) fn publish(
        &mut self,
        config: &Config,
        wall: WallTime,
        publish: Publish,
        effects: &mut Vec<Effect>,
    ) {
        let stream = publish.stream;
        let Some(state) = self.streams.get(&stream) else {
            return; // The stream has ended; its client knows.
        };
        if state.slots.len() >= config.receipts_max {
            // Repeats and refusals would otherwise gather without end behind a batch that waits for its bookies.
            self.close(stream);
            let problem = problems::limit("receipts_max", config.receipts_max);
            effects.push(Effect::EndStream { stream, problem });
            return;
        }
        let wait = match self.admit(config, state, &publish) {
            Ok(Verdict::New) => Wait::New,
            Ok(Verdict::Repeat) => Wait::Repeat,
            Ok(Verdict::OutOfOrder { expected }) => Wait::Refused(problems::out_of_order(expected)),
            Err(problem) => Wait::Refused(problem),
        };
        let slot = Slot {
            first: publish.first_sequence,
            count: publish.count,
            wait,
        };
        if slot.wait == Wait::New {
            self.append(wall, stream, &slot, publish.body, effects);
        }
        let state = self.streams.get_mut(&stream).expect("it was there above");
        state.slots.push_back(slot);
        self.settle(stream, effects);
    }

    /// Judges a batch by its numbers, and a new one by what is in flight. Nothing has happened yet when it refuses.
    fn admit(
        &self,
        config: &Config,
        state: &Stream,
        publish: &Publish,
    ) -> Result<Verdict, Problem> {
        if matches!(state.phase, Phase::Opening { .. }) {
            return Err(problems::before_ready());
        }
        if state.is_finishing {
            return Err(problems::after_close());
        }
        if publish.count == 0 {
            return Err(Problem::new(
                Reason::MalformedBatch,
                "a batch has at least one message",
            ));
        }
        let count = u64::from(publish.count);
        let Some(end) = publish.first_sequence.checked_plus(count) else {
            let text = "the numbers of the batch do not fit 64 bits";
            return Err(Problem::bad_field("first_sequence_id", text));
        };
        let verdict = self
            .sequences(&state.who)
            .judge(publish.first_sequence, end.get());
        if verdict == Verdict::New {
            if let Some(problem) = &self.hold {
                return Err(problem.clone());
            }
            let bytes = body_len(&publish.body);
            self.check_limits(config, state, count, bytes)?;
        }
        Ok(verdict)
    }

    /// One batch is always allowed, so that no limit ever stops a producer for good.
    fn check_limits(
        &self,
        config: &Config,
        state: &Stream,
        count: u64,
        bytes: u64,
    ) -> Result<(), Problem> {
        let wait = config.overload_wait;
        let messages_max = config.producer_messages_max;
        let bytes_max = config.producer_bytes_max.get();
        let total_max = config.in_flight_bytes_max.get();
        if state.batches >= config.producer_batches_max {
            let max = u64::from(config.producer_batches_max);
            return Err(problems::overloaded("producer_batches_max", max, wait));
        }
        if state.batches > 0 && state.messages + count > messages_max {
            return Err(problems::overloaded(
                "producer_messages_max",
                messages_max,
                wait,
            ));
        }
        if state.batches > 0 && state.bytes + bytes > bytes_max {
            return Err(problems::overloaded("producer_bytes_max", bytes_max, wait));
        }
        if self.in_flight_bytes > 0 && self.in_flight_bytes + bytes > total_max {
            return Err(problems::overloaded("in_flight_bytes_max", total_max, wait));
        }
        Ok(())
    }

    /// From here on the batch is stored in the end, or the stream ends without an outcome.
    fn append(
        &mut self,
        wall: WallTime,
        stream: StreamId,
        slot: &Slot,
        body: Bytes,
        effects: &mut Vec<Effect>,
    ) {
        let state = self.streams.get_mut(&stream).expect("the caller has it");
        let bytes = body_len(&body);
        state.batches += 1;
        state.messages += u64::from(slot.count);
        state.bytes += bytes;
        let (producer, name) = match &mut state.who {
            Who::Named(name) => {
                let named = self.table.names.get_mut(name);
                let named = named.expect("a name with a stream is not forgotten");
                named.sequences.append(slot.count);
                let epoch = named.epoch;
                let name = name.clone();
                (
                    ProducerIdentity::Named {
                        name: name.clone(),
                        epoch,
                    },
                    Some(name),
                )
            }
            Who::Unnamed { id, sequences } => {
                sequences.append(slot.count);
                (ProducerIdentity::Unnamed { id: *id }, None)
            }
        };
        let header = EntryHeader {
            shard_epoch: self.epoch,
            first_offset: self.next_offset,
            count: slot.count,
            publish_time: wall,
            producer,
            first_sequence: slot.first,
        };
        let token = Token::new(self.next_token);
        self.next_token += 1;
        self.next_offset = header.next_offset();
        self.in_flight_bytes += bytes;
        self.in_flight.push_back(InFlight {
            token,
            stream,
            name,
            first: slot.first,
            count: slot.count,
            first_offset: header.first_offset,
            bytes,
            publish_time: wall,
        });
        effects.push(Effect::Append(Append {
            log: LogKind::Message,
            token,
            payload: Payload::new(header.encode(), body),
            next_offset: self.next_offset,
        }));
    }

    /// The oldest append is confirmed.
    ///
    /// # Panics
    ///
    /// When it is not the oldest: a log confirms in order.
    pub(crate) fn appended(
        &mut self,
        config: &Config,
        token: Token,
        position: Position,
        effects: &mut Vec<Effect>,
    ) {
        let entry = self.in_flight.pop_front();
        let entry = entry.filter(|entry| entry.token == token);
        let entry = entry.expect("a log confirms every append once and in order");
        let covered = self.table.covered;
        assert!(
            covered.is_none_or(|covered| covered < position),
            "positions grow covered={covered:?} position={position:?}"
        );
        let batch = Recent {
            first: entry.first,
            count: entry.count,
            first_offset: entry.first_offset,
            position,
            publish_time: entry.publish_time,
        };
        self.table.covered = Some(position);
        self.confirmed_end = entry.first_offset.plus(u64::from(entry.count));
        self.in_flight_bytes -= entry.bytes;
        self.unsnapped_bytes = self.unsnapped_bytes.saturating_add(entry.bytes);
        if let Some(state) = self.streams.get_mut(&entry.stream) {
            state.batches -= 1;
            state.messages -= u64::from(entry.count);
            state.bytes -= entry.bytes;
            if let Who::Unnamed { sequences, .. } = &mut state.who {
                sequences.confirm(batch, config.recent_batches);
            }
            if entry.name.is_none() {
                self.settle(entry.stream, effects);
            }
        }
        let Some(name) = entry.name else {
            return;
        };
        let named = self.table.names.get_mut(&name);
        let named = named.expect("a name with batches in flight is not forgotten");
        named.sequences.confirm(batch, config.recent_batches);
        named.used = named.used.max(entry.first_offset);
        if let Some(stream) = named.stream {
            self.tell_ready_if(config, stream, effects);
            self.settle(stream, effects);
        }
    }

    /// Sends the receipts whose turn has come, and ends a stream that has nothing left.
    fn settle(&mut self, stream: StreamId, effects: &mut Vec<Effect>) {
        let Some(state) = self.streams.get_mut(&stream) else {
            return;
        };
        let sequences = match &state.who {
            Who::Named(name) => &self.table.names[name].sequences,
            Who::Unnamed { sequences, .. } => sequences,
        };
        while let Some(slot) = state.slots.front() {
            let end = slot.first.get().saturating_add(u64::from(slot.count));
            let is_refused = matches!(slot.wait, Wait::Refused(_));
            if !is_refused && !sequences.is_confirmed(end) {
                return;
            }
            let slot = state.slots.pop_front().expect("there is a front");
            let receipt = slot.receipt(sequences);
            effects.push(Effect::Receipt { stream, receipt });
        }
        if state.phase == Phase::Once {
            self.close(stream);
        } else if state.is_finishing {
            self.close(stream);
            effects.push(Effect::Finished { stream });
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

impl Slot {
    fn receipt(self, sequences: &Sequences) -> Receipt {
        let found = sequences.find(self.first, self.count);
        let outcome = match self.wait {
            Wait::Refused(problem) => Err(problem),
            Wait::New => Ok(found
                .expect("receipts are sent as batches are confirmed, and the last one is kept")
                .stored_new()),
            Wait::Repeat => Ok(found.map_or(Stored::DuplicateSomewhere, Recent::stored_before)),
        };
        Receipt {
            first_sequence: self.first,
            count: self.count,
            outcome,
        }
    }
}

const fn refused(publish: &Publish, problem: Problem) -> Receipt {
    Receipt {
        first_sequence: publish.first_sequence,
        count: publish.count,
        outcome: Err(problem),
    }
}

fn body_len(body: &Bytes) -> u64 {
    u64::try_from(body.len()).expect("lengths fit 64 bits")
}
