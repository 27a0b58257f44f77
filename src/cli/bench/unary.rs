//! Publishing with a call for each message, as a program does that has nothing but the generated client.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use host::Clock;
use ledgerline_client::Error;
use proto::transport::{ChannelOptions, address_of, channel_with};
use proto::v1::publish_request::Body;
use proto::v1::publisher_client::PublisherClient;
use proto::v1::{Message, MessageBatch, PublishRequest};
use tonic::transport::Channel;

use super::scene::Scene;
use crate::cli::client::explain;

/// How long to wait before a call that was refused is made again.
const AGAIN: Duration = Duration::from_millis(20);

/// A connection of its own to a serving node. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Unary {
    client: PublisherClient<Channel>,
    topic: String,
    clock: Clock,
    timeout: Duration,
}

impl Unary {
    /// The one of producer `index`, who take the servers that the user named in turn.
    pub(super) fn new(
        scene: &Scene,
        topic: &str,
        index: u32,
        timeout: Duration,
    ) -> anyhow::Result<Self> {
        let server = &scene.servers[index as usize % scene.servers.len()];
        let address = address_of(server.trim()).map_err(|problem| explain(problem.into()))?;
        let channel = channel_with(&scene.host.net, &address, &ChannelOptions::attentive());
        Ok(Self {
            client: PublisherClient::new(channel),
            topic: topic.to_owned(),
            clock: scene.host.clock.clone(),
            timeout,
        })
    }

    /// Publishes one message, and again while it is refused for a moment. One whose outcome is not known is an error:
    /// a call is not numbered, and might be stored twice.
    pub(super) async fn publish(&mut self, payload: Bytes) -> anyhow::Result<()> {
        let message = Message {
            payload,
            ..Message::default()
        };
        let request = PublishRequest {
            topic: self.topic.clone(),
            body: Some(Body::Batch(MessageBatch {
                messages: vec![message],
            })),
            crc32c: None,
        };
        let begun = self.clock.now();
        let mut refused = None;
        loop {
            let left = self.timeout.saturating_sub(self.clock.now().since(begun));
            if let Some(error) = refused
                && left.is_zero()
            {
                return Err(explain(error));
            }
            let call = self.client.publish(request.clone());
            let Ok(answer) = self.clock.timeout(left, call).await else {
                bail!("no answer to a publish call in time; it may or may not be stored");
            };
            let error = match answer {
                Ok(answer) => {
                    let receipt = answer.into_inner().receipts.pop();
                    let receipt = receipt.context("the server answered without a receipt")?;
                    let Some(refusal) = receipt.status else {
                        return Ok(());
                    };
                    Error::from(proto::status::from_rpc(&refusal))
                }
                Err(status) => Error::from(status),
            };
            if !error.is_retryable() {
                return Err(explain(error));
            }
            refused = Some(error);
            self.clock.sleep(AGAIN).await;
        }
    }
}
