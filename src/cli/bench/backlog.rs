//! Reading what a topic holds.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use ledgerline_client::{ByteSize, StartPosition, SubscriptionMode};
use serde_json::json;

use super::figures::grouped;
use super::meter::{Counted, Meter};
use super::pace::End;
use super::publish::{self, Load};
use super::read::{self, Habits, Waited};
use super::report::Report;
use super::scene::Scene;
use super::verify::Verifier;
use crate::cli::client::explain;

/// Who reads a backlog.
#[derive(Debug, Clone, Copy)]
pub(super) enum Readers {
    /// One consumer, in order: so many messages a second at most, or as fast as they come.
    One { rate: Option<u32> },
    /// So many that share it, and wait for each of their acks.
    Sharing(u32),
}

/// What there is to read.
struct Backlog {
    messages: u64,
    first_offset: u64,
    /// How many of each stream were acked, if this run published them.
    acked: Option<Vec<u64>>,
    /// Whether it is all that the topic holds.
    is_whole: bool,
}

/// Reads a backlog of `count` messages, or of all there are; publishes it first if there are none.
pub(super) async fn read(
    scene: &Scene,
    load: &Load,
    count: Option<u64>,
    readers: Readers,
    report: &mut Report,
) -> anyhow::Result<()> {
    let backlog = find_or_make(scene, load, count).await?;
    tell(load, &backlog, readers, report);
    let habits = match readers {
        Readers::One { rate } => Habits {
            start: StartPosition::Earliest,
            mode: SubscriptionMode::Exclusive,
            consumers: 1,
            is_confirmed: false,
            rate,
            credit: (ahead(rate), ByteSize::mib(16)),
            timeout: load.timeout,
        },
        Readers::Sharing(consumers) => Habits {
            start: StartPosition::Earliest,
            mode: SubscriptionMode::Shared,
            consumers,
            is_confirmed: true,
            rate: None,
            credit: (5_000, ByteSize::mib(8)),
            timeout: load.timeout,
        },
    };
    let names = read::subscribe(scene, 1, habits).await?;
    // What the server sends to a consumer that is open counts, so opening it does.
    let now = scene.host.clock.now();
    let meter = Arc::new(Meter::new(Counted::Messages, now, Duration::ZERO));
    let opened = read::open(scene, names, habits).await?;
    let own = backlog.acked.is_some().then_some(scene.run);
    let is_ordered = matches!(readers, Readers::One { .. });
    let verifier = || Verifier::new(own, is_ordered, backlog.first_offset);
    let mut reading = read::start(scene, opened, &meter, None, verifier);
    let end = End {
        count: Some(backlog.messages),
        ..load.end
    };
    let waiting = reading.wait_for(backlog.messages);
    let done = scene
        .during("consuming", (&*meter, Some(end)), waiting)
        .await;
    let waited = *done.as_ref().unwrap_or(&Waited::Stopped);
    let measured = meter.measured();
    let findings = Arc::clone(&reading.findings[0]);
    let verdict = findings.verdict(|found| match (waited, &backlog.acked) {
        (Waited::Stopped, _) => found.so_far(),
        (_, Some(acked)) => found.all_of(acked),
        // Consumers that share a part of a topic read it with holes.
        (_, None) if is_ordered || backlog.is_whole => found.all_so_far(),
        (_, None) => found.so_far(),
    });
    let ended = match &done {
        Ok(_) => reading.end().await,
        Err(_) => Ok(()), // Nobody may be there to hear of acks.
    };
    if habits.is_confirmed {
        report.latency("ack", measured.times.clone());
        report.acks_refused(findings.refused());
    }
    report.figure(measured);
    report.verdict(verdict, waited);
    done?;
    ended
}

/// Messages that the one consumer is sent ahead at most.
fn ahead(rate: Option<u32>) -> u32 {
    // With 16 MiB: more than the network holds, and no more than a cache of the processor, so that it is read while it
    // is there.
    let most = 50_000;
    // At a pace, what is taken in a fifth of a second: grants go out by halves, so that the server reads on smoothly, and
    // no lease ends while its message waits for its turn.
    rate.map_or(most, |rate| (rate / 5).clamp(1, most))
}

fn tell(load: &Load, backlog: &Backlog, readers: Readers, report: &mut Report) {
    let (consumers, more) = match readers {
        Readers::One { rate: None } => (1, ", read by 1 consumer".to_owned()),
        Readers::One { rate: Some(rate) } => {
            let rate = grouped(rate.into());
            (1, format!(", read by 1 consumer at {rate} msg/s at most"))
        }
        Readers::Sharing(consumers) => (consumers, format!(", shared by {consumers} consumers")),
    };
    report.describe(load, &more);
    if backlog.acked.is_none() {
        report.found(backlog.messages, &more);
    }
    report.set("is_backlog_new", json!(backlog.acked.is_some()));
    report.set("consumers", json!(consumers));
    if let Readers::One { rate } = readers {
        report.set("read_rate_per_s", json!(rate));
    }
}

async fn find_or_make(scene: &Scene, load: &Load, count: Option<u64>) -> anyhow::Result<Backlog> {
    let topic = &scene.topic(0);
    let admin = scene.client.admin();
    let stats = admin.topic_stats(topic).await.map_err(explain)?;
    let there = stats.shards.iter();
    let there = there
        .map(|shard| shard.next_offset - shard.first_offset)
        .sum();
    if there == 0 {
        let publishing = publish::start(scene, load).await?;
        let meter = Arc::clone(&publishing.meter);
        let shown = (&*meter, Some(load.end));
        let acked = scene
            .during("filling the topic", shown, publishing.finish())
            .await?;
        scene.check_stopped()?;
        return Ok(Backlog {
            messages: acked.iter().sum(),
            first_offset: stats.shards.first().map_or(0, |shard| shard.next_offset),
            acked: Some(acked),
            is_whole: true,
        });
    }
    let messages = count.unwrap_or(there);
    if messages > there {
        bail!(
            "topic {topic} holds {there} messages; lower --count to {there}, or choose a new --topic for a backlog of {messages}"
        );
    }
    Ok(Backlog {
        messages,
        first_offset: stats.shards.first().map_or(0, |shard| shard.first_offset),
        acked: None,
        is_whole: messages == there,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_consumer_at_a_pace_is_sent_ahead_what_it_takes_in_a_moment() {
        let all = [None, Some(1), Some(1_000), Some(u32::MAX)].map(ahead);
        assert_eq!(all, [50_000, 1, 200, 50_000]);
    }
}
