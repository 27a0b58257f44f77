//! What is to be done, from the flags, and what is refused before anything is sent.

use std::time::Duration;

use anyhow::bail;

use super::super::Work;
use super::super::backlog::Readers;
use super::super::pace::End;
use super::super::publish::{Load, Way};
use super::super::stamp;
use super::super::topics::Making;
use super::{Amount, Backlog, Content, Publish, Scenario};
use crate::cli::produce::{Batching, LINE_MAX};
use crate::cli::values;

/// Messages of a backlog that is published because there is none.
const BACKLOG: u64 = 500_000;
/// How long a load goes on, and how long it warms up, when the user does not say.
const DURATION: Duration = Duration::from_secs(10);
const WARMUP: Duration = Duration::from_secs(1);

impl Scenario {
    /// What it does.
    ///
    /// # Errors
    ///
    /// Flags that make no sense, with the one to change.
    pub(in crate::cli::bench) fn work(&self, timeout: Duration) -> anyhow::Result<Work> {
        Ok(match self {
            Self::Publish(it) => {
                let (plan, batching) = (it.plan()?, &it.batching);
                Work::Publish(load(plan, &it.amount, it.content, batching, timeout)?)
            }
            Self::Latency(it) => {
                let plan = Plan {
                    way: Way::Tasks(1),
                    ..Plan::ONE
                };
                let batching = &Batching::default();
                Work::Publish(load(plan, &it.amount, it.content, batching, timeout)?)
            }
            Self::E2e(it) => {
                let rate = Some(it.rate);
                let plan = Plan { rate, ..Plan::ONE };
                let load = load(plan, &it.amount, it.content, &it.batching, timeout)?;
                Work::Deliver(load, 1)
            }
            Self::Fanout(it) => {
                let rate = it.rate;
                let plan = Plan { rate, ..Plan::ONE };
                let load = load(plan, &it.amount, it.content, &it.batching, timeout)?;
                Work::Deliver(load, it.subscriptions)
            }
            Self::Catchup(it) => it.backlog.read(Readers::One { rate: it.rate }, timeout)?,
            Self::Shared(it) => it.backlog.read(Readers::Sharing(it.consumers), timeout)?,
            Self::Topics(it) => Work::Topics(Making {
                count: it.count,
                at_once: it.at_once,
                timeout,
            }),
        })
    }
}

impl Backlog {
    fn read(&self, readers: Readers, timeout: Duration) -> anyhow::Result<Work> {
        let amount = Amount {
            count: Some(self.count.unwrap_or(BACKLOG)),
            duration: None,
            warmup: None,
        };
        let batching = &Batching::default();
        let load = load(Plan::ONE, &amount, self.content, batching, timeout)?;
        let count = self.count;
        Ok(Work::Read(load, count, readers))
    }
}

/// Who publishes, and how.
struct Plan {
    producers: u32,
    topics: u32,
    way: Way,
    rate: Option<u32>,
}

impl Plan {
    /// One producer, as fast as acks come.
    const ONE: Self = Self {
        producers: 1,
        topics: 1,
        way: Way::Stream { outstanding: None },
        rate: None,
    };
}

impl Publish {
    fn plan(&self) -> anyhow::Result<Plan> {
        let producers = self.producers.unwrap_or(self.topics);
        if producers < self.topics {
            let topics = self.topics;
            bail!(
                "{topics} topics need as many producers; set --producers to {topics} at least, or --topics to {producers}"
            );
        }
        let way = match (self.tasks, self.unary) {
            (Some(tasks), _) => Way::Tasks(tasks),
            (None, true) => Way::Unary,
            (None, false) => Way::Stream {
                outstanding: self.outstanding,
            },
        };
        Ok(Plan {
            producers,
            topics: self.topics,
            way,
            rate: self.rate,
        })
    }
}

fn load(
    plan: Plan,
    amount: &Amount,
    content: Content,
    batching: &Batching,
    timeout: Duration,
) -> anyhow::Result<Load> {
    let Content {
        size,
        compressible,
        compression,
    } = content;
    let (least, most) = (stamp::LEN, LINE_MAX);
    if !(least as u64..=most as u64).contains(&size.get()) {
        bail!(
            "messages of {size} cannot be used: each carries a stamp; set --size to at least {least}B and at most {most}B"
        );
    }
    let duration = amount.duration.unwrap_or(DURATION);
    if duration.is_zero() {
        bail!("nothing is measured in no time; set --duration to 1s or more");
    }
    let warmup = amount.warmup.unwrap_or(match amount.count {
        Some(_) => Duration::ZERO,
        None => WARMUP.min(duration / 5),
    });
    if amount.count.is_none() && warmup >= duration {
        let (warmup, duration) = (values::time(warmup), values::time(duration));
        bail!(
            "a warm-up of {warmup} leaves nothing of {duration}; lower --warmup or raise --duration"
        );
    }
    if plan.way == Way::Unary && compression.codec().is_some() {
        bail!(
            "a unary call has one message, which is not compressed; leave out --compression or --unary"
        );
    }
    let in_flight_max = if matches!(plan.way, Way::Unary) {
        10_000
    } else {
        64
    };
    if !(1..=in_flight_max).contains(&batching.in_flight) {
        bail!("set --in-flight to 1 at least and {in_flight_max} at most");
    }
    if !(1..=4 << 20).contains(&batching.batch.get()) {
        bail!("set --batch to 1B at least and 4MiB at most");
    }
    Ok(Load {
        producers: plan.producers,
        topics: plan.topics,
        way: plan.way,
        rate: plan.rate,
        size,
        compressible,
        codec: compression.codec(),
        end: End {
            count: amount.count,
            duration,
        },
        warmup,
        batching: batching.clone(),
        timeout,
    })
}
