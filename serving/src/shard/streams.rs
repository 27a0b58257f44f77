//! The client streams of a shard, as its task keeps them.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use host::Clock;
use host::metrics::{Counter, Held};
use topic::{OffsetRange, Receipt, StreamId};
use types::{MonoTime, Offset, Problem, Reason};

use super::core::{Request, Told, shrink_map};
use super::session::{Credit, Inlet, Window};
use crate::budget::BudgetPermit;
use crate::metrics::Metrics;

/// A batch that was taken in.
#[derive(Debug)]
pub(super) struct Batch {
    /// What it takes of the node's memory, until its receipt.
    pub(super) permit: BudgetPermit,
    /// When it came.
    pub(super) since: MonoTime,
}

/// A batch of a producer, from when it came until its receipt.
#[derive(Debug)]
pub(super) enum Slot {
    /// The shard has it.
    Taken(Batch),
    /// It was refused before the shard saw it: this is its receipt, told in its turn.
    Refused(Receipt),
}

/// All streams.
#[derive(Debug, Default)]
pub(super) struct Streams {
    streams: BTreeMap<StreamId, Stream>,
    /// Streams with something to pass on to their outbox.
    touched: Vec<StreamId>,
    /// Memory of batches whose stream was just forgotten; they may wait for the disk all the same.
    left: Vec<BudgetPermit>,
    /// The same, given back once what is below the offset is on disk.
    leaving: VecDeque<(Offset, Vec<BudgetPermit>)>,
    /// When the batches came whose receipts were told since the last [`Streams::measure`].
    answered: Vec<MonoTime>,
    metrics: Arc<Metrics>,
    /// What was done, for spreading shards by what they do.
    work: Arc<Counter>,
}

/// What a message counts as beside its bytes.
const MESSAGE_WORK: u64 = 1 << 10;

#[derive(Debug)]
struct Stream {
    inlet: Inlet,
    /// Batches without a receipt.
    slots: VecDeque<Slot>,
    /// A consumer's.
    window: Option<Window>,
    /// What the shard tells, until the next flush.
    told: Vec<Told>,
    /// It ends with its next receipt: a unary call.
    is_once: bool,
    is_over: bool,
    /// Counted among the open ones.
    _open: Option<Held>,
}

impl Streams {
    /// None yet.
    pub(super) fn new(metrics: Arc<Metrics>, work: Arc<Counter>) -> Self {
        Self {
            metrics,
            work,
            ..Self::default()
        }
    }

    /// Adds a stream that is about to be opened, and takes a consumer's first grant under its window.
    pub(super) fn open(&mut self, request: &mut Request, inlet: Inlet, slot: Option<Slot>) {
        let Some(id) = request.stream() else {
            return;
        };
        let window = match request {
            Request::OpenConsumer(open) => {
                let mut window = Window::default();
                let (messages, bytes) = open.permits;
                // What is below zero is the topic's to refuse.
                if messages >= 0 && bytes >= 0 && window.grant(Credit { messages, bytes }) {
                    let Credit { messages, bytes } = inlet.pass_on(&mut window);
                    open.permits = (messages, bytes);
                }
                Some(window)
            }
            _ => None,
        };
        let stream = Stream {
            inlet,
            slots: slot.into_iter().collect(),
            window,
            told: Vec::new(),
            is_once: matches!(request, Request::PublishOnce { .. }),
            is_over: false,
            _open: self.metrics.opened(request),
        };
        self.streams.insert(id, stream);
    }

    /// Forgets a stream whose client is gone; false when it was forgotten before.
    pub(super) fn close(&mut self, id: StreamId) -> bool {
        self.remove(id)
    }

    fn remove(&mut self, id: StreamId) -> bool {
        let Some(stream) = self.streams.remove(&id) else {
            return false;
        };
        for slot in stream.slots {
            if let Slot::Taken(batch) = slot {
                self.left.push(batch.permit);
            }
        }
        true
    }

    /// Gives back the memory of forgotten streams' batches that are on disk; of all when the shard does not serve.
    pub(super) fn settle(&mut self, unconfirmed: Option<OffsetRange>) {
        let Some(unconfirmed) = unconfirmed else {
            self.left.clear();
            self.leaving.clear();
            return;
        };
        if !self.left.is_empty() {
            let left = std::mem::take(&mut self.left);
            self.leaving.push_back((unconfirmed.end, left));
        }
        while let Some((end, _)) = self.leaving.front()
            && *end <= unconfirmed.start
        {
            self.leaving.pop_front();
        }
    }

    /// Whether a stream is there.
    pub(super) fn has(&self, id: StreamId) -> bool {
        self.streams.contains_key(&id)
    }

    /// A batch was handed to the shard.
    pub(super) fn took(&mut self, id: StreamId, batch: Batch) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.slots.push_back(Slot::Taken(batch));
        }
    }

    /// A batch was refused: its receipt goes behind those of the batches before it.
    pub(super) fn refuse(&mut self, id: StreamId, receipt: Receipt) {
        if let Some(stream) = self.streams.get_mut(&id) {
            stream.slots.push_back(Slot::Refused(receipt));
            stream.tell_refused(&self.metrics);
            self.touched.push(id);
        }
    }

    /// A consumer grants more: what of it to hand to the shard now.
    pub(super) fn grant(&mut self, request: Request) -> Option<Request> {
        self.metrics.asked(&request);
        let Request::Permits {
            stream: id,
            messages,
            bytes,
        } = request
        else {
            return Some(request);
        };
        let stream = self.streams.get_mut(&id)?;
        let Some(window) = stream
            .window
            .as_mut()
            .filter(|_| messages >= 0 && bytes >= 0)
        else {
            return Some(request); // The topic's to refuse.
        };
        if !window.grant(Credit { messages, bytes }) {
            let text = "permits: the sum of all grants is above what can be counted";
            let problem = Problem::new(Reason::BadField, text).with_field("permits");
            self.tell(id, Told::Refused(problem));
            return None;
        }
        self.read(id)
    }

    /// What of a consumer's grants to hand to the shard now that it has read.
    pub(super) fn read(&mut self, id: StreamId) -> Option<Request> {
        let stream = self.streams.get_mut(&id)?;
        let credit = stream.inlet.pass_on(stream.window.as_mut()?);
        credit.is_some().then_some(Request::Permits {
            stream: id,
            messages: credit.messages,
            bytes: credit.bytes,
        })
    }

    /// The shard tells a stream something.
    pub(super) fn tell(&mut self, id: StreamId, told: Told) {
        let Some(stream) = self.streams.get_mut(&id) else {
            return; // Its client is gone.
        };
        if stream.told.is_empty() {
            self.touched.push(id);
        }
        match &told {
            Told::Receipt(receipt) => {
                let mut bytes = 0;
                if let Some(Slot::Taken(batch)) = stream.slots.pop_front() {
                    bytes = batch.permit.bytes();
                    self.answered.push(batch.since);
                }
                self.metrics.receipt(receipt, bytes);
                self.work
                    .add(bytes + u64::from(receipt.count) * MESSAGE_WORK);
                stream.is_over |= stream.is_once;
            }
            Told::Delivery(delivery) => {
                let bytes = u64::try_from(delivery.batch.len()).expect("a usize fits");
                self.work
                    .add(bytes + u64::from(delivery.count) * MESSAGE_WORK);
                if let Some(window) = &mut stream.window {
                    window.delivered(&told);
                }
                self.metrics.told(&told);
            }
            Told::Ended(_) | Told::Finished => stream.is_over = true,
            _ => {}
        }
        let is_receipt = matches!(told, Told::Receipt(_));
        stream.told.push(told);
        if is_receipt {
            stream.tell_refused(&self.metrics);
        }
    }

    /// Passes on what was told since the last flush: one wake-up for each stream. Returns what consumers may have besides, and
    /// the streams that were cut off because they do not read.
    pub(super) fn flush(&mut self, requests: &mut Vec<Request>) {
        for id in std::mem::take(&mut self.touched) {
            let Some(stream) = self.streams.get_mut(&id) else {
                continue;
            };
            let fits = stream.told.is_empty() || stream.inlet.push(stream.told.drain(..));
            if stream.is_over {
                self.remove(id);
            } else if !fits {
                let text = "the client does not read what it is told";
                let ended = Told::Ended(Problem::new(Reason::Overloaded, text));
                stream.inlet.push(std::iter::once(ended));
                self.remove(id);
                requests.push(Request::CloseStream(id));
            } else if stream.window.is_some() {
                requests.extend(self.read(id));
            }
        }
    }

    /// Times the batches whose receipts were told since the last call.
    pub(super) fn measure(&mut self, clock: &Clock) {
        if self.answered.is_empty() {
            return;
        }
        let now = clock.now();
        for since in self.answered.drain(..) {
            self.metrics.publish().record(now.since(since));
        }
    }

    /// Gives back the room that it has from busier times.
    pub(super) fn shrink(&mut self) {
        shrink_map(&mut self.streams);
        self.touched.shrink_to_fit();
        self.left.shrink_to_fit();
        self.leaving.shrink_to_fit();
        self.answered.shrink_to_fit();
    }

    /// Ends every stream.
    pub(super) fn end_all(&mut self, problem: &Problem) {
        for id in self.streams.keys().copied().collect::<Vec<_>>() {
            self.tell(id, Told::Ended(problem.clone()));
        }
        self.flush(&mut Vec::new());
    }
}

impl Stream {
    /// Tells the refusals whose turn it is.
    fn tell_refused(&mut self, metrics: &Metrics) {
        while let Some(Slot::Refused(_)) = self.slots.front()
            && let Some(Slot::Refused(receipt)) = self.slots.pop_front()
        {
            metrics.receipt(&receipt, 0);
            self.told.push(Told::Receipt(receipt));
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use topic::{Delivery, OpenConsumer, OpenProducer, Position, ProducerIdentity, Stored};
    use types::batch::Codecs;
    use types::{
        ByteSize, EntryId, Generation, LedgerId, LedgerSeq, LogId, Offset, SequenceId,
        SubscriptionId, WallTime,
    };

    use super::super::core::Status;
    use super::super::inbox::{Came, Inbox};
    use super::super::session::{Outputs, channel};
    use super::*;
    use crate::budget::Budget;

    const ID: StreamId = StreamId::new(1);
    const MIB: i64 = 1 << 20;

    fn opened(mut request: Request) -> (Streams, Outputs, Arc<Inbox>, Request) {
        let inbox = Arc::new(Inbox::new(Status::Releasing));
        let (inlet, outputs) = channel(ID, &inbox);
        let mut streams = Streams::default();
        streams.open(&mut request, inlet, None);
        (streams, outputs, inbox, request)
    }

    fn came(inbox: &Inbox) -> Came {
        let mut came = Came::default();
        inbox.ring(|it| std::mem::swap(it, &mut came));
        came
    }

    fn batch(budget: &Budget, bytes: usize) -> Batch {
        Batch {
            permit: budget.acquire(bytes).unwrap(),
            since: MonoTime::ZERO,
        }
    }

    fn producer() -> (Streams, Outputs, Arc<Inbox>) {
        let open = OpenProducer {
            stream: ID,
            name: None,
            resume: false,
        };
        let (streams, outputs, inbox, _) = opened(Request::OpenProducer(open));
        (streams, outputs, inbox)
    }

    fn consumer(permits: (i64, i64)) -> (Streams, Outputs, Arc<Inbox>, (i64, i64)) {
        let open = OpenConsumer {
            stream: ID,
            subscription: SubscriptionId::new(1),
            mode: None,
            name: None,
            ack_deadline: None,
            confirm_acks: false,
            permits,
            codecs: Codecs::NONE,
        };
        let (streams, outputs, inbox, request) = opened(Request::OpenConsumer(open));
        let Request::OpenConsumer(open) = request else {
            panic!("it is still the opening of a consumer");
        };
        (streams, outputs, inbox, open.permits)
    }

    fn permits(messages: i64, bytes: i64) -> Request {
        Request::Permits {
            stream: ID,
            messages,
            bytes,
        }
    }

    fn position() -> Position {
        Position {
            ledger: LedgerId::new(LogId::new(1), LedgerSeq::new(0)),
            entry: EntryId::new(0),
        }
    }

    fn receipt(first: u64, is_stored: bool) -> Receipt {
        Receipt {
            first_sequence: SequenceId::new(first),
            count: 1,
            outcome: if is_stored {
                Ok(Stored::New {
                    first_offset: Offset::new(first),
                    position: position(),
                    publish_time: WallTime::from_nanos(0),
                })
            } else {
                Err(Problem::new(Reason::Overloaded, "full"))
            },
        }
    }

    fn delivery(bytes: usize) -> Told {
        Told::Delivery(Delivery {
            subscription: SubscriptionId::new(1),
            generation: Generation::new(1),
            position: position(),
            first_offset: Offset::new(0),
            count: 1,
            batch: Bytes::from(vec![0; bytes]).into(),
            publish_time: WallTime::from_nanos(0),
            producer: ProducerIdentity::Unnamed { id: 0 },
            first_sequence: SequenceId::new(0),
            attempt: 1,
            lease_deadline: MonoTime::ZERO,
            lease_expire_time: WallTime::from_nanos(0),
        })
    }

    fn sequences(outputs: &mut Outputs) -> Vec<u64> {
        let mut told = Vec::new();
        outputs.try_next(&mut told);
        let sequence = |told: &Told| match told {
            Told::Receipt(receipt) => Some(receipt.first_sequence.get()),
            _ => None,
        };
        told.iter().filter_map(sequence).collect()
    }

    #[test]
    fn batches_of_a_client_that_is_gone_take_memory_until_they_are_on_disk() {
        let unconfirmed = |start, end| Some(OffsetRange::new(Offset::new(start), Offset::new(end)));
        let budget = Budget::new(ByteSize::new(100));
        let (mut streams, _outputs, _inbox) = producer();
        streams.took(ID, batch(&budget, 10));
        streams.took(ID, batch(&budget, 20));
        streams.tell(ID, Told::Receipt(receipt(0, true)));
        assert!(streams.close(ID));
        streams.settle(unconfirmed(1, 3));
        streams.settle(unconfirmed(2, 4));
        assert_eq!(budget.used(), ByteSize::new(20));
        streams.settle(unconfirmed(3, 4));
        assert_eq!(budget.used(), ByteSize::new(0));
    }

    #[test]
    fn a_shard_that_serves_no_more_gives_all_memory_back() {
        let budget = Budget::new(ByteSize::new(100));
        let (mut streams, _outputs, _inbox) = producer();
        streams.took(ID, batch(&budget, 10));
        streams.close(ID);
        streams.settle(None);
        assert_eq!(budget.used(), ByteSize::new(0));
    }

    #[test]
    fn a_refusal_waits_for_the_receipts_before_it() {
        let budget = Budget::new(ByteSize::new(100));
        let (mut streams, mut outputs, _inbox) = producer();
        for _ in 0..2 {
            streams.took(ID, batch(&budget, 10));
        }
        streams.refuse(ID, receipt(2, false));
        streams.took(ID, batch(&budget, 10));
        streams.flush(&mut Vec::new());
        assert_eq!(sequences(&mut outputs), [0; 0]);

        streams.tell(ID, Told::Receipt(receipt(0, true)));
        streams.flush(&mut Vec::new());
        assert_eq!(sequences(&mut outputs), [0]);
        streams.tell(ID, Told::Receipt(receipt(1, true)));
        streams.tell(ID, Told::Receipt(receipt(3, true)));
        streams.flush(&mut Vec::new());
        assert_eq!(sequences(&mut outputs), [1, 2, 3]);
        assert_eq!(
            budget.used(),
            ByteSize::new(0),
            "a receipt gives the memory back"
        );

        streams.refuse(ID, receipt(4, false));
        streams.flush(&mut Vec::new());
        assert_eq!(sequences(&mut outputs), [4], "nothing is before it");
    }

    #[test]
    fn a_stream_that_ended_is_read_to_its_end() {
        let (mut streams, mut outputs, _inbox) = producer();
        streams.tell(ID, Told::Receipt(receipt(0, true)));
        streams.tell(ID, Told::Finished);
        streams.flush(&mut Vec::new());
        assert!(!streams.has(ID));
        let mut told = Vec::new();
        assert_eq!(outputs.try_next(&mut told), Some(true));
        assert_eq!(told.len(), 2);
        assert_eq!(outputs.try_next(&mut told), Some(false));
    }

    #[test]
    fn dropping_the_reader_closes_the_stream_and_whatever_is_known_of_it() {
        let (mut streams, outputs, inbox) = producer();
        drop(outputs);
        assert_eq!(came(&inbox).closed, [ID]);
        assert!(streams.close(ID));
        assert!(!streams.close(ID));

        let (inlet, outputs) = channel(ID, &inbox);
        assert!(!inlet.is_closed());
        drop(outputs);
        assert!(
            inlet.is_closed(),
            "a stream that is not open yet is never opened"
        );
    }

    #[test]
    fn dropping_the_shard_ends_the_reader() {
        let (streams, mut outputs, _inbox) = producer();
        assert_eq!(outputs.try_next(&mut Vec::new()), None);
        drop(streams);
        assert_eq!(outputs.try_next(&mut Vec::new()), Some(false));
    }

    #[test]
    fn a_client_that_does_not_read_holds_a_few_mebibytes_whatever_it_granted() {
        let (mut streams, mut outputs, inbox, first) = consumer((1_000_000, 1 << 40));
        assert_eq!(first, (32_768, 4 * MIB));
        let mut requests = Vec::new();
        for _ in 0..4 {
            streams.tell(ID, delivery(1 << 20));
            streams.flush(&mut requests);
        }
        assert_eq!(requests, [], "nothing more before it reads");
        assert_eq!(came(&inbox).read, []);

        outputs.try_next(&mut Vec::new());
        assert_eq!(came(&inbox).read, [ID], "its reading is told");
        assert_eq!(streams.read(ID), Some(permits(0, 4 * MIB)));
    }

    #[test]
    fn many_small_messages_wait_within_a_window_of_their_own() {
        let (mut streams, mut outputs, _inbox, _) = consumer((1_000_000, 1 << 40));
        let mut requests = Vec::new();
        for _ in 0..32_768 {
            streams.tell(ID, delivery(1));
        }
        streams.flush(&mut requests);
        assert_eq!(requests, []);
        outputs.try_next(&mut Vec::new());
        assert_eq!(streams.read(ID), Some(permits(32_768, 0)));
    }

    #[test]
    fn what_a_small_grant_allows_is_passed_on_to_the_last_byte() {
        let (mut streams, mut outputs, _inbox, first) = consumer((10, 100));
        assert_eq!(first, (10, 100));
        streams.tell(ID, delivery(100));
        streams.flush(&mut Vec::new());
        outputs.try_next(&mut Vec::new());
        assert_eq!(streams.grant(permits(0, 7)), Some(permits(0, 7)));
        assert_eq!(streams.grant(permits(3, 0)), Some(permits(3, 0)));
        assert_eq!(streams.grant(permits(0, 0)), None);
    }

    #[test]
    fn grants_never_exceed_their_sum_and_what_cannot_be_counted_is_refused() {
        let (mut streams, mut outputs, _inbox, first) = consumer((1, i64::MAX));
        assert_eq!(first, (1, 4 * MIB));
        assert_eq!(streams.grant(permits(1, i64::MAX)), None);
        streams.flush(&mut Vec::new());
        let mut told = Vec::new();
        outputs.try_next(&mut told);
        assert!(matches!(&told[..], [Told::Refused(problem)] if problem.field.is_some()));
        let below_zero = permits(-1, 5);
        assert_eq!(
            streams.grant(below_zero.clone()),
            Some(below_zero),
            "the topic refuses it"
        );
    }

    #[test]
    fn an_overdrawn_byte_permit_is_paid_back_first() {
        let (mut streams, mut outputs, _inbox, _) = consumer((10, 10));
        streams.tell(ID, delivery(5 << 20));
        streams.flush(&mut Vec::new());
        outputs.try_next(&mut Vec::new());
        // The topic keeps the books of what was overdrawn; all that the client grants reaches it.
        let granted: i64 = (0..6)
            .filter_map(|_| streams.grant(permits(0, MIB)))
            .map(|request| match request {
                Request::Permits { bytes, .. } => bytes,
                _ => 0,
            })
            .sum();
        assert_eq!(granted, 6 * MIB);
    }
}
