//! The history of changes: a watch on the key that every commit writes, and the newest of it in memory.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

use host::Clock;
use proto::etcd::WatchResponse;
use proto::etcd::event::EventType;
use types::Revision;
use types::command::ChangeEvent;

use super::super::ChangesSince;
use super::client::{Client, Failure};
use super::layout::{Layout, decode_changes, one};

/// The wait before a broken watch is opened again.
const PAUSE: Duration = Duration::from_millis(100);

/// The newest commits with what they changed.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Window {
    /// All commits after it, up to `seen`, are here.
    oldest: Revision,
    /// The last commit that was heard of.
    seen: Revision,
    /// What is compacted in etcd: a watch begins after it.
    compacted: Revision,
    commits: VecDeque<(Revision, Vec<ChangeEvent>)>,
    history: usize,
}

impl Window {
    pub(super) const fn new(after: Revision, history: usize) -> Self {
        Self {
            oldest: after,
            seen: after,
            compacted: Revision::new(0),
            commits: VecDeque::new(),
            history,
        }
    }

    /// Takes a commit in; one that is known already is passed over.
    fn push(&mut self, at: Revision, events: Vec<ChangeEvent>) {
        if at <= self.seen {
            return;
        }
        self.seen = at;
        self.commits.push_back((at, events));
        if self.commits.len() > self.history
            && let Some((dropped, _)) = self.commits.pop_front()
        {
            self.oldest = dropped;
        }
    }

    /// etcd has compacted all up to and including `upto`, when `last` was the newest commit.
    fn compact(&mut self, upto: Revision, last: Revision) {
        self.compacted = self.compacted.max(upto);
        if last <= self.seen {
            return; // Nothing was missed.
        }
        // Commits between the last one seen and the compaction are lost, those after it are still to come.
        let from = upto.min(last);
        self.commits.clear();
        self.oldest = from;
        self.seen = from;
    }

    /// Where a watch has to begin.
    fn next(&self) -> Revision {
        self.seen.max(self.compacted).next()
    }

    /// Whole commits after a revision, about `limit` changes.
    pub(super) fn after(&self, after: Revision, limit: usize) -> ChangesSince {
        if after < self.oldest || after > self.seen {
            return ChangesSince::Compacted { now: self.seen };
        }
        let mut events = Vec::new();
        let mut upto = after;
        let from = self.commits.partition_point(|(at, _)| *at <= after);
        for (at, changes) in self.commits.iter().skip(from) {
            if events.len() >= limit && !changes.is_empty() {
                return ChangesSince::Events { events, upto };
            }
            events.extend(changes.iter().cloned());
            upto = *at;
        }
        ChangesSince::Events { events, upto }
    }
}

/// The window, and who fills it.
#[derive(Debug)]
pub(super) struct Follower {
    client: Arc<Client>,
    layout: Layout,
    clock: Clock,
    window: Mutex<Window>,
    publish: watch::Sender<Revision>,
    /// The watch is behind what is known otherwise: open it on another member.
    is_behind: Notify,
}

impl Follower {
    pub(super) fn new(
        client: Arc<Client>,
        layout: Layout,
        clock: Clock,
        after: Revision,
        history: usize,
    ) -> Self {
        Self {
            client,
            layout,
            clock,
            window: Mutex::new(Window::new(after, history)),
            publish: watch::Sender::new(after),
            is_behind: Notify::new(),
        }
    }

    pub(super) fn window(&self) -> MutexGuard<'_, Window> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn subscribe(&self) -> watch::Receiver<Revision> {
        self.publish.subscribe()
    }

    /// Waits until commits up to a revision are known; false when they are not in time.
    pub(super) async fn caught_up(&self, upto: Revision, within: Duration) -> bool {
        let mut seen = self.publish.subscribe();
        let wait = seen.wait_for(|seen| *seen >= upto);
        let has = matches!(self.clock.timeout(within, wait).await, Ok(Ok(_)));
        if !has {
            self.is_behind.notify_one();
        }
        has
    }

    /// Follows until the node stops.
    pub(super) async fn run(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let failure = tokio::select! {
                biased; // Stop first.
                () = stop.cancelled() => return,
                Err(failure) = self.follow() => failure,
            };
            tracing::debug!(%failure, "the watch on etcd is opened again");
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.clock.sleep(PAUSE) => {}
            }
        }
    }

    async fn follow(&self) -> Result<Infallible, Failure> {
        let from = self.layout.number(self.window().next());
        let (mut stream, turn) = self.client.watch(self.layout.changes(), from).await?;
        loop {
            let message = tokio::select! {
                biased;
                message = stream.message() => message,
                () = self.is_behind.notified() => {
                    self.client.failed(turn);
                    return Err(Failure::Unknown("the watch is behind".to_owned()));
                }
            };
            match message {
                Ok(Some(answer)) => self.take_in(answer).await?,
                Ok(None) => {
                    return Err(Failure::Unknown("the watch ended".to_owned()));
                }
                Err(status) => {
                    self.client.failed(turn);
                    return Err(Failure::Unknown(status.message().to_owned()));
                }
            }
        }
    }

    async fn take_in(&self, answer: WatchResponse) -> Result<(), Failure> {
        if answer.compact_revision > 0 {
            let upto = self.layout.revision(answer.compact_revision);
            let last = self.last_commit().await?;
            tracing::warn!(%upto, "etcd has compacted changes that were not read yet");
            self.window().compact(upto, last);
            self.publish();
            return Err(Failure::Compacted);
        }
        if answer.canceled {
            return Err(Failure::Unknown(answer.cancel_reason));
        }
        for event in answer.events {
            let is_put = event.r#type == i32::from(EventType::Put);
            let Some(kv) = event.kv.filter(|_| is_put) else {
                return Err(Failure::Refused(
                    "the key of changes was deleted".to_owned(),
                ));
            };
            let at = self.layout.revision(kv.mod_revision);
            match decode_changes(at, &kv.value) {
                Some(events) => self.window().push(at, events),
                None => {
                    // Who follows is told to read anew, which is always right.
                    tracing::error!(revision = %at, "a list of changes is damaged or newer than this node");
                    self.window().compact(at, at);
                }
            }
        }
        self.publish();
        Ok(())
    }

    /// The revision of the last commit, as of now.
    pub(super) async fn last_commit(&self) -> Result<Revision, Failure> {
        let answer = self.client.range(one(self.layout.changes())).await?;
        let last = answer.kvs.first().map_or(0, |kv| kv.mod_revision);
        Ok(self.layout.revision(last))
    }

    fn publish(&self) {
        let seen = self.window().seen;
        self.publish.send_if_modified(|told| {
            let is_new = seen > *told;
            *told = seen.max(*told);
            is_new
        });
    }
}

#[cfg(test)]
mod tests {
    use types::ShardId;
    use types::command::Change;

    use super::*;

    fn at(revision: u64) -> Revision {
        Revision::new(revision)
    }

    fn event(revision: u64) -> ChangeEvent {
        ChangeEvent {
            revision: at(revision),
            change: Change::Shard(ShardId::new(revision)),
        }
    }

    /// Commits at these revisions, one change each.
    fn window(history: usize, commits: &[u64]) -> Window {
        let mut window = Window::new(at(0), history);
        for commit in commits {
            window.push(at(*commit), vec![event(*commit)]);
        }
        window
    }

    fn events(commits: &[u64], upto: u64) -> ChangesSince {
        ChangesSince::Events {
            events: commits.iter().copied().map(event).collect(),
            upto: at(upto),
        }
    }

    #[test]
    fn commits_come_in_order_from_any_revision_and_only_once() {
        let window = window(9, &[3, 5, 5, 4, 9]);
        assert_eq!(window.after(at(0), 99), events(&[3, 5, 9], 9));
        assert_eq!(window.after(at(4), 99), events(&[5, 9], 9));
        assert_eq!(window.after(at(0), 2), events(&[3, 5], 5));
        assert_eq!(window.after(at(9), 99), events(&[], 9));
        assert_eq!(window.next(), at(10));
    }

    #[test]
    fn what_is_farther_back_than_the_history_is_compacted() {
        let window = window(2, &[3, 5, 9]);
        let compacted = ChangesSince::Compacted { now: at(9) };
        assert_eq!(window.after(at(2), 99), compacted);
        assert_eq!(window.after(at(3), 99), events(&[5, 9], 9));
        assert_eq!(window.after(at(10), 99), compacted);
    }

    #[test]
    fn compaction_that_passed_nothing_by_loses_nothing() {
        let mut window = window(9, &[3, 5]);
        window.compact(at(20), at(5));
        assert_eq!(window.after(at(0), 99), events(&[3, 5], 5));
        assert_eq!(window.next(), at(21));
    }

    #[test]
    fn compaction_of_unread_commits_is_told_once_and_not_for_ever() {
        let mut window = window(9, &[3, 5]);
        window.compact(at(20), at(11)); // Commits up to 11 are lost.
        assert_eq!(
            window.after(at(5), 99),
            ChangesSince::Compacted { now: at(11) }
        );
        assert_eq!(window.after(at(11), 99), events(&[], 11));
        window.push(at(21), vec![event(21)]);
        assert_eq!(window.after(at(11), 99), events(&[21], 21));
    }

    #[test]
    fn commits_after_a_compaction_are_still_to_come() {
        let mut window = window(9, &[3]);
        window.compact(at(20), at(25));
        assert_eq!(window.next(), at(21));
        window.push(at(25), vec![event(25)]);
        assert_eq!(window.after(at(20), 99), events(&[25], 25));
        assert_eq!(
            window.after(at(3), 99),
            ChangesSince::Compacted { now: at(25) }
        );
    }
}
