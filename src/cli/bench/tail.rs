//! Publishing, alone or with subscriptions that read at the end of the topic.

use std::sync::Arc;

use ledgerline_client::{ByteSize, StartPosition, SubscriptionMode};

use super::meter::{Counted, Meter};
use super::pace::End;
use super::publish::{self, Load};
use super::read::{self, Habits, Waited};
use super::report::Report;
use super::scene::Scene;
use super::verify::{Verdict, Verifier};

/// Memory for what is on its way to all consumers, and the most for one.
const CREDIT_ALL: u64 = 512;
const CREDIT_EACH: u64 = 16;

/// Publishes, and times acks.
pub(super) async fn publish(scene: &Scene, load: &Load, report: &mut Report) -> anyhow::Result<()> {
    let publishing = publish::start(scene, load).await?;
    let meter = Arc::clone(&publishing.meter);
    let shown = (&*meter, Some(load.end));
    let done = scene.during("publishing", shown, publishing.finish()).await;
    // What was measured before a failure is told too.
    let measured = meter.measured();
    report.latency("ack", measured.times.clone());
    report.figure(measured);
    done.map(|_| ())
}

/// Publishes to subscriptions with a consumer each, and times deliveries.
pub(super) async fn deliver(
    scene: &Scene,
    load: &Load,
    subscriptions: u32,
    report: &mut Report,
) -> anyhow::Result<()> {
    let each = (CREDIT_ALL / u64::from(subscriptions)).clamp(1, CREDIT_EACH);
    let habits = Habits {
        start: StartPosition::Latest,
        mode: SubscriptionMode::Exclusive,
        consumers: 1,
        is_confirmed: false,
        rate: None,
        credit: (10_000, ByteSize::mib(each)),
        timeout: load.timeout,
    };
    let names = read::subscribe(scene, subscriptions, habits).await?;
    let opened = read::open(scene, names, habits).await?;
    let counted = match subscriptions {
        1 => Counted::Messages,
        _ => Counted::Deliveries,
    };
    let meter = Meter::new(counted, scene.host.clock.now(), load.warmup);
    let meter = Arc::new(meter);
    let expected = || Verifier::new(Some(scene.run), true, 0);
    let mut reading = read::start(scene, opened, &meter, Some(scene.run), expected);
    let publishing = publish::start(scene, load).await?;
    let acks = Arc::clone(&publishing.meter);
    let count = load.end.count.map(|it| it * u64::from(subscriptions));
    let end = End { count, ..load.end };
    let work = async {
        let acked = tokio::select! {
            biased;
            failed = reading.failed() => return Err(failed),
            acked = publishing.finish() => acked?,
        };
        let waited = reading.wait_for(acked.iter().sum()).await?;
        Ok((acked, waited))
    };
    let done = scene.during("delivering", (&*meter, Some(end)), work).await;
    let mut verdict = Verdict::default();
    for findings in &reading.findings {
        verdict.add(&findings.verdict(|found| match &done {
            // The rest was on its way.
            Err(_) | Ok((_, Waited::Stopped)) => found.so_far(),
            Ok((acked, Waited::All | Waited::InVain)) => found.all_of(acked),
        }));
    }
    let ended = match &done {
        Ok(_) => reading.end().await,
        Err(_) => Ok(()), // Nobody may be there to hear of acks.
    };
    report.latency("ack", acks.measured().times);
    let measured = meter.measured();
    report.latency("e2e", measured.times.clone());
    report.figure(measured);
    let waited = done.as_ref().map_or(Waited::Stopped, |(_, waited)| *waited);
    report.verdict(verdict, waited);
    done?;
    ended
}
