//! Being told what changes.

use std::collections::VecDeque;
use std::fmt;

use futures::StreamExt;
use proto::meta as wire;
use proto::meta::Watched;
use proto::meta_v1 as pb;
use proto::meta_v1::meta_client::MetaClient as Stub;
use proto::transport::Turn;
use tonic::Streaming;
use tonic::transport::Channel;
use types::Revision;
use types::command::ChangeEvent;

use crate::{MetaClient, MetaError};

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WatchEvent {
    /// Something changed.
    Changed(ChangeEvent),
    /// Changes may have been missed: what is known may be old, read it anew.
    Missed,
}

/// Changes of the metadata in the order of their revisions, over lost connections: each is told, or [`WatchEvent::Missed`]
/// is.
pub struct MetaWatch {
    meta: MetaClient,
    stream: Option<(Streaming<pb::WatchResponse>, Turn)>,
    /// Everything up to it was told.
    after: Option<Revision>,
    told: VecDeque<WatchEvent>,
}

impl MetaWatch {
    pub(crate) const fn new(meta: MetaClient) -> Self {
        Self {
            meta,
            stream: None,
            after: None,
            told: VecDeque::new(),
        }
    }

    /// Waits for the next change. The first event is [`WatchEvent::Missed`]: what was read before the watch stood may
    /// be old.
    ///
    /// # Cancel safety
    ///
    /// Nothing is lost.
    pub async fn next(&mut self) -> WatchEvent {
        loop {
            if let Some(event) = self.told.pop_front() {
                return event;
            }
            if self.stream.is_none() {
                let (stub, turn) = self.meta.stub();
                match self.open(stub).await {
                    Ok(stream) => self.stream = Some((stream, turn)),
                    Err(error) => {
                        tracing::debug!(%error, "changes of the metadata are not told now");
                        self.meta.another_node(turn, Some(&error));
                        let host = self.meta.host();
                        host.clock
                            .sleep(std::time::Duration::from_millis(200))
                            .await;
                        continue;
                    }
                }
            }
            let Some((stream, turn)) = &mut self.stream else {
                continue;
            };
            let turn = *turn;
            match stream.next().await {
                Some(Ok(answer)) => self.take_in(answer),
                Some(Err(_)) | None => {
                    self.stream = None;
                    self.meta.another_node(turn, None);
                }
            }
        }
    }

    async fn open(
        &self,
        mut stub: Stub<Channel>,
    ) -> Result<Streaming<pb::WatchResponse>, MetaError> {
        let request = pb::WatchRequest {
            caller: Some(self.meta.caller()),
            after: self.after.map(Revision::get),
        };
        match stub.watch(request).await {
            Ok(answer) => Ok(answer.into_inner()),
            Err(status) => {
                let deadline = self.meta.one_try();
                Err(self.meta.after_move(MetaError::of(&status), deadline).await)
            }
        }
    }

    fn take_in(&mut self, answer: pb::WatchResponse) {
        match wire::watched(answer) {
            Ok(Watched::Changes { events, upto }) => {
                if self.after.is_none() {
                    self.told.push_back(WatchEvent::Missed);
                }
                // A stream that was opened again may tell what was told before.
                let after = self.after;
                let new = events
                    .into_iter()
                    .filter(|event| after.is_none_or(|a| event.revision > a));
                self.told.extend(new.map(WatchEvent::Changed));
                self.after = Some(upto);
            }
            Ok(Watched::Reset { now }) => {
                self.after = Some(now);
                self.told.push_back(WatchEvent::Missed);
            }
            Err(problem) => {
                tracing::warn!(%problem, "meta told a change that makes no sense");
                self.stream = None;
                self.after = None;
            }
        }
    }
}

impl fmt::Debug for MetaWatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MetaWatch")
            .field("after", &self.after)
            .finish_non_exhaustive()
    }
}
