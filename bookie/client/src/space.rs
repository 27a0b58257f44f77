//! What takes a bookie's space, asked at its address: for people, who may not reach meta.

use std::time::Duration;

use host::Host;
use host::net::Address;
use proto::bookie::{SpaceUse, space_use};
use proto::bookie_v1::DescribeSpaceRequest;
use proto::bookie_v1::bookie_client::BookieClient;
use proto::status::from_status;
use proto::transport::channel;
use types::{Problem, Reason};

/// How long a bookie may take to say it.
const WITHIN: Duration = Duration::from_secs(10);

/// Asks whichever bookie answers at an address what takes its space, and which logs, so many at most.
///
/// # Errors
///
/// A [`Problem`] in the bookie's words, or that it does not answer.
pub async fn space(host: &Host, address: &Address, logs: u32) -> Result<SpaceUse, Problem> {
    let mut bookie = BookieClient::new(channel(&host.net, address));
    let asked = bookie.describe_space(DescribeSpaceRequest { logs });
    let answer = host.clock.timeout(WITHIN, asked).await.map_err(|_| {
        let message = format!("the bookie at {address} does not answer; is it running?");
        Problem::new(Reason::Stopping, message)
    })?;
    space_use(answer.map_err(|status| from_status(&status))?.into_inner())
}
