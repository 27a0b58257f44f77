//! Opening a producer or a consumer within a time, and what stands in the way when that fails.

use std::convert::Infallible;
use std::future::Future;
use std::time::Duration;

use ledgerline_client::{Admin, Client, Error, Reason, api};

use super::client::explain;
use super::values;
use crate::terminal::say;

/// How long a command waits for its topic to open when the user does not say.
pub(super) const OPEN_WITHIN: Duration = Duration::from_secs(120);
/// After how long a command says what its topic waits for, and how often it looks again.
const TOLD_AFTER: Duration = Duration::from_secs(3);
/// How long the servers may take to say what is missing.
const LOOK_WITHIN: Duration = Duration::from_secs(3);

/// Opens something of a topic within a time. Says what the server waits for: on the way when it takes longer, and at the
/// end when something did not come about in time.
pub(super) async fn open<T>(
    client: &Client,
    topic: &str,
    within: Duration,
    opening: impl Future<Output = Result<T, Error>>,
) -> anyhow::Result<T> {
    let clock = host::Clock::real();
    let admin = client.admin();
    let opening = clock.timeout(within, opening);
    let done = tokio::select! {
        biased;
        done = opening => done,
        never = tell_what_is_waited_for(&clock, &admin, topic) => match never {},
    };
    let error = match done {
        Ok(Ok(opened)) => return Ok(opened),
        Ok(Err(error)) if error.is_retryable() || error.is_outcome_unknown() => Some(error),
        Ok(Err(error)) => return Err(explain(error)),
        Err(_) => None,
    };
    let found = match clock.timeout(LOOK_WITHIN, look(&admin, topic)).await {
        Ok(Ok(found)) => found,
        Ok(Err(error)) => Some(error.to_string()),
        Err(_) => Some("the servers do not answer".to_owned()),
    };
    // What the server said last; silence is no news.
    let said = error.filter(|error| error.reason() != Reason::Unreachable);
    let said = said.map(|error| error.to_string());
    let why = found.or(said).unwrap_or_else(|| {
        "the server did not say what it waits for, nothing seems wrong; wait longer".to_owned()
    });
    let within = values::time(within);
    anyhow::bail!("topic {topic} did not open within {within}: {why}")
}

/// Says what a topic waits for that does not open at once, again whenever that changes. Never returns.
async fn tell_what_is_waited_for(clock: &host::Clock, admin: &Admin, topic: &str) -> Infallible {
    let mut told = None;
    loop {
        clock.sleep(TOLD_AFTER).await;
        let found = clock.timeout(LOOK_WITHIN, look(admin, topic)).await;
        if let Ok(Ok(Some(found))) = found
            && told.as_ref() != Some(&found)
        {
            say(format_args!("waiting for topic {topic}: {found}"));
            told = Some(found);
        }
    }
}

/// What keeps a topic from opening, as far as can be seen.
async fn look(admin: &Admin, topic: &str) -> Result<Option<String>, Error> {
    let topic = admin.get_topic(topic).await?;
    let status = admin.cluster_status().await?;
    Ok(cause(topic.quorum.unwrap_or_default(), &status))
}

/// Why a topic of this quorum may not open: too few bookies, and nodes that do not answer. What else the cluster is
/// concerned about, such as a drained node or fewer copies than are wanted, keeps no topic from opening.
fn cause(quorum: api::Quorum, status: &api::ClusterStatus) -> Option<String> {
    let is_short = writable(status) < quorum.ack;
    let lack = is_short.then(|| lack(quorum, status)).flatten();
    let bookies = status.bookies.iter();
    let bookies = bookies.filter(|it| !it.live && it.duty() != api::BookieDuty::Gone);
    let bookies = bookies.map(|it| format!("bookie {} ({}) does not answer", it.name, it.id));
    let nodes = status.nodes.iter().filter(|it| {
        it.role() == api::NodeRole::Serving && it.state() == api::SessionState::Expired
    });
    let nodes = nodes.map(|it| format!("serving node {} does not answer", it.name));
    let silent = bookies.chain(nodes).collect::<Vec<_>>().join("; ");
    match lack {
        Some(lack) if silent.is_empty() => Some(lack),
        Some(lack) => Some(format!("{lack} ({silent})")),
        None => (!silent.is_empty()).then_some(silent),
    }
}

/// How many bookies take new ledgers.
fn writable(status: &api::ClusterStatus) -> u32 {
    let takes = |bookie: &&api::BookieStatus| {
        bookie.live
            && bookie.state() == api::BookieState::ReadWrite
            && bookie.duty() == api::BookieDuty::Active
    };
    u32::try_from(status.bookies.iter().filter(takes).count()).unwrap_or(u32::MAX)
}

/// What the cluster's bookies lack for a topic of this quorum; none when they are enough.
pub(super) fn lack(quorum: api::Quorum, status: &api::ClusterStatus) -> Option<String> {
    let there = writable(status);
    let api::Quorum { write, ack } = quorum;
    let bookies = match there {
        1 => "1 bookie takes".to_owned(),
        there => format!("{there} bookies take"),
    };
    let needed = match ack {
        1 => "1 bookie".to_owned(),
        ack => format!("{ack} bookies"),
    };
    if there < ack {
        return Some(format!(
            "quorum {write}/{ack} needs {needed} that take writes, {bookies} them: nothing is stored until there are more; \
             start bookies, or use a topic with fewer copies"
        ));
    }
    (there < write).then(|| {
        format!(
            "quorum {write}/{ack} wants {write} copies, {bookies} writes: messages have {there} until there are more bookies"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(writable: usize, read_only: usize) -> api::ClusterStatus {
        let bookie = |state: api::BookieState| api::BookieStatus {
            live: true,
            state: state.into(),
            duty: api::BookieDuty::Active.into(),
            ..Default::default()
        };
        let writable = std::iter::repeat_n(bookie(api::BookieState::ReadWrite), writable);
        let read_only = std::iter::repeat_n(bookie(api::BookieState::ReadOnly), read_only);
        api::ClusterStatus {
            bookies: writable.chain(read_only).collect(),
            ..Default::default()
        }
    }

    #[test]
    fn what_bookies_lack_for_a_quorum_is_told_in_numbers() {
        let three_two = api::Quorum { write: 3, ack: 2 };
        let lack = |writable, read_only| lack(three_two, &status(writable, read_only));
        assert_eq!(lack(3, 0), None);
        let fewer = lack(2, 1).unwrap();
        assert!(
            fewer.contains("3 copies") && fewer.contains("2 bookies take"),
            "{fewer}"
        );
        let none = lack(1, 5).unwrap();
        assert!(
            none.contains("needs 2 bookies") && none.contains("1 bookie takes"),
            "{none}"
        );
    }

    #[test]
    fn only_what_may_keep_a_topic_from_opening_is_told_as_its_cause() {
        let three_two = api::Quorum { write: 3, ack: 2 };
        let mut status = status(2, 1);
        status.concerns = vec!["serving node s2 is drained".to_owned()];
        assert_eq!(cause(three_two, &status), None, "fewer copies open too");
        status.bookies[2].live = false;
        status.bookies[2].name = "b3".to_owned();
        status.bookies[2].id = 3;
        let silent = cause(three_two, &status);
        assert_eq!(silent.as_deref(), Some("bookie b3 (3) does not answer"));
        status.bookies[1].live = false;
        status.bookies[1].duty = api::BookieDuty::Gone.into();
        status.nodes = vec![api::Node {
            name: "s1".to_owned(),
            role: api::NodeRole::Serving.into(),
            state: api::SessionState::Expired.into(),
            ..Default::default()
        }];
        let both = cause(three_two, &status).unwrap();
        let silent = "(bookie b3 (3) does not answer; serving node s1 does not answer)";
        assert!(
            both.contains("needs 2 bookies") && both.ends_with(silent),
            "{both}"
        );
    }
}
