//! A batch's way: judged, appended, confirmed, answered.

use types::batch::Body;
use types::chain::LogKind;
use types::{Payload, Problem, Reason, WallTime};

use super::sequences::Verdict;
use super::{InFlight, Phase, Producers, Recent, Sequences, Slot, Stream, Wait, Who};
use crate::{
    Append, Config, Effect, EntryHeader, Position, ProducerIdentity, Publish, Receipt, Stored,
    StreamId, Token, problems,
};

impl Producers {
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
                return Err(Problem::clone(problem));
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
        body: Body,
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
        self.log_bytes = self.log_bytes.saturating_add(bytes);
        let header = EntryHeader {
            shard_epoch: self.epoch,
            first_offset: self.next_offset,
            count: slot.count,
            publish_time: wall,
            producer,
            first_sequence: slot.first,
            log_bytes: self.log_bytes,
            compression: body.compression,
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
            log_bytes: self.log_bytes,
        });
        effects.push(Effect::Append(Append {
            log: LogKind::Message,
            token,
            payload: Payload::new(header.encode(), body.bytes),
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
        self.table.log_bytes = entry.log_bytes;
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
    pub(super) fn settle(&mut self, stream: StreamId, effects: &mut Vec<Effect>) {
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

fn body_len(body: &Body) -> u64 {
    u64::try_from(body.len()).expect("lengths fit 64 bits")
}
