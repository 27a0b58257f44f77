//! The machines of clients: writers and consumers on the public client. Their processes may die as those of the cluster
//! do. What a machine remembers of a dead one is for the history: what it had sent and got no answer to, which streams it
//! had open.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ledgerline_client::{Client, Error, SubscriptionMode};
use tokio::time::sleep;
use types::Reason;

use super::load::{LOOK, Load, Stage};
use crate::history::{Event, Name, Outcome, Session};
use crate::process::{Consuming, Counts, Habits, Past, Streams, Writer, is_fenced};
use crate::workload::WriterPlan;

/// Machines of clients that write and consume.
pub(super) const CLIENTS: [&str; 2] = ["client-1", "client-2"];

/// A machine of a client, and its share of the load.
pub(super) struct ClientMachine {
    pub(super) name: &'static str,
    /// How long the next process waits before it starts.
    delay: Cell<Duration>,
    processes: Cell<u64>,
    writers: Vec<Pen>,
    consumers: Vec<Seat>,
    written: Arc<Counts>,
    /// Those that have not come to their end, whether they run now or not.
    pub(super) writers_left: Cell<usize>,
    pub(super) consumers_left: Cell<usize>,
}

/// Where one writer after the other writes.
struct Pen {
    plan: WriterPlan,
    past: Past,
    /// The writer's name in the history: an unnamed one is another in each process.
    writer: RefCell<String>,
}

/// Where one consumer after the other consumes.
struct Seat {
    /// The number of its group.
    group: usize,
    counts: Arc<Counts>,
    streams: Streams,
    /// How many consumers were here.
    number: Cell<u64>,
}

impl ClientMachine {
    /// The machine of a number, with its share of the writers. `groups` are the modes of the subscriptions.
    pub(super) fn new(index: usize, plans: &[WriterPlan], groups: &[SubscriptionMode]) -> Self {
        let plans = plans.iter().skip(index).step_by(CLIENTS.len());
        let pen = |plan: &WriterPlan| Pen {
            writer: RefCell::new(plan.writer.clone()),
            plan: plan.clone(),
            past: Past::default(),
        };
        // One consumer of an exclusive subscription, one on each machine of a shared one.
        let is_here = |mode: SubscriptionMode| mode == SubscriptionMode::Shared || index == 0;
        let here = (0..groups.len()).filter(|group| is_here(groups[*group]));
        let seat = |group| Seat {
            group,
            counts: Arc::default(),
            streams: Streams::default(),
            number: Cell::default(),
        };
        let (writers, consumers): (Vec<_>, Vec<_>) =
            (plans.map(pen).collect(), here.map(seat).collect());
        Self {
            name: CLIENTS[index],
            delay: Cell::default(),
            processes: Cell::default(),
            writers_left: Cell::new(writers.len()),
            consumers_left: Cell::new(consumers.len()),
            writers,
            consumers,
            written: Arc::default(),
        }
    }

    /// The next process starts so long after its machine was booted.
    pub(super) fn delay_next(&self, delay: Duration) {
        self.delay.set(delay);
    }

    /// Acks of a group that were asked for and have no answer.
    pub(super) fn pending(&self, group: usize) -> u64 {
        let seats = self.consumers.iter().filter(|seat| seat.group == group);
        seats
            .map(|seat| seat.counts.pending.load(Ordering::Relaxed))
            .sum()
    }

    /// Of what dead processes left open: how many messages were stored, and how many were sent again.
    pub(super) fn repeats(&self) -> (u64, u64) {
        let all = self.writers.iter().map(|pen| pen.past.repeats());
        all.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }

    /// How it stands, for people.
    pub(super) fn describe(&self, groups: &[&str]) -> String {
        let mut text = format!(
            "\n  {}: {} writers and {} consumers left, written {:?}",
            self.name,
            self.writers_left.get(),
            self.consumers_left.get(),
            self.written,
        );
        for seat in &self.consumers {
            text.push_str(&format!("\n    {} {:?}", groups[seat.group], seat.counts));
        }
        text
    }
}

impl Load {
    /// The life of one process of a client: its share of everything.
    pub(super) async fn client_lives(self: Rc<Self>, index: usize) -> turmoil::Result {
        let machine = Rc::clone(&self.clients[index]);
        sleep(machine.delay.get()).await;
        self.bury(&machine);
        let client = self.client(machine.name)?;
        while self.stage() < Stage::Flowing {
            sleep(LOOK).await;
        }
        machine.writers_left.set(machine.writers.len());
        machine.consumers_left.set(machine.consumers.len());
        for pen in 0..machine.writers.len() {
            let name = machine.writers[pen].writer.borrow().clone();
            let run = Rc::clone(&self).write(index, pen, client.clone());
            self.follow(index, name, run, |machine| &machine.writers_left);
        }
        for seat in 0..machine.consumers.len() {
            let name = format!(
                "{}-{index}",
                self.groups[machine.consumers[seat].group].name
            );
            let run = Rc::clone(&self).consume(index, seat, name.clone(), client.clone());
            self.follow(index, name, run, |machine| &machine.consumers_left);
        }
        while self.stage() < Stage::Done {
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Writes down what the end of the process before means: its streams are over, and nobody will hear what became of
    /// what an unnamed writer has sent. A named one comes back and finds out.
    fn bury(&self, machine: &ClientMachine) {
        let process = machine.processes.get();
        machine.processes.set(process + 1);
        if process == 0 {
            return;
        }
        let t = self.history.now();
        for seat in &machine.consumers {
            seat.counts.pending.store(0, Ordering::Relaxed);
            for stream in seat.streams.take() {
                self.history.record(&Event::Close(Session {
                    t,
                    sub: Name::from(&*self.groups[seat.group].name),
                    c: Name::from(stream),
                }));
            }
        }
        machine.written.pending.store(0, Ordering::Relaxed);
        if self.swarm.named {
            return;
        }
        for pen in &machine.writers {
            let mut writer = pen.writer.borrow_mut();
            for n in pen.past.give_up() {
                self.history.record(&Event::Info(Outcome {
                    t,
                    w: Name::from(&**writer),
                    p: Name::from(&*pen.plan.topic),
                    n,
                }));
            }
            *writer = format!("{}.{process}", pen.plan.writer);
        }
    }

    fn writer(&self, machine: &ClientMachine, pen: &Pen, client: &Client) -> Writer {
        let mut plan = pen.plan.clone();
        plan.writer.clone_from(&pen.writer.borrow());
        Writer {
            plan,
            client: client.clone(),
            history: self.history.clone(),
            counts: Arc::clone(&machine.written),
            stop: self.stop_writing.clone(),
            past: pen.past.clone(),
            is_named: self.swarm.named,
        }
    }

    /// Writes to the end. The newest opening has a producer's name, and one of a dead process that comes late is the
    /// newest: then the program is started again, as its keeper would.
    async fn write(self: Rc<Self>, index: usize, pen: usize, client: Client) -> anyhow::Result<()> {
        let machine = &self.clients[index];
        loop {
            let writer = self.writer(machine, &machine.writers[pen], &client);
            let Err(error) = Box::pin(writer.run()).await else {
                return Ok(());
            };
            let error_of_client = error.downcast_ref::<Error>();
            if !error_of_client.is_some_and(is_fenced) {
                return Err(error);
            }
            sleep(LOOK).await;
        }
    }

    /// Consumes a subscription: one consumer to the end, or one after the other.
    async fn consume(
        self: Rc<Self>,
        index: usize,
        seat: usize,
        name: String,
        client: Client,
    ) -> anyhow::Result<()> {
        let rng = self.rng.fork(&name);
        let seat = &self.clients[index].consumers[seat];
        loop {
            let number = seat.number.replace(seat.number.get() + 1);
            let stop = self.stop_consuming.child_token();
            let consumer = Consuming {
                topic: self.groups[seat.group].topic.clone(),
                subscription: self.groups[seat.group].name.clone(),
                name: format!("{name}-{number}"),
                habits: Habits {
                    nack_every: self.swarm.nack_every,
                    ..Habits::default()
                },
                client: client.clone(),
                history: self.history.clone(),
                counts: Arc::clone(&seat.counts),
                holds: Arc::new(AtomicBool::new(false)),
                stop: stop.clone(),
                streams: seat.streams.clone(),
            };
            let leave = async {
                sleep(Duration::from_millis(rng.within(500..=15_000))).await;
                if self.swarm.consumers_leave && self.stage() < Stage::Settling {
                    stop.cancel();
                }
                std::future::pending::<()>().await;
            };
            let ended = tokio::select! {
                biased;
                ended = Box::pin(consumer.run()) => ended,
                () = leave => continue,
            };
            match ended {
                Err(error) if is_held(&error) => sleep(LOOK).await,
                Err(error) => return Err(error),
                Ok(()) if self.stop_consuming.is_cancelled() => return Ok(()),
                Ok(()) => {}
            }
        }
    }

    /// Runs a writer or a consumer, and notes its end.
    fn follow(
        self: &Rc<Self>,
        index: usize,
        name: String,
        run: impl Future<Output = anyhow::Result<()>> + 'static,
        left: fn(&ClientMachine) -> &Cell<usize>,
    ) {
        let load = Rc::clone(self);
        tokio::task::spawn_local(async move {
            let ended = Box::pin(run).await;
            let left = left(&load.clients[index]);
            left.set(left.get() - 1);
            if let Err(error) = ended {
                let problem = format!("{name} gave up: {error:#}");
                load.problems.borrow_mut().push(problem);
            }
        });
    }
}

/// Whether the consumer before this one still has the subscription, in the eyes of a server that lost its connection.
fn is_held(error: &anyhow::Error) -> bool {
    let error = error.downcast_ref::<Error>();
    error.is_some_and(|error| error.reason() == Reason::ExclusiveHeld)
}
