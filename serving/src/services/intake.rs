//! The look into a batch on receipt, before anything else sees it.

use host::Compute;
use proto::hot::Incoming;
use types::Problem;
use types::batch::Body;

use crate::config::ServingConfig;

/// The largest compressed batch, opened, that is checked on a network thread: it takes some tens of microseconds, little
/// more than going to another thread and back.
const CHECKED_HERE: usize = 64 * 1024;

/// Checks a batch and counts its messages. A compressed one is opened for it, and what was opened forgotten again: a
/// small one here on the task of its connection, any other beside the network threads, as many at once as there are
/// processors. The stream waits meanwhile, so its batches stay in order, and a client that sends more than the node can
/// open is held back by the transport.
pub(crate) async fn checked(
    compute: &Compute,
    config: &ServingConfig,
    batch: Result<Incoming, Problem>,
) -> Result<(Body, u32), Problem> {
    let Incoming {
        body,
        claimed_count,
    } = batch?;
    let Some(compression) = body.compression else {
        let facts = types::batch::check(&body.bytes, &config.batch_limits());
        let facts = facts.map_err(|error| error.problem("batch"))?;
        return Ok((body, facts.count));
    };
    let claimed = claimed_count.unwrap_or_default();
    let limits = config.compressed_limits();
    let bytes = body.bytes.clone();
    let check = move || compression::check(compression, claimed, &bytes, &limits);
    let most = body.len().max(compression.uncompressed_bytes as usize);
    let facts = if most <= CHECKED_HERE {
        check()
    } else {
        compute.run(check).await
    };
    let facts = facts.map_err(|error| error.problem("compressed"))?;
    Ok((body, facts.count))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use bytes::BytesMut;
    use compression::Compressor;
    use futures::poll;
    use host::Host;
    use types::Reason;
    use types::batch::{Codec, MessageParts};

    use super::*;

    fn config() -> ServingConfig {
        let address = host::net::Address::new("127.0.0.1:0");
        ServingConfig::new("a".parse().unwrap(), address)
    }

    /// A compressed batch of one message that shrinks, claimed to hold `count`.
    fn batch(len: usize, count: u32) -> Result<Incoming, Problem> {
        let mut plain = BytesMut::new();
        let message = MessageParts {
            payload: &vec![7; len],
            ..MessageParts::default()
        };
        message.append_to(&mut plain);
        let body = Compressor::new(Codec::Lz4).compress(plain.freeze(), 100);
        assert!(body.compression.is_some(), "it shrinks");
        Ok(Incoming {
            body,
            claimed_count: Some(count),
        })
    }

    #[tokio::test]
    async fn a_large_batch_waits_for_a_free_processor_and_a_small_one_does_not() {
        let (compute, config) = (Compute::places(1), config());
        let (release, held) = mpsc::channel::<()>();
        let mut busy = Box::pin(compute.run(move || held.recv().is_err()));
        assert!(poll!(&mut busy).is_pending());
        let mut large = Box::pin(checked(&compute, &config, batch(CHECKED_HERE + 1, 1)));
        assert!(poll!(&mut large).is_pending());
        let small = checked(&compute, &config, batch(CHECKED_HERE / 2, 1));
        assert_eq!(small.await.unwrap().1, 1);
        assert!(poll!(&mut large).is_pending());

        drop(release);

        assert_eq!(large.await.unwrap().1, 1);
    }

    #[tokio::test]
    async fn a_large_batch_is_refused_as_a_small_one_is() {
        let (compute, config) = (Host::real("node").compute, config());
        for len in [CHECKED_HERE / 2, CHECKED_HERE + 1] {
            let problem = checked(&compute, &config, batch(len, 2)).await.unwrap_err();
            assert_eq!(problem.reason, Reason::MalformedBatch);
            assert_eq!(problem.field.as_deref(), Some("compressed.message_count"));
        }
    }
}
