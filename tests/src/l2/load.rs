//! The load: what is written and consumed by the clients' machines, and one more client that makes the topics, works for
//! the operator, and in the end waits until nothing is left.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use host::{Clock, Host, Rng, SIMULATED_START};
use ledgerline_client::{
    Admin, Client, Error, StartPosition, SubscriptionMode, SubscriptionOptions, TopicOptions,
};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use types::Reason;
use types::topic::Retention;

use super::client::{CLIENTS, ClientMachine};
use super::machine::SERVING_PORT;
use super::marks::Marks;
use super::net::SimNet;
use super::operator::Operator;
use super::swarm::Swarm;
use super::trace::Trace;
use crate::history::{Drained, Event, HistoryWriter, Name, Start, Subscribed, SubscriptionType};
use crate::workload::{Workload, WriterPlan};

/// The machine of the client that makes topics and waits for the end.
pub(super) const KEEPER: &str = "client-0";
/// Messages go once every subscription has acked them.
const UNTIL_ACKED: Retention = Retention {
    time: Some(Duration::ZERO),
    bytes: None,
};
/// Marks: a message that a dead client's process had no answer to was stored, or was sent again by the next.
const FOUND: &str = "message without an answer stored";
const AGAIN: &str = "message without an answer sent again";
/// Between two looks at how something stands.
pub(super) const LOOK: Duration = Duration::from_millis(100);

/// How far a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(super) enum Stage {
    /// Topics and subscriptions are being made.
    #[default]
    Making,
    /// Writers write and consumers consume.
    Flowing,
    /// Everything that was asked for is to be answered.
    Settling,
    /// Every subscription is to be emptied.
    Draining,
    /// Consumers are to end.
    Closing,
    /// Everything is over.
    Done,
}

/// The load of a run, shared by its clients and whoever watches them.
pub(super) struct Load {
    pub(super) swarm: Swarm,
    pub(super) rng: Rng,
    trace: Trace,
    pub(super) history: HistoryWriter,
    stage: Cell<Stage>,
    /// What a writer or consumer ended with that may not end.
    pub(super) problems: RefCell<Vec<String>>,
    pub(super) groups: Vec<Group>,
    pub(super) clients: Vec<Rc<ClientMachine>>,
    pub(super) operator: Rc<Operator>,
    pub(super) stop_writing: CancellationToken,
    pub(super) stop_consuming: CancellationToken,
    /// What the keeper waits for.
    waits_for: RefCell<String>,
}

/// A subscription.
pub(super) struct Group {
    pub(super) topic: String,
    pub(super) name: String,
    mode: SubscriptionMode,
}

impl Load {
    pub(super) fn new(swarm: &Swarm, rng: &Rng, trace: &Trace, history: &HistoryWriter) -> Self {
        let mut groups = Vec::new();
        for topic in topics(swarm) {
            for (name, mode) in [
                ("readers", SubscriptionMode::Exclusive),
                ("workers", SubscriptionMode::Shared),
            ] {
                groups.push(Group {
                    name: format!("{topic}-{name}"),
                    topic: topic.clone(),
                    mode,
                });
            }
        }
        let plans = plans(swarm);
        let modes: Vec<_> = groups.iter().map(|group| group.mode).collect();
        let machine = |index| Rc::new(ClientMachine::new(index, &plans, &modes));
        Self {
            swarm: swarm.clone(),
            rng: rng.fork("load"),
            trace: trace.clone(),
            history: history.clone(),
            stage: Cell::default(),
            problems: RefCell::default(),
            clients: (0..CLIENTS.len()).map(machine).collect(),
            groups,
            operator: Rc::default(),
            stop_writing: CancellationToken::new(),
            stop_consuming: CancellationToken::new(),
            waits_for: RefCell::default(),
        }
    }

    /// How far the run is.
    pub(super) const fn stage(&self) -> Stage {
        self.stage.get()
    }

    /// Ends the writing: from now on what was asked for is to be answered.
    pub(super) fn settle(&self) {
        self.stage.set(Stage::Settling);
        self.stop_writing.cancel();
    }

    /// What went wrong with a client.
    pub(super) fn problems(&self) -> Vec<String> {
        self.problems.borrow().clone()
    }

    /// What the run waits for, for people.
    pub(super) fn describe(&self) -> String {
        let mut text = format!("{:?}: {}", self.stage.get(), self.waits_for.borrow());
        let groups: Vec<&str> = self.groups.iter().map(|group| &*group.name).collect();
        for machine in &self.clients {
            text.push_str(&machine.describe(&groups));
        }
        text
    }

    /// Rare things that were seen.
    pub(super) fn marks(&self) -> Marks {
        let mut marks = Marks::default();
        for machine in &self.clients {
            let (found, again) = machine.repeats();
            marks.add_count(FOUND, found);
            marks.add_count(AGAIN, again);
        }
        marks
    }

    /// A new process's client.
    pub(super) fn client(&self, name: &str) -> anyhow::Result<Client> {
        let passed = turmoil::sim_elapsed().unwrap_or_default();
        // A process that is started again draws other numbers than the one before it.
        let host = Host::simulated(name, 0)
            .with_rng(self.rng.fork(name))
            .with_clock(Clock::simulated(SIMULATED_START.after(passed)))
            .with_net(Arc::new(SimNet::traced(self.trace.clone())));
        let addresses: Vec<String> = (1..=self.swarm.servers)
            .map(|n| format!("http://serving-{n}:{SERVING_PORT}"))
            .collect();
        Ok(Client::builder()
            .addresses(addresses.join(","))
            .host(host)
            .build()?)
    }

    /// The client that makes the topics, and in the end waits until nothing is left.
    pub(super) async fn keeper_lives(self: Rc<Self>) -> turmoil::Result {
        let client = self.client(KEEPER)?;
        let admin = client.admin();
        self.make(&admin).await;
        self.stage.set(Stage::Flowing);
        tokio::task::spawn_local(Rc::clone(&self.operator).work(client.admin()));
        self.wait("the end of the writing", || {
            self.stage.get() >= Stage::Settling
        })
        .await;
        let all = |is_over: fn(&Rc<ClientMachine>) -> bool| self.clients.iter().all(is_over);
        self.wait("every message's receipt", || {
            all(|machine| machine.writers_left.get() == 0)
        })
        .await;
        self.stage.set(Stage::Draining);
        for group in 0..self.groups.len() {
            self.drain(&admin, group).await;
        }
        self.stage.set(Stage::Closing);
        self.stop_consuming.cancel();
        self.wait("the consumers' end", || {
            all(|machine| machine.consumers_left.get() == 0)
        })
        .await;
        self.stage.set(Stage::Done);
        Ok(())
    }

    async fn wait(&self, what: &str, is_there: impl Fn() -> bool) {
        what.clone_into(&mut self.waits_for.borrow_mut());
        while !is_there() {
            sleep(LOOK).await;
        }
    }

    async fn make(&self, admin: &Admin) {
        for topic in topics(&self.swarm) {
            let options = || TopicOptions {
                quorum: Some(self.swarm.quorum),
                retention: self.swarm.trims.then_some(UNTIL_ACKED),
            };
            self.until(&format!("topic {topic}"), || {
                admin.create_topic(&topic, options())
            })
            .await;
        }
        for group in &self.groups {
            let t0 = self.history.now();
            let name = group.full_name();
            let options = || SubscriptionOptions {
                mode: Some(group.mode),
                start: Some(StartPosition::Earliest),
                ..SubscriptionOptions::default()
            };
            self.until(&name, || admin.create_subscription(&name, options()))
                .await;
            self.history.record(&Event::Sub(Subscribed {
                t0,
                t: self.history.now(),
                sub: Name::from(&*group.name),
                p: Name::from(&*group.topic),
                ty: match group.mode {
                    SubscriptionMode::Exclusive => SubscriptionType::Exclusive,
                    SubscriptionMode::Shared => SubscriptionType::Shared,
                },
                from: Start::Earliest,
            }));
        }
    }

    /// Repeats a call until it works, or its earlier try has.
    async fn until<T, F: Future<Output = Result<T, Error>>>(
        &self,
        what: &str,
        call: impl Fn() -> F,
    ) {
        loop {
            let Err(error) = call().await else { return };
            if error.reason() == Reason::AlreadyExists {
                return;
            }
            *self.waits_for.borrow_mut() = format!("{what}: {error}");
            sleep(LOOK).await;
        }
    }

    async fn drain(&self, admin: &Admin, index: usize) {
        let group = &self.groups[index];
        let name = group.full_name();
        loop {
            let stats = admin.subscription_stats(&name).await;
            let is_decided = self
                .clients
                .iter()
                .all(|machine| machine.pending(index) == 0);
            if is_decided
                && stats
                    .as_ref()
                    .is_ok_and(|stats| stats.backlog_messages == 0)
            {
                break;
            }
            *self.waits_for.borrow_mut() = format!("{name} to be drained: {stats:?}");
            sleep(LOOK).await;
        }
        self.history.record(&Event::Drained(Drained {
            sub: Name::from(&*group.name),
            p: Name::from(&*group.topic),
        }));
    }
}

impl Group {
    fn full_name(&self) -> String {
        format!("{}/subscriptions/{}", self.topic, self.name)
    }
}

fn topics(swarm: &Swarm) -> Vec<String> {
    (0..swarm.topics).map(|n| format!("t{n}")).collect()
}

fn plans(swarm: &Swarm) -> Vec<WriterPlan> {
    let load = Workload {
        seed: swarm.seed,
        topics: topics(swarm),
        writers_per_topic: swarm.writers,
        messages_per_writer: u64::MAX,
        size_bytes: 64..=swarm.payload,
        keys: 0,
        interval: Duration::from_secs(1) / swarm.rate,
    };
    load.writers()
}
