//! Making topics.

use std::time::Duration;

use anyhow::bail;
use futures::stream;
use futures::{StreamExt, future};
use ledgerline_client::{Reason, api};

use super::meter::{Counted, Meter};
use super::pace::End;
use super::report::Report;
use super::scene::{AGAIN, Scene, quorum_of};
use crate::cli::client::explain;
use crate::terminal::Interrupted;

/// What is made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Making {
    /// How many topics.
    pub(super) count: u32,
    /// How many are asked for at a time.
    pub(super) at_once: u32,
    /// How long each is asked for again while that is refused for a moment.
    pub(super) timeout: Duration,
}

/// Makes topics, and times each.
pub(super) async fn make(scene: &Scene, making: Making, report: &mut Report) -> anyhow::Result<()> {
    report.describe_topics(making);
    let meter = Meter::new(Counted::Topics, scene.host.clock.now(), Duration::ZERO);
    let end = End {
        count: Some(making.count.into()),
        duration: Duration::ZERO,
    };
    let work = make_all(scene, making, &meter, report);
    let done = scene
        .during("making topics", (&meter, Some(end)), work)
        .await;
    // What was measured before a failure is told too.
    let measured = meter.measured();
    if measured.count > 0 {
        report.latency("create", measured.times.clone());
        report.figure(measured);
        return done;
    }
    done?;
    scene.check_stopped()
}

/// Makes them until all are there, one cannot be made, or the user stops it. What was asked for is waited for, also then:
/// a topic that came later would not be deleted.
async fn make_all(
    scene: &Scene,
    making: Making,
    meter: &Meter,
    report: &mut Report,
) -> anyhow::Result<()> {
    let stop = scene.stop.child_token();
    let indexes = stream::iter(0..making.count).take_while(|_| future::ready(!stop.is_cancelled()));
    // Boxed: what calls the servers is large.
    let mut created = indexes
        .map(|index| Box::pin(create_timed(scene, making, index, meter)))
        .buffer_unordered(making.at_once as usize);
    let mut failed = None;
    while let Some(done) = created.next().await {
        match done {
            Ok(topic) => report.quorum(quorum_of(&topic)),
            Err(error) => {
                failed = failed.or(Some(error));
                stop.cancel();
            }
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn create_timed(
    scene: &Scene,
    making: Making,
    index: u32,
    meter: &Meter,
) -> anyhow::Result<api::Topic> {
    let clock = &scene.host.clock;
    let asked = clock.now();
    let topic = create(scene, index, making.timeout).await?;
    meter.count(clock.now(), 1, 0, &[asked]);
    Ok(topic)
}

/// Makes a topic, and again while that is refused for a moment.
async fn create(scene: &Scene, index: u32, timeout: Duration) -> anyhow::Result<api::Topic> {
    let (clock, admin) = (&scene.host.clock, scene.client.admin());
    let topic = &scene.topic(index);
    scene.makes_topic(index);
    let begun = clock.now();
    let mut may_be_own = false;
    loop {
        let left = timeout.saturating_sub(clock.now().since(begun));
        let creating = admin.create_topic(topic, scene.options);
        let Ok(created) = clock.timeout(left, creating).await else {
            bail!("no answer in time to the creation of topic {topic}; it may or may not be there");
        };
        let error = match created {
            Ok(created) => return Ok(created),
            Err(error) => error,
        };
        if error.reason() == Reason::AlreadyExists {
            if may_be_own {
                return admin.get_topic(topic).await.map_err(explain);
            }
            bail!(
                "topic {topic} exists already; choose a new --topic, or delete those whose names begin with it"
            );
        }
        let is_passing = error.is_retryable() || error.is_outcome_unknown();
        let is_over = clock.now().since(begun) + AGAIN >= timeout;
        if is_passing && scene.stop.is_cancelled() {
            return Err(Interrupted(format!("topic {topic} may or may not be there")).into());
        }
        if !is_passing || is_over {
            return Err(explain(error));
        }
        // Made without an answer, it is there the next time.
        may_be_own |= error.is_outcome_unknown();
        clock.sleep(AGAIN).await;
    }
}
